"""Check a data set before training: probe every file, compare the files, and draw splits.

Example:

    result = check(CheckOptions(Inputs(Path("my_videos"))))
    write(result, Path("my_videos"))   # train.csv, val.csv, labels.txt, bad_files.csv, check.json
"""

import functools
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from paddlevideo.curate.compare import (
    drop_duplicates,
    drop_leaking_sources,
    drop_repeated_clips,
    separate_files,
)
from paddlevideo.curate.earlier import EarlierSplits, describe_changes, divide
from paddlevideo.curate.faults import KINDS, Fault
from paddlevideo.curate.fold import Fold, hold_out
from paddlevideo.curate.inventory import NOUNS, ClipEntry, ClipKey, Inputs, Inventory, Media
from paddlevideo.curate.notes import collect_notes, source_line
from paddlevideo.curate.probe import ProbeOptions, VideoInfo, hash_file, probe_video
from paddlevideo.curate.probe_audio import AudioInfo, MediaInfo, probe_audio
from paddlevideo.curate.read_inputs import read_inputs
from paddlevideo.log import plural
from paddlevideo.processes import Crash, RunEach, run_each


@dataclass(frozen=True)
class CheckOptions:
    """What to check, and how.

    Args:
        inputs: folders or lists.
        probe: how thoroughly to probe each file.
        valid_share, test_share: share of the clips of each class to draw for a split that is not
            given; 0 draws none.
        seed: of the splits that are drawn.
        resplit: draw new splits, even if the inputs or earlier lists have splits.
        num_workers: processes; None for one per core, 0 to work in this process.
        earlier: splits of an earlier check, which clips keep.
        fold: the fold to hold out for validation, in place of a share; a given test set stays.
        run: where files are probed: in processes of this machine, or on a cluster.

    Raises:
        ValueError: the shares leave no training set, or there is a fold and a share for a test set.
    """

    inputs: Inputs
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    valid_share: float = 0.2
    test_share: float = 0.0
    seed: int = 0
    resplit: bool = False
    num_workers: int | None = None
    earlier: EarlierSplits | None = None
    fold: Fold | None = None
    run: RunEach = run_each

    @property
    def shares(self) -> dict[str, float]:
        """Split -> share, of the splits to draw."""
        if self.fold is not None:
            return {}
        shares = {"valid": self.valid_share, "test": self.test_share}
        return {split: share for split, share in shares.items() if share}

    def __post_init__(self):
        are_shares = 0 <= self.valid_share < 1 and 0 <= self.test_share < 1
        if not (are_shares and self.valid_share + self.test_share < 1):
            raise ValueError(
                f"shares of {self.valid_share:g} and {self.test_share:g} leave nothing to train on;"
                " expected numbers from 0 that are together below 1"
            )
        if self.fold is not None and self.test_share:
            raise ValueError(
                f"--fold {self.fold} divides all clips into training and validation; leave out "
                "--test_share, or give a test set with --test"
            )


@dataclass
class CheckResult:
    """The result of a check.

    Attributes:
        clips: the clips that no fault excludes, each with its split.
        infos: properties of each clip that was probed, with or without faults.
        faults: all faults, ordered by kind.
        notes: remarks that are not faults.
        class_names: in the order of their ids; None where labels are ids without names.
        class_ids: label -> class id.
        num_listed: number of clips in the inputs.
        splits_drawn: whether the check drew splits.
        media: what the clips were checked as.
        split_lines: what splits were drawn by, and what changed in them.
        shares: split -> share that was asked for.
        seed: of the splits.
        fold: that was held out.
    """

    clips: list[ClipEntry]
    infos: dict[ClipKey, MediaInfo]
    faults: list[Fault]
    notes: list[str]
    class_names: list[str] | None
    class_ids: dict[str, int]
    num_listed: int
    splits_drawn: bool
    media: Media = "video"
    split_lines: list[str] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    fold: Fold | None = None

    def info(self, clip: ClipEntry) -> MediaInfo:
        return self.infos[clip.key]

    def counts(self) -> dict[str, Counter]:
        """Count clips: label -> split -> number."""
        counts: dict[str, Counter] = defaultdict(Counter)
        for clip in self.clips:
            counts[clip.label][str(clip.split)] += 1
        return counts


def check(options: CheckOptions, show: bool = True) -> CheckResult:
    """Check every clip of the inputs, and draw the splits that are not given.

    Args:
        show: draw progress bars.

    Raises:
        DatasetError: an input does not exist, has no clips, or is a list none of whose files
            exists; or there are fewer sources than folds.
    """
    inventory = read_inputs(options.inputs)
    num_listed, labels = len(inventory.clips), {clip.label for clip in inventory.clips}
    infos = probe_clips(inventory, options, show)
    collect_file_faults(inventory, infos)
    has_splits = any(clip.split for clip in inventory.clips) and not options.resplit
    for clip in inventory.clips:
        if options.resplit or (options.fold is not None and clip.split != "test"):
            clip.split = None
    drop_repeated_clips(inventory)
    drop_duplicates(inventory, infos, hash_equal_sizes(inventory.clips, infos, options, show))
    separate_files(inventory)
    drop_leaking_sources(inventory)
    if options.fold is not None:
        clips = [clip for clip in inventory.clips if clip.split is None]
        splits_drawn, fold_line = True, hold_out(clips, options.fold, options.seed)
        report_small_classes(inventory, clips, ["valid"])
    else:
        splits_drawn, fold_line = draw_splits(inventory, infos, options, has_splits), ""
    settle_classes(inventory, labels)
    split_lines = [line for line in (source_line(inventory.clips, splits_drawn), fold_line) if line]
    if options.earlier is not None:
        known = earlier_splits(inventory.clips, infos, options.earlier)
        split_lines += describe_changes(
            inventory.clips,
            known,
            options.shares,
            options.earlier,
            None if options.resplit or options.fold else options.seed,
        )
    notes = inventory.notes + collect_notes(inventory.clips, infos, inventory.media)
    order = {kind: number for number, kind in enumerate(KINDS)}
    return CheckResult(
        clips=inventory.clips,
        infos=infos,
        faults=sorted(inventory.faults, key=lambda fault: order[fault.kind]),
        notes=notes,
        class_names=inventory.class_names,
        class_ids=inventory.class_ids(),
        num_listed=num_listed,
        splits_drawn=splits_drawn,
        media=inventory.media,
        split_lines=split_lines,
        shares=options.shares,
        seed=options.seed,
        fold=options.fold,
    )


# --- single files ---------------------------------------------------------------------------------


def probe_clips(
    inventory: Inventory, options: CheckOptions, show: bool
) -> dict[ClipKey, MediaInfo]:
    """Probe each clip; a clip that is listed twice is probed once."""
    records = {clip.key: clip.record for clip in inventory.clips}
    keys = list(records)
    is_audio = inventory.media == "audio"
    probe = functools.partial(probe_audio if is_audio else probe_video, options=options.probe)
    noun = f"{NOUNS[inventory.media]}s"
    results = options.run(probe, list(records.values()), options.num_workers, noun, show)
    infos: dict[ClipKey, MediaInfo] = {}
    for index, result in results:
        if isinstance(result, Crash):
            record = records[keys[index]]
            result = (AudioInfo if is_audio else VideoInfo)(record.path)
            result.add_fault("crash", record.id, "the decoder crashes on this file")
        infos[keys[index]] = result
    return {key: infos[key] for key in keys}


def collect_file_faults(inventory: Inventory, infos: dict[ClipKey, MediaInfo]) -> None:
    """Report the faults of each file for its clips, and leave out clips that are unusable."""
    usable = []
    for clip in inventory.clips:
        faults = infos[clip.key].faults
        for fault in faults:
            inventory.add_fault(fault.kind, clip, fault.text)
        if not any(KINDS[fault.kind].left_out for fault in faults):
            usable.append(clip)
    inventory.clips = usable


def hash_equal_sizes(
    clips: list[ClipEntry], infos: dict[ClipKey, MediaInfo], options: CheckOptions, show: bool
) -> dict[str, str]:
    """Hash the files whose size another file has too: path -> hash."""
    paths_by_size = defaultdict(set)
    for clip in clips:
        info = infos[clip.key]
        paths_by_size[info.num_bytes].add(info.path)
    paths = sorted(path for group in paths_by_size.values() if len(group) > 1 for path in group)
    results = options.run(hash_file, paths, options.num_workers, "files of equal size", show)
    return {paths[index]: digest for index, digest in results if isinstance(digest, str) and digest}


# --- the complete set -----------------------------------------------------------------------------


def earlier_splits(
    clips: list[ClipEntry], infos: dict[ClipKey, MediaInfo], earlier: EarlierSplits
) -> list[str | None]:
    """Return the split that each clip was in before, None for a new clip."""
    return [earlier.split_of(clip, infos[clip.key].content_hash) for clip in clips]


def draw_splits(
    inventory: Inventory,
    infos: dict[ClipKey, MediaInfo],
    options: CheckOptions,
    has_splits: bool,
) -> bool:
    """Draw the splits that are not given, and report classes that get no clip in one of them.

    Without given splits, all clips are divided. With a training set but no validation set, the
    training set is divided. Clips of earlier lists keep their splits.

    Returns:
        whether splits were drawn.
    """
    shares = options.shares
    earlier = EarlierSplits() if options.resplit else options.earlier or EarlierSplits()
    allowed = {"train", "valid", "test"}
    if has_splits:
        has_valid = any(clip.split == "valid" for clip in inventory.clips)
        shares = {split: share for split, share in shares.items() if split == "valid"}
        shares = {} if has_valid else shares
        allowed = {"train", *shares}
    clips = [clip for clip in inventory.clips if clip.split in (None, "train")]
    known = [split if split in allowed else None for split in earlier_splits(clips, infos, earlier)]
    if not shares and not any(known):
        for clip in clips:
            clip.split = "train"
        return False
    for clip, split in zip(clips, divide(clips, known, shares, earlier, options.seed), strict=True):
        clip.split = split
    report_small_classes(inventory, clips, list(shares))
    return True


def report_small_classes(
    inventory: Inventory, clips: list[ClipEntry], drawn_splits: list[str]
) -> None:
    """Report classes that get no clip in one of the splits that were drawn from `clips`."""
    clips_of_class: dict[str, list[ClipEntry]] = defaultdict(list)
    classes_of_source: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        clips_of_class[clip.label].append(clip)
        classes_of_source[clip.source].add(clip.label)
    for label, group in sorted(clips_of_class.items()):
        splits = {clip.split for clip in group}
        empty = [split for split in drawn_splits if split not in splits]
        if empty:
            sources = {clip.source for clip in group}
            num_shared = sum(len(classes_of_source[source]) > 1 for source in sources)
            shared = f", {num_shared} shared with other classes" if num_shared else ""
            counts = f"{plural(len(group), 'clip')} of {plural(len(sources), 'source')}{shared}"
            text = f"{counts}: none for {' and '.join(empty)}"
            inventory.faults.append(Fault("few", label, text))


def settle_classes(inventory: Inventory, labels: set[str]) -> None:
    """Take the classes from the training clips, and leave out clips of other classes.

    Args:
        labels: the classes of all clips in the inputs.
    """
    trained = {clip.label for clip in inventory.clips if clip.split == "train"}
    counts = Counter(clip.label for clip in inventory.clips if clip.label not in trained)
    for label in sorted(labels - trained):
        if counts[label]:
            text = f"no usable training clip of this class, but {counts[label]} in other splits"
            inventory.faults.append(Fault("no_training", label, text))
        else:
            text = "no usable clip of this class"
            inventory.faults.append(Fault("empty_class", label, text))
    inventory.clips = [clip for clip in inventory.clips if clip.label in trained]
    if not inventory.names_are_given and not inventory.labels_are_ids:
        inventory.class_names = sorted(trained)
