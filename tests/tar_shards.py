"""Tar shards that tests write themselves, as other tools or an attacker would write them."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

Entry = tuple[str, bytes] | tarfile.TarInfo


def write_tar(path: Path, entries: Iterable[Entry], tar_format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of files (name, content), and of headers without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tar_format) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                header = tarfile.TarInfo(entry[0])
                header.size = len(entry[1])
                tar.addfile(header, io.BytesIO(entry[1]))
    return path


def header(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    """A header of a link, a device or a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info
