"""Clips that span most of a video."""

import numpy as np
import pytest

from paddlevideo.data.span_sampling import SpanSampler
from paddlevideo.sample import ClipShape


def numbers(sampler, num_frames, seed=0):
    return sampler(num_frames, 25.0, np.random.default_rng(seed))


def test_validation_spans_the_complete_video():
    sampler = SpanSampler(5, valid_mode=True)
    np.testing.assert_array_equal(numbers(sampler, 101), [0, 25, 50, 75, 100])
    np.testing.assert_array_equal(numbers(sampler, 3), [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(numbers(sampler, 1), [0] * 5)
    assert not sampler.random and sampler.num_views == 1


def test_a_test_adds_shorter_parts_from_both_ends():
    sampler = SpanSampler(3, min_share=0.5, test_mode=True, num_ensemble_views=4)
    views = numbers(sampler, 100).reshape(4, 3)
    np.testing.assert_array_equal(views, [[0, 49, 99], [0, 24, 49], [25, 49, 74], [50, 74, 99]])
    assert not sampler.random and sampler.num_views == 4
    two = SpanSampler(3, min_share=0.5, test_mode=True, num_ensemble_views=2)
    np.testing.assert_array_equal(numbers(two, 100).reshape(2, 3)[1], [25, 49, 74])
    assert sampler.single_view().num_views == 1


@pytest.mark.parametrize("num_frames", [1, 2, 23, 24, 25, 1000])
def test_training_draws_the_length_and_the_place(num_frames):
    sampler = SpanSampler(24, min_share=0.6)
    clips = np.array([numbers(sampler, num_frames, seed) for seed in range(300)])
    assert clips.dtype == np.int64 and clips.min() == 0
    assert max(0, num_frames - 5) <= clips.max() < num_frames
    assert (np.diff(clips) >= 0).all()
    spans = clips[:, -1] - clips[:, 0]
    assert spans.min() >= 0.6 * num_frames - 2
    if num_frames == 1000:
        assert spans.min() < 650 and spans.max() > 950
        starts = clips[spans < 700][:, 0]
        assert starts.min() < 40 and starts.max() > 260


def test_draws_the_same_frames_for_the_same_seed():
    sampler = SpanSampler(8)
    np.testing.assert_array_equal(numbers(sampler, 90, 3), numbers(sampler, 90, 3))
    assert (numbers(sampler, 90, 3) != numbers(sampler, 90, 4)).any()


def test_takes_the_length_of_a_phase():
    shape = ClipShape(num_frames=4, crop_size=64, stride=(1, 1), jitter=(72, 72))
    assert len(numbers(SpanSampler(8).at(shape), 90)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0, expected at least 1"),
        ({"min_share": 0}, "min_share is 0, expected above 0, up to 1"),
        ({"min_share": 1.5}, "min_share is 1.5"),
        ({"num_ensemble_views": 0, "test_mode": True}, "num_ensemble_views is 0"),
        ({"num_ensemble_views": 2}, "set test_mode: True"),
        ({"valid_mode": True, "test_mode": True}, "both set; remove one"),
    ],
)
def test_names_the_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpanSampler(**{"num_frames": 8, **arguments})


def test_refuses_a_video_without_frames():
    with pytest.raises(ValueError, match="the video has 0 frames"):
        numbers(SpanSampler(8), 0)
