"""Exponential moving average of a model's weights, which is evaluated and saved as the best model.

The average is a dict of tensors under the model's names. The engine creates it once, updates it
after each optimizer step, and evaluates inside `averaged`:

    average = start(model)                         # in a resumed run: restored(model, arrays)
    optimizer.step()
    update(average, model, ema.decay_at(step))     # step: optimizer steps done, from 1
    with averaged(model, average):
        evaluate(...)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from paddlevideo.config.registry import register

MAX_SHOWN = 3  # names in a message

Tensors = dict[str, paddle.Tensor]


@register("ema", "EMA")
@dataclass(frozen=True)
class Ema:
    """How much of the average each optimizer step keeps.

    Args:
        decay: share of the average that a step keeps.
        warm_up: use (1 + step) / (10 + step) while it is smaller, so that the average soon leaves
            the initial weights.
    """

    decay: float = 0.9999
    warm_up: bool = True

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"EMA: decay is {self.decay}; it must be in [0, 1)")

    def decay_at(self, step: int) -> float:
        """The share of the average that optimizer step `step`, from 1, keeps."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warm_up else self.decay


def start(model: nn.Layer) -> Tensors:
    """Create an average equal to the model: copies of all tensors, running statistics too.

    Half-precision tensors are copied as float32.
    """
    return {name: _copy(tensor) for name, tensor in model.state_dict().items()}


def update(average: Tensors, model: nn.Layer, decay: float) -> None:
    """Move the average towards the model: average = decay * average + (1 - decay) * model.

    Integer tensors are copied.
    """
    with paddle.no_grad():
        for name, tensor in model.state_dict().items():
            before = average[name]
            if "float" in str(before.dtype):
                average[name] = before * decay + tensor.astype(before.dtype) * (1 - decay)
            else:
                average[name] = _copy(tensor)


def arrays_of(average: Tensors) -> dict[str, np.ndarray]:
    """The average as arrays, for a checkpoint."""
    return {name: tensor.numpy() for name, tensor in average.items()}


def restored(model: nn.Layer, arrays: Mapping[str, np.ndarray]) -> Tensors:
    """Make an average from what `arrays_of` returned.

    Raises:
        ValueError: names or shapes are not those of the model.
    """
    expected = {name: list(tensor.shape) for name, tensor in start(model).items()}
    saved = {name: list(np.shape(array)) for name, array in arrays.items()}
    names = sorted(
        name for name in expected.keys() | saved.keys() if expected.get(name) != saved.get(name)
    )
    if names:
        problems = [
            f"{name} is {saved.get(name, 'missing')}, expected {expected.get(name, 'none')}"
            for name in names[:MAX_SHOWN]
        ]
        rest = "; ..." if len(names) > MAX_SHOWN else ""
        raise ValueError(f"the saved average is of another model: {'; '.join(problems)}{rest}")
    return {name: paddle.to_tensor(np.asarray(array)) for name, array in arrays.items()}


@contextmanager
def averaged(model: nn.Layer, average: Tensors) -> Iterator[None]:
    """Give the model the averaged weights inside the block, and its own back after it, exactly."""
    tensors = model.state_dict()
    own = {name: tensor.clone().detach() for name, tensor in tensors.items()}
    try:
        _assign(tensors, average)
        yield
    finally:
        _assign(tensors, own)


def _copy(tensor: paddle.Tensor) -> paddle.Tensor:
    # bfloat16 too. In half precision the small changes of an average would be rounded away.
    is_half = "float16" in str(tensor.dtype)
    return tensor.detach().astype("float32") if is_half else tensor.detach().clone()


def _assign(tensors: Mapping[str, paddle.Tensor], values: Mapping[str, paddle.Tensor]) -> None:
    with paddle.no_grad():
        for name, tensor in tensors.items():
            paddle.assign(values[name].astype(tensor.dtype), tensor)
