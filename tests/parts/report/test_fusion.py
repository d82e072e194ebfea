"""Score files are read whatever wrote them, refused where they are none, and reported as text, picture and file."""

import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from paddlevideo.engine.build import Classes
from paddlevideo.engine.evaluate import Evaluation
from paddlevideo.engine.score_files import write_scores
from paddlevideo.metrics.fusion import FusionError
from paddlevideo.predict.results import Result, write_results
from paddlevideo.report.fusion import report_accuracy
from paddlevideo.report.score_files import read_list, read_scores

IDS = [f"clips/video {i}.mp4" for i in range(6)]
LABELS = [0, 1, 2, 0, 1, 2]


def rows_of(seed):
    values = np.random.default_rng(seed).uniform(0.01, 1, (6, 3))
    return (values / values.sum(axis=1, keepdims=True)).round(6).tolist()


def from_test(path, seed=0, ids=IDS, labels=LABELS, failed=(), names=("a", "b", "c")):
    """A file as main.py --test --out writes it."""
    rows = []
    for video, label, row in zip(ids, labels, rows_of(seed), strict=True):
        rest = {"error": "cannot be decoded"} if video in failed else {"scores": row}
        rows.append({"id": video, "path": video, "label": label, **rest})
    write_scores(
        str(path),
        Evaluation({"num_samples": 6}, rows=rows),
        Classes(3, list(names) if names else None),
    )
    return str(path)


def from_prediction(path, seed=0, k=3):
    """A file as tools/predict.py --save_json writes it, best classes first."""
    results = []
    for video, row in zip(IDS, rows_of(seed), strict=True):
        best = sorted(range(3), key=lambda c, row=row: -row[c])[:k]
        results.append(Result(video, best, [row[c] for c in best], [str(c) for c in best]))
    write_results(path, results)
    return str(path)


def listed(path, middle=""):
    path.write_text(
        "".join(f"{video}{middle} {label}\n" for video, label in zip(IDS, LABELS, strict=True))
    )
    return str(path)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_what_a_test_wrote(tmp_path, suffix):
    scores = read_scores(from_test(tmp_path / f"scores{suffix}", failed=IDS[2:3]))
    assert scores.ids == IDS and scores.labels.tolist() == LABELS
    expected = np.array(rows_of(0))
    expected[2] = np.nan
    np.testing.assert_array_equal(scores.values, expected)
    assert scores.class_names == (["a", "b", "c"] if suffix == ".json" else None)


def test_what_a_prediction_wrote(tmp_path):
    scores = read_scores(from_prediction(tmp_path / "p.json"))
    assert scores.ids == IDS and scores.labels is None
    np.testing.assert_array_equal(scores.values, rows_of(0))
    write_results(
        tmp_path / "e.json",
        [Result("x.mp4", [1, 0], [0.7, 0.3], ["b", "a"]), Result("y.mp4", error="broken")],
    )
    np.testing.assert_array_equal(
        read_scores(tmp_path / "e.json").values, [[0.3, 0.7], [np.nan, np.nan]]
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_pickles(tmp_path, dtype, protocol):
    rows = np.array(rows_of(0), dtype)
    for content in (list(rows), rows, rows.tolist()):
        (tmp_path / "s.pkl").write_bytes(pickle.dumps(content, protocol))
        scores = read_scores(tmp_path / "s.pkl")
        assert scores.ids is None
        np.testing.assert_array_equal(scores.values, rows)
    assert scores.values.dtype == np.float64


def test_plain_json(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps([[1, 2.5], [3, -4]]))
    np.testing.assert_array_equal(read_scores(tmp_path / "s.json").values, [[1, 2.5], [3, -4]])


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.pkl").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(ValueError, match=r"s\.pkl: it refers to .*mkdir.*refused"):
        read_scores("s.pkl")
    np.savez(
        tmp_path / "s.npz",
        id=np.array([Evil()], object),
        label=np.zeros(1, int),
        scores=np.zeros((1, 2)),
    )
    with pytest.raises(FusionError, match=r"s\.npz: not an \.npz file of plain arrays"):
        read_scores("s.npz")
    assert not (tmp_path / "executed").exists()


ROW = {"id": "v", "label": 0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "nothing in it"),
        ({}, "a JSON dict, expected what main.py --test --out"),
        ("text", "a JSON str"),
        ([1, 2], "row 0 is a int"),
        ([[1, 2], [1]], "row 1 has 1 scores, the first 2"),
        ([[]], "row 0 has 0 scores"),
        ([[1, "2"]], "row 0 holds something else than numbers"),
        ([[1, None]], "row 0 holds something else"),
        ([[1, 2], [float("nan"), 2]], "the score of class 0 of row 1 is nan"),
        ([[1, float("inf")]], "the score of class 1 of row 0 is inf"),
        ({"results": []}, "not one video in it has scores"),
        ({"results": [3]}, "result 0 has no 'id'"),
        ({"results": [{"label": 0, "scores": [1]}]}, "result 0 has no 'id'"),
        ({"results": [ROW]}, "'v' has neither scores nor an error"),
        ({"results": [ROW | {"error": "broken"}]}, "not one video"),
        ({"results": [ROW | {"label": "cat", "scores": [1]}]}, "the label of 'v' is 'cat'"),
        (
            {"results": [ROW | {"label": [1, 2], "scores": [1]}]},
            r"the label of 'v' is \[1, 2\]; fusion is for one",
        ),
        ({"results": [ROW | {"scores": 3}]}, "row 0 is a int"),
        ({"results": [ROW | {"scores": [1, float("nan")]}]}, "the score of class 1 of 'v' is nan"),
        ({"results": [ROW | {"scores": [float("nan")] * 2}]}, "the scores of 'v' are all NaN"),
        (
            {"results": [ROW | {"scores": [1, 2]}], "class_names": ["a"]},
            "class_names: 1 for 2 classes",
        ),
        (
            {"results": [ROW | {"scores": [1, 2]}], "class_names": 7},
            "class_names: int for 2 classes",
        ),
        (
            [{"input_path": "v", "class_ids": [2, 0], "scores": [0.5, 0.2]}],
            "only the best 2 classes of 'v' are in it.*--topk",
        ),
        (
            [{"input_path": "v", "class_ids": [0], "scores": [0.5, 0.2]}],
            "'v' has no class_ids with as many scores",
        ),
        ([{"path": "v"}], "result 0 has no 'input_path'"),
    ],
)
def test_json_that_holds_no_scores(tmp_path, content, said):
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(FusionError, match=rf"s\.json: .*{said}"):
        read_scores(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.json", None, "there is no such file"),
        ("cut.json", b'[[1, 2], [3', "not JSON, or cut short"),
        ("bytes.json", b"\xff\xfe\x00", "not JSON"),
        ("deep.json", b"[" * 100000, "not JSON, or cut short"),
        ("none.npz", None, "there is no such file"),
        ("text.npz", b"text", "not an .npz file"),
        ("cut.npz", b"PK\x03\x04" + bytes(40), "not an .npz file"),
        ("none.pkl", None, "there is no such file"),
        ("text.pkl", b"text", "not a file of arrays, or damaged"),
        ("dict.pkl", pickle.dumps({"a": 1}), "a dict in it"),
        ("one.pkl", pickle.dumps(np.zeros(3)), r"an array \[3\] of float64; expected numbers, \[videos, classes\]"),
        ("ragged.pkl", pickle.dumps([np.zeros(3), np.zeros(2)]), "row 1 has 2 scores, the first 3"),
        ("mixed.pkl", pickle.dumps([[1.0, 2.0], np.zeros(2)]), "row 1 holds something else"),
        ("text.pkl", pickle.dumps([np.array(["a", "b"])]), "."),
        ("scores.csv", b"1,2", "files of scores end in .json, .npz or .pkl"),
    ],
)  # fmt: skip
def test_files_that_are_none(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: .*{said}"):
        read_scores(tmp_path / name)


def test_npz_of_something_else(tmp_path):
    np.savez(tmp_path / "s.npz", other=np.zeros(1))
    with pytest.raises(FusionError, match="no array 'id' in it; there are other"):
        read_scores(tmp_path / "s.npz")
    np.savez(
        tmp_path / "s.npz", id=np.array(["a"]), label=np.zeros(2, int), scores=np.zeros((2, 3))
    )
    with pytest.raises(FusionError, match=r"\[1\] ids and \[2\] labels for 2 rows"):
        read_scores(tmp_path / "s.npz")


@pytest.mark.parametrize("middle", ["", " 300"])
def test_lists(tmp_path, middle):
    name, ids, labels = read_list(listed(tmp_path / "l.txt", middle))
    assert (ids, labels.tolist(), name) == (IDS, LABELS, str(tmp_path / "l.txt"))


def test_lists_with_names_and_mistakes(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("path,label\nx.mp4,dog\ny.mp4,cat\n")
    assert read_list(path, ["cat", "dog"])[2].tolist() == [1, 0]
    with pytest.raises(
        ValueError,
        match=r"l\.csv:2: label 'dog' is no class id, and the score files have no class names",
    ):
        read_list(path)
    with pytest.raises(ValueError, match=r"l\.csv:2: label 'dog' is no class of the score files"):
        read_list(path, ["cat", "cow"])
    path.write_text("x.mp4\n")
    with pytest.raises(ValueError, match="has no label behind the path"):
        read_list(path)
    with pytest.raises(ValueError, match="no such file"):
        read_list(tmp_path / "none.txt")
    with pytest.raises(FusionError, match="cannot be read"):
        read_list(tmp_path)


# --- the report -------------------------------------------------------------------------------------------------------


def numbers_in(text, name):
    line = next(line for line in text.splitlines() if line.startswith(name))
    return [float(word) for word in line.removeprefix(name).split()]


def test_the_table(tmp_path):
    files = [from_test(tmp_path / "audio.json", 0), from_test(tmp_path / "visual.npz", 1)]
    text = report_accuracy(files, coefficients=[1, 2])
    assert numbers_in(text, "audio.json")[0] == 1 and numbers_in(text, "visual.npz")[0] == 2
    alone = np.array([numbers_in(text, "audio.json")[1:], numbers_in(text, "visual.npz")[1:]])
    gain = np.array(numbers_in(text, "fused")) - alone.max(axis=0)
    assert numbers_in(text, "gain over the best alone") == pytest.approx(gain, abs=2e-4)
    assert f"Top 1 Accuracy: {numbers_in(text, 'fused')[1]:.4f}" in text.splitlines()


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]])
def test_the_order_of_a_file_with_ids_does_not_matter(tmp_path, order):
    first = from_test(tmp_path / "audio.json")
    content = json.loads((tmp_path / "audio.json").read_text())
    content["results"] = [content["results"][i] for i in order]
    (tmp_path / "mixed.json").write_text(json.dumps(content))
    lines = report_accuracy([first, str(tmp_path / "mixed.json")]).splitlines()
    assert lines[1].split()[1:] == lines[2].split()[1:] == ["1", *lines[3].split()[1:]]


def test_all_kinds_of_files_together(tmp_path):
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps([np.array(row) for row in rows_of(0)]))
    files = [
        str(tmp_path / "plain.pkl"),
        from_prediction(tmp_path / "p.json"),
        from_test(tmp_path / "t.npz"),
    ]
    text = report_accuracy(files, listed(tmp_path / "l.txt"))
    assert numbers_in(text, "plain.pkl") == numbers_in(text, "p.json") == numbers_in(text, "t.npz")
    with pytest.raises(FusionError, match=r"plain\.pkl holds rows of scores without ids"):
        report_accuracy(files)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_fused_scores_can_be_read_again(tmp_path, suffix):
    files = [from_test(tmp_path / "a.json", 0, failed=IDS[:1]), from_test(tmp_path / "b.json", 1)]
    out = tmp_path / f"fused{suffix}"
    text = report_accuracy(files, coefficients=[0.3, 0.7], out=str(out))
    assert f"a.json has no scores of 1 videos, which count as wrong, also fused: {IDS[0]!r}" in text
    fused = read_scores(out)
    expected = 0.3 * np.array(rows_of(0)) + 0.7 * np.array(rows_of(1))
    expected[0] = np.nan
    np.testing.assert_array_equal(fused.values, expected)
    assert fused.ids == IDS and fused.labels.tolist() == LABELS
    assert numbers_in(report_accuracy([str(out)]), f"fused{suffix}")[1:] == numbers_in(
        text, "fused"
    )
    if suffix == ".json":
        content = json.loads(out.read_text())
        assert set(content) == {"numbers", "class_names", "results"} and content["class_names"] == [
            "a",
            "b",
            "c",
        ]
        assert {"num_samples": 6, "num_failed": 1, "num_unlabelled": 0}.items() <= content[
            "numbers"
        ].items()


def test_search_prints_what_can_be_given_again(tmp_path):
    files = [from_test(tmp_path / "a.json", 0), from_test(tmp_path / "b.json", 1)]
    text = report_accuracy(files, search=True)
    found = re.search(r"found on these 6 videos: --coefficients (.*)", text)[1].split()
    again = report_accuracy(files, coefficients=[float(c) for c in found])
    assert numbers_in(again, "fused") == numbers_in(text, "fused")
    assert "not searched" in text
    alone = [numbers_in(text, name)[2] for name in ("a.json", "b.json")]
    assert numbers_in(text, "fused")[1] >= max(alone)


def test_notes(tmp_path):
    files = [from_test(tmp_path / "a.json", labels=[*LABELS[:5], -1])]
    text = report_accuracy(files, apply_softmax=True)
    assert (
        "a.json holds probabilities already" in text
        and "1 videos have no label and do not count" in text
    )
    assert "probabilities" not in report_accuracy(files)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot(tmp_path, count, suffix):
    pytest.importorskip("matplotlib")
    files = [from_test(tmp_path / f"{i}.json", i) for i in range(count)]
    out = tmp_path / "new" / f"plot{suffix}"
    report_accuracy(files, plot=str(out))
    assert os.listdir(out.parent) == [out.name]
    if suffix == ".svg":
        assert out.read_text().lstrip().startswith("<?xml")
    else:
        from matplotlib.image import imread

        picture = imread(out)
        assert picture.shape[0] > 400 and picture.std() > 0.01


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"coefficients": [1]}, "--coefficients has 1 numbers for 2 score files"),
        ({"coefficients": [1, 2, 3]}, "--coefficients has 3 numbers for 2"),
        ({"coefficients": [0, 0]}, "not all of them 0"),
        ({"coefficients": [1, float("nan")]}, "expected finite numbers"),
        ({"coefficients": [1, 1], "search": True}, "leave out --coefficients"),
        ({"out": "scores.txt"}, r"--out scores.txt: expected a .json or .npz"),
        ({"plot": "plot.txt"}, r"--plot plot.txt: expected a file that ends in .png"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, flags, said):
    files = [from_test(tmp_path / "a.json"), from_test(tmp_path / "b.json", 1)]
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FusionError, match=said):
        report_accuracy(files, **flags)
    assert sorted(os.listdir(tmp_path)) == before
    for flag in ({"search": True}, {"plot": "p.png"}):
        with pytest.raises(FusionError, match="at least two score files"):
            report_accuracy(files[:1], **flag)


def test_a_place_that_cannot_be_written_is_told_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        report_accuracy(["none.json"], out=str(tmp_path / "file" / "out.json"))


def test_the_script(tmp_path, root):
    files = [from_test(tmp_path / "a.json"), from_test(tmp_path / "b.json", 1)]

    def call(*flags):
        script = [
            sys.executable,
            str(root / "tools/analysis/report_accuracy.py"),
            "--scores",
            *files,
            *flags,
        ]
        return subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)

    done = call(
        "--coefficient", "1", "1", "--apply-softmax", "--datalist", listed(tmp_path / "l.txt")
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Mean Class Accuracy: 0\.\d{4}$", done.stdout, re.M)
    done = call("--coefficients", "1")
    assert (
        done.returncode == 1
        and done.stderr.startswith("error: --coefficients has 1 numbers")
        and not done.stdout
    )
