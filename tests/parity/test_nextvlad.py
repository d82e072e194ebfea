"""NeXtVLAD against PaddleCV 1.8: each formula, loss, gradients, statistics, three steps of Adam."""

import json
import math

import numpy as np
import paddle
import pytest

import paddlevideo
from paddlevideo.config.registry import lookup
from paddlevideo.losses import sigmoid_cross_entropy
from paddlevideo.models.convert import convert
from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import VideoTagger
from paddlevideo.models.vlad import aggregate, assign, intra_normalize, sigmoid
from paddlevideo.solver.lr import ExampleDecay
from paddlevideo.weights import load_into

CASES = ("tiny_eval", "tiny_train", "tiny_train_drop")
# Biases before a batch norm, which removes them: their true gradient is 0, the computed one is
# rounding.
WITHOUT_GRADIENT = ("batch_norm_1.b_0", "batch_norm_3.b_0")


@pytest.fixture(scope="module")
def golden(goldens):
    arrays = {}
    for name in ("golden_nextvlad", "steps_tiny_eval", "steps_tiny_train"):
        arrays |= np.load(goldens / "nextvlad" / f"{name}.npz")
    return arrays


@pytest.fixture(scope="module")
def manifest(goldens):
    return json.loads((goldens / "nextvlad" / "manifest_nextvlad.json").read_text())


def under(golden, prefix):
    return {name[len(prefix) :]: golden[name] for name in golden if name.startswith(prefix)}


def tagger(
    sizes: dict, drop_rate: float = 0.5, convention: str = "paddlecv", whitening=None
) -> VideoTagger:
    backbone = NeXtVLAD(
        sizes["K"],
        sizes["G"],
        sizes["lam"],
        sizes["Ka"],
        sizes["Ga"],
        sizes["Dv"],
        sizes["Da"],
        whitening,
        convention=convention,
    )
    return VideoTagger(backbone, NeXtVLADHead(sizes["C"], sizes["H"], sizes["r"], drop_rate))


def released(golden) -> dict[str, np.ndarray]:
    """The tiny model's tensors with the names of the release."""
    return {**under(golden, "tiny/param/"), "eigen_param": golden["tiny/eigen_param"]}


def our_name(release_name: str) -> str:
    """The name in this project of a tensor of the release."""
    return next(iter(convert({release_name: np.zeros(1)}, "paddlecv_nextvlad").arrays))


def batch_of(golden, case: str, frames: int = 300, seed: int = 1) -> dict[str, paddle.Tensor]:
    """The videos of a case, padded to `frames` with random values, which must have no effect."""
    rng, videos = (
        np.random.default_rng(seed),
        sum(name.startswith(f"{case}/rgb") for name in golden),
    )
    batch = {"num_frames": [len(golden[f"{case}/rgb{i}"]) for i in range(videos)]}
    for name in ("rgb", "audio"):
        batch[name] = rng.integers(
            0, 256, (videos, frames, golden[f"{case}/{name}0"].shape[1]), np.uint8
        )
        for number, count in enumerate(batch["num_frames"]):
            batch[name][number, :count] = golden[f"{case}/{name}{number}"]
    return {name: paddle.to_tensor(np.asarray(array)) for name, array in batch.items()}


@pytest.fixture(params=CASES)
def case(request, golden, manifest):
    """(name, model with the release's weights, batch, labels)"""
    about = manifest["cases"][request.param]
    model = tagger(about["cfg"], about["drop_rate"])
    load_into(
        model, paddlevideo.convert_state_dict(released(golden), "paddlecv_nextvlad"), "golden"
    )
    if about["mode"] == "train":
        model.train()
    else:
        model.eval()
    if f"{request.param}/drop_mask" in golden:
        mask = paddle.to_tensor(golden[f"{request.param}/drop_mask"].astype("float32"))
        # The mask of the golden; downscale_in_infer does not rescale in training.
        model.head.dropout.forward = lambda x: x * mask
    return (
        request.param,
        model,
        batch_of(golden, request.param),
        paddle.to_tensor(golden[f"{request.param}/label"]),
    )


def watch(model) -> dict[str, np.ndarray]:
    """A dict that the next forward pass fills with the steps by the manifest's names."""
    seen = {}

    def note(name, number=None):
        def hook(layer, inputs, output):
            seen[name] = (output if number is None else inputs[number]).numpy()

        return hook

    for stream in ("video", "audio"):
        part = getattr(model.backbone, stream)
        part.register_forward_post_hook(note(f"{stream}.x", 0))
        part.attention.register_forward_post_hook(note(f"{stream}.expand", 0))
        part.attention.register_forward_post_hook(note(f"{stream}.attention"))
        part.assignment_norm.register_forward_post_hook(note(f"{stream}.assign_logits", 0))
        part.assignment_norm.register_forward_post_hook(note(f"{stream}.assign_bn"))
        part.norm.register_forward_post_hook(note(f"{stream}.flat", 0))
        part.norm.register_forward_post_hook(note(f"{stream}.vlad_bn"))
    head = model.head
    for layer, name in (
        ("hidden", "hidden"),
        ("hidden_norm", "hidden_bn"),
        ("gate_in", "gate1"),
        ("gate_out", "gate2"),
    ):
        getattr(head, layer).register_forward_post_hook(note(name))
    head.dropout.register_forward_post_hook(note("concat", 0))
    head.dropout.register_forward_post_hook(note("dropout"))
    head.gate_out.register_forward_post_hook(note("gate1_bn_relu", 0))
    head.classifier.register_forward_post_hook(note("gated", 0))
    head.classifier.register_forward_post_hook(note("logits"))
    return seen


def close(found, expected, name, part=1e-5):
    """Assert equality within `part` of the largest value, as float32 sums allow."""
    bound = part * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=name)


# The golden with dropout has no steps.
@pytest.mark.parametrize("case", ["tiny_eval", "tiny_train"], indirect=True)
def test_every_step(case, golden):
    name, model, batch, _ = case
    seen = watch(model)
    model(batch)
    expected = under(golden, f"{name}/step/")
    for stream in ("video", "audio"):
        part = getattr(model.backbone, stream)
        logits, features = seen[f"{stream}.assign_bn"], seen[f"{stream}.expand"]
        attention = sigmoid(paddle.to_tensor(seen[f"{stream}.attention"]))
        alpha = assign(paddle.to_tensor(logits), attention)
        seen |= {f"{stream}.attention": attention.numpy(), f"{stream}.alpha": alpha.numpy()}
        seen[f"{stream}.assign"] = assign(
            paddle.to_tensor(logits), paddle.ones_like(attention)
        ).numpy()
        # Video by video, without padding.
        ends = np.cumsum(batch["num_frames"].numpy())
        pairs = [
            (a.reshape([1, -1, a.shape[-1]]), paddle.to_tensor(f).reshape([1, -1, part.width]))
            for a, f in zip(np.split(alpha, ends[:-1]), np.split(features, ends[:-1]), strict=True)
        ]
        residual = paddle.concat([aggregate(a, f, part.centers) for a, f in pairs])
        raw = paddle.concat([aggregate(a, f, paddle.zeros_like(part.centers)) for a, f in pairs])
        normal = intra_normalize(residual).reshape([len(pairs), part.width, -1])
        seen |= {f"{stream}.residual": residual.numpy(), f"{stream}.vlad_raw": raw.numpy()}
        seen |= {
            f"{stream}.intra_norm": normal.numpy(),
            f"{stream}.a_sum": np.concatenate([a.sum(1) for a, _ in pairs]),
        }
    seen["gate2"] = sigmoid(paddle.to_tensor(seen["gate2"])).numpy()
    seen["predictions"] = sigmoid(paddle.to_tensor(seen["logits"])).numpy()
    checked = [step for step in expected if step != "loss"]
    assert len(checked) == 2 * 13 + 10
    for step in checked:
        close(seen[step], expected[step], step)


def test_logits_loss_and_running_statistics(case, golden):
    name, model, batch, labels = case
    logits = model(batch)
    assert np.abs(logits.numpy() - golden[f"{name}/logits"]).max() <= 2e-5
    assert np.abs(sigmoid(logits).numpy() - golden[f"{name}/predictions"]).max() <= 5e-6
    assert float(sigmoid_cross_entropy(logits, labels)) == pytest.approx(
        float(golden[f"{name}/loss"]), rel=2e-6
    )
    state = model.state_dict()
    statistics = under(golden, f"{name}/new_stat/")
    assert len(statistics) == (12 if model.training else 0)
    for release_name, expected in statistics.items():
        assert (
            np.abs(state[our_name(release_name)].numpy() - expected).max()
            <= 1e-5 * np.abs(expected).max()
        ), release_name


@pytest.mark.parametrize("case", ["tiny_train"], indirect=True)
def test_gradients(case, golden):
    name, model, batch, labels = case
    sigmoid_cross_entropy(model(batch), labels).backward()
    parameters = dict(model.named_parameters())
    expected = under(golden, f"{name}/grad/")
    assert len(expected) == sum(not p.stop_gradient for p in parameters.values())
    for release_name, gradient in expected.items():
        parameter = parameters[our_name(release_name)]
        found = parameter.grad.numpy()
        bound = 1e-6 if release_name in WITHOUT_GRADIENT else 2e-4 * np.abs(gradient).max()
        assert np.abs(found - gradient).max() <= bound, release_name
        decay = parameter.regularizer._coeff if parameter.regularizer else 0.0
        assert decay == (1e-5 if release_name.startswith("logits_clf") else 0.0)
        with_decay = np.linalg.norm(found + decay * parameter.numpy())
        assert with_decay == pytest.approx(
            float(golden[f"{name}/grad_l2_with_decay/{release_name}"]), rel=2e-4, abs=1e-6
        )


@pytest.mark.parametrize("case", ["tiny_train"], indirect=True)
def test_three_steps_of_adam(case, golden):
    name, model, batch, labels = case
    rule = ExampleDecay(2e-4, decay_examples=2_000_000, examples_per_epoch=6)
    optimizer = lookup("optimizer", "Adam").make(learning_rate=rule).build(model.named_parameters())
    without_gradient = [
        dict(model.named_parameters())[our_name(release_name)] for release_name in WITHOUT_GRADIENT
    ]
    for expected in golden[f"{name}/float64/loss_per_step"]:
        loss = sigmoid_cross_entropy(model(batch), labels)
        assert float(loss) == pytest.approx(float(expected), rel=2e-6)
        loss.backward()
        # Adam would turn their rounding into a full step and change the next running mean.
        for parameter in without_gradient:
            assert float(parameter.grad.abs().max()) <= 1e-6
            parameter.grad.set_value(paddle.zeros_like(parameter.grad))
        optimizer.step()
        optimizer.clear_grad()
    state = model.state_dict()
    for release_name, expected in under(golden, f"{name}/param_after_3_adam_steps/").items():
        bound = 2e-5 * max(1.0, np.abs(expected).max())
        assert np.abs(state[our_name(release_name)].numpy() - expected).max() <= bound, release_name


def test_padding_changes_nothing(case, golden):
    """Values after the last frame have no effect; more of them may change the order of sums."""
    name, model, batch, _ = case
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    results = []
    for frames, other in ((300, None), (300, 7), (360, 7)):
        model.set_state_dict(state)
        padded = batch_of(golden, name, frames, seed=other or 1)
        assert other is None or (padded["rgb"][:, :300].numpy() != batch["rgb"].numpy()).any()
        logits = model(padded).numpy()
        results.append([logits, *(tensor.numpy() for tensor in model.state_dict().values())])
    for first, same, longer in zip(*results, strict=True):
        np.testing.assert_array_equal(first, same)
        np.testing.assert_allclose(first, longer, rtol=0, atol=1e-6 * max(1.0, np.abs(first).max()))


# --- names, shapes, counts, rates -----------------------------------------------------------------


def test_names_and_shapes_at_full_size(golden, manifest):
    arrays = {
        entry["name"]: np.zeros(entry["shape"], np.float32) for entry in manifest["params"]["full"]
    }
    arrays["eigen_param"] = golden["eigen_param_1024"]
    ours = paddlevideo.convert_state_dict(arrays, "paddlecv_nextvlad")
    model = tagger(FULL, whitening="youtube8m")
    assert {name: list(a.shape) for name, a in ours.items()} == {
        n: list(t.shape) for n, t in model.state_dict().items()
    }
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    assert trained == {
        our_name(entry["name"]) for entry in manifest["params"]["full"] if entry["trainable"]
    }
    np.testing.assert_allclose(
        model.backbone.eigen_param.numpy(), golden["eigen_param_1024"], rtol=1e-7
    )


FULL = {
    "Dv": 1024,
    "Da": 128,
    "lam": 2,
    "G": 8,
    "K": 128,
    "Ga": None,
    "Ka": None,
    "H": 2048,
    "r": 8,
    "C": 3862,
}


@pytest.mark.parametrize(
    ("table", "convention", "changes"),
    [
        ("full", "paddlecv", {}),
        ("tf_full", "tensorflow", {}),
        ("paddle_112k_r16", "paddlecv", {"K": 112, "r": 16}),
        ("tf_112k_r16", "tensorflow", {"K": 112, "r": 16}),
    ],
)
def test_parameter_counts(manifest, table, convention, changes):
    with paddle.LazyGuard():  # shapes, without values
        model = tagger({**FULL, **changes}, convention=convention, whitening="youtube8m")
    sizes = {name: int(np.prod(tensor.shape)) for name, tensor in model.state_dict().items()}
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    counts = {
        "trainable": sum(size for name, size in sizes.items() if name in trained),
        "bn_running_stats": sum(
            size for name, size in sizes.items() if name.endswith(("._mean", "._variance"))
        ),
        "eigen_param": sizes["backbone.eigen_param"],
    }
    assert counts == manifest["param_counts"][table]


def test_learning_rate(manifest):
    """Batches of 160, as in the release; its epoch is all complete batches of 3,888,919 videos."""
    steps = 3_888_919 // 160
    rule = ExampleDecay(
        2e-4,
        decay_examples=2_000_000,
        max_decays=55,
        examples_per_epoch=steps * 160,
        iter_step=True,
    )
    for step, rate in manifest["lr_schedule"]["samples"].items():
        assert math.isclose(rule(int(step) / steps), rate, rel_tol=1e-12), step
        epoch, part = divmod(int(step), steps)
        assert math.isclose(rule(epoch + part / steps), rate, rel_tol=1e-12), step
