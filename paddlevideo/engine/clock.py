"""The clock of an epoch: seconds per step and per wait for data."""

import time
from collections import deque


class Clock:
    """Seconds per step and per wait for data, over the last steps and over the epoch.

    Args:
        steps_left: steps until the end of the run, for the estimated time.
        window: how many of the last steps count as "last".
    """

    def __init__(self, steps_left: int, window: int = 50):
        self.steps_left = steps_left
        self.sizes: deque[int] = deque(maxlen=window)
        self.steps: deque[float] = deque(maxlen=window)
        self.waits: deque[float] = deque(maxlen=window)
        self.total = self.total_wait = 0.0
        self.count = self.clips = 0
        self.mark = time.perf_counter()
        self.wait = 0.0

    def loaded(self) -> None:
        self.wait = time.perf_counter() - self.mark

    def stepped(self, clips: int) -> None:
        """Record that a step on `clips` clips is done."""
        now = time.perf_counter()
        cost, self.mark = now - self.mark, now
        self.steps.append(cost)
        self.waits.append(self.wait)
        self.sizes.append(clips)
        self.clips += clips
        self.total, self.total_wait, self.count = (
            self.total + cost,
            self.total_wait + self.wait,
            self.count + 1,
        )
        self.steps_left -= 1

    @property
    def cost(self) -> float:
        return sum(self.steps) / len(self.steps)

    @property
    def speed(self) -> float:
        """Clips per second of the last steps."""
        return sum(self.sizes) / sum(self.steps)

    @property
    def eta(self) -> str:
        seconds = int(self.cost * self.steps_left)
        return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"
