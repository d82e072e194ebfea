"""Write files with H.264 video, encoded by PyAV."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from paddlevideo.media.containers import num_threads

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
FORMATS = {".mp4": "mp4", ".mkv": "matroska"}
# Errors of the disk, not of the video.
WRITE_ERRORS = (errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def open_writer(path: Path, suffix: str, options: dict[str, str] | None = None) -> Iterator[Any]:
    """Open a container to write; the block's end completes it.

    Args:
        suffix: .mp4 or .mkv.
        options: of the container.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    try:
        target = f"file:{path}"
        with av.open(target, "w", format=FORMATS[suffix], options=options or {}) as writer:
            yield writer
    except av.error.FFmpegError as error:
        if error.errno in WRITE_ERRORS:
            raise OSError(error.errno, error.strerror) from error
        raise


def add_h264(
    writer,
    size: tuple[int, int],
    rate: Fraction,
    time_base: Fraction,
    crf: int = 20,
    preset: str = "veryfast",
    gop: int = 32,
    repeatable: bool = False,
):
    """Add a stream of H.264 in yuv420p; see `WriteResized` for crf, preset and gop.

    Args:
        size: height and width (px, even).
        rate: frames per second, about.
        time_base: of the frames' time stamps (s).
        repeatable: write the same bytes each time, on one kind of processor.
    """
    # x264's macroblock tree reads memory that was never written where a side is no multiple of 16
    # pixels, and the number of threads changes what is predicted from what.
    threads = "1" if repeatable else str(num_threads() or "auto")
    options = {"preset": preset, "crf": str(crf), "g": str(gop), "threads": threads}
    options |= {"x264-params": "no-mbtree=1"} if repeatable else {}
    out = writer.add_stream("libx264", rate=rate, options=options)
    out.height, out.width, out.pix_fmt = *size, "yuv420p"
    out.codec_context.time_base = time_base
    return out
