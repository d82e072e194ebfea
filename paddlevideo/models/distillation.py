"""A student that learns from a teacher beside the labels; afterwards it stands alone, as any recognizer of its kind.

Papers: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; Zhang et al. 2018, "Deep Mutual Learning".
Published: PP-TSN, 8 segments, 75.06 % top-1 on Kinetics-400 distilled (PaddleVideo's model page).
Differs from PaddleVideo, whose config sections these are: a frozen teacher is in evaluation mode, so its statistics and its
dropout do not move; the student's weights carry the plain model's names; a head's label smoothing counts.
"""

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


class Role:
    """One of the models of a distillation, as the plain config of that model describes it.

    Args:
        framework: which recognizer it is.
        weights: a file of a whole model of this kind, as training it alone writes; loaded by the engine.
        num_frames: frames (segments) that this model sees of a training clip, evenly spread over it; None for all of them.
        parts: the arguments of the framework: `backbone`, `head`, and what else it takes.

    Raises:
        ValueError: there is no such framework, or it does not classify clips into one class each.
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
                f"framework is {framework}; expected a recognizer that gives a clip one class"
            )
        self.model = make(**parts)

    @staticmethod
    def further_parameters(given: Mapping) -> dict:
        """What a config may say beside: the arguments of the framework that it names."""
        try:
            return lookup("framework", str(given.get("framework", "Recognizer2D"))).parameters()
        except KeyError:  # told when it is made
            return lookup("framework", "Recognizer2D").parameters()


@register("distilled")
class Teacher(Role):
    """Who is learnt from; see `Role`."""


@register("distilled")
class Student(Role):
    """Who learns, and is evaluated; see `Role`."""


Loss = Annotated[Any, Kind("distillation_loss")]


@dataclass(frozen=True)
class Losses:
    """What training minimises, summed; and what validation reports, which is the student's cross entropy in any case."""

    Train: list[Loss]
    Val: list[Loss] = field(default_factory=list)


@register("framework")
class RecognizerDistillation(Recognizer):
    """A student and its teacher on the same clips: both in training, the student alone in evaluation.

    Args:
        models: a Teacher and a Student.
        loss: `Train` lists losses between the models and against GroundTruth, see losses.py.
        freeze_params_list: for each of `models`, whether it stays as it was loaded; none by default.

    Attributes:
        Teacher, Student: the recognizers; tensors of a saved file are named `Teacher.*` and `Student.*`.
        student: the one that is evaluated, exported, and saved by itself.
        train_losses: of the training, by their names in the log.
        frozen_prefixes: beginnings of the names of tensors that training does not move.
        inputs: of the student, which is what a pipeline has to give, in training too.
        train_inputs: names of what `forward` may use in training.

    Raises:
        ValueError: a model or a loss that does not fit the others.
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
                f"freeze_params_list has {len(freeze)} values, expected one for each of {', '.join(roles)}"
            )
        for (name, role), still in zip(roles.items(), freeze, strict=True):
            self.add_sublayer(name, role.model)
            if still and role.weights is None:
                raise ValueError(
                    f"freeze_params_list freezes {name}, which has no weights; give it 'weights: FILE'"
                )
            for parameter in self.part(name).parameters() if still else ():
                parameter.stop_gradient = True
        self._num_frames = {name: role.num_frames for name, role in roles.items()}
        self._still = tuple(name for name, still in zip(roles, freeze, strict=True) if still)
        self.frozen_prefixes = tuple(f"{name}." for name in self._still)
        self._check_losses(loss)
        self.train_losses = {loss_name(each): each for each in loss.Train}
        widths = {name: self.part(name).num_classes for name in roles}
        if len(set(widths.values())) > 1:
            raise ValueError(
                "the models have different classes: "
                + ", ".join(f"{k} {v}" for k, v in widths.items())
            )
        self.modalities = self.student.modalities
        self.view_average = self.student.view_average

    def _check_losses(self, loss: Losses) -> None:
        """Every loss joins what it can join, every model takes part, and the student learns."""
        for each in [*loss.Train, *loss.Val]:
            pair, name = each.model_name_pairs, type(each).__name__
            known_pairs = [GROUND_TRUTH] if each.takes_labels else list(self._num_frames)
            if (
                len(pair) != 2
                or pair[0] not in self._num_frames
                or pair[1] not in known_pairs
                or pair[0] == pair[1]
            ):
                expected = f"[{' or '.join(self._num_frames)}, {' or '.join(known_pairs)}]"
                raise ValueError(f"loss: {name}: model_name_pairs is {pair}, expected {expected}")
            if not each.loss_weight > 0:
                raise ValueError(
                    f"loss: {name}: loss_weight is {each.loss_weight}; it must be above 0"
                )
        if STUDENT in self._still:
            raise ValueError("freeze_params_list freezes Student, which is to learn")
        for name in self._num_frames:
            if not any(name in each.model_name_pairs for each in loss.Train):
                raise ValueError(f"loss.Train has no loss with {name} in its model_name_pairs")
            if name not in self._still and not any(name in each.learners for each in loss.Train):
                raise ValueError(
                    f"{name} learns from no loss in loss.Train; freeze it with freeze_params_list, or add one"
                )
        keys = [loss_name(each) for each in loss.Train]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(
                f"loss.Train has {' and '.join(twice)} twice; keep one and change its loss_weight"
            )
        if any(
            each.model_name_pairs != [STUDENT, GROUND_TRUTH] or each.loss_weight != 1
            for each in loss.Val
        ):
            raise ValueError(
                "loss.Val: validation reports the cross entropy of Student and GroundTruth; list just that, or leave Val out"
            )

    def part(self, name: str) -> Recognizer:
        """The recognizer of that name."""
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
        problems = self.student.problems_with(sample)
        if training:  # each model takes its own frames of the clip
            clips = {k: sample[k] for k in self.train_inputs if k in sample}
            try:
                self.clips_of({k: paddle.to_tensor(v).unsqueeze(0) for k, v in clips.items()})
            except ValueError as error:
                problems.append(str(error))
        return problems

    def losses(self, outputs, batch):
        """Each loss under its name in the log, their weighted sum, the student's accuracies and
        the teacher's top-1.

        Args:
            outputs: {model: logits [N, K]} of training mode.
            batch: see `Recognizer.losses`.
        """
        smoothing = {name: self.part(name).label_smoothing for name in outputs}
        each = {name: loss(outputs, batch, smoothing) for name, loss in self.train_losses.items()}
        total = sum(self.train_losses[name].loss_weight * value for name, value in each.items())
        student, teacher = (
            single_label_losses(outputs[name], batch, smoothing[name])
            for name in (STUDENT, TEACHER)
        )
        return {**student, **each, "loss": total, "teacher_top1": teacher["top1"]}

    def predictions(self, outputs):
        return outputs[STUDENT] if self.training else outputs

    def clips_of(self, inputs: dict) -> dict[str, dict]:
        """{model: its clips in training, by name}, made of the clips that all share; see `clip_for`.

        Raises:
            ValueError: a clip is missing or too short for one of them.
        """
        return {
            name: clip_for(name, self.part(name), inputs, number)
            for name, number in self._num_frames.items()
        }

    def forward(self, inputs):
        """In evaluation the student's logits [N, K] of its own inputs; in training {model: logits [N, K]}.

        Args:
            inputs: float32 clips by name. In training each model takes its `num_frames` of them, in its own form.

        Raises:
            ValueError: a clip is missing, too short, or of another shape.
        """
        if not self.training:
            return self.student(inputs)
        logits = {}
        for name, clips in self.clips_of(inputs).items():
            model = self.part(name)
            if name in self._still:
                model.eval()  # whatever mode the whole is put into
                with paddle.no_grad():
                    logits[name] = model.predictions(model(clips)).detach()
            else:
                logits[name] = model.predictions(model(clips))
        return logits


def loss_name(loss: Any) -> str:
    """What the log calls a loss: ce_student, dml, kl."""
    return (
        f"{loss.short_name}_{loss.model_name_pairs[0].lower()}"
        if loss.takes_labels
        else loss.short_name
    )


def clip_for(name: str, model: nn.Layer, inputs: dict, num_frames: int | None = None) -> dict:
    """A clip as one model takes it, made from the clip that all share.

    Of S frames `num_frames` are taken, the middles of as many equal parts. Frames in a row [N, S, 3, H, W] and a pair of
    pathways, fast [N, 3, T, H, W] and slow with every alpha-th of its frames, are made from each other, so that a network over
    frames and one over clips may be put together. Inputs other than pictures pass as they are.

    Args:
        name: of the model, for messages.
        model: has `inputs`, and `alpha` where it takes `slow` and `fast`.
        inputs: tensors by name; `frames`, or `fast` with its `slow`.
        num_frames: None takes all.

    Raises:
        ValueError: there are fewer frames, or no pictures to make the model's from.
    """
    wanted = model.inputs
    if num_frames is None and all(key in inputs for key in wanted):
        return {key: inputs[key] for key in wanted}
    others = {
        key: inputs[key]
        for key in wanted
        if key in inputs and key not in ("frames", "slow", "fast")
    }
    source = "frames" if "frames" in inputs else "fast"
    if source not in inputs or not {"frames", "slow", "fast"} & set(wanted):
        only = f" and num_frames {num_frames} of pictures" if num_frames else ""
        raise ValueError(
            f"{name} takes {', '.join(wanted)}{only}; it was given {', '.join(inputs) or 'nothing'}"
        )
    axis = 1 if source == "frames" else 2
    clip, total = inputs[source], inputs[source].shape[axis]
    count = num_frames or total
    if count > total:
        raise ValueError(
            f"{name} takes {count} frames, PIPELINE.train gives clips of {total}; sample more, or lower num_frames"
        )
    if count < total:
        middles = ((np.arange(count) + 0.5) * total / count).astype(np.int64)
        clip = paddle.index_select(clip, paddle.to_tensor(middles), axis)
    if "frames" in wanted:
        return {**others, "frames": clip if axis == 1 else clip.transpose([0, 2, 1, 3, 4])}
    fast = clip.transpose([0, 2, 1, 3, 4]) if axis == 1 else clip  # [N, 3, T, H, W]
    slow = np.linspace(0, count - 1, max(count // model.alpha, 1)).astype(np.int64)
    made = {"fast": fast, "slow": paddle.index_select(fast, paddle.to_tensor(slow), 2)}
    return {**others, **{key: made[key] for key in wanted if key in made}}
