"""YouTube-8M: frame features of videos, read from shards, as a data set and as what stands where a clip's pipeline does.

    DATASET:
      train: {format: YouTube8MDataset, file_path: data/yt8m/train.list}
    PIPELINE:
      train: {decode: {name: FeatureDecoder}}

Features stay bytes, as they are stored; the model turns them into numbers. What is wrong in a shard is told with file and byte,
and counts as a video that cannot be decoded, under the same rules.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.datasets import IGNORED, RecordList, check_max_failures
from paddlevideo.data.pipeline import SYNTHETIC_SIZE, Pipeline, StageError
from paddlevideo.data.youtube8m import pickles, tfrecord
from paddlevideo.data.youtube8m.sequence_example import FrameExample, parse_example, printable_id
from paddlevideo.data.youtube8m.shards import (
    PICKLES,
    ShardOrder,
    ShardRecords,
    find_shards,
    index_name,
    index_shards,
    kind_of,
)
from paddlevideo.sample import BatchShape, DecodeError, InputSpec, Record, Sample

OPEN_FILES = 64  # shards that a process holds open
OPEN_PICKLES = 2  # pickles that it holds in memory, whole


# --- data set --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShardList(RecordList):
    """The records of shards. Their labels stand inside and are checked when a record is read."""

    records: ShardRecords  # type: ignore[assignment]
    shuffle_buffer: int = 1 << 14

    @property
    def max_label(self) -> int:
        return -1

    def order(
        self,
        cycle: tuple[BatchShape, ...],
        seed: int,
        rank: int,
        world_size: int,
        max_batches: int | None,
    ) -> ShardOrder:
        """The order of training; arguments as of `TrainOrder`."""
        starts = tuple(self.records.starts.tolist())
        return ShardOrder(
            len(self.records),
            cycle,
            seed,
            rank,
            world_size,
            max_batches,
            starts,
            self.shuffle_buffer,
        )


@register("dataset", ignores=IGNORED)
@dataclass(frozen=True)
class YouTube8MDataset:
    """Shards of frame features: TFRecord files of SequenceExamples, or pickles of PaddleCV's converter.

    Args:
        file_path: a list of shards, a folder, a glob or one shard; see data/shards.py.
        data_prefix: folder that the paths in a list are relative to, as in VideoDataset.
        shuffle_buffer: in training, over how many records one is moved from its place in the shards.
        index_file: keeps where the records begin; None: beside the list, or in the folder.
        max_failures: videos that may fail in training: a share of them below 1, a count from 1 on.
        on_error: as in VideoDataset.
    """

    file_path: str
    data_prefix: str | None = None
    shuffle_buffer: int = 1 << 14
    index_file: str | None = None
    max_failures: float | int = 0.01
    on_error: Literal["replace", "fail", "skip"] | None = None

    def __post_init__(self):
        check_max_failures(self.max_failures)
        if self.shuffle_buffer < 1:
            raise ValueError(
                f"shuffle_buffer is {self.shuffle_buffer}, expected at least 1 (1 keeps the order of each shard)"
            )

    def load(self, class_names: list[str] | None = None) -> ShardList:
        """The records.

        Raises:
            DatasetError: nothing there, or files that are no shards; all of them are named.
        """
        paths = find_shards(self.file_path, self.data_prefix)
        records = index_shards(paths, self.index_file or index_name(self.file_path))
        buffer = self.shuffle_buffer
        if any(
            path.lower().endswith(PICKLES) for path in paths
        ):  # each is read whole: few at a time
            buffer = min(buffer, int(np.diff(records.starts).max()))
        return ShardList(records, class_names, buffer)


# --- the pipeline --------------------------------------------------------------------------------------------------------


class FeaturePipeline(Pipeline):
    """Turns a record in a shard into frame features, the stored bytes.

    Nothing is drawn, cut or changed; zero frames fill a sample up to `max_frames`.
    """

    needs_sampler = False

    def __init__(
        self, decode: "FeatureDecoder", sample: Any = None, transforms: Sequence[Any] = ()
    ):
        if sample is not None or transforms:
            raise ValueError(
                "FeatureDecoder gives features as the model takes them; remove sample and transform"
            )
        if decode.num_classes is None:
            raise ValueError(
                "num_classes is not known: set it in the model's head, or as FeatureDecoder's num_classes"
            )
        self.decode, self.sample, self.num_classes = decode, None, decode.num_classes

    @staticmethod
    def find_records(file_path: str) -> ShardRecords:
        """The records that a path means: a shard, or a list, folder or glob of shards; see YouTube8MDataset.

        Raises:
            DatasetError: as `YouTube8MDataset.load`.
        """
        return YouTube8MDataset(file_path).load().records

    @property
    def batch_specs(self) -> dict[str, InputSpec]:
        """What goes from the worker to the model, by name."""
        frames = self.decode.max_frames
        inputs = {
            name: InputSpec((None, frames, width), "uint8", "N T D")
            for name, width in self.decode.features.items()
        }
        return inputs | {"num_frames": InputSpec((None,), "int64", "N")}

    def __call__(
        self,
        record: Record,
        rng: np.random.Generator | None = None,
        source: FrameExample | None = None,
    ) -> Sample:
        """{"rgb": uint8 [max_frames, 1024], "audio": uint8 [max_frames, 128], "num_frames": int64, "label", "id"}.

        label: uint8 [num_classes], 1 for those of the video; none where the record has no labels. id: bytes; of a record
        without one, its shard and number.

        Args:
            source: features that are read already, in place of the record's.

        Raises:
            StageError: the record is damaged, or holds something else.
        """
        try:
            example = self.decode.read(record) if source is None else self.decode.checked(source)
        except DecodeError as error:
            raise StageError("decode", str(error)) from error
        except OSError as error:
            raise StageError("decode", f"{type(error).__name__}: {error}") from error
        most = self.decode.max_frames
        num_frames = min(most, min(map(len, example.features.values())))
        sample: dict[str, Any] = {}
        for name, width in self.decode.features.items():
            frames = np.empty((most, width), np.uint8)
            if num_frames:
                frames[:num_frames] = example.features[name][:num_frames]
            frames[num_frames:] = 0
            sample[name] = frames
        label = np.zeros(self.num_classes, np.uint8)
        label[example.labels] = 1
        known = example.id or record.id.encode()
        return {
            **sample,
            "num_frames": np.int64(num_frames),
            "label": label,
            "id": np.bytes_(known),
        }

    def synthetic(self, size: tuple[int, int] = SYNTHETIC_SIZE) -> Sample:
        """What a made-up video gives; for trying a model on it."""
        rng, count = np.random.default_rng(0), max(1, self.decode.max_frames * 2 // 3)
        made = {
            name: rng.integers(0, 256, (count, width), np.uint8)
            for name, width in self.decode.features.items()
        }
        return self(
            Record("", id="synthetic"), rng, FrameExample(b"synthetic", np.zeros(1, np.int64), made)
        )


# --- reading a record --------------------------------------------------------------------------------------------------


class _OpenFile:
    """A shard that is open until nobody holds it any more."""

    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.descriptor).st_size
        self.is_pickle = kind_of(os.pread(self.descriptor, 64, 0)) == "pickle"

    def __del__(self):
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _Files:
    """Shards held open, the latest used of them, as they were when they were opened.

    Positions in them are not used, so that a fork can read from the same open files.
    """

    def __init__(self):
        self.open: Callable[[str], _OpenFile] = lru_cache(OPEN_FILES)(_OpenFile)
        self.videos: Callable[[str], list[dict]] = lru_cache(OPEN_PICKLES)(pickles.read_videos)

    def __reduce__(self):
        return _Files, ()  # another process opens its own


@register("decode")
@dataclass(frozen=True)
class FeatureDecoder:
    """Frame features of a video, as the shards of YouTube8MDataset hold them.

    Args:
        max_frames: frames that are used, from the first on; what a video has less is filled with zeros.
        features: name of each feature list, and how many values a frame has in it.
        num_classes: labels are 0 .. num_classes - 1; left out, the model's head says it.
    """

    max_frames: int = 300
    features: dict[str, int] = field(default_factory=lambda: {"rgb": 1024, "audio": 128})
    num_classes: int | None = None

    pipeline: ClassVar[type] = FeaturePipeline  # what its features go through

    _files: _Files = field(default_factory=_Files, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}, expected at least 1")
        wrong = {
            name: width
            for name, width in self.features.items()
            if not isinstance(width, int) or width < 1
        }
        if wrong or not self.features:
            raise ValueError(
                f"features is {self.features}, expected names and values a frame, as {{rgb: 1024, audio: 128}}"
            )

    def read(self, record: Record) -> FrameExample:
        """The example of a record, checked against `features` and `num_classes`; frames are not cut.

        Raises:
            DecodeError: with the byte in the file, and the video's id where it is known.
            OSError: the file is not there.
        """
        shard, offset, names = (
            self._files.open(record.path),
            record.offset or 0,
            tuple(self.features),
        )
        payload = (
            b"" if shard.is_pickle else tfrecord.read_payload(shard.descriptor, offset, shard.size)
        )
        try:
            if shard.is_pickle:
                example = self._from_pickle(record.path, offset, names)
            else:
                example = parse_example(payload, names)
            return self.checked(example)
        except DecodeError as error:
            raise DecodeError(
                f"{'number' if shard.is_pickle else 'byte'} {offset}: {error}"
            ) from error

    def _from_pickle(self, path: str, number: int, names: tuple[str, ...]) -> FrameExample:
        videos = self._files.videos(path)
        if not 0 <= number < len(videos):
            raise DecodeError(f"there is no video {number}, the file has {len(videos)}")
        return pickles.parse_video(videos[number], names)

    def checked(self, example: FrameExample) -> FrameExample:
        """The same example.

        Raises:
            DecodeError: names, widths, numbers of frames or labels are not as they should be.
        """
        missing = [name for name in self.features if name not in example.features]
        if missing:
            raise DecodeError(
                f"{printable_id(example.id)} has no feature list {', '.join(missing)}"
            )
        counts = {name: len(frames) for name, frames in example.features.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} frames of {name}" for name, count in counts.items())
            raise DecodeError(
                f"{printable_id(example.id)} has {told}; each frame needs all of them"
            )
        for name, frames in example.features.items():
            if len(frames) and frames.shape[1] != self.features[name]:
                raise DecodeError(
                    f"{printable_id(example.id)}: a frame of {name} has {frames.shape[1]} values, expected {self.features[name]}; "
                    "'features' of the decoder says what there is"
                )
        limit = self.num_classes
        if limit is not None and len(example.labels):
            wrong = example.labels[(example.labels < 0) | (example.labels >= limit)].tolist()
            if wrong:
                raise DecodeError(
                    f"{printable_id(example.id)}: label {wrong[0]}, but num_classes is {limit}: labels end at {limit - 1}"
                )
        return example
