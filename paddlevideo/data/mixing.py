"""Mix the samples of a batch. A mixed sample has two labels, and the weight of the first one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.sample import Batch


def mix(x, perm, lam: float):
    """lam * x + (1 - lam) * x[perm], in the dtype of x: a NumPy array or Paddle tensor [N, ...]."""
    return lam * x + (1 - lam) * x[perm]


@register("mix")
@dataclass(frozen=True)
class Mixup:
    """Blend each sample with another one of its batch (Zhang et al., "mixup", ICLR 2018).

    One weight lam, drawn from Beta(alpha, alpha), and one permutation of partners serve the whole
    batch.

    Args:
        alpha: larger values bring lam closer to 0.5.
        inputs: keys of the batch to blend, all with the same weight and partners.

    Raises:
        ValueError: alpha is not above 0.
    """

    alpha: float = 0.2
    inputs: tuple[str, ...] = ("frames",)

    def __post_init__(self):
        if not self.alpha > 0:
            raise ValueError(
                f"Mixup: alpha is {self.alpha}, expected a number above 0; "
                "leave MIX out to train without mixup"
            )

    def __call__(
        self, batch: Batch, rng: np.random.Generator, upload: Callable | None = None
    ) -> Batch:
        """A new batch with blended `inputs`, and labels_a [N], labels_b [N] (of the partners) and
        lam float32 [N].

        The arrays are NumPy arrays or Paddle tensors; the new ones are of the same kind as `label`.

        Args:
            upload: makes a tensor of the permutation; with tensors on a GPU, Paddle's own way would
                make the GPU wait.

        Raises:
            ValueError: an input is missing.
            TypeError: an input is not of a floating-point type.
        """
        label = batch["label"]
        perm: Any = rng.permutation(len(label))
        lam = float(rng.beta(self.alpha, self.alpha))
        if upload is not None:
            perm = upload(perm)
        mixed = {}
        for key in self.inputs:
            if key not in batch:
                keys = ", ".join(sorted(batch))
                raise ValueError(f"Mixup: the batch has no {key!r}, only {keys}; set MIX.inputs")
            # The text of a dtype is all that NumPy and Paddle have in common.
            if "float" not in str(batch[key].dtype):
                dtype = batch[key].dtype
                raise TypeError(
                    f"Mixup: {key!r} is {dtype}, expected floats; normalize before mixing"
                )
            mixed[key] = mix(batch[key], perm, lam)
        weight = label.astype("float32") * 0 + lam
        return {**batch, **mixed, "labels_a": label, "labels_b": label[perm], "lam": weight}
