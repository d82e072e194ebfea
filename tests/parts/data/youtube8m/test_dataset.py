"""Data sets of shards: the order of their records, and equal samples for any workers and ranks."""

import numpy as np
import pytest

from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.youtube8m.dataset import YouTube8MDataset
from paddlevideo.data.youtube8m.shards import ShardOrder
from paddlevideo.sample import BatchShape
from tests.parts.data.youtube8m.shard_files import PIPELINE, load, write_three_shards


@pytest.fixture
def three(tmp_path):
    """A folder of three shards with 4, 1 and 3 videos."""
    return write_three_shards(tmp_path)


def test_makes_the_order_of_its_shards(three):
    assert load(three).max_label == -1 and load(three).class_names is None
    order = load(three, shuffle_buffer=2).order((BatchShape(2),), 7, 1, 2, None)
    assert isinstance(order, ShardOrder) and len(order) == 2
    assert order.starts == (0, 4, 5, 8) and order.shuffle_buffer == 2
    with pytest.raises(ValueError, match="shuffle_buffer is 0, expected at least 1"):
        YouTube8MDataset("x", shuffle_buffer=0)


def test_gives_equal_samples_for_any_workers_ranks_and_resume(three):
    found = load(three)

    def loaded(workers, start=0, **rank):
        dataset = ClipDataset(found.records, PIPELINE, seed=1, replace=True)
        loader = Loader(
            dataset,
            found.order((BatchShape(2),), 1, rank.get("rank", 0), rank.get("world_size", 1), None),
            workers,
        )
        try:
            return [batch.batch for batch in loader.epoch(2, start)]
        finally:
            loader.close()

    plain = loaded(0)
    shapes = {"rgb": (2, 5, 6), "audio": (2, 5, 3), "label": (2, 10)}
    shapes |= dict.fromkeys(("num_frames", "id", "index"), (2,))
    assert len(plain) == 4
    assert {key: array.shape for key, array in plain[0].items()} == shapes
    for other in (loaded(2), [*plain[:2], *loaded(0, start=2)]):
        for batch, other_batch in zip(plain, other, strict=True):
            assert all(np.array_equal(batch[key], other_batch[key]) for key in batch)
    ranks = [loaded(1, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(x for part in ranks for batch in part for x in batch["id"].tolist()) == sorted(
        x for batch in plain for x in batch["id"].tolist()
    )


def test_a_test_reads_all_records_in_order(three):
    dataset = ClipDataset(load(three).records, PIPELINE)
    ids = [
        x for batch in Loader(dataset, EvalOrder(8, 3)).epoch(0) for x in batch.batch["id"].tolist()
    ]
    assert ids == [b"a-0", b"a-1", b"a-2", b"a-3", b"b-0", b"c-0", b"c-1", b"c-2"]
