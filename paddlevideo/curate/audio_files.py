"""Write wav files and log-mel features of media files, see extract_audio.py and
build_audio_features.py in tools/data/.

batch_jobs.py runs these writers on many files.
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
    """Write the audio of a file as 16-bit wav, from the first frame of the video on.

    Args:
        sample_rate: mono audio at this rate (Hz); None keeps the rate and the channels of the file.
        stream: number of the audio stream, counted from 0.
    """

    sample_rate: int | None = None
    stream: int = 0

    suffix = ".wav"

    def __call__(self, source: str, target: str) -> None:
        """
        Raises:
            DecodeError: no audio, or damaged audio. Nothing is written then.
        """
        with atomic_write(target) as temporary:
            if self.sample_rate is None:
                self._write_as_stored(source, temporary)
            else:
                waveform = read_waveform(source, self.sample_rate, stream=self.stream)
                with wave.open(str(temporary), "wb") as file:
                    file.setparams((1, 2, self.sample_rate, 0, "NONE", ""))
                    file.writeframes(to_int16(waveform[None]))

    def _write_as_stored(self, source: str, target: Path) -> None:
        with open_audio(source, self.stream) as audio, wave.open(str(target), "wb") as file:
            file.setparams((audio.num_channels, 2, audio.sample_rate, 0, "NONE", ""))
            for chunk in audio.chunks():
                if len(chunk) != audio.num_channels:
                    raise DecodeError(
                        f"the number of channels changes from {audio.num_channels} to "
                        f"{len(chunk)}; set a sample rate"
                    )
                file.writeframesraw(to_int16(chunk))


def to_int16(waveform: np.ndarray) -> bytes:
    """Convert float [channels, n] in -1 .. 1 to interleaved little-endian 16-bit samples.

    Audio that was decoded from 16-bit samples gives the same samples again.
    """
    return np.rint(waveform.T * 32768.0).clip(-32768, 32767).astype("<i2").tobytes()


@dataclass(frozen=True)
class WriteFeature:
    """Write the log-mel feature of a media file as `.npy`: float32 [time steps, num_mels].

    Args:
        feature: how the feature is computed.
        stream: number of the audio stream, counted from 0.
        backend: of `read_waveform`.
    """

    feature: DecibelMel
    stream: int = 0
    backend: Backend = "pyav"

    suffix = ".npy"

    def __call__(self, source: str, target: str) -> None:
        """
        Raises:
            DecodeError: no audio, or damaged audio. Nothing is written then.
        """
        rate = self.feature.sample_rate
        waveform = read_waveform(source, rate, stream=self.stream, backend=self.backend)
        log_mel = self.feature(waveform)
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            np.save(file, log_mel)
