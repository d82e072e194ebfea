"""The clock of a live timeline: time stamps of the source, which may jump, become seconds."""

JUMP_SECONDS = 10.0  # a larger step of the time stamps, without that pause, is another clock
SMALLEST_STEP = 1e-3  # seconds between two frames whose time stamps do not rise


class LiveClock:
    """Seconds of a timeline that only rise, from time stamps and arrivals.

    The first frame is at 0. Frames have the distances of their time stamps. After a new connection,
    and where the time stamps go back or jump, the timeline goes on by the time that has passed.
    Frames without time stamps are where they arrived.

    A source may send faster than frames are shown: a playlist in parts, a file that was recorded
    before. `lag` is how late the last frame arrived, compared with the earliest one.
    """

    def __init__(self):
        self._offset: float | None = None  # seconds of the timeline minus the time stamp
        self._stamp: float | None = None  # of the last frame
        self._arrival: float | None = None  # of the last frame
        self._best: float | None = None  # smallest arrival minus seconds of this connection
        self.seconds = 0.0  # of the last frame
        self.lag = 0.0

    def connect(self) -> None:
        """Expect other time stamps: those of a new connection."""
        self._offset = self._stamp = self._best = None

    def frame(self, stamp: float | None, now: float) -> float:
        """The time of the next frame (seconds).

        Args:
            stamp: its time stamp (seconds), None if it has none.
            now: when it arrived (seconds of a clock that only rises).
        """
        if self._arrival is None:
            seconds = 0.0
        elif stamp is None or self._offset is None or self._jumps(stamp, now):
            seconds = self.at(now)
        else:
            seconds = stamp + self._offset
        # A frame after audio, or one without time stamp, may be on a sum that was rounded.
        if self._arrival is not None and seconds <= self.seconds:
            seconds = self.seconds + SMALLEST_STEP
        if stamp is not None:
            self._offset, self._stamp = seconds - stamp, stamp
        self.seconds, self._arrival = seconds, now
        offset = now - seconds
        self._best = offset if self._best is None else min(self._best, offset)
        self.lag = offset - self._best
        return seconds

    def sound(self, stamp: float | None) -> float | None:
        """The time of audio next to the frames (seconds); None where it has none yet.

        It is None before the first frame of a connection, and where its time stamp is of another
        clock than that of the last frame.
        """
        if stamp is None or self._offset is None:
            return None
        seconds = stamp + self._offset
        return seconds if abs(seconds - self.seconds) <= JUMP_SECONDS else None

    def at(self, now: float) -> float:
        """The time that the timeline has reached at `now` (seconds)."""
        return self.seconds + (0.0 if self._arrival is None else max(0.0, now - self._arrival))

    def _jumps(self, stamp: float, now: float) -> bool:
        if self._stamp is None or self._arrival is None:
            return True
        step = stamp - self._stamp
        return step <= 0 or (step > JUMP_SECONDS and now - self._arrival < step / 2)
