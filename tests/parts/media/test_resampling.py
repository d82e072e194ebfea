"""Waveforms: the mean of the channels, and resampling to another rate."""

import numpy as np
import pytest

from paddlevideo.media import waveform
from paddlevideo.media.waveform import read_waveform, resample
from tests.audio_clips import chirps, tone, write_audio


def test_averages_the_channels(tmp_path):
    stereo = np.stack([tone(1, level=0.8), np.zeros(16000, np.float32)])
    wave = read_waveform(str(write_audio(tmp_path / "stereo.wav", stereo)))
    # libswresample's own mix would give 0.707 of the left channel.
    assert np.abs(wave - stereo[0] / 2).max() < 2**-15
    six = np.stack([tone(1, hertz=100 * (n + 1), level=0.1 * (n + 1)) for n in range(6)])
    for name, codec in (("six.wav", "pcm_s16le"), ("six.flac", "flac")):
        wave = read_waveform(str(write_audio(tmp_path / name, six, codec=codec)))
        assert np.abs(wave - six.mean(axis=0)).max() < 2**-15, name
    path = write_audio(tmp_path / "six.mp4", np.tile(tone(2), (6, 1)), codec="aac")
    # AAC's sixth channel carries only frequencies below 120 Hz.
    assert abs(read_waveform(str(path))[8000:16000].max() - 0.5 * 5 / 6) < 0.01


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling_keeps_tones_and_does_not_alias(rate):
    for hertz in (100, 1000, 3300, 7200):
        if hertz < 0.45 * rate:
            expected = tone(2, 16000, hertz)
            wave = resample(tone(2, rate, hertz), rate, 16000)
            assert abs(len(wave) - len(expected)) <= 1
            assert np.abs(wave[2000:30000] - expected[2000:30000]).max() < 1e-5, hertz
    # Above half of 16 kHz: aliasing would turn these into lower tones.
    for hertz in (8400, 12000):
        if hertz < rate / 2:
            wave = resample(tone(2, rate, hertz), rate, 16000)
            assert np.abs(wave[2000:30000]).max() < 1e-5, hertz


def test_reads_files_of_other_sample_rates(tmp_path):
    for rate in (8000, 48000):
        wave = read_waveform(str(write_audio(tmp_path / f"{rate}.wav", tone(2, rate), rate)))
        assert len(wave) == 32000 and np.abs(wave - tone(2))[2000:30000].max() < 1e-4


def test_pushing_in_pieces_gives_the_same_waveform(monkeypatch):
    wave = chirps(3, 44100)
    expected = resample(wave, 44100, 16000)
    monkeypatch.setattr(waveform, "PUSH", 10_000)
    assert np.array_equal(resample(wave, 44100, 16000), expected)
