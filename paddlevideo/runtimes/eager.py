"""Eager execution of a built model."""

import threading
from typing import ClassVar, Literal

import numpy as np
import paddle

from paddlevideo import dist, paddle_internals
from paddlevideo.models import onednn
from paddlevideo.models.base import Recognizer
from paddlevideo.runtimes.base import Backend, Options
from paddlevideo.sample import Arrays


class EagerBackend(Backend):
    """Runs a built model operation by operation. oneDNN is enabled only during `run`.

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
        self._num_threads = options.num_threads
        program.eval()
        self._model = program
        self._half = options.precision == "fp16"
        self._onednn = options.onednn is not False
        on_gpu = paddle.get_device().startswith("gpu")
        self._half_dtype: Literal["float16", "bfloat16"] = "float16" if on_gpu else "bfloat16"
        self.name = f"eager on {paddle.get_device()}"
        self.inputs = dict(program.inputs)

    def compute(self, arrays: Arrays) -> np.ndarray:
        autocast = paddle.amp.auto_cast(enable=self._half, dtype=self._half_dtype)
        threads = paddle_internals.keep_num_threads(self._num_threads)
        with threads, paddle.no_grad(), onednn.use(self._onednn), autocast:
            inputs = {name: paddle.to_tensor(arrays[name]) for name in self.inputs}
            logits = self._model.predictions(self._model(inputs))
            return logits.astype("float32").numpy()
