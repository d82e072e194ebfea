"""A small network of motion: 3-D convolutions on the differences of grey frames.

Made for small data sets on a CPU, where weights are random at the start: a few dozen clips per
class are too few to learn from color and shape, because those differ between recordings more than
between classes. What moves, and how, is the same.

Architecture: grey frames of 64 pixels, 24 of a clip; the difference of successive ones; four
convolutions of 3x3x3, the first with stride 2 in space, each with batch norm, ReLU and, but for the
last, max pooling; mean over time and space; dropout; one linear layer. 0.3 million parameters with
the default widths.
Paper: none. Differences of frames as input are those of "TSN" (Wang et al. 2016, section 3.2, "RGB
difference"); 3-D convolutions of 3x3x3 those of C3D (Tran et al. 2015).
"""

from collections.abc import Sequence
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import KaimingNormal

from paddlevideo.config.registry import register
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.layers import Conv3D, linear_classifier
from paddlevideo.sample import InputSpec

FIRST_STRIDE = (1, 2, 2)  # time, height, width
# Pooling windows after the convolutions; later ones have the last of them, the very last has none.
POOLS = ((1, 2, 2), (2, 1, 1), (2, 2, 2))


class MotionBlock(nn.Layer):
    """Convolution of 3x3x3, batch norm, ReLU, and max pooling over windows of `pool`, if any."""

    def __init__(self, in_channels, out_channels, stride=(1, 1, 1), pool=None):
        super().__init__()
        self.conv = Conv3D(
            in_channels,
            out_channels,
            3,
            stride=list(stride),
            padding=[1, 1, 1],
            weight_attr=ParamAttr(initializer=KaimingNormal()),
            bias_attr=False,
        )
        self.norm = nn.BatchNorm3D(out_channels)
        self.pool = pool

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return x if self.pool is None else F.max_pool3d(x, self.pool, self.pool)


@register("backbone")
class MotionNet(Backbone):
    """Differences of grey frames -> 3-D convolutions.

    Args:
        widths: channels of the convolutions.

    Raises:
        ValueError: there are no widths, or one is below 1.
    """

    inputs = {"frames": InputSpec((None, None, 3, None, None), "float32", "N T C H W")}  # noqa: RUF012
    stages = {"stem": ("blocks.0.",)}  # noqa: RUF012

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128)):
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"MODEL.backbone: widths are {list(widths)}, expected at least 1 each")
        channels, last = 1, len(widths) - 1
        self.blocks = nn.LayerList()
        for number, width in enumerate(widths):
            stride = (1, 1, 1) if number else FIRST_STRIDE
            pool = None if number == last else POOLS[min(number, len(POOLS) - 1)]
            self.blocks.append(MotionBlock(channels, width, stride, pool))
            channels = width
        self.out_channels = {"motion": channels}

    def forward(self, inputs):
        """{"frames": float32 [N, T, 3, H, W]} -> {"motion": float32 [N, C, t, h, w]}.

        With the default widths t is about T / 4, and h and w are H / 8 and W / 8.
        """
        grey = inputs["frames"].mean(2)  # [N, T, H, W]
        x = (grey[:, 1:] - grey[:, :-1]).unsqueeze(1)  # [N, 1, T - 1, H, W]
        for block in self.blocks:
            x = block(x)
        return {"motion": x}


@register("head")
class MotionHead(Head):
    """Mean over time and space, dropout, one linear layer.

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        drop_ratio: dropout before the classifier.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.

    Raises:
        ValueError: a value is not in [0, 1).
    """

    class_layer = "head.fc"

    def __init__(
        self,
        num_classes: int,
        drop_ratio: float = 0.5,
        ls_eps: float = 0.0,
        keep_rows: Literal["by_name"] | None = None,
    ):
        super().__init__()
        for name, share in (("drop_ratio", drop_ratio), ("ls_eps", ls_eps)):
            if not 0 <= share < 1:
                raise ValueError(f"MODEL.head: {name} is {share}; it must be in [0, 1)")
        self.num_classes, self.label_smoothing = num_classes, ls_eps
        self.keep_rows = keep_rows
        self.multi_label = False
        self.dropout = nn.Dropout(drop_ratio)

    def connect(self, backbone: Backbone) -> None:
        """Create the classifier for the backbone's features."""
        self.fc = linear_classifier(backbone.out_channels["motion"], self.num_classes)

    def forward(self, features: dict[str, paddle.Tensor]) -> paddle.Tensor:
        """{"motion": float [N, C, T, H, W]} -> logits float32 [N, num_classes]."""
        return self.fc(self.dropout(features["motion"].mean([2, 3, 4])))
