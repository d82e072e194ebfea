"""From a path to the sound as numbers: one function over every container and audio file.

    wave = read_waveform("clip.mp4", 16000, start_sec=2.0, end_sec=4.0)   # float32 [32000], mono

Its time is that of the video's frames: second 0 is when the first frame is shown, whichever of picture and sound begins
earlier in the file. In a file without a picture it is the first sample. Only what the span needs is decoded, and what comes
is what a full decode has there, but for noise that AAC leaves to its decoder to draw.
"""

import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Literal

import av.error
import av.stream
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from paddlevideo.media.containers import num_threads, open_container
from paddlevideo.sample import DecodeError

Backend = Literal["pyav", "soundfile"]
# Containers whose packets carry exact times after a seek; a bare mp3 only guesses where it landed.
SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "wav"}
SEEK_FROM = 2.0  # s; sound before that is decoded faster than found
WARM_UP = 0.5  # s before a span, for codecs whose packets lean on those before
MAX_JITTER = 0.1  # s that time stamps may differ from the count of samples; more is a hole
MAX_ROUNDING = 0.001  # s; Matroska and others count milliseconds
MAX_HOLE = 30.0  # s; more is a broken time stamp
PLAIN_SUFFIXES = (
    ".aif",
    ".aiff",
    ".au",
    ".caf",
    ".flac",
    ".mp3",
    ".oga",
    ".ogg",
    ".opus",
    ".w64",
    ".wav",
)
# FFmpeg's default of 32 taps is 1 dB down at 7.2 kHz and folds 8.4 kHz back at -22 dB (44.1 -> 16 kHz); these: -118 dB.
TAPS = 128
SWR = f"filter_size={TAPS}:cutoff=0.96:kaiser_beta=12"
PUSH = 1 << 20  # samples handed to the resampler at once


class NoAudioError(DecodeError):
    """There is nothing to hear: no audio stream, or no sample of it in the span asked for. A damaged file is another error."""


def read_waveform(
    path: str,
    sample_rate: int = 16000,
    start_sec: float | None = None,
    end_sec: float | None = None,
    stream: int | None = None,
    backend: Backend = "pyav",
) -> np.ndarray:
    """The sound of a file, or of the part between two times; channels are averaged.

    Sample i belongs to the time `start_sec + i / sample_rate`, the start rounded to a whole sample. Where the sound begins
    later than the span, or has a hole, there is silence; where it ends earlier the array is shorter.

    Args:
        path: a video, or an audio file.
        sample_rate: of the result (Hz).
        start_sec, end_sec: seconds after the video's first frame, None for the beginning and the end.
        stream: which audio stream, counted from 0; None is the first.
        backend: pyav; soundfile reads plain audio files (wav, flac, ogg, mp3) with libsndfile and resamples with soxr,
            whose numbers are those of `librosa.load`. Containers are decoded by PyAV either way.

    Returns:
        float32 [n], n >= 1; full scale is -1 .. 1, whatever format is stored.

    Raises:
        NoAudioError: no such audio stream, or no sound in the span.
        DecodeError: not a media file, cut short, or damaged in the span.
        ValueError: times or a rate that mean nothing, or a backend that is not installed.
    """
    if (
        sample_rate < 1
        or (start_sec or 0) < 0
        or (end_sec is not None and end_sec <= (start_sec or 0))
    ):
        raise ValueError(
            f"sample_rate {sample_rate} Hz, span {start_sec} .. {end_sec} s: expected a rate and 0 <= start < end"
        )
    first = round((start_sec or 0) * sample_rate)
    last = None if end_sec is None else max(first + 1, round(end_sec * sample_rate))
    plain = backend == "soundfile" and path.lower().endswith(PLAIN_SUFFIXES) and not stream
    with (open_soundfile if plain else open_audio)(path, stream) as sound:
        # Both rates meet at every `step` native samples: from there a part is resampled just as the whole is.
        step = sound.sample_rate // math.gcd(sound.sample_rate, sample_rate)
        margin = (
            0
            if step == 1 and sound.sample_rate == sample_rate
            else taps(sound.sample_rate, sample_rate)
        )
        begin = max(0, (first * sound.sample_rate // sample_rate - margin) // step * step)
        end = None if last is None else -(-last * sound.sample_rate // sample_rate) + margin
        pieces = [piece.mean(axis=0) for piece in sound.pieces(begin, end)]
    wave = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    wave = resample(wave, sound.sample_rate, sample_rate, backend)
    skipped = first - begin * sample_rate // sound.sample_rate
    wave = wave[skipped : None if last is None else skipped + last - first]
    if not len(wave):
        span = f"between {start_sec or 0} s and {'the end' if end_sec is None else f'{end_sec} s'}"
        raise NoAudioError(
            f"no sound {span}; the nearest is at {sound.heard[0]:.3f} .. {sound.heard[1]:.3f} s"
        )
    return np.ascontiguousarray(wave)


def taps(source_rate: int, sample_rate: int) -> int:
    """Native samples that a resampled one depends on, to each side, and some more."""
    return math.ceil(TAPS * max(1.0, source_rate / sample_rate))


def resample(
    wave: np.ndarray, source_rate: int, sample_rate: int, backend: Backend = "pyav"
) -> np.ndarray:
    """float32 [n] at `source_rate` (Hz) -> float32 [about n * sample_rate / source_rate], sample 0 at the same time."""
    if source_rate == sample_rate or not len(wave):
        return wave
    if len(wave) < (
        least := taps(source_rate, sample_rate)
    ):  # too little to fill the filter: nothing would come out
        longer = resample(np.pad(wave, (0, least - len(wave))), source_rate, sample_rate, backend)
        return longer[: -(-len(wave) * sample_rate // source_rate)]
    if backend == "soundfile":
        return _soxr().resample(wave, source_rate, sample_rate, quality="HQ")
    graph = Graph()
    source = graph.add_abuffer(
        sample_rate=source_rate, format="fltp", layout="mono", time_base=Fraction(1, source_rate)
    )
    change, sink = graph.add("aresample", f"{sample_rate}:{SWR}"), graph.add("abuffersink")
    source.link_to(change)
    change.link_to(sink)
    graph.configure()
    out = []
    for start in range(0, len(wave), PUSH):
        part = AudioFrame.from_ndarray(
            np.ascontiguousarray(wave[None, start : start + PUSH]), format="fltp", layout="mono"
        )
        part.sample_rate, part.pts, part.time_base = source_rate, start, Fraction(1, source_rate)
        graph.push(part)
        out += _pulled(graph)
    graph.push(None)
    out += _pulled(graph)
    return np.concatenate(out) if out else np.zeros(0, np.float32)


def _pulled(graph: Graph) -> list[np.ndarray]:
    """What the filters have ready."""
    out = []
    while True:
        try:
            out.append(graph.pull().to_ndarray()[0])
        except (av.error.BlockingIOError, av.error.EOFError):
            return out


@contextmanager
def open_audio(path: str, stream: int | None = None) -> Iterator["Sound"]:
    """An audio stream of a file, to be read once; closed on leaving the block.

    Raises:
        NoAudioError: the file has no such audio stream, or no sample in it.
        DecodeError: not a media file, or damaged.
    """
    with open_container(path) as container:
        streams, number = container.streams.audio, stream or 0
        if not streams:
            raise NoAudioError("no audio stream in it")
        if not 0 <= number < len(streams):
            raise NoAudioError(
                f"there is no audio stream {number}; the file has {len(streams)}, counted from 0"
            )
        yield Sound(path, container, streams[number], number)


def moving_streams(container: Any) -> list[Any]:
    """The video streams of an open container without cover pictures; none in an audio file."""
    return [
        s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
    ]


class Sound:
    """One audio stream, on the clock of the video's frames.

    Attributes:
        sample_rate: as stored (Hz).
        num_channels: of the first samples.
        heard: beginning and end (s) of the last piece that `pieces` came by.
    """

    def __init__(self, path: str, container: Any, stream: Any, number: int):
        if stream.codec_context is None:
            raise DecodeError("this FFmpeg has no decoder for its audio codec")
        stream.codec_context.thread_count = num_threads()
        self._path, self._container, self._stream, self._number = path, container, stream, number
        self._zero = Fraction(0)
        self._frames = self._decode()
        head = next(self._frames, None)
        if head is None:
            raise NoAudioError("its audio stream holds no sound")
        self.sample_rate, self.num_channels = head.sample_rate, head.layout.nb_channels
        # The sound's own beginning is second 0 only where there is no picture.
        videos = moving_streams(container)
        start = head.pts if not videos else videos[0].start_time
        base = head.time_base if not videos else videos[0].time_base
        self._zero = (start or 0) * (base or 0)
        self._grid = (
            round(((head.pts or 0) * head.time_base - self._zero) * self.sample_rate) + head.samples
        )
        self._frames = itertools.chain([head], self._frames)
        self.heard = (0.0, 0.0)

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """The samples `first` .. `last` - 1, counted from second 0: float32 [channels, n], piece by piece.

        Silence stands before the sound where it begins later, and in holes.

        Raises:
            DecodeError: damaged within these samples, or cut short.
        """
        place, rate, expected = first, self.sample_rate, None
        for frame in self._from(first):
            if frame.sample_rate != rate:
                raise DecodeError(
                    f"its sample rate changes from {rate} to {frame.sample_rate} Hz at {place / rate:.3f} s"
                )
            sound = to_float(frame)
            position = self._position(frame, expected)
            expected = end = position + sound.shape[1]
            self.heard = (position / rate, end / rate)
            if end <= first:
                continue
            if place == first and last is not None and position >= last:
                return
            hole = position - place
            if hole < 0:
                sound = sound[:, -hole:]
            elif hole > 0:
                if hole > MAX_HOLE * rate:
                    raise DecodeError(
                        f"its time stamps jump from {place / rate:.3f} s to {position / rate:.3f} s"
                    )
                silence = hole if last is None else min(hole, last - place)
                yield np.zeros((len(sound), silence), np.float32)
                place += silence
            sound = sound[:, : None if last is None else last - place]
            if sound.shape[1]:
                yield sound
                place += sound.shape[1]
            if last is not None and place >= last:
                return

    def _position(self, frame: AudioFrame, expected: int | None) -> int:
        """The place of a frame's first sample, by its time stamp, unless that only rounds the count of samples."""
        rate = self.sample_rate
        if frame.pts is None:
            return expected or 0
        position = round((frame.pts * frame.time_base - self._zero) * rate)
        if expected is not None:
            return (
                expected
                if abs(position - expected) <= MAX_JITTER * rate or position < expected
                else position
            )
        # The first one after a seek: frames of one size stand on a grid.
        steps = round((position - self._grid) / frame.samples)
        snapped = self._grid + steps * frame.samples
        return snapped if steps > 0 and abs(snapped - position) <= MAX_ROUNDING * rate else position

    def _from(self, first: int) -> Iterator[AudioFrame]:
        """Frames in order, from one that begins before sample `first` on."""
        begin = first / self.sample_rate - WARM_UP
        if begin < SEEK_FROM or self._container.format.name not in SEEKABLE:
            yield from self._frames
            return
        self._container.seek(
            math.floor((begin + self._zero) / self._stream.time_base), stream=self._stream
        )
        frames = self._decode(first / self.sample_rate)
        head = next(frames, None)
        if (
            head is not None
            and head.pts is not None
            and head.pts * head.time_base - self._zero <= first / self.sample_rate
        ):
            yield head
            yield from frames
            return
        # It landed too late, or the sound begins late: only a decode from the beginning tells.
        with open_audio(self._path, self._number) as again:
            yield from again._frames

    def _decode(self, begin_sec: float = WARM_UP) -> Iterator[AudioFrame]:
        """Decoded frames from where the container stands.

        Packets that do not decode are passed over before `begin_sec` only: a stream that was cut begins with such.
        """
        last = None
        for packet in self._container.demux(self._stream):
            # An empty packet would tell the decoder that the stream ends; a corrupt one is the last of a cut file.
            if not packet.size or packet.is_corrupt:
                continue
            last = packet.dts
            try:
                yield from packet.decode()
            except av.error.FFmpegError as error:
                at = float((packet.pts or 0) * packet.time_base) - float(self._zero)
                if at >= begin_sec:
                    raise DecodeError(f"its sound is damaged at {at:.3f} s") from error
        yield from self._stream.codec_context.decode(None)
        listed = self._stream.index_entries if "mp4" in self._container.format.name else ()
        if len(listed) and last is not None and last < listed[len(listed) - 1].timestamp:
            raise DecodeError("the file is cut short: it lists more sound than it holds")


def to_float(frame: AudioFrame) -> np.ndarray:
    """A decoded frame -> float32 [channels, n], full scale -1 .. 1 of whatever format is stored."""
    sound = frame.to_ndarray()
    if not frame.format.is_planar:
        sound = sound.reshape(-1, frame.layout.nb_channels).T
    if sound.dtype == np.uint8:
        return (sound.astype(np.float32) - 128) / 128
    if sound.dtype.kind == "i":
        return sound.astype(np.float32) * np.float32(2.0 ** (1 - 8 * sound.dtype.itemsize))
    return sound.astype(np.float32, copy=False)


# --- libsndfile and soxr, where they are installed ---------------------------------------------------------------------


class SoundFileAudio:
    """As `Sound`, of an audio file that libsndfile reads."""

    def __init__(self, file: Any):
        self._file, self.sample_rate, self.num_channels = file, file.samplerate, file.channels
        self.heard = (0.0, file.frames / file.samplerate)

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """As `Sound.pieces`."""
        if first < self._file.frames:
            self._file.seek(first)
            yield self._file.read(
                -1 if last is None else last - first, dtype="float32", always_2d=True
            ).T


@contextmanager
def open_soundfile(path: str, stream: int | None = None) -> Iterator[SoundFileAudio]:
    """As `open_audio`, by libsndfile."""
    try:
        import soundfile
    except ImportError as error:
        raise ValueError(
            f"backend soundfile needs soundfile and soxr ({error}): pip install soundfile soxr"
        ) from error
    if not os.path.isfile(path):
        raise DecodeError("a folder, not a sound file" if os.path.isdir(path) else "no such file")
    try:
        with soundfile.SoundFile(path) as file:
            yield SoundFileAudio(file)
    except soundfile.LibsndfileError as error:
        raise DecodeError(f"libsndfile cannot read it: {error.error_string}") from error


def _soxr() -> Any:
    try:
        import soxr
    except ImportError as error:
        raise ValueError(
            f"backend soundfile needs soundfile and soxr ({error}): pip install soundfile soxr"
        ) from error
    return soxr
