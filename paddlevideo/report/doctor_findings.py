"""Find known bad combinations of packages, builds and machines, and a fix for each.

The functions only read the facts that `doctor.examine` has collected.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Import name -> (names of its distributions, oldest supported version), as in setup.py.
REQUIRED = {
    "paddle": (("paddlepaddle", "paddlepaddle-gpu"), "3.3"),
    "numpy": (("numpy",), "2.0"),
    "cv2": (
        (
            "opencv-python-headless",
            "opencv-python",
            "opencv-contrib-python",
            "opencv-contrib-python-headless",
        ),
        "4.10.0.84",
    ),
    "av": (("av",), "17.1"),
    "PIL": (("pillow",), "10.1"),
    "yaml": (("pyyaml",), "6.0"),
    "scipy": (("scipy",), "1.14"),
    "tqdm": (("tqdm",), "4.66"),
    "safetensors": (("safetensors",), "0.6.1"),
    "google_crc32c": (("google-crc32c",), "1.5"),
}
OPTIONAL = {
    "onnxruntime": (("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"), "1.20"),
    "onnx": (("onnx",), "1.16.1"),
    "paddle2onnx": (("paddle2onnx",), "2.1"),
    "openvino": (("openvino",), "2026.0"),
    "decord": (("decord", "decord2", "eva-decord"), "0.6"),
    "soundfile": (("soundfile",), "0.12.1"),
    "soxr": (("soxr",), "0.4"),
    "matplotlib": (("matplotlib",), "3.9"),
    "visualdl": (("visualdl",), "2.5"),
    "nncf": (("nncf",), "3.4"),
    "fsspec": (("fsspec",), "2025.9"),
    "s3fs": (("s3fs",), "2025.9"),
    "fastapi": (("fastapi",), "0.115"),
    "uvicorn": (("uvicorn",), "0.30"),
    "python_multipart": (("python-multipart",), "0.0.20"),
    "prometheus_client": (("prometheus-client",), "0.20"),
    "ray": (("ray",), "2.60"),
    "huggingface_hub": (("huggingface_hub",), "1.0"),
    "modelscope": (("modelscope",), "1.40"),
}
# Importing them takes seconds, or finds nothing that their users would not see.
NOT_IMPORTED = {
    *("nncf", "fsspec", "s3fs", "fastapi", "uvicorn", "python_multipart", "prometheus_client"),
    *("ray", "huggingface_hub", "modelscope"),
}
OWN_VERSIONS = {"decord2", "eva-decord"}  # forks with their own version numbers
PYTHON = (3, 11)
MIN_SHM_MB = 1024
MIN_DISK_MB = 1024
LEVELS = ("error", "warning", "note")

Facts = dict[str, Any]


class Problem(NamedTuple):
    """A known problem and its fix.

    Args:
        level: error (training or prediction fails), warning (some of it fails or is slow), or
            note (good to know).
    """

    level: str
    what: str
    fix: str


def find_problems(facts: Facts) -> list[Problem]:
    """Return the known problems, the most severe first."""
    problems = [
        *package_problems(facts["packages"]),
        *combination_problems(facts["packages"]),
        *paddle_problems(facts),
        *system_problems(facts),
    ]
    return sorted(problems, key=lambda problem: LEVELS.index(problem.level))


def package_problems(packages: Mapping[str, Facts]) -> Iterator[Problem]:
    """Packages that are missing, broken, too old, or installed twice."""
    for name, (distributions, oldest) in (REQUIRED | OPTIONAL).items():
        facts, main = packages.get(name, {}), distributions[0]
        level, installed = "error" if name in REQUIRED else "warning", facts.get("installed", {})
        if not facts and name in REQUIRED:
            yield Problem("error", f"{main} is not installed", f"pip install {main}")
        if "broken" in facts:
            fix = f"pip install --force-reinstall {next(iter(installed), main)}"
            yield Problem(level, f"{name} is broken: {facts['broken']}", fix)
        old = [
            f"{distribution} {version}"
            for distribution, version in installed.items()
            if parse_version(version) < parse_version(oldest)
        ]
        if old and not OWN_VERSIONS & set(installed):
            fix = f"pip install -U '{main}>={oldest}'"
            yield Problem(level, f"{old[0]} is older than {oldest}", fix)
        if len(installed) > 1:
            names = " and ".join(f"{name} {version}" for name, version in installed.items())
            what = f"{names} are both installed and overwrite each other's files"
            fix = f"pip uninstall -y {' '.join(installed)}, then install one of them"
            yield Problem("warning", what, fix)


def combination_problems(packages: Mapping[str, Facts]) -> Iterator[Problem]:
    """Versions that do not work together, and codecs that FFmpeg lacks."""
    onnx = packages.get("onnx", {}).get("installed", {}).get("onnx")
    converter = packages.get("paddle2onnx", {}).get("installed", {}).get("paddle2onnx")
    if onnx and converter and parse_version(onnx) >= (1, 18) and parse_version(converter) < (2, 2):
        what = f"paddle2onnx {converter} does not work with onnx {onnx}: no ONNX export"
        yield Problem("warning", what, "pip install 'onnx<1.18'")
    av, wheel = packages.get("av", {}), "--only-binary :all: av"
    if "h264" in av.get("no_decoder", ()):
        what = "FFmpeg in PyAV has no H.264 decoder"
        yield Problem("error", what, f"pip install --force-reinstall {wheel}")
    if "libx264" in av.get("no_encoder", ()):
        what = "FFmpeg in PyAV has no x264 encoder: the demo set cannot be made"
        yield Problem("note", what, f"pip install {wheel}")


def paddle_problems(facts: Facts) -> Iterator[Problem]:
    """Builds of Paddle that do not suit the machine, and settings that Paddle stumbles over."""
    paddle, environment = facts["packages"].get("paddle", {}), facts["environment"]
    if not paddle or "broken" in paddle:
        return
    for device, works in paddle.get("works", {}).items():
        if works != "yes":
            what = f"Paddle cannot compute on {device}: {works}"
            yield Problem("error", what, "install the build for the CUDA version of this machine")
    yield from gpu_problems(facts)
    version = next(iter(paddle.get("installed", {}).values()), paddle.get("reports", ""))
    if paddle.get("onednn") and (3, 3) <= parse_version(version) < (3, 3, 2):
        what = (
            f"Paddle {version} with oneDNN cannot run exported programs that resize "
            "(F.interpolate); the models of this package do not resize"
        )
        fix = "for other models: --enable_mkldnn False, or --backend onnxruntime"
        yield Problem("note", what, fix)
    count = environment.get("PADDLE_TRAINERS_NUM", "1") or "1"
    if not count.isdecimal() or int(count) > 1:
        what = f"PADDLE_TRAINERS_NUM={count} is set: a single process would wait for {count}"
        yield Problem("warning", what, "unset PADDLE_TRAINERS_NUM")


def gpu_problems(facts: Facts) -> Iterator[Problem]:
    """GPUs that Paddle cannot use."""
    paddle, driver = facts["packages"]["paddle"], facts["gpu_driver"]
    if driver and not paddle.get("cuda"):
        what = "there is an NVIDIA GPU, but Paddle's build is for CPUs"
        fix = (
            "pip uninstall paddlepaddle, then install paddlepaddle-gpu for your CUDA version "
            "from Paddle's own index"
        )
        yield Problem("warning", what, fix)
    if not paddle.get("cuda") or paddle.get("gpus"):
        return
    if facts["environment"].get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        fix = "unset CUDA_VISIBLE_DEVICES"
        yield Problem("warning", "CUDA_VISIBLE_DEVICES hides all GPUs", fix)
        return
    reason = "there is no NVIDIA driver (nvidia-smi fails)"
    if driver:
        reason = "the driver is too old for it"
    if paddle.get("gpu_error"):
        reason = f"CUDA does not start: {paddle['gpu_error']}"
    what = f"Paddle is built for CUDA {paddle['cuda']} and finds no GPU: {reason}"
    yield Problem("warning", what, "install the driver, or start the container with --gpus all")


def system_problems(facts: Facts) -> Iterator[Problem]:
    """Problems with Python, memory, cores, encodings and disk space."""
    system, own = facts["system"], facts["paddlevideo"]
    if parse_version(system["python"]) < PYTHON:
        what = f"Python {system['python']} is older than 3.11"
        yield Problem("error", what, "install a newer Python, and create a new environment with it")
    if system["shm_mb"] is not None and system["shm_mb"] < MIN_SHM_MB:
        what = f"/dev/shm has {system['shm_mb']} MB; loader processes pass batches through it"
        fix = "docker run --shm-size=8g, or no loader processes: -o DATASET.num_workers=0"
        yield Problem("warning", what, fix)
    if system["quota"] and system["quota"] < system["cores"]:
        limits = f"use {system['quota']:g} cores and sees {system['cores']}"
        what = f"this container may {limits}: libraries may start a thread for each"
        yield Problem("warning", what, "docker run --cpuset-cpus instead of --cpus")
    if "utf" not in system["file_names"].lower():
        what = f"the encoding of file names is {system['file_names']}: names in other scripts fail"
        yield Problem("warning", what, "export LC_ALL=C.UTF-8")
    if system["disk_free_mb"] < MIN_DISK_MB:
        what = f"only {system['disk_free_mb']} MB of disk space are free here"
        yield Problem("warning", what, "free some space; a checkpoint needs about 100 MB")
    if own["installed"] not in (None, own["version"]):
        what = f"paddlevideo {own['version']} runs, but {own['installed']} is installed"
        fix = "pip uninstall paddlevideo, then pip install -e . in this checkout"
        yield Problem("warning", what, fix)


def parse_version(version: str) -> tuple[int, ...]:
    """`3.3.1.post1` -> (3, 3, 1): the leading numbers, for comparison."""
    digits = re.sub(r"[^\d.].*", "", version)
    return tuple(int(part) for part in digits.split(".") if part)
