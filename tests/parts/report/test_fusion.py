"""The report of `report_accuracy.py`: its table, notes, plot, fused scores and flags."""

import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from paddlevideo.commands.report_accuracy import main
from paddlevideo.metrics.fusion import FusionError
from paddlevideo.metrics.score_files import read_scores
from paddlevideo.report.fusion import read_video_list, report_accuracy
from tests.parts.metrics.test_score_files import (
    IDS,
    LABELS,
    make_scores,
    write_predictions,
    write_test,
)


def write_list(path, middle=""):
    lines = [f"{video}{middle} {label}\n" for video, label in zip(IDS, LABELS, strict=True)]
    path.write_text("".join(lines))
    return str(path)


# --- lists of videos ----------------------------------------------------------------------------


@pytest.mark.parametrize("middle", ["", " 300"])
def test_reads_lists_with_and_without_frame_counts(tmp_path, middle):
    name, ids, labels = read_video_list(write_list(tmp_path / "l.txt", middle))
    assert (ids, labels.tolist(), name) == (IDS, LABELS, str(tmp_path / "l.txt"))


def test_reads_lists_with_class_names(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("path,label\nx.mp4,dog\ny.mp4,cat\n")
    assert read_video_list(path, ["cat", "dog"])[2].tolist() == [1, 0]


def test_rejects_lists_with_unknown_labels(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("path,label\nx.mp4,dog\ny.mp4,cat\n")
    unknown = r"l\.csv:2: label 'dog' is not a class id, and the score files have no class names"
    with pytest.raises(ValueError, match=unknown):
        read_video_list(path)
    with pytest.raises(ValueError, match=r"l\.csv:2: label 'dog' is not a class of the score"):
        read_video_list(path, ["cat", "cow"])


def test_rejects_files_that_are_not_lists(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("x.mp4\n")
    with pytest.raises(ValueError, match=r"l\.csv:1: .*label"):
        read_video_list(path)
    with pytest.raises(ValueError, match="no such file"):
        read_video_list(tmp_path / "none.txt")
    with pytest.raises(FusionError, match="cannot be read"):
        read_video_list(tmp_path)


# --- the report ---------------------------------------------------------------------------------


def numbers_in(text, name):
    """The numbers of the table row that begins with `name`."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return [float(word) for word in line.removeprefix(name).split()]


def test_reports_each_file_the_fusion_and_the_gain(tmp_path):
    files = [write_test(tmp_path / "audio.json", 0), write_test(tmp_path / "visual.npz", 1)]
    text = report_accuracy(files, coefficients=[1, 2])
    assert numbers_in(text, "audio.json")[0] == 1 and numbers_in(text, "visual.npz")[0] == 2
    single = np.array([numbers_in(text, "audio.json")[1:], numbers_in(text, "visual.npz")[1:]])
    gain = np.array(numbers_in(text, "fused")) - single.max(axis=0)
    assert numbers_in(text, "gain over the best input") == pytest.approx(gain, abs=2e-4)
    assert f"Top 1 Accuracy: {numbers_in(text, 'fused')[1]:.4f}" in text.splitlines()


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]])
def test_aligns_files_by_id_in_any_order(tmp_path, order):
    first = write_test(tmp_path / "audio.json")
    content = json.loads((tmp_path / "audio.json").read_text())
    content["results"] = [content["results"][i] for i in order]
    (tmp_path / "mixed.json").write_text(json.dumps(content))
    lines = report_accuracy([first, str(tmp_path / "mixed.json")]).splitlines()
    assert lines[1].split()[1:] == lines[2].split()[1:] == ["1", *lines[3].split()[1:]]


def test_fuses_files_of_different_formats(tmp_path):
    rows = [np.array(row) for row in make_scores(0)]
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(rows))
    files = [
        str(tmp_path / "plain.pkl"),
        write_predictions(tmp_path / "p.json"),
        write_test(tmp_path / "t.npz"),
    ]
    text = report_accuracy(files, write_list(tmp_path / "l.txt"))
    assert numbers_in(text, "plain.pkl") == numbers_in(text, "p.json") == numbers_in(text, "t.npz")
    with pytest.raises(FusionError, match=r"plain\.pkl.*--datalist"):
        report_accuracy(files)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_writes_fused_scores_that_can_be_read_again(tmp_path, suffix):
    files = [write_test(tmp_path / "a.json", 0, failed=IDS[:1]), write_test(tmp_path / "b.json", 1)]
    out = tmp_path / f"fused{suffix}"
    text = report_accuracy(files, coefficients=[0.3, 0.7], out=str(out))
    note = "a.json has no scores for 1 videos; they count as wrong, alone and fused: "
    assert note + repr(IDS[0]) in text
    fused = read_scores(out)
    expected = 0.3 * np.array(make_scores(0)) + 0.7 * np.array(make_scores(1))
    expected[0] = np.nan
    np.testing.assert_array_equal(fused.values, expected)
    assert fused.ids == IDS and fused.labels.tolist() == LABELS
    again = report_accuracy([str(out)])
    assert numbers_in(again, f"fused{suffix}")[1:] == numbers_in(text, "fused")


def test_writes_fused_json_with_counts(tmp_path):
    files = [write_test(tmp_path / "a.json", 0, failed=IDS[:1]), write_test(tmp_path / "b.json", 1)]
    report_accuracy(files, out=str(tmp_path / "fused.json"))
    content = json.loads((tmp_path / "fused.json").read_text())
    assert set(content) == {"made_by", "numbers", "class_names", "results"}
    assert content["class_names"] == ["a", "b", "c"]
    counts = {"num_samples": 6, "num_failed": 1, "num_unlabelled": 0}
    assert counts.items() <= content["numbers"].items()
    failed = {"id": IDS[0], "path": IDS[0], "label": 0, "error": "a modality has no scores"}
    assert content["results"][0] == failed


def test_fuses_predictions_without_labels(tmp_path):
    files = [write_predictions(tmp_path / f"{seed}.json", seed) for seed in (0, 1)]
    out = str(tmp_path / "fused.json")
    text = report_accuracy(files, coefficients=[0.25, 0.75], out=out)
    expected = 0.25 * np.array(make_scores(0)) + 0.75 * np.array(make_scores(1))
    fused = read_scores(out)
    np.testing.assert_allclose(fused.values, expected)
    assert fused.ids == IDS and fused.class_names == ["0", "1", "2"]
    first, *_, last = text.splitlines()
    assert first == f"{expected[0].argmax()} {expected[0].max():.4f}  {IDS[0]}"
    assert last == f"scores of 6 videos are in {out}"
    for flags in ({}, {"out": out, "search": True, "overwrite": True}):
        with pytest.raises(FusionError, match=r"no accuracy; .*--datalist, or only --out and"):
            report_accuracy(files, **flags)


def test_predictions_of_classes_in_another_order_are_not_fused(tmp_path):
    files = [write_predictions(tmp_path / f"{seed}.json", seed) for seed in (0, 1)]
    with open(files[1], encoding="utf-8") as file:
        predictions = json.load(file)
    for prediction in predictions:
        names = {"0": "1", "1": "0", "2": "2"}
        prediction["label_names"] = [names[name] for name in prediction["label_names"]]
    with open(files[1], "w", encoding="utf-8") as file:
        json.dump(predictions, file)
    with pytest.raises(FusionError, match=r"class 0 is '0' in .*0\.json, but '1' in "):
        report_accuracy(files, out=str(tmp_path / "fused.json"))


def test_search_prints_coefficients_that_reproduce_it(tmp_path):
    files = [write_test(tmp_path / "a.json", 0), write_test(tmp_path / "b.json", 1)]
    text = report_accuracy(files, search=True)
    words = re.search(r"found on these 6 videos: --coefficients (.*)", text)[1].split()
    again = report_accuracy(files, coefficients=[float(word) for word in words])
    assert numbers_in(again, "fused") == numbers_in(text, "fused")
    assert "the gain on the searched videos is optimistic" in text
    single = [numbers_in(text, name)[2] for name in ("a.json", "b.json")]
    assert numbers_in(text, "fused")[1] >= max(single)


def test_notes_probabilities_and_unlabeled_videos(tmp_path):
    files = [write_test(tmp_path / "a.json", labels=[*LABELS[:5], -1])]
    text = report_accuracy(files, apply_softmax=True)
    assert "a.json already holds probabilities" in text
    assert "1 videos have no label and are not counted" in text
    assert "probabilities" not in report_accuracy(files)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_draws_a_plot(tmp_path, count, suffix):
    pytest.importorskip("matplotlib")
    files = [write_test(tmp_path / f"{i}.json", i) for i in range(count)]
    out = tmp_path / "new" / f"plot{suffix}"
    report_accuracy(files, plot=str(out))
    assert os.listdir(out.parent) == [out.name]
    if suffix == ".svg":
        assert out.read_text().lstrip().startswith("<?xml")
    else:
        from matplotlib.image import imread

        image = imread(out)
        assert image.shape[0] > 400 and image.std() > 0.01


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ([0, 0, 1, 1, 2, 2], "chance 33 %, 1 of 3 classes"),
        ([0, 1, 1, 1, 1, 2], "chance 67 %, always b"),
        ([1, -1, 1, -1, -1, 0], "chance 67 %, always b"),  # of those that have a label
    ],
)
def test_a_plot_shows_what_guessing_reaches(tmp_path, count, labels, line):
    pytest.importorskip("matplotlib")
    files = [write_test(tmp_path / f"{i}.json", i, labels=labels) for i in range(count)]
    report_accuracy(files, plot=str(tmp_path / "p.svg"))
    drawn = re.findall(r"<!-- (.*?) -->", (tmp_path / "p.svg").read_text())  # texts of the axes
    assert line in drawn


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"coefficients": [1]}, "--coefficients has 1 numbers for 2 score files; give one"),
        ({"coefficients": [1, 2, 3]}, "--coefficients has 3 numbers for 2"),
        ({"coefficients": [0, 0]}, "coefficients"),
        ({"coefficients": [1, float("nan")]}, "coefficients.*finite"),
        ({"coefficients": [1, 1], "search": True}, "leave out --coefficients"),
        ({"out": "scores.txt"}, r"--out scores.txt: expected a .json or .npz"),
        ({"plot": "plot.txt"}, r"--plot plot.txt: expected a name ending in .png"),
    ],
)
def test_rejects_unsuitable_flags(tmp_path, flags, message):
    files = [write_test(tmp_path / "a.json"), write_test(tmp_path / "b.json", 1)]
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FusionError, match=message):
        report_accuracy(files, **flags)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("flags", [{"search": True}, {"plot": "p.png"}])
def test_rejects_search_and_plot_of_one_file(tmp_path, flags):
    with pytest.raises(FusionError, match="at least two score files"):
        report_accuracy([write_test(tmp_path / "a.json")], **flags)


def test_checks_the_output_before_reading(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        report_accuracy(["none.json"], out=str(tmp_path / "file" / "out.json"))


def test_the_script(tmp_path, root, capsys):
    files = [write_test(tmp_path / "a.json"), write_test(tmp_path / "b.json", 1)]
    script = [sys.executable, str(root / "tools/analysis/report_accuracy.py"), "--scores", *files]

    flags = ["--coefficient", "1", "1", "--apply-softmax"]
    flags += ["--datalist", write_list(tmp_path / "l.txt")]
    done = subprocess.run([*script, *flags], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Mean Class Accuracy: 0\.\d{4}$", done.stdout, re.M)
    assert main(["--scores", *files, "--coefficients", "1"]) == 1
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith("error: --coefficients has 1 numbers")
