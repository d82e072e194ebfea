"""Keep the splits of an earlier check: a clip that was trained on stays a training clip."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paddlevideo.curate.inventory import ClipEntry, ClipKey
from paddlevideo.curate.splits import split_by_source
from paddlevideo.data.paths import SPLITS, list_name

MAX_NAMED = 5  # clips in one line


@dataclass(frozen=True)
class EarlierSplits:
    """Which clip was in which split when the lists were written last.

    Attributes:
        of_clip: by file and times.
        of_content: by the content of the clip, for files that were renamed since.
        of_source: by the recording; only recordings that were in one split.
        shares: split -> share that was asked for.
        seed: of the draw, None where it is not known.
    """

    of_clip: Mapping[ClipKey, str] = field(default_factory=dict)
    of_content: Mapping[str, str] = field(default_factory=dict)
    of_source: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None

    @property
    def splits(self) -> set[str]:
        return set(self.of_clip.values())

    def split_of(self, clip: ClipEntry, content_hash: str) -> str | None:
        """Return the earlier split of a clip, None for a new one."""
        return self.of_clip.get(clip.key) or self.of_content.get(content_hash)


def divide(
    clips: Sequence[ClipEntry],
    known: Sequence[str | None],
    shares: Mapping[str, float],
    earlier: EarlierSplits,
    seed: int = 0,
) -> list[str]:
    """Assign a split to each clip; clips and sources with an earlier split keep it.

    New clips fill the shares. A split that did not exist earlier takes new clips first, and
    training clips where these are too few. A split that existed takes new clips only.

    Args:
        known: the earlier split of each clip, None for a new one.
        shares: as of `split_by_source`.

    Returns:
        the split of each clip.
    """
    fixed: dict[str, str] = {}
    splits_of: dict[str, set[str]] = defaultdict(set)
    for clip, split in zip(clips, known, strict=True):
        if split:
            splits_of[clip.source].add(split)
    names = []
    for clip, split in zip(clips, known, strict=True):
        found = splits_of[clip.source]
        if not split and found:
            split = next(name for name in SPLITS if name in found)
        elif not split:
            split = earlier.of_source.get(clip.source)
        # A source that an earlier check divided stays divided: its clips keep their splits.
        name = f"{clip.source}\n{split}" if len(found) > 1 else clip.source
        names.append((name, clip.label))
        if split:
            fixed[name] = split
    is_new = {split: split not in earlier.splits for split in shares}
    in_order = {split: shares[split] for split in sorted(shares, key=lambda s: not is_new[s])}
    splits = split_by_source(names, in_order, seed, fixed=fixed)
    new_shares = {split: share for split, share in in_order.items() if is_new[split]}
    if not new_shares or not fixed:
        return splits
    kept = {name: split for (name, _), split in zip(names, splits, strict=True) if split != "train"}
    return split_by_source(names, new_shares, seed, fixed=kept)


def describe_changes(
    clips: Sequence[ClipEntry],
    known: Sequence[str | None],
    shares: Mapping[str, float],
    earlier: EarlierSplits,
    seed: int | None = None,
) -> list[str]:
    """Say how the splits differ from those of the earlier lists.

    Args:
        clips: with their new splits.
        known: the earlier split of each clip, None for a new one.
        shares, seed: those that were asked for; a seed of None means that all splits were drawn
            again.
    """
    pairs = list(zip(clips, known, strict=True))
    num_kept = sum(clip.split == split for clip, split in pairs)
    added = Counter(list_name(str(clip.split)) for clip, split in pairs if split is None)
    line = f"splits: {num_kept} of {len(clips)} clips are in the list that they were in before"
    if added:
        counts = ", ".join(f"{count} in {name}.csv" for name, count in sorted(added.items()))
        line += f"; new: {counts}"
    lines = [line, *gone_lines(clips, known, earlier)]
    moved: dict[tuple[str, str], list[str]] = defaultdict(list)
    for clip, split in pairs:
        if split and clip.split and clip.split != split:
            moved[split, clip.split].append(clip.name)
    lines += [move_line(old, new, names) for (old, new), names in sorted(moved.items())]
    if seed is None:
        return lines
    counts = Counter(str(clip.split) for clip in clips)
    for split in ("valid", "test"):
        share, before = shares.get(split, 0.0), earlier.shares.get(split, 0.0)
        if split in earlier.splits and share != before and counts[split]:
            actual = f"{counts[split] / len(clips):.0%} of all"
            lines.append(
                f"{list_name(split)}.csv keeps its clips ({actual}), although --{split}_share is "
                f"{share:g}: only new clips fill it. --resplit draws all splits again"
            )
    if earlier.seed not in (None, seed):
        lines.append(f"--seed {seed} only draws new clips; --resplit draws all splits again")
    return lines


def gone_lines(
    clips: Sequence[ClipEntry], known: Sequence[str | None], earlier: EarlierSplits
) -> list[str]:
    """Say how many clips of the earlier lists are missing now, and which lists that removes."""
    gone = Counter(earlier.of_clip.values()) - Counter(split for split in known if split)
    if not gone:
        return []
    counts = ", ".join(
        f"{gone[split]} of {list_name(split)}.csv" for split in SPLITS if gone[split]
    )
    removed = earlier.splits - {str(clip.split) for clip in clips}
    names = " and ".join(f"{list_name(split)}.csv" for split in SPLITS if split in removed)
    return [f"not in the data any more: {counts}" + (f"; {names} is removed" if names else "")]


def move_line(old: str, new: str, names: Sequence[str]) -> str:
    """Name the clips that moved from one split to another, and say what that means."""
    shown = ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")
    clips = "1 clip" if len(names) == 1 else f"{len(names)} clips"
    line = f"moved from {list_name(old)}.csv to {list_name(new)}.csv: {clips} ({shown})"
    if old == "train":
        line += (
            "; a model that was trained on the earlier train.csv has seen them, and its accuracy "
            f"on {list_name(new)}.csv means nothing: train again"
        )
    elif new == "train":
        line += "; accuracies from before and after this change cannot be compared"
    return line
