"""Check a data set before it is trained on: look at every file, compare files with each other, and draw splits.

checked = check(CheckPlan(Inputs(Path("my_videos"))))
write(checked, Path("my_videos"))     # train.csv, val.csv, labels.txt, bad_files.csv, check.json
"""

import functools
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from paddlevideo.curate.faults import KINDS, Fault
from paddlevideo.curate.inventory import Inputs, Inventory, Item, take_inventory
from paddlevideo.curate.probe import ProbeOptions, VideoInfo, file_digest, probe_video
from paddlevideo.curate.splits import split_by_source
from paddlevideo.data.lists import MAX_SHOWN
from paddlevideo.processes import Crash, run_each

SPLITS = ("train", "val", "test")  # a clip that is in several stays in the last of them
Key = tuple[str, float | None, float | None]


@dataclass(frozen=True)
class CheckPlan:
    """What to check, and how.

    Args:
        inputs: folders or lists.
        look: how closely each file is looked at.
        valid_share, test_share: of the clips of each class, where no split is given; 0 draws none.
        seed: of the splits that are drawn.
        resplit: draw splits anew although they are given.
        num_workers: processes, None for one per core; 0 for none.
    """

    inputs: Inputs
    look: ProbeOptions = field(default_factory=ProbeOptions)
    valid_share: float = 0.2
    test_share: float = 0.0
    seed: int = 0
    resplit: bool = False
    num_workers: int | None = None

    def __post_init__(self):
        if not (
            0 <= self.valid_share < 1
            and 0 <= self.test_share < 1
            and self.valid_share + self.test_share < 1
        ):
            raise ValueError(
                f"shares of {self.valid_share:g} and {self.test_share:g} leave nothing to train on; together below 1"
            )


@dataclass
class Checked:
    """What a check found.

    Attributes:
        items: the clips that are good, each with its split.
        seen: what was seen of each clip that was opened, good or not.
        faults: everything that is wrong, by kind.
        notes: what is worth a line, though not wrong.
        class_names: in the order of their ids; None where labels are ids without names.
        total: clips that the inputs name.
        drawn: the splits were drawn here.
    """

    items: list[Item]
    seen: dict[Key, VideoInfo]
    faults: list[Fault]
    notes: list[str]
    class_names: list[str] | None
    class_ids: dict[str, int]
    total: int
    drawn: bool

    def of(self, item: Item) -> VideoInfo:
        return self.seen[key_of(item)]

    def counts(self) -> dict[str, Counter]:
        """label -> clips of each split."""
        counts: dict[str, Counter] = defaultdict(Counter)
        for item in self.items:
            counts[item.label][str(item.split)] += 1
        return counts


def key_of(item: Item) -> Key:
    return os.path.abspath(item.record.path), item.record.start_sec, item.record.end_sec


def check(plan: CheckPlan, show: bool = True) -> Checked:
    """ProbeOptions at every clip that the inputs name.

    Args:
        show: draw progress bars.

    Raises:
        DatasetError: an input is not there or names no clip.
    """
    found = take_inventory(plan.inputs)
    total, labels = len(found.items), {item.label for item in found.items}
    seen = look_at_all(found.items, plan, show)
    for item in found.items:
        found.faults += [
            fault._replace(path=item.name, place=item.place) for fault in seen[key_of(item)].faults
        ]
    keep(
        found,
        (
            item
            for item in found.items
            if not any(KINDS[f.kind].left_out for f in seen[key_of(item)].faults)
        ),
    )
    given = any(item.split for item in found.items) and not plan.resplit
    if plan.resplit:
        for item in found.items:
            item.split = None
    repeated(found)
    compare_contents(found, seen, byte_hashes(found.items, seen, plan, show))
    compare_sources(found)
    drawn = draw_splits(found, plan, given)
    settle_classes(found, labels)
    notes = found.notes + remarks(found.items, seen)
    order = {kind: number for number, kind in enumerate(KINDS)}
    faults = sorted(found.faults, key=lambda fault: order[fault.kind])
    return Checked(
        found.items, seen, faults, notes, found.class_names, found.class_ids(), total, drawn
    )


def keep(found: Inventory, items: Iterable[Item]) -> None:
    found.items = list(items)


# --- each file -------------------------------------------------------------------------------------------------------


def look_at_all(items: list[Item], plan: CheckPlan, show: bool) -> dict[Key, VideoInfo]:
    """What is seen of each clip; a clip that is listed twice is opened once."""
    records = {key_of(item): item.record for item in items}
    keys = list(records)
    seen = {}
    looks = run_each(
        functools.partial(probe_video, how=plan.look),
        list(records.values()),
        plan.num_workers,
        "videos",
        show,
    )
    for place, result in looks:
        if isinstance(result, Crash):
            result = VideoInfo(records[keys[place]].path)
            result.add("crash", records[keys[place]].id, "the decoder ends the whole process on it")
        seen[keys[place]] = result
    return {key: seen[key] for key in keys}


def byte_hashes(
    items: list[Item], seen: dict[Key, VideoInfo], plan: CheckPlan, show: bool
) -> dict[str, str]:
    """path -> hash of the file, of the files that are as large as another."""
    sizes = defaultdict(set)
    for item in items:
        sizes[seen[key_of(item)].size].add(seen[key_of(item)].path)
    paths = sorted(path for group in sizes.values() if len(group) > 1 for path in group)
    hashes = run_each(file_digest, paths, plan.num_workers, "files of equal size", show)
    return {paths[place]: digest for place, digest in hashes if isinstance(digest, str) and digest}


# --- files among each other ------------------------------------------------------------------------------------------


def repeated(found: Inventory) -> None:
    """Leave out what is listed twice alike."""
    first: dict[tuple, Item] = {}
    for item in found.items:
        other = first.setdefault((key_of(item), item.label, item.split), item)
        if other is not item:
            found.leave_out(item, "repeated", f"the same clip and label as in {other.place}")
    keep(found, first.values())


def compare_contents(found: Inventory, seen: dict[Key, VideoInfo], hashes: dict[str, str]) -> None:
    """Leave out copies: of the same bytes, or showing the same pictures."""
    left_out: set[int] = set()
    for group in groups_of(found.items, seen, hashes):
        classes = {item.label for item in group}
        last = max((item.split for item in group if item.split), key=SPLITS.index, default=None)
        # Of `a.mp4` and `a copy.mp4` the shorter name is the first one's.
        kept = min((item for item in group if item.split == last), key=lambda item: len(item.name))
        for item in group:
            other = next(
                o for o in group if o is not item and (len(classes) == 1 or o.label != item.label)
            )
            if len(classes) > 1:
                found.leave_out(
                    item, "conflict", f"{item.label!r} here, {other.label!r} as {other.name}"
                )
            elif item.split != last:
                found.leave_out(item, "leak", f"the same video is in {last} as {kept.name}")
            elif item is not kept:
                found.leave_out(item, "duplicate", f"the same video as {kept.name}")
            else:
                continue
            left_out.add(id(item))
    keep(found, (item for item in found.items if id(item) not in left_out))


def groups_of(
    items: list[Item], seen: dict[Key, VideoInfo], hashes: dict[str, str]
) -> list[list[Item]]:
    """Groups of two or more clips with the same content, in the order of the items."""
    group_of: dict[Hashable, list[Item]] = {}
    for item in items:
        key, facts = key_of(item), seen[key_of(item)]
        names: list[Hashable] = [("path", os.path.abspath(facts.path), *key[1:])]
        names += [("bytes", hashes[facts.path], *key[1:])] if facts.path in hashes else []
        names += [("pictures", facts.pictures)] if facts.pictures else []
        known = [group_of[name] for name in names if name in group_of]
        merged = known[0] if known else []
        merged.append(item)
        for other in known[1:]:
            if other is not merged:
                merged += other
                for name, group in list(group_of.items()):
                    if group is other:
                        group_of[name] = merged
        for name in names:
            group_of[name] = merged
    places = {id(item): number for number, item in enumerate(items)}
    unique = {
        id(group): sorted(group, key=lambda item: places[id(item)]) for group in group_of.values()
    }
    return [group for group in unique.values() if len(group) > 1]


def compare_sources(found: Inventory) -> None:
    """Leave out of a split what another one, further on in SPLITS, has of the same source."""
    by_source: dict[str, list[Item]] = defaultdict(list)
    for item in found.items:
        by_source[item.source].append(item)
    left_out: set[int] = set()
    for source, group in by_source.items():
        last = max((item.split for item in group if item.split), key=SPLITS.index, default=None)
        other = next((item for item in group if item.split == last), None)
        for item in group:
            if other is not None and item.split != last:
                found.leave_out(
                    item, "leak", f"source {source!r} is in {last} too, as {other.name}"
                )
                left_out.add(id(item))
    keep(found, (item for item in found.items if id(item) not in left_out))


# --- the set ---------------------------------------------------------------------------------------------------------


def draw_splits(found: Inventory, plan: CheckPlan, given: bool) -> bool:
    """Draw the splits that are not given. A given training set without a validation set is divided."""
    shares = {"val": plan.valid_share, "test": plan.test_share}
    if given:
        shares = (
            {"val": plan.valid_share} if all(item.split != "val" for item in found.items) else {}
        )
    shares = {split: share for split, share in shares.items() if share}
    open_items = [item for item in found.items if item.split in (None, "train")]
    if given and not shares:
        return False
    if not shares:
        splits = ["train"] * len(open_items)
    else:
        splits = split_by_source(
            [(item.source, item.label) for item in open_items], shares, plan.seed
        )
    for item, split in zip(open_items, splits, strict=True):
        item.split = split
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in open_items:
        by_class[item.label].append(item)
    for label, group in sorted(by_class.items()):
        empty = [
            split
            for split in ("val", "test")
            if split in shares and all(item.split != split for item in group)
        ]
        if empty:
            count, sources = len(group), {item.source for item in group}
            bound = "" if len(sources) < 2 else " that are not bound to those of other classes"
            text = f"{count} clip{'s' * (count > 1)} of {len(sources)} source{'s' * (len(sources) > 1)}{bound}"
            found.faults.append(Fault("few", label, f"{text}: none for {' and '.join(empty)}"))
    return bool(shares)


def settle_classes(found: Inventory, labels: set[str]) -> None:
    """Which classes there are is told by the training clips; others are taken out of the other splits.

    Args:
        labels: classes before anything was left out.
    """
    trained = {item.label for item in found.items if item.split == "train"}
    counts = Counter(item.label for item in found.items if item.label not in trained)
    for label in sorted(labels - trained):
        if counts[label]:
            rest = f"{counts[label]} in other splits"
            found.faults.append(
                Fault("no_training", label, f"no training clip is left of this class, {rest}")
            )
        else:
            found.faults.append(Fault("empty_class", label, "none of its clips is left"))
    keep(found, (item for item in found.items if item.label in trained))
    if not found.given_names and not found.ids:
        found.class_names = sorted(trained)


def remarks(items: list[Item], seen: dict[Key, VideoInfo]) -> list[str]:
    """What is worth a line, though nothing is wrong."""
    sizes = Counter(item.label for item in items if item.split == "train")
    notes = []
    if len({item.label for item in items}) == 1:
        notes.append(
            "there is one class, and nothing to tell it from; add videos of another, if only of what is not in it"
        )
    if sizes and max(sizes.values()) >= 10 * min(sizes.values()):
        most, least = max(sizes, key=lambda k: sizes[k]), min(sizes, key=lambda k: sizes[k])
        notes.append(
            f"classes are uneven: {sizes[most]} training clips of {most}, {sizes[least]} of {least}"
        )
    silent = sum(not seen[key_of(item)].sound for item in items)
    if 0 < silent < len(items):
        notes.append(
            f"{silent} of {len(items)} clips have no sound; that matters to models that hear"
        )
    slides = [
        item.name
        for item in items
        if seen[key_of(item)].num_frames > 1 and not seen[key_of(item)].pictures
    ]
    if slides:
        shown = ", ".join(slides[:MAX_SHOWN]) + (", ..." if len(slides) > MAX_SHOWN else "")
        notes.append(
            f"{len(slides)} clips show one and the same picture in all frames that were looked at: {shown}"
        )
    return notes
