"""Which files of a folder are the frames of a clip, and in which order.

A pattern such as `img_{:05}.jpg` names them. Where no file fits it, numbered images of any name are
frames: `frame_0000.png`, `0001.JPG`, `clip-7.webp`. Numbers begin at 0 or 1 and leave
none out.
"""

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from paddlevideo.sample import DecodeError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NUMBERED = re.compile(r"(?P<start>.*?\D|)(?P<number>\d{1,18})(?P<suffix>\.[^.]+)")


Series = list[tuple[int, str]]  # (number, name)


def frame_files(names: Collection[str], pattern: str) -> list[str]:
    """The frame files among the names in a folder, in order; [] if there are none.

    Raises:
        DecodeError: numbers are missing or occur twice, or there are several series of images.
    """
    fitting = fitting_files(names, pattern)
    found = [fitting] if fitting else numbered_images(names)
    if len(found) > 1:
        shown = " or ".join(span_text(_sorted(series)) for series in found[:3])
        raise DecodeError(
            f"no file is called as {pattern}, and several series of images may be its frames: "
            f"{shown}; choose one with suffix of the data set"
        )
    for series in found:
        _check_numbers(series)
    return _sorted(found[0]) if found else []


def fitting_files(names: Collection[str], pattern: str) -> Series:
    """The files that are called as the pattern says, with any number."""
    numbers = ((int(digits), name) for name in names for digits in re.findall(r"\d{1,18}", name))
    # The number may occur twice in a name, as in cam1_00001.jpg.
    return list(dict.fromkeys(pair for pair in numbers if pattern.format(pair[0]) == pair[1]))


def numbered_images(names: Collection[str]) -> list[Series]:
    """The series of images with a number before the suffix; their names are equal otherwise."""
    series: dict[tuple[str, str], Series] = defaultdict(list)
    for name in sorted(names):
        match = NUMBERED.fullmatch(name)
        if match and match["suffix"].lower() in IMAGE_SUFFIXES:
            series[match["start"], match["suffix"].lower()].append((int(match["number"]), name))
    return list(series.values())


def naming_note(folder: str | Path, pattern: str) -> str:
    """What is understood of a folder whose frames are not called as the pattern says, from 1 on;
    "" for any other folder."""
    if not os.path.isdir(folder):
        return ""
    try:
        files = frame_files(os.listdir(folder), pattern)
    except DecodeError:  # the error of this clip will say it
        return ""
    if not files or files[0] == pattern.format(1):
        return ""
    return f"{folder}: {len(files)} frames, {span_text(files)}"


def span_text(files: Sequence[str]) -> str:
    """The files of a series, for people."""
    return files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}"


def _sorted(series: Series) -> list[str]:
    return [name for _, name in sorted(series)]


def _check_numbers(series: Series) -> None:
    """
    Raises:
        DecodeError: a number occurs twice, or some are missing.
    """
    first, name = min(series)
    if first > 1:
        raise DecodeError(
            f"frames are missing: {name} is the first one, expected number 0 or 1; if nothing is "
            "missing, number the files again"
        )
    for (number, before), (following, after) in itertools.pairwise(sorted(series)):
        if number == following:
            raise DecodeError(f"{before} and {after} have the same number")
        if number + 1 < following:
            raise DecodeError(
                f"frames are missing: {len(series)} files, {span_text(_sorted(series))}, but none "
                f"between {before} and {after}; copy the folder again, or number the files again"
            )
