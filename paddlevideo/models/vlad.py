"""The aggregation of NeXtVLAD, step by step, and the conventions of its two releases.

Paper: Lin, Xiao and Fan 2018, "NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level Features for Large-scale Video
Classification", section 3.2.
Differs from both releases: features are aggregated by one matrix product a video instead of a tensor [K, D1] for each frame;
in training the cluster logits come from the product of the two weights before them.
"""

from dataclasses import dataclass
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Initializer, Normal, TruncatedNormal


@dataclass(frozen=True)
class Convention:
    """What the two releases do differently.

    Args:
        epsilon, momentum: of every batch norm; the momentum is the share of the old running value that a step keeps.
        counts_padding: in training, statistics of the frames' batch norm are over `max_frames` rows of every video, those
            that pad it included; otherwise over its frames.
        unbiased_gate: the gate's running variance is that of n / (n - 1) (TensorFlow's fused kernel).
        dropout: "downscale_in_infer" scales by 1 - drop_rate in evaluation, "upscale_in_train" by its inverse in training.
        truncated: initial weights are truncated normal of deviation sqrt(2.6 / fan in), otherwise normal of sqrt(2 / fan in).
        floor_of_norm: intra-normalisation divides by sqrt(max(s, 1e-12)), otherwise by sqrt(s + 1e-12).
        half_audio: where nothing is said, the audio stream has half as many clusters and groups as the visual one.
    """

    epsilon: float
    momentum: float
    counts_padding: bool
    unbiased_gate: bool
    dropout: Literal["downscale_in_infer", "upscale_in_train"]
    truncated: bool
    floor_of_norm: bool
    half_audio: bool

    def norm(self, channels: int) -> nn.BatchNorm1D:
        return nn.BatchNorm1D(channels, momentum=self.momentum, epsilon=self.epsilon)

    def weight(self, fan_in: int) -> Initializer:
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
    """Batch norm whose running variance is that of n / (n - 1), as TensorFlow's fused kernel keeps it."""

    def forward(self, x):
        """x: float [N, C] -> the same shape."""
        if not self.training or x.shape[0] < 2:
            return super().forward(x)
        # Momentum 0 leaves in these what the batch has.
        now = [paddle.zeros([self._num_features], self._mean.dtype) for _ in range(2)]
        y = F.batch_norm(x, *now, self.weight, self.bias, True, 0.0, self._epsilon)
        with paddle.no_grad():
            now[1] = now[1] * (x.shape[0] / (x.shape[0] - 1))
            for running, value in zip((self._mean, self._variance), now, strict=True):
                paddle.assign(self._momentum * running + (1 - self._momentum) * value, running)
        return y


# --- the aggregation, step by step ---------------------------------------------------------------------------------------


def sigmoid(x: paddle.Tensor) -> paddle.Tensor:
    """1 / (1 + exp(-x)) by way of a softmax: Paddle 3.3 cannot write its own sigmoid into a `.pdmodel`."""
    return F.softmax(paddle.stack([x, paddle.zeros_like(x)], -1), -1)[..., 0]


def assign(logits: paddle.Tensor, attention: paddle.Tensor) -> paddle.Tensor:
    """Shares of each group of a frame in each cluster, weighted by the attention that the group gets.

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
    """Weighted sum of the distances of a video's features from each cluster's center: one matrix product a video.

    Args:
        alpha: float [N, T*G, K], 0 in rows that are no frame.
        features: float [N, T*G, D1].
        centers: float [K, D1].

    Returns:
        float [N, K, D1].
    """
    weights = alpha.transpose([0, 2, 1])  # [N, K, T*G]
    total = weights @ paddle.ones_like(features[:, :, :1])  # [N, K, 1]
    # The product of matrices is the operator on purpose: Paddle 3.3 cannot write paddle.matmul into a `.pdmodel`.
    return (weights @ features).astype("float32") - total.astype("float32") * centers


def intra_normalise(residual: paddle.Tensor, floor: bool = False) -> paddle.Tensor:
    """Each cluster's row divided by its length.

    Args:
        residual: float [N, K, D1].
        floor: 1e-12 is the least square length, instead of being added to it.

    Returns:
        float [N, D1*K], place d * K + k.
    """
    # Not paddle.square: Paddle Inference would fuse it into the subtraction before, whose result is needed once more. And no
    # sum, which cannot be written into a `.pdmodel`.
    squares = (residual * residual).mean(-1, keepdim=True) * residual.shape[-1]  # [N, K, 1]
    squares = paddle.clip(squares, min=1e-12) if floor else squares + 1e-12
    return (residual * paddle.pow(squares, -0.5)).transpose([0, 2, 1]).flatten(1)


class Stream(nn.Layer):
    """Frames of one kind of feature -> descriptor [N, D1*K], where D1 = expansion * D / groups.

    Args:
        feature_size: D.
        cluster_size: K.
        groups: G, parts of the expanded feature that are assigned to clusters on their own; divides expansion * D.
        expansion: how much wider the feature is made first.
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
                f"NeXtVLAD: a feature of {feature_size}, expanded {expansion} times, cannot be cut into {groups} groups for "
                f"{cluster_size} clusters; all must be at least 1, and groups divide {wide}"
            )
        self.groups, self.width = groups, wide // groups
        self.out_channels = self.width * cluster_size
        self._floor = convention.floor_of_norm
        self.expansion = convention.linear(feature_size, wide)
        self.attention = convention.linear(wide, groups)
        self.assignment = convention.linear(wide, groups * cluster_size, bias=False)
        self.assignment_norm = convention.norm(groups * cluster_size)
        # The releases count the fan in of the centers along another axis each.
        start = convention.weight(self.width if convention.truncated else cluster_size)
        self.centers = self.create_parameter(
            [cluster_size, self.width], ParamAttr(initializer=start)
        )
        self.norm = convention.norm(self.out_channels)

    def project(self, x):
        """Frames float [R, D] -> (what they are expanded to [R, G*D1], logits of their clusters [R, G*K]).

        With many frames a training step multiplies both weights first: frames then meet a matrix of D rows for their logits,
        not of G*D1. The bias goes in as one more row, because Paddle takes long to sum the gradient of a bias over frames.
        """
        narrow, wide = self.expansion.weight.shape
        # Products in a step, forward and back: three of R rows with the wide one, or two with the narrow and three of weights.
        if not self.training or x.shape[0] * (3 * wide - 2 * narrow) <= 3 * narrow * wide:
            features = self.expansion(x)
            return features, self.assignment(features)
        weight = paddle.concat(
            [self.expansion.weight, self.expansion.bias.unsqueeze(0)], 0
        )  # [D + 1, G*D1]
        x = paddle.concat([x, paddle.ones_like(x[:, :1])], 1)
        return x @ weight, x @ (weight @ self.assignment.weight)

    def forward(self, x, valid, rows=None):
        """x: float [R, D], the frames at `rows` (int [R]) of the N*T places of a batch, or all N*T where `rows` is None;
        valid: float [N, T], 1 for a frame and 0 for padding -> float [N, D1*K]."""
        features, logits = self.project(x)
        attention = sigmoid(self.attention(features))  # [R, G]
        if rows is None:
            attention = attention * valid.reshape([-1, 1])
        alpha = assign(self.assignment_norm(logits), attention)  # [R, G, K]
        if rows is not None:
            places = [valid.shape[0] * valid.shape[1]]
            features = paddle.scatter(
                paddle.zeros([*places, features.shape[1]], features.dtype), rows, features
            )
            alpha = paddle.scatter(
                paddle.zeros([*places, *alpha.shape[1:]], alpha.dtype), rows, alpha
            )
        videos, frames = valid.shape[0], valid.shape[1]
        alpha = alpha.reshape([videos, frames * self.groups, self.centers.shape[0]])
        features = features.reshape([videos, frames * self.groups, self.width])
        return self.norm(intra_normalise(aggregate(alpha, features, self.centers), self._floor))
