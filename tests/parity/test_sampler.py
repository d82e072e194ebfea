"""Sampler against the frame numbers that PaddleVideo asks for."""

import json
from collections import Counter

import numpy as np
import pytest

from paddlevideo.data.sampling import Sampler

KEYS = ("select_left", "linspace_sample", "dense_sample", "frame_interval")


@pytest.fixture(scope="module")
def rows(goldens):
    return json.loads(str(np.load(goldens / "paddlevideo/sampler_golden.npz")["sampler"]))


def sampled(row):
    """Frame numbers (of this project, of the reference), both counted from 0."""
    mode = {key: row[key] for key in KEYS if key in row}
    sampler = Sampler(row["num_seg"], row["seg_len"], valid_mode=True, **mode)
    numbers = sampler(row["frames_len"], 25.0, np.random.default_rng(0))
    # NumPy removed np.int, without which the reference fails on these rows.
    asked = row.get("index", row.get("index_with_np_int_restored"))
    assert numbers.dtype == np.int64
    assert len(numbers) == sampler.num_views * sampler.num_frames
    return numbers, np.array(asked) - (row["format"] == "frame")


def test_differs_only_where_the_reference_is_wrong(rows):
    assert len(rows) == 936
    different, fractional = Counter(), 0
    for row in rows:
        numbers, expected = sampled(row)
        fractional += expected.dtype == np.float64
        if not np.array_equal(numbers, expected):
            different[next((key for key in KEYS if key in row), "default"), row["format"]] += 1
    assert different == {("default", "frame"): 31, ("dense_sample", "video"): 52}
    assert fractional == 28  # float zeros, which name no frame file; here they are integers


def test_wraps_frame_folders_instead_of_missing_files(rows):
    missing = 0
    for row in rows:
        if row["format"] == "frame" and not any(key in row for key in KEYS):
            numbers, expected = sampled(row)
            assert np.array_equal(numbers, expected % row["frames_len"])
            missing += expected.max() >= row["frames_len"]
    assert missing == 31


def test_does_not_shift_dense_clips_by_one_frame(rows):
    outside = 0
    for row in rows:
        if row["format"] == "video" and "dense_sample" in row:
            numbers, expected = sampled(row)
            assert np.array_equal(numbers, expected - 1)
            outside += expected.max() >= row["frames_len"]
    assert outside == 9
