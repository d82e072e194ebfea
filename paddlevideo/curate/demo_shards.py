"""Generate small synthetic shards in the format of YouTube-8M that a model can learn from.

Each class has a random direction in the space of each feature. A video has one to three classes;
each of them is visible in a contiguous half of the frames. Frames without a class are noise, and
all frames have noise added. Values are quantized as in the data set: bytes 0 .. 255 are
-2 .. 2. The same seed gives the same bytes. The files in the folder `out`:

    train0000.tfrecord ..., validate0000.tfrecord ..., test0000.tfrecord ...
    {train,val,test}.list, vocabulary.csv, labels.txt
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo.curate.youtube8m import LISTS, write_class_names
from paddlevideo.data.youtube8m.sequence_example import encode_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.files import atomic_write

# Split -> first part of a shard's file name.
FILES = {"train": "train", "val": "validate", "test": "test"}
# Standard deviation of the noise and size of the signal per value, in a range of 4. The signal is
# weak enough that a class needs many frames to show.
NOISE, SIGNAL = 0.5, 0.45


@dataclass(frozen=True)
class ShardPlan:
    """The settings of a synthetic set.

    Args:
        seed: of all random draws.
        classes: number of classes.
        videos: number of training videos; validation and test have a quarter of it each.
        per_shard: videos per file.
        frames: smallest and largest number of frames of a video.
        features: name -> values per frame.
    """

    seed: int = 0
    classes: int = 8
    videos: int = 256
    per_shard: int = 64
    frames: tuple[int, int] = (8, 24)
    features: tuple[tuple[str, int], ...] = (("rgb", 1024), ("audio", 128))

    def __post_init__(self):
        too_small = min(self.classes, self.videos, self.per_shard) < 1
        if too_small or not 0 <= self.frames[0] <= self.frames[1]:
            raise ValueError(
                f"{self}: expected classes, videos and per_shard of at least 1, "
                "and frames (smallest, largest)"
            )

    def num_videos(self, split: str) -> int:
        return self.videos if split == "train" else -(-self.videos // 4)


def make_video(
    plan: ShardPlan, split: str, number: int
) -> tuple[str, list[int], dict[str, np.ndarray]]:
    """Generate a video: (id, class ids, feature name -> uint8 [T, D])."""
    rng = np.random.default_rng((plan.seed, list(FILES).index(split), number))
    num_labels = min(plan.classes, int(rng.integers(1, 4)))
    labels = sorted(rng.choice(plan.classes, num_labels, replace=False).tolist())
    num_frames = int(rng.integers(plan.frames[0], plan.frames[1] + 1))
    # 1 where a class is visible: in half of the frames, from a random one on.
    visible = np.zeros((num_frames, plan.classes))
    for label in labels:
        start = int(rng.integers(num_frames // 2 + 1))
        visible[start : start + -(-num_frames // 2), label] = 1
    features = {}
    for index, (name, width) in enumerate(plan.features):
        # The directions of the classes depend on the seed only, so all videos share them.
        direction_rng = np.random.default_rng((plan.seed, 99, index))
        directions = direction_rng.choice([-1.0, 1.0], (plan.classes, width))
        noise = NOISE * rng.standard_normal((num_frames, width))
        values = SIGNAL * visible @ directions + noise
        features[name] = np.clip(np.rint((values + 2) * 255 / 4), 0, 255).astype(np.uint8)
    return f"{split}{number:05}", labels, features


def make_shards(out: Path, plan: ShardPlan) -> int:
    """Write all files of a synthetic set; return the number of shards.

    Raises:
        OSError: the folder is not writable.
    """
    num_shards = 0
    for split, prefix in FILES.items():
        total, names = plan.num_videos(split), []
        for shard, start in enumerate(range(0, total, plan.per_shard)):
            numbers = range(start, min(start + plan.per_shard, total))
            names.append(f"{prefix}{shard:04}.tfrecord")
            write_payloads(out / names[-1], _payloads(plan, split, numbers))
        # Only these: a larger set that was here before has left more.
        with atomic_write(out / LISTS[split]) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        num_shards += len(names)
    rows = "".join(f"{number},0,/m/demo{number},thing {number}\n" for number in range(plan.classes))
    table = f"Index,TrainVideoCount,KnowledgeGraphId,Name\n{rows}"
    with atomic_write(out / "vocabulary.csv") as temporary:
        temporary.write_text(table, encoding="utf-8")
    write_class_names(out / "vocabulary.csv", out / "labels.txt")
    return num_shards


def _payloads(plan: ShardPlan, split: str, numbers: range) -> Iterator[bytes]:
    for number in numbers:
        yield encode_example(*make_video(plan, split, number))
