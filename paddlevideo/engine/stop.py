"""Stop signals: SIGTERM, SIGINT and SIGHUP end a run at the same step on all ranks, state saved."""

import contextlib
import os
import signal

from paddlevideo import dist

# A closed terminal or a lost connection; Windows has no such signal.
HANGUP = signal.Signals.__members__.get("SIGHUP")
# Paddle's launcher sets this variable for the ranks that it starts.
LAUNCHED = "PADDLE_BACKUP_ENV_PATH"


class StopSignal:
    """Turns stop signals into a request that all ranks grant at the same step.

    SIGHUP stays ignored where it was, as after `nohup`. The launcher starts each rank in a session
    of its own, which a closed terminal does not reach; so the end of the launcher is a request,
    too.

    Args:
        interval: steps between two exchanges of the request among ranks.
    """

    def __init__(self, interval: int):
        self.interval, self.asked, self.seen = interval, False, False
        self._launcher = os.getppid() if LAUNCHED in os.environ else None

    def __enter__(self):
        self._old = {}
        numbers = [signal.SIGTERM, signal.SIGINT]
        if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:
            numbers.append(HANGUP)
        with contextlib.suppress(ValueError):  # signals can only be handled in the main thread
            for number in numbers:
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
        if self._launcher is not None and os.getppid() != self._launcher:
            self.asked = True
        if dist.world_size() == 1:
            self.seen = self.asked
        elif step % self.interval == 0:
            self.seen = any(dist.gather(self.asked))
        return self.seen
