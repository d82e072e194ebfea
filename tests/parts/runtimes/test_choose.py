import shutil
from dataclasses import replace
from unittest import mock

import numpy as np
import paddle
import pytest

from paddlevideo.engine.load import trained_model
from paddlevideo.runtimes import choose, paddle_inference
from paddlevideo.runtimes.base import BackendError, Options
from paddlevideo.runtimes.choose import available_backends, find_program, open_backend, require
from paddlevideo.runtimes.manifest import ManifestError

PROGRAMS = [
    ("paddle", ".pdmodel"),
    ("paddle", ".json"),
    ("onnxruntime", ".onnx"),
    ("openvino", ".onnx"),
    ("openvino", ".pdmodel"),
]
FRAMES = {"frames": ((None, 2, 3, 64, 64), "float32")}


def usable(kind: str) -> None:
    missing = available_backends()[kind]
    if missing:
        pytest.skip(f"no backend {kind}: {missing}")


@pytest.fixture(scope="module")
def golden(exported):
    with np.load(exported.folder / "golden.npz") as file:
        return dict(file)


@pytest.mark.parametrize(("kind", "suffix"), PROGRAMS)
def test_every_program_gives_the_models_logits_for_any_batch(exported, golden, kind, suffix):
    usable(kind)
    backend = open_backend(exported.folder / f"tiny{suffix}", kind, device="cpu", threads=1)
    scale = np.abs(golden["logits"]).max()
    assert {name: (spec.shape, spec.dtype) for name, spec in backend.inputs.items()} == FRAMES
    for rows in ([0, 1], [1], [0, 1, 1, 0, 0]):
        found = backend.run({"frames": golden["frames"][rows]})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, golden["logits"][rows], rtol=0, atol=1e-4 * scale)


def test_eager_model_is_a_backend_too(exported, golden):
    model, _ = trained_model(exported.cfg, exported.weights)
    backend = open_backend(model, device="cpu")
    assert backend.name == "eager on cpu" and list(backend.inputs) == ["frames"]
    np.testing.assert_allclose(
        backend.run({"frames": golden["frames"]}), golden["logits"], rtol=0, atol=1e-5
    )


def test_results_stay_when_the_next_run_comes(exported, golden):
    for kind in ("paddle", "onnxruntime", "openvino"):
        if not available_backends()[kind]:
            backend = open_backend(exported.folder, kind)
            first = backend.run({"frames": golden["frames"]})
            before = first.copy()
            backend.run({"frames": golden["frames"] * 2})
            np.testing.assert_array_equal(first, before)


def test_onednn_is_on_and_can_be_switched_off(exported, golden):
    with_it = open_backend(exported.folder, "paddle", device="cpu")
    without = open_backend(exported.folder, "paddle", device="cpu", onednn=False)
    if not paddle.base.core.is_compiled_with_onednn():
        pytest.skip("this build of Paddle has no oneDNN")
    assert (
        with_it.name == "Paddle Inference on cpu with oneDNN"
        and without.name == "Paddle Inference on cpu"
    )
    one, other = (b.run({"frames": golden["frames"]}) for b in (with_it, without))
    assert (one != other).any()  # other kernels round otherwise
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())


def test_half_precision_is_close_but_not_equal(exported, golden):
    backend = open_backend(exported.folder, "paddle", device="cpu", precision="fp16")
    difference = (
        np.abs(backend.run({"frames": golden["frames"]}) - golden["logits"]).max()
        / np.abs(golden["logits"]).max()
    )
    assert 1e-4 < difference < 0.05


def test_unoptimised_program(exported, golden):
    backend = open_backend(exported.folder, "paddle", device="cpu", ir_optim=False)
    np.testing.assert_allclose(
        backend.run({"frames": golden["frames"]}), golden["logits"], rtol=1e-3, atol=1e-4
    )


def test_auto_takes_what_is_there(exported, tmp_path):
    assert open_backend(exported.folder).name.startswith("Paddle Inference")
    assert find_program(exported.folder).model.name == "tiny.pdmodel"
    shutil.copy(exported.folder / "tiny.onnx", tmp_path)
    assert find_program(tmp_path).model == tmp_path / "tiny.onnx"
    usable("onnxruntime")
    assert open_backend(tmp_path).name == "ONNX Runtime on cpu"


def test_program_is_chosen_by_what_the_backend_reads(exported):
    assert find_program(exported.folder, "onnxruntime").model.name == "tiny.onnx"
    assert find_program(exported.folder, "openvino").model.name == "tiny.onnx"
    assert find_program(exported.folder, "tensorrt").model.name == "tiny.pdmodel"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"imgs": np.zeros((1, 2, 3, 64, 64), np.float32)},
            "takes frames as float32 .* was given only imgs",
        ),
        (
            {"frames": np.zeros((1, 3, 3, 64, 64), np.float32)},
            r"\['any', 2, 3, 64, 64\]; it was given float32 \[1, 3, 3, 64, 64\]",
        ),
        ({"frames": np.zeros((1, 2, 3, 64, 64), np.float64)}, "it was given float64"),
        (
            {"frames": np.zeros((2, 3, 64, 64), np.float32)},
            r"it was given float32 \[2, 3, 64, 64\]",
        ),
    ],
)
def test_wrong_arrays_are_refused(exported, arrays, message):
    for kind in ("paddle", "onnxruntime", "openvino"):
        if not available_backends()[kind]:
            with pytest.raises(BackendError, match=message):
                open_backend(exported.folder, kind).run(arrays)


def test_missing_runtime_says_what_to_install_and_what_there_is(monkeypatch):
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda name: None)
    assert available_backends()["openvino"] == "pip install openvino"
    with pytest.raises(
        BackendError,
        match=r"openvino is not available: pip install openvino\. This machine has: paddle.*eager",
    ):
        require("openvino")


def test_missing_tensorrt_says_why(exported):
    if not available_backends()["tensorrt"]:
        pytest.skip("this machine has TensorRT")
    with pytest.raises(
        BackendError,
        match=r"tensorrt is not available: .*paddlepaddle.*\. This machine has: paddle",
    ):
        open_backend(exported.folder, "tensorrt")


def test_tensorrt_is_told_the_range_of_clips(exported):
    """What is asked of Paddle; whether its engine then runs, only a machine with TensorRT can tell."""
    asked = mock.Mock()
    program = find_program(exported.folder, "tensorrt")
    paddle_inference._set_tensorrt(asked, program, Options(max_batch=7), 0)
    assert asked.enable_tensorrt_engine.call_args.kwargs["max_batch_size"] == 7
    least, most = {"frames": [1, 2, 3, 64, 64]}, {"frames": [7, 2, 3, 64, 64]}
    asked.set_trt_dynamic_shape_info.assert_called_once_with(least, most, most)
    with pytest.raises(BackendError, match="TensorRT runs on a GPU, and the CPU was chosen"):
        paddle_inference._set_tensorrt(asked, program, Options(), None)
    with pytest.raises(BackendError, match=r"from a model\.yaml beside the program"):
        paddle_inference._set_tensorrt(asked, replace(program, inputs={}), Options(), 0)


def test_unknown_backend():
    with pytest.raises(BackendError, match="no backend 'tflite'; known: auto, paddle"):
        require("tflite")


def test_options_that_cannot_be():
    with pytest.raises(BackendError, match="int8 needs a program that was quantised"):
        Options(precision="int8")
    with pytest.raises(BackendError, match="device is 'npu', expected auto, cpu, gpu"):
        Options(device="npu")
    with pytest.raises(BackendError, match="can use no GPU here, and device 'gpu' was asked for"):
        Options(device="gpu").gpu(0, "this build")
    assert Options(device="auto").gpu(0, "") is None and Options(device="gpu:1").gpu(2, "") == 1
    assert Options(device="auto").gpu(2, "") == 0 and Options(device="cpu").gpu(2, "") is None


def test_onnxruntime_has_no_half_precision(exported):
    usable("onnxruntime")
    with pytest.raises(BackendError, match="computes in fp32"):
        open_backend(exported.folder, "onnxruntime", precision="fp16")


def test_file_of_another_kind_says_how_to_export(exported, tmp_path):
    with pytest.raises(
        BackendError, match=r"tiny\.pdmodel: onnxruntime reads \.onnx; export with --format onnx"
    ):
        find_program(exported.folder / "tiny.pdmodel", "onnxruntime")
    with pytest.raises(BackendError, match="no program that paddle reads .* found none at all"):
        find_program(tmp_path, "paddle")
    with pytest.raises(BackendError, match=r"none\.onnx: there is no such file"):
        find_program(tmp_path / "none.onnx")
    with pytest.raises(BackendError, match="eager runs a built model"):
        open_backend(exported.folder, "eager")


def test_damaged_and_foreign_files(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    (folder / "tiny.pdiparams").write_bytes((folder / "tiny.pdiparams").read_bytes()[:1000])
    with pytest.raises(ManifestError, match=r"tiny\.pdiparams: damaged, or of another export"):
        open_backend(folder)
    (folder / "model.yaml").unlink()  # without it the runtimes find out themselves
    (folder / "text.pdmodel").write_text("hello", encoding="utf-8")
    shutil.copy(folder / "tiny.pdiparams", folder / "text.pdiparams")
    (folder / "tiny.onnx").write_bytes((folder / "tiny.onnx").read_bytes()[:1000])
    with pytest.raises(BackendError, match=r"text\.pdmodel: not a Paddle program"):
        open_backend(folder / "text.pdmodel")
    for kind, suffix in PROGRAMS:
        if not available_backends()[kind]:
            with pytest.raises(BackendError, match=rf"tiny\{suffix}: {kind} cannot open it: \w*"):
                open_backend(folder / f"tiny{suffix}", kind)
