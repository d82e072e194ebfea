"""EfficientNet-Lite: compact networks of depthwise convolutions, for CPUs; optional temporal shift.

Papers: Tan and Le 2019, "EfficientNet"; Lin et al. 2019, "TSM: Temporal Shift Module".
Published: ImageNet top-1 of 75.1, 76.7, 77.6, 79.8 and 81.5 % for versions 0 to 4, with images of
224, 240, 260, 280 and 300 pixels (README of `efficientnet/lite` in tensorflow/tpu). They are
normalized with mean 127/255 and std 128/255 there.
Weights: `pretrained` takes the files of EfficientNet-Lite-PyTorch (`.pth`); docs/pretrained.md.
Differs from the paper: no squeeze-and-excitation, ReLU6 for swish, and first and last layers of the
same size in all versions, as in EfficientNet-Lite; no stochastic depth in training.
"""

import math
import re
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import KaimingNormal

from paddlevideo.config.registry import register
from paddlevideo.models import onednn
from paddlevideo.models.base import Backbone
from paddlevideo.models.temporal_shift import shift_frames

# (kernel, stride, expansion, output channels, blocks) of the seven stages of version 0.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# Factors on channels and on numbers of blocks, by version.
SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
# The stages above that make up `stem`, `stage1`, ..., which end at 1/2, 1/4, ... of the size.
PARTS = {"stem": (0,), "stage1": (1,), "stage2": (2,), "stage3": (3, 4), "stage4": (5, 6)}
STEM_CHANNELS, OUT_CHANNELS = 32, 1280


def scaled_channels(channels: int, factor: float) -> int:
    """The nearest multiple of 8 to the product, but not below 90 % of it."""
    product = channels * factor
    rounded = max(8, int(product + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * product else rounded + 8


def scaled_stages(version: int) -> list[tuple[int, int, int, int, int]]:
    """`STAGES` of a version; the first and the last stage keep their number of blocks."""
    width, depth = SCALES[version]
    return [
        (
            kernel,
            stride,
            expansion,
            scaled_channels(channels, width),
            count if number in (0, len(STAGES) - 1) else math.ceil(count * depth),
        )
        for number, (kernel, stride, expansion, channels, count) in enumerate(STAGES)
    ]


class SameConv2D(nn.Conv2D):
    """Convolution without bias, padded like TensorFlow's "SAME"; depthwise with `depthwise`.

    The output has ceil(size / stride) pixels. Where the number of pixels to add is odd, the right
    and the lower side get one more, so a stride of 2 differs from a symmetric padding.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, depthwise=False):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding="SAME" if stride > 1 else kernel_size // 2,
            groups=in_channels if depthwise else 1,
            weight_attr=ParamAttr(initializer=KaimingNormal()),
            bias_attr=False,
        )
        self._kernel, self._step = kernel_size, stride

    @paddle.jit.not_to_static
    def forward(self, x):
        if not paddle.in_dynamic_mode():
            return super().forward(x)
        pads = [same_padding(size, self._kernel, self._step) for size in x.shape[2:]]
        before = [pair[0] for pair in pads]
        if any(first != second for first, second in pads):
            (top, bottom), (left, right) = pads
            padded, before = F.pad(x, [left, right, top, bottom]), [0, 0]
        else:
            padded = x
        sizes = (self.weight, [self._step] * 2, before, self._groups)
        if onednn.supports_conv(padded, *sizes):
            return onednn.conv(padded, *sizes)
        return super().forward(x)


def batch_norm(channels: int) -> nn.BatchNorm2D:
    """Batch norm with epsilon 1e-3, and running statistics that keep 99 % in each step."""
    return nn.BatchNorm2D(channels, momentum=0.99, epsilon=1e-3)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of this size (TensorFlow's "SAME")."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def temporal_shift(x: paddle.Tensor, num_seg: int, part: int) -> paddle.Tensor:
    """Move 1/part of the channels to the next frame of a clip, and as many to the previous one.

    Args:
        x: float [N * num_seg, C, H, W], see `shift_frames`.
    """
    moved = x.shape[1] // part
    return shift_frames(x, num_seg, moved, moved)


class MobileBlock(nn.Layer):
    """Expand (1x1), filter each channel (depthwise), project (1x1); identity shortcut if it fits.

    Args:
        num_seg, shift: of `EfficientNetLite`; a block with a shortcut shifts the input of its
            branch, so that the shortcut keeps the frame itself.
    """

    def __init__(self, in_channels, out_channels, kernel, stride, expansion, num_seg, shift):
        super().__init__()
        width = in_channels * expansion
        self.expands = expansion > 1
        self.shortcut = stride == 1 and in_channels == out_channels
        self._num_seg, self._shift = num_seg, shift if self.shortcut else 0
        if self.expands:
            self.expand_conv = SameConv2D(in_channels, width, 1)
            self.bn0 = batch_norm(width)
        self.depthwise_conv = SameConv2D(width, width, kernel, stride, depthwise=True)
        self.bn1 = batch_norm(width)
        self.project_conv = SameConv2D(width, out_channels, 1)
        self.bn2 = batch_norm(out_channels)

    @paddle.jit.not_to_static
    def forward(self, x):
        """float32 [N, in_channels, H, W] -> [N, out_channels, H/stride, W/stride], rounded up."""
        y = temporal_shift(x, self._num_seg, self._shift) if self._shift else x
        if self.expands:
            y = F.relu6(self.bn0(self.expand_conv(y)))
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.shortcut else y


@register("backbone")
class EfficientNetLite(Backbone):
    """EfficientNet-Lite 0 to 4, on single frames, or on clips with temporal shift.

    Args:
        version: 0 is the smallest (3.4 M parameters, 0.4 G multiplications per frame of 224 x 224
            pixels), 4 the largest (11.7 M, 2.6 G at 300 x 300).
        pretrained: ImageNet weights: a file (`.pth`, `.pdparams`), or a name of
            docs/pretrained.md, as `imagenet`; empty for none.
        shift: blocks with a shortcut exchange 1/shift of their channels with the frame before and
            as many with the frame after (TSM; 8 in the paper); 0 for none.
        num_seg: frames of a clip that are shifted together; the samplers need the same number or a
            multiple. Without effect where shift is 0.

    Raises:
        ValueError: shift is negative or 1, or num_seg is below 2 where frames are shifted.
    """

    unused_pretrained = ("fc.",)

    def __init__(
        self,
        version: Literal[0, 1, 2, 3, 4] = 0,
        pretrained: str | None = None,
        shift: int = 0,
        num_seg: int = 8,
    ):
        super().__init__()
        if shift < 0 or shift == 1:
            raise ValueError(
                f"MODEL.backbone: shift is {shift}; expected 0, or at least 2 (TSM: 8)"
            )
        if shift and num_seg < 2:
            raise ValueError(f"MODEL.backbone: num_seg is {num_seg}; a shift needs at least 2")
        self.pretrained = pretrained or None
        self.pretrained_model = f"EfficientNetLite{version}"
        self.num_segments = num_seg if shift else 1
        self.out_channels = OUT_CHANNELS
        self.conv_stem = SameConv2D(3, STEM_CHANNELS, 3, stride=2)
        self.bn0 = batch_norm(STEM_CHANNELS)

        self.blocks = nn.LayerList()
        ends, channels = [], STEM_CHANNELS
        for kernel, stride, expansion, width, count in scaled_stages(version):
            for index in range(count):
                step = stride if index == 0 else 1
                block = MobileBlock(channels, width, kernel, step, expansion, num_seg, shift)
                self.blocks.append(block)
                channels = width
            ends.append(len(self.blocks))
        self.conv_head = SameConv2D(channels, OUT_CHANNELS, 1)
        self.bn1 = batch_norm(OUT_CHANNELS)

        starts = [0, *ends]
        self.stages = {
            part: tuple(f"blocks.{i}." for n in numbers for i in range(starts[n], ends[n]))
            for part, numbers in PARTS.items()
        }
        self.stages["stem"] += ("conv_stem.", "bn0.")
        self.stages["stage4"] += ("conv_head.", "bn1.")

    def forward(self, x):
        """x: float32 [N, 3, H, W] -> [N, 1280, H/32, W/32], sizes rounded up."""
        x = F.relu6(self.bn0(self.conv_stem(x)))  # [N, 32, H/2, W/2]
        for block in self.blocks:
            x = block(x)  # parts end at H/2, H/4, H/8, H/16, H/32
        return F.relu6(self.bn1(self.conv_head(x)))

    def pretrained_name(self, name: str) -> str:
        """The name here of a tensor of EfficientNet-Lite-PyTorch; others come back unchanged.

        `_blocks.3._bn1.running_mean` -> `blocks.3.bn1._mean`. `num_batches_tracked` counts the
        steps of a training, and is left out.
        """
        if name.endswith(".num_batches_tracked"):
            return ""
        name = re.sub(r"(^|\.)_(?=(blocks|conv|bn|expand|depthwise|project|fc)\w*\.)", r"\1", name)
        return name.replace(".running_mean", "._mean").replace(".running_var", "._variance")
