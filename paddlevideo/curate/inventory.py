"""The inventory of a data set: its clips with label, split and source, and the faults so far."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from paddlevideo.curate.faults import Fault
from paddlevideo.remote import absolute_path
from paddlevideo.sample import Record

Media = Literal["video", "audio"]
NOUNS = {"video": "video", "audio": "audio file"}
# Absolute path, start_sec, end_sec.
ClipKey = tuple[str, float | None, float | None]


@dataclass
class ClipEntry:
    """A clip as its list or folder describes it.

    Attributes:
        record: the file and the times; its `id` is the path as the list or folder names it.
        label: class name, or class id as text.
        split: one of paths.SPLITS; None where the inputs do not specify one.
        source: the recording that the clip was cut from.
        location: file:line of the list, "" for a clip from a folder.
        source_rule: what the source follows from; "" where each file is its own source.
        is_weak_source: names of the complete set suggest the source. Splits are drawn by it, but
            given splits are not held against it.
    """

    record: Record
    label: str
    split: str | None
    source: str
    location: str = ""
    source_rule: str = ""
    is_weak_source: bool = False

    @property
    def name(self) -> str:
        return self.record.id

    @property
    def key(self) -> ClipKey:
        """Identify the clip, whatever its label and split."""
        return absolute_path(self.record.path), self.record.start_sec, self.record.end_sec


@dataclass
class Inventory:
    """The clips of a data set.

    Attributes:
        clips: clips without a fault that leaves them out.
        faults: faults so far.
        notes: remarks that are no faults.
        class_names: in the order of their ids; None as long as they are unknown.
        names_are_given: the class names come from a file, which fixes their order.
        labels_are_ids: labels are class ids, not class names.
        media: what the clips are checked as.
    """

    clips: list[ClipEntry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_names: list[str] | None = None
    names_are_given: bool = False
    labels_are_ids: bool = False
    media: Media = "video"

    @property
    def noun(self) -> str:
        """What messages call a clip."""
        return NOUNS[self.media]

    def add_fault(self, kind: str, clip: ClipEntry, text: str) -> None:
        self.faults.append(Fault(kind, clip.name, text, clip.location))

    def class_ids(self) -> dict[str, int]:
        """Map labels to class ids."""
        if self.labels_are_ids:
            return {label: int(label) for label in {clip.label for clip in self.clips}}
        return {name: number for number, name in enumerate(self.class_names or ())}


@dataclass(frozen=True)
class Inputs:
    """The folders and lists to check.

    Args:
        data: path or URL of a folder per class; of a folder per split with a folder per class in
            each; of a list; or of a table.
        valid, test: the same for another split. `data` is then the training set.
        data_prefix, suffix: of lists, as in VideoDataset.
        class_names: names of the classes in the order of their ids.
        source: as `pattern` of `source_of`.
        media: audio checks audio files, and the audio of videos; None checks videos, or audio
            files where there are no videos.

    Raises:
        ValueError: `source` is not a regular expression.
    """

    data: str | Path
    valid: str | Path | None = None
    test: str | Path | None = None
    data_prefix: str | None = None
    suffix: str = ""
    class_names: list[str] | None = None
    source: str | None = None
    media: Media | None = None

    def __post_init__(self):
        try:
            re.compile(self.source or "")
        except re.error as error:
            raise ValueError(
                f"source {self.source!r} is not a regular expression: {error}"
            ) from error
