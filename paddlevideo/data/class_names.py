"""Class names: their file, comparing them, and the number of classes."""

import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddlevideo.config.shipped import find_file
from paddlevideo.data.lists import MAX_SHOWN, DatasetError
from paddlevideo.remote import is_file, is_url, join_path, local_copy, shown

LABELS_FILE = "labels.txt"
PADDLEX_FILE = "label.txt"


def class_names_under(root: str | Path) -> str | None:
    """The file of class names in a data set that is one folder, None if it has none."""
    candidates = [join_path(root, name) for name in (LABELS_FILE, "labels.json")]
    own = next((path for path in candidates if is_file(path)), None)
    return own or paddlex_class_names(root)


def paddlex_class_names(root: str | Path) -> str | None:
    """The file of class names in a data set of PaddleX, None if it has none.

    Other data sets may have another file of this name, so it counts only if its lines are
    `id name`, with ids 0 .. K - 1.
    """
    path = join_path(root, PADDLEX_FILE)
    try:
        text = local_copy(path).read_text("utf-8-sig")
        lines = [line.split(None, 1) for line in text.splitlines()]
    except (OSError, UnicodeDecodeError):
        return None
    pairs = [words for words in lines if words]
    if not pairs or not all(len(words) == 2 and words[0].isdecimal() for words in pairs):
        return None
    ids = sorted(int(number) for number, _ in pairs)
    return str(path) if ids == list(range(len(ids))) else None


def read_class_names(path: str | Path) -> list[str]:
    """Class names in the order of their ids, from a UTF-8 text or JSON file.

    The file has one name per line; `id name` per line (ids 0 .. K - 1 in any order, as in
    PaddleVideo's label lists); a JSON list of names; or a JSON object, id to name or name to id.

    Raises:
        DatasetError: no such file, no names, duplicate names, or ids that are not 0 .. K - 1.
    """
    place = shown(path)
    try:
        file = local_copy(path) if is_url(path) else find_file(path)
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{place}: no such file of class names") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{place}: not UTF-8 text (byte {error.start})") from None
    if text.lstrip()[:1] in ("{", "["):
        try:
            pairs = _json_pairs(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{place}: not JSON: {error}") from None
    else:
        pairs = _text_pairs([line.strip() for line in text.split("\n") if line.strip()])
    by_id = {int(number): str(name) for number, name in pairs if str(number).isdecimal()}
    if not by_id or sorted(by_id) != list(range(len(pairs))):
        ids = sorted(str(number) for number, _ in pairs)[:5]
        raise DatasetError(
            f"{place}: ids must be 0 .. {max(0, len(pairs) - 1)}, each of them once, got {ids}"
        )
    names = [by_id[number] for number in range(len(by_id))]
    if len(set(names)) < len(names):
        duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
        raise DatasetError(f"{place}: duplicate class names: {', '.join(duplicates[:MAX_SHOWN])}")
    return names


def _json_pairs(content: Any) -> list[tuple[Any, Any]]:
    """(id, name) of each class."""
    pairs = list(enumerate(content)) if isinstance(content, list) else list(content.items())
    if all(isinstance(name, int) for _, name in pairs):
        return [(number, name) for name, number in pairs]
    return pairs


def _text_pairs(lines: list[str]) -> list[tuple[int, str]]:
    """(id, name) of each class."""
    words = [line.split(None, 1) for line in lines]
    if all(len(pair) == 2 and pair[0].isdecimal() for pair in words):
        pairs = [(int(number), name) for number, name in words]
        # "2 fast", "3 slow" may be names: only a complete set of ids is a numbering.
        if sorted(number for number, _ in pairs) == list(range(len(pairs))):
            return pairs
    return list(enumerate(lines))


def resolve_num_classes(
    class_names: list[str] | None, max_label: int, configured: int | None
) -> int:
    """The number of classes.

    Args:
        class_names: names of all classes, None if labels are plain ids.
        max_label: the largest class id of the records, -1 if there is none.
        configured: `num_classes` of the config, None if the config leaves it to the data.

    Raises:
        DatasetError: data and config disagree; the message has both numbers.
    """
    if class_names is None:
        num_classes = max_label + 1
    else:
        num_classes = len(class_names)
        first = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
        if configured not in (None, num_classes):
            raise DatasetError(
                f"num_classes is {configured} in the config, but the data has {num_classes} "
                f"classes ({first}); set num_classes: {num_classes} or leave it out"
            )
        if max_label >= num_classes:
            raise DatasetError(
                f"the data has label {max_label}, but there are {num_classes} class names "
                f"({first}), so the last id is {num_classes - 1}{_from_one(max_label, num_classes)}"
            )
    if num_classes == 0 and configured is None:
        raise DatasetError(
            "the data has no labels to derive num_classes from; set num_classes in the config"
        )
    if configured is not None and max_label >= configured:
        raise DatasetError(
            f"num_classes is {configured} in the config, but the data has label {max_label}, so at "
            f"least {max_label + 1} classes; set num_classes to the real number"
            f"{_from_one(max_label, configured)}"
        )
    return num_classes if configured is None else configured


def _from_one(max_label: int, num_classes: int) -> str:
    """A hint for data whose largest label is the number of classes."""
    if max_label != num_classes:
        return ""
    return "; labels count from 0: if the list counts from 1, subtract 1 from every label"


# --- comparing names ------------------------------------------------------------------------------


def matches(names: Sequence[str], others: Sequence[str]) -> list[int] | None:
    """For each of `names` its place in `others`; None if they are not the same names.

    Names are compared as by `same_names`.
    """
    places = list(same_names(others, names).values())
    same = len(names) == len(others) == len(set(places))
    return places if same else None


def same_names(names: Sequence[str], others: Sequence[str]) -> dict[int, int]:
    """{place in `others`: place in `names`} of the names in both.

    Case, spaces, hyphens and underscores may differ; an exact match wins.
    """
    places = {normalized_name(name): place for place, name in enumerate(names)}
    places |= {name: place for place, name in enumerate(names)}
    found = {}
    for place, name in enumerate(others):
        source = places.get(name, places.get(normalized_name(name)))
        if source is not None:
            found[place] = source
    return found


def both_orders(source: str, names: Sequence[str], other: str, others: Sequence[str]) -> str:
    """Text with two lists of class names, and the first class that differs."""
    pairs = itertools.zip_longest(names, others, fillvalue="missing")
    number = next((i for i, (own, name) in enumerate(pairs) if own != name), 0)
    start = max(0, number - 1)
    lists = (", ".join(part[start : start + MAX_SHOWN]) for part in (names, others))
    first, second = (f"from class {start} on: {text}" if start else text for text in lists)
    return f"{source} has {len(names)} names, {first}; {other} has {len(others)}, {second}"


def check_order(
    source: str, names: Sequence[str], other: str, others: Sequence[str] | None
) -> None:
    """Check that new names of classes are not the old ones in another order.

    Raises:
        DatasetError: they are.
    """
    if others is not None and list(names) != list(others) and matches(names, others):
        raise DatasetError(
            "the same class names in two orders: " + both_orders(source, names, other, others)
        )


def normalized_text(text: str) -> str:
    """Text without invisible differences: case, and the encoding of accents."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normalized_name(name: str) -> str:
    """A class name without differences of spelling: `Air_Drumming`, air-drumming, air drumming."""
    return re.sub(r"[\s_-]+", " ", normalized_text(name)).strip()
