"""The pipeline of frame features: from a record in a shard to a model's input.

Features stay bytes, as they are stored; the model converts them to numbers. A damaged record fails
as a video that cannot be decoded does, and its message names the byte in the file.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from paddlevideo.array_files import ArrayFileError, read_npy
from paddlevideo.config.registry import register
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.pipeline import SYNTHETIC_SIZE, Pipeline, StageError
from paddlevideo.data.webdataset.dataset import FEATURES, tar_records
from paddlevideo.data.webdataset.find import names_shards
from paddlevideo.data.youtube8m import pickles, tfrecord
from paddlevideo.data.youtube8m.dataset import YouTube8MDataset
from paddlevideo.data.youtube8m.find import kind_of
from paddlevideo.data.youtube8m.sequence_example import FrameExample, parse_example, printable_id
from paddlevideo.media.tar_files import check_usable, files_of_range, read_part
from paddlevideo.remote import file_identity, is_url, open_url, shown
from paddlevideo.sample import DecodeError, InputSpec, Record, Sample
from paddlevideo.tar_paths import tar_path

OPEN_FILES = 64  # shards that a process keeps open
OPEN_PICKLES = 2  # pickles that a process keeps in memory


class FeaturePipeline(Pipeline):
    """Turns a record in a shard into frame features, the stored bytes.

    It is deterministic and changes no values. A sample has `max_frames` frames; zeros replace those
    that the video does not have.

    Raises:
        ValueError: the config names a sampler or transforms, or the number of classes is unknown.
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
                "num_classes is unknown; set it in the model's head, or in FeatureDecoder"
            )
        self.decode, self.sample, self.num_classes = decode, None, decode.num_classes

    @staticmethod
    def find_records(file_path: str) -> Sequence[Record]:
        """The records of a shard, or of a list, folder or glob of shards; see YouTube8MDataset, and
        WebDataset for tar shards.

        Raises:
            DatasetError: see `YouTube8MDataset.load`; or tar shards without features.
        """
        if names_shards(file_path):
            records = tar_records(file_path, FEATURES)
            if all(record.problem for record in records):
                raise DatasetError(f"{shown(file_path)}: no features: {records[0].problem}")
            return records
        return YouTube8MDataset(file_path).load().records

    @property
    def batch_specs(self) -> dict[str, InputSpec]:
        """The features, and how many frames of them the video has."""
        max_frames = self.decode.max_frames
        inputs = {
            name: InputSpec((None, max_frames, width), "uint8", "N T D")
            for name, width in self.decode.features.items()
        }
        return inputs | {"num_frames": InputSpec((None,), "int64", "N")}

    def __call__(
        self,
        record: Record,
        rng: np.random.Generator | None = None,
        source: FrameExample | None = None,
    ) -> Sample:
        """The sample of a record; this part runs in a worker process.

        Args:
            record: which video.
            rng: not used.
            source: features to use in place of those of the record.

        Returns:
            rgb, audio, or as `features` names them: uint8 [max_frames, width].
            num_frames: int64, frames that are not padding.
            label: uint8 [num_classes], 1 for each label of the video; all 0 without labels.
            id: bytes; of a record without an id, its shard and number.

        Raises:
            StageError: the record is damaged, or does not fit `features` and `num_classes`.
        """
        try:
            example = self.decode.read(record) if source is None else self.decode.checked(source)
        except DecodeError as error:
            raise StageError("decode", str(error)) from error
        except OSError as error:
            raise StageError("decode", f"{type(error).__name__}: {error}") from error
        max_frames = self.decode.max_frames
        num_frames = min(max_frames, min(map(len, example.features.values())))
        sample: dict[str, Any] = {}
        for name, width in self.decode.features.items():
            frames = np.empty((max_frames, width), np.uint8)
            if num_frames:
                frames[:num_frames] = example.features[name][:num_frames]
            frames[num_frames:] = 0
            sample[name] = frames
        label = np.zeros(self.num_classes, np.uint8)
        label[example.labels] = 1
        return {
            **sample,
            "num_frames": np.int64(num_frames),
            "label": label,
            "id": np.bytes_(example.id or record.id.encode("utf-8", "surrogateescape")),
        }

    def synthetic(self, size: tuple[int, int] = SYNTHETIC_SIZE) -> Sample:
        """The sample of synthetic features, to try a model without data.

        Args:
            size: not used; there are no frames.
        """
        rng, num_frames = np.random.default_rng(0), max(1, self.decode.max_frames * 2 // 3)
        features = {
            name: rng.integers(0, 256, (num_frames, width), np.uint8)
            for name, width in self.decode.features.items()
        }
        example = FrameExample(b"synthetic", np.zeros(1, np.int64), features)
        return self(Record("", id="synthetic"), rng, example)


# --- reading a record ----------------------------------------------------------------------------


class _OpenFile:
    """A shard that stays open until the last reference to it is gone; of one at a URL, what was
    read last is in memory."""

    descriptor = -1  # not open

    def __init__(self, path: str):
        self._path = path
        if not is_url(path):
            self.descriptor = os.open(path, os.O_RDONLY)
        with open_url(path) as file:
            self.is_pickle = kind_of(file.read(64)) == "pickle"

    def payload(self, offset: int) -> bytes:
        """The record at this byte; errors as of `tfrecord.read_payload`."""
        if self.descriptor >= 0:
            size = os.fstat(self.descriptor).st_size
            return tfrecord.read_payload(self.descriptor, offset, size)
        with open_url(self._path) as file:  # of its own, for threads and forked processes
            return tfrecord.read_payload(file, offset, file.seek(0, os.SEEK_END))

    def __del__(self):
        if self.descriptor >= 0:
            os.close(self.descriptor)


class _Files:
    """The shards that were used last, kept open, and opened again once they were replaced.

    Reads name their position, so a forked process can use the same open files.
    """

    def __init__(self):
        self._open = lru_cache(OPEN_FILES)(lambda path, identity: _OpenFile(path))
        self._videos = lru_cache(OPEN_PICKLES)(lambda path, identity: pickles.read_videos(path))

    def open(self, path: str) -> _OpenFile:
        return self._open(path, file_identity(path))

    def videos(self, path: str) -> list[dict]:
        return self._videos(path, file_identity(path))

    def __reduce__(self):
        return _Files, ()  # a spawned process opens the files itself


@register("decode")
@dataclass(frozen=True)
class FeatureDecoder:
    """Reads the frame features of a video from the shards of YouTube8MDataset.

    Args:
        max_frames: use at most this many frames, from the first on.
        features: name of each feature list, and its values per frame.
        num_classes: labels are 0 .. num_classes - 1; by default that of the model's head.
    """

    max_frames: int = 300
    features: dict[str, int] = field(default_factory=lambda: {"rgb": 1024, "audio": 128})
    num_classes: int | None = None

    pipeline: ClassVar[type[Pipeline]] = FeaturePipeline

    _files: _Files = field(default_factory=_Files, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}, expected at least 1")
        widths = self.features.values()
        is_valid = all(isinstance(width, int) and width >= 1 for width in widths)
        if not self.features or not is_valid:
            raise ValueError(
                f"features is {self.features}, expected names and values per frame, "
                "as {rgb: 1024, audio: 128}"
            )

    def read(self, record: Record) -> FrameExample:
        """The example of a record with all its frames, checked by `checked`.

        Raises:
            DecodeError: the message names the byte in the file, and the video's id if known.
            OSError: the file cannot be opened.
        """
        check_usable(record)
        if tar_path(record.path):
            return self.checked(self._from_tar(record))
        shard = self._files.open(record.path)
        offset, names, payload = record.offset or 0, tuple(self.features), b""
        if not shard.is_pickle:
            # Not inside the try block: the messages of read_payload name the byte already.
            payload = shard.payload(offset)
        try:
            if shard.is_pickle:
                example = self._from_pickle(record.path, offset, names)
            else:
                example = parse_example(payload, names)
            return self.checked(example)
        except DecodeError as error:
            location = f"{'number' if shard.is_pickle else 'byte'} {offset}"
            raise DecodeError(f"{location}: {error}") from error

    def _from_tar(self, record: Record) -> FrameExample:
        """The features of a sample in a tar shard, with the labels of its record."""
        features = {}
        files = files_of_range(record.path)
        for name in self.features:
            if f"{name}.npy" not in files:
                continue  # `checked` reports it
            offset, size = files[f"{name}.npy"]
            try:
                array = read_npy(io.BytesIO(read_part(record.path, offset, size)), size)
            except ArrayFileError as error:
                raise DecodeError(f"{name}.npy: {error}") from error
            if array.dtype != np.uint8 or array.ndim != 2:
                given = f"{array.dtype} {list(array.shape)}"
                raise DecodeError(f"{name}.npy is {given}, expected uint8 [frames, values]")
            features[name] = array
        single = () if record.label is None else (record.label,)
        labels = np.array(record.labels if record.labels is not None else single, np.int64)
        return FrameExample(record.id.encode("utf-8", "surrogateescape"), labels, features)

    def _from_pickle(self, path: str, number: int, names: tuple[str, ...]) -> FrameExample:
        videos = self._files.videos(path)
        if not 0 <= number < len(videos):
            raise DecodeError(f"there is no video {number}; the file has {len(videos)} videos")
        return pickles.parse_video(videos[number], names)

    def checked(self, example: FrameExample) -> FrameExample:
        """Return the example if it fits `features` and `num_classes`.

        Raises:
            DecodeError: names, widths, numbers of frames or labels do not fit.
        """
        name_of_video = printable_id(example.id)
        missing = [name for name in self.features if name not in example.features]
        if missing:
            raise DecodeError(f"{name_of_video} has no feature list {', '.join(missing)}")
        counts = {name: len(frames) for name, frames in example.features.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} frames of {name}" for name, count in counts.items())
            raise DecodeError(f"{name_of_video} has {listed}; expected equal numbers")
        for name, frames in example.features.items():
            if len(frames) and frames.shape[1] != self.features[name]:
                raise DecodeError(
                    f"{name_of_video}: a frame of {name} has {frames.shape[1]} values, "
                    f"expected {self.features[name]}; 'features' of the decoder must match the "
                    "shards"
                )
        limit = self.num_classes
        if limit is not None and len(example.labels):
            wrong = example.labels[(example.labels < 0) | (example.labels >= limit)].tolist()
            if wrong:
                raise DecodeError(
                    f"{name_of_video}: label {wrong[0]}, but num_classes is {limit}: "
                    f"labels end at {limit - 1}"
                )
        return example
