"""SlowFast against the released names and the reference's logits and probabilities."""

import json

import numpy as np
import paddle
import pytest

from tests.parity.reference import build, check_names, fill, inputs_of

FAMILIES = ("slowfast", "slowfast_multigrid")


@pytest.fixture(scope="module", params=FAMILIES)
def case(request, goldens):
    """(model, golden, inputs)"""
    golden = np.load(goldens / "paddlevideo" / f"golden_{request.param}.npz")
    model = build(request.param, **json.loads(str(golden["public/head"])))
    fast = (
        np.random.default_rng(0)
        .standard_normal(tuple(golden["public/input_shape"]))
        .astype("float32")
    )
    assert fast.sum(dtype="float64") == pytest.approx(float(golden["public/input_sum"]))
    return model, golden, inputs_of(model, fast)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes(goldens, family):
    check_names(goldens, family)


def assert_probabilities(log_p, expected):
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=0, atol=1e-4 * expected.std())


def test_probabilities_of_tame_weights(case):
    model, golden, inputs = case
    fill(model, tame=True)
    model.eval()
    with paddle.no_grad():
        assert_probabilities(model(inputs).numpy(), golden["public/out_tame"])


def test_logits_and_probabilities(case):
    """Logits of each position; mean and std of the feature maps."""
    model, golden, inputs = case
    fill(model, tame=False)
    model.eval()
    positions, maps = [], []
    hooks = [
        layer.register_forward_post_hook(lambda layer, x, y, outputs=outputs: outputs.append(y))
        for layer, outputs in ((model.head.projection, positions), (model.backbone, maps))
    ]
    try:
        with paddle.no_grad():
            log_p = model(inputs).numpy()
    finally:
        for hook in hooks:
            hook.remove()
    assert_probabilities(log_p, golden["public/out"])
    (features,) = maps
    expected = golden["public/logits"]  # [N, 1, h, w, K]
    np.testing.assert_allclose(
        positions[0].numpy().reshape(expected.shape), expected, rtol=0, atol=1e-4 * expected.std()
    )
    for number, name in enumerate(("slow", "fast")):
        array = features[name].numpy().astype("float64")
        assert array.mean() == pytest.approx(golden["public/feat_mean"][number], rel=1e-5)
        assert array.std() == pytest.approx(golden["public/feat_std"][number], rel=1e-5)
