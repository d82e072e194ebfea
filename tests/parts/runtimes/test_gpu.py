"""Runtimes on a double of a GPU build of Paddle."""

import inspect
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from paddlevideo import dist
from paddlevideo.engine.build import build_model
from paddlevideo.report import doctor_probes
from paddlevideo.runtimes import engines, measured, tensorrt
from paddlevideo.runtimes.base import BackendError, Options, Program
from paddlevideo.runtimes.choose import available_backends, find_program, open_backend, require
from paddlevideo.runtimes.measured import this_machine
from tests.gpu_build import GpuBuild, parsed, signature_of


@pytest.fixture
def program(exported, tmp_path) -> Program:
    """A program whose engines go to the test's own folder."""
    found = find_program(exported.folder, "tensorrt")
    for file in filter(None, (found.model, found.params)):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert found.params is not None
    return replace(found, model=tmp_path / found.model.name, params=tmp_path / found.params.name)


# --- the double ---------------------------------------------------------------------------------


def test_the_double_rejects_calls_that_paddle_rejects(monkeypatch):
    GpuBuild(monkeypatch)
    given: Any = paddle
    config = given.inference.Config("a.pdmodel", "a.pdiparams")
    config.enable_use_gpu(100, 0)
    for wrong in (
        lambda: config.enable_use_gpu(),
        lambda: config.enable_use_gpu(100, gpu=0),
        lambda: config.enable_tensorrt_engine(workspace=1),
        lambda: config.set_trt_dynamic_shape_info({}, {}, {}, {}, {}),
        lambda: given.inference.Config("a", "b", "c"),
        lambda: given.amp.GradScaler(enabled=True),
        lambda: given.amp.auto_cast(precision="float16"),
        lambda: given.device.cuda.max_memory_allocated("gpu:0", 1),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        config.enable_gpu(1)


def test_reads_signatures_of_pybind():
    text = "self: A, shapes: dict[str, list[int]] = {}, kind: B = <Kind.X: 0>, last: bool = False"
    assert list(parsed(text).parameters) == ["self", "shapes", "kind", "last"]
    assert parsed(text).parameters["self"].default is inspect.Parameter.empty
    found = signature_of(paddle.inference.Config.enable_use_gpu)
    assert list(found.parameters)[1:] == ["memory_pool_init_size_mb", "device_id", "precision_mode"]


# --- what is available --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, ""),
        ({"library": None}, r"the TensorRT 8\.6\.1 library is not found: install it"),
        ({"library": (0, 0, 0)}, r"the TensorRT 8\.6\.1 library is not found"),
        ({"tensorrt": (0, 0, 0)}, "was built without TensorRT"),
        ({"num_gpus": 0}, "this machine has no GPU"),
        ({"num_gpus": 0, "library": None}, "library is not found"),
    ],
)
def test_a_gpu_build_never_raises_for_lack_of_tensorrt(monkeypatch, given, missing):
    GpuBuild(monkeypatch, **given)
    available = available_backends()
    assert available["paddle"] == ""
    if not missing:
        assert available["tensorrt"] == ""
        return
    with pytest.raises(BackendError, match=f"tensorrt is not available: .*{missing}"):
        require("tensorrt")


def test_the_version_that_it_was_built_with_may_be_unknown(monkeypatch):
    """Some builds raise already when they are asked for it."""
    build = GpuBuild(monkeypatch, library=None)
    build.patch.setattr(
        paddle.inference, "get_trt_compile_version", paddle.inference.get_trt_runtime_version
    )
    assert "the TensorRT library is not found" in available_backends()["tensorrt"]
    probe = doctor_probes.tensorrt_version
    unknown = "(unknown version)"
    assert probe(paddle.inference.get_trt_compile_version, unknown) == unknown
    assert probe(lambda: (8, 6, 1), unknown) == "8.6.1" and probe(lambda: (0, 0, 0), "x") is None


@pytest.mark.parametrize("error", [OSError, RuntimeError, ValueError])
def test_a_driver_that_does_not_start_is_no_gpu(monkeypatch, error):
    build = GpuBuild(monkeypatch)

    def fail():
        raise error("C++ Traceback\n(External) CUDA error(803), driver mismatch")

    build.patch.setattr(paddle.device.cuda, "device_count", fail)
    number, lack = dist.count_gpus()
    assert number == 0 and lack.endswith("CUDA error(803), driver mismatch")
    device, note = dist.choose_device(None)
    assert device == "cpu" and "CUDA does not start" in note
    assert dist.choose_device(False) == ("cpu", "")
    assert "CUDA does not start" in available_backends()["tensorrt"]
    assert this_machine()["gpu"] is None
    facts, reason = doctor_probes.probe_gpus(paddle)
    assert facts == [] and reason == "(External) CUDA error(803), driver mismatch"


def test_what_was_measured_belongs_to_a_gpu_and_a_version_of_tensorrt(monkeypatch):
    without = this_machine()
    GpuBuild(monkeypatch, library=(10, 3, 0))
    monkeypatch.setattr(measured, "cuda_gpus", lambda: ("Double",))
    assert this_machine() == {
        **without, "gpu": "Double", "versions": {**without["versions"], "tensorrt": "10.3.0"},
    }  # fmt: skip


def test_each_rank_has_the_gpu_that_the_launcher_gave_it(monkeypatch):
    assert Options().gpu(4, "it") == 0 and Options(device="gpu:1").gpu(4, "it") == 1
    monkeypatch.setenv("FLAGS_selected_gpus", "3")
    assert Options().gpu(4, "it") == Options(device="gpu").gpu(4, "it") == 3
    assert Options(device="gpu:1").gpu(4, "it") == 1
    assert Options(device="cpu").gpu(4, "it") is None and Options().gpu(0, "it") is None
    with pytest.raises(BackendError, match="it can use 2 GPU here"):
        Options().gpu(2, "it")


def test_a_cpu_rank_of_a_gpu_build_does_not_take_nccl(monkeypatch):
    build = GpuBuild(monkeypatch)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    seen = []
    monkeypatch.setattr(dist.paddle_dist, "is_initialized", lambda: False)
    monkeypatch.setattr(
        dist.paddle_dist,
        "init_parallel_env",
        lambda: seen.append(dist.os.environ.get(dist.BACKEND)),
    )
    for device, expected in (("cpu", "gloo"), ("gpu:0", None)):
        build.device = device
        dist.init_ranks()
        assert seen.pop() == expected and dist.BACKEND not in dist.os.environ


def test_peak_memory_is_that_of_the_gpu(monkeypatch):
    build = GpuBuild(monkeypatch)
    assert dist.memory_mb() == {}
    paddle.set_device("gpu:0")
    assert dist.memory_mb() == {"gpu_memory_mb": 300, "gpu_reserved_mb": 500}
    assert build.calls("max_memory_allocated") == [{"device": "gpu:0"}]


# --- Paddle -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "precision", "number", "half"),
    [("auto", "fp32", 0, False), ("gpu:1", "fp16", 1, True), ("gpu", "fp32", 0, False)],
)
def test_paddle_inference_on_a_gpu(monkeypatch, exported, device, precision, number, half):
    build = GpuBuild(monkeypatch, num_gpus=2)
    backend = open_backend(
        exported.folder, "paddle", device=device, precision=precision, gpu_mem=500
    )
    named = f"Paddle Inference on gpu:{number}"
    assert backend.name == f"{named}, {'fp16' if half else 'fp32 rounded to TF32'}"
    (call,) = build.calls("enable_use_gpu")
    kinds = paddle.inference.PrecisionType
    assert call["memory_pool_init_size_mb"] == 500 and call["device_id"] == number
    assert call["precision_mode"] == (kinds.Half if half else kinds.Float32)
    frames = np.zeros((1, 2, 3, 64, 64), np.float32)
    assert backend.run({"frames": frames}).shape == (1, 3)
    assert build.calls("copy_from_cpu")[0]["array"].shape == frames.shape


@pytest.mark.parametrize(("device", "num_gpus"), [("gpu:2", 2), ("gpu", 0)])
def test_a_gpu_that_is_not_there_is_an_error(monkeypatch, exported, device, num_gpus):
    GpuBuild(monkeypatch, num_gpus=num_gpus)
    for kind in ("paddle", "eager"):
        model = exported.folder
        if kind == "eager":
            model = build_model(exported.cfg, 3)
        with pytest.raises(BackendError, match=f"but device '{device}' was requested"):
            open_backend(model, kind, device=device)


def test_eager_on_a_gpu_selects_it_and_uses_float16(monkeypatch, exported):
    build = GpuBuild(monkeypatch)
    backend = open_backend(build_model(exported.cfg, 3), device="gpu:0", precision="fp16")
    assert backend.name == "eager on gpu:0, fp16"
    backend.run({"frames": np.zeros((1, 2, 3, 64, 64), np.float32)})
    assert build.calls("auto_cast") == [{"dtype": "float16"}]


def test_fp32_without_tf32_has_no_note(monkeypatch, exported):
    build = GpuBuild(monkeypatch)
    model = build_model(exported.cfg, 3)
    name = "eager on gpu:0"
    assert open_backend(model, device="gpu:0").name == f"{name}, fp32 rounded to TF32"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert open_backend(model, device="gpu:0").name == name
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    build.capability = (7, 5)  # before Ampere
    assert open_backend(model, device="gpu:0").name == name


# --- TensorRT -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "kind"), [("fp32", "Float32"), ("fp16", "Half")])
def test_tensorrt_engines_of_a_pdmodel(monkeypatch, program, precision, kind):
    build = GpuBuild(monkeypatch)
    options = Options(max_batch=7, precision=precision)
    backend = tensorrt.TensorRTBackend(program, options)
    assert backend.name.startswith("Paddle Inference + TensorRT on gpu:0")
    assert backend.precision == precision
    (engine,) = build.calls("enable_tensorrt_engine")
    assert engine["max_batch_size"] == 7 and engine["use_static"] is True
    assert engine["precision_mode"] == getattr(paddle.inference.PrecisionType, kind)
    (shapes,) = build.calls("set_trt_dynamic_shape_info")
    least, most = {"frames": [1, 2, 3, 64, 64]}, {"frames": [7, 2, 3, 64, 64]}
    assert shapes["min_input_shape"] == least
    assert shapes["max_input_shape"] == shapes["optim_input_shape"] == most
    # The shapes inside the program come from a run on the smallest and one on the largest batch.
    arrays = [call["array"].shape for call in build.calls("copy_from_cpu")]
    assert arrays == [(1, 2, 3, 64, 64), (7, 2, 3, 64, 64)]
    (tuned,) = build.calls("enable_tuned_tensorrt_dynamic_shape")
    (cache,) = build.calls("set_optim_cache_dir")
    assert Path(tuned["shape_range_info_path"]).parent == Path(cache["arg0"])
    assert Path(cache["arg0"]).parent == program.model.parent / "engines"
    tensorrt.TensorRTBackend(program, options)
    assert len(build.calls("collect_shape_range_info")) == 1, "the file of shapes is kept"


def test_collects_the_shapes_of_a_real_program(exported, tmp_path):
    """Paddle's CPU build collects shapes, too."""
    program = find_program(exported.folder, "tensorrt")
    file = tmp_path / "shapes.pbtxt"
    tensorrt.collect_shapes(program, Options(max_batch=3, threads=1), None, file)
    text = file.read_text()
    # Each frame of a clip is an image of the network: 1 and 3 clips are 2 and 6 images.
    sizes = {word: re.findall(rf"{word}_shape: (\d+)", text) for word in ("min", "max", "opt")}
    ranges = set(zip(*sizes.values(), strict=True))
    assert ("2", "6", "6") in ranges, text
    assert all(usual == most for _, most, usual in ranges), "engines suit the most clips"


def test_shapes_that_cannot_be_collected_leave_nothing(monkeypatch, program):
    build = GpuBuild(monkeypatch)

    def fail(config):
        (call,) = build.calls("collect_shape_range_info")
        Path(call["arg0"]).write_text("a part", encoding="utf-8")
        raise RuntimeError("(Fatal) out of memory")

    build.patch.setattr(tensorrt.inference, "create_predictor", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        tensorrt.TensorRTBackend(program, Options())
    assert not [p for p in (program.model.parent / "engines").rglob("*") if p.is_file()]


def test_tensorrt_converts_a_json_program_once(monkeypatch, program, exported):
    build = GpuBuild(monkeypatch)
    build.add_convert()
    model = program.model.with_suffix(".json")
    model.write_bytes((exported.folder / model.name).read_bytes())
    json = replace(program, model=model)
    options = Options(max_batch=2, precision="fp16", device="gpu")
    backend = tensorrt.TensorRTBackend(json, options)
    (given,) = build.calls("Input")
    assert given["min_input_shape"] == (1, 2, 3, 64, 64) and given["name"] == "frames"
    assert given["max_input_shape"] == given["optim_input_shape"] == (2, 2, 3, 64, 64)
    (settings,) = build.calls("TensorRTConfig")
    assert settings["precision_mode"] == "FP16"
    (convert,) = build.calls("convert")
    assert convert["model_path"] == str(model.with_suffix(""))
    opened = [Path(c["files"][0]) for c in build.calls("Config") if c["files"]]
    assert opened[0].name == "converted.json" and opened[0].with_suffix(".pdiparams").exists()
    assert not build.calls("enable_tensorrt_engine"), "the program contains the engines"
    assert backend.name.endswith("on gpu:0, fp16") and build.device == "cpu", (
        "the device is as before"
    )
    tensorrt.TensorRTBackend(json, options)
    assert len(build.calls("convert")) == 1
    tensorrt.TensorRTBackend(json, replace(options, precision="fp32"))
    assert len(build.calls("convert")) == 2, "another precision needs other engines"
    assert not list(program.model.parent.rglob("*work*"))


def test_a_build_without_paddle_tensorrt_needs_a_pdmodel(monkeypatch, program, exported):
    GpuBuild(monkeypatch)
    model = replace(program, model=exported.folder / "tiny.json")
    with pytest.raises(
        BackendError, match=r"has no paddle\.tensorrt.*export with --format pdmodel"
    ):
        tensorrt.TensorRTBackend(model, Options())


def test_a_failed_conversion_leaves_nothing(monkeypatch, program, exported):
    build = GpuBuild(monkeypatch)
    build.add_convert()
    model = program.model.with_suffix(".json")
    model.write_bytes((exported.folder / model.name).read_bytes())

    def fail(*_):
        raise RuntimeError("(Fatal) out of memory")

    json = replace(program, model=model)
    build.patch.setattr(sys.modules["paddle.tensorrt.export"], "convert", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        tensorrt.TensorRTBackend(json, Options())
    # Paddle's module imports that of TensorRT.
    build.patch.delitem(sys.modules, "paddle.tensorrt.export")
    with pytest.raises(BackendError, match="No module named .*; pip install tensorrt"):
        tensorrt.TensorRTBackend(json, Options())
    assert not [p for p in (model.parent / "engines").rglob("*") if p.is_file()]
    assert build.device == "cpu"


def test_engines_depend_on_all_that_they_fit(monkeypatch, program):
    GpuBuild(monkeypatch)
    settings = {"precision": "fp16", "shapes": {"frames": [1, 2]}}
    first = engines.engine_folder(program, "tensorrt", settings)
    assert first == engines.engine_folder(program, "tensorrt", settings)
    others = [
        engines.engine_folder(program, "tensorrt", {**settings, "precision": "fp32"}),
        engines.engine_folder(program, "tensorrt", {**settings, "shapes": {"frames": [1, 3]}}),
        engines.engine_folder(program, "onnxruntime", settings),
    ]
    assert program.params is not None
    program.params.write_bytes(b"other weights")
    others.append(engines.engine_folder(program, "tensorrt", settings))
    assert len({first, *others}) == 5


def test_a_program_with_a_fixed_batch_has_one_shape(program):
    (name, spec), *_ = program.inputs.items()
    fixed = replace(program, inputs={name: replace(spec, shape=(4, *spec.shape[1:]))})
    (shapes,) = engines.shape_ranges(fixed, 7).values()
    assert shapes.least == shapes.usual == shapes.most == [4, 2, 3, 64, 64]


def test_engines_with_and_without_tf32_are_others(monkeypatch, program):
    build = GpuBuild(monkeypatch)
    for value in ("1", "0"):
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
        tensorrt.TensorRTBackend(program, Options())
    first, second = build.calls("set_optim_cache_dir")
    assert first["arg0"] != second["arg0"]


def test_a_folder_that_cannot_be_written_keeps_no_engines(monkeypatch, program):
    build = GpuBuild(monkeypatch)
    (program.model.parent / "engines").write_text("a file")
    tensorrt.TensorRTBackend(program, Options())
    assert build.calls("enable_tensorrt_engine")[0]["use_static"] is False
    assert not build.calls("set_optim_cache_dir")


def test_tensorrt_refuses_what_it_cannot_do(monkeypatch, program):
    GpuBuild(monkeypatch)
    with pytest.raises(BackendError, match="TensorRT runs on a GPU, but the CPU was chosen"):
        tensorrt.TensorRTBackend(program, Options(device="cpu"))
    with pytest.raises(BackendError, match=r"from a model\.yaml next to the program"):
        tensorrt.TensorRTBackend(replace(program, inputs={}), Options())
    strange = SimpleNamespace(precision="bf16")
    with pytest.raises(BackendError, match="in fp32, fp16, int8, not in bf16"):
        tensorrt.required_gpu(strange, 0)  # pyright: ignore[reportArgumentType]
