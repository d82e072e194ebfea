"""Mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU; no-ops when off.

Paddle 3.3 has no bfloat16 kernels for a CPU, and its `auto_cast` does nothing there. bfloat16
hardware multiplies bfloat16 numbers and accumulates in float32, so rounding the inputs and weights
of convolutions and linear layers to bfloat16 gives the same numbers at float32 speed: useful to try
a recipe, not to go faster.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal

import paddle
from paddle import nn

from paddlevideo import paddle_internals
from paddlevideo.config.schema import Config, ConfigError

INITIAL_SCALE = 2.0**16  # of the loss
_MULTIPLIES = (nn.Conv1D, nn.Conv2D, nn.Conv3D, nn.Linear)


def on_gpu() -> bool:
    return paddle.get_device().startswith("gpu")


def dtype() -> Literal["float16", "bfloat16"]:
    return "float16" if on_gpu() else "bfloat16"


def has_float16() -> bool:
    """Whether Paddle computes in float16 on its GPU; on an older one it would stay with float32."""
    return bool(paddle.amp.is_float16_supported())


def prepare(cfg: Config, model: nn.Layer, optimizer):
    """(model, optimizer, gradient scaler) for the precision of the config.

    With `amp_level: O2` on a GPU the weights become float16 with float32 copies.

    Raises:
        ConfigError: the GPU has no float16.
    """
    if cfg.amp and on_gpu() and not has_float16():
        raise ConfigError([
            f"{cfg.origin.path}: amp needs a GPU of compute capability 7.0 or higher; train "
            "without it"
        ])  # fmt: skip
    scaler = paddle_internals.GradScaler(cfg.amp and on_gpu(), INITIAL_SCALE)
    if cfg.amp and cfg.amp_level == "O2" and on_gpu():
        model, optimizer = paddle.amp.decorate(model, optimizer, level="O2", dtype=dtype())
    return model, optimizer, scaler


def num_skipped(scaler: paddle.amp.GradScaler) -> int:
    """How many of the last steps were skipped one after the other, as their gradients overflow."""
    return scaler.skipped if isinstance(scaler, paddle_internals.GradScaler) else 0


@contextlib.contextmanager
def autocast(cfg: Config, model: nn.Layer) -> Iterator[None]:
    """Inside, the model runs in mixed precision where the config says so."""
    if not cfg.amp:
        yield
    elif on_gpu():
        with paddle.amp.auto_cast(level=cfg.amp_level, dtype=dtype()):
            yield
    else:
        with rounded_to_bfloat16(model):
            yield


@contextlib.contextmanager
def rounded_to_bfloat16(model: nn.Layer) -> Iterator[None]:
    """Inside, convolutions and linear layers get inputs and weights rounded to bfloat16."""

    def enter(layer, inputs):
        # The gradient reaches the float32 weight through the cast.
        paddle_internals.replace_weight(layer, _rounded(weights[id(layer)]))
        return tuple(_rounded(x) for x in inputs)

    layers = [layer for layer in model.sublayers() if isinstance(layer, _MULTIPLIES)]
    weights = {id(layer): layer.weight for layer in layers}
    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            paddle_internals.replace_weight(layer, weights[id(layer)])


def _rounded(x: paddle.Tensor) -> paddle.Tensor:
    return x.astype("bfloat16").astype("float32")
