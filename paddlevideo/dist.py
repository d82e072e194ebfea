"""Ranks and what they share; on one process everything here is a no-op.

The launcher (`python -m paddle.distributed.launch`) sets the environment; NCCL serves GPUs, gloo serves CPUs.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.distributed as paddle_dist

from paddlevideo import paddle_internals


def rank() -> int:
    return int(os.environ.get("PADDLE_TRAINER_ID", 0))


def world_size() -> int:
    return int(os.environ.get("PADDLE_TRAINERS_NUM", 1))


def local_size() -> int:
    """Ranks on this machine."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE", 0)) or world_size()


def is_main() -> bool:
    return rank() == 0


def start() -> None:
    """Join the other ranks, once a process; nothing to do on one process."""
    if world_size() > 1 and not paddle_dist.is_initialized():
        paddle_dist.init_parallel_env()


def choose_device(use_gpu: bool | None) -> tuple[str, str]:
    """Select the device of this rank; returns (device, a line that says why it is another than was asked for, or "").

    Args:
        use_gpu: True and False ask for a device, None takes a GPU where there is one. A GPU that the launcher assigned is
            asked for, whatever this says.

    Raises:
        ValueError: the launcher gave this rank a GPU number that the machine does not have.
    """
    chosen = os.environ.get("FLAGS_selected_gpus", "").split(",")[0]  # noqa: SIM112, the launcher spells it so
    use_gpu = True if chosen else use_gpu
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if use_gpu is False or not gpus:
        paddle.set_device("cpu")
        reason = (
            "this build of Paddle has no GPU support"
            if not paddle.is_compiled_with_cuda()
            else "this machine has no GPU"
        )
        return (
            "cpu",
            f"a GPU was asked for, but {reason}: running on the CPU"
            if use_gpu and not gpus
            else "",
        )
    number = int(chosen) if chosen.isdigit() else 0
    if number >= gpus:
        raise ValueError(
            f"--gpus gave rank {rank()} GPU {number}, but this machine has {gpus} (0 to {gpus - 1})"
        )
    paddle.set_device(f"gpu:{number}")
    return f"gpu:{number}", ""


def make_deterministic() -> None:
    """Ask a GPU's libraries for kernels that give the same bits every time; a CPU's do so anyway."""
    if paddle.is_compiled_with_cuda():
        paddle.set_flags({"FLAGS_cudnn_deterministic": True, "FLAGS_embedding_deterministic": 1})


def use_threads(number: int | None = None) -> int:
    """Set the compute threads of this process: the cores it may use, shared with the ranks beside it.

    `import paddle` leaves one thread where OMP_NUM_THREADS is unset, so this must be asked for. The matrix library is told
    what the processor can do at the same time, which it must be before its first product.
    """
    mkl = mkl_code_path(_cpuinfo())
    if mkl:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", mkl)
    if number is None:
        number = (
            max(1, len(os.sched_getaffinity(0)) // local_size())
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    paddle_internals.set_num_threads(number)
    return number


def mkl_code_path(cpuinfo: str) -> str:
    """The value of MKL_DEBUG_CPU_TYPE that suits this processor, "" where MKL chooses well by itself.

    Paddle ships MKL 2019, which takes a slow path on processors of other makers than Intel: its products are 2 to 5 times
    as fast with AVX2 (5) or AVX-512 (7) code (docs/benchmarks.md). A value that is set already is left alone; 0 leaves the
    choice to MKL.

    Args:
        cpuinfo: the text of /proc/cpuinfo.
    """
    vendor = next((line for line in cpuinfo.splitlines() if line.startswith("vendor_id")), "")
    flags = set(
        next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    )
    if not vendor or "GenuineIntel" in vendor:
        return ""
    if {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "7"
    return "5" if "avx2" in flags else ""


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def sum_over_ranks(values: Mapping[str, np.ndarray | np.float64]) -> dict[str, np.ndarray]:
    """Element-wise sum of float64 arrays over all ranks, the same bits on each."""
    states = gather(values)
    total = {key: np.array(value, np.float64) for key, value in states[0].items()}
    for state in states[1:]:
        for key in total:
            total[key] += state[key]
    return total


def gather(value: Any) -> list[Any]:
    """`[value of rank 0, value of rank 1, ...]`, on every rank; for small things, they are pickled among our own ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = []
    paddle_dist.all_gather_object(values, value)
    return values


def average(tensors: list[paddle.Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in place."""
    if world_size() == 1:
        return
    for tensor in tensors:
        paddle_dist.all_reduce(tensor)
        tensor.set_value(tensor / world_size())
