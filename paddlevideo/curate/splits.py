"""Which clips come from one recording, and training and validation sets that keep them together.

Clips cut from one recording look alike: with some in training and some in validation, a model is rewarded for knowing the place
and the people. What a clip's source is, its name tells (`source_of`); what it does not tell, a `source` column may.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from paddlevideo.data.paths import SPLIT_NAMES

# Names whose source is the same wherever the file lies: a Kinetics clip (id, first and last second), UCF-101 (group, clip),
# HMDB-51 (movie, then body part, camera, people, side, quality, number).
KINETICS = re.compile(r"(?P<source>.+)_(?P<start>\d{6})_(?P<end>\d{6})")
EVERYWHERE = (
    re.compile(r"(?P<source>.+_g\d+)_c\d+"),
    re.compile(r"(?P<source>.+)_[fhul]_(?:nm|cm)_np\d_(?:fr|le|ri|ba)_(?:bad|med|goo)_\d+"),
)
LONGEST = 600  # seconds; six digits that lie further apart are dates or clock times
# Names whose source is told from others by their folder: cut by a scene detector or by hand, or named by their times.
CUT = re.compile(
    r"(?P<source>.+?)[ ._-]+(?:scene|clip|part|segment|seg|shot|cut|chunk)[ ._-]*\d+", re.IGNORECASE
)
TIMES = re.compile(r"(?P<source>.+)_\d+\.\d+_\d+\.\d+")
# What stands before the number in `video_clip_1` names no recording.
GENERAL = {
    "video",
    "vid",
    "movie",
    "film",
    "img",
    "mov",
    "cam",
    "camera",
    "rec",
    "recording",
    "sample",
    "output",
    "out",
}
GENERAL |= {"my", "the", "new", "test", "train", "val"}


def source_of(name: str, label: str = "", pattern: str | re.Pattern | None = None) -> str:
    """The recording that a clip was cut from, by its name.

    | name                                | source      | of                                       |
    | ---                                 | ---         | ---                                      |
    | `run/v_Run_g08_c03.avi`             | `v_Run_g08` | UCF-101's groups                         |
    | `run/5Fv6MkWzqzE_000012_000022.mp4` | 5Fv6MkWzqzE | Kinetics: id, start, end (s)             |
    | `run/derby-Scene-003.mp4`           | `derby`     | `scene clip part segment shot cut chunk` |
    | `run/derby_12.0_14.5.mp4`           | `derby`     | start and end (s)                        |
    | `run/derby_3.mp4`                   | itself      | a bare number tells nothing              |

    A scene's source is told apart by its folders, but not by those of class and split, so that `train/serve/final_clip_1.mp4`
    and `val/rally/final_clip_2.mp4` share one.

    Args:
        name: path of the clip as its list or folder calls it.
        label: its class.
        pattern: None for the rules above; "none" to take each file for a recording of its own; or a regular expression that is
            searched in the path, whose first group is the source. A name without a match is a recording of its own.
    """
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
    itself = path.with_suffix("").as_posix()
    if pattern == "none":
        return itself
    if pattern is not None:
        found = re.search(pattern, path.as_posix())
        return (
            (found.group(1) if found.re.groups else found.group(0)) or itself if found else itself
        )
    stem = path.stem
    found = KINETICS.fullmatch(stem)
    if (
        found
        and 0 < int(found["end"]) - int(found["start"]) <= LONGEST
        and found["source"].lower() not in GENERAL
    ):
        return found["source"]
    for rule in EVERYWHERE:
        if found := rule.fullmatch(stem):
            return found["source"]
    for rule in (CUT, TIMES):
        found = rule.fullmatch(stem)
        if found and found["source"].lower() not in GENERAL:
            folders = [
                part
                for part in path.parts[:-1]
                if part != label and part.lower() not in SPLIT_NAMES
            ]
            return "/".join([*folders, found["source"]])
    return itself


def split_by_source(
    clips: Sequence[tuple[str, str]],
    shares: Mapping[str, float],
    seed: int = 0,
    rest: str = "train",
) -> list[str]:
    """A split for each clip: all clips of a source in one, and of every class about the wanted share in each.

    The order of sources is that of a hash of seed and name, so the answer depends on neither the order of the clips nor the
    machine, and clips that are added later move few of the others.

    Args:
        clips: (source, class) of each clip.
        shares: split -> share of each class's clips, above 0 and together below 1. Each class with at least two sources gives
            at least one clip, where its sources are not bound to other classes; the last source of a class stays in `rest`.
        rest: where the other clips go.

    Returns:
        the name of a split for each clip.
    """
    if any(not share > 0 for share in shares.values()) or sum(shares.values()) >= 1:
        raise ValueError(
            f"shares are {dict(shares)}, expected numbers above 0 that are together below 1"
        )
    counts: dict[str, Counter] = defaultdict(Counter)  # clips of a source by class
    for source, label in clips:
        counts[source][label] += 1
    sizes = Counter(label for _, label in clips)
    free = Counter(
        label for classes in counts.values() for label in classes
    )  # sources of a class that are left in `rest`
    order = sorted(
        counts, key=lambda source: (hashlib.sha256(f"{seed}/{source}".encode()).digest(), source)
    )
    placed = dict.fromkeys(order, rest)
    for split, share in shares.items():
        wanted = {label: max(1, round(share * size)) for label, size in sizes.items()}
        have: Counter = Counter()
        # Whole sources as long as none of their classes gets too much; then the smallest for a class that got nothing.
        for last_try in (False, True):
            for source in sorted(order, key=lambda s: counts[s].total()) if last_try else order:
                classes = counts[source]
                if placed[source] != rest or any(free[label] < 2 for label in classes):
                    continue
                fits = all(have[label] + count <= wanted[label] for label, count in classes.items())
                if fits or (last_try and any(not have[label] for label in classes)):
                    placed[source] = split
                    have.update(classes)
                    free.subtract(dict.fromkeys(classes, 1))
    return [placed[source] for source, _ in clips]
