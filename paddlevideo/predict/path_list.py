"""Lists of paths of any length: their lines are read when they are needed, and not kept."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from paddlevideo.data.lists import DatasetError, Row, path_readings, read_path_list
from paddlevideo.remote import is_url, local_copy
from paddlevideo.sample import Record

EXPECTED = "a list with a path on each line"


class PathList(Sequence[list[Row]]):
    """What `read_path_list` returns, read again for each iteration.

    Raises:
        DatasetError: no such file, or not UTF-8.
    """

    def __init__(self, file: str | Path):
        self.file = file
        self._local = local_copy(str(file)) if is_url(str(file)) else Path(file)
        self._count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[Row]]:
        try:
            with self._local.open(encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, 1):
                    if stripped := line.strip():
                        yield path_readings(number, stripped)
        except (FileNotFoundError, UnicodeDecodeError) as error:
            read_path_list(self.file, EXPECTED)  # its message has the place
            raise DatasetError(f"{self.file}: {error}") from error

    def __getitem__(self, index):
        return _at(self, index)


class ListedFiles(Sequence[Record]):
    """The records of a list of paths, made when they are read.

    Args:
        lines: of the list.
        record_of: the readings of a line -> its record.
    """

    def __init__(self, lines: PathList, record_of: Callable[[list[Row]], Record]):
        self._lines, self._record_of = lines, record_of

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Record]:
        return map(self._record_of, self._lines)

    def __getitem__(self, index):
        return _at(self, index)


def _at(items: Sequence, index: int | slice):
    """An item, or the items of a slice, of a sequence that is read from its beginning."""
    if isinstance(index, slice):
        return list(items)[index]
    number = range(len(items))[index]  # an IndexError for a number that is too large
    return next(itertools.islice(items, number, None))
