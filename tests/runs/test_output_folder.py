"""Trainings and their output folder: one run at a time, and a folder that disappears."""

import errno
import logging
import os
import shutil
from pathlib import Path

import pytest

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.engine import train as train_module
from paddlevideo.engine.run_lock import FILE, FolderInUse, acquire
from paddlevideo.exporting import export as export_module
from paddlevideo.exporting.export import export
from paddlevideo.files import machine


def at_step(monkeypatch, step, action):
    """Call `action` before the `step`-th training step."""
    real_step, count = train_module.train_step, iter(range(1, 1000))

    def step_with_action(*args):
        if next(count) == step:
            action()
        return real_step(*args)

    monkeypatch.setattr(train_module, "train_step", step_with_action)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, without the board of VisualDL, if that is installed."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_second_run_is_refused_and_changes_nothing(small, monkeypatch):
    cfg = small("epochs=1")
    files = []

    def start_another():
        before = contents(Path(cfg.folder))
        for other in (cfg, small("epochs=1", "model_name=another")):
            with pytest.raises(FolderInUse, match=rf"process {os.getpid()} on "):
                train(other)
        files.append((before, contents(Path(cfg.folder))))

    at_step(monkeypatch, 2, start_another)
    train(cfg)
    ((before, after),) = files
    assert before == after and FILE in before
    assert not Path(cfg.folder, FILE).exists()


def test_tests_and_exports_read_the_folder_of_a_running_training(small, tmp_path):
    cfg = small("epochs=1")
    train(cfg)
    lock = acquire(Path(cfg.folder))
    try:
        weights = f"{cfg.folder}/ppTSN_best.pdparams"
        assert run_test(cfg, weights).numbers["num_samples"] == 7
        assert (export(cfg, weights, tmp_path / "exported", ["pir"]) / "model.yaml").exists()
    finally:
        lock.release()


def remove(folder):
    shutil.rmtree(folder)


def empty(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def rename(folder):
    folder.rename(folder.with_name("renamed"))


def replace(folder):
    shutil.rmtree(folder)
    folder.mkdir()


SLOW = [pytest.param(change, marks=pytest.mark.slow) for change in (empty, rename)]


@pytest.mark.parametrize("change", [remove, replace, *SLOW])
def test_a_folder_that_disappears_is_an_error_and_the_state_is_saved(small, monkeypatch, change):
    cfg = small()
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: change(Path(cfg.folder)))
        with pytest.raises(OSError, match=r"out was removed or emptied.*continue with --resume"):
            train(cfg)
    assert train(cfg, resume="auto").progress.epoch == 2


def test_a_run_whose_lock_was_deleted_does_not_write_over_the_next_one(small, monkeypatch):
    cfg = small()
    others = []

    def another_takes_it():
        Path(cfg.folder, FILE).unlink()
        others.append(acquire(Path(cfg.folder)))

    at_step(monkeypatch, 3, another_takes_it)
    try:
        with pytest.raises(FolderInUse, match="has taken this output folder"):
            train(cfg)
        assert not list(Path(cfg.folder).glob("*.pdparams"))
        assert others[0].is_kept()
    finally:
        others[0].release()


def test_a_run_removes_temporary_files_of_killed_ones(small, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    cfg = small("epochs=1", "max_iters=1")
    folder = Path(cfg.folder)
    folder.mkdir(parents=True)
    # The lock proves that no other run writes the first three; the others belong to dead processes.
    parent = os.getppid()
    names = ["ppTSN_latest.pdstate", "run.yaml", "valid_best.json"]
    left = [f".{name}.{machine()}-{parent}-0.tmp" for name in names]
    left += [f".run.yaml.{2**22 + 1}.tmp", f".report.html.{machine()}-{2**22 + 1}-5.tmp"]
    kept = f".report.html.{machine()}-{parent}-0.tmp"
    for name in [*left, kept]:
        (folder / name).touch()
    train(cfg, validate=False)
    assert [p.name for p in folder.iterdir() if p.name.endswith(".tmp")] == [kept]
    assert all(name in caplog.text for name in left), "says so"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_an_export_on_a_full_disk_names_its_folder(small, tmp_path, monkeypatch, number):
    cfg = small("epochs=1", "max_iters=1")
    train(cfg, validate=False)

    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(export_module, "_write_programs", lambda formats, job: None)
    monkeypatch.setattr(export_module.np, "savez_compressed", full)
    out = tmp_path / "exported"
    message = f"cannot write the export to {out}: {os.strerror(number)}; an earlier export is kept"
    with pytest.raises(OSError, match=message):
        export(cfg, f"{cfg.folder}/ppTSN_epoch_00001.pdparams", out)
    assert not out.exists()
