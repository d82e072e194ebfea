"""Small AVSlowFast models and their inputs."""

import numpy as np
import paddle

from paddlevideo.models.audiovisual import AudioVisualRecognizer
from paddlevideo.models.av_slowfast import AVSlowFast, AVSlowFastHead

SMALL = {
    "alpha": 4,
    "beta": 4,
    "width_per_group": 8,
    "audio_alpha": 16,
    "audio_beta": 2,
}  # 2 slow frames, 8 fast frames, 32 time steps


def build(num_classes=5, backbone=None, head=None, **framework):
    paddle.seed(0)
    backbone = AVSlowFast(**{**SMALL, **(backbone or {})})
    head = AVSlowFastHead(num_classes, **{"crop_size": 64, **(head or {})})
    return AudioVisualRecognizer(backbone, head, **framework)


def warmed_up(model, seed=1):
    """Make the outputs depend on all inputs.

    Re-initialize what starts at zero or small (the last scales of the blocks and the classifier),
    and run a few batches, so that the batch norms have statistics.
    """
    rng = np.random.default_rng(seed)
    for name, p in model.named_parameters():
        if name.endswith(("c_bn.weight", "out_bn.weight")):
            p.set_value((1 + 0.3 * rng.standard_normal(p.shape)).astype("float32"))
    weight = model.head.projection.weight
    weight.set_value((rng.standard_normal(weight.shape) * 0.02).astype("float32"))
    model.train()
    with paddle.no_grad():
        for seed in range(10, 14):
            model(clips(2, time_steps=2 * model.audio_alpha, seed=seed))
    return model


def assert_close(found, expected):
    """Assert equality up to the rounding of float32."""
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=2e-6 * np.abs(np.asarray(expected)).max()
    )


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def clips(n=2, size=64, seed=0, time_steps=32, mel_bins=16):
    fast = noise(n, 3, 8, size, size, seed=seed)
    return {
        "slow": fast[:, :, ::4].clone(),
        "fast": fast,
        "audio": noise(n, 1, time_steps, mel_bins, seed=seed + 50),
    }


def training(n=3, seed=0, epoch=0):
    batch = clips(n, seed=seed)
    return {**batch, "audio_negative": noise(*batch["audio"].shape, seed=seed + 90), "epoch": epoch}


def frozen_norms(model):
    """Training mode except for the batch norms, so clips do not influence each other."""
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm3D):
            layer.eval()
    return model


def scores(model, batch):
    model.eval()
    with paddle.no_grad():
        return model(batch).numpy()
