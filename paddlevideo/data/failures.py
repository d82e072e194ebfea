"""Records without a sample: count them up to a limit, or stop at the first one."""

from collections.abc import Sequence

from paddlevideo.data.loader import REPLACEMENTS, Loaded
from paddlevideo.log import logger
from paddlevideo.sample import Batch, DecodeError, Failure, Record
from paddlevideo.urls import shown

MAX_EXAMPLES = 5  # failures in an error message
MAX_WARNINGS = 10  # records without audio that are named in the log


class TooManyFailures(ValueError):
    """More files failed than `max_failures` allows."""


class FailureCount:
    """Counts the files that fail in training, and logs each of them once with its reason.

    Args:
        limit: `max_failures`: a share of `num_records` if a float below 1, otherwise a count.
        num_records: records of the data set.

    Attributes:
        max_files: how many files may fail.
        files: path -> its first failure.
    """

    def __init__(self, limit: float | int, num_records: int):
        self.limit, self.num_records = limit, num_records
        is_share = isinstance(limit, float) and limit < 1
        self.max_files = int(limit * num_records) if is_share else int(limit)
        self.files: dict[str, Failure] = {}

    def add(self, loaded: Loaded) -> None:
        """Count the failures of a batch.

        Raises:
            TooManyFailures: past the limit, or no replacement could be decoded either.
        """
        for failure in loaded.failures:
            if failure.path not in self.files:
                self.files[failure.path] = failure
                message = "cannot use %s; another clip replaces it (%d so far)"
                logger.warning(message, failure, len(self.files))
        if loaded.lost:
            raise TooManyFailures(
                f"{1 + REPLACEMENTS} records in a row failed; check that the paths of the list are "
                f"right and the files readable{_examples(loaded.failures)}"
            )
        self.check(len(self.files))

    def check(self, num_failed: int) -> None:
        """Compare a number of failed files, of this rank or of all ranks, with the limit.

        Raises:
            TooManyFailures: past the limit.
        """
        if num_failed > self.max_files:
            raise TooManyFailures(
                f"{num_failed} of {self.num_records} files failed, max_failures allows "
                f"{self.max_files} ({self.limit}); fix or remove them, or raise "
                f"DATASET.train.max_failures{_examples(list(self.files.values()))}"
            )


def _examples(failures: Sequence[Failure]) -> str:
    """The first failures, each on a line of its own."""
    return "".join(f"\n  {failure}" for failure in failures[:MAX_EXAMPLES])


def refuse(loaded: Loaded, alternative: str) -> None:
    """Stop at the first file that fails.

    Args:
        alternative: the setting that continues without the file, for the message.

    Raises:
        DecodeError: the message names the file.
    """
    if loaded.failures:
        raise DecodeError(
            f"{loaded.failures[0]}; stopped at a file that fails: fix it, or set {alternative}"
        )


class MissingAudio:
    """Counts the records that are used without audio (`missing_audio: zeros`); logs the first ten.

    Attributes:
        indices: indices of these records.
    """

    def __init__(self, records: Sequence[Record]):
        self._records = records
        self.indices: set[int] = set()

    def add(self, batch: Batch) -> None:
        """Count the records of a batch that are marked in `missing_audio`."""
        if "missing_audio" not in batch:
            return
        for index in batch["index"][batch["missing_audio"]].tolist():
            if index not in self.indices and len(self.indices) < MAX_WARNINGS:
                message = "no audio in %s: silence replaces it (missing_audio: zeros)"
                logger.warning(message, shown(self._records[index].location))
            self.indices.add(index)

    def __str__(self):
        if not self.indices:
            return ""
        count = f"{len(self.indices)} of {len(self._records)} records"
        return f"{count} have no audio (missing_audio: zeros)"
