"""What a person gives to predict -> the clips to look at: files, folders, globs, lists of paths, frames in memory."""

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.data.datasets import find_videos
from paddlevideo.data.decode import FrameDecoder
from paddlevideo.data.lists import VIDEO_SUFFIXES
from paddlevideo.sample import Record

LIST_SUFFIXES = (".txt", ".list")
Input = str | Path | np.ndarray


@dataclass(frozen=True)
class ArrayClip:
    """Frames in memory, uint8 [T, H, W, 3] RGB, as an open clip; the sampler picks from them as from a video."""

    frames: np.ndarray
    fps: float = 0.0

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def read(self, indices: Sequence[int] | np.ndarray, each: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """uint8 [T, H, W, 3], each frame as `each` makes it."""
        if each is None:
            return self.frames[np.asarray(indices)]
        return np.stack([each(self.frames[number]) for number in indices])


@dataclass(frozen=True)
class AnyDecoder:
    """Decodes video files with `video`, and folders of frames (records with a `frame_pattern`) as such."""

    video: Any

    @contextmanager
    def open(self, record: Record) -> Iterator[Any]:
        with (FrameDecoder() if record.frame_pattern else self.video).open(record) as clip:
            yield clip


def find_inputs(inputs: Input | Iterable[Input], frame_pattern: str) -> list[tuple[Record, ArrayClip | None]]:
    """The records that `inputs` mean, in order, with the frames of those that are in memory.

    Args:
        inputs: a video file; a folder (all videos below it, sorted; or the frames of one clip); a glob; a .txt or .list file
            with a path on each line, perhaps with a label behind it; uint8 frames [T, H, W, 3]; or several of these.
        frame_pattern: names the pictures in a folder of frames, as `img_{:05}.jpg`.

    Raises:
        ValueError: a folder, glob or list without any video; something that is none of the above.
    """
    if isinstance(inputs, (str, Path, np.ndarray)):
        inputs = [inputs]
    found: list[tuple[Record, ArrayClip | None]] = []
    for number, item in enumerate(inputs):
        if isinstance(item, np.ndarray):
            if item.dtype != np.uint8 or item.ndim != 4 or item.shape[-1] != 3:
                raise ValueError(f"input {number} is {item.dtype} {list(item.shape)}, expected frames uint8 [T, H, W, 3] RGB")
            found.append((Record(f"array {number}"), ArrayClip(item)))
        elif isinstance(item, (str, Path)):
            found += [(record, None) for record in _records(str(item), frame_pattern)]
        else:
            raise ValueError(f"input {number} is a {type(item).__name__}, expected a path or frames uint8 [T, H, W, 3]")
    return found


def _records(text: str, frame_pattern: str) -> list[Record]:
    path = Path(text)
    if not text.strip():
        raise ValueError("an input is empty text; give a file, a folder, a glob or a list")
    if path.is_dir():
        if (path / frame_pattern.format(1)).exists():
            return [Record(text, frame_pattern=frame_pattern)]
        videos = [Record(p) for p in sorted(map(str, find_videos(path)))]
        if not videos:
            raise ValueError(f"{text}: no video in this folder; known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}")
        return videos
    if path.suffix.lower() in LIST_SUFFIXES and path.exists():
        return _listed(path, frame_pattern)
    if not path.exists() and glob.has_magic(text):
        matches = [p for p in sorted(glob.glob(text, recursive=True)) if Path(p).is_file()]
        if not matches:
            raise ValueError(f"{text}: nothing matches this pattern")
        return [Record(p) for p in matches]
    return [Record(text)]


def _listed(path: Path, frame_pattern: str) -> list[Record]:
    """The paths of a list, relative to the current folder or to the list's own."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a UTF-8 text file with a path on each line ({error.reason})") from error
    records = [_one(line, path.parent, frame_pattern) for line in lines if line]
    if not records:
        raise ValueError(f"{path}: no path in this list; it holds one on each line")
    return records


def _one(line: str, folder: Path, frame_pattern: str) -> Record:
    words = line.rsplit(None, 1)
    for text in [line, words[0]]:  # a label may stand behind the path, and the path may hold spaces
        for place in (Path(text), folder / text):
            if place.exists():
                return Record(str(place), frame_pattern=frame_pattern if place.is_dir() else None)
    is_path = Path(line).suffix.lower() in VIDEO_SUFFIXES
    return Record(line if is_path else words[0])
