"""Write one tar shard: its samples, read back, and its index."""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from paddlevideo.data.webdataset.index import read_index, write_index
from paddlevideo.data.webdataset.samples import TarSample, read_samples
from paddlevideo.log import error_text
from paddlevideo.media.tar_files import BLOCK
from paddlevideo.remote import atomic_file, is_file, open_url, shown
from paddlevideo.sample import DecodeError


@dataclass(frozen=True)
class Member:
    """A file to copy into a shard.

    Args:
        kind: the part of its name behind the key, as "mp4" or "img_00001.jpg".
        path: where it is read; a local file or a URL.
        size, version: its state when the shard was planned; see `file_state`.
    """

    kind: str
    path: str
    size: int
    version: int | str


@dataclass(frozen=True)
class SampleFiles:
    """The files of a sample.

    Args:
        key: of the sample.
        members: files to copy.
        texts: {kind: content} of `.cls` and `.json`.
    """

    key: str
    members: tuple[Member, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Size in a shard, with headers."""
        sizes = [member.size for member in self.members]
        sizes += [len(text.encode()) for text in self.texts.values()]
        return sum(BLOCK + -(-size // BLOCK) * BLOCK for size in sizes)


@dataclass(frozen=True)
class ShardPlan:
    """A shard to write.

    Args:
        path: of the shard; a local one or a URL.
        samples: in order.
    """

    path: str
    samples: Sequence[SampleFiles]

    @property
    def digest(self) -> str:
        """What the shard's bytes depend on."""
        text = repr([(s.key, s.members, sorted(s.texts.items())) for s in self.samples])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def is_written(self) -> bool:
        """Whether the shard exists, complete, with just this content."""
        if not is_file(self.path):
            return False
        index = read_index(self.path)
        return index is not None and index.get("plan") == self.digest


def write_shard(plan: ShardPlan) -> str:
    """Write a shard and its index; returns why it failed, "" if it did not.

    The bytes depend on the samples alone. The shard has its name only when it is complete.
    """
    try:
        with atomic_file(plan.path) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
                for sample in plan.samples:
                    _add_sample(tar, sample)
            samples = _read_back(temporary, plan)
        write_index(plan.path, samples, is_own=True, plan=plan.digest)
    except (OSError, DecodeError) as error:
        return error_text(error) or type(error).__name__
    return ""


def _add_sample(tar: tarfile.TarFile, sample: SampleFiles) -> None:
    for member in sample.members:
        with open_url(member.path) as file:
            if file.seek(0, io.SEEK_END) != member.size:
                raise OSError(f"{shown(member.path)} has changed since the shards were planned")
            file.seek(0)
            _add(tar, f"{sample.key}.{member.kind}", file, member.size)
    for kind, text in sample.texts.items():
        data = text.encode()
        _add(tar, f"{sample.key}.{kind}", io.BytesIO(data), len(data))


def _add(tar: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> None:
    header = tarfile.TarInfo(name)  # without time and owner: the same bytes everywhere
    header.size = size
    tar.addfile(header, file)


def _read_back(written: Path, plan: ShardPlan) -> list[TarSample]:
    """The samples of the written shard.

    Raises:
        OSError: it does not hold the samples of the plan.
    """
    samples, problem = read_samples(str(written))
    problem = problem or next((f"{s.key}: {s.problem}" for s in samples if s.problem), "")
    if problem or [s.key for s in samples] != [s.key for s in plan.samples]:
        raise OSError(f"{plan.path}: the written shard cannot be read back: {problem or 'keys'}")
    return samples
