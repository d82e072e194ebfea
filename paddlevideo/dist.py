"""Distributed training: ranks, devices, threads, and sums over ranks.

On a single process every function that communicates does nothing. The launcher
(`python -m paddle.distributed.launch`) sets the environment; GPUs use NCCL, CPUs use gloo.
"""

import contextlib
import ctypes
import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.cores import num_cores
from paddlevideo.log import quiet_paddle_warnings

# Paddle warns while it is imported. Commands import Paddle here first, before they set up logging.
with warnings.catch_warnings():
    quiet_paddle_warnings()
    import paddle
    import paddle.distributed as paddle_dist

    from paddlevideo import paddle_internals


# Options of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
CHUNK = 1 << 26  # bytes that are sent to other ranks at once
# Paddle's variable that names how ranks communicate: gloo, nccl, or auto where it is not set.
BACKEND = "PADDLE_DISTRI_BACKEND"
INTERFACE = "GLOO_SOCKET_IFNAME"  # gloo's variable: the network interface that leads to other ranks

# --- ranks ----------------------------------------------------------------------------------------


def rank() -> int:
    return int(os.environ.get("PADDLE_TRAINER_ID", 0))


def world_size() -> int:
    return int(os.environ.get("PADDLE_TRAINERS_NUM", 1))


def local_size() -> int:
    """The number of ranks on this machine."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE", 0)) or world_size()


def is_main() -> bool:
    return rank() == 0


def host() -> str:
    """The address of this machine that the launcher gave to the other ranks."""
    endpoint = os.environ.get("PADDLE_CURRENT_ENDPOINT") or "127.0.0.1:0"
    return endpoint.rpartition(":")[0]


def init_ranks() -> None:
    """Connect to the other ranks; does nothing on a single process, or when called again.

    Raises:
        ConnectionError: other machines cannot find this one.
    """
    if world_size() == 1 or paddle_dist.is_initialized():
        return
    if paddle.get_device() == "cpu":
        _choose_interface()
    before = os.environ.get(BACKEND)
    if paddle.is_compiled_with_cuda() and paddle.get_device() == "cpu":
        # A GPU build would take NCCL, which ends a process that has no GPU.
        os.environ[BACKEND] = "gloo"
    try:
        paddle_dist.init_parallel_env()
    finally:
        if before is None:
            os.environ.pop(BACKEND, None)
        else:
            os.environ[BACKEND] = before


def _choose_interface() -> None:
    """Let gloo use the loopback interface if the name of this machine has no address.

    Gloo asks for the address of that name. A laptop without a network, or a container, may have
    none; ranks on one machine do not need it.
    """
    name = socket.gethostname()
    if INTERFACE in os.environ:
        return
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        if local_size() < world_size():
            raise ConnectionError(
                f"the name of this machine, {name}, has no address, so ranks on other machines "
                f"cannot find this one; set {INTERFACE} to the interface that leads to them (see "
                "'ip address'), or add the address to /etc/hosts"
            ) from error
        for _, interface in socket.if_nameindex():
            if interface.startswith("lo"):
                os.environ[INTERFACE] = interface


class LostRank(ConnectionError):
    """The connection to another rank was lost."""


# Of gloo, NCCL and the store in which ranks meet.
LOST = re.compile(r"gloo|nccl|tcp_?(store|utils)|connection (reset|closed|refused)", re.IGNORECASE)


@contextlib.contextmanager
def explained_loss_of_ranks() -> Iterator[None]:
    """Inside the block, errors of gloo and NCCL become a message for users.

    An error in the backward pass ends the process inside Paddle, which nothing can explain. Errors
    of this package pass: a server of files that refuses a connection is no lost rank.

    Raises:
        LostRank: another rank was killed, or its machine is gone.
    """
    try:
        yield
    except LostRank:
        raise
    except (RuntimeError, SystemError, ValueError, OSError) as error:
        is_own = type(error).__module__.partition(".")[0] == "paddlevideo"
        if world_size() == 1 or is_own or not LOST.search(str(error)):
            raise
        reason = " ".join(str(error).split())[-200:]
        raise LostRank(
            f"rank {rank()} of {world_size()} lost the connection to another rank, which was "
            "killed (often for lack of memory) or failed: see its log, workerlog.<rank> of the "
            f"launcher; then continue with --resume. ({reason})"
        ) from error


# --- devices and threads --------------------------------------------------------------------------


def count_gpus() -> tuple[int, str]:
    """(how many GPUs Paddle can use, why there is none or "")."""
    if not paddle.is_compiled_with_cuda():
        return 0, "this build of Paddle has no GPU support"
    try:
        number = paddle.device.cuda.device_count()
    except (RuntimeError, OSError, ValueError) as error:  # the driver does not work
        return 0, f"CUDA does not start: {' '.join(str(error).split())[-200:]}"
    return number, "" if number else "this machine has no GPU"


def num_gpus() -> int:
    """How many GPUs Paddle can use."""
    return count_gpus()[0]


def has_tf32(number: int) -> bool:
    """Whether a GPU rounds the factors of float32 products to TF32 (10 bits of fraction)."""
    major, _ = paddle.device.cuda.get_device_capability(number)
    return major >= 8 and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"


def memory_mb() -> dict[str, int]:
    """Peak memory (MB) of this process on its GPU, in use and reserved; empty on a CPU."""
    device = paddle.get_device()
    if not device.startswith("gpu"):
        return {}
    cuda = paddle.device.cuda
    return {
        "gpu_memory_mb": cuda.max_memory_allocated(device) >> 20,
        "gpu_reserved_mb": cuda.max_memory_reserved(device) >> 20,
    }


def assigned_gpu() -> str:
    """The number of the GPU that the launcher assigned to this rank; "" where it assigned none."""
    return os.environ.get("FLAGS_selected_gpus", "").split(",")[0]  # noqa: SIM112, Paddle's name


def choose_device(use_gpu: bool | None) -> tuple[str, str]:
    """Select the device of this rank.

    Args:
        use_gpu: True requests a GPU, False the CPU, None a GPU if there is one. A GPU that the
            launcher assigned to this rank is used in every case.

    Returns:
        The device ("cpu", "gpu:0"), and a note if it is not the requested one, else "".

    Raises:
        ValueError: the launcher assigned a GPU number that this machine does not have.
    """
    assigned = assigned_gpu()
    use_gpu = True if assigned else use_gpu
    num_available, lack = count_gpus()
    if use_gpu is False or not num_available:
        paddle.set_device("cpu")
        if use_gpu:
            return "cpu", f"a GPU was asked for, but {lack}: running on the CPU"
        broken = use_gpu is None and lack.startswith("CUDA")
        return "cpu", f"{lack}: running on the CPU" if broken else ""
    number = int(assigned) if assigned.isdigit() else 0
    if number >= num_available:
        raise ValueError(
            f"--gpus gave rank {rank()} GPU {number}, "
            f"but this machine has {num_available} (0 to {num_available - 1})"
        )
    paddle.set_device(f"gpu:{number}")
    return f"gpu:{number}", ""


def make_deterministic() -> None:
    """Select GPU kernels with bit-identical results from run to run; CPU kernels always are."""
    if paddle.is_compiled_with_cuda():
        paddle.set_flags({"FLAGS_cudnn_deterministic": True, "FLAGS_embedding_deterministic": 1})


def use_threads(number: int | None = None) -> int:
    """Set the number of compute threads of this process, and return it.

    Paddle uses a single thread where OMP_NUM_THREADS is unset. Call this before the first matrix
    product, because it also selects the code path of MKL (`mkl_code_path`).

    Args:
        number: None for the cores that this process may use, divided by the ranks on this machine.
    """
    mkl = mkl_code_path(_cpuinfo())
    if mkl:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", mkl)
    if number is None:
        number = max(1, num_cores() // local_size())
    paddle_internals.set_num_threads(number)
    return number


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors in this process, for the tensors of the next step.

    glibc returns blocks above 32 MB to the system as soon as they are freed. The system clears each
    page that it gives again, which took 0 to 30 % of a training step on a CPU; the process needs
    about a third more memory. Does nothing with another C library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc, or Windows
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def mkl_code_path(cpuinfo: str) -> str:
    """The value of MKL_DEBUG_CPU_TYPE for this processor; "" where MKL chooses well by itself.

    Paddle ships MKL 2019, which takes a slow path on processors that Intel did not make. Its matrix
    products are 2 to 5 times faster with AVX2 (5) or AVX-512 (7) code (docs/benchmarks.md). Users
    may set the variable themselves; 0 leaves the choice to MKL.

    Args:
        cpuinfo: the text of /proc/cpuinfo.
    """
    lines = cpuinfo.splitlines()
    vendor = next((line for line in lines if line.startswith("vendor_id")), "")
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    if not vendor or "GenuineIntel" in vendor:
        return ""
    if {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "7"
    return "5" if "avx2" in flags else ""


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


# --- values of all ranks --------------------------------------------------------------------------


def sum_over_ranks(values: Mapping[str, np.ndarray | np.float64]) -> dict[str, np.ndarray]:
    """Element-wise float64 sums of arrays over all ranks, bit-identical on each rank."""
    states = gather(values)
    total = {key: np.array(value, np.float64) for key, value in states[0].items()}
    for state in states[1:]:
        for key in total:
            total[key] += state[key]
    return total


def gather(value: Any) -> list[Any]:
    """`[value of rank 0, value of rank 1, ...]` on every rank.

    Values are sent as pickles between the ranks of one run; use it for small values.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = []
    paddle_dist.all_gather_object(values, value)
    return values


def broadcast_bytes(content: bytes, source: int) -> bytes:
    """The content that rank `source` gives, on every rank; other ranks may give anything."""
    size = int(gather(len(content))[source])
    received = []
    for start in range(0, size, CHUNK):
        length = min(CHUNK, size - start)
        part = content[start : start + length] if rank() == source else bytes(length)
        tensor = paddle.to_tensor(np.frombuffer(part, np.uint8))
        if world_size() > 1:
            paddle_dist.broadcast(tensor, src=source)
        received.append(tensor.numpy().tobytes())
    return b"".join(received)


def average(tensors: list[paddle.Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in place."""
    if world_size() == 1:
        return
    for tensor in tensors:
        paddle_dist.all_reduce(tensor)
        tensor.set_value(tensor / world_size())
