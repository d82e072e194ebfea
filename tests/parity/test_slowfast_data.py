"""SlowFast data against PaddleVideo's numbers: frames, crops, and both pathways bit for bit."""

import json
import re

import numpy as np
import pytest

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.clip_transforms import JitterScale, PackOutput
from paddlevideo.data.crops import MultiCrop
from paddlevideo.data.pipeline import FrameSampler
from paddlevideo.data.sampling import DecodeSampler
from paddlevideo.data.transforms import Image2Array, Normalization
from paddlevideo.sample import Record
from tests.parity.normalized import check_normalized


@pytest.fixture(scope="module")
def golden(goldens):
    with np.load(goldens / "paddlevideo/transforms_slowfast_golden.npz") as file:
        return dict(file)


def rows(golden, key):
    return json.loads(str(golden[key]))


def test_samples_the_same_frames(golden):
    outside = 0
    for row in rows(golden, "decode_sampler"):
        sampler = DecodeSampler(
            row["num_frames"], row["sampling_rate"], test_mode=True, num_ensemble_views=row["views"]
        )
        clips = sampler(row["frames_len"], row["fps"], None).reshape(row["views"], -1)
        # The reference clips to N, which does not exist; the last frame is N - 1.
        assert (
            clips[row["index"]].tolist()
            == np.minimum(row["frames"], row["frames_len"] - 1).tolist()
        ), row
        outside += max(row["frames"]) >= row["frames_len"]
        assert row["out_of_range"] == (max(row["frames"]) >= row["frames_len"])
    assert (len(rows(golden, "decode_sampler")), outside) == (420, 75)


def test_crops_at_the_same_corners(golden):
    cases = rows(golden, "multicrop_offsets")
    outside = 0
    for case in cases:
        size, width, height = case["crop"], case["w"], case["h"]
        crop = MultiCrop(size, test_mode=True, num_spatial_crops=case["spatial_num_clips"])
        # With many crops of a few pixels, some of the reference cross the edge and are too small.
        inside = min(case["y"], height - size), min(case["x"], width - size)
        assert crop.corners(width, height)[case["index"]] == inside, case
        outside += inside != (case["y"], case["x"])
    assert (len(cases), outside) == (96, 2)


class ClipInMemory:
    """A clip in memory."""

    fps, num_frames = 30.0, 8

    def __init__(self, frames):
        self.frames = frames

    def read(self, indices, each=None):
        return np.stack([each(self.frames[number]) for number in indices])


class AllFrames(FrameSampler):
    """Samples every frame, `num_views` times."""

    num_frames = 8

    def __init__(self, num_views):
        self.num_views = num_views

    def __call__(self, num_frames, fps, rng):
        return np.tile(np.arange(num_frames), self.num_views)


@pytest.mark.parametrize("num_clips", [1, 2])
def test_both_pathways_equal_the_reference(golden, num_clips):
    """Crops of one clip are arrays; crops of two clips are views of shared frames."""
    clip = np.random.default_rng(7).integers(0, 256, (8, 90, 120, 3), np.uint8)
    seen = 0
    for key in golden:
        if match := re.fullmatch(
            r"slowfast/short(\d+)_crop(\d+)_alpha(\d)_view(\d)of3/clip/(slow|fast)", key
        ):
            short, crop, alpha, view = map(int, match.groups()[:4])
            steps = [
                JitterScale(short, short),
                MultiCrop(crop, test_mode=True, num_spatial_crops=3),
                Image2Array(transpose=False),
                Normalization([0.45] * 3, [0.225] * 3, (1, 1, 1, 3)),
                PackOutput(alpha),
            ]
            pipeline = ClipPipeline(None, AllFrames(num_clips), steps)
            got = pipeline.finish(pipeline(Record("a clip"), None, ClipInMemory(clip)))[match[5]]
            assert got.dtype == np.float32 and len(got) == 3 * num_clips
            for first in range(0, 3 * num_clips, 3):
                check_normalized(got[first + view], golden, key, channel_axis=0, image_axis=1)
            seen += 1
    assert seen == 24
