"""Eager: a built model, run operation by operation."""

import numpy as np
import paddle

from paddlevideo import paddle_internals
from paddlevideo.models import onednn
from paddlevideo.models.base import Recognizer
from paddlevideo.runtimes.base import Options, check_inputs, paddle_gpus
from paddlevideo.sample import Arrays


class EagerBackend:
    """The model itself, run operation by operation; oneDNN is on in `run` alone."""

    def __init__(self, model: Recognizer, options: Options):
        if options.device != "auto":  # a built model is where it was made
            number = options.gpu(paddle_gpus(), "this build of Paddle")
            paddle.set_device("cpu" if number is None else f"gpu:{number}")
        paddle_internals.set_num_threads(options.num_threads)
        model.eval()
        self._model = model
        self._half = options.precision == "fp16"
        self._onednn = options.onednn is not False
        self._half_dtype = "float16" if paddle.get_device().startswith("gpu") else "bfloat16"
        self.name = f"eager on {paddle.get_device()}"
        self.inputs = dict(model.inputs)

    def run(self, arrays: Arrays) -> np.ndarray:
        check_inputs(arrays, self.inputs)
        autocast = paddle.amp.auto_cast(enable=self._half, dtype=self._half_dtype)
        with paddle.no_grad(), onednn.use(self._onednn), autocast:
            inputs = {name: paddle.to_tensor(arrays[name]) for name in self.inputs}
            logits = self._model.predictions(self._model(inputs))
            return logits.astype("float32").numpy()
