"""Pieces that several architectures share: convolution with batch norm, the residual block, the segment head, split norms."""

import re
from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant, KaimingNormal, Normal
from paddle.regularizer import L2Decay

from paddlevideo.models import onednn
from paddlevideo.models.base import Backbone, Head

# depth: (bottleneck blocks?, blocks in each of the four stages); He et al. 2016, table 1.
RESNET_DEPTHS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}
STAGE_WIDTHS = (64, 128, 256, 512)
_BLOCK_TENSOR = re.compile(r"(stem|blocks)\.(\d+)\.(?:(\w+)\.)?(conv|bn)\.(\w+)")


class Conv2D(nn.Conv2D):
    """2-D convolution with zeros around and without bias, on a CPU by oneDNN where that is on (paddlevideo/models/onednn.py)."""

    def forward(self, x):
        sizes = (self.weight, self._stride, self._padding)
        return onednn.conv(x, *sizes) if onednn.supports_conv(x, *sizes) else super().forward(x)


class Conv3D(nn.Conv3D):
    """3-D convolution with zeros around and without bias, on a CPU by oneDNN where that is on (paddlevideo/models/onednn.py)."""

    def forward(self, x):
        sizes = (self.weight, self._stride, self._padding)
        return onednn.conv(x, *sizes) if onednn.supports_conv(x, *sizes) else super().forward(x)


class ConvBN(nn.Layer):
    """Convolution without bias, then batch norm (epsilon 1e-5, momentum 0.9); "same" padding, no activation.

    Args:
        lr_mult: multiplies the learning rate of all of its parameters.
        norm_decay: False frees scale and offset from weight decay, whatever the optimizer is told.
    """

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, lr_mult=1.0, norm_decay=True
    ):
        super().__init__()

        def norm_attr():
            return ParamAttr(
                learning_rate=lr_mult, regularizer=None if norm_decay else L2Decay(0.0)
            )

        self._conv = Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=[stride, stride],
            padding=[kernel_size // 2] * 2,
            weight_attr=ParamAttr(
                learning_rate=lr_mult, initializer=KaimingNormal()
            ),  # std sqrt(2 / fan_in)
            bias_attr=False,
        )
        self._batch_norm = nn.BatchNorm2D(
            out_channels, weight_attr=norm_attr(), bias_attr=norm_attr()
        )

    def forward(self, x):
        return self._batch_norm(self._conv(x))


class ResidualBlock(nn.Layer):
    """Basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1) block; the first 3x3 carries the stride.

    Args:
        in_channels: channels of the input.
        width: channels inside; a bottleneck puts out 4 * width, a basic block width.
        project: the shortcut is a 1x1 convolution (first block of a stage), otherwise the identity.
        pool_shortcut: a strided shortcut averages 2x2 first instead of skipping pixels (ResNet-D).
        conv_bn: further arguments of every `ConvBN`.
    """

    def __init__(
        self, in_channels, width, stride, bottleneck, project, pool_shortcut=False, **conv_bn
    ):
        super().__init__()
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
        # At an odd border the window holds fewer pixels; the mean is over those that exist.
        self.pool = nn.AvgPool2D(stride, stride, ceil_mode=True, exclusive=True) if pooled else None
        self.short = (
            ConvBN(in_channels, self.out_channels, 1, 1 if pooled else stride, **conv_bn)
            if project
            else None
        )

    def forward(self, x):
        y = self.conv1(F.relu(self.conv0(x)))  # [N, width, H/stride, W/stride]
        if self.conv2 is not None:
            y = self.conv2(F.relu(y))  # [N, 4*width, H/stride, W/stride]
        if self.pool is not None:
            x = self.pool(x)
        if self.short is not None:
            x = self.short(x)
        return F.relu(x + y)


class SubBatchNorm3D(nn.BatchNorm3D):
    """Batch norm that can normalise parts of a batch on their own (sub-batch normalisation, Wu et al. 2020).

    Training normalises each of `splits` parts with its own mean and variance, as if each stood on a device of its own; scale
    and offset are shared. The running statistics are those of the whole batch: the mean of the parts' means, and the mean of
    their variances plus the variance of their means. So evaluation, tensors and their names are those of plain batch norm,
    `splits` may change at any time, and there is no other state to save. One split is plain batch norm to the bit.

    Differs from PaddleVideo, which averages over steps part by part and aggregates then: by that time the parts' means have
    become alike, and the variance between them is lost.

    Args:
        num_features: C.
        splits: parts of a batch; the number of clips must be a multiple of it in training.
        arguments: of `nn.BatchNorm3D`.
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

    def forward(self, x):
        """x: float [N, C, T, H, W] -> the same shape.

        Raises:
            ValueError: in training, `splits` does not divide N.
        """
        if self._splits == 1 or not self.training or self._use_global_stats:
            return self._normalise(
                x, self._mean, self._variance, self.weight, self.bias, self._momentum
            )
        splits, clips = self._splits, x.shape[0]
        if clips % splits and clips > 0:  # -1 in a program that leaves the batch open
            raise ValueError(
                f"batch norm: a batch of {clips} clips cannot be cut into {splits} splits; make the batch size a multiple of "
                f"{splits}, or lower bn_num_splits"
            )
        # The clips n, n + splits, n + 2 * splits ... make part n: then the parts are channels, and nothing is copied.
        parts = x.reshape(
            [-1, splits * self._num_features, 0, 0, 0]
        )  # [N/splits, splits*C, T, H, W]
        # Momentum 0 leaves in these what the parts have: [splits*C]
        means, variances = (
            paddle.zeros([splits * self._num_features], self._mean.dtype) for _ in range(2)
        )
        scale, offset = (p.tile([splits]) for p in (self.weight, self.bias))
        y = self._normalise(parts, means, variances, scale, offset, 0.0).reshape(
            [-1, self._num_features, 0, 0, 0]
        )
        with paddle.no_grad():
            means, variances = (s.reshape([splits, self._num_features]) for s in (means, variances))
            mean = means.mean(0)
            variance = (variances + (means - mean) ** 2).mean(0)
            for running, now in ((self._mean, mean), (self._variance, variance)):
                paddle.assign(self._momentum * running + (1 - self._momentum) * now, running)
        return y

    def _normalise(self, x, mean, variance, scale, offset, momentum):
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
    """Let every `SubBatchNorm3D` of a model cut its batches into `splits` parts from now on.

    Returns:
        how many there are; 0 says that the model cannot do it.
    """
    norms = [
        layer for layer in model.sublayers(include_self=True) if isinstance(layer, SubBatchNorm3D)
    ]
    for norm in norms:
        norm.splits = splits
    return len(norms)


class SegmentHead(Head):
    """Segment consensus (Wang et al. 2016): mean over space, mean over segments, dropout, linear classifier.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the feature map; None waits for `connect`, where the recognizer says what its backbone gives.
        drop_ratio: dropout before the classifier.
        std: standard deviation of the classifier's initial weights; the bias starts at 0.
        ls_eps: label smoothing of the training loss.
        weight_attr, bias_attr: keyword arguments of the classifier's `ParamAttr` (learning rate, regularizer).
        keep_rows: by_name starts with the rows of a checkpoint's classes that have the same name; used by the engine.

    Attributes:
        class_layer: name of the linear layer that has a row of weights for each class.
    """

    class_layer = "fc"

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
        self._attributes = (
            {"initializer": Normal(std=std), **(weight_attr or {})},
            {"initializer": Constant(0.0), **(bias_attr or {})},
        )
        self.dropout = nn.Dropout(drop_ratio)
        if in_channels is not None:
            self._make_classifier(in_channels)

    def _make_classifier(self, channels: int) -> None:
        weight_attr, bias_attr = (ParamAttr(**arguments) for arguments in self._attributes)
        self.fc = nn.Linear(channels, self.num_classes, weight_attr, bias_attr)
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
                f"MODEL.head: in_channels is {self.in_channels}, but the backbone gives {channels} channels; "
                f"set in_channels: {channels} or leave it out"
            )

    def forward(self, features, num_segments):
        """features: float [N*S, C, H, W], the segments of a clip in a row -> logits [N, num_classes]."""
        x = features.mean([2, 3])  # [N*S, C]
        x = x.reshape([-1, num_segments, self.in_channels]).mean(1)  # [N, C]
        return self.fc(self.dropout(x))


def paddleclas_name(name: str, stem: Sequence[str], blocks: Sequence[str]) -> str:
    """The name that a tensor of PaddleClas' present ResNet files has here; any other name comes back unchanged.

    PaddleClas once named its tensors as the backbones here do (`conv1_1._conv.weight`) and now counts blocks through all
    stages (`stem.0.conv.weight`, `blocks.3.conv0.bn._mean`); both generations of files are around.

    Args:
        stem, blocks: our names of the stem's convolutions and of all blocks, in order.
    """
    match = _BLOCK_TENSOR.fullmatch(name)
    if not match:
        return name
    part, number, convolution, kind, tensor = match.groups()
    ours = stem if part == "stem" else blocks
    if int(number) >= len(ours):
        return name
    layer = "_conv" if kind == "conv" else "_batch_norm"
    return ".".join(word for word in (ours[int(number)], convolution, layer, tensor) if word)
