"""Describe this machine and its known problems, for a bug report.

Only the standard library is imported, so that the doctor works where a package is missing or
broken. Each package is probed in its own process.
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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from paddlevideo import __version__
from paddlevideo.cores import cores, cpu_quota
from paddlevideo.report.doctor_findings import NOT_IMPORTED, OPTIONAL, REQUIRED, find_problems
from paddlevideo.report.doctor_probes import MARK, PROBES

PROBE_TIMEOUT = 120  # seconds
COMMAND_TIMEOUT = 20  # seconds
# Environment variables that change how the libraries behave.
VARIABLES = re.compile(
    r"OMP_|MKL_|KMP_|CUDA_VISIBLE|FLAGS_|PADDLE_|PYTHONPATH|LD_LIBRARY_PATH|LD_PRELOAD|AV_LOG"
)
BACKEND_PACKAGES = ("onnxruntime", "openvino")  # besides paddle and tensorrt

Facts = dict[str, Any]


# --- collecting ---------------------------------------------------------------------------------


def examine() -> Facts:
    """Return all facts about this machine, as plain data."""
    names = [*REQUIRED, *OPTIONAL]
    with ThreadPoolExecutor(min(4, len(cores()))) as pool:
        packages = dict(zip(names, pool.map(package, names), strict=True))
    facts = {
        "paddlevideo": own_version(),
        "system": system(),
        "gpu_driver": gpu_driver(),
        "packages": packages,
        "environment": environment(),
    }
    facts["backends"] = backends(packages)
    facts["problems"] = [problem._asdict() for problem in find_problems(facts)]
    return facts


def package(name: str) -> Facts:
    """Installed versions of a package, and what its probe found, if any; empty if it is missing."""
    distributions, _ = (REQUIRED | OPTIONAL)[name]
    versions = {distribution: installed_version(distribution) for distribution in distributions}
    installed = {which: version for which, version in versions.items() if version}
    if name in NOT_IMPORTED:
        return {"installed": installed} if installed else {}
    try:
        importable = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        importable = True  # even the search fails; the probe finds the reason
    if not importable and not installed:
        return {}
    return {"installed": installed} | run_probe(name)


def installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def run_probe(name: str, command: Sequence[str] = ()) -> Facts:
    """Run the probe of a package in its own process.

    Args:
        command: replaces the command that runs the probe, for tests.
    """
    probe = (sys.executable, "-B", "-m", "paddlevideo.report.doctor_probes", name)
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "GLOG_minloglevel": "3"}
    try:
        done = subprocess.run(
            command or probe,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return {"broken": f"importing it takes more than {PROBE_TIMEOUT} s"}
    except OSError as error:
        return {"broken": f"its process could not be started: {error.strerror}"}
    # The last marked line is the probe's; the package may print similar lines before.
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    last_line = (done.stderr.strip().splitlines() or [""])[-1]
    reason = f"importing it ends Python with {exit_text(done.returncode)}"
    return {"broken": f"{reason}: {last_line}" if last_line else reason}


def exit_text(code: int) -> str:
    if code < 0 and -code in set(signal.Signals):
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def own_version() -> Facts:
    """Version, installed version (pip), location and git commit of this package."""
    root = Path(__file__).resolve().parents[2]
    return {
        "version": __version__,
        "installed": installed_version("paddlevideo"),
        "path": str(root),
        "commit": output("git", "-C", str(root), "rev-parse", "HEAD"),
    }


def system() -> Facts:
    """Python, processor, memory, shared memory, disk space, encodings."""
    shm = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None
    return {
        "os": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "processor": processor(),
        "cores": len(cores()),
        "all_cores": os.cpu_count(),
        "quota": cpu_quota(),
        "memory_mb": memory_mb(),
        "shm_mb": None if shm is None else shm.total >> 20,
        "shm_free_mb": None if shm is None else shm.free >> 20,
        "disk_free_mb": shutil.disk_usage(os.getcwd()).free >> 20,
        "file_names": sys.getfilesystemencoding(),
        "text": locale.getpreferredencoding(False),
    }


def processor() -> str:
    for line in read_text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_mb() -> int | None:
    match = re.search(r"MemTotal:\s+(\d+) kB", read_text("/proc/meminfo"))
    return int(match[1]) >> 10 if match else None


def gpu_driver() -> str | None:
    """Name, driver version and memory of each NVIDIA GPU, None without a driver."""
    query = "--query-gpu=name,driver_version,memory.total"
    return output("nvidia-smi", query, "--format=csv,noheader")


def gpu_memory_mb() -> int | None:
    """Memory that this process has on NVIDIA GPUs; None where their driver does not list it."""
    query = "--query-compute-apps=pid,used_memory"
    text = output("nvidia-smi", query, "--format=csv,noheader,nounits") or ""
    rows = [line.split(",") for line in text.splitlines()]
    found = [row[1].strip() for row in rows if row[0].strip() == str(os.getpid())]
    return sum(map(int, found)) if found and all(text.isdigit() for text in found) else None


def environment() -> dict[str, str]:
    return {key: value for key, value in sorted(os.environ.items()) if VARIABLES.match(key)}


def output(*command: str) -> str | None:
    """The output of a command, None if it fails or prints nothing."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None


def read_text(path: str) -> str:
    """The content of a file, empty if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def backends(packages: Mapping[str, Facts]) -> dict[str, str]:
    """Runtime of exported models -> "" if it works on this machine, else what is missing."""
    paddle = packages.get("paddle", {})
    library = f"the TensorRT {paddle.get('tensorrt')} library is not installed"
    paddle_missing = missing_part(paddle, "paddlepaddle")
    if paddle_missing:
        tensorrt_missing = paddle_missing
    elif not paddle.get("tensorrt"):
        tensorrt_missing = "this build of Paddle does not include TensorRT"
    elif not paddle.get("tensorrt_library"):
        tensorrt_missing = library
    else:
        tensorrt_missing = "" if paddle.get("gpus", True) else "this machine has no GPU"
    others = {name: missing_part(packages.get(name, {}), name) for name in BACKEND_PACKAGES}
    return {"paddle": paddle_missing, "tensorrt": tensorrt_missing, **others}


def missing_part(facts: Facts, distribution: str) -> str:
    return facts.get("broken", "") if facts else f"pip install {distribution}"


# --- printing -----------------------------------------------------------------------------------


def text(facts: Facts) -> str:
    """Return the facts as text for a bug report."""
    rows = [*system_rows(facts), *paddle_rows(facts), *decoding_rows(facts)]
    states = [f"{name}: {missing or 'yes'}" for name, missing in facts["backends"].items()]
    rows.append(("backends", "; ".join(states)))
    lines = [f"{name:<12}  {value}" for name, value in rows]
    lines += ["", "packages", *package_lines(facts["packages"])]
    variables = [f"  {key}={value}" for key, value in facts["environment"].items()]
    lines += ["", "environment", *variables] if variables else []
    lines += ["", "problems" if facts["problems"] else "no known problems"]
    for problem in facts["problems"]:
        lines += [f"  {problem['level']}: {problem['what']}", f"    fix: {problem['fix']}"]
    return "\n".join(lines)


def system_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    """(name, value) of version, system, memory, GPU driver and encodings."""
    own, machine = facts["paddlevideo"], facts["system"]
    yield "paddlevideo", f"{own['version']} {(own['commit'] or '')[:9]} in {own['path']}"
    yield "system", f"{machine['os']}, Python {machine['python']}"
    limits = ""
    if machine["cores"] != machine["all_cores"]:
        limits += f", may use {machine['cores']}"
    if machine["quota"]:
        limits += f", quota {machine['quota']:g}"
    cpu = f"{machine['processor']}, {machine['all_cores']} cores{limits}"
    yield "processor", f"{cpu}; {format_mb(machine['memory_mb'])} memory"
    shm = "none"
    if machine["shm_mb"] is not None:
        shm = f"{format_mb(machine['shm_mb'])}, {format_mb(machine['shm_free_mb'])} free"
    yield "/dev/shm", shm
    yield "GPU driver", facts["gpu_driver"] or "none"
    yield "encodings", f"file names {machine['file_names']}, text {machine['text']}"


def paddle_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    """(name, value) of Paddle's build, devices and threads."""
    paddle = facts["packages"].get("paddle", {})
    if "works" not in paddle:
        return
    build = f"CUDA {paddle['cuda']}, cuDNN {paddle['cudnn']}" if paddle["cuda"] else "for CPUs"
    tensorrt, onednn = paddle["tensorrt"] or "no", "yes" if paddle["onednn"] else "no"
    build = f"{build}, TensorRT {tensorrt}, oneDNN {onednn}"
    yield "Paddle", f"{paddle['reports']} ({paddle['commit']}), {build}"
    devices = ["cpu", *(f"{gpu['name']} {format_mb(gpu['memory_mb'])}" for gpu in paddle["gpus"])]
    works = ", ".join(f"{device} {state}" for device, state in paddle["works"].items())
    yield "devices", f"{', '.join(devices)}; a convolution works: {works}"
    code_path = paddle["mkl_code_path"]
    variable = f", MKL_DEBUG_CPU_TYPE={code_path}" if code_path else ""
    yield "threads", f"{paddle['threads']} compute{variable}"


def decoding_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    """(name, value) of FFmpeg and its codecs."""
    av = facts["packages"].get("av", {})
    if "ffmpeg" in av:
        missing = [*av["no_decoder"], *(f"{name} encoder" for name in av["no_encoder"])]
        codecs = ", ".join(f"no {name}" for name in missing) or "all usual codecs"
        yield "decoding", f"PyAV with FFmpeg {av['ffmpeg']}: {codecs}"


def package_lines(packages: Mapping[str, Facts]) -> Iterator[str]:
    """One line per package: versions, devices, and why it is broken."""
    for name in (*REQUIRED, *OPTIONAL):
        facts = packages.get(name, {})
        installed = facts.get("installed", {}).items()
        versions = ", ".join(f"{distribution} {version}" for distribution, version in installed)
        parts = [versions or facts.get("reports")]
        parts += [", ".join(facts[key]) for key in ("providers", "devices") if facts.get(key)]
        parts += [f"BROKEN: {facts['broken']}"] if "broken" in facts else []
        yield f"  {name:<18}{'; '.join(filter(None, parts)) or '-'}"


def format_mb(megabytes: int | None) -> str:
    if megabytes is None:
        return "unknown"
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes} MB"


assert set(PROBES) <= set(REQUIRED | OPTIONAL)
