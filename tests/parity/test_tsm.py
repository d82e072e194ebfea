"""TSM and PP-TSM against the released names and the reference's logits."""

import json

import numpy as np
import paddle
import pytest

from tests.parity.reference import build, check_names, fill

# Cases of a golden file whose weights are the same: num_seg and the input size differ.
SAME_WEIGHTS = {"few": ("8x72x88", "3views"), "others": ("8x64", "8x96_batch2", "16x64")}


@pytest.mark.parametrize(
    ("family", "manifest_of"),
    [
        ("pptsm", "pptsn"),
        ("tsm", "tsn_k400"),
        ("pptsm_r18", ""),
        ("pptsm_r34", ""),
        ("pptsm_r101", ""),
        ("tsm_r101", ""),
    ],
)
def test_names_and_shapes(goldens, family, manifest_of):
    check_names(goldens, family, manifest_of)


def check_case(goldens, family: str, case: str, state: dict | None = None) -> dict:
    """Assert that the logits of a case agree to 1e-4 of their standard deviation.

    Args:
        state: the weights, where another case has them already.

    Returns:
        the weights.
    """
    golden = np.load(goldens / "paddlevideo" / f"golden_{family}.npz")
    entry = {
        key: golden[f"public/{case}/{key}"]
        for key in ("input_shape", "seed", "input_sum", "backbone", "head", "family", "logits")
    }
    head = {"num_classes": 400, **json.loads(str(entry["head"]))}
    backbone = json.loads(str(entry["backbone"]))
    model = build(str(entry["family"]), backbone=backbone, **head)
    model.eval()
    if state is None:
        fill(model, tame=False)
    else:
        model.set_state_dict(state)
    rng = np.random.default_rng(int(entry["seed"]))
    frames = rng.standard_normal(tuple(entry["input_shape"])).astype("float32")
    assert frames.sum(dtype="float64") == pytest.approx(float(entry["input_sum"]))
    with paddle.no_grad():
        logits = model({"frames": paddle.to_tensor(frames)}).numpy()
    expected = entry["logits"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * expected.std())
    return model.state_dict()


@pytest.mark.parametrize("family", ["pptsm", "tsm"])
@pytest.mark.parametrize("sizes", ["few", pytest.param("others", marks=pytest.mark.slow)])
def test_logits_of_all_sizes(goldens, family, sizes):
    state = None
    for case in SAME_WEIGHTS[sizes]:
        state = check_case(goldens, family, case, state)


@pytest.mark.parametrize(
    ("family", "case"), [("pptsm", "11classes"), ("tsm", "11classes"), ("pptsm", "r18_8x64")]
)
def test_logits_of_other_models(goldens, family, case):
    check_case(goldens, family, case)


@pytest.mark.slow
def test_logits_of_101_layers(goldens):
    check_case(goldens, "pptsm", "r101_8x64")


@pytest.mark.parametrize("family", ["pptsm", "tsm"])
def test_every_case_is_compared(goldens, family):
    golden = np.load(goldens / "paddlevideo" / f"golden_{family}.npz")
    cases = {key.split("/")[1] for key in golden}
    others = {"11classes"} | ({"r18_8x64", "r101_8x64"} if family == "pptsm" else set())
    assert cases == {*SAME_WEIGHTS["few"], *SAME_WEIGHTS["others"], *others}
