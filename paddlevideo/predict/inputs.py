"""Inputs of a prediction: files, folders, globs, lists, tables, shards, or arrays in memory."""

import glob
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.config.shipped import typed
from paddlevideo.data.lists import DatasetError, Row, read_rows
from paddlevideo.data.paths import (
    base_folder,
    find_frame_folders,
    glob_files,
    list_files,
    remote_frame_folders,
    remote_paths,
)
from paddlevideo.data.webdataset.dataset import tar_records
from paddlevideo.data.webdataset.find import SUFFIX as TAR_SUFFIX
from paddlevideo.data.webdataset.find import names_shards
from paddlevideo.data.youtube8m.find import SUFFIXES as SHARD_SUFFIXES
from paddlevideo.data.youtube8m.sequence_example import FrameExample
from paddlevideo.log import logger
from paddlevideo.media.clip import ArrayClip, Clip
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.media.decode import FrameDecoder
from paddlevideo.media.frame_files import naming_note
from paddlevideo.predict.path_list import ListedFiles, PathList
from paddlevideo.remote import (
    exists,
    glob_url,
    is_file,
    is_folder,
    is_url,
    join_path,
    path_suffix,
    shown,
    without_query,
)
from paddlevideo.sample import Record

LIST_SUFFIXES = (".txt", ".list")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
Input = str | Path | np.ndarray | FrameExample
Key = tuple[str, float | None, float | None]  # of an input: location, start and end (seconds)


@dataclass(frozen=True)
class FrameFolderClip:
    """A `Clip` of a folder of frames, without times: an audio-visual model gets silence for it."""

    clip: Clip
    fps: float = 0.0

    @property
    def num_frames(self) -> int:
        return self.clip.num_frames

    @property
    def read_waveform(self) -> None:
        """None: there is no audio."""

    def times(self) -> None:
        """Return None: frames in a folder have no times."""

    def read(self, indices, each=None) -> np.ndarray:
        return self.clip.read(indices, each)


@dataclass(frozen=True)
class AnyDecoder:
    """Decodes video files with `video`, and records with a `frame_pattern` as folders of frames."""

    video: Any

    @property
    def stream(self) -> int | None:
        """Which stream of a video file, counted from 0; None is the first."""
        return self.video.stream

    @contextmanager
    def open(self, record: Record) -> Iterator[Clip]:
        with (FrameDecoder() if record.frame_pattern else self.video).open(record) as clip:
            yield FrameFolderClip(clip) if record.frame_pattern else clip


@dataclass(frozen=True)
class InputRules:
    """The inputs of a model, which decide what a path means.

    Args:
        suffixes: of the files that are used from a folder.
        find_records: path -> records, for a model whose files contain many records each; None for a
            model with one record per file.
        extracts: whether videos are inputs of such a model too, because the predictor extracts
            their features.
        frame_pattern: file name of a frame in a folder of frames, as `img_{:05}.jpg`.
        suffix: appended to a path of a list that exists only with it.
    """

    suffixes: tuple[str, ...] = VIDEO_SUFFIXES
    find_records: Callable[[str], Sequence[Record]] | None = None
    extracts: bool = False
    frame_pattern: str = "img_{:05}.jpg"
    suffix: str = ""

    @property
    def accepts_frames(self) -> bool:
        """Whether frames in memory are an input."""
        return self.suffixes == VIDEO_SUFFIXES and self.find_records is None


class Inputs:
    """(record, its data in memory or None) of all inputs, in order; records of shards are created
    during iteration.

    Args:
        parts: (records, their data) of each input.
        shard: (number, count): every `count`-th record from record `number` - 1 on.
        done: inputs to leave out, and how often.
        num_done: number of records that `done` leaves out.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Sequence[Record], Any]],
        shard: tuple[int, int] = (1, 1),
        done: Mapping[Key, int] | None = None,
        num_done: int = 0,
    ):
        self._parts, self._shard, self._done = parts, shard, done or {}
        self.num_done = num_done

    def __len__(self):
        total = sum(len(records) for records, _ in self._parts)
        number, count = self._shard
        return len(range(number - 1, total, count)) - self.num_done

    def __iter__(self) -> Iterator[tuple[Record, Any]]:
        left = Counter(self._done)
        for record, data in self._of_shard():
            key = (record.location, record.start_sec, record.end_sec)
            if left[key] > 0:
                left[key] -= 1
            else:
                yield record, data

    def _of_shard(self) -> Iterator[tuple[Record, Any]]:
        pairs = ((record, data) for records, data in self._parts for record in records)
        number, count = self._shard
        return itertools.islice(pairs, number - 1, None, count)

    def shard(self, number: int, count: int) -> "Inputs":
        """Part `number` of `count`: each record is in exactly one part, the same for equal lists.

        Neighbors are in different parts, as a folder of long videos should not be one part.

        Raises:
            ValueError: there is no such part.
        """
        if not 1 <= number <= count:
            raise ValueError(f"shard {number}/{count}: expected a number from 1 to {count}")
        return Inputs(self._parts, (number, count))

    def without(self, done: Mapping[Key, int]) -> "Inputs":
        """The inputs that are left, where each of `done` is done so many times."""
        total = len(Inputs(self._parts, self._shard))
        num_left = sum(1 for _ in Inputs(self._parts, self._shard, done)) if done else total
        return Inputs(self._parts, self._shard, done, total - num_left)


FRAMES_OF_VIDEOS = InputRules()


def find_inputs(inputs: Input | Iterable[Input], rules: InputRules = FRAMES_OF_VIDEOS) -> Inputs:
    """Find the records of all inputs.

    Args:
        inputs: one or several of: a file; a folder (all files below it with the right suffixes,
            sorted; or the frames of one clip); a glob; a .txt or .list file with a path on each
            line, perhaps followed by a label, or by a number of frames and a label; a table of a
            data set (.csv, .tsv, .jsonl), whose rows may be parts of videos; tar shards
            (`train-{000000..000009}.tar`, a glob, or a folder of them), each sample an input; a
            shard of features, or a folder, glob or list of them; uint8 frames [T, H, W, 3]; the
            features of a video.

    Raises:
        ValueError: a folder, glob or list without files for this model, or an unsupported input.
    """
    if isinstance(inputs, (str, Path, np.ndarray, FrameExample)):
        inputs = [inputs]
    return Inputs([_records_of_input(number, item, rules) for number, item in enumerate(inputs)])


def _records_of_input(
    number: int, item: Any, rules: InputRules
) -> tuple[Sequence[Record], ArrayClip | FrameExample | None]:
    """(records of an input, its data if they are in memory)."""
    if isinstance(item, (str, Path)):
        return _records_of_path(str(item), rules), None
    if isinstance(item, FrameExample) and rules.find_records:
        return [Record(f"example {number}")], item
    if isinstance(item, np.ndarray) and rules.accepts_frames:
        if item.dtype != np.uint8 or item.ndim != 4 or item.shape[-1] != 3:
            raise ValueError(
                f"input {number} is {item.dtype} {list(item.shape)}, "
                "expected frames uint8 [T, H, W, 3] RGB"
            )
        return [Record(f"array {number}")], ArrayClip(item)
    expected = "a path"
    if rules.accepts_frames:
        expected += " or frames uint8 [T, H, W, 3]"
    elif rules.find_records:
        expected += " or a FrameExample"
    raise ValueError(f"input {number} is a {type(item).__name__}, expected {expected}")


def _records_of_path(text: str, rules: InputRules) -> Sequence[Record]:
    if not text.strip():
        raise ValueError("an input is empty text; give a file, a folder, a glob or a list")
    if rules.find_records is None:
        return _files(text, rules)
    try:
        return rules.find_records(text)
    except DatasetError as error:
        videos = _videos(text, rules)
        if not videos:
            raise
        if not rules.extracts:
            raise ValueError(
                f"{text}: video, but this model takes frame features; make them with "
                f"{typed('tools/extract_features.py', 'extract')} --input_file {text} -o FOLDER, "
                "and give that folder; "
                "or give --features, the folder of its training features"
            ) from error
        return videos


def _videos(text: str, rules: InputRules) -> Sequence[Record]:
    """The videos of a path; an empty list if it is anything else."""
    try:
        records = _files(text, replace(rules, suffixes=VIDEO_SUFFIXES))
    except ValueError:  # the caller raises a better one
        return []
    return records if all(path_suffix(each.path) in VIDEO_SUFFIXES for each in records) else []


def _files(text: str, rules: InputRules) -> Sequence[Record]:
    """The files of a path, one record each; the samples of tar shards."""
    if names_shards(text):
        return tar_records(text)
    if is_url(text):
        return _files_of_url(text, rules)
    path = Path(text)
    if path.is_dir():
        return _files_in_folder(path, text, rules)
    if path.suffix.lower() in LIST_SUFFIXES and path.exists():
        return _files_in_list(path, rules)
    if path.suffix.lower() in TABLE_SUFFIXES and path.exists():
        return _files_in_table(path, rules)
    if not path.exists() and glob.has_magic(text):
        matches = glob_files(text)
        if not matches:
            raise ValueError(f"{text}: no file matches this pattern")
        return [Record(name) for name in matches]
    if path.suffix.lower() in SHARD_SUFFIXES:
        raise ValueError(
            f"{text}: a shard of frame features, but this model takes {' '.join(rules.suffixes)}"
        )
    return [Record(text)]


def _files_in_folder(folder: Path, text: str, rules: InputRules) -> list[Record]:
    frames = rules.frame_pattern
    if rules.accepts_frames and (folder / frames.format(1)).exists():
        return [Record(text, frame_pattern=frames)]
    paths = sorted(str(path) for path in list_files(folder, rules.suffixes))
    folders = find_frame_folders(folder, frames) if rules.accepts_frames and not paths else []
    if folders:
        note = naming_note(folders[0], frames)
        logger.info(f"{text}: {len(folders)} folder(s) of frames{f', as {note}' if note else ''}")
        return [Record(str(path), frame_pattern=frames) for path in folders]
    if not paths and any(True for _ in list_files(folder, (TAR_SUFFIX,))):
        return tar_records(text)
    if not paths:
        raise _no_files(text, rules)
    return [Record(path) for path in paths]


def _no_files(text: str, rules: InputRules) -> ValueError:
    kind = "video" if rules.suffixes == VIDEO_SUFFIXES else "video or audio file"
    suffixes = " ".join(sorted(rules.suffixes))
    return ValueError(f"{text}: no {kind} in this folder; known suffixes: {suffixes}")


def _files_of_url(url: str, rules: InputRules) -> Sequence[Record]:
    """The files of a URL, one record each; a file that does not exist becomes a failure."""
    suffix = path_suffix(url)
    if suffix in LIST_SUFFIXES and is_file(url):
        return _files_in_list(url, rules)
    if suffix in TABLE_SUFFIXES and is_file(url):
        return _files_in_table(url, rules)
    if is_folder(url):
        return _files_in_remote_folder(url, rules)
    # A question mark begins the query of an address.
    if glob.has_magic(without_query(url)) and not exists(url):
        matches = glob_url(url)
        if not matches:
            raise ValueError(f"{shown(url)}: no file matches this pattern")
        return [Record(match) for match in matches]
    return [Record(url)]


def _files_in_remote_folder(url: str, rules: InputRules) -> list[Record]:
    names, root = remote_paths(url), url.rstrip("/")
    files = sorted(name for name in names if path_suffix(name) in rules.suffixes)
    if files:
        return [Record(f"{root}/{name}") for name in files]
    frames = rules.frame_pattern
    folders = remote_frame_folders(names, frames) if rules.accepts_frames else []
    if not folders:
        raise _no_files(shown(url), rules)
    return [Record(f"{root}/{name}".rstrip("/"), frame_pattern=frames) for name in folders]


# --- lists of paths -------------------------------------------------------------------------------


def _files_in_list(file: str | Path, rules: InputRules) -> Sequence[Record]:
    """The files of a list of paths, also those that do not exist."""
    lines = PathList(file)
    if not lines:
        raise ValueError(f"{shown(file)}: no path in this list; write one on each line")
    paths = (path for readings in lines for row in readings for path in _paths(row, rules))
    base = base_folder(paths, file, limit=None, fix="write absolute paths into the list")
    return ListedFiles(lines, lambda readings: _file_of_line(readings, base, rules))


def _files_in_table(file: str | Path, rules: InputRules) -> list[Record]:
    """The files of a table of a data set, or the parts of them that its rows name."""
    rows, problems = read_rows(file, with_num_frames=False, multi_label=True)
    problems.stop()
    paths = (path for row in rows for path in _paths(row, rules))
    base = base_folder(paths, file, limit=None, fix="write absolute paths into the table")
    return [
        replace(_file_of_line([row], base, rules), start_sec=row.start_sec, end_sec=row.end_sec)
        for row in rows
    ]


def _paths(row: Row, rules: InputRules) -> tuple[str, ...]:
    return (row.path, row.path + rules.suffix) if rules.suffix else (row.path,)


def _file_of_line(readings: list[Row], base: str, rules: InputRules) -> Record:
    """The first reading of a line that exists; if none does, the one with a known suffix."""
    if is_url(base):
        return _url_of_line(readings, base, rules)
    for row in readings:
        for text in _paths(row, rules):
            path = join_path(base, text)
            if not is_url(path) and os.path.exists(path):
                pattern = rules.frame_pattern if os.path.isdir(path) else None
                return Record(str(Path(path)), num_frames=row.num_frames, frame_pattern=pattern)
    for row in readings:
        if path_suffix(row.path) in rules.suffixes:
            return Record(row.path)
    # A word behind the path is a label.
    return Record(readings[min(1, len(readings) - 1)].path)


def _url_of_line(readings: list[Row], base: str, rules: InputRules) -> Record:
    """The reading of a line with a known suffix; the server is not asked for each line."""
    for row in readings:
        if path_suffix(row.path) in rules.suffixes:
            return Record(join_path(base, row.path))
    row = readings[-1]
    if row.num_frames and rules.accepts_frames:
        folder = join_path(base, row.path)
        return Record(folder, num_frames=row.num_frames, frame_pattern=rules.frame_pattern)
    row = readings[min(1, len(readings) - 1)]  # a word behind the path is a label
    return Record(join_path(base, row.path + rules.suffix))
