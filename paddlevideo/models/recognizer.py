"""Recognizers of frames: networks over single frames (TSN, PP-TSN) and over clips (SlowFast)."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import paddle
from paddle import nn

from paddlevideo.config.registry import Kind, register
from paddlevideo.models.base import Recognizer
from paddlevideo.sample import InputSpec

FRAMES = {"frames": InputSpec((None, None, 3, None, None), "float32", "N S C H W")}
FRAMES_NHWC = {"frames": InputSpec((None, None, None, None, 3), "float32", "N S H W C")}


@register("framework")
class Recognizer2D(Recognizer):
    """A network over single frames; its head averages over the frames of a clip.

    Args:
        backbone: frames [N*S, 3, H, W] -> features [N*S, C, h, w].
        head: (features, S) -> logits [N, K].

    S is the number of segments, times the number of crops in a multi-crop test. A backbone that
    mixes frames (`num_segments`) takes a multiple of its own number, and has no features of single
    frames. With `data_format: NHWC` in the backbone, frames are [N, S, H, W, 3].
    """

    def __init__(
        self,
        backbone: Annotated[nn.Layer, Kind("backbone", supplied=("class_num",))],
        head: Annotated[nn.Layer, Kind("head", supplied=("num_classes",))],
    ):
        super().__init__(backbone, head)
        self.feature_input = "frame" if self.backbone.num_segments == 1 else None
        self.has_frame_logits = backbone.num_segments == 1 and head.averages_segments

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        return FRAMES if self.backbone.data_format == "NCHW" else FRAMES_NHWC

    def forward(self, inputs):
        """{"frames": float32 [N, S, 3, H, W]} -> logits [N, K] before the softmax.

        Raises:
            ValueError: `frames` is missing, has another number of axes, or a number of frames that
                is no multiple of the backbone's.
        """
        features, num_segments = self._maps(inputs)
        return self.head(features, num_segments)

    def _maps(self, inputs) -> tuple[paddle.Tensor, int]:
        """(the backbone's maps [N*S, C, h, w], S)."""
        wanted = "Recognizer2D takes 'frames' [N, S, 3, H, W]"
        if "frames" not in inputs:
            raise ValueError(f"{wanted}; it was given {', '.join(inputs) or 'nothing'}")
        frames = inputs["frames"]
        if frames.ndim != 5:
            raise ValueError(f"{wanted}; it was given shape {list(frames.shape)}")
        self._check_segments(frames)
        # [N*S, 3, H, W] -> [N*S, C, h, w]
        return self.backbone(self._images(frames)), frames.shape[1]

    @paddle.jit.not_to_static
    def _check_segments(self, frames) -> None:
        """Check that no clip has frames of two videos; a program may leave the number free."""
        if not paddle.in_dynamic_mode():
            return
        number, given = self.backbone.num_segments, frames.shape[1]
        if given % number:
            raise ValueError(
                f"the backbone shifts the {number} frames of a clip (num_seg); it was given "
                f"{given}, which is no multiple"
            )

    def _images(self, frames) -> paddle.Tensor:
        """Clips of frames -> images [N*S, 3, H, W]."""
        images = frames.flatten(0, 1)
        return images if self.backbone.data_format == "NCHW" else images.transpose([0, 3, 1, 2])

    def problems_with(self, sample, training=False):
        problems = super().problems_with(sample, training)
        if problems:
            return problems
        given, number = np.shape(sample["frames"])[-4], self.backbone.num_segments
        fix = "num_seg times seg_len of the sampler"
        exact = self.backbone.exact_segments
        if given % number or (exact and given != number):
            wanted = "" if exact else " or a multiple"
            problems.append(
                f"the backbone shifts the {number} frames of a clip (num_seg), the pipeline gives "
                f"{given}; {fix} must be the same number{wanted}"
            )
        if given < self.head.min_segments:
            problems.append(
                f"the head compares successive frames (motion), the pipeline gives {given} per "
                f"clip; {fix} must be at least {self.head.min_segments}"
            )
        return problems

    @property
    def linear_layer(self) -> str:
        return self.head.class_layer

    def clip_features(self, inputs):
        """{"frames": float32 [N, S, 3, H, W]} -> what the head's classifier takes, [N, D]."""
        return self.head.pooled(*self._maps(inputs)).astype("float32")

    def allow_multi_label(self) -> None:
        self.multi_label = True

    @property
    def feature_size(self) -> int:
        return self.backbone.out_channels

    def with_frame_logits(self, inputs):
        """See `Recognizer.with_frame_logits`; the backbone sees each frame once."""
        features, num_segments = self._maps(inputs)
        logits = self.head(features, num_segments)
        of_frames = self.head(features, 1)  # [N*S, K]
        return logits, of_frames.reshape([-1, num_segments, logits.shape[-1]])

    def frame_features(self, inputs):
        """{"frames": float32 [n, 3, H, W]} -> mean over space of the backbone's map, [n, C]."""
        return self.backbone(inputs["frames"]).mean([2, 3]).astype("float32")


@register("framework")
class Recognizer3D(Recognizer):
    """A network over clips.

    Args:
        backbone: the clips that its `inputs` name -> features.
        head: features -> logits [N, K].

    In evaluation the logits are log-probabilities. Their softmax is the output of the reference,
    and losses, metrics and averages treat them like other logits.
    """

    view_average = "probabilities"
    feature_input = "clip"

    def problems_with(self, sample, training=False):
        problems = super().problems_with(sample, training)
        return problems or pathway_problems(self, sample)

    def forward(self, inputs):
        """{"slow": float32 [N, 3, T/alpha, H, W], "fast": [N, 3, T, H, W]} -> logits [N, K].

        Raises:
            ValueError: a clip is missing, or its shape does not fit.
        """
        return self.head(self.backbone(inputs))

    def allow_multi_label(self) -> None:
        """As in the base class; a test then averages the logits of the views."""
        self.multi_label = self.head.multi_label = True
        self.view_average = "logits"

    @property
    def feature_size(self) -> int:
        return sum(self.backbone.out_channels.values())

    def frame_features(self, inputs):
        """Clips by name -> mean over time and space per pathway, concatenated: [n, D]."""
        maps = self.backbone(inputs)
        pooled = [maps[name].mean([2, 3, 4]) for name in sorted(maps)]
        return paddle.concat(pooled, 1).astype("float32")


def pathway_problems(model: Recognizer, sample) -> list[str]:
    """Why the frames of a sample do not fit the model's alpha; empty where they do."""
    if not {"slow", "fast"} <= set(model.inputs):
        return []
    slow, fast = (np.shape(sample[name])[-3] for name in ("slow", "fast"))
    if fast == model.alpha * slow:
        return []
    return [
        f"the model's alpha is {model.alpha}, the pipeline gives {fast} fast and {slow} slow "
        "frames; PackOutput needs the same alpha"
    ]
