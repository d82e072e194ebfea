"""AVSlowFast as built from the registry: structure, modalities, export, errors."""

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec

from paddlevideo.losses import synchronisation_loss
from paddlevideo.models.audiovisual import keep_only
from tests.parts.models.av_slowfast_models import (
    assert_close,
    build,
    clips,
    noise,
    scores,
    training,
    warmed_up,
)


@pytest.fixture(scope="module")
def built(built_shallow):
    return warmed_up(built_shallow(lambda: build(head={"dropout_rate": 0.0})))


@pytest.fixture
def drop(model):
    """`drop(rate, per_sample)` sets DropPathway for a test."""
    before = model.backbone.drop_pathway, model.backbone.drop_per_sample

    def change(rate, per_sample=False):
        model.backbone.drop_pathway, model.backbone.drop_per_sample = rate, per_sample

    yield change
    change(*before)


# --- structure ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shallow")
def test_describes_its_inputs(model):
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


@pytest.mark.usefixtures("without_values")
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


@pytest.mark.usefixtures("without_values", "shallow")
def test_has_the_configured_fusion_layers():
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
    paddle.seed(1)  # drops audio for some of the clips
    model.train()
    model.clear_gradients()
    logits, embeddings = model(training(4))
    (sum(synchronisation_loss(*e) for e in embeddings.values()) + (logits**2).mean()).backward()
    assert [
        n
        for n, p in model.named_parameters()
        if not p.stop_gradient and (p.grad is None or not p.grad.any())
    ] == []


def test_output_depends_on_all_pathways(model):
    batch = clips(1)
    expected = scores(model, batch)
    for name in batch:
        changed = {**batch, name: batch[name] + noise(*batch[name].shape, seed=5)}
        assert np.abs(scores(model, changed) - expected).max() > 1e-3


@pytest.mark.usefixtures("shallow")
def test_audio_is_added_to_frames_of_the_same_time():
    """Audio at the end of a clip reaches the last slow frames only: the kernels are narrow."""
    model = warmed_up(build(backbone={"audio_alpha": 64}))
    lateral = model.backbone.s3_fuse.a2fs
    lateral.eval()
    with paddle.no_grad():
        silence, late = paddle.zeros([1, 32, 1, 128, 4]), paddle.zeros([1, 32, 1, 128, 4])
        late[:, :, :, 96:] = 1.0
        change = (lateral(late) - lateral(silence)).abs().sum([1, 3, 4]).numpy()[0]
    assert lateral(silence).shape == [1, 96, 4, 1, 1]
    assert change[3] > 0 and not change[:3].any()


def test_scores_do_not_depend_on_the_batch(model):
    batch = clips(3)
    alone = [scores(model, {name: x[i : i + 1] for name, x in batch.items()})[0] for i in range(3)]
    assert_close(scores(model, batch), alone)


# --- modalities -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -2.44])
def test_classifies_a_clip_without_audio_by_vision_alone(model, value):
    batch = clips(2)
    silence = {**batch, "audio": paddle.full_like(batch["audio"], value)}
    found = scores(model, silence)
    for name, p in model.named_parameters():  # for any weights of the audio pathway
        if "pathway2" in name and name.endswith("conv_t.weight"):
            before = p.numpy()
            p.set_value(before + 1)
            np.testing.assert_array_equal(scores(model, silence), found)
            assert np.abs(scores(model, batch) - scores(model, silence)).max() > 1e-3
            p.set_value(before)
    half = {**batch, "audio": paddle.concat([batch["audio"][:1], silence["audio"][1:]])}
    assert_close(scores(model, half), np.stack([scores(model, batch)[0], found[1]]))


def test_scores_each_modality_alone(model):
    """Scores of one modality equal those of a network without the other pathways."""
    batch = clips(2)
    assert model.modalities == {"visual": ("slow", "fast"), "audio": ("audio",)}
    visual, audio = (scores(model, keep_only(batch, names)) for names in model.modalities.values())
    assert np.abs(visual - scores(model, batch)).max() > 1e-3
    with paddle.no_grad():
        features, _ = model.backbone(batch)
        pooled = features["audio"].mean([2, 3, 4])
        weight = model.head.projection.weight[256 + 64 :]
        logits = paddle.matmul(pooled, weight) + model.head.projection.bias
    assert_close(audio, paddle.nn.functional.log_softmax(logits))
    arrays = keep_only({name: x.numpy() for name, x in batch.items()}, ("audio",))
    assert not arrays["fast"].any() and arrays["audio"].any()


def test_positions_share_the_audio(model):
    """All positions of a larger crop have the same audio."""
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
        audio = features["audio"].mean([2, 3, 4]).unsqueeze(1).expand([1, pooled.shape[1], 128])
        p = paddle.nn.functional.softmax(
            model.head.projection(paddle.concat([pooled, audio], 2)), -1
        ).mean(1)
    assert pooled.shape[1] == 9
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-4)


# --- programs -------------------------------------------------------------------------------------


@pytest.mark.slow  # test_slowfast.py has the same of fewer pathways
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


EXPORT_SCRIPT = """
import sys
import numpy as np, paddle
from paddle.static import InputSpec
from tests.parts.models.av_slowfast_models import build, clips, warmed_up
from tests.parts.models.test_audio_resnet import build as build_audio

folder = sys.argv[1]
models = {"av": warmed_up(build()), "audio": build_audio("ResNetAudio", base_channels=4)}
for name, model in models.items():
    model.eval()
    spec = {}
    for n, v in model.inputs.items():
        axes = zip(v.axes.split()[1:], v.shape[1:])
        sizes = [16 if n == "audio" and axis == "F" else size for axis, size in axes]
        spec[n] = InputSpec([None, *sizes], v.dtype, n)
    paddle.jit.save(model, f"{folder}/{name}", input_spec=[spec])
    batch = clips(2) if name == "av" else {"audio": clips(4)["audio"].reshape([2, 2, 1, 32, 16])}
    if name == "av":
        batch["audio"][1] = 0.0
    with paddle.no_grad():
        arrays = {n: x.numpy() for n, x in batch.items()}
        np.savez(f"{folder}/{name}.npz", logits=model(batch).numpy(), **arrays)
    import paddle2onnx
    path = f"{folder}/{name}"
    paddle2onnx.export(f"{path}.pdmodel", f"{path}.pdiparams", f"{path}.onnx", opset_version=13)
"""


@pytest.mark.slow  # test_deploy_families.py exports a smaller one in all formats
def test_older_program_format_and_onnx(root, tmp_path):
    pytest.importorskip("paddle2onnx")
    runtime = pytest.importorskip("onnxruntime")
    environment = {**os.environ, "FLAGS_enable_pir_api": "0", "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", "-c", EXPORT_SCRIPT, str(tmp_path)]
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


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_values", "shallow")
@pytest.mark.parametrize(
    ("backbone", "message"),
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
        ({"fusion_kernel_sz": -3}, "fusion_kernel_sz -3, .* odd and at least 1"),
    ],
)
def test_rejects_invalid_backbones(backbone, message):
    with pytest.raises(ValueError, match=message):
        build(backbone=backbone)


@pytest.mark.usefixtures("without_values", "shallow")
@pytest.mark.parametrize(
    ("framework", "message"),
    [
        ({"hard_share": 2.0}, "hard_share is 2.0"),
        ({"sync_margin": 1.5}, "sync_margin 1.5; expected"),
        ({"label_weight": -1.0}, "label_weight -1.0"),
        ({"head": {"crop_size": 16}}, "crop_size is 16; at least 32"),
        ({"head": {"dropout_rate": 1.0}}, "dropout_rate is 1.0"),
    ],
)
def test_rejects_invalid_frameworks_and_heads(framework, message):
    with pytest.raises(ValueError, match=message):
        build(**framework)


def test_the_fix_for_missing_inputs_is_the_one_of_that_input(model):
    frames = {"frames": np.zeros((8, 3, 32, 32), np.float32)}
    slow, fast, audio = model.problems_with(frames)
    assert "no 'slow'; '- PackOutput: {alpha: 4}' as its last step" in slow
    assert "no 'fast'; '- PackOutput: {alpha: 4}' as its last step" in fast
    assert audio.endswith("the pipeline gives no 'audio'"), "PackOutput does not give audio"


def test_rejects_wrong_inputs(model):
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
