"""A test on clips that the checkpoint was trained on says so."""

import logging

import pytest

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.engine.checkpoint import read_checkpoint

SHORT = ("epochs=1", "max_iters=1", "MODEL.head.num_classes=3")


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    return caplog


def test_training_clips_in_a_test_are_counted(small, clips, tmp_path, log):
    train_clips = sorted((clips / "train").rglob("*.mp4"))
    new = sorted((clips / "test").rglob("*.mp4"))[:2]
    lists = {"half": train_clips[:3], "other": train_clips[3:6], "mixed": [*train_clips[:2], *new]}
    for name, paths in lists.items():
        lines = "".join(f"{path} {number % 3}\n" for number, path in enumerate(paths))
        (tmp_path / f"{name}.txt").write_text(lines, encoding="utf-8")

    def config(name, *overrides):
        files = [f"DATASET.{name}.file_path={tmp_path}/{value}.txt" for name, value in overrides]
        return small(*SHORT, f"output_dir={tmp_path}/{name}", *files)

    first = config("first", ("train", "half"), ("valid", "half"))
    train(first, validate=False)
    weights = f"{tmp_path}/first/ppTSN_epoch_00001.pdparams"
    second = config("second", ("train", "other"), ("valid", "other"))
    train(second, validate=False, weights=weights)
    both = f"{tmp_path}/second/ppTSN_latest.pdstate"
    trained = [read_checkpoint(path)[2] for path in (weights, both)]
    assert [len(found.digests) for found in trained if found] == [3, 6]

    def counted(path, *lists):
        log.clear()
        run_test(config("none", *lists), path)
        return [line.partition(" test clips")[0] for line in log.messages if "test clips" in line]

    assert counted(weights, ("test", "half")) == ["3 of 3"]
    assert counted(weights, ("test", "other")) == []
    assert counted(weights, ("test", "mixed")) == ["2 of 4"]
    assert counted(both, ("test", "half")) == ["3 of 3"]
