"""Complete files: written atomically, and checked before long work."""

import errno
import json
import os
from pathlib import Path

import pytest

from paddlevideo.files import atomic_write, check_writable, json_text

superuser = not hasattr(os, "geteuid") or os.geteuid() == 0


def test_writes_a_complete_file_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent and not path.exists()
        temporary.write_text("complete")
    assert path.read_text() == "complete" and os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("broke"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")],
)
def test_keeps_the_old_file_when_the_block_fails(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_keeps_the_old_file_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = "file.txt: No space left on device; an earlier file of this name is kept"
    with pytest.raises(OSError, match=message) as caught, atomic_write(path) as temporary:
        temporary.write_text("new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_keeps_the_old_file_when_the_disk_fills_up(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with (
        pytest.raises(OSError, match="cannot write .*file.txt: No space left on device"),
        atomic_write(path),
        Path("/dev/full").open("w") as file,
    ):
        file.write("new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.skipif(superuser, reason="the superuser may write anywhere")
def test_names_a_folder_without_write_permission(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    tmp_path.chmod(0o500)
    try:
        message = "cannot write .*file.txt: Permission denied"
        with pytest.raises(OSError, match=message), atomic_write(path) as temporary:
            temporary.write_text("new")
        assert path.read_text() == "old"
    finally:
        tmp_path.chmod(0o700)


def test_names_a_path_whose_folder_is_a_file(tmp_path):
    (tmp_path / "output").write_text("a file")
    path = tmp_path / "output" / "file.txt"
    with pytest.raises(OSError, match=r"cannot write .*output/file.txt: "), atomic_write(path):
        pass
    with pytest.raises(OSError, match=r"cannot write .*file.txt: .*; choose another path"):
        check_writable(path)


def test_check_writable_creates_the_folder_and_leaves_no_file(tmp_path):
    path = tmp_path / "new" / "file.txt"
    check_writable(path)
    assert os.listdir(path.parent) == []
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"


def test_json_has_no_nan():
    content = {
        "a": [1.5, float("nan"), (float("-inf"), "NaN")],
        "b": {"c": float("inf")},
        "d": None,
    }
    found = json.loads(json_text(content), parse_constant=pytest.fail)
    assert found == {"a": [1.5, None, [None, "NaN"]], "b": {"c": None}, "d": None}
    assert json_text({"ö": [1, 2]}) == '{"ö": [1, 2]}'
    assert json_text([1], indent=1) == "[\n 1\n]"
