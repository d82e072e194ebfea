"""Classes of different sizes: balanced sampling and class weights."""

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.datasets import RecordList
from paddlevideo.data.loader import ClipDataset
from paddlevideo.data.orders import BalancedOrder, TrainOrder
from paddlevideo.engine.class_weights import class_weights, training_records
from paddlevideo.engine.classes import load_records
from paddlevideo.losses import cross_entropy, mixed_cross_entropy, sigmoid_cross_entropy
from paddlevideo.sample import BatchShape, Draw, Record


def records_of(counts):
    return [
        Record(f"{label}/{n}", label) for label, count in enumerate(counts) for n in range(count)
    ]


def balanced(counts, **arguments):
    labels = tuple(record.label for record in records_of(counts))
    return BalancedOrder(len(labels), (BatchShape(4),), **arguments, labels=labels)


def test_draws_every_class_equally_often():
    order = balanced((20, 3, 5))
    assert len(order) == len(TrainOrder(28, (BatchShape(4),))) == 7
    for epoch in range(3):
        draws = [draw for batch in order.batches(epoch) for draw in batch]
        counts = np.bincount([order.labels[draw.index] for draw in draws])
        assert sorted(counts) == [9, 9, 10]
        assert len({(draw.index, draw.repeat) for draw in draws}) == 28, "no clip is drawn twice"
        rare = [draw for draw in draws if order.labels[draw.index] == 1]
        assert {draw.index for draw in rare} == {20, 21, 22}
        assert max(draw.repeat for draw in rare) == (len(rare) - 1) // 3
    assert list(order.batches(1)) == list(balanced((20, 3, 5)).batches(1)) != list(order.batches(2))
    frequent = {
        draw.index
        for epoch in range(8)
        for batch in order.batches(epoch)
        for draw in batch
        if draw.index < 20
    }
    assert frequent == set(range(20)), "epochs draw different records of a frequent class"


@pytest.mark.parametrize("balance", [False, True])
def test_a_short_list_is_drawn_several_times_as_a_whole(balance):
    records = RecordList(records_of((3, 3)), balanced=balance, repeats=3)
    order = records.order((BatchShape(4),), 0, 0, 1, None)
    draws = [draw for batch in order.batches(0) for draw in batch]
    assert len(order) == 4 and len({(draw.index, draw.repeat) for draw in draws}) == 16
    assert all(0 <= draw.index < 18 for draw in draws)
    counts = np.bincount([draw.index % 6 for draw in draws], minlength=6)
    assert counts.max() <= 3 and counts.min() >= 1


def test_min_epoch_clips(demo, caplog):
    caplog.set_level("INFO")
    cfg = demo("DATASET.min_epoch_clips=20")
    records = RecordList(records_of((3, 4)))
    repeated = training_records(cfg, records)
    assert (repeated.repeats, repeated.records) == (3, records.records)
    assert "draws each of 7 training records 3 times (DATASET.min_epoch_clips: 20)" in caplog.text
    assert training_records(cfg, RecordList(records_of((10, 10)))).repeats == 1
    shards = RecordList(range(5))
    with pytest.raises(ConfigError, match="min_epoch_clips does not repeat shards"):
        training_records(cfg, shards)


def test_ranks_share_the_batches_of_one_rank():
    labels = (0,) * 12 + (1,) * 4
    alone = BalancedOrder(16, (BatchShape(4),), labels=labels)
    parts = [
        BalancedOrder(16, (BatchShape(2),), rank=rank, world_size=2, labels=labels).batches(2)
        for rank in (0, 1)
    ]
    together = [set(a) | set(b) for a, b in zip(*parts, strict=True)]
    assert together == [set(batch) for batch in alone.batches(2)]


def test_a_repeat_is_another_clip_of_the_record():
    class RandomPipeline:
        def __call__(self, record, rng):
            return {"frames": rng.integers(1 << 30, size=1)}

        def shaped(self, shape):
            return self

    dataset = ClipDataset(records_of((2,)), RandomPipeline(), seed=3)
    clips = [dataset.sample(0, Draw(1, None, repeat))[0]["frames"][0] for repeat in (0, 1, 2)]
    assert len(set(clips)) == 3
    first = np.random.default_rng((3, 0, 1, 0)).integers(1 << 30, size=1)[0]
    assert clips[0] == first, "the first clip is the same as without balanced sampling"


def test_balanced_sampling_needs_one_class_per_record(small):
    cfg = small("DATASET.sampling=class_balanced")
    lists, _ = load_records(cfg, ("train",))
    records = training_records(cfg, lists["train"])
    assert isinstance(records.order((BatchShape(3),), 0, 0, 1, None), BalancedOrder)
    message = "class_balanced needs one class for each record; use LOSS.class_weights"
    with pytest.raises(ConfigError, match=message):
        training_records(cfg, type(records)([Record("a", labels=(0, 1))]))


def test_class_weights_from_counts_numbers_and_names(demo):
    records = records_of((6, 3, 0))
    weights = class_weights(demo("LOSS.class_weights=balanced"), records, 3, None, False)
    np.testing.assert_allclose(weights, [9 / (2 * 6), 9 / (2 * 3), 1])
    assert np.mean([weights[record.label] for record in records]) == pytest.approx(1)
    assert class_weights(demo(), records, 3, None, False) is None
    weights = class_weights(demo("LOSS.class_weights=[1, 2, 0.5]"), records, 3, None, False)
    assert weights.tolist() == [1, 2, 0.5]
    weights = class_weights(demo("LOSS.class_weights={b: 3}"), records, 3, list("abc"), False)
    assert weights.tolist() == [1, 3, 1]
    records = [Record("x", labels=labels) for labels in ((0, 1), (0,), (0,), ())]
    weights = class_weights(demo("LOSS.class_weights=balanced"), records, 3, None, True)
    assert weights.tolist() == pytest.approx([1 / 3, 3, 1])


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ("[1, 2]", "LOSS.class_weights has 2 numbers, there are 3 classes"),
        ("{jmp: 2}", "there is no class 'jmp'; did you mean 'jump'"),
        ("[1, 2, -1]", "-1.0 of class 2, expected a number above 0"),
        ("{run: much}", "'much' of class 0, expected a number above 0"),
    ],
)
def test_rejects_class_weights_that_do_not_fit(demo, weights, problem):
    cfg = demo(f"LOSS.class_weights={weights}")
    with pytest.raises(ConfigError, match=problem):
        class_weights(cfg, [], 3, ["run", "jump", "row"], False)


def test_losses_apply_class_weights():
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((4, 3)).astype(np.float32)
    labels, weights = np.array([0, 2, 2, 1]), np.float32([0.5, 2, 4])
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = 0.1 / 3 + np.eye(3)[labels] * 0.9
    expected = (weights[labels] * -(smooth * log_p).sum(1)).mean()
    tensors = [paddle.to_tensor(a) for a in (logits, labels, weights)]
    assert float(cross_entropy(*tensors[:2], 0.1, tensors[2])) == pytest.approx(expected, rel=1e-5)
    unweighted = float(cross_entropy(*tensors[:2], 0.1))
    with_ones = float(cross_entropy(*tensors[:2], 0.1, paddle.ones([3])))
    assert with_ones == pytest.approx(unweighted, rel=1e-6)
    other = paddle.to_tensor(labels[::-1].copy())
    mixed = mixed_cross_entropy(tensors[0], tensors[1], other, 0.3, 0.1, tensors[2])
    targets = (tensors[1], other)
    parts = [float(cross_entropy(tensors[0], target, 0.1, tensors[2])) for target in targets]
    assert float(mixed) == pytest.approx(0.3 * parts[0] + 0.7 * parts[1], rel=1e-5)

    multi_hot = np.float32([[1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]])
    p = 1 / (1 + np.exp(-logits))
    expected = -(weights * multi_hot * np.log(p) + (1 - multi_hot) * np.log(1 - p)).sum() / 4
    loss = sigmoid_cross_entropy(tensors[0], paddle.to_tensor(multi_hot), tensors[2])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
