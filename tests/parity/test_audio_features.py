"""Both log-mel front ends, their filters and their windows against the references' numbers."""

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


@pytest.mark.parametrize(
    ("name", "n_fft", "hop"),
    [("script_512_256", 512, 256), ("default_1280_320", 1280, 320), ("readme_1024_256", 1024, 256)],
)
def test_decibel_mel_equals_mmaction2(golden, name, n_fft, hop):
    feature = DecibelMel(n_fft=n_fft, hop_length=hop)
    for wave, expected in (
        (golden["w16_i16"].astype(np.float32) / 32768, golden[f"mm_lws_{name}_w16"]),
        (golden["w16_f32"], golden[f"mm_lws_{name}_w16_f32"]),
    ):
        log_mel = feature(wave)
        assert log_mel.dtype == np.float32 and log_mel.shape == expected.shape
        assert np.abs(log_mel - expected).max() < TOLERANCE


def test_decibel_mel_of_silence_is_zero(golden):
    log_mel = DecibelMel()(np.zeros(160000, np.float32))
    assert np.array_equal(log_mel, golden["mm_lws_silence10s"])


def test_log_mel_equals_avslowfast(golden):
    for wave, suffix in (
        (golden["w16_f32"], ""),
        (golden["w16_i16"].astype(np.float32), "_i16scale"),
    ):
        plain, expected = LogMel(mean=0, std=1)(wave), golden[f"av_logmel_w16{suffix}"]
        assert plain.shape == expected.shape
        assert np.abs(plain - expected).max() < TOLERANCE * np.abs(expected).max()
        normalized, expected = LogMel()(wave), golden[f"av_logmel_norm_w16{suffix}"]
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


def test_log_mel_equals_librosa(golden):
    librosa = pytest.importorskip(
        "librosa", reason="librosa is not installed; the goldens contain its numbers"
    )
    wave = golden["w16_f32"].astype(np.float64)
    sizes = {"sr": 16000, "n_fft": 512, "hop_length": 256, "n_mels": 80}
    edges = {"fmin": 0, "fmax": 8000, "htk": True}
    mel = librosa.feature.melspectrogram(y=wave, center=False, **sizes, **edges)
    log_mel = LogMel(mean=0, std=1)(golden["w16_f32"])
    assert np.abs(log_mel - np.log(mel.T + 1e-8)).max() < 1e-5


def test_soundfile_backend_equals_librosa_load(tmp_path):
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    soundfile = pytest.importorskip("soundfile")
    path = str(tmp_path / "a.wav")
    time = np.arange(3 * 44100) / 44100
    noise = np.random.default_rng(1).standard_normal(len(time))
    wave = 0.5 * np.sin(2 * np.pi * 440 * time) + 0.05 * noise
    soundfile.write(path, np.round(wave * 32767).astype(np.int16), 44100)
    expected, _ = librosa.load(path, sr=16000)
    assert np.array_equal(read_waveform(path, backend="soundfile"), expected)
    assert np.abs(DecibelMel()(read_waveform(path)) - DecibelMel()(expected)).mean() < 1e-4
