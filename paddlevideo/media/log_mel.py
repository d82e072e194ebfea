"""From a waveform to the rows that a network looks at: two front ends, each equal to its reference to the last bits.

| | `DecibelMel` (MMAction2's feature)            | `LogMel` (AVSlowFast)                      |
| --- | ---                                       | ---                                        |
| level | made equal: root mean square 0.1        | as it is                                   |
| window | sine, padded at both ends              | Hann, none past the end                    |
| spectrum | magnitude, Slaney's mel, 125-7600 Hz | power, HTK's mel, 0-8000 Hz                |
| scale | 20 log10, -80 .. 20 dB as 0 .. 1        | natural logarithm, mean and deviation taken |

Both give float32 [rows, mels], a row each `hop_length` samples, 62.5 a second by default. NumPy and SciPy only; a model that is
fed with this has no filter bank among its weights.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

Scale = Literal["slaney", "htk"]
BLOCK = 128  # rows transformed at once, so that they stay in the cache


@dataclass(frozen=True)
class DecibelMel:
    """The feature of MMAction2's audio models, in [0, 1]; silence is 0 throughout.

    The published table says n_fft 1024, the published script has 512 with hop_length 256: the default. The window is the one
    with which the transform can be inverted exactly by overlapping (as lws does it), sine where n_fft is twice the hop.

    Args:
        sample_rate: of the waveform (Hz).
        n_fft, hop_length: window and step (samples).
        num_mels: filters.
        fmin, fmax: lower edge of the first filter and upper edge of the last (Hz).
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    num_mels: int = 80
    fmin: float = 125.0
    fmax: float = 7600.0

    def __post_init__(self):
        check_sizes(type(self).__name__, self)

    @property
    def steps_per_sec(self) -> float:
        return self.sample_rate / self.hop_length

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """float32 [n] -> float32 [rows, num_mels].

        Row r is about the samples around r * hop_length: n_fft - hop_length zeros stand before the first.

        Raises:
            ValueError: not a mono waveform with at least one sample.
        """
        check_wave(wave)
        level = np.sqrt(np.mean(np.square(wave), dtype=np.float64))
        over = self.n_fft % self.hop_length
        left = self.n_fft - (over or self.hop_length)
        num_rows = -(-(left + len(wave)) // self.hop_length)
        padded = np.zeros((num_rows - 1) * self.hop_length + self.n_fft, np.float32)
        np.multiply(wave, np.float32(0.1 / max(1e-4, level)), out=padded[left : left + len(wave)])
        filters = mel_filters(
            self.sample_rate, self.n_fft, self.num_mels, self.fmin, self.fmax, "slaney"
        )
        mel = mel_spectrum(
            padded, self.hop_length, overlap_window(self.n_fft, self.hop_length), filters, power=1
        )
        decibels = 20 * np.log10(np.maximum(mel, np.float32(1e-5))) - 20
        return np.clip((decibels + 100) / 100, 0, 1)


@dataclass(frozen=True)
class LogMel:
    """The log-mel spectrogram of AVSlowFast, with mean and deviation of Kinetics taken out.

    Args:
        sample_rate: of the waveform (Hz).
        n_fft, hop_length: window and step (samples): 32 and 16 ms.
        num_mels: filters.
        fmin, fmax: lower edge of the first filter and upper edge of the last (Hz).
        mean, std: of the natural logarithm; 0 and 1 leave it as it is.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    num_mels: int = 80
    fmin: float = 0.0
    fmax: float = 8000.0
    mean: float = -7.03
    std: float = 4.66

    def __post_init__(self):
        check_sizes(type(self).__name__, self)
        if self.std <= 0:
            raise ValueError(f"LogMel: std is {self.std}, expected above 0")

    @property
    def steps_per_sec(self) -> float:
        return self.sample_rate / self.hop_length

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """float32 [n] -> float32 [1 + (n - n_fft) // hop_length, num_mels]; a shorter one is filled up with zeros to one row.

        Row r is about the samples from r * hop_length on.

        Raises:
            ValueError: not a mono waveform with at least one sample.
        """
        check_wave(wave)
        wave = np.ascontiguousarray(wave, np.float32)
        if len(wave) < self.n_fft:
            wave = np.pad(wave, (0, self.n_fft - len(wave)))
        filters = mel_filters(
            self.sample_rate, self.n_fft, self.num_mels, self.fmin, self.fmax, "htk"
        )
        mel = mel_spectrum(wave, self.hop_length, hann_window(self.n_fft), filters, power=2)
        return (np.log(mel + np.float32(1e-8)) - np.float32(self.mean)) / np.float32(self.std)


def nearest_steps(rows: np.ndarray, start: float, end: float, num_rows: int = 128) -> np.ndarray:
    """A fixed number of rows from `start` to `end` (both in rows, fractions allowed), repeated or left out as it takes.

    Numbers are cut to whole ones; past the end the last row is repeated, as AVSlowFast does with frames and rows alike.
    """
    places = np.linspace(start, end, num_rows).clip(0, len(rows) - 1).astype(np.int64)
    return rows[places]


# --- windows, filters, spectrum ---------------------------------------------------------------------------------------


def mel_spectrum(
    wave: np.ndarray, hop: int, window: np.ndarray, filters: np.ndarray, power: int
) -> np.ndarray:
    """Windows of a waveform [n] -> |rfft| ** power through the filters: float32 [1 + (n - n_fft) // hop, num_mels].

    Args:
        window: float64 [n_fft].
        filters: float32 [n_fft // 2 + 1, num_mels].
        power: 1 or 2.
    """
    frames = sliding_window_view(wave, len(window))[::hop]
    out = np.empty((len(frames), filters.shape[1]), np.float32)
    for start in range(0, len(frames), BLOCK):
        # In double precision: quiet bins beside loud ones would be off by a hundredth otherwise.
        spectrum = scipy.fft.rfft(frames[start : start + BLOCK] * window, overwrite_x=True)
        energy = np.square(spectrum.real) + np.square(spectrum.imag)
        energy = (energy if power == 2 else np.sqrt(energy, out=energy)).astype(np.float32)
        np.matmul(energy, filters, out=out[start : start + BLOCK])
    return out


@functools.cache
def hann_window(n_fft: int) -> np.ndarray:
    """Periodic Hann window, float64 [n_fft]."""
    return _shared(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft))


@functools.cache
def overlap_window(n_fft: int, hop: int) -> np.ndarray:
    """The square root of a Hann window, scaled so that the squares of overlapping windows sum to 1: float64 [n_fft]."""
    hann = 0.5 - 0.5 * np.cos(np.pi * (2 * np.arange(n_fft) + 1) / n_fft)
    sums = np.array([hann[place::hop].sum() for place in range(hop)])
    return _shared(np.sqrt(hann / np.resize(sums, n_fft)))


@functools.cache
def mel_filters(
    sample_rate: int, n_fft: int, num_mels: int, fmin: float, fmax: float, scale: Scale
) -> np.ndarray:
    """Triangles over the bins of a spectrum, each of area 2 / its width (Slaney's norm): float32 [n_fft // 2 + 1, num_mels].

    Args:
        scale: slaney, linear below 1 kHz (Auditory Toolbox, 1998); htk, 2595 log10(1 + f / 700).
    """
    edges = to_hertz(np.linspace(to_mel(fmin, scale), to_mel(fmax, scale), num_mels + 2), scale)
    bins = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (center - low)
    falling = (high - bins[:, None]) / (high - center)
    return _shared(
        (np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))).astype(np.float32)
    )


LINEAR_STEP, LINEAR_END, LOG_STEP = (
    200 / 3,
    1000.0,
    np.log(6.4) / 27,
)  # of Slaney's scale: Hz, Hz, per mel


def to_mel(hertz: float, scale: Scale) -> float:
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    if hertz < LINEAR_END:
        return hertz / LINEAR_STEP
    return LINEAR_END / LINEAR_STEP + np.log(hertz / LINEAR_END) / LOG_STEP


def to_hertz(mels: np.ndarray, scale: Scale) -> np.ndarray:
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    bend = LINEAR_END / LINEAR_STEP
    return np.where(mels < bend, mels * LINEAR_STEP, LINEAR_END * np.exp(LOG_STEP * (mels - bend)))


def _shared(array: np.ndarray) -> np.ndarray:
    """Read-only, as all who ask get the same one."""
    array.flags.writeable = False
    return array


def check_wave(wave: np.ndarray) -> None:
    """Stop at what is no waveform: float [n], n >= 1."""
    if wave.ndim != 1 or not len(wave) or wave.dtype.kind != "f":
        raise ValueError(
            f"the waveform is {wave.dtype} {list(wave.shape)}, expected float [samples], mono, at least one"
        )


def check_sizes(name: str, sizes) -> None:
    """Stop at sizes that mean nothing, or edges beyond what the sample rate can hold."""
    for key in ("sample_rate", "n_fft", "hop_length", "num_mels"):
        if getattr(sizes, key) < 1:
            raise ValueError(f"{name}: {key} is {getattr(sizes, key)}, expected at least 1")
    if sizes.hop_length > sizes.n_fft:
        raise ValueError(
            f"{name}: hop_length {sizes.hop_length} leaves out samples between windows of n_fft {sizes.n_fft}"
        )
    if not 0 <= sizes.fmin < sizes.fmax <= sizes.sample_rate / 2:
        half = f"{sizes.sample_rate / 2:g} Hz, half the sample_rate"
        raise ValueError(
            f"{name}: fmin {sizes.fmin:g} and fmax {sizes.fmax:g} Hz, expected 0 <= fmin < fmax <= {half}"
        )
