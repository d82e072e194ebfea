"""SlowFast: a slow pathway (few frames, many channels) and a fast one (all frames, few channels).

Paper: Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition", table 1. Multigrid
training: Wu et al. 2020.
Published: top-1 on Kinetics-400 with 10 clips x 3 crops: 74.35 % for 4x16, and 75.84 % for 8x8
trained with multigrid (PaddleVideo's model page).
Weights: names and shapes are those of PaddleVideo's released SlowFast files, whichever batch norm
they were trained with.
Differs from the paper: no non-local blocks. A crop larger than that of training has several
positions in the head: evaluation averages their probabilities, training their logits.
"""

import math
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant, Normal
from paddle.regularizer import L2Decay

from paddlevideo.config.registry import register
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.layers import RESNET_DEPTHS, Conv3D, SubBatchNorm3D, linear_classifier
from paddlevideo.models.pooling import log_mean_probability, pool_positions
from paddlevideo.sample import InputSpec

PATHWAYS = ("slow", "fast")
PATHWAY_NUMBERS = {"slow": 0, "fast": 1, "audio": 2}  # in the names of tensors
# Kernel sizes in frames: of the stem, and of the first convolution in the blocks of each stage.
STEM_FRAMES = {"slow": 1, "fast": 5}
STAGE_FRAMES = {"slow": (1, 1, 3, 3), "fast": (3, 3, 3, 3)}


def conv(in_channels, out_channels, kernel, stride=(1, 1, 1)):
    """Convolution without bias, "same" padding, initialized by fan-out (He et al. 2015).

    Args:
        kernel, stride: [T, H, W].
    """
    std = math.sqrt(2 / (out_channels * math.prod(kernel)))
    padding = [k // 2 for k in kernel]
    weight_attr = ParamAttr(initializer=Normal(std=std))
    return Conv3D(
        in_channels, out_channels, kernel, stride, padding, weight_attr=weight_attr, bias_attr=False
    )


def norm(channels, splits, scale=1.0):
    """Batch norm without weight decay; `scale` is the initial value of its weight."""
    weight_attr = ParamAttr(initializer=Constant(scale), regularizer=L2Decay(0.0))
    return SubBatchNorm3D(
        channels, splits, weight_attr=weight_attr, bias_attr=ParamAttr(regularizer=L2Decay(0.0))
    )


def relu(x):
    """ReLU, in place in dynamic mode; this saves an allocation.

    It may be in place because it follows only sums and batch norms, whose gradients do not need
    their outputs.
    """
    return F.relu_(x) if paddle.in_dynamic_mode() else F.relu(x)


class Stem(nn.Layer):
    """7x7 convolution over `num_frames` frames and max pooling; keeps all frames."""

    def __init__(self, out_channels, num_frames, splits):
        super().__init__()
        self._conv = conv(3, out_channels, (num_frames, 7, 7), (1, 2, 2))
        self._bn = norm(out_channels, splits)
        self._pool = nn.MaxPool3D((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, x):
        return self._pool(relu(self._bn(self._conv(x))))  # [N, C, T, H/4, W/4]


class Branch(nn.Layer):
    """The residual branch of a bottleneck: k x 1 x 1, 1 x 3 x 3 with the stride, 1 x 1 x 1."""

    def __init__(self, in_channels, width, out_channels, num_frames, stride, splits):
        super().__init__()
        self.a = conv(in_channels, width, (num_frames, 1, 1))
        self.a_bn = norm(width, splits)
        self.b = conv(width, width, (1, 3, 3), (1, stride, stride))
        self.b_bn = norm(width, splits)
        self.c = conv(width, out_channels, (1, 1, 1))
        # With scale 0 a block starts as its shortcut (Goyal et al. 2017).
        self.c_bn = norm(out_channels, splits, scale=0.0)

    def forward(self, x):
        x = relu(self.a_bn(self.a(x)))
        x = relu(self.b_bn(self.b(x)))  # [N, width, T, H/stride, W/stride]
        return self.c_bn(self.c(x))


class Block(nn.Layer):
    """Bottleneck with a shortcut; the first block of a stage projects it."""

    def __init__(self, in_channels, width, out_channels, num_frames, stride, splits):
        super().__init__()
        self._project = in_channels != out_channels or stride != 1
        if self._project:
            self.branch1 = conv(in_channels, out_channels, (1, 1, 1), (1, stride, stride))
            self.branch1_bn = norm(out_channels, splits)
        self.branch2 = Branch(in_channels, width, out_channels, num_frames, stride, splits)

    @paddle.jit.not_to_static
    def forward(self, x):
        shortcut = self.branch1_bn(self.branch1(x)) if self._project else x
        return relu(shortcut + self.branch2(x))


class Stage(nn.Layer):
    """A sequence of layers per pathway; the pathways do not interact.

    Args:
        layers: {pathway: {name: layer}}; tensor names have the prefix pathway0_<name> (slow),
            pathway1_<name> (fast) or pathway2_<name> (audio).
    """

    def __init__(self, layers):
        super().__init__()
        self._names = {}
        for pathway, pathway_layers in layers.items():
            prefix = f"pathway{PATHWAY_NUMBERS[pathway]}_"
            self._names[pathway] = [f"{prefix}{name}" for name in pathway_layers]
            for name, layer in pathway_layers.items():
                self.add_sublayer(f"{prefix}{name}", layer)

    def forward(self, features):
        outputs = {}
        for pathway, names in self._names.items():
            x = features[pathway]
            for name in names:
                x = getattr(self, name)(x)
            outputs[pathway] = x
        return outputs


class Lateral(nn.Layer):
    """Fast to slow: a convolution over time of stride alpha, concatenated to the slow channels."""

    def __init__(self, fast_channels, out_channels, num_frames, alpha, splits):
        super().__init__()
        self._conv_f2s = conv(fast_channels, out_channels, (num_frames, 1, 1), (alpha, 1, 1))
        self._bn = norm(out_channels, splits)

    def forward(self, features):
        lateral = relu(self._bn(self._conv_f2s(features["fast"])))  # [N, C, T/alpha, H, W]
        return {**features, "slow": paddle.concat([features["slow"], lateral], axis=1)}


@register("backbone")
class ResNetSlowFast(Backbone):
    """Two 3-D ResNets with lateral connections after the stem and the first three stages.

    Args:
        alpha: frames of the fast pathway per frame of the slow pathway.
        beta: channels of the slow pathway per channel of the fast pathway.
        width_per_group: channels of the slow stem, 64 in the paper; all other widths follow.
        fusion_kernel_sz: kernel size of a lateral convolution in frames, odd.
        fusion_conv_channel_ratio: output channels of a lateral connection per fast channel.
        depth: of the ResNet.
        bn_norm_type: sub_batchnorm normalizes `bn_num_splits` parts of a batch separately; tensors
            and their names are the same. A multigrid schedule sets the splits of each phase itself.
        bn_num_splits: number of parts of a batch on one device; no effect with batchnorm.
        pathways: "slow" and "fast" build the paper's slow-only and fast-only networks.
        pretrained: weights of a SlowFast to start from (`.pdparams`); empty for none.

    Raises:
        ValueError: a size is out of range.
    """

    unused_pretrained = ("head.",)
    stages = {  # noqa: RUF012
        name: (f"s{n}.", f"s{n}_fuse.")
        for n, name in enumerate(("stem", "stage1", "stage2", "stage3", "stage4"), 1)
    }

    def __init__(
        self,
        alpha: int = 8,
        beta: int = 8,
        width_per_group: int = 64,
        fusion_kernel_sz: int = 7,
        fusion_conv_channel_ratio: int = 2,
        depth: Literal[50, 101] = 50,
        bn_norm_type: Literal["batchnorm", "sub_batchnorm"] = "batchnorm",
        bn_num_splits: int = 1,
        pathways: Literal["both", "slow", "fast"] = "both",
        pretrained: str | None = None,
    ):
        super().__init__()
        _check_sizes(alpha, beta, width_per_group, fusion_kernel_sz, fusion_conv_channel_ratio)
        self.alpha = alpha
        self.pretrained = pretrained or None
        self.pathways = PATHWAYS if pathways == "both" else (pathways,)
        self.inputs = {
            name: InputSpec((None, 3, None, None, None), "float32", "N C T H W")
            for name in self.pathways
        }
        splits = bn_num_splits if bn_norm_type == "sub_batchnorm" else 1

        channels = {"slow": width_per_group, "fast": width_per_group // beta}
        self.s1 = Stage(
            {p: {"stem": Stem(channels[p], STEM_FRAMES[p], splits)} for p in self.pathways}
        )
        widths = dict(channels)  # inside the blocks; they double from stage to stage
        for stage, num_blocks in enumerate(RESNET_DEPTHS[depth][1]):
            joined = 0
            if len(self.pathways) == 2:
                joined = fusion_conv_channel_ratio * channels["fast"]
                lateral = Lateral(channels["fast"], joined, fusion_kernel_sz, alpha, splits)
                self.add_sublayer(f"s{stage + 1}_fuse", lateral)
            blocks = {p: {} for p in self.pathways}
            for p in self.pathways:
                in_channels = channels[p] + (joined if p == "slow" else 0)
                channels[p] = 4 * widths[p]
                for i in range(num_blocks):
                    stride = 2 if i == 0 and stage > 0 else 1
                    sizes = (in_channels, widths[p], channels[p], STAGE_FRAMES[p][stage])
                    blocks[p][f"res{i}"] = Block(*sizes, stride, splits)
                    in_channels = channels[p]
                widths[p] *= 2
            self.add_sublayer(f"s{stage + 2}", Stage(blocks))
        self.out_channels = {p: channels[p] for p in self.pathways}

    def forward(self, inputs):
        """Clips -> feature maps.

        Args:
            inputs: {"slow": float32 [N, 3, T/alpha, H, W], "fast": [N, 3, T, H, W]}.

        Returns:
            {pathway: [N, C, T/alpha or T, H/32, W/32]}; each halving rounds H and W up.

        Raises:
            ValueError: a pathway is missing, has another number of axes, or fast does not have
                alpha frames per slow frame.
        """
        features = self._checked(inputs)
        for number in range(1, 6):
            features = getattr(self, f"s{number}")(features)  # H/4, H/4, H/8, H/16, H/32
            if number < 5 and len(self.pathways) == 2:
                features = getattr(self, f"s{number}_fuse")(features)
        return features

    @paddle.jit.not_to_static  # checks shapes only, not part of a program
    def _checked(self, inputs):
        expected = ", ".join(f"'{name}' [N, 3, T, H, W]" for name in self.pathways)
        message = f"ResNetSlowFast takes {expected}; it was given"
        if any(name not in inputs for name in self.pathways):
            raise ValueError(f"{message} {', '.join(inputs) or 'nothing'}")
        clips = {name: inputs[name] for name in self.pathways}
        shapes = {name: list(clip.shape) for name, clip in clips.items()}
        if any(len(shape) != 5 for shape in shapes.values()):
            raise ValueError(f"{message} {shapes}")
        if len(clips) == 2:
            slow, fast = (shapes[name][2] for name in PATHWAYS)
            # An exported program may leave the number of frames free (-1).
            if min(slow, fast) > 0 and slow * self.alpha != fast:
                raise ValueError(
                    f"ResNetSlowFast has alpha {self.alpha}: 'fast' must have {self.alpha} frames "
                    f"per frame of 'slow'; it was given {slow} slow and {fast} fast frames. Give "
                    "PackOutput this alpha, and clips whose number of frames it divides"
                )
        return clips


@register(
    "head",
    ignores={
        "loss_cfg": "the loss is cross entropy, as in the release, which does not read this key "
        "either; ls_eps smooths labels",
        "pool_size_ratio": "it is 1 in all released files: the pool covers the map of crop_size",
    },
)
class SlowFastHead(Head):
    """Mean over time, mean over space, dropout, linear classifier on the channels of all pathways.

    The mean over space covers a window as large as the map of a training crop
    (`crop_size // 32` positions per side). On a larger crop this window has several positions;
    evaluation averages their probabilities, so one model scores crops of any size.

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        num_frames: length of a clip; only checked against alpha, clips of any length are pooled.
        crop_size: height and width of a training clip in pixels; smaller clips are pooled
            completely.
        dropout_rate: dropout before the classifier.
        multigrid_short: always pool the complete map, for training with changing crop sizes.
        width_per_group, alpha, beta: of the backbone; released files repeat them here, where they
            are checked.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.

    Attributes:
        multi_label: average the logits of the positions, not their probabilities.

    Raises:
        ValueError: a value is out of range.
    """

    class_layer = "head.projection"
    multi_label = False

    def __init__(
        self,
        num_classes: int,
        num_frames: int | None = None,
        crop_size: int = 224,
        dropout_rate: float = 0.5,
        multigrid_short: bool = False,
        width_per_group: int | None = None,
        alpha: int | None = None,
        beta: int | None = None,
        ls_eps: float = 0.0,
        keep_rows: Literal["by_name"] | None = None,
    ):
        super().__init__()
        if crop_size < 32:
            raise ValueError(f"MODEL.head: crop_size is {crop_size}; at least 32 pixels are needed")
        for name, share in (("dropout_rate", dropout_rate), ("ls_eps", ls_eps)):
            if not 0 <= share < 1:
                raise ValueError(f"MODEL.head: {name} is {share}; it must be in [0, 1)")
        self.num_classes = num_classes
        self.label_smoothing = ls_eps
        self.keep_rows = keep_rows
        self._window = None if multigrid_short else crop_size // 32
        self._num_frames = num_frames
        self._backbone_settings = {
            "width_per_group": width_per_group,
            "alpha": alpha,
            "beta": beta,
        }
        self.dropout = nn.Dropout(dropout_rate)

    def connect(self, backbone: Backbone) -> None:
        """Create the classifier for the backbone's feature maps, and check the head's settings.

        Raises:
            ValueError: the head was configured for another backbone, or for a number of frames
                that alpha does not divide.
        """
        channels, alpha = backbone.out_channels, backbone.alpha
        if self._num_frames and self._num_frames % alpha:
            raise ValueError(
                f"MODEL.head: num_frames is {self._num_frames}, which is not a multiple of "
                f"alpha, {alpha}"
            )
        actual = {"alpha": alpha}
        if "slow" in channels:
            actual["width_per_group"] = channels["slow"] // 32
        if len(channels) == 2:
            actual["beta"] = channels["slow"] // channels["fast"]
        for name, value in actual.items():
            configured = self._backbone_settings[name]
            if configured not in (None, value):
                raise ValueError(
                    f"MODEL.head: {name} is {configured}, but the backbone's is {value}; "
                    f"set {name}: {value} or leave it out"
                )
        self.projection = linear_classifier(sum(channels.values()), self.num_classes)

    def forward(self, features):
        """Feature maps {pathway: float [N, C, T, H, W]} of one H and W -> logits float32 [N, K].

        Training returns the mean of the positions' logits. Evaluation returns the logarithm of
        the mean of the positions' probabilities: logits whose softmax is that mean.
        """
        pooled = [features[name].mean(2) for name in PATHWAYS if name in features]
        x = paddle.concat(pooled, axis=1)  # [N, C, H, W]
        x = pool_positions(x, self._window)  # [N, positions, C]
        logits = self.projection(self.dropout(x))  # [N, positions, K]
        return logits.mean(1) if self.training or self.multi_label else log_mean_probability(logits)


def _check_sizes(alpha, beta, width_per_group, fusion_kernel_sz, fusion_conv_channel_ratio):
    sizes = {"alpha": alpha, "beta": beta, "fusion_conv_channel_ratio": fusion_conv_channel_ratio}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"MODEL.backbone: {name} is {value}; it must be at least 1")
    if width_per_group < beta or width_per_group % beta:
        raise ValueError(
            f"MODEL.backbone: width_per_group is {width_per_group}; "
            f"it must be a multiple of beta, {beta}"
        )
    if fusion_kernel_sz < 1 or fusion_kernel_sz % 2 == 0:
        raise ValueError(f"MODEL.backbone: fusion_kernel_sz is {fusion_kernel_sz}; it must be odd")
