"""Wav files and features of videos and sounds: what tools/data/extract_audio.py and build_audio_features.py make of each file.

How many files are worked on is told in prepare/many.py.
"""

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo.files import atomic_write
from paddlevideo.media.log_mel import DecibelMel
from paddlevideo.media.waveform import Backend, open_audio, read_waveform
from paddlevideo.sample import DecodeError


@dataclass(frozen=True)
class WriteWav:
    """Writes the sound of a file as 16-bit wav, beginning with the video's first frame.

    Args:
        sample_rate: mono at this rate (Hz); None keeps the file's own rate and channels.
        stream: which audio stream, counted from 0.
    """

    sample_rate: int | None = None
    stream: int = 0

    suffix = ".wav"

    def __call__(self, source: str, target: str) -> None:
        """
        Raises:
            DecodeError: no sound in it, or damaged; nothing is left at `target` then.
        """
        with atomic_write(target) as temporary:
            if self.sample_rate is None:
                self._as_stored(source, temporary)
            else:
                sound = read_waveform(source, self.sample_rate, stream=self.stream)
                with wave.open(str(temporary), "wb") as file:
                    file.setparams((1, 2, self.sample_rate, 0, "NONE", ""))
                    file.writeframes(sixteen_bits(sound[None]))

    def _as_stored(self, source: str, target: Path) -> None:
        with open_audio(source, self.stream) as sound, wave.open(str(target), "wb") as file:
            file.setparams((sound.num_channels, 2, sound.sample_rate, 0, "NONE", ""))
            for piece in sound.chunks():
                if len(piece) != sound.num_channels:
                    raise DecodeError(
                        f"the number of channels changes from {sound.num_channels} to {len(piece)}; set a sample rate"
                    )
                file.writeframesraw(sixteen_bits(piece))


def sixteen_bits(sound: np.ndarray) -> bytes:
    """float [channels, n] -> interleaved little-endian samples; what was read from 16 bits comes out the same."""
    return np.rint(sound.T * 32768.0).clip(-32768, 32767).astype("<i2").tobytes()


@dataclass(frozen=True)
class WriteFeature:
    """Writes the feature of a video or an audio file as `.npy`, float32 [rows, num_mels]; see `audio.DecibelMel`."""

    feature: DecibelMel
    stream: int = 0
    backend: Backend = "pyav"

    suffix = ".npy"

    def __call__(self, source: str, target: str) -> None:
        """As WriteWav's."""
        rows = self.feature(
            read_waveform(
                source, self.feature.sample_rate, stream=self.stream, backend=self.backend
            )
        )
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            np.save(file, rows)
