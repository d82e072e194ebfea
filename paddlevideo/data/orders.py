"""The order of an epoch: which records make batch b on this rank."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paddlevideo.sample import BatchShape, Draw, whole_batches


@dataclass(frozen=True)
class TrainOrder:
    """Shuffled batches of one rank. Global batch `b` is the same set of records on any number of ranks; what does not
    fill a global batch is left out of that epoch.

    Args:
        num_records: in the whole data set.
        cycle: sizes per rank and clip shapes that the batches of an epoch repeat; a plain run has one, `(BatchShape(8),)`.
        max_batches: end an epoch after so many.
    """

    num_records: int
    cycle: tuple[BatchShape, ...]
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    max_batches: int | None = None

    def __post_init__(self):
        first = self.cycle[0].size
        if first < 1:
            raise ValueError(f"DATASET.batch_size is {first}, expected at least 1")
        if len(self) < 1:
            most = self.num_records // self.world_size
            if self.cycle[0].clip:  # the batch of a plan's phase
                cure = "use fewer ranks, a smaller -o DATASET.batch_size, or add records"
            else:
                cure = (
                    f"use -o DATASET.batch_size={most} or less"
                    if most
                    else "use fewer ranks or add records"
                )
            raise ValueError(
                f"{self.num_records} training records do not fill one batch of {first} on {self.world_size} rank(s); {cure}"
            )

    def __len__(self):
        batches = whole_batches(
            [shape.size * self.world_size for shape in self.cycle], self.num_records
        )
        return min(batches, self.max_batches) if self.max_batches else batches

    def shuffled(self, epoch: int) -> np.ndarray:
        """All records in the order of an epoch, int64 [num_records]; it depends on (seed, epoch) alone.

        An order that draws a record again adds `num_records` each time.
        """
        return np.random.default_rng((self.seed, epoch)).permutation(self.num_records)

    def batches(self, epoch: int) -> Iterator[list[Draw]]:
        order, end = self.shuffled(epoch), 0
        for shape in itertools.islice(itertools.cycle(self.cycle), len(self)):
            start, end = end, end + shape.size * self.world_size
            mine = order[start:end][self.rank :: self.world_size].tolist()
            yield [
                Draw(place % self.num_records, shape.clip, place // self.num_records)
                for place in mine
            ]


@dataclass(frozen=True)
class EvalOrder:
    """Every record once over all ranks, in order, nothing padded or dropped; the last batch may be smaller."""

    num_records: int
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __len__(self):
        return -(-len(range(self.rank, self.num_records, self.world_size)) // self.batch_size)

    def batches(self, epoch: int) -> Iterator[list[Draw]]:
        mine = [Draw(index) for index in range(self.rank, self.num_records, self.world_size)]
        for b in range(len(self)):
            yield mine[b * self.batch_size : (b + 1) * self.batch_size]


@dataclass(frozen=True)
class BalancedOrder(TrainOrder):
    """As `TrainOrder`, but an epoch of as many clips draws each class equally often: clips of a rare class several times, and
    not all of a frequent one, others in each epoch.

    Args:
        labels: class id of each record; each must have one.
    """

    labels: tuple[int, ...] = ()

    def shuffled(self, epoch: int) -> np.ndarray:
        """Places as of `TrainOrder`: a record's second clip of the epoch adds `num_records`, its third twice as many, ..."""
        rng = np.random.default_rng((self.seed, epoch))
        labels = np.asarray(self.labels)
        classes = rng.permutation(
            np.unique(labels)
        )  # who gets one more, where they do not divide the epoch
        parts = []
        for place, label in enumerate(classes):
            members, count = (
                np.flatnonzero(labels == label),
                len(range(place, self.num_records, len(classes))),
            )
            repeats = -(-count // len(members))
            drawn = [
                rng.permutation(members) + repeat * self.num_records for repeat in range(repeats)
            ]
            parts.append(np.concatenate(drawn)[:count])
        return rng.permutation(np.concatenate(parts))
