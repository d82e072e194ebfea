"""Blocks on the local disk: used again, bounded, undamaged, shared; and a full disk."""

import contextlib
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.remote import CacheSettings, block_cache, current_cache, read_bytes, url_file
from paddlevideo.remote import use_cache as use
from paddlevideo.remote.block_cache import BLOCK, HEAD, SMALLEST, Cache

BODY = np.random.default_rng(0).bytes(4 * BLOCK + 99)
SMALL = SMALLEST / 1e9


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(block_cache, "_caches", {})
    return CacheSettings(str(tmp_path / "cache"), SMALL)


@pytest.fixture
def forget(monkeypatch):
    """`forget()`: forget the blocks in memory."""
    run = lambda: monkeypatch.setattr(url_file, "_memory", url_file._Memory())  # noqa: E731
    run()
    return run


def blocks(settings) -> list[Path]:
    paths = Path(settings.folder).rglob("*-*")
    return sorted(path for path in paths if not path.name.startswith("."))


def test_blocks_are_read_from_the_disk_the_next_time(server, settings, forget):
    server.files["/a.bin"] = BODY
    url = f"{server.url}/a.bin"
    with use(settings):
        assert read_bytes(url) == BODY
        count = len(server.parts)
        assert len(blocks(settings)) == 5
        forget()
        assert read_bytes(url) == BODY and len(server.parts) == count
    forget()
    assert current_cache() is None
    assert read_bytes(url) == BODY and len(server.parts) == 2 * count


def test_blocks_of_another_version_are_not_used(server, settings, forget, monkeypatch):
    monkeypatch.setattr("paddlevideo.remote.access.INFO_SECONDS", 0)
    server.files["/a.bin"] = BODY
    with use(settings):
        read_bytes(f"{server.url}/a.bin")
        server.files["/a.bin"], server.etag = BODY[::-1], '"v2"'
        forget()
        assert read_bytes(f"{server.url}/a.bin") == BODY[::-1]


def test_a_file_without_a_version_is_not_stored(server, settings, forget):
    server.files["/a.bin"], server.etag = BODY, None
    with use(settings):
        assert read_bytes(f"{server.url}/a.bin") == BODY
    assert blocks(settings) == []


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"?", lambda b: b""])
def test_damaged_blocks_are_fetched_again(server, settings, forget, damage):
    server.files["/a.bin"] = BODY
    with use(settings):
        read_bytes(f"{server.url}/a.bin")
        for path in blocks(settings):
            path.write_bytes(damage(path.read_bytes()))
        forget()
        assert read_bytes(f"{server.url}/a.bin") == BODY
        forget()
        count = len(server.parts)
        assert read_bytes(f"{server.url}/a.bin") == BODY and len(server.parts) == count


def size_of(folder) -> int:
    total = 0
    for path in Path(folder).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            total += path.stat().st_size * path.is_file()
    return total


def test_the_limit_holds_and_what_was_used_stays(settings):
    cache, block = Cache(settings), bytes(BLOCK)
    cache.put("used", 0, block)
    for number in range(40):
        cache.put("other", number, block)
        for path in blocks(settings):  # the clock of the disk may be coarse
            if path.stat().st_mtime > 1000:
                os.utime(path, (number, number))
        assert cache.get("used", 0, BLOCK) == block
        assert size_of(settings.folder) <= cache.limit
    assert cache.get("other", 39, BLOCK) == block and cache.get("other", 0, BLOCK) is None


def _fill(settings: CacheSettings, name: str, together) -> None:
    cache = Cache(settings)
    for number in range(60):
        if number % 3 == 0:
            together.wait()
            together.wait()
        cache.put(name, number, bytes(BLOCK))


def test_processes_share_the_limit(settings):
    context, limit, sizes = get_context("fork"), Cache(settings).limit, []
    together = context.Barrier(3, timeout=60)
    processes = [context.Process(target=_fill, args=(settings, name, together)) for name in "ab"]
    for process in processes:
        process.start()
    for _ in range(20):  # between two waits nobody writes, so the size is exact
        together.wait()
        sizes.append(size_of(settings.folder))
        together.wait()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    # what a look leaves, and two blocks that each process wrote since
    assert 0.5 * limit < max(sizes) <= block_cache.FULL * limit + 2 * 2 * (BLOCK + HEAD)
    Cache(settings).put("c", 0, bytes(BLOCK))
    assert size_of(settings.folder) <= limit


def test_threads_share_a_cache(memory, settings, forget):
    url = memory.put("a.bin", BODY)

    def read(_):
        with use(settings):
            return read_bytes(url)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(16))) == {BODY}


def test_what_killed_processes_left_is_removed(settings):
    cache = Cache(settings)
    cache.put("a", 0, b"a")
    left = blocks(settings)[0].with_name(".a-0.999999999.tmp")
    left.write_bytes(bytes(100))
    Cache(settings).put("b", 0, b"b")
    assert not left.exists()


def test_a_full_disk_is_logged_once(server, settings, forget, monkeypatch, logged):
    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    server.files["/a.bin"] = BODY
    with use(settings):
        assert read_bytes(f"{server.url}/a.bin") == BODY
    text = (
        f"cache_dir {settings.folder}: cannot write: No space left on device; make room or set a "
    )
    lines = [line for line in logged().splitlines() if text + "smaller cache_gb" in line]
    assert len(set(lines)) == 1 and blocks(settings) == []


def test_a_folder_that_cannot_be_written(memory, tmp_path, forget, logged):
    (tmp_path / "file").write_text("")
    with use(CacheSettings(str(tmp_path / "file"), SMALL)):
        assert read_bytes(memory.put("a.bin", BODY)) == BODY
    assert "cannot write: Not a directory; what does not fit" in logged()


@pytest.mark.parametrize("gigabytes", [0.0, -1, 0.001, float("nan")])
def test_a_limit_that_is_too_small(gigabytes):
    text = r"cache_gb is .*, expected at least 0.017 \(32 blocks of 512 KB\); leave cache_dir out"
    with pytest.raises(ValueError, match=text):
        CacheSettings("x", gigabytes)


def test_blocks_of_another_user_are_read(settings, monkeypatch):
    cache = Cache(settings)
    cache.put("a", 0, b"x")

    def denied(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", denied)
    assert cache.get("a", 0, 1) == b"x"
