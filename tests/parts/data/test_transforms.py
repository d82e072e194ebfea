"""Transforms and crops of frames: sizes, locations, randomness, and equal results on a device."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paddlevideo.config.registry import known, lookup
from paddlevideo.data import transforms
from paddlevideo.data.clip_transforms import JitterScale
from paddlevideo.data.crops import CenterCrop, MultiCrop, MultiScaleCrop, RandomCrop, TenCrop
from paddlevideo.data.transforms import Image2Array, Normalization, RandomFlip, Scale

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
MAKE = {
    "Scale": Scale(24),
    "JitterScale": JitterScale(20, 30),
    "MultiScaleCrop": MultiScaleCrop(20),
    "RandomCrop": RandomCrop(20),
    "MultiCrop": MultiCrop(20),
    "CenterCrop": CenterCrop(20),
    "TenCrop": TenCrop(20),
    "RandomFlip": RandomFlip(),
    "Image2Array": Image2Array(),
    "Normalization": Normalization(MEAN, STD, tensor_shape=(1, 1, 1, 3)),
}


def frames(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def run(transform, clip, seed=0):
    return transform({"frames": clip}, np.random.default_rng(seed))["frames"]


class UnusedGenerator:
    """A generator that must not be used."""

    def __getattr__(self, name):
        raise AssertionError(f"rng.{name} was used")


def test_registers_the_transforms_of_the_tsn_configs():
    assert set(MAKE) <= set(known("transform"))
    assert all(isinstance(MAKE[name], lookup("transform", name).make) for name in MAKE)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("lead", [(), (2,)])
def test_leaves_its_input_unchanged_and_draws_only_if_random(name, lead):
    transform, clip = MAKE[name], frames(*lead, 3, 32, 40, 3)
    before = clip.copy()
    clip.setflags(write=False)
    sample = {"frames": clip, "other": 1}
    results = [
        transform(sample, np.random.default_rng(s) if transform.random else UnusedGenerator())
        for s in range(12)
    ]
    assert np.array_equal(clip, before)
    assert sample["frames"] is clip
    assert all(r["other"] == 1 for r in results)
    assert len({(r["frames"].shape, r["frames"].tobytes()) for r in results}) > transform.random


@pytest.mark.parametrize("name", ["MultiScaleCrop", "RandomCrop", "CenterCrop", "RandomFlip"])
def test_treats_leading_axes_as_frames(name):
    clip = frames(2, 3, 32, 40, 3)
    whole = run(MAKE[name], clip, seed=5)
    assert np.array_equal(whole[1], run(MAKE[name], clip[1], seed=5))


def test_treats_all_frames_of_a_clip_alike():
    still = np.repeat(frames(1, 32, 40, 3), 4, axis=0)
    for transform in MAKE.values():
        got = run(transform, still, seed=3)
        axis = -4 if not isinstance(transform, Image2Array) else 0
        assert np.array_equal(np.take(got, 0, axis), np.take(got, 3, axis))


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({}, (341, 256)),
        ({"fixed_ratio": False}, (455, 256)),
        ({"fixed_ratio": False, "do_round": True}, (455, 256)),
        ({"fixed_ratio": False, "keep_ratio": True}, (455, 256)),
        ({"fixed_ratio": False, "keep_ratio": False}, (256, 256)),
    ],
)
def test_scales_to_the_expected_size(arguments, size):
    assert Scale(256, **arguments).size(1920, 1080) == size
    assert Scale(256, **arguments).size(1080, 1920) == size[::-1]
    assert Scale(1080, **arguments).size(1920, 1080) == (1920, 1080)  # already there


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 500), st.booleans())
def test_scales_the_short_side(width, height, short, do_round):
    new = Scale(short, fixed_ratio=False, do_round=do_round).size(width, height)
    assert min(new) == short
    assert (new[0] <= new[1]) == (width <= height) or new[0] == new[1]


def test_resizes_as_pillow_does():
    clip = frames(2, 30, 50, 3)
    expected = np.asarray(Image.fromarray(clip[1]).resize((40, 24), Image.Resampling.BILINEAR))
    assert np.array_equal(transforms.resize(clip, 40, 24, "pillow")[1], expected)
    assert not np.array_equal(transforms.resize(clip, 40, 24, "cv2")[1], expected)


def test_jitter_scale_draws_every_size():
    sizes = {min(run(JitterScale(20, 23), frames(1, 32, 40, 3), s).shape[1:3]) for s in range(60)}
    assert sizes == {20, 21, 22, 23}
    assert not JitterScale(20, 20).random
    assert run(JitterScale(20, 20), frames(1, 40, 30, 3)).shape == (1, 26, 20, 3)


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.booleans(), st.integers(0, 50)
)
@settings(max_examples=60, deadline=None)
def test_multiscale_crop_accepts_any_frame(width, height, target, fix_crop, seed):
    crop = MultiScaleCrop(target, fix_crop=fix_crop, backend="cv2")
    assert run(crop, frames(1, height, width, 3), seed).shape == (1, target, target, 3)
    for w, h in crop.sizes(width, height):
        for x, y in crop.offsets(width, height, w, h):
            left, top, right, bottom = crop.box(x, y, w, h)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_multiscale_crop_draws_every_corner():
    crop = MultiScaleCrop(10, scales=[0.5], more_fix_crop=False, allow_duplication=True)
    clip = frames(1, 20, 28, 3)
    places = {(0, 0), (18, 0), (0, 10), (18, 10), (9, 5)}
    assert set(crop.offsets(28, 20, 10, 10)) == places
    cuts = {clip[:, y : y + 10, x : x + 10].tobytes() for x, y in places}
    assert {run(crop, clip, s).tobytes() for s in range(80)} == cuts


def test_random_crop_draws_every_location():
    clip = frames(2, 6, 7, 3)
    expected = {clip[:, y : y + 4, x : x + 4].tobytes() for y in range(3) for x in range(4)}
    assert {run(RandomCrop(4), clip, s).tobytes() for s in range(200)} == expected


def test_center_crop_rounds_half_to_even():
    clip = frames(1, 9, 11, 3)
    assert np.array_equal(run(CenterCrop(4), clip), clip[:, 2:6, 4:8])  # 2.5 -> 2, 3.5 -> 4
    assert np.array_equal(run(CenterCrop(4, do_round=False), clip), clip[:, 2:6, 3:7])


def test_ten_crop_orders_its_views():
    clip = frames(3, 10, 12, 3)
    views = run(TenCrop(4), clip)
    assert views.shape == (10, 3, 4, 4, 3)
    corners = [(0, 0), (0, 8), (4, 0), (4, 8), (2, 4)]  # y step (10 - 4) // 4 = 1, x step 2
    for k, (y, x) in enumerate(corners):
        crop = clip[:, y : y + 4, x : x + 4]
        assert np.array_equal(views[2 * k], crop)
        assert np.array_equal(views[2 * k + 1], crop[:, :, ::-1])


def test_ten_crop_multiplies_views():
    clips = frames(2, 3, 10, 12, 3)
    views = run(TenCrop(4), clips)
    assert views.shape == (20, 3, 4, 4, 3)
    assert np.array_equal(views[10:], run(TenCrop(4), clips[1]))


def test_random_flip_mirrors_with_its_probability():
    clip = frames(2, 5, 6, 3)
    assert np.array_equal(run(RandomFlip(1), clip), clip[:, :, ::-1])
    assert np.array_equal(run(RandomFlip(0), clip), clip)
    flipped = sum(not np.array_equal(run(RandomFlip(0.25), clip, s), clip) for s in range(400))
    assert 60 < flipped < 140


@pytest.mark.parametrize("crop", [RandomCrop(20), CenterCrop(20), TenCrop(20)])
def test_rejects_frames_smaller_than_the_crop(crop):
    name = type(crop).__name__
    message = (
        rf"{name} needs frames of at least 20x20, these are 30x19 \(width x height\); "
        r"put '- Scale: {short_size: 20}'"
    )
    with pytest.raises(ValueError, match=message):
        run(crop, frames(1, 19, 30, 3))


@pytest.mark.parametrize("lead", [(), (2,), (2, 4)])
def test_image2array_moves_axes_only(lead):
    clip = frames(*lead, 3, 5, 6, 3)
    tchw, cthw = run(Image2Array(), clip), run(Image2Array(data_format="cthw"), clip)
    assert tchw.dtype == cthw.dtype == np.uint8
    assert np.array_equal(tchw, np.moveaxis(clip, -1, -3))
    assert np.array_equal(cthw, np.moveaxis(clip, -1, -4))
    assert run(Image2Array(transpose=False), clip) is clip


def plain(clip, shape):
    """Normalize in the reference's three operations."""
    values = clip.astype(np.float32) / np.float32(255)
    values -= np.array(MEAN).reshape(shape).astype(np.float32)
    values /= np.array(STD).reshape(shape).astype(np.float32)
    return values


LAYOUTS = [
    (Image2Array(), (3, 1, 1)),
    (Image2Array(data_format="cthw"), (3, 1, 1, 1)),
    (Image2Array(transpose=False), (1, 1, 1, 3)),
]


@pytest.mark.parametrize(("layout", "shape"), LAYOUTS)
@pytest.mark.parametrize("lead", [(), (2,), (2, 4)])
@pytest.mark.parametrize("copy", [False, True])
def test_normalization_equals_the_plain_arithmetic(layout, shape, lead, copy):
    clip = run(layout, frames(*lead, 3, 16, 17, 3))
    clip = np.ascontiguousarray(clip) if copy else clip
    step = Normalization(MEAN, STD, shape)
    got = run(step, clip)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.array_equal(got, plain(clip, shape))
    assert np.array_equal(run(step, clip.astype(np.float32)), got)


def test_normalizes_every_byte():
    clip = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (1, 3, 16, 16))
    assert np.array_equal(run(Normalization(MEAN, STD), clip), plain(clip, (3, 1, 1)))


@pytest.mark.parametrize(("layout", "shape"), LAYOUTS)
def test_on_device_equals_on_arrays(layout, shape):
    paddle = pytest.importorskip("paddle")
    clip = frames(2, 3, 16, 17, 3)
    step = Normalization(MEAN, STD, shape)
    got = step.on_device(layout.on_device({"frames": paddle.to_tensor(clip)}))
    assert np.array_equal(got["frames"].numpy(), run(step, run(layout, clip)))


def test_normalization_rejects_channels_last():
    with pytest.raises(
        ValueError,
        match=r"frames are \[2, 5, 6, 3\].*3 channels at axis -3; is '- Image2Array' before it",
    ):
        run(Normalization(MEAN, STD), frames(2, 5, 6, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale(0), "short_size is 0, expected at least 1"),
        (lambda: Scale(256, fixed_ratio=True, keep_ratio=True), "set fixed_ratio: False"),
        (lambda: JitterScale(30, 20), "min_size 30 is larger than max_size 20"),
        (
            lambda: MultiScaleCrop(224, scales=[1, 1.5]),
            r"scales has 1.5, expected fractions of the short side in \(0, 1\]",
        ),
        (lambda: RandomFlip(1.5), r"p is 1.5, expected a probability"),
        (lambda: TenCrop(-1), "target_size is -1"),
        (
            lambda: Normalization([0.5], STD),
            r"mean has 1 values, std 3, tensor_shape is \[3, 1, 1\]",
        ),
        (lambda: Normalization(MEAN, [1, 0, 1]), "divides a channel by 0"),
        (lambda: Normalization(MEAN, STD, inplace=True), "inplace: True is not supported"),
    ],
)
def test_rejects_invalid_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
