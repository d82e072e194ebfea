"""Scores of windows equal those of a prediction for that part; batches, errors, other inputs."""

import threading
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.data.pipeline import Pipeline
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import DecodeError, Record
from paddlevideo.timelines.files import video_frames
from paddlevideo.timelines.frames import Frame, Gap
from paddlevideo.timelines.timeline import Timeline
from paddlevideo.timelines.windows import RUN_SHARE, TimelineModel, Window
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("long")
    wave = chirps(3.3)
    return {
        "frames": write_clip(folder / "a.mp4", 82),
        "audio": write_audio(folder / "a.wav", wave),
        "both": write_audio(folder / "a.mkv", wave, video={"num_frames": 82}),
    }


@pytest.fixture(params=["frames", "audio", "both"])
def family(request) -> str:
    return request.param


@pytest.fixture
def model(request, family):
    return request.getfixturevalue(f"{family}_model")


def expected_scores(predictor, path: Path, window: Window) -> np.ndarray:
    """The scores that `predict` gives to a part of a file."""
    record = Record(str(path), start_sec=window.start or None, end_sec=window.end)
    with predictor.scorer() as scorer:
        (scores,) = scorer.probabilities([predictor.feed.sample(record)])
    assert not isinstance(scores, str)
    return scores


def test_scores_equal_those_of_a_prediction_of_the_part(model, files, family):
    timeline = Timeline(model, window=1.0, stride=0.6, exact_stride=True)
    windows = list(timeline.windows(files[family]))
    starts = [round(window.start, 3) for window in windows]
    assert starts == [0.0, 0.6, 1.2, 1.8, 2.4]
    for window in windows:
        expected = expected_scores(model, files[family], window)
        np.testing.assert_allclose(window.scores, expected, rtol=0, atol=1e-5)
    different = {tuple(np.round(window.scores, 6)) for window in windows}
    assert len(different) == 5, "all windows have equal scores, so this test could not fail"


def test_scores_equal_those_of_a_file_cut_at_the_window(frames_model, files, tmp_path):
    windows = list(TimelineModel(frames_model, 1.0, 1.0).windows(video_frames(files["frames"])))
    with VideoDecoder().open(Record(str(files["frames"]))) as clip:
        images = clip.read(np.arange(clip.num_frames))
    for window in windows:
        first, last = round(window.start * 25), round(window.end * 25)
        path = write_clip(
            tmp_path / f"{first}.mkv",
            codec="ffv1",
            pixel_format="bgr0",
            frames=images[first:last],
        )
        (result,) = frames_model.predict(path, topk=3)
        scores = window.scores[result.class_ids]
        np.testing.assert_allclose(result.scores, scores, rtol=0, atol=1e-5)


def test_live_windows_equal_those_of_a_file_and_come_at_once(frames_model, files):
    source = video_frames(files["frames"])
    timeline = TimelineModel(frames_model, 1.0, 0.5, exact_stride=True)
    together = list(timeline.windows(source, fps=source.fps))
    times = []

    def live():
        for item in source:
            times.append(item.time)
            yield item

    alone = []
    for window in timeline.windows(live(), live=True):
        alone.append(window)
        if window.end < 3:
            assert window.end - 1e-6 <= times[-1] < window.end + 0.04
    assert len(alone) == len(together) == 6
    for one, other in zip(alone, together, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end))
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-5)


def test_windows_share_runs_of_the_network(frames_model, files, monkeypatch):
    sizes, run = [], frames_model.backend.run
    monkeypatch.setattr(frames_model, "views_per_step", 2 * RUN_SHARE)

    def counted(arrays):
        sizes.append(len(arrays["frames"]))
        return run(arrays)

    monkeypatch.setattr(frames_model.backend, "run", counted)
    assert (
        len(list(TimelineModel(frames_model, 1.0, 1.0).windows(video_frames(files["frames"])))) == 4
    )
    assert sizes == [2, 2]


def test_gaps_and_failures_are_rows_and_the_rest_goes_on(frames_model, files, monkeypatch):
    items = list(video_frames(files["frames"]))
    source = [*items[:25], Gap(1.0, 1.5, "damaged"), *items[37:]]
    windows = list(TimelineModel(frames_model, 1.0, 1.0).windows(source, fps=25.0))
    assert [window.error for window in windows] == [None, "damaged", None, None]
    assert (windows[1].start, windows[1].end) == (1.0, 1.5) and windows[1].scores is None
    crop = frames_model.feed.pipeline

    def fails(window):
        if window.start_sec > 0.5:
            raise DecodeError("it is broken")
        return window

    monkeypatch.setattr(crop, "of_window", fails)
    windows = list(TimelineModel(frames_model, 1.0, 1.0).windows(items))
    assert windows[0].error is None and windows[1].error == "decode: it is broken"


def test_a_video_without_audio_is_scored_with_silence_or_fails_by_window(both_model, files):
    windows = list(TimelineModel(both_model, 1.0, 1.0).windows(video_frames(files["frames"])))
    assert len(windows) == 4 and all(window.scores is not None for window in windows)


def test_an_abandoned_timeline_ends_its_threads(frames_model, files):
    before = threading.active_count()
    windows = TimelineModel(frames_model, 0.5, 0.5).windows(video_frames(files["frames"]))
    next(windows)
    windows.close()
    assert threading.active_count() == before


def test_an_error_of_the_source_reaches_the_caller(frames_model, files):
    def source():
        yield from list(video_frames(files["frames"]))[:40]
        raise OSError("the camera is gone")

    with pytest.raises(OSError, match="the camera is gone"):
        list(TimelineModel(frames_model, 1.0, 1.0).windows(source()))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_wrong_lengths(frames_model, value):
    with pytest.raises(ValueError, match=r"window is .* expected seconds"):
        TimelineModel(frames_model, value, 1.0)
    with pytest.raises(ValueError, match=r"stride is .* expected seconds"):
        TimelineModel(frames_model, 1.0, value)


def test_models_of_frame_features_take_no_windows():
    with pytest.raises(ValueError, match="this model takes frame features"):
        Pipeline().stream_needs()


def test_segments_of_a_file(frames_model, files):
    timeline = Timeline(frames_model, 1.0, min_score=0.0, topk=2)
    segments = list(timeline.segments(files["frames"]))
    assert segments[0].start == 0 and segments[-1].end == pytest.approx(82 / 25)
    assert all(len(segment.class_ids) == 2 for segment in segments)
    raw = list(Timeline(frames_model, 1.0, 1.0, raw_windows=True).segments(files["frames"]))
    assert [round(segment.end, 3) for segment in raw] == [1, 2, 3, 3.28]
    with pytest.raises(ValueError, match="min_score is 2"):
        Timeline(frames_model, min_score=2)


def test_frames_of_another_size_go_on(frames_model):
    wide, tall = np.zeros((48, 64, 3), np.uint8), np.zeros((80, 48, 3), np.uint8)
    source = [Frame(n / 10, wide if n < 12 else tall) for n in range(25)]
    windows = list(TimelineModel(frames_model, 1.0, 1.0).windows(source, fps=10.0))
    assert all(window.error is None for window in windows)
    assert windows[0].start == 0 and windows[-1].end == pytest.approx(2.5)
