"""Listings of folders, copies in the cache, and files that are stored."""

import os

import numpy as np
import pytest

from paddlevideo.remote import (
    Info,
    MissingError,
    RemoteError,
    atomic_file,
    copies,
    exists,
    glob_url,
    is_file,
    is_folder,
    list_url,
    local_copy,
    local_folder,
    put_folder,
    read_bytes,
    remove,
    written,
)
from paddlevideo.remote.block_cache import BLOCK

BODY = np.random.default_rng(0).bytes(6 * BLOCK + 1234)


# --- folders --------------------------------------------------------------------------------------


@pytest.fixture
def folder(memory):
    for name in ("b.mp4", "a/2.MP4", "a/1.mp4", "a/x/3.txt", ".hidden/4.mp4", "a/.5.mp4"):
        memory.put(f"d/{name}", name)
    return f"{memory.url}/d"


def test_list(folder):
    urls = [f"{folder}/{name}" for name in ("a/1.mp4", "a/2.MP4", "a/x/3.txt", "b.mp4")]
    assert list_url(folder) == list_url(f"{folder}/") == urls
    assert list_url(folder, {".txt"}) == urls[2:3]


def test_glob(folder):
    assert glob_url(f"{folder}/a/*.mp4") == [f"{folder}/a/1.mp4"]
    assert glob_url(f"{folder}/**/3.*") == [f"{folder}/a/x/3.txt"]
    assert glob_url(f"{folder}/**/4.*") == []


def test_a_glob_in_a_hidden_folder(folder):
    assert glob_url(f"{folder}/.hidden/*.mp4") == [f"{folder}/.hidden/4.mp4"]
    assert glob_url(f"{folder}/a/.5.mp4") == []


def test_a_folder_of_a_web_server_that_lists_it(server):
    server.files |= {
        "/v/": b'<a href="../">up</a> <a href="a%20b.mp4">a b.mp4</a> <a href="x/">x/</a>',
        # Other servers redirect from here to /v/x/.
        "/v/x": b'<a href="c.mp4">c.mp4</a> <a href="n.txt">n.txt</a>',
    }
    url = f"{server.url}/v/"
    assert is_folder(url) and not is_folder(url[:-1])
    assert list_url(url, {".mp4"}) == [f"{url}a%20b.mp4", f"{url}x/c.mp4"]
    with pytest.raises(MissingError):
        list_url(f"{server.url}/none/")


def test_kinds(folder, tmp_path):
    assert is_folder(folder) and not is_file(folder) and exists(folder)
    assert is_file(f"{folder}/b.mp4") and not is_folder(f"{folder}/b.mp4")
    assert not is_folder(f"{folder}/none") and not is_file(f"{folder}/none")
    assert is_folder(tmp_path) and not is_file(tmp_path) and exists(tmp_path)


# --- copies ---------------------------------------------------------------------------------------


def test_a_copy_is_fetched_again_only_if_the_file_changed(server):
    server.files["/d/a.bin"] = b"one"
    url = f"{server.url}/d/a.bin"
    path = local_copy(url)
    assert path.name == "a.bin" and path.read_bytes() == b"one"
    assert local_copy(url) == path and len(server.asked) == 1
    server.files["/d/a.bin"], server.etag = b"other", '"v2"'
    assert local_copy(url).read_bytes() == b"other"


def test_a_damaged_copy_is_fetched_again(memory):
    url = memory.put("a.bin", b"content")
    local_copy(url).write_bytes(b"cut")
    assert local_copy(url).read_bytes() == b"content"


def test_a_transfer_that_fails_is_an_error_of_the_file(memory, monkeypatch):
    known = Info(5, "what the server said a moment ago")
    monkeypatch.setattr(copies, "get_info", lambda *_, **__: known)
    with pytest.raises(MissingError, match=f"^{memory.url}/gone.bin: no such file$"):
        local_copy(f"{memory.url}/gone.bin")
    url = memory.put("longer.bin", b"longer")
    with pytest.raises(RemoteError, match=f"^{url}: it changed while it was fetched; run it again"):
        local_copy(url)


def test_local_paths_stay(tmp_path):
    assert local_copy(tmp_path) == tmp_path and local_folder(tmp_path) == tmp_path
    assert local_copy("a/b") == type(tmp_path)("a/b")


def test_a_copy_of_a_folder_follows_the_folder(memory):
    for name in ("m.yaml", "x/a.bin"):
        memory.put(f"d/{name}", name)
    path = local_folder(f"{memory.url}/d/")
    assert [(path / name).read_text() for name in ("m.yaml", "x/a.bin")] == ["m.yaml", "x/a.bin"]
    memory.files.rm(f"{memory.url}/d/x/a.bin")
    memory.put("d/b.bin", "b")
    assert local_folder(f"{memory.url}/d") == path
    assert (path / "b.bin").exists() and not (path / "x/a.bin").exists()
    with pytest.raises(MissingError, match="no such folder, or no file in it"):
        local_folder(f"{memory.url}/e")


def test_a_copy_of_a_folder_stays_in_its_folder(memory):
    with pytest.raises(RemoteError, match=r"a file in it is called '\.\./x'"):
        local_folder(f"{memory.url}/d", ["../x"])


def test_old_copies_are_removed(memory, monkeypatch):
    monkeypatch.setattr(copies, "COPIES", 1000)
    old, kept = memory.put("old/a.bin", bytes(900)), memory.put("new/b.bin", bytes(900))
    path = local_copy(old)
    os.utime(path, (1, 1))
    assert local_copy(kept).exists() and not path.exists()


# --- writing --------------------------------------------------------------------------------------


def test_a_file_is_stored_when_it_is_complete(memory):
    url = memory.put("out/a.json", "earlier")
    with pytest.raises(KeyError), written(url) as path:
        path.write_text("half")
        raise KeyError
    assert read_bytes(url) == b"earlier"
    with written(url) as path:
        path.write_text("whole")
    assert read_bytes(url) == b"whole"


def test_a_folder_is_stored(memory, tmp_path):
    for name in ("model.yaml", "x/p.bin", ".tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    put_folder(tmp_path, f"{memory.url}/out", last=["model.yaml"])
    assert list_url(memory.url) == [f"{memory.url}/out/{n}" for n in ("model.yaml", "x/p.bin")]
    local = f"file://{tmp_path}/stored"
    with written(f"{local}/a/b.txt") as path:
        path.write_text("b")
    assert read_bytes(f"{local}/a/b.txt") == b"b"
    with written(f"{local}/a/b.txt") as path:
        path.write_text("c")
    assert read_bytes(f"{local}/a/b.txt") == b"c"
    assert [p.name for p in (tmp_path / "stored/a").iterdir()] == ["b.txt"]


def test_web_servers_are_only_read(server, tmp_path):
    with pytest.raises(RemoteError, match="can only be read"), written(f"{server.url}/a") as path:
        path.write_text("a")


@pytest.mark.parametrize("is_remote", [True, False])
def test_files_and_folders_are_removed(memory, tmp_path, is_remote):
    folder = memory.url if is_remote else str(tmp_path / "d")
    for name in ("a.bin", "f/1.bin", "f/x/2.bin", "f2.bin"):
        with atomic_file(f"{folder}/{name}") as path:
            path.write_bytes(b"x")
    assert exists(f"{folder}/a.bin") and exists(f"{folder}/f/1.bin")
    for name in ("a.bin", "f", "none"):
        remove(f"{folder}/{name}")
        assert not exists(f"{folder}/{name}")
    assert not exists(f"{folder}/f/1.bin") and exists(f"{folder}/f2.bin")


def test_a_file_is_not_replaced_by_a_part(memory):
    url = memory.put("a.txt", "old")
    with pytest.raises(ValueError, match="broken"), atomic_file(url) as path:
        path.write_text("ne")
        raise ValueError("broken")
    assert read_bytes(url) == b"old"
