"""Recognize in the names of a complete set which clips come from one person or recording.

`splits.source_of` knows naming schemes that a single name shows. This finds the others: names of
published sets, where the person or the sequence is a part of each name, and parts of names that
repeat over the classes. A counter (`001` in each class) is no source.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from paddlevideo.curate.inventory import ClipEntry
from paddlevideo.curate.splits import GENERIC_NAMES


class SetNames(NamedTuple):
    """How a published set names its clips.

    Args:
        title: of the set.
        pattern: of the name without suffix; its group `source` is the person or sequence, and
            its group `label`, if it has one, the class in the set's own code.
    """

    title: str
    pattern: re.Pattern


KNOWN_SETS = (
    SetNames("KTH", re.compile(r"(?P<source>person\d+)_(?P<label>[a-z]+)_d\d(?:_.*)?")),
    SetNames("UT-Interaction", re.compile(r"(?:set\d+_)?(?P<source>seq\d+)(?:_.*)?")),
    SetNames("UT-Interaction", re.compile(r"\d+_(?P<source>\d+)_(?P<label>\d)")),
    SetNames("UCF-11", re.compile(r"(?P<source>v_[A-Za-z_]+_\d\d)_\d\d")),
    SetNames("NTU RGB+D", re.compile(r"S\d{3}C\d{3}(?P<source>P\d{3})R\d{3}(?P<label>A\d{3}).*")),
    SetNames("UTD-MHAD", re.compile(r"(?P<label>a\d+)_(?P<source>s\d+)_t\d+(?:_.*)?")),
    SetNames("FSDD", re.compile(r"(?P<label>\d)_(?P<source>[A-Za-z]+)_\d+")),
    SetNames("Speech Commands", re.compile(r"(?P<source>[0-9a-f]{8})_nohash_\d+")),
    SetNames("ESC-50", re.compile(r"\d-(?P<source>\d+)-[A-Z]-(?P<label>\d+)")),
    SetNames("UrbanSound8K", re.compile(r"(?P<source>\d+)-(?P<label>\d)-\d+-\d+")),
    SetNames("RAVDESS", re.compile(r"(?:\d\d-){6}(?P<source>\d\d)")),
    SetNames("CREMA-D", re.compile(r"(?P<source>\d{4})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}")),
)
MIN_SHARE = 0.9  # of the clips whose names must be of one kind
MIN_REPEATED = 0.8  # share of the clips whose source must occur in a second class
MIN_SOURCES = 4  # fewer values are conditions, such as the side of a camera
# A number after one of these words is no counter.
PEOPLE = (
    "actor|child|family|group|participant|patient|person|player|seq|sequence|sess|session|speaker|"
    "spk|student|subj|subject|user|volunteer"
)
PEOPLE_WORD = re.compile(rf"(?:{PEOPLE})", re.IGNORECASE)
PEOPLE_PART = re.compile(rf"(?:{PEOPLE})\d+", re.IGNORECASE)
WORD = re.compile(r"[^\W\d_]{3,}")
NUMBER = re.compile(r"[A-Za-z]{0,4}\d+")
IDENTIFIER = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9]{6,}")
# Words that describe how a clip was made, not who or what is in it.
CONDITIONS = GENERIC_NAMES | {
    "angle", "audio", "aug", "augmented", "back", "bottom", "bright", "center", "clean",
    "clear", "clip", "cloudy", "color", "copy", "crop", "cut", "dark", "day", "down", "easy",
    "edit", "evening", "far", "fast", "female", "final", "first", "flip", "flipped", "foggy",
    "frame", "front", "full", "good", "hard", "high", "indoor", "indoors", "large", "last",
    "left", "loud", "low", "male", "man", "medium", "middle", "mirror", "mirrored", "morning",
    "near", "night", "noise", "noisy", "noon", "normal", "orig", "original", "outdoor",
    "outdoors", "part", "quiet", "rainy", "raw", "rep", "right", "scene", "second", "side",
    "slow", "small", "snow", "soft", "sound", "sunny", "take", "third", "top", "trial", "up",
    "view", "weak", "white", "wide", "woman", "wrong",
}  # fmt: skip


class Found(NamedTuple):
    """How the clips of a set show their sources.

    Args:
        title: what the report says about the rule.
        sources: a source for each clip; None where its name shows none.
    """

    title: str
    sources: list[str | None]


def find_sources(clips: Sequence[ClipEntry]) -> Found | None:
    """Find the sources of clips whose names, each by itself, show none.

    Returns:
        None where the names show no sources, or are too few to tell.
    """
    stems = [
        PurePosixPath(unicodedata.normalize("NFC", clip.name.replace("\\", "/"))).stem
        for clip in clips
    ]
    labels = [clip.label for clip in clips]
    for names in KNOWN_SETS:
        if found := match_known(names, stems, labels):
            return found
    return find_repeated_part(stems, labels)


def match_known(names: SetNames, stems: list[str], labels: list[str]) -> Found | None:
    """Return the sources if the names are those of a published set, else None."""
    matches = [names.pattern.fullmatch(stem) for stem in stems]
    matched = [(match, label) for match, label in zip(matches, labels, strict=True) if match]
    if not matched or len(matched) < MIN_SHARE * len(stems):
        return None
    if "label" in names.pattern.groupindex:
        # The class in the name must be the class of the clip, or the likeness is a coincidence.
        pairs = {(match["label"], label) for match, label in matched}
        if not len(pairs) == len({code for code, _ in pairs}) == len({name for _, name in pairs}):
            return None
    sources = [match["source"] if match else None for match in matches]
    num_sources = len({source for source in sources if source})
    if num_sources < 2 or num_sources == len(matched):
        return None
    return Found(f"the names of {names.title}", sources)


# --- parts of names that repeat over the classes --------------------------------------------------


def find_repeated_part(stems: list[str], labels: list[str]) -> Found | None:
    """Return the sources if one part of the names repeats over the classes, else None.

    Of several parts, the one that most clearly names a person is taken, and of these the first.
    """
    parts = [name_parts(stem, label) for stem, label in zip(stems, labels, strict=True)]
    best: tuple[int, int] | None = None
    for position in range(max(map(len, parts), default=0)):
        rank = rank_of(parts, labels, position)
        if rank is not None and (best is None or (rank, position) < best):
            best = (rank, position)
    if best is None:
        return None
    position = best[1]
    sources = [part[position] if len(part) > position else None for part in parts]
    return Found("a part of the names that repeats over the classes", list(sources))


def name_parts(stem: str, label: str) -> list[str]:
    """Divide a name at spaces and punctuation, without the class; `person 1` is one part."""
    parts = [part for part in re.split(r"[\W_]+", stem) if part]
    words = [word.lower() for word in re.split(r"[\W_]+", label) if word]
    for start in range(len(parts) - len(words) + 1):
        if words and [part.lower() for part in parts[start : start + len(words)]] == words:
            del parts[start : start + len(words)]
            break
    joined: list[str] = []
    for part in parts:
        if joined and part.isdecimal() and PEOPLE_WORD.fullmatch(joined[-1]):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def rank_of(parts: list[list[str]], labels: list[str], position: int) -> int | None:
    """Return how clearly a part names a source, 0 for most clearly; None where it names none."""
    found = [
        (part[position], label, position == len(part) - 1)
        for part, label in zip(parts, labels, strict=True)
        if len(part) > position
    ]
    if len(found) < MIN_SHARE * len(parts):
        return None
    kinds = (PEOPLE_PART, WORD, IDENTIFIER, NUMBER)
    fitting = (
        number
        for number, kind in enumerate(kinds)
        if sum(bool(kind.fullmatch(value)) for value, _, _ in found) >= MIN_SHARE * len(found)
    )
    rank = next(fitting, None)
    if rank is None or not repeats(found, 2 if rank == 0 else MIN_SOURCES):
        return None
    words = {re.sub(r"\d+", "", value).lower() for value, _, _ in found}
    if rank and words & CONDITIONS:
        return None
    if kinds[rank] is NUMBER and is_counter(found):
        return None
    return rank


def repeats(found: list[tuple[str, str, bool]], min_sources: int) -> bool:
    """Return whether the values repeat over the classes, with several values in each class.

    Args:
        found: (value, class, whether it is the last part) of each clip.
    """
    labels_of, values_of = defaultdict(set), defaultdict(set)
    for value, label, _ in found:
        labels_of[value].add(label)
        values_of[label].add(value)
    num_repeated = sum(len(labels_of[value]) > 1 for value, _, _ in found)
    return (
        len(labels_of) >= min_sources
        and len(found) >= 2 * len(labels_of)
        and num_repeated >= MIN_REPEATED * len(found)
        and all(len(values) > 1 for values in values_of.values())
    )


def is_counter(found: list[tuple[str, str, bool]]) -> bool:
    """Return whether numbers only count: the last part of a name, or a number once per class."""
    if sum(is_last for _, _, is_last in found) > (1 - MIN_SHARE) * len(found):
        return True
    pairs = Counter((value, label) for value, label, _ in found)
    return sum(count > 1 for count in pairs.values()) < len(pairs) / 2
