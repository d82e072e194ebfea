"""What a stream keeps in memory: the frames and the audio of the windows that are not over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddlevideo.media.audio_reader import NoAudioError
from paddlevideo.media.clip import FrameTransform, ReadWaveform
from paddlevideo.media.waveform import Backend, cut_waveform
from paddlevideo.timelines.frames import Audio

MAX_SILENCE = 30.0  # s of a hole in the audio that silence fills; a longer one begins a new stretch


class HeldAudio:
    """The newest part of the audio of a stream, without holes.

    Attributes:
        rate: of the samples (Hz); 0 before the first ones.
        end_sec: when the samples end (s).
    """

    def __init__(self):
        self.rate = 0
        self._first = 0  # number of the first held sample, counted from second 0
        self._parts: list[np.ndarray] = []
        self._length = 0

    @property
    def end_sec(self) -> float:
        return (self._first + self._length) / self.rate if self.rate else 0.0

    def add(self, audio: Audio) -> None:
        """Append samples. Silence fills a hole before them, and what overlaps is left out.

        Samples of another rate, or after a long hole, replace all that is held.
        """
        samples = np.asarray(audio.samples, np.float32)
        first = round(audio.time * audio.rate)
        hole = first - self._first - self._length
        if audio.rate != self.rate or hole > MAX_SILENCE * audio.rate:
            self.rate, self._first, self._parts, self._length = audio.rate, first, [], 0
        elif hole > 0:
            self._append(np.zeros(hole, np.float32))
        elif hole < 0:
            samples = samples[-hole:]
        self._append(samples)

    def _append(self, samples: np.ndarray) -> None:
        self._parts.append(samples)
        self._length += len(samples)

    def drop_before(self, second: float) -> None:
        """Forget the parts that end before a time."""
        while self._parts and self._first + len(self._parts[0]) <= second * self.rate:
            part = self._parts.pop(0)
            self._first += len(part)
            self._length -= len(part)

    def read(
        self, sample_rate: int, start_sec: float, end_sec: float, backend: Backend
    ) -> np.ndarray:
        """Samples of a span, float32 [n]; see `waveform.read_waveform`.

        Raises:
            NoAudioError: there are none in the span.
            DecodeError: a sample is not finite or too large.
        """
        wave = np.zeros(0, np.float32)
        if self.rate:
            wave = cut_waveform(self._stored, self.rate, sample_rate, start_sec, end_sec, backend)
        if not len(wave):
            raise NoAudioError(f"no audio between {start_sec:.3f} s and {end_sec:.3f} s")
        return wave

    def _stored(self, first: int, last: int | None) -> np.ndarray:
        """Samples first .. last - 1, zeros where they are before the held ones."""
        held = np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
        early = max(0, self._first - first)
        held = held[max(0, first - self._first) :]
        wave = np.concatenate([np.zeros(early, np.float32), held]) if early else held
        return wave[: None if last is None else max(0, last - first)]


@dataclass(frozen=True)
class HeldClip:
    """A window as a `Clip`: its frames and its audio are in memory.

    Args:
        images: of the frames, uint8 [h, w, 3] each; they have gone through the pipeline's
            `held_frame`, if it has one. Empty for a pipeline of audio alone.
        seconds: when each frame is shown (s).
        fps: frames per second, 0.0 where unknown.
        start_sec, end_sec: of the window (s).
        audio: the audio of the stream.
        changed: whether the images have gone through `held_frame`.
    """

    images: Sequence[np.ndarray]
    seconds: np.ndarray
    fps: float
    start_sec: float
    end_sec: float
    audio: HeldAudio
    changed: bool

    @property
    def num_frames(self) -> int:
        return len(self.images)

    def times(self) -> np.ndarray:
        """Return when each frame is shown (s): float64 [num_frames]."""
        return self.seconds

    def read(
        self, indices: Sequence[int] | np.ndarray, each: FrameTransform | None = None
    ) -> np.ndarray:
        """Return frames uint8 [T, h, w, 3] RGB; see `Clip.read`."""
        change = None if self.changed else each
        cache: dict[int, np.ndarray] = {}
        for number in np.unique(np.asarray(indices)).tolist():
            image = self.images[number]
            cache[number] = image if change is None else change(image)
        return np.stack([cache[number] for number in np.asarray(indices).tolist()])

    @property
    def read_waveform(self) -> ReadWaveform:
        """Reads the audio of the stream."""
        return self.audio.read
