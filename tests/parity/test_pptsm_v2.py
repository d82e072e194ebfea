"""PP-TSMv2 against the released names and the reference's logits, before and after merging."""

import json

import numpy as np
import paddle
import pytest

from tests.parity.reference import build, check_tensors, fill, mutual_learning

# Cases with the same weights: num_seg and the sizes differ. Others have weights of their own.
SAME_WEIGHTS = ("8x72x88", "8x96_batch2", "16x64")
OTHERS = ("8x64_att", "11classes")
FAST = ("8x64", "16x64_att")


@pytest.mark.parametrize("name", ["pptsmv2", "pptsmv2_16f_att", "pptsmv2_8f_dml"])
def test_names_and_shapes(goldens, name):
    """PaddleVideo lists the merged convolutions as trained, although they get no gradient."""
    manifest = json.loads((goldens / f"paddlevideo/manifest_{name}.json").read_text())
    with paddle.LazyGuard():
        model = mutual_learning() if name.endswith("dml") else build(name)
    trained = check_tensors(model, manifest)
    others = {name for name, _, _, kind in manifest if kind == "trainable"} - trained
    steps = np.load(goldens / f"paddlevideo/train_golden_{name.replace('_8f', '')}.npz")
    assert others == set(steps["no_grad"]) and len(others) == 16


def check_case(golden, case: str, state: dict | None = None) -> dict:
    """Assert that the logits of a case agree; return the weights.

    Args:
        state: the weights, where another case has them already.
    """
    entry = {
        key: golden[f"public/{case}/{key}"]
        for key in (
            "input_shape",
            "seed",
            "input_sum",
            "backbone",
            "family",
            "logits",
            "logits_rep",
        )
    }
    backbone = json.loads(str(entry["backbone"]))
    model = build(str(entry["family"]), backbone.get("class_num", 400), backbone)
    model.eval()
    if state is None:
        fill(model, tame=False)
    else:
        model.set_state_dict(state)
    rng = np.random.default_rng(int(entry["seed"]))
    frames = rng.standard_normal(tuple(entry["input_shape"])).astype("float32")
    assert frames.sum(dtype="float64") == pytest.approx(float(entry["input_sum"]))
    inputs = {"frames": paddle.to_tensor(frames)}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with paddle.no_grad():
        logits = model(inputs).numpy()
        model.merge_branches()
        merged = model(inputs).numpy()
    for got, key in ((logits, "logits"), (merged, "logits_rep")):
        np.testing.assert_allclose(got, entry[key], rtol=0, atol=1e-4 * entry[key].std())
    return state


@pytest.fixture(scope="module")
def golden(goldens):
    return np.load(goldens / "paddlevideo/golden_pptsmv2.npz")


@pytest.mark.parametrize("case", FAST)
def test_logits(golden, case):
    check_case(golden, case)


@pytest.mark.slow
def test_logits_of_other_sizes(golden):
    state = None
    for case in SAME_WEIGHTS:
        state = check_case(golden, case, state)


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERS)
def test_logits_of_other_models(golden, case):
    check_case(golden, case)


def test_every_case_is_compared(golden):
    assert {key.split("/")[1] for key in golden} == {*FAST, *SAME_WEIGHTS, *OTHERS}
