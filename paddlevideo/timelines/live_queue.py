"""The queue between the reader of a live source and the network: the oldest frames make room."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from paddlevideo.timelines.frames import Audio, Frame, Gap, Item


class Arrived(NamedTuple):
    """An item, and when the reader had it (seconds of the queue's clock)."""

    item: Item
    arrival: float


class DroppingQueue:
    """Frames and audio in the order in which they were put, bounded in time and in bytes.

    Where there is no room, the oldest frames and their audio are dropped and counted; gaps never.
    Any number of threads may put and get.

    Args:
        max_seconds: of the timeline, between the oldest and the newest frame.
        max_bytes: of all frames and audio. One item always fits.
        clock: seconds that only rise.

    Attributes:
        dropped: number of frames that made room for others.
    """

    def __init__(
        self,
        max_seconds: float = 0.5,
        max_bytes: int = 256 << 20,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._max_seconds, self._max_bytes, self._clock = max_seconds, max_bytes, clock
        self._items: deque[Arrived] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def __len__(self):
        return len(self._items)

    def put(self, item: Item, wait: float = 0.0) -> None:
        """Append an item.

        Args:
            wait: how long to wait for room before the oldest frames are dropped (seconds).
        """
        with self._changed:
            if wait > 0:
                self._changed.wait_for(lambda: self._closed or self._fits(item), wait)
            while self._items and not self._fits(item):
                if not self._drop_oldest():
                    break
            self._items.append(Arrived(item, self._clock()))
            self._bytes += num_bytes(item)
            self._changed.notify_all()

    def get(self, timeout: float) -> Arrived | None:
        """Remove and return the oldest item; None if there is none for `timeout` seconds, or the
        queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            if not self._items:
                return None
            arrived = self._items.popleft()
            self._bytes -= num_bytes(arrived.item)
            self._changed.notify_all()
            return arrived

    def close(self) -> None:
        """End all waiting; items that are in the queue can still be removed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._items

    def _fits(self, item: Item) -> bool:
        if isinstance(item, Gap):
            return True
        oldest = next((a.item.time for a in self._items if not isinstance(a.item, Gap)), item.time)
        is_short = item.time - oldest <= self._max_seconds
        return is_short and self._bytes + num_bytes(item) <= self._max_bytes

    def _drop_oldest(self) -> bool:
        """Drop the oldest frame or audio; returns whether there was one."""
        for number, arrived in enumerate(self._items):
            if not isinstance(arrived.item, Gap):
                del self._items[number]
                self._bytes -= num_bytes(arrived.item)
                self.dropped += isinstance(arrived.item, Frame)
                return True
        return False


def num_bytes(item: Item) -> int:
    """The memory of an item's array."""
    if isinstance(item, Frame):
        return item.image.nbytes
    return item.samples.nbytes if isinstance(item, Audio) else 0
