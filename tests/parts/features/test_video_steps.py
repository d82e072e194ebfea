"""One frame or clip and one audio vector per step: which frames, which audio, missing audio."""

import pickle
import wave

import numpy as np
import pytest

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.crops import CenterCrop, MultiCrop, TenCrop
from paddlevideo.data.sampling import DecodeSampler, Sampler
from paddlevideo.data.transforms import RandomFlip
from paddlevideo.data.views import Views
from paddlevideo.features import video_steps
from paddlevideo.features.video_steps import (
    AUDIO_SIZE,
    LOG_MEL,
    StepReader,
    audio_vectors,
    count_steps,
    feature_pipeline,
    frames_at,
)
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import Record
from tests.clips import write_clip

SEGMENTS = Sampler(num_seg=2, seg_len=1, valid_mode=True, select_left=True)
CLIPS = DecodeSampler(num_frames=4, sampling_rate=2, target_fps=25, valid_mode=True)


def frame_pipeline(*crop):
    return feature_pipeline(ClipPipeline(VideoDecoder(), SEGMENTS, crop), "frame")


def clip_pipeline(*crop):
    return feature_pipeline(ClipPipeline(VideoDecoder(), CLIPS, crop), "clip")


@pytest.fixture
def read():
    return StepReader(frame_pipeline(CenterCrop(32)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of 2.4 s at 25 frames per second; two gray values give the number of a frame.

    They differ by 32 from number to number, which no rounding of colors can hide.
    """
    numbers = np.arange(60)
    halves = np.stack([numbers // 8, numbers % 8], 1) * 32 + 16  # above and below
    rows = np.repeat(halves, 16, 1).astype(np.uint8)
    frames = np.broadcast_to(rows[:, :, None, None], (60, 32, 48, 3))
    path = tmp_path_factory.mktemp("steps") / "gray.mp4"
    return str(write_clip(path, 60, 32, 48, frames=frames, tone=440.0, options={"crf": "4"}))


def indices_of(frames):
    """Numbers of frames of the gray video."""
    above, below = (
        np.rint((np.asarray(frames)[..., rows, 8:24, :].mean((-3, -2, -1)) - 16) / 32)
        for rows in (slice(8, 14), slice(18, 24))
    )
    return (above * 8 + below).astype(int).tolist()


# --- times --------------------------------------------------------------------------------------


def test_counts_the_steps_of_a_video():
    times = np.arange(60) / 25
    assert count_steps(times, 25, 1, 300) == 3
    assert count_steps(times, 25, 5, 300) == 12
    assert count_steps(times, 25, 5, 7) == 7
    assert count_steps(times[:25], 25, 1, 300) == 1, "exactly one second is one step"
    assert count_steps(times[:26], 25, 1, 300) == 2
    assert count_steps(np.zeros(1), 25, 1, 300) == 1


def test_finds_the_frame_at_a_time():
    times, moments = np.arange(60) / 25, np.array([-1, 0, 0.039, 0.04, 0.5, 9])
    assert frames_at(times, moments).tolist() == [0, 0, 0, 1, 12, 59]


# --- frames -------------------------------------------------------------------------------------


def test_reads_the_frame_in_the_middle_of_each_second(clip, read):
    steps = read((Record(clip), 0))
    assert steps.frames.shape == (3, 32, 32, 3) and steps.num_steps == 3
    assert indices_of(steps.frames) == [12, 37, 59], "the last second ends before its middle"
    assert steps.audio.shape == (3, AUDIO_SIZE) and not steps.no_audio


def test_reads_at_another_frame_rate(clip):
    read = StepReader(frame_pipeline(CenterCrop(32)), frame_rate=5, max_steps=4)
    assert indices_of(read((Record(clip), 0)).frames) == [2, 7, 12, 17]


def test_reads_a_video_in_parts(clip):
    read = StepReader(frame_pipeline(TenCrop(24)), frame_rate=5, part_size=5)
    parts = [read((Record(clip), part)) for part in range(3)]
    shapes = [np.asarray(part.frames).shape[:2] for part in parts]
    assert shapes == [(10, 5), (10, 5), (10, 2)]
    assert read((Record(clip), 3)) is None, "after the end"
    assert [part.audio is None for part in parts] == [False, True, True]
    assert len(parts[0].audio) == 12


def test_reads_a_clip_around_each_middle(clip):
    read = StepReader(clip_pipeline(), "clip")
    first, second, last = indices_of(read((Record(clip), 0)).frames)
    assert first == [8, 10, 13, 15] and second == [33, 35, 38, 40], "0.32 s around 0.5 and 1.5 s"
    assert last == [58, 59, 59, 59], "cut at the end of the video"
    read = StepReader(clip_pipeline(), "clip", max_steps=1)
    assert indices_of(read((Record(clip), 0)).frames) == [8, 10, 13, 15]


def test_reads_crops_of_clips_as_views(clip):
    crops = MultiCrop(16, test_mode=True, num_spatial_crops=3)
    frames = StepReader(clip_pipeline(crops), "clip")((Record(clip), 0)).frames
    assert isinstance(frames, Views) and frames.shape == (9, 4, 16, 16, 3)


def test_reads_a_time_span_of_a_video(clip, read):
    steps = read((Record(clip, start_sec=1.0, end_sec=2.0), 0))
    assert indices_of(steps.frames) == [37] and len(steps.audio) == 1
    expected = audio_vectors(clip, 1.0, 1, 1.0)[0][0]
    np.testing.assert_allclose(steps.audio[0], expected, atol=1e-5)


# --- audio --------------------------------------------------------------------------------------


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return str(path)


def test_computes_audio_vectors_per_step(tmp_path):
    """One second of a tone after one of silence raises the level of the second step."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    samples = np.concatenate([np.zeros(16000), tone, np.zeros(8000)]).astype(np.float32)
    path = write_wav(tmp_path / "a.wav", samples)
    vectors, no_audio = audio_vectors(path, 0.0, 3, 1.0)
    assert not no_audio and vectors.shape == (3, AUDIO_SIZE) and vectors.dtype == np.float32
    spectrogram = LOG_MEL(read_waveform(path))
    times = np.arange(len(spectrogram)) * LOG_MEL.hop_length / LOG_MEL.sample_rate
    for step in range(3):
        part = spectrogram[(times >= step) & (times < step + 1)]
        expected = np.concatenate([part.mean(0), part.std(0)])
        np.testing.assert_allclose(vectors[step], expected, atol=1e-6)
    assert vectors[1, :64].max() > vectors[0, :64].max() + 2


def test_uses_silence_for_a_video_without_audio(tmp_path, read):
    path = str(write_clip(tmp_path / "mute.mp4", 30))
    steps = read((Record(path), 0))
    assert steps.no_audio and np.isfinite(steps.audio).all()
    assert (steps.audio[:, 64:] == 0).all(), "the std of silence is 0"
    read = StepReader(frame_pipeline(CenterCrop(32)), with_audio=False)
    assert read((Record(path), 0)).audio is None


def test_uses_silence_after_the_end_of_the_audio(tmp_path):
    path = str(write_clip(tmp_path / "short.mp4", 75, tone=300.0))
    mute = str(write_clip(tmp_path / "mute.mp4", 30))
    vectors, _ = audio_vectors(path, 0.0, 3, 1.0)
    longer, no_audio = audio_vectors(path, 0.0, 5, 1.0)
    silence, _ = audio_vectors(mute, 0.0, 1, 1.0)
    assert not no_audio and np.array_equal(longer[4], silence[0])
    np.testing.assert_allclose(longer[:2], vectors[:2], atol=1e-5)


# --- errors, determinism ------------------------------------------------------------------------


def test_returns_errors_as_text(tmp_path, clip, read, monkeypatch):
    (tmp_path / "text.mp4").write_text("no video at all")
    assert "no known video format" in read((Record(str(tmp_path / "text.mp4")), 0))
    assert "no such file" in read((Record("gone.mp4"), 0))
    assert "CenterCrop" in StepReader(frame_pipeline(CenterCrop(64)))((Record(clip), 0))
    frames = ClipPipeline(FrameDecoder(), SEGMENTS, ())
    read_folder = StepReader(feature_pipeline(frames, "frame"))
    record = Record("gone", frame_pattern="img_{:05}.jpg")
    assert "no such folder" in read_folder((record, 0))
    monkeypatch.setattr(video_steps, "count_steps", lambda *_: 1 / 0)
    assert read((Record(clip), 0)) == "ZeroDivisionError: division by zero"


def test_reads_the_same_after_pickling(clip, read):
    first, second = read((Record(clip), 0)), pickle.loads(pickle.dumps(read))((Record(clip), 0))
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.audio, second.audio)


def test_rejects_random_transforms():
    pipeline = ClipPipeline(VideoDecoder(), SEGMENTS, (RandomFlip(),))
    with pytest.raises(ValueError, match="RandomFlip draws random numbers; features must be"):
        feature_pipeline(pipeline, "frame")


def test_rejects_random_samplers_of_clips_only():
    pipeline = ClipPipeline(VideoDecoder(), DecodeSampler(num_frames=4, sampling_rate=2), ())
    with pytest.raises(ValueError, match="DecodeSampler draws random numbers"):
        feature_pipeline(pipeline, "clip")
    assert feature_pipeline(pipeline, "frame"), "single frames do not use the sampler"


def test_uses_one_clip_per_video():
    sampler = DecodeSampler(num_frames=4, sampling_rate=2, test_mode=True, num_ensemble_views=3)
    assert feature_pipeline(ClipPipeline(VideoDecoder(), sampler, ()), "clip").num_clips == 1
    dense = Sampler(num_seg=4, seg_len=1, valid_mode=True, dense_sample=True)
    with pytest.raises(ValueError, match="Sampler samples 10 clips per video, expected one"):
        feature_pipeline(ClipPipeline(VideoDecoder(), dense, ()), "clip")
