"""Transforms and Mixup against PaddleVideo's numbers, bit for bit."""

import json
import re

import numpy as np
import PIL
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.clip_transforms import JitterScale
from paddlevideo.data.mixing import mix
from paddlevideo.data.pipeline import FrameSampler
from paddlevideo.data.transforms import Scale
from tests.parity.multiscale import check_boxes
from tests.parity.normalized import check_normalized

CHAINS = ("pptsn_test_round", "pptsn_test_floor", "pptsn_predict", "pptsn_valid", "pptsm_test")


@pytest.fixture(scope="module")
def golden(goldens):
    arrays = {}
    for name in ("chain", "scale"):
        arrays |= np.load(goldens / f"paddlevideo/transforms_{name}_golden.npz")
    return arrays


@pytest.fixture(scope="module")
def clips():
    clip = np.random.default_rng(7).integers(0, 256, (8, 90, 120, 3), np.uint8)
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
    assert got.dtype == np.float32
    images = got.reshape(-1, *got.shape[-3:])
    check_normalized(images, golden, f"chain/{name}/{shape}", channel_axis=1, image_axis=0)


def test_covers_every_chain(golden):
    assert {key.split("/")[1] for key in golden if key.startswith("chain/")} == set(CHAINS)


def test_scales_equal_the_reference(golden, clips):
    """Bit for bit; before Pillow 13, pixels of a portrait made square may differ by 1."""
    square = 'scale/Scale(71,{"fixed_ratio": false, "keep_ratio": false})/portrait'
    assert square in golden
    older = int(PIL.__version__.split(".")[0]) < 13
    seen = 0
    for key, expected in golden.items():
        if match := re.fullmatch(r"scale/(\w+)\((\d+),(.*)\)/(\w+)", key):
            op, size, rest, shape = match.groups()
            step = (
                Scale(int(size), **json.loads(rest))
                if op == "Scale"
                else JitterScale(int(size), int(rest))
            )
            got = step({"frames": clips[shape][: len(expected)]}, None)["frames"]
            difference = np.abs(got.astype(int) - expected)
            assert difference.max() <= (1 if older and key == square else 0), key
            seen += 1
    assert seen == 22


def test_multiscale_crop_uses_the_same_boxes(golden):
    cases = json.loads(str(golden["multiscale_crop"]))
    assert len(cases) == 24
    for case in cases:
        check_boxes(case)


def test_mixup_equals_the_reference(golden):
    x = np.stack(
        [
            np.random.default_rng(i).standard_normal((3, 3, 4, 4)).astype(np.float32)
            for i in range(4)
        ]
    )
    # The golden comes from numpy's old generator with seed 0: permutation, then beta.
    old = np.random.RandomState(0)
    perm, lam = old.permutation(4), old.beta(0.2, 0.2)
    assert np.array_equal(golden["mixup/labels_a"].ravel()[perm], golden["mixup/labels_b"].ravel())
    assert np.array_equal(golden["mixup/lam"], np.full(4, lam, np.float32))
    assert np.array_equal(mix(x, perm, lam), golden["mixup/imgs"])
