"""PP-TSN: temporal segments over a ResNet-vd, PaddleVideo's improved TSN.

Papers: Wang et al. 2016, "Temporal Segment Networks"; He et al. 2019, "Bag of Tricks for Image
Classification" (ResNet-D).
Published: 73.68 % top-1 on Kinetics-400, trained with 3 segments, tested with 25 segments x 10
crops (PaddleVideo's model page).
Weights: names and shapes are those of PaddleVideo's released ppTSN files; `pretrained` takes
PaddleClas' ResNet-vd files.
Differs from the papers: batch norms have no weight decay; the learning rate of the classifier is
multiplied by 5 (weight) and 10 (bias).
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


@register("backbone")
class ResNetTweaksTSN(Backbone):
    """ResNet-vd: three 3x3 convolutions as stem, shortcuts that average before they project.

    The stride of a bottleneck is on its 3x3 convolution.

    Args:
        layers: depth; 10, 18 and 34 have basic blocks and 8 * base_channels output channels,
            the others bottlenecks and four times as many.
        pretrained: ImageNet weights: a file of a ResNet-vd of this depth, or `imagenet`
            (docs/pretrained.md); empty for none.
        lr_mult_list: factors on the learning rates of the stem and of the four stages.
        base_channels: inner channels of the first stage, 64 in the paper; other widths follow.

    Raises:
        ValueError: lr_mult_list does not have 5 values, or base_channels is not even and positive.
    """

    unused_pretrained = ("out.", "fc.")
    file_word = "TSN"
    stages = {"stem": ("conv1_",), **{f"stage{n}": (f"bb_{n - 1}_",) for n in range(1, 5)}}  # noqa: RUF012

    def __init__(
        self,
        layers: Depth = 50,
        pretrained: str | None = None,
        lr_mult_list: list[float] = (1.0, 1.0, 1.0, 1.0, 1.0),  # type: ignore[assignment]
        base_channels: int = 64,
    ):
        super().__init__()
        if len(lr_mult_list) != 5:
            raise ValueError(
                f"MODEL.backbone: lr_mult_list has {len(lr_mult_list)} values, not 5 "
                "(stem and four stages)"
            )
        widths = stage_widths(base_channels)
        self.pretrained = pretrained or None
        self.pretrained_model = f"ResNet{layers}_vd" if base_channels == 64 else ""
        stem = {"lr_mult": lr_mult_list[0], "norm_decay": False}
        self.conv1_1 = ConvBN(3, base_channels // 2, 3, stride=2, **stem)
        self.conv1_2 = ConvBN(base_channels // 2, base_channels // 2, 3, **stem)
        self.conv1_3 = ConvBN(base_channels // 2, base_channels, 3, **stem)
        self.max_pool = nn.MaxPool2D(3, stride=2, padding=1)

        bottleneck, num_blocks = RESNET_DEPTHS[layers]
        channels = base_channels
        self._block_names = []
        for stage, width in enumerate(widths):
            arguments = {
                "lr_mult": lr_mult_list[stage + 1],
                "norm_decay": False,
                "pool_shortcut": True,
            }
            for i in range(num_blocks[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                block = ResidualBlock(
                    channels, width, stride, bottleneck, project=i == 0, **arguments
                )
                self._block_names.append(f"bb_{stage}_{i}")
                self.add_sublayer(self._block_names[-1], block)
                channels = block.out_channels
        self.out_channels = channels

    def forward(self, x):
        """x: float32 [N, 3, H, W] -> [N, out_channels, H/32, W/32], sizes rounded up."""
        x = F.relu(self.conv1_1(x))  # [N, base_channels/2, H/2, W/2]
        x = F.relu(self.conv1_2(x))
        x = F.relu(self.conv1_3(x))  # [N, base_channels, H/2, W/2]
        x = self.max_pool(x)  # [N, base_channels, H/4, W/4]
        for name in self._block_names:
            x = getattr(self, name)(x)  # stages end at H/4, H/8, H/16, H/32
        return x

    def pretrained_name(self, name: str) -> str:
        """The name of a tensor of an ImageNet file in this backbone, see `paddleclas_name`."""
        return paddleclas_name(name, ("conv1_1", "conv1_2", "conv1_3"), self._block_names)


@register("head")
def ppTSNHead(  # the name in configs
    num_classes: int,
    in_channels: int | None = None,
    drop_ratio: float = 0.4,
    std: float = 0.01,
    ls_eps: float = 0.0,
    fclr5: bool = True,
    keep_rows: Literal["by_name"] | None = None,
    motion: bool = False,
) -> SegmentHead:
    """Mean over space and segments, dropout, classifier with weight decay 1e-4 (bias: none).

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        in_channels: channels of the feature map; by default the backbone's.
        drop_ratio: dropout before the classifier.
        std: standard deviation of the classifier's initial weights.
        ls_eps: label smoothing of the training loss.
        fclr5: multiply the classifier's learning rate by 5 (weight) and 10 (bias).
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.
        motion: the classifier also sees how much the features change between segments.
    """
    return SegmentHead(
        num_classes,
        in_channels,
        drop_ratio,
        std,
        ls_eps,
        weight_attr={"learning_rate": 5.0 if fclr5 else 1.0, "regularizer": L2Decay(1e-4)},
        bias_attr={"learning_rate": 10.0 if fclr5 else 1.0, "regularizer": L2Decay(0.0)},
        keep_rows=keep_rows,
        motion=motion,
    )
