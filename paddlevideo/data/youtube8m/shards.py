"""Shards are files of many records: find them, locate their records, and order an epoch.

`file_path` is one of
- a list: the path of a shard on each line, as in PaddleCV's train.list;
- a folder: its *.tfrecord files at any depth, or its *.pkl files if there are no *.tfrecord files;
- a glob such as "data/yt8m/train*.tfrecord";
- one shard.

A shard is a TFRecord file or a pickle of PaddleCV's converter; its first bytes decide which. The
records of all shards are numbered consecutively, like the videos of a list. Their byte offsets are
read once from the record headers, and kept in an index file next to the list.
"""

import glob
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo.array_files import read_npz
from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Problems, read_path_list
from paddlevideo.data.orders import TrainOrder
from paddlevideo.data.paths import base_folder, glob_files, list_files
from paddlevideo.data.youtube8m import tfrecord
from paddlevideo.data.youtube8m.pickles import count_videos
from paddlevideo.files import atomic_write
from paddlevideo.log import logger
from paddlevideo.remote import is_folder, is_url, join_path, path_suffix, shown
from paddlevideo.sample import DecodeError, Record

SUFFIXES = (".tfrecord", ".tfrecords")
PICKLES = (".pkl", ".pickle")
# Threads that read record headers. They mostly wait for the disk.
NUM_THREADS = 8
INDEX_VERSION = 1
LOCAL_ONLY = "shards of frame features are read from a local disk; copy them to one"
COMPRESSED = "compressed with gzip, so single records cannot be read; unpack it with gunzip"


# --- find shards ---------------------------------------------------------------------------------


def find_shards(file_path: str, data_prefix: str | None = None) -> list[str]:
    """Return the paths of the shards, in the order of a list, otherwise sorted.

    Args:
        file_path: a list, a folder, a glob or a shard.
        data_prefix: folder that the paths of a list are relative to; None as in `base_folder`.

    Raises:
        DatasetError: no shards. For a list, the message names every wrong line.
    """
    if is_url(file_path):
        if is_folder(file_path) or path_suffix(file_path) in SUFFIXES + PICKLES:
            raise DatasetError(f"{shown(file_path)}: {LOCAL_ONLY}")
        return _in_list(file_path, data_prefix)
    path = Path(file_path)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and glob.has_magic(file_path):
        matches = glob_files(file_path)
        if not matches:
            raise DatasetError(f"{file_path}: no file matches this pattern")
        return matches
    if not path.exists():
        raise DatasetError(
            f"{file_path}: no such file or folder; "
            "set file_path to a list of shards, a folder, a glob or a shard"
        )
    with path.open("rb") as file:
        first = file.read(4096)
    kind = kind_of(first)
    if path.suffix.lower() in SUFFIXES + PICKLES or kind in ("tfrecord", "pickle"):
        return [str(path)]
    if kind == COMPRESSED:
        raise DatasetError(f"{path}: {kind}")
    return _in_list(path, data_prefix)


def _in_folder(folder: Path) -> list[str]:
    """Return the TFRecord files of a folder, or its pickles if there are no TFRecord files."""
    paths = list(list_files(folder, SUFFIXES + PICKLES))
    tfrecords = [str(path) for path in paths if path.suffix.lower() in SUFFIXES]
    pickles = [str(path) for path in paths if path.suffix.lower() in PICKLES]
    if not paths:
        raise DatasetError(
            f"{folder}: no shards in this folder; their names end in .tfrecord (or .pkl)"
        )
    if tfrecords and pickles:
        message = "%s: %d .tfrecord files are used, %d .pkl files are not"
        logger.info(message, folder, len(tfrecords), len(pickles))
    return tfrecords or pickles


def _in_list(file: str | Path, data_prefix: str | None) -> list[str]:
    """Read a list with the path of a shard on each line."""
    lines = [readings[0][:2] for readings in read_path_list(file, "a shard, or a list of shards")]
    if not lines:
        raise DatasetError(
            f"{shown(file)}: no shards in this list; write the path of one on each line"
        )
    base = base_folder([path for _, path in lines], file, data_prefix)
    problems = Problems(shown(file))
    line_of_path: dict[str, int] = {}
    for line, written in lines:
        path = join_path(base, written)
        if is_url(path):
            problems.add(line, f"{written}: {LOCAL_ONLY}")
        elif path in line_of_path:
            problems.add(
                line,
                f"{written} is already on line {line_of_path[path]}; its videos would count twice",
            )
        elif not os.path.isfile(path):
            where = f"in {base}" if base else "in the working directory"
            problems.add(
                line,
                f"no file {written} {where}; set data_prefix to the folder that contains the files",
            )
        line_of_path.setdefault(path, line)
    problems.stop()
    return list(line_of_path)


def kind_of(first: bytes) -> str:
    """Identify a file by its first bytes: "tfrecord", "pickle", or why it is not a shard."""
    if len(first) >= tfrecord.HEADER.size:
        crc = tfrecord.HEADER.unpack_from(first)[1]
        if tfrecord.masked_crc(first[:8]) == crc:
            return "tfrecord"
    if first[:2] == b"\x1f\x8b":
        return COMPRESSED
    if (first[:1] == b"\x80" and first[1:2] in b"\2\3\4\5") or first[:3] in (b"(lp", b"(dp"):
        return "pickle"
    # The last character may be cut off, so up to 3 bytes may be missing from the text.
    text = first[:40].decode("utf-8", "ignore")
    if len(text.encode()) > len(first[:40]) - 4 and "".join(text.split()).isprintable():
        return f"not a TFRecord file but text that begins with {text[:20]!r}"
    return "not a TFRecord file, or its first record's header is damaged"


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
        record_id = f"{os.path.basename(path)}:{number_in_shard}"
        return Record(path, id=record_id, offset=int(self.offsets[number]))


@dataclass(frozen=True)
class ShardStamp:
    """The state of a shard when its offsets were read: size (bytes), modification time (ns)."""

    size: int
    mtime: int

    @classmethod
    def of(cls, path: str) -> "ShardStamp":
        """
        Raises:
            OSError: the file does not exist.
        """
        stat = os.stat(path)
        return cls(stat.st_size, stat.st_mtime_ns)


def find_offsets(path: str) -> tuple[np.ndarray, str]:
    """Find the records of a shard.

    Returns:
        (int64 [num_records] offsets, the problem with the last record or "").

    Raises:
        DatasetError: the file is not a shard.
    """
    try:
        with open(path, "rb") as file:
            first = file.read(64)
        if not first:
            return np.zeros(0, np.int64), "the file is empty"
        kind = kind_of(first)
        if kind == "tfrecord":
            return tfrecord.record_offsets(path)
        if kind != "pickle":
            raise DatasetError(f"{path}: {kind}")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
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
    stamps = [ShardStamp.of(path) for path in paths]
    known = read_index(index_file) if index_file else {}
    names = [_relative_name(index_file, path) for path in paths]
    offsets = {i: known[name][1] for i, name in enumerate(names) if name in known}
    new = [i for i, name in enumerate(names) if name not in known or known[name][0] != stamps[i]]
    if new and len(new) < len(paths):
        message = "%s: %d of %d shards are new or changed; reading their record offsets"
        logger.info(message, index_file, len(new), len(paths))
    for i, result in zip(new, _find_all_offsets([paths[i] for i in new]), strict=True):
        offsets[i], problem = result
        if problem:
            logger.warning("%s: %s", paths[i], problem)
    in_order = [offsets[i] for i in range(len(paths))]
    if not sum(map(len, in_order)):
        more = ", ..." if len(paths) > 1 else ""
        raise DatasetError(f"{paths[0]}{more}: no records in {len(paths)} shard(s)")
    if new and index_file:
        try:
            write_index(index_file, paths, stamps, in_order)
        except OSError as error:
            logger.info("%s; the next run reads the record offsets again", error.strerror)
    return ShardRecords(paths, [len(part) for part in in_order], np.concatenate(in_order))


def _find_all_offsets(paths: Sequence[str]) -> list[tuple[np.ndarray, str]]:
    """Call `find_offsets` for each path in threads, and raise all its errors as one.

    Raises:
        DatasetError: files that are not shards.
    """

    def find(path: str) -> tuple[np.ndarray, str] | DatasetError:
        try:
            return find_offsets(path)
        except DatasetError as error:
            return error

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(find, paths))
    errors = [str(result) for result in results if isinstance(result, DatasetError)]
    if errors:
        rest = [f"... and {len(errors) - MAX_SHOWN} more"] if len(errors) > MAX_SHOWN else []
        raise DatasetError("\n".join(errors[:MAX_SHOWN] + rest))
    return [result for result in results if not isinstance(result, DatasetError)]


# --- the index file ------------------------------------------------------------------------------


def index_name(file_path: str) -> str | None:
    """Return the default index file of a list or a folder, None for a glob or a single shard."""
    path = Path(file_path)
    if path.is_dir():
        return str(path / "shards.index.npz")
    is_list = path.is_file() and path.suffix.lower() not in SUFFIXES + PICKLES
    return f"{file_path}.index.npz" if is_list else None


def _relative_name(index_file: str | Path | None, path: str) -> str:
    """Return the path of a shard relative to the index file, so that both can move together."""
    if not index_file:
        return path
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
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        logger.warning("%s: the index cannot be used and is rewritten (%s)", index_file, reason)
        return {}
    parts = np.split(offsets, np.cumsum(counts)[:-1])
    return {
        str(name): (ShardStamp(int(size), int(mtime)), part)
        for name, (size, mtime), part in zip(names, stamps, parts, strict=True)
    }


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
