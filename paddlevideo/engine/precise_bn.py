"""Precise batch normalisation: statistics of the weights as they are now, not of those that the last steps ran through.

Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021 (arXiv 2105.07576), section 3. Training leaves a moving
average in each norm layer, whose weights have changed meanwhile and, between phases of a multigrid run, whose clips have too.
Here the mean of a layer is the mean over all batches and ranks, its variance the mean square minus the squared mean.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddlevideo import dist
from paddlevideo.weights import checksum


def norms_of(model: nn.Layer) -> dict[str, nn.Layer]:
    """The layers that keep running statistics which training moves, by name."""
    layers = model.named_sublayers(include_self=True)
    kept = {
        name: layer
        for name, layer in layers
        if hasattr(layer, "_mean") and hasattr(layer, "_variance")
    }
    return {
        name: layer for name, layer in kept.items() if not getattr(layer, "_use_global_stats", None)
    }


def collect(
    model: nn.Layer, run: Callable[[Any], Any], batches: Iterable[Any]
) -> dict[str, np.ndarray]:
    """Statistics of every norm layer over `batches` of equal size and those of the other ranks.

    The model runs in training mode without gradients; its running statistics are left as the last batch has them.

    Args:
        run: a batch -> the forward pass of the model.

    Returns:
        per layer, float64 [2, C]: mean and variance.

    Raises:
        ValueError: there was no batch.
    """
    norms = norms_of(model)
    momenta = {name: layer._momentum for name, layer in norms.items()}
    sums = {name: np.zeros((2, *layer._mean.shape)) for name, layer in norms.items()}
    count = 0
    model.train()
    try:
        for layer in norms.values():
            layer._momentum = 0.0  # a forward pass then leaves what its own batch has
        with paddle.no_grad():
            for batch in batches:
                run(batch)
                count += 1
                for name, layer in norms.items():
                    mean, variance = (
                        np.asarray(t.numpy(), np.float64) for t in (layer._mean, layer._variance)
                    )
                    sums[name] += np.stack([mean, variance + mean**2])
    finally:
        for name, layer in norms.items():
            layer._momentum = momenta[name]
    total = dist.sum_over_ranks({**sums, "": np.float64(count)})
    whole = total.pop("")
    if not whole:
        raise ValueError("precise batch norm: there was no batch to take statistics from")
    means = {name: both[0] / whole for name, both in total.items()}
    return {
        name: np.stack([mean, np.maximum(total[name][1] / whole - mean**2, 0)])
        for name, mean in means.items()
    }


def assign(model: nn.Layer, statistics: dict[str, np.ndarray]) -> None:
    """Make them the running statistics of the model's norm layers."""
    for name, layer in norms_of(model).items():
        for tensor, values in zip((layer._mean, layer._variance), statistics[name], strict=True):
            tensor.set_value(values.astype("float32"))


class PreciseBN:
    """Collects once for the same weights and data, and hands out what it has where they are asked for again."""

    def __init__(self) -> None:
        self._key: Any = None
        self._statistics: dict[str, np.ndarray] = {}

    def update(
        self, model: nn.Layer, run: Callable[[Any], Any], batches: Iterable[Any], data: Any
    ) -> bool:
        """Put precise statistics into the model.

        Args:
            data: what `batches` are, as a value that is equal for equal batches.

        Returns:
            whether anything had to be run.
        """
        key = (
            checksum(
                {name: p.numpy() for name, p in model.named_parameters() if not p.stop_gradient}
            ),
            data,
        )
        changed = key != self._key
        if changed:
            self._key, self._statistics = key, collect(model, run, batches)
        assign(model, self._statistics)
        return changed
