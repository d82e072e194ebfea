"""What a run reports: console lines, `log.txt`, a progress bar, and `metrics.jsonl` for plots."""

import contextlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from paddlevideo.files import atomic_write
from paddlevideo.plain_text import readable, readable_lines

logger = logging.getLogger("paddlevideo")
LINES = {"lines": True}  # logger.info(text, extra=LINES): `text` has lines, its names are escaped


class _File(logging.FileHandler):
    """A log file. If it cannot be written, one line says so, and the run continues without it."""

    failed = False

    def handleError(self, record):
        error = sys.exc_info()[1]
        if not self.failed and isinstance(error, OSError):
            self.failed = True
            with contextlib.suppress(OSError):
                text = f"cannot write {self.baseFilename}: {error.strerror}; the run continues"
                print(f"error: {readable(text)}", file=sys.stderr)
        elif not isinstance(error, OSError):
            super().handleError(record)

    def close(self):
        with contextlib.suppress(OSError):  # what was not written before
            super().close()


class _Line(logging.Formatter):
    """One record is one line, whatever the names in it contain, except with `extra=LINES`."""

    def formatMessage(self, record):
        text = super().formatMessage(record)
        return readable_lines(text) if "lines" in vars(record) else readable(text)


class _Console(logging.Handler):
    """Prints above a running progress bar; errors go to standard error.

    A console that is gone does not end a run: a closed terminal, or a pipe whose reader has ended.
    """

    def emit(self, record):
        stream = sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        encoding = stream.encoding or "utf-8"
        # A terminal may have fewer characters than a class name.
        text = self.format(record).encode(encoding, "backslashreplace").decode(encoding)
        with contextlib.suppress(OSError):
            tqdm.write(text, file=stream)
            stream.flush()


def setup(folder: str | Path | None = None, rank: int = 0) -> None:
    """Start the logging of a command: the console, and a file if there is a folder.

    Rank 0 prints every line and writes `log.txt`. Other ranks print warnings and errors only, and
    write `log.rank1.txt`, ... Handlers of an earlier call are closed. Known warnings of Paddle are
    hidden (`quiet_paddle_warnings`).

    Args:
        folder: the output folder; None for the console alone.

    Raises:
        OSError: the folder cannot be created or written.
    """
    quiet_paddle_warnings()
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    line = _Line("[%(asctime)s] %(message)s", "%m/%d %H:%M:%S")
    handlers: list[logging.Handler] = [_Console(logging.INFO if rank == 0 else logging.WARNING)]
    if folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            handlers.append(_File(file_of(folder, rank), encoding="utf-8"))
        except OSError as error:
            raise folder_error(folder, error) from error
    for handler in handlers:
        handler.setFormatter(line)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def drop_earlier_lines(path: Path, size: int) -> None:
    """Remove the first `size` bytes of a log file, also while a session appends to it."""
    with path.open("rb+") as file:
        file.seek(size)
        lines = file.read()
        file.seek(0)
        file.write(lines)
        file.truncate()


def file_of(folder: str | Path, rank: int = 0) -> Path:
    """The log file of a rank in an output folder."""
    return Path(folder) / ("log.txt" if rank == 0 else f"log.rank{rank}.txt")


def folder_error(folder: str | Path, error: OSError) -> OSError:
    """The error of an output folder that cannot be written."""
    text = (
        f"cannot write to the output folder {folder}: {error.strerror}; "
        "choose another with -o output_dir=..."
    )
    return OSError(error.errno, text)


@contextlib.contextmanager
def session(folder: str | Path | None = None, rank: int = 0) -> Iterator[None]:
    """`setup` for a block; afterwards logging and warning filters are as before.

    Handlers that other code added to the logger stay in use, those of an earlier `setup` pause.
    """
    before, level, propagate = list(logger.handlers), logger.level, logger.propagate
    own: list[logging.Handler] = []
    logger.handlers.clear()  # so that setup does not close them
    try:
        with warnings.catch_warnings():
            setup(folder, rank)
            own = list(logger.handlers)
            for handler in before:
                if not isinstance(handler, _Console | logging.FileHandler):
                    logger.addHandler(handler)
            yield
    finally:
        for handler in own:
            handler.close()
        logger.handlers[:] = before
        logger.setLevel(level)  # also forgets which levels were enabled
        logger.propagate = propagate


def quiet_paddle_warnings() -> None:
    """Hide two warnings of Paddle that users can do nothing about, for the rest of the process.

    Paddle warns on import where no compiler cache is installed, which only custom C++ operators
    need. Its batch norm warns in training mode that it tracks the global mean and variance, as it
    always does. Call this before Paddle is imported to hide the first. To hide them for a block
    only, call it inside `warnings.catch_warnings()`.
    """
    warnings.filterwarnings("ignore", message="No ccache found")
    warnings.filterwarnings(
        "ignore", message="When training, we now always track global mean and variance"
    )


def quiet_s3_packages() -> None:
    """Hide lines of the packages for S3 that say where credentials were found, for the rest of the
    process; Paddle shows the lines of all packages."""
    for name in ("botocore", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def error_text(error: Exception | str) -> str:
    """The message of an error; of an OSError the file and the reason, without its number.

    Names in it cannot control a terminal. Lines after the first are indented, so that no name can
    make up a message.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return readable_lines(text)


def plural(count: int, noun: str) -> str:
    """A number with its noun: `1 clip`, `2 clips`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def show(*lines: object) -> None:
    """Print lines; a name inside a line cannot begin another one, or control the terminal."""
    print("\n".join(readable(str(line)) for line in lines), flush=True)


def show_error(error: Exception | str) -> None:
    """Print an error, or its message, to standard error."""
    print(f"error: {error_text(error)}", file=sys.stderr)


def progress(
    iterable=None, total: int | None = None, label: str = "", start: int = 0, show: bool = True
) -> tqdm:
    """A progress bar on a terminal; nothing where standard error is not a terminal.

    Args:
        total: number of steps, where `iterable` has no length.
        start: number of steps that are done already.
        show: False for no bar.
    """
    return tqdm(
        iterable,
        total=total,
        desc=readable(label),
        initial=start,
        disable=not (show and sys.stderr.isatty()),
        dynamic_ncols=True,
        leave=False,
    )


class Metrics:
    """Appends rows to `<folder>/metrics.jsonl`, and to VisualDL or TensorBoard where installed.

    Args:
        active: False writes nothing, as on all ranks but the first.
        keep_before: (epoch, step) where a resumed run continues; later rows of the file are
            dropped, because the run writes them again. None starts a new file.
    """

    def __init__(
        self, folder: str | Path, active: bool = True, keep_before: tuple[int, int] | None = None
    ):
        self._file, self._board = None, None
        if not active:
            return
        path = Path(folder) / "metrics.jsonl"
        rows = _rows_before(path, keep_before) if keep_before and path.exists() else []
        with atomic_write(path) as temporary:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            temporary.write_text(text, encoding="utf-8")
        self._path = path
        # Without a buffer, so that closing a file on a full disk has nothing to write.
        self._file = path.open("ab", buffering=0)
        self._board = _open_board(Path(folder) / "board")

    def write(self, **row) -> None:
        """Append a row; numbers that are not finite become null, because JSON has no others.

        Raises:
            OSError: the disk is full; the message names the file.
        """
        if not self._file:
            return
        row = {"time": round(time.time(), 3), **row}
        finite = {k: None if isinstance(v, float) and v - v != 0 else v for k, v in row.items()}
        try:
            line = f"{json.dumps(finite)}\n".encode()
            while line:  # a disk that becomes full takes a part
                line = line[self._file.write(line) :]
            self._plot(row)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot write {self._path}: {error.strerror or error}; continue with --resume",
            ) from error

    def _plot(self, row: dict) -> None:
        if not self._board:
            return
        split, iteration = row.get("split", "run"), int(row.get("iteration", 0))
        for key, value in row.items():
            if isinstance(value, float) and key not in ("time", "epoch"):
                self._board.add_scalar(f"{split}/{key}", value, iteration)

    def close(self) -> None:
        file, board = self._file, self._board
        self._file = self._board = None
        if file:
            file.close()
        if board:
            with contextlib.suppress(OSError):  # a full disk; metrics.jsonl has the numbers
                board.close()


def _rows_before(path: Path, point: tuple[int, int]) -> list[dict]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # a killed run may leave a part of a line
            continue
        # A row without a step comes at the end of its epoch.
        if (row.get("epoch", 0), row.get("step", float("inf"))) < point:
            rows.append(row)
    return rows


def _open_board(folder: Path):
    try:
        from visualdl import LogWriter
    except ImportError:
        try:
            from tensorboardX import SummaryWriter as LogWriter
        except ImportError:
            return None
    except OSError as error:
        logger.warning(f"no board of VisualDL, because it writes to the home folder: {error}")
        return None
    return LogWriter(str(folder))
