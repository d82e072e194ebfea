"""One picture or clip and one sound a second: which frames, which rows, what has no sound."""

import pickle
import wave

import numpy as np
import pytest

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.clip_transforms import MultiCrop
from paddlevideo.data.sampling import DecodeSampler, Sampler
from paddlevideo.data.transforms import CenterCrop, RandomFlip, TenCrop
from paddlevideo.data.views import Views
from paddlevideo.features import video_steps
from paddlevideo.features.video_steps import (
    AUDIO_SIZE,
    LOUDNESS,
    ReadSteps,
    audio_vectors,
    count_steps,
    shown_at,
    steady,
)
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import Record
from tests.clips import write_clip

SEGMENTS = Sampler(num_seg=2, seg_len=1, valid_mode=True, select_left=True)
CLIPS = DecodeSampler(num_frames=4, sampling_rate=2, target_fps=25, valid_mode=True)


def pictures_of(*crop):
    return steady(ClipPipeline(VideoDecoder(), SEGMENTS, crop), of_clips=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """2.4 s, 25 frames a second; frame n is grey 4 n."""
    frames = np.repeat(np.arange(60, dtype=np.uint8)[:, None] * 4, 32 * 48 * 3, 1).reshape(
        60, 32, 48, 3
    )
    path = tmp_path_factory.mktemp("steps") / "grey.mp4"
    return str(write_clip(path, 60, 32, 48, frames=frames, tone=440.0, options={"crf": "4"}))


def numbers(frames):
    """Which frames of the grey clip these are."""
    return (
        np.rint(np.asarray(frames)[..., 8:24, 8:24, :].mean((-3, -2, -1)) / 4).astype(int).tolist()
    )


def test_steps_of_a_video():
    times = np.arange(60) / 25
    assert (
        count_steps(times, 25, 1, 300) == 3
        and count_steps(times, 25, 5, 300) == 12
        and count_steps(times, 25, 5, 7) == 7
    )
    assert count_steps(times[:25], 25, 1, 300) == 1 and count_steps(times[:26], 25, 1, 300) == 2, (
        "a whole second is one"
    )
    assert count_steps(np.zeros(1), 25, 1, 300) == 1
    assert shown_at(times, np.array([-1, 0, 0.039, 0.04, 0.5, 9])).tolist() == [0, 0, 0, 1, 12, 59]


def test_pictures_are_those_of_the_middle_of_each_second(clip):
    steps = ReadSteps(pictures_of(CenterCrop(32)))((Record(clip), 0))
    assert steps.frames.shape == (3, 32, 32, 3) and steps.num_steps == 3
    assert numbers(steps.frames) == [12, 37, 59], (
        "the last second ends before its middle: the last frame"
    )
    assert steps.sound.shape == (3, AUDIO_SIZE) and not steps.silent
    steps = ReadSteps(pictures_of(CenterCrop(32)), frame_rate=5, max_steps=4)((Record(clip), 0))
    assert numbers(steps.frames) == [2, 7, 12, 17]


def test_crops_and_parts_of_a_video(clip):
    read = ReadSteps(pictures_of(TenCrop(24)), frame_rate=5, part=5)
    parts = [read((Record(clip), number)) for number in range(3)]
    assert [np.asarray(part.frames).shape[:2] for part in parts] == [(10, 5), (10, 5), (10, 2)]
    assert read((Record(clip), 3)) is None, "behind the end"
    assert [part.sound is None for part in parts] == [False, True, True] and len(
        parts[0].sound
    ) == 12


def test_clips_around_each_moment(clip):
    pipeline = steady(ClipPipeline(VideoDecoder(), CLIPS, ()), of_clips=True)
    steps = ReadSteps(pipeline, of_clips=True)((Record(clip), 0))
    shown = numbers(steps.frames)
    assert len(shown) == 3 and shown[:2] == [[8, 10, 13, 15], [33, 35, 38, 40]], (
        "0.32 s around 0.5 and 1.5 s"
    )
    assert shown[2] == [58, 59, 59, 59], "cut at the end of the video"
    short = ReadSteps(pipeline, of_clips=True, max_steps=1)((Record(clip), 0))
    assert numbers(short.frames) == [8, 10, 13, 15]
    crops = steady(
        ClipPipeline(VideoDecoder(), CLIPS, (MultiCrop(16, test_mode=True, num_spatial_crops=3),)),
        of_clips=True,
    )
    steps = ReadSteps(crops, of_clips=True)((Record(clip), 0))
    assert isinstance(steps.frames, Views) and steps.frames.shape == (9, 4, 16, 16, 3)


def test_a_part_of_a_video_between_two_times(clip):
    steps = ReadSteps(pictures_of(CenterCrop(32)))((Record(clip, start_sec=1.0, end_sec=2.0), 0))
    assert numbers(steps.frames) == [37] and len(steps.sound) == 1
    np.testing.assert_allclose(steps.sound[0], audio_vectors(clip, 1.0, 1, 1.0)[0][0], atol=1e-5)


def test_sound_of_each_step(tmp_path):
    """A second of a tone between two of silence: its band and its level are found in the second where it is."""
    time = np.arange(16000) / 16000
    sound = np.concatenate(
        [np.zeros(16000), 0.5 * np.sin(2 * np.pi * 440 * time), np.zeros(8000)]
    ).astype(np.float32)
    path = str(_wav(tmp_path / "a.wav", sound))
    vectors, silent = audio_vectors(path, 0.0, 3, 1.0)
    assert not silent and vectors.shape == (3, AUDIO_SIZE) and vectors.dtype == np.float32
    rows = LOUDNESS(read_waveform(path))
    begins = np.arange(len(rows)) * LOUDNESS.hop_length / LOUDNESS.sample_rate
    for step in range(3):
        own = rows[(begins >= step) & (begins < step + 1)]
        np.testing.assert_allclose(
            vectors[step], np.concatenate([own.mean(0), own.std(0)]), atol=1e-6
        )
    assert vectors[1, :64].max() > vectors[0, :64].max() + 2


def _wav(path, sound):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def test_no_sound_is_silence_and_is_told(tmp_path):
    path = str(write_clip(tmp_path / "mute.mp4", 30))
    steps = ReadSteps(pictures_of(CenterCrop(32)))((Record(path), 0))
    assert steps.silent and np.isfinite(steps.sound).all() and (steps.sound[:, 64:] == 0).all()
    assert ReadSteps(pictures_of(CenterCrop(32)), with_sound=False)((Record(path), 0)).sound is None
    # Sound that ends earlier than the picture: silence from there on.
    short = str(write_clip(tmp_path / "short.mp4", 75, tone=300.0))
    full, _ = audio_vectors(short, 0.0, 3, 1.0)
    longer, silent = audio_vectors(short, 0.0, 5, 1.0)
    assert (
        not silent
        and np.array_equal(longer[4], steps.sound[0])
        and np.allclose(longer[:2], full[:2], atol=1e-5)
    )


def test_what_fails_is_text(tmp_path, clip, monkeypatch):
    read = ReadSteps(pictures_of(CenterCrop(32)))
    (tmp_path / "text.mp4").write_text("no video at all")
    assert "no known video format" in read((Record(str(tmp_path / "text.mp4")), 0))
    assert "no such file" in read((Record("gone.mp4"), 0))
    assert "CenterCrop" in ReadSteps(pictures_of(CenterCrop(64)))((Record(clip), 0))
    folder = tmp_path / "frames"
    folder.mkdir()
    frames = ReadSteps(steady(ClipPipeline(FrameDecoder(), SEGMENTS, ()), False))
    assert "no such folder" in frames((Record("gone", frame_pattern="img_{:05}.jpg"), 0))
    monkeypatch.setattr(video_steps, "count_steps", lambda *_: 1 / 0)
    assert read((Record(clip), 0)) == "ZeroDivisionError: division by zero"


def test_it_can_be_sent_and_stays_the_same(clip):
    read = ReadSteps(pictures_of(CenterCrop(32)))
    one, two = read((Record(clip), 0)), pickle.loads(pickle.dumps(read))((Record(clip), 0))
    assert np.array_equal(one.frames, two.frames) and np.array_equal(one.sound, two.sound)


def test_a_pipeline_must_be_steady():
    with pytest.raises(
        ValueError, match="RandomFlip draws random numbers; features must be the same"
    ):
        steady(ClipPipeline(VideoDecoder(), SEGMENTS, (RandomFlip(),)), of_clips=False)
    drawn = DecodeSampler(num_frames=4, sampling_rate=2)
    with pytest.raises(ValueError, match="DecodeSampler draws"):
        steady(ClipPipeline(VideoDecoder(), drawn, ()), of_clips=True)
    assert steady(ClipPipeline(VideoDecoder(), drawn, ()), of_clips=False), (
        "its places are not asked for"
    )
    views = DecodeSampler(num_frames=4, sampling_rate=2, test_mode=True, num_ensemble_views=3)
    assert steady(ClipPipeline(VideoDecoder(), views, ()), of_clips=True).num_clips == 1
    dense = Sampler(num_seg=4, seg_len=1, valid_mode=True, dense_sample=True)
    with pytest.raises(ValueError, match="Sampler samples 10 clips of a video, expected one"):
        steady(ClipPipeline(VideoDecoder(), dense, ()), of_clips=True)
