"""The contract of a recognizer: what engine, export, features and predict ask of a model.

    recognizer = backbone + head

The `MODEL.framework` of a config is a `Recognizer`, its backbone is a `Backbone`, and its head is a
`Head`. The attributes and methods below have defaults, so that a caller need not know which model
it has:

| asked by                | attribute or method                                                    |
| ---                     | ---                                                                    |
| pipelines, export       | `inputs`, `train_inputs`, `problems_with(sample)`                      |
| training                | `losses(outputs, batch)`, `frozen_prefixes`, `stages`                  |
| evaluation, predict     | `predictions(outputs)`, `view_average`, `multi_label`, `num_classes`   |
| predict per modality    | `modalities`                                                           |
| features of frames      | `feature_input`, `feature_size`, `frame_features(inputs)`              |
| fit of a frozen model   | `clip_features(inputs)`, `linear_layer`                                |
| checkpoints, export     | `evaluated`, the model that is tested and exported                     |
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import paddle
from paddle import nn

from paddlevideo.config.registry import Kind
from paddlevideo.losses import batch_cross_entropy, sigmoid_cross_entropy, top_k_accuracy
from paddlevideo.sample import InputSpec

Losses = dict[str, paddle.Tensor]  # "loss", the scalar to minimize, and further scalars for the log


class Backbone(nn.Layer):
    """Turns inputs into features.

    Attributes:
        inputs: what `forward` takes, by name; empty where the recognizer defines it.
        out_channels: channels of the features; {pathway: channels} with several pathways.
        alpha: frames of the fast pathway per frame of the slow pathway; 1 with one pathway.
        stages: {stage: prefixes of the names of its tensors}, for freezing and learning rates.
        pretrained_model: name of its published ImageNet weights, see engine/weight_sources.py; ""
            where there are none.
        unused_pretrained: prefixes of the names in a weight file that this backbone does not use.
        num_segments: frames of a clip that the network mixes; 1 where it sees each frame alone.
        exact_segments: a pipeline must give exactly that many frames per view, not a multiple.
        file_word: TSM or TSN in the names of its released files, whose tensors have the same names
            and shapes in both; "" for other networks.
        data_format: of the images that a pipeline gives to a network over frames.
        has_classifier: it has the layers of the classifier too, which a head with `class_layer`
            "backbone...." uses.
        own_tensors: prefixes of the names of tensors that keep their initial values where a file of
            a backbone does not have them, or has them in another shape.
    """

    inputs: Mapping[str, InputSpec] = {}
    out_channels: Any
    alpha = 1
    stages: Mapping[str, tuple[str, ...]] = {}
    pretrained_model = ""
    unused_pretrained: tuple[str, ...] = ()
    num_segments = 1
    exact_segments = False
    file_word: Literal["TSM", "TSN", ""] = ""
    data_format: Literal["NCHW", "NHWC"] = "NCHW"
    has_classifier = False
    own_tensors: tuple[str, ...] = ()

    def merge_branches(self) -> None:
        """Compute parallel linear branches as one layer in evaluation; the features are the same.

        A training step afterwards makes them branches again.
        """

    def pretrained_name(self, name: str) -> str:
        """Map a tensor's name in a weight file to its name here; by default they are the same.

        "" for a tensor that no network needs, as the number of steps of a training.
        """
        return name


class Head(nn.Layer):
    """Turns features into logits.

    Attributes:
        num_classes: K, the width of the logits.
        label_smoothing: of the training loss.
        class_layer: name in the recognizer of the linear layer that has a row of weights per class.
        keep_rows: "by_name" keeps a checkpoint's rows of classes whose names the data has too.
        min_segments: the number of frames of a clip that it needs at least.
        averages_segments: the logits of a clip are the mean of those of its frames, each alone.
    """

    num_classes: int
    min_segments = 1
    averages_segments = False
    label_smoothing = 0.0
    class_layer = ""
    keep_rows: Literal["by_name"] | None = None

    def connect(self, backbone: Backbone) -> None:
        """Create the layers that depend on the backbone, or check those that exist.

        Raises:
            ValueError: the head was configured for another backbone.
        """
        raise NotImplementedError(f"{type(self).__name__}.connect")


class Recognizer(nn.Layer):
    """A backbone and a head: named inputs -> logits.

    Args:
        backbone: inputs -> features.
        head: features -> logits [N, K].

    Attributes:
        multi_label: the probability of a class is the sigmoid of its logit, and a video may have
            several classes or none; otherwise probabilities are the softmax of the logits.
        view_average: what a test averages over the views of a video, logits or probabilities.
        modalities: {modality: names of its inputs}; a modality is scored alone by setting the
            inputs of the others to zero. Empty for models of one modality.
        frozen_prefixes: prefixes of the names of tensors that training does not change.
        feature_input: whether `frame_features` takes single frames or clips; None without it.
        has_frame_logits: whether it has `with_frame_logits`.
        sync_stages: stages with audio-visual embeddings, see `AudioVisualRecognizer`.
    """

    multi_label = False
    view_average: Literal["logits", "probabilities"] = "logits"
    modalities: Mapping[str, Sequence[str]] = {}
    frozen_prefixes: tuple[str, ...] = ()
    feature_input: Literal["frame", "clip"] | None = None
    has_frame_logits = False
    sync_stages: tuple[str, ...] = ()

    backbone: Any
    head: Any

    def __init__(
        self,
        backbone: Annotated[nn.Layer, Kind("backbone", supplied=("class_num",))],
        head: Annotated[nn.Layer, Kind("head", supplied=("num_classes",))],
    ):
        super().__init__()
        if backbone.has_classifier and not head.class_layer.startswith("backbone."):
            raise ValueError(
                f"MODEL.head: {type(head).__name__} has a classifier, and so has "
                f"{type(backbone).__name__}; expected MoViNetHead, which uses that of the backbone"
            )
        head.connect(backbone)
        self.backbone = backbone
        self.head = head

    # --- inputs ---------------------------------------------------------------------------------

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        """What `forward` takes, by name."""
        return self.backbone.inputs

    @property
    def train_inputs(self) -> tuple[str, ...]:
        """Names of what `forward` takes in training; those that a batch lacks are left out."""
        return tuple(self.inputs)

    @property
    def architecture(self) -> str:
        """Name of the backbone, which weight files record; "" for none.

        The tensors of two architectures may have the same names and shapes.
        """
        return type(self.backbone).__name__

    @property
    def alpha(self) -> int:
        """Frames of the fast pathway per frame of the slow pathway; 1 with one pathway."""
        return self.backbone.alpha

    def problems_with(self, sample: Mapping[str, Any], training: bool = False) -> list[str]:
        """Why the model cannot take a sample, one text per problem; empty where it can.

        Args:
            sample: arrays by name, of one sample, with or without a leading axis of views.
            training: also check what only training needs.
        """
        problems = []
        for name, spec in self.inputs.items():
            if name in sample:
                problems += _shape_problem(name, spec, np.asarray(sample[name]))
                continue
            fix = ""
            if "frames" in sample and name in ("slow", "fast"):
                step = f"'- PackOutput: {{alpha: {self.alpha}}}'"
                fix = f"; {step} as its last step makes slow and fast from frames"
            wanted = ", ".join(self.inputs)
            problems.append(f"the model takes {wanted}; the pipeline gives no {name!r}{fix}")
        return problems

    # --- training -------------------------------------------------------------------------------

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    @property
    def label_smoothing(self) -> float:
        """Label smoothing of the training loss; evaluation uses the plain cross entropy."""
        return self.head.label_smoothing

    @property
    def stages(self) -> Mapping[str, tuple[str, ...]]:
        """{stage of the backbone: prefixes of the names of its tensors in this model}."""
        stages = self.backbone.stages.items()
        return {stage: tuple(f"backbone.{p}" for p in prefixes) for stage, prefixes in stages}

    def allow_multi_label(self) -> None:
        """Predict several classes per video from now on; the tensors stay the same.

        Raises:
            ValueError: this model predicts one class per video.
        """
        raise ValueError(f"{type(self).__name__} predicts one class per video")

    def losses(self, outputs: Any, batch: Mapping[str, Any]) -> Losses:
        """The losses of a training batch.

        Args:
            outputs: what `forward` returned in training mode.
            batch: `label` int64 [N], or [N, K] of 0 and 1 for a multi-label model; a mixed batch
                also has `labels_a`, `labels_b`, `lam`.

        Returns:
            {"loss": scalar to minimize, further scalars for the log}.
        """
        if self.multi_label:
            return multi_label_losses(outputs, batch)
        return single_label_losses(outputs, batch, self.label_smoothing)

    # --- evaluation -----------------------------------------------------------------------------

    def predictions(self, outputs: Any) -> paddle.Tensor:
        """Logits float [N, K] from what `forward` returned, in training or evaluation mode."""
        return outputs

    def merge_branches(self) -> None:
        """Make evaluation faster where a backbone has branches, see `Backbone.merge_branches`."""
        for layer in self.sublayers():
            if isinstance(layer, Backbone):
                layer.merge_branches()

    @property
    def evaluated(self) -> "Recognizer":
        """The model that is tested and exported: this one, or the student of a distillation."""
        return self

    # --- features -------------------------------------------------------------------------------

    @property
    def feature_size(self) -> int:
        """Length D of the vectors that `frame_features` returns."""
        raise ValueError(f"{type(self).__name__} has no features of frames")

    def frame_features(self, inputs: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """Features of single frames or clips, see `feature_input`: float32 [n, D].

        Raises:
            ValueError: the model takes other inputs.
        """
        raise ValueError(f"{type(self).__name__} has no features of frames")

    def with_frame_logits(self, inputs: Mapping[str, paddle.Tensor]) -> Any:
        """What `forward` returns, and the logits of each frame as a clip of its own.

        Returns:
            logits [N, K], and float32 [N, S, K] for clips of S frames.

        Raises:
            ValueError: the model mixes frames.
        """
        raise ValueError(f"{type(self).__name__} has no logits of single frames")

    @property
    def linear_layer(self) -> str:
        """Name of the linear layer that turns `clip_features` into logits; "" without one."""
        return ""

    def clip_features(self, inputs: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """What the linear layer takes in evaluation: float32 [N, D], logits = layer(features).

        Args:
            inputs: as `forward` takes.

        Raises:
            ValueError: the model has no such layer.
        """
        raise ValueError(f"{type(self).__name__} has no features of clips")


def _shape_problem(name: str, spec: InputSpec, array: np.ndarray) -> list[str]:
    expected = spec.shape[1:]
    shape = array.shape[1:] if array.ndim == len(expected) + 1 else array.shape
    fits = len(shape) == len(expected) and all(
        size in (None, given) for size, given in zip(expected, shape, strict=True)
    )
    if fits and str(array.dtype) == spec.dtype:
        return []
    sizes = " x ".join("any" if size is None else str(size) for size in expected)
    fix = "end it with Image2Array and Normalization"
    if spec.dtype == "uint8":  # features of frames
        fix = "'features' of its decode and the sizes in MODEL.backbone must agree"
    axes = spec.axes.split(" ", 1)[-1]
    return [
        f"the model takes {name} as {axes} = {sizes} {spec.dtype}; "
        f"the pipeline gives {list(array.shape)} {array.dtype}; {fix}"
    ]


# --- losses of labeled batches ------------------------------------------------------------------


def single_label_losses(
    logits: paddle.Tensor, batch: Mapping[str, Any], label_smoothing: float
) -> Losses:
    """Cross entropy, and top-1 / top-5 accuracy of the batch (top-K with K < 5 classes).

    Loss and accuracies of a mixed batch are mixed in the same proportion.

    Args:
        logits: float [N, K].
        batch: see `Recognizer.losses`.
    """
    mixed = "lam" in batch
    first, second = ("labels_a", "labels_b") if mixed else ("label", "label")
    lam = batch["lam"][0] if mixed else 1.0
    values = {"loss": batch_cross_entropy(logits, batch, label_smoothing)}
    for k in sorted({1, min(5, logits.shape[1])}):
        accuracy = top_k_accuracy(logits, batch[first], k)
        if mixed:
            accuracy = lam * accuracy + (1 - lam) * top_k_accuracy(logits, batch[second], k)
        values[f"top{k}"] = accuracy
    return values


def multi_label_losses(logits: paddle.Tensor, batch: Mapping[str, Any]) -> Losses:
    """Sigmoid cross entropy summed over classes, and `hit_at_one` of the batch.

    Args:
        logits: float [N, K].
        batch: see `Recognizer.losses`.
    """
    labels = mixed_labels(batch)
    loss = sigmoid_cross_entropy(logits, labels, batch.get("class_weights"))
    return {"loss": loss, "hit_at_one": hit_at_one(logits, labels)}


def mixed_labels(batch: Mapping[str, Any]) -> paddle.Tensor:
    """Multi-label targets float32 [N, K]; of a mixed batch, the mixed labels.

    Their loss is the mixed loss, because the loss is linear in the labels.
    """
    if "lam" not in batch:
        return batch["label"].astype("float32")
    lam = batch["lam"].flatten()[0]
    first, second = (batch[name].astype("float32") for name in ("labels_a", "labels_b"))
    return lam * first + (1 - lam) * second


def hit_at_one(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Share of the videos whose best class is one of their labels; logits, labels [N, K]."""
    best = logits.argmax(-1, keepdim=True)
    return paddle.take_along_axis(labels, best, 1).mean()
