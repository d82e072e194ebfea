"""An order of training in which classes of any size are seen equally often."""

from dataclasses import dataclass

import numpy as np

from paddlevideo.data.loader import TrainOrder


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
        classes = rng.permutation(np.unique(labels))  # who gets one more, where they do not divide the epoch
        parts = []
        for place, label in enumerate(classes):
            members, count = np.flatnonzero(labels == label), len(range(place, self.num_records, len(classes)))
            turns = -(-count // len(members))
            drawn = [rng.permutation(members) + turn * self.num_records for turn in range(turns)]
            parts.append(np.concatenate(drawn)[:count])
        return rng.permutation(np.concatenate(parts))
