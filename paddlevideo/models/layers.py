"""Layers that several architectures share: convolutions, batch norms, residual block, heads.

Layers that a model has many of are marked `not_to_static`. Their Python code does not depend on
tensors, so an export runs it as it is. Paddle would otherwise translate the source code of each
instance, which took most of the time of an export.
"""

import re
from collections.abc import Sequence
from typing import Literal, cast

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant, KaimingNormal, Normal
from paddle.regularizer import L2Decay

from paddlevideo.models import onednn
from paddlevideo.models.activations import leaky_relu
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.temporal_shift import shift_by_segments

Depth = Literal[10, 18, 34, 50, 101, 152]
# depth: (bottleneck blocks?, number of blocks per stage); He et al. 2016, table 1; 10 has half of
# the blocks of 18.
RESNET_DEPTHS: dict[int, tuple[bool, tuple[int, int, int, int]]] = {
    10: (False, (1, 1, 1, 1)),
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}
_BLOCK_TENSOR = re.compile(r"(stem|blocks)\.(\d+)\.(?:(\w+)\.)?(conv|bn)\.(\w+)")


def stage_widths(base_channels: int) -> list[int]:
    """Inner channels of the four stages of a ResNet, each twice those of the one before.

    Raises:
        ValueError: base_channels is not even and positive.
    """
    if base_channels < 2 or base_channels % 2:
        raise ValueError(
            f"MODEL.backbone: base_channels is {base_channels}; it must be even and at least 2"
        )
    return [base_channels * factor for factor in (1, 2, 4, 8)]


class Conv2D(nn.Conv2D):
    """2-D convolution without bias; runs on oneDNN where `models.onednn` supports it."""

    @paddle.jit.not_to_static
    def forward(self, x):
        sizes = (self.weight, self._stride, cast(Sequence[int], self._padding), self._groups)
        return onednn.conv(x, *sizes) if onednn.supports_conv(x, *sizes) else super().forward(x)


class Conv3D(nn.Conv3D):
    """3-D convolution without bias; runs on oneDNN where `models.onednn` supports it."""

    @paddle.jit.not_to_static
    def forward(self, x):
        sizes = (self.weight, self._stride, cast(Sequence[int], self._padding))
        return onednn.conv(x, *sizes) if onednn.supports_conv(x, *sizes) else super().forward(x)


class ConvBN(nn.Layer):
    """Convolution without bias, then batch norm (epsilon 1e-5, momentum 0.9).

    The padding is "same"; there is no activation. Convolutions start from a normal distribution
    of std sqrt(2 / fan_in) (He et al. 2015).

    Args:
        lr_mult: factor on the learning rate of its parameters.
        norm_decay: False excludes the batch norm from weight decay.
    """

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, lr_mult=1.0, norm_decay=True
    ):
        super().__init__()

        def norm_attr():
            regularizer = None if norm_decay else L2Decay(0.0)
            return ParamAttr(learning_rate=lr_mult, regularizer=regularizer)

        self._conv = Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=[stride, stride],
            padding=[kernel_size // 2] * 2,
            weight_attr=ParamAttr(learning_rate=lr_mult, initializer=KaimingNormal()),
            bias_attr=False,
        )
        self._batch_norm = nn.BatchNorm2D(
            out_channels, weight_attr=norm_attr(), bias_attr=norm_attr()
        )

    @paddle.jit.not_to_static
    def forward(self, x):
        return self._batch_norm(self._conv(x))


class ResidualBlock(nn.Layer):
    """Basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1) block; the first 3x3 carries the stride.

    Args:
        in_channels: channels of the input.
        width: inner channels; a bottleneck has 4 * width output channels, a basic block width.
        project: the shortcut is a 1x1 convolution (first block of a stage), not the identity.
        pool_shortcut: a strided shortcut averages 2x2 pixels instead of skipping them (ResNet-D).
        num_seg: frames of a clip that exchange channels on the residual branch (temporal shift);
            1 for none. The shortcut keeps the frame itself.
        slope: of the activations below 0; 0 is ReLU, others leaky ReLU.
        conv_bn: more arguments of every `ConvBN`.
    """

    def __init__(
        self,
        in_channels,
        width,
        stride,
        bottleneck,
        project,
        pool_shortcut=False,
        num_seg=1,
        slope=0.0,
        **conv_bn,
    ):
        super().__init__()
        self._num_seg, self._slope = num_seg, slope
        self.out_channels = width * 4 if bottleneck else width
        if bottleneck:
            self.conv0 = ConvBN(in_channels, width, 1, **conv_bn)
            self.conv1 = ConvBN(width, width, 3, stride, **conv_bn)
            self.conv2 = ConvBN(width, self.out_channels, 1, **conv_bn)
        else:
            self.conv0 = ConvBN(in_channels, width, 3, stride, **conv_bn)
            self.conv1 = ConvBN(width, width, 3, **conv_bn)
            self.conv2 = None
        pooled = pool_shortcut and stride > 1
        # At an odd border the window has fewer pixels; the mean is over those that exist.
        self.pool = nn.AvgPool2D(stride, stride, ceil_mode=True, exclusive=True) if pooled else None
        self.short = None
        if project:
            self.short = ConvBN(
                in_channels, self.out_channels, 1, 1 if pooled else stride, **conv_bn
            )

    @paddle.jit.not_to_static
    def forward(self, x):
        y = x if self._num_seg == 1 else shift_by_segments(x, self._num_seg)
        y = self.conv1(self._activation(self.conv0(y)))  # [N, width, H/stride, W/stride]
        if self.conv2 is not None:
            y = self.conv2(self._activation(y))  # [N, 4*width, H/stride, W/stride]
        if self.pool is not None:
            x = self.pool(x)
        if self.short is not None:
            x = self.short(x)
        return self._activation(x + y)

    def _activation(self, x):
        return leaky_relu(x, self._slope) if self._slope else F.relu(x)


class SubBatchNorm3D(nn.BatchNorm3D):
    """Batch norm that normalizes parts of a batch separately (sub-batch norm, Wu et al. 2020).

    In training each of `splits` parts has its own mean and variance, as if it were on its own
    device; scale and offset are shared. The running statistics are those of the complete batch:
    the mean of the parts' means, and the mean of their variances plus the variance of their means.
    Evaluation, tensors and their names are therefore those of plain batch norm, and `splits` may
    change at any time. One split is bit-identical to plain batch norm.

    Differs from PaddleVideo, which averages the statistics of each part over the steps and
    aggregates them afterwards. The averaged means of the parts are almost equal by then, so the
    variance between the parts is lost.

    Args:
        num_features: C.
        splits: number of parts of a batch; in training it must divide the number of clips.
        arguments: of `nn.BatchNorm3D`.

    Raises:
        ValueError: `splits` is less than 1.
    """

    def __init__(self, num_features: int, splits: int = 1, **arguments):
        super().__init__(num_features, **arguments)
        self.splits = splits

    @property
    def splits(self) -> int:
        return self._splits

    @splits.setter
    def splits(self, splits: int):
        if splits < 1:
            raise ValueError(f"batch norm: splits is {splits}; it must be at least 1")
        self._splits = splits

    @paddle.jit.not_to_static
    def forward(self, x):
        """x: float [N, C, T, H, W] -> the same shape.

        Raises:
            ValueError: in training, `splits` does not divide N.
        """
        if self._splits == 1 or not self.training or self._use_global_stats:
            return self._normalize(
                x, self._mean, self._variance, self.weight, self.bias, self._momentum
            )
        splits, clips, channels = self._splits, x.shape[0], self._num_features
        if clips % splits and clips > 0:  # -1 in a program with a free batch size
            raise ValueError(
                f"batch norm: a batch of {clips} clips cannot be divided into {splits} splits; "
                f"make the batch size a multiple of {splits}, or lower bn_num_splits"
            )
        # Part n has the clips n, n + splits, n + 2 * splits ...: a reshape turns parts into
        # channels without a copy.
        parts = x.reshape([-1, splits * channels, 0, 0, 0])  # [N/splits, splits*C, T, H, W]
        # With momentum 0 batch_norm stores the statistics of the parts here: [splits*C]
        means, variances = (paddle.zeros([splits * channels], self._mean.dtype) for _ in range(2))
        scale, offset = (
            p.tile([splits]) for p in cast(Sequence[paddle.Tensor], (self.weight, self.bias))
        )
        y = self._normalize(parts, means, variances, scale, offset, 0.0)
        with paddle.no_grad():
            means, variances = (s.reshape([splits, channels]) for s in (means, variances))
            mean = means.mean(0)
            variance = (variances + (means - mean) ** 2).mean(0)
            for running, batch in ((self._mean, mean), (self._variance, variance)):
                paddle.assign(self._momentum * running + (1 - self._momentum) * batch, running)
        return y.reshape([-1, channels, 0, 0, 0])  # [N, C, T, H, W]

    def _normalize(self, x, mean, variance, scale, offset, momentum):
        return F.batch_norm(
            x,
            mean,
            variance,
            scale,
            offset,
            self.training,
            momentum,
            self._epsilon,
            use_global_stats=self._use_global_stats,
        )


def set_norm_splits(model: nn.Layer, splits: int) -> int:
    """Set the number of splits of every `SubBatchNorm3D` of a model.

    Returns:
        the number of these norms; 0 means that the model does not support splits.
    """
    layers = model.sublayers(include_self=True)
    norms = [layer for layer in layers if isinstance(layer, SubBatchNorm3D)]
    for norm in norms:
        norm.splits = splits
    return len(norms)


def linear_classifier(channels: int, num_classes: int, std: float = 0.01) -> nn.Linear:
    """A linear layer whose weights start from a normal distribution of `std`, its bias from 0."""
    weight_attr = ParamAttr(initializer=Normal(std=std))
    bias_attr = ParamAttr(initializer=Constant(0.0))
    return nn.Linear(channels, num_classes, weight_attr=weight_attr, bias_attr=bias_attr)


class SegmentHead(Head):
    """Segment consensus (Wang et al. 2016): mean over space and segments, dropout, classifier.

    With `motion` the classifier also sees how the features change: the mean absolute difference
    between successive segments, after the mean, so that it has 2 * C inputs.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the feature map; None takes those of the backbone in `connect`.
        drop_ratio: dropout before the classifier.
        std: standard deviation of the classifier's initial weights; the bias starts at 0.
        ls_eps: label smoothing of the training loss.
        weight_attr, bias_attr: arguments of the classifier's `ParamAttr` (learning rate,
            regularizer).
        keep_rows: see `Head`.
        motion: whether the classifier sees the changes.
        drop_segments: the dropout acts on the features of each segment, before their mean; not
            together with motion.

    Raises:
        ValueError: drop_ratio or ls_eps is not in [0, 1).
    """

    class_layer = "head.fc"

    def __init__(
        self,
        num_classes,
        in_channels,
        drop_ratio,
        std,
        ls_eps,
        weight_attr=None,
        bias_attr=None,
        keep_rows=None,
        motion=False,
        drop_segments=False,
    ):
        super().__init__()
        if not 0 <= ls_eps < 1:
            raise ValueError(f"head: ls_eps is {ls_eps}; label smoothing must be in [0, 1)")
        if not 0 <= drop_ratio < 1:
            raise ValueError(f"head: drop_ratio is {drop_ratio}; it must be in [0, 1)")
        self.num_classes = num_classes
        self.in_channels = None
        self.label_smoothing = ls_eps
        self.keep_rows = keep_rows
        self.motion = motion
        self.min_segments = 2 if motion else 1
        self.averages_segments = not motion
        self._drop_segments = drop_segments
        self._attributes = (
            {"initializer": Normal(std=std), **(weight_attr or {})},
            {"initializer": Constant(0.0), **(bias_attr or {})},
        )
        self.dropout = nn.Dropout(drop_ratio)
        if in_channels is not None:
            self._make_classifier(in_channels)

    def _make_classifier(self, channels: int) -> None:
        weight_attr, bias_attr = (ParamAttr(**arguments) for arguments in self._attributes)
        width = 2 * channels if self.motion else channels
        self.fc = nn.Linear(width, self.num_classes, weight_attr, bias_attr)
        self.in_channels = channels

    def connect(self, backbone: Backbone) -> None:
        """Create the classifier for the backbone's feature map, or check the one that exists.

        Raises:
            ValueError: the head was configured for another number of channels.
        """
        channels = backbone.out_channels
        if self.in_channels is None:
            self._make_classifier(channels)
        elif self.in_channels != channels:
            raise ValueError(
                f"MODEL.head: in_channels is {self.in_channels}, but the backbone gives "
                f"{channels} channels; set in_channels: {channels} or leave it out"
            )

    def forward(self, features, num_segments):
        """float [N*S, C, H, W], the S segments of a clip in sequence -> logits [N, num_classes]."""
        if self._drop_segments:
            x = self.dropout(self._of_segments(features, num_segments))  # [N, S, C]
            return self.fc(x.mean(1))
        return self.fc(self.dropout(self.pooled(features, num_segments)))

    def pooled(self, features, num_segments):
        """float [N*S, C, H, W] -> what the classifier takes, [N, C], or [N, 2*C] with motion.

        Raises:
            ValueError: motion needs at least two segments.
        """
        x = self._of_segments(features, num_segments)  # [N, S, C]
        if not self.motion:
            return x.mean(1)  # [N, C]
        if x.shape[1] == 1:  # -1 where a program leaves it free
            raise ValueError("head: motion needs clips of at least 2 segments; this has 1")
        steps = x[:, 1:] - x[:, :-1]
        # Paddle's `abs` and `maximum` cannot be written to a program without PIR.
        changes = (F.relu(steps) + F.relu(-steps)).mean(1)
        return paddle.concat([x.mean(1), changes], 1)  # [N, 2*C]

    def _of_segments(self, features, num_segments):
        """float [N*S, C, H, W] -> means over space [N, S, C]."""
        return features.mean([2, 3]).reshape([-1, num_segments, self.in_channels])


def paddleclas_name(name: str, stem: Sequence[str], blocks: Sequence[str]) -> str:
    """Translate a name from a recent ResNet file of PaddleClas; other names come back unchanged.

    PaddleClas has had two naming schemes. The older one is that of the backbones here
    (`conv1_1._conv.weight`); the recent one numbers the blocks across all stages
    (`stem.0.conv.weight`, `blocks.3.conv0.bn._mean`). Files of both are in use.

    Args:
        stem: names of the stem's convolutions here, in order.
        blocks: names of all blocks here, in order.
    """
    match = _BLOCK_TENSOR.fullmatch(name)
    if not match:
        return name
    part, number, convolution, kind, tensor = match.groups()
    names = stem if part == "stem" else blocks
    if int(number) >= len(names):
        return name
    layer = "_conv" if kind == "conv" else "_batch_norm"
    return ".".join(word for word in (names[int(number)], convolution, layer, tensor) if word)
