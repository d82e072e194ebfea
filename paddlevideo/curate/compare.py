"""Compare the clips of a data set: leave out repeated, duplicate and leaking clips."""

import os
from collections import defaultdict
from collections.abc import Hashable

from paddlevideo.curate.inventory import ClipEntry, ClipKey, Inventory
from paddlevideo.curate.probe_audio import MediaInfo
from paddlevideo.data.paths import SPLITS


def drop_repeated_clips(inventory: Inventory) -> None:
    """Leave out clips that an earlier line lists with the same label and split."""
    first: dict[tuple, ClipEntry] = {}
    for clip in inventory.clips:
        other = first.setdefault((clip.key, clip.label, clip.split), clip)
        if other is not clip:
            text = f"the same clip and label as in {other.location}"
            inventory.add_fault("repeated", clip, text)
    inventory.clips = list(first.values())


def drop_duplicates(
    inventory: Inventory, infos: dict[ClipKey, MediaInfo], hashes: dict[str, str]
) -> None:
    """Leave out clips that have the same bytes or the same frames as another one.

    Of copies in several splits, one in the last split stays, in the order of SPLITS. Of copies in
    several classes, none stays.
    """
    dropped: set[int] = set()
    for group in group_by_content(inventory.clips, infos, hashes):
        labels = {clip.label for clip in group}
        last = last_split(group)
        in_last = [clip for clip in group if clip.split == last]
        # `a.mp4` is more likely the original than `a copy.mp4`.
        original = min(in_last, key=lambda clip: len(clip.name))
        for clip in group:
            if len(labels) > 1:
                other = next(other for other in group if other.label != clip.label)
                text = f"{clip.label!r} here, {other.label!r} as {other.name}"
                inventory.add_fault("conflict", clip, text)
            elif clip.split != last:
                text = f"the same {inventory.noun} is in {last} as {original.name}"
                inventory.add_fault("leak", clip, text)
            elif clip is not original:
                inventory.add_fault(
                    "duplicate", clip, f"the same {inventory.noun} as {original.name}"
                )
            else:
                continue
            dropped.add(id(clip))
    inventory.clips = [clip for clip in inventory.clips if id(clip) not in dropped]


def last_split(clips: list[ClipEntry]) -> str | None:
    """Return the last split of the clips, in the order of SPLITS; None without any."""
    splits = {clip.split for clip in clips}
    return next((split for split in reversed(SPLITS) if split in splits), None)


def group_by_content(
    clips: list[ClipEntry], infos: dict[ClipKey, MediaInfo], hashes: dict[str, str]
) -> list[list[ClipEntry]]:
    """Group clips with the same content, in the order of `clips`.

    Args:
        hashes: path -> hash of the file. Files without a hash differ from all others in size.

    Returns:
        groups of two or more clips.
    """
    group_of: dict[Hashable, list[int]] = {}
    for number, clip in enumerate(clips):
        info = infos[clip.key]
        times = clip.key[1:]
        # Clips that share one of these identities have the same content.
        identities: list[Hashable] = [("path", os.path.abspath(info.path), *times)]
        if info.path in hashes:
            identities.append(("bytes", hashes[info.path], *times))
        if info.content_hash:
            identities.append(("content", info.content_hash))
        known = {id(group_of[name]): group_of[name] for name in identities if name in group_of}
        merged, *others = list(known.values()) or [[]]
        merged.append(number)
        for other in others:
            merged += other
            moved = [name for name, group in group_of.items() if group is other]
            group_of.update(dict.fromkeys(moved, merged))
        group_of.update(dict.fromkeys(identities, merged))
    unique = {id(group): group for group in group_of.values()}
    return [[clips[number] for number in sorted(g)] for g in unique.values() if len(g) > 1]


def separate_files(inventory: Inventory) -> None:
    """Give files of one name in different folders different sources, if each file is its own."""
    files: dict[str, set[str]] = defaultdict(set)
    own = [clip for clip in inventory.clips if not clip.source_rule]
    for clip in own:
        files[clip.source].add(os.path.splitext(clip.key[0])[0])
    for clip in own:
        if len(files[clip.source]) > 1:
            clip.source = os.path.splitext(clip.key[0])[0]


def drop_leaking_sources(inventory: Inventory) -> None:
    """Leave out clips whose source is also in a later split, in the order of SPLITS."""
    by_source: dict[str, list[ClipEntry]] = defaultdict(list)
    for clip in inventory.clips:
        if not clip.is_weak_source:
            by_source[clip.source].append(clip)
    dropped: set[int] = set()
    for source, group in by_source.items():
        last = last_split(group)
        kept = next(clip for clip in group if clip.split == last)
        for clip in group:
            if clip.split != last:
                text = f"source {source!r} is also in {last}, as {kept.name}"
                inventory.add_fault("leak", clip, text)
                dropped.add(id(clip))
    inventory.clips = [clip for clip in inventory.clips if id(clip) not in dropped]
