"""The reports of a run: console, log file, progress bar, metrics.jsonl."""

import errno
import io
import json
import logging
import sys
import types
import warnings
from pathlib import Path

import pytest

from paddlevideo import log


@pytest.fixture(autouse=True)
def restored_logger():
    before, level, propagate = list(log.logger.handlers), log.logger.level, log.logger.propagate
    yield
    for handler in log.logger.handlers:
        if handler not in before:
            handler.close()
    log.logger.handlers[:] = before
    log.logger.setLevel(level)
    log.logger.propagate = propagate


def test_writes_lines_to_console_and_file(tmp_path, capsys):
    log.setup(tmp_path / "run")
    log.logger.info("hello ü")
    log.logger.error("it broke")
    out, err = capsys.readouterr()
    assert out.endswith("] hello ü\n") and err.endswith("] it broke\n")
    lines = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("] ")[1] for line in lines] == ["hello ü", "it broke"]


def test_a_second_setup_replaces_the_first(tmp_path, capsys):
    log.setup(tmp_path)
    log.setup()
    log.logger.info("once")
    assert capsys.readouterr().out.count("once") == 1
    assert (tmp_path / "log.txt").read_text() == ""


def test_other_ranks_write_their_own_file_and_print_warnings_only(tmp_path, capsys):
    log.setup(tmp_path, rank=1)
    log.logger.info("step")
    log.logger.warning("careful")
    assert capsys.readouterr().out.count("\n") == 1
    assert (tmp_path / "log.rank1.txt").read_text().count("\n") == 2
    assert not (tmp_path / "log.txt").exists()


class Lost(io.StringIO):
    """A terminal that was closed, or a pipe whose reader has ended."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, "gone")


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_a_lost_console_does_not_end_a_run(tmp_path, monkeypatch, number):
    log.setup(tmp_path)
    monkeypatch.setattr(sys, "stdout", Lost(number))
    monkeypatch.setattr(sys, "stderr", Lost(number))
    log.logger.info("a line")
    log.logger.error("an error")
    assert (tmp_path / "log.txt").read_text().count("\n") == 2


def test_a_console_without_the_characters_of_a_name_shows_their_codes(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    log.setup()
    log.logger.info("红色")
    assert console.buffer.getvalue().endswith(b"] \\u7ea2\\u8272\n")


def test_names_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    message = "cannot write to the output folder .*file: .*; choose another with -o output_dir="
    with pytest.raises(OSError, match=message):
        log.setup(tmp_path / "file")


def test_a_session_restores_handlers_level_and_filters(tmp_path, capsys):
    log.setup()
    other = logging.NullHandler()
    log.logger.addHandler(other)
    before, level, filters = list(log.logger.handlers), log.logger.level, list(warnings.filters)
    with log.session(tmp_path):
        inside = list(log.logger.handlers)
        log.logger.info("inside")
    assert other in inside and before[0] not in inside
    assert log.logger.handlers == before and log.logger.level == level
    assert warnings.filters == filters
    assert capsys.readouterr().out.count("inside") == 1
    assert (tmp_path / "log.txt").read_text().count("inside") == 1


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_after_a_session_a_logger_drops_what_it_dropped_before(caplog, level):
    log.logger.setLevel(level)
    log.logger.addHandler(caplog.handler)
    try:
        with log.session():
            log.logger.info("inside")
        log.logger.info("after")
        assert not log.logger.isEnabledFor(logging.INFO)
    finally:
        log.logger.removeHandler(caplog.handler)
    assert caplog.messages == ["inside"]


def test_a_session_that_cannot_start_restores_the_handlers(tmp_path):
    log.setup()
    before = list(log.logger.handlers)
    (tmp_path / "file").touch()
    message = "cannot write to the output folder"
    with pytest.raises(OSError, match=message), log.session(tmp_path / "file"):
        pass
    assert log.logger.handlers == before


def test_importing_adds_no_handlers():
    handlers = logging.getLogger("paddlevideo").handlers
    assert not [handler for handler in handlers if isinstance(handler, logging.FileHandler)]


PADDLE_WARNINGS = (
    "No ccache found. Please be aware that recompiling all source files may be required.",
    "When training, we now always track global mean and variance.",
)


@pytest.mark.parametrize("hide", [log.setup, log.quiet_paddle_warnings])
def test_hides_the_two_warnings_of_paddle_and_no_others(hide):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        hide()
        for text in (*PADDLE_WARNINGS, "another warning"):
            warnings.warn(text, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["another warning"]


EVIL = "\x1b[2J\n[01/01 00:00:00] training finished\r"
SHOWN = r"\x1b[2J\n[01/01 00:00:00] training finished\r"


def test_a_name_makes_up_no_line(tmp_path, capsys):
    log.setup(tmp_path)
    log.logger.info(f"file {EVIL} of %s", EVIL)
    log.logger.info(f"table:\n{EVIL}", extra=log.LINES)
    log.show(f"name {EVIL}", 5)
    log.show_error(ValueError(f"a.txt:1: {EVIL}"))
    out, err = capsys.readouterr()
    first, *others = (tmp_path / "log.txt").read_text().split("\n")
    assert first.endswith(f"] file {SHOWN} of {SHOWN}")
    assert others[0].endswith("] table:")
    assert others[1:] == [r"  \x1b[2J", r"  [01/01 00:00:00] training finished\r", ""]
    assert out.endswith(f"name {SHOWN}\n5\n")
    assert err == f"error: a.txt:1: {SHOWN}\n".replace(r"\n", "\n  ")
    assert "\x1b" not in out + err and "\r" not in out + err


def test_a_bar_has_no_control_codes(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert log.progress(total=1, label="\x1b[2J").desc == r"\x1b[2J"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a.mp4"),
            "a.mp4: No such file or directory",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("a value"), "a value"),
    ],
)
def test_error_text_has_no_number(error, text):
    assert log.error_text(error) == text


def test_shows_a_bar_on_a_terminal_only(monkeypatch):
    assert log.progress(range(3)).disable
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert not log.progress(total=3).disable
    assert log.progress(total=3, show=False).disable
    assert list(log.progress(range(3), label="epoch", start=0)) == [0, 1, 2]


def rows(folder) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        for line in lines
    ]


def test_rows_are_valid_json(tmp_path):
    metrics = log.Metrics(tmp_path)
    metrics.write(epoch=1, loss=0.5, lr=float("inf"), top1=float("nan"), split="train")
    assert len(rows(tmp_path)) == 1, "each row is written at once"
    metrics.close()
    (row,) = rows(tmp_path)
    assert row.pop("time") > 1.7e9
    assert row == {"epoch": 1, "loss": 0.5, "lr": None, "top1": None, "split": "train"}
    metrics.close()


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@needs_full
def test_names_the_metrics_on_a_full_disk(tmp_path):
    metrics = log.Metrics(tmp_path)
    metrics._file.close()
    metrics._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115, metrics closes it
    message = r"cannot write .*metrics.jsonl: No space left on device; continue with --resume"
    with pytest.raises(OSError, match=message) as caught:
        metrics.write(epoch=0, loss=1.0)
    assert caught.value.errno == errno.ENOSPC
    metrics.close()  # hides no other error


def test_a_board_on_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = types.SimpleNamespace(add_scalar=full, close=full)
    monkeypatch.setattr(log, "_open_board", lambda folder: writer)
    metrics = log.Metrics(tmp_path)
    with pytest.raises(OSError, match="metrics.jsonl: No space left"):
        metrics.write(epoch=0, loss=1.0)
    metrics.close()


@needs_full
def test_a_log_file_on_a_full_disk_does_not_end_a_run(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with log.session(tmp_path):
        for _ in range(3):
            log.logger.info("a line")
    out, err = capsys.readouterr()
    assert out.count("a line") == 3
    file = tmp_path / "log.txt"
    assert err == f"error: cannot write {file}: No space left on device; the run continues\n"


def test_a_new_run_starts_a_new_file_and_a_resumed_run_continues_it(tmp_path):
    first = log.Metrics(tmp_path)
    for epoch in (0, 1):
        for step in (0, 10, 20):
            first.write(epoch=epoch, step=step)
        first.write(epoch=epoch, top1=0.5)
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')  # the run was killed in the middle of a line

    resumed = log.Metrics(tmp_path, keep_before=(1, 10))
    resumed.write(epoch=1, step=10)
    resumed.close()
    kept = [(row["epoch"], row.get("step")) for row in rows(tmp_path)]
    assert kept == [(0, 0), (0, 10), (0, 20), (0, None), (1, 0), (1, 10)]

    log.Metrics(tmp_path).close()
    assert rows(tmp_path) == []


def test_an_inactive_writer_writes_no_rows(tmp_path):
    metrics = log.Metrics(tmp_path, active=False)
    metrics.write(epoch=0)
    metrics.close()
    assert not list(tmp_path.iterdir())


def test_does_without_a_board_that_cannot_be_imported(tmp_path, monkeypatch, caplog):
    (tmp_path / "visualdl.py").write_text("raise OSError(30, 'Read-only file system', '/home')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "visualdl", raising=False)
    metrics = log.Metrics(tmp_path)
    metrics.write(epoch=0)
    metrics.close()
    assert "no board of VisualDL, because it writes to the home folder" in caplog.text
    assert "Read-only file system" in caplog.text


def test_writes_to_a_board_that_is_installed(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder):
            calls.append(("open", folder))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def close(self):
            calls.append(("close",))

    monkeypatch.setitem(sys.modules, "visualdl", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    metrics = log.Metrics(tmp_path)
    metrics.write(split="train", epoch=0, iteration=30, loss=0.25)
    metrics.close()
    assert calls == [("open", str(tmp_path / "board")), ("train/loss", 0.25, 30), ("close",)]
