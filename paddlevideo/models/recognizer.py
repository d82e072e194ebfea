"""Backbone and head together: named inputs -> logits."""

from typing import Annotated, Literal

from paddle import nn

from paddlevideo.config.registry import Kind, register
from paddlevideo.sample import InputSpec


@register("framework")
class Recognizer2D(nn.Layer):
    """A network over single frames, whose head draws the frames of a clip together.

    Args:
        backbone: frames [N*S, 3, H, W] -> features [N*S, C, h, w]; has `out_channels`.
        head: (features, S) -> logits [N, K]; has `connect(channels)`, `num_classes`, `label_smoothing`.

    Attributes:
        inputs: what `forward` takes, by name; S is the number of segments, times the crops in a multi-crop test.
        num_classes: K.
        label_smoothing: of the training loss; evaluation takes the plain cross entropy.
        view_average: what a test averages over the views of a video, logits or their softmax.
        multi_label: a class's probability is the sigmoid of its logit, and a video may have several classes or none.
    """

    multi_label = False
    view_average: Literal["logits", "probabilities"] = "logits"
    inputs = {"frames": InputSpec((None, None, 3, None, None), "float32", "N S C H W")}  # noqa: RUF012

    def __init__(
        self,
        backbone: Annotated[nn.Layer, Kind("backbone")],
        head: Annotated[nn.Layer, Kind("head", supplied=("num_classes",))],
    ):
        super().__init__()
        head.connect(backbone.out_channels)
        self.backbone = backbone
        self.head = head

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    @property
    def label_smoothing(self) -> float:
        return self.head.label_smoothing

    def forward(self, inputs):
        """inputs: {"frames": float32 [N, S, 3, H, W]} -> logits [N, K], before the softmax, in training and evaluation.

        Raises:
            ValueError: `frames` is missing or has another number of axes.
        """
        if "frames" not in inputs:
            raise ValueError(
                f"Recognizer2D takes 'frames' [N, S, 3, H, W]; it was given {', '.join(inputs) or 'nothing'}"
            )
        frames = inputs["frames"]
        if len(frames.shape) != 5:
            raise ValueError(
                f"Recognizer2D takes 'frames' [N, S, 3, H, W]; it was given shape {list(frames.shape)}"
            )
        features = self.backbone(frames.flatten(0, 1))  # [N*S, 3, H, W] -> [N*S, C, h, w]
        return self.head(features, frames.shape[1])

    def allow_multi_label(self) -> None:
        """From now on a video may have several classes; the tensors are the same."""
        self.multi_label = True


@register("framework")
class Recognizer3D(nn.Layer):
    """A network over clips.

    Args:
        backbone: the clips that it names in `inputs` -> its features; has `out_channels` and `alpha`.
        head: features -> logits [N, K]; has `connect(channels, alpha)`, `num_classes`, `label_smoothing`.

    Attributes:
        inputs: what `forward` takes, by name: "slow" [N, 3, T/alpha, H, W], "fast" [N, 3, T, H, W].
        num_classes: K.
        label_smoothing: of the training loss; evaluation takes the plain cross entropy.
        view_average: what a test averages over the views of a video, logits or their softmax; as positions within a view.
        multi_label: a class's probability is the sigmoid of its logit, and a video may have several classes or none.
    """

    multi_label = False
    view_average: Literal["logits", "probabilities"] = "probabilities"

    def __init__(
        self,
        backbone: Annotated[nn.Layer, Kind("backbone")],
        head: Annotated[nn.Layer, Kind("head", supplied=("num_classes",))],
    ):
        super().__init__()
        head.connect(backbone.out_channels, backbone.alpha)
        self.backbone = backbone
        self.head = head

    @property
    def inputs(self) -> dict[str, InputSpec]:
        return self.backbone.inputs

    @property
    def alpha(self) -> int:
        """Frames of the fast pathway for each one of the slow pathway."""
        return self.backbone.alpha

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    @property
    def label_smoothing(self) -> float:
        return self.head.label_smoothing

    def forward(self, inputs):
        """inputs: float32 clips by name -> logits [N, K]; in evaluation they are log-probabilities, whose softmax is the
        reference's output, so that losses, metrics and averages take them as any logits.

        Raises:
            ValueError: a clip is missing, or its shape does not fit.
        """
        return self.head(self.backbone(inputs))

    def allow_multi_label(self) -> None:
        """From now on a video may have several classes, and logits are averaged as they are; the tensors are the same."""
        self.multi_label = self.head.multi_label = True
        self.view_average = "logits"
