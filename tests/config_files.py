"""A small config as text, a writer of config files, and the problems that they have."""

import textwrap
from pathlib import Path

import pytest

from paddlevideo.config.check import read_config
from paddlevideo.config.schema import ConfigError

PLAIN = """
MODEL:
  framework: Recognizer2D
  backbone: {name: ResNetTweaksTSN, layers: 18}
  head: {name: ppTSNHead, num_classes: 4}
DATASET:
  batch_size: 2
  train: {format: VideoDataset, file_path: train.list}
PIPELINE:
  train:
    decode: {name: VideoDecoder}
    sample: {name: Sampler, num_seg: 2, seg_len: 1}
    transform:
      - Scale: {short_size: 72}
      - RandomFlip:
      - Image2Array
OPTIMIZER:
  name: Momentum
  learning_rate: {name: CosineAnnealingDecay, learning_rate: 1e-2, T_max: 5}
  weight_decay: {name: L2, value: 1e-4}
epochs: 5
"""


def write_config(folder: Path, text: str | bytes, name: str = "a.yaml") -> Path:
    """Write a config file and return its path; text is dedented, bytes are written unchanged."""
    path = folder / name
    if isinstance(text, str):
        text = textwrap.dedent(text).lstrip("\n").encode()
    path.write_bytes(text)
    return path


def problems(path: Path, overrides=()) -> list[str]:
    """The problems that reading a config reports, without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [text.replace(f"{path.parent}/", "") for text in caught.value.problems]
