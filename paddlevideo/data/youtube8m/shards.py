"""Shards, files of many records: finding them, where each record is, and an order that reads them nearly in sequence.

`file_path` is one of
- a list: the path of a shard on each line, as in PaddleCV's train.list;
- a folder: its *.tfrecord files, or where it has none its *.pkl files, as deep as it goes;
- a glob, as "data/yt8m/train*.tfrecord";
- one shard.

A shard is a TFRecord file or a pickle of PaddleCV's converter; its first bytes tell which. Every record has a number, as
videos of a list have, counted through the shards in their order. Where the records begin is read once from their headers
and kept in an index file beside the list.
"""

import glob
import os
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Problems, read_path_list
from paddlevideo.data.orders import TrainOrder
from paddlevideo.data.paths import base_folder, list_files
from paddlevideo.data.youtube8m import tfrecord
from paddlevideo.data.youtube8m.pickles import count_videos
from paddlevideo.files import atomic_write
from paddlevideo.log import logger
from paddlevideo.sample import DecodeError, Record

SUFFIXES = (".tfrecord", ".tfrecords")
PICKLES = (".pkl", ".pickle")
THREADS = 8  # that read headers; they wait for the disk
INDEX_VERSION = 1
COMPRESSED = "compressed with gzip; records inside cannot be read one by one: unpack it with gunzip"


# --- finding shards --------------------------------------------------------------------------------------------------


def find_shards(file_path: str, data_prefix: str | None = None) -> list[str]:
    """The paths of the shards, in the order of a list, otherwise sorted.

    Raises:
        DatasetError: no shards; for a list, every line that is wrong.
    """
    path = Path(file_path)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and glob.has_magic(file_path):
        matches = sorted(
            name for name in glob.glob(file_path, recursive=True) if os.path.isfile(name)
        )
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


def _in_list(file: Path, data_prefix: str | None) -> list[str]:
    """The shards of a list with a path on each line."""
    lines = [readings[0][:2] for readings in read_path_list(file, "a shard, or a list of shards")]
    if not lines:
        raise DatasetError(f"{file}: no shards in this list; write the path of one on each line")
    base = base_folder([path for _, path in lines], file, data_prefix)
    problems, line_of_path = Problems(str(file)), dict[str, int]()
    for line, written in lines:
        path = os.path.join(base, written)
        if path in line_of_path:
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
    """What begins with these bytes: "tfrecord", "pickle", or why it is no shard."""
    if len(first) >= tfrecord.HEADER.size:
        check = tfrecord.HEADER.unpack_from(first)[1]
        if tfrecord.masked_crc(first[:8]) == check:
            return "tfrecord"
    if first[:2] == b"\x1f\x8b":
        return COMPRESSED
    if (first[:1] == b"\x80" and first[1:2] in b"\2\3\4\5") or first[:3] in (b"(lp", b"(dp"):
        return "pickle"
    text = first[:40].decode("utf-8", "ignore")
    if len(text.encode()) > len(first[:40]) - 4 and "".join(text.split()).isprintable():
        return f"not a TFRecord file but text, {text[:20]!r}"
    return "not a TFRecord file, or its first record's header is damaged"


# --- where the records are --------------------------------------------------------------------------------------------


class ShardRecords(Sequence):
    """The records of shards, numbered through: a `Record` of one is made when it is asked for, with path and offset.

    Args:
        paths: of the shards.
        counts: records in each.
        offsets: of all records one shard after another, int64: bytes in a TFRecord file, numbers in a pickle.
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
        path, inside = self.paths[shard], number - int(self.starts[shard])
        return Record(
            path, id=f"{os.path.basename(path)}:{inside}", offset=int(self.offsets[number])
        )


@dataclass(frozen=True)
class ShardStamp:
    """A shard as it was when its records were looked up: size (bytes) and time of its last change (ns)."""

    size: int
    mtime: int

    @classmethod
    def of(cls, path: str) -> "ShardStamp":
        about = os.stat(path)
        return cls(about.st_size, about.st_mtime_ns)


def look_up(path: str) -> tuple[np.ndarray, str]:
    """(int64 offsets of a shard's records, what is wrong with the last of them or "").

    Raises:
        DatasetError: the file is no shard at all.
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
    except DecodeError as error:  # one record that fails when it is read, as a damaged video does
        return np.zeros(1, np.int64), str(error)


def index_shards(paths: Sequence[str], index_file: str | Path | None = None) -> ShardRecords:
    """The records of these shards, from the index file as far as it is true of them; what it lacks is looked up and added.

    A damaged header hides the records behind it: they are told in the log, and count as one record, which fails.

    Raises:
        DatasetError: files that are no shards, all of them; or no records at all.
    """
    stamps = [ShardStamp.of(path) for path in paths]
    known = read_index(index_file) if index_file else {}
    names = [_name_in(index_file, path) for path in paths]
    new = [i for i, name in enumerate(names) if name not in known or known[name][0] != stamps[i]]
    if new and len(new) < len(paths) and index_file:
        logger.info(
            "%s: %d of %d shards are new or have changed: looking them up",
            index_file,
            len(new),
            len(paths),
        )
    wrong: list[str] = []
    offsets = {i: known[name][1] for i, name in enumerate(names) if name in known}

    def one(place: int) -> tuple[np.ndarray, str] | DatasetError:
        try:
            return look_up(paths[place])
        except DatasetError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        for place, found in zip(new, pool.map(one, new), strict=True):
            if isinstance(found, DatasetError):
                wrong.append(str(found))
                continue
            offsets[place], problem = found
            if problem:
                logger.warning("%s: %s", paths[place], problem)
    if wrong:
        rest = [f"... and {len(wrong) - MAX_SHOWN} more"] if len(wrong) > MAX_SHOWN else []
        raise DatasetError("\n".join(wrong[:MAX_SHOWN] + rest))
    every = [offsets[i] for i in range(len(paths))]
    if not sum(map(len, every)):
        raise DatasetError(
            f"{paths[0]}{', ...' if len(paths) > 1 else ''}: no records in {len(paths)} shard(s)"
        )
    if new and index_file:
        try:
            write_index(index_file, paths, stamps, every)
        except OSError as error:
            logger.info("%s; the records are looked up again next time", error.strerror)
    return ShardRecords(paths, [len(part) for part in every], np.concatenate(every))


def index_name(file_path: str) -> str | None:
    """The index file of a list or a folder; a glob and a single shard have none."""
    path = Path(file_path)
    if path.is_dir():
        return str(path / "shards.index.npz")
    return (
        f"{file_path}.index.npz"
        if path.is_file() and path.suffix.lower() not in SUFFIXES + PICKLES
        else None
    )


def _name_in(index_file: str | Path | None, path: str) -> str:
    """How an index calls a shard: relative to itself, so that both can move together."""
    return (
        os.path.relpath(path, os.path.dirname(os.path.abspath(index_file))) if index_file else path
    )


def write_index(
    index_file: str | Path,
    paths: Sequence[str],
    stamps: Sequence[ShardStamp],
    offsets: Sequence[np.ndarray],
) -> None:
    """Write where the records of the shards are, whole or not at all."""
    with atomic_write(index_file) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            version=np.int64(INDEX_VERSION),
            names=np.array([_name_in(index_file, path) for path in paths]),
            stamps=np.array([(stamp.size, stamp.mtime) for stamp in stamps], np.int64).reshape(
                -1, 2
            ),
            counts=np.array([len(part) for part in offsets], np.int64),
            offsets=np.concatenate(offsets) if offsets else np.zeros(0, np.int64),
        )


def read_index(index_file: str | Path) -> dict[str, tuple[ShardStamp, np.ndarray]]:
    """Name -> (stamp, offsets) of the shards in an index; empty where there is none, or one that cannot be used (logged)."""
    try:
        with np.load(index_file, allow_pickle=False) as held:
            if int(held["version"]) != INDEX_VERSION:
                raise ValueError(f"of version {held['version']}")
            names, stamps, counts, offsets = (
                held[key] for key in ("names", "stamps", "counts", "offsets")
            )
        if (
            not len(names) == len(stamps) == len(counts)
            or counts.sum() != len(offsets)
            or (counts < 0).any()
        ):
            raise ValueError("its parts do not belong together")
    except FileNotFoundError:
        return {}
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        logger.warning(
            "%s: not used and written anew (%s: %s)", index_file, type(error).__name__, error
        )
        return {}
    parts = np.split(offsets, np.cumsum(counts)[:-1])
    marks = [ShardStamp(int(size), int(mtime)) for size, mtime in stamps]
    return {str(name): entry for name, *entry in zip(names, marks, parts, strict=True)}


# --- the order of an epoch --------------------------------------------------------------------------------------------


def shuffled(starts: np.ndarray, buffer: int, rng: np.random.Generator) -> np.ndarray:
    """Record numbers of an epoch: the shards in a random order, and their records mixed over a distance of `buffer`.

    What leaves a shuffle buffer of that many records that is filled from one shard after another: a record comes out less
    than `buffer` places later or earlier than it went in. But it is an array of numbers, and no record waits in memory.

    Args:
        starts: int64 [S + 1], the first record of each shard, and the number of all.
        buffer: records; as many as there are mix all of them, 1 none.
    """
    shards = rng.permutation(len(starts) - 1)
    if buffer >= starts[-1]:
        return rng.permutation(starts[-1])
    order = np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in shards])
    return order[np.argsort(np.arange(len(order)) + rng.random(len(order)) * buffer, kind="stable")]


@dataclass(frozen=True)
class ShardOrder(TrainOrder):
    """As `TrainOrder`, for records in shards: those read at about the same time are near to each other on the disk.

    Args:
        starts: the first record of each shard, and the number of all.
        shuffle_buffer: over how many records one is moved, see `shuffled`.
    """

    starts: tuple[int, ...] = ()
    shuffle_buffer: int = 1 << 14

    def shuffled(self, epoch: int) -> np.ndarray:
        return shuffled(
            np.array(self.starts), self.shuffle_buffer, np.random.default_rng((self.seed, epoch))
        )
