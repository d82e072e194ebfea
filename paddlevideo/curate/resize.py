"""Write smaller copies of videos, so that training decodes few pixels that it does not use.

The copies are H.264, encoded by PyAV. They keep the time stamps, the audio packets and the color
tags of the source. Their frames are those of this package's decoder: upright, with unchanged pixel
aspect. Each copy is read back before it counts as done.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from paddlevideo.curate.batch_jobs import Job, existing, plan_jobs, target_of
from paddlevideo.curate.h264 import FORMATS, PRESETS, add_h264, open_writer
from paddlevideo.curate.known_sets import jobs_of_list, join_lines, path_in_list
from paddlevideo.data.lists import Row
from paddlevideo.files import atomic_write
from paddlevideo.media.clock import read_stretches
from paddlevideo.media.containers import first_video, open_container, upright_rgb, video_streams
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.packets import Stretch, demux, stretch_of
from paddlevideo.plain_text import csv_path, csv_text
from paddlevideo.remote import (
    as_path,
    atomic_file,
    is_file,
    is_folder,
    join_path,
    parent_path,
    path_name,
    shown,
)
from paddlevideo.sample import DecodeError, Record


class AudioNotCopied(DecodeError):
    """Audio whose codec the container of the copy cannot hold."""


@dataclass(frozen=True)
class WriteResized:
    """Write a copy of a video with a given short side; smaller videos keep their size.

    Args:
        short_side: even number of pixels, as H.264 requires. The other side follows from the aspect
            ratio, rounded to an even number.
        gop: largest distance of key frames (frames). A smaller one makes the file larger, and
            random access to frames faster.
        crf: quality, 0 .. 51. A smaller value gives a better quality and a larger file.
        preset: of x264; slower presets make smaller files.
        sound: "copy" copies the packets of all audio streams, "none" leaves the audio out.
        suffix: .mp4, or .mkv, which can hold more audio codecs.
        draw: draws on each frame of the copy, a PyAV frame in the format yuv420p.
    """

    short_side: int = 256
    gop: int = 32
    crf: int = 20
    preset: str = "veryfast"
    sound: Literal["copy", "none"] = "copy"
    suffix: str = ".mp4"
    draw: Callable[[Any], None] | None = None

    def __post_init__(self):
        if self.short_side < 2 or self.short_side % 2:
            raise ValueError(f"short_side is {self.short_side}; expected an even number of pixels")
        if self.gop < 1:
            raise ValueError(f"gop is {self.gop}; expected at least 1")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf is {self.crf}; expected 0 .. 51")
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; expected one of {', '.join(PRESETS)}")
        if self.suffix not in FORMATS:
            raise ValueError(f"suffix is {self.suffix!r}; expected {' or '.join(FORMATS)}")
        if self.sound not in ("copy", "none"):
            raise ValueError(f"sound is {self.sound!r}; expected copy or none")

    def __call__(self, source: str, target: str) -> None:
        """
        Raises:
            DecodeError: no video, a damaged frame, or an audio codec that the container cannot
                hold. Nothing is written then.
            OSError: the file cannot be written.
        """
        # Open it as training does: this gives exact times, and an error if the file is truncated.
        with VideoDecoder().open(Record(source)) as clip:
            times, (height, width) = clip.times(), clip.read([0]).shape[1:3]
        stretches = read_stretches(source)
        with atomic_write(target) as temporary:
            with open_container(source) as reader, open_writer(temporary, self.suffix) as writer:
                video = first_video(source, video_streams(reader))
                out = self._add_video(writer, video, self.size_of(height, width))
                start = round(stretches[0].stamp / video.time_base)
                encoder = Encoder(video, out, times, start, self.draw)
                audio = self._add_audio(writer, reader)
                for packet in packets_of(reader, encoder, audio, stretches):
                    writer.mux(packet)
            verify_copy(temporary, len(times))

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the copy, both even (px)."""
        scale = min(1.0, self.short_side / min(height, width))
        return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)

    def _add_video(self, writer, video, size: tuple[int, int]):
        rate = Fraction(video.average_rate or video.guessed_rate or 25).limit_denominator(65535)
        quality = (self.crf, self.preset, self.gop)
        return add_h264(writer, size, rate, video.time_base, *quality, repeatable=True)

    def _add_audio(self, writer, reader) -> dict[Any, Any]:
        """Add the audio streams: stream of the source -> stream of the copy."""
        streams = {}
        for stream in reader.streams.audio if self.sound == "copy" else ():
            try:
                streams[stream] = writer.add_stream_from_template(stream)
            except ValueError as error:
                codec = stream.codec_context.name
                raise AudioNotCopied(
                    f"its audio ({codec}) cannot be copied into {self.suffix}; "
                    "use --suffix .mkv or --sound none"
                ) from error
        return streams


class Encoder:
    """Encode decoded frames, with the frame times of this package's decoder.

    Args:
        video: the stream of the frames.
        out: the stream to encode for.
        times: of each frame after the first one (s), [num_frames].
        start: time stamp of the first frame, in units of the time base.
        draw: draws on each frame before it is encoded.
    """

    def __init__(
        self,
        video,
        out,
        times: np.ndarray,
        start: int = 0,
        draw: Callable[[Any], None] | None = None,
    ):
        self.video, self._out, self._draw = video, out, draw
        # Time stamps after the first frame, in units of the time base.
        self._steps = np.rint(times / float(video.time_base)).astype(np.int64).tolist()
        self._scaler, self._upright = VideoReformatter(), VideoReformatter()
        self._size, self._first, self._count = None, start, 0

    def encode(self, frame) -> list[Any]:
        """Scale and encode a frame; return the packets that are ready.

        Raises:
            DecodeError: another size than before, or more frames than times.
        """
        self._check(frame)
        if frame.side_data.get("DISPLAYMATRIX") is not None:
            rgb = np.ascontiguousarray(upright_rgb(frame, self._upright))
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        # By default, the scaler takes full-range frames (MJPEG, some phones) for limited range.
        ranges = {}
        if frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG:
            ranges = {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.MPEG}
        small = self._scaler.reformat(
            frame,
            self._out.width,
            self._out.height,
            "yuv420p",
            interpolation=Interpolation.AREA,
            threads=1,
            **ranges,
        )
        small.pts, small.time_base = self._first + self._steps[self._count], self.video.time_base
        # Otherwise the encoder would put key frames where the source has them.
        small.pict_type = PictureType.NONE
        if self._draw:
            small.make_writable()  # a frame of the right size is still the decoder's own
            self._draw(small)
        self._count += 1
        return self._out.encode(small)

    def _check(self, frame) -> None:
        size = (frame.width, frame.height)
        if self._size is None:
            self._size = size
            self._copy_tags(frame)
        position = f"frame {self._count} of {len(self._steps)}"
        if self._count == len(self._steps):
            raise DecodeError(f"{position} is not in the index of the file")
        if size != self._size:
            before, now = (f"{width}x{height}" for width, height in (self._size, size))
            raise DecodeError(f"the frame size changes from {before} to {now} at {position}")

    def flush(self) -> list[Any]:
        """Return the last packets.

        Raises:
            DecodeError: fewer frames than times.
        """
        if self._count < len(self._steps):
            raise DecodeError(
                f"damaged: only {self._count} of {len(self._steps)} frames can be decoded"
            )
        return self._out.encode(None)

    def _copy_tags(self, frame) -> None:
        """Copy the color and aspect tags of the source, so that players show both alike."""
        if frame.side_data.get("DISPLAYMATRIX") is not None or frame.format.is_rgb:
            return  # The frames go through RGB, so the tags of the source do not apply.
        context = self._out.codec_context
        context.colorspace = frame.colorspace
        context.color_primaries = frame.color_primaries
        context.color_trc = frame.color_trc
        if self.video.codec_context.sample_aspect_ratio:
            context.sample_aspect_ratio = self.video.codec_context.sample_aspect_ratio


def packets_of(
    reader, encoder: Encoder, audio: dict[Any, Any], stretches: Sequence[Stretch] = ()
) -> Iterator[Any]:
    """Yield the packets of the copy, in the order of the source.

    Args:
        audio: audio stream of the source -> audio stream of the copy.
        stretches: of a video whose time stamps go back. In the copy they rise.
    """
    clocks = {stream.index: AudioClock(stretches) for stream in audio}
    for packet in demux(reader, encoder.video, *audio):
        if packet.stream.index == encoder.video.index:
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue  # the encoder reports it if this leaves too few frames
            for frame in frames:
                yield from encoder.encode(frame)
        elif packet.dts is not None and clocks[packet.stream.index].adjust(packet):
            packet.stream = audio[packet.stream]
            yield packet
    try:
        frames = encoder.video.codec_context.decode(None)
    except av.error.InvalidDataError:
        frames = []
    for frame in frames:
        yield from encoder.encode(frame)
    yield from encoder.flush()


class AudioClock:
    """Change the time stamps of audio packets as `VideoClip.times` changes those of the frames.

    Args:
        stretches: of the video; none where its time stamps only rise.
    """

    def __init__(self, stretches: Sequence[Stretch]):
        self._stretches = stretches
        self._current, self._stored_dts = 0, None
        self._written_dts: int | None = None

    def adjust(self, packet) -> bool:
        """Change the time stamps of the next packet; return whether it belongs into the copy."""
        if len(self._stretches) < 2:
            return True
        goes_back = self._stored_dts is not None and packet.dts < self._stored_dts
        self._stored_dts = packet.dts
        self._current = stretch_of(self._stretches, self._current, packet.pos, goes_back)
        stretch = self._stretches[self._current]
        second = packet.dts * packet.time_base - stretch.stamp + stretch.second
        following = self._stretches[self._current + 1 :][:1]
        is_outside = any(second >= other.second for other in following) or (
            self._current > 0 and second < stretch.second
        )
        shift = round(
            (stretch.second - stretch.stamp + self._stretches[0].stamp) / packet.time_base
        )
        dts = packet.dts + shift
        if is_outside or (self._written_dts is not None and dts <= self._written_dts):
            return False
        self._written_dts = packet.dts = dts
        packet.pts = None if packet.pts is None else packet.pts + shift
        return True


def verify_copy(path: Path, num_frames: int) -> None:
    """Read the copy back and count its frames.

    Raises:
        OSError: unreadable, or another number of frames.
    """
    try:
        with VideoDecoder().open(Record(str(path))) as clip:
            found = clip.num_frames
    except DecodeError as error:
        raise OSError(errno.EIO, f"the written copy cannot be read: {error}") from error
    if found != num_frames:
        raise OSError(errno.EIO, f"the written copy has {found} frames, expected {num_frames}")


# --- jobs and list -------------------------------------------------------------------------------


def plan_resize(
    source: str | Path, out: str | Path, suffix: str, root: str | Path | None = None
) -> tuple[list[Job], list[Row]]:
    """Find the videos of a folder, a list or a table.

    Args:
        out: folder of the copies.
        suffix: of the copies.
        root: folder that the paths of a list are relative to; None as in `base_folder`.

    Returns:
        (jobs, rows of the list or table). A folder has no rows; otherwise there is a job for each
        row, and rows of the same video have equal jobs.

    Raises:
        ValueError: no videos, wrong lines, or two videos with the same target.
    """
    if is_folder(source):
        return plan_jobs(source, out, suffix), []
    if not is_file(source):
        raise ValueError(f"{shown(source)}: no such folder or list")
    if os.path.realpath(join_path(out, path_name(source))) == os.path.realpath(source):
        raise ValueError(f"{out}: the new list would replace {source}; choose another folder")
    rows, jobs = jobs_of_list(source, out, suffix, root, use_spans=False)
    return jobs, rows


def write_list(jobs: list[Job], rows: list[Row], file: str | Path) -> tuple[str | Path, int]:
    """Write the rows of a list or table with the paths of the copies that exist.

    Args:
        file: in the folder of the copies.

    The result is a table (.csv) if rows have times, a split, a source or a label with spaces.

    Returns:
        (the file, its number of lines).
    """
    out, name = parent_path(file), path_name(file)
    made = existing(jobs, out)
    kept = [(job, row) for job, row in zip(jobs, rows, strict=True) if job.target in made]
    paths = [path_in_list(job.target, out) for job, _ in kept]
    all_values = [row._asdict() for row in rows]
    optional = ("start_sec", "end_sec", "split", "source")
    columns = [name for name in optional if any(values[name] is not None for values in all_values)]
    spaces = any(len(row.label.split()) > 1 for row in rows)
    cells: list[list[Any]] = []
    if columns or spaces or name.endswith((".csv", ".jsonl")):
        name = str(PurePosixPath(name).with_suffix(".csv"))
        for path, (_, row) in zip(paths, kept, strict=True):
            values = row._asdict()
            cells.append([csv_path(path), row.label, *(values[name] for name in columns)])
        content = csv_text(["path", "label", *columns], cells)
    else:
        pairs = zip(paths, kept, strict=True)
        content = join_lines(f"{path} {row.label}" for path, (_, row) in pairs)
    file = as_path(target_of(out, PurePosixPath(name)))
    with atomic_file(file) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="\n")
    return file, len(kept)
