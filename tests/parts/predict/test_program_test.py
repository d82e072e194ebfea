"""`main.py --test -m FOLDER`: an exported program has the numbers of its model."""

import itertools
import json

import numpy as np
import pytest

import main
from paddlevideo.api import test as run_test
from paddlevideo.api import test_program as run_program_test
from paddlevideo.cores import num_cores
from paddlevideo.engine.build import load_config
from paddlevideo.engine.classes import load_records
from paddlevideo.engine.trained_clips import TRAIN_CLIPS, TrainedClips
from paddlevideo.predict import program_test
from paddlevideo.predict.program_test import trained_clips
from paddlevideo.runtimes.base import BackendError
from paddlevideo.runtimes.choose import RUNTIMES
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.weights import read_arrays, write_arrays
from tests.parts.conftest import skip_without


def content(path):
    return json.loads(path.read_text(encoding="utf-8"))


def assert_same_scores(own, model):
    """Rows of a score file, in order; classes of nearly equal scores may change places."""
    assert [row["id"] for row in own] == [row["id"] for row in model]
    for row, other in zip(own, model, strict=True):
        facts = ("path", "label", "labels", "error")
        assert [row.get(key) for key in facts] == [other.get(key) for key in facts]
        np.testing.assert_allclose(row["scores"], other["scores"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *itertools.product(("tags", "audio"), ("paddle", "onnxruntime", "openvino")),
        pytest.param("both", "paddle", marks=pytest.mark.slow),  # slower than the other runtimes
        ("both", "onnxruntime"),
        ("both", "openvino"),
    ],
)
def test_the_numbers_are_those_of_the_model(families, name, kind, tmp_path, capsys):
    skip_without(kind)
    family = families(name)
    cfg = family.cfg
    out = tmp_path / "own.json"
    evaluation = run_program_test(cfg, str(family.folder), kind, str(out))
    own, model = content(out), content(family.folder.parent / "scores.json")
    assert_same_scores(own["results"], model["results"])
    assert own["numbers"].keys() == model["numbers"].keys() and own["numbers"]
    assert own["class_names"] == model["class_names"]
    for key, value in model["numbers"].items():
        assert own["numbers"][key] == pytest.approx(value, abs=1e-4), key
        assert evaluation.numbers[key] == own["numbers"][key]
    printed = capsys.readouterr().out
    assert "[TEST] finished, " in printed
    assert "per second, of which the network took " in printed


@pytest.fixture(scope="module")
def tested(exported, tmp_path_factory):
    out = tmp_path_factory.mktemp("tested") / "scores.json"
    run_test(exported.cfg, str(exported.weights), str(out))
    return content(out)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_batches_change_nothing(exported, tested, tmp_path, workers):
    overrides = [f"DATASET.test_num_workers={workers}", f"DATASET.test_batch_size={workers + 1}"]
    cfg = load_config(exported.config, [*overrides, "DATASET.views_per_step=7"])
    out = tmp_path / "own.json"
    run_program_test(cfg, str(exported.folder), "paddle", str(out), threads=1)
    assert_same_scores(content(out)["results"], tested["results"])


def command(monkeypatch, *flags):
    monkeypatch.setattr("sys.argv", ["main.py", "--test", *map(str, flags)])
    return main.main()


def test_the_command(exported, tested, monkeypatch, tmp_path, capsys):
    out = tmp_path / "own.json"
    flags = ["-c", exported.config, "-m", exported.folder, "--out", out, "--cpu_threads", 1]
    flags += ["--backend", "paddle"]
    assert command(monkeypatch, *flags) == 0
    assert_same_scores(content(out)["results"], tested["results"])
    printed = capsys.readouterr().out
    assert "Paddle Inference" in printed and "1 thread(s)" in printed
    assert "avg_acc1= " in printed and "differs" not in printed
    # The same test may be repeated; the test of the weights is another one.
    assert command(monkeypatch, *flags, "--eval", "top_k_accuracy") == 0
    weights = ["-c", exported.config, "-w", exported.weights, "--out", out]
    assert command(monkeypatch, *weights) == 1
    assert "another test, with other weights or another config" in capsys.readouterr().err
    assert command(monkeypatch, *weights, "--overwrite") == 0


def test_the_precision_may_be_auto(exported, monkeypatch, capsys):
    flags = ["-m", exported.folder, "--backend", "paddle", "--precision", "auto"]
    assert command(monkeypatch, "-c", exported.config, *flags) == 0
    assert f" {num_cores()} thread(s), " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("use_gpu", "gpus", "device"),
    [("True", ["openvino"], "gpu"), ("True", [], "auto"), ("null", ["openvino"], "auto")],
)
def test_a_runtime_may_have_a_gpu_that_paddle_has_not(exported, monkeypatch, use_gpu, gpus, device):
    for kind, runtime in RUNTIMES.items():
        monkeypatch.setattr(runtime, "has_gpu", lambda kind=kind: kind in gpus)
        monkeypatch.setattr(runtime, "missing", lambda: "")

    def opened(model, backend, **options):
        raise BackendError(f"asked for {options['device']}")

    monkeypatch.setattr(program_test, "open_backend", opened)
    cfg = load_config(exported.config, [f"use_gpu={use_gpu}"])
    with pytest.raises(BackendError, match=f"asked for {device}$"):
        run_program_test(cfg, str(exported.folder), "openvino")


def test_a_run_needs_no_config(exported, tested, monkeypatch, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "inference").symlink_to(exported.folder)
    (run / "run.yaml").write_bytes(exported.config.read_bytes())
    write_trained(exported, run / "tiny_best.pdparams", 2)
    assert command(monkeypatch, "-m", run, "--cpu_threads", 1, "--out", run / "s.json") == 0
    assert_same_scores(content(run / "s.json")["results"], tested["results"])
    printed = capsys.readouterr().out
    assert f"] config: {run}/run.yaml\n" in printed
    assert f"2 of 3 test clips are training clips of {run}: these numbers do not" in printed
    assert command(monkeypatch, "-m", exported.folder) == 1
    assert "no run.yaml next to it" in capsys.readouterr().err
    assert command(monkeypatch, "-m", run / "none") == 1
    assert command(monkeypatch, "-m", tmp_path / "none" / "x") == 1
    assert "there is no such file or folder, and no run.yaml" in capsys.readouterr().err


def write_trained(exported, path, num_clips, **arrays) -> TrainedClips:
    """Write the weights of the export with the first clips of its test as their training clips."""
    records = load_records(exported.cfg, ("test",))[0]["test"].records
    trained = TrainedClips.of(records[:num_clips])
    assert trained
    write_arrays(path, read_arrays(exported.weights) | {TRAIN_CLIPS: trained.array()} | arrays)
    return trained


def test_the_training_clips_are_those_of_the_same_weights(exported, tmp_path):
    manifest = read_manifest(exported.folder)
    assert manifest
    (tmp_path / "inference").symlink_to(exported.folder)
    (tmp_path / "tiny_best.pdparams").write_text("damaged")
    other = {"head.fc.bias": np.ones(3, np.float32)}
    write_trained(exported, tmp_path / "tiny_epoch_00003.pdparams", 3, **other)
    assert trained_clips(str(tmp_path), manifest) is None
    trained = write_trained(exported, tmp_path / "tiny_epoch_00001.pdparams", 1)
    for model in (tmp_path, tmp_path / "inference", tmp_path / "inference/tiny.pdmodel"):
        assert trained_clips(str(model), manifest) == trained
    assert trained_clips(str(exported.folder), manifest) is None


def test_a_file_that_fails_is_counted_or_ends_the_test(exported, tested, tmp_path):
    listed = (exported.folder.parent / "test.list").read_text(encoding="utf-8")
    (tmp_path / "test.list").write_text(f"{listed}none.mp4 1\n", encoding="utf-8")
    overrides = [f"DATASET.test.file_path={tmp_path}/test.list"]
    with pytest.raises(ValueError, match="none.mp4"):
        run_program_test(load_config(exported.config, overrides), str(exported.folder))
    out = tmp_path / "s.json"
    cfg = load_config(exported.config, [*overrides, "DATASET.test.on_error=skip"])
    evaluation = run_program_test(cfg, str(exported.folder), out=str(out))
    assert len(evaluation.failures) == 1 and evaluation.numbers["num_samples"] == 4
    rows = content(out)["results"]
    assert "error" in rows[3] and len(rows) == 4
    assert_same_scores(rows[:3], tested["results"])


def test_another_pipeline_is_told(exported, capsys):
    cfg = load_config(exported.config, ["PIPELINE.test.transform.0.Scale.short_size=80"])
    run_program_test(cfg, str(exported.folder), "paddle")
    assert "differs from the one that the model was exported with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-m", "MODEL", "-w", "x.pdparams"], "-m and -w are both given"),
        (["-w", "x.pdparams", "--backend", "paddle"], "--backend is for a test of an exported"),
        (["-w", "x.pdparams", "--precision", "fp16"], "--precision is for a test of an exported"),
        (["-w", "x.pdparams", "--cpu_threads", "1"], "--cpu_threads is for a test of an exported"),
        (["-m", "MODEL", "--precision", "fp8"], "--precision fp8: expected fp32, "),
        (["-m", "nothing"], "nothing: no model.yaml, which describes an exported model"),
        (["-m", "MODEL", "--out", "x.txt"], "--out x.txt: expected a .json or .npz file"),
        (["-m", "MODEL", "--backend", "tensorrt"], "backend tensorrt is not available"),
        (["-m", "MODEL", "-o", "PIPELINE.test.sample.num_seg=3"], "the program takes frames"),
        (["-m", "MODEL", "-o", "MODEL.head.num_classes=7"], "7"),
        ([], "--test needs weights"),
    ],
)
def test_rejects_what_does_not_fit(exported, monkeypatch, capsys, flags, message):
    flags = [exported.folder if flag == "MODEL" else flag for flag in flags]
    assert command(monkeypatch, "-c", exported.config, *flags) == 1
    assert message in capsys.readouterr().err


def test_a_program_without_test_is_refused(exported, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["main.py", "-c", str(exported.config), "-m", "x"])
    assert main.main() == 1
    assert "-m is for --test, which runs an exported model" in capsys.readouterr().err
