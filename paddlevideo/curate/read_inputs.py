"""Read folders and lists into an inventory.

Unlike the datasets of training, which stop at the first invalid input, this reports each mistake
as a fault and continues. No video is decoded.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from paddlevideo.curate.class_folders import (
    AUDIO_CONTAINER_SUFFIXES,
    CLIP_SUFFIXES,
    EXAMPLES,
    SOUND_SUFFIXES,
    SYSTEM_FOLDERS,
    note_mixture,
    note_others,
    read_remote_folder,
    reject_nested_splits,
)
from paddlevideo.curate.faults import Fault
from paddlevideo.curate.file_names import find_spelling, name_problem
from paddlevideo.curate.formats import HEAD_BYTES, identify_format
from paddlevideo.curate.inventory import ClipEntry, Inputs, Inventory, Media
from paddlevideo.curate.labels import resolve_labels
from paddlevideo.curate.sources import find_sources
from paddlevideo.curate.splits import source_and_rule
from paddlevideo.data.class_names import paddlex_class_names, read_class_names
from paddlevideo.data.datasets import class_folder_rows, no_class_folders
from paddlevideo.data.lists import DatasetError, Problems, Row, read_rows
from paddlevideo.data.paths import (
    base_folder,
    check_paths,
    list_files,
    remote_paths,
    split_name,
    walk_folders,
)
from paddlevideo.media.containers import VIDEO_SUFFIXES, has_audio_suffix
from paddlevideo.remote import exists, is_folder, is_url, join_path, shown
from paddlevideo.sample import Record


def read_inputs(inputs: Inputs) -> Inventory:
    """Read all inputs and resolve splits, labels and class names.

    Raises:
        DatasetError: an input does not exist, has no records, or is a list none of whose files
            exists or whose paths are ambiguous.
    """
    inputs = with_paddlex_lists(inputs)
    inventory = Inventory(
        class_names=inputs.class_names, names_are_given=inputs.class_names is not None
    )
    data_split = None if inputs.valid is None and inputs.test is None else "train"
    paths = [(data_split, inputs.data)]
    paths += [("valid", inputs.valid)] if inputs.valid is not None else []
    paths += [("test", inputs.test)] if inputs.test is not None else []
    for _, path in paths:
        if not (is_folder(path) or exists(path)):
            raise DatasetError(
                f"{shown(path)}: no such file or folder; "
                "give a folder with one sub-folder per class, or a list"
            )
    lists = [path for _, path in paths if not is_folder(path)]
    tables = {path: read_rows(path, with_num_frames=False) for path in lists}
    inventory.media = inputs.media or find_media([path for _, path in paths], tables, inputs.suffix)
    for split, path in paths:
        if path not in tables:
            read_folder(inventory, path, split, inputs.source)
        else:
            read_list(inventory, path, tables[path], split, inputs)
    resolve_splits(inventory)
    resolve_labels(inventory, has_folders=len(tables) < len(paths))
    for clip in inventory.clips:
        if problem := name_problem(clip.name):
            inventory.add_fault("bad_name", clip, problem)
    inventory.clips = [clip for clip in inventory.clips if not name_problem(clip.name)]
    if inputs.source is None:
        name_weak_sources(inventory)
    return inventory


def with_paddlex_lists(inputs: Inputs) -> Inputs:
    """For a data set of PaddleX, its lists and class names: its folder `videos` is no class."""
    if is_url(inputs.data):
        return inputs
    root = Path(inputs.data)
    train, valid = root / "train.txt", root / "val.txt"
    names = paddlex_class_names(root)
    given = (inputs.valid, inputs.test, inputs.class_names)
    if names is None or not train.is_file() or not valid.is_file() or given != (None, None, None):
        return inputs
    prefix = inputs.data_prefix or str(root)
    class_names = read_class_names(names)
    return replace(inputs, data=train, valid=valid, class_names=class_names, data_prefix=prefix)


def name_weak_sources(inventory: Inventory) -> None:
    """Give clips the sources that only the names of the complete set show."""
    # A list with a column `source` has its own idea of sources, also where a cell is empty.
    if any(clip.source_rule == "the column source" for clip in inventory.clips):
        return
    has_times = {clip.record.path for clip in inventory.clips if clip.key[1:] != (None, None)}
    clips = [
        clip
        for clip in inventory.clips
        if not clip.source_rule and clip.record.path not in has_times
    ]
    found = find_sources(clips)
    for clip, source in zip(clips, found.sources, strict=True) if found else ():
        if found and source:
            clip.source, clip.source_rule, clip.is_weak_source = source, found.title, True


def resolve_splits(inventory: Inventory) -> None:
    """Make the splits complete: either every clip has one, or none has.

    If all splits that are given are "train", the clips get None, so that splits are drawn.
    Otherwise clips without a split are left out.
    """
    if all(clip.split in (None, "train") for clip in inventory.clips):
        for clip in inventory.clips:
            clip.split = None
    elif any(clip.split is None for clip in inventory.clips):
        for clip in inventory.clips:
            if clip.split is None:
                text = "no split, although other lines have one; expected train, valid or test"
                inventory.add_fault("bad_line", clip, text)
        inventory.clips = [clip for clip in inventory.clips if clip.split]


# --- videos or audio files ------------------------------------------------------------------------


def find_media(
    paths: Iterable[str | Path],
    tables: Mapping[str | Path, tuple[list[Row], Problems]],
    suffix: str,
) -> Media:
    """Return "audio" where the class folders and the lists name audio files and not one video.

    Args:
        tables: the rows of the paths that are lists.
        suffix: that is appended to the paths of a list.
    """
    found = set()
    for path in paths:
        rows = tables[path][0] if path in tables else []
        names = (row.path + suffix for row in rows) if path in tables else files(path)
        found |= {media_of(name) for name in names}
    return "audio" if "audio" in found and "video" not in found else "video"


def files(root: str | Path) -> Iterator[str]:
    """Yield the names of all files in the folders of a folder."""
    if is_url(root):
        yield from (name for name in remote_paths(str(root)) if "/" in name)
        return
    for folder in visible_folders(Path(root)):
        for _, names in walk_folders(folder):
            yield from names


def media_of(name: str) -> Media | None:
    """Return what the suffix of a path says; a plain list may have a number of frames after it."""
    words = name.rsplit(None, 1)
    path = words[0] if len(words) == 2 and words[1].isdecimal() else name
    suffix = os.path.splitext(path)[1].lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "audio" if suffix in SOUND_SUFFIXES else None


# --- folders --------------------------------------------------------------------------------------


def read_folder(
    inventory: Inventory, root: str | Path, split: str | None, source: str | None
) -> None:
    """Add the clips of `root/<class>/...` or `root/<split>/<class>/...`, and report other files.

    Args:
        split: of all clips; None to derive it from the names of folders, if they are splits.
        source: as `pattern` of `source_of`.

    Raises:
        DatasetError: no class folder has a video.
    """
    if is_url(root):
        read_remote_folder(inventory, str(root), split, source)
        return
    root = Path(root)
    inner = {path.name: [inner.name for inner in visible_folders(path)] for path in splits_in(root)}
    reject_nested_splits(root, inner, [path.name for path in visible_folders(root)])
    splits = split_folders(root, inventory.media) if split is None else {}
    other_suffixes: Counter = Counter()
    num_before = len(inventory.clips)
    for folder, folder_split in (splits or {root: split}).items():
        rows = class_folder_rows(
            folder, lambda path: list_files(path, CLIP_SUFFIXES[inventory.media])
        )
        rows = [row for row in rows if row.label not in SYSTEM_FOLDERS]
        for row in rows:
            name = (folder.relative_to(root) / row.path).as_posix()
            record = Record(os.path.join(root, name), id=name)
            clip_source, rule = source_and_rule(name, row.label, source)
            clip = ClipEntry(record, row.label, folder_split, clip_source, source_rule=rule)
            inventory.clips.append(clip)
        used = {row.label for row in rows}
        for label in sorted({entry.name for entry in visible_folders(folder)} - used):
            path = (folder.relative_to(root) / label).as_posix()
            fault = Fault("empty_class", path, f"no {inventory.noun} in this class folder")
            inventory.faults.append(fault)
        report_other_files(inventory, root, folder, other_suffixes)
    if splits:
        report_loose_clips(inventory, root, root)
    num_clips = len(inventory.clips) - num_before
    if not num_clips:
        raise no_class_folders(root, EXAMPLES[inventory.media])
    num_sounds = sum(other_suffixes[suffix] for suffix in SOUND_SUFFIXES)
    note_mixture(inventory, root, num_sounds, num_clips)
    note_others(inventory, other_suffixes)


def visible_folders(folder: Path) -> list[Path]:
    return [
        entry
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in SYSTEM_FOLDERS
    ]


def split_folders(root: Path, media: Media) -> dict[Path, str]:
    """Return the folders train, val, ... with their splits.

    Returns:
        {} where `root` has other folders, has no training set, or where a folder does not consist
        of class folders.
    """
    splits = {}
    for folder in visible_folders(root):
        split = split_name(folder.name)
        has_clips = any(is_clip(path, media) for path in folder.iterdir())
        if split is None or not visible_folders(folder) or has_clips:
            return {}
        splits[folder] = split
    return splits if "train" in splits.values() else {}


def splits_in(root: Path) -> list[Path]:
    return [folder for folder in visible_folders(root) if split_name(folder.name)]


def is_clip(path: Path, media: Media) -> bool:
    has_suffix = path.suffix.lower() in CLIP_SUFFIXES[media]
    return has_suffix and not path.name.startswith(".") and path.is_file()


def report_loose_clips(inventory: Inventory, root: Path, folder: Path) -> None:
    """Report clips that are next to the class folders in `folder`."""
    for path in sorted(folder.iterdir()):
        if is_clip(path, inventory.media):
            name = path.relative_to(root).as_posix()
            inventory.faults.append(Fault("no_class", name, "it is next to the class folders"))


def report_other_files(
    inventory: Inventory, root: Path, folder: Path, other_suffixes: Counter
) -> None:
    """Report misplaced clips, clips without such a suffix, and unreadable folders.

    Args:
        folder: has a folder per class.
        other_suffixes: counts all other files, by suffix.
    """

    def report_unreadable(error: OSError) -> None:
        path = os.path.relpath(error.filename, root)
        inventory.faults.append(Fault("missing", path, f"cannot be read: {error.strerror}"))

    report_loose_clips(inventory, root, folder)
    for class_folder in visible_folders(folder):
        for parent, names in walk_folders(class_folder, on_error=report_unreadable):
            for path in (parent / name for name in names):
                suffix = os.path.splitext(path.name)[1].lower()
                if suffix in CLIP_SUFFIXES[inventory.media] or not path.is_file():
                    continue
                if text := unknown_clip(path, inventory.media):
                    name = path.relative_to(root).as_posix()
                    inventory.faults.append(Fault("unknown_suffix", name, text))
                else:
                    other_suffixes[suffix] += 1


def unknown_clip(path: Path, media: Media) -> str:
    """Describe a clip without a suffix of its kind; "" for other files."""
    try:
        with path.open("rb") as file:
            container_format, other = identify_format(file.read(HEAD_BYTES))
    except OSError:
        return ""
    suffix = path.suffix.lower()
    if media == "audio" and other.startswith("audio"):
        container_format = other
    if container_format in ("", "GIF") or suffix in AUDIO_CONTAINER_SUFFIXES:
        return ""
    noun = "an audio file" if media == "audio" else "a video"
    what = f"{suffix!r} is not the suffix of {noun}" if suffix else "the name has no suffix"
    return f"the format is {container_format}, but {what}; the file is skipped"


# --- lists ----------------------------------------------------------------------------------------


def read_list(
    inventory: Inventory,
    file: str | Path,
    table: tuple[list[Row], Problems],
    split: str | None,
    inputs: Inputs,
) -> None:
    """Add the clips of a list or table.

    Args:
        table: its rows and problems.
        split: of all clips; None to read it from the column `split`, if there is one.

    Raises:
        DatasetError: none of its files exists, or a path means two different files.
    """
    rows, problems = table
    if inventory.media == "audio" and not all(has_audio_suffix(row.path) for row in rows):
        # Lists of audio files may have the number of frames of the video after the path.
        rows, problems = read_rows(
            file, with_num_frames=True, path_kind="path", has_suffix=has_audio_suffix
        )
    for line, text in problems.found:
        location = f"{shown(file)}:{line}" if line else shown(file)
        inventory.faults.append(Fault("bad_line", "", text, location))
    if inputs.suffix:
        rows = [row._replace(path=row.path + inputs.suffix) for row in rows]
    kinds = Counter(media_of(row.path) for row in rows)
    note_mixture(inventory, file, kinds["audio"], kinds["video"])
    base = list_base(rows, file, inputs.data_prefix)
    for row in rows:
        row_split, location = split, f"{shown(file)}:{row.line}"
        if split is None and row.split is not None:
            row_split = split_name(row.split)
            if row_split is None:
                text = f"split {row.split!r}, expected train, valid or test"
                inventory.faults.append(Fault("bad_line", row.path, text, location))
                continue
        path = join_path(base, row.path)
        record = Record(path, id=row.path, start_sec=row.start_sec, end_sec=row.end_sec)
        # Parts of one file have the same path, and therefore the same source.
        source, rule = source_and_rule(row.path, row.label, inputs.source)
        if row.source:
            source, rule = row.source, "the column source"
        inventory.clips.append(ClipEntry(record, row.label, row_split, source, location, rule))


def list_base(rows: list[Row], file: str | Path, data_prefix: str | None) -> str:
    """Find the folder that the relative paths of a list refer to.

    Raises:
        DatasetError: none of a few files, spread over the list, exists; or a path means two
            different files.
    """
    # Lists from Windows have backslashes, which must not hide the folder.
    paths = [row.path.replace("\\", "/") for row in rows]
    base = base_folder(paths, file, data_prefix)
    sample = rows[:: max(1, len(rows) // 10)]
    records = [Record(find_spelling(join_path(base, row.path))[0], id=row.path) for row in sample]
    check_paths(records, shown(file), base)
    return base
