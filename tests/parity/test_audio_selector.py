"""Frames and time steps of audio clips against MMAction2, and clips for which it gives zeros."""

import json

import numpy as np
import pytest

from paddlevideo.data.audio_transforms import AudioFeatureSelector, SampleFrames

FIXED = 128


@pytest.fixture(scope="module")
def golden(goldens):
    return json.loads((goldens / "audio" / "selector_golden.json").read_text(encoding="utf-8"))


def clips_of(row) -> np.ndarray:
    """Frame numbers [clips, 64] for a row of the goldens; 0.x counts frames from 1."""
    first = row["gen"] == "0.x"
    sample = SampleFrames(64, 1, row["num_clips"], True, "centers" if first else "ends", int(first))
    return sample(row["total_frames"], 0.0, np.random.default_rng(0)).reshape(row["num_clips"], 64)


def rows_of(golden):
    return [row for row in golden["rows"] if row["gen"] in ("0.x", "1.x")]


def test_samples_the_same_frames(golden):
    for row in rows_of(golden):
        clips = clips_of(row)
        assert (
            clips[:, 0].tolist() == row["first_frame"]
            and clips[:, -1].tolist() == row["last_frame"]
        ), row
    assert len(rows_of(golden)) == 52


def test_cuts_the_same_time_steps(golden):
    same = 0
    for row in rows_of(golden):
        for clip, first, kept in zip(
            clips_of(row), row["first_row"], row["kept_rows"], strict=True
        ):
            start, end = AudioFeatureSelector(FIXED).span(clip, row["total_frames"], row["length"])
            if kept == FIXED:
                assert (start, end - start) == (first, kept), row
                same += 1
            else:  # the reference pads a clip that loops over its video with zeros
                assert row["total_frames"] < 64 and end - start == FIXED, row
                assert first is None or start == first, row
    assert same == 198


def test_draws_the_same_training_clips(golden):
    class Legacy:  # NumPy's old generator, which the reference uses
        def __init__(self, seed):
            self.state = np.random.RandomState(seed)

        def integers(self, low, high, size):
            return self.state.randint(low, high, size=size)

    for row in golden["train_np_seed0_1x"]:
        assert SampleFrames(64)(row["total_frames"], 0.0, Legacy(0))[0] == row["first_frame"], row
