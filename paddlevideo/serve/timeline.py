"""The request for a timeline: segments are sent as they close, while the file is decoded."""

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddlevideo.files import json_text
from paddlevideo.log import logger
from paddlevideo.serve.answers import MAX_TOPK, integer, model_name, number
from paddlevideo.serve.decoder import TimelineJob
from paddlevideo.serve.errors import RequestError
from paddlevideo.serve.receive import FORM, Body, Disconnected, media_type, receive_form
from paddlevideo.serve.waiting import while_connected
from paddlevideo.serve.workers import WorkerError
from paddlevideo.timelines.segments import MIN_SCORE, merge
from paddlevideo.timelines.windows import TimelineModel, Window

if TYPE_CHECKING:
    from paddlevideo.serve.service import Service

WINDOW, STRIDE = 2.0, 1.0  # seconds, by default
LONGEST_WINDOW, SHORTEST_STRIDE = 600.0, 0.04  # seconds
STOP_SECONDS = 0.5  # until a thread that waits for its client notices that nobody does any more
MAX_LINES = 100  # that wait for a client that reads slowly; decoding waits, too


@dataclass(frozen=True)
class TimelineFields:
    """The options of a request for a timeline; see `TimelineModel` and `merge`."""

    model: str
    window: float
    stride: float
    min_score: float
    min_duration: float
    topk: int

    @classmethod
    def of(cls, fields: Mapping[str, str], models: Mapping[str, Any]) -> "TimelineFields":
        """The options of the fields of a request.

        Raises:
            RequestError: a value is not what its field takes.
        """
        window = number(fields, "window", SHORTEST_STRIDE, LONGEST_WINDOW, WINDOW)
        return cls(
            model_name(fields, models),
            window,
            number(fields, "stride", SHORTEST_STRIDE, LONGEST_WINDOW, min(STRIDE, window)),
            number(fields, "min_score", 0.0, 1.0, MIN_SCORE),
            number(fields, "min_duration", 0.0, 1e6, 0.0),
            integer(fields, "topk", 1, MAX_TOPK) or 1,
        )


class Stopped(Exception):
    """Nobody waits for the rest of a timeline."""


class TimelineAnswer:
    """Answers one request, as an ASGI application.

    Args:
        content_type: of the request.
        body: of the request.
    """

    def __init__(self, service: "Service", content_type: str, body: Body):
        self._service, self._content_type, self._body = service, content_type, body
        self._started = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Receive the file, and send the lines."""
        service = self._service
        try:
            with service.admitted(timeline=True), service.folder.file() as path:
                if media_type(self._content_type) != FORM:
                    raise RequestError(415, "send multipart/form-data with a part named file")
                upload = await receive_form(self._content_type, self._body, path)
                service.check_size(upload)
                fields = TimelineFields.of(upload.fields, service.models)
                if upload.path is None:
                    raise RequestError(422, "there is no video; send it as the part named file")
                job = TimelineJob(fields.model, str(upload.path))
                await while_connected(self._send_lines(job, fields, send), receive)
        except Disconnected:
            return
        except (RequestError, OSError) as error:
            if not self._started:
                await self._body.drain()
                raise
            logger.info(f"a timeline ended early: {error}")
            reason = error.reason if isinstance(error, RequestError) else "the service failed"
            await self._send(send, {"error": reason})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_lines(self, job: TimelineJob, fields: TimelineFields, send: Any) -> None:
        """Send a line per segment, and the last line.

        Raises:
            RequestError: the file cannot be decoded.
        """
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        loop, stop = asyncio.get_running_loop(), threading.Event()
        room = threading.Semaphore(MAX_LINES)

        def put(line: dict[str, Any]) -> None:
            while not room.acquire(timeout=STOP_SECONDS):
                if stop.is_set():
                    raise Stopped()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(lines.put_nowait, line)

        work = loop.run_in_executor(
            self._service.timeline_threads, self._run, job, fields, put, stop
        )
        following = asyncio.ensure_future(lines.get())
        try:
            while not (work.done() and lines.empty() and not following.done()):
                await asyncio.wait((work, following), return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    room.release()
                    await self._send(send, following.result())
                    following = asyncio.ensure_future(lines.get())
                    await asyncio.sleep(0)
            work.result()
        finally:
            stop.set()
            following.cancel()
            work.cancel()  # it may wait for a thread

    async def _send(self, send: Any, line: dict[str, Any]) -> None:
        """Send a line; an empty one sends the head of the response alone."""
        if not self._started:
            self._started = True
            headers = [(b"content-type", b"application/x-ndjson; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not line:
            return
        data = json_text(line).encode() + b"\n"
        try:
            async with asyncio.timeout(self._service.settings.limits.timeout):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise Disconnected() from None  # it reads nothing

    def _run(self, job: TimelineJob, fields: TimelineFields, put: Any, stop: Any) -> None:
        """Decode in a process, and score; runs in a thread.

        Raises:
            RequestError: the file cannot be decoded.
        """
        service, count, end = self._service, 0, 0.0
        predictor, timeout = service.models[fields.model].predictor, service.settings.limits.timeout
        options = (fields.min_score, fields.min_duration, fields.topk)

        def noted(windows: Iterable[Window]) -> Iterator[Window]:
            nonlocal end
            for window in windows:
                end = max(end, window.end)
                yield window

        try:
            with (
                service.timeline_workers.lend(timeout) as worker,
                closing(worker.replies(job, timeout)) as replies,
            ):
                opened = next(replies)
                source = FrameSource(replies, put, stop)
                model = TimelineModel(predictor, fields.window, fields.stride)
                # Closed before the replies, which its thread reads.
                scored: Any = model.windows(
                    source, fps=opened.fps or None, constant_rate=opened.constant_rate
                )
                with closing(scored) as windows:
                    segments = merge(noted(windows), model.labels, *options, model.multi_label)
                    for segment in segments:
                        put(segment.json)
                        count += 1
                if source.error is not None:
                    raise source.error
        except WorkerError as error:
            raise service.refused(error, job.path) from error
        except ValueError as error:
            raise RequestError(422, str(error)) from error
        except Stopped:
            return
        put({"done": True, "duration": round(end, 3), "segments": count})


class FrameSource:
    """The frames and the audio of a file, until nobody waits for them any more.

    Attributes:
        error: why they end early, so that what came before still becomes segments.
    """

    def __init__(self, replies: Iterator[Any], put: Any, stop: Any):
        self._replies, self._put, self._stop = replies, put, stop
        self.error: WorkerError | None = None

    def __iter__(self) -> Iterator[Any]:
        """
        Raises:
            WorkerError: nothing of the file can be decoded.
            Stopped: nobody waits.
        """
        count = 0
        try:
            for item in self._replies:
                if self._stop.is_set():
                    raise Stopped()
                if count == 0:
                    self._put({})  # it can be decoded, so the response begins
                count += 1
                yield item
        except WorkerError as error:
            if count == 0:
                raise
            self.error = error
