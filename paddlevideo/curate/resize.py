"""Videos -> smaller videos, so that a training decodes the pixels that it uses and few others.

H.264 through PyAV; time stamps, sound packets and colour tags are those of the source. Frames come out as the package decodes
them: upright, in stored pixels. A result is read back before it is called done.
"""

import csv
import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from paddlevideo.curate.batch_jobs import Job, plan
from paddlevideo.curate.known_sets import jobs_of_list, lines, path_in_list
from paddlevideo.data.lists import Row
from paddlevideo.files import atomic_write
from paddlevideo.media.containers import num_threads, open_container, upright_rgb, video_streams
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import DecodeError, Record

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


@dataclass(frozen=True)
class WriteSmaller:
    """Writes a video with its short side made shorter; a smaller one keeps its size, but is encoded, too.

    Args:
        short_side: pixels, even as H.264 wants it; the other side follows the aspect, rounded to even.
        gop: frames from one key frame to the next at most. Fewer make the file larger, and a frame in it quicker to reach.
        crf: quality, 0 .. 51; less is better, and larger.
        preset: of x264; slower ones make smaller files.
        sound: copy the packets of all audio streams, or leave sound out (none).
        suffix: .mp4 or .mkv, which takes other kinds of sound.
    """

    short_side: int = 256
    gop: int = 32
    crf: int = 20
    preset: str = "veryfast"
    sound: Literal["copy", "none"] = "copy"
    suffix: str = ".mp4"

    def __post_init__(self):
        if self.short_side < 2 or self.short_side % 2:
            raise ValueError(f"short_side is {self.short_side}; expected an even number of pixels")
        if self.gop < 1 or not 0 <= self.crf <= 51:
            raise ValueError(f"gop is {self.gop}, crf {self.crf}; expected 1 or more, and 0 .. 51")
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; expected one of {', '.join(PRESETS)}")
        if self.suffix not in FORMATS or self.sound not in ("copy", "none"):
            raise ValueError(
                f"suffix is {self.suffix}, sound {self.sound}; expected {' or '.join(FORMATS)}, and copy or none"
            )

    def __call__(self, source: str, target: str) -> None:
        """
        Raises:
            DecodeError: no video, one of its frames is damaged, or its sound does not fit; nothing is left at `target` then.
            OSError: the file cannot be written.
        """
        # What training would see of it: exact times, and an error where the file is cut short.
        with VideoDecoder().open(Record(source)) as clip:
            times, shape = clip.times(), clip.read([0]).shape[1:3]
        with atomic_write(target) as temporary:
            with open_container(source) as reader, self._open(temporary) as writer:
                video = video_streams(reader)[0]
                out = self._add_video(writer, video, self.size_of(*shape))
                sounds = self._add_sounds(writer, reader)
                for packet in packets_of(reader, Encoder(video, out, times), sounds):
                    writer.mux(packet)
            check_made(temporary, len(times))

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the result, both even (px)."""
        scale = min(1.0, self.short_side / min(height, width))
        return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)

    @contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        try:
            with av.open(f"file:{path}", "w", format=FORMATS[self.suffix]) as writer:
                yield writer
        except av.error.FFmpegError as error:
            if error.errno in (errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EROFS):
                raise OSError(error.errno, error.strerror) from error
            raise

    def _add_video(self, writer, video, size: tuple[int, int]):
        rate = Fraction(video.average_rate or video.guessed_rate or 25).limit_denominator(65535)
        options = {
            "preset": self.preset,
            "crf": str(self.crf),
            "g": str(self.gop),
            "threads": str(num_threads() or "auto"),
        }
        out = writer.add_stream("libx264", rate=rate, options=options)
        out.height, out.width, out.pix_fmt = *size, "yuv420p"
        out.codec_context.time_base = video.time_base
        return out

    def _add_sounds(self, writer, reader) -> dict[Any, Any]:
        sounds = {}
        for stream in reader.streams.audio if self.sound == "copy" else ():
            try:
                sounds[stream] = writer.add_stream_from_template(stream)
            except ValueError as error:
                codec = stream.codec_context.name
                text = f"its sound ({codec}) cannot be copied into {self.suffix}: choose another suffix, or no sound"
                raise DecodeError(text) from error
        return sounds


class Encoder:
    """Decoded frames -> packets of `out`, at the times that the package's decoder tells.

    Args:
        video: stream that the frames come from.
        out: stream to encode for.
        times: seconds of each frame after the first, [num_frames].
    """

    def __init__(self, video, out, times: np.ndarray):
        self.video, self._out = video, out
        self._steps = np.rint(times / float(video.time_base)).astype(np.int64).tolist()
        self._scale, self._upright = VideoReformatter(), VideoReformatter()
        self._size, self._first, self._count = None, 0, 0

    def encode(self, frame) -> list[Any]:
        """
        Raises:
            DecodeError: a damaged frame, another size than before, or more frames than there should be.
        """
        size = (frame.width, frame.height)
        if self._size is None:
            self._size, self._first = (
                size,
                frame.pts if frame.pts is not None else self.video.start_time or 0,
            )
            self._tag(frame)
        if frame.is_corrupt or self._count == len(self._steps):
            what = "is damaged" if frame.is_corrupt else "is one more than its packets announce"
            raise DecodeError(f"frame {self._count} of {len(self._steps)} {what}")
        if size != self._size:
            was, now = (f"{width}x{height}" for width, height in (self._size, size))
            raise DecodeError(
                f"the picture changes its size, from {was} to {now} at frame {self._count}"
            )
        if frame.side_data.get("DISPLAYMATRIX") is not None:
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(upright_rgb(frame, self._upright)), format="rgb24"
            )
        # Told nothing, the scaler takes full-range pictures (MJPEG, some phones) for limited ones.
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        ranges = (
            {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.MPEG} if full else {}
        )
        width, height = self._out.width, self._out.height
        small = self._scale.reformat(
            frame, width, height, "yuv420p", interpolation=Interpolation.AREA, threads=1, **ranges
        )
        small.pts, small.time_base = self._first + self._steps[self._count], self.video.time_base
        small.pict_type = (
            PictureType.NONE
        )  # not the source's: the encoder would repeat its key frames
        self._count += 1
        return self._out.encode(small)

    def flush(self) -> list[Any]:
        """The last packets.

        Raises:
            DecodeError: fewer frames came than there should be.
        """
        if self._count < len(self._steps):
            raise DecodeError(
                f"only {self._count} of {len(self._steps)} frames can be decoded: it is damaged"
            )
        return self._out.encode(None)

    def _tag(self, frame) -> None:
        """Say of the result what is said of the source, so that both come out in the same colours."""
        if frame.side_data.get("DISPLAYMATRIX") is not None or frame.format.is_rgb:
            return  # turned by way of RGB, or not in these colours at all
        context = self._out.codec_context
        context.colorspace, context.color_primaries, context.color_trc = (
            frame.colorspace,
            frame.color_primaries,
            frame.color_trc,
        )
        if self.video.codec_context.sample_aspect_ratio:
            context.sample_aspect_ratio = self.video.codec_context.sample_aspect_ratio


def packets_of(reader, encoder: Encoder, sounds: dict[Any, Any]) -> Iterator[Any]:
    """What goes into the new file, in the order of the old one.

    Args:
        sounds: stream of the old file -> stream of the new one that takes its packets.
    """
    for packet in reader.demux(encoder.video, *sounds):
        if packet.stream.index == encoder.video.index:
            for frame in packet.decode():
                yield from encoder.encode(frame)
        elif packet.dts is not None:
            packet.stream = sounds[packet.stream]
            yield packet
    yield from encoder.flush()


def check_made(path: Path, num_frames: int) -> None:
    """Read the result back.

    Raises:
        OSError: it is not whole.
    """
    try:
        with VideoDecoder().open(Record(str(path))) as clip:
            found = clip.num_frames
    except DecodeError as error:
        raise OSError(errno.EIO, f"what was written cannot be read: {error}") from error
    if found != num_frames:
        raise OSError(errno.EIO, f"what was written has {found} frames of {num_frames}")


# --- which videos, which list ------------------------------------------------------------------------------------------


def plan_smaller(
    source: Path, out: Path, suffix: str, root: Path | None = None
) -> tuple[list[Job], list[Row]]:
    """(what to make, each file once; rows of a list or table, none of a folder).

    Raises:
        ValueError: nothing to do, wrong lines, or two videos that would become one.
    """
    if source.is_dir():
        return plan(source, out, suffix), []
    if not source.is_file():
        raise ValueError(f"{source}: no such folder or list")
    if (out / source.name).resolve() == source.resolve():
        raise ValueError(f"{out}: the new list would replace {source}; choose another folder")
    rows, jobs = jobs_of_list(source, out, suffix, root, parts=False)
    return jobs, rows


def write_list(jobs: list[Job], rows: list[Row], file: Path) -> tuple[Path, int]:
    """Write what `rows` say with the paths of the videos that are there now; returns the file and how many lines.

    A list as it was, or a table where rows have times, a split, a source or labels with spaces.
    """
    kept = [(job, row) for job, row in zip(jobs, rows, strict=True) if Path(job.target).exists()]
    more = [
        name
        for name in ("start_sec", "end_sec", "split", "source")
        if any(getattr(row, name) is not None for row in rows)
    ]
    paths = [path_in_list(job.target, file.parent) for job, _ in kept]
    if more or file.suffix in (".csv", ".jsonl") or any(len(row.label.split()) > 1 for row in rows):
        file, text = file.with_suffix(".csv"), io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["path", "label", *more])
        table.writerows(
            [path, row.label, *(getattr(row, name) for name in more)]
            for path, (_, row) in zip(paths, kept, strict=True)
        )
        content = text.getvalue()
    else:
        content = lines(f"{path} {row.label}" for path, (_, row) in zip(paths, kept, strict=True))
    with atomic_write(file) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="\n")
    return file, len(kept)
