"""Choosing and opening runtimes; each of them gives the logits of the model."""

import importlib.util
import shutil
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from paddlevideo.commands.predict import BACKENDS
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import missing_for_onnx
from paddlevideo.runtimes.base import BackendError, NotFiniteError, Options
from paddlevideo.runtimes.choose import (
    RUNTIMES,
    available_backends,
    available_readers,
    find_program,
    open_backend,
    readers,
    require,
)
from paddlevideo.runtimes.manifest import ManifestError
from tests.parts.conftest import PROGRAMS, missing_for, skip_without

FRAMES = {"frames": ((None, 2, 3, 64, 64), "float32")}


@pytest.fixture(scope="module")
def golden(exported):
    with np.load(exported.folder / "golden.npz") as file:
        return dict(file)


def test_finds_every_runtime_and_the_command_offers_it():
    assert list(RUNTIMES) == ["paddle", "onnxruntime", "openvino", "eager", "tensorrt"]
    assert set(BACKENDS) == {"auto", *RUNTIMES}
    assert all(runtime.__doc__ for runtime in RUNTIMES.values())


def test_readers_are_in_the_order_of_auto_on_a_cpu(monkeypatch):
    assert readers(".pdmodel") == ["openvino", "paddle"] and readers(".json") == ["paddle"]
    assert readers(".onnx") == ["openvino", "onnxruntime"]
    monkeypatch.setattr(RUNTIMES["onnxruntime"], "missing", lambda: "pip install onnxruntime")
    assert "onnxruntime" not in available_readers(".onnx")


@pytest.mark.parametrize(("kind", "suffix"), PROGRAMS)
def test_every_program_gives_the_logits_of_the_model(exported, golden, kind, suffix):
    skip_without(kind, suffix)
    backend = open_backend(exported.folder / f"tiny{suffix}", kind, device="cpu", threads=1)
    scale = np.abs(golden["logits"]).max()
    assert {name: (spec.shape, spec.dtype) for name, spec in backend.inputs.items()} == FRAMES
    for rows in ([0, 1], [1], [0, 1, 1, 0, 0]):
        logits = backend.run({"frames": golden["frames"][rows]})
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, golden["logits"][rows], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(("kind", "suffix"), PROGRAMS)
def test_logits_that_are_not_finite_are_an_error(exported, golden, kind, suffix):
    skip_without(kind, suffix)
    backend = open_backend(exported.folder / f"tiny{suffix}", kind, device="cpu", threads=1)
    logits = golden["logits"].copy()
    handle = SimpleNamespace(copy_from_cpu=lambda array: None, copy_to_cpu=lambda: logits)
    library = SimpleNamespace(
        run=lambda *_: [logits],
        get_input_handle=lambda name: handle,
        get_output_handle=lambda name: handle,
        get_output_names=lambda: ["logits"],
    )
    broken = {"_predictor": library, "_session": library, "_compiled": lambda arrays: [logits]}
    for name in broken.keys() & vars(backend).keys():
        setattr(backend, name, broken[name])
    assert np.array_equal(backend.run({"frames": golden["frames"]}), logits)
    for value in (np.nan, np.inf):
        logits[1, 0] = value
        with pytest.raises(NotFiniteError, match="returned NaN or infinity: the weights are brok"):
            backend.run({"frames": golden["frames"]})


def test_a_built_model_with_nan_is_an_error(exported, golden):
    model, _ = trained_model(exported.cfg, exported.weights)
    model.head.fc.bias.set_value(np.full(model.num_classes, np.nan, np.float32))
    with pytest.raises(NotFiniteError, match="eager on cpu returned NaN"):
        open_backend(model, device="cpu").run({"frames": golden["frames"]})


def test_runs_a_built_model(exported, golden):
    model, _ = trained_model(exported.cfg, exported.weights)
    backend = open_backend(model, device="cpu")
    assert backend.name == "eager on cpu" and list(backend.inputs) == ["frames"]
    np.testing.assert_allclose(
        backend.run({"frames": golden["frames"]}), golden["logits"], rtol=0, atol=1e-5
    )


def test_keeps_results_when_it_runs_again(exported, golden):
    for kind in ("paddle", "onnxruntime", "openvino"):
        if not missing_for(kind):
            backend = open_backend(exported.folder, kind)
            first = backend.run({"frames": golden["frames"]})
            before = first.copy()
            backend.run({"frames": golden["frames"] * 2})
            np.testing.assert_array_equal(first, before)


def test_onednn_is_on_by_default(exported, golden):
    default = open_backend(exported.folder, "paddle", device="cpu")
    without = open_backend(exported.folder, "paddle", device="cpu", onednn=False)
    if not paddle.base.core.is_compiled_with_onednn():
        pytest.skip("this build of Paddle has no oneDNN")
    assert default.name == "Paddle Inference on cpu with oneDNN"
    assert without.name == "Paddle Inference on cpu"
    one, other = (b.run({"frames": golden["frames"]}) for b in (default, without))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())


def test_runs_a_program_without_optimization(exported, golden):
    backend = open_backend(exported.folder, "paddle", device="cpu", ir_optim=False)
    np.testing.assert_allclose(
        backend.run({"frames": golden["frames"]}), golden["logits"], rtol=1e-3, atol=1e-4
    )


def test_auto_takes_the_program_in_the_folder(exported, tmp_path):
    assert open_backend(exported.folder / "tiny.json").name.startswith("Paddle Inference")
    assert find_program(exported.folder).model.name == "tiny.pdmodel"
    (tmp_path / "tiny.onnx").touch()
    assert find_program(tmp_path).model == tmp_path / "tiny.onnx"
    skip_without("onnxruntime")
    shutil.copy(exported.folder / "tiny.onnx", tmp_path)
    expected = "OpenVINO on cpu" if not missing_for("openvino") else "ONNX Runtime on cpu"
    assert open_backend(tmp_path).name == expected


def test_chooses_the_program_that_the_backend_reads(tmp_path):
    for name in ("tiny.pdmodel", "tiny.pdiparams", "tiny.json", "tiny.onnx"):
        (tmp_path / name).touch()
    assert find_program(tmp_path, "onnxruntime").model.name == "tiny.onnx"
    assert find_program(tmp_path, "openvino").model.name == "tiny.onnx"
    assert find_program(tmp_path, "tensorrt").model.name == "tiny.pdmodel"


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
def test_rejects_arrays_that_do_not_fit(exported, arrays, message):
    for kind in ("paddle", "onnxruntime", "openvino"):
        if not missing_for(kind):
            with pytest.raises(BackendError, match=message):
                open_backend(exported.folder, kind).run(arrays)


def test_a_missing_runtime_names_the_package_and_the_alternatives(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert available_backends()["openvino"] == "pip install openvino"
    with pytest.raises(
        BackendError,
        match=r"openvino is not available: pip install openvino\. This machine has: paddle.*eager",
    ):
        require("openvino")


def test_missing_tensorrt_gives_the_reason(exported):
    if not available_backends()["tensorrt"]:
        pytest.skip("this machine has TensorRT")
    message = r"tensorrt is not available: .*paddlepaddle.*\. This machine has: paddle"
    with pytest.raises(BackendError, match=message):
        open_backend(exported.folder, "tensorrt")


def test_rejects_an_unknown_backend():
    with pytest.raises(BackendError, match="no backend 'tflite'; known: auto, paddle"):
        require("tflite")


def test_rejects_impossible_options():
    with pytest.raises(BackendError, match="precision is 'fp8', expected fp32, fp16, bf16, int8"):
        Options(precision="fp8")  # pyright: ignore[reportArgumentType]
    with pytest.raises(BackendError, match="device is 'npu', expected auto, cpu, gpu"):
        Options(device="npu")
    for device in ("gpu:x", "gpu:-1", "gpu:0,1", "gpu:1 "):
        with pytest.raises(BackendError, match=f"device is '{device}', expected auto, cpu, gpu"):
            Options(device=device)
    with pytest.raises(BackendError, match="can use no GPU here, but device 'gpu' was requested"):
        Options(device="gpu").gpu(0, "this build")
    assert Options(device="auto").gpu(0, "") is None and Options(device="gpu:1").gpu(2, "") == 1
    assert Options(device="auto").gpu(2, "") == 0 and Options(device="cpu").gpu(2, "") is None


def test_rejects_files_that_the_backend_does_not_read(exported, tmp_path):
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


def test_rejects_damaged_files_and_files_of_another_export(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    (folder / "tiny.pdiparams").write_bytes((folder / "tiny.pdiparams").read_bytes()[:1000])
    with pytest.raises(ManifestError, match=r"tiny\.pdiparams: damaged, or from another export"):
        open_backend(folder, "paddle")
    (folder / "model.yaml").unlink()  # without it the runtimes detect the damage
    (folder / "text.pdmodel").write_text("hello", encoding="utf-8")
    shutil.copy(folder / "tiny.pdiparams", folder / "text.pdiparams")
    if not missing_for_onnx():
        (folder / "tiny.onnx").write_bytes((folder / "tiny.onnx").read_bytes()[:1000])
    with pytest.raises(BackendError, match=r"text\.pdmodel: not a Paddle program"):
        open_backend(folder / "text.pdmodel")
    for kind, suffix in PROGRAMS:
        if not missing_for(kind, suffix):
            with pytest.raises(BackendError, match=rf"tiny\{suffix}: {kind} cannot open it: \w*"):
                open_backend(folder / f"tiny{suffix}", kind)
