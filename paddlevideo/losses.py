"""Losses, and the accuracies shown in training, as pure functions of tensors.

All of them compute in float32, also for a model in mixed precision. The loss and gradient of a
target far below the best score are exact. On a CPU, Paddle's own softmax and log-softmax, and so
PaddleVideo's losses, cut off at 64 below the maximum; up to there the numbers are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import paddle
import paddle.nn.functional as F

from paddlevideo.config.registry import register

# --- one label per clip -----------------------------------------------------------------------


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
        class_weights: float [K], factors on the loss of each class's clips. The mean is over N, not
            over the sum of the factors, so the weight of a clip does not depend on its batch.

    Returns:
        float32 scalar.
    """
    log_p = _log_softmax(logits)  # [N, K]
    if class_weights is not None:
        losses = -paddle.take_along_axis(log_p, labels.reshape([-1, 1]), axis=1).squeeze(1)
        losses = (1 - label_smoothing) * losses - label_smoothing * log_p.mean(-1)
        return (class_weights.gather(labels) * losses).mean()
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
    """The loss of a mixed batch: lam * CE(labels_a) + (1 - lam) * CE(labels_b).

    Args:
        logits: float [N, K].
        labels_a, labels_b: int64 [N].
        lam: share of `labels_a`, one number for the batch; 1 gives `cross_entropy`.
        label_smoothing, class_weights: as in `cross_entropy`.

    Returns:
        float32 scalar.
    """
    loss_a = cross_entropy(logits, labels_a, label_smoothing, class_weights)
    loss_b = cross_entropy(logits, labels_b, label_smoothing, class_weights)
    return lam * loss_a + (1 - lam) * loss_b


def batch_cross_entropy(
    logits: paddle.Tensor, batch: Mapping, label_smoothing: float = 0.0
) -> paddle.Tensor:
    """Cross entropy against the labels of a batch, which may be mixed.

    Args:
        logits: float [N, K].
        batch: `label` int64 [N]. A mixed batch has `labels_a`, `labels_b` int64 [N], and `lam` [N],
            which repeats one number. Optional `class_weights` [K], as in `cross_entropy`.

    Returns:
        float32 scalar.
    """
    weights = batch.get("class_weights")
    if "lam" not in batch:
        return cross_entropy(logits, batch["label"], label_smoothing, weights)
    return mixed_cross_entropy(
        logits, batch["labels_a"], batch["labels_b"], batch["lam"][0], label_smoothing, weights
    )


def soft_cross_entropy(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """Mean cross entropy against target distributions.

    Args:
        logits: float [N, K].
        targets: float [N, K], each row with sum 1.
    """
    log_p = _log_softmax(logits)
    return -(targets.astype("float32") * log_p).sum(-1).mean()


def top_k_accuracy(logits: paddle.Tensor, labels: paddle.Tensor, k: int) -> paddle.Tensor:
    """Share of the batch whose label is among the k best classes.

    For the log of a training; evaluation counts exactly, in `metrics/recognition.py`. Ties follow
    the rule of `metrics/scores.py`: among equal scores the lower class id ranks first, and a row
    with NaN is wrong.

    Args:
        logits: float [N, K].
        labels: int64 [N].
        k: k above K counts as K.
    """
    labels = labels.reshape([-1, 1])
    logits = logits.detach()
    label_logits = paddle.take_along_axis(logits, labels, axis=1)  # [N, 1]
    classes = paddle.arange(logits.shape[1]).unsqueeze(0)
    before = (logits > label_logits) | ((logits == label_logits) & (classes < labels))
    # Nothing ranks before a NaN, so a row with NaN must be excluded to count as wrong.
    correct = (before.sum(1) < k) & ~paddle.isnan(logits).any(1)
    return correct.astype("float32").mean()


# --- multi-label ------------------------------------------------------------------------------


def sigmoid_cross_entropy(
    logits: paddle.Tensor, labels: paddle.Tensor, class_weights: paddle.Tensor | None = None
) -> paddle.Tensor:
    """Binary cross entropy of every class, summed over the classes, mean over the videos.

    Args:
        logits: float [N, K], before the sigmoid; large values do not saturate.
        labels: [N, K] of 0 and 1, or values between them in a mixed batch.
        class_weights: float [K], factors on the loss of the videos that have the class, not of the
            others.

    Returns:
        float32 scalar.
    """
    loss = F.binary_cross_entropy_with_logits(
        logits.astype("float32"),
        labels.astype("float32"),
        reduction="sum",
        pos_weight=class_weights,
    )
    return loss / logits.shape[0]


def mixture_cross_entropy(
    logits: paddle.Tensor,
    labels: paddle.Tensor,
    temperature: float,
    weight: float,
    class_weights: paddle.Tensor | None = None,
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The loss of a mixture of models and of its members (Lin et al. 2018, section 3.3).

    The loss is the sum of the cross entropies of the mixture and of each member, plus `weight`
    times the sum over the members of KL(mixture || member). The distributions are over all
    classes, softmax(logits / temperature); the mean is over the videos. Both sides of the
    divergence receive gradients.

    Args:
        logits: float [N, 1 + M, K], the mixture first, then its M members.
        labels: [N, K] of 0 and 1.
        class_weights: float [K], as in `sigmoid_cross_entropy`; the divergence is without them.

    Returns:
        (float32 scalar to minimize, cross entropy of the mixture).
    """
    losses = [
        sigmoid_cross_entropy(logits[:, i], labels, class_weights) for i in range(logits.shape[1])
    ]
    log_p = _log_softmax(logits / temperature)
    mixture, members = log_p[:, :1], log_p[:, 1:]
    divergence = (paddle.exp(mixture) * (mixture - members)).sum([1, 2]).mean()
    return sum(losses) + weight * divergence, losses[0]


# --- two models, two modalities ---------------------------------------------------------------


def mutual_loss(
    logits: paddle.Tensor, other: paddle.Tensor, act: Literal["softmax", "sigmoid"] = "softmax"
) -> paddle.Tensor:
    """Deep mutual learning (Zhang et al. 2018) as PaddleVideo computes it.

    Half the symmetric KL divergence, mean over N. Both sides receive gradients. Probabilities
    have 1e-12 added inside the logarithm.

    Args:
        logits, other: float [N, K] of the two models; the loss is symmetric in them.
        act: turns logits into probabilities; with sigmoid each class counts by itself.
    """
    activation = F.softmax if act == "softmax" else F.sigmoid
    p, q = (activation(x.astype("float32")) for x in (logits, other))
    log_ratio = paddle.log((p + 1e-12) / (q + 1e-12))
    return (((p - q) * log_ratio).sum(-1) / 2).mean()


def temperature_loss(
    logits: paddle.Tensor, target: paddle.Tensor, temperature: float
) -> paddle.Tensor:
    """Knowledge distillation (Hinton et al. 2015), with temperature T.

    T^2 * KL(softmax(target / T) || softmax(logits / T)), mean over N. The factor T^2 keeps the
    gradients of different temperatures comparable.

    Args:
        logits: float [N, K] of the student.
        target: float [N, K] of the teacher; it receives no gradient.
        temperature: T, above 0; 1 compares the unchanged distributions, more softens both.
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
    """Contrastive loss of frames with their own audio and with other audio.

    Source: Xiao et al. 2020, as the authors' code computes it. Embeddings are scaled to length
    1/2, so distances d are in [0, 1]. The loss of a clip is
    (d(visual, audio)^2 + max(0, margin - d(visual, negative))^2) / 2; the mean is over the clips
    with weight 1.

    Args:
        visual: float [N, D], embeddings of the frames.
        audio: float [N, D], of the audio at the same time.
        negative: float [N, D], of audio at another time.
        weight: [N], 1 for a clip that counts, else 0.
        margin: distance from which on the negative audio adds no loss.

    Returns:
        float32 scalar, 0 if no clip counts.
    """
    visual, audio, negative = (
        F.normalize(x.astype("float32"), axis=-1) / 2 for x in (visual, audio, negative)
    )
    weight = weight.astype("float32")
    squared_distance = ((visual - audio) ** 2).sum(-1)
    # The square root has no gradient at 0, and embeddings can be equal: distances below 1e-6
    # count as 1e-6.
    distance = ((visual - negative) ** 2).sum(-1).clip(min=1e-12).sqrt()
    losses = squared_distance + F.relu(margin - distance) ** 2
    return (weight * losses).sum() / (2 * weight.sum() + 1e-8)


# --- losses that a distillation config lists; they take the logits of all models by name ------

Logits = Mapping[str, paddle.Tensor]


@register("distillation_loss")
@dataclass(frozen=True)
class DistillationCELoss:
    """`batch_cross_entropy` of one model, with the label smoothing of its head.

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
        """The models that this loss trains."""
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
        act: turns logits into probabilities, see `mutual_loss`.
    """

    model_name_pairs: list[str]
    loss_weight: float = 1.0
    act: Literal["softmax", "sigmoid"] = "softmax"

    short_name: ClassVar = "dml"
    takes_labels: ClassVar = False

    @property
    def learners(self) -> list[str]:
        """The models that this loss trains."""
        return self.model_name_pairs

    def __call__(
        self, logits: Logits, batch: Mapping, label_smoothing: Mapping[str, float]
    ) -> paddle.Tensor:
        first, second = self.model_name_pairs
        return mutual_loss(logits[first], logits[second], self.act)


@register("distillation_loss")
@dataclass(frozen=True)
class DistillationKLLoss:
    """`temperature_loss`: the student learns from the teacher only. Not in PaddleVideo.

    Args:
        model_name_pairs: [student, teacher].
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
        """The models that this loss trains."""
        return self.model_name_pairs[:1]

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")

    def __call__(
        self, logits: Logits, batch: Mapping, label_smoothing: Mapping[str, float]
    ) -> paddle.Tensor:
        student, teacher = self.model_name_pairs
        return temperature_loss(logits[student], logits[teacher], self.temperature)


def _log_softmax(logits: paddle.Tensor) -> paddle.Tensor:
    logits = logits.astype("float32")
    return logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
