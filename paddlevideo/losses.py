"""Losses and running accuracies as pure functions of tensors, computed in float32 whatever the model ran in.

A target far below the best score keeps its exact loss and gradient. Paddle's own softmax and log-softmax cut off 64 below the
maximum on a CPU, and so do PaddleVideo's losses; up to there the numbers are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import paddle
import paddle.nn.functional as F

from paddlevideo.config.registry import register


def cross_entropy(
    logits: paddle.Tensor,
    labels: paddle.Tensor,
    label_smoothing: float = 0.0,
    class_weights: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Mean cross entropy against (1 - label_smoothing) * one-hot + label_smoothing / K.

    Args:
        logits: float [N, K].
        labels: int64 [N].
        class_weights: float [K], factors on the loss of each class's clips. The mean is over N all the same, so that a clip
            counts alike in any company.

    Returns:
        float32 scalar.
    """
    log_p = _log_softmax(logits)  # [N, K]
    if class_weights is not None:
        each = -paddle.take_along_axis(log_p, labels.reshape([-1, 1]), axis=1).squeeze(1)
        each = (1 - label_smoothing) * each - label_smoothing * log_p.mean(-1)
        return (class_weights.gather(labels) * each).mean()
    loss = -paddle.take_along_axis(log_p, labels.reshape([-1, 1]), axis=1).mean()
    if label_smoothing > 0:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean()
    return loss


def mixed_cross_entropy(
    logits: paddle.Tensor,
    labels_a: paddle.Tensor,
    labels_b: paddle.Tensor,
    lam: float | paddle.Tensor,
    label_smoothing: float = 0.0,
    class_weights: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """lam * CE(labels_a) + (1 - lam) * CE(labels_b): the loss of a mixed batch; lam 1 is the plain loss.

    Args:
        lam: share of `labels_a`, one number for the batch.
        class_weights: as of `cross_entropy`.
    """
    loss_a = cross_entropy(logits, labels_a, label_smoothing, class_weights)
    return lam * loss_a + (1 - lam) * cross_entropy(
        logits, labels_b, label_smoothing, class_weights
    )


def batch_cross_entropy(
    logits: paddle.Tensor, batch: Mapping, label_smoothing: float = 0.0
) -> paddle.Tensor:
    """Cross entropy against the labels of a batch, mixed where the batch is.

    Args:
        logits: float [N, K].
        batch: `label` int64 [N]; a mixed one has `labels_a`, `labels_b` int64 [N] and `lam` [N], one number for all of them.
            `class_weights` [K] where classes weigh differently.
    """
    weights = batch.get("class_weights")
    if "lam" not in batch:
        return cross_entropy(logits, batch["label"], label_smoothing, weights)
    return mixed_cross_entropy(
        logits, batch["labels_a"], batch["labels_b"], batch["lam"][0], label_smoothing, weights
    )


def soft_cross_entropy(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """Mean cross entropy against given distributions, float [N, K], rows summing to 1."""
    log_p = _log_softmax(logits)
    return -(targets.astype("float32") * log_p).sum(-1).mean()


def mutual_loss(logits: paddle.Tensor, other: paddle.Tensor) -> paddle.Tensor:
    """Deep mutual learning (Zhang et al. 2018) as PaddleVideo computes it: half the symmetric KL divergence, mean over N.

    Both sides receive gradients. Probabilities carry a floor of 1e-12 inside the logarithm.

    Args:
        logits, other: float [N, K] of the two models; the loss is symmetric in them.
    """
    p, q = (F.softmax(x.astype("float32"), axis=-1) for x in (logits, other))
    log_ratio = paddle.log((p + 1e-12) / (q + 1e-12))
    return (((p - q) * log_ratio).sum(-1) / 2).mean()


def temperature_loss(
    logits: paddle.Tensor, target: paddle.Tensor, temperature: float
) -> paddle.Tensor:
    """Knowledge distillation (Hinton et al. 2015), mean over N: T^2 * KL(softmax(target / T) || softmax(logits / T)).

    The square keeps the gradient's size where the temperature changes. `target` receives no gradient.

    Args:
        logits, target: float [N, K], of who learns and of who is learnt from.
        temperature: T, above 0; 1 compares the distributions as they are, more softens both.
    """
    log_p, log_t = (
        _log_softmax(x.astype("float32") / temperature) for x in (logits, target.detach())
    )
    return temperature**2 * (paddle.exp(log_t) * (log_t - log_p)).sum(-1).mean()


def synchronisation_loss(
    visual: paddle.Tensor,
    audio: paddle.Tensor,
    negative: paddle.Tensor,
    weight: paddle.Tensor,
    margin: float = 0.99,
) -> paddle.Tensor:
    """Contrastive loss of pictures, their own sound and a wrong one (Xiao et al. 2020, as the authors' code computes it).

    Embeddings are brought to length 1/2, so that distances d lie in [0, 1]; a clip's loss is
    (d(visual, audio)^2 + max(0, margin - d(visual, negative))^2) / 2, and the mean is over the clips that count.

    Args:
        visual, audio, negative: float [N, D].
        weight: [N], 1 for a clip that counts, 0 for one that does not.
        margin: distance from which on a wrong sound is far enough.

    Returns:
        float32 scalar, 0 where no clip counts.
    """
    visual, audio, negative = (
        F.normalize(x.astype("float32"), axis=-1) / 2 for x in (visual, audio, negative)
    )
    weight = weight.astype("float32")
    near = ((visual - audio) ** 2).sum(-1)
    # The root of 0 has no gradient, and embeddings do meet; below 1e-6 a distance stays as it is.
    far = ((visual - negative) ** 2).sum(-1).clip(min=1e-12).sqrt()
    return (weight * (near + F.relu(margin - far) ** 2)).sum() / (2 * weight.sum() + 1e-8)


def sigmoid_cross_entropy(
    logits: paddle.Tensor, labels: paddle.Tensor, class_weights: paddle.Tensor | None = None
) -> paddle.Tensor:
    """Cross entropy of independent yes-or-no classes: summed over the classes, mean over the videos.

    Args:
        logits: float [N, K], before the sigmoid; of any size, nothing saturates.
        labels: [N, K], 1 for the classes of a video and 0 for the others, or between them where videos are mixed.
        class_weights: float [K], factors on the loss of the videos that have the class, not on that of the others.

    Returns:
        float32 scalar.
    """
    logits, labels = logits.astype("float32"), labels.astype("float32")
    weighted = {} if class_weights is None else {"pos_weight": class_weights}
    return (
        F.binary_cross_entropy_with_logits(logits, labels, reduction="sum", **weighted)
        / logits.shape[0]
    )


def mixture_cross_entropy(
    logits: paddle.Tensor, labels: paddle.Tensor, temperature: float, weight: float
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The loss of a mixture and of its members, which also learn from it (Lin et al. 2018, section 3.3).

    Each has its own cross entropy; `weight` times the sum over members of KL(mixture || member) joins them, between
    distributions over all classes, the softmax of logits / temperature; mean over videos. Gradients reach both sides.

    Args:
        logits: float [N, 1 + M, K], the mixture's in front of its M members'.
        labels: [N, K] of 0 and 1.

    Returns:
        (float32 scalar to minimise, the mixture's own cross entropy).
    """
    every = [sigmoid_cross_entropy(logits[:, i], labels) for i in range(logits.shape[1])]
    log_p = _log_softmax(logits / temperature)
    mixture, members = log_p[:, :1], log_p[:, 1:]
    divergence = (paddle.exp(mixture) * (mixture - members)).sum([1, 2]).mean()
    return sum(every) + weight * divergence, every[0]


# --- losses of a distillation, as its config lists them: they take the logits of all models by name ----------------------

Logits = Mapping[str, paddle.Tensor]


@register("distillation_loss")
@dataclass(frozen=True)
class DistillationCELoss:
    """Cross entropy of one model against the labels, mixed where the batch is, with the label smoothing of the model's head.

    Args:
        model_name_pairs: [model, GroundTruth].
        loss_weight: factor on the loss.
    """

    model_name_pairs: list[str]
    loss_weight: float = 1.0

    short_name: ClassVar = "ce"
    takes_labels: ClassVar = True

    @property
    def learners(self) -> list[str]:
        return self.model_name_pairs[:1]

    def __call__(
        self, logits: Logits, batch: Mapping, label_smoothing: Mapping[str, float]
    ) -> paddle.Tensor:
        name = self.model_name_pairs[0]
        return batch_cross_entropy(logits[name], batch, label_smoothing[name])


@register("distillation_loss")
@dataclass(frozen=True)
class DistillationDMLLoss:
    """`mutual_loss` of two models: each that is not frozen learns from the other.

    Args:
        model_name_pairs: [model, other model].
        loss_weight: factor on the loss.
    """

    model_name_pairs: list[str]
    loss_weight: float = 1.0

    short_name: ClassVar = "dml"
    takes_labels: ClassVar = False

    @property
    def learners(self) -> list[str]:
        return self.model_name_pairs

    def __call__(
        self, logits: Logits, batch: Mapping, label_smoothing: Mapping[str, float]
    ) -> paddle.Tensor:
        first, second = self.model_name_pairs
        return mutual_loss(logits[first], logits[second])


@register("distillation_loss")
@dataclass(frozen=True)
class DistillationKLLoss:
    """`temperature_loss`: the first model learns from the second, not the other way round. Not in PaddleVideo.

    Args:
        model_name_pairs: [who learns, who is learnt from].
        temperature: above 0; more softens both distributions.
        loss_weight: factor on the loss.
    """

    model_name_pairs: list[str]
    temperature: float = 4.0
    loss_weight: float = 1.0

    short_name: ClassVar = "kl"
    takes_labels: ClassVar = False

    @property
    def learners(self) -> list[str]:
        return self.model_name_pairs[:1]

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")

    def __call__(
        self, logits: Logits, batch: Mapping, label_smoothing: Mapping[str, float]
    ) -> paddle.Tensor:
        learner, source = self.model_name_pairs
        return temperature_loss(logits[learner], logits[source], self.temperature)


def top_k_accuracy(logits: paddle.Tensor, labels: paddle.Tensor, k: int) -> paddle.Tensor:
    """Share of the batch whose label is among the k best scores; of equal scores the lower class id comes first.

    For the running display of a training; evaluation counts exactly, in `metrics.recognition`.

    Args:
        logits: float [N, K]; k above K counts as K.
        labels: int64 [N].
    """
    labels = labels.reshape([-1, 1])
    logits = logits.detach()
    own = paddle.take_along_axis(logits, labels, axis=1)  # [N, 1]
    ids = paddle.arange(logits.shape[1]).unsqueeze(0)
    ahead = (logits > own) | ((logits == own) & (ids < labels))
    # A NaN is ahead of nothing and nothing is ahead of it: such a row would pass for right.
    return ((ahead.sum(1) < k) & ~paddle.isnan(logits).any(1)).astype("float32").mean()


def _log_softmax(logits: paddle.Tensor) -> paddle.Tensor:
    logits = logits.astype("float32")
    return logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
