"""A measured choice sets the clips of a run, unless the caller does."""

import shutil

import pytest

from paddlevideo.predict.predictor import Predictor
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.runtimes.measured import Row, write_rows


@pytest.fixture
def folder(exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported.folder, folder)
    manifest = read_manifest(folder)
    row = Row("paddle", "tiny.json", manifest.files["tiny.json"], "cpu", "fp32", 1, None, 3, 1, 0)
    write_rows(folder, manifest, [row])
    return folder


def test_a_prediction_uses_the_measured_number_of_clips(folder, exported):
    predictor = Predictor(folder, device="cpu")
    assert predictor.backend.name.startswith("Paddle") and predictor.views_per_step == 3
    assert Predictor(folder, device="cpu", views_per_step=2).views_per_step == 2
    assert Predictor(folder, device="cpu", backend="paddle").views_per_step > 3
    (result,) = predictor.predict(exported.files[0])
    (expected,) = Predictor(exported.folder, backend="paddle", device="cpu").predict(
        exported.files[0]
    )
    assert result.class_ids == expected.class_ids
    assert result.scores == pytest.approx(expected.scores, rel=0, abs=1e-5)
