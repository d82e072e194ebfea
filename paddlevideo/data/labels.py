"""Labels as written in a list -> class ids."""

import math
import re

from paddlevideo.config.registry import nearest
from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Problems, Row

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
            problems.add(row.line, f"{row.path}: unknown class {label!r}{hint}")


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
