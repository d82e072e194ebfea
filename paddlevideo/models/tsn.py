"""TSN: temporal segments over a plain ResNet, the baseline of PP-TSN.

Papers: Wang et al. 2016, "Temporal Segment Networks"; He et al. 2016, "Deep Residual Learning for
Image Recognition".
Weights: names and shapes are those of PaddleVideo's released TSN files; `pretrained` takes
PaddleClas' ResNet files.
Differs from the papers: a bottleneck has its stride on the 3x3 convolution; the first block of
stage one projects its shortcut at every depth, although the size does not change.
"""

from typing import Literal

import paddle.nn.functional as F
from paddle import nn

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


@register("backbone")
class ResNet(Backbone):
    """ResNet with a 7x7 stem, the stride on the 3x3, and strided 1x1 shortcuts.

    Args:
        depth: 10, 18 and 34 have basic blocks and 8 * base_channels output channels, the others
            bottlenecks and four times as many.
        pretrained: ImageNet weights: a file of a ResNet of this depth, or `imagenet`
            (docs/pretrained.md); empty for none.
        base_channels: inner channels of the first stage, 64 in the paper; other widths follow.

    Raises:
        ValueError: base_channels is not even and positive.
    """

    unused_pretrained = ("out.", "fc.")
    file_word = "TSN"
    stages = {"stem": ("conv.",), **{f"stage{n}": (f"res{n + 1}",) for n in range(1, 5)}}  # noqa: RUF012

    def __init__(
        self,
        depth: Depth = 50,
        pretrained: str | None = None,
        base_channels: int = 64,
    ):
        super().__init__()
        widths = stage_widths(base_channels)
        self.pretrained = pretrained or None
        self.pretrained_model = f"ResNet{depth}" if base_channels == 64 else ""
        self.conv = ConvBN(3, base_channels, 7, stride=2)
        self.max_pool = nn.MaxPool2D(3, stride=2, padding=1)

        bottleneck, num_blocks = RESNET_DEPTHS[depth]
        channels = base_channels
        self._block_names = []
        for stage, width in enumerate(widths):
            for i in range(num_blocks[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                block = ResidualBlock(channels, width, stride, bottleneck, project=i == 0)
                # A long third stage is numbered in released files: res4a, res4b1, res4b2 ...
                suffix = f"b{i}" if depth > 50 and stage == 2 and i > 0 else chr(ord("a") + i)
                self._block_names.append(f"res{stage + 2}{suffix}")
                self.add_sublayer(self._block_names[-1], block)
                channels = block.out_channels
        self.out_channels = channels

    def forward(self, x):
        """x: float32 [N, 3, H, W] -> [N, out_channels, H/32, W/32], sizes rounded up."""
        x = F.relu(self.conv(x))  # [N, base_channels, H/2, W/2]
        x = self.max_pool(x)  # [N, base_channels, H/4, W/4]
        for name in self._block_names:
            x = getattr(self, name)(x)  # stages end at H/4, H/8, H/16, H/32
        return x

    def pretrained_name(self, name: str) -> str:
        """The name of a tensor of an ImageNet file in this backbone, see `paddleclas_name`."""
        return paddleclas_name(name, ("conv",), self._block_names)


@register("head")
def TSNHead(  # the name in configs
    num_classes: int,
    in_channels: int | None = None,
    drop_ratio: float = 0.4,
    std: float = 0.01,
    ls_eps: float = 0.0,
    keep_rows: Literal["by_name"] | None = None,
    motion: bool = False,
) -> SegmentHead:
    """Mean over space and segments, dropout, classifier; the optimizer sets its weight decay.

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        in_channels: channels of the feature map; by default the backbone's.
        drop_ratio: dropout before the classifier.
        std: standard deviation of the classifier's initial weights.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.
        motion: the classifier also sees how much the features change between segments.
    """
    return SegmentHead(
        num_classes, in_channels, drop_ratio, std, ls_eps, keep_rows=keep_rows, motion=motion
    )
