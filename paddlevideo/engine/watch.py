"""What a training run says while it goes, and what it does when things go wrong."""

import contextlib
import json
import signal
import time
from collections import deque
from pathlib import Path
from typing import NoReturn

from paddlevideo import dist
from paddlevideo.files import atomic_write
from paddlevideo.sample import Arrays
from paddlevideo.weights import write_arrays


class NotFinite(ValueError):
    """The loss became NaN or infinite."""


class Clock:
    """Seconds per step and per wait for data, over the last steps and over the epoch."""

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
        """A step on so many clips is done."""
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


def keep_evidence(
    folder: Path, facts: dict, files: list[str], weights: Arrays, batch: Arrays
) -> NoReturn:
    """Write the batch and the weights that gave a loss which is not finite, and stop.

    Args:
        facts: epoch and step (from 1 and 0), loss, lr.

    Raises:
        NotFinite: always.
    """
    stem = folder / f"not_finite_epoch{facts['epoch']}_step{facts['step']}_rank{dist.rank()}"
    with atomic_write(stem.with_suffix(".json")) as temporary:
        content = {**facts, "loss": str(facts["loss"]), "files": files}
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    write_arrays(stem.with_suffix(".pdparams"), weights)
    write_arrays(stem.with_suffix(".safetensors"), batch)
    raise NotFinite(
        f"the loss is {facts['loss']} at epoch {facts['epoch']} step {facts['step']}, lr {facts['lr']:g}. "
        f"Checkpoints are kept; batch and weights are in {stem}.*; a lower learning rate or grad_clip is the usual cure. "
        f"Files of the batch: {', '.join(files)}"
    )


class StopSignal:
    """Turns SIGTERM and SIGINT into a request that all ranks grant at the same step."""

    def __init__(self, interval: int):
        self.interval, self.asked, self.seen = interval, False, False

    def __enter__(self):
        self._old = {}
        with contextlib.suppress(ValueError):  # signals can only be handled in the main thread
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def agreed(self, step: int, at_boundary: bool) -> bool:
        """Whether to stop after this step. Many ranks ask each other only every `interval` steps, and none stops inside a
        gradient accumulation."""
        if not at_boundary:
            return False
        if dist.world_size() == 1:
            self.seen = self.asked
        elif step % self.interval == 0:
            self.seen = any(dist.gather(self.asked))
        return self.seen
