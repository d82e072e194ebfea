"""Logistic regression and its cross-validation against first principles."""

import numpy as np
import pytest

from paddlevideo.data.folds import folds_of
from paddlevideo.engine.linear_fit import Fitter, Validated, best_of, cross_validate, with_views


def data(count=60, size=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centers = rng.standard_normal((classes, size))
    features = centers[labels] + rng.standard_normal((count, size))
    return (3 * features + 7).astype(np.float32), labels


def gradient(features, labels, linear, strength):
    """Of mean cross entropy + strength / 2 * |W|^2, with W and x of standardized features."""
    features = features.astype(np.float64)
    std = features.std(0)
    logits = linear(features)
    errors = np.exp(logits - logits.max(1, keepdims=True))
    errors /= errors.sum(1, keepdims=True)
    errors[np.arange(len(labels)), labels] -= 1
    standard = (features - features.mean(0)) / std
    weight = linear.weight * std[:, None]
    return standard.T @ errors / len(labels) + strength * weight, errors.mean(0)


@pytest.mark.parametrize("strength", [1.0, 0.01, 0.0003])
@pytest.mark.parametrize("size", [5, 59, 60, 61, 300])
def test_a_fit_is_the_minimum(size, strength):
    """With fewer clips than features (61, 300) and with more."""
    features, labels = data(size=size)
    linear = Fitter(features, labels, 3).fit(strength)
    of_weight, of_bias = gradient(features, labels, linear, strength)
    assert linear.weight.shape == (size, 3) and linear.bias.shape == (3,)
    assert np.abs(of_weight).max() < 1e-5 and np.abs(of_bias).max() < 1e-5


def test_a_fit_does_not_depend_on_the_one_before():
    features, labels = data()
    fitter = Fitter(features, labels, 3)
    fitter.fit(10.0)
    np.testing.assert_allclose(
        fitter.fit(0.1).weight, Fitter(features, labels, 3).fit(0.1).weight, atol=1e-5
    )


def test_the_same_clips_give_the_same_bits():
    features, labels = data(size=200)
    first, second = (Fitter(features, labels, 3).fit(0.01) for _ in range(2))
    assert (first.weight == second.weight).all() and (first.bias == second.bias).all()


def test_scale_and_offset_of_features_do_not_matter():
    features, labels = data()
    scaled = features * np.float32(1000) - np.float32(5)
    a, b = Fitter(features, labels, 3).fit(0.1), Fitter(scaled, labels, 3).fit(0.1)
    np.testing.assert_allclose(a(features), b(scaled), atol=1e-3)


def test_constant_features_and_absent_classes_are_finite():
    features, labels = data()
    features[:, 2] = 4.0
    linear = Fitter(features, labels, 5).fit(0.01)  # no clip of classes 3 and 4
    assert np.isfinite(linear.weight).all() and (linear.weight[2] == 0).all()
    logits = linear(features)
    assert logits.shape == (60, 5) and set(logits.argmax(1)) <= {0, 1, 2}


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan")])
def test_a_strength_must_be_above_0(strength):
    with pytest.raises(ValueError, match="must be above 0"):
        Fitter(*data(), 3).fit(strength)


# --- cross-validation -----------------------------------------------------------------------------


def test_cross_validation_reveals_features_of_the_source_only():
    """Each source has one class and its own feature: nothing carries over to another source."""
    sources = np.repeat(np.arange(12), 5)
    labels = sources % 2
    features = np.eye(12, dtype=np.float32)[sources][None]
    by_clip = folds_of(list(range(60)), labels, 5)
    by_source = folds_of(sources.tolist(), labels, 4)
    assert cross_validate(features, labels, by_clip, [0.01], 2)[0].right == 60
    assert cross_validate(features, labels, by_source, [0.01], 2)[0].right <= 30


def test_cross_validation_equals_fits_by_hand():
    features, labels = data()
    folds = folds_of(list(range(60)), labels, 3)
    results = cross_validate(features[None], labels, folds, [0.01, 1.0], 3)
    assert [result.strength for result in results] == [1.0, 0.01]
    right = []
    for fold in range(3):
        linear = Fitter(features[folds != fold], labels[folds != fold], 3).fit(0.01)
        right += (linear(features[folds == fold]).argmax(1) == labels[folds == fold]).tolist()
    assert results[1].right == sum(right)
    assert np.mean(results[1].accuracies) == pytest.approx(sum(right) / 60)


def test_views_are_fitted_and_the_first_is_predicted():
    features, labels = data()
    noise = np.full_like(features, 1e6)
    folds = folds_of(list(range(60)), labels, 3)
    alone = cross_validate(features[None], labels, folds, [0.1], 3)[0]
    twice = cross_validate(np.stack([features, features]), labels, folds, [0.1], 3)[0]
    assert twice.right == alone.right and twice.loss == pytest.approx(alone.loss, rel=1e-4)
    wrong = cross_validate(np.stack([noise, features]), labels, folds, [0.1], 3)[0]
    assert wrong.loss > alone.loss
    both, tiled = with_views(np.stack([features, noise]), labels)
    assert (both[60:] == noise).all() and (tiled == np.concatenate([labels, labels])).all()


def test_the_lowest_loss_wins_and_of_equal_ones_the_strongest():
    results = [Validated(s, loss, (1.0,), 1) for s, loss in ((1, 0.5), (0.1, 0.3), (0.01, 0.3))]
    assert best_of(results).strength == 0.1
