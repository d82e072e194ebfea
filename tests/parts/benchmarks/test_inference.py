"""`tools/benchmark.py inference` on small exports: several models, auto, settings."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from paddlevideo.benchmarks import inference, settings
from paddlevideo.benchmarks.exported import Exported, quantize_random
from paddlevideo.benchmarks.flags import make_parser
from paddlevideo.benchmarks.inference_table import Measured, table
from paddlevideo.benchmarks.measure import Group, Row
from paddlevideo.commands import benchmark
from paddlevideo.report import doctor
from paddlevideo.runtimes.choose import RUNTIMES, open_backend
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.runtimes.measured import read_rows
from tests.gpu_build import GpuBuild
from tests.parts.conftest import skip_without

FAST = ["-r", "1", "--threads", "1", "--device", "cpu", "--no-memory"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """`call(*flags)` -> (exit code, printed text, groups of the JSON file)."""
    for module in ("measure", "inference"):
        monkeypatch.setattr(f"paddlevideo.benchmarks.{module}.PAUSE", 0.0)
    monkeypatch.setattr(inference, "MATRIX", 64)

    def run(*flags):
        out = tmp_path / "times.json"
        code = benchmark.main(["inference", "--json", str(out), *FAST, *map(str, flags)])
        printed = capsys.readouterr()
        groups = json.loads(out.read_text())["groups"] if out.exists() else []
        return code, printed.out + printed.err, groups

    return run


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported.folder, tmp_path / "first")


def names(group):
    return [row["name"] for row in group["rows"]]


def test_several_models_end_with_one_table(call, folder, tmp_path):
    second = shutil.copytree(folder, tmp_path / "second")
    flags = ["--clips", "2", "--precision", "fp32", "--preferred"]
    code, printed, groups = call("-m", folder, second, *flags)
    assert code == 0, printed
    assert [group["title"].split()[0] for group in groups] == [
        "matrix", "inference", "auto", "inference", "auto"
    ]  # fmt: skip
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert columns[:3] == ["model", "ms a clip at 1.00", "paddle, 2 clips"]
    assert columns[-1] == "auto: time / that of the fastest"
    assert [row.split("|")[1].strip() for row in rows[2:]] == [str(folder), str(second)]
    assert {row.count("|") for row in rows} == {len(columns) + 1}
    for row, group in zip(rows[2:], (groups[1], groups[3]), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[2] == "1.00" and float(cells[1]) == pytest.approx(
            1000 * group["rows"][0]["median"], rel=1e-3
        )


def test_auto_is_measured_next_to_the_fastest(call, folder):
    code, printed, groups = call("-m", folder, "--clips", "3", "--precision", "fp32")
    assert code == 0 and not [line for line in printed.splitlines() if line.startswith("|")]
    measured, auto = groups[1:]
    assert auto["rows"][-1]["name"] == "auto" and len(auto["rows"]) == inference.FASTEST + 1
    assert set(names(auto)[:-1]) <= set(names(measured))
    backend = open_backend(folder, device="cpu")
    best = read_rows(folder, read_manifest(folder))[0]
    assert (backend.kind, backend.clips_per_run) == (best.kind, 3)
    note = auto["rows"][-1]["note"]
    assert note.startswith(f"{backend.name}, 3 clips per run; ")
    share = auto["rows"][-1]["median"] / min(row["median"] for row in auto["rows"][:-1])
    assert note.endswith(f"{share:.2f} times the time of the fastest")


def test_a_precision_below_fp32_is_no_choice_of_auto(call, folder):
    skip_without("openvino")
    code, printed, groups = call("-m", folder, "--clips", "1", "--precision", "bf16")
    if code and "no runtime of this machine" in printed:
        pytest.skip("this processor has no bf16")
    assert code == 0 and len(groups) == 2, "nothing that is exact was measured"
    assert all(", bf16" in name for name in names(groups[1]))


def test_a_model_that_cannot_be_measured_is_named_and_the_others_are(call, folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    flags = ["--clips", "1", "--precision", "fp32", "--preferred"]
    code, printed, _ = call("-m", empty, folder, *flags)
    assert code == 1 and f"{empty} is left out: {empty}: no model.yaml" in printed
    assert f"could not be measured, see above: {empty}" in printed
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(rows) == 3 and str(folder) in rows[2]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["inference", "--clips", "0"], "--clips: 0: expected an integer, at least 1"),
        (["inference", "--clips", "1", "-3"], "--clips: -3: expected"),
        (["inference", "--threads", "all"], "--threads: all: expected"),
        (
            ["predict", "--decode_workers", "-1"],
            "--decode_workers: -1: expected an integer, at least 0",
        ),
        (["ranks", "--ranks", "0"], "--ranks: 0: expected"),
        (["scale", "--items", "-1"], "--items: -1: expected"),
        (["serve", "--clients", "0"], "--clients: 0: expected"),
        (["train", "-r", "0"], "-r/--rounds: 0: expected"),
    ],
)
def test_numbers_that_are_too_small_are_refused(flags, reason, capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(flags)
    assert reason in capsys.readouterr().err


def test_preferred_leaves_out_further_programs_and_options(exported):
    def found(preferred):
        args = SimpleNamespace(threads=[1], precision=["fp32", "bf16"], preferred=preferred)
        source = Exported(exported.folder, "tiny", model=object())
        manifest = read_manifest(exported.folder)
        return [s.label(False) for s in settings.settings(source, manifest, args, "cpu")]

    every, first = found(False), found(True)
    assert {"paddle", "eager", "paddle, bf16"} <= set(first) < set(every)
    assert {"paddle .json", "paddle, no oneDNN", "eager, no oneDNN"} <= set(every) - set(first)
    assert "paddle .pdmodel, bf16" in every, "of a .json more is computed in bf16"


def test_configs_and_models_may_be_several():
    args = make_parser().parse_args(["inference", "-c", "a", "b", "-o", "x=1", "-o", "y=2"])
    assert args.config == ["a", "b"] and args.override == ["x=1", "y=2"] and args.model is None
    assert make_parser().parse_args(["predict", "-c", "a"]).config == "a"
    with pytest.raises(SystemExit):
        make_parser().parse_args(["predict", "-c", "a", "b"])


def row(name, seconds, base):
    return Row.of(name, [seconds], [base], 1, "")


def test_the_table_has_a_column_for_every_setting():
    auto = Group("auto", "clip", 1, [row("paddle", 1.0, 1.0), row("auto", 1.04, 1.0)])
    first = Measured(
        "a",
        [row("paddle", 1.0, 1.0), row("openvino, bf16", 0.25, 1.0)],
        [("fp32", 1e-7), ("bf16", 0.0042)],
        auto,
    )
    second = Measured("b", [row("openvino", 0.5, 0.5)], [("fp32", 0.0)], None)
    assert list(table([first, second])) == [
        "| model | ms a clip at 1.00 | paddle | openvino, bf16 | openvino "
        "| auto: time / that of the fastest |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | 1000 | 1.00 | 4.00 (0.42 %) |  | 1.04 |",
        "| b | 500 |  |  | 1.00 |  |",
    ]


def test_an_int8_program_is_made_of_the_golden_inputs(folder):
    skip_without("openvino")
    pytest.importorskip("nncf")
    quantize_random(folder)
    manifest = read_manifest(folder)
    assert {"tiny_int8.xml", "tiny_int8.bin"} <= manifest.files.keys()
    assert not (folder / "int8").exists()
    assert open_backend(folder, precision="int8", device="cpu").precision == "int8"


def test_without_the_extra_no_int8_program_is_made(folder, monkeypatch, caplog):
    monkeypatch.setattr(
        "paddlevideo.benchmarks.exported.int8.missing_for_int8", lambda: "pip install it"
    )
    before = sorted(path.name for path in folder.iterdir())
    quantize_random(folder)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_memory_of_a_gpu_is_what_its_driver_reports(exported, monkeypatch):
    monkeypatch.setattr(inference, "gpu_memory_mb", lambda: 250)
    monkeypatch.setattr(inference, "open_backend", lambda *args, **_: SimpleNamespace(run=len))
    golden = {"frames": np.zeros((2, 1), np.float32)}
    jobs = inference.memory_jobs("x.onnx", "onnxruntime", {"device": "gpu"}, golden, 2)
    assert jobs["memory"]()[1] == 250
    jobs = inference.memory_jobs("x.onnx", "onnxruntime", {"device": "cpu"}, golden, 2)
    assert jobs["memory"]()[1] is None


@pytest.mark.parametrize(
    ("text", "total"),
    [("7, 9\n{pid}, 10\n{pid}, 20", 30), ("7, 9", None), (None, None), ("{pid}, [N/A]", None)],
)
def test_reads_the_memory_of_this_process_on_gpus(monkeypatch, text, total):
    monkeypatch.setattr(doctor, "output", lambda *command: text and text.format(pid=os.getpid()))
    assert doctor.gpu_memory_mb() == total


@pytest.mark.parametrize(("device", "size"), [("cpu", 64), ("gpu", 96)])
def test_the_peak_is_that_of_the_device(monkeypatch, device, size):
    build = GpuBuild(monkeypatch)
    for name, number in {"MATRIX": 64, "GPU_MATRIX": 96}.items():
        monkeypatch.setattr(inference, name, number)
    group = inference.matrix_product(1, device)
    assert group.title.endswith(f"{size} x {size}")
    assert next(call["device"] for call in build.calls("set_device")) == device
    assert build.device == "cpu", "the device is as before"


def test_an_integrated_gpu_is_measured_on_request_only(exported, monkeypatch):
    """OpenVINO's `auto` stays on the CPU."""
    for kind, runtime in RUNTIMES.items():
        monkeypatch.setattr(runtime, "missing", lambda: "")
        monkeypatch.setattr(runtime, "has_gpu", lambda kind=kind: kind == "openvino")
    assert settings.device_here() == "cpu"
    manifest = read_manifest(exported.folder)
    assert manifest is not None
    on_gpu = settings.programs_for(manifest, "fp32", "gpu")
    assert "openvino" in on_gpu and "eager" not in on_gpu
    monkeypatch.setattr(RUNTIMES["onnxruntime"], "has_gpu", lambda: True)
    assert settings.device_here() == "gpu"
