"""Shared fixtures: the reference goldens where a checkout has them beside it, made-up clips, a small config on them."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from paddlevideo import dist
from paddlevideo.engine.build import load_config
from tests.clips import pictures, write_clip

if "PYTEST_XDIST_WORKER" in os.environ and hasattr(
    os, "sched_setaffinity"
):  # one of several processes: its share of the cores
    number, count = (
        int(os.environ["PYTEST_XDIST_WORKER"][2:]),
        int(os.environ["PYTEST_XDIST_WORKER_COUNT"]),
    )
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number::count] or cores)
dist.use_threads()  # as main.py does
ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("blue sky", "green", "红色")  # a space and another script belong to the test


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material (golden outputs, real clips); tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip(
            f"no reference material: {folder.name}/parity does not stand beside the checkout"
        )
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """`<split>/<class>/*.mp4`: 12 train, 6 val and 7 test clips of 3 classes that differ in colour."""
    root = tmp_path_factory.mktemp("clips")
    for split, count in (("train", 12), ("val", 6), ("test", 7)):
        for number in range(count):
            channel = number % 3
            frames = pictures(8, 40, 56, seed=number + 100 * len(split))
            frames[..., channel] = np.maximum(frames[..., channel], 190)
            path = root / split / CLASSES[2 - channel] / f"clip {number}.mp4"
            write_clip(path, frames=frames, num_frames=8, height=40, width=56)
    return root


def small_config(clips: Path, folder: Path, **changes) -> Path:
    """Write a config for PP-TSN-18 on 32 x 32 pixels, a second or two an epoch; `changes` replace top-level keys."""
    steps = [
        {"Image2Array": None},
        {"Normalization": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
    ]

    def pipeline(crop, **sample):
        return {
            "decode": {"name": "VideoDecoder"},
            "sample": {
                "name": "Sampler",
                "num_seg": 2,
                "seg_len": 1,
                "select_left": True,
                **sample,
            },
            "transform": [
                {"Scale": {"short_size": 36, "fixed_ratio": False, "backend": "cv2"}},
                *crop,
                *steps,
            ],
        }

    def split(name):
        return {"format": "VideoDataset", "file_path": str(clips / name)}

    data = {
        "MODEL": {
            "framework": "Recognizer2D",
            "backbone": {"name": "ResNetTweaksTSN", "layers": 18},
            "head": {"name": "ppTSNHead", "drop_ratio": 0.3, "ls_eps": 0.1},
        },
        "DATASET": {
            "batch_size": 3, "test_batch_size": 2, "train": split("train"), "valid": split("val"), "test": split("test"),
        },
        "PIPELINE": {
            "train": pipeline([{"MultiScaleCrop": {"target_size": 32, "backend": "cv2"}}, "RandomFlip"], valid_mode=False),
            "valid": pipeline([{"CenterCrop": {"target_size": 32}}], valid_mode=True),
            "test": pipeline([{"TenCrop": {"target_size": 32}}], valid_mode=True),
        },
        "OPTIMIZER": {
            "name": "Momentum", "use_nesterov": True, "weight_decay": {"name": "L2", "value": 1e-4},
            "learning_rate": {
                "name": "CustomWarmupCosineDecay", "iter_step": True, "max_epoch": 3, "warmup_epochs": 1,
                "warmup_start_lr": 0.002, "cosine_base_lr": 0.01,
            },
        },
        "MIX": {"name": "Mixup", "alpha": 0.2},
        "model_name": "ppTSN", "output_dir": str(folder / "out"), "epochs": 2, "log_interval": 1,
    }  # fmt: skip
    data.update(changes)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture
def small(clips, tmp_path):
    """`small(*overrides, **changes)` -> a loaded config whose output goes to a folder of the test."""

    def make(*overrides, **changes):
        return load_config(small_config(clips, tmp_path, **changes), list(overrides))

    return make
