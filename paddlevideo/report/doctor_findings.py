"""Known bad combinations of packages, builds and machines, and the way out of each: a pure function of the doctor's facts."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# Import name -> (names of its distributions, the oldest version that is supported). setup.py says the same.
NEEDED = {
    "paddle": (("paddlepaddle", "paddlepaddle-gpu"), "3.3"),
    "numpy": (("numpy",), "2.0"),
    "cv2": (
        (
            "opencv-python-headless",
            "opencv-python",
            "opencv-contrib-python",
            "opencv-contrib-python-headless",
        ),
        "4.10",
    ),
    "av": (("av",), "17.0"),
    "PIL": (("pillow",), "10.0"),
    "yaml": (("pyyaml",), "6.0"),
    "scipy": (("scipy",), "1.14"),
    "tqdm": (("tqdm",), "4.66"),
    "safetensors": (("safetensors",), "0.5"),
    "google_crc32c": (("google-crc32c",), "1.5"),
}
OPTIONAL = {
    "onnxruntime": (("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"), "1.20"),
    "onnx": (("onnx",), "1.16"),
    "paddle2onnx": (("paddle2onnx",), "2.1"),
    "openvino": (("openvino",), "2025.0"),
    "decord": (("decord", "decord2", "eva-decord"), "0.6"),
    "soundfile": (("soundfile",), "0.12.1"),
    "soxr": (("soxr",), "0.4"),
    "matplotlib": (("matplotlib",), "3.9"),
    "visualdl": (("visualdl",), "2.5"),
}
PYTHON = (3, 11)
SMALL_SHM = 1 << 30  # bytes

Facts = dict[str, Any]


class Problem(NamedTuple):
    """`level`: error (training or predicting will fail), warning (some of it will, or slowly), note (good to know)."""

    level: str
    what: str
    fix: str


def find_problems(facts: Facts) -> list[Problem]:
    """Known bad combinations among the facts, the worst first."""
    found = [*of_packages(facts["packages"]), *of_paddle(facts), *of_system(facts)]
    return sorted(found, key=lambda problem: ("error", "warning", "note").index(problem.level))


def of_packages(packages: Mapping[str, Facts]) -> Iterable[Problem]:
    """Packages that are missing, broken, too old, or there twice."""
    for name, (distributions, oldest) in (NEEDED | OPTIONAL).items():
        facts, needed = packages.get(name, {}), name in NEEDED
        main, installed = distributions[0], facts.get("installed", {})
        if not facts:
            if needed:
                yield Problem("error", f"{main} is not installed", f"pip install {main}")
            continue
        if "broken" in facts:
            fix = f"pip install --force-reinstall {next(iter(installed), main)}"
            yield Problem(
                "error" if needed else "warning", f"{name} is broken: {facts['broken']}", fix
            )
        old = [
            f"{which} {version}"
            for which, version in installed.items()
            if numbers(version) < numbers(oldest)
        ]
        if old and not {"decord2", "eva-decord"} & set(
            installed
        ):  # they count their versions in another way
            yield Problem(
                "error" if needed else "warning",
                f"{old[0]} is older than {oldest}",
                f"pip install -U '{main}>={oldest}'",
            )
        if len(installed) > 1:
            both = " and ".join(f"{which} {version}" for which, version in installed.items())
            fix = f"pip uninstall -y {' '.join(installed)}, then install one of them"
            yield Problem(
                "warning", f"{both} are both installed, and overwrite each other's files", fix
            )
    onnx, converter = (
        packages.get(name, {}).get("installed", {}).get(name) for name in ("onnx", "paddle2onnx")
    )
    if onnx and converter and numbers(onnx) >= (1, 18) and numbers(converter) < (2, 2):
        yield Problem(
            "warning",
            f"paddle2onnx {converter} does not work with onnx {onnx}: no ONNX export",
            "pip install 'onnx<1.18'",
        )
    av = packages.get("av", {})
    if "h264" in av.get("no_decoder", ()):
        yield Problem(
            "error",
            "FFmpeg inside PyAV has no H.264 decoder",
            "pip install --force-reinstall --only-binary :all: av",
        )
    if "libx264" in av.get("no_encoder", ()):
        yield Problem(
            "note",
            "FFmpeg inside PyAV has no x264: the demo set cannot be made",
            "pip install --only-binary :all: av",
        )


def of_paddle(facts: Facts) -> Iterable[Problem]:
    """Paddle's build against what the machine has."""
    paddle, environment = facts["packages"].get("paddle", {}), facts["environment"]
    if not paddle or "broken" in paddle:
        return
    for device, works in paddle.get("works", {}).items():
        if works != "yes":
            yield Problem(
                "error",
                f"Paddle cannot compute on {device}: {works}",
                "install the build for this machine's CUDA version",
            )
    gpus, hidden = paddle.get("gpus", []), environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if facts["gpu_driver"] and not paddle.get("cuda"):
        fix = "pip uninstall paddlepaddle, then install paddlepaddle-gpu for your CUDA version from Paddle's own index"
        yield Problem("warning", "there is an NVIDIA GPU, and Paddle's build is for CPUs", fix)
    elif paddle.get("cuda") and not gpus and hidden:
        yield Problem(
            "warning", "CUDA_VISIBLE_DEVICES hides all GPUs", "unset CUDA_VISIBLE_DEVICES"
        )
    elif paddle.get("cuda") and not gpus:
        why = (
            "the driver is too old for it"
            if facts["gpu_driver"]
            else "there is no NVIDIA driver (nvidia-smi says nothing)"
        )
        what = f"Paddle is built for CUDA {paddle['cuda']} and sees no GPU: {why}"
        yield Problem("warning", what, "install the driver, or start the container with --gpus all")
    version = next(iter(paddle.get("installed", {}).values()), paddle.get("reports", ""))
    if paddle.get("onednn") and (3, 3) <= numbers(version) < (3, 3, 2):
        what = f"Paddle {version} with oneDNN cannot run exported programs that resize (F.interpolate); the models here do not"
        yield Problem("note", what, "for others: --enable_mkldnn False, or --backend onnxruntime")
    if int(environment.get("PADDLE_TRAINERS_NUM", "1") or 1) > 1:
        count = environment["PADDLE_TRAINERS_NUM"]
        yield Problem(
            "warning",
            f"PADDLE_TRAINERS_NUM={count} is set: a single process would wait for {count}",
            "unset it",
        )


def of_system(facts: Facts) -> Iterable[Problem]:
    """Python, memory, cores, encodings."""
    system = facts["system"]
    if numbers(system["python"]) < PYTHON:
        yield Problem(
            "error",
            f"Python {system['python']} is older than 3.11",
            "install a newer one, and a new environment with it",
        )
    if system["shm_mb"] is not None and system["shm_mb"] << 20 < SMALL_SHM:
        what = f"/dev/shm has {system['shm_mb']} MB; loader processes hand batches over in it"
        yield Problem(
            "warning", what, "docker run --shm-size=8g, or fewer workers: -o DATASET.num_workers=0"
        )
    if system["quota"] and system["quota"] < system["cores"]:
        what = f"this container may use {system['quota']:g} cores and sees {system['cores']}: threads would wait for each other"
        yield Problem("warning", what, "docker run --cpuset-cpus in place of --cpus")
    if "utf" not in system["file_names"].lower():
        yield Problem(
            "warning",
            f"file names are in {system['file_names']}: other scripts will fail",
            "export LC_ALL=C.UTF-8",
        )
    if system["disk_free_mb"] < 1024:
        yield Problem(
            "warning",
            f"{system['disk_free_mb']} MB are free here",
            "make room; a checkpoint takes some 100 MB",
        )
    installed = facts["paddlevideo"]["installed"]
    if installed not in (None, facts["paddlevideo"]["version"]):
        what = f"another paddlevideo ({installed}) is installed than the one that runs ({facts['paddlevideo']['version']})"
        yield Problem(
            "warning", what, "pip uninstall paddlevideo, then pip install -e . in this checkout"
        )


def numbers(version: str) -> tuple[int, ...]:
    """`3.3.1.post1` -> (3, 3, 1), to compare with; what is no number ends it."""
    return tuple(
        int(part) for part in re.match(r"[\d.]*", version)[0].strip(".").split(".") if part
    )
