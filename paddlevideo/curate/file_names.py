"""Find files whose lists spell them differently, and names that no list can hold."""

import functools
import os
from pathlib import Path

from paddlevideo.data.class_names import normalized_text
from paddlevideo.remote import is_url


def find_spelling(path: str) -> tuple[str, str]:
    """Find the file that a path means, although it may be spelled differently on disk.

    Lists from other systems have backslashes, quotes, other capitals, or accents that are
    written as two characters.

    Returns:
        (path with the spelling of the file, what differs). (path, "") where the file exists, where
        there is no similar file, and where there are several.
    """
    if is_url(path) or os.path.lexists(path):
        return path, ""
    for candidate, difference in (
        (path.replace("\\", "/"), "written with backslashes"),
        (path.replace('"', ""), "written with quotes"),
        (path.replace("'", ""), "written with quotes"),
    ):
        if candidate != path and os.path.isfile(candidate):
            return candidate, f"{difference}; the file is named {Path(candidate).name}"
    folder, name = os.path.split(path)
    try:
        modified = os.stat(folder or ".").st_mtime_ns
        candidates = names_by_normalized_name(folder or ".", modified).get(
            normalized_text(name), []
        )
    except OSError:
        candidates = []
    if len(candidates) == 1:
        return os.path.join(folder, candidates[0]), f"the file is named {candidates[0]}"
    return path, ""


@functools.lru_cache(maxsize=8)
def names_by_normalized_name(folder: str, modified: int) -> dict[str, list[str]]:
    """Group the names in a folder by what they have in common besides capitals and accents.

    Args:
        modified: time of the folder's last change (ns); only there to refresh the cache.
    """
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(normalized_text(name), []).append(name)
    return names


def name_problem(name: str) -> str:
    """Explain why no list can hold this path or class name; "" where one can."""
    line_breaks = "\x85\u2028\u2029"
    if any(ord(character) < 32 or character in line_breaks for character in name):
        return "the name contains a line break or another control character"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return "the name begins or ends with a space" if name != name.strip() else ""
