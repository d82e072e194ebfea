"""Multinomial logistic regression with L2, and cross-validation over groups of clips.

Everything is computed in float64 by SciPy's L-BFGS from zero weights, without random numbers, so
the same features give the same fit.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from scipy.special import logsumexp

MAX_ITERATIONS = 1000
TOLERANCE = 1e-6  # of the largest entry of the gradient
SMALLEST_STD = 1e-6  # features that change less are left unscaled


@dataclass(frozen=True)
class Linear:
    """A linear classifier: logits = features @ weight + bias.

    Args:
        weight: float64 [D, K].
        bias: float64 [K].
    """

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float [N, D] -> logits float64 [N, K]."""
        return features.astype(np.float64) @ self.weight + self.bias


@dataclass(frozen=True)
class Validated:
    """The cross-validation of one strength.

    Args:
        strength: of the L2 penalty.
        loss: mean cross entropy of the clips that a fold holds out.
        accuracies: of each fold.
        right: clips that were predicted correctly, of all folds.
    """

    strength: float
    loss: float
    accuracies: tuple[float, ...]
    right: int


class Fitter:
    """Fits classifiers of several strengths to the same clips.

    The features are standardized, and then expressed in the coordinates of their singular vectors.
    With fewer clips than features, these are fewer; the best weights lie in their span (representer
    theorem), so the fit is the same and much faster.

    Args:
        features: float [N, D].
        labels: int [N], in [0, num_classes).
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, num_classes: int):
        features = features.astype(np.float64)
        self.labels, self.num_classes = labels, num_classes
        self._center, std = features.mean(0), features.std(0)
        self._scale = 1.0 / np.where(std > SMALLEST_STD, std, 1.0)
        standard = (features - self._center) * self._scale
        self._basis = None
        if len(features) < features.shape[1]:
            _, _, self._basis = np.linalg.svd(standard, full_matrices=False)  # [N, D]
            standard = standard @ self._basis.T
        self._inputs = standard
        self._start = np.zeros((standard.shape[1] + 1, num_classes))

    def fit(self, strength: float) -> Linear:
        """Minimize the mean cross entropy + strength / 2 * the squared norm of the weights.

        The bias is not penalized. A fit starts from the weights of the one before.

        Raises:
            ValueError: the strength is not above 0.
        """
        if not strength > 0:
            raise ValueError(f"the strength is {strength}; it must be above 0")
        result = scipy.optimize.minimize(
            self._objective,
            self._start.ravel(),
            args=(strength,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0},
        )
        if result.nit >= MAX_ITERATIONS:
            warnings.warn(f"a fit with strength {strength:g} did not converge", stacklevel=2)
        self._start = result.x.reshape(self._start.shape)
        inner, bias = self._start[:-1], self._start[-1]
        weight = inner if self._basis is None else self._basis.T @ inner
        weight = weight * self._scale[:, None]
        return Linear(weight, bias - self._center @ weight)

    def _objective(self, flat: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
        parameters = flat.reshape(self._start.shape)
        weight, count = parameters[:-1], len(self._inputs)
        logits = self._inputs @ weight + parameters[-1]
        log_sum = np.asarray(logsumexp(logits, axis=1))
        rows = np.arange(count)
        loss = (log_sum - logits[rows, self.labels]).mean() + strength / 2 * (weight**2).sum()
        errors = np.exp(logits - log_sum[:, None])
        errors[rows, self.labels] -= 1
        errors /= count
        gradient = np.concatenate([
            self._inputs.T @ errors + strength * weight, errors.sum(0, keepdims=True)
        ])  # fmt: skip
        return float(loss), gradient.ravel()


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    strengths: Sequence[float],
    num_classes: int,
) -> list[Validated]:
    """Fit on all folds but one and predict that one, for each fold and strength.

    Args:
        features: float [V, N, D]; V views of each clip. The first one is predicted, all are fitted.
        labels, folds: int [N].
        strengths: in any order.

    Returns:
        one result per strength, from the strongest to the weakest.
    """
    ordered = sorted(strengths, reverse=True)
    losses, rights = np.zeros((len(ordered), len(labels))), np.zeros((len(ordered), len(labels)))
    for fold in np.unique(folds):
        held_out = folds == fold
        fitter = Fitter(*with_views(features[:, ~held_out], labels[~held_out]), num_classes)
        for number, strength in enumerate(ordered):
            logits, true = fitter.fit(strength)(features[0, held_out]), labels[held_out]
            of_true = logits[np.arange(len(true)), true]
            losses[number, held_out] = logsumexp(logits, axis=1) - of_true
            rights[number, held_out] = logits.argmax(1) == true
    sizes = [folds == fold for fold in np.unique(folds)]
    return [
        Validated(
            strength,
            float(loss.mean()),
            tuple(float(right[size].mean()) for size in sizes),
            int(right.sum()),
        )
        for strength, loss, right in zip(ordered, losses, rights, strict=True)
    ]


def with_views(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [V, N, D] and labels [N] as (features [V * N, D], labels [V * N])."""
    views = len(features)
    return features.reshape(-1, features.shape[-1]), np.tile(labels, views)


def best_of(results: Sequence[Validated]) -> Validated:
    """The result with the lowest loss; of equal ones the strongest."""
    return min(results, key=lambda result: (result.loss, -result.strength))
