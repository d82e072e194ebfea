"""A second training, test or export in the folder of the first one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import main
from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.failures import TooManyFailures
from paddlevideo.engine.earlier_run import FolderHoldsRun
from paddlevideo.metrics.score_files import read_scores, recorded_test

SHORT = ("epochs=1", "max_iters=1")


def contents(folder) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def test_the_same_training_again_changes_nothing(small):
    cfg = small(*SHORT)
    train(cfg)
    before = contents(cfg.folder)
    for other in (cfg, small(*SHORT, "model_name=another"), small(*SHORT, "seed=5")):
        with pytest.raises(FolderHoldsRun, match="holds another run"):
            train(other)
    assert contents(cfg.folder) == before


def test_overwrite_replaces_the_run_once_the_new_one_is_ready(small):
    cfg = small("epochs=2", "max_iters=1")
    train(cfg)
    notes = Path(cfg.folder, "notes.md")
    notes.write_text("mine", encoding="utf-8")
    exported = Path(cfg.folder, "inference", "model.yaml")
    exported.parent.mkdir()
    exported.write_text("of the earlier run", encoding="utf-8")
    before = contents(cfg.folder)
    state = Path(cfg.folder, "ppTSN_latest.pdstate")
    with pytest.raises(FolderHoldsRun, match="no ppTSN_latest.pdstate, so --resume would start"):
        state.rename(notes.with_name("moved"))
        train(cfg, resume="auto")
    notes.with_name("moved").rename(state)
    assert contents(cfg.folder) == before
    with pytest.raises(ConfigError, match="GRADIENT_ACCUMULATION"):
        train(small(*SHORT, "GRADIENT_ACCUMULATION.global_batch_size=7"), overwrite=True)
    log = str(Path(cfg.folder, "log.txt"))
    after = contents(cfg.folder)
    assert after.pop(log).startswith(before.pop(log)) and after == before
    best = f"{cfg.folder}/ppTSN_epoch_00002.pdparams"
    train(small(*SHORT), validate=False, weights=best, overwrite=True)
    names = {path.name for path in Path(cfg.folder).iterdir()}
    assert "ppTSN_epoch_00002.pdopt" not in names and "ppTSN_best.pdparams" not in names
    assert not exported.exists(), "it was made of the earlier run"
    assert Path(best).exists() and notes.read_text(encoding="utf-8") == "mine"
    text = Path(log).read_text(encoding="utf-8")
    assert text.count("compute thread(s)") == 1, "the log of the earlier runs is gone"
    rows = Path(cfg.folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(row)["epoch"] for row in rows} == {0}


def test_a_run_that_failed_in_its_first_epoch_leaves_a_free_folder(small, tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/empty.mp4 0\n" * 6, encoding="utf-8")
    options = (f"DATASET.train.file_path={tmp_path}/list.txt", "MODEL.head.num_classes=3")
    with pytest.raises(TooManyFailures):
        train(small(*options), validate=False)
    assert Path(small().folder, "run.yaml").exists()
    train(small(*SHORT))


def test_the_command_names_the_ways_on(small, monkeypatch, capsys):
    monkeypatch.chdir(Path(small().origin.path).parent)

    def run(*flags):
        words = ["main.py", "-c", small().origin.path, "-o", "epochs=1", "-o", "max_iters=1"]
        monkeypatch.setattr("sys.argv", [*words, *flags])
        code = main.main()
        return code, capsys.readouterr().err

    assert run("--name", "a b") == (0, "")
    code, error = run("--name", "a b")
    assert code == 1 and error.startswith("error: output/a b holds another run (")
    assert run("--name", "a b", "--overwrite") == (0, "")
    assert run("--name", "c") == (0, "")
    code, error = run("--name", "c", "-o", "output_dir=d")
    assert code == 1
    assert "--name c and -o output_dir=d are both given; leave one of them out" in error
    code, error = run("--name", "c", "--overwrite", "--resume")
    assert code == 1 and "leave one of them out" in error


@pytest.mark.parametrize("suffix", [".json", pytest.param(".npz", marks=pytest.mark.slow)])
def test_scores_of_another_test_are_kept(small, tmp_path, suffix):
    cfg = small(*SHORT)
    train(cfg)
    best, latest = (f"{cfg.folder}/ppTSN_{name}" for name in ("best.pdparams", "latest.pdstate"))
    out = tmp_path / f"scores{suffix}"
    run_test(cfg, best, str(out))
    first = out.read_bytes()
    run_test(cfg, best, str(out))
    run_test(cfg, latest, str(out))  # the same weights
    if suffix == ".json":
        assert out.read_bytes() == first
    train(small(*SHORT, "seed=5", f"output_dir={tmp_path}/other"))
    other = f"{tmp_path}/other/ppTSN_best.pdparams"
    views = small(*SHORT, "PIPELINE.test.transform.1={CenterCrop: {target_size: 32}}")
    kept = out.read_bytes()
    for again, weights in ((cfg, other), (views, best)):
        with pytest.raises(
            ConfigError, match=rf"--out {re.escape(str(out))}: another test, .*--overwrite"
        ):
            run_test(again, weights, str(out))
    assert out.read_bytes() == kept
    run_test(views, best, str(out), overwrite=True)
    assert recorded_test(out) and out.read_bytes() != kept
    assert read_scores(out).values.shape == (7, 3)


def test_a_file_that_no_test_wrote_is_kept(small, tmp_path):
    cfg = small(*SHORT)
    train(cfg)
    for name, write in (
        ("notes.json", lambda path: path.write_text('{"mine": 1}', encoding="utf-8")),
        ("list.json", lambda path: path.write_text("[[0.5, 0.5]]", encoding="utf-8")),
        ("arrays.npz", lambda path: np.savez(path, scores=np.ones(3))),
        ("text.npz", lambda path: path.write_text("no archive", encoding="utf-8")),
    ):
        out = tmp_path / name
        write(out)
        before = out.read_bytes()
        with pytest.raises(ConfigError, match="or another program wrote this file"):
            run_test(cfg, f"{cfg.folder}/ppTSN_best.pdparams", str(out))
        assert out.read_bytes() == before
