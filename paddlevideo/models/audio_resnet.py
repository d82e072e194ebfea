"""Audio recognition on log-mel spectrograms: a one-channel ResNet, and ResNetAudio.

Papers: He et al. 2016, "Deep Residual Learning for Image Recognition"; Xiao et al. 2020,
"Audiovisual SlowFast Networks for Video Recognition", whose audio pathway ResNetAudio follows: it
convolves over time and frequency separately.
Published: 19.7 % top-1, 35.75 % top-5 on Kinetics-400 for the ResNet-18 on audio alone (MMAction2);
not reproduced.
Weights: `convert/mmaction2.py` translates those of MMAction2; the tensors map one to one.
Differs from the papers, as MMAction2 does: ResNetAudio's blocks have a 1x1 convolution before those
over time and frequency, and the last two stages have no batch norm or ReLU after the 3x3.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, cast

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Constant, KaimingNormal

from paddlevideo.config.registry import Kind, register
from paddlevideo.models.base import Backbone, Head, Recognizer
from paddlevideo.models.layers import (
    RESNET_DEPTHS,
    ConvBN,
    ResidualBlock,
    linear_classifier,
    stage_widths,
)
from paddlevideo.models.pooling import log_mean_probability
from paddlevideo.sample import InputSpec

AUDIO = {"audio": InputSpec((None, None, 1, None, None), "float32", "N S C T F")}


@register("framework")
class AudioRecognizer(Recognizer):
    """A network over log-mel clips.

    Args:
        backbone: clips [N*S, 1, T, F] -> features [N*S, C, t, f], with T time steps and F mel bins.
        head: features -> logits [N*S, K] of each clip.
        average_clips: what evaluation averages over the S clips of a sample, and a test over the
            views of a file: "prob" their probabilities, "score" their logits.
    """

    def __init__(
        self,
        backbone: Annotated[nn.Layer, Kind("audio_backbone")],
        head: Annotated[nn.Layer, Kind("head", supplied=("num_classes",))],
        average_clips: Literal["prob", "score"] = "prob",
    ):
        super().__init__(backbone, head)
        self.view_average = "probabilities" if average_clips == "prob" else "logits"

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        return AUDIO

    def forward(self, inputs):
        """{"audio": float32 [N, S, 1, T, F]} -> logits [N, K].

        Training averages the logits of the S clips. Evaluation with "prob" returns
        log-probabilities, whose softmax is the mean of the clips' softmax; losses, metrics and
        averages treat them like other logits.

        Raises:
            ValueError: `audio` is missing or has another number of axes.
        """
        message = "AudioRecognizer takes 'audio' [N, S, 1, T, F]; it was given"
        if "audio" not in inputs:
            raise ValueError(f"{message} {', '.join(inputs) or 'nothing'}")
        audio = inputs["audio"]
        if audio.ndim != 5:
            raise ValueError(f"{message} shape {list(audio.shape)}")
        logits = self.head(self.backbone(audio.flatten(0, 1)))  # [N*S, K]
        logits = logits.reshape([-1, audio.shape[1], self.num_classes])  # [N, S, K]
        if self.training or self.view_average == "logits":
            return logits.mean(1)
        return log_mean_probability(logits)


@register("audio_backbone", "ResNet")
class AudioResNet(Backbone):
    """ResNet with one input channel; height is time, width is frequency.

    Differs from `tsn.ResNet`: a shortcut is projected only where the size changes, as in MMAction2
    and torchvision.

    Args:
        depth: 10, 18 and 34 have basic blocks and 8 * base_channels output channels, 50 and 101
            bottlenecks and four times as many.
        in_channels: must be 1; accepted because MMAction2's configs have it.
        pretrained: weights of an audio ResNet to start from (`.pdparams`); empty for none.
        base_channels: inner channels of the first stage, 64 in the paper; other widths follow.

    Raises:
        ValueError: base_channels is not even and positive.
    """

    unused_pretrained = ("head.",)

    def __init__(
        self,
        depth: Literal[10, 18, 34, 50, 101] = 18,
        in_channels: Literal[1] = 1,
        pretrained: str | None = None,
        base_channels: int = 64,
    ):
        super().__init__()
        widths = stage_widths(base_channels)
        self.pretrained = pretrained or None
        self.conv = ConvBN(in_channels, base_channels, 7, stride=2)
        self.max_pool = nn.MaxPool2D(3, stride=2, padding=1)
        bottleneck, num_blocks = RESNET_DEPTHS[depth]
        channels = base_channels
        for stage, width in enumerate(widths):
            blocks = []
            for i in range(num_blocks[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                project = i == 0 and (bottleneck or stage > 0)
                blocks.append(ResidualBlock(channels, width, stride, bottleneck, project))
                channels = blocks[-1].out_channels
            self.add_sublayer(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.out_channels = channels

    def forward(self, x):
        """x: float32 [N, 1, T, F] -> [N, out_channels, T/32, F/32], sizes rounded up."""
        x = self.max_pool(F.relu(self.conv(x)))  # [N, base_channels, T/4, F/4]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)  # stages end at T/4, T/8, T/16, T/32
        return x


class TimeFrequencyConv(nn.Layer):
    """Parallel convolutions over time and over frequency, each with batch norm and ReLU.

    Args:
        size: kernel size over time, and over frequency.
        join: "sum" adds both, followed by another batch norm and ReLU; "concat" concatenates their
            channels.
    """

    def __init__(self, in_channels, out_channels, size, stride, join: Literal["sum", "concat"]):
        super().__init__()
        channels = (in_channels, out_channels)
        same = size // 2
        self.time = _conv(*channels, (size, 1), stride, padding=(same, 0))
        self.time_norm = nn.BatchNorm2D(out_channels)
        self.frequency = _conv(*channels, (1, size), stride, padding=(0, same))
        self.frequency_norm = nn.BatchNorm2D(out_channels)
        self._batch_norm = nn.BatchNorm2D(out_channels) if join == "sum" else None

    @paddle.jit.not_to_static
    def forward(self, x):
        time = F.relu(self.time_norm(self.time(x)))
        frequency = F.relu(self.frequency_norm(self.frequency(x)))
        if self._batch_norm is None:
            return paddle.concat([time, frequency], axis=1)
        return F.relu(self._batch_norm(time + frequency))


def _conv(in_channels, out_channels, kernel, stride, padding):
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        weight_attr=KaimingNormal(),
        bias_attr=False,
    )


class AudioBlock(nn.Layer):
    """Bottleneck of ResNetAudio; its middle is factorized into time and frequency, or a plain 3x3.

    Args:
        width: inner channels; the block has 4 * width output channels.
        factorized: the middle is a `TimeFrequencyConv` with twice the channels; otherwise a 3x3
            without batch norm and ReLU.
        project: the shortcut is a 1x1 convolution.
    """

    def __init__(self, in_channels, width, stride, factorized, project):
        super().__init__()
        self.out_channels = 4 * width
        self.conv0 = ConvBN(in_channels, width, 1)
        if factorized:
            self.conv1 = TimeFrequencyConv(width, width, 3, stride, "concat")
        else:
            # The sublayer has the name that it has in a ConvBN.
            self.conv1 = nn.Sequential(("_conv", _conv(width, width, 3, stride, padding=1)))
        self.conv2 = ConvBN(2 * width if factorized else width, self.out_channels, 1)
        # With scale 0 a block starts as its shortcut.
        Constant(0.0)(cast(paddle.Tensor, self.conv2._batch_norm.weight))
        self.short = ConvBN(in_channels, self.out_channels, 1, stride) if project else None

    @paddle.jit.not_to_static
    def forward(self, x):
        y = self.conv2(self.conv1(F.relu(self.conv0(x))))  # [N, 4*width, T/stride, F/stride]
        return F.relu(y + (x if self.short is None else self.short(x)))


@register("audio_backbone")
class ResNetAudio(Backbone):
    """The audio pathway of AVSlowFast as a separate network: no pooling, half of ResNet's channels.

    Args:
        depth: 50 or 101.
        in_channels: must be 1; accepted because MMAction2's configs have it.
        base_channels: width of the stem and of the blocks of the first stage; the network has
            32 * base_channels output channels.
        pretrained: weights of a ResNetAudio of this depth to start from (`.pdparams`); empty for
            none.

    Raises:
        ValueError: base_channels is less than 1.
    """

    unused_pretrained = ("head.",)

    def __init__(
        self,
        depth: Literal[50, 101] = 50,
        in_channels: Literal[1] = 1,
        base_channels: int = 32,
        pretrained: str | None = None,
    ):
        super().__init__()
        if base_channels < 1:
            raise ValueError(
                f"MODEL.backbone: base_channels is {base_channels}; it must be at least 1"
            )
        self.pretrained = pretrained or None
        self.conv = TimeFrequencyConv(in_channels, base_channels, 9, 1, "sum")
        channels = base_channels
        for stage, num_blocks in enumerate(RESNET_DEPTHS[depth][1]):
            blocks = []
            width = base_channels * 2**stage
            for i in range(num_blocks):
                stride = 2 if i == 0 and stage > 0 else 1
                blocks.append(AudioBlock(channels, width, stride, stage < 2, project=i == 0))
                channels = blocks[-1].out_channels
            self.add_sublayer(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.out_channels = channels

    def forward(self, x):
        """x: float32 [N, 1, T, F] -> [N, out_channels, T/8, F/8], sizes rounded up."""
        x = self.conv(x)  # [N, base_channels, T, F]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)  # stages end at T, T/2, T/4, T/8
        return x


@register("head")
class TSNAudioHead(Head):
    """Mean over time and frequency, dropout, linear classifier.

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        in_channels: channels of the feature map; by default the backbone's.
        dropout_ratio: dropout before the classifier.
        init_std: standard deviation of the classifier's initial weights; the bias starts at 0.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.

    Raises:
        ValueError: a share is not in [0, 1).
    """

    class_layer = "head.fc"

    def __init__(
        self,
        num_classes: int,
        in_channels: int | None = None,
        dropout_ratio: float = 0.4,
        init_std: float = 0.01,
        ls_eps: float = 0.0,
        keep_rows: Literal["by_name"] | None = None,
    ):
        super().__init__()
        for name, share in (("dropout_ratio", dropout_ratio), ("ls_eps", ls_eps)):
            if not 0 <= share < 1:
                raise ValueError(f"MODEL.head: {name} is {share}; it must be in [0, 1)")
        self.num_classes = num_classes
        self.label_smoothing = ls_eps
        self.keep_rows = keep_rows
        self._in_channels, self._std = in_channels, init_std
        self.dropout = nn.Dropout(dropout_ratio)

    def connect(self, backbone: Backbone) -> None:
        """Create the classifier for the backbone's feature map.

        Raises:
            ValueError: the head was configured for another number of channels.
        """
        channels = backbone.out_channels
        if self._in_channels not in (None, channels):
            raise ValueError(
                f"MODEL.head: in_channels is {self._in_channels}, but the backbone gives "
                f"{channels} channels; set in_channels: {channels} or leave it out"
            )
        self.fc = linear_classifier(channels, self.num_classes, self._std)

    def forward(self, features):
        """float [N, C, T, F] -> logits [N, num_classes]."""
        return self.fc(self.dropout(features.mean([2, 3])))
