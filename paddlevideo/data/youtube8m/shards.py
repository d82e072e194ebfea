"""Shards are files of many records: locate their records, and order an epoch.

The records of all shards are numbered consecutively, like the videos of a list. Their byte offsets
are read once from the record headers, and kept in an index file next to the list; for a list at a
URL in the cache. find.py says which shards a path means.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from paddlevideo.array_files import read_npz
from paddlevideo.data.lists import MAX_SHOWN, DatasetError
from paddlevideo.data.orders import TrainOrder
from paddlevideo.data.youtube8m import tfrecord
from paddlevideo.data.youtube8m.find import PICKLES, SUFFIXES, kind_of
from paddlevideo.data.youtube8m.pickles import count_videos
from paddlevideo.files import atomic_write, cache_folder
from paddlevideo.log import logger
from paddlevideo.remote import (
    RemoteError,
    file_identity,
    is_url,
    open_url,
    path_name,
    shown,
    without_query,
)
from paddlevideo.sample import DecodeError, Record

Result = TypeVar("Result")
# Threads that read record headers. They mostly wait for the disk.
NUM_THREADS = 8
INDEX_VERSION = 1


# --- locate the records --------------------------------------------------------------------------


class ShardRecords(Sequence):
    """The consecutively numbered records of all shards; each `Record` is created on access.

    Args:
        paths: of the shards.
        counts: number of records in each shard.
        offsets: int64 [num_records], of all shards one after another: byte offsets in a TFRecord
            file, numbers of videos in a pickle.
    """

    def __init__(self, paths: Sequence[str], counts: Sequence[int], offsets: np.ndarray):
        self.paths, self.offsets = tuple(paths), offsets
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        assert self.starts[-1] == len(offsets)

    def __len__(self):
        return len(self.offsets)

    def __getitem__(self, number: int) -> Record:
        number = range(len(self))[number]
        shard = int(np.searchsorted(self.starts, number, "right")) - 1
        path, number_in_shard = self.paths[shard], number - int(self.starts[shard])
        record_id = f"{path_name(path)}:{number_in_shard}"
        return Record(path, id=record_id, offset=int(self.offsets[number]))


@dataclass(frozen=True)
class ShardStamp:
    """The state of a shard when its offsets were read: size (bytes), modification time (ns); for
    one at a URL a number for its version."""

    size: int
    mtime: int

    @classmethod
    def of(cls, path: str) -> "ShardStamp":
        """
        Raises:
            OSError: the file does not exist.
        """
        size, version = file_identity(path)
        if isinstance(version, str):
            version = int.from_bytes(hashlib.sha256(version.encode()).digest()[:7], "big")
        return cls(size or 0, version)


def find_offsets(path: str) -> tuple[np.ndarray, str]:
    """Find the records of a shard.

    Returns:
        (int64 [num_records] offsets, the problem with the last record or "").

    Raises:
        DatasetError: the file is not a shard.
    """
    try:
        with open_url(path) as file:
            first = file.read(64)
        if not first:
            return np.zeros(0, np.int64), "the file is empty"
        kind = kind_of(first)
        if kind == "tfrecord":
            return tfrecord.record_offsets(path)
        if kind != "pickle":
            raise DatasetError(f"{shown(path)}: {kind}")
    except OSError as error:
        raise DatasetError(f"{shown(path)}: cannot be read: {error.strerror or error}") from error
    try:
        return np.arange(count_videos(path), dtype=np.int64), ""
    except DecodeError as error:
        # Count the pickle as one record, which fails when it is read, like a damaged video.
        return np.zeros(1, np.int64), str(error)


def index_shards(paths: Sequence[str], index_file: str | Path | None = None) -> ShardRecords:
    """Find the records of all shards; read the index file first, and add to it what it lacks.

    A damaged header hides the records after it. The log reports it, and the hidden records count as
    one record, which fails when it is read.

    Raises:
        DatasetError: files that are not shards (the message names all of them), or no records.
    """
    stamps = _in_threads(ShardStamp.of, paths)
    known = read_index(index_file) if index_file else {}
    names = [_relative_name(index_file, path) for path in paths]
    offsets = {i: known[name][1] for i, name in enumerate(names) if name in known}
    new = [i for i, name in enumerate(names) if name not in known or known[name][0] != stamps[i]]
    if new and len(new) < len(paths):
        message = "%s: %d of %d shards are new or changed; reading their record offsets"
        logger.info(message, index_file, len(new), len(paths))
    for i, result in zip(new, _in_threads(find_offsets, [paths[i] for i in new]), strict=True):
        offsets[i], problem = result
        if problem:
            logger.warning("%s: %s", shown(paths[i]), problem)
    in_order = [offsets[i] for i in range(len(paths))]
    if not sum(map(len, in_order)):
        more = ", ..." if len(paths) > 1 else ""
        raise DatasetError(f"{shown(paths[0])}{more}: no records in {len(paths)} shard(s)")
    if new and index_file:
        try:
            write_index(index_file, paths, stamps, in_order)
        except OSError as error:
            logger.info("%s; the next run reads the record offsets again", error.strerror)
    return ShardRecords(paths, [len(part) for part in in_order], np.concatenate(in_order))


def _in_threads(function: Callable[[str], Result], paths: Sequence[str]) -> list[Result]:
    """Call a function for each path in threads, and raise all its errors as one.

    Raises:
        DatasetError: files that are not shards, or cannot be had from their server.
    """

    def find(path: str) -> Result | DatasetError:
        try:
            return function(path)
        except (DatasetError, RemoteError) as error:
            return DatasetError(str(error))

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(find, paths))
    errors = [str(result) for result in results if isinstance(result, DatasetError)]
    if errors:
        rest = [f"... and {len(errors) - MAX_SHOWN} more"] if len(errors) > MAX_SHOWN else []
        raise DatasetError("\n".join(errors[:MAX_SHOWN] + rest))
    return [result for result in results if not isinstance(result, DatasetError)]


# --- the index file ------------------------------------------------------------------------------


def index_name(file_path: str) -> str | None:
    """Return the default index file of a list or a folder, None for a glob or a single shard. That
    of a URL is in the cache."""
    if is_url(file_path):
        folder = cache_folder()
        name = hashlib.sha256(without_query(file_path).encode()).hexdigest()[:32]
        return str(folder / "shards" / f"{name}.index.npz") if folder else None
    path = Path(file_path)
    if path.is_dir():
        return str(path / "shards.index.npz")
    is_list = path.is_file() and path.suffix.lower() not in SUFFIXES + PICKLES
    return f"{file_path}.index.npz" if is_list else None


def _relative_name(index_file: str | Path | None, path: str) -> str:
    """Return the path of a shard relative to the index file, so that both can move together."""
    if not index_file or is_url(path):
        return without_query(path)
    return os.path.relpath(path, os.path.dirname(os.path.abspath(index_file)))


def write_index(
    index_file: str | Path,
    paths: Sequence[str],
    stamps: Sequence[ShardStamp],
    offsets: Sequence[np.ndarray],
) -> None:
    """Write the record offsets of the shards atomically.

    Raises:
        OSError: the file cannot be written.
    """
    sizes_and_times = np.array([(stamp.size, stamp.mtime) for stamp in stamps], np.int64)
    with atomic_write(index_file) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            version=np.int64(INDEX_VERSION),
            names=np.array([_relative_name(index_file, path) for path in paths]),
            stamps=sizes_and_times.reshape(-1, 2),
            counts=np.array([len(part) for part in offsets], np.int64),
            offsets=np.concatenate(offsets) if offsets else np.zeros(0, np.int64),
        )


def read_index(index_file: str | Path) -> dict[str, tuple[ShardStamp, np.ndarray]]:
    """Read an index file: shard name -> (stamp, offsets).

    A missing file gives an empty dict. So does an unusable one, which the log reports.
    """
    try:
        arrays = read_npz(index_file)
        if int(arrays["version"]) != INDEX_VERSION:
            raise ValueError(f"version {int(arrays['version'])}, expected {INDEX_VERSION}")
        names, stamps, counts = arrays["names"], arrays["stamps"], arrays["counts"]
        offsets = arrays["offsets"]
        same_length = len(names) == len(stamps) == len(counts)
        if not same_length or counts.sum() != len(offsets) or (counts < 0).any():
            raise ValueError("its arrays do not fit together")
        ends = np.cumsum(counts)
        return {
            str(name): (ShardStamp(int(size), int(mtime)), offsets[end - count : end])
            for name, (size, mtime), count, end in zip(names, stamps, counts, ends, strict=True)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        logger.warning("%s: the index cannot be used and is rewritten (%s)", index_file, reason)
        return {}


# --- the order of an epoch -----------------------------------------------------------------------


def shuffled(starts: np.ndarray, buffer: int, rng: np.random.Generator) -> np.ndarray:
    """Return the record numbers of an epoch in an order that reads shards nearly sequentially.

    The result is that of a shuffle buffer of `buffer` records, which is filled from the shards in
    random order: each record moves by less than `buffer` positions. No record is held in memory.

    Args:
        starts: int64 [num_shards + 1], the number of the first record of each shard, and the total.
        buffer: records; 1 keeps the order within each shard, the total shuffles all records.

    Returns:
        int64 [num_records].
    """
    shards = rng.permutation(len(starts) - 1).tolist()
    if buffer >= starts[-1]:
        return rng.permutation(starts[-1])
    bounds = starts.tolist()
    order = np.concatenate([np.arange(bounds[shard], bounds[shard + 1]) for shard in shards])
    positions = np.arange(len(order)) + rng.random(len(order)) * buffer
    return order[np.argsort(positions, kind="stable")]


def check_shuffle_buffer(size: int) -> None:
    """
    Raises:
        ValueError: the buffer of a `ShardOrder` holds nothing.
    """
    if size < 1:
        raise ValueError(
            f"shuffle_buffer is {size}, expected at least 1 (1 keeps the order of each shard)"
        )


@dataclass(frozen=True)
class ShardOrder(TrainOrder):
    """A `TrainOrder` for shards: records that are read together are close to each other on disk.

    Args:
        starts: the number of the first record of each shard, and the total.
        shuffle_buffer: see `shuffled`.
    """

    starts: tuple[int, ...] = ()
    shuffle_buffer: int = 1 << 14

    def shuffled(self, epoch: int) -> np.ndarray:
        """Return the record numbers of an epoch: int64 [num_records]."""
        rng = np.random.default_rng((self.seed, epoch))
        return shuffled(np.array(self.starts), self.shuffle_buffer, rng)
