"""One fold of a cross-validation: a part of the sources is held out, the rest is for training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paddlevideo.curate.inventory import ClipEntry
from paddlevideo.data.folds import folds_of
from paddlevideo.data.lists import DatasetError
from paddlevideo.log import plural


class Fold(NamedTuple):
    """Which fold is held out, of how many.

    Args:
        number: 1 to `count`.
        count: at least 2.
    """

    number: int
    count: int

    def __str__(self):
        return f"{self.number}/{self.count}"


def parse_fold(text: str) -> Fold:
    """Read `2/5`, the second of five folds.

    Raises:
        ValueError: it is no such text, or there is no such fold.
    """
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal()):
        raise ValueError(f"{text!r} is no fold; expected I/N, such as 2/5 for the second of five")
    fold = Fold(int(first), int(last))
    if fold.count < 2 or not 1 <= fold.number <= fold.count:
        raise ValueError(f"there is no fold {text}; expected 1/N to N/N, with N of at least 2")
    return fold


def hold_out(clips: Sequence[ClipEntry], fold: Fold, seed: int = 0) -> str:
    """Set the split of each clip: "valid" if its source is in the fold, else "train".

    The folds are those of `FROZEN.folds` in a config: the same for all values of `fold.number`, so
    that each clip is held out once.

    Args:
        clips: all but those of a test set.

    Returns:
        a line that says what is held out.

    Raises:
        DatasetError: there are fewer sources than folds.
    """
    sources, names = [clip.source for clip in clips], sorted({clip.label for clip in clips})
    num_sources = len(set(sources))
    if num_sources < fold.count:
        raise DatasetError(
            f"--fold {fold}: the clips are of {plural(num_sources, 'source')}, and each fold needs "
            "at least one; use fewer folds, or name the sources with --source"
        )
    class_ids = {name: number for number, name in enumerate(names)}
    labels = np.array([class_ids[clip.label] for clip in clips])
    is_held_out = folds_of(sources, labels, fold.count, seed) == fold.number - 1
    for clip, held_out in zip(clips, is_held_out, strict=True):
        clip.split = "valid" if held_out else "train"
    held_out = {clip.source for clip in clips if clip.split == "valid"}
    return (
        f"fold {fold.number} of {fold.count}: val.csv has "
        f"{plural(int(is_held_out.sum()), 'clip')} of {len(held_out)} of {num_sources} sources"
    )
