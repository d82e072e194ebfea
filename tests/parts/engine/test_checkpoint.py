"""What a checkpoint holds besides its tensors: class names and the progress of the run."""

import json

import numpy as np
import paddle
import pytest

from paddlevideo.api import train
from paddlevideo.engine.build import load_config
from paddlevideo.engine.checkpoint import CLASS_NAMES, read_model
from paddlevideo.weights import WeightsError, read_arrays, write_arrays
from tests.conftest import small_config


def stored(value) -> np.ndarray:
    """JSON as the bytes in a checkpoint."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return np.frombuffer(text, np.uint8)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (stored(b"[1, 2"), "is not JSON"),
        (stored(b"\xff\xfe"), "is not JSON"),
        (stored(b"[" * 100_000), "is not JSON"),
        (stored(b""), "is not JSON"),
        (stored({"a": 1}), "is not a list of names"),
        (stored(["a", 1]), "is not a list of names"),
        (stored("ab"), "is not a list of names"),
        (np.array([1.5, 2.5]), r"is float64 \[2\], expected bytes of JSON"),
        (np.array(7, np.uint8), r"is uint8 \[\], expected bytes of JSON"),
    ],
)
@pytest.mark.parametrize("suffix", [".pdparams", ".pdstate"])
def test_rejects_odd_class_names(tmp_path, names, message, suffix):
    path, prefix = tmp_path / f"w{suffix}", "model/" if suffix == ".pdstate" else ""
    write_arrays(path, {f"{prefix}w": np.ones(2), f"{prefix}{CLASS_NAMES}": names})
    with pytest.raises(WeightsError, match=rf"w{suffix}: {CLASS_NAMES} {message}"):
        read_model(path)


def test_reads_class_names(tmp_path):
    names = ["a", "", "跳", "a b"]
    write_arrays(tmp_path / "w.pdparams", {"w": np.ones(2), CLASS_NAMES: stored(names)})
    assert read_model(tmp_path / "w.pdparams")[1] == names


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e29])
def test_rejects_values_that_no_training_gives(tmp_path, value):
    paddle.save({"w": paddle.to_tensor([0.0, value])}, str(tmp_path / "w.pdparams"))
    with pytest.raises(WeightsError, match=r"w.pdparams: 1 tensors .* w is .* at \[1\]"):
        read_model(tmp_path / "w.pdparams")


@pytest.fixture(scope="module")
def finished(clips, tmp_path_factory):
    cfg = load_config(small_config(clips, tmp_path_factory.mktemp("run")), ["epochs=1"])
    train(cfg, validate=False)
    return cfg


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer/progress@@", stored(b"{"), "progress@@ is not JSON"),
        ("optimizer/progress@@", stored([1]), "progress@@ is not the progress of a run"),
        ("optimizer/progress@@", stored({"epoch": 1}), "progress@@ is not the progress of a run"),
        (
            "optimizer/progress@@",
            stored({"scaler": {}, "fingerprint": "", "other": 1}),
            "progress@@ is not the progress of a run",
        ),
        ("optimizer/progress@@", np.ones(3), "progress@@ is float64"),
        ("model/head.fc.bias", np.full(3, np.nan, np.float32), "model/head.fc.bias is nan"),
        ("optimizer/head.fc.bias.velocity", np.full(3, np.inf, np.float32), "velocity is inf"),
    ],
)
def test_rejects_a_damaged_state(finished, tmp_path, name, value, message):
    arrays = read_arrays(f"{finished.folder}/ppTSN_latest.pdstate")
    write_arrays(tmp_path / "damaged.pdstate", {**arrays, name: value})
    with pytest.raises(WeightsError, match=message):
        train(finished, validate=False, resume=str(tmp_path / "damaged.pdstate"))
