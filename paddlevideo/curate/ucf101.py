"""UCF-101: the official lists of its three splits and a folder of videos, or of their frames -> lists.

`classInd.txt` numbers the classes from 1, here they count from 0. `trainlist01.txt` has `Class/v_Class_g08_c01.avi 1` a line,
`testlist01.txt` the same without the number; what is official as a test set is called val here, as in PaddleVideo's lists.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from paddlevideo.curate.known_sets import Prepared, Problem, look_at, path_in_list, unusable
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.curate.splits import source_of
from paddlevideo.data.lists import DatasetError, Problems
from paddlevideo.data.paths import find_frame_folders, find_videos
from paddlevideo.media.decode import count_frame_files

CLASSES = "classInd.txt"
SPLITS = (1, 2, 3)
PATTERN = "img_{:05}.jpg"

Clips = dict[str, int]  # name as in the official lists -> class id


# --- annotations -----------------------------------------------------------------------------------------------------


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(line number, stripped line), without empty ones.

    Raises:
        DatasetError: no such file, or not text.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(
            f"{file}: no such file; give the folder of the official lists (ucfTrainTestlist)"
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: not UTF-8 text (byte {error.start})") from None
    return (
        (number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    )


def read_classes(file: Path) -> list[str]:
    """Class names in the order of their ids, from lines `1 ApplyEyeMakeup`.

    Raises:
        DatasetError: other lines, a doubled name, or ids that do not count from 1.
    """
    problems, names = Problems(str(file)), []
    for number, line in numbered_lines(file):
        words = line.split()
        if len(words) != 2 or words[0] != str(len(names) + 1) or words[1] in names:
            problems.add(number, f"{line!r} is not '{len(names) + 1} ClassName' with a new name")
            break
        names.append(words[1])
    problems.stop()
    if not names:
        raise DatasetError(f"{file}: no classes in it")
    return names


def read_split(file: Path, classes: Sequence[str]) -> Clips:
    """The clips of a `trainlist0N.txt` or `testlist0N.txt`.

    Raises:
        DatasetError: an unknown class, a number that is not that of the class, or a clip twice; all with their lines.
    """
    ids = {name.lower(): number for number, name in enumerate(classes)}
    problems, clips = Problems(str(file)), {}
    for number, line in numbered_lines(file):
        name, *rest = line.replace("\\", "/").split()
        folder = PurePosixPath(name).parts[0]
        label = ids.get(folder.lower())
        if "/" not in name or len(rest) > 1:
            problems.add(number, f"{line!r} is not 'Class/video.avi' with a class id at most")
        elif label is None:
            problems.add(number, f"{name}: {CLASSES} has no class {folder!r}")
        elif rest and rest[0] != str(label + 1):
            problems.add(number, f"{name}: class {rest[0]} here, {label + 1} in {CLASSES}")
        elif name in clips:
            problems.add(number, f"{name} is listed twice")
        else:
            clips[name] = label
    problems.stop()
    if not clips:
        raise DatasetError(f"{file}: no clips in it")
    return clips


def read_annotations(
    folder: Path, splits: Sequence[int] = SPLITS
) -> tuple[list[str], dict[str, Clips]]:
    """(class names, `train_split_1` ... -> clips) of the official lists.

    Raises:
        DatasetError: a list is missing or wrong, or a training set has clips of a recording that is in its test set.
    """
    classes, sets = read_classes(folder / CLASSES), {}
    for split in splits:
        train, test = (
            read_split(folder / f"{kind}list{split:02}.txt", classes) for kind in ("train", "test")
        )
        if both := {source_of(name) for name in train} & {source_of(name) for name in test}:
            shown = ", ".join(sorted(both)[:3])
            raise DatasetError(
                f"{folder}: split {split} trains and tests on clips of {shown}; these are not the official lists"
            )
        sets[f"train_split_{split}"], sets[f"val_split_{split}"] = train, test
    return classes, sets


# --- together --------------------------------------------------------------------------------------------------------


def find(names: Sequence[str], root: Path, kind: str) -> dict[str, Path]:
    """Where each clip is: at its official place below `root`, or anywhere there under its name, whatever the capitals and the
    suffix (the folder HandstandPushups holds v_HandStandPushups_g01_c01.avi). Those that are not there are left out."""
    paths = find_videos(root) if kind == "videos" else find_frame_folders(root, PATTERN.format(1))
    by_name: dict[str, Path] = {}
    for path in paths:
        by_name.setdefault((path.stem if kind == "videos" else path.name).lower(), path)
    found = {}
    for name in names:
        official = root / (name if kind == "videos" else PurePosixPath(name).with_suffix(""))
        path = official if official.exists() else by_name.get(PurePosixPath(name).stem.lower())
        if path is not None:
            found[name] = path
    return found


def prepare(
    annotations: Path,
    out: Path,
    videos: Path | None = None,
    frames: Path | None = None,
    splits: Sequence[int] = SPLITS,
    workers: int | None = None,
    how: ProbeOptions | None = None,
) -> Prepared:
    """Lists `ucf101_train_split_1_videos.txt`, ..., `ucf101_val_split_3_rawframes.txt`, in the order of the official ones.

    Args:
        out: folder that the lists are for; paths below it are relative to it.
        videos: folder of the videos, None for no such lists.
        frames: folder of what tools/data/extract_frames.py makes of them, None for no such lists.
        how: how closely to look at each video; None opens none.

    Raises:
        DatasetError: wrong annotations, or nothing of what they name is there.
    """
    classes, sets = read_annotations(annotations, splits)
    made = Prepared(classes)
    names = list(dict.fromkeys(name for clips in sets.values() for name in clips))
    for kind, root in (("videos", videos), ("rawframes", frames)):
        if root is None:
            continue
        if not root.is_dir():
            raise DatasetError(f"{root}: no such folder of {kind}")
        there = find(names, root, kind)
        if not there:
            raise DatasetError(f"{root}: none of {len(names)} clips is there, as {names[0]}")
        made.problems += [
            Problem("missing", name, f"not below {root}") for name in names if name not in there
        ]
        lines = (
            lines_of_videos(there, out, workers, how, made)
            if kind == "videos"
            else lines_of_frames(there, out, made)
        )
        for key, clips in sets.items():
            file = f"ucf101_{key}_{kind}.txt"
            made.lists[file] = [
                f"{lines[name]} {label}" for name, label in clips.items() if name in lines
            ]
            made.wanted[file] = len(clips)
    return made


def lines_of_videos(
    there: dict[str, Path], out: Path, workers: int | None, how: ProbeOptions | None, made: Prepared
) -> dict[str, str]:
    """name -> `path` of each good video; the others become problems."""
    seen = look_at(map(str, there.values()), workers, how)
    lines = {}
    for name, path in there.items():
        if why := unusable(seen[str(path)]):
            made.problems.append(Problem("damaged", name, f"{path}: {why}"))
        else:
            lines[name] = path_in_list(path, out)
    return lines


def lines_of_frames(there: dict[str, Path], out: Path, made: Prepared) -> dict[str, str]:
    """name -> `folder num_frames` of each folder whose pictures have no gap; the others become problems."""
    lines = {}
    for name, folder in there.items():
        count = count_frame_files(folder, PATTERN)
        pictures = sum(entry.endswith(".jpg") for entry in os.listdir(folder))
        if pictures != count:
            made.problems.append(
                Problem(
                    "gap",
                    name,
                    f"{folder}: {pictures} pictures, but {PATTERN.format(count + 1)} is not there",
                )
            )
        else:
            lines[name] = f"{path_in_list(folder, out)} {count}"
    return lines
