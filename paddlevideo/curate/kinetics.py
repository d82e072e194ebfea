"""Make lists of Kinetics-400, -600 or -700 from the official CSV files and a folder of videos.

The CSV files have the columns `label,youtube_id,time_start,time_end,split` (and `is_cc`). Class ids
follow the sorted class names. A video is named `<id>_<start>_<end>.mp4`, with six-digit times (s),
or `<id>.mp4`, in any video format. It may be anywhere below the folder, in a class folder or not.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from paddlevideo.curate.known_sets import (
    Prepared,
    Problem,
    check_folder,
    class_ids,
    path_in_list,
    probe_videos,
    reject_reason,
)
from paddlevideo.curate.probe import ProbeOptions, VideoInfo
from paddlevideo.data.lists import DatasetError, Problems
from paddlevideo.data.paths import SPLIT_OF_ALIAS, find_videos, list_name, split_name

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
# A file that is this many times as long as its annotation is the complete recording. Smaller
# differences come from cuts at key frames.
MAX_LENGTH_RATIO = 3
UNLABELED = "a test set without labels cannot be used, leave it out"


class Clip(NamedTuple):
    """A row of the annotations.

    Args:
        split: as in the names of the lists: train, val or test.
        start, end: of the clip in the recording (s).
        location: file:line.
    """

    split: str
    label: str
    youtube_id: str
    start: int
    end: int
    location: str

    @property
    def name(self) -> str:
        return f"{self.youtube_id}_{self.start:06}_{self.end:06}"


# --- annotations ---------------------------------------------------------------------------------


def parse_split(text: str) -> str:
    """Return train, val or test; "" for other words."""
    name = split_name(text)
    return list_name(name) if name else ""


def read_annotations(files: Sequence[Path]) -> list[Clip]:
    """Read the rows of all files, in order.

    Raises:
        DatasetError: not such files. The message names all problems of the first wrong file.
    """
    clips: list[Clip] = []
    for file in files:
        problems = Problems(str(file))
        clips += _read_file(file, problems)
        problems.stop()
    if not clips:
        raise DatasetError(f"{', '.join(map(str, files))}: no clips")
    return clips


def _read_file(file: Path, problems: Problems) -> list[Clip]:
    """Read the rows of a file; add wrong rows to `problems`.

    Raises:
        DatasetError: no such file, or not a CSV file.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return list(_read_rows(lines, file, problems))
    except FileNotFoundError:
        raise DatasetError(f"{file}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file}: not a CSV file in UTF-8: {error}") from None


def _read_rows(lines: Iterable[str], file: Path, problems: Problems) -> Iterator[Clip]:
    table = csv.reader(lines)
    header = [name.strip().lower() for name in next(table, [])]
    if missing := [name for name in COLUMNS if name not in header]:
        hint = f"; {UNLABELED}" if missing == ["label"] else ""
        problems.add(1, f"no column {', '.join(missing)} in {','.join(header)!r}{hint}")
        return
    # Some files of the release of 2017 have no split column, but are named after their split.
    words = re.split(r"[^a-z]+", file.stem.lower())
    file_split = next(filter(None, map(parse_split, words)), "")
    for cells in table:
        if any(cells):
            row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            try:
                yield parse_row(row, file_split, f"{file}:{table.line_num}")
            except ValueError as error:
                problems.add(table.line_num, str(error))


def parse_row(row: dict[str, str], file_split: str, location: str) -> Clip:
    """Check a row.

    Args:
        file_split: the split of rows that have no split, "" if it is unknown.

    Raises:
        ValueError: not an annotation of Kinetics.
    """
    label, youtube_id = row.get("label", ""), row.get("youtube_id", "")
    split = row.get("split", "")
    if not label:
        raise ValueError(f"no label for {youtube_id}; {UNLABELED}")
    if not re.fullmatch(r"[\w-]+", youtube_id, re.ASCII):
        raise ValueError(
            f"{youtube_id!r} is not a youtube_id; if a spreadsheet changed it, "
            "download the file again"
        )
    try:
        start, end = float(row.get("time_start", "")), float(row.get("time_end", ""))
    except ValueError:
        start = end = -1.0
    if not (0 <= start < end < 10**6 and start == int(start) and end == int(end)):
        raise ValueError(
            f"{youtube_id}: time_start {row.get('time_start')!r} and time_end "
            f"{row.get('time_end')!r} are not increasing integers (seconds)"
        )
    if split and not parse_split(split):
        known = ", ".join(SPLIT_OF_ALIAS)
        raise ValueError(f"{youtube_id}: split {split!r} is not one of {known}")
    if not split and not file_split:
        raise ValueError(
            f"{youtube_id}: no column split; name the file after its split, such as train.csv"
        )
    split = parse_split(split) or file_split
    return Clip(split, label, youtube_id, int(start), int(end), location)


# --- videos --------------------------------------------------------------------------------------


def letters_and_digits(name: str) -> str:
    """Reduce a class or folder name, so that `massaging_persons_head` matches "massaging person's
    head"."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass
class VideoFolder:
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
        self._classes = {letters_and_digits(label) for label in self.labels}

    def candidates(self, clip: Clip) -> list[Path]:
        """Return the files that may hold this clip, the most likely first."""
        exact = self.files.get(clip.name, [])
        # A recording may occur in several classes (Kinetics-700). If the file name has no times,
        # only its folder distinguishes them.
        untimed = self.files.get(clip.youtube_id, [])
        untimed = [path for path in untimed if not self.wrong_class_folder(path, clip)]

        def rank(path: Path) -> tuple[bool, bool, str]:
            return self._rank(path, clip)

        return sorted(exact, key=rank) + sorted(untimed, key=rank)

    def wrong_class_folder(self, path: Path, clip: Clip) -> str:
        """Return the folder of another class that contains the file, "" if there is none."""
        folders = path.relative_to(self.root).parts[:-1]
        names = {letters_and_digits(folder) for folder in folders}
        if letters_and_digits(clip.label) in names:
            return ""
        return next(
            (folder for folder in folders if letters_and_digits(folder) in self._classes), ""
        )

    def _rank(self, path: Path, clip: Clip) -> tuple[bool, bool, str]:
        folders = path.relative_to(self.root).parts[:-1]
        splits = set(filter(None, map(parse_split, folders)))
        in_wrong_split = bool(splits) and clip.split not in splits
        return bool(self.wrong_class_folder(path, clip)), in_wrong_split, str(path)


# --- lists ---------------------------------------------------------------------------------------


def prepare(
    annotations: Sequence[Path],
    videos: Path,
    out: Path,
    class_names: list[str] | None = None,
    num_workers: int | None = None,
    options: ProbeOptions | None = None,
    num_classes: int | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Make `train.list`, `val.list` and `test.list` of the usable videos.

    The clips keep the order of the annotations.

    Args:
        out: folder of the lists; paths below it are relative to it.
        class_names: in the order of their ids; None sorts those of the annotations.
        num_workers: processes that probe videos, None for one per core, 0 for this process.
        options: how to probe each video; None opens none.
        num_classes: expected number of classes.
        overwrite: other class names in `out` may be replaced.

    Raises:
        DatasetError: wrong annotations, an unknown class, or no video of a clip.
        OSError: `out` has other class names, or cannot be written; raised before the videos are
            opened.
    """
    clips = read_annotations(annotations)
    ids, names = number_classes(clips, class_names, num_classes)
    if not videos.is_dir():
        raise DatasetError(f"{videos}: no such folder of videos")
    folder = VideoFolder(videos, set(ids))
    prepared = Prepared(names)
    clips = drop_repeated(clips, prepared)
    candidates = find_candidates(clips, folder)
    drop_ambiguous(candidates, prepared)
    check_folder(out, names, overwrite)
    paths = (str(path) for paths in candidates.values() for path in paths)
    infos = probe_videos(paths, num_workers, options)
    for split in dict.fromkeys(clip.split for clip in clips):
        prepared.lists[f"{split}.list"], prepared.wanted[f"{split}.list"] = [], 0
    trained = set()
    for clip in clips:
        list_name = f"{clip.split}.list"
        prepared.wanted[list_name] += 1
        path = choose(clip, candidates.get(clip), infos, prepared)
        if path is None:
            continue
        note_wrong_class_folder(clip, path, folder, prepared)
        prepared.lists[list_name].append(f"{path_in_list(path, out)} {ids[clip.label]}")
        if clip.split == "train":
            trained.add(clip.label)
    for label in names if "train.list" in prepared.lists else ():
        if label not in trained:
            text = "no training clip of this class is listed"
            prepared.problems.append(Problem("untrained", label, text))
    return prepared


def number_classes(
    clips: list[Clip], class_names: list[str] | None, num_classes: int | None
) -> tuple[dict[str, str], list[str]]:
    """`class_ids` of the clips.

    Raises:
        DatasetError: an unknown class, or another number of classes than expected.
    """
    ids, names = class_ids({clip.label for clip in clips}, class_names)
    if num_classes not in (None, len(names)):
        raise DatasetError(
            f"the annotations have {len(names)} classes, --num_classes is {num_classes}; "
            "give all CSV files"
        )
    return ids, names


def find_candidates(clips: list[Clip], folder: VideoFolder) -> dict[Clip, list[Path]]:
    """The files that may hold each clip.

    Raises:
        DatasetError: there is none for any clip.
    """
    candidates = {clip: folder.candidates(clip) for clip in clips}
    if not any(candidates.values()):
        first = next((str(paths[0]) for paths in folder.files.values()), "no video")
        raise DatasetError(
            f"{folder.root}: none of {len(clips)} clips exists; expected files such as "
            f"{clips[0].name}.mp4, found {first}"
        )
    return candidates


def drop_repeated(clips: list[Clip], prepared: Prepared) -> list[Clip]:
    """Return each clip of a split and class once.

    Notes report repeated rows, and clips that occur in two splits or classes.
    """
    kept: dict[tuple, Clip] = {}
    first: dict[str, Clip] = {}
    for clip in clips:
        same = kept.setdefault(clip[:-1], clip)
        other = first.setdefault(clip.name, clip)
        if same is not clip:
            text = f"{clip.location} repeats {same.location}; listed once"
            prepared.notes.append(Problem("repeated", clip.name, text))
        elif other is not clip:
            text = (
                f"{clip.split}, {clip.label!r} in {clip.location}; "
                f"{other.split}, {other.label!r} in {other.location}"
            )
            prepared.notes.append(Problem("twice", clip.name, text))
    return list(kept.values())


def drop_ambiguous(candidates: dict[Clip, list[Path]], prepared: Prepared) -> None:
    """Remove files without times in their names that may belong to several clips."""
    users: dict[Path, set[str]] = defaultdict(set)
    for clip, paths in candidates.items():
        for path in paths:
            users[path].add(clip.name)
    for clip, paths in list(candidates.items()):
        clear = [path for path in paths if len(users[path]) == 1]
        if paths and not clear:
            names = ", ".join(sorted(users[paths[0]]))
            text = f"{paths[0]} may be any of {names}: add the times to its name"
            prepared.problems.append(Problem("ambiguous", clip.name, text))
            del candidates[clip]
        else:
            candidates[clip] = clear


def note_wrong_class_folder(
    clip: Clip, path: Path, folder: VideoFolder, prepared: Prepared
) -> None:
    """Add a note if the file is in the folder of another class."""
    if wrong := folder.wrong_class_folder(path, clip):
        text = f"{clip.label!r} in {clip.location}, but the file is in {wrong!r}: {path}"
        prepared.notes.append(Problem("misplaced", clip.name, text))


def choose(
    clip: Clip, paths: list[Path] | None, infos: dict[str, VideoInfo], prepared: Prepared
) -> Path | None:
    """Return the first usable file of a clip; add a problem if there is none.

    Args:
        paths: the candidates, None for an ambiguous clip, whose problem is reported before.
    """
    if paths is None:
        return None
    seconds = clip.end - clip.start
    problems = []
    for path in paths:
        info = infos[str(path)]
        if reason := reject_reason(info):
            problems.append(Problem("damaged", clip.name, f"{path}: {reason}"))
        elif info.seconds > MAX_LENGTH_RATIO * seconds:
            text = (
                f"{path}: {info.seconds:.0f} s long, but the annotation has {seconds} s; "
                "cut the clip out of the recording"
            )
            problems.append(Problem("uncut", clip.name, text))
        else:
            return path
    if not problems:
        text = f"{clip.split}, {clip.label!r}: no {clip.name}.mp4 and no {clip.youtube_id}.mp4"
        problems.append(Problem("missing", clip.name, text))
    prepared.problems.append(problems[0])
    return None
