"""valid_best.json: class counts and hardest clips of the best validation."""

import json

import numpy as np
import pytest

from paddlevideo.engine import best_validation
from paddlevideo.engine.best_validation import HardestClips, count_labels
from paddlevideo.engine.evaluate import Scored, cross_entropy_of
from paddlevideo.report import run_facts
from paddlevideo.sample import Record
from tests.parts.report.run_folders import LABELS, LOGITS, NASTY, make_run, write_best


@pytest.fixture
def content(tmp_path):
    write_best(make_run(tmp_path), NASTY, LABELS, LOGITS)
    return json.loads((tmp_path / "valid_best.json").read_text())


def test_writes_the_counts_of_the_metric(content):
    assert content["samples"] == [3, 2, 2, 1] and content["train_samples"] == [2, 12, 22, 32]
    cells = [(0, 0, 1), (0, 1, 2), (1, 1, 2), (2, 0, 1), (2, 2, 1), (3, 3, 1)]
    assert sorted(map(tuple, content["confusion"])) == cells
    assert content["class_names"] == NASTY and content["headline"] == ["top1", "top1 acc"]


def test_writes_the_hardest_clips_first(content):
    hardest = content["worst"]
    numbers = [row["path"].removesuffix(".mp4")[-1] for row in hardest[:3]]
    assert numbers == ["1", "2", "6"], "of equal losses, the first in the list comes first"
    loss = np.log(np.exp(LOGITS[1]).sum()) - LOGITS[1][0]
    first = hardest[0]
    assert first["loss"] == pytest.approx(loss, rel=1e-5) and first["labels"] == [0]
    assert first["label_scores"] == [pytest.approx(np.exp(-loss), rel=1e-5)]
    assert first["classes"][0] == 1 and sum(first["scores"]) == pytest.approx(1, rel=1e-4)


def test_merges_the_hardest_clips_of_all_ranks():
    logits = np.random.default_rng(0).standard_normal((50, 3))
    losses = [cross_entropy_of(row, 0) for row in logits]
    ranks = [HardestClips(7), HardestClips(7)]
    for index, row in enumerate(logits):
        ranks[index % 2].add(Scored(Record(str(index)), index, np.int64(0), "", row))
    ranks[0].merge([rank.state() for rank in ranks])
    assert [int(row["path"]) for row in ranks[0].rows] == np.argsort(losses)[::-1][:7].tolist()


def test_ranks_a_clip_with_nan_first():
    hardest = HardestClips(2)
    hardest.add(Scored(Record("a"), 0, np.int64(0), "", np.array([-1e9, 0.0, 0.0])))
    hardest.add(Scored(Record("nan"), 1, np.int64(0), "", np.full(3, np.nan)))
    hardest.merge([hardest.state()])
    row = hardest.rows[0]
    assert row["path"] == "nan" and row["loss"] is None
    assert row["label_scores"] == [None] and row["scores"] == [None] * 3


def test_ignores_clips_without_a_label():
    hardest = HardestClips(2)
    hardest.add(Scored(Record("a"), 0, np.int64(-1), "", np.zeros(3)))
    assert hardest.state() == []


def test_cross_entropy_of_multi_hot_targets():
    logits, labels = np.array([2.0, -1.0, 0.5]), np.array([1, 0, 1])
    p = 1 / (1 + np.exp(-logits))
    expected = -(np.log(p[0]) + np.log(1 - p[1]) + np.log(p[2]))
    assert cross_entropy_of(logits, labels) == pytest.approx(expected)


def test_counts_labels_of_lists_only():
    records = [Record("a", 1), Record("b"), Record("c", -1), Record("d", labels=(0, 1))]
    assert count_labels(records, 3) == [1, 2, 0]
    assert count_labels(tuple(records), 3) is None and count_labels([Record("b")], 3) is None


def test_agrees_with_the_report_on_the_file():
    own = best_validation.FILE, best_validation.VERSION
    assert own == (run_facts.BEST_VALIDATION, run_facts.VERSION)
