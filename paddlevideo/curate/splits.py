"""Find the recording that a clip was cut from, and split a data set by recording.

Clips of one recording look alike. With some of them in training and others in validation, a model
that remembers the scene and the people is rewarded. The source of a clip follows from its name
(`source_of`), or from a `source` column in the table.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from paddlevideo.data.paths import split_name

# Naming schemes whose sources are unique in all folders.
# Kinetics: video id, first and last second.
KINETICS = re.compile(r"(?P<source>.+)_(?P<start>\d{6})_(?P<end>\d{6})")
# Six-digit numbers that lie further apart (s) are dates or times of day.
MAX_KINETICS_SECONDS = 600
UCF101 = re.compile(r"(?P<source>.+_g\d+)_c\d+")
# HMDB-51: video, then body parts, camera motion, people, camera angle, quality, number.
HMDB51 = re.compile(r"(?P<source>.+)_[fhul]_(?:nm|cm)_np\d_(?:fr|le|ri|ba)_(?:bad|med|goo)_\d+")
# Naming schemes whose sources are unique in one folder only: numbered scenes, or start and end.
SCENE = re.compile(
    r"(?P<source>.+?)[ ._-]+(?:scene|clip|part|segment|seg|shot|cut|chunk)[ ._-]*\d+", re.IGNORECASE
)
TIMES = re.compile(r"(?P<source>.+)_\d+\.\d+_\d+\.\d+")
# Names such as `video` in `video_clip_1` do not identify a recording.
GENERIC_NAMES = {"video", "vid", "movie", "film", "img", "mov", "cam", "camera", "rec", "recording"}
GENERIC_NAMES |= {"sample", "output", "out", "my", "the", "new", "test", "train", "val"}


def source_of(name: str, label: str = "", pattern: str | re.Pattern | None = None) -> str:
    """Derive the recording that a clip was cut from, from the name of the clip.

    | name                                | source        | naming scheme                         |
    | ---                                 | ---           | ---                                   |
    | `run/v_Run_g08_c03.avi`             | `v_Run_g08`   | UCF-101: group, clip                  |
    | `run/5Fv6MkWzqzE_000012_000022.mp4` | `5Fv6MkWzqzE` | Kinetics: video id, start, end (s)    |
    | `run/derby-Scene-003.mp4`           | `derby`       | scene, clip, part, segment, shot, ... |
    | `run/derby_12.0_14.5.mp4`           | `derby`       | start, end (s)                        |
    | `run/derby_3.mp4`                   | `run/derby_3` | none: a bare number is not a scheme   |

    The source of a numbered scene includes its folders, except those of classes and splits:
    `train/serve/final_clip_1.mp4` and `val/rally/final_clip_2.mp4` share a source.

    Args:
        name: path of the clip, as its list or folder names it.
        label: class of the clip.
        pattern: None for the naming schemes above; "none" to make each file its own source; or a
            regular expression to search in the path. Its first group, or without groups the
            complete match, is the source. A name that does not match is its own source.
    """
    return source_and_rule(name, label, pattern)[0]


def source_and_rule(
    name: str, label: str = "", pattern: str | re.Pattern | None = None
) -> tuple[str, str]:
    """As `source_of`: (source, what it follows from). The second is "" for a file that is its own
    source."""
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
    own_source = path.with_suffix("").as_posix()
    if pattern == "none":
        return own_source, ""
    if pattern is not None:
        match = re.search(pattern, path.as_posix())
        source = match.group(1 if match.re.groups else 0) if match else ""
        return (source, "--source") if source else (own_source, "")
    stem = path.stem
    match = KINETICS.fullmatch(stem)
    if match and match["source"].lower() not in GENERIC_NAMES:
        seconds = int(match["end"]) - int(match["start"])
        if 0 < seconds <= MAX_KINETICS_SECONDS:
            return match["source"], "the names of Kinetics"
    for scheme, title in ((UCF101, "UCF-101"), (HMDB51, "HMDB-51")):
        if match := scheme.fullmatch(stem):
            return match["source"], f"the names of {title}"
    for scheme, title in ((SCENE, "numbered parts"), (TIMES, "start and end times")):
        match = scheme.fullmatch(stem)
        if match and match["source"].lower() not in GENERIC_NAMES:
            parents = [part for part in path.parts[:-1] if part != label]
            folders = [part for part in parents if split_name(part) is None]
            return "/".join([*folders, match["source"]]), f"names with {title}"
    return own_source, ""


def split_by_source(
    clips: Sequence[tuple[str, str]],
    shares: Mapping[str, float],
    seed: int = 0,
    rest: str = "train",
    fixed: Mapping[str, str] | None = None,
) -> list[str]:
    """Assign a split to each clip, so that all clips of a source share a split.

    Each class gets about the wanted share of its clips in each split. Sources are ordered by a hash
    of the seed and their names. The result therefore depends neither on the order of the clips nor
    on the machine, and clips that are added later move few of the others.

    Args:
        clips: (source, class) of each clip.
        shares: split -> share of the clips of each class, above 0 and below 1 in total. A class
            with two or more sources gives at least one clip to each split, unless its sources also
            hold clips of other classes. The last source of a class stays in `rest`.
        seed: another seed gives another assignment.
        rest: split of the other clips.
        fixed: source -> its split, which counts towards the share and does not change.

    Returns:
        the split of each clip.

    Raises:
        ValueError: a share is out of range.
    """
    if any(not share > 0 for share in shares.values()) or sum(shares.values()) >= 1:
        raise ValueError(
            f"shares are {dict(shares)}, expected numbers above 0 that are together below 1"
        )
    # source -> class -> number of clips
    counts: dict[str, Counter] = defaultdict(Counter)
    for source, label in clips:
        counts[source][label] += 1
    fixed = {source: split for source, split in (fixed or {}).items() if source in counts}
    order = sorted(
        counts, key=lambda source: (hashlib.sha256(f"{seed}/{source}".encode()).digest(), source)
    )
    split_of = dict.fromkeys(order, rest) | fixed
    for split, share in shares.items():
        fill_split(split, share, counts, split_of, rest, frozenset(fixed))
    return [split_of[source] for source, _ in clips]


def fill_split(
    split: str,
    share: float,
    counts: Mapping[str, Counter],
    split_of: dict[str, str],
    rest: str,
    fixed: frozenset[str],
) -> None:
    """Move sources from `rest` to a split until each class has its share.

    Args:
        counts: source -> class -> number of clips.
        split_of: source -> split, in the order of the draw; changed here.
        fixed: sources that do not move.
    """
    sizes: Counter = Counter()
    assigned: Counter = Counter()
    # class -> number of sources that are still in `rest`
    num_free: Counter = Counter()
    for source, classes in counts.items():
        sizes.update(classes)
        if split_of[source] == split:
            assigned.update(classes)
        if split_of[source] == rest:
            num_free.update(dict.fromkeys(classes, 1))
    wanted = {label: max(1, round(share * size)) for label, size in sizes.items()}
    smallest_first = sorted(split_of, key=lambda source: counts[source].total())
    # First take sources that exceed the share of none of their classes. Then take the smallest
    # sources of classes that got no clip, whatever their size.
    for may_exceed in (False, True):
        for source in smallest_first if may_exceed else list(split_of):
            classes = counts[source]
            if source in fixed or split_of[source] != rest:
                continue
            if any(num_free[label] < 2 for label in classes):
                continue
            fits = all(assigned[label] + n <= wanted[label] for label, n in classes.items())
            if fits or (may_exceed and any(not assigned[label] for label in classes)):
                split_of[source] = split
                assigned.update(classes)
                num_free.subtract(dict.fromkeys(classes, 1))
