"""ONNX Runtime with the providers of a GPU: which are asked for, and with which settings.

The sessions are doubles that check the call against the signature of the installed version.
"""

import inspect
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from paddlevideo.runtimes import cuda_driver, onnx_runtime
from paddlevideo.runtimes.base import BackendError, Options
from paddlevideo.runtimes.choose import find_program
from tests.parts.conftest import skip_without


@pytest.fixture
def onnx(monkeypatch, exported, tmp_path):
    """`onnx(available, used)`: ONNX Runtime with these providers; returns the recorded sessions."""
    skip_without("onnxruntime")
    import onnxruntime

    signature = inspect.signature(onnxruntime.InferenceSession)
    port = SimpleNamespace(name="frames", shape=["n", 2, 3, 64, 64], type="tensor(float)")

    def make(available, used=None):
        sessions = []

        def session(*args, **kwargs):
            arguments = signature.bind(*args, **kwargs).arguments
            sessions.append(arguments)
            names = [p if isinstance(p, str) else p[0] for p in arguments["providers"]]
            return SimpleNamespace(
                get_providers=lambda: used or names,
                get_inputs=lambda: [port],
                get_outputs=lambda: [port],
            )

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(available))
        monkeypatch.setattr(onnx_runtime, "cuda_gpus", lambda: ("first", "second"))
        monkeypatch.setattr(
            onnxruntime, "preload_dlls", lambda: sessions.append("libraries"), raising=False
        )
        return sessions

    return make


ALL = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.fixture
def onnx_program(exported, tmp_path):
    skip_without("onnxruntime")
    found = find_program(exported.folder, "onnxruntime")
    copy = tmp_path / found.model.name
    copy.write_bytes(found.model.read_bytes())
    return replace(found, model=copy)


def test_onnxruntime_computes_fp32_with_cuda_and_without_tf32(onnx, onnx_program):
    sessions = onnx(ALL)
    backend = onnx_runtime.OnnxRuntimeBackend(onnx_program, Options(device="gpu:1"))
    assert backend.name == "ONNX Runtime on gpu:1"
    cuda = ("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})
    assert sessions[0] == "libraries" and sessions[1]["providers"] == [cuda, "CPUExecutionProvider"]


def test_onnxruntime_computes_fp16_with_tensorrt(onnx, onnx_program):
    sessions = onnx(ALL)
    options = Options(precision="fp16", max_batch=4)
    backend = onnx_runtime.OnnxRuntimeBackend(onnx_program, options)
    assert backend.name == "ONNX Runtime on gpu:0 with TensorRT fp16"
    (name, settings), (second, _), third = sessions[1]["providers"]
    assert (name, second, third) == ALL
    assert settings["trt_fp16_enable"] is True and settings["device_id"] == 0
    assert settings["trt_profile_min_shapes"] == "frames:1x2x3x64x64"
    assert settings["trt_profile_opt_shapes"] == "frames:4x2x3x64x64"
    assert settings["trt_profile_max_shapes"] == "frames:4x2x3x64x64"
    folder = Path(settings["trt_engine_cache_path"])
    assert settings["trt_engine_cache_enable"] is True and folder.is_dir()
    assert folder.parent == onnx_program.model.parent / "engines"


@pytest.mark.parametrize(
    ("available", "used", "options", "message"),
    [
        (ALL[2:], None, {"precision": "fp16"}, "fp16 needs a GPU and a build with Tensorrt"),
        (ALL[1:], None, {"precision": "fp16"}, "this one has CUDAExecutionProvider, CPUExec"),
        (ALL, None, {"precision": "fp16", "device": "cpu"}, "precision fp16 was requested"),
        (ALL, list(ALL[1:]), {"precision": "fp16"}, "cannot use TensorrtExecutionProvider"),
        (ALL[1:], list(ALL[2:]), {"device": "gpu"}, "cannot use gpu; install the CUDA and cuDNN"),
        (ALL[2:], None, {"device": "gpu"}, "can use no GPU here"),
    ],
)
def test_onnxruntime_never_computes_otherwise(
    onnx, onnx_program, available, used, options, message
):
    onnx(available, used)
    with pytest.raises(BackendError, match=message):
        onnx_runtime.OnnxRuntimeBackend(onnx_program, Options(**options))


def test_onnxruntime_falls_back_to_the_cpu_where_auto_may(onnx, onnx_program):
    onnx(ALL[1:], list(ALL[2:]))
    assert onnx_runtime.OnnxRuntimeBackend(onnx_program, Options()).name == "ONNX Runtime on cpu"


def test_a_build_for_gpus_on_a_machine_without_one(monkeypatch, onnx, onnx_program):
    sessions = onnx(ALL)
    monkeypatch.setattr(onnx_runtime, "cuda_gpus", tuple)
    assert not onnx_runtime.OnnxRuntimeBackend.has_gpu()
    backend = onnx_runtime.OnnxRuntimeBackend(onnx_program, Options())
    assert backend.name == "ONNX Runtime on cpu" and len(sessions) == 1


class Driver:
    """A CUDA driver with two GPUs."""

    def __init__(self, works: bool = True):
        self.works = works

    def cuInit(self, flags):
        return 0 if self.works else 100

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device, number):
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = f"GPU {device.value}".encode()
        return 0


def test_asks_the_driver_for_the_gpus(monkeypatch):
    read = cuda_driver.cuda_gpus.__wrapped__
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda name: Driver())
    assert read() == ("GPU 0", "GPU 1")
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda name: Driver(works=False))
    assert read() == ()

    def none(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", none)
    assert read() == ()
