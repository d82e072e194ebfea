"""Probe one audio file: decode all of it, and report its level, its properties and its faults.

The audio is decoded as in training. A probe never raises for the content of a file, and never
changes the file.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from paddlevideo.curate.faults import Fault
from paddlevideo.curate.file_names import find_spelling
from paddlevideo.curate.formats import HEAD_BYTES, identify_format, missing_bytes
from paddlevideo.curate.probe import (
    DIGEST_BYTES,
    KIND_OF_MESSAGE,
    ProbeOptions,
    VideoInfo,
    capture_ffmpeg_errors,
)
from paddlevideo.media.audio_reader import AudioReader, NoAudioError, open_audio
from paddlevideo.media.containers import open_container
from paddlevideo.remote import AccessError, is_url, open_url, path_suffix
from paddlevideo.sample import DecodeError, Record

# FFmpeg's name of a format -> (name for people, the suffixes that fit it).
AUDIO_FORMATS = {
    "wav": ("WAV", (".wav",)),
    "mp3": ("MP3", (".mp3",)),
    "flac": ("FLAC", (".flac",)),
    "ogg": ("Ogg", (".oga", ".ogg", ".ogv", ".opus")),
    "aac": ("AAC", (".aac",)),
    "aiff": ("AIFF", (".aif", ".aiff")),
    "asf": ("ASF", (".asf", ".wma", ".wmv")),
    "matroska,webm": ("Matroska or WebM", (".mka", ".mkv", ".webm")),
    "mov,mp4,m4a,3gp,3g2,mj2": ("MP4 or QuickTime", (".3gp", ".m4a", ".m4v", ".mov", ".mp4")),
}
# Formats whose headers state the exact length; FFmpeg estimates that of others from the bit rate.
EXACT_LENGTH = {"aiff", "flac"}
MAX_MISSING_SECONDS = 0.05  # rounding, and the samples that a codec adds at the ends
MIN_SECONDS = 0.032  # one window of the log-mel feature
SILENCE = 1e-3  # of the loudest sample: -60 dB of full scale
FULL_SCALE = 0.99  # 8-bit samples reach 0.992
MAX_CLIPPED = 0.01  # share of the samples


@dataclass
class AudioInfo:
    """The properties and faults of an audio file; 0 or "" where the file was not read that far.

    Attributes:
        path: path of the file, spelled as on disk.
        num_bytes: size of the file.
        seconds: of the audio file, which may be a part of the file.
        sample_rate: as stored (Hz).
        num_channels: as stored.
        format: FFmpeg's name of the container format.
        codec: FFmpeg's name of the codec.
        peak: largest absolute sample; full scale is 1.
        clipped: share of the samples that are cut off at full scale.
        content_hash: hash of the decoded samples, mean of the channels; "" for silence.
        faults: faults of this file.
    """

    path: str
    num_bytes: int = 0
    seconds: float = 0.0
    sample_rate: int = 0
    num_channels: int = 0
    format: str = ""
    codec: str = ""
    peak: float = 0.0
    clipped: float = 0.0
    content_hash: str = ""
    faults: list[Fault] = field(default_factory=list)

    columns: ClassVar[tuple[str, ...]] = ("seconds", "sample_rate", "channels")

    def cells(self) -> list[int | float]:
        """Return the values of `columns`."""
        return [round(self.seconds, 3), self.sample_rate, self.num_channels]

    def add_fault(self, kind: str, name: str, text: str) -> None:
        self.faults.append(Fault(kind, name, text))


MediaInfo = VideoInfo | AudioInfo


def probe_audio(record: Record, options: ProbeOptions) -> AudioInfo:
    """Decode an audio file, or the audio of a video, and report its faults.

    Args:
        options: only `min_seconds` matters.
    """
    name = record.id or record.path
    path, difference = find_spelling(record.path)
    info = AudioInfo(path)
    if difference:
        info.add_fault("respelt", name, difference)
    try:
        # An error of a folder, or of nothing there, comes from the decoder.
        if not (is_url(path) or os.path.isfile(path)) or check_header(info, name):
            part = Record(path, id=name, start_sec=record.start_sec, end_sec=record.end_sec)
            read_samples(info, part, options)
    except NoAudioError as error:
        is_part = info.sample_rate and (record.start_sec is not None or record.end_sec is not None)
        info.add_fault("bad_times" if is_part else "no_audio", name, str(error))
    except DecodeError as error:
        message = str(error)
        kinds = (kind for words, kind in KIND_OF_MESSAGE if words in message)
        kind = next(kinds, "damaged")
        # The reader of containers expects videos.
        message = message.replace("a video", "an audio file")
        message = message.replace("video format", "audio format")
        info.add_fault("not_audio" if kind == "not_video" else kind, name, message)
    except AccessError:  # concerns all files
        raise
    except OSError as error:
        info.add_fault("missing", name, f"cannot be read: {error.strerror or error}")
    # A library may fail with any error on the numbers in a damaged file, and so would training.
    except Exception as error:
        info.add_fault("damaged", name, f"reading fails with {type(error).__name__}: {error}")
    check_suffix(info, name)
    return info


def check_header(info: AudioInfo, name: str) -> bool:
    """Fill in the size; report a file that is truncated or no audio file.

    Returns:
        True where the samples can be read.
    """
    with open_url(info.path) as file:
        info.num_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        container_format, other = identify_format(file.read(HEAD_BYTES))
    if other and not other.startswith("audio"):
        info.add_fault("not_audio", name, other)
        return False
    if other == "audio (WAV)":
        container_format = "WAV"
    if missing := missing_bytes(info.path, container_format):
        total = info.num_bytes + missing
        text = f"truncated: {missing} of {total} bytes are missing at the end"
        info.add_fault("truncated", name, text)
        return False
    return True


def check_suffix(info: AudioInfo, name: str) -> None:
    """Report a file that decodes and has the suffix of another format."""
    suffix = path_suffix(info.path)
    title, expected = AUDIO_FORMATS.get(info.format, ("", ()))
    if info.seconds and title and suffix not in expected:
        text = f"the format is {title}, expected the suffix {' or '.join(expected)}"
        info.add_fault("wrong_suffix", name, text)


def read_samples(info: AudioInfo, record: Record, options: ProbeOptions) -> None:
    """Decode the audio with the decoder that training uses, and fill in `info`.

    Raises:
        DecodeError: training could not read the file, or silence would replace a part of it.
    """
    announced = announced_seconds(info)
    start, end = record.start_sec or 0.0, record.end_sec
    with capture_ffmpeg_errors(), open_audio(info.path) as audio:
        info.sample_rate, info.num_channels = audio.sample_rate, audio.num_channels
        first = round(start * audio.sample_rate)
        last = None if end is None else max(first + 1, round(end * audio.sample_rate))
        num_samples = measure(info, audio.chunks(first, last))
        if not num_samples:
            raise NoAudioError(no_audio_text(record, audio))
        if audio.damage:
            raise DecodeError(f"{audio.damage}; silence would replace it")
    info.seconds = num_samples / info.sample_rate
    missing = announced - info.seconds if record.start_sec is None and end is None else 0.0
    if missing > MAX_MISSING_SECONDS:
        text = f"truncated: it announces {announced:.2f} s and holds {info.seconds:.2f} s"
        info.add_fault("truncated", record.id, text)
    shortest = max(options.min_seconds, MIN_SECONDS)
    if info.seconds < shortest:
        text = f"{info.seconds:.3f} s, expected at least {shortest:g} s"
        info.add_fault("too_short", record.id, text)
    if info.peak < SILENCE:
        level = f"{20 * np.log10(info.peak):.0f} dB" if info.peak else "zero"
        info.add_fault("silent", record.id, f"its loudest sample is {level} of full scale")
        info.content_hash = ""
    if info.clipped > MAX_CLIPPED:
        text = f"{info.clipped:.1%} of the samples are cut off at full scale"
        info.add_fault("clipped", record.id, text)


def no_audio_text(record: Record, audio: AudioReader) -> str:
    if record.start_sec is None and record.end_sec is None:
        return "its audio stream is empty"
    end = "the end" if record.end_sec is None else f"{record.end_sec} s"
    return f"no audio between {record.start_sec or 0} s and {end}"


def measure(info: AudioInfo, chunks: Iterable[np.ndarray]) -> int:
    """Read all samples, and fill in `peak`, `clipped` and `content_hash`.

    Args:
        chunks: float32 [channels, n] each.

    Returns:
        the number of samples of a channel.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    num_samples, num_clipped = 0, 0.0
    for chunk in finite(chunks):
        info.peak = max(info.peak, float(np.abs(chunk).max(initial=0.0)))
        num_clipped += float(is_clipped(chunk).mean(axis=0).sum())
        # Samples of 16 bits are the same in every lossless format.
        samples = np.rint(chunk.mean(axis=0) * 32768.0).clip(-32768, 32767).astype("<i2")
        digest.update(samples.tobytes())
        num_samples += chunk.shape[1]
    info.clipped = num_clipped / max(1, num_samples)
    info.content_hash = f"{digest.hexdigest()}-{info.sample_rate}-{num_samples}"
    return num_samples


def finite(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the chunks.

    Raises:
        DecodeError: a sample is not a number, which stops a training.
    """
    for chunk in chunks:
        if not np.isfinite(chunk).all():
            raise DecodeError("a sample is not a finite number: it is damaged")
        yield chunk


def is_clipped(chunk: np.ndarray) -> np.ndarray:
    """Mark samples of a flat top, three or more equal ones at full scale, and those above it.

    float32 [channels, n] -> bool [channels, n].
    """
    level = np.abs(chunk)
    marks = level > 1
    if chunk.shape[1] >= 3:
        middle = chunk[:, 1:-1]
        is_flat = (middle == chunk[:, :-2]) & (middle == chunk[:, 2:])
        is_flat &= level[:, 1:-1] >= FULL_SCALE
        for start in range(3):
            marks[:, start : chunk.shape[1] - 2 + start] |= is_flat
    return marks


def announced_seconds(info: AudioInfo) -> float:
    """Return the length that the header of a file announces, 0 where it announces none; fill in the
    format and the codec."""
    with open_container(info.path) as container:
        info.format = container.format.name
        if not container.streams.audio:
            raise NoAudioError(no_stream_text(container))
        stream = container.streams.audio[0]
        info.codec = stream.codec_context.name if stream.codec_context else ""
        is_exact = info.format in EXACT_LENGTH or (info.format == "mp3" and has_index(info.path))
        if not is_exact or stream.duration is None:
            return 0.0
        return float(stream.duration * stream.time_base)


def no_stream_text(container) -> str:
    kinds = sorted({stream.type for stream in container.streams})
    only = f" (only {', '.join(kinds)})" if kinds else ""
    return f"no audio stream in it{only}"


def has_index(path: str) -> bool:
    """Return whether an mp3 begins with a frame that counts the others (Xing, Info or VBRI)."""
    with open_url(path) as file:
        head = file.read(10)
        skip = 0
        if head.startswith(b"ID3") and len(head) == 10:
            # Four bytes of seven bits each (ID3v2, section 3.1).
            for byte in head[6:]:
                skip = skip << 7 | byte & 0x7F
            skip += 10
        file.seek(skip)
        first_frame = file.read(256)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))
