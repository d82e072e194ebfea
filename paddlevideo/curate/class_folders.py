"""What is a clip in a folder per class, what is said of other files, and such folders at URLs."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from paddlevideo.curate.faults import Fault
from paddlevideo.curate.inventory import ClipEntry, Inventory, Media
from paddlevideo.curate.splits import source_and_rule
from paddlevideo.data.datasets import no_class_folders
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.paths import remote_names, split_name
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from paddlevideo.remote import join_path, path_suffix, shown
from paddlevideo.sample import Record

# Folders that operating systems and storage devices create.
SYSTEM_FOLDERS = frozenset(
    ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
)
# Suffixes of audio files whose container may also hold video.
AUDIO_CONTAINER_SUFFIXES = (".m4a", ".mka", ".oga", ".ogg", ".opus", ".wma")
# Features (.npy) are no audio files that can be checked.
SOUND_SUFFIXES = tuple(suffix for suffix in AUDIO_SUFFIXES if suffix != ".npy")
# What files of a class are clips.
CLIP_SUFFIXES: dict[Media, tuple[str, ...]] = {
    "video": VIDEO_SUFFIXES,
    "audio": (*SOUND_SUFFIXES, *VIDEO_SUFFIXES),
}
EXAMPLES: dict[Media, str] = {
    "video": "<class>/*.mp4 (any video format), or <class>/*.wav (any audio format)",
    "audio": "<class>/*.wav (any audio or video format)",
}
MAX_SUFFIXES_SHOWN = 5


def note_mixture(inventory: Inventory, place: str | Path, num_sounds: int, num_videos: int) -> None:
    """Say what is left out of a folder or a list with both videos and audio files."""
    if inventory.media == "video" and num_sounds and num_videos:
        sounds = f"{num_sounds} audio file{'s' * (num_sounds > 1)}"
        videos = f"{num_videos} video{'s' * (num_videos > 1)}"
        inventory.notes.append(
            f"{shown(place)} has {videos} and {sounds}; only videos are checked. To train on "
            "audio, add --media audio, which takes the audio files and the audio of the videos; "
            "else move the audio files to another folder"
        )


def reject_nested_splits(
    root: str | Path, inner: Mapping[str, Collection[str]], folders: Collection[str]
) -> None:
    """Reject a folder of a split next to class folders: it would become a class.

    Args:
        inner: the folders in each folder that has the name of a split.
        folders: all folders.

    Raises:
        DatasetError: one has folders of the same names.
    """
    for name, classes in inner.items():
        if shared := set(classes) & set(folders) - {name}:
            split = split_name(name)
            fix = "" if split == "train" else f" and give it with --{split}"
            raise DatasetError(
                f"{shown(join_path(root, name))} has folders of the classes next to it (such as "
                f"{min(shared)}): is it a class, or a split? Move the others to "
                f"{shown(join_path(root, 'train'))}, or move {name} to another place{fix}"
            )


def read_remote_folder(
    inventory: Inventory, root: str, split: str | None, source: str | None
) -> None:
    """`read_inputs.read_folder` for a URL, from one listing. Files without the suffix of a clip are
    counted, and not opened."""
    clips, others = [], Counter[str]()
    for name in remote_names(root):
        suffix = path_suffix(name)
        if name.split("/")[0] in SYSTEM_FOLDERS:
            continue
        if suffix in CLIP_SUFFIXES[inventory.media]:
            clips.append(name)
        else:
            others[suffix] += 1
    folders_of = [name.split("/")[:-1] for name in clips if "/" in name]
    inner: dict[str, set[str]] = defaultdict(set)
    for path in folders_of:
        if len(path) > 1 and split_name(path[0]):
            inner[path[0]].add(path[1])
    reject_nested_splits(root, inner, {path[0] for path in folders_of})
    # The first folder is the split, where all of them are splits and have class folders.
    firsts = {name.split("/")[0]: split_name(name.split("/")[0]) for name in clips if "/" in name}
    has_splits = split is None and "train" in firsts.values() and None not in firsts.values()
    has_splits = has_splits and all(name.count("/") != 1 for name in clips)
    num_before = len(inventory.clips)
    for name in clips:
        folders = name.split("/")[:-1]
        if not folders:
            inventory.faults.append(Fault("no_class", name, "it is next to the class folders"))
            continue
        label = folders[1] if has_splits else folders[0]
        clip_split = firsts[folders[0]] if has_splits else split
        clip_source, rule = source_and_rule(name, label, source)
        record = Record(join_path(root, name), id=name)
        clip = ClipEntry(record, label, clip_split, clip_source, source_rule=rule)
        inventory.clips.append(clip)
    num_clips = len(inventory.clips) - num_before
    if not num_clips:
        raise no_class_folders(root, EXAMPLES[inventory.media])
    note_mixture(inventory, root, sum(others[suffix] for suffix in SOUND_SUFFIXES), num_clips)
    note_others(inventory, others)


def note_others(inventory: Inventory, others: Counter[str]) -> None:
    """Say how many other files are skipped, by suffix."""
    if others:
        listed = ", ".join(
            f"{count} {suffix or 'without a suffix'}"
            for suffix, count in others.most_common(MAX_SUFFIXES_SHOWN)
        )
        total = others.total()
        inventory.notes.append(f"{total} other file{'s' * (total > 1)} skipped: {listed}")
