"""Compare exported programs with the model.

test_nextvlad.py runs this in a separate process, because Paddle selects the program format at its
import.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import paddle
from paddle import inference

from tests.parts.models.nextvlad_models import batch, small, used


def paddle_runner(stem: Path):
    model = next(p for p in (stem.with_suffix(".pdmodel"), stem.with_suffix(".json")) if p.exists())
    config = inference.Config(str(model), str(stem.with_suffix(".pdiparams")))
    config.disable_glog_info()
    predictor = inference.create_predictor(config)

    def run(arrays):
        for name, array in arrays.items():
            predictor.get_input_handle(name).copy_from_cpu(array)
        predictor.run()
        return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()

    return run


def onnx_runner(stem: Path):
    import onnxruntime
    import paddle2onnx

    paddle2onnx.export(f"{stem}.pdmodel", f"{stem}.pdiparams", f"{stem}.onnx", opset_version=13)
    session = onnxruntime.InferenceSession(f"{stem}.onnx", providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(None, arrays)[0]


def main(framework: str, folder: str) -> None:
    for convention in ("paddlecv", "tensorflow") if framework == "VideoTagger" else ("paddlecv",):
        model = used(small(framework, convention=convention))
        model.eval()
        stem = Path(folder) / convention
        specs = {
            n: paddle.static.InputSpec(list(s.shape), s.dtype, n) for n, s in model.inputs.items()
        }
        paddle.jit.save(model, str(stem), input_spec=[specs])
        runners = [paddle_runner(stem)]
        optional = ("onnxruntime", "paddle2onnx")
        onnx = convention == "paddlecv" and stem.with_suffix(".pdmodel").exists()
        if onnx and all(importlib.util.find_spec(name) for name in optional):
            runners.append(onnx_runner(stem))
        for counts, frames in (((5, 12, 1), 12), ((7,), 7), ((1, 0), 30)):
            inputs = batch(counts, frames)
            expected = model(inputs).numpy()
            for run in runners:
                found = run({name: tensor.numpy() for name, tensor in inputs.items()})
                print("difference", np.abs(found - expected).max())


if __name__ == "__main__":
    main(*sys.argv[1:])
