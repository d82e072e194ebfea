"""Read the frame features in pickles of PaddleCV's and PaddleVideo's converters.

A shard is a list of dicts {video: id, feature: uint8 [T, 1024], audio: uint8 [T, 128],
label: [int...], nframes: int}. The file of a single video holds one such dict. T may be larger
than nframes, the number of frames to use. Keys and ids are text or bytes, as written by Python 2
or 3.

The reader never runs code from a pickle. It has to read the complete file;
`tools/data/prepare_youtube8m.py convert` writes pickles as TFRecord files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.bounded_pickle import kind_of
from paddlevideo.data.youtube8m.sequence_example import FrameExample, printable_id
from paddlevideo.remote import local_copy
from paddlevideo.safe_pickle import WeightsError, read_pickle, unwrap
from paddlevideo.sample import DecodeError

# Feature name -> the keys that a dict may use for it.
FEATURES = {"rgb": ("feature", "rgb"), "audio": ("audio",)}


def read_videos(path: str | Path) -> list[dict[str, Any]]:
    """Read the dicts of a pickle, with text keys; `parse_video` checks their values. The cache
    keeps a copy of one at a URL.

    Raises:
        DecodeError: not such a pickle, or one with other content than arrays, numbers and text.
    """
    try:
        content = read_pickle(local_copy(path))
    except WeightsError as error:
        raise DecodeError(str(error).removeprefix(f"{path}: ")) from error
    videos = [content] if isinstance(content, dict) else content
    if not isinstance(videos, list) or not all(isinstance(video, dict) for video in videos):
        came = kind_of(content)
        if isinstance(videos, list):
            came += f" of {', '.join(sorted({kind_of(video) for video in videos[:100]}))}"
        raise DecodeError(f"the pickle holds a {came}, expected a list of dicts, one per video")
    return [{_text(key): value for key, value in video.items()} for video in videos]


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def count_videos(path: str | Path) -> int:
    """Return the number of videos in a pickle; reads the complete file.

    Raises:
        DecodeError: as `read_videos`.
    """
    return len(read_videos(path))


def parse_video(video: dict[str, Any], names: Sequence[str] = ("rgb", "audio")) -> FrameExample:
    """Check one dict of `read_videos` and return its features.

    Raises:
        DecodeError: a missing key, or a value of another type.
    """
    video_id = unwrap(video.get("video", b""))
    if isinstance(video_id, str):
        video_id = video_id.encode("latin1", "replace")
    if not isinstance(video_id, bytes):
        raise DecodeError(f"the id 'video' is of type {type(video_id).__name__}, expected text")
    try:
        labels, num_frames = _labels_and_num_frames(video)
        features = {name: _feature(video, name, num_frames) for name in names}
    except DecodeError as error:
        raise DecodeError(f"{printable_id(video_id)}: {error}") from None
    return FrameExample(video_id, labels, features)


def _labels_and_num_frames(video: dict[str, Any]) -> tuple[np.ndarray, int | None]:
    labels, num_frames = unwrap(video.get("label", [])), unwrap(video.get("nframes"))
    try:
        ids = [int(unwrap(label)) for label in (labels if labels is not None else [])]
        return np.array(ids, np.int64), None if num_frames is None else int(num_frames)
    except (TypeError, ValueError, OverflowError) as error:
        raise DecodeError(f"label or nframes is not an integer: {error}") from None


def _feature(video: dict[str, Any], name: str, num_frames: int | None) -> np.ndarray:
    key = next((key for key in FEATURES.get(name, (name,)) if key in video), None)
    if key is None:
        raise DecodeError(f"feature {name!r} is missing; keys: {', '.join(sorted(video)[:8])}")
    array = unwrap(video[key])
    if not isinstance(array, np.ndarray):
        raise DecodeError(f"{key} is of type {type(array).__name__}, expected uint8 [T, D]")
    if array.dtype != np.uint8 or array.ndim != 2:
        raise DecodeError(f"{key} is {array.dtype} {list(array.shape)}, expected uint8 [T, D]")
    if num_frames is not None and not 0 <= num_frames <= len(array):
        raise DecodeError(f"nframes is {num_frames}, but {key} has {len(array)} frames")
    return array[:num_frames]


def read_examples(
    path: str | Path, names: Sequence[str] = ("rgb", "audio")
) -> Iterator[FrameExample]:
    """Yield the videos of a pickle.

    Raises:
        DecodeError: the message names the file, and the number of the video in it.
    """
    try:
        videos = read_videos(path)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from error
    for number, video in enumerate(videos):
        try:
            yield parse_video(video, names)
        except DecodeError as error:
            raise DecodeError(f"{path}@{number}: {error}") from error
