"""`export --verify`: programs are run in every runtime of the machine before they are published."""

import re
import shutil
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import yaml

from paddlevideo.exporting import export as exporting
from paddlevideo.exporting import golden as golden_module
from paddlevideo.exporting.export import export
from paddlevideo.exporting.golden import golden_inputs, verify
from paddlevideo.exporting.program import ExportError
from paddlevideo.log import logger
from paddlevideo.runtimes.base import Backend, BackendError, Options
from paddlevideo.runtimes.choose import RUNTIMES
from paddlevideo.runtimes.manifest import read_manifest
from tests.gpu_build import GpuBuild
from tests.parts.conftest import missing_for

CPU_RUNTIMES = ("openvino", "paddle", "onnxruntime")


@pytest.fixture
def log(monkeypatch, caplog):
    """`log()`: the lines so far."""
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("INFO")
    return lambda: caplog.text


@pytest.fixture(scope="module")
def golden(exported):
    with np.load(exported.folder / "golden.npz") as file:
        return {"frames": file["frames"]}, file["logits"]


@pytest.fixture
def check(exported, golden):
    """`check(suffix)`: the differences of the exported program with that suffix."""

    def run(suffix, expected=golden[1], any_batch=True):
        file, manifest = exported.folder / f"tiny{suffix}", read_manifest(exported.folder)
        inputs = dict(manifest.inputs)
        if not any_batch:
            shape = (len(expected), *inputs["frames"].shape[1:])
            inputs["frames"] = replace(inputs["frames"], shape=shape)
        return verify([file], inputs, golden[0], expected, "logits")[file.name]

    return run


def change_runs(monkeypatch, kind, change):
    real = RUNTIMES[kind].compute
    monkeypatch.setattr(RUNTIMES[kind], "compute", lambda self, a: change(real(self, a), a))


def test_every_runtime_that_reads_a_program_is_in_model_yaml(exported):
    content = yaml.safe_load((exported.folder / "model.yaml").read_text(encoding="utf-8"))
    for suffix in (".pdmodel", ".json", ".onnx"):
        kinds = {
            kind
            for kind in CPU_RUNTIMES
            if suffix in RUNTIMES[kind].suffixes and not missing_for(kind, suffix)
        }
        if kinds:
            assert content["differences"][f"tiny{suffix}"].keys() == kinds


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("paddle", ".json"), ("paddle", ".pdmodel"), ("onnxruntime", ".onnx"), ("openvino", ".onnx")],
)
def test_a_difference_of_any_runtime_is_an_error(check, monkeypatch, log, kind, suffix):
    if reason := missing_for(kind, suffix):
        pytest.skip(reason)
    change_runs(monkeypatch, kind, lambda logits, _: logits + 3e-4 * np.abs(logits).max())
    message = rf"tiny\{suffix}: logits differ by \de-04 .*\({kind}\).*nothing was exported"
    with pytest.raises(ExportError, match=message.replace(r"\de", r"\d\.\de")) as raised:
        check(suffix)
    assert "--verify=False" in str(raised.value)
    assert f"{kind} 3." in log()  # the table comes first, with all rows


def test_a_difference_with_a_batch_of_one_is_an_error(check, monkeypatch):
    change_runs(monkeypatch, "paddle", lambda logits, a: logits * (1 + (len(a["frames"]) == 1)))
    with pytest.raises(ExportError, match=r"logits differ by \d"):
        check(".json")
    assert check(".json", any_batch=False)["paddle"] < 1e-4


@pytest.mark.parametrize(("kind", "suffix"), [("paddle", ".json"), ("openvino", ".onnx")])
def test_values_that_are_not_finite_are_an_error(check, monkeypatch, kind, suffix):
    if reason := missing_for(kind, suffix):
        pytest.skip(reason)
    change_runs(monkeypatch, kind, lambda logits, _: logits * np.nan)
    with pytest.raises(ExportError, match=rf"tiny\{suffix}: logits are NaN or infinite \({kind}\)"):
        check(suffix)


def test_another_shape_is_an_error(check):
    with pytest.raises(ExportError, match="logits differ by inf"):
        check(".json", np.zeros((2, 9), np.float32))


def fail_to_open(self, program, options):
    raise BackendError(f"{program.model}: no operator conv9d")


def test_a_runtime_may_lack_operators_if_another_has_run_the_program(check, monkeypatch, log):
    if reason := missing_for("openvino", ".pdmodel"):
        pytest.skip(reason)
    monkeypatch.setattr(RUNTIMES["openvino"], "__init__", fail_to_open)
    row = check(".pdmodel")
    assert row["openvino"] == "tiny.pdmodel: no operator conv9d" and row["paddle"] < 1e-4
    assert "openvino cannot read it" in log()
    monkeypatch.setattr(RUNTIMES["paddle"], "missing", lambda: "gone")
    with pytest.raises(ExportError, match=r"tiny\.pdmodel: no runtime of this machine can run it"):
        check(".pdmodel")


def test_a_program_that_its_own_runtime_cannot_open_is_an_error(check, monkeypatch):
    monkeypatch.setattr(RUNTIMES["paddle"], "__init__", fail_to_open)
    with pytest.raises(ExportError, match=r"no operator conv9d; .*nothing was exported"):
        check(".pdmodel")


def test_a_runtime_that_cannot_open_a_program_on_a_gpu_is_a_warning(check, monkeypatch, log):
    monkeypatch.setattr(RUNTIMES["paddle"], "has_gpu", classmethod(lambda cls: True))
    row = check(".json")  # there is no GPU, so it cannot be opened
    assert row.keys() == {"paddle", "paddle gpu"}
    assert "can use no GPU here" in row["paddle gpu"] and "can use no GPU here" in log()


@pytest.mark.parametrize("rounds", [True, False])
def test_a_difference_on_a_gpu_is_an_error_unless_it_rounds(check, monkeypatch, log, rounds):
    """A GPU with TF32 rounds the factors of products to 10 bits."""

    class OnGpu(Backend):
        rounds_fp32 = rounds
        inputs: ClassVar = {}

        def compute(self, arrays):
            return 1.001 * self.program(arrays)

    real = golden_module.open_program

    def opened(kind, program, options):
        exact = real(kind, program, options | {"device": "cpu"})
        if options["device"] == "cpu":
            return exact
        backend = OnGpu(None, Options())
        backend.program, backend.name = exact.compute, "on a GPU"
        return backend

    monkeypatch.setattr(RUNTIMES["paddle"], "has_gpu", classmethod(lambda cls: True))
    monkeypatch.setattr(golden_module, "open_program", opened)
    text = r"differ by 1\.0e-03 of the largest \(paddle gpu\)"
    if rounds:
        assert check(".json")["paddle gpu"] == pytest.approx(1e-3, rel=0.01)
        assert re.search(text, log())
    else:
        with pytest.raises(ExportError, match=text):
            check(".json")


def test_no_rounding_explains_another_result(check, monkeypatch):
    class Wrong(Backend):
        rounds_fp32 = True
        inputs: ClassVar = {}

        def compute(self, arrays):
            return np.zeros((len(arrays["frames"]), 3), np.float32)

    def opened(kind, program, options):
        backend = Wrong(None, Options())
        backend.name = "on a GPU"
        return backend

    monkeypatch.setattr(golden_module, "open_program", opened)
    with pytest.raises(ExportError, match=r"differ by 1\.0e\+00 .*rounding explains at most 0\.02"):
        check(".json")


@pytest.fixture
def copied(exported, monkeypatch):
    """`export` copies the programs of `exported` instead of writing them again."""

    def write(formats, job):
        for suffix in (suffix for kind in formats for suffix in exporting.PROGRAM_FILES[kind]):
            shutil.copy(exported.folder / f"tiny{suffix}", f"{job.stem}{suffix}")

    monkeypatch.setattr(exporting, "_write_programs", write)


def test_tensorrt_is_verified_where_the_machine_has_it(
    monkeypatch, exported, copied, tmp_path, log
):
    """With the sizes of the inputs, before there is a model.yaml; its engines are not kept."""
    GpuBuild(monkeypatch)
    real, seen = golden_module.open_program, []

    def opened(kind, program, options):
        seen.append((kind, options["device"], dict(program.inputs)))
        return real(kind, program, options)

    monkeypatch.setattr(golden_module, "open_program", opened)
    monkeypatch.setattr(golden_module, "golden_difference", lambda *args: 1e-6)
    export(exported.cfg, exported.weights, tmp_path / "out", ["pdmodel"])
    manifest = read_manifest(tmp_path / "out")
    assert manifest.differences["tiny.pdmodel"]["tensorrt gpu"] == 1e-6
    assert [inputs for kind, _, inputs in seen if kind == "tensorrt"] == [dict(manifest.inputs)]
    assert not (tmp_path / "out/engines").exists()


def test_an_export_that_is_not_verified_says_so(exported, copied, tmp_path, monkeypatch, log):
    """It needs no runtime, and keeps what is known about the files that stay."""
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    monkeypatch.setattr(exporting, "verify", None)  # must not be called
    export(exported.cfg, exported.weights, folder, ["pir"], verify_programs=False)
    differences = read_manifest(folder).differences
    assert "tiny.json" not in differences and "tiny.pdmodel" in differences
    assert "not verified: tiny.json" in log()


def test_onnx_needs_a_runtime_only_to_be_verified(monkeypatch):
    for kind in ("openvino", "onnxruntime"):
        monkeypatch.setattr(RUNTIMES[kind], "missing", lambda: "pip install it")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert "which needs openvino or onnxruntime" in exporting.missing_for_onnx()
    assert exporting.missing_for_onnx(verified=False) == ""


def test_golden_images_of_bytes_are_blocks():
    sample = {"frames": np.zeros((2, 5, 40, 24, 3), np.uint8)}
    array = golden_inputs(sample)["frames"]
    assert array.shape == (2, 2, 5, 40, 24, 3) and array.dtype == np.uint8
    assert (array[..., :16, :16, :] == array[..., :1, :1, :]).all()
    assert (array[..., 15, 0, :] != array[..., 16, 0, :]).any()
    assert (array[..., 0] != array[..., 1]).any() and (array[0] != array[1]).any()
    three = golden_inputs(sample, 3)["frames"]
    assert (three == array[[0, 1, 0]]).all()
    assert (golden_inputs(sample, 1)["frames"] == array[:1]).all()
