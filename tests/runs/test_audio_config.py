"""The config for your own audio files: what its pipelines take of short, long and other files."""

import numpy as np
import pytest

from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.sample import Record
from tests.audio_clips import chirps, write_audio

RNG = np.random.default_rng
CONFIG = "configs/finetune/audio.yaml"
FILES = [
    # seconds, sample rate (Hz), channels
    (0.3, 8000, 1),
    (1.0, 16000, 1),
    (2.5, 22050, 2),
    (10.0, 44100, 2),
    (0.05, 48000, 1),
]


@pytest.mark.parametrize(("seconds", "rate", "channels"), FILES)
def test_uses_a_second_at_a_time(tmp_path, root, seconds, rate, channels):
    wave = np.stack([chirps(seconds, rate)] * channels)
    record = Record(str(write_audio(tmp_path / "a.wav", wave, rate)))
    cfg = load_config(root / CONFIG)
    steps = min(1.0, seconds) * 16000 / 128  # a time step is 8 ms
    for split, clips in (("valid", 1), ("test", 5)):
        pipeline = build_pipeline(cfg, split)
        audio = pipeline(record, RNG(0))["audio"]
        assert not pipeline.random and audio.shape == (clips, 1, 128, 64)
        for clip in audio:
            assert abs(np.count_nonzero(clip[0].any(axis=1)) - steps) <= 4
    starts = {clip[:8].tobytes() for clip in audio[:, 0]}
    assert len(starts) == (1 if seconds <= 1 else 5)  # a test covers all of a longer file


@pytest.mark.parametrize(("seconds", "rate", "channels"), FILES)
def test_keeps_most_of_it_in_training(tmp_path, root, seconds, rate, channels):
    wave = np.stack([chirps(seconds, rate)] * channels)
    record = Record(str(write_audio(tmp_path / "a.wav", wave, rate)))
    pipeline = build_pipeline(load_config(root / CONFIG), "train")
    steps = min(1.0, seconds) * 16000 / 128
    for seed in range(5):
        clip = pipeline(record, RNG(seed))["audio"][0, 0]
        assert clip.shape == (128, 64)
        # At most 1.15 times as fast or slow, a tenth of the time steps silent, and the ends.
        assert 0.9 * steps / 1.15 - 4 <= np.count_nonzero(clip.any(axis=1)) <= 1.15 * steps + 4


def test_takes_longer_clips(tmp_path, root):
    record = Record(str(write_audio(tmp_path / "a.wav", chirps(6, 44100), 44100)))
    text = (root / CONFIG).read_text()
    assert "clip_len=120" in text and "fixed_length=512" in text  # as its header says
    overrides = [
        f"PIPELINE.{split}.{key}"
        for split, at in (("train", 1), ("valid", 0), ("test", 0))
        for key in (
            "sample.clip_len=120",
            f"transform.{at}.AudioFeatureSelector.fixed_length=512",
        )
    ]
    cfg = load_config(root / CONFIG, overrides)
    for split, clips in (("train", 1), ("valid", 1), ("test", 5)):
        audio = build_pipeline(cfg, split)(record, RNG(0))["audio"]
        assert audio.shape == (clips, 1, 512, 64)
        assert 390 <= np.count_nonzero(audio[0, 0].any(axis=1)) <= 504  # 4 s


def test_mixes_its_batches(root):
    cfg = load_config(root / CONFIG)
    audio = RNG(0).random((4, 1, 1, 128, 64), np.float32)
    assert cfg.MIX is not None
    mixed = cfg.MIX.make()({"audio": audio, "label": np.arange(4)}, RNG(1))
    lam = float(mixed["lam"][0])
    partners = mixed["labels_b"]
    assert mixed["audio"] == pytest.approx(lam * audio + (1 - lam) * audio[partners], abs=1e-6)
