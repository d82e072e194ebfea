"""Models of audio, of frames with audio, and of frame features can be quantized, too."""

import shutil
from functools import partial

import numpy as np
import pytest

from paddlevideo.exporting.export import missing_for_onnx
from paddlevideo.quantizing.quantize import quantize
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.manifest import read_manifest
from tests.parts.predict.families import FAMILIES, make_family, read_family
from tests.shared_folders import made_once

for package in ("openvino", "nncf"):
    pytest.importorskip(package)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("shallow"),  # as in tests/parts/predict, which shares the folders
    pytest.mark.skipif(bool(missing_for_onnx()), reason=missing_for_onnx()),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_in_int8(tmp_path_factory, tmp_path, name):
    source = made_once(tmp_path_factory, name, partial(make_family, name))
    family = read_family(name, source)
    folder = shutil.copytree(family.folder, tmp_path / "out")
    comparison = quantize(folder, family.list, num=4)
    assert comparison.accuracy is not None and comparison.largest_change < 0.2
    manifest = read_manifest(folder)
    assert manifest.quantization["in_fp32"] == (["MatMul.0"] if name == "tags" else [])
    backend = open_backend(folder, precision="int8", device="cpu")
    assert backend.inputs.keys() == family.inputs.keys()
    logits, expected = backend.run(family.inputs), family.golden["logits"]
    # The golden inputs are noise, which the calibration has not seen: only that int8 computes.
    assert logits.shape == expected.shape and np.abs(logits - expected).max() > 1e-4
