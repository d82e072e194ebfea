"""Folders of PaddleX against PaddleX's own steps and results."""

import json

import numpy as np
import pytest

from paddlevideo.engine.build import build_pipeline
from paddlevideo.metrics.scores import best_classes, softmax
from paddlevideo.predict.paddlex import VideoResult
from paddlevideo.predict.results import Result
from paddlevideo.runtimes.paddlex import read_paddlex
from tests.parts.paddlex_folders import description, write_description


@pytest.fixture(scope="module")
def golden(goldens):
    return dict(np.load(goldens / "paddlevideo/transforms_pptsm_golden.npz"))


@pytest.mark.parametrize("shape", ["clip", "portrait"])
def test_preprocessing_equals_that_of_paddlex(golden, tmp_path, shape):
    steps = [{name: args} for name, args in json.loads(str(golden["chain/paddlex/spec"]))]
    file = write_description(tmp_path, description(steps))
    manifest = read_paddlex(tmp_path)
    assert manifest is not None
    pipeline = build_pipeline(manifest.test_config(file), "test")
    clip = np.random.default_rng(7).integers(0, 256, (8, 90, 120, 3), np.uint8)[:2]
    frames = clip if shape == "clip" else clip.transpose(0, 2, 1, 3)
    got = pipeline.finish(pipeline.apply(frames, None))["frames"]
    pixels = golden[f"chain/paddlex/{shape}"]
    expected = golden["values"][np.arange(3)[:, None, None], pixels]
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)


def test_results_equal_those_of_paddlex(golden):
    names = "abcdef"
    for row, logits in enumerate(golden["paddlex_topk/logits"].astype(np.float64)):
        scores = softmax(logits)
        ids = best_classes(scores, 3).tolist()
        found = VideoResult(
            Result("a.mp4", ids, scores[ids].tolist(), [names[number] for number in ids])
        )
        assert found["class_ids"] == golden["paddlex_topk/class_ids"][row].tolist()
        assert found["label_names"] == golden["paddlex_topk/label_names"][row].tolist()
        assert found["scores"] == pytest.approx(golden["paddlex_topk/scores"][row], abs=1e-7)
