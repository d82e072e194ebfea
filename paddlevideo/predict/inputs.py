"""What a person gives to predict -> what to look at: files, folders, globs, lists of paths, shards, data in memory."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.data.lists import DatasetError, Row, read_path_list
from paddlevideo.data.paths import base_folder, list_files
from paddlevideo.data.youtube8m.shards import SUFFIXES as SHARD_SUFFIXES
from paddlevideo.data.youtube8m.tfrecord import FrameExample
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.media.decode import ArrayClip, FrameDecoder
from paddlevideo.sample import Record

LIST_SUFFIXES = (".txt", ".list")
Input = str | Path | np.ndarray | FrameExample


@dataclass(frozen=True)
class FrameFolderClip:
    """An open clip of numbered pictures: without times, and so without the sound that would belong to them."""

    clip: Any
    fps: float = 0.0

    @property
    def num_frames(self) -> int:
        return self.clip.num_frames

    def read(self, *arguments) -> np.ndarray:
        return self.clip.read(*arguments)


@dataclass(frozen=True)
class AnyDecoder:
    """Decodes video files with `video`, and folders of frames (records with a `frame_pattern`) as such."""

    video: Any

    @contextmanager
    def open(self, record: Record) -> Iterator[Any]:
        with (FrameDecoder() if record.frame_pattern else self.video).open(record) as clip:
            yield FrameFolderClip(clip) if record.frame_pattern else clip


@dataclass(frozen=True)
class InputRules:
    """What a model is given, which decides what a path means.

    Args:
        suffixes: of the files that are taken from a folder.
        find_records: path -> records, of a model whose data lie in files of many records; None where a record is a file.
        extracts: whether such a model also gets videos, for the predictor makes its features of them.
        frame_pattern: names the pictures in a folder of frames, as `img_{:05}.jpg`.
        suffix: put behind a path of a list that is there only with it.
    """

    suffixes: tuple[str, ...] = VIDEO_SUFFIXES
    find_records: Callable[[str], Sequence[Record]] | None = None
    extracts: bool = False
    frame_pattern: str = "img_{:05}.jpg"
    suffix: str = ""


class Inputs:
    """What was given, in order: (record, what is open already or None). Records of shards are made as they are asked for."""

    def __init__(self, parts: Sequence[tuple[Sequence[Record], Any]]):
        self._parts = parts

    def __len__(self):
        return sum(len(records) for records, _ in self._parts)

    def __iter__(self) -> Iterator[tuple[Record, Any]]:
        return ((record, clip) for records, clip in self._parts for record in records)


def find_inputs(inputs: Input | Iterable[Input], takes: InputRules = InputRules()) -> Inputs:
    """What `inputs` mean.

    Args:
        inputs: a file; a folder (all files below it that the model takes, sorted; or the frames of one clip); a glob; a .txt or
            .list file with a path on each line, perhaps with a label behind it; a shard, or a folder, glob or list of those;
            uint8 frames [T, H, W, 3]; the features of a video; or several of these.

    Raises:
        ValueError: a folder, glob or list without anything for this model; something that is none of the above.
    """
    if isinstance(inputs, (str, Path, np.ndarray, FrameExample)):
        inputs = [inputs]
    return Inputs([_part(number, item, takes) for number, item in enumerate(inputs)])


def _part(number: int, item: Any, takes: InputRules) -> tuple[Sequence[Record], Any]:
    of_frames = takes.suffixes == VIDEO_SUFFIXES and takes.find_records is None
    if isinstance(item, (str, Path)):
        return _records(str(item), takes), None
    if isinstance(item, FrameExample) and takes.find_records:
        return [Record(f"example {number}")], item
    if isinstance(item, np.ndarray) and of_frames:
        if item.dtype != np.uint8 or item.ndim != 4 or item.shape[-1] != 3:
            raise ValueError(
                f"input {number} is {item.dtype} {list(item.shape)}, expected frames uint8 [T, H, W, 3] RGB"
            )
        return [Record(f"array {number}")], ArrayClip(item)
    other = (
        "frames uint8 [T, H, W, 3]"
        if of_frames
        else "a FrameExample"
        if takes.find_records
        else "nothing else here"
    )
    raise ValueError(f"input {number} is a {type(item).__name__}, expected a path or {other}")


def _records(text: str, takes: InputRules) -> Sequence[Record]:
    if not text.strip():
        raise ValueError("an input is empty text; give a file, a folder, a glob or a list")
    if takes.find_records is None:
        return _files(text, takes)
    try:
        return takes.find_records(text)
    except DatasetError as error:
        videos = _videos(text, takes)
        if not videos:
            raise
        if not takes.extracts:
            raise ValueError(
                f"{text}: video, and this model takes frame features; make them with tools/extract_features.py "
                f"--input_file {text} -o FOLDER, and give that folder; or give --features, the folder of its training features"
            ) from error
        return videos


def _videos(text: str, takes: InputRules) -> list[Record]:
    """The videos that a path means, none where it means anything else."""
    try:
        records = _files(text, takes)
    except ValueError:  # the caller has a better one
        return []
    return records if all(_suffix(record.path) in VIDEO_SUFFIXES for record in records) else []


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _files(text: str, takes: InputRules) -> list[Record]:
    path = Path(text)
    if path.is_dir():
        if (path / takes.frame_pattern.format(1)).exists():
            return [Record(text, frame_pattern=takes.frame_pattern)]
        found = [Record(p) for p in sorted(map(str, list_files(path, takes.suffixes)))]
        if not found:
            kind = "video" if takes.suffixes == VIDEO_SUFFIXES else "video or sound"
            raise ValueError(
                f"{text}: no {kind} in this folder; known suffixes: {' '.join(sorted(takes.suffixes))}"
            )
        return found
    if path.suffix.lower() in LIST_SUFFIXES and path.exists():
        return _listed(path, takes)
    if not path.exists() and glob.has_magic(text):
        matches = [p for p in sorted(glob.glob(text, recursive=True)) if Path(p).is_file()]
        if not matches:
            raise ValueError(f"{text}: nothing matches this pattern")
        return [Record(p) for p in matches]
    if path.suffix.lower() in SHARD_SUFFIXES:
        raise ValueError(
            f"{text}: a shard of frame features, which are for taggers; this model takes {' '.join(takes.suffixes)}"
        )
    return [Record(text)]


def _listed(file: Path, rules: InputRules) -> list[Record]:
    """The records of a list of paths; a file that does not exist is one, too."""
    lines = read_path_list(file, "a list with a path on each line")
    if not lines:
        raise ValueError(f"{file}: no path in this list; write one on each line")
    candidates = [
        path for line in lines for row in line for path in (row.path, row.path + rules.suffix)
    ]
    base = base_folder(candidates, file, limit=None, fix="write absolute paths into the list")
    return [_one(line, base, rules) for line in lines]


def _one(readings: list[Row], base: str, rules: InputRules) -> Record:
    """The record of a line: its first reading that exists, with or without `rules.suffix`."""
    for row in readings:
        for path in (Path(base, row.path), Path(base, row.path + rules.suffix)):
            if os.path.exists(path):
                pattern = rules.frame_pattern if path.is_dir() else None
                return Record(str(path), num_frames=row.num_frames, frame_pattern=pattern)
    # Nothing exists: name the path by its suffix, or take the last word for a label.
    known = (row.path for row in readings if _suffix(row.path) in rules.suffixes)
    return Record(next(known, readings[min(1, len(readings) - 1)].path))
