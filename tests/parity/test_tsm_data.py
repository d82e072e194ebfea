"""Data of the TSM, PP-TSM and PP-TSMv2 configs against PaddleVideo's numbers, bit for bit."""

import json

import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.crops import GroupFullResSample, RandomCrop
from paddlevideo.data.pipeline import FrameSampler
from paddlevideo.data.sampling import Sampler
from tests.parity.multiscale import check_boxes

CHAINS = ("pptsm_dense_test", "pptsm_dense_test_flip", "tsm_test", "tsm_test_nhwc")


@pytest.fixture(scope="module")
def golden(goldens):
    return dict(np.load(goldens / "paddlevideo/transforms_pptsm_golden.npz"))


@pytest.fixture(scope="module")
def clips():
    clip = np.random.default_rng(7).integers(0, 256, (8, 90, 120, 3), np.uint8)[:2]
    return {"clip": clip, "portrait": clip.transpose(0, 2, 1, 3)}


@pytest.mark.parametrize("shape", ["clip", "portrait"])
@pytest.mark.parametrize("name", CHAINS)
def test_chains_equal_the_reference(golden, clips, name, shape):
    steps = [
        lookup("transform", op).make(**args)
        for op, args in json.loads(str(golden[f"chain/{name}/spec"]))
    ]
    pipeline = ClipPipeline(None, FrameSampler(), steps)
    got = pipeline.finish(pipeline.apply(clips[shape], None))["frames"]
    images = got.reshape(-1, *got.shape[-3:])
    pixels = golden[f"chain/{name}/{shape}"]
    channels = np.arange(3) if name.endswith("nhwc") else np.arange(3)[:, None, None]
    np.testing.assert_array_equal(images, golden["values"][channels, pixels])


def test_three_crops_are_those_of_the_reference(golden):
    cases = json.loads(str(golden["full_res_offsets"]))
    assert len(cases) > 20
    for case in cases:
        size = case["crop"]
        corners = GroupFullResSample(size).corners(case["w"], case["h"])
        boxes = [[left, top, left + size, top + size] for top, left in corners]
        assert boxes == case["boxes"], case


def test_boxes_of_multiscale_crop_are_those_of_the_reference(golden):
    cases = json.loads(str(golden["multiscale_crop"]))
    assert len(cases) == 7
    for case in cases:
        check_boxes(case)


def test_random_crop_reaches_the_places_that_the_reference_reaches(golden):
    """The generators differ, so the drawn boxes do; both ends of each axis are included."""
    known = json.loads(str(golden["random_crop"]))
    ranges = [(row["w"], row["h"], row["target_size"]) for row in known["rows"]]
    places = {key: crop_places(*key) for key in {*ranges, (228, 226, 224)}}
    for row, key in zip(known["rows"], ranges, strict=True):
        xs, ys = places[key]
        assert row["x"] in xs and row["y"] in ys
    xs, ys = places[228, 226, 224]
    reached = known["reached_228x226_to_224"]
    assert sorted(xs) == reached["x"] and sorted(ys) == reached["y"]


def crop_places(width: int, height: int, size: int) -> tuple[set[int], set[int]]:
    """All (left, top) of 400 crops; the frame has its columns and rows as pixel values."""
    frame = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)[None]
    crop = RandomCrop(size)
    found = [
        crop({"frames": frame}, np.random.default_rng(seed))["frames"][0, 0, 0]
        for seed in range(400)
    ]
    return {int(x) for x, _ in found}, {int(y) for _, y in found}


MODES = ("dense_sample", "select_left")


def counted_from_zero(row: dict, values: list) -> np.ndarray:
    """Frame numbers of the reference; dense ones are counted from 1 for videos, too."""
    from_one = row["format"] == "frame" or "dense_sample" in row
    return np.array(values, np.int64) - from_one


def test_frames_of_a_test_are_those_of_the_reference(golden):
    """Frame folders wrap around as videos do: PaddleVideo asks for files that do not exist."""
    rows = json.loads(str(golden["sampler"]))
    assert len(rows) == 504
    for row in rows:
        mode = {key: row[key] for key in MODES if key in row}
        sampler = Sampler(row["num_seg"], row["seg_len"], valid_mode=True, **mode)
        numbers = sampler(row["frames_len"], 25.0, np.random.default_rng(0))
        expected = counted_from_zero(row, row["index"])
        if row["format"] == "frame" and not mode:
            expected = expected % row["frames_len"]
        if "select_left" in row and row["frames_len"] <= row["num_seg"]:
            expected = np.zeros_like(numbers)  # PaddleVideo asks for frame 0 of folders from 1
        np.testing.assert_array_equal(numbers, expected, err_msg=str(row))


def test_frames_of_a_training_are_those_of_the_reference(golden):
    """The least and the largest frame number at each position of a clip, over many draws."""
    rows = json.loads(str(golden["sampler_train"]))
    assert len(rows) == 60
    for row in rows:
        mode = {key: row[key] for key in MODES if key in row}
        sampler = Sampler(row["num_seg"], 1, **mode)
        total = row["frames_len"]
        drawn = np.stack([sampler(total, 25.0, np.random.default_rng(i)) for i in range(100)])
        low, high = (counted_from_zero(row, row[key]) for key in ("min", "max"))
        if row["format"] == "frame" and not mode:
            low, high = low % total, high % total
        assert (drawn.min(0) >= low).all() and (drawn.max(0) <= high).all(), row
        if row["distinct_first"] == 1:
            np.testing.assert_array_equal(drawn.min(0), drawn.max(0))
