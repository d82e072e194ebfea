"""Probe one video file: read its header, decode some of its frames, and report its faults.

Frames are decoded as in training. A probe never raises for the content of a file, and never
changes the file.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import av
import av.logging
import numpy as np

from paddlevideo.curate.faults import Fault
from paddlevideo.curate.file_names import find_spelling
from paddlevideo.curate.formats import HEAD_BYTES, SUFFIXES, identify_format, missing_bytes
from paddlevideo.curate.transport_stream import find_ts_damage
from paddlevideo.media.audio_reader import NoAudioError, open_audio
from paddlevideo.media.containers import first_video, one_thread, open_container, video_streams
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.packets import demux
from paddlevideo.remote import AccessError, is_url, open_url, path_suffix
from paddlevideo.sample import DecodeError, Record

# Lines of FFmpeg's log that only damage causes. Others, such as missing references after a seek,
# also come from intact files.
DAMAGE = re.compile(
    r"error while decoding MB|concealing \d+|Invalid NAL unit size|damaged at|Error at MB|"
    r"does not match f_code|invalid cbp|slice (end )?not reached|Packet mismatch|"
    r"File ended prematurely|invalid as first byte of an EBML|partial file|ff asf skip"
)
# Part of a DecodeError of media/ -> the kind of fault. All other messages mean damage.
KIND_OF_MESSAGE = (
    ("no such file", "missing"),
    ("a folder", "folder"),
    ("is empty", "empty"),
    ("cut short", "truncated"),
    ("no video stream", "no_video"),
    ("no frames in it", "no_frames"),
    ("no frame between", "bad_times"),
    ("changes its size", "size_changes"),
    ("a text file", "not_video"),
    ("no known video format", "not_video"),
)
DIGEST_BYTES = 16


@dataclass(frozen=True)
class ProbeOptions:
    """How thoroughly to probe a video.

    Args:
        num_frames: how many frames to decode: the first, the last, and others evenly between.
        all_frames: decode every frame instead, and the audio.
        min_frames: a clip with fewer frames is too short.
        min_seconds: a shorter clip is too short.

    Raises:
        ValueError: a number is out of range.
    """

    num_frames: int = 8
    all_frames: bool = False
    min_frames: int = 2
    min_seconds: float = 0.0

    def __post_init__(self):
        if self.num_frames < 1 or self.min_frames < 1 or self.min_seconds < 0:
            raise ValueError(
                f"frames {self.num_frames}, min_frames {self.min_frames}, "
                f"min_seconds {self.min_seconds:g}: expected 1 or more, 1 or more, and 0 or more"
            )


@dataclass
class VideoInfo:
    """The properties and faults of a video; 0, "" or False where the file was not read that far.

    Attributes:
        path: path of the file, spelled as on disk.
        num_bytes: size of the file.
        num_frames, fps, seconds: of the clip, which may be a part of the file.
        width, height: of an upright frame (px).
        format: container format, from the first bytes of the file.
        codec: FFmpeg's name of the video codec.
        has_audio: the file has an audio stream.
        frames_hash: hash of the decoded frames; "" where they are all the same image.
        faults: faults of this file.
    """

    path: str
    num_bytes: int = 0
    num_frames: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    format: str = ""
    codec: str = ""
    has_audio: bool = False
    frames_hash: str = ""
    faults: list[Fault] = field(default_factory=list)

    columns: ClassVar[tuple[str, ...]] = ("frames", "fps", "width", "height")

    def cells(self) -> list[int | float]:
        """Return the values of `columns`."""
        return [self.num_frames, round(self.fps, 3), self.width, self.height]

    @property
    def content_hash(self) -> str:
        """What two clips with the same content share; "" where it is unknown."""
        return self.frames_hash

    def add_fault(self, kind: str, name: str, text: str) -> None:
        self.faults.append(Fault(kind, name, text))


def probe_video(record: Record, options: ProbeOptions) -> VideoInfo:
    """Open a video, decode some or all of its frames, and report its faults."""
    name = record.id or record.path
    path, difference = find_spelling(record.path)
    info = VideoInfo(path)
    if difference:
        info.add_fault("respelt", name, difference)
    try:
        # An error of a folder, or of nothing there, comes from the decoder.
        if not (is_url(path) or os.path.isfile(path)) or check_header(info, name):
            part = Record(path, id=name, start_sec=record.start_sec, end_sec=record.end_sec)
            read_frames(info, part, options)
    except DecodeError as error:
        message = str(error)
        kinds = (kind for words, kind in KIND_OF_MESSAGE if words in message)
        info.add_fault(next(kinds, "damaged"), name, message)
    except AccessError:  # concerns all files
        raise
    except OSError as error:
        info.add_fault("missing", name, f"cannot be read: {error.strerror or error}")
    # A library may fail with any error on the numbers in a damaged file, and so would training.
    except Exception as error:
        info.add_fault("damaged", name, f"reading fails with {type(error).__name__}: {error}")
    check_suffix(info, name)
    return info


def check_header(info: VideoInfo, name: str) -> bool:
    """Fill in the size and the format; report a file that is truncated or not a video.

    Returns:
        True where the frames can be read.
    """
    with open_url(info.path) as file:
        info.num_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        info.format, other = identify_format(file.read(HEAD_BYTES))
    if other:
        info.add_fault("not_video", name, other)
        return False
    if missing := missing_bytes(info.path, info.format):
        total = info.num_bytes + missing
        text = f"truncated: {missing} of {total} bytes are missing at the end"
        info.add_fault("truncated", name, text)
        return False
    return True


def check_suffix(info: VideoInfo, name: str) -> None:
    """Report a file that decodes and has the suffix of another format."""
    suffix = path_suffix(info.path)
    expected = SUFFIXES.get(info.format, ())
    if info.num_frames and info.format and suffix not in expected:
        hint = f", expected the suffix {' or '.join(expected)}" if expected else ""
        info.add_fault("wrong_suffix", name, f"the format is {info.format}{hint}")


@contextmanager
def capture_ffmpeg_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Collect the errors that FFmpeg logs in the block: (level, component, message)."""
    av.logging.set_level(av.logging.ERROR)
    # FFmpeg folds repeated lines and logs their count later, possibly with the next file.
    skip_repeated = av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    try:
        with one_thread(), av.logging.Capture() as lines:
            yield lines
    finally:
        av.logging.set_level(None)
        av.logging.set_skip_repeated(skip_repeated)


def read_frames(info: VideoInfo, record: Record, options: ProbeOptions) -> None:
    """Decode frames with the decoder that training uses, and fill in `info`.

    Raises:
        DecodeError: training could not read the file, or the decoder conceals damage.
    """
    shapes: list[tuple[int, ...]] = []

    def hash_frame(frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [DIGEST_BYTES]."""
        shapes.append(frame.shape)
        content = np.ascontiguousarray(frame).data
        digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
        return np.frombuffer(digest, np.uint8)

    with capture_ffmpeg_errors() as lines:
        with open_container(record.path) as container:
            stream = first_video(record.path, video_streams(container))
            info.codec = stream.codec_context.name
            info.has_audio = bool(container.streams.audio)
            if problem := missing_avi_frames(container, stream):
                raise DecodeError(problem)
        with VideoDecoder().open(record) as clip:
            info.num_frames, info.fps = clip.num_frames, clip.fps
            info.seconds = clip.num_frames / clip.fps if clip.fps else 0.0
            if options.all_frames:
                indices = np.arange(clip.num_frames)
            else:
                indices = spaced_frames(clip.num_frames, options.num_frames)
            hashes = clip.read(indices, each=hash_frame)
            if clip.lost:
                lost = f"{min(clip.lost)} of {clip.num_frames}"
                raise DecodeError(f"frame {lost} cannot be decoded: it is damaged")
    info.height, info.width = shapes[0][:2]
    info.frames_hash = combine_hashes(hashes, info, options)
    if line := next((line for _, _, line in lines if DAMAGE.search(line)), ""):
        first_line = line.splitlines()[0].strip()
        raise DecodeError(f"the file is damaged and the decoder conceals it: {first_line}")
    if info.format == "MPEG-TS" and (problem := find_ts_damage(info.path)):
        raise DecodeError(f"the transport stream is damaged: {problem}")
    if options.all_frames and info.has_audio:
        check_audio(info, record.id)
    check_length(info, record.id, options)


def check_audio(info: VideoInfo, name: str) -> None:
    """Decode the first audio stream, and report what cannot be decoded."""
    try:
        with open_audio(info.path) as audio:
            for _ in audio.chunks():
                pass
            damage = audio.damage
    except NoAudioError:
        return
    except DecodeError as error:
        damage = str(error)
    if damage:
        info.add_fault("damaged_audio", name, damage)


def combine_hashes(hashes: np.ndarray, info: VideoInfo, options: ProbeOptions) -> str:
    """Combine the hashes of frames, uint8 [T, DIGEST_BYTES], into `VideoInfo.frames_hash`."""
    if options.all_frames:
        # The same frames as without `all_frames`, so that both find the same duplicates.
        hashes = hashes[spaced_frames(len(hashes), options.num_frames)]
    if len(np.unique(hashes, axis=0)) == 1:
        return ""
    content = hashes.tobytes() + bytes([info.has_audio])
    digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
    return f"{digest}-{info.num_frames}"


def check_length(info: VideoInfo, name: str, options: ProbeOptions) -> None:
    """Report a clip that is too short."""
    if info.num_frames < options.min_frames:
        unit = "frame" if info.num_frames == 1 else "frames"
        text = f"{info.num_frames} {unit}, expected at least {options.min_frames}"
        info.add_fault("too_short", name, text)
    elif info.fps and info.seconds < options.min_seconds:
        text = f"{info.seconds:.2f} s, expected at least {options.min_seconds:g} s"
        info.add_fault("too_short", name, text)


def missing_avi_frames(container, stream) -> str:
    """Describe the frames that an AVI announces and does not hold.

    An AVI that is damaged in the middle still opens and decodes, only shorter. Frames that a
    recorder dropped on purpose have no index entry, but the time stamps skip them.

    Returns:
        "" where no frame is missing, and for other containers.
    """
    if container.format.name != "avi":
        return ""
    times = [p.dts if p.pts is None else p.pts for p in demux(container, stream)]
    num_indexed = len(stream.index_entries)
    if len(times) < num_indexed:
        return f"the index lists {num_indexed} frames, the file holds {len(times)}"
    end = max((time for time in times if time is not None), default=-1) + 1
    # The time base of an AVI counts frames.
    announced = stream.duration or 0
    if times and end < 0.9 * announced - 1:
        return f"the header announces {announced} frames, the video ends after {end}"
    return ""


def spaced_frames(num_frames: int, count: int) -> np.ndarray:
    """Choose evenly spaced frames, the first and the last among them.

    Returns:
        int64 [min(count, num_frames)] or shorter, sorted, without repeats.
    """
    indices = np.linspace(0, num_frames - 1, min(count, num_frames))
    return np.unique(indices.round().astype(np.int64))


def hash_file(path: str) -> str:
    """Hash the bytes of a file; "" where it cannot be read."""
    try:
        with open_url(path) as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()  # type: ignore[arg-type]
    except OSError:
        return ""
