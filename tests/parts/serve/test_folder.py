"""The folder of uploads, and what a killed service left of it."""

import os
import signal
import subprocess
import sys

import pytest

from paddlevideo.serve.folder import LOCK, PREFIX, UNLOCKED_SECONDS, UploadFolder

HOLD = """
import sys, time
from pathlib import Path
from paddlevideo.serve.folder import UploadFolder
folder = UploadFolder(Path(sys.argv[1]))
with folder.file() as path:
    path.with_name(path.name + "upload.mp4").write_bytes(b"x")
    print(folder.path, flush=True)
    time.sleep(60)
"""


def test_files_are_removed_with_their_block(tmp_path):
    folder = UploadFolder(tmp_path)
    with folder.file() as first, folder.file() as second:
        assert first != second
        first.with_name(first.name + "json").write_bytes(b"a")
        first.with_name(first.name + "upload.mp4").write_bytes(b"a")
        second.with_name(second.name + "upload").write_bytes(b"b")
        assert len(folder.files()) == 3
    assert folder.files() == []
    with pytest.raises(KeyError), folder.file() as path:
        path.with_name(path.name + "upload").write_bytes(b"b")
        raise KeyError
    assert folder.files() == []
    folder.close()
    assert not folder.path.exists()


def test_the_eleventh_file_keeps_the_first(tmp_path):
    folder = UploadFolder(tmp_path)
    with folder.file() as first:
        first.with_name(first.name + "upload").write_bytes(b"a")
        for _ in range(12):
            with folder.file() as other:
                other.with_name(other.name + "upload").write_bytes(b"b")
        assert folder.files() == [first.name + "upload"]
    folder.close()


def test_a_killed_service_is_cleaned_up_by_the_next(tmp_path, root):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        left = process.stdout.readline().strip()
        assert os.listdir(left)
        running = UploadFolder(tmp_path)
        assert running.removed == 0 and os.path.exists(left)  # it runs
        process.send_signal(signal.SIGKILL)
        process.wait()
        following = UploadFolder(tmp_path)
        assert following.removed == 1 and not os.path.exists(left)
        assert running.path.exists()
        following.close()
        running.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert list(tmp_path.iterdir()) == []


def test_other_folders_stay(tmp_path):
    (tmp_path / "other").mkdir()
    begun = tmp_path / f"{PREFIX}begun"
    begun.mkdir()  # of a service that starts in this moment
    target = tmp_path / "target"
    target.mkdir()
    (target / LOCK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(target)
    (tmp_path / f"{PREFIX}file").touch()
    folder = UploadFolder(tmp_path)
    assert folder.removed == 0 and begun.exists() and (target / LOCK).exists()
    os.utime(begun, (0, os.stat(begun).st_mtime - UNLOCKED_SECONDS - 1))
    os.utime(begun, (0, 0))
    assert UploadFolder(tmp_path).removed >= 1 and not begun.exists()


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot create a folder for uploads in .*--temp_dir"):
        UploadFolder(tmp_path / "file" / "below")
