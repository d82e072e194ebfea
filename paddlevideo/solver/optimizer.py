"""Optimizers as a config names them, and their state under the model's parameter names.

An optimizer here is a frozen description; `build` makes the `paddle.optimizer`. Before each step
the engine computes the learning rate with the rule and passes it to `set_lr`. Paddle multiplies
it by the factor of a parameter (`ParamAttr(learning_rate=...)`). A regularizer of a parameter
(`ParamAttr(regularizer=...)`) replaces the optimizer's weight decay for that parameter.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import paddle
from paddle import nn
from paddle.regularizer import L1Decay, L2Decay

from paddlevideo import paddle_internals
from paddlevideo.config.registry import Kind, register

Rule = Annotated[Callable[[float], float], Kind("lr")]
Regularizer = Annotated[L1Decay | L2Decay, Kind("regularizer")]
GradClip = Annotated[
    nn.ClipGradByGlobalNorm | nn.ClipGradByNorm | nn.ClipGradByValue, Kind("grad_clip")
]

# `model.named_parameters()`, or `model.parameters()` if no option refers to names.
Parameters = Iterable[tuple[str, paddle.Tensor]] | Iterable[paddle.Tensor]

MAX_SHOWN = 5  # names in a message


# --- regularizers and gradient clipping -------------------------------------------------------


@register("regularizer", "L1")
def l1(value: float) -> L1Decay:
    """Add value * sum(|w|) to the loss."""
    return L1Decay(value)


@register("regularizer", "L2")
def l2(value: float) -> L2Decay:
    """Add value / 2 * sum(w^2) to the loss: the gradient grows by value * w."""
    return L2Decay(value)


@register("grad_clip", "ClipGradByGlobalNorm")
def clip_by_global_norm(value: float) -> nn.ClipGradByGlobalNorm:
    """Scale all gradients together so that their common L2 norm is at most `value`."""
    return nn.ClipGradByGlobalNorm(value)


@register("grad_clip", "ClipGradByNorm")
def clip_by_norm(value: float) -> nn.ClipGradByNorm:
    """Scale each gradient so that its own L2 norm is at most `value`."""
    return nn.ClipGradByNorm(value)


@register("grad_clip", "ClipGradByValue")
def clip_by_value(value: float) -> nn.ClipGradByValue:
    """Clip each element of the gradients to [-value, value]."""
    return nn.ClipGradByValue(value)


# --- optimizers -------------------------------------------------------------------------------


@register("optimizer")
@dataclass(frozen=True)
class Momentum:
    """Stochastic gradient descent with momentum; the weight decay is added to the gradient.

    Args:
        learning_rate: a rule that maps the fractional epoch to the learning rate.
        momentum: share of the velocity that a step keeps.
        use_nesterov: Nesterov's variant: step along the velocity of the next step.
        weight_decay: a number means L2.
        grad_clip: applied before the weight decay.
    """

    learning_rate: Rule
    momentum: float = 0.9
    use_nesterov: bool = False
    weight_decay: float | Regularizer | None = None
    grad_clip: GradClip | None = None

    def build(
        self, parameters: Parameters, multi_precision: bool = False
    ) -> paddle.optimizer.Optimizer:
        """Make the optimizer.

        Args:
            multi_precision: keep float32 copies of half-precision parameters.
        """
        return paddle.optimizer.Momentum(
            learning_rate=float(self.learning_rate(0.0)),
            momentum=self.momentum,
            parameters=[p for _, p in _named(parameters)],
            use_nesterov=self.use_nesterov,
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            multi_precision=multi_precision,
        )


@register("optimizer")
@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent without momentum.

    Args:
        learning_rate: a rule that maps the fractional epoch to the learning rate.
        weight_decay: a number means L2.
        grad_clip: applied before the weight decay.
    """

    learning_rate: Rule
    weight_decay: float | Regularizer | None = None
    grad_clip: GradClip | None = None

    def build(
        self, parameters: Parameters, multi_precision: bool = False
    ) -> paddle.optimizer.Optimizer:
        """Make the optimizer.

        Args:
            multi_precision: keep float32 copies of half-precision parameters.
        """
        return paddle.optimizer.SGD(
            learning_rate=float(self.learning_rate(0.0)),
            parameters=[p for _, p in _named(parameters)],
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            multi_precision=multi_precision,
        )


@register("optimizer")
@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015); the weight decay is added to the gradient.

    Args:
        learning_rate: a rule that maps the fractional epoch to the learning rate.
        beta1, beta2: decay rates of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: a number means L2.
        grad_clip: applied before the weight decay.
    """

    learning_rate: Rule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float | Regularizer | None = None
    grad_clip: GradClip | None = None

    def build(
        self, parameters: Parameters, multi_precision: bool = False
    ) -> paddle.optimizer.Optimizer:
        """Make the optimizer.

        Args:
            multi_precision: keep float32 copies of half-precision parameters.
        """
        return paddle.optimizer.Adam(
            learning_rate=float(self.learning_rate(0.0)),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            parameters=[p for _, p in _named(parameters)],
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            multi_precision=multi_precision,
        )


@register("optimizer")
@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        learning_rate: a rule that maps the fractional epoch to the learning rate.
        beta1, beta2: decay rates of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: a step subtracts learning_rate * weight_decay * w, except from parameters
            that have a regularizer of their own.
        no_weight_decay_name: substrings, separated by spaces; parameters of the model whose name
            contains one of them are not decayed.
        grad_clip: applied to the gradients.
    """

    learning_rate: Rule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    no_weight_decay_name: str | None = None
    grad_clip: GradClip | None = None

    def build(
        self, parameters: Parameters, multi_precision: bool = False
    ) -> paddle.optimizer.Optimizer:
        """Make the optimizer.

        Args:
            multi_precision: keep float32 copies of half-precision parameters.

        Raises:
            ValueError: `no_weight_decay_name` is set and `parameters` have no names, or no
                parameter name contains one of its words.
        """
        named = _named(parameters)
        not_decayed = {p.name for _, p in named if p.regularizer is not None}
        not_decayed |= self._not_decayed_by_name(named)
        return paddle.optimizer.AdamW(
            learning_rate=float(self.learning_rate(0.0)),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            parameters=[p for _, p in named],
            weight_decay=self.weight_decay,
            apply_decay_param_fun=lambda name: name not in not_decayed,
            grad_clip=self.grad_clip,
            multi_precision=multi_precision,
        )

    def _not_decayed_by_name(self, named: list[tuple[str | None, paddle.Tensor]]) -> set[str]:
        """Paddle's automatic names of the parameters that `no_weight_decay_name` matches."""
        words = (self.no_weight_decay_name or "").split()
        if not words:
            return set()
        by_name = {name: p for name, p in named if name is not None}
        if len(by_name) < len(named):
            raise ValueError(
                "OPTIMIZER.no_weight_decay_name needs the names of the parameters; "
                "build from model.named_parameters()"
            )
        for word in words:
            if not any(word in name for name in by_name):
                raise ValueError(
                    f"OPTIMIZER.no_weight_decay_name: no parameter name contains {word!r}"
                )
        return {p.name for name, p in by_name.items() if any(word in name for word in words)}


def _named(parameters: Parameters) -> list[tuple[str | None, paddle.Tensor]]:
    return [item if isinstance(item, tuple) else (None, item) for item in parameters]


# --- state ------------------------------------------------------------------------------------


def optimizer_state(
    optimizer: paddle.optimizer.Optimizer, model: nn.Layer
) -> dict[str, np.ndarray]:
    """Copy the optimizer's state as arrays named `<parameter of the model>.<slot>`.

    Slots are `velocity`, `moment1`, `moment2`, `beta1_pow_acc`, `beta2_pow_acc` and
    `master_weight`, as in `head.fc.weight.velocity`. Before the first step the state is complete
    too, with initial values. bfloat16 arrays come as uint16.

    Raises:
        ValueError: the optimizer holds parameters that are not in the model.
    """
    return {name: np.array(tensor.numpy()) for name, tensor in _slots(optimizer, model).items()}


def restore_optimizer_state(
    optimizer: paddle.optimizer.Optimizer, model: nn.Layer, state: Mapping[str, np.ndarray]
) -> None:
    """Restore what `optimizer_state` returned, bit for bit.

    Works before and after the first step, and in a process where Paddle's automatic parameter
    names are different.

    Raises:
        ValueError: entries are missing, unknown or of another shape or type, or the optimizer
            holds parameters that are not in the model; nothing was changed.
    """
    slots = _slots(optimizer, model)
    problems = _some("lacks", [name for name in slots if name not in state])
    problems += _some("has unknown", [name for name in state if name not in slots])
    for name in slots.keys() & state.keys():
        expected, saved = slots[name].numpy(), np.asarray(state[name])
        if (expected.shape, expected.dtype) != (saved.shape, saved.dtype):
            problems.append(
                f"has {name} as {saved.dtype} {list(saved.shape)}, "
                f"expected {expected.dtype} {list(expected.shape)}"
            )
    if problems:
        raise ValueError(
            f"the saved optimizer state {'; '.join(problems)}. "
            "Resume with the model and OPTIMIZER that saved it"
        )
    for name, tensor in slots.items():
        tensor.set_value(np.asarray(state[name]))


def _slots(optimizer: paddle.optimizer.Optimizer, model: nn.Layer) -> dict[str, paddle.Tensor]:
    """The live tensors of the optimizer's state, by `<parameter of the model>.<slot>`.

    Paddle's own `state_dict` names them after counters of the process and lacks them before the
    first step.
    """
    model_names = {p.name: name for name, p in model.named_parameters()}
    parameters = paddle_internals.trainable_parameters(optimizer)
    foreign = [p.name for p in parameters if p.name not in model_names]
    if foreign:
        raise ValueError(
            f"the optimizer holds {len(foreign)} parameters that are not in the model: "
            f"{', '.join(foreign[:3])}"
        )
    paddle_internals.create_accumulators(optimizer, parameters)
    slots = {}
    for owner, copy in paddle_internals.master_weights(optimizer).items():
        slots[f"{model_names[owner]}.master_weight"] = copy
        # The other slots of a half-precision parameter belong to its float32 copy.
        model_names[copy.name] = model_names[owner]
    for slot, tensors in paddle_internals.accumulators(optimizer).items():
        slots |= {f"{model_names[owner]}.{slot}": tensor for owner, tensor in tensors.items()}
    return slots


def _some(verb: str, names: list[str]) -> list[str]:
    """[] if there are no names, else ["<verb> <the first names>[ and N more]"]."""
    if not names:
        return []
    rest = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return [f"{verb} {', '.join(sorted(names)[:MAX_SHOWN])}{rest}"]
