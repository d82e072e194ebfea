"""Frames of overlapping windows go through 2-D networks once."""

import numpy as np
import pytest

from paddlevideo.data.sampling import Sampler
from paddlevideo.timelines.files import video_frames
from paddlevideo.timelines.sharing import Grid, SharedFrames, fitting_grid
from paddlevideo.timelines.windows import TimelineModel
from tests.clips import write_clip
from tests.parts.timelines.conftest import FRAMES, build
from tests.parts.timelines.test_windows import expected_scores

FPS = (24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60.0)


def sampler(num_seg: int, **mode) -> Sampler:
    return Sampler(num_seg=num_seg, seg_len=1, valid_mode=True, **mode)


@pytest.mark.parametrize("fps", FPS)
@pytest.mark.parametrize("window", [1.5, 2.0, 4.0])
@pytest.mark.parametrize(
    "each", [sampler(8), sampler(25, linspace_sample=True), sampler(8, select_left=True)]
)
def test_three_quarters_of_overlap_cost_little(each, window, fps):
    grid = fitting_grid(each, window, window / 4, fps)
    if grid is None:  # the asked windows share frames as they are
        starts, frames = np.ceil(np.arange(40) * window / 4 * fps - 1e-6), round(window * fps)
    else:
        starts, frames = np.array([grid.start(n) for n in range(40)]), grid.num_frames
        asked = np.arange(40) * window / 4 * fps
        assert np.abs(starts - asked).max() <= grid.step / 2 <= window / 8 * fps
        assert abs(frames - window * fps) <= 3.5 and (np.diff(starts) > 0).all()
    sampled = each(frames, fps, np.random.default_rng(0))
    distinct = len({int(start + place) for start in starts for place in sampled})
    without_overlap = len(set(sampled.tolist())) * (starts[-1] + frames) / frames
    assert distinct <= 1.5 * without_overlap


def test_windows_that_cannot_share_stay_where_they_are():
    assert fitting_grid(sampler(2), 2.0, 1.9, 30.0) is None
    assert fitting_grid(sampler(8), 0.01, 0.005, 30.0) is None


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("video") / "a.mp4", 200, fps=25)


def counted(predictor, monkeypatch):
    """Count the frames that go through the network."""
    count = [0]
    for name in ("run", "run_frames"):
        real = getattr(predictor.backend, name)

        def run(arrays, real=real):
            count[0] += arrays["frames"].shape[0] * arrays["frames"].shape[1]
            return real(arrays)

        monkeypatch.setattr(predictor.backend, name, run)
    return count


def scored(predictor, video, window, stride, **options):
    source = video_frames(video)
    model = TimelineModel(predictor, window, stride, **options)
    return list(model.windows(source, fps=source.fps, constant_rate=source.constant_rate))


def test_the_backbone_sees_each_frame_once(frames_model, video, monkeypatch):
    count = counted(frames_model, monkeypatch)
    scored(frames_model, video, 2.0, 2.0)
    without_overlap, count[0] = count[0], 0
    windows = scored(frames_model, video, 2.0, 0.5)
    assert without_overlap == 4 * 8
    assert count[0] <= 1.5 * without_overlap
    assert len(windows) == 13
    for number, window in enumerate(windows):
        assert abs(window.start - 0.5 * number) <= 0.25
        expected = expected_scores(frames_model, video, window)
        np.testing.assert_allclose(window.scores, expected, rtol=0, atol=1e-5)


def test_an_exact_stride_shares_what_it_can(frames_model, video, monkeypatch):
    count = counted(frames_model, monkeypatch)
    windows = scored(frames_model, video, 2.0, 0.5, exact_stride=True)
    assert [window.start for window in windows] == [0.5 * n for n in range(13)]
    assert count[0] < 13 * 8
    for window in windows[::4]:
        expected = expected_scores(frames_model, video, window)
        np.testing.assert_allclose(window.scores, expected, rtol=0, atol=1e-5)


def test_a_head_that_compares_frames_does_not_share(tmp_path, video, monkeypatch):
    motion = FRAMES.replace("num_classes: 3", "num_classes: 3, motion: True")
    predictor = build("motion", motion, tmp_path, classes=3)
    assert not predictor.frame_logits
    count = counted(predictor, monkeypatch)
    assert len(scored(predictor, video, 2.0, 0.5)) == 13 and count[0] == 13 * 8


def test_known_frames_are_not_run_again(frames_model, monkeypatch):
    count = counted(frames_model, monkeypatch)
    shared = SharedFrames(frames_model.feed, frames_model.backend, 2)
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 8, 32, 32, 3), np.uint8)
    logits = shared.run({"frames": clips})
    assert count[0] == 24
    np.testing.assert_array_equal(shared.run({"frames": clips[::-1]}), logits[::-1])
    assert count[0] == 24
    still = np.repeat(clips[:1, :1], 8, axis=1)  # one frame, shown all the time
    shared.run({"frames": still})
    assert count[0] == 24
    plain = frames_model.backend.run(frames_model.feed.arrays({"frames": clips}))
    np.testing.assert_allclose(logits, plain, rtol=0, atol=1e-5)


def test_only_the_newest_frames_are_kept(frames_model, monkeypatch):
    monkeypatch.setattr("paddlevideo.timelines.sharing.NUM_KEPT", 16)
    shared = SharedFrames(frames_model.feed, frames_model.backend, 2)
    rng = np.random.default_rng(0)
    for _ in range(6):
        shared.run({"frames": rng.integers(0, 256, (1, 8, 32, 32, 3), np.uint8)})
    assert len(shared._known) == 32  # four times those of a call


def test_starts_of_a_grid():
    assert [Grid(6, 50, 12.5, 1.0).start(n) for n in range(5)] == [0, 12, 24, 36, 48]
