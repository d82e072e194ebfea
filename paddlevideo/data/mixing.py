"""Mixing the samples of a batch. A mixed batch has two labels per sample and the weight of the first."""

from dataclasses import dataclass

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.sample import Batch


def mix(x, perm: np.ndarray, lam: float):
    """lam * x + (1 - lam) * x[perm], in x's own type; x is a numpy array or a paddle tensor [N, ...]."""
    return lam * x + (1 - lam) * x[perm]


@register("mix")
@dataclass(frozen=True)
class Mixup:
    """Blend each sample with another one of its batch (Zhang et al., ICLR 2018).

    One weight lam is drawn from Beta(alpha, alpha) for the whole batch, and one permutation that says who goes with whom.

    Args:
        alpha: larger means closer to half and half.
        inputs: keys of the batch to blend, all with the same weight and partners.

    Raises:
        ValueError: alpha is not above 0.
    """

    alpha: float = 0.2
    inputs: tuple[str, ...] = ("frames",)

    def __post_init__(self):
        if not self.alpha > 0:
            raise ValueError(
                f"Mixup: alpha is {self.alpha}, expected a number above 0; leave MIX out to train without it"
            )

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A new batch: `inputs` blended; labels_a [N], labels_b [N] (of the partners), lam float32 [N] added.

        The arrays may be numpy's or paddle's; what is added is of the same kind as `label`.

        Raises:
            ValueError: an input is missing.
            TypeError: an input is not of a floating type.
        """
        label = batch["label"]
        perm = rng.permutation(len(label))
        lam = float(rng.beta(self.alpha, self.alpha))
        mixed = {}
        for key in self.inputs:
            if key not in batch:
                raise ValueError(
                    f"Mixup: the batch has no {key!r}, only {', '.join(sorted(batch))}; set MIX.inputs"
                )
            # The name is the one thing that numpy's and paddle's types have in common.
            if "float" not in str(batch[key].dtype):
                raise TypeError(
                    f"Mixup: {key!r} is {batch[key].dtype}, expected floats; normalise before mixing"
                )
            mixed[key] = mix(batch[key], perm, lam)
        weight = label.astype("float32") * 0 + lam
        return {**batch, **mixed, "labels_a": label, "labels_b": label[perm], "lam": weight}
