"""Audio data: features, lists, and the pipeline of an audio model."""

import logging

import numpy as np
import pytest

from paddlevideo.benchmarks import audio as benchmark
from paddlevideo.config.registry import lookup
from paddlevideo.data.audio_pipeline import AudioPipeline, LoadAudioFeature
from paddlevideo.data.audio_transforms import AudioFeatureSelector, FormatAudioShape, SampleFrames
from paddlevideo.data.failures import MissingAudio
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.pipeline import StageError
from paddlevideo.media.log_mel import DecibelMel, LogMel, mel_filters, nearest_steps, overlap_window
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import Record
from tests.audio_clips import chirps, tone, write_audio
from tests.clips import write_clip

RNG = np.random.default_rng


# --- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "feature", [DecibelMel(), LogMel(), DecibelMel(n_fft=1024, hop_length=160), LogMel(n_fft=400)]
)
def test_computes_a_time_step_per_hop(feature):
    for seconds in (0.5, 2.048, 10.0):
        steps = feature(chirps(seconds))
        assert (
            steps.dtype == np.float32 and steps.flags["C_CONTIGUOUS"] and np.isfinite(steps).all()
        )
        assert (
            abs(len(steps) - seconds * feature.steps_per_sec)
            <= 1 + feature.n_fft / feature.hop_length
        )
    for number in (1, 2, feature.n_fft - 1, feature.n_fft, feature.n_fft + feature.hop_length - 1):
        assert len(feature(np.full(number, 0.1, np.float32))) >= 1


def test_locates_a_tone_in_time_and_frequency():
    wave = np.concatenate(
        [np.zeros(16000, np.float32), tone(1, hertz=1000), np.zeros(16000, np.float32)]
    )
    for feature in (DecibelMel(), LogMel()):
        steps = feature(wave)
        loud = np.flatnonzero(steps.max(axis=1) > steps.min() + 0.5 * np.ptp(steps))
        # Time steps whose window overlaps the tone, one window of 32 ms at both ends.
        assert (
            abs(loud[0] / feature.steps_per_sec - 1.0) < 0.04
            and abs(loud[-1] / feature.steps_per_sec - 2.0) < 0.04
        )
        filters = mel_filters(
            16000, 512, 80, feature.fmin, feature.fmax, "slaney" if feature.fmin else "htk"
        )
        assert steps[len(steps) // 2].argmax() == filters[32].argmax()  # bin 32 is 1 kHz


@pytest.mark.parametrize("num_steps", [1, 2, 5, 33, 128, 129, 200])
def test_a_time_step_has_the_same_bits_in_any_company(num_steps):
    wave, size = chirps(10), 512 + 256 * (num_steps - 1)
    complete = LogMel()(wave)
    for start in range(0, 400, 7):
        part = LogMel()(wave[start * 256 : start * 256 + size])
        np.testing.assert_array_equal(part, complete[start : start + num_steps])


def test_only_log_mel_depends_on_the_level():
    quiet, loud = chirps(1) * np.float32(0.1), chirps(1)
    assert np.abs(DecibelMel()(quiet) - DecibelMel()(loud)).max() < 1e-5
    assert np.abs((LogMel()(loud) - LogMel()(quiet)).mean() - np.log(100) / 4.66) < 1e-2


def test_squared_windows_sum_to_one():
    for n_fft, hop in ((512, 256), (1024, 256), (1280, 320), (400, 160)):
        squares = overlap_window(n_fft, hop) ** 2
        assert np.allclose([squares[start::hop].sum() for start in range(hop)], 1)


def test_shares_read_only_filters():
    with pytest.raises(ValueError, match="read-only"):
        mel_filters(16000, 512, 80, 0, 8000, "htk")[0, 0] = 1
    assert mel_filters(16000, 512, 80, 0, 8000, "htk") is mel_filters(
        16000, 512, 80, 0, 8000, "htk"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DecibelMel(hop_length=0), "DecibelMel: hop_length is 0, expected at least 1"),
        (
            lambda: DecibelMel(hop_length=600),
            "hop_length 600 leaves out samples between windows of n_fft 512",
        ),
        (
            lambda: DecibelMel(sample_rate=8000),
            "fmax 7600 Hz, expected 0 <= fmin < fmax <= 4000 Hz, half the sample_rate",
        ),
        (lambda: LogMel(std=0), "LogMel: std is 0"),
        (
            lambda: LogMel()(np.zeros((2, 16000), np.float32)),
            r"float32 \[2, 16000\], expected float \[samples\], mono",
        ),
        (lambda: LogMel()(np.zeros(16000, np.int16)), r"int16 \[16000\]"),
        (lambda: DecibelMel()(np.zeros(0, np.float32)), "at least one"),
    ],
)
def test_features_reject_invalid_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_runs_the_benchmark(monkeypatch):
    """librosa is no dependency; where it is installed the numbers are compared before the times."""
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    groups = list(benchmark.run(1))
    assert [len(group.rows) for group in groups] in (
        [1, 1],
        [3, 3],
    ) and "10 s at 16000 Hz" in groups[0].text()
    log_mel, wave = LogMel(), chirps(1.0)
    variants = {"librosa": log_mel, "librosa, filters kept": lambda wave: log_mel(wave) + 1e-4}
    group = benchmark.comparison("log-mel", log_mel, variants, wave, 1)
    assert [row.name for row in group.rows] == [*variants, "paddlevideo"]
    with pytest.raises(
        ValueError, match=r"log-mel: librosa, louder and paddlevideo differ by 1.0e-02"
    ):
        benchmark.comparison(
            "log-mel",
            log_mel,
            variants | {"librosa, louder": lambda wave: log_mel(wave) + 0.01},
            wave,
            1,
        )


def test_picks_the_nearest_time_steps():
    steps = np.arange(10)
    assert nearest_steps(steps, 0, 9.0, 4).tolist() == [0, 3, 6, 9]
    assert nearest_steps(steps, 8, 20, 4).tolist() == [8, 9, 9, 9]
    assert nearest_steps(steps, 2, 4, 5).tolist() == [2, 2, 3, 3, 4]


# --- frames and time steps -----------------------------------------------------------------------


@pytest.mark.parametrize("clips", [1, 3, 10])
@pytest.mark.parametrize("total", [1, 2, 50, 63, 64, 65, 100, 300])
def test_samples_existing_frames(total, clips):
    for sample in (
        SampleFrames(64, 1, clips),
        SampleFrames(64, 1, clips, True),
        SampleFrames(64, 1, clips, True, "ends"),
    ):
        for seed in range(3):
            numbers = sample(total, 0.0, RNG(seed)).reshape(clips, 64)
            assert numbers.min() >= 0 and numbers.max() < total and numbers.dtype == np.int64
            if total >= 64:
                assert (np.diff(numbers) == 1).all() and (np.diff(numbers[:, 0]) >= 0).all()
        assert sample.random != sample.test_mode and (sample.num_frames, sample.num_views) == (
            64,
            clips,
        )


def test_gives_every_clip_audio():
    select = AudioFeatureSelector(128)
    for total in (1, 2, 5, 20, 63, 64, 100, 300):
        for length in (1, 2, 40, 127, 128, 129, 626):
            for clip in SampleFrames(64, 1, 4, True)(total, 0, RNG(0)).reshape(4, 64):
                start, end = select.span(clip, total, length)
                assert 0 <= start < end <= min(length, start + 128)
                if total < 64:
                    assert end - start == min(128, length)  # all audio of a short video is used


def test_cuts_and_pads_time_steps():
    steps = RNG(0).random((300, 80), np.float32)
    frames = np.stack([np.arange(64), np.arange(236, 300)])
    out = AudioFeatureSelector(128)(
        {"feature": steps, "frame_inds": frames, "total_frames": 300, "more": 1}, None
    )
    assert out["audio"].shape == (2, 128, 80) and out["more"] == 1 and "feature" not in out
    assert np.array_equal(out["audio"][0, :63], steps[1:64]) and not out["audio"][0, 63:].any()
    assert np.array_equal(out["audio"][1, :63], steps[237:300]) and not out["audio"][1, 63:].any()
    shaped = FormatAudioShape()(out, None)
    assert shaped["audio"].shape == (2, 1, 128, 80)
    with pytest.raises(ValueError, match="name this step once"):
        FormatAudioShape()(shaped, None)


# --- lists ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A feature, a wav file and a video of the same audio, and a video without audio."""
    (tmp_path / "a b").mkdir()
    write_audio(tmp_path / "a b" / "clip 1.wav", chirps(4))
    np.save(
        tmp_path / "a b" / "clip 1.npy",
        DecibelMel()(read_waveform(str(tmp_path / "a b" / "clip 1.wav"))),
    )
    write_audio(tmp_path / "clip2.mkv", chirps(4), video={"num_frames": 100})
    write_clip(tmp_path / "silent.mp4", num_frames=8)
    return tmp_path


def test_registers_the_names_of_the_reference():
    for kind, name in (
        ("decode", "LoadAudioFeature"),
        ("sample", "SampleFrames"),
        ("transform", "AudioFeatureSelector"),
    ):
        assert lookup(kind, name).make
    assert "pad_method" in lookup("decode", "LoadAudioFeature").ignores


# --- pipeline ------------------------------------------------------------------------------------


def pipeline(clips: int = 1, test: bool = True, **decode) -> AudioPipeline:
    steps = [AudioFeatureSelector(128), FormatAudioShape("NCTF")]
    return LoadAudioFeature.pipeline(
        LoadAudioFeature(**decode), SampleFrames(64, 1, clips, test), steps
    )


def test_feature_wav_and_video_give_equal_samples(folder):
    feature = pipeline()(Record(str(folder / "a b" / "clip 1.npy"), 2, num_frames=100), RNG(0))
    assert feature["audio"].shape == (1, 1, 128, 80) and feature["audio"].dtype == np.float32
    assert feature["label"] == 2 and not feature["missing_audio"]
    for name in ("a b/clip 1.wav", "clip2.mkv"):
        sample = pipeline()(Record(str(folder / name), num_frames=100), RNG(0))
        assert np.array_equal(sample["audio"], feature["audio"]) and sample["label"] == -1
    # Without a number in the list: that of the video, or 30 per second without a video.
    assert np.array_equal(
        pipeline()(Record(str(folder / "clip2.mkv")), RNG(0))["audio"], feature["audio"]
    )
    with LoadAudioFeature().open(Record(str(folder / "a b" / "clip 1.wav"))) as clip:
        assert clip.num_frames == 120 and clip.feature.shape == (251, 80)
    part = pipeline()(Record(str(folder / "clip2.mkv"), start_sec=1.0, end_sec=3.0), RNG(0))
    assert not np.array_equal(part["audio"], feature["audio"])
    with LoadAudioFeature().open(
        Record(str(folder / "clip2.mkv"), start_sec=1.0, end_sec=3.0)
    ) as clip:
        assert clip.num_frames == 50 and clip.feature.shape == (126, 80)


def test_reads_features_at_a_url(folder, memory, server):
    local = folder / "a b" / "clip 1.npy"
    expected = pipeline()(Record(str(local), num_frames=100), RNG(0))["audio"]
    server.files["/f.npy?sig=1"] = local.read_bytes()
    for url in (memory.put("f.npy", local.read_bytes()), f"{server.url}/f.npy?sig=1"):
        sample = pipeline(missing_audio="zeros")(Record(url, num_frames=100), RNG(0))
        assert np.array_equal(sample["audio"], expected) and not sample["missing_audio"]
    with pytest.raises(StageError, match="no such feature file; missing_audio: zeros"):
        pipeline()(Record(f"{memory.url}/none.npy", num_frames=100), RNG(0))
    server.files["/g.npy"], server.plan = local.read_bytes(), [500] * 9
    with pytest.raises(StageError, match="cannot be read: .*the server answered 500"):
        pipeline(missing_audio="zeros")(Record(f"{server.url}/g.npy", num_frames=100), RNG(0))


def test_samples_clips_and_draws_in_training(folder):
    record = Record(str(folder / "clip2.mkv"), 0, num_frames=100)
    assert pipeline(10)(record, RNG(0))["audio"].shape == (10, 1, 128, 80)
    train = pipeline(1, test=False)
    assert train.random and not pipeline().random
    drawn = [train(record, RNG(seed))["audio"] for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


def test_loads_batches_and_finishes_them(folder):
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
        assert loaded.batch["audio"].shape == (2, 2, 1, 128, 80) and loaded.batch[
            "label"
        ].tolist() == [0, 1]
        specs = pipeline(2).batch_specs
        done = pipeline(2).finish({name: loaded.batch[name] for name in specs})
        assert done["audio"].dtype == np.float32
        assert len(specs["audio"].shape) == done["audio"].ndim
    with pytest.raises(ValueError, match="no clip shape .* without --multigrid"):
        pipeline().shaped(None)


def test_missing_audio_is_an_error_or_counted(folder, caplog):
    caplog.set_level(logging.WARNING, "paddlevideo")
    records = [
        Record(str(folder / "silent.mp4"), 0, num_frames=8),
        Record(str(folder / "none.npy"), 1, num_frames=8),
        Record(str(folder / "clip2.mkv"), 1, num_frames=100),
    ]
    for record, why in zip(
        records[:2], ("no audio stream in it", "no such feature file"), strict=True
    ):
        with pytest.raises(
            StageError, match=f"decode: {why}; missing_audio: zeros uses silence instead"
        ):
            pipeline()(record, RNG(0))
    loader = Loader(ClipDataset(records, pipeline(missing_audio="zeros")), EvalOrder(3, 3))
    (loaded,) = loader.epoch(0)
    assert (
        loaded.batch["missing_audio"].tolist() == [True, True, False]
        and not loaded.batch["audio"][:2].any()
    )
    count = MissingAudio(records)
    assert str(count) == ""
    count.add(loaded.batch)
    count.add(loaded.batch)
    assert str(count) == "2 of 3 records have no audio (missing_audio: zeros)"
    assert [r.message for r in caplog.records] == [
        f"no audio in {record.path}: silence replaces it (missing_audio: zeros)"
        for record in records[:2]
    ]


def test_rejects_damaged_files(folder):
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
        "broken.npy": "decode: not a NumPy feature, or truncated",
        "empty.npy": "decode: not a NumPy feature, or truncated",
        "turned.npy": r"the feature is float32 \[80, 300\], expected float \[time steps, 80\]",
        "objects.npy": "decode: not a NumPy feature, or truncated .*Python objects in dtype",
        "many.npy": "decode: the feature is an archive of arrays",
        "nan.npy": "values that are not finite",
    }
    for name, why in wrong.items():
        with pytest.raises(StageError, match=why):
            pipeline(missing_audio="zeros")(Record(str(folder / name), num_frames=100), RNG(0))
    with pytest.raises(StageError, match="a feature file is used completely"):
        pipeline()(Record(str(folder / "a b" / "clip 1.npy"), start_sec=1.0), RNG(0))


def test_names_missing_transforms(folder):
    record = Record(str(folder / "clip2.mkv"), num_frames=100)
    with pytest.raises(StageError, match="gives no audio but feature, .*AudioFeatureSelector"):
        AudioPipeline(LoadAudioFeature(), SampleFrames(64, test_mode=True), [])(record, RNG(0))
    with pytest.raises(StageError, match=r"gives audio \[1, 128, 80\], .*FormatAudioShape"):
        AudioPipeline(
            LoadAudioFeature(), SampleFrames(64, test_mode=True), [AudioFeatureSelector()]
        )(record, RNG(0))
    with pytest.raises(ValueError, match="fmax 7600 Hz"):
        LoadAudioFeature(sample_rate=8000)
