"""A remote file for reading, in blocks: only what is read is transferred.

Blocks that were read last stay in memory, for all files of the process together, so that a video
may be opened several times. Where a file is read on and on, each request fetches twice as much as
the one before, up to `MAX_AHEAD` blocks.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

from paddlevideo.log import logger
from paddlevideo.remote import access
from paddlevideo.remote.access import RemoteError, attempts, call, file_system, get_info
from paddlevideo.remote.block_cache import BLOCK, current_cache
from paddlevideo.remote.copies import local_copy
from paddlevideo.remote.sized_file import SizedFile
from paddlevideo.urls import is_web, path_name, scheme, shown

WHOLE = 2 * BLOCK  # bytes; a smaller file is fetched by one request
MAX_AHEAD = 8  # blocks of one request
ETAG = "ETag "  # begins the version of an object of S3
MEMORY = 32 * 1024 * 1024  # bytes of blocks in memory, of a process


class _Memory:
    """The blocks that a process has read last."""

    def __init__(self):
        self.process = os.getpid()
        self.lock = threading.Lock()
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0

    def get(self, name: str, number: int) -> bytes | None:
        with self.lock:
            block = self._blocks.get((name, number))
            if block is not None:
                self._blocks.move_to_end((name, number))
            return block

    def has(self, name: str, number: int) -> bool:
        with self.lock:
            return (name, number) in self._blocks

    def put(self, name: str, number: int, block: bytes) -> None:
        with self.lock:
            old = self._blocks.pop((name, number), b"")
            self._blocks[name, number] = block
            self._size += len(block) - len(old)
            while self._size > MEMORY:
                _, oldest = self._blocks.popitem(last=False)
                self._size -= len(oldest)


_memory = _Memory()


def _memory_of_this_process() -> _Memory:
    global _memory
    if _memory.process != os.getpid():  # a thread of the parent may hold the lock
        _memory = _Memory()
    return _memory


class UrlFile(SizedFile):
    """A remote file, seekable; `read` may return fewer bytes than were asked for.

    Attributes:
        name: the file's own name.
        size: bytes.
        num_fetched: bytes that this object has had transferred.
        zeros: parts (first byte, end) that are read as zeros, without a transfer.

    Raises:
        MissingError, RemoteError, AccessError: see `access.request`.
    """

    def __init__(self, url: str):
        super().__init__()
        self.url, self.name = url, path_name(url)
        self.num_fetched = 0
        self.zeros: Sequence[tuple[int, int]] = ()
        self._next, self._ahead = -1, 1
        self._whole: Any = None  # a local copy, where the server sends no parts
        info = get_info(url)
        if info.is_folder:
            raise RemoteError(f"{shown(url)}: a folder, not a file")
        if info.size is None:
            self._fetch_whole()
        else:
            self.size = info.size
        self._id = f"{url}\n{info.version}\n{self.size}"
        self._version = info.version

    def readinto(self, buffer: Any) -> int:
        data = self._some(min(len(buffer), max(0, self.size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if self._whole is not None:
            self._whole.close()
        super().close()

    def _some(self, count: int) -> bytes | memoryview:
        """Up to `count` bytes from the position on, of one block."""
        position = self._position
        for start, end in self.zeros:
            if start <= position < end:
                return bytes(min(count, end - position))
            if position < start:
                count = min(count, start - position)
        if count == 0:
            return b""
        whole: Any = self._whole
        if whole is None:
            number, offset = divmod(position, BLOCK)
            block = self._block(number)
            if block is not None:
                return memoryview(block)[offset : offset + count]
            whole = self._whole  # the server has just sent the whole file
        whole.seek(position)
        return whole.read(count)

    def _block(self, number: int) -> bytes | None:
        """A block from memory, the cache on the disk, or the server; None where there is a local
        copy now."""
        memory = _memory_of_this_process()
        block = memory.get(self._id, number)
        if block is not None:
            return block
        cache = current_cache() if self._version else None
        block = cache.get(self._id, number, self._length(number)) if cache else None
        if block is not None:
            memory.put(self._id, number, block)
            return block
        first = 0 if self.size <= WHOLE else number
        count = self._num_blocks(number)
        # The wanted block is fetched, also if another thread has just put it there.
        least = number - first + 1
        count = next((n for n in range(least, count) if memory.has(self._id, first + n)), count)
        data = self._fetch(first, count)
        if data is None:
            return None
        for start in range(0, len(data), BLOCK):
            part, index = data[start : start + BLOCK], first + start // BLOCK
            memory.put(self._id, index, part)
            if cache:
                cache.put(self._id, index, part)
        return data[(number - first) * BLOCK :][:BLOCK]

    def _num_blocks(self, number: int) -> int:
        """How many blocks to fetch from this one on."""
        if self.size <= WHOLE:
            return MAX_AHEAD
        self._ahead = min(2 * self._ahead, MAX_AHEAD) if number == self._next else 1
        self._next = number + self._ahead
        return self._ahead

    def _length(self, number: int) -> int:
        return min(BLOCK, self.size - number * BLOCK)

    def _fetch(self, number: int, count: int) -> bytes | None:
        start, end = number * BLOCK, min(self.size, (number + count) * BLOCK)
        if get_info(self.url).version != self._version:  # what is known is used for some seconds
            raise changed(self.url)
        data = fetch_range(self.url, start, end, self._version)
        if data is None:
            logger.warning(
                f"{shown(self.url)}: this server sends no parts of files: fetching the whole file"
            )
            self._fetch_whole()
            return None
        self.num_fetched += len(data)
        return data

    def _fetch_whole(self) -> None:
        path = local_copy(self.url)
        self._whole = path.open("rb")
        self.size = path.stat().st_size
        self.num_fetched += self.size


def changed(url: str) -> RemoteError:
    """The error of a file whose parts would be those of different versions."""
    access.forget(url)
    return RemoteError(f"{shown(url)}: it was replaced while it was read; read it again")


def fetch_range(url: str, start: int, end: int, version: str = "") -> bytes | None:
    """The bytes `start` .. `end` - 1 of a file; None where its server sends whole files only.

    Args:
        version: of the file, from `get_info`; object stores and web servers are asked for it.

    Raises:
        RemoteError: there is another version now.
        MissingError, RemoteError, AccessError: see `access.request`.
    """
    found, path = file_system(url)

    def once() -> bytes | None:
        if is_web(url):
            data, is_other = _web_range(found, path, start, end, version)
            # Some servers state one version for the question and another one for the answer.
            if is_other and get_info(url, fresh=True).version != version:
                raise changed(url)
        elif scheme(url) == "s3" and version.startswith(ETAG):
            data = _s3_range(found, path, start, end, version.removeprefix(ETAG))
        else:
            data = call(found, "cat_file", path, start=start, end=end)
        if data is not None and len(data) != end - start:
            got = f"{len(data)} of {end - start} bytes"
            raise ConnectionError(f"got {got} from byte {start} on")
        return data

    try:
        return attempts(url, once)
    except RemoteError as error:
        if "PreconditionFailed" in access.codes_of(error):
            raise changed(url) from error
        raise


def _s3_range(found: Any, path: str, start: int, end: int, etag: str) -> bytes:
    """A part of one version of an object. fsspec's own function takes any version."""
    from fsspec.asyn import sync

    async def get() -> bytes:
        bucket, key, version = found.split_path(path)
        part = {"Range": f"bytes={start}-{end - 1}", "IfMatch": etag}
        part |= {"VersionId": version} if version else {}
        answer = await found._call_s3("get_object", Bucket=bucket, Key=key, **part)
        async with answer["Body"] as body:
            return await body.read()

    return cast(bytes, sync(found.loop, get, timeout=access.SECONDS))


def _web_range(
    found: Any, url: str, start: int, end: int, version: str
) -> tuple[bytes | None, bool]:
    """A part of a file of a web server. fsspec's own function would read a whole file that comes
    in its place into memory.

    Returns:
        (the bytes, or None where the whole file comes; whether the server states another version).
    """
    from fsspec.asyn import sync

    async def get() -> tuple[bytes | None, bool]:
        session = await found.set_session()
        options = dict(found.kwargs)
        headers = {**options.pop("headers", {}), "Range": f"bytes={start}-{end - 1}"}
        async with session.get(found.encode_url(url), headers=headers, **options) as answer:
            answer.raise_for_status()
            if answer.status != 206 and (start or answer.content_length != end):
                return None, False
            stated = answer.headers.get("Content-Range", "").replace(" ", "")
            if answer.status == 206 and not stated.startswith(f"bytes{start}-"):
                raise ConnectionError(f"another part came than asked for ({stated or 'unnamed'})")
            key, _, known = version.partition(" ")
            return await answer.read(), answer.headers.get(key, known) != known

    return cast(tuple[bytes | None, bool], sync(found.loop, get, timeout=access.SECONDS))
