"""Ranks: no-ops on one process, exact sums on two."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import paddle
import pytest

from paddlevideo import dist


@pytest.fixture
def cpu():
    yield
    paddle.set_device("cpu")


def test_one_process_needs_nobody():
    assert (dist.rank(), dist.world_size(), dist.is_main()) == (0, 1, True)
    dist.start()
    assert dist.gather({"a": 1}) == [{"a": 1}]
    tensor = paddle.to_tensor([1.0, 2.0])
    dist.average([tensor])
    assert tensor.tolist() == [1.0, 2.0]


def test_sums_are_float64_and_leave_the_input_alone():
    counts = {"hits": np.array([3, 4]), "n": np.float32(7)}
    total = dist.sum_over_ranks(counts)
    assert (
        total["hits"].dtype == np.float64 and total["hits"].tolist() == [3, 4] and total["n"] == 7
    )
    total["hits"] += 1
    assert counts["hits"].tolist() == [3, 4]


def test_the_launcher_says_who_this_is(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "2")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "4")
    assert (dist.rank(), dist.world_size(), dist.is_main()) == (2, 4, False)


def machine(monkeypatch, gpus: int, compiled: bool = True):
    chosen = []
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: compiled)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(paddle, "set_device", lambda name: chosen.append(name) or name)
    return chosen


@pytest.mark.parametrize(
    ("use_gpu", "gpus", "compiled", "device", "note"),
    [
        (None, 0, True, "cpu", ""),
        (None, 2, True, "gpu:0", ""),
        (False, 2, True, "cpu", ""),
        (True, 1, True, "gpu:0", ""),
        (
            True,
            0,
            True,
            "cpu",
            "a GPU was asked for, but this machine has no GPU: running on the CPU",
        ),
        (
            True,
            0,
            False,
            "cpu",
            "a GPU was asked for, but this build of Paddle has no GPU support: running on the CPU",
        ),
    ],
)
def test_device(monkeypatch, use_gpu, gpus, compiled, device, note):
    monkeypatch.delenv("FLAGS_selected_gpus", raising=False)
    chosen = machine(monkeypatch, gpus, compiled)
    assert dist.choose_device(use_gpu) == (device, note)
    assert chosen == [device]


def test_device_of_a_rank(monkeypatch):
    chosen = machine(monkeypatch, 2)
    monkeypatch.setenv("FLAGS_selected_gpus", "1")
    assert dist.choose_device(None) == ("gpu:1", "") and chosen == ["gpu:1"]
    monkeypatch.setenv("FLAGS_selected_gpus", "7")
    with pytest.raises(
        ValueError, match=r"--gpus gave rank 0 GPU 7, but this machine has 2 \(0 to 1\)"
    ):
        dist.choose_device(True)


def test_threads_are_shared_between_the_ranks_of_a_machine(monkeypatch):
    asked = []
    monkeypatch.setattr(dist.paddle_internals, "set_num_threads", asked.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert dist.use_threads() == 8
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "3")
    assert dist.use_threads() == 2
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "16")
    assert dist.use_threads() == 1
    assert dist.use_threads(5) == 5
    assert asked == [8, 2, 1, 5]


def test_deterministic_kernels_are_asked_of_a_gpu_only(monkeypatch):
    asked = {}
    monkeypatch.setattr(paddle, "set_flags", asked.update)
    machine(monkeypatch, 1, compiled=False)
    dist.make_deterministic()
    assert asked == {}
    machine(monkeypatch, 1)
    dist.make_deterministic()
    assert asked["FLAGS_cudnn_deterministic"] is True


TWO_RANKS = """
    import json, sys
    from pathlib import Path
    import numpy as np
    import paddle
    from paddlevideo import dist

    paddle.set_device("cpu")
    dist.start()
    dist.start()  # once is enough, twice does no harm
    me = dist.rank()
    mean = paddle.to_tensor([1.0 + 2 * me, 5.0])
    dist.average([mean])
    total = dist.sum_over_ranks({"n": np.array([me + 1, 2**53 - 1 + 0 * me]), "x": np.float64(0.1)})
    report = {"world": dist.world_size(), "main": dist.is_main(), "gather": dist.gather({"rank": me, "text": "ü"}),
              "mean": mean.tolist(), "n": total["n"].tolist(), "x": float(total["x"])}
    Path(sys.argv[1], f"{me}.json").write_text(json.dumps(report))
"""


@pytest.mark.slow
def test_two_ranks(tmp_path, root):
    import json

    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(TWO_RANKS))
    command = [
        sys.executable,
        "-B",
        "-m",
        "paddle.distributed.launch",
        "--nproc_per_node=2",
        f"--log_dir={tmp_path / 'log'}",
    ]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    reports = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [r.pop("main") for r in reports] == [True, False]
    assert reports[0] == reports[1], "every rank has the same bits"
    assert reports[0] == {
        "world": 2,
        "gather": [{"rank": 0, "text": "ü"}, {"rank": 1, "text": "ü"}],
        "mean": [2.0, 5.0],
        "n": [3.0, float(2 * (2**53 - 1))],
        "x": 0.2,
    }


@pytest.mark.parametrize(
    ("vendor", "flags", "path"),
    [
        ("GenuineIntel", "avx2 avx512f avx512cd avx512bw avx512dq avx512vl", ""),
        ("AuthenticAMD", "sse2 avx avx2", "5"),
        ("AuthenticAMD", "avx2 avx512f avx512cd avx512bw avx512dq avx512vl", "7"),
        ("AuthenticAMD", "avx2 avx512f", "5"),
        ("AuthenticAMD", "sse2", ""),
    ],
)
def test_mkl_is_told_what_the_processor_can_do(vendor, flags, path):
    assert (
        dist.mkl_code_path(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
        == path
    )


def test_mkl_is_left_alone_where_nothing_is_known():
    assert (
        dist.mkl_code_path("") == ""
        and dist.mkl_code_path("CPU implementer : 0x41\nFeatures : asimd\n") == ""
    )
