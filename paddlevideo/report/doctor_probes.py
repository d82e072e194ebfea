"""Probe one package in its own process, because importing it may raise, hang, or end the process.

    python -m paddlevideo.report.doctor_probes paddle    # prints MARK and one line of JSON

Nothing is imported from a package at the top, so that any package may be missing.
"""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

MARK = "doctor: "
# Codecs of input videos.
DECODERS = (
    *("h264", "hevc", "vp9", "av1", "vp8", "mpeg4", "mpeg2video", "mjpeg", "wmv3", "prores"),
    *("aac", "mp3", "opus"),
)
# Codecs with which annotated videos and demo clips are written.
ENCODERS = ("libx264", "aac", "mpeg4")

Facts = dict[str, Any]


def probe_paddle() -> Facts:
    """Build, devices, the result of a convolution per device, and the number of threads."""
    paddle = importlib.import_module("paddle")
    core = importlib.import_module("paddle.base.core")
    inference = importlib.import_module("paddle.inference")
    has_cuda = paddle.is_compiled_with_cuda()
    # Older versions of Paddle call it mkldnn.
    names = ("is_compiled_with_onednn", "is_compiled_with_mkldnn")
    onednn = next((getattr(core, name) for name in names if hasattr(core, name)), None)
    gpus, gpu_error = probe_gpus(paddle) if has_cuda else ([], "")
    devices = ["cpu", "gpu:0"] if gpus else ["cpu"]
    facts: Facts = {
        "cuda": paddle.version.cuda() if has_cuda else None,
        "cudnn": paddle.version.cudnn() if has_cuda else None,
        "tensorrt": tensorrt_version(inference.get_trt_compile_version, "(unknown version)"),
        "tensorrt_library": tensorrt_version(inference.get_trt_runtime_version, None),
        "onednn": bool(onednn and onednn()),
        "commit": paddle.version.commit[:9],
        "gpus": gpus,
        "gpu_error": gpu_error,
        "works": {device: try_convolution(paddle, device) for device in devices},
    }
    # Last, because it changes the environment.
    facts["threads"] = importlib.import_module("paddlevideo.dist").use_threads()
    facts["mkl_code_path"] = os.environ.get("MKL_DEBUG_CPU_TYPE", "")
    return facts


def probe_gpus(paddle: Any) -> tuple[list[Facts], str]:
    """The GPUs that Paddle can use, and why it cannot list them."""
    gpus: list[Facts] = []
    try:
        for index in range(paddle.device.cuda.device_count()):
            gpu = paddle.device.cuda.get_device_properties(index)
            memory, capability = gpu.total_memory >> 20, f"{gpu.major}.{gpu.minor}"
            gpus.append({"name": gpu.name, "memory_mb": memory, "capability": capability})
    except Exception as error:  # whatever fails is the result
        return gpus, last_line(error)
    return gpus, ""


def tensorrt_version(read: Callable[[], tuple[int, ...]], otherwise: str | None) -> str | None:
    """The version that Paddle reports; `otherwise` where TensorRT's library cannot be loaded.

    A GPU build raises where that library is not installed.
    """
    try:
        return dotted(read())
    except (RuntimeError, OSError):
        return otherwise


def try_convolution(paddle: Any, device: str) -> str:
    """Return "yes" if a convolution gives the right result, else the reason."""
    try:
        paddle.set_device(device)
        ones = paddle.ones([1, 1, 3, 3])
        value = float(paddle.nn.functional.conv2d(ones, ones).sum())
    except Exception as error:  # whatever fails is the result
        return first_line(error)
    return "yes" if value == 9.0 else f"a convolution gives {value}, not 9"


def probe_av() -> Facts:
    """Version of FFmpeg in PyAV, and the codecs that it lacks."""
    av = importlib.import_module("av")
    codec = importlib.import_module("av.codec")

    def has(name: str, mode: str) -> bool:
        try:
            codec.Codec(name, mode)
        except ValueError:  # the base class of PyAV's error for unknown codecs
            return False
        return True

    version = getattr(av, "ffmpeg_version_info", "")
    return {
        "ffmpeg": version or dotted(av.library_versions["libavcodec"]),
        "no_decoder": [name for name in DECODERS if not has(name, "r")],
        "no_encoder": [name for name in ENCODERS if not has(name, "w")],
    }


def probe_cv2() -> Facts:
    """Whether OpenCV can read video files."""
    lines = importlib.import_module("cv2").getBuildInformation().splitlines()
    return {"ffmpeg": any(line.split()[:2] == ["FFMPEG:", "YES"] for line in lines)}


def probe_onnxruntime() -> Facts:
    return {"providers": importlib.import_module("onnxruntime").get_available_providers()}


def probe_openvino() -> Facts:
    return {"devices": list(importlib.import_module("openvino").Core().available_devices)}


PROBES: dict[str, Callable[[], Facts]] = {
    "paddle": probe_paddle,
    "av": probe_av,
    "cv2": probe_cv2,
    "onnxruntime": probe_onnxruntime,
    "openvino": probe_openvino,
}


def probe(name: str) -> Facts:
    """Import a package and run its probe if it has one; `broken` is the reason of a failure."""
    try:
        module = importlib.import_module(name)
        facts = {
            "path": os.path.dirname(getattr(module, "__file__", None) or ""),
            "reports": str(getattr(module, "__version__", "")),
        }
        return facts | (PROBES[name]() if name in PROBES else {})
    except BaseException as error:  # also SystemExit: a package must not end the doctor
        return {"broken": f"{type(error).__name__}: {first_line(error)}"}


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Paddle's messages end with the reason; what comes before is a traceback of C++."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, reversed(lines)), type(error).__name__)


def dotted(version: tuple[int, ...]) -> str | None:
    """(8, 6, 1) -> "8.6.1"; None for (0, 0, 0)."""
    return ".".join(map(str, version)) if any(version) else None


def main() -> None:
    # Output of the package itself goes to stderr.
    with contextlib.redirect_stdout(sys.stderr):
        facts = probe(sys.argv[1])
    print(MARK + json.dumps(facts), flush=True)
    os._exit(0)  # a library may hang or crash when it is unloaded


if __name__ == "__main__":
    main()
