"""Batches on their way to a GPU, and results on their way back, so that the GPU never waits.

A copy from ordinary memory makes the host wait until the GPU has done all its work. A copy from
pinned memory does not: it is queued behind that work, and meanwhile the host loads the next batch.
On a CPU nothing of this happens.
"""

import collections
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import paddle

from paddlevideo.engine.amp import on_gpu

T = TypeVar("T")


class Upload:
    """Makes tensors of arrays, on the current device.

    Pinned memory must not be used again before its copy is done, so it is held until the GPU
    reports that. At most `ahead` batches are on their way.
    """

    def __init__(self, ahead: int = 2):
        self.ahead = ahead
        self._copies: collections.deque[tuple[Any, list[paddle.Tensor]]] = collections.deque()
        self._pinned: list[paddle.Tensor] = []

    def __call__(self, array: np.ndarray) -> paddle.Tensor:
        """A tensor with the values of an array."""
        if not on_gpu():
            return paddle.to_tensor(array)
        number = int(paddle.get_device().partition(":")[2] or 0)
        pinned = paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())
        self._pinned.append(pinned)
        return pinned.cuda(number, blocking=False)

    def queued(self) -> None:
        """Call this after the tensors of a batch: its pinned memory is freed once it is copied."""
        if not self._pinned:
            return
        event: Any = paddle.device.cuda.Event()
        event.record()  # of the current stream
        self._copies.append((event, self._pinned))
        self._pinned = []
        while self._copies and (len(self._copies) > self.ahead or self._copies[0][0].query()):
            event, _ = self._copies.popleft()
            event.synchronize()


def one_behind(results: Iterable[T]) -> Iterator[T]:
    """Each result after the work for the next one was queued; on a CPU immediately.

    A result is read from the GPU when this yields it, and the GPU then has the next batch to do.
    """
    waiting: collections.deque[T] = collections.deque()
    for result in results:
        waiting.append(result)
        while len(waiting) > on_gpu():
            yield waiting.popleft()
    yield from waiting
