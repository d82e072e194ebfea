"""The numbers of training steps: they stay on the device until they are read, all together.

To read a number, the host waits until the device has computed it, and the device then waits for the
next step. So a GPU is read every `log_interval` steps; a CPU, which nothing waits for, every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import paddle


@dataclass(frozen=True)
class StepNumbers:
    """The numbers of one step, read.

    Args:
        step: from 0.
        clips: of its batch on this rank.
        indices: of its records.
        losses: the loss and the other numbers, means over the clips.
        norm: of all gradients, squared; None where the step does not check them.
    """

    step: int
    clips: int
    indices: list[int]
    losses: dict[str, float]
    norm: float | None

    @property
    def finite(self) -> bool:
        """Whether the loss and the gradients are."""
        return bool(np.isfinite(self.losses["loss"]) and np.isfinite(self.norm or 0.0))


class WaitingNumbers:
    """The numbers of the steps since the last reading, on the device.

    Args:
        interval: steps between two readings.
    """

    def __init__(self, interval: int):
        self.interval = interval
        self._steps: list[StepNumbers] = []  # without values
        self._tensors: list[paddle.Tensor] = []

    def due(self, step: int) -> bool:
        """Whether the numbers are read after this step."""
        return step % self.interval == 0

    def add(
        self,
        step: int,
        indices: list[int],
        losses: Mapping[str, paddle.Tensor],
        norm: paddle.Tensor | None,
    ) -> None:
        """Add a step; this waits for nothing.

        Args:
            indices: of its records, one for each clip.
            losses: one number each.
            norm: of all gradients, squared.
        """
        names = dict.fromkeys(losses, 0.0)
        self._steps.append(
            StepNumbers(step, len(indices), indices, names, None if norm is None else 0.0)
        )
        # Without `detach` a loss would keep the activations of its step.
        self._tensors += [value.detach() for value in (*losses.values(), norm) if value is not None]

    def read(self) -> list[StepNumbers]:
        """Wait for the numbers of all steps that were added, and forget them."""
        steps, self._steps = self._steps, []
        tensors, self._tensors = self._tensors, []
        if not tensors:
            return []
        # One tensor, one copy. Each float32 is a float64 exactly.
        together = paddle.concat([t.reshape([1]).astype("float64") for t in tensors])
        values = iter(together.numpy().tolist())
        found = []
        for one in steps:
            losses = {name: next(values) for name in one.losses}
            norm = None if one.norm is None else next(values)
            found.append(StepNumbers(one.step, one.clips, one.indices, losses, norm))
        return found
