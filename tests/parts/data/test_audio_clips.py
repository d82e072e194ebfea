"""The sound of the very clip whose frames were picked: alone, and through ClipPipeline, loader and ranks."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from paddlevideo.data.audio_clips import ClipAudio, clip_spans, misaligned_start
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.clip_transforms import JitterScale, MultiCrop, PackOutput
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
    return write_audio(
        tmp_path_factory.mktemp("av") / "v.mkv", chirps(10), video={"num_frames": 250}
    )


def opened(path, sample, **part):
    """(record, times, numbers [C, T], fps) of a video and what a sampler picks of it."""
    record = Record(str(path), **part)
    with VideoDecoder().open(record) as clip:
        return (
            record,
            clip.times(),
            sample(clip.num_frames, clip.fps, RNG(1)).reshape(sample.num_views, -1),
            clip.fps,
        )


def test_spans_are_those_of_the_frames():
    times = np.arange(250) / 25
    numbers = np.array([np.arange(0, 50, 2), np.arange(100, 150, 2)])
    assert np.allclose(clip_spans(times, numbers, 25.0), [[0, 49 / 25], [4, 4 + 49 / 25]])
    assert np.allclose(clip_spans(times, numbers, 25.0, 2.0), [[0, 2], [4, 6]])
    uneven = np.cumsum(np.linspace(0.01, 0.09, 250))
    assert np.allclose(clip_spans(uneven, numbers, 25.0)[:, 0], [uneven[0], uneven[100]])


def test_each_clip_hears_its_own_time(video):
    whole = LogMel()(read_waveform(str(video)))
    sample = DecodeSampler(32, 2, test_mode=True, num_ensemble_views=10)
    record, times, numbers, fps = opened(video, sample)
    seconds = 32 * 2 / 30
    heard = ClipAudio()(record, times, numbers, fps, RNG(0), seconds, crops=3)
    assert heard["audio"].shape == (30, 1, 128, 80) and not heard["missing_audio"]
    for clip in range(10):
        start = times[numbers[clip, 0]]
        wanted = nearest_steps(whole, start * 62.5 + 1e-6, (start + seconds) * 62.5 + 1e-6)
        for crop in range(3):
            assert np.array_equal(heard["audio"][3 * clip + crop, 0], wanted), clip
        # Read alone, a clip gives the same rows as read with the others.
        alone = ClipAudio()(record, times, numbers[clip : clip + 1], fps, RNG(0), seconds)
        assert alone["audio"].shape == (1, 128, 80) and np.array_equal(alone["audio"][0], wanted)


def test_a_part_of_a_video_is_heard_there(video):
    sample = DecodeSampler(8, 2, valid_mode=True)
    whole, part = opened(video, sample), opened(video, sample, start_sec=6.0, end_sec=8.0)
    assert part[1][0] == pytest.approx(6.0, abs=0.001) and len(part[1]) == 50
    wanted = LogMel()(read_waveform(str(video)))
    start = part[1][part[2][0, 0]]
    end = part[1][part[2][0, -1]] + 1 / 25
    heard = ClipAudio()(*part, RNG(0))["audio"][0]
    assert np.array_equal(heard, nearest_steps(wanted, start * 62.5 + 1e-6, end * 62.5 + 1e-6))
    assert not np.array_equal(heard, ClipAudio()(*whole, RNG(0))["audio"][0])


def test_misaligned_starts_are_far_enough_and_uniform():
    rng, gap, length, total = RNG(0), 32, 133, 625
    for start in (0.0, 20.0, 100.0, 300.0, 492.0):
        drawn = np.array([misaligned_start(start, length, total, gap, rng) for _ in range(2000)])
        assert (
            (np.abs(drawn - start) >= gap).all()
            and drawn.min() >= 0
            and drawn.max() <= total - length
        )
        room = max(0, start - gap) + max(0, total - length - start - gap)
        if start - gap > 0:
            assert abs((drawn < start).mean() - (start - gap) / room) < 0.05
    # Too short for another whole clip: it runs past the end; too short even for that: none.
    late = [misaligned_start(5.0, 133, 150, gap, rng) for _ in range(100)]
    assert min(late) >= 37 and max(late) < 150
    assert misaligned_start(5.0, 133, 30, gap, rng) is None
    a, b = RNG(3), RNG(3)
    misaligned_start(5.0, 133, 30, gap, a), misaligned_start(5.0, 133, 625, gap, b)
    assert a.random() == b.random()  # what is drawn later does not depend on the video's length


def test_hard_negatives(video):
    record, times, numbers, fps = opened(video, DecodeSampler(32, 2, valid_mode=True))
    pairs = [
        ClipAudio(misaligned=True)(record, times, numbers, fps, RNG(seed), 64 / 30)
        for seed in (0, 0, 1)
    ]
    plain = ClipAudio()(record, times, numbers, fps, RNG(0), 64 / 30)
    for pair in pairs:
        assert np.array_equal(pair["audio"], plain["audio"])
        assert pair["audio_negative"].shape == (1, 128, 80)
        assert not np.array_equal(pair["audio_negative"], pair["audio"])
    assert np.array_equal(pairs[0]["audio_negative"], pairs[1]["audio_negative"])
    assert not np.array_equal(pairs[0]["audio_negative"], pairs[2]["audio_negative"])
    assert (
        ClipAudio(misaligned=True).random
        and not ClipAudio().random
        and "audio_negative" not in plain
    )


def test_a_video_without_another_clip_gives_its_own_sound(tmp_path):
    short = write_audio(tmp_path / "short.mkv", chirps(0.4), video={"num_frames": 10})
    heard = ClipAudio(misaligned=True)(
        *opened(short, DecodeSampler(32, 2, valid_mode=True)), RNG(0), 64 / 30
    )
    assert not heard["missing_audio"] and np.array_equal(heard["audio_negative"], heard["audio"])
    assert np.isfinite(heard["audio"]).all() and heard["audio"].std() > 0.1


def test_clips_without_sound(tmp_path):
    mute, early = tmp_path / "mute.mp4", tmp_path / "early.mkv"
    write_clip(mute, num_frames=100)
    write_audio(early, chirps(2), video={"num_frames": 250})
    sample = DecodeSampler(8, 2, test_mode=True, num_ensemble_views=5)
    for path, why in (
        (mute, "no audio stream"),
        (early, r"a clip begins at 7.\d+ s, the sound ends at 2.0"),
    ):
        found = opened(path, sample)
        with pytest.raises(
            NoAudioError, match=f"{why}.*missing_audio: zeros would take silence in its place"
        ):
            ClipAudio()(*found, RNG(0))
        heard = ClipAudio(missing_audio="zeros", misaligned=True)(*found, RNG(0))
        assert heard["missing_audio"]
        # Silence is what the front end makes of it, and what clips get that begin when the sound is over.
        assert np.array_equal(
            heard["audio"][-1, 0], np.tile(LogMel()(np.zeros(512, np.float32)), (128, 1))
        )
        assert (heard["audio"][0].std() > 0.1) == (path == early)
    late = opened(early, DecodeSampler(8, 2, valid_mode=True))
    with pytest.raises(NoAudioError, match="no sound between 4"):
        ClipAudio()(*late, RNG(0))
    (tmp_path / "bad.wav").write_bytes(b"RIFF" + bytes(200))
    with pytest.raises(DecodeError) as error:
        ClipAudio(missing_audio="zeros")(
            Record(str(tmp_path / "bad.wav")), np.arange(100) / 25, late[2][:, :8] * 0, 25.0, RNG(0)
        )
    assert not isinstance(error.value, NoAudioError)


def test_far_clips_of_a_long_video_are_read_apart(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "long.mkv", chirps(60), video={"num_frames": 60, "fps": 1})
    whole = LogMel()(read_waveform(str(path)))
    asked = []
    monkeypatch.setattr(
        "paddlevideo.data.audio_clips.read_waveform",
        lambda path, rate, start, end, *more: (
            asked.append(end - start) or read_waveform(path, rate, start, end, *more)
        ),
    )
    numbers = np.array([[50, 51], [2, 3], [4, 5]])
    heard = ClipAudio()(Record(str(path)), np.arange(60.0), numbers, 1.0, RNG(0))["audio"]
    assert len(asked) == 2 and max(asked) < 5
    for rows, start in zip(heard, (50, 2, 4), strict=True):
        assert np.array_equal(
            rows[0], nearest_steps(whole, start * 62.5 + 1e-6, (start + 2) * 62.5 + 1e-6)
        )


def test_settings_that_mean_nothing():
    with pytest.raises(ValueError, match="min_gap is 0"):
        ClipAudio(min_gap=0)


# --- through the pipeline -------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """A sampler that remembers what it picked."""

    sampler: DecodeSampler
    picked: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.sampler, name)

    def __call__(self, *arguments):
        self.picked.append(self.sampler(*arguments))
        return self.picked[-1]


def rows_of(path, start, seconds):
    """What a clip must hear, from the whole sound of the file."""
    return nearest_steps(
        LogMel()(read_waveform(str(path))), start * 62.5 + 1e-6, (start + seconds) * 62.5 + 1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_training_clip_hears_its_own_time(video, seed):
    seen = Seen(DecodeSampler(8, 4, target_fps=25))
    pipeline = ClipPipeline(VideoDecoder(), seen, TRAIN, ClipAudio())
    sample = pipeline(Record(str(video), 3), RNG(seed))
    start = seen.picked[0][0] / 25
    assert sample["audio"].shape == (1, 128, 80) and sample["label"] == 3
    assert np.array_equal(sample["audio"][0], rows_of(video, start, 32 / 25))
    assert not np.array_equal(sample["audio"][0], rows_of(video, start + 0.1, 32 / 25)), (
        "the rows tell times apart"
    )


def test_views_are_clip_by_clip_in_pictures_and_sound(video):
    sampler = DecodeSampler(4, 2, target_fps=25, test_mode=True, num_ensemble_views=3)
    crops = [JitterScale(32, 32), MultiCrop(32, test_mode=True, num_spatial_crops=3)]
    pipeline = ClipPipeline(VideoDecoder(), sampler, [*crops, *LATE], ClipAudio())
    sample = pipeline(Record(str(video)), RNG(0))
    frames, sound = np.asarray(sample["frames"]), sample["audio"]
    assert (
        frames.shape == (9, 4, 32, 32, 3)
        and sound.shape == (9, 1, 128, 80)
        and pipeline.num_views == 9
    )
    with VideoDecoder().open(Record(str(video))) as clip:
        numbers = sampler(clip.num_frames, clip.fps, None).reshape(3, 4)
        for view in range(9):
            number = numbers[view // 3]
            scaled = np.stack([cv2.resize(frame, (43, 32)) for frame in clip.read(number)])
            left = (0, 6, 11)[view % 3]  # of 43 - 32
            assert np.abs(frames[view].astype(int) - scaled[:, :, left : left + 32]).mean() < 12, (
                view
            )
            assert np.array_equal(sound[view, 0], rows_of(video, number[0] / 25, 8 / 25)), view
    finished = pipeline.finish(sample)
    assert {name: finished[name].shape for name in ("slow", "fast", "audio")} == {
        "slow": (9, 3, 1, 32, 32), "fast": (9, 3, 4, 32, 32), "audio": (9, 1, 128, 80),
    }  # fmt: skip


def test_sound_changes_no_visual_draw(video):
    def frames(audio, seed):
        pipeline = ClipPipeline(VideoDecoder(), DecodeSampler(8, 2, target_fps=25), TRAIN, audio)
        return np.asarray(pipeline(Record(str(video)), RNG(seed))["frames"])

    for seed in range(3):
        plain = frames(None, seed)
        assert np.array_equal(plain, frames(ClipAudio(), seed)) and np.array_equal(
            plain, frames(ClipAudio(misaligned=True), seed)
        )
    assert not np.array_equal(frames(None, 0), frames(None, 1))


def test_a_frame_rate_that_varies(tmp_path):
    """Sound is that of the times when a clip's frames are shown, not of where an even rate would put them."""
    pts = [*range(40), *range(60, 240, 6)]  # 70 frames: 1.6 s at 25 a second, then about 4
    path = write_audio(tmp_path / "v.mkv", chirps(10), video={"num_frames": 70, "pts": pts})
    sampler = DecodeSampler(4, 2, target_fps=25, test_mode=True, num_ensemble_views=4)
    pipeline = ClipPipeline(
        VideoDecoder(),
        sampler,
        [JitterScale(32, 32), MultiCrop(32, test_mode=True), *LATE],
        ClipAudio(),
    )
    sound = pipeline(Record(str(path)), RNG(0))["audio"]
    with VideoDecoder().open(Record(str(path))) as clip:
        assert clip.num_frames == 70
        numbers = sampler(clip.num_frames, clip.fps, None).reshape(4, 4)
    for rows, number in zip(sound, numbers, strict=True):
        assert np.array_equal(rows[0], rows_of(path, pts[number[0]] / 25, 8 / 25))


def test_a_video_that_is_shorter_than_a_clip(tmp_path):
    path = write_audio(tmp_path / "short.mkv", chirps(0.6), video={"num_frames": 15})
    pipeline = ClipPipeline(
        VideoDecoder(), DecodeSampler(32, 2, target_fps=25), TRAIN, ClipAudio(misaligned=True)
    )
    sample = pipeline(Record(str(path)), RNG(0))
    whole = LogMel()(read_waveform(str(path)))
    assert np.array_equal(sample["audio"][0], nearest_steps(whole, 0, 64 / 25 * 62.5))
    assert np.array_equal(sample["audio"][0, -1], whole[-1]), (
        "its last row is repeated, as its last frame"
    )


def test_silence_is_a_sound_and_a_missing_one_is_told(tmp_path):
    silent = write_audio(tmp_path / "silent.mkv", np.zeros(40000), video={"num_frames": 50})
    mute = write_clip(tmp_path / "mute.mp4", num_frames=50)

    def pipeline(**settings):
        return ClipPipeline(
            VideoDecoder(), DecodeSampler(8, 2, target_fps=25), TRAIN, ClipAudio(**settings)
        )

    heard = pipeline()(Record(str(silent)), RNG(0))
    assert not heard["missing_audio"] and np.ptp(heard["audio"]) == 0
    with pytest.raises(
        StageError,
        match="audio: no audio stream in it; missing_audio: zeros would take silence in its place",
    ):
        pipeline()(Record(str(mute)), RNG(0))
    nothing = pipeline(missing_audio="zeros", misaligned=True)(Record(str(mute)), RNG(0))
    assert nothing["missing_audio"] and np.array_equal(nothing["audio"], heard["audio"])
    assert np.array_equal(nothing["audio_negative"], heard["audio"])


def test_a_folder_of_frames_has_no_sound(tmp_path):
    for number, frame in enumerate(random_frames(12), 1):
        cv2.imwrite(str(tmp_path / f"img_{number:05}.jpg"), frame)
    record = Record(str(tmp_path), num_frames=12, frame_pattern="img_{:05}.jpg")
    for settings in ({}, {"missing_audio": "zeros"}):
        pipeline = ClipPipeline(
            FrameDecoder(), Sampler(4, 1, valid_mode=True), TRAIN[1:], ClipAudio(**settings)
        )
        with pytest.raises(
            StageError,
            match="decode: a folder of frames has no times, and so no sound; use video files",
        ):
            pipeline(record, RNG(0))


def test_workers_and_ranks_give_the_same_bytes(tmp_path):
    for number in range(4):
        write_audio(tmp_path / f"{number}.mkv", chirps(3, seed=number), video={"num_frames": 75})
    records = [Record(str(tmp_path / f"{number}.mkv"), number) for number in range(4)]
    pipeline = ClipPipeline(
        VideoDecoder(), DecodeSampler(8, 2, target_fps=25), TRAIN, ClipAudio(misaligned=True)
    )

    def epoch(workers, ranks):
        found = {}
        for rank in range(ranks):
            order = TrainOrder(4, (BatchShape(4 // ranks),), seed=7, rank=rank, world_size=ranks)
            loader = Loader(ClipDataset(records, pipeline, seed=7), order, workers)
            try:
                for loaded in loader.epoch(1):
                    for place, index in enumerate(loaded.batch["index"].tolist()):
                        names = ("frames", "audio", "audio_negative", "missing_audio")
                        found[index] = [
                            np.asarray(loaded.batch[name][place]).tobytes() for name in names
                        ]
            finally:
                loader.close()
        return found

    alone = epoch(0, 1)
    assert sorted(alone) == [0, 1, 2, 3] and len({sounds[1] for sounds in alone.values()}) == 4
    assert all(sounds[1] != sounds[2] for sounds in alone.values())
    assert epoch(2, 1) == alone and epoch(0, 2) == alone
