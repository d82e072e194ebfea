"""Stop signals: SIGTERM and SIGINT end a run at the same step on all ranks, state saved."""

import contextlib
import signal

from paddlevideo import dist


class StopSignal:
    """Turns SIGTERM and SIGINT into a request that all ranks grant at the same step.

    Args:
        interval: steps between two exchanges of the request among ranks.
    """

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
        """Whether to stop after this step.

        Several ranks exchange requests only every `interval` steps. No rank stops inside a gradient
        accumulation.
        """
        if not at_boundary:
            return False
        if dist.world_size() == 1:
            self.seen = self.asked
        elif step % self.interval == 0:
            self.seen = any(dist.gather(self.asked))
        return self.seen
