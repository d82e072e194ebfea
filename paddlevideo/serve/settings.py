"""The settings of a service: limits per request, queue, workers, access."""

from dataclasses import dataclass, field
from pathlib import Path

from paddlevideo.cores import num_cores

MAX_WORKERS = 8  # by default; more than one network needs


def default_workers() -> int:
    """Processes that decode: one per core, at most 8."""
    return min(MAX_WORKERS, num_cores())


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Args:
        bytes: of a file.
        seconds: of a video or an audio file, by its own clock.
        pixels: of a frame, width times height.
        frames: of a video; a file may have millions of frames in a second.
        timeout: of a request (s), from the end of its upload to its result; of a URL, also to fetch
            it. A timeline may take this long from one frame to the next.
        memory: that a decoding process may take for a file (MB).
    """

    bytes: int = 512 << 20
    seconds: float = 7200.0
    pixels: int = 4096 * 2304
    frames: int = 2_000_000
    timeout: float = 60.0
    memory: int = 2048


@dataclass(frozen=True)
class Settings:
    """How a service runs.

    Args:
        limits: of one request.
        workers: processes that decode.
        queue: requests that are uploaded, wait or run at once; the next one is answered with 429.
        timelines: of these, requests for a timeline; each has a decoding process of its own.
        batch_wait: how long a decoded video waits for others to run with it (s).
        allow_hosts: `HOST` or `HOST:PORT` of the URLs that are fetched; none by default.
        allow_origins: origins of other sites whose pages may use the service; none by default.
        token: that requests must have as their bearer token; None for no token.
        folder: where uploads are written; None for the system's folder for temporary files.
        loopback: whether the service listens on this machine alone.
    """

    limits: Limits = field(default_factory=Limits)
    workers: int = field(default_factory=default_workers)
    queue: int = 64
    timelines: int = 2
    batch_wait: float = 0.05
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    token: str | None = None
    folder: Path | None = None
    loopback: bool = False

    def __post_init__(self):
        for name in ("workers", "queue", "timelines"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.token is not None and len(self.token) < MIN_TOKEN:
            raise ValueError(
                f"the bearer token has {len(self.token)} characters; use at least {MIN_TOKEN}, as "
                'from: python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )


MIN_TOKEN = 16  # characters
