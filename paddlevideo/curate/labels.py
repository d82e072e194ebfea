"""Resolve the labels of an inventory: class ids or class names, one kind in the complete set."""

import itertools
from collections import Counter, defaultdict

from paddlevideo.config.registry import nearest
from paddlevideo.curate.faults import Fault
from paddlevideo.curate.file_names import name_problem
from paddlevideo.curate.inventory import ClipEntry, Inventory
from paddlevideo.data.class_names import normalized_name
from paddlevideo.data.labels import is_integer

MAX_IDS_SHOWN = 10


def resolve_labels(inventory: Inventory, has_folders: bool) -> None:
    """Convert all labels to one kind, and leave out clips whose label is invalid.

    Args:
        has_folders: some labels are folder names. Those are class names, even if they look like
            integers.
    """
    names = inventory.class_names
    kinds = Counter(is_integer(clip.label) for clip in inventory.clips if clip.location)
    most_are_ids = not has_folders and kinds[True] > kinds[False]
    kept = []
    for clip in inventory.clips:
        clip.label, problem = resolve_label(clip, names, most_are_ids)
        if problem:
            inventory.add_fault("bad_label", clip, problem)
        else:
            kept.append(clip)
    inventory.clips = kept
    if most_are_ids and names is None:
        inventory.labels_are_ids = True
        report_unused_ids(inventory)
    else:
        check_class_names(inventory)


def resolve_label(
    clip: ClipEntry, class_names: list[str] | None, most_are_ids: bool
) -> tuple[str, str]:
    """Convert a label to a class name, or to a class id where the classes have no names.

    Returns:
        (label, what is wrong with it). The second is "" where nothing is wrong.
    """
    written = clip.label
    if not clip.location:
        return written, check_name(written, class_names)
    label = written.strip()
    if "," in written and all(map(is_integer, written.split(","))):
        text = f"label {written}: several class ids; only one label per video can be checked"
        return label, text
    is_id = is_integer(written)
    if is_id and class_names is not None:
        number = int(written)
        if 0 <= number < len(class_names):
            return class_names[number], ""
        if number < 0:
            return label, f"label {written}: class ids count from 0"
        return label, f"label {written}: there are only {len(class_names)} class names, from id 0"
    if is_id and most_are_ids:
        number = int(written)
        problem = f"label {written}: class ids count from 0" if number < 0 else ""
        return str(number), problem
    if class_names is not None:
        return label, check_name(label, class_names)
    if most_are_ids:
        return label, f"label {written!r} is a class name, most lines have a class id"
    if is_id:
        return label, f"label {written} is a class id, most lines have a class name"
    return label, ""


def check_name(name: str, class_names: list[str] | None) -> str:
    """Explain why a class name is invalid; "" where it is valid."""
    if class_names is None or name in class_names:
        return ""
    return f"class {name!r} is not among the class names{nearest(name, class_names)}"


def check_class_names(inventory: Inventory) -> None:
    """Report class names that no list can hold, that look alike, or that no clip has."""
    used = {clip.label for clip in inventory.clips}
    for name in sorted(used):
        if problem := name_problem(name):
            inventory.faults.append(Fault("class_name", name, problem))
    inventory.clips = [clip for clip in inventory.clips if not name_problem(clip.label)]
    for group in similar_names(used):
        inventory.faults.append(Fault("alike", "", f"classes {' and '.join(map(repr, group))}"))
    for name in inventory.class_names or ():
        if name not in used:
            inventory.faults.append(Fault("empty_class", name, "no clip of this class"))


def report_unused_ids(inventory: Inventory) -> None:
    """Report class ids without a clip that are below the largest id."""
    used = {int(clip.label) for clip in inventory.clips}
    num_unused = max(used, default=-1) + 1 - len(used)
    if not num_unused:
        return
    free = (number for number in itertools.count() if number not in used)
    unused = list(itertools.islice(free, min(num_unused, MAX_IDS_SHOWN + 1)))
    if unused == [0]:
        text = "no clip of class 0; if the ids of this list count from 1, subtract 1 from each"
    else:
        dots = ", ..." if len(unused) > MAX_IDS_SHOWN else ""
        shown = ", ".join(map(str, unused[:MAX_IDS_SHOWN])) + dots
        text = f"no clip of the class ids {shown}, although larger ids occur"
    inventory.faults.append(Fault("empty_class", "", text))


def similar_names(names: set[str]) -> list[list[str]]:
    """Group names that differ only in capitals, accents, spaces, hyphens or underscores."""
    groups = defaultdict(list)
    for name in sorted(names):
        groups[normalized_name(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]
