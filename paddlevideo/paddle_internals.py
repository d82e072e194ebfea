"""The Paddle internals that this package uses, each as one small function.

Paddle offers no public way to do these things, so a new Paddle release may rename them or change
what they mean. `tests/parts/test_paddle_internals.py` checks every one against the installed
Paddle; where a check fails, this file is the one to fix.

Subclasses of Paddle layers read attributes of their own base class directly: the convolutions and
`SubBatchNorm3D` in models/layers.py, `UnbiasedNorm` in models/vlad.py. `BASE_CLASS_ATTRIBUTES`
lists those attributes, and the same test checks them.
"""

import contextlib
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeGuard, cast

import paddle
from paddle import nn

AnyBatchNorm = nn.BatchNorm | nn.BatchNorm1D | nn.BatchNorm2D | nn.BatchNorm3D | nn.SyncBatchNorm
BATCH_NORMS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm)

# Paddle's class -> private attributes that subclasses in models/ read.
BASE_CLASS_ATTRIBUTES: dict[type[nn.Layer], tuple[str, ...]] = {
    nn.Conv2D: ("_stride", "_padding", "_groups"),
    nn.Conv3D: ("_stride", "_padding"),
    nn.BatchNorm1D: ("_mean", "_variance", "_momentum", "_epsilon", "_num_features"),
    nn.BatchNorm3D: (
        "_mean", "_variance", "_momentum", "_epsilon", "_num_features", "_use_global_stats",
    ),
}  # fmt: skip


# --- process ----------------------------------------------------------------------------------


_num_threads: ContextVar[int | None] = ContextVar("num_threads", default=None)


def set_num_threads(number: int) -> None:
    """Set the number of compute threads that Paddle uses in this process."""
    paddle.base.core.set_num_threads(number)
    _num_threads.set(number)


@contextlib.contextmanager
def keep_num_threads(number: int | None = None) -> Iterator[None]:
    """Compute with `number` threads in a block; afterwards the last `set_num_threads` holds again.

    Args:
        number: None where the code in the block sets its own number. A run of Paddle Inference does
            so, and leaves one thread.
    """
    before = _num_threads.get()
    if number is not None:
        set_num_threads(number)
    try:
        yield
    finally:
        if before is not None:
            set_num_threads(before)


@contextlib.contextmanager
def translated_code_in(folder: str | Path) -> Iterator[None]:
    """Let Paddle write the code that it translates for static programs into `folder`.

    It would write below ~/.cache, which fails where the home folder is read-only.
    """
    module: Any = importlib.import_module("paddle.jit.dy2static.utils")
    before = module.get_temp_dir
    module.get_temp_dir = lambda: str(folder)
    try:
        yield
    finally:
        module.get_temp_dir = before


@contextlib.contextmanager
def stacks_without_source() -> Iterator[None]:
    """Let Paddle read no source files for a warning about operators of `.pdmodel` programs.

    For a file name and a line number it reads the source of every caller, which is a quarter of the
    time that such a program takes. Use it where only one thread runs.
    """
    module: Any = importlib.import_module("paddle.base.layers.math_op_patch")
    before = module.inspect
    module.inspect = SimpleNamespace(stack=partial(before.stack, 0))
    try:
        yield
    finally:
        module.inspect = before


# --- optimizers -------------------------------------------------------------------------------


def trainable_parameters(optimizer: paddle.optimizer.Optimizer) -> list[paddle.Tensor]:
    """The parameters that the optimizer updates, without the frozen ones.

    The optimizer must be built from plain parameters, not from parameter groups.
    """
    parameters = cast(list[paddle.Tensor], optimizer._parameter_list)
    return [p for p in parameters if not p.stop_gradient]


def create_accumulators(
    optimizer: paddle.optimizer.Optimizer, parameters: Iterable[paddle.Tensor]
) -> None:
    """Create the optimizer's state for these parameters; state that exists is left unchanged.

    Paddle itself creates the state only in the first step.
    """
    block = paddle.static.default_main_program().global_block()
    optimizer._create_accumulators(block, parameters)


def accumulators(
    optimizer: paddle.optimizer.Optimizer,
) -> Mapping[str, Mapping[str, paddle.Tensor]]:
    """The live state of the optimizer: slot -> parameter name -> tensor.

    Slots are "velocity", "moment1" and so on; the names of parameters are Paddle's automatic ones.
    A half-precision parameter with a float32 copy is listed under the name of the copy.
    """
    return optimizer._accumulators


def master_weights(optimizer: paddle.optimizer.Optimizer) -> Mapping[str, paddle.Tensor]:
    """The float32 copies of half-precision parameters, by the parameter's automatic name."""
    return cast(Mapping[str, paddle.Tensor], optimizer._master_weights)


class GradScaler(paddle.amp.GradScaler):
    """Paddle's gradient scaler, without its message of a smaller scale.

    With NumPy 2.4 the message is an error, which would end a training on a GPU at the first step
    whose gradients overflow.

    Attributes:
        skipped: how many of the last steps were skipped, one after the other.
    """

    skipped = 0

    def _update(self) -> None:
        if not self._enable:
            return
        self.skipped = self.skipped + 1 if self._cache_found_inf else 0
        if not self.skipped or self._decr_count + 1 < self._decr_every_n_nan_or_inf:
            super()._update()
            return
        self._incr_count = self._decr_count = 0
        self._scale = self._scale * self._decr_ratio


def squared_norm(tensors: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """The sum of the squares of all elements, one number on the device.

    Public operations take five times as long.
    """
    norm = paddle._C_ops.squared_l2_norm  # pyright: ignore[reportAttributeAccessIssue]
    return paddle.add_n([norm(tensor) for tensor in tensors])


# --- batch norm -------------------------------------------------------------------------------


def is_batch_norm(layer: nn.Layer) -> TypeGuard[AnyBatchNorm]:
    """Whether the layer keeps a running mean and variance."""
    return isinstance(layer, BATCH_NORMS)


def running_statistics(layer: AnyBatchNorm) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The live running mean and variance, each float32 [C]."""
    return layer._mean, layer._variance


def momentum(layer: AnyBatchNorm) -> float:
    """The share of the running statistics that a training step keeps."""
    return layer._momentum


def set_momentum(layer: AnyBatchNorm, value: float) -> None:
    """Set that share; with 0 a forward pass leaves exactly the statistics of its own batch."""
    layer._momentum = value


def statistics_are_frozen(layer: AnyBatchNorm) -> bool:
    """Whether the layer normalizes with its running statistics in training too."""
    return bool(layer._use_global_stats)


def freeze_statistics(layer: AnyBatchNorm) -> None:
    """Normalize with the running statistics in training too, and leave them unchanged."""
    layer._use_global_stats = True


# --- layers -----------------------------------------------------------------------------------


def replace_weight(layer: nn.Layer, weight: paddle.Tensor) -> None:
    """Let the layer compute with `weight`, which may be the result of an operation.

    Plain assignment accepts only a `Parameter`. Gradients flow through `weight` to its source.
    """
    layer._parameters["weight"] = weight


def has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor, within the limit that is set for it.

    Without such instructions Paddle computes in float32; below the limit it fails.
    """
    return limit_has_bfloat16() and paddle.base.core.supports_bfloat16_fast_performance()


def limit_has_bfloat16() -> bool:
    """Whether the limit that is set for oneDNN, in Paddle and in OpenVINO, includes bfloat16."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return any(word in limit for word in ("ALL", "DEFAULT", "BF16", "FP16", "AMX"))
