"""Running a function over many items in processes that may crash."""

import ctypes
import signal
import time

import pytest

from paddlevideo import processes
from paddlevideo.processes import Crash, run_each, signals_held


def test_reports_the_item_that_crashes_its_process():
    # The third item reads memory at address 0.
    items = [b"a", b"b", 0, b"c", b"d", b"e"]
    results = dict(run_each(ctypes.string_at, items, 2, show=False))
    assert isinstance(results.pop(2), Crash)
    assert results == {0: b"a", 1: b"b", 3: b"c", 4: b"d", 5: b"e"}


def test_raises_the_errors_of_the_function():
    with pytest.raises(ZeroDivisionError):
        list(run_each(divide_ten, [1, 0], 0, show=False))


def test_works_in_this_process_without_workers():
    assert dict(run_each(divide_ten, [1, 2], 0, show=False)) == {0: 10, 1: 5}
    assert list(run_each(divide_ten, [], 4)) == []


def test_a_held_signal_arrives_afterwards():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(time.monotonic()))
    try:
        with signals_held(["SIGUSR1", "SIGNONE"]):
            signal.raise_signal(signal.SIGUSR1)  # of this thread
            assert not seen
        assert len(seen) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)


def divide_ten(number: int) -> int:
    return 10 // number


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\n"
            "processor\t: 1\ncpu family\t: 99\nmodel\t\t: 99\nmodel name\t: other\n",
            "AMD EPYC (cpu family 26, model 2)",
        ),
        ("model name\t: Some CPU @ 2.0: GHz\n", "Some CPU @ 2.0: GHz"),
        ("BogoMIPS\t: 50.00\n", "aarch64"),
        (None, "aarch64"),
    ],
)
def test_names_the_processor(monkeypatch, tmp_path, text, name):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(processes, "Path", lambda path: file)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processes.processor() == name
