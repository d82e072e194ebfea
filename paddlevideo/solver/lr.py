"""Learning-rate rules: pure functions of the fractional epoch.

The fractional epoch is the number of iterations done divided by the iterations of an epoch. A rule
has no state, so a resumed run restores none.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Self

from paddlevideo.config.registry import Follows, register
from paddlevideo.config.schema import Count

Epochs = Annotated[int, Follows("epochs")]


@dataclass(frozen=True, kw_only=True)
class LearningRateRule:
    """Base of the rules: `rule(epoch)` is the learning rate at a fractional epoch, from 0.

    Args:
        iter_step: True follows the fractional epoch and changes at every iteration; False keeps
            the value of the beginning of the epoch. In both cases all lengths count epochs.
        reference_batch_size: clips per optimizer step, over all devices, that the rates are
            written for. The engine multiplies the rule by (actual global batch / reference
            batch); None leaves it unscaled.
    """

    iter_step: bool = False
    reference_batch_size: Count | None = None

    def __call__(self, epoch: float) -> float:
        raise NotImplementedError

    @property
    def num_epochs(self) -> int | None:
        """The epochs that a run with this rule must have, None if any number will do."""
        return None

    @property
    def lengths(self) -> dict[str, int]:
        """The arguments that are the length of the schedule (epochs), by name."""
        return {}

    @property
    def changes(self) -> dict[str, float]:
        """The epoch at which each other argument has its last effect, by name."""
        return {}

    def with_base_rate(self, rate: float) -> dict[str, Any]:
        """The arguments that make `rate` the base rate; the schedule keeps its shape.

        Raises:
            ValueError: the rule has no base rate.
        """
        raise ValueError(f"{type(self).__name__} has no base rate; set its arguments with -o")

    def stretched(self, factor: float) -> Self:
        """The same schedule over `factor` times the epochs; the warm-up keeps its length."""
        return self

    @property
    def needs_epoch_size(self) -> bool:
        """Whether the rule has no rates after epoch 0 until `with_epoch_size` is called."""
        return False

    def with_epoch_size(self, num_examples: int) -> Self:
        """The rule for epochs of `num_examples` training examples, over all ranks."""
        return self

    def _schedule_epoch(self, epoch: float) -> float:
        """The epoch at which the schedule is evaluated."""
        if epoch < 0:
            raise ValueError(f"learning rate requested at epoch {epoch}; epochs start at 0")
        return epoch if self.iter_step else float(math.floor(epoch))


@register("lr")
@dataclass(frozen=True)
class CustomWarmupCosineDecay(LearningRateRule):
    """Half a cosine from `cosine_base_lr` to 0 over `max_epoch` epochs, after a linear warm-up.

    The cosine starts at epoch 0, not at the end of the warm-up; the warm-up ends on the cosine.
    Source: PySlowFast's "cosine" policy.

    Args:
        max_epoch: epoch at which the cosine reaches 0; later epochs stay at 0. In a config the
            default is `epochs`.
        warmup_epochs: length of the warm-up, 0 for none.
        warmup_start_lr: learning rate at epoch 0.
        cosine_base_lr: value of the cosine at epoch 0.
    """

    max_epoch: Epochs
    warmup_epochs: float
    warmup_start_lr: float
    cosine_base_lr: float

    def __post_init__(self):
        _check_at_least(1, max_epoch=self.max_epoch)
        _check_at_least(0, warmup_epochs=self.warmup_epochs, warmup_start_lr=self.warmup_start_lr)
        _check_at_least(0, cosine_base_lr=self.cosine_base_lr)

    def __call__(self, epoch: float) -> float:
        epoch = self._schedule_epoch(epoch)
        if epoch < self.warmup_epochs:
            end = self._cosine(self.warmup_epochs)
            return _warm_up(epoch, self.warmup_epochs, self.warmup_start_lr, end)
        return self._cosine(epoch)

    @property
    def num_epochs(self) -> int:
        return self.max_epoch

    @property
    def lengths(self) -> dict[str, int]:
        return {"max_epoch": self.max_epoch}

    @property
    def changes(self) -> dict[str, float]:
        return {"warmup_epochs": self.warmup_epochs}

    def with_base_rate(self, rate: float) -> dict[str, Any]:
        start = _scaled(self.warmup_start_lr, self.cosine_base_lr, rate)
        return {"cosine_base_lr": rate, "warmup_start_lr": start}

    def stretched(self, factor: float) -> Self:
        return replace(self, max_epoch=int(self.max_epoch * factor))

    def _cosine(self, epoch: float) -> float:
        angle = math.pi * min(epoch, self.max_epoch) / self.max_epoch
        return self.cosine_base_lr / 2 * (1 + math.cos(angle))


@register("lr")
@dataclass(frozen=True)
class CustomWarmupPiecewiseDecay(LearningRateRule):
    """`lrs[k] * step_base_lr` from epoch `steps[k]` on, after a linear warm-up.

    Args:
        warmup_start_lr: learning rate at epoch 0.
        warmup_epochs: length of the warm-up, 0 for none.
        step_base_lr: base rate that the factors in `lrs` multiply.
        lrs: one factor per step; more factors than steps, as in PaddleVideo's files, are unused.
        steps: epoch at which each factor begins; the first is 0.
        max_epoch: length of the schedule, None for that of the run; the last factor continues
            beyond it.
        gamma: decay per step from which a multigrid plan computes its own factors; unused here.
    """

    warmup_start_lr: float
    warmup_epochs: float
    step_base_lr: float
    lrs: list[float]
    steps: list[float]
    max_epoch: int | None = None
    gamma: float = 0.1

    def __post_init__(self):
        if len(self.steps) > len(self.lrs) or not self.steps or self.steps[0] != 0:
            raise ValueError(
                f"steps {self.steps} must begin with 0, and lrs {self.lrs} must have a factor "
                "for each step"
            )
        _check_increasing("steps", self.steps)
        if self.max_epoch is not None:
            _check_at_least(self.steps[-1], max_epoch=self.max_epoch)
        _check_at_least(0, warmup_epochs=self.warmup_epochs, warmup_start_lr=self.warmup_start_lr)

    def __call__(self, epoch: float) -> float:
        epoch = self._schedule_epoch(epoch)
        if epoch < self.warmup_epochs:
            end = self._step(self.warmup_epochs)
            return _warm_up(epoch, self.warmup_epochs, self.warmup_start_lr, end)
        return self._step(epoch)

    @property
    def num_epochs(self) -> int | None:
        return self.max_epoch

    @property
    def lengths(self) -> dict[str, int]:
        return {} if self.max_epoch is None else {"max_epoch": self.max_epoch}

    @property
    def changes(self) -> dict[str, float]:
        return {"warmup_epochs": self.warmup_epochs, "steps": self.steps[-1]}

    def with_base_rate(self, rate: float) -> dict[str, Any]:
        start = _scaled(self.warmup_start_lr, self.step_base_lr, rate)
        return {"step_base_lr": rate, "warmup_start_lr": start}

    def stretched(self, factor: float) -> Self:
        steps = [int(epoch * factor) for epoch in self.steps]
        length = None if self.max_epoch is None else int(self.max_epoch * factor)
        return replace(self, steps=steps, max_epoch=length)

    def _step(self, epoch: float) -> float:
        return self.lrs[bisect_right(self.steps, epoch) - 1] * self.step_base_lr


@register("lr")
@dataclass(frozen=True)
class PiecewiseDecay(LearningRateRule):
    """`values[k]` between the epochs `boundaries[k - 1]` and `boundaries[k]`.

    Args:
        boundaries: epochs at which the next value begins.
        values: learning rates, one more than boundaries.
    """

    boundaries: list[float]
    values: list[float]

    def __post_init__(self):
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, "
                f"there are {len(self.values)}"
            )
        _check_increasing("boundaries", self.boundaries)

    def __call__(self, epoch: float) -> float:
        return self.values[bisect_right(self.boundaries, self._schedule_epoch(epoch))]

    @property
    def changes(self) -> dict[str, float]:
        return {"boundaries": self.boundaries[-1]} if self.boundaries else {}

    def with_base_rate(self, rate: float) -> dict[str, Any]:
        return {"values": [_scaled(value, self.values[0], rate) for value in self.values]}

    def stretched(self, factor: float) -> Self:
        return replace(self, boundaries=[int(epoch * factor) for epoch in self.boundaries])


@register("lr")
@dataclass(frozen=True)
class CosineAnnealingDecay(LearningRateRule):
    """Half a cosine from `learning_rate` to `eta_min` over `T_max` epochs, then `eta_min`.

    Args:
        learning_rate: at epoch 0.
        T_max: length of the cosine in epochs. In a config the default is `epochs`.
        eta_min: from epoch `T_max` on.
    """

    learning_rate: float
    T_max: Epochs
    eta_min: float = 0.0

    def __post_init__(self):
        _check_at_least(1, T_max=self.T_max)

    def __call__(self, epoch: float) -> float:
        epoch = min(self._schedule_epoch(epoch), self.T_max)
        height = self.learning_rate - self.eta_min
        return self.eta_min + height / 2 * (1 + math.cos(math.pi * epoch / self.T_max))

    @property
    def lengths(self) -> dict[str, int]:
        return {"T_max": self.T_max}

    def with_base_rate(self, rate: float) -> dict[str, Any]:
        eta_min = _scaled(self.eta_min, self.learning_rate, rate)
        return (
            {"learning_rate": rate, "eta_min": eta_min} if self.eta_min else {"learning_rate": rate}
        )

    def stretched(self, factor: float) -> Self:
        return replace(self, T_max=int(self.T_max * factor))


@register("lr")
@dataclass(frozen=True)
class ExampleDecay(LearningRateRule):
    """`learning_rate * gamma^k` after k * `decay_examples` training examples.

    The number of examples counts, not the batch size or the number of ranks. Source: NeXtVLAD,
    2e-4 * 0.8 every 2,000,000 examples. With `iter_step: True` the rate also decays within an
    epoch.

    Args:
        learning_rate: initial value.
        decay_examples: examples between two decays.
        gamma: factor of one decay.
        max_decays: number of decays after which the rate stays constant, None for no limit.
            PaddleCV's release stops at 55.
        examples_per_epoch: examples that an epoch trains on, over all ranks; the engine sets it.
    """

    learning_rate: float
    decay_examples: int
    gamma: float = 0.8
    max_decays: int | None = None
    examples_per_epoch: int | None = None

    def __post_init__(self):
        _check_at_least(1, decay_examples=self.decay_examples)
        if self.max_decays is not None:
            _check_at_least(0, max_decays=self.max_decays)
        if self.examples_per_epoch is not None:
            _check_at_least(1, examples_per_epoch=self.examples_per_epoch)

    def __call__(self, epoch: float) -> float:
        epoch = self._schedule_epoch(epoch)
        if self.examples_per_epoch is None:
            if epoch == 0:
                return self.learning_rate
            raise ValueError("ExampleDecay needs examples_per_epoch for epochs after the first")
        # Rounded to the nearest integer: 1/3 of an epoch of 300 examples is 100, not 99.
        decays = round(epoch * self.examples_per_epoch) // self.decay_examples
        if self.max_decays is not None:
            decays = min(decays, self.max_decays)
        return self.learning_rate * self.gamma**decays

    def with_base_rate(self, rate: float) -> dict[str, Any]:
        return {"learning_rate": rate}

    @property
    def needs_epoch_size(self) -> bool:
        return self.examples_per_epoch is None

    def with_epoch_size(self, num_examples: int) -> Self:
        return replace(self, examples_per_epoch=num_examples)


@register("lr")
@dataclass(frozen=True)
class ConstantDecay(LearningRateRule):
    """The same learning rate for the complete run.

    Args:
        learning_rate: the value.
    """

    learning_rate: float

    def __call__(self, epoch: float) -> float:
        return self.learning_rate

    def with_base_rate(self, rate: float) -> dict[str, Any]:
        return {"learning_rate": rate}


def _scaled(value: float, base: float, new_base: float) -> float:
    """`value` in proportion to a new base, without the last digits of rounding."""
    return float(f"{value * new_base / base:.12g}") if base else value


def _warm_up(epoch: float, warmup_epochs: float, start: float, end: float) -> float:
    """Linear interpolation from `start` at epoch 0 to `end` at `warmup_epochs`."""
    return start + epoch * ((end - start) / warmup_epochs)


def _check_increasing(name: str, values: Sequence[float]) -> None:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"{name} must increase, but {name} is {list(values)}")


def _check_at_least(minimum: float, **values: float) -> None:
    for name, value in values.items():
        if value < minimum:
            raise ValueError(f"{name} is {value}; it must be at least {minimum}")
