"""File systems by scheme (fsspec), and requests to them: repeated, limited in time, with errors for
people.

An `AccessError` concerns every file of a scheme: a missing package, an unknown scheme, or missing
or wrong credentials. It ends a run at once. A `RemoteError` concerns one file; where the file is a
video, it is a failure like that of a damaged local file.
"""

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from paddlevideo.log import logger
from paddlevideo.urls import (
    WEB,
    AccessError,
    MissingError,
    RemoteError,
    is_web,
    scheme,
    shown,
    without_secrets,
)

Result = TypeVar("Result")

SECONDS = 60  # for one request of at most a few MB
WAITS = (0.5, 1, 2, 4)  # seconds before further attempts
AGAIN = (408, 425, 429)  # and 5xx: the server may answer later
# Errors of an operating system that another attempt does not change.
FINAL = (errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.ENOSPC, errno.EEXIST, errno.EROFS)
INFO_SECONDS = 30  # how long what is known of a file is used again
MAX_INFOS = 10_000
EXTRA = "pip install 'paddlevideo[remote]'"
# Packages of schemes that are not in the extra.
PACKAGES = {
    "gs": "gcsfs", "gcs": "gcsfs", "oss": "ossfs", "hdfs": "pyarrow", "abfs": "adlfs",
    "az": "adlfs", "tos": "tosfs", "sftp": "paramiko", "hf": "huggingface_hub",
}  # fmt: skip
S3_ONLY = {
    "bos": "Baidu's storage speaks S3, too: write s3:// and set AWS_ENDPOINT_URL to its S3 address",
    "cos": "Tencent's storage speaks S3, too: write s3:// and set AWS_ENDPOINT_URL",
    "obs": "Huawei's storage speaks S3, too: write s3:// and set AWS_ENDPOINT_URL",
}
# What the packages of the schemes raise without credentials, or with wrong ones.
NO_CREDENTIALS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
    "TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "ProfileNotFound",
    "DefaultCredentialsError", "RefreshError",
}  # fmt: skip
BAD_CREDENTIALS = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "AuthFailure", "InvalidClientTokenId", "TokenRefreshRequired", "RequestTimeTooSkewed",
}  # fmt: skip


@dataclass(frozen=True)
class Info:
    """What is known of a file or folder.

    Args:
        size: bytes; None where the server does not say.
        version: changes with the content; "" where unknown.
        is_folder: whether it is a folder, or a prefix of an object store.
    """

    size: int | None
    version: str
    is_folder: bool = False


class _Process:
    """Connections and what is known of files, of one process: neither survives a fork."""

    def __init__(self):
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.file_systems: dict[str, Any] = {}
        self.infos: dict[str, tuple[float, Info]] = {}


_state = _Process()


def _of_this_process() -> _Process:
    global _state
    if _state.process != os.getpid():
        _state = _Process()
    return _state


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, opened at first use in each process, and its path in it.

    Raises:
        AccessError: no package for the scheme, or an unknown scheme.
    """
    # Of some schemes, as hdfs://, each server has a file system of its own.
    key = scheme(url) if scheme(url) in (*WEB, "s3") else "/".join(url.split("/")[:3])
    state = _of_this_process()
    with state.lock:
        if key not in state.file_systems:
            state.file_systems[key] = _open_file_system(url)
        found = state.file_systems[key]
    return found, found._strip_protocol(url)


def _open_file_system(url: str) -> Any:
    name, place = scheme(url), shown(url)
    try:
        import fsspec
        from fsspec.config import conf
    except ImportError as error:
        raise AccessError(f"{place}: files of {name}:// need fsspec: {EXTRA}") from error
    try:
        kind = fsspec.get_filesystem_class(name)
    except ValueError as error:
        known = "known are s3, gs, oss, hdfs, http, https and those of fsspec's packages"
        fix = S3_ONLY.get(name, known)
        raise AccessError(f"{place}: fsspec has no package for {name}://; {fix}") from error
    except ImportError as error:
        package = PACKAGES.get(name)
        fix = f"pip install {package}" if package else EXTRA
        raise AccessError(
            f"{place}: a package for {name}:// is missing ({error}): {fix}"
        ) from error
    own = conf.get(name, {})
    # The process has one file system per scheme, and asks the server for the latest listing.
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    options |= kind._get_kwargs_from_urls(url)
    if is_web(url):
        # Compressed answers have another size than the file.
        options["headers"] = {"Accept-Encoding": "identity", **own.get("headers", {})}
    elif name == "s3" and "config_kwargs" not in own:
        limits = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 0}}
        options["config_kwargs"] = limits
    try:
        found = kind(**options)
    except Exception as error:  # of any package
        failure, _ = _failure(url, error)
        raise failure from error
    if name == "s3":
        found.retries = 1  # `attempts` repeats a request
    return found


def request(url: str, method: str, *args: Any, seconds: float | None = None, **kwargs: Any) -> Any:
    """Call a method of the file system of a URL, again after failures that may pass.

    Args:
        method: its name; the path of the URL is the first argument.
        seconds: limit of one attempt, where the file system can be interrupted; None: `SECONDS`.

    Raises:
        MissingError, RemoteError: it failed, in each attempt where another one may help.
        AccessError: see `file_system`; or missing or wrong credentials.
    """
    found, path = file_system(url)
    return attempts(url, lambda: call(found, method, path, *args, seconds=seconds, **kwargs))


def call(file_system: Any, method: str, *args: Any, seconds: float | None = None, **kwargs) -> Any:
    """Call a method once, with a limit in time where the file system works with coroutines."""
    from fsspec.asyn import AsyncFileSystem, sync

    if not isinstance(file_system, AsyncFileSystem):
        return getattr(file_system, method)(*args, **kwargs)
    function = getattr(file_system, f"_{method}")
    return sync(file_system.loop, function, *args, timeout=seconds or SECONDS, **kwargs)


def attempts(url: str, action: Callable[[], Result]) -> Result:
    """Return what `action` returns; repeat it after failures that may pass, at last after 7.5 s.

    Raises:
        MissingError, RemoteError, AccessError: see `request`.
    """
    waits = list(WAITS)
    while True:
        try:
            return action()
        except Exception as error:  # of any package
            failure, may_pass = _failure(url, error)
            if not may_pass or not waits:
                raise failure from error
            seconds = waits.pop(0)
            logger.warning(f"{failure}; next attempt in {seconds} s")
            time.sleep(seconds)


def _failure(url: str, error: BaseException) -> tuple[Exception, bool]:
    """The error for people, and whether another attempt may help."""
    if isinstance(error, (RemoteError, AccessError)):
        return error, False
    place, chain = shown(url), _causes(error)
    names = {type(each).__name__ for each in chain}
    codes = codes_of(error)
    if names & NO_CREDENTIALS:
        return AccessError(f"{place}: no credentials: {_text(error)}; {_fix(url)}"), False
    if codes & BAD_CREDENTIALS:
        code = min(codes & BAD_CREDENTIALS)
        return AccessError(
            f"{place}: wrong credentials ({code}): {_text(error)}; {_fix(url)}"
        ), False
    status = next((s for s in map(_status, chain) if isinstance(s, int)), None)
    if status == 401:
        return AccessError(f"{place}: the server asks for credentials (401); {_fix(url)}"), False
    if status == 403 or any(isinstance(each, PermissionError) for each in chain):
        return RemoteError(f"{place}: access denied: {_text(error)}; {_fix(url)}"), False
    if status is not None and (status in AGAIN or status >= 500):
        return RemoteError(f"{place}: the server answered {status}"), True
    if status not in (None, 404, 410) and status >= 400:
        return RemoteError(f"{place}: the server answered {status}: {_text(error)}"), False
    lost = [each for each in chain if _is_lost(each)]
    if lost:
        return RemoteError(f"{place}: no answer, or the connection broke: {_text(lost[-1])}"), True
    if status in (404, 410) or any(isinstance(each, FileNotFoundError) for each in chain):
        return MissingError(f"{place}: no such file{_of_bucket(codes)}"), False
    may_pass = isinstance(error, OSError) and error.errno not in FINAL
    return RemoteError(f"{place}: {_text(error)}"), may_pass


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__  # type: ignore[assignment]
    return chain


def _status(error: BaseException) -> Any:
    return vars(error).get("status")  # of aiohttp's errors


def codes_of(error: BaseException) -> set[str]:
    """The codes of S3 of an error and of its causes."""
    return {_code(each) for each in _causes(error)} - {""}


def _code(error: BaseException) -> str:
    """The code of an S3 error."""
    answer = vars(error).get("response")
    code = answer.get("Error", {}).get("Code", "") if isinstance(answer, dict) else ""
    return str(code)


def _is_lost(error: BaseException) -> bool:
    """Whether the connection failed: in sockets, aiohttp or botocore."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    module = type(error).__module__.partition(".")[0]
    kinds = ("Connect", "Timeout", "Payload", "Disconnected", "HTTPClient", "IncompleteRead")
    named = any(kind in type(error).__name__ for kind in kinds)
    return module in ("aiohttp", "botocore", "aiobotocore", "requests", "urllib3") and named


def _of_bucket(codes: set[str]) -> str:
    return ": there is no such bucket" if "NoSuchBucket" in codes else ""


def _text(error: BaseException) -> str:
    return " ".join(without_secrets(str(error)).split())[:300] or type(error).__name__


def _fix(url: str) -> str:
    """How to give credentials for a scheme."""
    if scheme(url) == "s3":
        return (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and "
            "AWS_ENDPOINT_URL for a store that is not Amazon's; for a public bucket set "
            """FSSPEC_S3='{"anon": true}'"""
        )
    if is_web(url):
        return "use a signed address, or set headers in FSSPEC_HTTPS (docs/remote.md)"
    return f"see the documentation of the package of {scheme(url)}:// about credentials"


# --- information ----------------------------------------------------------------------------------

VERSION_KEYS = (
    "ETag", "etag", "Content-MD5", "md5Hash", "checksum", "generation", "Last-Modified",
    "LastModified", "last_modified", "mtime", "modified", "created",
)  # fmt: skip


def get_info(url: str, fresh: bool = False) -> Info:
    """Size and version of a file, or that it is a folder.

    Args:
        fresh: ask the server even if it was asked in the last `INFO_SECONDS`.

    Raises:
        MissingError, RemoteError, AccessError: see `request`.
    """
    state = _of_this_process()
    known = state.infos.get(url)
    if known and not fresh and time.monotonic() - known[0] < INFO_SECONDS:
        return known[1]
    found, path = file_system(url)
    data = attempts(url, lambda: _info_once(found, path))
    version = next((f"{key} {data[key]}" for key in VERSION_KEYS if data.get(key)), "")
    info = Info(data.get("size"), version, data.get("type") == "directory")
    with state.lock:
        if len(state.infos) >= MAX_INFOS:
            state.infos.clear()
        state.infos[url] = time.monotonic(), info
    return info


def _info_once(found: Any, path: str) -> dict[str, Any]:
    try:
        return call(found, "info", path)
    except PermissionError:
        # The answer to the question for information has no reason in it; that of a read has.
        call(found, "cat_file", path, start=0, end=1)
        raise


def forget(url: str) -> None:
    """Forget what is known of a file that was just written, or of a folder and its files."""
    state = _of_this_process()
    with state.lock:
        for name in [name for name in state.infos if name == url or name.startswith(f"{url}/")]:
            del state.infos[name]
