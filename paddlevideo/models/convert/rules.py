"""Conversion rules: from the names of another project to those of this one."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError


@dataclass(frozen=True)
class Rule:
    """What happens to the tensors whose names match a pattern.

    Args:
        pattern: regular expression that matches the complete name in the other project.
        target: the name in this project, which may refer to groups (`\\1`); None drops the tensor.
        how: how the tensor is changed, or why it is dropped, as text; needed for both.
        change: converts the array; None leaves it unchanged.
    """

    pattern: str
    target: str | None
    how: str = ""
    change: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Conversion:
    """A converted file.

    Args:
        arrays: by the names of this project.
        lines: what became of each tensor of the file, one line each, in the file's order.
    """

    arrays: Arrays
    lines: tuple[str, ...]


def transposed(array: np.ndarray) -> np.ndarray:
    """[out, in] of a linear layer in PyTorch -> [in, out] in Paddle."""
    return np.ascontiguousarray(array.T)


def translate(arrays: Mapping[str, np.ndarray], rules: Sequence[Rule], source: str) -> Conversion:
    """Rename and change each array by the first rule that matches its name.

    Raises:
        WeightsError: no rule matches a name, two tensors have the same target, `change` rejects an
            array, or no tensor is left.
    """
    converted, lines, problems = {}, [], []
    origins = {}  # name in this project -> name in the other project
    for name, array in arrays.items():
        array = np.asarray(array)
        described = f"{name} {list(array.shape)}"
        matches = ((rule, re.fullmatch(rule.pattern, name)) for rule in rules)
        rule, match = next(((r, m) for r, m in matches if m), (None, None))
        if rule is None or match is None:
            problems.append(f"{described} matches no rule")
            continue
        if rule.target is None:
            lines.append(f"{described} is dropped: {rule.how}")
            continue
        target = match.expand(rule.target)
        if target in origins:
            problems.append(f"{name} and {origins[target]} both become {target}")
            continue
        origins[target] = name
        try:
            result = array if rule.change is None else rule.change(array)
        except (ValueError, IndexError) as error:
            problems.append(f"{described} cannot be {rule.how or 'changed'}: {error}")
            continue
        converted[target] = result
        how = f" ({rule.how})" if rule.how else ""
        lines.append(f"{described} -> {target} {list(result.shape)}{how}")
    if problems or not converted:
        listed = "; ".join(problems[:6]) or "no tensor matches a rule"
        if len(problems) > 6:
            listed += f"; and {len(problems) - 6} more"
        raise WeightsError(f"not weights of {source}: {listed}")
    return Conversion(converted, tuple(lines))
