"""NeXtVLAD: visual and audio features of a video's frames -> one descriptor -> tags.

Paper: Lin, Xiao and Fan 2018, "NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level
Features for Large-scale Video Classification". The defaults are the model of its table 1 (89 M
parameters); cluster_size 112 and gating_reduction 16 give the model of less than 80 M.
Weights: those of PaddleCV 1.8 and of the original in TensorFlow map one to one to the names here,
see `models/convert`.
Conventions: `paddlecv` computes what the Paddle release does, `tensorflow` what the original does;
see `vlad.Convention`.
Differs from both: padding frames are not computed, unless the convention counts them. Differs from
figure 4 of the paper: no batch norm after the gate's second layer; neither release has one.
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

from paddlevideo.array_files import open_npy, wrong_value
from paddlevideo.config.registry import register
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.vlad import CONVENTIONS, Stream, sigmoid
from paddlevideo.models.youtube8m import EIGEN_PARAM
from paddlevideo.sample import InputSpec


@dataclass(frozen=True)
class Frames:
    """Dequantized frames of a batch of N videos with up to T frames.

    Args:
        features: of each stream, float32 [R, D].
        valid: float32 [N, T], 1 for a frame and 0 for padding.
        rows: int64 [R], indices of the rows among the N*T frames; None where they are all of them.
    """

    features: list[paddle.Tensor]
    valid: paddle.Tensor
    rows: paddle.Tensor | None


@register("backbone")
class NeXtVLAD(Backbone):
    """8-bit frame features -> one descriptor per video, from a visual and an audio `Stream`.

    The features are dequantized here, as in both releases: u8 * 4 / 255 - 2; visual features are
    then multiplied by `eigen_param`, which reverses their whitening, and 4 / 512 is added to audio
    features.

    Args:
        cluster_size: K, number of clusters of the visual features.
        groups: G, parts of an expanded feature that are assigned to clusters separately.
        expansion: factor by which a feature is widened first.
        audio_cluster_size, audio_groups: of the audio features; by default the values above, or
            half of them in the `tensorflow` convention.
        feature_size: width of a visual feature.
        audio_size: width of an audio feature; 0 builds a model without audio.
        whitening: factors on the visual features. "youtube8m" fits the official features; otherwise
            a `.npy` file, float [feature_size], with sqrt(eigenvalue) + 1e-4 of each principal
            component; None for features that were not whitened. A weight file has its own.
        max_frames: rows of a video that the statistics of the `tensorflow` convention count; the
            other convention takes any number.
        convention: follow PaddleCV's computation or the original's in TensorFlow.

    Attributes:
        mean_size: width of `mean`.
        twin: () -> another backbone with the same arguments and its own weights.

    Raises:
        ValueError: a size is out of range, or the whitening does not fit.
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
        self.convention = CONVENTIONS[convention]
        self.max_frames = max_frames
        self.video = Stream(feature_size, cluster_size, groups, expansion, self.convention)
        self.audio = None
        if audio_size:
            divisor = 2 if self.convention.half_audio else 1
            sizes = audio_cluster_size or cluster_size // divisor, audio_groups or groups // divisor
            self.audio = Stream(audio_size, *sizes, expansion, self.convention)
        self.streams = [self.video, self.audio] if self.audio else [self.video]
        self.out_channels = sum(stream.out_channels for stream in self.streams)
        self.mean_size = feature_size + audio_size
        factors = _whitening_factors(whitening, feature_size)
        self.register_buffer("eigen_param", paddle.to_tensor(factors))
        self.inputs = {"rgb": InputSpec((None, None, feature_size), "uint8", "N T D")}
        if self.audio:
            self.inputs["audio"] = InputSpec((None, None, audio_size), "uint8", "N T D")
        self.inputs["num_frames"] = InputSpec((None,), "int64", "N")
        self.twin = partial(
            type(self), cluster_size, groups, expansion, audio_cluster_size, audio_groups,
            feature_size, audio_size, whitening, max_frames, convention,
        )  # fmt: skip

    def forward(self, inputs):
        """Features by name -> descriptor float [N, out_channels].

        Args:
            inputs: {"rgb": uint8 [N, T, D], "audio": uint8 [N, T, Da], "num_frames": int64 [N]}.
                Values after the first `num_frames` frames of a video have no effect. The
                aggregated features of a video without frames are zero.

        Raises:
            ValueError: an input is missing or has another shape, a video has more than T frames,
                or no video of a training batch has a frame.
        """
        return self.describe(self.frames(inputs))

    def describe(self, frames: Frames):
        """Descriptor of each video, float [N, out_channels]."""
        descriptors = [
            self.streams[i](x, frames.valid, frames.rows) for i, x in enumerate(frames.features)
        ]
        return paddle.concat(descriptors, 1)

    def frames(self, inputs: Mapping) -> Frames:
        """Dequantize the frames and leave out padding.

        Padding stays where the convention counts it, and in a program, which is the same for all
        batches.

        Raises:
            ValueError: as in `forward`.
        """
        arrays = self._checked(inputs)
        # A cumulative sum numbers the frames without reading T, which a program leaves free.
        ones = paddle.ones_like(arrays[0][:, :, 0].astype("int64"))
        numbers = paddle.cumsum(ones, 1)  # [N, T], from 1
        valid = (numbers <= inputs["num_frames"].reshape([-1, 1])).astype("float32")
        count_padding = self.training and self.convention.counts_padding
        rows = None
        if count_padding:
            arrays = [_pad(x, self.max_frames) for x in arrays]
            valid = _pad(valid, self.max_frames)
        elif self.training or paddle.in_dynamic_mode():
            rows = paddle.nonzero(valid.flatten()).flatten()
            if self.training and rows.shape[0] == 0:
                raise ValueError("NeXtVLAD: a training batch in which no video has a frame")
            rows = None if rows.shape[0] == valid.shape[0] * valid.shape[1] else rows
        flat = [x.flatten(0, 1) for x in arrays]
        if rows is not None:
            flat = [paddle.gather(x, rows) for x in flat]
        features = [self._dequantize(x, number) for number, x in enumerate(flat)]
        if count_padding:
            mask = valid.reshape([-1, 1])
            features = [
                mask * x + (1 - mask) * padding
                for x, padding in zip(features, self.padding_rows(), strict=True)
            ]
        return Frames(features, valid, rows)

    def mean(self, frames: Frames):
        """Mean of each video's features, float [N, mean_size].

        It is the mean of at least `max_frames` rows where the convention counts padding.
        """
        videos, length = frames.valid.shape[0], frames.valid.shape[1]
        valid = frames.valid.unsqueeze(1)  # [N, 1, T]
        count = (valid @ paddle.ones_like(frames.valid).unsqueeze(-1)).squeeze(1)  # [N, 1]
        padding_rows, means = self.padding_rows(), []
        for number, x in enumerate(frames.features):
            if frames.rows is not None:
                x = paddle.scatter(paddle.zeros([videos * length, x.shape[1]]), frames.rows, x)
            x = x.reshape([videos, length, x.shape[1]])
            total = (valid @ x).squeeze(1)  # [N, D]
            if self.convention.counts_padding:
                rows = count.clip(min=self.max_frames)
                means.append((total + (rows - count) * padding_rows[number]) / rows)
            else:
                means.append(total / count.clip(min=1))
        return paddle.concat(means, 1)

    def padding_rows(self) -> list[paddle.Tensor]:
        """The value of a padding row in the `tensorflow` convention, for each stream: float [D].

        The original pads with zeros after dequantization, which adds 4 / 512, and then subtracts
        that from the visual features.
        """
        visual = self.eigen_param * (-4 / 512)
        return [visual, *(paddle.zeros([spec.shape[-1]]) for spec in self._specs()[1:])]

    def _dequantize(self, x, number: int):
        x = x.astype("float32") * (4 / 255) - 2
        return x * self.eigen_param if number == 0 else x + 4 / 512

    def _specs(self) -> list[InputSpec]:
        return [spec for name, spec in self.inputs.items() if name != "num_frames"]

    def _checked(self, inputs: Mapping) -> list[paddle.Tensor]:
        if any(name not in inputs for name in self.inputs):
            expected, given = _describe_inputs(self.inputs), ", ".join(inputs) or "nothing"
            raise ValueError(f"NeXtVLAD takes {expected}; it was given {given}")
        arrays = [inputs[name] for name in self.inputs if name != "num_frames"]
        if not paddle.in_dynamic_mode():  # an exported program leaves sizes free
            return arrays
        given = {name: list(inputs[name].shape) for name in self.inputs}
        sizes = list(arrays[0].shape[:2])  # [N, T]
        fits = given["num_frames"] == sizes[:1] and all(
            list(x.shape) == [*sizes, spec.shape[2]]
            for x, spec in zip(arrays, self._specs(), strict=True)
        )
        if not fits:
            expected = _describe_inputs(self.inputs)
            shapes = ", ".join(f"{name} {shape}" for name, shape in given.items())
            raise ValueError(
                f"NeXtVLAD takes {expected}, all with the same N and T; it was given {shapes}"
            )
        least, most = int(inputs["num_frames"].min()), int(inputs["num_frames"].max())
        if least < 0 or most > sizes[1]:
            raise ValueError(
                f"num_frames is {least} to {most}; a video must have 0 to T = {sizes[1]} frames"
            )
        return arrays


def _describe_inputs(inputs: Mapping[str, InputSpec]) -> str:
    """The inputs as text: rgb uint8 [N, T, 1024], audio uint8 [N, T, 128], num_frames int64 [N]."""
    parts = []
    for name, spec in inputs.items():
        axes = zip(spec.axes.split(), spec.shape, strict=True)
        sizes = ", ".join(axis if size is None else str(size) for axis, size in axes)
        parts.append(f"{name} {spec.dtype} [{sizes}]")
    return ", ".join(parts)


def _pad(x, length: int):
    """Pad `x` [N, T, ...] with zeros to `length` frames."""
    if x.shape[1] > length:
        raise ValueError(
            f"NeXtVLAD: videos of {x.shape[1]} frames; this convention counts "
            f"max_frames = {length}, increase it"
        )
    if x.shape[1] == length:
        return x
    zeros = paddle.zeros([x.shape[0], length - x.shape[1], *x.shape[2:]], x.dtype)
    return paddle.concat([x, zeros], 1)


MAX_FACTOR = 1e9  # factors are standard deviations


def _whitening_factors(whitening: str | None, size: int) -> np.ndarray:
    """The factors that reverse the whitening, float32 [size]."""
    if whitening is None:
        return np.ones(size, np.float32)
    try:
        values = EIGEN_PARAM if whitening == "youtube8m" else open_npy(whitening)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"NeXtVLAD: whitening {whitening} is neither youtube8m nor a .npy file: {error}"
        ) from error
    if values.shape != (size,) or values.dtype.kind != "f":
        raise ValueError(
            f"NeXtVLAD: whitening {whitening} is {values.dtype} {list(values.shape)}, expected "
            f"floats [{size}], the feature_size; use null for features that were not whitened"
        )
    wrong = wrong_value(values, MAX_FACTOR)
    if wrong:
        raise ValueError(
            f"NeXtVLAD: whitening {whitening} is {wrong}, expected at most {MAX_FACTOR:g}"
        )
    return values.astype(np.float32)


@register("head")
class NeXtVLADHead(Head):
    """Dropout, hidden layer, gate, and one logistic classifier per class.

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        hidden_size: width of the hidden layer.
        gating_reduction: factor by which the gate's inner layer is narrower.
        drop_rate: dropout of the descriptor.
        l2_decay: weight decay of the classifier, bias included; the optimizer's own weight decay
            applies to the other weights only.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.

    Attributes:
        twin: () -> another head with the same arguments and its own weights.

    Raises:
        ValueError: a value is out of range.
    """

    class_layer = "head.classifier"

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
                f"head: gating_reduction is {gating_reduction}; it must be at least 1 and at most "
                f"hidden_size, {hidden_size}"
            )
        self.num_classes, self.drop_rate, self.keep_rows = num_classes, drop_rate, keep_rows
        self._sizes, self._decay = (hidden_size, hidden_size // gating_reduction), l2_decay
        self.twin = partial(
            type(self), num_classes, hidden_size, gating_reduction, drop_rate, l2_decay, keep_rows
        )

    def connect(self, backbone: Backbone) -> None:
        """Create the layers for the backbone's descriptor, following its convention."""
        channels, convention = backbone.out_channels, backbone.convention
        hidden, narrow = self._sizes
        self.dropout = nn.Dropout(self.drop_rate, mode=convention.dropout)
        self.hidden = convention.linear(channels, hidden, bias=False)
        self.hidden_norm = convention.norm(hidden)
        self.gate_in = convention.linear(hidden, narrow, bias=False)
        self.gate_norm = convention.gate_norm(narrow)
        self.gate_out = convention.linear(narrow, hidden, bias=False)
        decay = L2Decay(self._decay)
        self.classifier = nn.Linear(
            hidden,
            self.num_classes,
            ParamAttr(initializer=convention.weight(hidden), regularizer=decay),
            ParamAttr(initializer=Constant(0.0), regularizer=decay),
        )

    def forward(self, x):
        """Descriptor float [N, channels] -> logits [N, num_classes] before the sigmoid."""
        x = self.hidden_norm(self.hidden(self.dropout(x)))  # [N, hidden], no activation
        gate = self.gate_out(F.relu(self.gate_norm(self.gate_in(x))))
        return self.classifier(x * sigmoid(gate))
