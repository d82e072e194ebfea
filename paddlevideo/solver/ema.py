"""Exponential moving average of a model's weights: what is evaluated and saved may be smoother than what is trained.

The average is a plain dict of tensors under the model's names. The engine makes it once, updates it after each optimizer step,
and evaluates inside `averaged`:

    average = start(model)                               # or `restored(model, arrays)`
    optimizer.step(); update(average, model, ema.decay_at(step))     # step: optimizer steps done, from 1
    with averaged(model, average): evaluate(...); write_arrays(best, model_arrays())
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from paddlevideo.config.registry import register

Tensors = dict[str, paddle.Tensor]


@register("ema", "EMA")
@dataclass(frozen=True)
class Ema:
    """How fast the average forgets.

    Args:
        decay: share of the average that a step keeps.
        warm_up: keep less in the beginning, (1 + step) / (10 + step), so that the first weights are soon forgotten.
    """

    decay: float = 0.9999
    warm_up: bool = True

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"EMA: decay is {self.decay}; it must be in [0, 1)")

    def decay_at(self, step: int) -> float:
        """The share that optimizer step `step`, from 1, keeps."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warm_up else self.decay


def start(model: nn.Layer) -> Tensors:
    """An average that begins with the model as it is: a float32 copy of each tensor, running statistics too."""
    return {name: _copy(tensor) for name, tensor in model.state_dict().items()}


def update(average: Tensors, model: nn.Layer, decay: float) -> None:
    """Move the average towards the model: average = decay * average + (1 - decay) * now; whole numbers are copied."""
    with paddle.no_grad():
        for name, tensor in model.state_dict().items():
            before = average[name]
            if "float" in str(before.dtype):
                average[name] = before * decay + tensor.astype(before.dtype) * (1 - decay)
            else:
                average[name] = _copy(tensor)


def arrays_of(average: Tensors) -> dict[str, np.ndarray]:
    """The average as it is saved."""
    return {name: tensor.numpy() for name, tensor in average.items()}


def restored(model: nn.Layer, arrays: Mapping[str, np.ndarray]) -> Tensors:
    """The average that `arrays_of` gave.

    Raises:
        ValueError: it is another model's.
    """
    average = start(model)
    shapes = {name: list(tensor.shape) for name, tensor in average.items()}
    saved = {name: list(np.shape(array)) for name, array in arrays.items()}
    wrong = sorted(
        name for name in shapes.keys() | saved.keys() if shapes.get(name) != saved.get(name)
    )
    if wrong:
        told = ", ".join(
            f"{name} ({saved.get(name, 'none')}, not {shapes.get(name, 'none')})"
            for name in wrong[:3]
        )
        raise ValueError(
            f"the saved average is of another model: {told}{', ...' if len(wrong) > 3 else ''}"
        )
    return {name: paddle.to_tensor(np.asarray(array)) for name, array in arrays.items()}


@contextmanager
def averaged(model: nn.Layer, average: Tensors) -> Iterator[None]:
    """Inside, the model has the averaged weights; afterwards its own again, bit for bit."""
    tensors = model.state_dict()
    own = {name: tensor.clone().detach() for name, tensor in tensors.items()}
    try:
        _fill(tensors, average)
        yield
    finally:
        _fill(tensors, own)


def _copy(tensor: paddle.Tensor) -> paddle.Tensor:
    half = "float16" in str(
        tensor.dtype
    )  # bfloat16 too; an average in half precision would stand still
    return tensor.detach().astype("float32") if half else tensor.detach().clone()


def _fill(tensors: Mapping[str, paddle.Tensor], values: Mapping[str, paddle.Tensor]) -> None:
    with paddle.no_grad():
        for name, tensor in tensors.items():
            paddle.assign(values[name].astype(tensor.dtype), tensor)
