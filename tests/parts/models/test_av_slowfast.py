"""AVSlowFast as built from the registry: fusion, DropPathway, embeddings and their weights, silence, export."""

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec

import paddlevideo.models  # noqa: F401  # registers
from paddlevideo.config.registry import lookup
from paddlevideo.losses import synchronisation_loss
from paddlevideo.models.audiovisual import distinguishable, has_audio, keep_only, negative_order

SMALL = {
    "alpha": 4,
    "beta": 4,
    "width_per_group": 8,
    "audio_alpha": 16,
    "audio_beta": 2,
}  # 2 slow, 8 fast frames, 32 rows


def build(num_classes=5, backbone=None, head=None, **framework):
    paddle.seed(0)
    backbone = lookup("backbone", "AVSlowFast").make(**{**SMALL, **(backbone or {})})
    head = lookup("head", "AVSlowFastHead").make(num_classes, **{"crop_size": 64, **(head or {})})
    return lookup("framework", "AudioVisualRecognizer").make(backbone, head, **framework)


def wake(model, seed=1):
    """Draw anew what starts at zero or small, the blocks' last scales and the classifier; give the norms statistics."""
    rng = np.random.default_rng(seed)
    for name, p in model.named_parameters():
        if name.endswith(("c_bn.weight", "out_bn.weight")):
            p.set_value((1 + 0.3 * rng.standard_normal(p.shape)).astype("float32"))
    weight = model.head.projection.weight
    weight.set_value((rng.standard_normal(weight.shape) * 0.02).astype("float32"))
    model.train()
    with paddle.no_grad():
        for seed in range(10, 14):
            model(clips(2, rows=2 * model.audio_alpha, seed=seed))
    return model


def near(found, expected):
    """Equal but for the rounding of float32."""
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=2e-6 * np.abs(np.asarray(expected)).max()
    )


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def clips(n=2, size=64, seed=0, rows=32, bands=16):
    fast = noise(n, 3, 8, size, size, seed=seed)
    return {
        "slow": fast[:, :, ::4].clone(),
        "fast": fast,
        "audio": noise(n, 1, rows, bands, seed=seed + 50),
    }


def training(n=3, seed=0, epoch=0):
    batch = clips(n, seed=seed)
    return {**batch, "audio_negative": noise(*batch["audio"].shape, seed=seed + 90), "epoch": epoch}


def frozen_norms(model):
    """Training mode, but for the batch norms: then clips do not influence each other."""
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm3D):
            layer.eval()
    return model


def scores(model, batch):
    model.eval()
    with paddle.no_grad():
        return model(batch).numpy()


@pytest.fixture(scope="module")
def model():
    return wake(build(head={"dropout_rate": 0.0}))


@pytest.fixture
def drop(model):
    """`drop(rate, per_sample)` sets DropPathway for a test."""
    before = model.backbone.drop_pathway, model.backbone.drop_per_sample

    def change(rate, per_sample=False):
        model.backbone.drop_pathway, model.backbone.drop_per_sample = rate, per_sample

    yield change
    change(*before)


# --- structure -------------------------------------------------------------------------------------------------------------


def test_states_what_it_takes(model):
    assert {name: (spec.shape, spec.axes) for name, spec in model.inputs.items()} == {
        "slow": ((None, 3, None, None, None), "N C T H W"),
        "fast": ((None, 3, None, None, None), "N C T H W"),
        "audio": ((None, 1, None, None), "N C T F"),
    }
    assert model.train_inputs == ("slow", "fast", "audio", "audio_negative", "epoch")
    assert build(backbone={"avs_stages": []}).train_inputs == ("slow", "fast", "audio")
    assert (model.num_classes, model.alpha, model.audio_alpha, model.view_average) == (
        5,
        4,
        16,
        "probabilities",
    )


@pytest.mark.parametrize(("depth", "blocks"), [(50, [3, 4, 6, 3]), (101, [3, 4, 23, 3])])
def test_depths(depth, blocks):
    backbone = build(backbone={"depth": depth}).backbone
    for pathway in range(3):
        names = [
            [name for name, _ in getattr(backbone, f"s{i}").named_children()] for i in range(2, 6)
        ]
        assert [
            sum(name.startswith(f"pathway{pathway}_res") for name in stage) for stage in names
        ] == blocks
    assert backbone.out_channels == {"slow": 256, "fast": 64, "audio": 128}


def test_connections_stand_where_they_are_asked_for():
    def found(**stages):
        names = build(backbone=stages).state_dict()
        return {
            key: sorted({int(n[10]) for n in names if f"_fuse.{key}" in n})
            for key in ("f2s", "a2fs", "avs")
        }

    assert found() == {"f2s": [3, 4, 5], "a2fs": [3, 4, 5], "avs": [3, 4, 5]}
    assert found(avs_stages=[]) == {"f2s": [3, 4], "a2fs": [3, 4], "avs": []}
    assert found(fs_stages=[1, 2, 3, 4], afs_stages=[2], avs_stages=[2]) == {
        "f2s": [1, 2, 3, 4],
        "a2fs": [2],
        "avs": [2],
    }
    assert found(fs_stages=[], afs_stages=[], avs_stages=[]) == {"f2s": [], "a2fs": [], "avs": []}
    changed = build(backbone={"avs_stages": [3]}).backbone
    spare = [n for n in build().backbone.state_dict() if n not in changed.state_dict()]
    assert spare and all(n.startswith(changed.unused_pretrained) for n in spare)
    assert not [n for n in changed.state_dict() if n.startswith(changed.unused_pretrained)]


def test_every_parameter_gets_a_gradient(model, drop):
    drop(0.5, per_sample=True)
    paddle.seed(1)  # some hear, some do not
    model.train()
    model.clear_gradients()
    logits, embeddings = model(training(4))
    (sum(synchronisation_loss(*e) for e in embeddings.values()) + (logits**2).mean()).backward()
    assert [
        n
        for n, p in model.named_parameters()
        if not p.stop_gradient and (p.grad is None or not p.grad.any())
    ] == []


def test_all_pathways_matter(model):
    batch = clips(1)
    whole = scores(model, batch)
    for name in batch:
        changed = {**batch, name: batch[name] + noise(*batch[name].shape, seed=5)}
        assert np.abs(scores(model, changed) - whole).max() > 1e-3


def test_sound_is_added_beside_its_frames():
    """A sound late in the clip reaches the late slow frames only, as far as the convolutions over rows are narrow."""
    model = wake(build(backbone={"audio_alpha": 64}))
    lateral = model.backbone.s3_fuse.a2fs
    lateral.eval()
    with paddle.no_grad():
        silent, late = paddle.zeros([1, 32, 1, 128, 4]), paddle.zeros([1, 32, 1, 128, 4])
        late[:, :, :, 96:] = 1.0
        change = (lateral(late) - lateral(silent)).abs().sum([1, 3, 4]).numpy()[0]
    assert lateral(silent).shape == [1, 96, 4, 1, 1]
    assert change[3] > 0 and not change[:3].any()


def test_a_batch_is_its_clips(model):
    batch = clips(3)
    alone = [scores(model, {name: x[i : i + 1] for name, x in batch.items()})[0] for i in range(3)]
    near(scores(model, batch), alone)


# --- modalities ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -2.44])
def test_a_clip_without_sound_is_classified_by_vision_alone(model, value):
    batch = clips(2)
    silent = {**batch, "audio": paddle.full_like(batch["audio"], value)}
    found = scores(model, silent)
    for name, p in model.named_parameters():  # whatever the audio pathway has learnt
        if "pathway2" in name and name.endswith("conv_t.weight"):
            before = p.numpy()
            p.set_value(before + 1)
            np.testing.assert_array_equal(scores(model, silent), found)
            assert np.abs(scores(model, batch) - scores(model, silent)).max() > 1e-3
            p.set_value(before)
    half = {**batch, "audio": paddle.concat([batch["audio"][:1], silent["audio"][1:]])}
    near(scores(model, half), np.stack([scores(model, batch)[0], found[1]]))


def test_modalities(model):
    """Scores of one modality are those of a network whose other part is cut off."""
    batch = clips(2)
    assert model.modalities == {"visual": ("slow", "fast"), "audio": ("audio",)}
    visual, audio = (scores(model, keep_only(batch, names)) for names in model.modalities.values())
    assert np.abs(visual - scores(model, batch)).max() > 1e-3
    with paddle.no_grad():
        features, _ = model.backbone(batch)
        pooled = features["audio"].mean([2, 3, 4])
        weight = model.head.projection.weight[256 + 64 :]
        logits = paddle.matmul(pooled, weight) + model.head.projection.bias
    near(audio, paddle.nn.functional.log_softmax(logits))
    arrays = keep_only({name: x.numpy() for name, x in batch.items()}, ("audio",))
    assert not arrays["fast"].any() and arrays["audio"].any()


def test_positions_share_the_sound(model):
    """A larger crop has several positions; where all of them look alike the scores are those of one."""
    small = clips(1, 64)
    tiled = {
        **small,
        **{name: paddle.ones([1, 3, t, 128, 128]) for name, t in (("slow", 2), ("fast", 8))},
    }
    log_p = scores(model, tiled)
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1, rtol=1e-5)
    with paddle.no_grad():
        features, _ = model.backbone(tiled)
        positions = paddle.concat([features[n].mean(2) for n in ("slow", "fast")], 1)
        pooled = (
            paddle.nn.functional.avg_pool2d(positions, 2, stride=1)
            .transpose([0, 2, 3, 1])
            .flatten(1, 2)
        )
        heard = features["audio"].mean([2, 3, 4]).unsqueeze(1).expand([1, pooled.shape[1], 128])
        p = paddle.nn.functional.softmax(
            model.head.projection(paddle.concat([pooled, heard], 2)), -1
        ).mean(1)
    assert pooled.shape[1] == 9
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-4)


# --- DropPathway -----------------------------------------------------------------------------------------------------------


def test_evaluation_drops_nothing(model, drop):
    found = []
    for rate in (0.0, 1.0):
        drop(rate)
        found.append(scores(model, clips()))
    np.testing.assert_array_equal(*found)


def test_a_dropped_step_hears_at_the_head_only(model, drop):
    frozen_norms(model)
    batch, features = clips(), {}
    for rate in (0.0, 1.0):
        drop(rate)
        with paddle.no_grad():
            features[rate] = model.backbone(batch)[0]
    model.eval()
    with paddle.no_grad():
        silent = model.backbone(keep_only(batch, ("slow", "fast")))[0]
    near(features[1.0]["slow"].numpy(), silent["slow"])
    assert np.abs((features[1.0]["slow"] - features[0.0]["slow"]).numpy()).max() > 1e-3
    np.testing.assert_array_equal(features[1.0]["audio"], features[0.0]["audio"])
    np.testing.assert_array_equal(features[1.0]["fast"], features[0.0]["fast"])


def test_draws_follow_the_seed_of_the_step(model, drop):
    """The engine seeds Paddle by (seed, epoch, step, rank): the same step draws the same, ranks draw on their own."""
    drop(0.8)
    model.train()

    def draws(seed, n=4):
        paddle.seed(seed)
        return model.backbone._draw_kept(n).numpy().reshape(-1)

    assert all(np.array_equal(draws(s), draws(s)) and len(draws(s)) == 1 for s in range(5))
    assert np.mean([draws(s) for s in range(600)]) == pytest.approx(0.2, abs=0.05)
    drop(0.8, per_sample=True)
    assert draws(0).shape == (4,) and np.mean([draws(s).std() > 0 for s in range(50)]) > 0
    drop(0.0)
    assert model.backbone._draw_kept(4) is None


# --- synchronisation -------------------------------------------------------------------------------------------------------


def test_only_stages_that_have_heard_nothing_count(model, drop):
    frozen_norms(model)
    batch = training(4)
    for rate, counting in ((0.0, [1, 0, 0]), (1.0, [1, 1, 1])):
        drop(rate)
        _, embeddings = model(batch)
        assert list(embeddings) == ["s3", "s4", "s5"]
        assert [float(e[3].mean()) for e in embeddings.values()] == counting
    drop(0.5, per_sample=True)
    paddle.seed(1)
    kept = model.backbone._draw_kept(4).numpy().reshape(-1)
    paddle.seed(1)
    _, embeddings = model(batch)
    assert 0 < kept.sum() < 4
    assert embeddings["s3"][3].tolist() == [1, 1, 1, 1]
    assert embeddings["s4"][3].tolist() == embeddings["s5"][3].tolist() == (1 - kept).tolist()


def test_embeddings_to_compare_clips_by(model, drop):
    """Pictures hear nothing at any stage, whatever is dropped; both are what the loss is computed from in a dropped step."""
    drop(1.0)
    frozen_norms(model)
    batch = training(3)
    _, learnt = model(batch)
    drop(0.0)
    model.eval()
    pairs, audible = model.embed(clips(3))
    assert list(pairs) == ["s3", "s4", "s5"] and audible.tolist() == [[1], [1], [1]]
    for stage, found in pairs.items():
        for embedding, expected in zip(found, learnt[stage][:2], strict=True):
            near(embedding.numpy(), paddle.nn.functional.normalize(expected, axis=-1).numpy())
    deaf, audible = model.embed({**clips(3), "audio": clips(3)["audio"] * 0 - 1})
    assert audible.tolist() == [[0], [0], [0]]
    for stage in pairs:
        near(deaf[stage][0].numpy(), pairs[stage][0].numpy())
        assert np.abs((deaf[stage][1] - pairs[stage][1]).numpy()).max() > 1e-3


def test_a_clip_gives_in_a_batch_what_it_gives_alone(model, drop):
    """Logits and losses; the pairs are hard ones here, that is each clip's own."""
    drop(1.0)
    frozen_norms(model)
    batch = training(4, epoch=96)
    share, model.hard_share = model.hard_share, 1.0
    try:
        logits, embeddings = model(batch)
        parts = [
            model({n: x if n == "epoch" else x[i : i + 1] for n, x in batch.items()})
            for i in range(4)
        ]
    finally:
        model.hard_share = share
    near(logits.numpy(), paddle.concat([part[0] for part in parts]))
    for stage in embeddings:
        losses = [float(synchronisation_loss(*part[1][stage])) for part in parts]
        assert float(synchronisation_loss(*embeddings[stage])) == pytest.approx(
            np.mean(losses), rel=1e-4
        )
        assert np.std(losses) > 0


def test_wrong_sounds_are_of_the_clip_that_the_order_says(model, drop):
    drop(1.0)
    frozen_norms(model)
    batch = training(4)
    with paddle.no_grad():
        easy = model(batch)[1]["s4"]
        mixed = model({**batch, "epoch": 96})[1]["s4"]
        own = [
            model({**{n: x[i : i + 1] for n, x in batch.items() if n != "epoch"}, "epoch": 0})[1][
                "s4"
            ]
            for i in range(4)
        ]
    negatives = paddle.concat([part[2] for part in own]).numpy()
    near(easy[2].numpy(), negatives[[1, 2, 3, 0]])
    near(mixed[2].numpy(), negatives[[1, 2, 0, 3]])
    near(easy[1].numpy(), paddle.concat([part[1] for part in own]))


@pytest.mark.parametrize(
    ("num_clips", "share", "order"),
    [
        (4, 0.0, [1, 2, 3, 0]),
        (8, 0.25, [1, 2, 3, 4, 5, 0, 6, 7]),
        (1, 0.0, [0]),
        (2, 0.25, [0, 1]),
        (3, 1.0, [0, 1, 2]),
    ],
)
def test_order_of_wrong_sounds(num_clips, share, order):
    assert negative_order(num_clips, share) == order


def test_what_cannot_be_told_apart_does_not_count(model):
    model.train()
    batch = training(5)
    audio, negative = (batch[name].numpy() for name in ("audio", "audio_negative"))
    audio[0] = 0.3  # silence
    negative[2] *= 0.05  # nearly
    negative[4] = audio[3] * 2  # of the next clip, the same but louder: easy pairs turn by one
    batch.update(audio=paddle.to_tensor(audio), audio_negative=paddle.to_tensor(negative))
    assert model(batch)[1]["s3"][3].tolist() == [0, 0, 1, 0, 1]


def test_sound_by_its_variance():
    rng = np.random.default_rng(0).standard_normal((3, 1, 128, 80)).astype("float32")
    rng *= np.reshape([1, 0.11, 0.09], (3, 1, 1, 1)) / rng.std(axis=(1, 2, 3), keepdims=True)
    assert has_audio(paddle.to_tensor(rng + 7)).tolist() == [1, 1, 0]
    x = paddle.to_tensor(rng)
    assert distinguishable(x[:1], -x[:1]).tolist() == [1]
    assert distinguishable(x[:1], x[:1]).tolist() == [0]


def test_a_step_without_wrong_sounds_gives_logits(model):
    model.train()
    logits, embeddings = model(clips())
    assert logits.shape == [2, 5] and embeddings == {}
    assert model.predictions((logits, embeddings)) is logits
    model.eval()
    assert model(training(2)).shape == [2, 5]


def test_linear_probe_leaves_the_backbone_alone():
    model = build(train_backbone=False)
    before = {name: x.numpy() for name, x in model.backbone.state_dict().items()}
    model.train()
    model.predictions(model(training(2))).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is not None] == [
        "head.projection.weight",
        "head.projection.bias",
    ]
    for name, x in model.backbone.state_dict().items():
        np.testing.assert_array_equal(x, before[name])
    assert model.train_inputs == ("slow", "fast", "audio")


# --- programs --------------------------------------------------------------------------------------------------------------


def test_program_with_free_batch_and_size(model):
    model.eval()
    batches = [clips(1), clips(3, 96)]
    batches[1]["audio"][1] = 0.0
    expected = [scores(model, batch) for batch in batches]
    spec = {name: InputSpec(list(s.shape), s.dtype, name) for name, s in model.inputs.items()}
    program = paddle.jit.to_static(model, input_spec=[spec], full_graph=True)
    try:
        for batch, logits in zip(batches, expected, strict=True):
            np.testing.assert_allclose(
                program(batch).numpy(), logits, atol=1e-4 * np.abs(logits).max()
            )
        assert len(program.forward.program_cache) == 1
    finally:
        model.forward = program.forward.rollback()


OLDER = """
import sys
import numpy as np, paddle
from paddle.static import InputSpec
from tests.parts.models.test_av_slowfast import build, clips, wake
from tests.parts.models.test_audio_resnet import build as build_audio

folder = sys.argv[1]
for name, model in (("av", wake(build())), ("audio", build_audio("ResNetAudio", base_channels=4))):
    model.eval()
    spec = {n: InputSpec([None, *(16 if n == "audio" and a == "F" else s for a, s in zip(v.axes.split()[1:], v.shape[1:]))],
            v.dtype, n) for n, v in model.inputs.items()}
    paddle.jit.save(model, f"{folder}/{name}", input_spec=[spec])
    batch = clips(2) if name == "av" else {"audio": clips(4)["audio"].reshape([2, 2, 1, 32, 16])}
    if name == "av":
        batch["audio"][1] = 0.0
    with paddle.no_grad():
        np.savez(f"{folder}/{name}.npz", logits=model(batch).numpy(), **{n: x.numpy() for n, x in batch.items()})
    import paddle2onnx
    paddle2onnx.export(f"{folder}/{name}.pdmodel", f"{folder}/{name}.pdiparams", f"{folder}/{name}.onnx", opset_version=13)
"""


@pytest.mark.slow  # test_deploy_families.py exports a smaller one in all formats
def test_older_program_format_and_onnx(root, tmp_path):
    pytest.importorskip("paddle2onnx")
    runtime = pytest.importorskip("onnxruntime")
    environment = {**os.environ, "FLAGS_enable_pir_api": "0", "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", "-c", OLDER, str(tmp_path)]
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("av", "audio"):
        batch = dict(np.load(tmp_path / f"{name}.npz"))
        logits = batch.pop("logits")
        session = runtime.InferenceSession(
            str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"]
        )
        assert sorted(i.name for i in session.get_inputs()) == sorted(batch)
        (found,) = session.run(None, batch)
        np.testing.assert_allclose(found, logits, atol=1e-4 * np.abs(logits).max())
        assert (tmp_path / f"{name}.pdmodel").exists()


# --- mistakes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ({"audio_alpha": 12}, "audio_alpha is 12; it must be a multiple of 8"),
        ({"afs_stages": [2, 3]}, r"afs_stages has \[2\], but fs_stages has not"),
        (
            {"fs_stages": [3, 4, 5]},
            r"fs_stages is \[3, 4, 5\]; expected different stages, from 1 to 4",
        ),
        ({"avs_stages": [3, 3]}, r"avs_stages is \[3, 3\]; expected different stages, from 1 to 5"),
        ({"audio_beta": 3}, "width_per_group is 8; it must be a multiple of audio_beta, 3"),
        ({"drop_pathway": 1.5}, r"drop_pathway 1.5; expected .* in \[0, 1\]"),
        ({"fusion_kernel_sz": 4}, "fusion_kernel_sz 4, .* odd"),
    ],
)
def test_wrong_backbones(backbone, said):
    with pytest.raises(ValueError, match=said):
        build(backbone=backbone)


@pytest.mark.parametrize(
    ("framework", "said"),
    [
        ({"hard_share": 2.0}, "hard_share is 2.0"),
        ({"sync_margin": 1.5}, "sync_margin 1.5; expected"),
        ({"label_weight": -1.0}, "label_weight -1.0"),
        ({"head": {"crop_size": 16}}, "crop_size is 16; at least 32"),
        ({"head": {"dropout_rate": 1.0}}, "dropout_rate is 1.0"),
    ],
)
def test_wrong_frameworks_and_heads(framework, said):
    with pytest.raises(ValueError, match=said):
        build(**framework)


def test_wrong_inputs(model):
    batch = clips(1)
    with pytest.raises(ValueError, match="takes 'slow'.*'audio'.*given slow, fast"):
        model(keep_only({n: batch[n] for n in ("slow", "fast")}, ("slow", "fast")))
    with pytest.raises(ValueError, match=r"it was given \{.*'audio': \[1, 32, 16\]"):
        model({**batch, "audio": batch["audio"][:, 0]})
    with pytest.raises(
        ValueError,
        match="audio_alpha 16: 'audio' must have 16 time steps .* 2 slow frames and 31 time steps",
    ):
        model({**batch, "audio": batch["audio"][:, :, 1:]})
    with pytest.raises(ValueError, match="alpha 4: 'fast' must have 4 frames"):
        model({**batch, "fast": batch["fast"][:, :, 1:]})
    model.train()
    with pytest.raises(ValueError, match="takes 'epoch' together with 'audio_negative'"):
        model({n: x for n, x in training(2).items() if n != "epoch"})
    with pytest.raises(ValueError, match="'audio_negative' is .* expected the shape of 'audio'"):
        model({**training(2), "audio_negative": noise(2, 1, 32, 8)})
