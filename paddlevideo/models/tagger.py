"""Frame features -> tags: each class is a yes or no of its own. One network, or a mixture of several that teach each other."""

from collections.abc import Mapping
from typing import Annotated

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn

from paddlevideo.config.registry import Kind, register
from paddlevideo.losses import mixture_cross_entropy
from paddlevideo.models.base import Recognizer, hit_at_one, mixed_labels
from paddlevideo.models.vlad import UnbiasedNorm
from paddlevideo.sample import InputSpec


@register("framework")
class VideoTagger(Recognizer):
    """A network over the features of a video's frames; multi-label.

    Args:
        backbone: the features that its `inputs` name -> descriptor [N, C]; has a `convention`.
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
        """Nothing to change: the model is multi-label."""


@register("framework")
class TaggerMixture(Recognizer):
    """Several taggers and a gate that weighs them for each video, trained together: the mixture teaches its members.

    Lin et al. 2018, section 3.3. The logits are the members', weighted by a softmax over a linear layer on the mean of the
    video's features. In training each member also learns the labels, and the distribution that the mixture makes of the
    classes at `temperature`; afterwards one member can stand alone (`models/convert`, source "nextvlad_mixture").

    Args:
        backbone, head: of the first member, as of `VideoTagger`; the others are their twins.
        num_members: how many.
        temperature: softens the distributions that are compared.
        distillation: weight of that comparison; None takes temperature squared.
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
        rules = backbone.convention
        norm = UnbiasedNorm if rules.unbiased_gate else nn.BatchNorm1D
        self.gate_norm = norm(backbone.mean_size, momentum=rules.momentum, epsilon=rules.epsilon)
        self.gate = nn.Linear(
            backbone.mean_size, num_members, ParamAttr(initializer=rules.weight(backbone.mean_size))
        )

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        return self.members[0].inputs

    @property
    def num_classes(self) -> int:
        return self.members[0].num_classes

    @property
    def label_smoothing(self) -> float:
        return self.members[0].label_smoothing

    @property
    def alpha(self) -> int:
        return 1

    @property
    def stages(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    def allow_multi_label(self) -> None:
        """Nothing to change: the model is multi-label."""

    def forward(self, inputs):
        """inputs: features by name -> logits before the sigmoid: in evaluation the mixture's [N, K], in training
        [N, 1 + num_members, K], the mixture's in front of its members'.

        Raises:
            ValueError: an input is missing, or its shape does not fit.
        """
        first = self.members[0].backbone
        frames = first.frames(
            inputs
        )  # once: what is a constant of the features is the same in all members
        logits = [member.head(member.backbone.describe(frames)) for member in self.members]
        shares = F.softmax(self.gate(self.gate_norm(first.mean(frames))), -1)  # [N, members]
        members = paddle.stack(logits, 1)  # [N, members, K]
        mixture = shares.unsqueeze(1) @ members  # [N, 1, K]
        return paddle.concat([mixture, members], 1) if self.training else mixture.squeeze(1)

    def losses(self, outputs, batch):
        """The mixture's loss and those of its members, see `losses.mixture_cross_entropy`.

        Args:
            outputs: logits [N, 1 + num_members, K] of training mode.
            batch: see `Recognizer.losses`.
        """
        labels = mixed_labels(batch)
        loss, mixture_loss = mixture_cross_entropy(
            outputs, labels, self.temperature, self.distillation
        )
        hit = hit_at_one(self.predictions(outputs), labels)
        return {"loss": loss, "mixture_loss": mixture_loss, "hit_at_one": hit}

    def predictions(self, outputs):
        return outputs[:, 0] if self.training else outputs
