"""From a path to a mono waveform at the wanted sample rate, of any container or audio file.

    wave = read_waveform("clip.mp4", 16000, start_sec=2.0, end_sec=4.0)   # float32 [32000]

Times are those of the video's frames: second 0 is when the first frame is shown, even if the audio
begins earlier in the file. In a file without video it is the first audio sample.

Only what the span needs is decoded. The result equals that part of a full decode, except for noise
that the AAC format lets the decoder draw at random.
"""

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Literal

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from paddlevideo.array_files import wrong_value
from paddlevideo.media.audio_reader import NoAudioError, open_audio
from paddlevideo.media.sources import kept_errors, media_file
from paddlevideo.media.tar_files import open_in_tar
from paddlevideo.remote import is_url
from paddlevideo.sample import DecodeError
from paddlevideo.tar_paths import file_suffix, tar_path

Backend = Literal["pyav", "soundfile"]
# Files that libsndfile reads.
PLAIN_SUFFIXES = (
    ".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav",
)  # fmt: skip
# Taps of the resampling filter. From 44.1 to 16 kHz, FFmpeg's default of 32 loses 1 dB at 7.2 kHz
# and aliases 8.4 kHz at -22 dB; this filter aliases it at -118 dB.
TAPS = 128
RESAMPLER = f"filter_size={TAPS}:cutoff=0.96:kaiser_beta=12"
MAX_SAMPLE = 1e6  # some float files have the full scale of 16 bits
PUSH = 1 << 20  # samples given to the resampler at once


def read_waveform(
    path: str,
    sample_rate: int = 16000,
    start_sec: float | None = None,
    end_sec: float | None = None,
    stream: int | None = None,
    backend: Backend = "pyav",
) -> np.ndarray:
    """Read the audio of a file, or of the part between two times, as the mean of its channels.

    Sample i belongs to the time `start_sec + i / sample_rate`, where the start is rounded to a
    sample. Zeros fill the time before the audio begins, and gaps in it. Where the audio ends
    before `end_sec` the array is shorter.

    Args:
        path: a video, or an audio file.
        sample_rate: of the result (Hz).
        start_sec, end_sec: seconds after the video's first frame, None for the beginning and the
            end.
        stream: which audio stream, counted from 0; None is the first.
        backend: pyav; soundfile reads plain audio files (wav, flac, ogg, mp3) with libsndfile and
            resamples with soxr, which gives the numbers of `librosa.load`. Containers are decoded
            by PyAV with either backend.

    Returns:
        float32 [n], n >= 1, with full scale -1 .. 1 for every stored format.

    Raises:
        NoAudioError: no such audio stream, or no audio in the span.
        DecodeError: not a media file, cut short, or damaged in the span.
        ValueError: an invalid span or rate, or a backend that is not installed.
    """
    start = start_sec or 0.0
    if sample_rate < 1 or start < 0 or (end_sec is not None and end_sec <= start):
        raise ValueError(
            f"sample_rate {sample_rate} Hz, span {start_sec} .. {end_sec} s: "
            "expected a rate of at least 1 and 0 <= start < end"
        )
    is_plain = backend == "soundfile" and file_suffix(path) in PLAIN_SUFFIXES and not stream
    with (open_soundfile if is_plain else open_audio)(path, stream) as audio:

        def stored(begin: int, end: int | None) -> np.ndarray:
            chunks = [chunk.mean(axis=0) for chunk in audio.chunks(begin, end)]
            return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)

        wave = cut_waveform(stored, audio.sample_rate, sample_rate, start, end_sec, backend)
    if not len(wave):
        end_text = "the end" if end_sec is None else f"{end_sec} s"
        nearest = "{:.3f} .. {:.3f} s".format(*audio.span_sec)
        raise NoAudioError(
            f"no audio between {start_sec or 0} s and {end_text}; the nearest is at {nearest}"
        )
    return wave


def cut_waveform(
    stored: Callable[[int, int | None], np.ndarray],
    stored_rate: int,
    sample_rate: int,
    start_sec: float,
    end_sec: float | None,
    backend: Backend = "pyav",
) -> np.ndarray:
    """Return a part of a waveform at another rate, equal to that part of all of it resampled.

    Args:
        stored: (first, last) -> its samples first .. last - 1, float32 [n]; None is the end, and
            there are fewer where the waveform ends.
        stored_rate, sample_rate: of `stored` and of the result (Hz).
        start_sec, end_sec: the part (s); None is the end.

    Returns:
        float32 [n], empty where the waveform ends before the part begins.

    Raises:
        DecodeError: a sample is not finite or too large.
    """
    first = round(start_sec * sample_rate)
    last = None if end_sec is None else max(first + 1, round(end_sec * sample_rate))
    begin, end = _stored_span(first, last, stored_rate, sample_rate)
    wave = stored(begin, end)
    _check_values(wave, begin, stored_rate)
    wave = resample(wave, stored_rate, sample_rate, backend)
    skipped = first - begin * sample_rate // stored_rate
    wave = wave[skipped : None if last is None else skipped + last - first]
    return np.ascontiguousarray(wave)


def _check_values(wave: np.ndarray, begin: int, sample_rate: int) -> None:
    """Check samples, whose full scale is 1, before resampling spreads one to its neighbours.

    Raises:
        DecodeError: naming the time of the first that is not finite or too large.
    """
    if wrong_value(wave, MAX_SAMPLE):
        index = int(np.argmin(np.abs(wave) <= MAX_SAMPLE))
        seconds = (begin + index) / sample_rate
        raise DecodeError(
            f"the audio sample at {seconds:.3f} s is {wave[index]:g}, expected a number of at most "
            f"{MAX_SAMPLE:g} (full scale is 1)"
        )


def _stored_span(
    first: int, last: int | None, stored_rate: int, sample_rate: int
) -> tuple[int, int | None]:
    """Return which stored samples [begin, end) the samples [first, last) of the result need."""
    # Samples of both rates coincide every `step` stored samples. Resampling that begins there
    # gives a part the same samples as the complete file.
    step = stored_rate // math.gcd(stored_rate, sample_rate)
    margin = 0 if stored_rate == sample_rate else filter_reach(stored_rate, sample_rate)
    begin = max(0, (first * stored_rate // sample_rate - margin) // step * step)
    end = None if last is None else -(-last * stored_rate // sample_rate) + margin
    return begin, end


def filter_reach(source_rate: int, sample_rate: int) -> int:
    """Return an upper bound of the stored samples, to each side, that a resampled one needs."""
    return math.ceil(TAPS * max(1.0, source_rate / sample_rate))


def resample(
    wave: np.ndarray, source_rate: int, sample_rate: int, backend: Backend = "pyav"
) -> np.ndarray:
    """Resample float32 [n] to float32 [about n * sample_rate / source_rate] (rates in Hz).

    Sample 0 keeps its time.
    """
    if source_rate == sample_rate or not len(wave):
        return wave
    shortest = filter_reach(source_rate, sample_rate)
    if len(wave) < shortest:
        # The filter returns nothing for a waveform that is shorter than itself.
        padded = np.pad(wave, (0, shortest - len(wave)))
        longer = resample(padded, source_rate, sample_rate, backend)
        return longer[: -(-len(wave) * sample_rate // source_rate)]
    if backend == "soundfile":
        return _soxr().resample(wave, source_rate, sample_rate, quality="HQ")
    time_base = Fraction(1, source_rate)
    graph = Graph()
    source = graph.add_abuffer(
        sample_rate=source_rate, format="fltp", layout="mono", time_base=time_base
    )
    resampler = graph.add("aresample", f"{sample_rate}:{RESAMPLER}")
    sink = graph.add("abuffersink")
    source.link_to(resampler)
    resampler.link_to(sink)
    graph.configure()
    out = []
    for start in range(0, len(wave), PUSH):
        samples = np.ascontiguousarray(wave[None, start : start + PUSH])
        frame = AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = source_rate, start, time_base
        graph.push(frame)
        out += _pull_all(graph)
    graph.push(None)
    out += _pull_all(graph)
    return np.concatenate(out) if out else np.zeros(0, np.float32)


def _pull_all(graph: Graph) -> list[np.ndarray]:
    """Return the samples that the filter graph has ready, in chunks float32 [n]."""
    chunks = []
    while True:
        try:
            chunks.append(graph.pull().to_ndarray()[0])
        except (av.error.BlockingIOError, av.error.EOFError):
            return chunks


# --- libsndfile and soxr (optional) ---------------------------------------------------------------


class SoundFileReader:
    """An audio file that libsndfile reads, with the attributes of `AudioReader`."""

    def __init__(self, file: Any):
        self._file, self.sample_rate, self.num_channels = file, file.samplerate, file.channels
        self.span_sec = (0.0, file.frames / file.samplerate)

    def chunks(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Yield the samples `first` .. `last` - 1 as `AudioReader.chunks` does."""
        if first < self._file.frames:
            self._file.seek(first)
            count = -1 if last is None else last - first
            yield self._file.read(count, dtype="float32", always_2d=True).T


@contextmanager
def open_soundfile(path: str, stream: int | None = None) -> Iterator[SoundFileReader]:
    """Open an audio file with libsndfile; see `open_audio`."""
    try:
        import soundfile
    except ImportError as error:
        raise _not_installed(error) from error
    if not is_url(path) and not tar_path(path) and not os.path.isfile(path):
        raise DecodeError("a folder, not an audio file" if os.path.isdir(path) else "no such file")
    try:
        with _opened(path) as data, soundfile.SoundFile(data) as file:
            yield SoundFileReader(file)
    except soundfile.LibsndfileError as error:
        raise DecodeError(f"libsndfile cannot read it: {error.error_string}") from error


class _Reads:
    """A file for libsndfile, which prints exceptions. A read that fails gives no bytes, as at the
    end of the file; `kept_errors` raises its error."""

    def __init__(self, file: Any):
        self._file, self.name = file, file.name
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except Exception:
            return b""


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a file for libsndfile."""
    if tar_path(path):
        with open_in_tar(path) as file, kept_errors(file):
            yield _Reads(file)
    elif is_url(path):
        with media_file(path) as file, io.BufferedReader(file) as buffered:
            yield _Reads(buffered)
    else:
        with open(path, "rb") as file:
            yield file


def _soxr() -> Any:
    try:
        import soxr
    except ImportError as error:
        raise _not_installed(error) from error
    return soxr


def _not_installed(error: ImportError) -> ValueError:
    return ValueError(
        f"backend soundfile needs soundfile and soxr ({error}): pip install soundfile soxr"
    )
