"""Send a model to the workers without a shared disk: its files as bytes, unpacked once per node."""

import contextlib
import getpass
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlevideo.files import temporary_name
from paddlevideo.runtimes.golden import FILE as GOLDEN
from paddlevideo.runtimes.manifest import FILE, PADDLEX_FILE, exported_folder
from paddlevideo.runtimes.measured import FILE as MEASURED

MAX_BYTES = 8 << 30  # a folder with more holds other things than a model
OF_EXPORTS = (FILE, PADDLEX_FILE, GOLDEN, MEASURED)  # files that describe the programs next to them


@dataclass(frozen=True)
class SentFiles:
    """Files in the object store of a cluster.

    Args:
        ref: reference to their bytes.
        digest: of the bytes, which names the folder that they are unpacked to.
        main: name of the file to open, "" for the folder.
    """

    ref: Any
    digest: str
    main: str

    def path(self) -> Path:
        """The file or folder on this node; unpacked by the first worker that asks."""
        folder = models_folder() / self.digest
        if not folder.is_dir():
            import ray

            unpack(ray.get(self.ref), folder)
        return folder / self.main if self.main else folder


def send(ray: Any, path: str | Path) -> SentFiles:
    """Put a model into the object store.

    Args:
        path: an exported folder or a file of a model.

    Raises:
        ValueError: there is no such file, or the folder holds more than a model.
    """
    main = exported_folder(Path(path))
    data = packed(model_files(main), main if main.is_dir() else None)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return SentFiles(ray.put(data), digest, "" if main.is_dir() else main.name)


def model_files(main: Path) -> list[Path]:
    """The files of a model: all of an exported folder, or those that belong to a file.

    Raises:
        ValueError: there is no such file, or the folder holds more than a model.
    """
    if main.is_dir():
        found = sorted(path for path in main.rglob("*") if path.is_file())
    elif main.is_file():
        near = sorted(main.parent.glob(f"{glob_text(main.stem)}.*"))
        near += [main.parent / name for name in OF_EXPORTS]
        found = [path for path in near if path.is_file()]
    else:
        raise ValueError(f"{main}: there is no such file or folder to send to the workers")
    size = sum(path.stat().st_size for path in found)
    if size > MAX_BYTES:
        raise ValueError(
            f"{main}: {size / 2**30:.1f} GiB are too much for a model; give a folder with the "
            "exported model alone"
        )
    return found


def glob_text(name: str) -> str:
    """A pattern that matches only this name."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def packed(files: Sequence[Path], root: Path | None) -> bytes:
    """A tar archive; equal files give equal bytes.

    Args:
        root: names are relative to it; None takes the last part of each path.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in dict.fromkeys(files):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(root).as_posix() if root else path.name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Unpack an archive, completely or not at all; another process may do the same.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = temporary_name(folder)
    try:
        temporary.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(temporary, filter="data")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def models_folder() -> Path:
    """The folder for models of this user on this node.

    Raises:
        OSError: it belongs to another user.
    """
    with contextlib.suppress(Exception):
        name = getpass.getuser()
        folder = Path(tempfile.gettempdir(), f"paddlevideo-{name}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid():
            return folder / "models"
    # Somebody else made a folder of this name; programs in it are not to be trusted.
    return Path(tempfile.mkdtemp(prefix="paddlevideo-")) / "models"
