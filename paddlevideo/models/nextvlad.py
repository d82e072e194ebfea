"""NeXtVLAD: the features of a video's frames, visual and audio, -> one descriptor -> tags.

Paper: Lin, Xiao and Fan 2018, "NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level Features for Large-scale Video
Classification". Table 1 there (89 M parameters) is the default here; cluster_size 112 and gating_reduction 16 make the model
of under 80 M.
Weights: those of PaddleCV 1.8 and of the original in TensorFlow map one to one onto the names here, see `models/convert`.
Conventions: `paddlecv` computes what the Paddle release does, `tensorflow` what the original does; see `vlad.Convention`.
Differs from both: rows that only pad a batch are not computed, unless they count. Differs from the paper's figure 4: no batch
norm behind the gate's second layer; neither release has one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant
from paddle.regularizer import L2Decay

from paddlevideo.config.registry import register
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.vlad import CONVENTIONS, Stream, UnbiasedNorm, sigmoid
from paddlevideo.models.youtube8m import EIGEN_PARAM
from paddlevideo.sample import InputSpec


@dataclass(frozen=True)
class Frames:
    """Dequantised frames of a batch.

    Args:
        features: of each stream, float32 [R, D].
        valid: float32 [N, T], 1 for a frame and 0 for what pads the batch.
        rows: int64 [R], which of the N*T places the rows are; None where they are all of them.
    """

    features: list[paddle.Tensor]
    valid: paddle.Tensor
    rows: paddle.Tensor | None


@register("backbone")
class NeXtVLAD(Backbone):
    """Frame features of 8 bits -> one descriptor of a video: a `Stream` of the visual ones and one of the audio ones.

    Features are dequantised here: u8 * 4 / 255 - 2, times `eigen_param` for the visual ones, which undoes their whitening, and
    plus 4 / 512 for the audio ones; so do both releases.

    Args:
        cluster_size: K, clusters of the visual features.
        groups: G, parts of an expanded feature that are assigned to clusters on their own.
        expansion: how much wider a feature is made first.
        audio_cluster_size, audio_groups: of the audio features; None takes those above, or half of them in the `tensorflow`
            convention.
        feature_size: width of a visual feature.
        audio_size: width of an audio feature; 0 makes a model without sound.
        whitening: what the visual features are multiplied by. "youtube8m" fits the official ones; otherwise a `.npy` file,
            float [feature_size], the root of the eigenvalue of each principal component, plus 1e-4; None for features that
            were not whitened. A weight file brings its own.
        max_frames: rows of a video that the statistics of the `tensorflow` convention count; the other takes any number.
        convention: whose computation is followed, PaddleCV's or the original's in TensorFlow.

    Attributes:
        out_channels: width of the descriptor; `mean_size`: of `mean`.
        inputs: what `forward` takes.
        twin: () -> another backbone of the same arguments, with weights of its own.
    """

    def __init__(
        self,
        cluster_size: int = 128,
        groups: int = 8,
        expansion: int = 2,
        audio_cluster_size: int | None = None,
        audio_groups: int | None = None,
        feature_size: int = 1024,
        audio_size: int = 128,
        whitening: str | None = "youtube8m",
        max_frames: int = 300,
        convention: Literal["paddlecv", "tensorflow"] = "paddlecv",
    ):
        super().__init__()
        self.convention = rules = CONVENTIONS[convention]
        self.max_frames = max_frames
        self.video = Stream(feature_size, cluster_size, groups, expansion, rules)
        self.audio = None
        if audio_size:
            share = 2 if rules.half_audio else 1
            sizes = audio_cluster_size or cluster_size // share, audio_groups or groups // share
            self.audio = Stream(audio_size, *sizes, expansion, rules)
        self.streams = [self.video, self.audio] if self.audio else [self.video]
        self.out_channels = sum(stream.out_channels for stream in self.streams)
        self.mean_size = feature_size + audio_size
        self.register_buffer("eigen_param", paddle.to_tensor(_factors(whitening, feature_size)))
        self.inputs = {"rgb": InputSpec((None, None, feature_size), "uint8", "N T D")}
        if self.audio:
            self.inputs["audio"] = InputSpec((None, None, audio_size), "uint8", "N T D")
        self.inputs["num_frames"] = InputSpec((None,), "int64", "N")
        self.twin = partial(
            type(self), cluster_size, groups, expansion, audio_cluster_size, audio_groups, feature_size, audio_size,
            whitening, max_frames, convention,
        )  # fmt: skip

    def forward(self, inputs):
        """inputs: {"rgb": uint8 [N, T, D], "audio": uint8 [N, T, Da], "num_frames": int64 [N]} -> float [N, out_channels].

        What stands behind the first `num_frames` frames of a video changes nothing. A video without frames has zeros where
        others have what was aggregated.

        Raises:
            ValueError: an input is missing or has another shape, a video has more than T frames, or no video has any in
                training.
        """
        return self.describe(self.frames(inputs))

    def describe(self, frames: Frames):
        """Descriptor of each video, float [N, out_channels]."""
        parts = [
            self.streams[i](x, frames.valid, frames.rows) for i, x in enumerate(frames.features)
        ]
        return paddle.concat(parts, 1)

    def frames(self, inputs: Mapping) -> Frames:
        """The frames as numbers. Those that pad the batch are left out; not in a program, which is the same for any batch, and
        not where they count.

        Raises:
            ValueError: as in `forward`.
        """
        arrays = self._checked(inputs)
        # Place t of a video holds a frame where t < num_frames; counted without the shape, which a program leaves open.
        places = paddle.cumsum(
            paddle.ones_like(arrays[0][:, :, 0].astype("int64")), 1
        )  # [N, T], from 1
        valid = (places <= inputs["num_frames"].reshape([-1, 1])).astype("float32")
        rows = None
        if self.training and self.convention.counts_padding:
            arrays, valid = (
                [_padded(x, self.max_frames) for x in arrays],
                _padded(valid, self.max_frames),
            )
        elif self.training or paddle.in_dynamic_mode():
            rows = paddle.nonzero(valid.flatten()).flatten()
            if self.training and rows.shape[0] == 0:
                raise ValueError("NeXtVLAD: a training batch in which no video has a frame")
            rows = None if rows.shape[0] == valid.shape[0] * valid.shape[1] else rows
        flat = [
            x.flatten(0, 1) if rows is None else paddle.gather(x.flatten(0, 1), rows)
            for x in arrays
        ]
        features = [self._dequantised(x, number) for number, x in enumerate(flat)]
        if self.training and self.convention.counts_padding:
            here = valid.reshape([-1, 1])
            features = [
                here * x + (1 - here) * blank
                for x, blank in zip(features, self.blanks(), strict=True)
            ]
        return Frames(features, valid, rows)

    def mean(self, frames: Frames):
        """Mean of each video's features, float [N, mean_size]; of `max_frames` rows where the convention counts padding."""
        places, means = frames.valid.shape[0] * frames.valid.shape[1], []
        count = (frames.valid.unsqueeze(1) @ paddle.ones_like(frames.valid).unsqueeze(-1)).squeeze(
            1
        )  # [N, 1]
        blanks = self.blanks()
        for number, x in enumerate(frames.features):
            if frames.rows is not None:
                x = paddle.scatter(paddle.zeros([places, x.shape[1]]), frames.rows, x)
            x = x.reshape([frames.valid.shape[0], frames.valid.shape[1], x.shape[1]])
            total = (frames.valid.unsqueeze(1) @ x).squeeze(1)  # [N, D]
            padded = self.convention.counts_padding
            means.append(
                (total + (self.max_frames - count) * blanks[number]) / self.max_frames
                if padded
                else total / count.clip(min=1)
            )
        return paddle.concat(means, 1)

    def blanks(self) -> list[paddle.Tensor]:
        """What a row that pads a video is in the `tensorflow` convention, for each stream: float [D].

        The original pads with zeros and then moves the visual features by 4 / 512, which it had added in dequantising.
        """
        return [
            self.eigen_param * (-4 / 512),
            *(paddle.zeros([spec.shape[-1]]) for spec in self._specs()[1:]),
        ]

    def _dequantised(self, x, number: int):
        x = x.astype("float32") * (4 / 255) - 2
        return x * self.eigen_param if number == 0 else x + 4 / 512

    def _specs(self) -> list[InputSpec]:
        return [spec for name, spec in self.inputs.items() if name != "num_frames"]

    def _checked(self, inputs: Mapping) -> list[paddle.Tensor]:
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise ValueError(
                f"NeXtVLAD takes {_takes(self.inputs)}; it was given {', '.join(inputs) or 'nothing'}"
            )
        arrays = [inputs[name] for name in self.inputs if name != "num_frames"]
        if not paddle.in_dynamic_mode():  # sizes are open while a program is written
            return arrays
        given = {name: list(inputs[name].shape) for name in self.inputs}
        fits = all(
            x.ndim == 3 and x.shape[2] == spec.shape[2]
            for x, spec in zip(arrays, self._specs(), strict=True)
        )
        places = list(arrays[0].shape[:2])
        if (
            not fits
            or any(list(x.shape[:2]) != places for x in arrays)
            or given["num_frames"] != places[:1]
        ):
            said = ", ".join(f"{name} {shape}" for name, shape in given.items())
            raise ValueError(
                f"NeXtVLAD takes {_takes(self.inputs)}, with one N and T; it was given {said}"
            )
        least, most = int(inputs["num_frames"].min()), int(inputs["num_frames"].max())
        if least < 0 or most > places[1]:
            raise ValueError(
                f"num_frames is {least} to {most}; a video has 0 to T = {places[1]} frames here"
            )
        return arrays


def _takes(inputs: Mapping[str, InputSpec]) -> str:
    parts = []
    for name, spec in inputs.items():
        axes = (
            axis if size is None else str(size)
            for axis, size in zip(spec.axes.split(), spec.shape, strict=True)
        )
        parts.append(f"{name} {spec.dtype} [{', '.join(axes)}]")
    return ", ".join(parts)


def _padded(x, length: int):
    """`x` [N, T, ...] with zeros up to `length` frames."""
    if x.shape[1] > length:
        raise ValueError(
            f"NeXtVLAD: videos of {x.shape[1]} frames; this convention counts max_frames = {length}, raise that"
        )
    if x.shape[1] == length:
        return x
    return paddle.concat(
        [x, paddle.zeros([x.shape[0], length - x.shape[1], *x.shape[2:]], x.dtype)], 1
    )


def _factors(whitening: str | None, size: int) -> np.ndarray:
    """What undoes the whitening, float32 [size]."""
    if whitening is None:
        return np.ones(size, np.float32)
    try:
        values = EIGEN_PARAM if whitening == "youtube8m" else np.load(whitening, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"NeXtVLAD: whitening {whitening} is neither youtube8m nor a .npy file: {error}"
        ) from error
    if values.shape != (size,) or values.dtype.kind != "f":
        raise ValueError(
            f"NeXtVLAD: whitening {whitening} is {values.dtype} {list(values.shape)}, expected floats [{size}], the "
            "feature_size; features that were not whitened take null"
        )
    return values.astype(np.float32)


@register("head")
class NeXtVLADHead(Head):
    """Dropout, hidden layer, gate, and one logistic classifier per class.

    Args:
        num_classes: width of the logits; given by the data set where the config does not say it.
        hidden_size: width of the hidden layer.
        gating_reduction: how much narrower the gate is inside.
        drop_rate: dropout of the descriptor.
        l2_decay: weight decay of the classifier, its bias included; the optimizer's own reaches the other weights only.
        keep_rows: by_name starts with the rows of a checkpoint's classes that have the same name; used by the engine.

    Attributes:
        twin: () -> another head of the same arguments, with weights of its own.
    """

    label_smoothing = 0.0
    class_layer = "classifier"

    def __init__(
        self,
        num_classes: int,
        hidden_size: int = 2048,
        gating_reduction: int = 8,
        drop_rate: float = 0.5,
        l2_decay: float = 1e-5,
        keep_rows: Literal["by_name"] | None = None,
    ):
        super().__init__()
        if not 0 <= drop_rate < 1:
            raise ValueError(f"head: drop_rate is {drop_rate}; it must be in [0, 1)")
        if gating_reduction < 1 or hidden_size < gating_reduction:
            raise ValueError(
                f"head: gating_reduction is {gating_reduction}; it must be at least 1 and at most hidden_size, {hidden_size}"
            )
        self.num_classes, self.drop_rate, self.keep_rows = num_classes, drop_rate, keep_rows
        self._sizes, self._decay = (hidden_size, hidden_size // gating_reduction), l2_decay
        self.twin = partial(
            type(self), num_classes, hidden_size, gating_reduction, drop_rate, l2_decay, keep_rows
        )

    def connect(self, backbone: Backbone) -> None:
        """Create the layers for the backbone's descriptor, in the backbone's convention."""
        channels, convention = backbone.out_channels, backbone.convention
        hidden, narrow = self._sizes
        self.dropout = nn.Dropout(self.drop_rate, mode=convention.dropout)
        self.hidden = convention.linear(channels, hidden, bias=False)
        self.hidden_norm = convention.norm(hidden)
        self.gate_in = convention.linear(hidden, narrow, bias=False)
        self.gate_norm = (UnbiasedNorm if convention.unbiased_gate else nn.BatchNorm1D)(
            narrow, momentum=convention.momentum, epsilon=convention.epsilon
        )
        self.gate_out = convention.linear(narrow, hidden, bias=False)
        decay = L2Decay(self._decay)
        self.classifier = nn.Linear(
            hidden,
            self.num_classes,
            ParamAttr(initializer=convention.weight(hidden), regularizer=decay),
            ParamAttr(initializer=Constant(0.0), regularizer=decay),
        )

    def forward(self, x):
        """x: float [N, channels] -> logits [N, num_classes], before the sigmoid."""
        x = self.hidden_norm(self.hidden(self.dropout(x)))  # [N, hidden], no activation
        gate = self.gate_out(F.relu(self.gate_norm(self.gate_in(x))))
        return self.classifier(x * sigmoid(gate))
