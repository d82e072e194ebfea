"""What a run says: lines on the console and in a file, a progress bar, and `metrics.jsonl` for plots."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

logger = logging.getLogger("paddlevideo")


class _Console(logging.Handler):
    """Writes above a running progress bar instead of through it."""

    def emit(self, record):
        tqdm.write(
            self.format(record), file=sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        )
        sys.stdout.flush()


def setup(folder: str | Path | None = None, rank: int = 0) -> None:
    """Start logging: console lines on rank 0, and `<folder>/log.txt` (`log.rank1.txt`, ... on other ranks)."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    line = logging.Formatter("[%(asctime)s] %(message)s", "%m/%d %H:%M:%S")
    handlers: list[logging.Handler] = [_Console(logging.INFO if rank == 0 else logging.WARNING)]
    if folder:
        name = "log.txt" if rank == 0 else f"log.rank{rank}.txt"
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(Path(folder) / name, encoding="utf-8"))
        except OSError as error:
            text = f"cannot write to the output folder {folder}: {error.strerror}; choose another with -o output_dir=..."
            raise OSError(error.errno, text) from error
    for handler in handlers:
        handler.setFormatter(line)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextlib.contextmanager
def session(folder: str | Path | None = None, rank: int = 0) -> Iterator[None]:
    """`setup` inside, and the logging as it was before afterwards.

    Handlers that others added to the logger stay, those of an earlier `setup` wait.
    """
    before, level, propagate = list(logger.handlers), logger.level, logger.propagate
    for handler in before:
        logger.removeHandler(handler)
    setup(folder, rank)
    own = list(logger.handlers)
    for handler in before:
        if not isinstance(handler, _Console | logging.FileHandler):
            logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in own:
            logger.removeHandler(handler)
            handler.close()
        logger.handlers[:] = before
        logger.level, logger.propagate = level, propagate


def error_text(error: Exception) -> str:
    """An error as a line for people: an OSError without its number, but with the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def readable(text: str) -> str:
    """Any text as one printable line: line ends, bytes that are not UTF-8 and the like as codes."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def progress(
    iterable=None, total: int | None = None, label: str = "", start: int = 0, show: bool = True
) -> tqdm:
    """A bar on a terminal, silence in a file."""
    off = not (show and sys.stderr.isatty())
    return tqdm(
        iterable,
        total=total,
        desc=label,
        initial=start,
        disable=off,
        dynamic_ncols=True,
        leave=False,
    )


class Metrics:
    """Appends rows to `<folder>/metrics.jsonl`, and to VisualDL or TensorBoard where one is installed."""

    def __init__(
        self, folder: str | Path, active: bool = True, keep_before: tuple[int, int] | None = None
    ):
        """`keep_before=(epoch, step)` drops the rows at or after that point, which a resumed run will write again."""
        self._file, self._board = None, None
        if not active:
            return
        path = Path(folder) / "metrics.jsonl"
        rows = _rows_before(path, keep_before) if keep_before and path.exists() else []
        kept = path.with_name(".metrics.jsonl.tmp")
        kept.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        kept.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._board = _open_board(Path(folder) / "board")

    def write(self, **row) -> None:
        """One row; numbers that are not finite become null, so that every line is plain JSON."""
        if not self._file:
            return
        row = {"time": round(time.time(), 3), **row}
        clean = {k: None if isinstance(v, float) and v - v != 0 else v for k, v in row.items()}
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()
        if self._board:
            for key, value in row.items():
                if isinstance(value, float) and key not in ("time", "epoch"):
                    self._board.add_scalar(
                        f"{row.get('split', 'run')}/{key}", value, int(row.get("iteration", 0))
                    )

    def close(self) -> None:
        for part in (self._file, self._board):
            if part:
                part.close()
        self._file = self._board = None


def _rows_before(path: Path, point: tuple[int, int]) -> list[dict]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the line that a kill cut short
            continue
        # A row without a step closes its epoch.
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
    return LogWriter(str(folder))
