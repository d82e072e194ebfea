"""Remarks on the usable clips of a data set that are not faults."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from paddlevideo.curate.inventory import NOUNS, ClipEntry, ClipKey, Media
from paddlevideo.curate.probe import VideoInfo
from paddlevideo.curate.probe_audio import AudioInfo, MediaInfo
from paddlevideo.data.lists import MAX_SHOWN
from paddlevideo.log import plural

# Classes are called imbalanced if the largest is at least this many times the smallest.
IMBALANCE = 10


def collect_notes(
    clips: Sequence[ClipEntry], infos: Mapping[ClipKey, MediaInfo], media: Media
) -> list[str]:
    """Collect remarks on the usable clips."""
    notes = []
    if len({clip.label for clip in clips}) == 1:
        notes.append(
            f"there is only one class; add {NOUNS[media]}s of another class, "
            "for example of anything that does not belong to it"
        )
    sizes = Counter(clip.label for clip in clips if clip.split == "train")
    if sizes and max(sizes.values()) >= IMBALANCE * min(sizes.values()):
        largest, smallest = max(sizes, key=lambda k: sizes[k]), min(sizes, key=lambda k: sizes[k])
        notes.append(
            f"classes are imbalanced: {sizes[largest]} training clips of {largest}, "
            f"{sizes[smallest]} of {smallest}"
        )
    videos = [(clip, info) for clip in clips if isinstance(info := infos[clip.key], VideoInfo)]
    sounds = [(clip, info) for clip in clips if isinstance(info := infos[clip.key], AudioInfo)]
    return notes + notes_on_videos(videos) + notes_on_sounds(sounds)


def notes_on_videos(videos: Sequence[tuple[ClipEntry, VideoInfo]]) -> list[str]:
    """Name clips without audio or motion."""
    notes = []
    num_silent = sum(not info.has_audio for _, info in videos)
    if 0 < num_silent < len(videos):
        notes.append(
            f"{num_silent} of {len(videos)} clips have no audio, which matters to models with audio"
        )
    still = [clip.name for clip, info in videos if info.num_frames > 1 and not info.frames_hash]
    if still:
        shown = ", ".join(still[:MAX_SHOWN]) + (", ..." if len(still) > MAX_SHOWN else "")
        notes.append(f"{plural(len(still), 'clip')} without motion in the probed frames: {shown}")
    return notes


def notes_on_sounds(sounds: Sequence[tuple[ClipEntry, AudioInfo]]) -> list[str]:
    """Say where the sample rate alone separates classes: the network would learn that."""
    rates: dict[str, set[int]] = defaultdict(set)
    for clip, info in sounds:
        rates[clip.label].add(info.sample_rate)
    lowest = {label: min(found) for label, found in rates.items()}
    highest = {label: max(found) for label, found in rates.items()}
    if not rates or max(lowest.values()) <= min(highest.values()):
        return []
    low = min(highest, key=lambda label: (highest[label], label))
    high = max(lowest, key=lambda label: (lowest[label], label))
    return [
        f"the sample rate separates classes: {low} has at most {highest[low]} Hz, {high} at "
        f"least {lowest[high]} Hz; a network learns that instead. Record all classes "
        "alike, or resample all files to the lowest rate (ffmpeg -i OLD -ar RATE NEW)"
    ]


def source_line(clips: Sequence[ClipEntry], splits_drawn: bool) -> str:
    """Say which sources the clips have, and how to change that; "" where it does not matter."""
    rules = Counter(clip.source_rule for clip in clips if clip.source_rule)
    if not rules:
        if not splits_drawn or not clips:
            return ""
        return (
            "sources: the names show none, so the split was drawn by clip. If several clips show "
            "one person, place or recording, the validation is better than the truth: name it with "
            "--source, or a column source"
        )
    rule = rules.most_common(1)[0][0]
    named = [clip for clip in clips if clip.source_rule == rule]
    sources = {clip.source for clip in named}
    example = PurePosixPath(named[0].name.replace("\\", "/")).name
    others = len(clips) - len(named)
    rest = f" ({plural(others, 'clip')} by other rules, or none)" if others else ""
    line = (
        f"sources: {len(sources)} by {rule}, such as {named[0].source} of {example}{rest}"
        f"{'' if rule == '--source' else '; --source none turns this off'}"
    )
    splits_of = defaultdict(set)
    for clip in named:
        splits_of[clip.source].add(clip.split)
    num_shared = sum(len(splits) > 1 for splits in splits_of.values())
    if num_shared:
        line += (
            f". {num_shared} of them are in more than one split: the accuracy is that for known "
            "ones, and lower for others; --resplit divides by source"
        )
    num_without = sum(not clip.source_rule for clip in clips)
    if splits_drawn and num_without:
        line += (
            f". The split of {plural(num_without, 'clip')} without a source was drawn by clip: if "
            "several show one person, place or recording, the validation is better than the truth"
        )
    return line
