"""Several CPU ranks under Paddle's launcher: the same numbers, and an exact resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.api import test as run_test
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.exporting.export import export
from paddlevideo.weights import checksum, state_arrays, write_arrays

LIMIT = 600  # seconds; a run that takes longer hangs


def launch(root: Path, folder: Path, ranks: int, *arguments: str) -> subprocess.Popen:
    """Start main.py on that many ranks; it prints to `console.txt` in `folder`."""
    command = [sys.executable, "-B", "-m", "paddle.distributed.launch", f"--nproc_per_node={ranks}"]
    command += [f"--log_dir={folder / 'log'}", "main.py", *arguments]
    with (folder / "console.txt").open("wb") as console:
        return subprocess.Popen(
            command, cwd=root, stdout=console, stderr=subprocess.STDOUT, start_new_session=True
        )


def finish(process: subprocess.Popen, folder: Path) -> None:
    """Wait for a launched run, which must succeed."""
    try:
        code = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert code == 0, (folder / "console.txt").read_text()[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_resume_across_epochs(small, tmp_path, root):
    cfg = small()
    config = cfg.origin.path
    runs = {}
    for name in ("uninterrupted", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        arguments = ["--validate", "-c", config]
        arguments += ["-o", f"output_dir={folder}", "-o", "DATASET.batch_size=2"]
        state = folder / "ppTSN_latest.pdstate"
        process = launch(root, folder, 2, *arguments)
        if name == "killed":
            deadline = time.time() + LIMIT
            while not state.exists() and process.poll() is None and time.time() < deadline:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)  # in the second epoch
            process.wait()
            assert state.exists(), (folder / "console.txt").read_text()[-3000:]
            process = launch(root, folder, 2, *arguments, "--resume")
        finish(process, folder)
        runs[name] = checksum(read_model(state)[0])
    assert runs["killed"] == runs["uninterrupted"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks", [2, 3])
def test_evaluation_is_the_same_on_any_number_of_ranks(small, tmp_path, root, ranks):
    cfg = small()
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    alone = run_test(cfg, str(tmp_path / "w.pdparams"), out=str(tmp_path / "one.npz"))
    out = tmp_path / "many.json"
    arguments = ["-c", cfg.origin.path, "-w", f"{tmp_path}/w.pdparams", "--out", str(out)]
    finish(launch(root, tmp_path, ranks, "--test", *arguments), tmp_path)
    together = json.loads(out.read_text())
    for key in ("top1", "top3", "mean_class_accuracy", "num_samples"):
        assert together["numbers"][key] == alone.numbers[key]
    one = np.load(tmp_path / "one.npz")
    assert [row["id"] for row in together["results"]] == one["id"].tolist() and len(one["id"]) == 7
    np.testing.assert_allclose(
        [row["scores"] for row in together["results"]], one["scores"], atol=1e-6
    )
    log = (tmp_path / "log" / f"workerlog.{ranks - 1}").read_text()
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_share_the_test_of_a_program(small, tmp_path, root):
    cfg = small()
    weights = write_arrays_of(build_model(cfg, 3), tmp_path / "w.pdparams")
    alone = run_test(cfg, str(weights))
    program = export(cfg, weights, tmp_path / "program")
    out = tmp_path / "many.json"
    arguments = ["-c", cfg.origin.path, "-m", str(program), "--out", str(out)]
    finish(launch(root, tmp_path, 2, "--test", *arguments), tmp_path)
    together = json.loads(out.read_text())
    assert len(together["results"]) == 7
    for key, value in alone.numbers.items():
        assert together["numbers"][key] == pytest.approx(value, abs=1e-4), key


def write_arrays_of(model, path: Path) -> Path:
    write_arrays(path, state_arrays(model))
    return path
