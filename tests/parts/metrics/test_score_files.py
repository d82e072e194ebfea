"""Score files: what each writer writes is read back; files that hold no scores are rejected."""

import json
import os
import pickle
import re

import numpy as np
import pytest

from paddlevideo.metrics.fusion import FusionError
from paddlevideo.metrics.score_files import prediction_file, read_scores, write_scores

IDS = [f"clips/video {i}.mp4" for i in range(6)]
LABELS = [0, 1, 2, 0, 1, 2]


def make_scores(seed):
    """Probabilities of 6 videos and 3 classes, as lists."""
    values = np.random.default_rng(seed).uniform(0.01, 1, (6, 3))
    return (values / values.sum(axis=1, keepdims=True)).round(6).tolist()


def write_test(path, seed=0, ids=IDS, labels=LABELS, failed=(), names=("a", "b", "c")):
    """Write a file as `main.py --test --out` does; return its path as text."""
    results = []
    for video, label, row in zip(ids, labels, make_scores(seed), strict=True):
        scores = {"error": "cannot be decoded"} if video in failed else {"scores": row}
        results.append({"id": video, "path": video, "label": label, **scores})
    write_scores(path, results, {"num_samples": 6}, list(names) if names else None, 3)
    return str(path)


def write_predictions(path, seed=0, k=3):
    """Write a file as `tools/predict.py --save_json` does; return its path as text."""
    with prediction_file(path) as write:
        for video, row in zip(IDS, make_scores(seed), strict=True):
            best = sorted(range(3), key=lambda c, row=row: -row[c])[:k]
            scores, names = [row[c] for c in best], [str(c) for c in best]
            content = {"class_ids": best, "scores": scores, "label_names": names}
            write({"input_path": video, **content})
    return str(path)


# --- writing ------------------------------------------------------------------------------------


def test_writes_the_json_of_a_test(tmp_path):
    results = [
        {"id": "é", "path": "a/é.mp4", "label": 1, "scores": [0.25, 0.75]},
        {"id": "b", "path": "b", "label": 0, "error": "truncated"},
    ]
    write_scores(tmp_path / "s.json", results, {"top1": 0.5}, ["x", "y"], 2)
    content = {"numbers": {"top1": 0.5}, "class_names": ["x", "y"], "results": results}
    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    assert text == json.dumps(content, ensure_ascii=False, indent=1)


def test_writes_the_npz_of_a_test(tmp_path):
    write_test(tmp_path / "s.npz", failed=IDS[2:3])
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays.files == ["id", "scores", "label"]
        assert arrays["id"].tolist() == IDS and arrays["label"].tolist() == LABELS
        assert arrays["scores"].dtype == np.float64 and arrays["label"].dtype == np.int64
        assert np.isnan(arrays["scores"]).all(axis=1).tolist() == [video == IDS[2] for video in IDS]


def test_writes_the_npz_of_a_multi_label_test(tmp_path):
    results = [
        {"id": "a", "path": "a", "labels": [3], "classes": [3, 1], "scores": [0.75, 0.5]},
        {"id": "b", "path": "b", "labels": [], "error": "truncated"},
    ]
    write_scores(tmp_path / "s.npz", results, {}, None, 2, multi_label=True)
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays.files == ["id", "scores", "classes"]
        assert arrays["classes"].tolist() == [[3, 1], [-1, -1]]
        np.testing.assert_array_equal(arrays["scores"], [[0.75, 0.5], [np.nan, np.nan]])


def test_writes_predictions(tmp_path):
    scored = {"input_path": "a", "id": "id1", "class_ids": [4, 0], "scores": [0.75, 0.1234567]}
    plain = {"input_path": "b, c", "class_ids": [1], "scores": [1e-7]}
    failed = {"input_path": "d", "error": "damaged"}
    for suffix in (".json", ".jsonl", ".csv"):
        with prediction_file(tmp_path / f"p{suffix}") as write:
            for prediction in (scored, plain, failed):
                write(prediction)
    csv_text = 'VideoId,LabelConfidencePairs\nid1,4 0.75 0 0.123457\n"b, c",1 1e-07\n'
    assert (tmp_path / "p.csv").read_text() == csv_text
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [scored, plain, failed]
    assert json.loads((tmp_path / "p.json").read_text()) == [scored, plain, failed]
    with prediction_file(tmp_path / "empty.json"):
        pass
    assert (tmp_path / "empty.json").read_text() == "[]\n"


def test_rejects_other_suffixes_for_predictions(tmp_path):
    with (
        pytest.raises(ValueError, match=r"p\.txt: .*ends in \.json, \.jsonl, \.csv"),
        prediction_file(tmp_path / "p.txt"),
    ):
        pass


def test_leaves_no_file_when_writing_predictions_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), prediction_file(tmp_path / "p.json") as write:
        write({"input_path": "a", "error": "damaged"})
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_reads_a_test(tmp_path, suffix):
    scores = read_scores(write_test(tmp_path / f"scores{suffix}", failed=IDS[2:3]))
    assert scores.ids == IDS and scores.labels.tolist() == LABELS
    expected = np.array(make_scores(0))
    expected[2] = np.nan
    np.testing.assert_array_equal(scores.values, expected)
    assert scores.class_names == (["a", "b", "c"] if suffix == ".json" else None)


def test_reads_predictions(tmp_path):
    scores = read_scores(write_predictions(tmp_path / "p.json"))
    assert scores.ids == IDS and scores.labels is None
    np.testing.assert_array_equal(scores.values, make_scores(0))


def test_reads_failed_predictions_as_nan(tmp_path):
    with prediction_file(tmp_path / "p.json") as write:
        write({"input_path": "x.mp4", "class_ids": [1, 0], "scores": [0.7, 0.3]})
        write({"input_path": "y.mp4", "error": "damaged"})
    values = read_scores(tmp_path / "p.json").values
    np.testing.assert_array_equal(values, [[0.3, 0.7], [np.nan, np.nan]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reads_plain_pickles(tmp_path, dtype, protocol):
    rows = np.array(make_scores(0), dtype)
    for content in (list(rows), rows, rows.tolist()):
        (tmp_path / "s.pkl").write_bytes(pickle.dumps(content, protocol))
        scores = read_scores(tmp_path / "s.pkl")
        assert scores.ids is None
        np.testing.assert_array_equal(scores.values, rows)
    assert scores.values.dtype == np.float64


def test_reads_plain_json(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps([[1, 2.5], [3, -4]]))
    np.testing.assert_array_equal(read_scores(tmp_path / "s.json").values, [[1, 2.5], [3, -4]])


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_never_runs_code_of_a_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.pkl").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(ValueError, match=r"s\.pkl: .*mkdir.*"):
        read_scores("s.pkl")
    objects = np.array([Evil()], object)
    np.savez(tmp_path / "s.npz", id=objects, label=np.zeros(1, int), scores=np.zeros((1, 2)))
    with pytest.raises(FusionError, match=r"s\.npz: not an \.npz file of plain arrays"):
        read_scores("s.npz")
    assert not (tmp_path / "executed").exists()


ROW = {"id": "v", "label": 0}
NAN = float("nan")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds nothing; expected"),
        ({}, "holds a JSON dict; expected a file that a test wrote with --out"),
        ("text", "holds a JSON str"),
        ([1, 2], "row 0 is a int"),
        ([[1, 2], [1]], "row 1 has 1 scores, row 0 has 2"),
        ([[]], "row 0 has 0 scores"),
        ([[1, "2"]], "row 0 holds values that are not numbers"),
        ([[1, None]], "row 0 holds values that are not"),
        ([[1, 2], [NAN, 2]], "the score of class 0 of row 1 is nan"),
        ([[1, float("inf")]], "the score of class 1 of row 0 is inf"),
        ({"results": []}, "no video in it has scores"),
        ({"results": [3]}, "result 0 has no 'id'"),
        ({"results": [{"label": 0, "scores": [1]}]}, "result 0 has no 'id'"),
        ({"results": [ROW]}, "'v' has neither scores nor an error"),
        ({"results": [ROW | {"error": "damaged"}]}, "no video in it"),
        ({"results": [ROW | {"label": "cat", "scores": [1]}]}, "the label of 'v' is 'cat'"),
        (
            {"results": [ROW | {"label": [1, 2], "scores": [1]}]},
            r"the label of 'v' is \[1, 2\]; expected one class id per video",
        ),
        (
            {"results": [{"id": "v", "labels": [1], "classes": [1, 0], "scores": [0.9, 0.1]}]},
            r"the label of 'v' is \[1\]; .*multi-label results cannot be fused",
        ),
        (
            {"results": [{"id": "v", "labels": [], "error": "x"}, ROW | {"scores": [1, 2]}]},
            r"the label of 'v' is \[\]; .*multi-label results cannot be fused",
        ),
        ({"results": [ROW | {"scores": 3}]}, "row 0 is a int"),
        ({"results": [ROW | {"scores": [1, NAN]}]}, "the score of class 1 of 'v' is nan"),
        ({"results": [ROW | {"scores": [NAN] * 2}]}, "all scores of 'v' are NaN"),
        (
            {"results": [ROW | {"scores": [1, 2]}], "class_names": ["a"]},
            "class_names holds 1 names, expected 2",
        ),
        (
            {"results": [ROW | {"scores": [1, 2]}], "class_names": 7},
            "class_names holds a int, expected 2",
        ),
        (
            [{"input_path": "v", "class_ids": [2, 0], "scores": [0.5, 0.2]}],
            "holds only the best 2 classes of 'v'.*--topk NUMBER_OF_CLASSES",
        ),
        (
            [{"input_path": "v", "class_ids": [0], "scores": [0.5, 0.2]}],
            "'v' has 1 class_ids and 2 scores",
        ),
        ([{"input_path": "v"}], "'v' has neither class_ids and scores nor an error"),
        ([{"path": "v"}], "result 0 has no 'input_path'"),
    ],
)
def test_rejects_json_without_scores(tmp_path, content, message):
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(FusionError, match=rf"s\.json: .*{message}"):
        read_scores(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "no such file"),
        ("cut.json", b"[[1, 2], [3", "not JSON, or truncated"),
        ("bytes.json", b"\xff\xfe\x00", "not JSON"),
        ("deep.json", b"[" * 100000, "not JSON, or truncated"),
        ("none.npz", None, "no such file"),
        ("text.npz", b"text", "not an .npz file"),
        ("cut.npz", b"PK\x03\x04" + bytes(40), "not an .npz file"),
        ("none.pkl", None, "no such file"),
        ("text.pkl", b"text", "."),
        ("dict.pkl", pickle.dumps({"a": 1}), "holds a dict"),
        (
            "one.pkl",
            pickle.dumps(np.zeros(3)),
            r"holds an array \[3\] of float64; expected numbers of shape \[videos, classes\]",
        ),
        ("ragged.pkl", pickle.dumps([np.zeros(3), np.zeros(2)]), "row 1 has 2 scores"),
        ("mixed.pkl", pickle.dumps([[1.0, 2.0], np.zeros(2)]), "row 1 holds values that are not"),
        ("text.pkl", pickle.dumps([np.array(["a", "b"])]), "."),
        ("scores.csv", b"1,2", "expected a score file: .json, .npz or .pkl"),
    ],
)
def test_rejects_files_without_scores(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: .*{message}"):
        read_scores(tmp_path / name)


def test_rejects_npz_with_other_arrays(tmp_path):
    np.savez(tmp_path / "s.npz", other=np.zeros(1))
    with pytest.raises(FusionError, match="lacks the array 'id'; its arrays are: other"):
        read_scores(tmp_path / "s.npz")
    ids, labels, scores = np.array(["a"]), np.zeros(2, int), np.zeros((2, 3))
    np.savez(tmp_path / "s.npz", id=ids, label=labels, scores=scores)
    with pytest.raises(FusionError, match=r"id has shape \[1\], label \[2\] .*expected \[2\]"):
        read_scores(tmp_path / "s.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 1_100_000, "holds mostly empty lists or dicts"),
        ("[" + "{}," * 1_400_000 + "{}]", "holds mostly empty lists or dicts"),
        ("[" * 100_000, "not JSON, or truncated"),
        (f"[[{'9' * 5000}]]", "not JSON, or truncated"),
        (f"[[{'9' * 400}, 1]]", "a number in it is too large"),
        (
            '{"results": [{"id": "a", "label": 99999999999999999999, "scores": [1, 2]}]}',
            "a number in it is too large",
        ),
    ],
)
def test_rejects_hostile_json(tmp_path, content, message):
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(FusionError, match=message) as raised:
        read_scores(path)
    assert len(str(raised.value)) < 500


def test_rejects_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "s.json")
    with pytest.raises(FusionError, match="cannot be read: a FIFO, expected a regular file"):
        read_scores(tmp_path / "s.json")
