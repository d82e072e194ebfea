"""Results in parts: `part-00001.jsonl` ... with a manifest, each written completely or not at all.

A part has the results of consecutive inputs. It is there or not, so a run that was stopped in any
way continues with the parts that are missing. A part is kept as long as its inputs are the same.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from paddlevideo.files import atomic_write, json_text, remove_leftovers, try_lock

MANIFEST, LOCK = "manifest.json", ".lock"
VERSION = 1
REPAIR = "delete this part, then run the same command again: it makes the part again"
MIN_PART, MOST_PARTS = 100, 2000  # results of a part, and parts of a job


class OtherParts(ValueError):
    """A folder with parts of another model or of other settings, or with a damaged manifest."""


class PartFiles:
    """The parts of a job. A context manager; the folder is locked in the block.

    Args:
        folder: of the parts.
        made_by: names all that the results depend on, besides the inputs.
        keys: what names each input, in order; read once, and not kept.
        total: number of inputs.
        retry_failed: also make the results again that are failures.

    Attributes:
        num_kept: results that an earlier run has left.

    Raises:
        OtherParts: the folder has results of another model or of other settings.
        ValueError: a part is damaged.
        OSError: it cannot be written, or another process writes to it.
    """

    def __init__(
        self,
        folder: Path,
        made_by: str,
        keys: Iterable[Any],
        total: int,
        retry_failed: bool = False,
    ):
        self.folder, self.made_by, self.total = folder, made_by, total
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / LOCK).open("ab")
        try:
            _take(self._lock, folder)
            before = self._read_manifest()
            self.size = before.get("part_size") or max(MIN_PART, -(-total // MOST_PARTS))
            digests = list(_digests(keys, self.size))
            self._drop_changed(before.get("digests", []), digests)
            self._write_manifest(digests)
            self._count(retry_failed)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> "PartFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def __len__(self) -> int:
        return -(-self.total // self.size)

    def path(self, number: int) -> Path:
        """The file of a part, whose number counts from 0."""
        return self.folder / f"part-{number + 1:05}.jsonl"

    def is_complete(self, number: int) -> bool:
        return number not in self._missing

    def left(self, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """(index, item) of the inputs without a result."""
        for index, item in enumerate(items):
            if index in self._missing.get(index // self.size, ()):
                yield index, item

    @property
    def num_left(self) -> int:
        return self.total - self.num_kept

    def add(self, index: int, line: str) -> None:
        """Add a result, a JSON object as text; a part is written with its last one.

        Raises:
            OSError: the part cannot be written.
        """
        number = index // self.size
        missing = self._missing[number]
        rows = self._waiting.setdefault(number, {})
        rows[index] = line
        if len(rows) < len(missing):
            return
        if len(missing) < len(self._indices(number)):
            kept = enumerate(self._lines(number), number * self.size)
            rows = {index: line for index, line in kept if index not in missing} | rows
        with atomic_write(self.path(number)) as temporary:
            text = "".join(f"{rows[index]}\n" for index in sorted(rows))
            temporary.write_text(text, encoding="utf-8", newline="\n")
        del self._waiting[number], self._missing[number]

    def rows(self, number: int) -> Iterator[dict[str, Any]]:
        """The results of a part that is complete.

        Raises:
            ValueError: the part is damaged.
        """
        for position, line in enumerate(self._lines(number), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                place = f"{self.path(number)}:{position}"
                raise ValueError(f"{place}: no result as JSON ({error}); {REPAIR}") from error

    def num_failed(self) -> int:
        """Number of failures in all parts."""
        return sum("error" in row for number in range(len(self)) for row in self.rows(number))

    def _lines(self, number: int) -> list[str]:
        text = self.path(number).read_text(encoding="utf-8")
        lines, expected = text.removesuffix("\n").split("\n"), len(self._indices(number))
        if len(lines) != expected:
            place = self.path(number)
            raise ValueError(f"{place}: {len(lines)} results of {expected} inputs; {REPAIR}")
        return lines

    def _indices(self, number: int) -> range:
        """The indices of the inputs of a part."""
        return range(number * self.size, min(self.total, (number + 1) * self.size))

    def _count(self, retry_failed: bool) -> None:
        """Find what is missing: number of a part -> the indices of its results."""
        remove_leftovers(self.folder)
        self._missing: dict[int, range | set[int]] = {}
        self._waiting: dict[int, dict[int, str]] = {}
        for number in range(len(self)):
            if not self.path(number).exists():
                self._missing[number] = self._indices(number)
            elif retry_failed:
                rows = enumerate(self.rows(number), number * self.size)
                if failed := {index for index, row in rows if "error" in row}:
                    self._missing[number] = failed
        self.num_kept = self.total - sum(map(len, self._missing.values()))

    def _drop_changed(self, before: list[str], now: list[str]) -> None:
        """Delete parts whose inputs are not those of the manifest."""
        for file in self.folder.glob("part-*.jsonl"):
            number = file.stem.removeprefix("part-")
            index = int(number) - 1 if number.isdecimal() else len(now)
            if before[index : index + 1] != now[index : index + 1] or index >= len(now):
                file.unlink()

    def _read_manifest(self) -> Mapping[str, Any]:
        file = self.folder / MANIFEST
        if not file.exists():
            if parts := sorted(self.folder.glob("part-*.jsonl")):
                raise OtherParts(
                    f"{self.folder}: has {parts[0].name} and no {MANIFEST}; give an empty folder"
                )
            return {}
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            known = (content["version"], int(content["part_size"]), list(content["digests"]))
            made_by = str(content["made_by"])
            if known[1] < 1:
                raise ValueError(f"part_size is {known[1]}")
        except (ValueError, LookupError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            fix = "delete the folder, or begin again with --overwrite"
            raise OtherParts(f"{file}: no manifest of parts ({reason}); {fix}") from error
        if known[0] != VERSION or made_by != self.made_by:
            raise OtherParts(
                f"{file}: the parts were made by {made_by} (version {known[0]}), and this is "
                f"{self.made_by} (version {VERSION}); give another --out, or begin again with "
                "--overwrite"
            )
        return content

    def _write_manifest(self, digests: list[str]) -> None:
        content = {
            "version": VERSION,
            "made_by": self.made_by,
            "inputs": self.total,
            "part_size": self.size,
            "digests": digests,
        }
        with atomic_write(self.folder / MANIFEST) as temporary:
            temporary.write_text(json_text(content, indent=0) + "\n", encoding="utf-8")


def delete(folder: Path) -> None:
    """Delete the parts and their manifest; other files in the folder stay.

    Raises:
        OSError: another process writes to the folder.
    """
    if (folder / LOCK).exists():
        with (folder / LOCK).open("ab") as lock:
            _take(lock, folder)
    for file in [folder / MANIFEST, folder / LOCK, *folder.glob("part-*.jsonl")]:
        file.unlink(missing_ok=True)
    if folder.is_dir() and not os.listdir(folder):
        folder.rmdir()


def _take(lock: BinaryIO, folder: Path) -> None:
    if try_lock(lock.fileno()) is False:
        raise OSError(f"{folder}: another process writes to this folder")


def _digests(keys: Iterable[Any], size: int) -> Iterator[str]:
    """A digest of the inputs of each part."""
    digest, count = hashlib.blake2b(digest_size=8), 0
    for key in keys:
        digest.update(json.dumps(key).encode() + b"\n")
        count += 1
        if count == size:
            yield digest.hexdigest()
            digest, count = hashlib.blake2b(digest_size=8), 0
    if count:
        yield digest.hexdigest()
