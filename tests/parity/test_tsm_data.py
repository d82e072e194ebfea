"""Transforms of the TSM and PP-TSM configs against PaddleVideo's numbers, bit for bit."""

import json

import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.crops import GroupFullResSample
from paddlevideo.data.pipeline import FrameSampler

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
