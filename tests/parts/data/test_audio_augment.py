"""Random changes of audio features."""

import numpy as np
import pytest

from paddlevideo.data.audio_augment import RandomAudioMasks, RandomTempoPitch, random_block, shifted
from paddlevideo.data.audio_pipeline import AudioPipeline, LoadAudioFeature
from paddlevideo.data.audio_transforms import AudioFeatureSelector, FormatAudioShape, SampleFrames

RNG = np.random.default_rng


def ramp(num_steps=50, num_mels=8) -> np.ndarray:
    """A feature whose time steps and mel bins differ: float32 [num_steps, num_mels], above 0."""
    steps = np.linspace(0.2, 0.8, num_steps, dtype=np.float32)[:, None]
    return steps + np.linspace(0, 0.1, num_mels, dtype=np.float32)


def test_changes_the_tempo_within_its_limits():
    feature = ramp(100)
    lengths = set()
    for seed in range(200):
        changed = RandomTempoPitch(tempo=1.25, mel_bins=0)({"feature": feature}, RNG(seed))
        lengths.add(len(changed["feature"]))
        assert changed["feature"][0] == pytest.approx(feature[0])
        assert changed["feature"][-1] == pytest.approx(feature[-1])
        assert (np.diff(changed["feature"][:, 0]) > 0).all()
        assert changed["feature"].dtype == np.float32
    assert min(lengths) in (80, 81) and max(lengths) in (124, 125)


def test_moves_mel_bins_and_leaves_silence():
    feature = ramp()
    moved = set()
    for seed in range(40):
        changed = RandomTempoPitch(1, 2)({"feature": feature}, RNG(seed))["feature"]
        (filled,) = np.nonzero(changed.any(axis=0))
        shift = int(filled[0]) if filled[0] else int(filled[-1]) - 7
        moved.add(shift)
        assert np.array_equal(changed, shifted(feature, shift, 1))
    assert moved == {-2, -1, 0, 1, 2}


def test_masks_the_sound_and_not_the_padding():
    audio = np.zeros((1, 60, 20), np.float32)
    audio[0, :40] = ramp(40, 20)
    masked_steps, masked_bins, offsets = set(), set(), set()
    for seed in range(100):
        clip = RandomAudioMasks(0.25, 0.2)({"audio": audio}, RNG(seed))["audio"][0]
        steps = np.flatnonzero(clip.any(axis=1))
        offsets.add(int(steps[0]))
        masked_steps.add(40 - len(steps))
        masked_bins.add(20 - int(clip.any(axis=0).sum()))
    assert masked_steps == set(range(11)) and masked_bins == set(range(5))
    assert min(offsets) == 0 and max(offsets) > 15
    assert audio[0, :40].all() and not audio[0, 40:].any()  # the sample was not written to


def test_masks_each_clip_by_itself():
    audio = np.stack([ramp(40, 20)] * 2)
    clips = RandomAudioMasks(0.5, 0.5)({"audio": audio}, RNG(0))["audio"]
    assert clips.shape == audio.shape and not np.array_equal(*clips)


@pytest.mark.parametrize("steps", [0, 1, 40])
def test_accepts_silence_short_and_full_clips(steps):
    audio = np.zeros((1, 40, 8), np.float32)
    audio[0, :steps] = ramp(40)[:steps]
    for seed in range(20):
        changed = RandomAudioMasks(0.9, 0.9, 3)({"audio": audio}, RNG(seed))["audio"]
        assert changed.shape == audio.shape and np.isfinite(changed).all()
    feature = {"feature": ramp(max(1, steps))}
    assert len(RandomTempoPitch(4, 20)(feature, RNG(0))["feature"]) >= 1


def test_changes_nothing_when_turned_off():
    feature, audio = ramp(40), ramp(40)[None]
    assert np.array_equal(RandomTempoPitch(1, 0)({"feature": feature}, RNG(0))["feature"], feature)
    assert np.array_equal(RandomAudioMasks(0, 0)({"audio": audio}, RNG(0))["audio"], audio)
    assert random_block(0, 0.5, RNG(0)) == (0, 0)


def test_draws_from_the_generator_of_the_sample():
    pipeline = AudioPipeline(
        LoadAudioFeature(),
        SampleFrames(30),
        [RandomTempoPitch(), AudioFeatureSelector(64), RandomAudioMasks(), FormatAudioShape()],
    )
    assert pipeline.random
    assert pipeline.synthetic()["audio"].shape == (1, 1, 64, 80)
    step = RandomAudioMasks()
    same = [step({"audio": ramp(40)[None]}, RNG(3))["audio"] for _ in range(2)]
    assert np.array_equal(*same)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomTempoPitch(0.9), "tempo is 0.9 and mel_bins is 2, expected 1 to 4"),
        (lambda: RandomTempoPitch(5.0), "tempo is 5"),
        (lambda: RandomTempoPitch(1.1, -1), "mel_bins is -1"),
        (lambda: RandomTempoPitch(float("nan")), "tempo is nan"),
        (lambda: RandomAudioMasks(1.0), "time_share is 1"),
        (lambda: RandomAudioMasks(0.1, -0.1), "mel_share is -0.1"),
        (lambda: RandomAudioMasks(num_masks=-1), "num_masks is -1; expected shares"),
    ],
)
def test_rejects_values_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_names_the_right_place_in_the_pipeline():
    with pytest.raises(ValueError, match="name this step before AudioFeatureSelector"):
        RandomTempoPitch()({"audio": ramp()[None]}, RNG(0))
    for sample in ({"feature": ramp()}, {"audio": ramp()[None, None]}):
        with pytest.raises(ValueError, match="between AudioFeatureSelector and FormatAudioShape"):
            RandomAudioMasks()(sample, RNG(0))
