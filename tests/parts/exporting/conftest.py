"""A program with preprocessing, exported once."""

from pathlib import Path

import pytest

from paddlevideo.exporting.export import export, missing_for_onnx
from tests.shared_folders import made_once


@pytest.fixture(scope="session")
def video_export(exported, tmp_path_factory) -> Path:
    """The folder of the tiny model with preprocessing, `out`, and of Triton, `triton`."""
    if reason := missing_for_onnx():
        pytest.skip(reason)

    def make(folder: Path) -> None:
        options = {"with_preprocess": True, "triton": folder / "triton"}
        export(exported.cfg, exported.weights, folder / "out", ["onnx"], **options)

    return made_once(tmp_path_factory, "video_export", make)
