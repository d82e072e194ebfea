"""Sampler against the frame numbers that PaddleVideo asks for."""

import json
from collections import Counter

import numpy as np
import pytest

from paddlevideo.data.sampling import Sampler

KEYS = ("select_left", "linspace_sample", "dense_sample", "frame_interval")


@pytest.fixture(scope="module")
def rows(shared):
    return json.loads(str(np.load(shared / "parity/paddlevideo/transforms_golden.npz")["sampler"]))


def both(row):
    """(ours, the reference's counted from 0), float zeros as they are."""
    mode = {key: row[key] for key in KEYS if key in row}
    sampler = Sampler(row["num_seg"], row["seg_len"], valid_mode=True, **mode)
    ours = sampler(row["frames_len"], 25.0, np.random.default_rng(0))
    # np.int is gone from numpy; with it, these rows worked.
    asked = row.get("index", row.get("index_with_np_int_restored"))
    assert ours.dtype == np.int64
    assert len(ours) == sampler.num_views * sampler.num_frames
    return ours, np.array(asked) - (row["format"] == "frame")


def test_only_the_reference_bugs_differ(rows):
    assert len(rows) == 936
    different, fractional = Counter(), 0
    for row in rows:
        ours, theirs = both(row)
        fractional += theirs.dtype == np.float64
        if not np.array_equal(ours, theirs):
            different[next((key for key in KEYS if key in row), "default"), row["format"]] += 1
    assert different == {("default", "frame"): 31, ("dense_sample", "video"): 52}
    assert fractional == 28  # zeros of type float, which is no frame's name; ours are integers


def test_frame_folders_wrap_where_the_reference_asks_for_missing_files(rows):
    missing = 0
    for row in rows:
        if row["format"] == "frame" and not any(key in row for key in KEYS):
            ours, theirs = both(row)
            assert np.array_equal(ours, theirs % row["frames_len"])
            missing += theirs.max() >= row["frames_len"]
    assert missing == 31


def test_dense_clips_of_a_video_are_not_shifted_by_one_frame(rows):
    outside = 0
    for row in rows:
        if row["format"] == "video" and "dense_sample" in row:
            ours, theirs = both(row)
            assert np.array_equal(ours, theirs - 1)
            outside += theirs.max() >= row["frames_len"]
    assert outside == 9
