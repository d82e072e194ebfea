"""Kinetics-400, -600 and -700: the official CSV files and a folder of videos -> lists.

The files have the columns `label,youtube_id,time_start,time_end,split` (and `is_cc`); a class's id is its place among the
sorted names. A video is called `<id>_<start>_<end>.mp4`, its times in six digits, or `<id>.mp4`, in any video format; it may
lie anywhere below the folder, in the folder of its class or not.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from paddlevideo.curate.known_sets import Prepared, Problem, ids_of, look_at, path_in_list, unusable
from paddlevideo.curate.probe import ProbeOptions, VideoInfo
from paddlevideo.data.lists import DatasetError, Problems
from paddlevideo.data.paths import SPLIT_NAMES, find_videos

SPLITS = SPLIT_NAMES
COLUMNS = ("label", "youtube_id", "time_start", "time_end")
LONGER = 3  # times what the annotation says: no longer a cut at key frames, but the whole recording


class Clip(NamedTuple):
    """A row: which seconds of which video show what."""

    split: str
    label: str
    youtube_id: str
    start: int
    end: int
    place: str

    @property
    def name(self) -> str:
        return f"{self.youtube_id}_{self.start:06}_{self.end:06}"


# --- annotations -----------------------------------------------------------------------------------------------------


def read_annotations(files: Sequence[Path]) -> list[Clip]:
    """The rows of all files, in their order.

    Raises:
        DatasetError: not such files; all that is wrong in the first wrong one is named with its line.
    """
    clips: list[Clip] = []
    for file in files:
        problems = Problems(str(file))
        clips += rows_of(file, problems)
        problems.stop()
    if not clips:
        raise DatasetError(f"{', '.join(map(str, files))}: no clips in it")
    return clips


def rows_of(file: Path, problems: Problems) -> Iterator[Clip]:
    """The rows of a file; what is wrong goes to `problems`."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            table = csv.reader(opened)
            header = [name.strip().lower() for name in next(table, [])]
            if missing := [name for name in COLUMNS if name not in header]:
                hint = (
                    "; a test set without labels is of no use here, leave it out"
                    if missing == ["label"]
                    else ""
                )
                problems.add(1, f"no column {', '.join(missing)} in {','.join(header)!r}{hint}")
                return
            # The release of 2017 has no split in some of its files, but their names tell.
            told = next(
                (
                    SPLITS[word]
                    for word in re.split(r"[^a-z]+", file.stem.lower())
                    if word in SPLITS
                ),
                "",
            )
            for cells in table:
                if any(cells):
                    row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
                    try:
                        yield clip_of(row, told, f"{file}:{table.line_num}")
                    except ValueError as error:
                        problems.add(table.line_num, str(error))
    except FileNotFoundError:
        raise DatasetError(f"{file}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file}: not a CSV file in UTF-8: {error}") from None


def clip_of(row: dict[str, str], split: str, place: str) -> Clip:
    """
    Raises:
        ValueError: the row is no annotation of Kinetics.
    """
    label, identity, given = row.get("label", ""), row.get("youtube_id", ""), row.get("split", "")
    if not label:
        raise ValueError(
            f"no label for {identity}; a test set without labels is of no use here, leave it out"
        )
    if not re.fullmatch(r"[\w-]+", identity, re.ASCII):
        raise ValueError(
            f"youtube_id {identity!r} is none; a spreadsheet may have changed it: fetch the file again"
        )
    try:
        start, end = (float(row.get(name, "")) for name in ("time_start", "time_end"))
    except ValueError:
        start = end = -1.0
    if not (0 <= start < end < 10**6 and start == int(start) and end == int(end)):
        raise ValueError(
            f"{identity}: time_start {row.get('time_start')!r} and time_end {row.get('time_end')!r} are not seconds"
        )
    if given and given.lower() not in SPLITS:
        raise ValueError(f"{identity}: split {given!r} is none of {', '.join(SPLITS)}")
    if not given and not split:
        raise ValueError(f"{identity}: no column split; call the file after it, as train.csv")
    return Clip(
        SPLITS[given.lower()] if given else split, label, identity, int(start), int(end), place
    )


# --- videos ----------------------------------------------------------------------------------------------------------


def plain(name: str) -> str:
    """Letters and digits of a class or folder name: `massaging_persons_head` is "massaging person's head"."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass
class Videos:
    """The video files below a folder.

    Args:
        root: the folder.
        labels: all class names.
    """

    root: Path
    labels: set[str]

    def __post_init__(self):
        self.files: dict[str, list[Path]] = defaultdict(list)
        for path in find_videos(self.root):
            self.files[path.stem].append(path)
        self._classes = {plain(label) for label in self.labels}

    def candidates(self, clip: Clip) -> list[Path]:
        """The files that may be this clip, the likeliest first."""
        named = self.files.get(clip.name, [])
        # The same recording may serve several classes (Kinetics-700); without times, only the folder tells them apart.
        whole = [
            path for path in self.files.get(clip.youtube_id, []) if not self.misplaced(path, clip)
        ]
        return sorted(named, key=lambda path: self._rank(path, clip)) + sorted(
            whole, key=lambda path: self._rank(path, clip)
        )

    def misplaced(self, path: Path, clip: Clip) -> str:
        """The folder of another class in which it lies, "" where it lies well."""
        folders = path.relative_to(self.root).parts[:-1]
        names = {plain(folder) for folder in folders}
        if plain(clip.label) in names:
            return ""
        return next((folder for folder in folders if plain(folder) in self._classes), "")

    def _rank(self, path: Path, clip: Clip) -> tuple[bool, bool, str]:
        folders = path.relative_to(self.root).parts[:-1]
        splits = {SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS}
        return (
            bool(self.misplaced(path, clip)),
            bool(splits) and clip.split not in splits,
            str(path),
        )


# --- together --------------------------------------------------------------------------------------------------------


def prepare(
    annotations: Sequence[Path],
    videos: Path,
    out: Path,
    class_names: list[str] | None = None,
    workers: int | None = None,
    how: ProbeOptions | None = None,
) -> Prepared:
    """Lists `train.list`, `val.list`, `test.list` of what is there and good, in the order of the annotations.

    Args:
        out: folder that the lists are for; paths below it are relative to it.
        class_names: in the order of their ids; None sorts those of the annotations.
        how: how closely to look at each video; None opens none.

    Raises:
        DatasetError: wrong annotations, an unknown class, or none of the videos is there.
    """
    clips = read_annotations(annotations)
    ids, names = ids_of({clip.label for clip in clips}, class_names)
    if not videos.is_dir():
        raise DatasetError(f"{videos}: no such folder of videos")
    found = Videos(videos, set(ids))
    made = Prepared(names)
    clips = without_repeats(clips, made)
    candidates = {clip: found.candidates(clip) for clip in clips}
    if not any(candidates.values()):
        there = next((str(paths[0]) for paths in found.files.values()), "no video at all")
        raise DatasetError(
            f"{videos}: none of {len(clips)} clips is there, as {clips[0].name}.mp4; found {there}"
        )
    drop_ambiguous(candidates, made)
    seen = look_at((str(path) for paths in candidates.values() for path in paths), workers, how)
    for split in dict.fromkeys(clip.split for clip in clips):
        made.lists[f"{split}.list"], made.wanted[f"{split}.list"] = [], 0
    have = set()
    for clip in clips:
        list_name = f"{clip.split}.list"
        made.wanted[list_name] += 1
        if (path := choose(clip, candidates.get(clip), seen, made)) is None:
            continue
        if folder := found.misplaced(path, clip):
            made.notes.append(
                Problem(
                    "misplaced",
                    clip.name,
                    f"{clip.label!r} in {clip.place}, but it lies in {folder!r}: {path}",
                )
            )
        made.lists[list_name].append(f"{path_in_list(path, out)} {ids[clip.label]}")
        have.add((clip.split, clip.label))
    for label in names if "train.list" in made.lists else ():
        if ("train", label) not in have:
            made.problems.append(
                Problem("untrained", label, "no training clip of this class is listed")
            )
    return made


def without_repeats(clips: list[Clip], made: Prepared) -> list[Clip]:
    """Each clip of a split and class once; those of several are noted, and stay."""
    kept: dict[tuple, Clip] = {}
    first: dict[str, Clip] = {}
    for clip in clips:
        same = kept.setdefault(clip[:-1], clip)
        other = first.setdefault(clip.name, clip)
        if same is not clip:
            made.notes.append(
                Problem("repeated", clip.name, f"{clip.place} is as {same.place}; listed once")
            )
        elif other is not clip:
            what = f"{clip.split}, {clip.label!r} in {clip.place}; {other.split}, {other.label!r} in {other.place}"
            made.notes.append(Problem("twice", clip.name, what))
    return list(kept.values())


def drop_ambiguous(candidates: dict[Clip, list[Path]], made: Prepared) -> None:
    """Take out files without times in their names that could be several clips."""
    users: dict[Path, set[str]] = defaultdict(set)
    for clip, paths in candidates.items():
        for path in paths:
            users[path].add(clip.name)
    for clip, paths in list(candidates.items()):
        clear = [path for path in paths if len(users[path]) == 1]
        if paths and not clear:
            others = ", ".join(sorted(users[paths[0]]))
            made.problems.append(
                Problem(
                    "ambiguous",
                    clip.name,
                    f"{paths[0]} may be any of {others}: put the times into its name",
                )
            )
            del candidates[clip]
        else:
            candidates[clip] = clear


def choose(
    clip: Clip, paths: list[Path] | None, seen: dict[str, VideoInfo], made: Prepared
) -> Path | None:
    """The first good one of a clip's files; None, and a problem, where there is none."""
    if paths is None:  # ambiguous, which was told
        return None
    problems = [
        Problem(
            "missing",
            clip.name,
            f"{clip.split}, {clip.label!r}: neither {clip.name}.mp4 nor {clip.youtube_id}.mp4",
        )
    ]
    for path in paths:
        view, wanted = seen[str(path)], clip.end - clip.start
        if why := unusable(view):
            problems.append(Problem("damaged", clip.name, f"{path}: {why}"))
        elif view.seconds > LONGER * wanted:
            text = f"{path}: {view.seconds:.0f} s long, {wanted} s are annotated; cut it out of the recording"
            problems.append(Problem("uncut", clip.name, text))
        else:
            return path
    made.problems.append(problems[-1] if len(problems) < 2 else problems[1])
    return None
