"""The state of the process that a test leaves as it found it, and the seeds of each test."""

import contextlib
import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import paddle
import threadpoolctl

from paddlevideo import paddle_internals
from paddlevideo.models import onednn
from tests.program_writer import WRITERS

ROOT = Path(__file__).resolve().parent.parent
CACHES = {".pytest_cache", ".ruff_cache", ".hypothesis", "__pycache__", ".coverage"}
# Variables that libraries set: pytest; Polygraphy, which Paddle2ONNX imports; librosa's packages.
LIBRARY_VARIABLES = {"PYTEST_CURRENT_TEST", "POLYGRAPHY_AUTOINSTALL_DEPS", "KMP_INIT_AT_FORK"}
ENDED = "ended, not waited for"  # a child without a command
SECONDS_TO_END = 10  # for processes and threads that a test has just stopped
SECONDS_WITHOUT_COLLECTION = 0.3  # most end by themselves; to collect all garbage takes as long
State = dict[str, Any]


class Part(NamedTuple):
    """A part of the state.

    Args:
        read: returns the part as `{name: value}`; values compare with `==`.
        restore: sets what `read` returned; None where a test must tidy up itself.
    """

    read: Callable[[], State]
    restore: Callable[[State], Any] | None = None


def is_alive(process: int) -> bool:
    """Whether a process runs; one that only waits for its parent to collect it does not."""
    try:
        os.kill(process, 0)
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return not Path("/proc").is_dir()
    except ProcessLookupError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def seed_all() -> None:
    """Seed the global generators of Python, NumPy and Paddle."""
    random.seed(0)
    np.random.seed(0)
    paddle.seed(0)


class ProcessState:
    """The state of the process at construction."""

    def __init__(self):
        self._parts = {title: part.read() for title, part in PARTS.items()}

    def restore(self) -> list[str]:
        """Return the state to this one, and describe each difference: "title: name was a, is b"."""
        found = []
        for title, part in PARTS.items():
            before, now = self._parts[title], part.read()
            if part.restore is None:
                now = _wait_for_the_end(part, before, now)
                self._parts[title] = now  # each remnant is reported once
                before = {name: now[name] for name in before.keys() & now.keys()}  # only new ones
            if before == now:
                continue
            if part.restore is not None:
                part.restore(before)
            found += [f"{title}: {line}" for line in _differences(before, now)]
        return found


def _wait_for_the_end(part: Part, before: State, now: State) -> State:
    """Give what is ending a few seconds; the state then, without the names that are gone."""
    start = collected = time.monotonic()
    while now.keys() - before.keys() and time.monotonic() < start + SECONDS_TO_END:
        if time.monotonic() > collected + SECONDS_WITHOUT_COLLECTION:
            gc.collect()  # ends pools in reference cycles
            collected = time.monotonic()
        time.sleep(0.01)
        now = part.read()
    return now


def _differences(before: State, now: State) -> list[str]:
    """A line for each name whose value differs."""
    names = [name for name in before | now if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names]


# --- Python -------------------------------------------------------------------------------------


def _environment() -> State:
    state = {key: value for key, value in os.environ.items() if key not in LIBRARY_VARIABLES}
    folders = state.get("PATH", "").split(os.pathsep)  # decord appends its own when it is imported
    return {**state, "PATH": os.pathsep.join(f for f in folders if "site-packages" not in f)}


def _restore_environment(before: State) -> None:
    for name in os.environ.keys() - before.keys() - LIBRARY_VARIABLES:
        del os.environ[name]
    os.environ.update(before)


def _interpreter() -> State:
    return {
        "working directory": os.getcwd(),
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "sys.excepthook": sys.excepthook,
        "recursion limit": sys.getrecursionlimit(),
        "temporary folder": tempfile.tempdir,
        "mode of new files": _umask(),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    }


def _umask() -> int:
    """What is taken from the mode of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _restore_interpreter(before: State) -> None:
    os.chdir(before["working directory"])
    sys.path[:] = before["sys.path"]
    sys.argv[:] = before["sys.argv"]
    sys.excepthook = before["sys.excepthook"]
    sys.setrecursionlimit(before["recursion limit"])
    tempfile.tempdir = before["temporary folder"]
    os.umask(before["mode of new files"])
    if before["cores"]:
        os.sched_setaffinity(0, before["cores"])


SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def _signals() -> State:
    return {number.name: signal.getsignal(number) for number in SIGNALS}


def _restore_signals(before: State) -> None:
    for number in SIGNALS:
        signal.signal(number, before[number.name])


def _loggers() -> State:
    """The loggers that this package or a library may change, without the handlers of pytest."""
    state = {}
    for name in ("root", "paddlevideo"):
        logger = logging.getLogger(name)
        handlers = [h for h in logger.handlers if type(h).__module__ != "_pytest.logging"]
        state[name] = (handlers, logger.level, logger.propagate, logger.disabled)
    return state


def _restore_loggers(before: State) -> None:
    for name, (handlers, level, propagate, disabled) in before.items():
        logger = logging.getLogger(name)
        of_pytest = [h for h in logger.handlers if type(h).__module__ == "_pytest.logging"]
        logger.handlers[:] = [*handlers, *of_pytest]
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled


def _processes() -> State:
    """The child processes, without those that stay to the end."""
    folder = Path("/proc/self/task")
    if not folder.is_dir():
        return {str(child.pid): child.name for child in multiprocessing.active_children()}
    multiprocessing.active_children()  # collects those that have ended
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    children: set[int] = set()
    for task in folder.iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            children.update(map(int, (task / "children").read_text().split()))
    lasting = {tracker, *WRITERS.processes}
    found = {str(number): _command(number) for number in children - lasting}
    if os.getpid() == 1:  # of a container: the parent of whatever is left without one
        found = {number: command for number, command in found.items() if command != ENDED}
    return found


def _command(process: int) -> str:
    try:
        raw = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return "ended"
    return raw.replace(b"\0", b" ").decode(errors="replace")[:200] or ENDED


def _threads() -> State:
    """The threads that would keep the process alive, without those of a pool that is in use."""
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    return {t.name: "running" for t in threads if not t.name.startswith("ThreadPoolExecutor")}


def _checkout() -> State:
    return {name: "there" for name in os.listdir(ROOT) if name not in CACHES}


# --- libraries ----------------------------------------------------------------------------------

_pools = threadpoolctl.ThreadpoolController()
_paddle_openmp = _pools.select(prefix="libiomp")
_blas = _pools.select(user_api="blas")  # of NumPy and SciPy


def _compute_threads() -> State:
    numbers = {info["prefix"]: info["num_threads"] for info in _paddle_openmp.info()}
    blas = {info["filepath"]: info["num_threads"] for info in _blas.info()}
    return {"Paddle": numbers.get("libiomp"), "OpenCV": cv2.getNumThreads(), **blas}


def _restore_compute_threads(before: State) -> None:
    if before["Paddle"]:
        paddle_internals.set_num_threads(before["Paddle"])
    cv2.setNumThreads(before["OpenCV"])
    for library in _blas.lib_controllers:
        library.set_num_threads(before[library.filepath])


def _paddle_flags() -> State:
    flags = paddle.base.core.globals()
    return {name: flags[name] for name in flags.keys()}  # noqa: SIM118, not a mapping


def _restore_paddle_flags(before: State) -> None:
    now = _paddle_flags()
    paddle.set_flags({name: value for name, value in before.items() if now[name] != value})


def _paddle_modes() -> State:
    tracer = paddle.base.framework._dygraph_tracer()
    return {
        "device": paddle.get_device(),
        "default dtype": paddle.get_default_dtype(),
        "dynamic mode": paddle.in_dynamic_mode(),
        "gradients": paddle.is_grad_enabled(),
        "AMP level": tracer._amp_level,
        "AMP type": tracer._amp_dtype,
        "oneDNN": onednn._enabled.get(),
    }


def _restore_paddle_modes(before: State) -> None:
    if not paddle.in_dynamic_mode():
        paddle.disable_static()
    paddle.set_device(before["device"])
    paddle.set_default_dtype(before["default dtype"])
    paddle.set_grad_enabled(before["gradients"])
    onednn._enabled.set(before["oneDNN"])
    tracer = paddle.base.framework._dygraph_tracer()
    tracer._amp_level, tracer._amp_dtype = before["AMP level"], before["AMP type"]


def _numpy() -> State:
    return {"errors": np.geterr(), "print options": np.get_printoptions()}


def _restore_numpy(before: State) -> None:
    np.seterr(**before["errors"])
    np.set_printoptions(**before["print options"])


def _matplotlib() -> State:
    """The open figures."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return {str(number): "open" for number in pyplot.get_fignums()} if pyplot else {}


def _close_figures(before: State) -> None:
    pyplot = sys.modules["matplotlib.pyplot"]
    for number in pyplot.get_fignums():
        if str(number) not in before:
            pyplot.close(number)


PARTS = {
    "interpreter": Part(_interpreter, _restore_interpreter),
    "environment": Part(_environment, _restore_environment),
    "signal handler": Part(_signals, _restore_signals),
    "logger (handlers, level, propagate, disabled)": Part(_loggers, _restore_loggers),
    "child process": Part(_processes),
    "thread": Part(_threads),
    "file in the checkout": Part(_checkout),
    "compute threads": Part(_compute_threads, _restore_compute_threads),
    "Paddle's flag": Part(_paddle_flags, _restore_paddle_flags),
    "Paddle's mode": Part(_paddle_modes, _restore_paddle_modes),
    "NumPy": Part(_numpy, _restore_numpy),
    "figure of Matplotlib": Part(_matplotlib, _close_figures),
}
