"""Precise batch norm: running statistics recomputed for the current weights before an evaluation.

Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021 (arXiv 2105.07576), section 3.
Training leaves a moving average in each batch norm. The weights have changed while it was
collected and, between phases of a multigrid run, the clips have too. Here the mean of a layer is
the mean over all batches and ranks; its variance is the mean of squares minus the squared mean.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddlevideo import dist, paddle_internals
from paddlevideo.engine.upload import one_behind
from paddlevideo.paddle_internals import AnyBatchNorm
from paddlevideo.weights import checksum


def batch_norms(model: nn.Layer) -> dict[str, AnyBatchNorm]:
    """The batch norms whose running statistics change in training, by name; not the frozen ones."""
    return {
        name: layer
        for name, layer in model.named_sublayers(include_self=True)
        if paddle_internals.is_batch_norm(layer)
        and not paddle_internals.statistics_are_frozen(layer)
    }


def collect_statistics(
    model: nn.Layer, run: Callable[[Any], Any], batches: Iterable[Any]
) -> dict[str, np.ndarray]:
    """Compute the statistics of every batch norm over `batches` of equal size, on all ranks.

    The model is left in training mode, with the running statistics of the last batch. Nothing
    computes gradients.

    Args:
        run: takes a batch and runs the forward pass of the model.

    Returns:
        by layer name: float64 [2, C], mean and variance.

    Raises:
        ValueError: no rank had a batch.
    """
    norms = batch_norms(model)
    momenta = {name: paddle_internals.momentum(layer) for name, layer in norms.items()}
    # Per layer: the sums over batches of the mean and of the mean square.
    sums = {
        name: np.zeros((2, *paddle_internals.running_statistics(layer)[0].shape))
        for name, layer in norms.items()
    }
    num_batches = 0
    model.train()
    try:
        for layer in norms.values():
            paddle_internals.set_momentum(layer, 0.0)
        with paddle.no_grad():
            queued = _queued_statistics(list(norms.values()), run, batches)
            for read in one_behind(queued):
                num_batches += 1
                for total, (mean, variance) in zip(sums.values(), read(), strict=True):
                    total += np.stack([mean, variance + mean**2])
    finally:
        for name, layer in norms.items():
            paddle_internals.set_momentum(layer, momenta[name])

    totals = dist.sum_over_ranks({**sums, "": np.float64(num_batches)})
    total_batches = totals.pop("")
    if not total_batches:
        raise ValueError("precise batch norm: there is no batch to compute statistics from")
    statistics = {}
    for name, total in totals.items():
        mean, mean_square = total / total_batches
        statistics[name] = np.stack([mean, np.maximum(mean_square - mean**2, 0)])
    return statistics


Pairs = list[tuple[np.ndarray, np.ndarray]]


def _queued_statistics(
    norms: Sequence[AnyBatchNorm], run: Callable[[Any], Any], batches: Iterable[Any]
) -> Iterator[Callable[[], Pairs]]:
    """Run each batch; a result waits for its (mean, variance) in each layer, float64 [C].

    The layers' momentum must be 0.
    """
    for batch in batches:
        run(batch)
        live = [paddle_internals.running_statistics(layer) for layer in norms]
        # One copy of all: the next batch changes the live ones, and one tensor is read faster.
        flat = [tensor.flatten() for pair in live for tensor in pair]
        yield partial(_read, paddle.concat(flat) if flat else None, [t.shape[0] for t in flat])


def _read(together: paddle.Tensor | None, sizes: Sequence[int]) -> Pairs:
    if together is None:
        return []
    values = np.asarray(together.numpy(), np.float64)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return list(zip(parts[::2], parts[1::2], strict=True))


def assign_statistics(model: nn.Layer, statistics: dict[str, np.ndarray]) -> None:
    """Make `statistics`, as `collect_statistics` returns them, the model's running statistics."""
    for name, layer in batch_norms(model).items():
        tensors = paddle_internals.running_statistics(layer)
        for tensor, values in zip(tensors, statistics[name], strict=True):
            tensor.set_value(values.astype("float32"))


class PreciseBN:
    """Collects statistics once for the same weights and data, and assigns them again on request."""

    def __init__(self) -> None:
        self._key: Any = None
        self._statistics: dict[str, np.ndarray] = {}

    def update(
        self, model: nn.Layer, run: Callable[[Any], Any], batches: Iterable[Any], data: Any
    ) -> bool:
        """Put precise statistics into the model.

        Args:
            run: takes a batch and runs the forward pass of the model.
            batches: of equal size; read only if the statistics have to be collected.
            data: identifies `batches`: a value that is equal for equal batches.

        Returns:
            whether the statistics had to be collected.

        Raises:
            ValueError: no rank had a batch.
        """
        weights = {name: p.numpy() for name, p in model.named_parameters() if not p.stop_gradient}
        key = (checksum(weights), data)
        changed = key != self._key
        if changed:
            self._key, self._statistics = key, collect_statistics(model, run, batches)
        assign_statistics(model, self._statistics)
        return changed
