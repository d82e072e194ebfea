"""What one package says of itself, asked in a process of its own: importing it may raise, hang, or end the process.

    python -m paddlevideo.report.doctor_probes paddle    # a line of JSON behind MARK

Nothing here is imported from a package at the top, so that any of them may be absent.
"""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

MARK = "doctor: "
# Codecs that videos come in, and those that annotated videos and demo clips are written with.
DECODERS = (
    "h264",
    "hevc",
    "vp9",
    "av1",
    "vp8",
    "mpeg4",
    "mpeg2video",
    "mjpeg",
    "wmv3",
    "prores",
    "aac",
    "mp3",
    "opus",
)
ENCODERS = ("libx264", "aac", "mpeg4")

Facts = dict[str, Any]


def probe_paddle() -> Facts:
    """Build, devices, whether a convolution works on each kind of device, and the threads that this package would set."""
    paddle = importlib.import_module("paddle")
    core, inference = (
        importlib.import_module("paddle.base.core"),
        importlib.import_module("paddle.inference"),
    )
    cuda = paddle.is_compiled_with_cuda()
    onednn = getattr(core, "is_compiled_with_onednn", None) or getattr(
        core, "is_compiled_with_mkldnn", None
    )
    facts: Facts = {
        "cuda": paddle.version.cuda() if cuda else None,
        "cudnn": paddle.version.cudnn() if cuda else None,
        "tensorrt": dotted(inference.get_trt_compile_version()),
        "tensorrt_library": dotted(inference.get_trt_runtime_version()),
        "onednn": bool(onednn and onednn()),
        "commit": paddle.version.commit[:9],
        "gpus": [],
        "works": {},
    }
    for number in range(paddle.device.cuda.device_count() if cuda else 0):
        about = paddle.device.cuda.get_device_properties(number)
        facts["gpus"].append(
            {
                "name": about.name,
                "memory_mb": about.total_memory >> 20,
                "capability": f"{about.major}.{about.minor}",
            }
        )
    for device in ["cpu"] + ["gpu:0"] * bool(facts["gpus"]):
        try:
            paddle.set_device(device)
            value = paddle.nn.functional.conv2d(
                paddle.ones([1, 1, 3, 3]), paddle.ones([1, 1, 3, 3])
            )
            facts["works"][device] = (
                "yes"
                if float(value.sum()) == 9.0
                else f"a convolution gives {float(value.sum())}, not 9"
            )
        except Exception as error:  # whatever is broken is the finding
            facts["works"][device] = first_line(error)
    # The package's own choice; last, because it changes the environment.
    facts["threads"] = importlib.import_module("paddlevideo.dist").use_threads()
    facts["mkl_code_path"] = os.environ.get("MKL_DEBUG_CPU_TYPE", "")
    return facts


def probe_av() -> Facts:
    """FFmpeg inside PyAV, and the codecs it has."""
    av = importlib.import_module("av")
    codec = importlib.import_module("av.codec")

    def has(name: str, mode: str) -> bool:
        try:
            codec.Codec(name, mode)
        except ValueError:  # PyAV's errors of unknown codecs are of this kind
            return False
        return True

    return {
        "ffmpeg": getattr(av, "ffmpeg_version_info", "")
        or dotted(av.library_versions["libavcodec"]),
        "no_decoder": [name for name in DECODERS if not has(name, "r")],
        "no_encoder": [name for name in ENCODERS if not has(name, "w")],
    }


def probe_cv2() -> Facts:
    """Whether OpenCV reads video files."""
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
    """Import a package; more is asked of those that have a probe. `broken` says why it does not import."""
    try:
        module = importlib.import_module(name)
        facts = {
            "path": os.path.dirname(getattr(module, "__file__", None) or ""),
            "reports": str(getattr(module, "__version__", "")),
        }
        return facts | (PROBES[name]() if name in PROBES else {})
    except BaseException as error:  # SystemExit too: a package must not end the doctor
        return {"broken": f"{type(error).__name__}: {first_line(error)}"}


def first_line(error: BaseException) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
    )


def dotted(version: tuple[int, ...]) -> str | None:
    return ".".join(map(str, version)) if any(version) else None


def main() -> None:
    # What packages print themselves belongs to stderr.
    with contextlib.redirect_stdout(sys.stderr):
        facts = probe(sys.argv[1])
    print(MARK + json.dumps(facts), flush=True)
    os._exit(0)  # a library may hang or crash while it is unloaded


if __name__ == "__main__":
    main()
