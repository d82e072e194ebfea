"""Eager execution of a built model."""

import contextlib
import threading
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import paddle

from paddlevideo import dist, paddle_internals
from paddlevideo.engine import amp
from paddlevideo.models import onednn
from paddlevideo.models.base import Recognizer
from paddlevideo.runtimes.base import (
    Backend,
    Options,
    Precision,
    gpu_name,
    precision_here,
    with_precision,
)
from paddlevideo.sample import Arrays


class EagerBackend(Backend):
    """Runs a built model operation by operation. oneDNN is enabled only during `run`.

    Precision fp16 and bf16 are mixed precision: on a GPU by `auto_cast`; on a CPU, where Paddle has
    no such kernels, convolutions and linear layers get rounded inputs and weights, which gives the
    numbers of bf16 at the speed of fp32.

    All instances take turns, because mixed precision is a state of the process.
    """

    kind = "eager"
    runs_models = True
    turn_of_all: ClassVar = threading.Lock()

    def __init__(self, program: Recognizer, options: Options):
        super().__init__(program, options)
        self._turn = self.turn_of_all
        if options.device != "auto":
            number = options.gpu(dist.num_gpus(), "this build of Paddle")
            paddle.set_device("cpu" if number is None else f"gpu:{number}")
        program.eval()
        self._model = program
        self._onednn = options.onednn is not False
        device = paddle.get_device()
        self.precision = precision_here(options, _precisions(), f"eager on {device}")
        if device.startswith("gpu:"):
            number = int(device.removeprefix("gpu:"))
            device = gpu_name(number, self.precision)
            self.rounds_fp32 = dist.has_tf32(number)
        self.name = with_precision(f"eager on {device}", self.precision)
        self.inputs = dict(program.inputs)
        self.num_outputs = 2 if program.has_frame_logits else 1

    @classmethod
    def has_gpu(cls) -> bool:
        return dist.num_gpus() > 0

    def compute(self, arrays: Arrays) -> np.ndarray:
        return self._compute(self._logits, arrays)

    def compute_frames(self, arrays: Arrays) -> np.ndarray:
        return self._compute(lambda inputs: self._model.with_frame_logits(inputs)[1], arrays)

    def _logits(self, inputs: dict[str, paddle.Tensor]) -> paddle.Tensor:
        return self._model.predictions(self._model(inputs))

    def _compute(self, model: Callable[..., paddle.Tensor], arrays: Arrays) -> np.ndarray:
        threads = paddle_internals.keep_num_threads(self.num_threads)
        with threads, paddle.no_grad(), onednn.use(self._onednn), self._autocast():
            inputs = {name: paddle.to_tensor(arrays[name]) for name in self.inputs}
            return model(inputs).astype("float32").numpy()

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        if not amp.on_gpu():
            return amp.rounded_to_bfloat16(self._model)
        dtype = "float16" if self.precision == "fp16" else "bfloat16"
        return paddle.amp.auto_cast(dtype=dtype)


def _precisions() -> tuple[Precision, ...]:
    """What a built model is computed in on Paddle's current device."""
    if not amp.on_gpu():
        return ("fp32", "bf16")
    fp16: tuple[Precision, ...] = ("fp16",) if amp.has_float16() else ()
    bf16: tuple[Precision, ...] = ("bf16",) if paddle.amp.is_bfloat16_supported() else ()
    return ("fp32", *fp16, *bf16)
