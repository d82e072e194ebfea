"""What a translation table is made of: rules from their names to ours, and the account of what became of every tensor."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError


@dataclass(frozen=True)
class Rule:
    """What becomes of the tensors of one pattern.

    Args:
        theirs: regular expression that fits their whole name.
        ours: the name here, which may refer to groups (`\\1`); None leaves the tensor out.
        how: in words, what is done to it, or why it is left out; needed for both.
        change: their array -> ours; None takes it as it is.
    """

    theirs: str
    ours: str | None
    how: str = ""
    change: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Conversion:
    """A translated file.

    Args:
        arrays: by our names.
        lines: what became of each of their tensors, a line each, in their order.
    """

    arrays: Arrays
    lines: tuple[str, ...]


def transposed(array: np.ndarray) -> np.ndarray:
    """[out, in] of a linear layer elsewhere -> [in, out] here."""
    return np.ascontiguousarray(array.T)


def translate(arrays: Mapping[str, np.ndarray], rules: Sequence[Rule], source: str) -> Conversion:
    """Rename and change each array by the first rule that fits its name.

    Raises:
        WeightsError: a name that no rule fits, two tensors of one name here, an array that `change` cannot take, or nothing
            to take at all.
    """
    ours, lines, origin, problems = {}, [], {}, []
    for name, array in arrays.items():
        array = np.asarray(array)
        found = next(((rule, m) for rule in rules if (m := re.fullmatch(rule.theirs, name))), None)
        if found is None:
            problems.append(f"{name} {list(array.shape)} has no place in the table")
            continue
        rule, match = found
        if rule.ours is None:
            lines.append(f"{name} {list(array.shape)} is left out: {rule.how}")
            continue
        ours_name = match.expand(rule.ours)
        if ours_name in origin:
            problems.append(f"{name} and {origin[ours_name]} both become {ours_name}")
            continue
        origin[ours_name] = name
        try:
            ours[ours_name] = array if rule.change is None else rule.change(array)
        except (ValueError, IndexError) as error:
            problems.append(
                f"{name} {list(array.shape)} cannot be {rule.how or 'changed'}: {error}"
            )
            continue
        how = f" ({rule.how})" if rule.how else ""
        lines.append(
            f"{name} {list(array.shape)} -> {ours_name} {list(ours[ours_name].shape)}{how}"
        )
    if problems or not ours:
        listed = "; ".join(problems[:6]) + (
            f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        )
        raise WeightsError(
            f"these are no weights of {source}: {listed or 'nothing in them has a place here'}"
        )
    return Conversion(ours, tuple(lines))
