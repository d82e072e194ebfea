"""Which runtimes run on a GPU: as many clips go into a run as suit the device."""

import pytest

from paddlevideo.predict.command import _device as predict_device
from paddlevideo.predict.gpus import gpu_without_paddle, uses_gpu
from paddlevideo.runtimes.choose import RUNTIMES


@pytest.mark.parametrize(
    ("kind", "device", "gpus", "expected"),
    [
        ("auto", "auto", ["onnxruntime"], True),
        ("auto", "auto", ["openvino"], False),
        ("auto", "cpu", ["onnxruntime"], False),
        ("openvino", "auto", ["openvino", "paddle"], False),
        ("openvino", "gpu", ["openvino"], True),
        ("openvino", "gpu", ["paddle"], False),
        ("paddle", "auto", ["paddle"], True),
        ("eager", "auto", ["eager"], True),
        ("onnxruntime", "gpu:1", ["onnxruntime"], True),
    ],
)
def test_a_runtime_uses_its_own_gpu(monkeypatch, kind, device, gpus, expected):
    for name, runtime in RUNTIMES.items():
        monkeypatch.setattr(runtime, "has_gpu", lambda name=name: name in gpus)
        monkeypatch.setattr(runtime, "missing", lambda: "")
    assert uses_gpu(kind, device) == expected


def test_a_runtime_that_is_missing_uses_none(monkeypatch):
    runtime = RUNTIMES["onnxruntime"]
    monkeypatch.setattr(runtime, "has_gpu", lambda: True)
    monkeypatch.setattr(runtime, "missing", lambda: "pip install it")
    assert not uses_gpu("onnxruntime", "gpu") and gpu_without_paddle("onnxruntime") == ""


@pytest.mark.parametrize(
    ("backend", "kinds", "device"),
    [
        ("auto", [], "cpu"),
        ("auto", ["onnxruntime"], "auto"),
        ("auto", ["openvino"], "cpu"),  # an integrated GPU has to be asked for
        ("openvino", ["openvino"], "gpu"),
        ("onnxruntime", ["onnxruntime"], "gpu"),
        ("paddle", ["onnxruntime", "openvino"], "cpu"),
    ],
)
def test_asks_for_the_gpu_of_another_runtime(monkeypatch, caplog, backend, kinds, device):
    for kind, runtime in RUNTIMES.items():
        monkeypatch.setattr(runtime, "has_gpu", lambda kind=kind: kind in kinds)
        monkeypatch.setattr(runtime, "missing", lambda: "")
    assert predict_device(True, backend) == device
    assert ("running on the CPU" in caplog.text) == (device == "cpu")
    assert predict_device(None, backend) == "auto" and predict_device(False, backend) == "cpu"
