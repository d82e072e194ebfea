"""Frame features in tar shards: `NAME.npy` files, with the labels of the sample."""

import io

import numpy as np
import pytest

from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset
from paddlevideo.data.webdataset.dataset import WebDataset
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder, FeaturePipeline
from paddlevideo.predict.feed import has_features
from paddlevideo.sample import Draw, Record
from tests.tar_shards import write_tar

SIZES = {"rgb": 8, "audio": 4}
DECODER = FeatureDecoder(max_frames=6, features=SIZES, num_classes=5)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def arrays(seed: int, num_frames: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 256, (num_frames, width), np.uint8) for name, width in SIZES.items()
    }


def entries(key: str, features: dict[str, np.ndarray], label: str = '{"labels": [1, 3]}'):
    files = [(f"{key}.{name}.npy", npy(array)) for name, array in features.items()]
    return [*files, (f"{key}.json", label.encode())]


def sample_of(path, *parts, **options):
    write_tar(path / "f.tar", [entry for part in parts for entry in part])
    data = WebDataset(str(path / "f.tar"), multi_label=True, **options).load()
    dataset = ClipDataset(data.records, FeaturePipeline(DECODER), num_classes=5)
    return dataset.sample(0, Draw(0))


def test_features_and_labels(tmp_path):
    features = arrays(0)
    sample, failures = sample_of(tmp_path, entries("x" * 150, features))
    assert sample is not None and not failures
    assert sample["num_frames"] == 4 and sample["label"].tolist() == [0, 1, 0, 1, 0]
    for name, array in features.items():
        assert np.array_equal(sample[name][:4], array)
        assert not sample[name][4:].any()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"rgb": np.zeros((4, 8), np.uint8)}, "has no feature list audio"),
        (arrays(0) | {"rgb": np.zeros((4, 8), np.float32)}, r"rgb.npy is float32 \[4, 8\]"),
        (arrays(0) | {"rgb": np.zeros((4, 7), np.uint8)}, "a frame of rgb has 7 values"),
        (arrays(0) | {"rgb": np.zeros((3, 8), np.uint8)}, "expected equal numbers"),
        (arrays(0) | {"rgb": np.array([{}], object)}, "rgb.npy: it holds Python objects"),
    ],
)
def test_wrong_features(tmp_path, features, message):
    _, failures = sample_of(tmp_path, entries("v", features), media="features")
    (failure,) = failures
    assert failure.path == f"{tmp_path}/f.tar@v"
    with pytest.raises(ValueError, match=message):
        raise ValueError(failure.reason)


def test_a_sample_without_features_fails(tmp_path):
    video = [("v.mp4", b"x"), ("v.cls", b"1")]
    _, (failure,) = sample_of(tmp_path, video, media="features")
    assert failure.reason == "no features in it, only mp4"


def test_inputs_of_a_prediction(tmp_path):
    shard = write_tar(tmp_path / "f.tar", [*entries("a", arrays(0)), ("b.mp4", b"x")])
    first, second = FeaturePipeline.find_records(str(shard))
    assert has_features(first) and second.problem
    assert FeaturePipeline(DECODER)(first)["num_frames"] == 4
    videos = write_tar(tmp_path / "v.tar", [("b.mp4", b"x")])
    with pytest.raises(DatasetError, match="no features: no features in it, only mp4"):
        FeaturePipeline.find_records(str(videos))
    assert not has_features(Record("v.tar@512+10/b.mp4"))
    assert has_features(Record("a.tfrecord", offset=0)) and not has_features(Record("b.mp4"))
