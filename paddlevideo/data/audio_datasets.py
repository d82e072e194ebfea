"""Audio data sets: lists and folders of audio features, audio files, or videos with audio.

A line of a list is `path num_frames label`. The path names a `.npy` feature, which
tools/data/build_audio_features.py writes, or a video or audio file whose feature is computed on the
fly. The number of frames is that of the video. It may be left out if the path has its suffix.
"""

from dataclasses import dataclass
from typing import Literal

from paddlevideo.config.registry import register
from paddlevideo.data.datasets import (
    IGNORED,
    RecordList,
    Split,
    check_max_failures,
    class_folder_rows,
    make_records,
    no_class_folders,
    rows_of_split,
)
from paddlevideo.data.lists import Problems, read_rows
from paddlevideo.data.paths import base_folder, find_audio_files
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES, has_audio_suffix
from paddlevideo.remote import as_path, is_folder, shown

AUDIO_IGNORED = IGNORED | {
    "multi_class": "a record has one label",
    "num_classes": "the head's num_classes, or the data, sets their number",
    "start_index": "SampleFrames has it",
    "modality": "the format defines it",
}


@register("dataset", ignores=AUDIO_IGNORED)
@dataclass(frozen=True)
class AudioFeatureDataset:
    """Audio features, audio files, or videos with audio.

    Args:
        file_path: a list of lines `path num_frames label`, or `path label` if the path has its
            suffix; a table with these columns, `num_frames` being optional; or a folder
            `root/<class>/**/*.npy` (or any video or audio file).
        data_prefix: as in VideoDataset.
        suffix: appended to each path of a list without the suffix of a feature, an audio file or a
            video.
        max_failures, on_error, split: as in VideoDataset.
    """

    file_path: str
    data_prefix: str | None = None
    suffix: str = ".npy"
    max_failures: float | int = 0.01
    on_error: Literal["replace", "fail", "skip"] | None = None
    split: Split | None = None

    def __post_init__(self):
        check_max_failures(self.max_failures)

    def load(self, class_names: list[str] | None = None) -> RecordList:
        """Read the records; as `VideoDataset.load`."""
        root = as_path(self.file_path)
        if is_folder(root):
            suffixes = (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)
            rows = list(class_folder_rows(root, find_audio_files, suffixes))
            if not rows:
                raise no_class_folders(root, "<class>/*.npy (or any video or audio file)")
            return make_records(rows, Problems(shown(root)), class_names, str(root))
        rows, problems = read_rows(
            root, with_num_frames=True, path_kind="path", has_suffix=has_audio_suffix
        )
        rows = [
            row if has_audio_suffix(row.path) else row._replace(path=row.path + self.suffix)
            for row in rows_of_split(rows, self.split, problems)
        ]
        base = base_folder((row.path for row in rows), root, self.data_prefix)
        return make_records(rows, problems, class_names, base)


@register("dataset", ignores=AUDIO_IGNORED)
@dataclass(frozen=True)
class AudioDataset(AudioFeatureDataset):
    """As AudioFeatureDataset; a path without a suffix is that of a wav file."""

    suffix: str = ".wav"
