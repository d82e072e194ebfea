"""Both log-mel front ends, their filters and their windows against the references' numbers."""

import wave
from importlib.util import find_spec

import numpy as np
import pytest

from paddlevideo.media.log_mel import (
    DecibelMel,
    LogMel,
    hann_window,
    mel_filters,
    nearest_steps,
    overlap_window,
)
from paddlevideo.media.waveform import read_waveform

TOLERANCE = 1e-6  # of values around 1: a few roundings of float32


@pytest.fixture(scope="module")
def golden(goldens):
    return np.load(goldens / "audio" / "features_golden.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def librosa(goldens):
    return np.load(goldens / "audio" / "librosa_golden.npz", allow_pickle=False)


@pytest.mark.parametrize(
    ("name", "n_fft", "hop"),
    [("script_512_256", 512, 256), ("default_1280_320", 1280, 320), ("readme_1024_256", 1024, 256)],
)
def test_decibel_mel_equals_mmaction2(golden, name, n_fft, hop):
    feature = DecibelMel(n_fft=n_fft, hop_length=hop)
    for samples, expected in (
        (golden["w16_i16"].astype(np.float32) / 32768, golden[f"mm_lws_{name}_w16"]),
        (golden["w16_f32"], golden[f"mm_lws_{name}_w16_f32"]),
    ):
        log_mel = feature(samples)
        assert log_mel.dtype == np.float32 and log_mel.shape == expected.shape
        assert np.abs(log_mel - expected).max() < TOLERANCE


def test_decibel_mel_of_silence_is_zero(golden):
    log_mel = DecibelMel()(np.zeros(160000, np.float32))
    assert np.array_equal(log_mel, golden["mm_lws_silence10s"])


def test_log_mel_equals_avslowfast(golden):
    for samples, suffix in (
        (golden["w16_f32"], ""),
        (golden["w16_i16"].astype(np.float32), "_i16scale"),
    ):
        plain, expected = LogMel(mean=0, std=1)(samples), golden[f"av_logmel_w16{suffix}"]
        assert plain.shape == expected.shape
        assert np.abs(plain - expected).max() < TOLERANCE * np.abs(expected).max()
        normalized, expected = LogMel()(samples), golden[f"av_logmel_norm_w16{suffix}"]
        assert np.abs(normalized - expected).max() < TOLERANCE * 4


def test_sampled_time_steps_equal_avslowfast(golden):
    indices = golden["av_temporal_sampling_idx_0_133.3"]
    assert np.array_equal(nearest_steps(np.arange(200), 0, 133.3), indices)
    log_mel = nearest_steps(LogMel()(golden["w16_f32"]), 0, 133.3)
    assert log_mel.shape == (128, 80)
    assert np.abs(log_mel - golden["av_input_128x80"]).max() < TOLERANCE * 4


def test_filters_and_windows_equal_the_references(golden):
    slaney = mel_filters(16000, 512, 80, 125, 7600, "slaney")
    htk = mel_filters(16000, 512, 80, 0, 8000, "htk")
    assert np.abs(slaney.T - golden["mm_melbasis_16000_512_125_7600_80"]).max() < 1e-8
    assert np.abs(htk.T - golden["av_melbasis_htk_16000_512_0_8000_80"]).max() < 1e-8
    for n_fft, hop in ((512, 256), (1280, 320)):
        assert np.abs(overlap_window(n_fft, hop) - golden[f"lws_awin_{n_fft}_{hop}"]).max() < 1e-12
    sine = np.sin(np.pi * (np.arange(512) + 0.5) / 512)
    assert np.abs(overlap_window(512, 256) - sine).max() < 1e-12 and hann_window(512)[256] == 1


# --- librosa --------------------------------------------------------------------------------------

# Where soundfile is missing, only its case is missing.
BACKENDS = ["pyav", *(["soundfile"] if find_spec("soundfile") and find_spec("soxr") else [])]


def test_log_mel_equals_librosa(golden, librosa):
    log_mel = LogMel(mean=0, std=1)(golden["w16_f32"])
    assert np.abs(log_mel - librosa["log_mel_htk_w16"]).max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_reads_and_resamples_like_librosa_load(librosa, tmp_path, backend):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
        file.writeframes(noisy_parabolas().tobytes())
    found, expected = read_waveform(str(path), backend=backend), librosa["load_44100_to_16000"]
    assert found.shape == expected.shape
    if backend == "soundfile":  # soxr, too; its quality HQ has 20 bits
        assert np.abs(found - expected).max() < 2**-20
    assert np.abs(DecibelMel()(found) - DecibelMel()(expected)).mean() < 1e-4


def noisy_parabolas(rate: int = 44100) -> np.ndarray:
    """Return 1 s of a tone of 440 Hz and noise: int16 [rate].

    Each half wave is a parabola: integers are the same on every machine, sines are not.
    """
    phase = np.arange(rate) * 440 * 65536 // rate % 65536
    x = phase % 32768
    tone = np.where(phase < 32768, 1, -1) * (x * (32768 - x) >> 14)
    return (tone + np.random.default_rng(1).integers(-2838, 2839, rate)).astype("<i2")
