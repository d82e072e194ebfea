"""From a waveform to the input of an audio model: paddlevideo's features and librosa's."""

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.media.log_mel import DecibelMel, LogMel

SECONDS, SAMPLE_RATE = 10, 16000  # of the synthetic audio; Hz
REPEATS = 10  # features in one timed call
MMACTION, AVSLOWFAST = "feature of MMAction2", "log-mel of AVSlowFast"

Feature = Callable[[np.ndarray], np.ndarray]  # waveform [samples] -> [time steps, mel bins]


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py audio."""
    return run(args.rounds)


def run(rounds: int) -> Iterator[Group]:
    """Both features of ten seconds of audio; OMP_NUM_THREADS sets the threads."""
    time = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    wave = (0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * noise).astype(np.float32)
    librosa = librosa_features() if importlib.util.find_spec("librosa") else {}
    for name, own in ((MMACTION, DecibelMel()), (AVSLOWFAST, LogMel())):
        yield comparison(name, own, librosa.get(name, {}), wave, rounds)


def comparison(
    name: str, own: Feature, librosa: dict[str, Feature], wave: np.ndarray, rounds: int
) -> Group:
    """Compare paddlevideo's feature with variants of librosa's, whose first one is the baseline.

    Raises:
        ValueError: they differ.
    """
    for variant, function in librosa.items():
        # librosa pads differently at both ends; the windows in between are the same.
        a, b = own(wave), function(wave)
        difference = float(np.abs(a[2:-2] - b[2 : len(a) - 2]).max())
        if difference > 1e-3:
            raise ValueError(f"{name}: {variant} and paddlevideo differ by {difference:.1e}")
    variants = [Variant(variant, repeated(f, wave)) for variant, f in librosa.items()]
    note = "" if librosa else "librosa is not installed"
    variants.append(Variant("paddlevideo", repeated(own, wave), lambda median: note))
    title = f"{name}, {SECONDS} s at {SAMPLE_RATE} Hz"
    return measure(title, "clip", REPEATS, variants, rounds)


def repeated(function: Feature, wave: np.ndarray) -> Callable[[], float]:
    """Seconds of REPEATS calls."""

    def job() -> None:
        for _ in range(REPEATS):
            function(wave)

    return timed(job)


def librosa_features() -> dict[str, dict[str, Feature]]:
    """{feature: {variant: function}} with librosa.

    Its own function computes the mel filters again for each call; the second variant keeps them.
    """
    import librosa

    window = np.sin(np.pi * (np.arange(512) + 0.5) / 512)
    sizes = {"sr": SAMPLE_RATE, "n_fft": 512, "n_mels": 80}
    bins = {"fmin": 125, "fmax": 7600}, {"fmin": 0, "fmax": 8000, "htk": True}
    filters = [librosa.filters.mel(**sizes, **options) for options in bins]

    def decibels(mel: np.ndarray) -> np.ndarray:
        return np.clip((20 * np.log10(np.maximum(1e-5, mel)) + 80) / 100, 0, 1).T

    def level(wave: np.ndarray) -> np.ndarray:
        return wave * (0.1 / max(1e-4, np.sqrt(np.mean(wave**2))))

    def logarithm(mel: np.ndarray) -> np.ndarray:
        return ((np.log(mel + 1e-8) + 7.03) / 4.66).T

    def mel(wave: np.ndarray, which: int, **spectrum) -> np.ndarray:
        return librosa.feature.melspectrogram(
            y=wave, hop_length=256, **spectrum, **sizes, **bins[which]
        )

    def mel_with_filters(wave: np.ndarray, which: int, power: int, **spectrum) -> np.ndarray:
        transform = librosa.stft(wave, n_fft=512, hop_length=256, **spectrum)
        return filters[which] @ np.abs(transform) ** power

    return {
        MMACTION: {
            "librosa": lambda wave: decibels(mel(level(wave), 0, window=window, power=1)),
            "librosa, filters kept": lambda wave: decibels(
                mel_with_filters(level(wave), 0, 1, window=window)
            ),
        },
        AVSLOWFAST: {
            "librosa": lambda wave: logarithm(mel(wave, 1, center=False)),
            "librosa, filters kept": lambda wave: logarithm(
                mel_with_filters(wave, 1, 2, center=False)
            ),
        },
    }
