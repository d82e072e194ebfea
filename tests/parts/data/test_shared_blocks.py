"""Shared memory of loaders: what is written is read, and what killed runs left is removed."""

import errno
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.data import shared_blocks
from paddlevideo.data.loader import Loader, fit_prefetch
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.shared_blocks import SharedBlocks, free, put, remove_dead_blocks, take
from tests.parts.data.random_clips import dataset
from tests.process_state import is_alive


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The folder that stands for /dev/shm."""
    monkeypatch.setattr(shared_blocks, "SHARED_MEMORY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.int64).reshape(2, 3, 4),
        np.arange(24, dtype=np.float32).reshape(4, 6).T,
        np.zeros((0, 3), np.float16),
        np.array(7, np.int64),
        np.array([True, False]),
        np.array(["a", "blü"]),
    ],
    ids=["int64", "not contiguous", "empty", "scalar", "bool", "text"],
)
def test_reads_what_was_written_and_frees_it(base, array):
    blocks = SharedBlocks()
    block = put(blocks.folder, array)
    back = take(blocks.folder, block)
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tolist() == array.tolist() and back.flags.writeable
    assert os.listdir(blocks.folder) == [shared_blocks.OWNER]
    free(blocks.folder, block)  # a second time changes nothing
    blocks.close()
    assert os.listdir(base) == []


def test_names_the_full_memory_and_leaves_nothing(base, monkeypatch):
    blocks = SharedBlocks()
    real = Path.open

    def full(self, *args, **kwargs):
        file = real(self, *args, **kwargs)
        file.close()
        return real(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(
        OSError, match=rf"{re.escape(str(base))} is full; .*num_workers.*--shm-size"
    ) as caught:
        put(blocks.folder, np.zeros(100_000, np.uint8))
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(blocks.folder) == [shared_blocks.OWNER]
    blocks.close()


def test_names_a_memory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot create .*loader processes: .*; use 0 workers"):
        SharedBlocks(tmp_path / "file")


def test_a_loader_that_nobody_closed_is_freed_with_it(base):
    blocks = SharedBlocks()
    put(blocks.folder, np.zeros(3))
    del blocks
    gc.collect()
    assert os.listdir(base) == []


def test_without_shared_memory_blocks_are_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_blocks, "SHARED_MEMORY", tmp_path / "missing")
    monkeypatch.setattr(shared_blocks.tempfile, "gettempdir", lambda: str(tmp_path))
    loader = Loader(dataset(["v0", "v1"]), EvalOrder(2, 1), 1)
    batches = loader.epoch(0)
    next(batches)
    (name,) = os.listdir(tmp_path)
    assert name.startswith(f"{shared_blocks.PREFIX}") and f"-{os.getpid()}-" in name
    batches.close()
    loader.close()
    assert os.listdir(tmp_path) == []


# --- killed runs --------------------------------------------------------------------------------

RUN = """
import os, sys, time
from pathlib import Path
from paddlevideo.data import shared_blocks
from paddlevideo.data.loader import Loader
from paddlevideo.data.orders import EvalOrder
from tests.parts.data.random_clips import dataset

shared_blocks.SHARED_MEMORY = Path(sys.argv[1])
loader = Loader(dataset([f"v{i}" for i in range(40)]), EvalOrder(40, 1), 2)
batches = loader.epoch(0)
next(batches)
while len(os.listdir(loader._blocks.folder)) < 4:
    time.sleep(0.01)
print(*(worker.pid for worker in loader._pool._processes.values()), flush=True)
time.sleep(600)
"""


@pytest.fixture
def run(root, base):
    """A process with a loader that has loaded batches ahead."""
    command = [sys.executable, "-c", RUN, str(base)]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    process.workers = [int(word) for word in process.stdout.readline().split()]
    assert len(process.workers) == 2
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def wait_until(condition) -> bool:
    for _ in range(1000):
        if condition():
            return True
        threading.Event().wait(0.02)
    return False


def test_the_next_loader_removes_what_a_killed_group_left_and_says_so(run, base, caplog):
    caplog.set_level(logging.INFO)
    (folder,) = base.iterdir()
    assert f"-{run.pid}-" in folder.name and len(os.listdir(folder)) > 3
    fit_prefetch(1, 1, 1, folder=str(base))
    SharedBlocks().close()
    assert folder.exists() and not caplog.text, "its owner is alive"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    # The workers are no children of this process; they end in a moment.
    assert wait_until(lambda: fit_prefetch(1, 1, 1, folder=str(base)) and not folder.exists())
    assert f"removed {folder}: " in caplog.text and "of a run that was killed" in caplog.text
    assert caplog.text.count("removed") == 1


def test_workers_end_with_a_killed_main_process_and_free_its_memory(run, base):
    run.kill()
    run.wait()
    assert wait_until(lambda: os.listdir(base) == [] and not any(map(is_alive, run.workers)))


def test_a_killed_worker_leaves_nothing(base):
    loader = Loader(dataset(["v0", "v1", "kill", "v3"]), EvalOrder(4, 1), 2)
    with pytest.raises(ChildProcessError):
        list(loader.epoch(0))
    loader.close()
    assert os.listdir(base) == []


def test_a_generator_may_end_after_its_loader(base):
    loader = Loader(dataset([f"v{i}" for i in range(9)]), EvalOrder(9, 1), 2)
    batches = loader.epoch(0)
    next(batches)
    loader.close()
    batches.close()
    assert os.listdir(base) == []


def make_dead(folder):
    folder.mkdir()
    (folder / shared_blocks.OWNER).touch()
    (folder / "5-1").write_bytes(b"abc")
    return folder


def test_leaves_what_is_not_its_own(base, monkeypatch, tmp_path_factory, caplog):
    other = make_dead(tmp_path_factory.mktemp("home") / "data")
    (base / f"{shared_blocks.PREFIX}link").symlink_to(other)
    (base / "another-program").write_text("x")
    (base / f"{shared_blocks.PREFIX}file").write_text("x")
    (base / f"{shared_blocks.PREFIX}no-owner").mkdir()
    foreign = make_dead(base / f"{shared_blocks.PREFIX}foreign")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        remove_dead_blocks(base)
    before = sorted(base.iterdir())
    assert foreign in before and len(before) == 5
    remove_dead_blocks(base)
    assert sorted(base.iterdir()) == [path for path in before if path != foreign]
    assert (other / "5-1").exists()


def test_many_loaders_may_clean_up_at_once(base):
    for number in range(20):
        make_dead(base / f"{shared_blocks.PREFIX}{number}")
    threads = [threading.Thread(target=remove_dead_blocks, args=(base,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(base) == []


def test_an_unlocked_new_folder_is_never_seen(base, monkeypatch):
    real, seen = shared_blocks.try_lock, []

    def look_first(descriptor):
        seen.append([name for name in os.listdir(base) if not name.startswith(".")])
        return real(descriptor)

    monkeypatch.setattr(shared_blocks, "try_lock", look_first)
    SharedBlocks().close()
    assert seen == [[]]
