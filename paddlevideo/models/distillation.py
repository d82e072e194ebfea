"""Distillation: a student learns from a teacher and from labels, and is then used alone.

Papers: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; Zhang et al. 2018, "Deep
Mutual Learning".
Published: PP-TSN, 8 segments, 75.06 % top-1 on Kinetics-400 distilled (PaddleVideo's model page).
Differs from PaddleVideo, whose config sections are used: a frozen teacher is in evaluation mode, so
its statistics do not change and it has no dropout; the student's weights have the names of the
plain model; the label smoothing of a head applies.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import paddle
from paddle import nn

from paddlevideo.config.registry import Kind, lookup, register
from paddlevideo.models.base import Recognizer, single_label_losses
from paddlevideo.sample import InputSpec

GROUND_TRUTH = "GroundTruth"
STUDENT = "Student"
TEACHER = "Teacher"
FRAME_INPUTS = {"frames", "slow", "fast"}  # inputs that are made from the frames of a clip


class Role:
    """One of the models of a distillation, described as in its own plain config.

    Args:
        framework: name of the recognizer.
        weights: weight file of a complete model of this kind, as its own training writes it.
        num_frames: number of frames (segments) that this model takes of a training clip, evenly
            spaced; None for all.
        parts: arguments of the framework: `backbone`, `head` and others.

    Raises:
        ValueError: the framework does not exist, or does not assign one class per clip.
    """

    def __init__(
        self,
        framework: str = "Recognizer2D",
        weights: str | None = None,
        num_frames: int | None = None,
        **parts: Any,
    ):
        self.name = type(self).__name__
        self.weights, self.num_frames = weights, num_frames
        if num_frames is not None and num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}, expected at least 1")
        try:
            make = lookup("framework", framework).make
        except KeyError as error:
            raise ValueError(f"framework: {error.args[0]}") from None
        if make.multi_label or make is RecognizerDistillation:
            raise ValueError(
                f"framework is {framework}; expected a recognizer that assigns one class per clip"
            )
        self.model = make(**parts)


def framework_parameters(given: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """The arguments of the framework that the section of a `Role` names."""
    try:
        return lookup("framework", str(given.get("framework", "Recognizer2D"))).parameters()
    except KeyError:  # Role reports the unknown framework
        return lookup("framework", "Recognizer2D").parameters()


@register("distilled", further=framework_parameters)
class Teacher(Role):
    """The model that the student learns from; see `Role`."""


@register("distilled", further=framework_parameters)
class Student(Role):
    """The model that learns from the teacher and is evaluated; see `Role`."""


Loss = Annotated[Any, Kind("distillation_loss")]


@dataclass(frozen=True)
class Losses:
    """The `loss` section of a config.

    Args:
        Train: losses that training minimizes, summed.
        Val: empty or the student's cross entropy, which validation reports in any case.
    """

    Train: list[Loss]
    Val: list[Loss] = field(default_factory=list)


@register("framework")
class RecognizerDistillation(Recognizer):
    """A student and its teacher on the same clips: both in training, the student in evaluation.

    Args:
        models: a Teacher and a Student.
        loss: `Train` lists losses between the models and against GroundTruth, see losses.py.
        freeze_params_list: for each of `models`, whether its weights are frozen; by default none.

    Attributes:
        Teacher, Student: the recognizers; the tensors of a weight file are named `Teacher.*` and
            `Student.*`.
        student: the recognizer that is evaluated, exported, and also saved on its own.
        train_losses: training losses by their names in the log.
        inputs: those of the student; a pipeline provides them in training too.

    Raises:
        ValueError: a model or a loss does not fit the others.
    """

    def __init__(
        self,
        models: list[Annotated[Role, Kind("distilled")]],
        loss: Losses,
        freeze_params_list: list[bool] | None = None,
    ):
        nn.Layer.__init__(self)  # the student has the backbone and the head
        roles = {role.name: role for role in models}
        if len(models) != 2 or len(roles) != 2:
            given = ", ".join(role.name for role in models) or "nothing"
            raise ValueError(f"models lists {given}; expected one Teacher and one Student")
        freeze = [False] * len(models) if freeze_params_list is None else freeze_params_list
        if len(freeze) != len(models):
            raise ValueError(
                f"freeze_params_list has {len(freeze)} values, "
                f"expected one for each of {', '.join(roles)}"
            )
        for (name, role), frozen in zip(roles.items(), freeze, strict=True):
            self.add_sublayer(name, role.model)
            if frozen and role.weights is None:
                raise ValueError(
                    f"freeze_params_list freezes {name}, which has no weights; "
                    "give it 'weights: FILE'"
                )
            for parameter in self.part(name).parameters() if frozen else ():
                parameter.stop_gradient = True
        self._num_frames = {name: role.num_frames for name, role in roles.items()}
        self._frozen = tuple(name for name, frozen in zip(roles, freeze, strict=True) if frozen)
        self.frozen_prefixes = tuple(f"{name}." for name in self._frozen)
        self._check_losses(loss)
        self.train_losses = {loss_name(item): item for item in loss.Train}
        widths = {name: self.part(name).num_classes for name in roles}
        if len(set(widths.values())) > 1:
            listed = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise ValueError(f"the models have different numbers of classes: {listed}")
        self.modalities = self.student.modalities
        self.view_average = self.student.view_average

    def _check_losses(self, losses: Losses) -> None:
        """Check that each loss has valid models and weights, and that all models take part."""
        for loss in [*losses.Train, *losses.Val]:
            self._check_pair(loss)
        if STUDENT in self._frozen:
            raise ValueError("freeze_params_list freezes Student, which must be trained")
        for name in self._num_frames:
            if not any(name in loss.model_name_pairs for loss in losses.Train):
                raise ValueError(f"loss.Train has no loss with {name} in its model_name_pairs")
            if name not in self._frozen and not any(name in loss.learners for loss in losses.Train):
                raise ValueError(
                    f"{name} learns from no loss in loss.Train; "
                    "freeze it with freeze_params_list, or add a loss"
                )
        keys = [loss_name(loss) for loss in losses.Train]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(
                f"loss.Train has {' and '.join(twice)} twice; keep one and change its loss_weight"
            )
        only_pair = [STUDENT, GROUND_TRUTH]
        if any(loss.model_name_pairs != only_pair or loss.loss_weight != 1 for loss in losses.Val):
            raise ValueError(
                "loss.Val: validation reports the cross entropy of Student and GroundTruth; "
                "list only that loss, or leave Val out"
            )

    def _check_pair(self, loss: Any) -> None:
        pair, name = loss.model_name_pairs, type(loss).__name__
        learners = list(self._num_frames)
        targets = [GROUND_TRUTH] if loss.takes_labels else learners
        valid = len(pair) == 2 and pair[0] in learners and pair[1] in targets
        if not valid or pair[0] == pair[1]:
            expected = f"[{' or '.join(learners)}, {' or '.join(targets)}]"
            raise ValueError(f"loss: {name}: model_name_pairs is {pair}, expected {expected}")
        if not loss.loss_weight > 0:
            raise ValueError(f"loss: {name}: loss_weight is {loss.loss_weight}; it must be above 0")

    def part(self, name: str) -> Recognizer:
        """The recognizer with this name, Teacher or Student."""
        return getattr(self, name)

    @property
    def student(self) -> Recognizer:
        return self.part(STUDENT)

    @property
    def evaluated(self) -> Recognizer:
        return self.student

    @property
    def inputs(self) -> Mapping[str, InputSpec]:
        return self.student.inputs

    @property
    def train_inputs(self) -> tuple[str, ...]:
        names = [key for name in (STUDENT, *self._num_frames) for key in self.part(name).inputs]
        return tuple(dict.fromkeys(names))

    @property
    def architecture(self) -> str:
        return ""  # its tensors are those of two models

    @property
    def alpha(self) -> int:
        return self.student.alpha

    @property
    def num_classes(self) -> int:
        return self.student.num_classes

    @property
    def label_smoothing(self) -> float:
        return self.student.label_smoothing

    @property
    def stages(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    def problems_with(self, sample, training=False):
        if not training:
            return self.student.problems_with(sample)
        # Each model takes its own frames of the clip.
        given = {name: sample[name] for name in self.train_inputs if name in sample}
        batch = {name: paddle.to_tensor(clip).unsqueeze(0) for name, clip in given.items()}
        try:
            clips = self.clips_of(batch)
        except ValueError as error:
            return [*self.student.problems_with(sample), str(error)]
        own = {
            name: {key: clip[0].numpy() for key, clip in part.items()}
            for name, part in clips.items()
        }
        whole = self._num_frames[STUDENT] is None
        problems = self.student.problems_with(sample if whole else own[STUDENT])
        teacher = self.part(TEACHER).problems_with(own[TEACHER])
        return problems + [f"{TEACHER}: {problem}" for problem in teacher]

    def losses(self, outputs, batch):
        """Each loss by its name in the log, their weighted sum, and the accuracies.

        The accuracies are those of the student and the teacher's top-1.

        Args:
            outputs: {model: logits [N, K]} of training mode.
            batch: see `Recognizer.losses`.
        """
        smoothing = {name: self.part(name).label_smoothing for name in outputs}
        parts = {name: loss(outputs, batch, smoothing) for name, loss in self.train_losses.items()}
        total = sum(self.train_losses[name].loss_weight * value for name, value in parts.items())
        student, teacher = (
            single_label_losses(outputs[name], batch, smoothing[name])
            for name in (STUDENT, TEACHER)
        )
        return {**student, **parts, "loss": total, "teacher_top1": teacher["top1"]}

    def predictions(self, outputs):
        return outputs[STUDENT] if self.training else outputs

    def clips_of(self, inputs: dict) -> dict[str, dict]:
        """{model: its training clips by name}, made from the shared clips; see `clip_for`.

        Raises:
            ValueError: a clip is missing or too short for one of the models.
        """
        return {
            name: clip_for(name, self.part(name), inputs, number)
            for name, number in self._num_frames.items()
        }

    def forward(self, inputs):
        """Clips -> the student's logits [N, K] in evaluation, {model: logits [N, K]} in training.

        Args:
            inputs: float32 clips by name. In training each model takes `num_frames` of their
                frames, in its own layout.

        Raises:
            ValueError: a clip is missing, too short, or of another shape.
        """
        if not self.training:
            return self.student(inputs)
        logits = {}
        for name, clips in self.clips_of(inputs).items():
            model = self.part(name)
            if name in self._frozen:
                model.eval()  # train() of the distillation switches it to training mode
                with paddle.no_grad():
                    logits[name] = model.predictions(model(clips)).detach()
            else:
                logits[name] = model.predictions(model(clips))
        return logits


def loss_name(loss: Any) -> str:
    """The name of a loss in the log: ce_student, dml, kl."""
    if loss.takes_labels:
        return f"{loss.short_name}_{loss.model_name_pairs[0].lower()}"
    return loss.short_name


def clip_for(name: str, model: Recognizer, inputs: dict, num_frames: int | None = None) -> dict:
    """The clip of one model, made from the clip that all models share.

    From S frames, `num_frames` are taken: the clip is divided into that many equal parts, and the
    middle frame of each is used. Frames [N, S, 3, H, W] and pathways (fast [N, 3, T, H, W], slow
    with every alpha-th of its frames) are converted to each other, so a model over frames can learn
    from one over clips. Other inputs are passed unchanged.

    Args:
        name: of the model, for messages.
        model: defines `inputs` and `alpha`.
        inputs: tensors by name: `frames`, or `fast` and `slow`.
        num_frames: None takes all.

    Raises:
        ValueError: there are fewer frames, or no frames to make the model's inputs from.
    """
    wanted = model.inputs
    if num_frames is None and all(key in inputs for key in wanted):
        return {key: inputs[key] for key in wanted}
    source = "frames" if "frames" in inputs else "fast"
    if source not in inputs or not FRAME_INPUTS & set(wanted):
        needed = f" and num_frames {num_frames} of frames" if num_frames else ""
        given = ", ".join(inputs) or "nothing"
        raise ValueError(f"{name} takes {', '.join(wanted)}{needed}; it was given {given}")
    axis = 1 if source == "frames" else 2
    clip, total = inputs[source], inputs[source].shape[axis]
    count = num_frames or total
    if count > total:
        raise ValueError(
            f"{name} takes {count} frames, PIPELINE.train gives clips of {total}; "
            "sample more frames, or lower num_frames"
        )
    if count < total:
        middles = ((np.arange(count) + 0.5) * total / count).astype(np.int64)
        clip = paddle.index_select(clip, paddle.to_tensor(middles), axis)
    others = {key: inputs[key] for key in wanted if key in inputs and key not in FRAME_INPUTS}
    if "frames" in wanted:
        return {**others, "frames": clip if axis == 1 else clip.transpose([0, 2, 1, 3, 4])}
    fast = clip.transpose([0, 2, 1, 3, 4]) if axis == 1 else clip  # [N, 3, T, H, W]
    slow = np.linspace(0, count - 1, max(count // model.alpha, 1)).astype(np.int64)
    pathways = {"fast": fast, "slow": paddle.index_select(fast, paddle.to_tensor(slow), 2)}
    return {**others, **{key: pathways[key] for key in wanted if key in pathways}}
