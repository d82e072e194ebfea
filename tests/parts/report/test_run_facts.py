"""Facts are read from the folder of a run; conclusions follow from them."""

import json

import pytest

from paddlevideo.report.conclusions import (
    class_results,
    confused_pairs,
    most_confused,
    remarks,
    time_parts,
    waiting_share,
)
from paddlevideo.report.run_facts import (
    RunFacts,
    parse_header,
    read_durations,
    read_metrics,
    read_run,
)
from tests.parts.report.run_folders import LABELS, LOGITS, NASTY, make_run, write_best


@pytest.fixture
def run(tmp_path):
    folder = make_run(tmp_path / "run")
    write_best(folder, NASTY, LABELS, LOGITS)
    return folder


# --- facts --------------------------------------------------------------------------------------


def test_parses_the_header_of_run_yaml():
    comments = [
        "The resolved config of a run. To repeat it: a",
        "from: b: c",
        "ranks: 2; git: d; python 3",
        "no colon",
    ]
    expected = {"to repeat it": "a", "from": "b: c", "ranks": "2", "git": "d"}
    assert parse_header(comments) == {**expected, "versions": "python 3"}


def test_rejects_folders_without_metrics(tmp_path):
    with pytest.raises(FileNotFoundError, match="output folder of a training run"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged, not JSON"),
        ("[]", "version None, expected 1"),
        ('{"version": 7}', "version 7, expected 1"),
    ],
)
def test_rejects_a_damaged_best_validation(run, text, message):
    (run / "valid_best.json").write_text(text)
    with pytest.raises(ValueError, match=message + ".*without classes"):
        read_run(run)


def test_rejects_a_damaged_config(run):
    (run / "run.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"run\.yaml: not YAML"):
        read_run(run)


def test_reads_durations_of_checked_data(run, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "check.json").write_text(json.dumps({"faults": {"truncated": 2}}))
    rows = "a,0,,,50,25\nb,0,1.0,8.0,500,25\nc,0,,,0,0\n"
    (data / "train.csv").write_text("path,label,start_sec,end_sec,frames,fps\n" + rows)
    make_run(run, DATASET={"train": {"file_path": str(data / "train.csv")}})
    facts = read_run(run)
    assert facts.check == {"faults": {"truncated": 2}}
    assert sum(count for _, count in facts.durations) == 2, "the third duration is unknown"


def test_the_frames_of_a_part_are_its_duration(tmp_path):
    rows = "a,30.0,,50,25\nb,1.5,4.0,50,25\nc,,2.0,50,25\nd,,,50,25\n"
    (tmp_path / "train.csv").write_text("path,start_sec,end_sec,frames,fps\n" + rows)
    assert read_durations(tmp_path / "train.csv") == [2.0, 2.5, 2.0, 2.0]


@pytest.mark.parametrize("line", ["hello", "5", "null", "[1]", '{"epoch": 1}'])
def test_rejects_a_line_that_is_no_row(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"split": "train"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2: not a line of JSON"):
        read_metrics(tmp_path)


def test_rejects_damaged_files_of_check_data(run, tmp_path):
    make_run(run, DATASET={"root": str(tmp_path)})
    (tmp_path / "check.json").write_text("[]")
    with pytest.raises(ValueError, match=r"check\.json holds a list, expected an object"):
        read_run(run)
    (tmp_path / "check.json").write_text("{}")
    (tmp_path / "train.csv").write_text("path,label,frames,fps\na,0,many,25\n")
    with pytest.raises(ValueError, match=r"files of check_data cannot be read .*run it again"):
        read_run(run)


# --- conclusions --------------------------------------------------------------------------------


def test_orders_classes_from_worst_to_best(run):
    results = class_results(read_run(run))
    counts = [(result.class_id, result.num_correct, result.num_clips) for result in results]
    assert counts == [(0, 1, 3), (2, 1, 2), (1, 2, 2), (3, 1, 1)]
    assert results[0].confused_with == f"{NASTY[1]} (2)" and results[0].num_training == 2


def test_lists_the_most_frequent_confusion_first(run):
    first = confused_pairs(read_run(run))[0]
    assert first == (NASTY[0], NASTY[1], 2, pytest.approx(2 / 3))


def test_splits_the_time(run):
    facts = read_run(run)
    assert waiting_share(facts.rows) == pytest.approx(0.25)
    parts = {"computing": 15.0, "waiting for data": 5.0, "validating": 2.0}
    assert dict(time_parts(facts)) == pytest.approx(parts)
    facts.rows = {"train": [], "epoch": [], "valid": [], "phase": []}
    assert time_parts(facts) == [] and waiting_share(facts.rows) is None


def test_remarks(run):
    facts = read_run(run)
    text = " ".join(remarks(facts))
    for part in (
        "waited for data 25% of the time",
        "The last validation is the best",
        "only 8 validation clips: one clip is 12.5 points",
        "between 2 and 32 training clips",
        f"The worst class is {NASTY[0]}: 1 of 3 clips correct, most often predicted as",
    ):
        assert part in text, part
    assert "the training score is 0.800 and the validation score 0.625: the model overfits" in text
    next(row for row in facts.rows["epoch"] if row["epoch"] == 3)["top1"] = 0.7
    assert "overfits" not in " ".join(remarks(facts))


@pytest.mark.parametrize(
    ("group_size", "counts"),
    [(1, [[1, 2, 0], [0, 3, 0], [1, 0, 4]]), (2, [[6, 0], [1, 4]]), (3, [[11]])],
)
def test_confusion_counts_neighboring_classes_together(tmp_path, group_size, counts):
    cells = [[0, 0, 1], [0, 1, 2], [1, 1, 3], [2, 0, 1], [2, 2, 4]]
    best = {"samples": [3, 3, 5], "confusion": cells}
    facts = RunFacts(tmp_path, {}, best)
    assert facts.confusion(group_size).tolist() == counts
    assert most_confused(cells) == {0: (1, 2), 2: (0, 1)}


def test_the_facts_of_many_classes_fit_in_memory(tmp_path):
    many = 100_000
    cells = [[k, (k * 7) % many, 1] for k in range(0, many, 10)]
    best = {
        "samples": [1] * many,
        "train_samples": None,
        "class_names": None,
        "confusion": cells,
        "headline": ["top1", "top1 acc"],
    }
    facts = RunFacts(tmp_path, {}, best)
    assert facts.confusion(250).shape == (400, 400) and facts.confusion(250).sum() == len(cells)
    assert len(class_results(facts)) == many
