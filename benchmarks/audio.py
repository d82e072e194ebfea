"""From a waveform to what an audio model takes: our two front ends, and librosa's where it is installed, on the same sound."""

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.audio import DecibelMel, LogMel

SECONDS, SAMPLE_RATE = 10, 16000  # of the made-up sound; Hz
REPEATS = 10  # features in one timed call


def run(rounds: int) -> Iterator[Group]:
    """Both features of ten seconds of sound on one thread of the caller's choice (OMP_NUM_THREADS)."""
    time = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    wave = (0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * noise).astype(np.float32)
    theirs = peers() if importlib.util.find_spec("librosa") else {}
    for name, ours in (("feature of MMAction2", DecibelMel()), ("log-mel of AVSlowFast", LogMel())):
        yield comparison(name, ours, theirs.get(name), wave, rounds)


def comparison(name: str, ours: Callable, theirs: Callable | None, wave: np.ndarray, rounds: int) -> Group:
    """Ours against librosa's, which is the baseline where there is one.

    Raises:
        ValueError: they give different numbers.
    """
    variants = [Variant("paddlevideo", many(ours, wave))]
    if theirs is None:
        variants[0] = Variant("paddlevideo", many(ours, wave), lambda median: "librosa is not installed")
    else:
        # librosa pads otherwise at the ends; in between both look at the same windows.
        a, b = ours(wave), theirs(wave)
        difference = float(np.abs(a[2:-2] - b[2 : len(a) - 2]).max())
        if difference > 1e-3:
            raise ValueError(f"{name}: librosa and paddlevideo differ by {difference:.1e}")
        variants.insert(0, Variant("librosa", many(theirs, wave)))
    return measure(f"{name}, {SECONDS} s at {SAMPLE_RATE} Hz", "sound", REPEATS, variants, rounds)


def many(function: Callable, wave: np.ndarray) -> Callable[[], float]:
    """Seconds of REPEATS calls."""

    def job() -> None:
        for _ in range(REPEATS):
            function(wave)

    return timed(job)


def peers() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """librosa's ways to the two features."""
    import librosa

    window = np.sin(np.pi * (np.arange(512) + 0.5) / 512)
    sizes = {"sr": SAMPLE_RATE, "n_fft": 512, "hop_length": 256, "n_mels": 80}

    def decibel_mel(wave: np.ndarray) -> np.ndarray:
        level = wave * (0.1 / max(1e-4, np.sqrt(np.mean(wave**2))))
        mel = librosa.feature.melspectrogram(y=level, window=window, fmin=125, fmax=7600, power=1, **sizes)
        return np.clip((20 * np.log10(np.maximum(1e-5, mel)) + 80) / 100, 0, 1).T

    def log_mel(wave: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(y=wave, fmin=0, fmax=8000, htk=True, center=False, **sizes)
        return ((np.log(mel + 1e-8) + 7.03) / 4.66).T

    return {"feature of MMAction2": decibel_mel, "log-mel of AVSlowFast": log_mel}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # those of every benchmark do


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    return run(args.rounds)
