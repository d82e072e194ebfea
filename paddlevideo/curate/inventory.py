"""What a folder or a list says there is: clips with label, split and source. Nothing here opens a video to decode it.

Unlike datasets.py, which stops at a mistake, it notes each one as a fault and goes on.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paddlevideo.config.registry import nearest
from paddlevideo.curate.faults import Fault
from paddlevideo.curate.probe import HEAD, find_spelling, format_of, odd_name
from paddlevideo.curate.splits import source_of
from paddlevideo.data.class_names import normalized_name
from paddlevideo.data.datasets import class_folder_rows, is_integer, no_class_folders
from paddlevideo.data.lists import DatasetError, read_rows
from paddlevideo.data.paths import SPLIT_NAMES, base_folder, check_paths, find_videos
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.sample import Record

# Folders that systems put among one's own.
NOT_CLASSES = frozenset(
    ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
)


@dataclass
class Item:
    """A clip as its list or folder describes it.

    Attributes:
        record: where it is; its `id` is what the list or folder calls it.
        label: class name, or class id as text.
        split: train, val or test; None where nothing says so.
        source: the recording that it was cut from.
        place: file:line of the list, "" for a folder.
    """

    record: Record
    label: str
    split: str | None
    source: str
    place: str = ""

    @property
    def name(self) -> str:
        return self.record.id


@dataclass
class Inventory:
    """All clips, what was wrong on the way, and what is worth a line.

    Attributes:
        class_names: in the order of their ids; None as long as they are not known.
        given_names: they come from a file, so their order is not ours to change.
        ids: labels are class ids.
    """

    items: list[Item] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_names: list[str] | None = None
    given_names: bool = False
    ids: bool = False

    def leave_out(self, item: Item, kind: str, text: str) -> None:
        self.faults.append(Fault(kind, item.name, text, item.place))

    def class_ids(self) -> dict[str, int]:
        """label -> class id."""
        if self.ids:
            return {label: int(label) for label in {item.label for item in self.items}}
        return {name: number for number, name in enumerate(self.class_names or ())}


@dataclass(frozen=True)
class Inputs:
    """What to read.

    Args:
        data: a folder per class, a folder of splits with a folder per class each, a list, or a table.
        valid, test: the same for another split; `data` is the training set then.
        data_prefix, suffix: of lists, as in VideoDataset.
        class_names: names of the classes in the order of their ids.
        source: as `pattern` of `source_of`.
    """

    data: Path
    valid: Path | None = None
    test: Path | None = None
    data_prefix: str | None = None
    suffix: str = ""
    class_names: list[str] | None = None
    source: str | None = None

    def __post_init__(self):
        try:
            re.compile(self.source or "")
        except re.error as error:
            raise ValueError(f"source {self.source!r} is no regular expression: {error}") from error


def take_inventory(inputs: Inputs) -> Inventory:
    """Read all inputs and settle labels and names.

    Raises:
        DatasetError: an input is not there, gives no record at all, or is a list of which no file is there.
    """
    found = Inventory(class_names=inputs.class_names, given_names=inputs.class_names is not None)
    splits = {
        "train" if inputs.valid or inputs.test else None: inputs.data,
        "val": inputs.valid,
        "test": inputs.test,
    }
    folders = False
    for split, path in splits.items():
        if path is not None and not path.exists():
            raise DatasetError(
                f"{path}: no such file or folder; give a folder with one sub-folder per class, or a list"
            )
        if path is not None and path.is_dir():
            folders = True
            read_folder(found, path, split, inputs.source)
        elif path is not None:
            read_list(found, path, split, inputs)
    if all(item.split in (None, "train") for item in found.items):
        for item in found.items:
            item.split = None
    elif any(item.split is None for item in found.items):
        for item in found.items:
            if item.split is None:
                found.leave_out(
                    item, "bad_line", "no split, and other lines have one: train, val or test"
                )
        found.items = [item for item in found.items if item.split]
    settle_labels(found, folders)
    for item in found.items:
        if why := odd_name(item.name):
            found.leave_out(item, "bad_name", why)
    found.items = [item for item in found.items if not odd_name(item.name)]
    return found


# --- folders ---------------------------------------------------------------------------------------------------------


def read_folder(found: Inventory, root: Path, split: str | None, source: str | None) -> None:
    """Clips of `root/<class>/...`, or of `root/<split>/<class>/...`, and what else lies there."""
    parts = (
        {folder: SPLIT_NAMES[folder.name.lower()] for folder in split_folders(root)}
        if split is None
        else {}
    )
    others: Counter = Counter()
    count = len(found.items)
    for folder, part in (parts or {root: split}).items():
        rows = [
            row for row in class_folder_rows(folder, find_videos) if row.label not in NOT_CLASSES
        ]
        for row in rows:
            name = (folder.relative_to(root) / row.path).as_posix()
            record = Record(os.path.join(root, name), id=name)
            found.items.append(Item(record, row.label, part, source_of(name, row.label, source)))
        filled = {row.label for row in rows}
        for label in sorted({entry.name for entry in visible_folders(folder)} - filled):
            found.faults.append(
                Fault(
                    "empty_class",
                    (folder.relative_to(root) / label).as_posix(),
                    "no video in this class folder",
                )
            )
        look_aside(found, root, folder, others)
    if parts:
        for entry in sorted(root.iterdir()):
            loose_video(found, entry, root)
    if len(found.items) == count:
        raise no_class_folders(root, "<class>/*.mp4 (any video format)")
    if others:
        shown = ", ".join(
            f"{count} {suffix or 'without an ending'}" for suffix, count in others.most_common(5)
        )
        total = others.total()
        found.notes.append(
            f"{total} other file{'s are' if total > 1 else ' is'} not looked at: {shown}"
        )


def visible_folders(folder: Path) -> list[Path]:
    return [
        e
        for e in sorted(folder.iterdir())
        if e.is_dir() and not e.name.startswith(".") and e.name not in NOT_CLASSES
    ]


def split_folders(root: Path) -> list[Path]:
    """The folders train, val, ... where `root` has nothing else and each holds folders of classes; none otherwise."""
    folders = visible_folders(root)
    names = {SPLIT_NAMES.get(folder.name.lower()) for folder in folders}
    nested = all(
        visible_folders(folder) and not any(is_video(entry) for entry in folder.iterdir())
        for folder in folders
    )
    return folders if "train" in names and None not in names and nested else []


def is_video(path: Path) -> bool:
    return (
        path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def loose_video(found: Inventory, entry: Path, root: Path) -> None:
    if is_video(entry):
        found.faults.append(
            Fault(
                "no_class", entry.relative_to(root).as_posix(), "it lies beside the class folders"
            )
        )


def look_aside(found: Inventory, root: Path, folder: Path, others: Counter) -> None:
    """Videos beside the class folders, videos that are not called so, folders that cannot be read; other files are counted."""

    def closed(error: OSError) -> None:
        found.faults.append(
            Fault(
                "missing",
                os.path.relpath(error.filename, root),
                f"cannot be read: {error.strerror}",
            )
        )

    for entry in sorted(folder.iterdir()):
        loose_video(found, entry, root)
    for entry in visible_folders(folder):
        for parent, folders, names in os.walk(entry, onerror=closed, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in sorted(names):
                path, suffix = Path(parent, name), os.path.splitext(name)[1].lower()
                if name.startswith(".") or suffix in VIDEO_SUFFIXES or not path.is_file():
                    continue
                if family := family_of(path):
                    ending = repr(suffix) if suffix else "a name without an ending"
                    text = f"it is {family}, and {ending} is not a video's; it was not looked at"
                    found.faults.append(
                        Fault("unknown_suffix", path.relative_to(root).as_posix(), text)
                    )
                else:
                    others[suffix] += 1


def family_of(path: Path) -> str:
    """The container of a file by its first bytes, "" where it is none of video."""
    try:
        with path.open("rb") as file:
            family = format_of(file.read(HEAD))[0]
    except OSError:
        return ""
    return (
        ""
        if family == "GIF"
        or (family and path.suffix.lower() in (".m4a", ".mka", ".oga", ".ogg", ".opus", ".wma"))
        else family
    )


# --- lists -----------------------------------------------------------------------------------------------------------


def read_list(found: Inventory, file: Path, split: str | None, inputs: Inputs) -> None:
    """Clips of a list or table; a table may have a column `split`, and one `source`."""
    rows, problems = read_rows(file, with_num_frames=False)
    found.faults += [
        Fault("bad_line", "", text, f"{file}:{line}" if line else str(file))
        for line, text in problems.found
    ]
    rows = [row._replace(path=row.path + inputs.suffix) for row in rows] if inputs.suffix else rows
    # A list from Windows: the folder shows with either kind of slash.
    base = base_folder([row.path.replace("\\", "/") for row in rows], file, inputs.data_prefix)
    some = [
        find_spelling(os.path.join(base, row.path))[0] for row in rows[:: max(1, len(rows) // 10)]
    ]
    check_paths(
        [Record(path, id=row.path) for path, row in zip(some, rows, strict=False)], str(file), base
    )
    for row in rows:
        part, place = split, f"{file}:{row.line}"
        if split is None and row.split is not None:
            part = SPLIT_NAMES.get(row.split.strip().lower(), "")
            if not part:
                found.faults.append(
                    Fault(
                        "bad_line",
                        row.path,
                        f"split {row.split!r} is none of train, val, test",
                        place,
                    )
                )
                continue
        record = Record(
            os.path.join(base, row.path), None, row.path, None, row.start_sec, row.end_sec
        )
        # Parts of one file share its name, and so their source.
        source = row.source or source_of(row.path, row.label, inputs.source)
        found.items.append(Item(record, row.label, part, source, place))


def settle_labels(found: Inventory, folders: bool) -> None:
    """Make all labels of one kind and of known classes; clips whose label is neither are left out.

    Args:
        folders: some labels are names of folders, which are class names whatever they look like.
    """
    names = found.class_names
    numbers = Counter(is_integer(item.label) for item in found.items if item.place)
    as_ids = not folders and numbers[True] > numbers[False]
    kept = []
    for item in found.items:
        written, item.label = item.label, item.label.strip() if item.place else item.label
        if item.place and "," in written and all(map(is_integer, written.split(","))):
            found.leave_out(
                item,
                "bad_label",
                f"label {written}: several class ids; lists of one label a video are checked",
            )
            continue
        if item.place and is_integer(written) and (as_ids or names is not None):
            number = int(written)
            if number < 0 or (names is not None and number >= len(names)):
                why = (
                    "class ids count from 0"
                    if number < 0
                    else f"there are {len(names or ())} class names"
                )
                found.leave_out(item, "bad_label", f"label {written}: {why}")
                continue
            item.label = str(number) if names is None else names[number]
        elif as_ids and names is None:
            found.leave_out(
                item, "bad_label", f"label {written!r} is a class name, most lines have a class id"
            )
            continue
        elif not as_ids and names is None and item.place and is_integer(written):
            found.leave_out(
                item, "bad_label", f"label {written} is a class id, most lines have a class name"
            )
            continue
        elif names is not None and item.label not in names:
            found.leave_out(
                item,
                "bad_label",
                f"class {item.label!r} is not among the class names{nearest(item.label, names)}",
            )
            continue
        kept.append(item)
    found.items = kept
    if as_ids and names is None:
        found.ids = True
        gaps(found)
        return
    used = {item.label for item in kept}
    for name in sorted(used):
        if why := odd_name(name):
            found.faults.append(
                Fault("class_name", name, why.replace("its name", "the class name"))
            )
    found.items = [item for item in kept if not odd_name(item.label)]
    for group in alike(used):
        found.faults.append(Fault("alike", "", f"classes {' and '.join(map(repr, group))}"))
    if names is not None:
        found.faults += [
            Fault("empty_class", name, "no clip of this class")
            for name in names
            if name not in used
        ]


def gaps(found: Inventory) -> None:
    """Note class ids without a clip, below the largest."""
    used = {int(item.label) for item in found.items}
    empty = sorted(set(range(max(used, default=-1) + 1)) - used)
    if empty == [0]:
        found.faults.append(
            Fault(
                "empty_class", "", "no clip of class 0; if ids count from 1 here, take 1 from each"
            )
        )
    elif empty:
        shown = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        found.faults.append(
            Fault("empty_class", "", f"no clip of the class ids {shown}, and there are larger ones")
        )


def alike(names: set[str]) -> Iterator[list[str]]:
    """Names that differ in capitals, accents' spelling, spaces, hyphens or underscores only."""
    groups = defaultdict(list)
    for name in sorted(names):
        groups[normalized_name(name)].append(name)
    yield from (group for group in groups.values() if len(group) > 1)
