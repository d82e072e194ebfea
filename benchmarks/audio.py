"""From a waveform to what an audio model takes: our two front ends, and librosa's where it is installed, on the same sound."""

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.media.log_mel import DecibelMel, LogMel

SECONDS, SAMPLE_RATE = 10, 16000  # of the made-up sound; Hz
REPEATS = 10  # features in one timed call


def run(rounds: int) -> Iterator[Group]:
    """Both features of ten seconds of sound on one thread of the caller's choice (OMP_NUM_THREADS)."""
    time = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    wave = (0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * noise).astype(np.float32)
    theirs = peers() if importlib.util.find_spec("librosa") else {}
    for name, ours in (("feature of MMAction2", DecibelMel()), ("log-mel of AVSlowFast", LogMel())):
        yield comparison(name, ours, theirs.get(name, {}), wave, rounds)


def comparison(
    name: str, ours: Callable, theirs: dict[str, Callable], wave: np.ndarray, rounds: int
) -> Group:
    """Ours against librosa's ways, of which the first is the baseline where there is one.

    Raises:
        ValueError: they give different numbers.
    """
    for way, function in theirs.items():
        # librosa pads otherwise at the ends; in between both look at the same windows.
        a, b = ours(wave), function(wave)
        difference = float(np.abs(a[2:-2] - b[2 : len(a) - 2]).max())
        if difference > 1e-3:
            raise ValueError(f"{name}: {way} and paddlevideo differ by {difference:.1e}")
    variants = [Variant(way, many(function, wave)) for way, function in theirs.items()]
    note = {} if theirs else {"note": lambda median: "librosa is not installed"}
    variants.append(Variant("paddlevideo", many(ours, wave), **note))
    return measure(f"{name}, {SECONDS} s at {SAMPLE_RATE} Hz", "sound", REPEATS, variants, rounds)


def many(function: Callable, wave: np.ndarray) -> Callable[[], float]:
    """Seconds of REPEATS calls."""

    def job() -> None:
        for _ in range(REPEATS):
            function(wave)

    return timed(job)


def peers() -> dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]]:
    """librosa's ways to the two features: its function, which makes the filters anew for each sound, and with filters kept."""
    import librosa

    window = np.sin(np.pi * (np.arange(512) + 0.5) / 512)
    sizes = {"sr": SAMPLE_RATE, "n_fft": 512, "n_mels": 80}
    bands = {"fmin": 125, "fmax": 7600}, {"fmin": 0, "fmax": 8000, "htk": True}
    kept = [librosa.filters.mel(**sizes, **band) for band in bands]

    def decibels(mel: np.ndarray) -> np.ndarray:
        return np.clip((20 * np.log10(np.maximum(1e-5, mel)) + 80) / 100, 0, 1).T

    def level(wave: np.ndarray) -> np.ndarray:
        return wave * (0.1 / max(1e-4, np.sqrt(np.mean(wave**2))))

    def logarithm(mel: np.ndarray) -> np.ndarray:
        return ((np.log(mel + 1e-8) + 7.03) / 4.66).T

    def mel(wave: np.ndarray, which: int, **spectrum) -> np.ndarray:
        return librosa.feature.melspectrogram(
            y=wave, hop_length=256, **spectrum, **sizes, **bands[which]
        )

    def mel_of_kept(wave: np.ndarray, which: int, power: int, **spectrum) -> np.ndarray:
        return (
            kept[which] @ np.abs(librosa.stft(wave, n_fft=512, hop_length=256, **spectrum)) ** power
        )

    return {
        "feature of MMAction2": {
            "librosa": lambda wave: decibels(mel(level(wave), 0, window=window, power=1)),
            "librosa, filters kept": lambda wave: decibels(
                mel_of_kept(level(wave), 0, 1, window=window)
            ),
        },
        "log-mel of AVSlowFast": {
            "librosa": lambda wave: logarithm(mel(wave, 1, center=False)),
            "librosa, filters kept": lambda wave: logarithm(mel_of_kept(wave, 1, 2, center=False)),
        },
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # those of every benchmark do


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    return run(args.rounds)
