"""TSM: a plain ResNet whose neighboring frames exchange channels in every residual block.

Papers: Lin et al. 2019, "TSM: Temporal Shift Module for Efficient Video Understanding"; He et al.
2016, "Deep Residual Learning for Image Recognition".
Published: 71.06 % top-1 on Kinetics-400 with 8 frames and one center crop, 94.42 % on UCF-101
(PaddleVideo's model page).
Weights: names and shapes are those of PaddleVideo's released TSM files, which are those of TSN;
`pretrained` takes PaddleClas' ResNet files.
Differs from the papers: the order and the share of shifted channels (`models/temporal_shift.py`);
every block is shifted at every depth; a bottleneck has its stride on the 3x3 convolution; batch
norms have no weight decay; the learning rate of the classifier is multiplied by 5 (weight) and 10
(bias).
"""

from typing import Literal

import paddle.nn.functional as F
from paddle import nn
from paddle.regularizer import L2Decay

from paddlevideo.config.registry import register
from paddlevideo.models.base import Backbone
from paddlevideo.models.layers import (
    RESNET_DEPTHS,
    ConvBN,
    Depth,
    ResidualBlock,
    SegmentHead,
    paddleclas_name,
    stage_widths,
)
from paddlevideo.models.temporal_shift import check_num_seg


@register("backbone")
class ResNetTSM(Backbone):
    """ResNet with a 7x7 stem, strided 1x1 shortcuts, and a shift on every residual branch.

    Args:
        depth: 10, 18 and 34 have basic blocks and 8 * base_channels output channels, the others
            bottlenecks and four times as many.
        num_seg: frames of a clip, which the samplers must give; 1/num_seg of the channels come from
            the frame before, as many from the frame after.
        data_format: NHWC takes frames whose channels are last, as `- Image2Array: {transpose:
            False}` leaves them; the result is the same.
        pretrained: ImageNet weights: a file of a ResNet of this depth, or `imagenet`
            (docs/pretrained.md); empty for none.
        base_channels: inner channels of the first stage, 64 in the paper; other widths follow.

    Raises:
        ValueError: num_seg is below 3, or base_channels is not even and positive.
    """

    unused_pretrained = ("out.", "fc.")
    file_word = "TSM"
    exact_segments = True
    stages = {"stem": ("conv.",), **{f"stage{n}": (f"res{n + 1}",) for n in range(1, 5)}}  # noqa: RUF012

    def __init__(
        self,
        depth: Depth = 50,
        num_seg: int = 8,
        data_format: Literal["NCHW", "NHWC"] = "NCHW",
        pretrained: str | None = None,
        base_channels: int = 64,
    ):
        super().__init__()
        widths = stage_widths(base_channels)
        self.num_segments = check_num_seg(num_seg)
        self.data_format = data_format
        self.pretrained = pretrained or None
        self.pretrained_model = f"ResNet{depth}" if base_channels == 64 else ""
        self.conv = ConvBN(3, base_channels, 7, stride=2, norm_decay=False)
        self.max_pool = nn.MaxPool2D(3, stride=2, padding=1)

        bottleneck, num_blocks = RESNET_DEPTHS[depth]
        arguments = {"num_seg": num_seg, "norm_decay": False}
        channels = base_channels
        self._block_names = []
        for stage, width in enumerate(widths):
            for i in range(num_blocks[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                block = ResidualBlock(
                    channels, width, stride, bottleneck, project=i == 0, **arguments
                )
                # A long third stage is numbered in released files: res4a, res4b1, res4b2 ...
                suffix = f"b{i}" if depth > 50 and stage == 2 and i > 0 else chr(ord("a") + i)
                self._block_names.append(f"res{stage + 2}{suffix}")
                self.add_sublayer(self._block_names[-1], block)
                channels = block.out_channels
        self.out_channels = channels

    def forward(self, x):
        """x: float32 [N*S, 3, H, W] -> [N*S, out_channels, H/32, W/32], sizes rounded up."""
        x = F.relu(self.conv(x))  # [N*S, base_channels, H/2, W/2]
        x = self.max_pool(x)  # [N*S, base_channels, H/4, W/4]
        for name in self._block_names:
            x = getattr(self, name)(x)  # stages end at H/4, H/8, H/16, H/32
        return x

    def pretrained_name(self, name: str) -> str:
        """The name of a tensor of an ImageNet file in this backbone, see `paddleclas_name`."""
        return paddleclas_name(name, ("conv",), self._block_names)


@register("head", ignores={"data_format": "the head takes the maps of any backbone"})
def TSMHead(  # the name in configs
    num_classes: int,
    in_channels: int | None = None,
    drop_ratio: float = 0.5,
    std: float = 0.001,
    ls_eps: float = 0.0,
    keep_rows: Literal["by_name"] | None = None,
) -> SegmentHead:
    """Mean over space, dropout, classifier with weight decay 1e-4 (bias: none), mean over frames.

    The learning rate of the classifier is multiplied by 5 (weight) and 10 (bias).

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        in_channels: channels of the feature map; by default the backbone's.
        drop_ratio: dropout before the classifier.
        std: standard deviation of the classifier's initial weights.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.
    """
    # The mean of the classifier's outputs is its output of the mean.
    return SegmentHead(
        num_classes,
        in_channels,
        drop_ratio,
        std,
        ls_eps,
        weight_attr={"learning_rate": 5.0, "regularizer": L2Decay(1e-4)},
        bias_attr={"learning_rate": 10.0, "regularizer": L2Decay(0.0)},
        keep_rows=keep_rows,
        drop_segments=True,
    )
