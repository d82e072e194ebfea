"""Pieces that several architectures share: convolution with batch norm, the residual block, the segment head."""

import re
from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant, KaimingNormal, Normal
from paddle.regularizer import L2Decay

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


class ConvBN(nn.Layer):
    """Convolution without bias, then batch norm (epsilon 1e-5, momentum 0.9); "same" padding, no activation.

    Args:
        lr_mult: multiplies the learning rate of all of its parameters.
        norm_decay: False frees scale and offset from weight decay, whatever the optimizer is told.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, lr_mult=1.0, norm_decay=True):
        super().__init__()

        def norm_attr():
            return ParamAttr(learning_rate=lr_mult, regularizer=None if norm_decay else L2Decay(0.0))

        self._conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            weight_attr=ParamAttr(learning_rate=lr_mult, initializer=KaimingNormal()),  # std sqrt(2 / fan_in)
            bias_attr=False,
        )
        self._batch_norm = nn.BatchNorm2D(out_channels, weight_attr=norm_attr(), bias_attr=norm_attr())

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

    def __init__(self, in_channels, width, stride, bottleneck, project, pool_shortcut=False, **conv_bn):
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
        self.short = ConvBN(in_channels, self.out_channels, 1, 1 if pooled else stride, **conv_bn) if project else None

    def forward(self, x):
        y = self.conv1(F.relu(self.conv0(x)))  # [N, width, H/stride, W/stride]
        if self.conv2 is not None:
            y = self.conv2(F.relu(y))  # [N, 4*width, H/stride, W/stride]
        if self.pool is not None:
            x = self.pool(x)
        if self.short is not None:
            x = self.short(x)
        return F.relu(x + y)


class SegmentHead(nn.Layer):
    """Segment consensus (Wang et al. 2016): mean over space, mean over segments, dropout, linear classifier.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the feature map; None waits for `connect`, where the recognizer says what its backbone gives.
        drop_ratio: dropout before the classifier.
        std: standard deviation of the classifier's initial weights; the bias starts at 0.
        ls_eps: label smoothing of the training loss.
        weight_attr, bias_attr: keyword arguments of the classifier's `ParamAttr` (learning rate, regularizer).
    """

    def __init__(self, num_classes, in_channels, drop_ratio, std, ls_eps, weight_attr=None, bias_attr=None):
        super().__init__()
        if not 0 <= ls_eps < 1:
            raise ValueError(f"head: ls_eps is {ls_eps}; label smoothing must be in [0, 1)")
        if not 0 <= drop_ratio < 1:
            raise ValueError(f"head: drop_ratio is {drop_ratio}; it must be in [0, 1)")
        self.num_classes = num_classes
        self.in_channels = None
        self.label_smoothing = ls_eps
        self._attributes = (
            {"initializer": Normal(std=std), **(weight_attr or {})},
            {"initializer": Constant(0.0), **(bias_attr or {})},
        )
        self.dropout = nn.Dropout(drop_ratio)
        if in_channels is not None:
            self.connect(in_channels)

    def connect(self, channels: int):
        """Make the classifier for a feature map of `channels`, or check the one that is there.

        Raises:
            ValueError: the head was told another number.
        """
        if self.in_channels is None:
            weight_attr, bias_attr = (ParamAttr(**arguments) for arguments in self._attributes)
            self.fc = nn.Linear(channels, self.num_classes, weight_attr=weight_attr, bias_attr=bias_attr)
            self.in_channels = channels
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
