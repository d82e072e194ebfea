"""Ranks, devices and threads: no-ops on one process, exact sums on two."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import paddle
import pytest

from paddlevideo import dist
from paddlevideo.data.lists import DatasetError
from paddlevideo.remote import MissingError, RemoteError
from paddlevideo.sample import DecodeError


def test_one_process_does_not_communicate():
    assert (dist.rank(), dist.world_size(), dist.is_main()) == (0, 1, True)
    dist.init_ranks()
    assert dist.gather({"a": 1}) == [{"a": 1}]
    tensor = paddle.to_tensor([1.0, 2.0])
    dist.average([tensor])
    assert tensor.tolist() == [1.0, 2.0]


def test_sums_are_float64_and_copies():
    counts = {"hits": np.array([3, 4]), "n": np.float32(7)}
    total = dist.sum_over_ranks(counts)
    assert total["hits"].dtype == np.float64
    assert total["hits"].tolist() == [3, 4] and total["n"] == 7
    total["hits"] += 1
    assert counts["hits"].tolist() == [3, 4]


def test_reads_the_rank_that_the_launcher_sets(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "2")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "4")
    assert (dist.rank(), dist.world_size(), dist.is_main()) == (2, 4, False)


def test_the_address_is_that_of_the_launcher(monkeypatch):
    monkeypatch.delenv("PADDLE_CURRENT_ENDPOINT", raising=False)
    assert dist.host() == "127.0.0.1"
    monkeypatch.setenv("PADDLE_CURRENT_ENDPOINT", "10.0.0.7:41234")
    assert dist.host() == "10.0.0.7"


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 3, b"1234567", b"12345678"])
def test_bytes_are_sent_in_chunks(monkeypatch, content):
    monkeypatch.setattr(dist, "CHUNK", 7)
    assert dist.broadcast_bytes(content, 0) == content


def fake_machine(monkeypatch, gpus: int, compiled: bool = True) -> list[str]:
    """Let Paddle see this many GPUs; returns the devices that are set."""
    chosen = []
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: compiled)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(paddle, "set_device", lambda name: chosen.append(name) or name)
    return chosen


def no_address(*_):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("given", [None, "eth7"])
def test_ranks_on_one_machine_need_no_address_of_its_name(monkeypatch, given):
    """Gloo needs an address or an interface; a laptop without a network has only the latter."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv(dist.INTERFACE, given or "")
    if given is None:
        monkeypatch.delenv(dist.INTERFACE)
    monkeypatch.setattr(paddle, "get_device", lambda: "cpu")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    used = []
    monkeypatch.setattr(
        dist.paddle_dist, "init_parallel_env", lambda: used.append(os.environ.get(dist.INTERFACE))
    )
    dist.init_ranks()
    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "eth0"), (2, "lo")])
    dist.init_ranks()
    assert used == [given, given or "lo"]


def test_ranks_on_several_machines_need_an_address(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "4")
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "2")
    monkeypatch.delenv(dist.INTERFACE, raising=False)
    monkeypatch.setattr(paddle, "get_device", lambda: "cpu")
    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    with pytest.raises(ConnectionError, match="node7, has no address, .*set GLOO_SOCKET_IFNAME to"):
        dist.init_ranks()


NO_GPU = "a GPU was asked for, but this machine has no GPU: running on the CPU"
NO_SUPPORT = "a GPU was asked for, but this build of Paddle has no GPU support: running on the CPU"


@pytest.mark.parametrize(
    ("use_gpu", "gpus", "compiled", "device", "note"),
    [
        (None, 0, True, "cpu", ""),
        (None, 2, True, "gpu:0", ""),
        (False, 2, True, "cpu", ""),
        (True, 1, True, "gpu:0", ""),
        (True, 0, True, "cpu", NO_GPU),
        (True, 0, False, "cpu", NO_SUPPORT),
    ],
)
def test_chooses_the_device(monkeypatch, use_gpu, gpus, compiled, device, note):
    monkeypatch.delenv("FLAGS_selected_gpus", raising=False)
    chosen = fake_machine(monkeypatch, gpus, compiled)
    assert dist.choose_device(use_gpu) == (device, note)
    assert chosen == [device]


def test_uses_the_gpu_that_the_launcher_assigned(monkeypatch):
    chosen = fake_machine(monkeypatch, 2)
    monkeypatch.setenv("FLAGS_selected_gpus", "1")
    assert dist.choose_device(None) == ("gpu:1", "") and chosen == ["gpu:1"]
    monkeypatch.setenv("FLAGS_selected_gpus", "7")
    message = r"--gpus gave rank 0 GPU 7, but this machine has 2 \(0 to 1\)"
    with pytest.raises(ValueError, match=message):
        dist.choose_device(True)


def test_divides_the_cores_by_the_ranks_of_the_machine(monkeypatch):
    numbers = []
    monkeypatch.setattr(dist.paddle_internals, "set_num_threads", numbers.append)
    monkeypatch.setattr(dist, "num_cores", lambda: 8)
    assert dist.use_threads() == 8
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "3")
    assert dist.use_threads() == 2
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "16")
    assert dist.use_threads() == 1
    assert dist.use_threads(5) == 5
    assert numbers == [8, 2, 1, 5]


def test_keeps_freed_memory(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, option, value):
            calls.append((option, value))

    monkeypatch.setattr(dist.ctypes, "CDLL", lambda name: Library())
    dist.keep_freed_memory()
    assert calls == [(-3, 2**30), (-1, 2**31 - 1)]  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    monkeypatch.setattr(dist.ctypes, "CDLL", lambda name: object())  # another C library
    dist.keep_freed_memory()


def test_selects_deterministic_kernels_on_a_gpu_build_only(monkeypatch):
    flags = {}
    monkeypatch.setattr(paddle, "set_flags", flags.update)
    fake_machine(monkeypatch, 1, compiled=False)
    dist.make_deterministic()
    assert flags == {}
    fake_machine(monkeypatch, 1)
    dist.make_deterministic()
    assert flags["FLAGS_cudnn_deterministic"] is True


GLOO = "[/paddle/gloo/transport/tcp/pair.cc:576] Read error [127.0.0.1]:53654: Connection reset"
LOSSES = [
    RuntimeError(GLOO),
    RuntimeError("[pair.cc:584] gloo::TimeoutException TIMEOUT self_rank = 1"),
    SystemError("(External) NCCL error(6), remote process has exited"),
    ValueError("TCPStore: connection refused"),
    ConnectionResetError(104, "Connection reset by peer"),
]


@pytest.mark.parametrize("error", LOSSES, ids=lambda error: type(error).__name__)
def test_explains_a_lost_rank(monkeypatch, error):
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    message = r"rank 0 of 2 lost the connection to another rank, .*workerlog.*--resume"
    with pytest.raises(dist.LostRank, match=message), dist.explained_loss_of_ranks():
        raise error
    monkeypatch.setattr(dist, "world_size", lambda: 1)
    with pytest.raises(type(error)) as caught, dist.explained_loss_of_ranks():
        raise error
    assert caught.value is error, "a single process has no other ranks"


def test_leaves_other_errors_of_ranks(monkeypatch):
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    for error in (
        ValueError("a.yaml:1: wrong"),
        RuntimeError("out of memory"),
        OSError(28, "full"),
        RemoteError("s3://data/a.mp4: no answer, or the connection broke: Connection refused"),
        MissingError("https://a.org/nccl.list: no such file"),
        DatasetError("/data/igloo/a.list:1: no label"),
        DecodeError("https://a.org/a.mp4: decode: Connection reset by peer"),
    ):
        with pytest.raises(type(error)) as caught, dist.explained_loss_of_ranks():
            raise error
        assert caught.value is error


LOST_RANK = """
    import os, signal, sys
    import paddle
    from paddlevideo import dist
    from paddlevideo.log import show_error

    paddle.set_device("cpu")
    try:
        with dist.explained_loss_of_ranks():
            dist.init_ranks()
            dist.gather(1)
            if dist.rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            while True:
                dist.gather(2)
    except OSError as error:
        show_error(error)
        sys.exit(1)
"""


@pytest.mark.slow
def test_a_killed_rank_gives_the_other_a_message(tmp_path, root):
    script = tmp_path / "lost.py"
    script.write_text(textwrap.dedent(LOST_RANK))
    command = [sys.executable, "-B", "-m", "paddle.distributed.launch", "--nproc_per_node=2"]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, f"--log_dir={tmp_path / 'log'}", str(script)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        timeout=240,
        check=False,
    )
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert "error: rank 0 of 2 lost the connection to another rank" in log, log[-3000:]
    assert '  File "' not in log, "no Python traceback"


TWO_RANKS = """
    import json, sys
    from pathlib import Path
    import numpy as np
    import paddle
    from paddlevideo import dist

    paddle.set_device("cpu")
    dist.init_ranks()
    dist.init_ranks()  # the second call does nothing
    rank = dist.rank()
    mean = paddle.to_tensor([1.0 + 2 * rank, 5.0])
    dist.average([mean])
    total = dist.sum_over_ranks({"n": np.array([rank + 1, 2**53 - 1]), "x": np.float64(0.1)})
    report = {
        "world": dist.world_size(),
        "main": dist.is_main(),
        "gather": dist.gather({"rank": rank, "text": "ü"}),
        "mean": mean.tolist(),
        "n": total["n"].tolist(),
        "x": float(total["x"]),
        "bytes": dist.broadcast_bytes(bytes([rank + 7] * (2 * rank + 3)), source=1).hex(),
    }
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(report))
"""


@pytest.mark.slow
def test_two_ranks_agree(tmp_path, root):
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
    log = tmp_path / "log" / "workerlog.0"
    assert done.returncode == 0, done.stderr[-1000:] + log.read_text()[-3000:]
    reports = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [r.pop("main") for r in reports] == [True, False]
    assert reports[0] == reports[1], "bit-identical on both ranks"
    assert reports[0] == {
        "world": 2,
        "gather": [{"rank": 0, "text": "ü"}, {"rank": 1, "text": "ü"}],
        "mean": [2.0, 5.0],
        "n": [3.0, float(2 * (2**53 - 1))],
        "x": 0.2,
        "bytes": "0808080808",
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
def test_selects_the_mkl_code_path_of_the_processor(vendor, flags, path):
    cpuinfo = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n"
    assert dist.mkl_code_path(cpuinfo) == path


def test_leaves_the_choice_to_mkl_on_unknown_processors():
    assert dist.mkl_code_path("") == ""
    assert dist.mkl_code_path("CPU implementer : 0x41\nFeatures : asimd\n") == ""
