"""Labels as written in a list -> class ids."""

import itertools
import math
import re
from collections.abc import Sequence

from paddlevideo.config.registry import nearest
from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Problems, Row
from paddlevideo.sample import Record
from paddlevideo.urls import shown

# A class id is questioned if the ids between it and the next smaller one would be this many empty
# classes, and ten times as many as there are up to that smaller one.
MANY_EMPTY = 1000
LIST_OF_IDS = re.compile(r"\d+(,\d+)+")
NUM_COMPARED = 1000  # known class names among which the nearest one is searched


def labels_of(row: Row) -> tuple[str, ...]:
    """The labels of a row as written, however many."""
    return (row.label,) if row.labels is None else row.labels


def is_integer(label: str) -> bool:
    """Whether a label is a class id, possibly an invalid one below 0."""
    return label.removeprefix("-").isdecimal()


def label_ids(
    rows: list[Row], problems: Problems, class_names: list[str] | None
) -> tuple[dict[str, int], list[str] | None]:
    """(class id of each label as written, class names). Invalid labels are added to `problems`.

    Labels are class ids if all of them are integers, otherwise class names. The name of a folder is
    always a class name, even "101".

    Raises:
        DatasetError: no labels, class ids mixed with class names, or a list of ids as one label.
    """
    labeled = [(row, label) for row in rows for label in labels_of(row)]
    if not labeled:
        raise DatasetError(f"{problems.source}: none of its {len(rows)} records has a label")
    is_id = {label: is_integer(label) for row, label in labeled if row.line}
    if set(is_id.values()) == {True}:
        ids = {label: int(label) for label in is_id}
        check_ids(labeled, ids, class_names, problems)
        return ids, class_names
    if True in is_id.values():
        first_row, first = labeled[0]
        row, label = next(pair for pair in labeled if is_id[pair[1]] != is_id[first])
        kinds = ("id", "name") if is_id[first] else ("name", "id")
        problems.add(
            row.line,
            f"label {label!r} is a class {kinds[1]}, but line {first_row.line} has a class "
            f"{kinds[0]}; use one kind",
        )
        problems.stop()
    if class_names is None:
        check_single_labels(rows, problems)
        class_names = sorted({label for _, label in labeled})
    ids = {name: number for number, name in enumerate(class_names)}
    check_names(labeled, ids, problems)
    return ids, class_names


def check_ids(
    labeled: list[tuple[Row, str]],
    ids: dict[str, int],
    class_names: list[str] | None,
    problems: Problems,
) -> None:
    """Add a problem for every class id that is negative or has no name."""
    limit = math.inf if class_names is None else len(class_names)
    invalid = {label for label, number in ids.items() if not 0 <= number < limit}
    for row, label in labeled if invalid else ():
        if label in invalid and ids[label] < 0:
            problems.add(row.line, f"label {label}: class ids count from 0")
        elif label in invalid:
            reason = f"there are {limit} class names, so the last id is {limit - 1}"
            problems.add(row.line, f"label {label}: {reason}")


def check_names(labeled: list[tuple[Row, str]], ids: dict[str, int], problems: Problems) -> None:
    """Add a problem for every unknown class name, with the nearest known one."""
    unknown = {label for _, label in labeled} - ids.keys()
    known = list(ids)[:NUM_COMPARED]
    hints = {name: nearest(name, known) for name in sorted(unknown)[:MAX_SHOWN]}
    for row, label in labeled if unknown else ():
        if label in unknown:
            hint = hints.get(label, "")
            problems.add(row.line, f"{shown(row.path)}: unknown class {label!r}{hint}")


def check_single_labels(rows: list[Row], problems: Problems) -> None:
    """
    Raises:
        DatasetError: a single label that is a list of class ids, as `3,17`.
    """
    for row in rows:
        if row.line and row.labels is None and LIST_OF_IDS.fullmatch(row.label):
            reason = "is a list of class ids, which needs DATASET.multi_label: true"
            problems.add(row.line, f"label {row.label!r} {reason}")
            problems.stop()


# --- numbering of classes without names -----------------------------------------------------------


def check_numbering(source: str, records: Sequence[Record]) -> None:
    """Question a class id far above all others, where the largest id decides how many classes a
    model has.

    Raises:
        DatasetError: there is one; the message names its first record.
    """
    ids = _class_ids(records)
    for before, after in itertools.pairwise([-1, *ids]):
        if after >= MANY_EMPTY and after > 10 * (before + 1):
            record = next(r for r in records if after in (r.label, *(r.labels or ())))
            below = (
                f"the next smaller one is {before}" if before >= 0 else "there is no smaller one"
            )
            raise DatasetError(
                f"{source}: {len(records)} records, labels {ids[0]} to {ids[-1]}: label {after} of "
                f"{shown(record.id)!r} is far above the others ({below}). Correct it; or, if the "
                f"model shall have {ids[-1] + 1} classes, say so with num_classes in the head"
            )


def numbering_note(records: Sequence[Record]) -> str:
    """A warning if the class ids of a training are 1 .. n, "" for any other."""
    ids = _class_ids(records)
    if not ids or ids != list(range(1, len(ids) + 1)):
        return ""
    return (
        f"labels are 1 to {ids[-1]} and no record has label 0, so class 0 stays empty; if this "
        "list counts its classes from 1, subtract 1 from every label"
    )


def _class_ids(records: Sequence[Record]) -> list[int]:
    """The class ids that occur, sorted; none for shards, whose labels are inside the files."""
    if not isinstance(records, list):
        return []
    return sorted({i for r in records for i in (r.label, *(r.labels or ())) if i is not None})
