"""A file with one line per result, which a killed prediction continues.

A line is written at once when its result is ready. A process that is killed can leave only a part
of the last line, which the next run removes and writes again. `made_by` in each line names the
model and the settings, so that no run continues the file of another one.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from paddlevideo.files import atomic_write, json_text, try_lock
from paddlevideo.log import logger
from paddlevideo.predict.inputs import Key

MADE_BY = "made_by"


class ResultLines:
    """The lines of a file of results, which stays locked until `close`.

    Args:
        path: the file.
        made_by: names the model and the settings.
        resume: keep the results of an earlier run; failures among them are removed, to try their
            inputs again. False begins a new file.

    Attributes:
        done: how often each input has a result in the file.

    Raises:
        ValueError: another model, other settings or another program wrote the file.
        OSError: the file cannot be read or written, or another process writes to it.
    """

    def __init__(self, path: str | Path, made_by: str, resume: bool):
        self._path, self._made_by = Path(path), made_by
        self.done: Counter[Key] = Counter()
        self._file = self._path.open("ab", buffering=0)
        try:
            self._lock(self._file)
            complete, num_failed = self._read() if resume else (0, 0)
            if num_failed:
                self._remove_failures(complete)
            else:
                self._file.truncate(complete)
        except BaseException:
            self._file.close()
            raise

    def _lock(self, file: BinaryIO) -> None:
        locked = try_lock(file.fileno())
        # The process that held the lock may have replaced the file.
        if locked is False or os.fstat(file.fileno()).st_ino != os.stat(self._path).st_ino:
            raise OSError(f"{self._path}: another process writes to this file")

    def _read(self) -> tuple[int, int]:
        """Count what is done; returns the bytes of the complete lines, and the failures in them."""
        complete, num_failed = 0, 0
        for number, line, row in _rows(self._path):
            place = f"{self._path}:{number}"
            if not isinstance(row, dict) or not isinstance(row.get("input_path"), str):
                raise ValueError(
                    f"{place}: {_short(line)} is not a result; remove the line, or begin again "
                    "with --overwrite"
                )
            if row.get(MADE_BY) != self._made_by:
                raise ValueError(
                    f"{place}: was made by {row.get(MADE_BY) or 'an unknown model'}, and this is "
                    f"{self._made_by}; --resume continues only the same model with the same "
                    "settings: give another --out, or begin again with --overwrite"
                )
            complete += len(line)
            if "error" in row:
                num_failed += 1
            else:
                self.done[key_of(row)] += 1
        return complete, num_failed

    def _remove_failures(self, complete: int) -> None:
        """Replace the file by its results without failures, and lock the new file."""
        position = 0
        with self._file, atomic_write(self._path) as temporary:  # unlocked after it is replaced
            self._file = temporary.open("ab", buffering=0)
            try_lock(self._file.fileno())
            for _, line, row in _rows(self._path):
                if "error" not in row:
                    _write(self._file, line)
                position += len(line)
                if position >= complete:
                    break

    def write(self, prediction: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: the disk is full; the message names the file.
        """
        line = json_text({**prediction, MADE_BY: self._made_by}) + "\n"
        try:
            _write(self._file, line.encode())
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot write {self._path}: {error.strerror or error}; continue with --resume",
            ) from error

    def close(self) -> None:
        """Close and unlock the file."""
        with contextlib.suppress(OSError):  # some file systems cannot sync
            os.fsync(self._file.fileno())
        self._file.close()


def key_of(row: Mapping[str, Any]) -> Key:
    """The input of a row: its path, and the part of the video (seconds)."""
    return row["input_path"], row.get("start_sec"), row.get("end_sec")


def note_others(path: Path, done: Counter[Key], num_found: int) -> None:
    """Log how many results of a file are of inputs that this run does not have."""
    others = done.total() - num_found
    if others:
        logger.warning(f"{path}: {others} results in it are of inputs that were not given now")


def _rows(path: Path) -> Iterator[tuple[int, bytes, Any]]:
    """(number, text, content) of each complete line; the content is None where it is no JSON."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            row = None
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
            yield number, line, row


def _write(file: BinaryIO, line: bytes) -> None:
    while line:  # a disk that becomes full takes a part
        line = line[file.write(line) :]


def _short(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", "replace").rstrip("\n"))
