"""Exporting a trained model: files, model.yaml, golden inputs, and errors."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml

from paddlevideo.commands.export import FORMATS
from paddlevideo.engine.build import load_config
from paddlevideo.exporting import export as exporting
from paddlevideo.exporting import program
from paddlevideo.exporting.export import ExportError, export, missing_for_onnx
from paddlevideo.exporting.export_folder import check_foreign_files, remove_export
from paddlevideo.exporting.golden import golden_inputs, relative_difference
from paddlevideo.runtimes.manifest import ManifestError, check_files, read_manifest, sha256
from paddlevideo.weights import WeightsError
from tests.hostile_files import yamls
from tests.parts.conftest import NAMES, write_weights
from tests.scripts import run_script

HOSTILE = yamls()
HOSTILE.pop("many values")  # takes a second; test_yaml_text.py reads it
PADDLE_FILES = {"tiny.pdmodel", "tiny.pdiparams", "tiny.pdiparams.info", "golden.npz", "model.yaml"}
FILES = PADDLE_FILES | {"tiny.json"} | (set() if missing_for_onnx() else {"tiny.onnx"})
needs_onnx = pytest.mark.skipif(bool(missing_for_onnx()), reason=missing_for_onnx())


def test_all_formats_share_a_folder_without_other_files(exported):
    assert {path.name for path in exported.folder.iterdir()} == FILES


def test_model_yaml_describes_the_model(exported):
    content = yaml.safe_load((exported.folder / "model.yaml").read_text(encoding="utf-8"))
    assert content["name"] == "tiny"
    assert content["inputs"] == {
        "frames": {"shape": [None, 2, 3, 64, 64], "dtype": "float32", "axes": "N S C H W"}
    }
    assert content["num_classes"] == 3 and content["labels"] == NAMES
    assert content["views"] == 10 and content["top_k"] == 2
    assert content["files"].keys() == FILES - {"model.yaml"}
    assert content["differences"].keys() == FILES & {"tiny.pdmodel", "tiny.json", "tiny.onnx"}
    assert content["differences"]["tiny.json"].keys() == {"paddle"}
    for row in content["differences"].values():
        assert all(0 <= difference < 1e-4 for difference in row.values())
    config = yaml.safe_load(exported.config.read_text(encoding="utf-8"))
    assert content["config"]["PIPELINE"] == config["PIPELINE"]
    assert "paddlepaddle" in content["versions"] or "paddlepaddle-gpu" in content["versions"]


def test_model_yaml_has_the_checksum_of_every_file(exported):
    manifest = read_manifest(exported.folder)
    for name, digest in manifest.files.items():
        assert sha256(exported.folder / name) == digest


@needs_onnx
def test_onnx_takes_any_batch(exported):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(exported.folder / "tiny.onnx").graph
    (frames,) = graph.input
    sizes = [dim.dim_value or None for dim in frames.type.tensor_type.shape.dim]
    assert frames.name == "frames" and sizes == [None, 2, 3, 64, 64]


def test_golden_file_contains_inputs_and_logits(exported):
    with np.load(exported.folder / "golden.npz") as golden:
        assert golden["frames"].shape == (2, 2, 3, 64, 64) and golden["logits"].shape == (2, 3)
        expected = golden_inputs({"frames": np.zeros((2, 3, 64, 64), np.float32)})
        np.testing.assert_array_equal(golden["frames"], expected["frames"])


def test_golden_inputs_are_noise_in_blocks():
    array = golden_inputs({"frames": np.zeros((3, 40, 33), np.float32)})["frames"]
    assert array.shape == (2, 3, 40, 33)
    assert abs(array.mean()) < 0.5 and 0.5 < array.std() < 1.5
    assert (array[..., :16, :16] == array[..., :1, :1]).all() and (
        array[..., 15, 0] != array[..., 16, 0]
    ).all()


def test_relative_difference():
    expected = np.array([[1.0, -4.0]])
    assert relative_difference(expected + 0.004, expected) == pytest.approx(0.001)
    assert relative_difference(np.array([[1.0, np.nan]]), expected) == np.inf
    assert relative_difference(expected.T, expected) == np.inf
    assert relative_difference(np.zeros(2), np.zeros(2)) == 0


def test_onnx_alone_leaves_no_paddle_program(video_export):
    names = {path.name for path in (video_export / "out").iterdir()}
    assert names == {"tiny.onnx", "golden.npz", "model.yaml"}


def test_keeps_other_formats_of_the_same_model_only(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    export(exported.cfg, exported.weights, folder, ["pir"], verify_programs=False)
    assert read_manifest(folder).files.keys() == FILES - {"model.yaml"}
    others = write_weights(exported.cfg, tmp_path / "w.pdparams", NAMES, seed=1)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "tiny.pdiparams.info").write_text("mine", encoding="utf-8")  # as no export wrote it
    before = contents(folder)
    with pytest.raises(ExportError, match=r"an export of tiny with other weights.*--overwrite"):
        export(exported.cfg, others, folder, ["pir"])
    assert contents(folder) == before
    export(exported.cfg, others, folder, ["pir"], overwrite=True, verify_programs=False)
    manifest = read_manifest(folder)
    assert manifest.files.keys() == {"golden.npz", "tiny.json", "tiny.pdiparams"}
    kept = {"model.yaml", "notes.txt", "tiny.pdiparams.info"}
    assert {path.name for path in folder.iterdir()} == manifest.files.keys() | kept
    with pytest.raises(ManifestError, match=r"tiny\.pdmodel: not part of the export"):
        check_files(manifest, [folder / "tiny.pdmodel"])


def test_rejects_a_folder_with_another_model(exported):
    with pytest.raises(
        ExportError, match="contains the model tiny; export other to another folder"
    ):
        export(exported.cfg, exported.weights, exported.folder, name="other")


@pytest.mark.parametrize("name", ["../mine", "sub/mine", "HERE/mine", "..", "."])
def test_a_name_with_a_folder_touches_no_files_there(exported, tmp_path, name):
    (tmp_path / "sub").mkdir()
    for file in ("notes.txt", "sub/notes.txt", "mine.pdmodel"):
        (tmp_path / file).write_text("mine", encoding="utf-8")
    before = sorted(map(str, tmp_path.rglob("*")))
    name = name.replace("HERE", str(tmp_path))
    with pytest.raises(ExportError, match=r"the name of the model is .*without a folder.* -o"):
        export(exported.cfg, exported.weights, tmp_path, name=name)
    cfg = replace(exported.cfg, model_name=name)
    with pytest.raises(ExportError, match="or model_name of the config"):
        export(cfg, exported.weights, tmp_path)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_an_export_with_other_settings_is_kept(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    before = contents(folder)
    changed = load_config(exported.config, ["INFERENCE.top_k=3"])
    with pytest.raises(ExportError, match="an export of tiny with other settings"):
        export(changed, exported.weights, folder)
    with pytest.raises(ExportError, match=r"contains the model tiny; .* with --overwrite"):
        export(exported.cfg, exported.weights, folder, name="other")
    assert contents(folder) == before
    (folder / "model.yaml").write_text("hello", encoding="utf-8")
    with pytest.raises(ManifestError, match="not a file that export wrote"):
        export(exported.cfg, exported.weights, folder)


@pytest.mark.parametrize(
    "change", [{"views": 30}, {"top_k": 9}, {"labels": ["x"]}, {"weights": "other"}]
)
def test_what_makes_another_model(exported, change):
    manifest = read_manifest(exported.folder)
    assert manifest.same_model(replace(manifest, differences={}, versions={}, quantization={}))
    assert not manifest.same_model(replace(manifest, **change))


def test_overwrite_replaces_the_files_of_a_model_of_another_name(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    options = {"overwrite": True, "verify_programs": False}
    export(exported.cfg, exported.weights, folder, ["pir"], "other", **options)
    names = {"other.json", "other.pdiparams", "golden.npz", "model.yaml", "notes.txt"}
    assert {path.name for path in folder.iterdir()} == names


def test_files_of_another_program_are_kept(tmp_path):
    work, folder = tmp_path / "work", tmp_path / "out"
    for path, text in ((work, "new"), (folder, "old")):
        path.mkdir()
        (path / "tiny.pdmodel").write_text(text, encoding="utf-8")
        (path / "tiny.pdiparams").write_text("the same", encoding="utf-8")
    with pytest.raises(ExportError, match=r"contains tiny\.pdmodel and no model\.yaml"):
        check_foreign_files(work, folder)
    (work / "tiny.pdmodel").write_text("old", encoding="utf-8")
    check_foreign_files(work, folder)


def test_a_damaged_model_yaml_is_removed_alone(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    (folder / "model.yaml").write_text("hello", encoding="utf-8")
    remove_export(folder)
    assert {path.name for path in folder.iterdir()} == FILES - {"model.yaml"}
    remove_export(tmp_path / "none")
    shutil.copy(exported.folder / "model.yaml", folder)
    remove_export(folder)
    assert not folder.exists()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_program_that_differs_leaves_an_earlier_export_unchanged(exported, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    before = {path.name: sha256(path) for path in folder.iterdir()}
    other = write_weights(exported.cfg, tmp_path / "other.pdparams", NAMES, seed=5)
    real = program.Job.of
    monkeypatch.setattr(program.Job, "of", lambda *args: real(*args[:3], other, *args[4:]))
    with pytest.raises(ExportError, match=r"tiny\.json: logits differ .* nothing was exported"):
        export(exported.cfg, exported.weights, folder, ["pir"])
    assert {path.name: sha256(path) for path in folder.iterdir()} == before


def test_removes_a_new_folder_after_a_failure(tmp_path):
    with pytest.raises(ZeroDivisionError), exporting._workspace(tmp_path / "new" / "out") as work:
        (work / "half.pdmodel").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_reports_the_error_of_the_writing_process(exported, tmp_path):
    job = program.Job.of({"MODEL": 3}, "some.yaml", 3, exported.weights, {}, tmp_path / "x")
    with pytest.raises(
        ExportError, match=r"(?s)could not be written \(exit code 1\).*some\.yaml: MODEL"
    ):
        program.run(job, pir=False)
    assert list(tmp_path.iterdir()) == []


def test_rejects_wrong_and_missing_weights(exported, tmp_path):
    with pytest.raises(WeightsError, match="there is no such file"):
        export(exported.cfg, tmp_path / "none.pdparams", tmp_path / "out")
    other = load_config(exported.config, ["MODEL.backbone.layers=50"])
    with pytest.raises(WeightsError, match="These weights belong to another model"):
        export(other, exported.weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rejects_an_unknown_format(exported, tmp_path):
    with pytest.raises(ExportError, match="format is torch; expected pdmodel, pir, onnx or all"):
        export(exported.cfg, exported.weights, tmp_path, ["torch"])


def test_a_missing_converter_names_the_package(exported, tmp_path, monkeypatch, caplog):
    """A format that is named is an error; all formats are those that this machine can write."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for formats in ("onnx", ["onnx", "all"]):
        with pytest.raises(ExportError, match="needs paddle2onnx: pip install paddle2onnx"):
            export(exported.cfg, exported.weights, tmp_path, formats)
    monkeypatch.setattr(exporting.logger, "propagate", True)
    assert exporting._known_formats("all") == ("pdmodel", "pir")
    assert "format all without onnx: format onnx needs paddle2onnx" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="needs /proc")
def test_names_a_folder_that_cannot_be_written(exported):
    with pytest.raises(OSError, match="cannot write to /proc/none"):
        export(exported.cfg, exported.weights, "/proc/none")


def test_sizes_that_depend_on_the_video_are_free(exported):
    transform = (
        "PIPELINE.test.transform=[{Scale: {short_size: 64, fixed_ratio: false}}, Image2Array, "
        "{Normalization: {mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}}]"
    )
    cfg = load_config(exported.config, [transform])
    model, _ = exporting.trained_model(cfg, exported.weights)
    inputs, sample = exporting.program_inputs(cfg, model)
    assert inputs["frames"].shape == (None, 2, 3, None, None)
    assert sample["frames"].shape == (2, 3, 64, 85)


def test_rejects_a_file_that_export_did_not_write(tmp_path):
    assert read_manifest(tmp_path) is None
    (tmp_path / "model.yaml").write_text("hello", encoding="utf-8")
    with pytest.raises(ManifestError, match="not a file that export wrote"):
        read_manifest(tmp_path)
    (tmp_path / "model.yaml").write_text("format: 7", encoding="utf-8")
    with pytest.raises(ManifestError, match="format 7, but this version reads 1"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_rejects_a_hostile_model_yaml(tmp_path, name):
    text = "format: 1\nconfig:\n  " + HOSTILE[name][0].replace("\n", "\n  ")
    (tmp_path / "model.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=r"model\.yaml: not a file that export wrote") as raised:
        read_manifest(tmp_path)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("text", ["a: 2024-13-45", f"a: 1{':1' * 400}.5", "inputs: 1"])
def test_rejects_values_that_cannot_be_read(tmp_path, text):
    (tmp_path / "model.yaml").write_text(f"format: 1\n{text}", encoding="utf-8")
    with pytest.raises(ManifestError, match="not a file that export wrote"):
        read_manifest(tmp_path)


def test_rejects_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "model.yaml")
    with pytest.raises(ManifestError, match="cannot be read: a FIFO, expected a regular file"):
        read_manifest(tmp_path)


def test_the_tool_says_that_weights_are_missing(exported, monkeypatch, capsys):
    words = ["-c", exported.config, "-p", "no.pdparams"]
    code, _, printed = run_script(monkeypatch, capsys, "tools/export_model.py", *words)
    assert code == 1
    assert printed.strip().splitlines()[-1].startswith("error: no.pdparams: there is no such file")


def assert_exported(folder, printed):
    assert "logits differ from the model's, relative to the largest, by:" in printed
    assert re.search(r"\n  tiny\.pdmodel  .*\bpaddle \d\.\de-\d\d", printed)
    names = {path.name for path in (folder / "inference" / "tiny").iterdir()}
    assert names == PADDLE_FILES


def test_the_tool_writes_the_files_of_paddlevideo(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["-c", exported.config, "-p", exported.weights]
    code, printed, errors = run_script(monkeypatch, capsys, "tools/export_model.py", *words)
    assert not code, errors
    assert_exported(tmp_path, printed)


@pytest.mark.slow  # test_python_blocks_run exports in processes of its own, too
def test_the_tool_needs_no_other_process(exported, root, tmp_path):
    """In processes of its own, not in those of tests/program_writer.py."""
    words = [root / "tools/export_model.py", "-c", exported.config, "-p", exported.weights]
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_exported(tmp_path, done.stdout)


def test_the_command_offers_every_format():
    assert (*exporting.FORMATS, "all") == FORMATS
