"""Taggers: multi-label recognizers of frame features, as one network or as a mixture of networks.

Paper: Lin, Xiao and Fan 2018, "NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level
Features for Large-scale Video Classification"; section 3.3 describes the mixture.
"""

from collections.abc import Mapping
from typing import Annotated, cast

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn

from paddlevideo.config.registry import Kind, register
from paddlevideo.losses import mixture_cross_entropy
from paddlevideo.models.base import Recognizer, hit_at_one, mixed_labels
from paddlevideo.sample import InputSpec


@register("framework")
class VideoTagger(Recognizer):
    """A multi-label network over the features of a video's frames.

    Args:
        backbone: the features named by its `inputs` -> descriptor [N, C].
        head: descriptor -> logits [N, K].
    """

    multi_label = True

    def forward(self, inputs):
        """Features by name -> logits [N, K] before the sigmoid.

        Raises:
            ValueError: an input is missing, or its shape does not fit.
        """
        return self.head(self.backbone(inputs))

    def allow_multi_label(self) -> None:
        """Do nothing: the model is multi-label already."""


@register("framework")
class TaggerMixture(Recognizer):
    """A mixture of taggers and a gate that weights them per video; the mixture teaches its members.

    The logits are those of the members, weighted by a softmax over a linear layer on the mean of
    the video's features. In training each member also learns from the labels, and from the
    distribution over classes that the mixture predicts at `temperature`. A member can be used alone
    afterwards (`models/convert`, source "nextvlad_mixture").

    Args:
        backbone, head: of the first member, as in `VideoTagger`; the other members have the same
            arguments.
        num_members: number of members, at least 2.
        temperature: softens the distributions that are compared.
        distillation: weight of that comparison; None means temperature squared.

    Raises:
        ValueError: num_members or temperature is out of range.
    """

    multi_label = True

    def __init__(
        self,
        backbone: Annotated[nn.Layer, Kind("backbone")],
        head: Annotated[nn.Layer, Kind("head", supplied=("num_classes",))],
        num_members: int = 3,
        temperature: float = 3.0,
        distillation: float | None = None,
    ):
        nn.Layer.__init__(self)  # backbone and head belong to the first member
        if num_members < 2 or temperature <= 0:
            raise ValueError(
                f"TaggerMixture: num_members is {num_members} and temperature {temperature}; "
                "expected at least 2, and above 0"
            )
        self.temperature = temperature
        self.distillation = temperature**2 if distillation is None else distillation
        others = [VideoTagger(backbone.twin(), head.twin()) for _ in range(num_members - 1)]
        self.members = nn.LayerList([VideoTagger(backbone, head), *others])
        convention, size = backbone.convention, backbone.mean_size
        self.gate_norm = convention.gate_norm(size)
        self.gate = nn.Linear(size, num_members, ParamAttr(initializer=convention.weight(size)))

    @property
    def first_member(self) -> VideoTagger:
        return cast(VideoTagger, self.members[0])

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        return self.first_member.inputs

    @property
    def num_classes(self) -> int:
        return self.first_member.num_classes

    @property
    def label_smoothing(self) -> float:
        return self.first_member.label_smoothing

    @property
    def architecture(self) -> str:
        return self.first_member.architecture

    @property
    def alpha(self) -> int:
        return 1

    @property
    def stages(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    def allow_multi_label(self) -> None:
        """Do nothing: the model is multi-label already."""

    def forward(self, inputs):
        """Features by name -> logits before the sigmoid.

        Returns:
            in evaluation the logits of the mixture [N, K]; in training [N, 1 + num_members, K],
            those of the mixture followed by those of its members.

        Raises:
            ValueError: an input is missing, or its shape does not fit.
        """
        first = self.first_member.backbone
        frames = first.frames(inputs)  # dequantized once, since it is the same in all members
        logits = [member.head(member.backbone.describe(frames)) for member in self.members]
        weights = F.softmax(self.gate(self.gate_norm(first.mean(frames))), -1)  # [N, members]
        members = paddle.stack(logits, 1)  # [N, members, K]
        mixture = weights.unsqueeze(1) @ members  # [N, 1, K]
        return paddle.concat([mixture, members], 1) if self.training else mixture.squeeze(1)

    def losses(self, outputs, batch):
        """The mixture's loss and those of its members, see `losses.mixture_cross_entropy`.

        Args:
            outputs: logits [N, 1 + num_members, K] of training mode.
            batch: see `Recognizer.losses`.
        """
        labels = mixed_labels(batch)
        loss, mixture_loss = mixture_cross_entropy(
            outputs, labels, self.temperature, self.distillation, batch.get("class_weights")
        )
        hit = hit_at_one(self.predictions(outputs), labels)
        return {"loss": loss, "mixture_loss": mixture_loss, "hit_at_one": hit}

    def predictions(self, outputs):
        return outputs[:, 0] if self.training else outputs
