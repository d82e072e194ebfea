"""What is a URL, and its parts; the errors of remote files. Functions take local paths, too."""

import os
import re
import urllib.parse
from pathlib import Path

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.")
WEB = ("http", "https")
IN_TEXT = re.compile(r"https?://[^\s'\"<>()]+", re.IGNORECASE)  # addresses in a message


class RemoteError(OSError):
    """A file that cannot be read or written; the message names it."""


class MissingError(RemoteError, FileNotFoundError):
    """There is no such file, folder or bucket."""


class AccessError(ValueError):
    """No file of the scheme can be used: a package or credentials are missing or wrong."""


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL, as `s3://bucket/key`; `C://x` and a `Path` are local."""
    return isinstance(path, str) and URL.match(path) is not None


def as_path(path: str | Path) -> str | Path:
    """A URL as it is, any other path as a `Path`, which would spoil a URL."""
    return str(path) if is_url(path) else Path(path)


def scheme(url: str) -> str:
    """The part of a URL before `://`, in lower case."""
    return url.partition("://")[0].lower()


def is_web(url: str | Path) -> bool:
    """Whether it is the address of a web server."""
    return isinstance(url, str) and is_url(url) and scheme(url) in WEB


def shown(url: str | Path) -> str:
    """A path for messages; of a URL without user name, password and the query of a web address,
    which may be secret."""
    if not is_url(url):
        return str(url)
    head, _, rest = str(url).partition("://")
    host, slash, path = rest.partition("/")
    text = f"{head}://{host.rpartition('@')[2]}{slash}{path}"
    return re.split("[?#]", text)[0] if is_web(url) else text


def without_secrets(text: str) -> str:
    """A message, with the web addresses in it as `shown` has them."""
    return IN_TEXT.sub(lambda match: shown(match[0]), text)


def without_query(url: str) -> str:
    """A URL without the query of a web address, as that of a signed one."""
    return re.split("[?#]", url)[0] if is_web(url) else url


def join_path(base: str | Path, path: str) -> str:
    """`path`, relative to `base`; a URL or an absolute path is returned as it is."""
    if is_url(path):
        return path
    if not is_url(base):
        return os.path.join(base, path)
    if os.path.isabs(path):
        return path
    # In an address, a name with a space or a percent sign is written in another way.
    name = urllib.parse.quote(path) if is_web(base) else path
    folder = without_query(str(base)).rstrip("/")
    while name.startswith(("./", "../")):  # an object store takes dots for a name
        step, _, name = name.partition("/")
        folder = folder.rpartition("/")[0] if step == ".." and folder.count("/") > 2 else folder
    return f"{folder}/{name}"


def parent_path(path: str | Path) -> str:
    """The folder of a file."""
    if not is_url(path):
        return str(Path(path).parent)
    return without_query(str(path)).rstrip("/").rpartition("/")[0]


def path_below(path: str | Path, folder: str | Path) -> str | None:
    """The part of a path below a folder, with slashes; None where it is not below."""
    if not is_url(path) and not is_url(folder):
        whole, base = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
        return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else None
    start = f"{without_query(str(folder)).rstrip('/')}/"
    name = without_query(str(path))
    if not name.startswith(start):
        return None
    name = name[len(start) :]
    return urllib.parse.unquote(name) if is_web(path) else name


def path_name(path: str | Path) -> str:
    """The last part of a path."""
    if not is_url(path):
        return os.path.basename(os.path.normpath(path))
    name = without_query(str(path)).rstrip("/").rpartition("/")[2]
    return urllib.parse.unquote(name) if is_web(path) else name


def path_suffix(path: str | Path) -> str:
    """The suffix of a file in lower case, with the dot; "" without one."""
    return os.path.splitext(path_name(path))[1].lower()
