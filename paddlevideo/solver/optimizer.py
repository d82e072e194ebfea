"""Optimizers as a config names them, and their state under the model's names instead of Paddle's automatic ones.

An optimizer here is a frozen recipe; `build` makes the `paddle.optimizer`. The engine sets the learning rate before each step
from the recipe's rule, with `set_lr`; factors on single parameters (`ParamAttr(learning_rate=...)`) multiply it.
A regularizer on a single parameter (`ParamAttr(regularizer=...)`) replaces the optimizer's weight decay for it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import paddle
from paddle import nn
from paddle.regularizer import L1Decay, L2Decay

from paddlevideo.config.registry import Kind, register

Rule = Annotated[Callable[[float], float], Kind("lr")]
Regularizer = Annotated[L1Decay | L2Decay, Kind("regularizer")]
GradClip = Annotated[
    nn.ClipGradByGlobalNorm | nn.ClipGradByNorm | nn.ClipGradByValue, Kind("grad_clip")
]

# `model.named_parameters()`, or `model.parameters()` where no option goes by name.
Parameters = Iterable[tuple[str, paddle.Tensor]] | Iterable[paddle.Tensor]


@register("regularizer", "L1")
def l1(value: float) -> L1Decay:
    """value * sum(|w|) joins the loss."""
    return L1Decay(value)


@register("regularizer", "L2")
def l2(value: float) -> L2Decay:
    """value / 2 * sum(w^2) joins the loss: the gradient grows by value * w."""
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
    """Cut each element of the gradients to [-value, value]."""
    return nn.ClipGradByValue(value)


@register("optimizer")
@dataclass(frozen=True)
class Momentum:
    """Stochastic gradient descent with momentum; the weight decay is part of the gradient.

    Args:
        learning_rate: rule of the fractional epoch.
        momentum: share of the velocity that a step keeps.
        use_nesterov: step along the velocity as it will be.
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
        """The optimizer over `parameters`; `multi_precision` keeps float32 copies of half-precision ones."""
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
    """Plain stochastic gradient descent.

    Args:
        learning_rate: rule of the fractional epoch.
        weight_decay: a number means L2.
        grad_clip: applied before the weight decay.
    """

    learning_rate: Rule
    weight_decay: float | Regularizer | None = None
    grad_clip: GradClip | None = None

    def build(
        self, parameters: Parameters, multi_precision: bool = False
    ) -> paddle.optimizer.Optimizer:
        """The optimizer over `parameters`; `multi_precision` keeps float32 copies of half-precision ones."""
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
    """Adam (Kingma and Ba 2015); the weight decay is part of the gradient.

    Args:
        learning_rate: rule of the fractional epoch.
        beta1, beta2: decay of the two moments.
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
        """The optimizer over `parameters`; `multi_precision` keeps float32 copies of half-precision ones."""
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
        learning_rate: rule of the fractional epoch.
        beta1, beta2: decay of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: a step takes learning_rate * weight_decay * w off, except from parameters with a regularizer of their own.
        no_weight_decay_name: words, separated by spaces; a parameter whose name in the model holds one is not decayed.
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
        """The optimizer over `parameters`; `multi_precision` keeps float32 copies of half-precision ones.

        Raises:
            ValueError: names are needed and were not given, or a word of `no_weight_decay_name` is in no name.
        """
        named = _named(parameters)
        free = {p.name for _, p in named if p.regularizer is not None} | self._free_by_name(named)
        return paddle.optimizer.AdamW(
            learning_rate=float(self.learning_rate(0.0)),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            parameters=[p for _, p in named],
            weight_decay=self.weight_decay,
            apply_decay_param_fun=lambda name: name not in free,
            grad_clip=self.grad_clip,
            multi_precision=multi_precision,
        )

    def _free_by_name(self, named) -> set[str]:
        words = (self.no_weight_decay_name or "").split()
        if words and any(name is None for name, _ in named):
            raise ValueError(
                "no_weight_decay_name needs the model's names; build from model.named_parameters()"
            )
        for word in words:
            if not any(word in name for name, _ in named):
                raise ValueError(
                    f"OPTIMIZER.no_weight_decay_name: no parameter has {word!r} in its name"
                )
        return {p.name for name, p in named if any(word in name for word in words)}


def _named(parameters: Parameters) -> list[tuple[str | None, paddle.Tensor]]:
    return [item if isinstance(item, tuple) else (None, item) for item in parameters]


def optimizer_state(
    optimizer: paddle.optimizer.Optimizer, model: nn.Layer
) -> dict[str, np.ndarray]:
    """What the optimizer remembers, as `<parameter in the model>.<slot>`: `head.fc.weight.velocity`, `.moment1`, `.moment2`,
    `.beta1_pow_acc`, `.beta2_pow_acc`, `.master_weight`. Complete before the first step too (zeros). bfloat16 comes as uint16.
    """
    return {name: np.array(tensor.numpy()) for name, tensor in _slots(optimizer, model).items()}


def restore_optimizer_state(
    optimizer: paddle.optimizer.Optimizer, model: nn.Layer, state: Mapping[str, np.ndarray]
) -> None:
    """Put back what `optimizer_state` gave, bit for bit, whatever Paddle calls the parameters in this process.

    Works before the first step as well as after it.

    Raises:
        ValueError: entries are missing, unknown or of another shape or type; nothing was changed.
    """
    slots = _slots(optimizer, model)
    problems = _listed("lacks", [name for name in slots if name not in state])
    problems += _listed("has unknown", [name for name in state if name not in slots])
    for name in slots.keys() & state.keys():
        want, came = slots[name].numpy(), np.asarray(state[name])
        if (want.shape, want.dtype) != (came.shape, came.dtype):
            problems.append(
                f"has {name} as {came.dtype} {list(came.shape)}, not {want.dtype} {list(want.shape)}"
            )
    if problems:
        raise ValueError(
            "the optimizer's state "
            + "; ".join(problems)
            + ". Resume with the model and OPTIMIZER that saved it"
        )
    for name, tensor in slots.items():
        tensor.set_value(np.asarray(state[name]))


def _slots(optimizer, model) -> dict[str, paddle.Tensor]:
    """The live tensors of the optimizer's state by name, made now where Paddle would wait for the first gradient."""
    names = {p.name: name for name, p in model.named_parameters()}
    parameters = [p for p in optimizer._parameter_list if not p.stop_gradient]
    foreign = [p.name for p in parameters if p.name not in names]
    if foreign:
        raise ValueError(
            f"the optimizer holds {len(foreign)} parameters that are not in the model: {', '.join(foreign[:3])}"
        )
    # Paddle has no public way in: its own state_dict names everything after counters of the process.
    optimizer._create_accumulators(paddle.static.default_main_program().global_block(), parameters)
    slots = {}
    masters = getattr(optimizer, "_master_weights", {})
    for owner, tensor in masters.items():
        slots[f"{names[owner]}.master_weight"] = tensor
        names[tensor.name] = names[
            owner
        ]  # slots of a half-precision parameter belong to its float32 copy
    for slot, tensors in optimizer._accumulators.items():
        slots |= {f"{names[owner]}.{slot}": tensor for owner, tensor in tensors.items()}
    return slots


def _listed(verb: str, names: list[str]) -> list[str]:
    if not names:
        return []
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{verb} {', '.join(sorted(names)[:5])}{rest}"]
