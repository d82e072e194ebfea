"""Learning-rate rules: pure functions of the fractional epoch (iterations done / iterations per epoch).

A rule keeps no state, so a resumed run needs none. Every rule has two more arguments:

- `iter_step`: True follows the fractional epoch and changes at every iteration; False holds the epoch's first value.
  All lengths count epochs in both cases.
- `reference_batch_size`: clips per optimizer step, over all devices, that the numbers were chosen for. Where it is given the
  engine multiplies the rule by (real global batch / reference batch); None leaves the rule as it is written.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from paddlevideo.config.registry import register


def _at(epoch: float, iter_step: bool) -> float:
    if epoch < 0:
        raise ValueError(f"a learning rate was asked for epoch {epoch}; epochs start at 0")
    return epoch if iter_step else float(math.floor(epoch))


def _warm_up(epoch: float, warmup_epochs: float, start: float, end: float) -> float:
    return start + epoch * ((end - start) / warmup_epochs)


def _rising(name: str, values: Sequence[float]) -> None:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"{name} must rise, and is {list(values)}")


def _not_below(minimum: float, **values: float) -> None:
    for name, value in values.items():
        if value < minimum:
            raise ValueError(f"{name} is {value}; it must be at least {minimum}")


@register("lr")
@dataclass(frozen=True)
class CustomWarmupCosineDecay:
    """Half a cosine from `cosine_base_lr` to 0 over `max_epoch` epochs; a line meets it after `warmup_epochs`.

    The cosine runs from epoch 0, also under the warm-up. Source: PySlowFast's "cosine" policy.

    Args:
        max_epoch: where the cosine reaches 0; later epochs stay there.
        warmup_epochs: length of the line, 0 for none.
        warmup_start_lr: learning rate at epoch 0.
        cosine_base_lr: height of the cosine.
    """

    max_epoch: int
    warmup_epochs: float
    warmup_start_lr: float
    cosine_base_lr: float
    iter_step: bool = False
    reference_batch_size: int | None = None

    def __post_init__(self):
        _not_below(1, max_epoch=self.max_epoch)
        _not_below(0, warmup_epochs=self.warmup_epochs, warmup_start_lr=self.warmup_start_lr)
        _not_below(0, cosine_base_lr=self.cosine_base_lr)

    def __call__(self, epoch: float) -> float:
        epoch = _at(epoch, self.iter_step)
        if epoch < self.warmup_epochs:
            return _warm_up(
                epoch, self.warmup_epochs, self.warmup_start_lr, self._cosine(self.warmup_epochs)
            )
        return self._cosine(epoch)

    def _cosine(self, epoch: float) -> float:
        return (
            self.cosine_base_lr
            / 2
            * (1 + math.cos(math.pi * min(epoch, self.max_epoch) / self.max_epoch))
        )


@register("lr")
@dataclass(frozen=True)
class CustomWarmupPiecewiseDecay:
    """`lrs[k] * step_base_lr` from epoch `steps[k]` on; a line from `warmup_start_lr` comes first.

    Args:
        warmup_start_lr: learning rate at epoch 0.
        warmup_epochs: length of the line, 0 for none.
        step_base_lr: what `lrs` are factors of.
        lrs: a factor per step; PaddleVideo's files list more than they have steps, which are never reached.
        steps: epoch at which each factor begins, the first 0.
        max_epoch: length of the schedule; the last factor holds beyond it.
        gamma: decay per step from which a multigrid plan computes its own `lrs`; `lrs` rule here.
    """

    warmup_start_lr: float
    warmup_epochs: float
    step_base_lr: float
    lrs: list[float]
    steps: list[float]
    max_epoch: int
    gamma: float = 0.1
    iter_step: bool = False
    reference_batch_size: int | None = None

    def __post_init__(self):
        if len(self.steps) > len(self.lrs) or not self.steps or self.steps[0] != 0:
            raise ValueError(
                f"steps {self.steps} must begin with 0 and have a factor each in lrs {self.lrs}"
            )
        _rising("steps", self.steps)
        _not_below(self.steps[-1], max_epoch=self.max_epoch)
        _not_below(0, warmup_epochs=self.warmup_epochs, warmup_start_lr=self.warmup_start_lr)

    def __call__(self, epoch: float) -> float:
        epoch = _at(epoch, self.iter_step)
        if epoch < self.warmup_epochs:
            return _warm_up(
                epoch, self.warmup_epochs, self.warmup_start_lr, self._step(self.warmup_epochs)
            )
        return self._step(epoch)

    def _step(self, epoch: float) -> float:
        return self.lrs[bisect_right(self.steps, epoch) - 1] * self.step_base_lr


@register("lr")
@dataclass(frozen=True)
class PiecewiseDecay:
    """`values[k]` between `boundaries[k-1]` and `boundaries[k]`; changes at the beginning of an epoch.

    Args:
        boundaries: epochs at which the next value begins.
        values: learning rates, one more than boundaries.
    """

    boundaries: list[float]
    values: list[float]
    iter_step: bool = False
    reference_batch_size: int | None = None

    def __post_init__(self):
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, there are {len(self.values)}"
            )
        _rising("boundaries", self.boundaries)

    def __call__(self, epoch: float) -> float:
        return self.values[bisect_right(self.boundaries, _at(epoch, self.iter_step))]


@register("lr")
@dataclass(frozen=True)
class CosineAnnealingDecay:
    """Half a cosine from `learning_rate` to `eta_min` over `T_max` epochs, then `eta_min`.

    Args:
        learning_rate: at epoch 0.
        T_max: length in epochs.
        eta_min: at the end.
    """

    learning_rate: float
    T_max: int
    eta_min: float = 0.0
    iter_step: bool = False
    reference_batch_size: int | None = None

    def __post_init__(self):
        _not_below(1, T_max=self.T_max)

    def __call__(self, epoch: float) -> float:
        epoch = min(_at(epoch, self.iter_step), self.T_max)
        return self.eta_min + (self.learning_rate - self.eta_min) / 2 * (
            1 + math.cos(math.pi * epoch / self.T_max)
        )


@register("lr")
@dataclass(frozen=True)
class ExampleDecay:
    """`learning_rate * gamma^k` once k * `decay_examples` examples have been seen, whatever batch and ranks make of an epoch.

    Source: NeXtVLAD, 2e-4 * 0.8 every 2,000,000 examples, which may be in the middle of an epoch: `iter_step` True.

    Args:
        learning_rate: at the beginning.
        decay_examples: examples from one decay to the next.
        gamma: what a decay multiplies by.
        max_decays: the rate stays where it is after so many; None for no end. PaddleCV's release stops at 55.
        examples_per_epoch: examples that the training really uses in an epoch, over all ranks. The engine supplies it.
    """

    learning_rate: float
    decay_examples: int
    gamma: float = 0.8
    max_decays: int | None = None
    examples_per_epoch: int | None = None
    iter_step: bool = False
    reference_batch_size: int | None = None

    def __post_init__(self):
        _not_below(1, decay_examples=self.decay_examples)
        if self.max_decays is not None:
            _not_below(0, max_decays=self.max_decays)
        if self.examples_per_epoch is not None:
            _not_below(1, examples_per_epoch=self.examples_per_epoch)

    def __call__(self, epoch: float) -> float:
        epoch = _at(epoch, self.iter_step)
        if self.examples_per_epoch is None:
            if epoch == 0:
                return self.learning_rate
            raise ValueError("ExampleDecay counts examples and was not told examples_per_epoch")
        # To the nearest: 1/3 of an epoch of 300 is 100 examples, and must not come out as 99.
        decays = round(epoch * self.examples_per_epoch) // self.decay_examples
        return self.learning_rate * self.gamma ** (
            decays if self.max_decays is None else min(decays, self.max_decays)
        )


@register("lr")
@dataclass(frozen=True)
class ConstantDecay:
    """One learning rate for the whole run.

    Args:
        learning_rate: the value.
    """

    learning_rate: float
    iter_step: bool = False
    reference_batch_size: int | None = None

    def __call__(self, epoch: float) -> float:
        return self.learning_rate
