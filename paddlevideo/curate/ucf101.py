"""Make lists of UCF-101 from its official lists and a folder of videos or frames.

`classInd.txt` numbers the classes from 1; ids here start at 0. A line of `trainlist01.txt` is
`Class/v_Class_g08_c01.avi 1`, a line of `testlist01.txt` has no number. The lists of the official
test sets are named val, as in PaddleVideo.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from paddlevideo.curate.known_sets import (
    Prepared,
    Problem,
    check_folder,
    path_in_list,
    probe_videos,
    reject_reason,
)
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.curate.splits import source_of
from paddlevideo.data.lists import DatasetError, Problems
from paddlevideo.data.paths import find_frame_folders, find_videos
from paddlevideo.media.frame_files import frame_files
from paddlevideo.sample import DecodeError

CLASSES = "classInd.txt"
SPLITS = (1, 2, 3)
FRAME_PATTERN = "img_{:05}.jpg"

Clips = dict[str, int]  # name in the official lists -> class id


# --- annotations ---------------------------------------------------------------------------------


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Return (line number, stripped line) of all lines that are not empty.

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
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return ((number, line) for number, line in numbered if line)


def read_classes(file: Path) -> list[str]:
    """Read the class names, in the order of their ids, from lines such as `1 ApplyEyeMakeup`.

    Raises:
        DatasetError: other lines, a duplicate name, or ids that do not count from 1.
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
        raise DatasetError(f"{file}: no classes")
    return names


def read_split(file: Path, classes: Sequence[str]) -> Clips:
    """Read the clips of a `trainlist0N.txt` or `testlist0N.txt`.

    Raises:
        DatasetError: an unknown class, a wrong class number, or a duplicate clip. The message names
            all such lines.
    """
    ids = {name.lower(): number for number, name in enumerate(classes)}
    problems, clips = Problems(str(file)), {}
    for number, line in numbered_lines(file):
        name, *rest = line.replace("\\", "/").split()
        folder = PurePosixPath(name).parts[0]
        label = ids.get(folder.lower())
        if "/" not in name or len(rest) > 1:
            problems.add(number, f"{line!r} is not 'Class/video.avi' or 'Class/video.avi number'")
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
        raise DatasetError(f"{file}: no clips")
    return clips


def read_annotations(
    folder: Path, splits: Sequence[int] = SPLITS
) -> tuple[list[str], dict[str, Clips]]:
    """Read the official lists: (class names, `train_split_1` ... -> clips).

    Raises:
        DatasetError: a list is missing or wrong, or the training set and the test set of a split
            have clips of the same recording.
    """
    classes, sets = read_classes(folder / CLASSES), {}
    for split in splits:
        train = read_split(folder / f"trainlist{split:02}.txt", classes)
        test = read_split(folder / f"testlist{split:02}.txt", classes)
        if shared := {source_of(name) for name in train} & {source_of(name) for name in test}:
            raise DatasetError(
                f"{folder}: split {split} has clips of {', '.join(sorted(shared)[:3])} in training "
                "and test; these are not the official lists"
            )
        sets[f"train_split_{split}"], sets[f"val_split_{split}"] = train, test
    return classes, sets


# --- lists ---------------------------------------------------------------------------------------


def find_clips(names: Sequence[str], root: Path, kind: str) -> dict[str, Path]:
    """Find the clips below a folder: name in the official lists -> video or folder of frames.

    A clip is at its official path, or has its official name anywhere below the folder, in upper or
    lower case and with any suffix. The official names themselves differ in case: the folder
    HandstandPushups has v_HandStandPushups_g01_c01.avi.

    Args:
        kind: "videos" or "rawframes".
    """
    is_video = kind == "videos"
    paths = find_videos(root) if is_video else find_frame_folders(root, FRAME_PATTERN)
    by_name: dict[str, Path] = {}
    for path in paths:
        by_name.setdefault((path.stem if is_video else path.name).lower(), path)
    found = {}
    for name in names:
        official = root / (name if is_video else PurePosixPath(name).with_suffix(""))
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
    num_workers: int | None = None,
    options: ProbeOptions | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Make `ucf101_train_split_1_videos.txt`, ..., `ucf101_val_split_3_rawframes.txt`.

    The clips keep the order of the official lists.

    Args:
        annotations: folder of the official lists.
        out: folder of the lists; paths below it are relative to it.
        videos: folder of the videos; None makes no lists of them.
        frames: folder of the frames that tools/data/extract_frames.py wrote; None makes no lists of
            them.
        num_workers: processes that probe videos, None for one per core, 0 for this process.
        options: how to probe each video; None opens none.
        overwrite: other class names in `out` may be replaced.

    Raises:
        DatasetError: wrong annotations, or no clip exists.
        OSError: `out` has other class names, or cannot be written; raised before the videos are
            opened.
    """
    classes, sets = read_annotations(annotations, splits)
    prepared = Prepared(classes)
    names = list(dict.fromkeys(name for clips in sets.values() for name in clips))
    for kind, root in (("videos", videos), ("rawframes", frames)):
        if root is None:
            continue
        if not root.is_dir():
            raise DatasetError(f"{root}: no such folder of {kind}")
        found = find_clips(names, root, kind)
        if not found:
            raise DatasetError(f"{root}: none of {len(names)} clips exists; expected {names[0]}")
        missing = [name for name in names if name not in found]
        prepared.problems += [Problem("missing", name, f"not below {root}") for name in missing]
        check_folder(out, classes, overwrite)
        if kind == "videos":
            paths = video_paths(found, out, num_workers, options, prepared)
        else:
            paths = frame_paths(found, out, prepared)
        for key, clips in sets.items():
            file = f"ucf101_{key}_{kind}.txt"
            listed = [(name, label) for name, label in clips.items() if name in paths]
            prepared.lists[file] = [f"{paths[name]} {label}" for name, label in listed]
            prepared.wanted[file] = len(clips)
    return prepared


def video_paths(
    found: dict[str, Path],
    out: Path,
    num_workers: int | None,
    options: ProbeOptions | None,
    prepared: Prepared,
) -> dict[str, str]:
    """Return name -> path in a list, of each usable video; add a problem for each other one."""
    infos = probe_videos(map(str, found.values()), num_workers, options)
    paths = {}
    for name, path in found.items():
        if reason := reject_reason(infos[str(path)]):
            prepared.problems.append(Problem("damaged", name, f"{path}: {reason}"))
        else:
            paths[name] = path_in_list(path, out)
    return paths


def frame_paths(found: dict[str, Path], out: Path, prepared: Prepared) -> dict[str, str]:
    """Return name -> `folder num_frames`, of each folder without gaps; add a problem otherwise."""
    paths = {}
    for name, folder in found.items():
        try:
            num_frames = len(frame_files(os.listdir(folder), FRAME_PATTERN))
            paths[name] = f"{path_in_list(folder, out)} {num_frames}"
        except DecodeError as error:
            prepared.problems.append(Problem("gap", name, f"{folder}: {error}"))
    return paths
