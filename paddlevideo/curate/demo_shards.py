"""Made-up shards in the format of YouTube-8M, from which something can be learnt: the same bytes for the same seed.

Every class has a direction in the space of each feature. A video shows one to three classes, each in a stretch of its frames;
the other frames, and noise on all, tell nothing. Values are quantised as in the data set: 0 .. 255 is -2 .. 2. Under `out`:

    train0000.tfrecord ..., validate0000.tfrecord ..., test0000.tfrecord ...
    {train,val,test}.list, vocabulary.csv, labels.txt
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo.curate.youtube8m import write_class_names, write_lists
from paddlevideo.data.youtube8m.tfrecord import encode_example, write_payloads
from paddlevideo.files import atomic_write

FILES = {"train": "train", "val": "validate", "test": "test"}
NOISE, SIGNAL = (
    0.5,
    0.45,
)  # per value, of a range of 4; a class is seen over many frames, not in one


@dataclass(frozen=True)
class ShardPlan:
    """What makes one set different from another.

    Args:
        seed: of every random draw.
        classes: how many there are.
        videos: of training; validation and test have a quarter of that each.
        per_shard: videos in a file.
        frames: fewest and most frames of a video.
        features: name -> values of a frame.
    """

    seed: int = 0
    classes: int = 8
    videos: int = 256
    per_shard: int = 64
    frames: tuple[int, int] = (8, 24)
    features: tuple[tuple[str, int], ...] = (("rgb", 1024), ("audio", 128))

    def __post_init__(self):
        if (
            min(self.classes, self.videos, self.per_shard) < 1
            or not 0 <= self.frames[0] <= self.frames[1]
        ):
            raise ValueError(
                f"{self}: classes, videos and per_shard are at least 1, frames two numbers in order"
            )

    def num_videos(self, split: str) -> int:
        return self.videos if split == "train" else -(-self.videos // 4)


def make_video(
    plan: ShardPlan, split: str, number: int
) -> tuple[str, list[int], dict[str, np.ndarray]]:
    """(id, class ids, features) of a video: name -> uint8 [T, D]."""
    rng = np.random.default_rng((plan.seed, list(FILES).index(split), number))
    num_labels = min(plan.classes, int(rng.integers(1, 4)))
    labels = sorted(rng.choice(plan.classes, num_labels, replace=False).tolist())
    count = int(rng.integers(plan.frames[0], plan.frames[1] + 1))
    shown = np.zeros((count, plan.classes))
    for label in labels:  # half of the frames, from some place on
        start = int(rng.integers(count // 2 + 1))
        shown[start : start + -(-count // 2), label] = 1
    features = {}
    for place, (name, width) in enumerate(plan.features):
        directions = np.random.default_rng((plan.seed, 99, place)).choice(
            [-1.0, 1.0], (plan.classes, width)
        )
        values = SIGNAL * shown @ directions + NOISE * rng.standard_normal((count, width))
        features[name] = np.clip(np.rint((values + 2) * 255 / 4), 0, 255).astype(np.uint8)
    return f"{split}{number:05}", labels, features


def make_shards(out: Path, plan: ShardPlan) -> int:
    """Write all files; returns how many shards.

    Raises:
        OSError: the folder cannot be written to.
    """
    made = 0
    for split, prefix in FILES.items():
        total = plan.num_videos(split)
        for shard, start in enumerate(range(0, total, plan.per_shard)):
            numbers = range(start, min(start + plan.per_shard, total))
            write_payloads(out / f"{prefix}{shard:04}.tfrecord", _payloads(plan, split, numbers))
            made += 1
    rows = "".join(f"{number},0,/m/demo{number},thing {number}\n" for number in range(plan.classes))
    with atomic_write(out / "vocabulary.csv") as temporary:
        temporary.write_text(
            f"Index,TrainVideoCount,KnowledgeGraphId,Name\n{rows}", encoding="utf-8"
        )
    write_lists(out, out)
    write_class_names(out / "vocabulary.csv", out / "labels.txt")
    return made


def _payloads(plan: ShardPlan, split: str, numbers: range) -> Iterator[bytes]:
    for number in numbers:
        yield encode_example(*make_video(plan, split, number))
