"""PP-TSM: a ResNet-vd whose neighboring frames exchange channels in every residual block.

Papers: Lin et al. 2019, "TSM: Temporal Shift Module for Efficient Video Understanding"; He et al.
2019, "Bag of Tricks for Image Classification" (ResNet-D).
Published: 74.54 % top-1 on Kinetics-400 with 8 frames and one center crop, 75.69 % with 10 dense
clips x 3 crops; depth 101, dense: 77.15 % (PaddleVideo's model page).
Weights: names and shapes are those of PaddleVideo's released ppTSM files, which are those of
ppTSN; `pretrained` takes PaddleClas' ResNet-vd files.
Differs from the papers: the order and the share of shifted channels (`models/temporal_shift.py`);
leaky ReLU (slope 0.01) for ReLU; batch norms have no weight decay; the learning rate of the
classifier is multiplied by 5 (weight) and 10 (bias); depths below 50 skip pixels in their
shortcuts, where ResNet-D averages them.
"""

from typing import Literal

from paddle import nn
from paddle.regularizer import L2Decay

from paddlevideo.config.registry import register
from paddlevideo.models.activations import leaky_relu
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

SLOPE = 0.01  # of leaky ReLU


@register("backbone")
class ResNetTweaksTSM(Backbone):
    """ResNet-vd with leaky ReLU and a shift on every residual branch.

    Args:
        depth: 10, 18 and 34 have basic blocks and 8 * base_channels output channels, the others
            bottlenecks and four times as many.
        num_seg: frames of a clip, which the samplers must give; 1/num_seg of the channels come from
            the frame before, as many from the frame after.
        pretrained: ImageNet weights: a file of a ResNet-vd of this depth, or `imagenet`
            (docs/pretrained.md); empty for none.
        base_channels: inner channels of the first stage, 64 in the paper; other widths follow.

    Raises:
        ValueError: num_seg is below 3, or base_channels is not even and positive.
    """

    unused_pretrained = ("out.", "fc.")
    file_word = "TSM"
    exact_segments = True

    def __init__(
        self,
        depth: Depth = 50,
        num_seg: int = 8,
        pretrained: str | None = None,
        base_channels: int = 64,
    ):
        super().__init__()
        widths = stage_widths(base_channels)
        self.num_segments = check_num_seg(num_seg)
        self.pretrained = pretrained or None
        bottleneck, num_blocks = RESNET_DEPTHS[depth]
        published = base_channels == 64 and bottleneck
        self.pretrained_model = f"ResNet{depth}_vd" if published else ""
        self.conv1_1 = ConvBN(3, base_channels // 2, 3, stride=2, norm_decay=False)
        self.conv1_2 = ConvBN(base_channels // 2, base_channels // 2, 3, norm_decay=False)
        self.conv1_3 = ConvBN(base_channels // 2, base_channels, 3, norm_decay=False)
        self.max_pool = nn.MaxPool2D(3, stride=2, padding=1)

        arguments = {
            "pool_shortcut": bottleneck,
            "num_seg": num_seg,
            "slope": SLOPE,
            "norm_decay": False,
        }
        channels = base_channels
        self._block_names, self.stages = [], {"stem": ("conv1_",)}
        for stage, width in enumerate(widths):
            prefix = f"bb_{stage}_" if bottleneck else f"res{stage + 2}"
            self.stages[f"stage{stage + 1}"] = (prefix,)
            for i in range(num_blocks[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                block = ResidualBlock(
                    channels, width, stride, bottleneck, project=i == 0, **arguments
                )
                self._block_names.append(f"{prefix}{i if bottleneck else chr(ord('a') + i)}")
                self.add_sublayer(self._block_names[-1], block)
                channels = block.out_channels
        self.out_channels = channels

    def forward(self, x):
        """x: float32 [N*S, 3, H, W] -> [N*S, out_channels, H/32, W/32], sizes rounded up."""
        for convolution in (self.conv1_1, self.conv1_2, self.conv1_3):
            x = leaky_relu(convolution(x), SLOPE)  # [N*S, base_channels(/2), H/2, W/2]
        x = self.max_pool(x)  # [N*S, base_channels, H/4, W/4]
        for name in self._block_names:
            x = getattr(self, name)(x)  # stages end at H/4, H/8, H/16, H/32
        return x

    def pretrained_name(self, name: str) -> str:
        """The name of a tensor of an ImageNet file in this backbone, see `paddleclas_name`."""
        return paddleclas_name(name, ("conv1_1", "conv1_2", "conv1_3"), self._block_names)


@register(
    "head",
    ignores={
        "data_format": "the head takes the maps of any backbone",
        "num_seg": "the head averages over the frames that it is given",
    },
)
def ppTSMHead(  # the name in configs
    num_classes: int,
    in_channels: int | None = None,
    drop_ratio: float = 0.8,
    std: float = 0.01,
    ls_eps: float = 0.0,
    keep_rows: Literal["by_name"] | None = None,
) -> SegmentHead:
    """Mean over space, dropout, mean over frames, classifier with weight decay 1e-4 (bias: none).

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        in_channels: channels of the feature map; by default the backbone's.
        drop_ratio: dropout of the features of each frame.
        std: standard deviation of the classifier's initial weights.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.
    """
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
