"""Transforms of the SlowFast configs: jitter, crops of a test, and both pathways."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo.config.registry import known, lookup
from paddlevideo.data.clip_transforms import JitterScale, PackOutput
from paddlevideo.data.crops import MultiCrop, RandomCrop
from paddlevideo.data.transforms import Scale
from paddlevideo.data.views import Views


def frames(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def run(transform, clip, seed=0):
    return transform({"frames": clip, "label": 1}, np.random.default_rng(seed))


def test_registers_the_transforms_of_the_slowfast_configs():
    names = {"JitterScale", "MultiCrop", "RandomFlip", "Image2Array", "Normalization", "PackOutput"}
    assert names <= set(known("transform"))
    assert "default_crop_size" in lookup("transform", "MultiCrop").ignores


@pytest.mark.parametrize(
    "step", [JitterScale(20, 30), JitterScale(24, 24), Scale(24, backend="cv2"), Scale(32)]
)
@pytest.mark.parametrize("shape", [(32, 40), (40, 32), (32, 32)])
def test_frame_transform_equals_the_complete_clip(step, shape):
    clip = frames(3, *shape, 3)
    whole = run(step, clip, seed=4)["frames"]
    each = step.frame_transform(np.random.default_rng(4))
    assert np.array_equal(np.stack([each(frame) for frame in clip]), whole)


# --- MultiCrop -----------------------------------------------------------------------------------


@given(st.integers(8, 300), st.integers(8, 300), st.integers(1, 8), st.integers(1, 7))
def test_crops_reach_both_ends_of_the_frame(width, height, size, count):
    corners = MultiCrop(size, True, count).corners(width, height)
    assert len(corners) == count
    tops, lefts = np.array(corners).T
    assert (
        min(tops) >= 0
        and max(tops) + size <= height
        and min(lefts) >= 0
        and max(lefts) + size <= width
    )
    along, room = (tops, height - size) if height > width else (lefts, width - size)
    assert (np.diff(along) >= 0).all()
    if count > 1:
        assert (along[0], along[-1]) == (0, room)
    else:
        assert abs(2 * along[0] - room) <= 1


def test_a_single_crop_is_the_center():
    clip = frames(2, 10, 21, 3)
    assert np.array_equal(run(MultiCrop(4, test_mode=True), clip)["frames"], clip[:, 3:7, 9:13])


def test_crops_views_as_it_crops_arrays():
    clip, crop = frames(6, 10, 21, 3), MultiCrop(8, test_mode=True, num_spatial_crops=3)
    numbers = np.array([[0, 2, 4], [1, 1, 5]])
    arrays = run(crop, clip[numbers])["frames"]
    views = run(crop, Views.of(clip, numbers))["frames"]
    assert isinstance(views, Views) and arrays.shape == (6, 3, 8, 8, 3)
    assert np.array_equal(np.asarray(views), arrays)
    assert np.array_equal(arrays[4], clip[[1, 1, 5], 1:9, 7:15]), "clip-major, left to right"
    assert run(crop, clip)["frames"].shape == (3, 6, 8, 8, 3)


def test_crops_a_tall_clip_from_top_to_bottom():
    clip = frames(2, 20, 8, 3)
    cuts = run(MultiCrop(8, test_mode=True, num_spatial_crops=3), clip)["frames"]
    assert np.array_equal(cuts[2], clip[:, 12:20])


def test_training_draws_a_location():
    clip, crop = frames(2, 12, 14, 3), MultiCrop(8)
    assert crop.random and crop.views == 1 and not MultiCrop(8, test_mode=True).random
    cuts = {run(crop, clip, seed)["frames"].tobytes() for seed in range(300)}
    assert len(cuts) == 5 * 7
    assert np.array_equal(run(crop, clip, 3)["frames"], run(RandomCrop(8), clip, 3)["frames"])


@pytest.mark.parametrize(
    "crop", [MultiCrop(16), MultiCrop(16, test_mode=True), MultiCrop(16, True, 3)]
)
def test_rejects_frames_smaller_than_the_crop(crop):
    with pytest.raises(
        ValueError, match=r"needs frames of at least 16x16, these are 30x15 \(width x height\)"
    ):
        run(crop, frames(1, 15, 30, 3))


# --- PackOutput ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_packs_two_pathways(lead, dtype):
    clip = frames(*lead, 32, 4, 5, 3).astype(dtype)
    done = run(PackOutput(8), clip)
    assert (
        set(done) == {"label", "slow", "fast"} and done["slow"].dtype == done["fast"].dtype == dtype
    )
    assert np.array_equal(done["fast"], np.moveaxis(clip, -1, -4))
    assert np.array_equal(done["slow"], done["fast"][..., [0, 10, 20, 31], :, :]), (
        "first and last frame included"
    )


def test_packs_one_frame_per_pathway():
    clip = frames(1, 4, 5, 3)
    done = run(PackOutput(1), clip)
    assert np.array_equal(done["slow"], done["fast"])
    assert run(PackOutput(8), frames(8, 4, 5, 3))["slow"].shape == (3, 1, 4, 5)


def test_on_device_equals_on_arrays():
    paddle = pytest.importorskip("paddle")
    clip = frames(2, 8, 4, 5, 3).astype(np.float32)
    got, expected = (
        PackOutput(4).on_device({"frames": paddle.to_tensor(clip)}),
        run(PackOutput(4), clip),
    )
    for name in ("slow", "fast"):
        assert np.array_equal(got[name].numpy(), expected[name])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((30, 4, 5, 3), "alpha 8 does not divide 30 frames; set num_frames to 32 or another alpha"),
        ((4, 4, 5, 3), "alpha 8 does not divide 4 frames; set num_frames to 8"),
        ((1, 4, 5, 3), "alpha 8 does not divide 1 frames; set num_frames to 8"),
        (
            (8, 3, 4, 5),
            r"these are \[8, 3, 4, 5\]; put '- Image2Array: {transpose: False}' before it",
        ),
    ],
)
def test_rejects_frames_that_alpha_does_not_divide(shape, message):
    with pytest.raises(ValueError, match=message):
        run(PackOutput(8), frames(*shape))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiCrop(0), "target_size is 0, expected at least 1"),
        (lambda: MultiCrop(8, True, 0), "num_spatial_crops is 0"),
        (
            lambda: MultiCrop(8, num_spatial_crops=3),
            "num_spatial_crops is 3, .*; set test_mode: True",
        ),
        (lambda: PackOutput(0), "alpha is 0, expected at least 1"),
        (lambda: JitterScale(0, 8), "min_size is 0"),
    ],
)
def test_rejects_invalid_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
