"""What the service does with a request, between HTTP and the predictor."""

import asyncio
import contextlib
import math
import queue
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from paddlevideo.data.pipeline import Pipeline
from paddlevideo.log import logger
from paddlevideo.sample import Record
from paddlevideo.serve.answers import Fields, categories, details, frames
from paddlevideo.serve.batches import Scored
from paddlevideo.serve.counters import Counters
from paddlevideo.serve.decoder import Decoded, Decoder, Job
from paddlevideo.serve.errors import RequestError
from paddlevideo.serve.fetch import Fetcher
from paddlevideo.serve.folder import UploadFolder
from paddlevideo.serve.models import ServedModel
from paddlevideo.serve.receive import Body, Upload, readable_bytes, receive
from paddlevideo.serve.settings import Settings
from paddlevideo.serve.waiting import while_connected
from paddlevideo.serve.workers import (
    FileRefused,
    Setup,
    WorkerDied,
    WorkerError,
    Workers,
    WorkerTimeout,
)

LONGEST_RETRY = 60  # seconds
TIMELINE_RETRY = 5  # seconds
SMOOTHING = 0.1  # weight of the last request in the mean time of a request
STATUS = {FileRefused: 422, WorkerDied: 422, WorkerTimeout: 504}


class Service:
    """The models, the decoding processes and the queue of a service.

    Args:
        models: by name; the first is the default.

    Attributes:
        ready: whether it accepts requests.
    """

    def __init__(self, models: Mapping[str, ServedModel], settings: Settings):
        self.models, self.settings = models, settings
        self.counters = Counters()
        self.ready = False
        self._active, self._timelines, self._mean_seconds = 0, 0, 0.5
        limits = settings.limits
        self._fetch = Fetcher(settings.allow_hosts, limits.bytes, limits.timeout)
        pipelines: dict[str, Pipeline] = {name: model.pipeline for name, model in models.items()}
        setup = Setup(Decoder(pipelines, limits), limits.memory)
        self.workers = Workers(setup, settings.workers)
        # A timeline keeps its process for minutes; it must not take one from short requests.
        self.timeline_workers = Workers(setup, settings.timelines)
        self.timeline_threads = ThreadPoolExecutor(settings.timelines, "timeline")
        self.counters.replaced.set_function(self._num_replaced)
        self.folder = UploadFolder(settings.folder)
        self._threads = ThreadPoolExecutor(settings.workers, "decode")

    def start(self) -> None:
        """Start the decoding processes.

        Raises:
            WorkerError: one cannot be started.
        """
        self.workers.start()
        self.timeline_threads.submit(self._prepare_timeline)
        self.ready = True

    def _prepare_timeline(self) -> None:
        """Start a process, so that the first timeline need not wait for it."""
        with contextlib.suppress(WorkerError), self.timeline_workers.lend(0.0):
            pass

    def close(self) -> None:
        """End processes and threads, and remove the folder of uploads."""
        self.ready = False
        for workers in (self.workers, self.timeline_workers):
            workers.close()
        for threads in (self._threads, self.timeline_threads):
            threads.shutdown(wait=True, cancel_futures=True)
        for model in self.models.values():
            model.batcher.close()
        self.folder.close()

    # --- requests ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def admitted(self, timeline: bool = False) -> Iterator[None]:
        """Count a request while it is in the service.

        Raises:
            RequestError: there are as many as the settings allow, or the service ends.
        """
        settings = self.settings
        if not self.ready:
            raise RequestError(503, "the service ends or has not started", 5)
        if self._active >= settings.queue:
            text = f"{self._active} requests wait or run, as many as this service accepts"
            raise RequestError(429, f"{text}; try again", self.retry_after())
        if timeline and self._timelines >= settings.timelines:
            text = f"{self._timelines} timelines run, as many as this service accepts at once"
            raise RequestError(429, f"{text}; try again", TIMELINE_RETRY)
        self._active, self._timelines = self._active + 1, self._timelines + timeline
        self.counters.active.set(self._active)
        start = time.monotonic()
        try:
            yield
            if not timeline:
                self._mean_seconds += SMOOTHING * (time.monotonic() - start - self._mean_seconds)
        finally:
            self._active, self._timelines = self._active - 1, self._timelines - timeline
            self.counters.active.set(self._active)

    def retry_after(self) -> int:
        """Seconds after which there is probably room again."""
        seconds = self._mean_seconds / max(1, self.settings.workers)
        return min(LONGEST_RETRY, max(1, math.ceil(seconds)))

    async def classify(self, content_type: str, body: Body, receive_more: Any) -> dict[str, Any]:
        """The `result` of a request for classes.

        Args:
            receive_more: the messages of ASGI after the body, which report that a client is gone.

        Raises:
            RequestError: there is no result.
            Disconnected: the client is gone.
        """
        with self.folder.file() as path:
            upload = await receive(content_type, body, path, self._fetch)
            self.check_size(upload)
            fields = Fields.of(upload.fields, self.models)
            request = self._classified(upload, fields)
            return await while_connected(request, receive_more)

    def check_size(self, upload: Upload) -> None:
        """Check the size of a file; the limit of a body leaves room for what is around it.

        Raises:
            RequestError: it is larger than allowed.
        """
        limit = self.settings.limits.bytes
        if upload.path is not None and upload.path.stat().st_size > limit:
            raise RequestError(
                413, f"the file is larger than {readable_bytes(limit)}; send a smaller one"
            )

    async def _classified(self, upload: Upload, fields: Fields) -> dict[str, Any]:
        if upload.path is None:
            raise RequestError(422, "there is no video; send it as the part named file")
        limits, model = self.settings.limits, self.models[fields.model]
        deadline = time.monotonic() + limits.timeout
        job = Job(fields.model, str(upload.path), fields.frames)
        topk = fields.topk or model.predictor.top_k
        model.batcher.expect(1)
        decode = self._threads.submit(self._decode, job, model, topk, deadline)
        try:
            async with asyncio.timeout(limits.timeout):
                decoded, future = await asyncio.wrap_future(decode)
                scored = await asyncio.wrap_future(future)
        except TimeoutError:
            raise RequestError(504, f"not done after {limits.timeout:g} s") from None
        finally:
            if decode.cancel():  # it had not begun
                model.batcher.expect(-1)
        if scored.result.error is not None:
            raise RequestError(422, scored.result.error)
        self._count(fields.model, decoded, scored)
        result: dict[str, Any] = {"categories": categories(scored.result)}
        if fields.details:
            result |= details(fields.model, model.predictor.backend.name, decoded, scored)
        if fields.frames:
            result |= {"frames": frames(decoded)}
        return result

    def _decode(
        self, job: Job, model: ServedModel, topk: int, deadline: float
    ) -> tuple[Decoded, "Future[Scored]"]:
        """Decode in a process, and pass the sample on; runs in a thread.

        Raises:
            RequestError: the file cannot be decoded in time.
        """
        try:
            with self.workers.lend(left(deadline)) as worker:
                [decoded] = worker.replies(job, left(deadline))
            future = model.batcher.submit(Record("upload"), decoded.sample, topk, left(deadline))
            return replace(decoded, sample={}), future  # the sample is free after its batch
        except WorkerError as error:
            raise self.refused(error, job.path) from error
        except queue.Full:
            raise RequestError(504, "the network is too busy; try again", 5) from None
        finally:
            model.batcher.expect(-1)

    def refused(self, error: WorkerError, path: str) -> RequestError:
        """The error of a request whose file, at `path`, could not be decoded."""
        self.counters.refused.labels(type(error).__name__).inc()
        if type(error) not in STATUS:
            logger.error(f"a decoding process failed: {error}")
            return RequestError(500, "the service failed; its log has more about it")
        # Clients need not know where it is.
        return RequestError(STATUS[type(error)], str(error).replace(path, "the file"))

    def _num_replaced(self) -> int:
        return self.workers.num_replaced + self.timeline_workers.num_replaced

    def _count(self, name: str, decoded: Decoded, scored: Scored) -> None:
        seconds = {
            "decode": decoded.decode,
            "preprocess": decoded.preprocess,
            "inference": scored.inference,
            "postprocess": scored.postprocess,
        }
        for stage, value in seconds.items():
            self.counters.stages.labels(name, stage).observe(value)
        self.counters.batches.labels(name).observe(scored.batch)


def left(deadline: float) -> float:
    """Seconds until a deadline, at least 0."""
    return max(0.0, deadline - time.monotonic())
