"""PP-TSMv2: PP-LCNetV2, small enough for CPUs, with one temporal shift before its third stage.

Papers: Cui et al. 2021, "PP-LCNet: A Lightweight CPU Convolutional Neural Network"; Lin et al.
2019, "TSM: Temporal Shift Module for Efficient Video Understanding"; Ding et al. 2021, "RepVGG"
(parallel branches that become one convolution).
Published: 71.81 % top-1 on Kinetics-400 with 8 frames and one center crop, 73.1 % with 16; with
mutual learning from PP-TSM 72.45 %, and 75.16 % with 16 frames and temporal attention
(PaddleVideo's model page).
Weights: names and shapes are those of PaddleVideo's released PPTSMv2 files, in which the classifier
belongs to the backbone; `pretrained` takes PaddleClas' PPLCNetV2 files.
Differs from the papers: ReLU for hard swish, sigmoid for hard sigmoid; the order and the share of
shifted channels (`models/temporal_shift.py`); batch norms have no weight decay. Differs from
PaddleVideo: the logits of several views are averaged, and the merged convolutions do not train.
"""

from typing import Literal, NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import KaimingNormal
from paddle.regularizer import L2Decay

from paddlevideo.config.registry import register
from paddlevideo.models.activations import sigmoid
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.layers import Conv2D
from paddlevideo.models.temporal_shift import check_num_seg, shift_by_segments

EPSILON = 1e-5  # of batch norms


class Stage(NamedTuple):
    """A stage: its first block halves the size, and has twice as many outputs as `width`."""

    width: int  # channels of the input
    kernel: int  # of the depthwise convolutions
    blocks: int
    branches: bool = False  # depthwise convolutions of all odd sizes up to the kernel, summed
    excite: bool = False  # squeeze-and-excitation
    split: bool = False  # two pointwise convolutions, the first to half the channels
    shortcut: bool = False  # around blocks that keep the shape


STAGES = (
    Stage(64, 3, 2),
    Stage(128, 3, 2),
    Stage(256, 5, 6, branches=True, excite=True, split=True),
    Stage(512, 5, 2, branches=True, shortcut=True),
)
SHIFTED = 2  # the stage before which frames exchange channels


def scaled(channels: int, scale: float) -> int:
    """The nearest multiple of 8 to the product, at least 8 and at least 90 % of it."""
    product = channels * scale
    rounded = max(8, int(product + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * product else rounded + 8


class ConvBN(nn.Layer):
    """Convolution without bias and with "same" padding, then batch norm without weight decay."""

    def __init__(self, in_channels, out_channels, kernel, stride=1, depthwise=False):
        super().__init__()
        self.conv = Conv2D(
            in_channels,
            out_channels,
            kernel,
            stride=[stride, stride],
            padding=[kernel // 2] * 2,
            groups=in_channels if depthwise else 1,
            weight_attr=ParamAttr(initializer=KaimingNormal()),
            bias_attr=False,
        )
        weight_attr, bias_attr = (ParamAttr(regularizer=L2Decay(0.0)) for _ in range(2))
        self.bn = nn.BatchNorm2D(
            out_channels, epsilon=EPSILON, weight_attr=weight_attr, bias_attr=bias_attr
        )

    @paddle.jit.not_to_static
    def forward(self, x):
        return self.bn(self.conv(x))


class SqueezeExcite(nn.Layer):
    """Scale each channel by a number in 0 .. 1 that follows from the means of all channels."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = _conv(channels, channels // 4, 1)
        self.conv2 = _conv(channels // 4, channels, 1)

    @paddle.jit.not_to_static
    def forward(self, x):
        # Another operator for the mean adds in another order. A training step of this network makes
        # 1e-2 of a gradient from a difference of 1e-7, so numbers could not be compared.
        y = F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))  # [N, C/4, 1, 1]
        return x * sigmoid(self.conv2(y))


class Block(nn.Layer):
    """Depthwise convolution, squeeze-and-excitation, pointwise convolutions; see `Stage`.

    With branches, `merge_branches` replaces their sum by one convolution for evaluation.
    """

    def __init__(self, in_channels, out_channels, stride, stage: Stage):
        super().__init__()
        kernel, self._merged = stage.kernel, False
        self._shortcut = stage.shortcut and stride == 1 and in_channels == out_channels
        self.dw_conv_list = self.se = None
        if stage.branches:
            sizes = [size for size in range(kernel, 0, -2) if size > 1 or stride == 1]
            self.dw_conv_list = nn.LayerList(
                [ConvBN(in_channels, in_channels, size, stride, depthwise=True) for size in sizes]
            )
            self.dw_conv = _conv(in_channels, in_channels, kernel, stride, in_channels)
            for parameter in self.dw_conv.parameters():  # computed by `merge_branches`
                parameter.stop_gradient = True
        else:
            self.dw_conv = ConvBN(in_channels, in_channels, kernel, stride, depthwise=True)
        if stage.excite:
            self.se = SqueezeExcite(in_channels)
        self._split = stage.split
        if stage.split:
            self.pw_conv_1 = ConvBN(in_channels, out_channels // 2, 1)
            self.pw_conv_2 = ConvBN(out_channels // 2, out_channels, 1)
        else:
            self.pw_conv = ConvBN(in_channels, out_channels, 1)

    @paddle.jit.not_to_static
    def forward(self, x):
        """float32 [N, in_channels, H, W] -> [N, out_channels, H/stride, W/stride], rounded up."""
        y = F.relu(self._depthwise(x))
        if self.se is not None:
            y = self.se(y)
        if self._split:
            y = F.relu(self.pw_conv_2(F.relu(self.pw_conv_1(y))))
        else:
            y = F.relu(self.pw_conv(y))
        return x + y if self._shortcut else y

    def _depthwise(self, x):
        if self.training:
            self._merged = False  # the branches change now
        if self.dw_conv_list is None or self._merged:
            return self.dw_conv(x)
        first, *others = self.dw_conv_list
        y = first(x)
        for branch in others:
            y = y + branch(x)
        return y

    def merge_branches(self) -> None:
        """Make `dw_conv` the sum of the branches, and use it in evaluation until the next training.

        A batch norm in evaluation scales and shifts, and a small kernel is a large one with zeros
        around it.
        """
        if self.dw_conv_list is None:
            return
        size = self.dw_conv.weight.shape[-1]
        kernel, offset = 0.0, 0.0
        for branch in self.dw_conv_list:
            arrays = {
                name: tensor.numpy().astype(np.float64)
                for name, tensor in branch.state_dict().items()
            }
            scale = arrays["bn.weight"] / np.sqrt(arrays["bn._variance"] + EPSILON)
            weight = arrays["conv.weight"] * scale[:, None, None, None]
            border = [(size - weight.shape[-1]) // 2] * 2
            kernel = kernel + np.pad(weight, [(0, 0), (0, 0), border, border])
            offset = offset + arrays["bn.bias"] - arrays["bn._mean"] * scale
        for parameter, value in ((self.dw_conv.weight, kernel), (self.dw_conv.bias, offset)):
            parameter.set_value(np.asarray(value, np.float32))
        self._merged = True


def _conv(in_channels, out_channels, kernel, stride=1, groups=1) -> nn.Conv2D:
    """A convolution with bias, which starts at 0."""
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        weight_attr=ParamAttr(initializer=KaimingNormal()),
    )


class FrameAttention(nn.Layer):
    """Scale each frame of a clip by a number in 0 .. 1 that follows from the means of all frames.

    Args:
        num_seg: frames of a clip, T; the weights are [T, T].
    """

    def __init__(self, num_seg):
        super().__init__()
        self._num_seg = num_seg
        self.fc = nn.Linear(
            num_seg,
            num_seg,
            ParamAttr(learning_rate=5.0, regularizer=L2Decay(1e-4)),
            ParamAttr(learning_rate=10.0, regularizer=L2Decay(0.0)),
        )

    @paddle.jit.not_to_static
    def forward(self, x):
        """float32 [N*T, C, H, W] -> the same shape."""
        means = F.adaptive_avg_pool1d(x.flatten(1).unsqueeze(1), 1)  # [N*T, 1, 1]
        shares = sigmoid(self.fc(means.reshape([-1, self._num_seg])))  # [N, T]
        return x * shares.reshape([-1, 1, 1, 1])


@register("backbone", ignores={"use_ssld": "PaddleVideo does not use it either; see pretrained"})
class PPTSM_v2(Backbone):
    """PP-LCNetV2 with a temporal shift, and the layers of the classifier, for `MoViNetHead`.

    Args:
        class_num: width of the logits; by default the number of classes of the data set.
        num_seg: frames of a clip, which the samplers must give; 1/num_seg of the channels come from
            the frame before, as many from the frame after.
        use_temporal_att: scale each frame by what the network has seen of the whole clip, before
            the shift; the weights depend on num_seg.
        pretrained: ImageNet weights: a file of PPLCNetV2 base, or `imagenet` (docs/pretrained.md);
            empty for none.
        class_expand: features of the classifier.
        dropout_prob: dropout of the features of each frame.
        scale: factor on all widths but class_expand; PaddleVideo has 1 only.

    Raises:
        ValueError: num_seg is below 3, a width is not positive, or dropout_prob is not in [0, 1).
    """

    has_classifier = True
    exact_segments = True
    own_tensors = ("fc.", "global_attention.")
    # The word `backbone` in FINETUNE means what is before the classifier, as in other models.
    stages = {  # noqa: RUF012
        "stem": ("stem.",),
        "stage1": ("stages.0.",),
        "stage2": ("stages.1.",),
        "stage3": ("global_attention.", "stages.2."),
        "stage4": ("stages.3.", "last_conv."),
        "backbone": ("stem.", "stages.", "global_attention.", "last_conv."),
    }

    def __init__(
        self,
        class_num: int,
        num_seg: int = 8,
        use_temporal_att: bool = False,
        pretrained: str | None = None,
        class_expand: int = 1280,
        dropout_prob: float = 0.2,
        scale: float = 1.0,
    ):
        super().__init__()
        if not 0 <= dropout_prob < 1:
            raise ValueError(
                f"MODEL.backbone: dropout_prob is {dropout_prob}; it must be in [0, 1)"
            )
        if not scale > 0 or class_expand < 1:
            raise ValueError(
                f"MODEL.backbone: scale is {scale} and class_expand {class_expand}; expected "
                "a number above 0, and at least 1"
            )
        self.num_segments = check_num_seg(num_seg)
        self.pretrained = pretrained or None
        self.pretrained_model = "PPLCNetV2_base" if scale == 1 else ""
        self.num_classes, self._kept = class_num, 1 - dropout_prob

        width = scaled(32, scale)
        first = Block(width, scaled(64, scale), 1, Stage(32, 3, 1))
        self.stem = nn.LayerList([ConvBN(3, width, 3, stride=2), first])
        # `stages` of a backbone are its parts for fine-tuning; released files have this name.
        self._stages = [_blocks(stage, scale) for stage in STAGES]
        self.add_sublayer("stages", nn.LayerList(self._stages))
        self.out_channels = scaled(2 * STAGES[-1].width, scale)
        self.last_conv = Conv2D(
            self.out_channels,
            class_expand,
            1,
            stride=[1, 1],
            padding=[0, 0],
            weight_attr=ParamAttr(initializer=KaimingNormal()),
            bias_attr=False,
        )
        self.dropout = nn.Dropout(dropout_prob)
        self.fc = nn.Linear(class_expand, class_num)
        self.global_attention = FrameAttention(num_seg) if use_temporal_att else None

    def forward(self, x):
        """x: float32 [N*S, 3, H, W] -> [N*S, out_channels, H/32, W/32], sizes rounded up."""
        convolution, block = self.stem
        x = block(F.relu(convolution(x)))  # [N*S, 64, H/2, W/2]
        for number, stage in enumerate(self._stages):  # they end at H/4, H/8, H/16, H/32
            if number == SHIFTED:
                if self.global_attention is not None:
                    x = self.global_attention(x)
                x = shift_by_segments(x, self.num_segments)
            x = stage(x)
        return x

    def pooled(self, maps, num_segments):
        """float32 [N*S, C, h, w], the S frames of a clip in sequence -> [N, class_expand].

        Released weights expect means times 1 - dropout_prob: their dropout scales in evaluation,
        while Paddle's default is to divide by that number in training.
        """
        x = F.relu(self.last_conv(maps.mean([2, 3], keepdim=True)))  # [N*S, class_expand, 1, 1]
        x = self.dropout(x).reshape([-1, num_segments, self.last_conv.weight.shape[0]])
        return x.mean(1) * self._kept

    def merge_branches(self) -> None:
        for layer in self.sublayers():
            if isinstance(layer, Block):
                layer.merge_branches()


def _blocks(stage: Stage, scale: float) -> nn.Sequential:
    """The blocks of a stage, all widths times `scale`."""
    first, width = scaled(stage.width, scale), scaled(2 * stage.width, scale)
    blocks = [Block(first, width, 2, stage)]
    blocks += [Block(width, width, 1, stage) for _ in range(stage.blocks - 1)]
    return nn.Sequential(*blocks)


@register("head")
class MoViNetHead(Head):
    """Mean over space, dropout, mean over frames, classifier: with the layers of the backbone.

    The name is that of PaddleVideo's configs; there it has no arguments.

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.

    Raises:
        ValueError: ls_eps is not in [0, 1).
    """

    class_layer = "backbone.fc"

    def __init__(
        self,
        num_classes: int,
        ls_eps: float = 0.0,
        keep_rows: Literal["by_name"] | None = None,
    ):
        super().__init__()
        if not 0 <= ls_eps < 1:
            raise ValueError(f"MODEL.head: ls_eps is {ls_eps}; label smoothing must be in [0, 1)")
        self.num_classes, self.label_smoothing = num_classes, ls_eps
        self.keep_rows = keep_rows

    def connect(self, backbone: Backbone) -> None:
        """Remember the backbone, whose layers are used.

        Raises:
            ValueError: it has no classifier, or one for another number of classes.
        """
        if not isinstance(backbone, PPTSM_v2):
            raise ValueError(
                f"MODEL.head: MoViNetHead has no layers, and {type(backbone).__name__} no "
                "classifier; expected the backbone PPTSM_v2, or another head, as ppTSMHead"
            )
        if backbone.num_classes != self.num_classes:
            raise ValueError(
                f"MODEL.backbone: class_num is {backbone.num_classes}, num_classes of MODEL.head "
                f"is {self.num_classes}; leave the latter out"
            )
        self._backbone = (backbone,)  # as a layer, its tensors would be listed twice

    def forward(self, features, num_segments):
        """float32 [N*S, C, h, w], the S frames of a clip in sequence -> logits [N, num_classes]."""
        return self._backbone[0].fc(self.pooled(features, num_segments))

    def pooled(self, features, num_segments):
        """float32 [N*S, C, h, w] -> what the classifier takes, [N, class_expand]."""
        return self._backbone[0].pooled(features, num_segments)
