"""The order of an epoch: which records are in each batch of this rank."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from paddlevideo.sample import BatchShape, Draw, num_full_batches


@dataclass(frozen=True)
class TrainOrder:
    """Shuffled batches of one rank.

    A global batch, of all ranks together, has the same records on any number of ranks. Records that
    do not fill a global batch are left out of the epoch.

    Args:
        num_records: size of the data set.
        cycle: batch sizes per rank and clip shapes, which the batches of an epoch repeat; a single
            one, as `(BatchShape(8),)`, unless a schedule changes the clip shape.
        max_batches: end an epoch after this number of batches; None for all.

    Raises:
        ValueError: a batch size below 1, or too few records for one batch.
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
            raise ValueError(
                f"{self.num_records} training records do not fill one batch of {first} on "
                f"{self.world_size} rank(s); {self._fix_too_few_records()}"
            )

    def _fix_too_few_records(self) -> str:
        largest = self.num_records // self.world_size
        # The batch size of a schedule is not that of the config.
        if self.cycle[0].clip:
            return "use fewer ranks, a smaller -o DATASET.batch_size, or add records"
        if largest:
            return f"use -o DATASET.batch_size={largest} or less"
        return "use fewer ranks or add records"

    def __len__(self):
        sizes = [shape.size * self.world_size for shape in self.cycle]
        num_batches = num_full_batches(sizes, self.num_records)
        return min(num_batches, self.max_batches) if self.max_batches else num_batches

    def shuffled(self, epoch: int) -> np.ndarray:
        """Record indices in the order of an epoch, int64 [num_records]; only seed and epoch matter.

        If a record is drawn again, its k-th repeat is its index plus k * num_records.
        """
        return np.random.default_rng((self.seed, epoch)).permutation(self.num_records)

    def batches(self, epoch: int) -> Iterator[list[Draw]]:
        """The batches of this rank in an epoch."""
        order, end = self.shuffled(epoch), 0
        for shape in itertools.islice(itertools.cycle(self.cycle), len(self)):
            start, end = end, end + shape.size * self.world_size
            positions = order[start:end][self.rank :: self.world_size].tolist()
            yield [
                Draw(position % self.num_records, shape.clip, position // self.num_records)
                for position in positions
            ]


@dataclass(frozen=True)
class EvalOrder:
    """Every record once over all ranks, in order; the last batch may be smaller."""

    num_records: int
    batch_size: int
    rank: int = 0
    world_size: int = 1

    @property
    def _indices(self) -> Sequence[int]:
        return range(self.rank, self.num_records, self.world_size)

    def __len__(self):
        return -(-len(self._indices) // self.batch_size)

    def batches(self, epoch: int) -> Iterator[list[Draw]]:
        """The batches of this rank, the same in every epoch."""
        draws = [Draw(index) for index in self._indices]
        for start in range(0, len(draws), self.batch_size):
            yield draws[start : start + self.batch_size]


@dataclass(frozen=True)
class ChosenOrder(EvalOrder):
    """Only these records, in this order, all on this rank."""

    indices: tuple[int, ...] = ()

    @property
    def _indices(self) -> Sequence[int]:
        return self.indices


@dataclass(frozen=True)
class BalancedOrder(TrainOrder):
    """A `TrainOrder` that draws each class equally often, in an epoch of the same length.

    Clips of a rare class are repeated, and each epoch uses other clips of a frequent class.

    Args:
        labels: class id of each record; -1 if it has none.
    """

    labels: tuple[int, ...] = ()

    def shuffled(self, epoch: int) -> np.ndarray:
        """As `TrainOrder.shuffled`; the first repeat of a record adds `num_records` to its index,
        the second one twice as many, and so on."""
        rng = np.random.default_rng((self.seed, epoch))
        labels = np.asarray(self.labels)
        # If the classes do not divide the epoch, the first ones get one more clip.
        classes = rng.permutation(np.unique(labels))
        parts = []
        for position, label in enumerate(classes):
            members = np.flatnonzero(labels == label)
            count = len(range(position, self.num_records, len(classes)))
            num_repeats = -(-count // len(members))
            drawn = [
                rng.permutation(members) + repeat * self.num_records
                for repeat in range(num_repeats)
            ]
            parts.append(np.concatenate(drawn)[:count])
        return rng.permutation(np.concatenate(parts))
