"""Frame features in pickles, as PaddleCV's and PaddleVideo's converters write them; read without running what is in them.

A shard is a list of dicts {video: id, feature: uint8 [T, 1024], audio: uint8 [T, 128], label: [int...], nframes: int}, a file
of a single video such a dict alone. T may be larger than nframes, which counts what is used. Keys and ids are text or bytes, as
Python 2 and 3 leave them. Such a file can only be read whole; `tools/data/prepare_youtube8m.py convert` writes it as TFRecord.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.data.youtube8m.tfrecord import FrameExample, printable_id
from paddlevideo.safe_pickle import WeightsError, read_pickle, unwrap
from paddlevideo.sample import DecodeError

# The keys of a dict, by our names of the features.
FEATURES = {"rgb": ("feature", "rgb"), "audio": ("audio",)}


def read_videos(path: str | Path) -> list[dict[str, Any]]:
    """The dicts of a pickle, with text as keys; their values are still to be checked by `example`.

    Raises:
        DecodeError: not such a pickle, or one that holds anything else than numbers and text.
    """
    try:
        content = read_pickle(path)
    except WeightsError as error:
        raise DecodeError(str(error).removeprefix(f"{path}: ")) from error
    videos = [content] if isinstance(content, dict) else content
    if not isinstance(videos, list) or not all(isinstance(video, dict) for video in videos):
        inside = (
            {type(video).__name__ for video in videos[:100]} if isinstance(videos, list) else set()
        )
        of = f" of {', '.join(sorted(inside))}" if inside else ""
        raise DecodeError(
            f"it holds a {type(content).__name__}{of}, expected a list of dicts, one a video"
        )
    return [
        {
            k.decode("latin1") if isinstance(k, bytes) else str(k): value
            for k, value in video.items()
        }
        for video in videos
    ]


def count_videos(path: str | Path) -> int:
    """How many videos there are in a pickle; it is read whole for that."""
    return len(read_videos(path))


def example(video: dict[str, Any], names=("rgb", "audio")) -> FrameExample:
    """The features of one of `read_videos`.

    Raises:
        DecodeError: a key is missing or holds something else.
    """
    known = unwrap(video.get("video", b""))
    video_id = known.encode("latin1", "replace") if isinstance(known, str) else known
    if not isinstance(video_id, bytes):
        raise DecodeError(f"the id 'video' is a {type(known).__name__}, expected text")
    labels = unwrap(video.get("label", []))
    try:
        labels = np.array(
            [int(unwrap(label)) for label in (labels if labels is not None else [])], np.int64
        )
        num_frames = None if unwrap(video.get("nframes")) is None else int(unwrap(video["nframes"]))
    except (TypeError, ValueError, OverflowError) as error:
        raise DecodeError(
            f"{printable_id(video_id)}: label or nframes is no number: {error}"
        ) from None
    features = {}
    for name in names:
        key = next((key for key in FEATURES.get(name, (name,)) if key in video), None)
        array = None if key is None else unwrap(video[key])
        if key is None:
            raise DecodeError(
                f"{printable_id(video_id)}: there is no feature {name!r}; keys: {', '.join(sorted(video)[:8])}"
            )
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 2:
            came = (
                f"{array.dtype} {list(array.shape)}"
                if isinstance(array, np.ndarray)
                else type(array).__name__
            )
            raise DecodeError(f"{printable_id(video_id)}: {key} is {came}, expected uint8 [T, D]")
        if num_frames is not None and not 0 <= num_frames <= len(array):
            raise DecodeError(
                f"{printable_id(video_id)}: nframes is {num_frames}, {key} has {len(array)} frames"
            )
        features[name] = array[:num_frames]
    return FrameExample(video_id, labels, features)


def read_examples(path: str | Path, names=("rgb", "audio")) -> Iterator[FrameExample]:
    """The videos of a pickle in turn.

    Raises:
        DecodeError: naming the file, and the number of the video that is wrong.
    """
    try:
        videos = read_videos(path)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from error
    for number, video in enumerate(videos):
        try:
            yield example(video, names)
        except DecodeError as error:
            raise DecodeError(f"{path}@{number}: {error}") from error
