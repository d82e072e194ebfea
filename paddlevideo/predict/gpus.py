"""GPUs of runtimes: which runtime uses one, and whether there is one that Paddle does not know."""

from paddlevideo.runtimes.auto import by_rank
from paddlevideo.runtimes.base import Backend
from paddlevideo.runtimes.choose import RUNTIMES


def has_gpu(runtime: type[Backend]) -> bool:
    """Whether a runtime is installed and may run on a GPU of this machine."""
    return not runtime.missing() and runtime.has_gpu()


def uses_gpu(kind: str, device: str) -> bool:
    """Whether `open_backend` with this kind and device runs on a GPU, if it can open the program.

    OpenVINO takes one on request only.
    """
    if device == "cpu":
        return False
    kinds = by_rank(RUNTIMES, "gpu") if kind == "auto" else [kind]
    by_itself = device != "auto" or kind == "eager" or "gpu" in RUNTIMES[kinds[0]].auto_rank
    return by_itself and any(has_gpu(RUNTIMES[name]) for name in kinds)


def gpu_without_paddle(kind: str) -> str:
    """The option `device` with which `open_backend` uses a GPU that Paddle cannot; "" for none."""
    if not uses_gpu(kind, "gpu"):
        return ""
    return "auto" if kind == "auto" else "gpu"
