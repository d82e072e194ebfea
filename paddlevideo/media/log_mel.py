"""From a waveform to a log-mel spectrogram: two front ends, equal to their references up to
float32 rounding.

|          | `DecibelMel` (MMAction2)                | `LogMel` (AVSlowFast)                     |
| ---      | ---                                     | ---                                       |
| level    | normalized to a root mean square of 0.1 | unchanged                                 |
| window   | sine, zero padding at both ends         | Hann, no padding                          |
| spectrum | magnitude, Slaney mel, 125-7600 Hz      | power, HTK mel, 0-8000 Hz                 |
| scale    | 20 log10, -80 .. 20 dB mapped to 0 .. 1 | natural logarithm, normalized by mean, std |

Both return float32 [time steps, mel bins], one time step for each `hop_length` samples: 62.5 per
second by default. They need NumPy and SciPy only, and a model with this input has no filter bank
among its weights.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.lib.stride_tricks import sliding_window_view

Scale = Literal["slaney", "htk"]
BLOCK = 128  # time steps transformed at once, so that they stay in the cache


@dataclass(frozen=True)
class DecibelMel:
    """The log-mel feature of MMAction2's audio models, in [0, 1]; silence is 0 everywhere.

    The window is the one for which overlap-add inverts the transform exactly, as in lws; it is a
    sine where n_fft is twice the hop. MMAction2's table of results names n_fft 1024; its script
    uses 512 with hop_length 256, which is the default here.

    Args:
        sample_rate: of the waveform (Hz).
        n_fft, hop_length: window and step (samples).
        num_mels: mel bins.
        fmin, fmax: lower edge of the first filter and upper edge of the last (Hz).
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    num_mels: int = 80
    fmin: float = 125.0
    fmax: float = 7600.0

    def __post_init__(self):
        check_sizes(self)

    @property
    def steps_per_sec(self) -> float:
        """Time steps per second."""
        return self.sample_rate / self.hop_length

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Return the feature of a waveform: float32 [n] -> float32 [time steps, num_mels].

        Time step t covers the samples around t * hop_length. Zeros precede the first sample:
        n_fft - hop_length of them where hop_length divides n_fft.

        Raises:
            ValueError: not a mono waveform with at least one sample.
        """
        check_wave(wave)
        level = np.sqrt(np.mean(np.square(wave), dtype=np.float64))
        pad = self.n_fft - (self.n_fft % self.hop_length or self.hop_length)
        num_steps = -(-(pad + len(wave)) // self.hop_length)
        padded = np.zeros((num_steps - 1) * self.hop_length + self.n_fft, np.float32)
        gain = np.float32(0.1 / max(1e-4, level))
        np.multiply(wave, gain, out=padded[pad : pad + len(wave)])
        window = overlap_window(self.n_fft, self.hop_length)
        filters = mel_filters(
            self.sample_rate, self.n_fft, self.num_mels, self.fmin, self.fmax, "slaney"
        )
        mel = mel_spectrum(padded, self.hop_length, window, filters, power=1)
        decibels = 20 * np.log10(np.maximum(mel, np.float32(1e-5))) - 20
        return np.clip((decibels + 100) / 100, 0, 1)


@dataclass(frozen=True)
class LogMel:
    """The log-mel spectrogram of AVSlowFast, normalized by the mean and std of Kinetics.

    Args:
        sample_rate: of the waveform (Hz).
        n_fft, hop_length: window and step (samples): 32 and 16 ms.
        num_mels: mel bins.
        fmin, fmax: lower edge of the first filter and upper edge of the last (Hz).
        mean, std: of the natural logarithm; 0 and 1 leave it unchanged.
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
        check_sizes(self)
        if self.std <= 0:
            raise ValueError(f"LogMel: std is {self.std}, expected above 0")

    @property
    def steps_per_sec(self) -> float:
        """Time steps per second."""
        return self.sample_rate / self.hop_length

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Return the spectrogram of a waveform: float32 [n] -> float32 [time steps, num_mels].

        There are 1 + (n - n_fft) // hop_length time steps; time step t covers the samples from
        t * hop_length. A waveform shorter than n_fft is padded with zeros to one time step.

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


def nearest_steps(
    log_mel: np.ndarray, start: float, end: float, num_steps: int = 128
) -> np.ndarray:
    """Sample a fixed number of time steps from `start` to `end` by nearest index.

    Indices are rounded down. Past the end the last time step is repeated, as AVSlowFast does with
    frames and audio alike.

    Args:
        log_mel: [L, mel bins].
        start, end: in time steps, fractions allowed.

    Returns:
        [num_steps, mel bins].
    """
    indices = np.linspace(start, end, num_steps).clip(0, len(log_mel) - 1).astype(np.int64)
    return log_mel[indices]


# --- windows, filters, spectrum -------------------------------------------------------------------


def mel_spectrum(
    wave: np.ndarray, hop: int, window: np.ndarray, filters: np.ndarray, power: int
) -> np.ndarray:
    """Return the mel spectrum of a waveform [n], |rfft| ** power through the filters.

    A time step has the same bits whatever is computed with it: a sparse product adds in a fixed
    order. On some processors that of a dense product depends on the place of a row.

    Args:
        hop: step (samples).
        window: float64 [n_fft].
        filters: float32 [n_fft // 2 + 1, num_mels].
        power: 1 or 2.

    Returns:
        float32 [1 + (n - n_fft) // hop, num_mels].
    """
    frames = sliding_window_view(wave, len(window))[::hop]
    sparse = scipy.sparse.csr_array(filters.T)
    out = np.empty((len(frames), filters.shape[1]), np.float32)
    for start in range(0, len(frames), BLOCK):
        # Double precision: in single precision quiet bins next to loud ones are off by 0.01.
        windowed = frames[start : start + BLOCK] * window
        # Pyright takes SciPy's dispatcher for the result, hence Any.
        spectrum: Any = scipy.fft.rfft(windowed, overwrite_x=True)
        energy = np.square(spectrum.real) + np.square(spectrum.imag)
        energy = (energy if power == 2 else np.sqrt(energy, out=energy)).astype(np.float32)
        out[start : start + BLOCK] = (sparse @ energy.T).T
    return out


@functools.cache
def hann_window(n_fft: int) -> np.ndarray:
    """Return a periodic Hann window, float64 [n_fft]."""
    return _read_only(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft))


@functools.cache
def overlap_window(n_fft: int, hop: int) -> np.ndarray:
    """Return the square root of a Hann window, float64 [n_fft], scaled so that the squares of
    overlapping windows sum to 1."""
    hann = 0.5 - 0.5 * np.cos(np.pi * (2 * np.arange(n_fft) + 1) / n_fft)
    sums = np.array([hann[offset::hop].sum() for offset in range(hop)])
    return _read_only(np.sqrt(hann / np.resize(sums, n_fft)))


@functools.cache
def mel_filters(
    sample_rate: int, n_fft: int, num_mels: int, fmin: float, fmax: float, scale: Scale
) -> np.ndarray:
    """Return triangular filters, float32 [n_fft // 2 + 1, num_mels].

    Each has the height 2 / its width (Hz) and so the area 1, which is Slaney's norm.

    Args:
        scale: slaney, linear below 1 kHz (Auditory Toolbox, 1998); htk, 2595 log10(1 + f / 700).
    """
    edges = to_hertz(np.linspace(to_mel(fmin, scale), to_mel(fmax, scale), num_mels + 2), scale)
    bins = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (center - low)
    falling = (high - bins[:, None]) / (high - center)
    triangles = np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))
    return _read_only(triangles.astype(np.float32))


# Slaney's mel scale is linear below LINEAR_END (Hz), with LINEAR_STEP Hz per mel, and logarithmic
# above, with LOG_STEP per mel.
LINEAR_STEP, LINEAR_END, LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def to_mel(hertz: float, scale: Scale) -> float:
    """Convert a frequency (Hz) to mels."""
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    if hertz < LINEAR_END:
        return hertz / LINEAR_STEP
    return LINEAR_END / LINEAR_STEP + np.log(hertz / LINEAR_END) / LOG_STEP


def to_hertz(mels: np.ndarray, scale: Scale) -> np.ndarray:
    """Convert mels to frequencies (Hz)."""
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    bend = LINEAR_END / LINEAR_STEP
    return np.where(mels < bend, mels * LINEAR_STEP, LINEAR_END * np.exp(LOG_STEP * (mels - bend)))


def _read_only(array: np.ndarray) -> np.ndarray:
    """Protect an array that all callers of a cached function share."""
    array.flags.writeable = False
    return array


def check_wave(wave: np.ndarray) -> None:
    """Raise ValueError unless `wave` is a waveform: float [n], n >= 1."""
    if wave.ndim != 1 or not len(wave) or wave.dtype.kind != "f":
        raise ValueError(
            f"the waveform is {wave.dtype} {list(wave.shape)}, expected float [samples], mono, "
            "at least one"
        )


def check_sizes(front_end: DecibelMel | LogMel) -> None:
    """Raise ValueError for sizes below 1, for gaps between windows, and for filter edges that the
    sample rate cannot represent."""
    name = type(front_end).__name__
    sizes = {
        "sample_rate": front_end.sample_rate,
        "n_fft": front_end.n_fft,
        "hop_length": front_end.hop_length,
        "num_mels": front_end.num_mels,
    }
    for key, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: {key} is {size}, expected at least 1")
    if front_end.hop_length > front_end.n_fft:
        raise ValueError(
            f"{name}: hop_length {front_end.hop_length} leaves out samples between windows of "
            f"n_fft {front_end.n_fft}; use at most n_fft"
        )
    fmin, fmax, nyquist = front_end.fmin, front_end.fmax, front_end.sample_rate / 2
    if not 0 <= fmin < fmax <= nyquist:
        raise ValueError(
            f"{name}: fmin {fmin:g} and fmax {fmax:g} Hz, expected "
            f"0 <= fmin < fmax <= {nyquist:g} Hz, half the sample_rate"
        )
