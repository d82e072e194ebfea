"""int8 in TensorRT, on a double of a GPU build: measuring, and opening with what was measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddlevideo.commands.quantize import main
from paddlevideo.exporting.export_folder import remove_export
from paddlevideo.exporting.program import ExportError
from paddlevideo.quantizing import quantize as quantizing
from paddlevideo.quantizing.quantize import Comparison, quantize
from paddlevideo.runtimes import tensorrt_int8
from paddlevideo.runtimes.base import BackendError
from paddlevideo.runtimes.choose import available_backends, open_backend
from paddlevideo.runtimes.manifest import sha256
from tests import gpu_build
from tests.clips import random_frames, write_clip
from tests.gpu_build import GpuBuild


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A list of six videos with labels."""
    folder = tmp_path_factory.mktemp("videos")
    lines = []
    for number in range(6):
        write_clip(folder / f"{number}.mp4", frames=random_frames(4, 64, 80, seed=number))
        lines.append(f"{number}.mp4 {number % 3}\n")
    (folder / "all.list").write_text("".join(lines), encoding="utf-8")
    return folder / "all.list"


@pytest.fixture
def folder(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / "out"))


@pytest.fixture
def build(monkeypatch) -> GpuBuild:
    return GpuBuild(monkeypatch)


@pytest.fixture
def measured(build, folder, videos) -> Path:
    """An export with ranges of activations."""
    quantize(folder, videos, num=4, backend="tensorrt")
    build.record.clear()
    return folder


def kept(folder: Path) -> list[Any]:
    """What is in `engines/`, without the digests in the names of its folders."""
    found = [p.relative_to(folder / "engines") for p in folder.rglob("engines/*/*") if p.is_file()]
    return sorted((path.parts[0].split("-")[0], path.name) for path in found)


def test_measures_with_one_clip_a_run(build, folder, videos):
    result = quantize(folder, videos, num=4, backend="tensorrt")
    assert result.videos == 2 and result.held_out and result.agreement == 1
    measuring, fast = build.calls("enable_tensorrt_engine")
    int8 = paddle.inference.PrecisionType.Int8
    assert measuring["precision_mode"] == fast["precision_mode"] == int8
    assert measuring["use_calib_mode"] is fast["use_calib_mode"] is True
    assert measuring["use_static"] is False and fast["use_static"] is True
    assert measuring["max_batch_size"] == 1
    (cache,) = build.calls("set_optim_cache_dir")
    assert cache["self"] is fast["self"], "with a table, Paddle would not measure"
    assert len(build.calls("enable_tuned_tensorrt_dynamic_shape")) == 2
    arrays = [c["array"].shape for c in build.calls("copy_from_cpu")]
    assert set(arrays) == {(1, 2, 3, 64, 64)}
    assert kept(folder) == [
        ("int8", "calibration.json"),
        ("int8", "trt_calib_1"),
        ("tensorrt", "shapes.pbtxt"),
        ("tensorrt", "trt_calib_1"),
        ("tensorrt", "trt_serialized_1"),
    ]
    (file,) = folder.rglob("calibration.json")
    facts = json.loads(file.read_text(encoding="utf-8"))
    assert facts["from"] == "tiny.pdmodel" and facts["calibration_videos"] == 4
    assert facts["calibration_sha256"] == sha256(videos)
    assert facts["comparison"]["agreement"] == 1


def test_opens_with_the_ranges_that_were_measured(build, measured, caplog):
    backend = open_backend(measured, "tensorrt", precision="int8", max_batch=5)
    assert backend.name.endswith("+ TensorRT on gpu:0, int8") and backend.precision == "int8"
    (engine,) = build.calls("enable_tensorrt_engine")
    assert engine["max_batch_size"] == 5 and engine["use_static"] is True
    (cache,) = build.calls("set_optim_cache_dir")
    assert (Path(cache["arg0"]) / "trt_calib_1").read_text(encoding="utf-8") == "ranges"
    auto = open_backend(measured, precision="int8", device="gpu")
    assert auto.kind == "tensorrt" and auto.precision == "int8"


def test_needs_ranges_for_this_program_and_this_tensorrt(monkeypatch, build, folder, videos):
    message = r"which are not in .*int8-\w+; measure them on this GPU: .* --backend tensorrt"
    with pytest.raises(BackendError, match=message):
        open_backend(folder, "tensorrt", precision="int8")
    quantize(folder, videos, num=4, backend="tensorrt")
    assert open_backend(folder, "tensorrt", precision="int8").precision == "int8"
    monkeypatch.undo()
    GpuBuild(monkeypatch, library=(10, 3, 0))
    with pytest.raises(BackendError, match=message):
        open_backend(folder, "tensorrt", precision="int8")


def test_never_measures_again_in_place_of_computing(monkeypatch, build, measured):
    """Where Paddle finds no table for an engine, it computes in fp32."""
    real = gpu_build.Predictor

    def without_tables(gpu, config):
        predictor = real(gpu, config)
        for call in build.calls("set_optim_cache_dir"):
            (Path(call["arg0"]) / "trt_serialized_1").unlink(missing_ok=True)
        return predictor

    monkeypatch.setattr(gpu_build, "Predictor", without_tables)
    with pytest.raises(BackendError, match="built 0 int8 engines from 1 tables.*or use fp16"):
        open_backend(measured, "tensorrt", precision="int8")


def test_a_folder_that_cannot_be_written_is_enough(monkeypatch, build, measured):
    monkeypatch.setattr("paddlevideo.runtimes.tensorrt.engine_folder", lambda *args: None)
    before = kept(measured)
    backend = open_backend(measured, "tensorrt", precision="int8")
    (cache,) = build.calls("set_optim_cache_dir")
    assert measured not in Path(cache["arg0"]).parents and backend.precision == "int8"
    assert kept(measured) == before


def test_ranges_are_kept_unless_overwrite_is_set(monkeypatch, build, measured, videos):
    with pytest.raises(ExportError, match="has ranges of activations; replace them with --over"):
        quantize(measured, videos, num=4, backend="tensorrt")
    before = {path: sha256(path) for path in measured.rglob("*") if path.is_file()}

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantizing, "_compare", fail)
    with pytest.raises(OSError, match="No space left"):
        quantize(measured, videos, num=4, overwrite=True, backend="tensorrt")
    assert {path: sha256(path) for path in measured.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(
        quantizing, "_compare", lambda *args: (Comparison(1, True, 0.5, None, 0.3, 0.1), [])
    )
    quantize(measured, videos, num=5, overwrite=True, backend="tensorrt")
    (file,) = measured.rglob("calibration.json")
    assert json.loads(file.read_text(encoding="utf-8"))["calibration_videos"] == 5
    assert not list(measured.rglob("*measuring*"))


def test_a_gpu_that_measures_nothing_leaves_nothing(monkeypatch, build, folder, videos):
    monkeypatch.setattr(gpu_build.Predictor, "__del__", lambda predictor: None)
    with pytest.raises(ExportError, match="measured no activations, so there is no int8"):
        quantize(folder, videos, num=4, backend="tensorrt")
    assert kept(folder) == [] and list((folder / "engines").iterdir()) == []


def test_measuring_ends_before_its_folder_goes(monkeypatch, build, folder, videos):
    """A predictor that ends later would write to a folder that is gone."""
    ended = []

    def end(predictor):
        ended.append(Path(predictor._files[0]).parent.exists())

    monkeypatch.setattr(gpu_build.Predictor, "__del__", end)

    collecting = ["least", "most"]  # the runs that collect shapes

    def fail():
        if not collecting:
            raise RuntimeError("(Fatal) out of memory")
        collecting.pop()

    monkeypatch.setattr(gpu_build.Predictor, "run", staticmethod(fail))
    with pytest.raises(BackendError, match="out of memory"):
        quantize(folder, videos, num=4, backend="tensorrt")
    assert ended == [True, True]


def test_an_export_of_another_model_removes_the_engines(measured, exported, tmp_path):
    assert (measured / "engines").is_dir()
    remove_export(measured)
    assert not measured.exists() or not (measured / "engines").exists()


def test_int8_takes_a_pdmodel(build, folder):
    with pytest.raises(BackendError, match=r"tensorrt reads \.pdmodel; export with --format pdm"):
        open_backend(folder / "tiny.json", "tensorrt", precision="int8")


def test_says_what_this_machine_lacks(folder, videos, capsys):
    assert available_backends()["tensorrt"]
    args = ["-m", str(folder), "--videos", str(videos), "--backend", "tensorrt"]
    assert main(args) == 1
    assert "backend tensorrt is not available: this paddlepaddle" in capsys.readouterr().err
    with pytest.raises(ExportError, match="backend is 'paddle', expected openvino or tensorrt"):
        quantize(folder, videos, backend="paddle")


def test_a_url_is_refused(build, videos):
    with pytest.raises(ExportError, match=r"memory://m: .*copy the export to a local folder"):
        quantize("memory://m", videos, backend="tensorrt")


def test_tables_replace_earlier_ones_as_a_whole(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    for folder in (source, target):
        folder.mkdir()
    (source / "trt_calib_1").write_text("new", encoding="utf-8")
    (target / "trt_calib_1").write_text("old", encoding="utf-8")
    tensorrt_int8.copy_tables(source, target)
    assert [p.name for p in target.iterdir()] == ["trt_calib_1"]
    assert (target / "trt_calib_1").read_text(encoding="utf-8") == "new"
