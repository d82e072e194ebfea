import numpy as np
import pytest

from paddlevideo.data.mixing import Mixup, mix


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "frames": rng.standard_normal((n, 2, 3)).astype(np.float32),
        "label": np.arange(n),
        "index": np.arange(n),
    }


@pytest.mark.parametrize("n", [1, 2, 7])
def test_mixes_a_batch_with_its_permutation(n):
    given = batch(n)
    before = given["frames"].copy()
    mixed = Mixup(0.4)(given, np.random.default_rng(3))
    draws = np.random.default_rng(3)
    perm, lam = draws.permutation(n), draws.beta(0.4, 0.4)
    assert mixed["lam"].dtype == np.float32
    assert np.array_equal(mixed["lam"], np.full(n, lam, np.float32))
    assert np.array_equal(mixed["labels_a"], given["label"])
    assert np.array_equal(mixed["labels_b"], given["label"][perm])
    assert mixed["frames"].dtype == np.float32
    assert np.array_equal(mixed["frames"], mix(before, perm, lam))
    assert np.allclose(mixed["frames"], lam * before + (1 - lam) * before[perm], atol=1e-6)
    assert np.array_equal(given["frames"], before)
    assert set(given) == {"frames", "label", "index"}
    assert mixed["index"] is given["index"]


def test_blends_all_inputs_with_the_same_weight_and_partners():
    given = batch(6)
    given["fast"] = given["frames"] * 2
    mixed = Mixup(0.2, ("frames", "fast"))(given, np.random.default_rng(0))
    assert np.array_equal(mixed["fast"], mixed["frames"] * 2)


def test_mixes_tensors_like_arrays():
    paddle = pytest.importorskip("paddle")
    given = batch(5)
    arrays = Mixup(0.4)(given, np.random.default_rng(1))
    tensors = Mixup(0.4)(
        {k: paddle.to_tensor(v) for k, v in given.items()}, np.random.default_rng(1)
    )
    for key in arrays:
        assert np.allclose(tensors[key].numpy(), arrays[key], atol=1e-6), key
        assert tensors[key].numpy().dtype == arrays[key].dtype, key


@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_rejects_alpha_that_is_not_positive(alpha):
    with pytest.raises(ValueError, match=r"alpha is .*, expected a number above 0; leave MIX out"):
        Mixup(alpha)


def test_rejects_uint8_inputs():
    with pytest.raises(
        TypeError, match="'frames' is uint8, expected floats; normalize before mixing"
    ):
        Mixup()(
            {"frames": np.zeros((2, 3), np.uint8), "label": np.zeros(2)}, np.random.default_rng(0)
        )


def test_names_a_missing_input():
    with pytest.raises(
        ValueError, match=r"has no 'slow', only frames, index, label; set MIX.inputs"
    ):
        Mixup(0.2, ("slow",))(batch(2), np.random.default_rng(0))
