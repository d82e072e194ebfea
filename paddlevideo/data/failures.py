"""Records that gave no sample: counted, named, held against a limit, or refused."""

from collections.abc import Sequence

from paddlevideo.data.loader import REPLACEMENTS, Loaded
from paddlevideo.log import logger
from paddlevideo.sample import Batch, DecodeError, Failure, Record


class TooManyFailures(ValueError):
    """More files failed than `max_failures` allows."""


class FailureCount:
    """Files that failed in training: each named once with its reason, and no more than the limit.

    Args:
        limit: share of `num_records` if a float below 1, a number of files otherwise.
    """

    def __init__(self, limit: float | int, num_records: int):
        self.limit = limit
        self.most = (
            int(limit * num_records) if isinstance(limit, float) and limit < 1 else int(limit)
        )
        self.num_records = num_records
        self.files: dict[str, Failure] = {}

    def add(self, loaded: Loaded) -> None:
        """Count a batch's failures.

        Raises:
            TooManyFailures: past the limit, or where no replacement could be decoded either.
        """
        for failure in loaded.failures:
            if failure.path not in self.files:
                self.files[failure.path] = failure
                logger.warning(
                    f"cannot use {failure}; another clip takes its place ({len(self.files)} so far)"
                )
        if loaded.lost:
            examples = "\n  ".join(str(f) for f in loaded.failures[:5])
            raise TooManyFailures(
                f"{1 + REPLACEMENTS} records in a row failed; is the data where the list says, and readable?\n  {examples}"
            )
        self.check(len(self.files))

    def check(self, num_failed: int) -> None:
        """Hold a number of failed files, of this rank or of all, against the limit.

        Raises:
            TooManyFailures: past the limit.
        """
        if num_failed > self.most:
            examples = "\n  ".join(str(f) for f in list(self.files.values())[:5])
            raise TooManyFailures(
                f"{num_failed} of {self.num_records} files failed, max_failures allows {self.most} ({self.limit}); "
                f"mend or remove them, or raise DATASET.train.max_failures\n  {examples}"
            )


def refuse(loaded: Loaded, instead: str) -> None:
    """Stop at the first file that fails.

    Args:
        instead: what the config can say to go on, for the message.

    Raises:
        DecodeError: naming the file.
    """
    if loaded.failures:
        raise DecodeError(
            f"{loaded.failures[0]}; stopping at a file that fails: mend it, or set {instead}"
        )


class MissingAudio:
    """Counts the records whose sound is missing, where `missing_audio: zeros` lets them pass; the first ten are named."""

    def __init__(self, records: Sequence[Record]):
        self._records, self.places = records, set[int]()

    def add(self, batch: Batch) -> None:
        """Count those of a batch that say `missing_audio`."""
        for place in (
            batch["index"][batch["missing_audio"]].tolist() if "missing_audio" in batch else ()
        ):
            if place not in self.places and len(self.places) < 10:
                logger.warning(
                    f"no sound in {self._records[place].path}: silence takes its place (missing_audio: zeros)"
                )
            self.places.add(place)

    def __str__(self):
        return (
            f"{len(self.places)} of {len(self._records)} records have no sound (missing_audio: zeros)"
            if self.places
            else ""
        )
