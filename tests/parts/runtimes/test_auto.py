"""`auto`: the order of runtimes, measured choices, and `precision auto`."""

import importlib.util
import shutil
from dataclasses import replace

import numpy as np
import pytest

from paddlevideo.log import logger
from paddlevideo.runtimes import choose
from paddlevideo.runtimes.auto import MOST_LOSS, by_rank, tries
from paddlevideo.runtimes.base import BackendError
from paddlevideo.runtimes.choose import RUNTIMES, open_backend
from paddlevideo.runtimes.manifest import ManifestError, read_manifest
from paddlevideo.runtimes.measured import Row, write_rows
from paddlevideo.runtimes.paddle_inference import PaddleBackend
from tests.parts.conftest import missing_for, skip_without

ROW = Row("onnxruntime", "tiny.onnx", "", "cpu", "fp32", 1, None, 3, 0.01, 1e-7)


@pytest.fixture
def log(monkeypatch, caplog):
    """`log()`: the lines so far."""
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("INFO")
    return lambda: caplog.text


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export that a test may change."""
    copy = tmp_path / "out"
    shutil.copytree(exported.folder, copy)
    return copy


def measure(folder, *rows):
    """Store rows for the programs of a folder as they are."""
    manifest = read_manifest(folder)
    write_rows(folder, manifest, [replace(r, sha256=manifest.files[r.program]) for r in rows])


def lose(monkeypatch, *kinds):
    for kind in kinds:
        monkeypatch.setattr(RUNTIMES[kind], "missing", lambda: "pip install it")


def break_runtime(monkeypatch, *kinds):
    def fail(self, program, options):
        raise BackendError(f"{program.model.name}: no operator conv9d")

    for kind in kinds:
        monkeypatch.setattr(RUNTIMES[kind], "__init__", fail)


def test_the_order_of_each_device_is_the_documented_one():
    assert by_rank(RUNTIMES, "cpu") == ["openvino", "paddle", "onnxruntime"]
    assert by_rank(RUNTIMES, "gpu") == ["tensorrt", "paddle", "onnxruntime"]


@pytest.mark.parametrize(
    ("gpu", "cpu", "first"), [(0.9, 0.1, "cpu"), (0.1, 0.9, "gpu"), (None, 0.1, "gpu")]
)
def test_the_faster_of_two_measured_devices_comes_first(monkeypatch, gpu, cpu, first):
    """A GPU that was not measured comes before the CPU."""
    monkeypatch.setattr(RUNTIMES["onnxruntime"], "has_gpu", lambda: True)
    seconds = {"gpu": gpu, "cpu": cpu}
    rows = [replace(ROW, device=d, seconds=s) for d, s in seconds.items() if s is not None]
    found = tries(RUNTIMES, ["onnxruntime"], {}, rows)
    assert found[0].options["device"] == first
    assert (found[0].row is None) == (gpu is None)
    assert len(found) == 2 + len(rows)


def test_a_gpu_comes_first_where_a_runtime_has_one(monkeypatch):
    cpu = [(kind, "cpu") for kind in by_rank(RUNTIMES, "cpu")]
    for runtime in RUNTIMES.values():
        monkeypatch.setattr(runtime, "has_gpu", classmethod(lambda cls: cls.kind == "paddle"))

    def planned(**options):
        found = tries(RUNTIMES, list(RUNTIMES), options, [])
        return [(each.kind, each.options["device"]) for each in found]

    assert planned() == [("paddle", "gpu"), *cpu]
    assert planned(device="cpu") == cpu
    # A GPU that was asked for is tried everywhere, so that the error says what is missing.
    assert planned(device="gpu:1") == [
        (kind, "gpu:1") for kind in ("tensorrt", "paddle", "onnxruntime")
    ]


@pytest.mark.parametrize(
    ("options", "row", "first"),
    [
        ({}, {}, "onnxruntime"),
        ({"threads": 1}, {}, "onnxruntime"),
        ({"threads": 2}, {}, "openvino"),
        ({"onednn": False}, {}, "openvino"),
        ({"onednn": False}, {"kind": "paddle", "onednn": False}, "paddle"),
        ({"ir_optim": False}, {}, "openvino"),
        ({}, {"precision": "bf16"}, "openvino"),
        ({"precision": "bf16"}, {"precision": "bf16"}, "openvino"),  # too far from exact
        ({}, {"difference": 2e-4}, "openvino"),
        ({}, {"device": "gpu"}, "openvino"),
        ({}, {"kind": "another"}, "openvino"),
    ],
)
def test_a_measured_row_counts_where_it_fits_the_request(options, row, first):
    difference = {"difference": 3e-3} if row.get("precision") else {}
    given = [replace(ROW, **{**difference, **row})]
    assert tries(RUNTIMES, list(RUNTIMES), {"device": "cpu", **options}, given)[0].kind == first


def test_the_fastest_measured_row_sets_threads_and_clips(folder, log):
    skip_without("onnxruntime")
    slower = replace(ROW, kind="paddle", program="tiny.json", seconds=0.02)
    measure(folder, slower, ROW)
    backend = open_backend(folder, max_batch=2)
    assert (backend.name, backend.clips_per_run) == ("ONNX Runtime on cpu", 3)
    assert "the fastest that was measured on this machine (10 ms a clip)" in log()
    assert open_backend(folder, "paddle").clips_per_run is None
    lonely = open_backend(folder / "tiny.json", "paddle")
    assert lonely.name.startswith("Paddle")


def test_a_measured_row_that_cannot_be_opened_is_no_error(folder, monkeypatch, log):
    measure(folder, replace(ROW, kind="paddle", program="tiny.json"))
    break_runtime(monkeypatch, "openvino")
    real = PaddleBackend.__init__

    def only_legacy(self, program, options):
        if program.model.suffix == ".json":
            raise BackendError("tiny.json: no PIR here")
        real(self, program, options)

    monkeypatch.setattr(PaddleBackend, "__init__", only_legacy)
    assert open_backend(folder).name.startswith("Paddle Inference")
    assert "because tiny.json: no PIR here" in log()


def test_a_runtime_that_cannot_read_the_program_is_passed_over(exported, monkeypatch, log):
    skip_without("openvino")
    assert open_backend(exported.folder).name == "OpenVINO on cpu"
    break_runtime(monkeypatch, "openvino")
    assert open_backend(exported.folder).name.startswith("Paddle Inference on cpu")
    assert "auto: Paddle Inference on cpu" in log() and "no operator conv9d" in log()
    lose(monkeypatch, "openvino", "paddle")
    skip_without("onnxruntime")
    assert open_backend(exported.folder).name == "ONNX Runtime on cpu"


def test_an_error_names_each_runtime_that_failed(exported, monkeypatch):
    lose(monkeypatch, "onnxruntime")
    break_runtime(monkeypatch, "openvino", "paddle")
    with pytest.raises(BackendError, match=r"tiny\.pdmodel: no operator conv9d"):
        open_backend(exported.folder)


def test_a_program_without_a_runtime_names_the_package(exported, monkeypatch):
    skip_without("onnxruntime")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="not available: pip install openvino"):
        open_backend(exported.folder / "tiny.onnx")


def test_a_damaged_program_is_not_passed_over(folder):
    skip_without("openvino")
    with (folder / "tiny.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ManifestError, match=r"tiny\.onnx: damaged"):
        open_backend(folder)


def test_a_gpu_that_is_missing_is_an_error(exported):
    with pytest.raises(BackendError, match="can use no GPU here"):
        open_backend(exported.folder, device="gpu")
    with pytest.raises(BackendError, match="device is 'npu'"):
        open_backend(exported.folder, device="npu")


# --- precision auto -------------------------------------------------------------------------------


class Rough(PaddleBackend):
    """Computes with an error when asked for a lower precision."""

    error = 0.0
    asked, batches = (), ()

    def __init__(self, program, options):
        type(self).asked += (options.precision,)
        type(self).batches += (options.max_batch,)
        self.scale = 1 if options.precision == "fp32" else 1 + self.error
        super().__init__(program, replace(options, precision="fp32"))

    def compute(self, arrays):
        return super().compute(arrays) * np.float32(self.scale)


@pytest.fixture
def rough(monkeypatch):
    """`rough(error)`: Paddle, and no other runtime, with an error in lower precisions."""

    def use(error):
        runtime = type("Rough", (Rough,), {"error": error})
        monkeypatch.setattr(choose, "RUNTIMES", {"paddle": runtime, "eager": RUNTIMES["eager"]})
        return runtime

    return use


def test_a_lower_precision_is_chosen_where_it_is_close(exported, rough, log):
    runtime = rough(0.01)
    backend = open_backend(exported.folder, precision="auto")
    assert backend.scale == pytest.approx(1.01) and runtime.asked == ("bf16",)
    assert "precision auto: bf16 on Paddle Inference" in log()
    assert "differ by 1.0e-02 of the largest" in log()


def test_the_golden_samples_fit_the_batch_of_a_lower_precision(exported, rough):
    """Engines are built for 1 to `max_batch` clips."""
    runtime = rough(0.01)
    open_backend(exported.folder, precision="auto")
    open_backend(exported.folder, precision="auto", max_batch=5)
    assert runtime.batches == (2, 5)


def test_a_precision_that_loses_too_much_is_not_chosen(exported, rough, log):
    rough(MOST_LOSS * 1.5)
    assert open_backend(exported.folder, "paddle", precision="auto").scale == 1
    assert "precision auto: fp32, because in bf16" in log() and "7.5e-02" in log()


def test_auto_alone_never_lowers_the_precision(folder, rough):
    runtime = rough(0.01)
    measure(folder, replace(ROW, kind="paddle", program="tiny.json", precision="bf16"))
    assert open_backend(folder).scale == 1
    assert runtime.asked == ("fp32",)
    backend = open_backend(folder, precision="auto")
    assert backend.scale > 1 and backend.clips_per_run == 3


def test_precision_auto_stays_exact_where_that_was_faster(folder, rough, log):
    rough(0.01)
    paddle = replace(ROW, kind="paddle", program="tiny.json")
    measure(folder, paddle, replace(paddle, precision="bf16", seconds=0.02, difference=1e-3))
    assert open_backend(folder, precision="auto").scale == 1
    assert "precision auto: fp32 on Paddle Inference" in log()


def test_without_golden_inputs_the_precision_stays(exported, tmp_path, rough, log):
    rough(0.01)
    for name in ("tiny.json", "tiny.pdiparams"):
        shutil.copy(exported.folder / name, tmp_path)
    assert open_backend(tmp_path, precision="auto").scale == 1
    assert "there is no golden.npz" in log()


def test_openvino_in_a_lower_precision_stays_close(exported, log):
    if reason := missing_for("openvino"):
        pytest.skip(reason)
    backend = open_backend(exported.folder, "openvino", precision="auto")
    with np.load(exported.folder / "golden.npz") as golden:
        logits = backend.run({"frames": golden["frames"]})
        scale = np.abs(golden["logits"]).max()
        assert np.abs(logits - golden["logits"]).max() <= MOST_LOSS * scale
    assert "precision auto: " in log()
