"""YouTube-8M: frame features of videos in shards, as a data set.

    DATASET:
      train: {format: YouTube8MDataset, file_path: data/yt8m/train.list}
    PIPELINE:
      train: {decode: {name: FeatureDecoder}}

pipeline.py reads the records of the shards.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.datasets import IGNORED, RecordList, check_max_failures
from paddlevideo.data.youtube8m.find import PICKLES, find_shards
from paddlevideo.data.youtube8m.shards import (
    ShardOrder,
    ShardRecords,
    check_shuffle_buffer,
    index_name,
    index_shards,
)
from paddlevideo.sample import BatchShape


@dataclass(frozen=True)
class ShardList(RecordList):
    """The records of shards. The shards hold their labels, which are checked when they are read."""

    records: ShardRecords  # type: ignore[assignment]
    shuffle_buffer: int = 1 << 14

    @property
    def max_label(self) -> int:
        """-1: labels are unknown until records are read."""
        return -1

    def order(
        self,
        cycle: tuple[BatchShape, ...],
        seed: int,
        rank: int,
        world_size: int,
        max_batches: int | None,
    ) -> ShardOrder:
        """The order of training; see `TrainOrder` for the arguments."""
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
    """Frame features in TFRecord files of SequenceExamples, or in pickles of PaddleCV's converter.

    Args:
        file_path: a list of shards, a folder, a glob or one shard; see shards.py.
        data_prefix: folder that the paths in a list are relative to, as in VideoDataset.
        shuffle_buffer: in training, the number of records over which the order is shuffled.
        index_file: where the locations of the records are kept; None: next to the list, in the
            folder, or, for a URL, in the cache.
        max_failures: videos that may fail in training: below 1 a fraction of them, else a count.
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
        check_shuffle_buffer(self.shuffle_buffer)

    def load(self, class_names: list[str] | None = None) -> ShardList:
        """The records.

        Raises:
            DatasetError: there is nothing, or files are not shards; the message names all of them.
        """
        paths = find_shards(self.file_path, self.data_prefix)
        records = index_shards(paths, self.index_file or index_name(self.file_path))
        buffer = self.shuffle_buffer
        # A pickle is held in memory completely, so records of few pickles are mixed at a time.
        if any(path.lower().endswith(PICKLES) for path in paths):
            buffer = min(buffer, int(np.diff(records.starts).max()))
        return ShardList(records, class_names, buffer)
