"""Digests of the clips that a checkpoint was trained on, so that a test can count them.

A clip is the place of its file and its part of it, whatever list names it. Its digest has 8 bytes.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from paddlevideo.remote import is_url
from paddlevideo.sample import Arrays, Record

TRAIN_CLIPS = "train_clips@@"  # its name in a weight file: uint8 [N, 8], sorted
BYTES = 8
MAX_CLIPS = 1_000_000  # of a checkpoint; beyond, it would hold megabytes of digests


@dataclass(frozen=True)
class TrainedClips:
    """The clips of a training, and of those whose weights it started from.

    Args:
        digests: of each clip.
    """

    digests: frozenset[bytes]

    @classmethod
    def of(cls, records: Sequence[Record]) -> "TrainedClips | None":
        """The clips of a list; None where they are unknown, in shards, or too many to keep."""
        if not isinstance(records, list) or not 0 < len(records) <= MAX_CLIPS:
            return None
        return cls(frozenset(digests_of(records)))

    @classmethod
    def read(cls, arrays: Arrays) -> "TrainedClips | None":
        """The clips that a weight file names, with or without the prefix of a `.pdstate`."""
        array = arrays.get(TRAIN_CLIPS, arrays.get(f"model/{TRAIN_CLIPS}"))
        if array is None or array.dtype != np.uint8 or array.shape[1:] != (BYTES,):
            return None
        return cls(frozenset(row.tobytes() for row in array))

    def with_earlier(self, earlier: "TrainedClips | None") -> "TrainedClips":
        """These clips and those of the weights that the training starts from."""
        return TrainedClips(self.digests | earlier.digests) if earlier else self

    def array(self) -> np.ndarray:
        """The digests as they are written: uint8 [N, 8]."""
        joined = b"".join(sorted(self.digests))
        return np.frombuffer(joined, np.uint8).reshape(-1, BYTES)

    def count(self, records: Sequence[Record]) -> int | None:
        """How many of these records were trained on; None where the records are in shards."""
        if not isinstance(records, list):
            return None
        return sum(digest in self.digests for digest in digests_of(records))


def digests_of(records: Iterable[Record]) -> list[bytes]:
    """The digest of each record."""

    @lru_cache(maxsize=4096)
    def real_folder(folder: str) -> str:
        return os.path.realpath(folder)

    digests = []
    for record in records:
        folder, name = os.path.split(record.path)
        real = record.path
        if not is_url(record.path):
            real = os.path.join(real_folder(folder or "."), name)
        parts = (real, record.offset)
        text = repr((*parts, record.start_sec, record.end_sec))
        digests.append(hashlib.sha256(os.fsencode(text)).digest()[:BYTES])
    return digests


def clips_note(weights: str, clips: TrainedClips | None, records: Sequence[Record]) -> str | None:
    """What a test says about clips that the checkpoint was trained on; None where it is unknown."""
    count = clips.count(records) if clips else None
    if not count:
        return None
    return (
        f"{count} of {len(records)} test clips are training clips of {weights}: these numbers do "
        "not show how well it does on new videos"
    )
