"""Audio data: front ends, lists, the pipeline of an audio model, and the sound of a clip of frames."""

import logging

import numpy as np
import pytest

from benchmarks import audio as benchmark
from paddlevideo.data.audio import DecibelMel, LogMel, mel_filters, nearest_rows, overlap_window
from paddlevideo.data.audio_clips import ClipAudio, clip_spans, misaligned_start, negative_order, pair_valid
from paddlevideo.data.audio_pipeline import AudioDataset, AudioFeatureDataset, AudioPipeline, LoadAudioFeature, MissingAudio
from paddlevideo.data.audio_transforms import AudioFeatureSelector, FormatAudioShape, SampleFrames
from paddlevideo.data.decode import VideoDecoder
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset, EvalOrder, Loader
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.sampling import DecodeSampler
from paddlevideo.data.waveform import NoAudioError, read_waveform
from paddlevideo.registry import lookup
from paddlevideo.sample import DecodeError, Record
from tests.clips import write_clip
from tests.sounds import chirps, tone, write_sound

RNG = np.random.default_rng


# --- front ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", [DecibelMel(), LogMel(), DecibelMel(n_fft=1024, hop_length=160), LogMel(n_fft=400)])
def test_a_row_each_hop(feature):
    for seconds in (0.5, 2.048, 10.0):
        rows = feature(chirps(seconds))
        assert rows.dtype == np.float32 and rows.flags["C_CONTIGUOUS"] and np.isfinite(rows).all()
        assert abs(len(rows) - seconds * feature.rows_per_sec) <= 1 + feature.n_fft / feature.hop_length
    for number in (1, 2, feature.n_fft - 1, feature.n_fft, feature.n_fft + feature.hop_length - 1):
        assert len(feature(np.full(number, 0.1, np.float32))) >= 1


def test_a_tone_stands_where_it_sounds():
    sound = np.concatenate([np.zeros(16000, np.float32), tone(1, hertz=1000), np.zeros(16000, np.float32)])
    for feature in (DecibelMel(), LogMel()):
        rows = feature(sound)
        loud = np.flatnonzero(rows.max(axis=1) > rows.min() + 0.5 * np.ptp(rows))
        # Rows of windows that hold a part of it, one window of 32 ms at both ends.
        assert abs(loud[0] / feature.rows_per_sec - 1.0) < 0.04 and abs(loud[-1] / feature.rows_per_sec - 2.0) < 0.04
        filters = mel_filters(16000, 512, 80, feature.fmin, feature.fmax, "slaney" if feature.fmin else "htk")
        assert rows[len(rows) // 2].argmax() == filters[32].argmax()  # bin 32 is 1 kHz


def test_level_counts_for_one_and_not_for_the_other():
    quiet, loud = chirps(1) * np.float32(0.1), chirps(1)
    assert np.abs(DecibelMel()(quiet) - DecibelMel()(loud)).max() < 1e-5
    assert np.abs((LogMel()(loud) - LogMel()(quiet)).mean() - np.log(100) / 4.66) < 1e-2


def test_windows_overlap_to_one():
    for n_fft, hop in ((512, 256), (1024, 256), (1280, 320), (400, 160)):
        squares = overlap_window(n_fft, hop) ** 2
        assert np.allclose([squares[place::hop].sum() for place in range(hop)], 1)


def test_what_is_shared_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        mel_filters(16000, 512, 80, 0, 8000, "htk")[0, 0] = 1
    assert mel_filters(16000, 512, 80, 0, 8000, "htk") is mel_filters(16000, 512, 80, 0, 8000, "htk")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DecibelMel(hop_length=0), "DecibelMel: hop_length is 0, expected at least 1"),
        (lambda: DecibelMel(hop_length=600), "hop_length 600 leaves out samples between windows of n_fft 512"),
        (lambda: DecibelMel(sample_rate=8000), "fmax 7600 Hz, expected 0 <= fmin < fmax <= 4000 Hz, half the sample_rate"),
        (lambda: LogMel(std=0), "LogMel: std is 0"),
        (lambda: LogMel()(np.zeros((2, 16000), np.float32)), r"float32 \[2, 16000\], expected float \[samples\], mono"),
        (lambda: LogMel()(np.zeros(16000, np.int16)), r"int16 \[16000\]"),
        (lambda: DecibelMel()(np.zeros(0, np.float32)), "at least one"),
    ],
)
def test_front_ends_refuse(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_the_benchmark_runs(monkeypatch):
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    groups = list(benchmark.run(1))
    assert [len(group.rows) for group in groups] in ([1, 1], [2, 2]) and "10 s at 16000 Hz" in groups[0].text()


def test_nearest_rows():
    rows = np.arange(10)
    assert nearest_rows(rows, 0, 9.0, 4).tolist() == [0, 3, 6, 9]
    assert nearest_rows(rows, 8, 20, 4).tolist() == [8, 9, 9, 9]
    assert nearest_rows(rows, 2, 4, 5).tolist() == [2, 2, 3, 3, 4]


# --- frames and rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clips", [1, 3, 10])
@pytest.mark.parametrize("total", [1, 2, 50, 63, 64, 65, 100, 300])
def test_frames_exist(total, clips):
    for sample in (SampleFrames(64, 1, clips), SampleFrames(64, 1, clips, True), SampleFrames(64, 1, clips, True, "ends")):
        for seed in range(3):
            numbers = sample(total, 0.0, RNG(seed)).reshape(clips, 64)
            assert numbers.min() >= 0 and numbers.max() < total and numbers.dtype == np.int64
            if total >= 64:
                assert (np.diff(numbers) == 1).all() and (np.diff(numbers[:, 0]) >= 0).all()
        assert sample.random != sample.test_mode and (sample.num_frames, sample.num_views) == (64, clips)


def test_no_clip_is_empty():
    select = AudioFeatureSelector(128)
    for total in (1, 2, 5, 20, 63, 64, 100, 300):
        for length in (1, 2, 40, 127, 128, 129, 626):
            for clip in SampleFrames(64, 1, 4, True)(total, 0, RNG(0)).reshape(4, 64):
                start, end = select.span(clip, total, length)
                assert 0 <= start < end <= min(length, start + 128)
                if total < 64:
                    assert end - start == min(128, length)  # a short video is heard whole


def test_rows_are_cut_and_filled_up():
    rows = RNG(0).random((300, 80), np.float32)
    frames = np.stack([np.arange(64), np.arange(236, 300)])
    out = AudioFeatureSelector(128)({"feature": rows, "frame_inds": frames, "total_frames": 300, "more": 1}, None)
    assert out["audio"].shape == (2, 128, 80) and out["more"] == 1 and "feature" not in out
    assert np.array_equal(out["audio"][0, :63], rows[1:64]) and not out["audio"][0, 63:].any()
    assert np.array_equal(out["audio"][1, :63], rows[237:300]) and not out["audio"][1, 63:].any()
    shaped = FormatAudioShape()(out, None)
    assert shaped["audio"].shape == (2, 1, 128, 80)
    with pytest.raises(ValueError, match="name this step once"):
        FormatAudioShape()(shaped, None)


# --- lists --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A feature, a wav and a video of the same sound, one video without sound."""
    (tmp_path / "a b").mkdir()
    write_sound(tmp_path / "a b" / "clip 1.wav", chirps(4))
    np.save(tmp_path / "a b" / "clip 1.npy", DecibelMel()(read_waveform(str(tmp_path / "a b" / "clip 1.wav"))))
    write_sound(tmp_path / "clip2.mkv", chirps(4), video={"num_frames": 100})
    write_clip(tmp_path / "mute.mp4", num_frames=8)
    return tmp_path


def write_list(folder, *lines):
    path = folder / "all.list"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_lines_are_path_num_frames_label(folder):
    path = write_list(folder, "a b/clip 1 100 3", "a b/clip 1.wav 100 1", "clip2.mkv 100 0")
    records = AudioFeatureDataset(path).load().records
    assert [(r.id, r.num_frames, r.label) for r in records] == [
        ("a b/clip 1.npy", 100, 3), ("a b/clip 1.wav", 100, 1), ("clip2.mkv", 100, 0),
    ]  # fmt: skip
    assert AudioDataset(path).load().records[0].id == "a b/clip 1.wav"
    assert AudioFeatureDataset(path, str(folder)).load().records[1].path == str(folder / "a b" / "clip 1.wav")
    with pytest.raises(DatasetError, match=r"all.list:1: 'clip2.mkv 0' is not 'path num_frames label'"):
        AudioFeatureDataset(write_list(folder, "clip2.mkv 0")).load()
    (folder / "t.csv").write_text("path,label\nclip2.mkv,0\n", encoding="utf-8")
    assert AudioFeatureDataset(str(folder / "t.csv")).load().records[0].num_frames is None


def test_a_folder_per_class(folder, tmp_path):
    found = AudioFeatureDataset(str(folder)).load()
    assert found.class_names == ["a b"] and [r.id for r in found.records] == ["a b/clip 1.npy", "a b/clip 1.wav"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="expected none/<class>"):
        AudioFeatureDataset(str(tmp_path / "none")).load()


def test_names_of_the_reference():
    assert lookup("dataset", "AudioFeatureDataset").make is AudioFeatureDataset
    assert lookup("dataset", "AudioDataset").make("x").suffix == ".wav"
    for kind, name in (("decode", "LoadAudioFeature"), ("sample", "SampleFrames"), ("transform", "AudioFeatureSelector")):
        assert lookup(kind, name).make
    assert "pad_method" in lookup("decode", "LoadAudioFeature").ignores


# --- pipeline -------------------------------------------------------------------------------------------------------------


def pipeline(clips: int = 1, test: bool = True, **decode) -> AudioPipeline:
    steps = [AudioFeatureSelector(128), FormatAudioShape("NCTF")]
    return LoadAudioFeature.pipeline(LoadAudioFeature(**decode), SampleFrames(64, 1, clips, test), steps)


def test_a_feature_a_wav_and_a_video_give_the_same(folder):
    feature = pipeline()(Record(str(folder / "a b" / "clip 1.npy"), 2, num_frames=100), RNG(0))
    assert feature["audio"].shape == (1, 1, 128, 80) and feature["audio"].dtype == np.float32
    assert feature["label"] == 2 and not feature["missing_audio"]
    for name in ("a b/clip 1.wav", "clip2.mkv"):
        sample = pipeline()(Record(str(folder / name), num_frames=100), RNG(0))
        assert np.array_equal(sample["audio"], feature["audio"]) and sample["label"] == -1
    # Without a number in the list: the video's own; 30 a second where there is none.
    assert np.array_equal(pipeline()(Record(str(folder / "clip2.mkv")), RNG(0))["audio"], feature["audio"])
    with LoadAudioFeature().open(Record(str(folder / "a b" / "clip 1.wav"))) as clip:
        assert clip.num_frames == 120 and clip.rows.shape == (251, 80)
    part = pipeline()(Record(str(folder / "clip2.mkv"), start_sec=1.0, end_sec=3.0), RNG(0))
    assert not np.array_equal(part["audio"], feature["audio"])
    with LoadAudioFeature().open(Record(str(folder / "clip2.mkv"), start_sec=1.0, end_sec=3.0)) as clip:
        assert clip.num_frames == 50 and clip.rows.shape == (126, 80)


def test_clips_and_draws(folder):
    record = Record(str(folder / "clip2.mkv"), 0, num_frames=100)
    assert pipeline(10)(record, RNG(0))["audio"].shape == (10, 1, 128, 80)
    train = pipeline(1, test=False)
    assert train.random and not pipeline().random
    drawn = [train(record, RNG(seed))["audio"] for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


def test_as_loader_and_engine_use_it(folder):
    records = [
        Record(str(folder / "clip2.mkv"), 0, num_frames=100),
        Record(str(folder / "a b" / "clip 1.npy"), 1, num_frames=100),
    ]
    made = pipeline(2).synthetic()
    assert made["audio"].shape == (2, 1, 128, 80)
    for workers in (0, 1):
        loader = Loader(ClipDataset(records, pipeline(2)), EvalOrder(2, 2), workers)
        (loaded,) = loader.epoch(0)
        loader.close()
        assert loaded.batch["audio"].shape == (2, 2, 1, 128, 80) and loaded.batch["label"].tolist() == [0, 1]
        done = pipeline(2).finish({name: loaded.batch[name] for name in AudioPipeline.travels})
        assert done["audio"].dtype == np.float32 and len(AudioPipeline.travels["audio"].shape) == done["audio"].ndim
    with pytest.raises(ValueError, match="clips of sound have one shape"):
        pipeline().shaped(None)


def test_missing_audio_is_an_error_or_counted(folder, caplog):
    caplog.set_level(logging.WARNING, "paddlevideo")
    records = [
        Record(str(folder / "mute.mp4"), 0, num_frames=8),
        Record(str(folder / "none.npy"), 1, num_frames=8),
        Record(str(folder / "clip2.mkv"), 1, num_frames=100),
    ]
    for record, why in zip(records[:2], ("no audio stream in it", "no such feature file"), strict=True):
        with pytest.raises(StageError, match=f"decode: {why}; missing_audio: zeros would take silence in its place"):
            pipeline()(record, RNG(0))
    loader = Loader(ClipDataset(records, pipeline(missing_audio="zeros")), EvalOrder(3, 3))
    (loaded,) = loader.epoch(0)
    assert loaded.batch["missing_audio"].tolist() == [True, True, False] and not loaded.batch["audio"][:2].any()
    count = MissingAudio(records)
    assert str(count) == ""
    count.add(loaded.batch)
    count.add(loaded.batch)
    assert str(count) == "2 of 3 records have no sound (missing_audio: zeros)"
    assert [r.message for r in caplog.records] == [
        f"no sound in {record.path}: silence takes its place (missing_audio: zeros)" for record in records[:2]
    ]


def test_damage_is_an_error_either_way(folder):
    (folder / "broken.wav").write_bytes(b"RIFF" + bytes(100))
    (folder / "broken.npy").write_bytes((folder / "a b" / "clip 1.npy").read_bytes()[:1000])
    (folder / "empty.npy").touch()
    np.save(folder / "turned.npy", np.zeros((80, 300), np.float32))
    np.save(folder / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(folder / "many.npz", a=np.zeros(3))
    (folder / "many.npz").rename(folder / "many.npy")
    np.save(folder / "nan.npy", np.full((300, 80), np.nan, np.float32))
    wrong = {
        "broken.wav": "decode: ",
        "broken.npy": "decode: no NumPy feature, or cut short",
        "empty.npy": "decode: no NumPy feature, or cut short",
        "turned.npy": r"decode: the feature is float32 \[80, 300\], expected float \[rows, 80\]",
        "objects.npy": "decode: no NumPy feature, or cut short .*Python objects in dtype",
        "many.npy": "decode: the feature is an archive of arrays",
        "nan.npy": "numbers that are not finite",
    }
    for name, why in wrong.items():
        with pytest.raises(StageError, match=why):
            pipeline(missing_audio="zeros")(Record(str(folder / name), num_frames=100), RNG(0))
    with pytest.raises(StageError, match="a feature is taken whole"):
        pipeline()(Record(str(folder / "a b" / "clip 1.npy"), start_sec=1.0), RNG(0))


def test_steps_that_are_missing_are_named(folder):
    record = Record(str(folder / "clip2.mkv"), num_frames=100)
    with pytest.raises(StageError, match="gives no audio but feature, .*AudioFeatureSelector"):
        AudioPipeline(LoadAudioFeature(), SampleFrames(64, test_mode=True), [])(record, RNG(0))
    with pytest.raises(StageError, match=r"gives audio \[1, 128, 80\], .*FormatAudioShape"):
        AudioPipeline(LoadAudioFeature(), SampleFrames(64, test_mode=True), [AudioFeatureSelector()])(record, RNG(0))
    with pytest.raises(ValueError, match="fmax 7600 Hz"):
        LoadAudioFeature(sample_rate=8000)


# --- the sound of a clip of frames ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_sound(tmp_path_factory.mktemp("av") / "v.mkv", chirps(10), video={"num_frames": 250})


def opened(path, sample, **part):
    """(record, times, numbers [C, T], fps) of a video and what a sampler picks of it."""
    record = Record(str(path), **part)
    with VideoDecoder().open(record) as clip:
        return record, clip.times(), sample(clip.num_frames, clip.fps, RNG(1)).reshape(sample.num_views, -1), clip.fps


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
        wanted = nearest_rows(whole, start * 62.5 + 1e-6, (start + seconds) * 62.5 + 1e-6)
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
    assert np.array_equal(heard, nearest_rows(wanted, start * 62.5 + 1e-6, end * 62.5 + 1e-6))
    assert not np.array_equal(heard, ClipAudio()(*whole, RNG(0))["audio"][0])


def test_misaligned_starts_are_far_enough_and_uniform():
    rng, gap, length, total = RNG(0), 32, 133, 625
    for start in (0.0, 20.0, 100.0, 300.0, 492.0):
        drawn = np.array([misaligned_start(start, length, total, gap, rng) for _ in range(2000)])
        assert (np.abs(drawn - start) >= gap).all() and drawn.min() >= 0 and drawn.max() <= total - length
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
    pairs = [ClipAudio(misaligned=True)(record, times, numbers, fps, RNG(seed), 64 / 30) for seed in (0, 0, 1)]
    plain = ClipAudio()(record, times, numbers, fps, RNG(0), 64 / 30)
    for pair in pairs:
        assert np.array_equal(pair["audio"], plain["audio"]) and pair["audio_valid"]
        assert pair["audio_negative"].shape == (1, 128, 80)
        assert not np.array_equal(pair["audio_negative"], pair["audio"])
    assert np.array_equal(pairs[0]["audio_negative"], pairs[1]["audio_negative"])
    assert not np.array_equal(pairs[0]["audio_negative"], pairs[2]["audio_negative"])
    assert ClipAudio(misaligned=True).random and not ClipAudio().random and "audio_negative" not in plain


def test_pairs_that_cannot_teach(tmp_path):
    short = write_sound(tmp_path / "short.mkv", chirps(0.4), video={"num_frames": 10})
    silent = write_sound(tmp_path / "silent.mkv", np.zeros(160000), video={"num_frames": 250})
    for path in (short, silent):
        record, times, numbers, fps = opened(path, DecodeSampler(32, 2, valid_mode=True))
        heard = ClipAudio(misaligned=True)(record, times, numbers, fps, RNG(0), 64 / 30)
        assert not heard["audio_valid"] and not heard["missing_audio"] and np.isfinite(heard["audio_negative"]).all()
    spectra = RNG(0).standard_normal((3, 1, 128, 80)).astype(np.float32)
    assert pair_valid(spectra, spectra[::-1]).tolist() == [True, False, True]


def test_clips_without_sound(tmp_path):
    mute, early = tmp_path / "mute.mp4", tmp_path / "early.mkv"
    write_clip(mute, num_frames=100)
    write_sound(early, chirps(2), video={"num_frames": 250})
    sample = DecodeSampler(8, 2, test_mode=True, num_ensemble_views=5)
    for path, why in ((mute, "no audio stream"), (early, r"a clip begins at 7.\d+ s, the sound ends at 2.0")):
        found = opened(path, sample)
        with pytest.raises(NoAudioError, match=f"{why}.*missing_audio: zeros would take silence in its place"):
            ClipAudio()(*found, RNG(0))
        heard = ClipAudio(missing_audio="zeros", misaligned=True)(*found, RNG(0))
        assert heard["missing_audio"] and not heard["audio_valid"][-1]
        # Silence is what the front end makes of it, and what clips get that begin when the sound is over.
        assert np.array_equal(heard["audio"][-1, 0], np.tile(LogMel()(np.zeros(512, np.float32)), (128, 1)))
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
    path = write_sound(tmp_path / "long.mkv", chirps(60), video={"num_frames": 60, "fps": 1})
    whole = LogMel()(read_waveform(str(path)))
    asked = []
    monkeypatch.setattr(
        "paddlevideo.data.audio_clips.read_waveform",
        lambda path, rate, start, end, *more: asked.append(end - start) or read_waveform(path, rate, start, end, *more),
    )
    numbers = np.array([[50, 51], [2, 3], [4, 5]])
    heard = ClipAudio()(Record(str(path)), np.arange(60.0), numbers, 1.0, RNG(0))["audio"]
    assert len(asked) == 2 and max(asked) < 5
    for rows, start in zip(heard, (50, 2, 4), strict=True):
        assert np.array_equal(rows[0], nearest_rows(whole, start * 62.5 + 1e-6, (start + 2) * 62.5 + 1e-6))


def test_negative_order():
    assert negative_order(4, 0).tolist() == [1, 2, 3, 0]
    assert negative_order(4, 96).tolist() == [1, 2, 0, 3]
    assert negative_order(8, 200).tolist() == [1, 2, 3, 4, 5, 0, 6, 7]
    assert negative_order(1, 0).tolist() == [0] and negative_order(1, 96).tolist() == [0]
    assert negative_order(2, 96).tolist() == [0, 1]
    with pytest.raises(ValueError, match="min_gap is 0"):
        ClipAudio(min_gap=0)
