"""Remote files for tests: in memory, and servers on the loopback."""

import contextlib
import itertools
from collections.abc import Iterator

import pytest

numbers = itertools.count()


class MemoryFiles:
    """A folder of `memory://` that no other test uses.

    Attributes:
        url: of the folder.
    """

    def __init__(self):
        fsspec = pytest.importorskip("fsspec")
        self.files = fsspec.filesystem("memory")
        self.url = f"memory://test-{next(numbers)}"

    def put(self, name: str, content: bytes | str) -> str:
        """Store a file; returns its URL."""
        data = content.encode() if isinstance(content, str) else content
        self.files.pipe(f"{self.url}/{name}", data)
        return f"{self.url}/{name}"

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.files.rm(self.url, recursive=True)


@contextlib.contextmanager
def memory_files() -> Iterator[MemoryFiles]:
    files = MemoryFiles()
    try:
        yield files
    finally:
        files.remove()
