"""The path of a file inside a tar shard, as text: `SHARD.tar@OFFSET+SIZE/NAME`.

It names bytes of the shard, so a reader needs no list of the shard's files:
`shards/train-000000.tar@1536+80211/v_1.mp4` are 80211 bytes from byte 1536 on. For the frames of
a clip they are the files of all frames, with their headers.
"""

import re
from typing import NamedTuple

from paddlevideo.urls import path_suffix, without_query

# The query of a web address may be a signature.
PATTERN = re.compile(r"(https?://.+\.tar\?.+|.+\.tar)@(\d{1,19})\+(\d{1,19})/(.+)", re.DOTALL)


class TarPath(NamedTuple):
    """A file, or several consecutive ones, inside a tar shard.

    Attributes:
        shard: path or URL of the shard.
        offset, size: its bytes in the shard.
        name: as the shard names it.
    """

    shard: str
    offset: int
    size: int
    name: str

    def __str__(self):
        return f"{self.shard}@{self.offset}+{self.size}/{self.name}"


def tar_path(path: str) -> TarPath | None:
    """The parts of such a path; None for any other path."""
    match = PATTERN.fullmatch(path) if ".tar@" in path or ".tar?" in path else None
    return TarPath(match[1], int(match[2]), int(match[3]), match[4]) if match else None


def file_suffix(path: str) -> str:
    """The suffix of a file, which may be in a shard, in lower case with the dot."""
    found = tar_path(path)
    return path_suffix(found.name if found else path)


def key_of(name: str) -> str:
    """The key of the sample that a file of a shard belongs to: its name up to the first dot behind
    its folders, the rule of WebDataset. "" for a name without a key, as `.hidden`."""
    folder, slash, base = name.rpartition("/")
    key, dot, _ = base.partition(".")
    return f"{folder}{slash}{key}" if dot and key else ""


def location(path: str) -> str:
    """How messages name a path: `SHARD.tar@KEY` for a file in a shard, any other path unchanged."""
    found = tar_path(path)
    return f"{without_query(found.shard)}@{key_of(found.name) or found.name}" if found else path
