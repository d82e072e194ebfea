"""Small NeXtVLAD models and their inputs."""

import numpy as np
import paddle

from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import TaggerMixture, VideoTagger

FRAMEWORKS = {"VideoTagger": VideoTagger, "TaggerMixture": TaggerMixture}
SMALL = {"cluster_size": 8, "groups": 4, "feature_size": 16, "audio_size": 8, "whitening": None}
FRAMES = 12  # maximum number of frames of a video


def small(framework="VideoTagger", num_classes=5, drop_rate=0.5, seed=0, mixture=None, **changes):
    paddle.seed(seed)
    backbone = NeXtVLAD(**{**SMALL, "max_frames": FRAMES, **changes})
    head = NeXtVLADHead(
        num_classes=num_classes, hidden_size=16, gating_reduction=4, drop_rate=drop_rate
    )
    return FRAMEWORKS[framework](backbone, head, **(mixture or {}))


def batch(counts=(5, 12, 1), frames=FRAMES, seed=0, audio=True):
    rng = np.random.default_rng(seed)
    arrays = {"rgb": rng.integers(0, 256, (len(counts), frames, 16), np.uint8)}
    if audio:
        arrays["audio"] = rng.integers(0, 256, (len(counts), frames, 8), np.uint8)
    return {
        **{name: paddle.to_tensor(array) for name, array in arrays.items()},
        "num_frames": paddle.to_tensor(list(counts)),
    }


def used(model, steps=3):
    """The model after a few training batches, so that its batch norms have statistics."""
    model.train()
    for seed in range(steps):
        model(batch(seed=seed + 50))
    return model
