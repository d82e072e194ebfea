"""Write small shards and pickles of frame features, and load them."""

from pathlib import Path

import numpy as np

from paddlevideo.data.youtube8m.dataset import YouTube8MDataset
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder, FeaturePipeline
from paddlevideo.data.youtube8m.sequence_example import encode_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads

# Feature name -> values per frame.
WIDTHS = {"rgb": 6, "audio": 3}
DECODER = FeatureDecoder(max_frames=5, features=WIDTHS, num_classes=10)
PIPELINE = FeaturePipeline(DECODER)


def make_frames(num_frames: int, seed: int = 0, **widths: int) -> dict[str, np.ndarray]:
    """Return random features of a video, uint8 [T, D] each; `widths` replace those of WIDTHS."""
    rng = np.random.default_rng(seed)
    sizes = {**WIDTHS, **widths}
    return {name: rng.integers(1, 256, (num_frames, D), np.uint8) for name, D in sizes.items()}


def write_shard(path: Path, *videos: tuple[list[int], int], prefix: str = "") -> Path:
    """Write a shard of videos (labels, number of frames) with ids `<prefix or stem>-<number>`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    payloads = [
        encode_example(f"{prefix or path.stem}-{i}", labels, make_frames(num_frames, i))
        for i, (labels, num_frames) in enumerate(videos)
    ]
    write_payloads(path, payloads)
    return path


def write_three_shards(folder: Path) -> Path:
    """Write a.tfrecord, b.tfrecord and c.tfrecord with 4, 1 and 3 videos; return the folder."""
    for name, count in (("a", 4), ("b", 1), ("c", 3)):
        write_shard(folder / f"{name}.tfrecord", *(([n], n + 1) for n in range(count)))
    return folder


def load(path, **options):
    """Load a data set of shards."""
    return YouTube8MDataset(str(path), **options).load()


def pickled_video(number: int, num_frames: int = 3, keys=str, **changes) -> dict:
    """Return the dict of a video in a pickle.

    Args:
        keys: converts the keys of the dict.
        changes: values to replace.
    """
    frames = make_frames(num_frames, number)
    video = {
        "video": f"p-{number}".encode(),
        "feature": frames["rgb"],
        "audio": frames["audio"],
        "label": [number],
        "nframes": np.int32(num_frames),
    }
    return {keys(key): value for key, value in {**video, **changes}.items()}
