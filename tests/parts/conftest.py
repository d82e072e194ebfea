"""A small model with fixed weights, exported once in every format, and videos to classify; remote
files in memory and on servers of the loopback."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from paddlevideo.config.schema import Config
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import TrainState
from paddlevideo.exporting.export import export, missing_for_onnx
from paddlevideo.remote import access
from paddlevideo.runtimes.choose import RUNTIMES, available_backends
from paddlevideo.weights import write_arrays
from paddlevideo.zoo import download
from tests.clips import write_clip
from tests.file_server import serve
from tests.remote_files import S3Files, memory_files, s3_server, use_s3
from tests.shared_folders import made_once

NAMES = ["appel", "birne", "kürbis"]
CONFIG = """
MODEL:
  framework: Recognizer2D
  backbone: {name: ResNetTweaksTSN, layers: 10, base_channels: 8}
  head: {name: ppTSNHead}
DATASET:
  test: {format: VideoDataset, file_path: LIST}
PIPELINE:
  test:
    decode: {name: VideoDecoder}
    sample: {name: Sampler, num_seg: 2, seg_len: 1, valid_mode: True, select_left: True}
    transform:
      - Scale: {short_size: 72, fixed_ratio: False, do_round: True, backend: cv2}
      - TenCrop: {target_size: 64}
      - Image2Array:
      - Normalization: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
INFERENCE: {top_k: 2}
model_name: tiny
"""
# Every runtime and the programs that it reads.
PROGRAMS = [
    ("paddle", ".pdmodel"),
    ("paddle", ".json"),
    ("onnxruntime", ".onnx"),
    ("openvino", ".onnx"),
    ("openvino", ".pdmodel"),
]


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Args:
        folder: the export.
        weights: a file that contains the class names, too.
        videos: folder of three videos of different sizes.
    """

    folder: Path
    config: Path
    weights: Path
    videos: Path

    @property
    def cfg(self) -> Config:
        return load_config(self.config)

    @property
    def files(self) -> list[str]:
        return [str(path) for path in sorted(self.videos.rglob("*.*"))]


def missing_for(kind: str, suffix: str = "") -> str:
    """What this machine lacks to run a backend on the programs that `exported` has for it.

    Args:
        suffix: of the program; by default the one that the backend prefers.
    """
    program = suffix or "".join(RUNTIMES[kind].suffixes[:1])
    return available_backends()[kind] or (missing_for_onnx() if program == ".onnx" else "")


def skip_without(kind: str, suffix: str = "") -> None:
    """Skip the test for the reason of `missing_for`."""
    if reason := missing_for(kind, suffix):
        pytest.skip(f"no backend {kind}: {reason}")


def write_weights(cfg: Config, path: Path, names: list[str], seed: int = 0) -> Path:
    """Weights whose logits differ between classes and videos."""
    paddle.seed(seed)
    model = build_model(cfg, len(names))
    state = TrainState(model, None, None, class_names=names)
    arrays = state.model_arrays()
    noise = np.random.default_rng(seed).standard_normal(arrays["head.fc.weight"].shape)
    arrays["head.fc.weight"] = noise.astype(np.float32) * 0.005
    write_arrays(path, arrays)
    return path


def make_exported(folder: Path) -> None:
    """Write videos, their list, a config and weights; export the model in every format."""
    videos = folder / "videos"
    write_clip(videos / "a.mp4", 12)
    write_clip(videos / "b" / "Motion.MP4", 20, height=80, width=48)
    write_clip(videos / "c d.avi", 5, height=64, width=96, codec="mpeg4")
    files = sorted(videos.rglob("*.*"))
    lines = [f"{path} {number}\n" for number, path in enumerate(files)]
    (folder / "test.list").write_text("".join(lines), encoding="utf-8")
    config = folder / "tiny.yaml"
    path = json.dumps(str(folder / "test.list"))  # valid YAML, whatever the name of the folder
    config.write_text(CONFIG.replace("LIST", path), encoding="utf-8")
    assert yaml.safe_load(config.read_text(encoding="utf-8"))
    cfg = load_config(config)
    weights = write_weights(cfg, folder / "tiny.pdparams", NAMES)
    export(cfg, weights, folder / "out", ["all"])


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    folder = made_once(tmp_path_factory, "exported", make_exported)
    files = (folder / name for name in ("out", "tiny.yaml", "tiny.pdparams", "videos"))
    return Exported(*files)


# --- remote files ---------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    """An empty cache; and no waiting between attempts."""
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(access, "WAITS", (0, 0))
    monkeypatch.setattr(download, "WAITS", (0, 0, 0))
    return tmp_path / "home"


@pytest.fixture
def memory(home):
    """A folder of `memory://`."""
    with memory_files() as files:
        yield files


@pytest.fixture
def server(home):
    """A web server."""
    pytest.importorskip("aiohttp")
    with serve() as state:
        yield state


@pytest.fixture(scope="session")
def s3_endpoint():
    """The address of an S3 server; tests use `s3`."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint, home, monkeypatch):
    """A bucket of this test on an S3 server, asked by its own connections."""
    files = S3Files(s3_endpoint)
    use_s3(files, monkeypatch)
    return files
