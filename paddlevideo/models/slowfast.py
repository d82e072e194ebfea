"""SlowFast: a slow pathway that sees few frames with many channels, a fast one that sees all of them with few.

Paper: Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition", table 1. Multigrid training: Wu et al. 2020.
Published: 74.35 % top-1 on Kinetics-400 for 4x16, 75.84 % for 8x8 trained with multigrid (PaddleVideo's model page), both
with 10 clips x 3 crops.
Weights: names and shapes are those of PaddleVideo's released SlowFast files, whatever the normalisation trained with.
Differs from the paper: no non-local blocks; where a clip covers several positions of the head, evaluation averages their
probabilities, training their logits.
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
from paddlevideo.models.layers import RESNET_DEPTHS, Conv3D, SubBatchNorm3D
from paddlevideo.sample import InputSpec

PATHWAYS = ("slow", "fast")
NUMBERS = {"slow": 0, "fast": 1, "audio": 2}  # of the pathways, in the names of tensors
STEM_FRAMES = {"slow": 1, "fast": 5}  # frames under a kernel of the stem
STAGE_FRAMES = {
    "slow": (1, 1, 3, 3),
    "fast": (3, 3, 3, 3),
}  # and of the first convolution in the blocks of each stage


def conv(in_channels, out_channels, kernel, stride=(1, 1, 1)):
    """Convolution [T, H, W] without bias, "same" padding; the variance of gradients is kept (He et al. 2015, fan-out)."""
    std = math.sqrt(2 / (out_channels * math.prod(kernel)))
    padding = [k // 2 for k in kernel]
    weight_attr = ParamAttr(initializer=Normal(std=std))
    return Conv3D(
        in_channels, out_channels, kernel, stride, padding, weight_attr=weight_attr, bias_attr=False
    )


def norm(channels, splits, scale=1.0):
    """Batch norm without weight decay; `scale` is what its weight starts from."""
    weight_attr = ParamAttr(initializer=Constant(scale), regularizer=L2Decay(0.0))
    return SubBatchNorm3D(
        channels, splits, weight_attr=weight_attr, bias_attr=ParamAttr(regularizer=L2Decay(0.0))
    )


def relu(x):
    """In place, which saves an allocation: no gradient needs the sums and batch norms that stand before it."""
    return F.relu_(x) if paddle.in_dynamic_mode() else F.relu(x)


class Stem(nn.Layer):
    """7x7 convolution over some frames and max-pooling: a quarter of the height and width, all frames."""

    def __init__(self, out_channels, num_frames, splits):
        super().__init__()
        self._conv = conv(3, out_channels, (num_frames, 7, 7), (1, 2, 2))
        self._bn = norm(out_channels, splits)
        self._pool = nn.MaxPool3D((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, x):
        return self._pool(relu(self._bn(self._conv(x))))  # [N, C, T, H/4, W/4]


class Branch(nn.Layer):
    """The residual function of a bottleneck: k x 1 x 1, 1 x 3 x 3 with the stride, 1 x 1 x 1."""

    def __init__(self, in_channels, width, out_channels, num_frames, stride, splits):
        super().__init__()
        self.a = conv(in_channels, width, (num_frames, 1, 1))
        self.a_bn = norm(width, splits)
        self.b = conv(width, width, (1, 3, 3), (1, stride, stride))
        self.b_bn = norm(width, splits)
        self.c = conv(width, out_channels, (1, 1, 1))
        self.c_bn = norm(
            out_channels, splits, scale=0.0
        )  # a block starts as its shortcut (Goyal et al. 2017)

    def forward(self, x):
        x = relu(self.a_bn(self.a(x)))
        x = relu(self.b_bn(self.b(x)))  # [N, width, T, H/stride, W/stride]
        return self.c_bn(self.c(x))


class Block(nn.Layer):
    """Bottleneck with a shortcut; the first of a stage projects it."""

    def __init__(self, in_channels, width, out_channels, num_frames, stride, splits):
        super().__init__()
        self._project = in_channels != out_channels or stride != 1
        if self._project:
            self.branch1 = conv(in_channels, out_channels, (1, 1, 1), (1, stride, stride))
            self.branch1_bn = norm(out_channels, splits)
        self.branch2 = Branch(in_channels, width, out_channels, num_frames, stride, splits)

    def forward(self, x):
        shortcut = self.branch1_bn(self.branch1(x)) if self._project else x
        return relu(shortcut + self.branch2(x))


class Stage(nn.Layer):
    """The layers of each pathway in a row; here the pathways do not meet.

    Args:
        layers: {pathway: {name: layer}}; a layer is known as pathway0_<name>, pathway1_<name>, of sound pathway2_<name>.
    """

    def __init__(self, layers):
        super().__init__()
        self._names = {}
        for pathway, named in layers.items():
            self._names[pathway] = [f"pathway{NUMBERS[pathway]}_{name}" for name in named]
            for name, layer in zip(self._names[pathway], named.values(), strict=True):
                self.add_sublayer(name, layer)

    def forward(self, features):
        done = {}
        for pathway, names in self._names.items():
            x = features[pathway]
            for name in names:
                x = getattr(self, name)(x)
            done[pathway] = x
        return done


class Lateral(nn.Layer):
    """Fast to slow: every alpha-th step of a convolution over time, joined to the slow channels."""

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
        alpha: frames of the fast pathway for each one of the slow pathway.
        beta: slow channels for each fast channel.
        width_per_group: channels of the slow stem, 64 in the paper; all others follow.
        fusion_kernel_sz: frames that a lateral convolution sees (odd).
        fusion_conv_channel_ratio: channels of a lateral connection for each fast channel.
        depth: of the ResNet.
        bn_norm_type: sub_batchnorm normalises `bn_num_splits` parts of a batch on their own; tensors and their names are the
            same. A multigrid plan sets the splits of its phases, whatever stands here.
        bn_num_splits: parts of a batch on one device; it has no effect with batchnorm.
        pathways: leave one out for the paper's slow-only and fast-only networks.
        pretrained: weights of a SlowFast to start from (`.pdparams`), loaded by the engine; empty for none.

    Attributes:
        inputs: what `forward` takes, by name.
        out_channels: of the feature maps, by pathway.
        unused_pretrained: beginnings of names in a weight file that have no place here (its classifier).
        stages: beginnings of the names of each stage's tensors.
    """

    unused_pretrained = ("head.",)
    stages = {
        name: (f"s{n}.", f"s{n}_fuse.")
        for n, name in enumerate(("stem", "stage1", "stage2", "stage3", "stage4"), 1)
    }  # noqa: RUF012

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
        """{"slow": float32 [N, 3, T/alpha, H, W], "fast": [N, 3, T, H, W]} -> {pathway: [N, C, T/alpha or T, H/32, W/32]}.

        Height and width are rounded up at each halving.

        Raises:
            ValueError: a pathway is missing, has another number of axes, or the clips do not stand in the ratio of alpha.
        """
        features = self._checked(inputs)
        for number in range(1, 6):
            features = getattr(self, f"s{number}")(features)  # H/4, H/4, H/8, H/16, H/32
            if number < 5 and len(self.pathways) == 2:
                features = getattr(self, f"s{number}_fuse")(features)
        return features

    @paddle.jit.not_to_static  # questions about shapes, no part of a program
    def _checked(self, inputs):
        wanted = ", ".join(f"'{name}' [N, 3, T, H, W]" for name in self.pathways)
        if any(name not in inputs for name in self.pathways):
            raise ValueError(
                f"ResNetSlowFast takes {wanted}; it was given {', '.join(inputs) or 'nothing'}"
            )
        clips = {name: inputs[name] for name in self.pathways}
        shapes = {name: list(clip.shape) for name, clip in clips.items()}
        if any(len(shape) != 5 for shape in shapes.values()):
            raise ValueError(f"ResNetSlowFast takes {wanted}; it was given {shapes}")
        if len(clips) == 2:
            slow, fast = (shapes[name][2] for name in PATHWAYS)
            if (
                min(slow, fast) > 0 and slow * self.alpha != fast
            ):  # an exported program may leave them open (-1)
                raise ValueError(
                    f"ResNetSlowFast has alpha {self.alpha}: 'fast' must have {self.alpha} frames for each one of 'slow'; it "
                    f"was given {slow} slow and {fast} fast frames. Give PackOutput this alpha, and clips whose length it "
                    "divides"
                )
        return clips


@register(
    "head",
    ignores={
        "loss_cfg": "the loss is cross entropy, as in the release, which does not read this key either; ls_eps smooths labels",
        "pool_size_ratio": "it is 1 in all released files: the pool covers the map of crop_size",
    },
)
class SlowFastHead(Head):
    """Mean over time, mean over space, dropout, linear classifier on the channels of both pathways.

    The mean over space covers the map of `crop_size` pixels (`crop_size // 32` positions a side); a larger picture has several
    such maps, hence several positions to classify. Evaluation averages their probabilities, so that one model scores any crop.

    Args:
        num_classes: width of the logits; given by the data set where the config does not say it.
        num_frames: length of a clip; clips of any length are pooled, this one is checked against alpha.
        crop_size: height and width of a training clip, in pixels; smaller pictures are pooled whole.
        dropout_rate: dropout before the classifier.
        multigrid_short: always pool the whole picture, for training that changes its size.
        width_per_group, alpha, beta: the backbone's; released files repeat them here, where they are checked.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts with the rows of a checkpoint's classes that have the same name; used by the engine.

    Attributes:
        class_layer: name of the linear layer that has a row of weights for each class.
        multi_label: logits are those of independent classes, averaged as they are.

    Raises:
        ValueError: a number out of range, or alpha does not divide num_frames.
    """

    class_layer = "projection"
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
        self._told = {
            "width_per_group": width_per_group,
            "alpha": alpha,
            "beta": beta,
            "num_frames": num_frames,
        }
        self.dropout = nn.Dropout(dropout_rate)

    def connect(self, backbone: Backbone) -> None:
        """Create the classifier for the feature maps of a backbone, and check the head's own numbers.

        Raises:
            ValueError: the head was configured for other numbers, or for a number of frames that
                alpha does not divide.
        """
        channels, alpha, told = backbone.out_channels, backbone.alpha, self._told
        if told["num_frames"] and told["num_frames"] % alpha:
            raise ValueError(
                f"MODEL.head: num_frames is {told['num_frames']}, which alpha {alpha} does not divide"
            )
        there = {"alpha": alpha}
        if "slow" in channels:
            there["width_per_group"] = channels["slow"] // 32
        if len(channels) == 2:
            there["beta"] = channels["slow"] // channels["fast"]
        for name, value in there.items():
            if told[name] not in (None, value):
                raise ValueError(
                    f"MODEL.head: {name} is {told[name]}, but the backbone's is {value}; set {name}: {value} or leave it out"
                )
        weight_attr, bias_attr = (
            ParamAttr(initializer=Normal(std=0.01)),
            ParamAttr(initializer=Constant(0.0)),
        )
        self.projection = nn.Linear(
            sum(channels.values()), self.num_classes, weight_attr=weight_attr, bias_attr=bias_attr
        )

    def forward(self, features):
        """features: {pathway: float [N, C, T, H, W]}, all of one H and W -> logits float32 [N, num_classes].

        In training the mean of the positions' logits. In evaluation the logarithm of the mean of the positions' probabilities:
        logits whose softmax is that mean.
        """
        x = paddle.concat(
            [features[name].mean(2) for name in PATHWAYS if name in features], axis=1
        )  # [N, C, H, W]
        x = pool_positions(x, self._window)  # [N, positions, C]
        logits = self.projection(self.dropout(x))  # [N, positions, K]
        return logits.mean(1) if self.training or self.multi_label else log_mean_probability(logits)


def pool_positions(x, window):
    """Mean over each place of a window that slides by one: float [N, C, H, W] -> [N, positions, C].

    Args:
        window: height and width, None for all of x; where x is nowhere larger there is one position.
    """
    window = _window_on(x, window)
    x = x.mean([2, 3], keepdim=True) if window is None else F.avg_pool2d(x, window, stride=1)
    return x.transpose([0, 2, 3, 1]).flatten(1, 2)


@paddle.jit.not_to_static  # a question about the shape, no part of a program
def _window_on(x, window):
    """Height and width of the pool on x, None for all of it; sides that a program leaves open (-1) count as large."""
    sides = x.shape[2:]
    if window is None or 0 < min(sides) <= max(sides) <= window:
        return None
    return [min(window, side) if side > 0 else window for side in sides]


def log_mean_probability(logits):
    """log of the mean over P of softmax(logits): float [N, P, K] -> float32 [N, K], exact where probabilities underflow.

    A program has the same in terms of log_softmax, since exp and log do not trace into the older program format:
    logsumexp(x) = x[p] - log_softmax(x)[p] for any p. On a CPU that cuts probabilities off at exp(-64).
    """
    logits = logits.astype("float32")
    if paddle.in_dynamic_mode():
        log_p = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        largest = log_p.max(1, keepdim=True)
        return (log_p - largest).exp().mean(1).log() + largest.squeeze(1)
    log_p = F.log_softmax(logits, axis=-1)
    log_share = F.log_softmax(log_p, axis=1)  # of each position in the sum over them
    log_equal_share = F.log_softmax(log_p[:, :, :1] * 0, axis=1)  # -log P, where P may be free
    return log_p[:, 0] - log_share[:, 0] + log_equal_share[:, 0]


def _check_sizes(alpha, beta, width_per_group, fusion_kernel_sz, fusion_conv_channel_ratio):
    sizes = {"alpha": alpha, "beta": beta, "fusion_conv_channel_ratio": fusion_conv_channel_ratio}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"MODEL.backbone: {name} is {value}; it must be at least 1")
    if width_per_group < beta or width_per_group % beta:
        raise ValueError(
            f"MODEL.backbone: width_per_group is {width_per_group}; it must be a multiple of beta, {beta}"
        )
    if fusion_kernel_sz < 1 or fusion_kernel_sz % 2 == 0:
        raise ValueError(f"MODEL.backbone: fusion_kernel_sz is {fusion_kernel_sz}; it must be odd")
