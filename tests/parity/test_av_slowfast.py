"""AVSlowFast against the names, costs, logits and synchronization losses of its authors' code.

The goldens of the loss are for one clip, or for the loss alone. With two clips the authors' code
orders the audio clip by clip, but then splits it in halves as if all aligned audio came first. It
compares clip 1 with the misaligned audio of clip 0. This project does not reproduce that: the loss
of a clip is the same in a batch and alone (tests/parts/models/test_av_synchronization.py).
"""

import ast

import numpy as np
import paddle
import pytest

from paddlevideo.losses import synchronisation_loss
from paddlevideo.models.audiovisual import AudioVisualRecognizer, distinguishable
from paddlevideo.models.av_slowfast import AVSlowFast, AVSlowFastHead
from paddlevideo.models.av_slowfast_layers import SyncProjection
from tests.initial_values import zeros_as_initial_values
from tests.parity.audio_reference import close, counted, fill
from tests.parity.fill import torch_tensor

CASES = {
    "4x16_r50": {},
    "4x16_r50_fsall": {"fs_stages": [1, 2, 3, 4]},
    "8x8_r50": {"alpha": 4, "audio_alpha": 16, "fusion_kernel_sz": 7},
}


def build(name: str, crop_size=224) -> AudioVisualRecognizer:
    with zeros_as_initial_values():
        return AudioVisualRecognizer(
            AVSlowFast(**CASES[name]), AVSlowFastHead(400, crop_size, dropout_rate=0.0)
        )


@pytest.fixture(scope="module")
def model(goldens):
    model = build("4x16_r50", crop_size=64)
    fill(goldens, model, "avslowfast_4x16_r50", "avslowfast")
    return model


def clips(num_clips, size, num_audio, slow):
    """Random inputs from one generator: fast, then audio [N, num_audio, 1, 128, 80]."""
    rng = np.random.default_rng(0)
    fast = rng.standard_normal((num_clips, 3, 32, size, size)).astype("float32")
    audio = rng.standard_normal((num_clips, num_audio, 1, 128, 80)).astype("float32")
    batch = {"slow": fast[:, :, slow], "fast": fast, "audio": audio[:, 0]}
    if num_audio == 2:
        batch["audio_negative"] = audio[:, 1]
    return {name: paddle.to_tensor(array) for name, array in batch.items()}


def frozen_norms(model):
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm3D):
            layer.eval()


def test_logits(goldens, model):
    golden = np.load(goldens / "audio" / "golden_avslowfast_4x16_r50.npz")
    batch = clips(2, 64, 1, golden["slow_idx"])
    model.eval()
    with paddle.no_grad():
        features, _ = model.backbone(batch)
        log_p = model.head(features).numpy()
        model.head.train()  # which gives the logits; there is no dropout
        logits = model.head(features).numpy()
    close(logits, golden["s64_logits"])
    close(logits, golden["s64_logits_f64"])
    np.testing.assert_allclose(np.exp(log_p), golden["s64_probs"], atol=1e-5)


def test_features_of_each_stage(goldens, model):
    golden = np.load(goldens / "audio" / "golden_avslowfast_4x16_r50.npz")
    stats = ast.literal_eval(str(golden["stage_stats"]))
    model.eval()
    found, hooks = {}, []
    for name in ("s1", "s2", "s3", "s3_fuse", "s4", "s4_fuse", "s5"):
        layer = getattr(model.backbone, name)

        def keep(layer, x, y, name=name):
            found[name] = y[0] if name.endswith("fuse") else y

        hooks.append(layer.register_forward_post_hook(keep))
    try:
        with paddle.no_grad():
            model.backbone(clips(2, 64, 1, golden["slow_idx"]))
    finally:
        for hook in hooks:
            hook.remove()
    for name, features in found.items():
        arrays = [features[p].numpy().astype("float64") for p in ("slow", "fast", "audio")]
        assert [a.shape for a in arrays] == stats[name]
        np.testing.assert_allclose([a.mean() for a in arrays], stats[f"{name}_mean"], rtol=1e-5)
        np.testing.assert_allclose([a.std() for a in arrays], stats[f"{name}_std"], rtol=1e-4)


@pytest.mark.parametrize(("kept", "rate"), [("keep", 0.0), ("drop", 1.0)])
def test_losses_of_a_training_step(goldens, model, kept, rate):
    golden = np.load(goldens / "audio" / "golden_avs_loss.npz")
    frozen_norms(model)
    model.backbone.drop_pathway = rate
    with paddle.no_grad():
        logits, embeddings = model({**clips(1, 64, 2, [0, 10, 20, 31]), "epoch": 0})
    close(logits.numpy(), golden[f"train_{kept}_logits"])
    assert list(embeddings) == ["s3", "s4", "s5"]
    for stage, pair in embeddings.items():
        assert float(synchronisation_loss(*pair)) == pytest.approx(
            float(golden[f"train_{kept}_{stage}_avs"]), rel=1e-5
        )


def test_loss_alone(goldens):
    golden = np.load(goldens / "audio" / "golden_avs_loss.npz")
    projection = SyncProjection(640)
    for name in ("ref_fc", "query_fc"):
        layer = getattr(projection, name)
        layer.weight.set_value(torch_tensor(f"{name}.weight", (64, 640)).T.copy())
        layer.bias.set_value(torch_tensor(f"{name}.bias", (64,)))
    rng = np.random.default_rng(0)
    shapes = ((4, 640, 4, 7, 7), (4, 640, 1, 4, 1), (4, 640, 1, 4, 1))
    visual, own, other = (
        paddle.to_tensor(rng.standard_normal(shape).astype("float32")) for shape in shapes
    )
    embeddings = projection(visual, paddle.concat([own, other]))
    loss = synchronisation_loss(*embeddings, paddle.ones([4]))
    assert float(loss) == pytest.approx(float(golden["iso_L2_all"]), rel=1e-6)
    for valid, key in (([1, 1, 0, 1], "iso_L2_m1101"), ([0, 0, 0, 0], "iso_L2_none")):
        found = float(synchronisation_loss(*embeddings, paddle.to_tensor(valid)))
        assert found == pytest.approx(float(golden[key]), rel=1e-6)
    visual, own, other = (paddle.nn.functional.normalize(x) / 2 for x in embeddings)
    np.testing.assert_allclose((visual - own).norm(axis=1), golden["iso_pos_dist"], rtol=1e-4)
    np.testing.assert_allclose((visual - other).norm(axis=1), golden["iso_neg_dist"], rtol=1e-4)
    loss.backward()
    for name in ("ref_fc", "query_fc"):
        gradient = float(getattr(projection, name).weight.grad.abs().sum())
        assert gradient == pytest.approx(float(golden[f"iso_grad_{name}_w_abs_sum"]), rel=1e-5)


def test_distinguishable_pairs(goldens):
    golden = np.load(goldens / "audio" / "golden_avs_loss.npz")
    x = np.random.default_rng(0).standard_normal((5, 2, 1, 128, 80))
    x[1, 0] = 0
    x[2, 1] = x[2, 0]
    x[3, 1] *= 0.05
    own, other = (paddle.to_tensor(x[:, i].astype("float32")) for i in range(2))
    assert distinguishable(own, other).astype("bool").tolist() == golden["mask"].tolist()


@pytest.mark.parametrize("name", list(CASES)[1:])
def test_names(goldens, name):
    fill(goldens, build(name), f"avslowfast_{name}", "avslowfast")


@pytest.mark.parametrize(
    ("name", "size", "giga"),
    [
        ("4x16_r50", 224, "31.5"),
        ("4x16_r50", 256, "39.88"),
        ("4x16_r50_fsall", 256, "40.41"),
        ("8x8_r50", 256, "68.9"),
    ],
)
def test_cost(name, size, giga):
    """Giga-multiplications of a view of 32 frames, rounded as published.

    They count convolutions, batch norms and the classifier.
    """
    model = build(name)
    slow = 32 // CASES[name].get("alpha", 8)
    clip = {
        "slow": paddle.zeros([1, 3, slow, size, size]),
        "fast": paddle.zeros([1, 3, 32, size, size]),
    }
    model.eval()
    with counted() as multiplications:
        model({**clip, "audio": paddle.zeros([1, 1, 128, 80])})
    positions = (size // 32 - 6) ** 2
    total = (multiplications["conv"] + multiplications["norm"] + positions * 3328 * 400) / 1e9
    assert f"{total:.{len(giga.split('.')[1])}f}" == giga
