"""Videos, frames, audio or features in tar shards, by the rules of WebDataset, as a data set.

    DATASET:
      train: {format: WebDataset, file_path: "shards/train-{000000..000099}.tar"}

The samples are records like those of a list, each with its place in a shard, so that order, ranks,
workers and resuming are those of any data set. find.py says which shards `file_path` may name, and
samples.py what is read of a sample.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paddlevideo.config.registry import register
from paddlevideo.data.audio_datasets import AUDIO_IGNORED
from paddlevideo.data.datasets import RecordList, check_max_failures, with_label_lists
from paddlevideo.data.labels import label_ids
from paddlevideo.data.lists import DatasetError, Problems, Row, row_of_dict
from paddlevideo.data.orders import TrainOrder
from paddlevideo.data.webdataset.find import find_tars
from paddlevideo.data.webdataset.index import samples_of_shards
from paddlevideo.data.webdataset.samples import TarSample
from paddlevideo.data.youtube8m.shards import ShardOrder, check_shuffle_buffer
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.plain_text import readable
from paddlevideo.sample import BatchShape, Record
from paddlevideo.tar_paths import TarPath
from paddlevideo.urls import shown

FRAME_PATTERN = "img_{:05}.jpg"
# Names of several files of a sample, where `media` chooses: its images, its files NAME.npy.
FRAMES, FEATURES = "frames", "features"


@dataclass(frozen=True)
class TarList(RecordList):
    """The records of tar shards.

    Attributes:
        starts: the number of the first record of each shard, and the total.
        shuffle_buffer: records over which the order of training is shuffled.
    """

    starts: tuple[int, ...] = field(default=(), kw_only=True)
    shuffle_buffer: int = field(default=1024, kw_only=True)

    def order(
        self,
        cycle: tuple[BatchShape, ...],
        seed: int,
        rank: int,
        world_size: int,
        max_batches: int | None,
    ) -> TrainOrder:
        """The order of training; that of a list if the buffer holds all records, or if classes are
        drawn equally often. Arguments as of `TrainOrder`."""
        arguments = (cycle, seed, rank, world_size, max_batches)
        if self.balanced or self.repeats > 1 or self.shuffle_buffer >= len(self.records):
            return super().order(*arguments)
        return ShardOrder(len(self.records), *arguments, self.starts, self.shuffle_buffer)


@register("dataset", ignores=AUDIO_IGNORED | {"suffix": "the shards name their files"})
@dataclass(frozen=True)
class WebDataset:
    """Samples in tar shards: videos, frames, audio files or `.npy` features.

    Args:
        file_path: shards as `train-{000000..000099}.tar`, a glob, a folder, a list, or one shard.
        data_prefix: folder that the paths in a list of shards are relative to.
        media: which file of a sample is used, by its kind (mp4, wav, npy, ...); `frames` for its
            images; `features` for its files NAME.npy, which FeatureDecoder takes. None: the video,
            otherwise the frames, otherwise several features, otherwise the first other file.
        shuffle_buffer: in training, the number of records over which the order is shuffled, after
            the order of the shards. Reading is nearly sequential where it is small.
        max_failures: samples that may fail in training: below 1 a share of them, else a count.
        on_error: as in VideoDataset.
        multi_label: a sample has any number of labels: `labels` in its .json, or `3,17` in its
            .cls. Set DATASET.multi_label for all splits.
    """

    file_path: str
    data_prefix: str | None = None
    media: str | None = None
    shuffle_buffer: int = 1024
    max_failures: float | int = 0.01
    on_error: Literal["replace", "fail", "skip"] | None = None
    multi_label: bool = False

    def __post_init__(self):
        check_max_failures(self.max_failures)
        check_shuffle_buffer(self.shuffle_buffer)

    def load(self, class_names: list[str] | None = None) -> TarList:
        """The records.

        Args:
            class_names: name of each class id, if another split or a file defines them.

        Raises:
            DatasetError: no shards or samples, files that are no shards, or wrong labels.
        """
        shards = find_tars(self.file_path, self.data_prefix)
        parts = samples_of_shards(shards)
        pairs = [(shard, s) for shard, part in zip(shards, parts, strict=True) for s in part]
        if not pairs:
            raise _no_samples(self.file_path, len(shards))
        problems = Problems(shown(self.file_path))
        rows = list(_rows(pairs, problems, self.multi_label))
        problems.stop()
        labeled = with_label_lists([row for row in rows if row is not None], self.multi_label)
        ids, class_names = label_ids(labeled, problems, class_names)
        problems.stop()
        following = iter(labeled)
        records = [
            _record(shard, sample, self.media, next(following) if row is not None else None, ids)
            for (shard, sample), row in zip(pairs, rows, strict=True)
        ]
        starts = [0]
        for part in parts:
            starts.append(starts[-1] + len(part))
        return TarList(
            records, class_names, starts=tuple(starts), shuffle_buffer=self.shuffle_buffer
        )


def tar_records(file_path: str, media: str | None = None) -> list[Record]:
    """The records of shards without their labels, to predict them; arguments as of WebDataset.

    Raises:
        DatasetError: no shards or samples, or files that are no shards.
    """
    shards = find_tars(file_path)
    parts = samples_of_shards(shards)
    records = [
        _record(shard, sample, media, _span_row(sample), {})
        for shard, part in zip(shards, parts, strict=True)
        for sample in part
    ]
    if not records:
        raise _no_samples(file_path, len(shards))
    return records


def _no_samples(file_path: str, num_shards: int) -> DatasetError:
    expected = "the files in it need names such as KEY.mp4 and KEY.cls (docs/shards.md)"
    return DatasetError(f"{shown(file_path)}: no samples in {num_shards} shard(s); {expected}")


# --- a sample becomes a record --------------------------------------------------------------------


def _rows(
    pairs: Iterable[tuple[str, TarSample]], problems: Problems, multi_label: bool
) -> Iterator[Row | None]:
    """The row of each sample, with its number as the line; None for one that fails anyway and has
    no label."""
    for number, (shard, sample) in enumerate(pairs, 1):
        where = f"{shown(shard)}@{readable(sample.key)}"
        has_label = "label" in sample.label or "labels" in sample.label
        if sample.problem and (sample.label_problem or not has_label):
            yield None
            continue
        try:
            if sample.label_problem:
                raise ValueError(sample.label_problem)
            if not has_label:
                raise ValueError("no label; the sample needs a .cls or a .json with label")
            yield _labeled_row(number, where, sample, multi_label)
        except ValueError as error:
            problems.add(0, f"{where}: {error}")


def _labeled_row(number: int, where: str, sample: TarSample, multi_label: bool) -> Row:
    """
    Raises:
        ValueError: a value of the sample's label is missing or wrong.
    """
    values = {**sample.label, "path": where}
    if multi_label and isinstance(values.get("label"), str) and "," in values["label"]:
        values["labels"] = values.pop("label").split(",")
    if sample.frames is None and not any(kind.endswith("npy") for kind in sample.media):
        # A number of frames is of interest for files without a video's clock.
        values.pop("num_frames", None)
    return row_of_dict(number, values, "num_frames" in values, multi_label)


def _span_row(sample: TarSample) -> Row | None:
    """The part of the video that a sample without a label names; None where that is wrong."""
    try:
        return row_of_dict(1, {**sample.label, "path": sample.key, "label": "0"}, False, False)
    except ValueError:
        return None


def _record(
    shard: str, sample: TarSample, media: str | None, row: Row | None, ids: dict[str, int]
) -> Record:
    path, problem = _path(shard, sample, media)
    name = sample.label.get("path")
    labels = None
    if row is not None and row.labels is not None and ids:
        labels = tuple(sorted(ids[text] for text in row.labels))
    is_frames = not problem and _chosen(sample, media) == FRAMES
    return Record(
        path=path,
        label=ids.get(row.label) if row is not None and row.labels is None else None,
        id=name if isinstance(name, str) else sample.key,
        num_frames=_num_frames(sample, row, is_frames),
        start_sec=row.start_sec if row is not None else None,
        end_sec=row.end_sec if row is not None else None,
        frame_pattern=FRAME_PATTERN if is_frames else None,
        labels=labels,
        source=row.source if row is not None else None,
        problem=problem,
    )


def _num_frames(sample: TarSample, row: Row | None, is_frames: bool) -> int | None:
    if row is not None and row.num_frames is not None:
        return row.num_frames
    return sample.frames[2] if is_frames and sample.frames else None


def _path(shard: str, sample: TarSample, media: str | None) -> tuple[str, str]:
    """(the path of the file or frames to use, why there is none or "")."""
    nothing = str(TarPath(shard, 0, 0, f"{sample.key}.none"))
    if sample.problem:
        return nothing, sample.problem
    kind = _chosen(sample, media)
    if kind is None:
        held = [*sample.media, *([FRAMES] if sample.frames else [])]
        return nothing, f"no {media} in it, only {', '.join(held)}"
    several = {FRAMES: sample.frames, FEATURES: sample.features}.get(kind)
    if several:
        start, size, _ = several
        return str(TarPath(shard, start, size, sample.key)), ""
    offset, size = sample.media[kind]
    return str(TarPath(shard, offset, size, f"{sample.key}.{kind}")), ""


def _chosen(sample: TarSample, media: str | None) -> str | None:
    """The kind of file to use; None where the sample lacks it."""
    kinds: Sequence[str] = list(sample.media)
    if media is not None:
        wanted = media.lower().removeprefix(".")
        if wanted == FRAMES:
            return FRAMES if sample.frames else None
        if wanted == FEATURES:
            return FEATURES if sample.features else None
        fitting = (kind for kind in kinds if wanted in (kind, kind.rpartition(".")[2]))
        return next(fitting, None)
    videos = (kind for kind in kinds if f".{kind.rpartition('.')[2]}" in VIDEO_SUFFIXES)
    video = next(videos, None)
    if video or sample.frames:
        return video or FRAMES
    has_several = sample.features is not None and sample.features[2] > 1
    return FEATURES if has_several else next(iter(kinds), None)
