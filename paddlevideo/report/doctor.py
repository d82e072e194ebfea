"""What this machine has, and what of it is known to give trouble: the first page of a bug report.

Imports nothing but Python's own, so that it works where a package is missing or broken; each is asked in a process of its own.
"""

import importlib.metadata
import importlib.util
import json
import locale
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from paddlevideo import __version__
from paddlevideo.report.doctor_findings import NEEDED, OPTIONAL, find_problems
from paddlevideo.report.doctor_probes import MARK, PROBES

TIMEOUT = 120  # seconds for a package to answer
VARIABLES = re.compile(
    r"OMP_|MKL_|KMP_|CUDA_VISIBLE|FLAGS_|PADDLE_|PYTHONPATH|LD_LIBRARY_PATH|LD_PRELOAD|AV_LOG"
)

Facts = dict[str, Any]


# --- asking ----------------------------------------------------------------------------------------------------------


def examine() -> Facts:
    """Everything that is known of this machine, as plain data."""
    names = [*NEEDED, *OPTIONAL]
    with ThreadPoolExecutor(min(4, len(cores()))) as pool:
        packages = dict(zip(names, pool.map(package, names), strict=True))
    facts = {
        "paddlevideo": own(),
        "system": system(),
        "gpu_driver": driver(),
        "packages": packages,
        "environment": environment(),
    }
    facts["backends"] = backends(packages)
    facts["problems"] = [problem._asdict() for problem in find_problems(facts)]
    return facts


def package(name: str) -> Facts:
    """Versions of a package by its metadata, and what it says of itself when it is imported."""
    installed = {}
    for distribution in (NEEDED | OPTIONAL)[name][0]:
        try:
            installed[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        there = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        there = True  # it cannot even be looked for; asking tells why
    if not there and not installed:
        return {}
    return {"installed": installed} | ask(name)


def ask(name: str, command: Iterable[str] | None = None) -> Facts:
    """Run the probe of a package in its own process."""
    command = list(
        command or (sys.executable, "-B", "-m", "paddlevideo.report.doctor_probes", name)
    )
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "GLOG_minloglevel": "3"}
    try:
        done = subprocess.run(
            command,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return {"broken": f"importing it takes more than {TIMEOUT} s"}
    except OSError as error:
        return {"broken": f"no process could be started: {error.strerror}"}
    answer = next(
        (line for line in reversed(done.stdout.splitlines()) if line.startswith(MARK)), ""
    )
    if answer:
        return json.loads(answer.removeprefix(MARK))
    said = (done.stderr.strip().splitlines() or [""])[-1]
    code = done.returncode
    how = (
        f"signal {signal.Signals(-code).name}"
        if code < 0 and -code in set(signal.Signals)
        else f"exit code {code}"
    )
    return {"broken": f"importing it ends Python with {how}{': ' + said if said else ''}"}


def own() -> Facts:
    """This package: its version, the one that pip knows, where it runs from, and the commit of a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        metadata = importlib.metadata.version("paddlevideo")
    except importlib.metadata.PackageNotFoundError:
        metadata = None
    return {
        "version": __version__,
        "installed": metadata,
        "path": str(root),
        "commit": output("git", "-C", str(root), "rev-parse", "HEAD"),
    }


def system() -> Facts:
    """Python, processor, memory, shared memory, encodings."""
    usage = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None
    return {
        "os": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "processor": processor(),
        "cores": len(cores()),
        "all_cores": os.cpu_count(),
        "quota": cpu_quota(),
        "memory_mb": memory_mb(),
        "shm_mb": None if usage is None else usage.total >> 20,
        "shm_free_mb": None if usage is None else usage.free >> 20,
        "disk_free_mb": shutil.disk_usage(os.getcwd()).free >> 20,
        "file_names": sys.getfilesystemencoding(),
        "text": locale.getpreferredencoding(False),
    }


def cores() -> set[int]:
    return (
        os.sched_getaffinity(0)
        if hasattr(os, "sched_getaffinity")
        else set(range(os.cpu_count() or 1))
    )


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that a container may use, None where there is no limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip()
                for name in ("quota", "period")
            )
        except OSError:
            return None
    return round(int(quota) / int(period), 2) if quota.isdecimal() and int(period) else None


def processor() -> str:
    for line in text_of("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_mb() -> int | None:
    found = re.search(r"MemTotal:\s+(\d+) kB", text_of("/proc/meminfo"))
    return int(found[1]) >> 10 if found else None


def driver() -> str | None:
    """What NVIDIA's driver says: name, driver, memory of each GPU; None where there is none."""
    return output(
        "nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"
    )


def environment() -> dict[str, str]:
    """Variables that steer the libraries."""
    return {key: value for key, value in sorted(os.environ.items()) if VARIABLES.match(key)}


def output(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None


def text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def backends(packages: Mapping[str, Facts]) -> dict[str, str]:
    """Runtime of exported models -> "" where it can run here, else what is missing."""
    paddle = packages.get("paddle", {})
    found = {"paddle": usable(paddle, "paddlepaddle")}
    if found["paddle"]:
        found["tensorrt"] = found["paddle"]
    elif not paddle.get("tensorrt"):
        found["tensorrt"] = "this build of Paddle was made without TensorRT"
    else:
        found["tensorrt"] = (
            ""
            if paddle.get("tensorrt_library")
            else f"the TensorRT {paddle['tensorrt']} library is not installed"
        )
    return found | {
        name: usable(packages.get(name, {}), name) for name in ("onnxruntime", "openvino")
    }


def usable(facts: Facts, distribution: str) -> str:
    return facts.get("broken", "") if facts else f"pip install {distribution}"


# --- telling ---------------------------------------------------------------------------------------------------------


def text(facts: Facts) -> str:
    """The facts for people, fit for a bug report."""
    own_facts, machine, packages = facts["paddlevideo"], facts["system"], facts["packages"]
    paddle, av = packages.get("paddle", {}), packages.get("av", {})
    limits = f", may use {machine['cores']}" * (machine["cores"] != machine["all_cores"])
    limits += f", quota {machine['quota']:g}" if machine["quota"] else ""
    rows = [
        (
            "paddlevideo",
            f"{own_facts['version']} {(own_facts['commit'] or '')[:9]} in {own_facts['path']}",
        ),
        ("system", f"{machine['os']}, Python {machine['python']}"),
        (
            "processor",
            f"{machine['processor']}, {machine['all_cores']} cores{limits}; {amount(machine['memory_mb'])} memory",
        ),
        (
            "/dev/shm",
            f"{amount(machine['shm_mb'])}, {amount(machine['shm_free_mb'])} free"
            if machine["shm_mb"] is not None
            else "none",
        ),
        ("GPU driver", facts["gpu_driver"] or "none"),
        ("encodings", f"file names {machine['file_names']}, text {machine['text']}"),
    ]
    if "works" in paddle:
        build = [
            f"CUDA {paddle['cuda']}, cuDNN {paddle['cudnn']}" if paddle["cuda"] else "for CPUs"
        ]
        build += [
            f"TensorRT {paddle['tensorrt'] or 'no'}",
            f"oneDNN {'yes' if paddle['onednn'] else 'no'}",
        ]
        rows.append(("Paddle", f"{paddle['reports']} ({paddle['commit']}), {', '.join(build)}"))
        names = [f"{gpu['name']} {amount(gpu['memory_mb'])}" for gpu in paddle["gpus"]]
        rows.append(
            (
                "devices",
                ", ".join(["cpu", *names])
                + "; a convolution works: "
                + ", ".join(f"{d} {w}" for d, w in paddle["works"].items()),
            )
        )
        path = f", MKL_DEBUG_CPU_TYPE={paddle['mkl_code_path']}" if paddle["mkl_code_path"] else ""
        rows.append(("threads", f"{paddle['threads']} compute{path}"))
    if "ffmpeg" in av:
        lacks = [
            f"no {name}"
            for name in (*av["no_decoder"], *(f"{n} encoder" for n in av["no_encoder"]))
        ]
        rows.append(
            (
                "decoding",
                f"PyAV with FFmpeg {av['ffmpeg']}: {', '.join(lacks) or 'all usual codecs'}",
            )
        )
    rows.append(
        (
            "backends",
            "; ".join(f"{name}: {missing or 'yes'}" for name, missing in facts["backends"].items()),
        )
    )
    lines = [f"{name:<12}  {value}" for name, value in rows]
    lines += ["", "packages"]
    for name in (*NEEDED, *OPTIONAL):
        about = packages.get(name, {})
        versions = ", ".join(
            f"{which} {version}" for which, version in about.get("installed", {}).items()
        )
        extra = [", ".join(about[key]) for key in ("providers", "devices") if about.get(key)]
        broken = f"BROKEN: {about['broken']}" if "broken" in about else ""
        lines.append(
            f"  {name:<14} {'; '.join(filter(None, [versions or about.get('reports'), *extra, broken])) or '-'}"
        )
    if facts["environment"]:
        lines += [
            "",
            "environment",
            *(f"  {key}={value}" for key, value in facts["environment"].items()),
        ]
    lines += ["", "no known trouble" if not facts["problems"] else "findings"]
    for problem in facts["problems"]:
        lines += [f"  {problem['level']}: {problem['what']}", f"    way out: {problem['fix']}"]
    return "\n".join(lines)


def amount(megabytes: int | None) -> str:
    return (
        "unknown"
        if megabytes is None
        else f"{megabytes / 1024:.1f} GB"
        if megabytes >= 1024
        else f"{megabytes} MB"
    )


assert set(PROBES) <= set(NEEDED | OPTIONAL)
