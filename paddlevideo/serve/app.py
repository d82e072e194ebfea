"""The routes of the service."""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from paddlevideo import __version__
from paddlevideo.log import logger
from paddlevideo.serve.answers import failure, log_id, success
from paddlevideo.serve.api_page import api_page
from paddlevideo.serve.api_schema import CLASSIFY_SCHEMA, TIMELINE_SCHEMA
from paddlevideo.serve.errors import RequestError
from paddlevideo.serve.receive import FORM, JSON_RATIO, Body, Disconnected, media_type
from paddlevideo.serve.service import Service
from paddlevideo.serve.timeline import TimelineAnswer

PAGE = Path(__file__).with_name("page")
PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
OPEN = ("/", "/health", "/ready")  # without a token; the page asks for it
FORM_BYTES = 1 << 16  # of a request around its file
CLIENT_GONE = 499  # as other servers log it; nobody reads it
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Cache-Control": "no-store",
}

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def page_files() -> dict[str, bytes]:
    """The files of the page, by name."""
    return {
        path.name: path.read_bytes() for path in sorted(PAGE.glob("*")) if path.suffix in PAGE_TYPES
    }


def make_app(service: Service) -> Any:
    """The service as an ASGI application; its start starts the processes, its end ends them."""
    from fastapi import FastAPI
    from fastapi.middleware.cors import CORSMiddleware

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(service.start)
            yield
        finally:
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="paddlevideo",
        version=__version__,
        description="Video classification and timelines; errors have PaddleX's body.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_requests(app, service)
    _add_timeline(app, service)
    _add_states(app, service)
    _add_pages(app)
    _add_errors(app)
    app.add_middleware(Gate, service=service)
    if service.settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.settings.allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    return app


def _add_requests(app: Any, service: Service) -> None:
    """The routes that take a file."""
    from fastapi import Request
    from fastapi.responses import JSONResponse, Response

    @app.post("/video-classification", openapi_extra=CLASSIFY_SCHEMA, summary="Classes of a video")
    async def classify(request: Request) -> Response:
        body = body_of(request, service)
        content_type = request.headers.get("content-type", "")
        try:
            with service.admitted():
                result = await service.classify(content_type, body, request.receive)
        except (RequestError, OSError) as error:
            await body.drain()
            raise refused_write(error) from error
        return JSONResponse(success(result))


def _add_timeline(app: Any, service: Service) -> None:
    """The route that sends segments while it makes them."""
    from fastapi import Request
    from fastapi.responses import Response

    class Lines(Response):
        """Does the work of its request, too, so that nothing is left when the client is gone."""

        def __init__(self, answer: TimelineAnswer):
            super().__init__()
            self._answer = answer

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self._answer(scope, receive, send)

    @app.post("/timeline", openapi_extra=TIMELINE_SCHEMA, summary="Segments of a long video")
    async def timeline(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        return Lines(TimelineAnswer(service, content_type, body_of(request, service)))


def _add_states(app: Any, service: Service) -> None:
    """The routes about the service itself."""
    from fastapi.responses import JSONResponse, Response

    @app.get("/models", summary="The models of this service")
    async def models() -> dict[str, Any]:
        described = [model.describe() for model in service.models.values()]
        return {"models": described, "default": next(iter(service.models))}

    @app.get("/health", summary="Whether the process answers")
    async def health() -> dict[str, Any]:
        return {**failure(0, "Healthy")}

    @app.get("/ready", summary="Whether it accepts requests now")
    async def ready() -> Response:
        if not service.ready:
            raise RequestError(503, "the service ends or has not started", 5)
        return JSONResponse(failure(0, "Ready"))

    @app.get("/metrics", summary="Numbers for Prometheus")
    async def metrics() -> Response:
        return Response(service.counters.text(), media_type=service.counters.content_type)


def _add_pages(app: Any) -> None:
    """The page, and the description of the routes."""
    from fastapi.responses import HTMLResponse, Response

    files = page_files()

    def file_response(name: str) -> Response:
        if name not in files:
            raise RequestError(404, "there is no such file")
        return Response(files[name], media_type=PAGE_TYPES[Path(name).suffix])

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return file_response("index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def page(name: str) -> Response:
        return file_response(name)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        # Its style is inside, and nothing runs or is fetched.
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(api_page(app.openapi()), headers=policy)


def _add_errors(app: Any) -> None:
    """Errors have the body of PaddleX's service."""
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return JSONResponse(failure(error.status, error.reason), error.status, headers)

    @app.exception_handler(Disconnected)
    async def gone(request: Request, error: Disconnected) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        body = failure(error.status_code, str(error.detail))
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return JSONResponse(failure(422, str(error.errors())), 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        body = failure(500, "the service failed; its log has more about it")
        logger.error(f"{log_id.get()}: {type(error).__name__}: {error}")
        return JSONResponse(body, 500)


def body_of(request: Any, service: Service) -> Body:
    """The body of a request, with the limit for its kind."""
    limit = service.settings.limits.bytes
    if media_type(request.headers.get("content-type", "")) != FORM:
        limit = round(limit * JSON_RATIO)
    length = request.headers.get("content-length", "")
    return Body(request.receive, int(length) if length.isdecimal() else None, limit + FORM_BYTES)


def refused_write(error: RequestError | OSError) -> RequestError:
    """The error of a request whose upload failed."""
    if isinstance(error, RequestError):
        return error
    logger.error(f"an upload cannot be written: {error}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RequestError(507, "the disk of the service is full; try again later", 60)
    return RequestError(500, "the upload cannot be written; the log of the service has more")


def is_local(host: str) -> bool:
    """Whether `HOST` or `HOST:PORT` is an address, or a name that no other site can have."""
    host = re.sub(r":\d+$", "", host).rstrip(".")
    if "." not in host or host.endswith(".localhost") or host.startswith("["):
        return True
    with contextlib.suppress(ValueError):
        return bool(ipaddress.IPv4Address(host))
    return False


class Gate:
    """Checks origin and token, adds headers, counts and logs; around all routes."""

    def __init__(self, app: Asgi, service: Service):
        self._app, self._service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, as ASGI passes it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        log_id.set(str(uuid.uuid4()))

        async def send_with_headers(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"]] + [
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in given
                ]
            await send(message)

        try:
            if refusal := self._refusal(scope):
                await self._refuse(refusal, scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        finally:
            self._count(scope, status, time.perf_counter() - start)

    def _refusal(self, scope: Any) -> RequestError | None:
        """Why a request is not passed on."""
        settings, path = self._service.settings, scope["path"]
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        if scope["method"] == "POST" and origin and not self._knows(origin, host):
            reason = f"pages of {origin[:200]} may not use this service"
            return RequestError(403, f"{reason}; start it with --allow-origin")
        if settings.token is None or path in OPEN or path.startswith("/page/"):
            return None
        kind, _, value = headers.get(b"authorization", b"").partition(b" ")
        same = hmac.compare_digest(value.strip(), settings.token.encode())
        if same and kind.lower() == b"bearer":
            return None
        return RequestError(401, "this service needs a token: Authorization: Bearer TOKEN")

    def _knows(self, origin: str, host: str) -> bool:
        """Whether the pages of an origin may send files: those of this service, and named ones."""
        settings = self._service.settings
        if origin in settings.allow_origins or "*" in settings.allow_origins:
            return True
        scheme, _, name = origin.partition("://")
        if name != host:
            return False
        # Any site can let its name lead to this machine (DNS rebinding), and its page is then one
        # of this service. Such a site has no certificate here, and does not know a token.
        return not settings.loopback or bool(settings.token) or scheme == "https" or is_local(name)

    async def _refuse(self, error: RequestError, scope: Any, receive: Any, send: Any) -> None:
        from fastapi.responses import JSONResponse

        await Body(receive, None, 0).drain()
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        response = JSONResponse(failure(error.status, error.reason), error.status, headers)
        await response(scope, receive, send)

    def _count(self, scope: Any, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = route.path if route is not None else "other"
        self._service.counters.requests.labels(path, str(status)).inc()
        self._service.counters.seconds.labels(path).observe(seconds)
        if scope["method"] != "GET" or status >= 400:
            done = f"{scope['method']} {scope['path']} {status} {seconds * 1000:.0f} ms"
            logger.info(f"{done}, {log_id.get()}")
