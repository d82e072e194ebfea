"""What is in one video file and what is wrong with it: its beginning, its size, and frames read as training reads them.

Looking never raises for what a file holds, and never changes it.
"""

import functools
import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.logging
import numpy as np

from paddlevideo.curate.faults import Fault
from paddlevideo.data.class_names import normalized_text as plain
from paddlevideo.media.containers import one_thread, open_container, video_streams
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import DecodeError, Record

HEAD = 512  # bytes that tell a format
# Lines of FFmpeg's log that come from damage only; others, as of missing references after a seek, come from sound files too.
DAMAGE = re.compile(
    r"error while decoding MB|concealing \d+|Invalid NAL unit size|damaged at|Error at MB|does not match f_code|invalid cbp|"
    r"slice (end )?not reached|Packet mismatch|File ended prematurely|invalid as first byte of an EBML|partial file|ff asf skip"
)
# What the decoder says -> the kind of fault; anything else is damage.
KIND_OF = (
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
ISO, MATROSKA = "MP4 or QuickTime", "Matroska or WebM"
FAMILIES = {
    "AVI": (".avi",),
    ISO: (".3gp", ".m4v", ".mov", ".mp4"),
    MATROSKA: (".mkv", ".webm"),
    "FLV": (".flv",),
    "MPEG-TS": (".m2ts", ".mpeg", ".mpg", ".mts", ".ts"),
    "MPEG": (".mpeg", ".mpg", ".vob"),
    "ASF": (".asf", ".wmv"),
    "Ogg": (".ogv",),
}
BOXES = frozenset(
    (
        b"ftyp",
        b"moov",
        b"mdat",
        b"free",
        b"skip",
        b"wide",
        b"moof",
        b"mfra",
        b"sidx",
        b"styp",
        b"uuid",
        b"pdin",
    )
)


@dataclass(frozen=True)
class ProbeOptions:
    """How closely to look.

    Args:
        num_frames: frames to decode, the first, the last and others evenly between them.
        whole: decode every frame.
        min_frames: a clip with fewer is too short.
        min_seconds: the same in seconds.
    """

    num_frames: int = 8
    whole: bool = False
    min_frames: int = 2
    min_seconds: float = 0.0

    def __post_init__(self):
        if self.num_frames < 1 or self.min_frames < 1 or self.min_seconds < 0:
            given = f"frames {self.num_frames}, min_frames {self.min_frames}, min_seconds {self.min_seconds:g}"
            raise ValueError(f"{given}: expected 1 or more, 1 or more, and 0 or more")


@dataclass
class VideoInfo:
    """What a look found; zeros where the file could not be read that far.

    Attributes:
        path: where the file is, in its own spelling.
        size: bytes of the file.
        num_frames, fps, seconds: of the clip, so of the record's part of the file.
        width, height: of an upright frame (pixels).
        format: family of the container, from its first bytes; "" where unknown.
        sound: the file has an audio stream.
        pictures: hash of the decoded frames; "" where all of them are the same picture, as in a slide.
        faults: of this file.
    """

    path: str
    size: int = 0
    num_frames: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    format: str = ""
    codec: str = ""
    sound: bool = False
    pictures: str = ""
    faults: list[Fault] = field(default_factory=list)

    def add(self, kind: str, name: str, text: str) -> None:
        self.faults.append(Fault(kind, name, text))


def probe_video(record: Record, how: ProbeOptions) -> VideoInfo:
    """Open the file, decode some of its frames or all, and name what is wrong."""
    name = record.id or record.path
    path, why = find_spelling(record.path)
    seen = VideoInfo(path)
    if why:
        seen.add("respelt", name, why)
    try:
        if os.path.isfile(path):
            seen.size = os.path.getsize(path)
            with open(path, "rb") as file:
                head = file.read(HEAD)
            seen.format, other = format_of(head)
            if other:
                raise NotVideo(other)
            if missing := missing_bytes(path, seen.format):
                raise DecodeError(
                    f"cut short: {missing} of {seen.size + missing} bytes are missing at its end"
                )
        read_frames(seen, Record(path, None, name, None, record.start_sec, record.end_sec), how)
    except NotVideo as error:
        seen.add("not_video", name, str(error))
    except DecodeError as error:
        kind = next((kind for words, kind in KIND_OF if words in str(error)), "damaged")
        seen.add(kind, name, str(error))
    except OSError as error:
        seen.add("missing", name, f"cannot be read: {error.strerror or error}")
    except Exception as error:  # of a library, over numbers that a damaged file makes up; training would end with it
        seen.add("damaged", name, f"reading it fails with {type(error).__name__}: {error}")
    suffix = os.path.splitext(path)[1].lower()
    if seen.num_frames and seen.format and suffix not in FAMILIES.get(seen.format, ()):
        fitting = FAMILIES.get(seen.format, ())
        seen.add(
            "wrong_suffix",
            name,
            f"it is {seen.format}{', which is called ' + ' or '.join(fitting) if fitting else ''}",
        )
    return seen


def read_frames(seen: VideoInfo, record: Record, how: ProbeOptions) -> None:
    """Decode through the package's own decoder and fill `seen`.

    Raises:
        DecodeError: what training would fail with, or damage that a decoder covers up.
    """
    av.logging.set_level(av.logging.ERROR)
    # Counted repeats would be told with the next file.
    repeats = av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    try:
        with one_thread(), av.logging.Capture() as lines:
            with open_container(record.path) as container:
                stream = video_streams(container)[0]
                seen.codec, seen.sound = stream.codec_context.name, bool(container.streams.audio)
                if lost := lost_in_avi(container, stream):
                    raise DecodeError(lost)
            with VideoDecoder().open(record) as clip:
                seen.num_frames, seen.fps = clip.num_frames, clip.fps
                seen.seconds = clip.num_frames / clip.fps if clip.fps else 0.0
                numbers = (
                    np.arange(clip.num_frames)
                    if how.whole
                    else spread(clip.num_frames, how.num_frames)
                )
                sizes: list[tuple[int, ...]] = []

                def digest(image: np.ndarray) -> np.ndarray:
                    sizes.append(image.shape)
                    return np.frombuffer(
                        hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest(),
                        np.uint8,
                    )

                digests = clip.read(numbers, each=digest)
    finally:
        av.logging.set_level(None)
        av.logging.set_skip_repeated(repeats)
    seen.height, seen.width = sizes[0][:2]
    # Of a whole look only what a quick one sees, so that both tell the same clips apart.
    some = digests[spread(len(digests), how.num_frames)] if how.whole else digests
    if len(np.unique(some, axis=0)) > 1:
        seen.pictures = (
            hashlib.blake2b(some.tobytes() + bytes([seen.sound]), digest_size=16).hexdigest()
            + f"-{seen.num_frames}"
        )
    if said := next((line for _, _, line in lines if DAMAGE.search(line)), ""):
        raise DecodeError(
            f"it is damaged and the decoder covers it up: {said.splitlines()[0].strip()}"
        )
    if clip.num_frames < how.min_frames:
        seen.add(
            "too_short",
            record.id,
            f"{clip.num_frames} frame{'s' * (clip.num_frames > 1)}, at least {how.min_frames} wanted",
        )
    elif seen.fps and seen.seconds < how.min_seconds:
        seen.add(
            "too_short", record.id, f"{seen.seconds:.2f} s, at least {how.min_seconds:g} s wanted"
        )


def lost_in_avi(container, stream) -> str:
    """What an AVI announces and does not hold, "" where nothing is missing or it is another container.

    An AVI that is damaged in its middle still opens and decodes, only shorter. Frames that a recorder dropped on purpose have
    no index entry, but their time passes.
    """
    if container.format.name != "avi":
        return ""
    times = [p.dts if p.pts is None else p.pts for p in container.demux(stream) if p.size]
    if len(times) < (indexed := len(stream.index_entries)):
        return f"it lists {indexed} frames and holds {len(times)}"
    passed = max((time for time in times if time is not None), default=-1) + 1
    announced = stream.duration or 0  # a time base of AVI counts frames
    return (
        f"it announces {announced} frames and ends after {passed}"
        if times and passed < 0.9 * announced - 1
        else ""
    )


def spread(num_frames: int, count: int) -> np.ndarray:
    """`count` frame numbers or fewer, from the first to the last, without repeats: int64."""
    return np.unique(
        np.linspace(0, num_frames - 1, min(count, num_frames)).round().astype(np.int64)
    )


def file_digest(path: str) -> str:
    """Hash of the bytes of a file, "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return ""


# --- what a file's bytes say -----------------------------------------------------------------------------------------


class NotVideo(Exception):
    """A file of another kind; the message says which."""


def format_of(head: bytes) -> tuple[str, str]:
    """(family of the container, what else it is) from the first bytes; "" where they do not tell.

    Args:
        head: the beginning of the file, HEAD bytes where it has so many.
    """
    if head[4:8] in BOXES:
        brand = head[8:12] if head[4:8] == b"ftyp" else b""
        still = brand in (b"avif", b"heic", b"heix", b"mif1")
        return ("", "a picture (HEIF or AVIF)") if still else (ISO, "")
    riff = {b"AVI ": ("AVI", ""), b"WAVE": ("", "sound (WAV)"), b"WEBP": ("", "a picture (WebP)")}
    if head[:4] == b"RIFF" and head[8:12] in riff:
        return riff[head[8:12]]
    for magic, family in (
        (b"\x1a\x45\xdf\xa3", MATROSKA),
        (b"FLV\x01", "FLV"),
        (b"\x00\x00\x01\xba", "MPEG"),
        (b"\x00\x00\x01\xb3", "MPEG"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
        (b"OggS", "Ogg"),
        (b"GIF8", "GIF"),
    ):
        if head.startswith(magic):
            return family, ""
    for first, step in (
        (0, 188),
        (4, 192),
    ):  # packets of a transport stream, the second kind with time codes before them
        if len(head) > first + 2 * step and all(head[first + n * step] == 0x47 for n in range(3)):
            return "MPEG-TS", ""
    for magic, what in (
        (b"\x89PNG", "a picture (PNG)"),
        (b"\xff\xd8\xff", "a picture (JPEG)"),
        (b"BM", "a picture (BMP)"),
        (b"ID3", "sound (MP3)"),
        (b"fLaC", "sound (FLAC)"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"Rar!", "a RAR archive"),
        (b"7z\xbc\xaf", "a 7z archive"),
    ):
        if head.startswith(magic):
            return "", what
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "", "a web page (HTML), perhaps the error page of a download"
    if start.startswith(b"version https://git-lfs"):
        return "", "a pointer of Git LFS; the video itself was not fetched (git lfs pull)"
    return "", ""


def missing_bytes(path: str, family: str) -> int:
    """How many bytes the outermost parts of a container announce beyond the end of the file; 0 where none or unknown."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if family == "AVI":
            # A recorder that was cut off, or that could not seek, leaves 0 or all ones.
            length = int.from_bytes(file.read(8)[4:8], "little")
            return max(0, length + 8 - size) if 0 < length < 0xFFFFFFFF else 0
        if family == "MPEG-TS":
            return -size % (188 if file.read(1) == b"\x47" else 192)  # bytes of a packet
        if family == ISO:
            return max(0, end_of_boxes(file, size) - size)
        if family == MATROSKA:
            file.seek(4)
            length = ebml_size(file)
            file.seek(length or 0, os.SEEK_CUR)
            if length is None or file.read(4) != b"\x18\x53\x80\x67":
                return 0
            length = ebml_size(file)
            return 0 if length is None else max(0, file.tell() + length - size)
    return 0


def end_of_boxes(file, size: int) -> int:
    """Where the last of the outer boxes of an MP4 ends; walking stops at what is no known box, as the padding of cameras."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if kind not in BOXES or length < 8:
            return at
        at += length
    return at


def ebml_size(file) -> int | None:
    """A size in Matroska's notation, None where it is unknown (all ones) or not there."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0xFF >> width)]) + file.read(width - 1), "big")
    return None if value == (1 << 7 * width) - 1 else value


# --- what a name means -----------------------------------------------------------------------------------------------


def find_spelling(path: str) -> tuple[str, str]:
    """(the path in the spelling of the file, what was different); (path, "") where it is there or nothing like it is.

    Lists from other systems have backslashes, quotes, other capitals or accents in two characters.
    """
    if os.path.lexists(path):
        return path, ""
    for other, why in (
        (path.replace("\\", "/"), "written with backslashes"),
        (path.replace('"', ""), "written with quotes"),
        (path.replace("'", ""), "written with quotes"),
    ):
        if other != path and os.path.isfile(other):
            return other, f"{why}; the file is {Path(other).name}"
    folder, name = os.path.split(path)
    try:
        alike = spellings(folder or ".", os.stat(folder or ".").st_mtime_ns).get(plain(name), [])
    except OSError:
        alike = []
    if len(alike) == 1:
        return os.path.join(folder, alike[0]), f"the file's own spelling is {alike[0]}"
    return path, ""


@functools.lru_cache(maxsize=8)
def spellings(folder: str, changed: int) -> dict[str, list[str]]:
    """Plain name -> names in the folder; `changed` is its time stamp, so that a later state is read anew."""
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(plain(name), []).append(name)
    return names


def odd_name(text: str) -> str:
    """Why a table cannot hold this path; "" where it can."""
    if any(ord(c) < 32 or c in "\x85\u2028\u2029" for c in text):
        return "its name holds a line break or another control character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return "its name begins or ends with a space" if text != text.strip() else ""
