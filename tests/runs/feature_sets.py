"""Helpers of the feature tests: a small recognizer, a feature set, and readers of its shards."""

from pathlib import Path

import paddle

from paddlevideo.data.youtube8m.sequence_example import parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.features.extract import Recipe
from paddlevideo.features.feature_sets import extract_set
from paddlevideo.features.feature_shards import SetOptions
from paddlevideo.weights import state_arrays, write_arrays
from tests.conftest import small_config

FRAME_RATE = 10.0  # the clips last 0.32 s: 4 steps


def make_recipe(clips, folder, base_channels: int = 8) -> Recipe:
    """A recipe of a network whose batch norms have seen one batch; 8 features per base channel."""
    config = small_config(clips, folder, base_channels=base_channels)
    paddle.seed(3)
    model = build_model(load_config(config), 3)
    model.train()
    model({"frames": paddle.randn([4, 2, 3, 32, 32])})
    write_arrays(folder / "w.pdparams", state_arrays(model))
    return Recipe(str(config), str(folder / "w.pdparams"), frame_rate=FRAME_RATE)


def make_set(recipe, out, *inputs, workers=0, class_names=None, **options):
    """Extract a feature set in this process; return its summary."""
    names = [str(path) for path in inputs]
    set_options = SetOptions(Path(out), **options)
    return extract_set(recipe, set_options, names, class_names, num_workers=workers)


def read_examples(folder):
    """Name of a shard -> its examples."""
    return {
        path.name: [parse_example(payload) for _, payload in read_payloads(path)]
        for path in sorted(folder.glob("*.tfrecord"))
    }


def read_shards(folder):
    """Name of a shard -> its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tfrecord"))}
