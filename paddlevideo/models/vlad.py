"""The aggregation of NeXtVLAD step by step, and the conventions of its two releases.

Paper: Lin, Xiao and Fan 2018, "NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level
Features for Large-scale Video Classification", section 3.2.
Differs from both releases: one matrix product per video aggregates the features, instead of a
tensor [K, D1] per frame; in training the cluster logits may come from the product of the two weight
matrices before them (see `Stream.project`).
"""

from dataclasses import dataclass
from typing import Literal, cast

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Initializer, Normal, TruncatedNormal


@dataclass(frozen=True)
class Convention:
    """What the two releases do differently.

    Args:
        epsilon, momentum: of every batch norm; the momentum is the share of the old running value
            that a step keeps.
        counts_padding: in training, the statistics of the batch norm over frames cover
            `max_frames` rows of every video, padding included; otherwise the frames only.
        unbiased_gate: the running variance of the gate's batch norm is divided by n - 1
            (TensorFlow's fused kernel), not by n.
        dropout: "downscale_in_infer" multiplies by 1 - drop_rate in evaluation, "upscale_in_train"
            divides by it in training.
        truncated: initial weights have a truncated normal distribution of std sqrt(2.6 / fan_in),
            otherwise a normal distribution of std sqrt(2 / fan_in).
        norm_floor: intra-normalization divides by sqrt(max(s, 1e-12)), otherwise by
            sqrt(s + 1e-12).
        half_audio: by default the audio stream has half as many clusters and groups as the visual
            stream.
    """

    epsilon: float
    momentum: float
    counts_padding: bool
    unbiased_gate: bool
    dropout: Literal["downscale_in_infer", "upscale_in_train"]
    truncated: bool
    norm_floor: bool
    half_audio: bool

    def norm(self, channels: int) -> nn.BatchNorm1D:
        return nn.BatchNorm1D(channels, momentum=self.momentum, epsilon=self.epsilon)

    def gate_norm(self, channels: int) -> nn.BatchNorm1D:
        """The batch norm of a gate."""
        layer = UnbiasedNorm if self.unbiased_gate else nn.BatchNorm1D
        return layer(channels, momentum=self.momentum, epsilon=self.epsilon)

    def weight(self, fan_in: int) -> Initializer:
        """The initial distribution of weights."""
        if self.truncated:
            std = (2.6 / fan_in) ** 0.5
            return TruncatedNormal(std=std, a=-2 * std, b=2 * std)
        return Normal(std=(2 / fan_in) ** 0.5)

    def linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
        return nn.Linear(
            inputs, outputs, ParamAttr(initializer=self.weight(inputs)), None if bias else False
        )


CONVENTIONS = {
    "paddlecv": Convention(1e-5, 0.9, False, False, "downscale_in_infer", False, False, False),
    "tensorflow": Convention(1e-3, 0.999, True, True, "upscale_in_train", True, True, True),
}


class UnbiasedNorm(nn.BatchNorm1D):
    """Batch norm whose running variance is divided by n - 1, as in TensorFlow's fused kernel."""

    def forward(self, x):
        """x: float [N, C] -> the same shape."""
        if not self.training or x.shape[0] < 2:
            return super().forward(x)
        # With momentum 0 batch_norm stores the statistics of the batch here.
        mean, variance = (paddle.zeros([self._num_features], self._mean.dtype) for _ in range(2))
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 0.0, self._epsilon)
        with paddle.no_grad():
            variance = variance * (x.shape[0] / (x.shape[0] - 1))
            for running, batch in ((self._mean, mean), (self._variance, variance)):
                paddle.assign(self._momentum * running + (1 - self._momentum) * batch, running)
        return y


# --- the aggregation, step by step ------------------------------------------------------------


def sigmoid(x: paddle.Tensor) -> paddle.Tensor:
    """1 / (1 + exp(-x)) as a softmax, because Paddle 3.3 cannot export sigmoid to a `.pdmodel`."""
    return F.softmax(paddle.stack([x, paddle.zeros_like(x)], -1), -1)[..., 0]


def assign(logits: paddle.Tensor, attention: paddle.Tensor) -> paddle.Tensor:
    """Soft assignment of the groups of a frame to the clusters, weighted by their attention.

    Args:
        logits: float [R, G*K] of R frames.
        attention: float [R, G].

    Returns:
        float [R, G, K].
    """
    groups = attention.shape[-1]
    shares = F.softmax(logits.reshape([-1, groups, logits.shape[-1] // groups]), -1)
    return shares * attention.unsqueeze(-1)


def aggregate(
    alpha: paddle.Tensor, features: paddle.Tensor, centers: paddle.Tensor
) -> paddle.Tensor:
    """Weighted sum of the residuals of a video's features to each cluster center.

    Args:
        alpha: float [N, T*G, K], 0 for padding.
        features: float [N, T*G, D1].
        centers: float [K, D1].

    Returns:
        float [N, K, D1].
    """
    weights = alpha.transpose([0, 2, 1])  # [N, K, T*G]
    total = weights @ paddle.ones_like(features[:, :, :1])  # [N, K, 1]
    # The operator @ and not paddle.matmul, which Paddle 3.3 cannot export to a `.pdmodel`.
    return (weights @ features).astype("float32") - total.astype("float32") * centers


def intra_normalize(residual: paddle.Tensor, floor: bool = False) -> paddle.Tensor:
    """Divide each cluster's vector by its length.

    Args:
        residual: float [N, K, D1].
        floor: the squared length is at least 1e-12; otherwise 1e-12 is added to it.

    Returns:
        float [N, D1*K]; dimension d of cluster k has index d * K + k.
    """
    # Not paddle.square: Paddle Inference would fuse it with the subtraction before it, whose result
    # is needed again. Not sum: it cannot be exported to a `.pdmodel`.
    squares = (residual * residual).mean(-1, keepdim=True) * residual.shape[-1]  # [N, K, 1]
    squares = paddle.clip(squares, min=1e-12) if floor else squares + 1e-12
    return (residual * paddle.pow(squares, -0.5)).transpose([0, 2, 1]).flatten(1)


class Stream(nn.Layer):
    """One kind of frame features -> descriptor [N, D1*K], where D1 = expansion * D / groups.

    Args:
        feature_size: D.
        cluster_size: K, number of clusters.
        groups: G, parts of the expanded feature that are assigned to clusters separately; divides
            expansion * D.
        expansion: factor by which the feature is widened first.

    Raises:
        ValueError: a size is out of range.
    """

    def __init__(
        self,
        feature_size: int,
        cluster_size: int,
        groups: int,
        expansion: int,
        convention: Convention,
    ):
        super().__init__()
        wide = expansion * feature_size
        if min(feature_size, cluster_size, groups, expansion) < 1 or wide % groups:
            raise ValueError(
                f"NeXtVLAD: a feature of {feature_size}, expanded {expansion} times, cannot be "
                f"divided into {groups} groups for {cluster_size} clusters; all must be at least "
                f"1, and groups must divide {wide}"
            )
        self.groups, self.width = groups, wide // groups
        self.out_channels = self.width * cluster_size
        self._floor = convention.norm_floor
        self.expansion = convention.linear(feature_size, wide)
        self.attention = convention.linear(wide, groups)
        self.assignment = convention.linear(wide, groups * cluster_size, bias=False)
        self.assignment_norm = convention.norm(groups * cluster_size)
        # Each release uses another axis of the centers as their fan-in.
        initializer = convention.weight(self.width if convention.truncated else cluster_size)
        self.centers = self.create_parameter(
            [cluster_size, self.width], ParamAttr(initializer=initializer)
        )
        self.norm = convention.norm(self.out_channels)

    def project(self, x):
        """Frames float [R, D] -> (expanded features [R, G*D1], cluster logits [R, G*K]).

        With many frames a training step first multiplies the weights of the two layers, so that
        frames are multiplied by a matrix of D rows for their logits, not of G*D1. The bias becomes
        one more row of that matrix, because Paddle sums the gradient of a bias over frames slowly.
        """
        narrow, wide = self.expansion.weight.shape
        # Multiplications of a step, forward and backward: either three products of R rows with the
        # wide matrix, or two with the narrow one and three products of the weights.
        if not self.training or x.shape[0] * (3 * wide - 2 * narrow) <= 3 * narrow * wide:
            features = self.expansion(x)
            return features, self.assignment(features)
        bias = cast(paddle.Tensor, self.expansion.bias).unsqueeze(0)
        weight = paddle.concat([self.expansion.weight, bias], 0)  # [D + 1, G*D1]
        x = paddle.concat([x, paddle.ones_like(x[:, :1])], 1)
        return x @ weight, x @ (weight @ self.assignment.weight)

    def forward(self, x, valid, rows=None):
        """Frames -> descriptor float [N, D1*K].

        Args:
            x: float [R, D], the frames at the indices `rows` of the N*T frames of a batch, or all
                N*T frames where `rows` is None.
            valid: float [N, T], 1 for a frame and 0 for padding.
            rows: int [R].
        """
        features, logits = self.project(x)
        attention = sigmoid(self.attention(features))  # [R, G]
        if rows is None:
            attention = attention * valid.reshape([-1, 1])
        alpha = assign(self.assignment_norm(logits), attention)  # [R, G, K]
        videos, frames = valid.shape[0], valid.shape[1]
        if rows is not None:
            features = _scatter(features, rows, videos * frames)  # [N*T, G*D1]
            alpha = _scatter(alpha, rows, videos * frames)  # [N*T, G, K]
        alpha = alpha.reshape([videos, frames * self.groups, self.centers.shape[0]])
        features = features.reshape([videos, frames * self.groups, self.width])
        return self.norm(intra_normalize(aggregate(alpha, features, self.centers), self._floor))


def _scatter(x: paddle.Tensor, rows: paddle.Tensor, num_rows: int) -> paddle.Tensor:
    """[num_rows, ...] with x at the indices `rows` and zeros elsewhere."""
    return paddle.scatter(paddle.zeros([num_rows, *x.shape[1:]], x.dtype), rows, x)
