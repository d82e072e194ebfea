"""Small models in memory, each built once: of frames, of clips with audio, and of audio."""

from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import Config
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.predict.predictor import Predictor
from tests.parts.predict.families import CONFIGS

FRAMES = """
MODEL:
  framework: Recognizer2D
  backbone: {name: ResNetTweaksTSN, layers: 10, base_channels: 8}
  head: {name: ppTSNHead, num_classes: 3}
DATASET:
  test: {format: VideoDataset, file_path: LIST}
PIPELINE:
  test:
    decode: {name: VideoDecoder}
    sample: {name: Sampler, num_seg: 8, seg_len: 1, valid_mode: True}
    transform:
      - Scale: {short_size: 36, fixed_ratio: False, do_round: True, backend: cv2}
      - CenterCrop: {target_size: 32}
      - Image2Array:
      - Normalization: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
model_name: frames
"""


def build(name: str, text: str, folder: Path, *overrides: str, classes: int = 5) -> Predictor:
    """A predictor of a model with random weights, whose logits differ between windows."""
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("LIST", str(folder / "none.list")), encoding="utf-8")
    cfg: Config = load_config(path, list(overrides))
    paddle.seed(0)
    model = build_model(cfg, classes)
    for parameter in model.parameters():
        if parameter.shape[-1] == classes and len(parameter.shape) == 2:
            noise = np.random.default_rng(0).standard_normal(parameter.shape)
            parameter.set_value(noise.astype(np.float32) * 0.02)
    return Predictor(model, cfg, device="cpu", threads=1)


@pytest.fixture(scope="session")
def frames_model(tmp_path_factory) -> Predictor:
    return build("frames", FRAMES, tmp_path_factory.mktemp("frames"), classes=3)


@pytest.fixture(scope="session")
def audio_model(tmp_path_factory) -> Predictor:
    folder = tmp_path_factory.mktemp("audio")
    return build("audio", CONFIGS["audio"], folder, "MODEL.head.num_classes=5")


@pytest.fixture(scope="session")
def both_model(tmp_path_factory) -> Predictor:
    folder = tmp_path_factory.mktemp("both")
    return build("both", CONFIGS["both"], folder, "MODEL.head.num_classes=5")
