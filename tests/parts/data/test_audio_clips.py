"""The audio of the sampled clips: alone, and through ClipPipeline, loader and ranks."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from paddlevideo.data.audio_clips import ClipAudio, clip_spans, misaligned_start
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.clip_transforms import JitterScale, PackOutput
from paddlevideo.data.crops import MultiCrop
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import TrainOrder
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.sampling import DecodeSampler, Sampler
from paddlevideo.data.transforms import Image2Array, Normalization, RandomFlip
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.media.log_mel import LogMel, nearest_steps
from paddlevideo.media.waveform import NoAudioError, read_waveform
from paddlevideo.sample import BatchShape, DecodeError, Record
from tests.audio_clips import chirps, write_audio
from tests.clips import random_frames, write_clip

RNG = np.random.default_rng
LATE = [
    Image2Array(transpose=False),
    Normalization([0.45] * 3, [0.225] * 3, tensor_shape=[1, 1, 1, 3]),
    PackOutput(alpha=4),
]
TRAIN = [JitterScale(40, 56), MultiCrop(32), RandomFlip(), *LATE]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of 10 s at 25 frames per second with audio that never repeats."""
    path = tmp_path_factory.mktemp("av") / "v.mkv"
    return write_audio(path, chirps(10), video={"num_frames": 250})


def sampled(path, sample, **part):
    """Return (record, times, numbers [C, T], fps) of a video; a sampler picks the numbers."""
    record = Record(str(path), **part)
    with VideoDecoder().open(record) as clip:
        numbers = sample(clip.num_frames, clip.fps, RNG(1)).reshape(sample.num_views, -1)
        return record, clip.times(), numbers, clip.fps


def log_mel_of(path, start, seconds):
    """Return the time steps that a clip must get, cut from the spectrogram of the complete file."""
    complete = LogMel()(read_waveform(str(path)))
    return nearest_steps(complete, start * 62.5 + 1e-6, (start + seconds) * 62.5 + 1e-6)


def test_spans_follow_the_frame_times():
    times = np.arange(250) / 25
    numbers = np.array([np.arange(0, 50, 2), np.arange(100, 150, 2)])
    assert np.allclose(clip_spans(times, numbers, 25.0), [[0, 49 / 25], [4, 4 + 49 / 25]])
    assert np.allclose(clip_spans(times, numbers, 25.0, 2.0), [[0, 2], [4, 6]])
    variable = np.cumsum(np.linspace(0.01, 0.09, 250))
    starts = clip_spans(variable, numbers, 25.0)[:, 0]
    assert np.allclose(starts, [variable[0], variable[100]])


def test_each_clip_gets_the_audio_of_its_own_time(video):
    sample = DecodeSampler(32, 2, test_mode=True, num_ensemble_views=10)
    record, times, numbers, fps = sampled(video, sample)
    seconds = 32 * 2 / 30
    result = ClipAudio()(record, times, numbers, fps, RNG(0), seconds, crops=3)
    assert result["audio"].shape == (30, 1, 128, 80) and not result["missing_audio"]
    for clip in range(10):
        expected = log_mel_of(video, times[numbers[clip, 0]], seconds)
        for crop in range(3):
            assert np.array_equal(result["audio"][3 * clip + crop, 0], expected), clip
        # A clip that is read alone gets the same time steps as with the others.
        alone = ClipAudio()(record, times, numbers[clip : clip + 1], fps, RNG(0), seconds)
        assert alone["audio"].shape == (1, 128, 80) and np.array_equal(alone["audio"][0], expected)


def test_a_part_of_a_video_gets_the_audio_of_that_part(video):
    sample = DecodeSampler(8, 2, valid_mode=True)
    complete = sampled(video, sample)
    part = sampled(video, sample, start_sec=6.0, end_sec=8.0)
    _, times, numbers, _ = part
    assert times[0] == pytest.approx(6.0, abs=0.001) and len(times) == 50
    start, end = times[numbers[0, 0]], times[numbers[0, -1]] + 1 / 25
    audio = ClipAudio()(*part, RNG(0))["audio"][0]
    assert np.array_equal(audio, log_mel_of(video, start, end - start))
    assert not np.array_equal(audio, ClipAudio()(*complete, RNG(0))["audio"][0])


def test_misaligned_starts_keep_their_distance_and_are_uniform():
    rng, gap, length, total = RNG(0), 32, 133, 625
    for start in (0.0, 20.0, 100.0, 300.0, 492.0):
        drawn = np.array([misaligned_start(start, length, total, gap, rng) for _ in range(2000)])
        assert (np.abs(drawn - start) >= gap).all()
        assert drawn.min() >= 0 and drawn.max() <= total - length
        num_starts = max(0, start - gap) + max(0, total - length - start - gap)
        if start - gap > 0:
            assert abs((drawn < start).mean() - (start - gap) / num_starts) < 0.05


def test_misaligned_clips_of_short_videos_run_past_the_end_or_are_left_out():
    rng, gap = RNG(0), 32
    drawn = [misaligned_start(5.0, 133, 150, gap, rng) for _ in range(100)]
    assert min(drawn) >= 37 and max(drawn) < 150
    assert misaligned_start(5.0, 133, 30, gap, rng) is None
    # Later draws do not depend on the length of the video.
    a, b = RNG(3), RNG(3)
    misaligned_start(5.0, 133, 30, gap, a)
    misaligned_start(5.0, 133, 625, gap, b)
    assert a.random() == b.random()


def test_misaligned_clips_are_hard_negatives(video):
    record, times, numbers, fps = sampled(video, DecodeSampler(32, 2, valid_mode=True))
    pairs = [
        ClipAudio(misaligned=True)(record, times, numbers, fps, RNG(seed), 64 / 30)
        for seed in (0, 0, 1)
    ]
    plain = ClipAudio()(record, times, numbers, fps, RNG(0), 64 / 30)
    assert "audio_negative" not in plain
    for pair in pairs:
        assert np.array_equal(pair["audio"], plain["audio"])
        assert pair["audio_negative"].shape == (1, 128, 80)
        assert not np.array_equal(pair["audio_negative"], pair["audio"])
    assert np.array_equal(pairs[0]["audio_negative"], pairs[1]["audio_negative"])
    assert not np.array_equal(pairs[0]["audio_negative"], pairs[2]["audio_negative"])
    assert ClipAudio(misaligned=True).random and not ClipAudio().random


def test_a_video_too_short_for_another_clip_uses_its_own_audio(tmp_path):
    short = write_audio(tmp_path / "short.mkv", chirps(0.4), video={"num_frames": 10})
    clip = sampled(short, DecodeSampler(32, 2, valid_mode=True))
    result = ClipAudio(misaligned=True)(*clip, RNG(0), 64 / 30)
    assert not result["missing_audio"]
    assert np.array_equal(result["audio_negative"], result["audio"])
    assert np.isfinite(result["audio"]).all() and result["audio"].std() > 0.1


def test_clips_without_audio_are_errors_or_silence(tmp_path):
    mute, short = tmp_path / "mute.mp4", tmp_path / "short_audio.mkv"
    write_clip(mute, num_frames=100)
    write_audio(short, chirps(2), video={"num_frames": 250})
    silence = np.tile(LogMel()(np.zeros(512, np.float32)), (128, 1))
    sample = DecodeSampler(8, 2, test_mode=True, num_ensemble_views=5)
    for path, reason in (
        (mute, "no audio stream in it"),
        (short, r"a clip begins at 7.\d+ s, the audio ends at 2.0\d* s"),
    ):
        clips = sampled(path, sample)
        message = f"^{reason}; missing_audio: zeros uses silence instead$"
        with pytest.raises(NoAudioError, match=message):
            ClipAudio()(*clips, RNG(0))
        result = ClipAudio(missing_audio="zeros", misaligned=True)(*clips, RNG(0))
        assert result["missing_audio"]
        # The last clip begins after the end of the audio; the first one only in the mute video.
        assert np.array_equal(result["audio"][-1, 0], silence)
        assert (result["audio"][0].std() > 0.1) == (path == short)
    with pytest.raises(NoAudioError, match="no audio between 4"):
        ClipAudio()(*sampled(short, DecodeSampler(8, 2, valid_mode=True)), RNG(0))


@pytest.mark.parametrize("begin", [1.001, 1.0, 1.007])
def test_audio_that_ends_right_before_a_clip_is_missing(begin):
    """It ends within the time step in which the clip begins."""

    def read(rate, start, end, backend):
        assert start < 1.0
        return np.ones(round((1.0 - start) * rate), np.float32)

    clip = (Record("x"), np.array([0, begin, 1.5, 2]), np.array([[1, 2, 3]]), 25.0)
    with pytest.raises(NoAudioError, match=rf"a clip begins at {begin:.3f} s, the audio ends at 1"):
        ClipAudio()(*clip, RNG(0), read=read)
    result = ClipAudio(missing_audio="zeros")(*clip, RNG(0), read=read)
    assert result["missing_audio"] and np.array_equal(
        result["audio"], ClipAudio().silent(1)["audio"]
    )


def test_missing_audio_zeros_does_not_cover_damaged_audio(tmp_path):
    path = tmp_path / "bad.wav"
    path.write_bytes(b"RIFF" + bytes(200))
    times, numbers = np.arange(100) / 25, np.zeros((1, 8), np.int64)
    with pytest.raises(DecodeError) as error:
        ClipAudio(missing_audio="zeros")(Record(str(path)), times, numbers, 25.0, RNG(0))
    assert not isinstance(error.value, NoAudioError)


def test_distant_clips_of_a_long_video_are_read_separately(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "long.mkv", chirps(60), video={"num_frames": 60, "fps": 1})
    seconds_read = []

    def read(path, rate, start, end, *more):
        seconds_read.append(end - start)
        return read_waveform(path, rate, start, end, *more)

    monkeypatch.setattr("paddlevideo.data.audio_clips.read_waveform", read)
    numbers = np.array([[50, 51], [2, 3], [4, 5]])
    audio = ClipAudio()(Record(str(path)), np.arange(60.0), numbers, 1.0, RNG(0))["audio"]
    assert len(seconds_read) == 2 and max(seconds_read) < 5
    for clip_audio, start in zip(audio, (50, 2, 4), strict=True):
        assert np.array_equal(clip_audio[0], log_mel_of(path, start, 2))


def test_rejects_sizes_below_1():
    with pytest.raises(ValueError, match="min_gap is 0, expected at least 1"):
        ClipAudio(min_gap=0)


# --- through the pipeline -------------------------------------------------------------------------


@dataclass
class RecordingSampler:
    """A sampler that keeps the frame numbers that it picked."""

    sampler: DecodeSampler
    picked: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.sampler, name)

    def __call__(self, *arguments):
        self.picked.append(self.sampler(*arguments))
        return self.picked[-1]


@pytest.mark.parametrize("seed", range(3))
def test_a_training_clip_gets_the_audio_of_its_own_time(video, seed):
    sampler = RecordingSampler(DecodeSampler(8, 4, target_fps=25))
    pipeline = ClipPipeline(VideoDecoder(), sampler, TRAIN, ClipAudio())
    sample = pipeline(Record(str(video), 3), RNG(seed))
    start = sampler.picked[0][0] / 25
    assert sample["audio"].shape == (1, 128, 80) and sample["label"] == 3
    assert np.array_equal(sample["audio"][0], log_mel_of(video, start, 32 / 25))
    # The audio of another time is different.
    assert not np.array_equal(sample["audio"][0], log_mel_of(video, start + 0.1, 32 / 25))


def test_frames_and_audio_have_the_same_order_of_views(video):
    sampler = DecodeSampler(4, 2, target_fps=25, test_mode=True, num_ensemble_views=3)
    crops = [JitterScale(32, 32), MultiCrop(32, test_mode=True, num_spatial_crops=3)]
    pipeline = ClipPipeline(VideoDecoder(), sampler, [*crops, *LATE], ClipAudio())
    assert pipeline.num_views == 9
    sample = pipeline(Record(str(video)), RNG(0))
    frames, audio = np.asarray(sample["frames"]), sample["audio"]
    assert frames.shape == (9, 4, 32, 32, 3) and audio.shape == (9, 1, 128, 80)
    with VideoDecoder().open(Record(str(video))) as clip:
        numbers = sampler(clip.num_frames, clip.fps, None).reshape(3, 4)
        for view in range(9):
            clip_numbers = numbers[view // 3]
            scaled = np.stack([cv2.resize(frame, (43, 32)) for frame in clip.read(clip_numbers)])
            left = (0, 6, 11)[view % 3]  # of 43 - 32
            crop = scaled[:, :, left : left + 32]
            assert np.abs(frames[view].astype(int) - crop).mean() < 12, view
            expected = log_mel_of(video, clip_numbers[0] / 25, 8 / 25)
            assert np.array_equal(audio[view, 0], expected), view
    finished = pipeline.finish(sample)
    assert {name: finished[name].shape for name in ("slow", "fast", "audio")} == {
        "slow": (9, 3, 1, 32, 32), "fast": (9, 3, 4, 32, 32), "audio": (9, 1, 128, 80),
    }  # fmt: skip


def test_audio_changes_no_random_draw_of_the_frames(video):
    def frames(audio, seed):
        pipeline = ClipPipeline(VideoDecoder(), DecodeSampler(8, 2, target_fps=25), TRAIN, audio)
        return np.asarray(pipeline(Record(str(video)), RNG(seed))["frames"])

    for seed in range(3):
        plain = frames(None, seed)
        assert np.array_equal(plain, frames(ClipAudio(), seed))
        assert np.array_equal(plain, frames(ClipAudio(misaligned=True), seed))
    assert not np.array_equal(frames(None, 0), frames(None, 1))


def test_audio_follows_the_frame_times_of_a_variable_rate(tmp_path):
    # 70 frames: 40 at 25 per second, then 30 at about 4 per second.
    pts = [*range(40), *range(60, 240, 6)]
    path = write_audio(tmp_path / "v.mkv", chirps(10), video={"num_frames": 70, "pts": pts})
    sampler = DecodeSampler(4, 2, target_fps=25, test_mode=True, num_ensemble_views=4)
    transforms = [JitterScale(32, 32), MultiCrop(32, test_mode=True), *LATE]
    pipeline = ClipPipeline(VideoDecoder(), sampler, transforms, ClipAudio())
    audio = pipeline(Record(str(path)), RNG(0))["audio"]
    with VideoDecoder().open(Record(str(path))) as clip:
        assert clip.num_frames == 70
        numbers = sampler(clip.num_frames, clip.fps, None).reshape(4, 4)
    for clip_audio, clip_numbers in zip(audio, numbers, strict=True):
        expected = log_mel_of(path, pts[clip_numbers[0]] / 25, 8 / 25)
        assert np.array_equal(clip_audio[0], expected)


def test_a_video_shorter_than_a_clip_repeats_its_last_time_step(tmp_path):
    path = write_audio(tmp_path / "short.mkv", chirps(0.6), video={"num_frames": 15})
    sampler = DecodeSampler(32, 2, target_fps=25)
    pipeline = ClipPipeline(VideoDecoder(), sampler, TRAIN, ClipAudio(misaligned=True))
    audio = pipeline(Record(str(path)), RNG(0))["audio"]
    complete = LogMel()(read_waveform(str(path)))
    assert np.array_equal(audio[0], nearest_steps(complete, 0, 64 / 25 * 62.5))
    assert np.array_equal(audio[0, -1], complete[-1])


def test_reports_missing_audio_but_not_silent_audio(tmp_path):
    silent = write_audio(tmp_path / "silent.mkv", np.zeros(40000), video={"num_frames": 50})
    mute = write_clip(tmp_path / "mute.mp4", num_frames=50)
    sampler = DecodeSampler(8, 2, target_fps=25)

    def read(path, **settings):
        pipeline = ClipPipeline(VideoDecoder(), sampler, TRAIN, ClipAudio(**settings))
        return pipeline(Record(str(path)), RNG(0))

    silence = read(silent)
    assert not silence["missing_audio"] and np.ptp(silence["audio"]) == 0
    message = "audio: no audio stream in it; missing_audio: zeros uses silence instead"
    with pytest.raises(StageError, match=message):
        read(mute)
    missing = read(mute, missing_audio="zeros", misaligned=True)
    assert missing["missing_audio"]
    assert np.array_equal(missing["audio"], silence["audio"])
    assert np.array_equal(missing["audio_negative"], silence["audio"])


def test_rejects_a_folder_of_frames(tmp_path):
    for number, frame in enumerate(random_frames(12), 1):
        cv2.imwrite(str(tmp_path / f"img_{number:05}.jpg"), frame)
    record = Record(str(tmp_path), num_frames=12, frame_pattern="img_{:05}.jpg")
    sampler = Sampler(4, 1, valid_mode=True)
    message = "decode: a folder of frames has no times and therefore no audio; use video files"
    for settings in ({}, {"missing_audio": "zeros"}):
        pipeline = ClipPipeline(FrameDecoder(), sampler, TRAIN[1:], ClipAudio(**settings))
        with pytest.raises(StageError, match=message):
            pipeline(record, RNG(0))


def test_workers_and_ranks_give_the_same_bytes(tmp_path):
    for number in range(4):
        write_audio(tmp_path / f"{number}.mkv", chirps(3, seed=number), video={"num_frames": 75})
    records = [Record(str(tmp_path / f"{number}.mkv"), number) for number in range(4)]
    sampler = DecodeSampler(8, 2, target_fps=25)
    pipeline = ClipPipeline(VideoDecoder(), sampler, TRAIN, ClipAudio(misaligned=True))
    names = ("frames", "audio", "audio_negative", "missing_audio")

    def bytes_of(batch, row):
        return [np.asarray(batch[name][row]).tobytes() for name in names]

    def epoch(num_workers, num_ranks):
        """Return the bytes of each record's sample by its index."""
        samples = {}
        for rank in range(num_ranks):
            shapes = (BatchShape(4 // num_ranks),)
            order = TrainOrder(4, shapes, seed=7, rank=rank, world_size=num_ranks)
            loader = Loader(ClipDataset(records, pipeline, seed=7), order, num_workers)
            try:
                for loaded in loader.epoch(1):
                    for row, index in enumerate(loaded.batch["index"].tolist()):
                        samples[index] = bytes_of(loaded.batch, row)
            finally:
                loader.close()
        return samples

    expected = epoch(0, 1)
    assert sorted(expected) == [0, 1, 2, 3]
    assert len({audio for _, audio, _, _ in expected.values()}) == 4
    assert all(audio != negative for _, audio, negative, _ in expected.values())
    assert epoch(2, 1) == expected and epoch(0, 2) == expected
