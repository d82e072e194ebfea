"""The numbers of a service for Prometheus; each service has a registry of its own."""

from typing import Any

LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # upper edges (s)


class Counters:
    """Requests, stages, batches, the queue and decoding processes."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self._write: Any = prometheus.generate_latest
        self.content_type: str = prometheus.CONTENT_TYPE_LATEST
        self.registry = prometheus.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        prometheus.ProcessCollector(**own)
        self.requests = prometheus.Counter(
            "paddlevideo_requests", "Requests by path and status", ("path", "status"), **own
        )
        self.seconds = prometheus.Histogram(
            "paddlevideo_request_seconds", "Seconds of a request", ("path",), buckets=LATENCY, **own
        )
        self.stages = prometheus.Histogram(
            "paddlevideo_stage_seconds",
            "Seconds of a video per stage",
            ("model", "stage"),
            buckets=LATENCY,
            **own,
        )
        self.batches = prometheus.Histogram(
            "paddlevideo_batch_videos",
            "Videos in the batch of a video",
            ("model",),
            buckets=(1, 2, 4, 8, 16, 32, 64),
            **own,
        )
        self.active = prometheus.Gauge(
            "paddlevideo_active_requests", "Requests that are uploaded, wait or run now", **own
        )
        self.refused = prometheus.Counter(
            "paddlevideo_refused_files", "Files that could not be classified", ("reason",), **own
        )
        self.replaced = prometheus.Gauge(
            "paddlevideo_replaced_processes", "Decoding processes that were replaced", **own
        )

    def text(self) -> bytes:
        """All numbers in the format of Prometheus."""
        return self._write(self.registry)
