"""Wait for work while the client does."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from paddlevideo.serve.receive import Disconnected

T = TypeVar("T")


async def while_connected(
    work: Awaitable[T], receive_more: Callable[[], Awaitable[Mapping[str, Any]]]
) -> T:
    """The result of `work`, which is cancelled as soon as the client is gone.

    Args:
        receive_more: the messages of ASGI after the body.

    Raises:
        Disconnected: the client is gone.
    """

    async def gone() -> None:
        while (await receive_more())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Disconnected()
        return working.result()
    finally:
        for task in (working, leaving):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
