"""A small NeXtVLAD on synthetic shards, and networks of few layers."""

import numpy as np
import paddle
import pytest

from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.weights import state_arrays, write_arrays
from tests.shallow import one_block_per_stage

CLASSES = 24  # more than the 20 in a row of a score file
SIZES = {"rgb": 8, "audio": 4}
DECODE = "{name: FeatureDecoder, max_frames: 9, features: {rgb: 8, audio: 4}}"
SMALL = [
    "MODEL.backbone.cluster_size=4",
    "MODEL.backbone.audio_cluster_size=null",
    "MODEL.backbone.groups=2",
    "MODEL.backbone.feature_size=8",
    "MODEL.backbone.audio_size=4",
    "MODEL.head.hidden_size=16",
    "MODEL.head.gating_reduction=4",
    f"MODEL.head.num_classes={CLASSES}",
    "DATASET.batch_size=4",
    "DATASET.valid_batch_size=3",
    "DATASET.test_batch_size=3",
    *(f"PIPELINE.{split}.decode={DECODE}" for split in ("train", "valid", "test")),
    "epochs=2",
    "log_interval=1",
    "save_interval=1",
    "val_interval=1",
]


@pytest.fixture(scope="module")
def all_shallow():
    """The same as `shallow`, for all tests and fixtures of a file."""
    with one_block_per_stage():
        yield


@pytest.fixture(scope="session")
def nextvlad_shards(tmp_path_factory):
    """20 training videos in 3 shards; 5 validation and 5 test videos in one shard each."""
    folder = tmp_path_factory.mktemp("shards")
    features = tuple(SIZES.items())
    plan = ShardPlan(classes=CLASSES, videos=20, per_shard=8, frames=(2, 12), features=features)
    make_shards(folder, plan)
    return folder


@pytest.fixture
def nextvlad(nextvlad_shards, tmp_path, root):
    """`nextvlad(*overrides)`: the demo config on small shards with a small network."""
    names = {"train": "train", "valid": "val", "test": "test"}
    files = [
        f"DATASET.{split}.file_path={nextvlad_shards / name}.list" for split, name in names.items()
    ]

    def make(*overrides):
        own = [*SMALL, *files, f"output_dir={tmp_path}/out"]
        return load_config(root / "configs/demo/nextvlad.yaml", [*own, *overrides])

    return make


@pytest.fixture
def nextvlad_weights(nextvlad, tmp_path):
    """A weight file of the small network; its scores differ from video to video."""
    paddle.seed(5)
    model = build_model(nextvlad())
    model.train()
    rng = np.random.default_rng(0)
    inputs = {
        name: paddle.to_tensor(rng.integers(0, 256, (6, 9, width), np.uint8))
        for name, width in SIZES.items()
    }
    for _ in range(20):  # the batch norms collect statistics
        model({**inputs, "num_frames": paddle.to_tensor([9, 5, 2, 9, 7, 1])})
    write_arrays(tmp_path / "w.pdparams", state_arrays(model))
    return str(tmp_path / "w.pdparams")
