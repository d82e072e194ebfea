"""The report of a run: one self-contained page for every kind of run and every class name."""

import base64
import importlib
import json
import logging
import re
import sys

import cv2
import numpy as np
import pytest

from paddlevideo.engine.best_validation import HardestClips, write_best_validation
from paddlevideo.engine.evaluate import Evaluation, Scored
from paddlevideo.html_page import PALETTE, SPLIT_COLORS
from paddlevideo.metrics.multi_label import MultiLabelMetric
from paddlevideo.report import charts, run_report
from paddlevideo.report.conclusions import class_results
from paddlevideo.report.run_facts import read_run
from paddlevideo.report.run_report import report_finished, write_report
from paddlevideo.sample import Failure, Record
from tests.clips import write_clip
from tests.parts.report.run_folders import (
    LABELS,
    LOGITS,
    NASTY,
    make_metrics,
    make_run,
    read_page,
    write_best,
)

pytest.importorskip("matplotlib")
WRONG = np.array([[0.0, 3.0]])  # logits of a wrongly classified clip of class 0


@pytest.fixture
def run(tmp_path):
    folder = make_run(tmp_path / "run")
    write_best(folder, NASTY, LABELS, LOGITS)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of such a run."""
    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    write_best(folder, NASTY, LABELS, LOGITS)
    return write_report(folder)


@pytest.fixture
def no_charts(monkeypatch):
    """Skip drawing, which takes most of the time."""
    fake = lambda figure, name, about: f'<svg aria-label="{about}"></svg>'  # noqa: E731
    monkeypatch.setattr(charts, "svg", fake)


# --- content ------------------------------------------------------------------------------------


def test_shows_all_sections(report):
    page = read_page(report)
    for part in (
        *("tiny", "best validation top1 acc", "4 of 4 best epoch", "25% of the step time"),
        *("Loss", "Learning rate", "Time of a step", "Parts of the training loss"),
        *("Every class, worst first", "Most frequent confusions", "Hardest clips"),
        *("Clips per class", "python 3.11, numpy 2.4", "run.yaml", "model_name: tiny"),
    ):
        assert part in page.text, part
    assert "8 clips with the largest loss in that validation, worst first; 3 of them" in page.text
    assert "Without frames: no such file" in page.text
    assert not list(report.parent.glob(".*tmp"))


def test_shows_what_guessing_reaches(report, tmp_path):
    text = read_page(report).text
    assert "chance 38 %, always <script>alert(1)</script>" in text, "in the chart"
    assert "38 % accuracy of guessing: always <script>" in text, "next to the best accuracy"
    one_loss = [{k: v for k, v in row.items() if k != "loss_extra"} for row in make_metrics()]
    folder = make_run(tmp_path / "equal", one_loss)
    write_best(folder, ["a", "b", "c", "d"], [0, 1, 2, 3], np.eye(4))
    text = read_page(write_report(folder)).text
    assert "chance 25 %, 1 of 4 classes" in text and "guessing, class shares" in text
    assert "guessing" not in read_page(write_report(make_run(tmp_path / "unknown"))).text


def test_charts_and_their_legends_have_the_colors_of_the_page(report):
    drawn = re.findall(r'<svg class="chart".*?</svg>', report.read_text(), re.DOTALL)
    assert len(drawn) > 4 and "var(--card)" in drawn[0], "the legend covers lines behind it"
    for light, dark in PALETTE.values():
        for chart in drawn:
            assert f": {light};" not in chart and f": {dark};" not in chart


def test_shows_class_names_as_text(report):
    text = read_page(report).text
    for name in (NASTY[0], NASTY[1], "红色 \\u202e rot", "new\\nline"):
        assert name in text, "characters that cannot be printed appear as codes"


def test_shows_frames_of_the_hardest_clips(tmp_path, no_charts):
    folder, path = make_run(tmp_path / "run"), tmp_path / "a's <b>.mp4"
    frames = np.zeros((9, 40, 60, 3), np.uint8)
    frames[:3, ..., 0], frames[3:6, ..., 1], frames[6:, ..., 2] = 250, 250, 250
    write_clip(path, frames=frames, num_frames=9, height=40, width=60)
    records = [Record(str(path), 0), Record(str(tmp_path / "gone.mp4"), 1)]
    write_best(folder, ["a", "b"], [0, 1], np.array([[0.0, 3.0], [0.0, 2.0]]), records)
    page = read_page(write_report(folder))
    assert len(page.images) == 1 and "a's <b>.mp4" in page.text and "gone.mp4" in page.text
    jpeg = np.frombuffer(base64.b64decode(page.images[0].split(",")[1]), np.uint8)
    thirds = np.split(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), 3, axis=1)
    channels = [part.mean(axis=(0, 1)).argmax() for part in thirds]
    assert channels == [2, 1, 0], "the frames are in order"  # red, green, blue in BGR
    assert "Without frames" not in page.text
    assert read_page(write_report(folder, clips=0)).images == []


def test_finds_clips_relative_to_the_training_directory(tmp_path, monkeypatch, no_charts):
    folder = make_run(tmp_path / "run")
    write_clip(tmp_path / "here" / "a.mp4", 8)
    monkeypatch.chdir(tmp_path / "here")
    write_best(folder, ["a", "b"], [0], WRONG, [Record("a.mp4", 0)])
    monkeypatch.chdir(tmp_path)
    assert len(read_page(write_report(folder)).images) == 1


def test_omits_clips_that_make_the_page_too_large(tmp_path, monkeypatch, no_charts):
    folder = make_run(tmp_path / "run")
    write_clip(tmp_path / "a.mp4", 8)
    records = [Record(str(tmp_path / "a.mp4"), 0)] * 20
    write_best(folder, ["a", "b"], [0] * 20, np.repeat(WRONG, 20, axis=0), records)
    size = len(write_report(folder, clips=0).read_bytes())
    monkeypatch.setattr(run_report, "MAX_BYTES", size + 30_000)
    out = write_report(folder)
    assert 0 < len(read_page(out).images) < 20 and len(out.read_bytes()) < size + 31_000


def test_shows_failed_clips(tmp_path, no_charts):
    folder, failure = make_run(tmp_path / "run"), Failure("bad <1>.mp4", "decode", "cut short")
    logits = np.array([[3.0, 0.0], [np.nan, np.nan]])
    write_best(folder, ["a", "b"], [0, 1], logits, failures=[failure])
    text = read_page(write_report(folder)).text
    assert "Could not be decoded" in text and "bad <1>.mp4" in text
    assert "1 validation clips could not be decoded" in text


def test_the_time_is_a_bar_that_fits_any_width(report):
    page, text = read_page(report), report.read_text(encoding="utf-8")
    for part in ("computing: 15.0 s, 68 %", "waiting for data: 5.0 s, 23 %", "validating: 2.0 s"):
        assert part in page.text
    (bar,) = re.findall(r'<div class="stack">(.*?)</div></div>', text)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", bar)]
    assert len(widths) == 3 and sum(widths) == pytest.approx(100, abs=0.05)
    colors = re.findall(r"var\((--c\d)\)", bar)
    assert colors[0] == SPLIT_COLORS["train"] and colors[2] == SPLIT_COLORS["valid"]
    # Nothing on the page is wider than a phone, but for what scrolls inside its own box.
    style = text.partition("<style>")[2].partition("</style>")[0]
    minimums = re.findall(r"^(.*?) {.*?min-width: ([\d.]+)rem", style, re.MULTILINE)
    assert ".scroll td.name" in dict(minimums), "names are not broken into single letters"
    assert max(float(size) for rule, size in minimums if not rule.startswith(".scroll")) <= 7


def test_shows_the_phases_of_a_multigrid_run(tmp_path, no_charts):
    phase = {"split": "phase", "iteration": 0, "bn_splits": 4}
    rows = [
        {**phase, "epoch": 0, "end": 1, "shapes": "8 x 4 x 32"},
        {**phase, "epoch": 1, "end": 4, "shapes": "8 x 4 x 33"},
    ]
    text = read_page(write_report(make_run(tmp_path / "run", rows + make_metrics()))).text
    assert "Phases" in text and "8 x 4 x 33" in text and "2 to 4" in text


def test_shows_checked_data(run, tmp_path, no_charts):
    (tmp_path / "check.json").write_text(json.dumps({"faults": {"truncated": 2}}))
    (tmp_path / "train.csv").write_text("path,label,frames,fps\na,0,50,25\n")
    make_run(run, DATASET={"root": str(tmp_path)})
    text = read_page(write_report(run)).text
    assert "Duration of the clips" in text and "check_data found: 2 truncated." in text


def test_shows_average_precision_of_multi_label_runs(tmp_path, no_charts):
    scores = ("gap", "map", "avg_hit_at_one", "avg_perr", "hit_at_one")
    folder = make_run(tmp_path / "run", make_metrics(scores=scores))
    mean_average_precision = write_multi_label_best(folder)
    facts = read_run(folder)
    counts = [(k, n) for k, n in enumerate(facts.best["train_samples"]) if n]
    assert counts == [(1, 2), (49, 1)]
    class_scores = [result.score for result in class_results(facts)]
    assert np.mean(class_scores) == pytest.approx(mean_average_precision, abs=1e-5)
    assert class_scores == sorted(class_scores)
    text = read_page(write_report(folder)).text
    assert "best validation GAP" in text and "average precision" in text
    assert "Confusion matrix" not in text and "Most frequent confusions" not in text
    assert "Without frames: features have no frames" in text
    first = facts.best["worst"][0]["id"]
    assert first.startswith("vid") and f"{first} in yt8m.tfrecord" in text


def write_multi_label_best(folder):
    """Write valid_best.json of 30 videos in a shard and 50 classes; return the mAP."""
    rng, metric, hardest = np.random.default_rng(0), MultiLabelMetric(50), HardestClips(9)
    logits, labels = rng.standard_normal((30, 50)), (rng.random((30, 50)) < 0.06).astype(np.int64)
    metric.update(logits, {"label": labels})
    for index in range(30):
        record = Record("yt8m.tfrecord", offset=index * 100)
        hardest.add(Scored(record, index, labels[index], f"vid{index}", logits[index]))
    hardest.merge([hardest.state()])
    state = metric.state()
    by_class = lambda: metric.by_class(state)  # noqa: E731
    result = Evaluation(metric.result(state), metric.headline, [], by_class)
    train = [Record("x", labels=(1, 49)), Record("y", labels=(1,)), Record("z", labels=())]
    write_best_validation(folder, 4, result, hardest.rows, None, train)
    return metric.result(state)["map"]


def test_stays_small_with_many_classes(tmp_path):
    rng, folder = np.random.default_rng(0), make_run(tmp_path / "run", make_metrics(100, 20))
    labels = np.arange(3000) % 1500
    names = [f"class number {k} with a long name" for k in range(1500)]
    write_best(folder, names, labels.tolist(), rng.standard_normal((3000, 1500)).astype(np.float32))
    out = write_report(folder)
    text = read_page(out).text
    assert "970 more, 500 are left out" in text and "4 classes per cell" in text
    assert len(out.read_bytes()) < 2_000_000


# --- runs with less data ------------------------------------------------------------------------


def test_reports_a_run_without_validation(tmp_path, no_charts):
    rows = [row for row in make_metrics() if row["split"] != "valid"]
    text = read_page(write_report(make_run(tmp_path / "run", rows))).text
    assert "train with --validate" in text and "Hardest clips" not in text


def test_reports_a_run_killed_in_its_first_steps(tmp_path, no_charts):
    folder = make_run(tmp_path / "run", make_metrics()[:2])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"split": "tra')
    read_page(write_report(folder))
    (folder / "metrics.jsonl").write_text("")
    (folder / "run.yaml").unlink()
    assert "No training step has been logged yet" in read_page(write_report(folder)).text


def test_reports_a_run_with_values_that_are_not_finite(tmp_path):
    rows = make_metrics()
    rows[3]["loss"] = rows[6]["loss"] = None
    read_page(write_report(make_run(tmp_path / "run", rows)))


def test_writes_no_page_if_a_file_is_damaged(run):
    (run / "valid_best.json").write_text("{")
    with pytest.raises(ValueError, match="damaged, not JSON"):
        write_report(run)
    assert not (run / "report.html").exists()


# --- after a training ---------------------------------------------------------------------------


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO, "paddlevideo")
    return caplog


def test_report_finished_writes_the_report(run, log, no_charts):
    report_finished(run)
    assert "report: " in log.text and (run / "report.html").exists()


def test_report_finished_logs_what_went_wrong_in_learning(tmp_path, log, no_charts):
    folder = make_run(tmp_path / "run")
    report_finished(folder)
    assert not [record for record in log.records if record.levelname == "WARNING"]
    rows = [{**row, "loss": 9.0} for row in make_metrics()]
    for row in rows:
        row.pop("loss_extra", None)
    folder = make_run(tmp_path / "high", rows)
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    report_finished(folder)
    (warning,) = {record.message for record in log.records if record.levelname == "WARNING"}
    assert "above that of guessing (1.39, ln 4)" in warning
    assert "the learning rate is too high" in warning


def test_the_tool_prints_the_remarks(tmp_path, monkeypatch, root, capsys, no_charts):
    folder = make_run(tmp_path / "run")
    write_best(folder, ["a", "b\n- c"], [0, 1] * 5, np.array([[3.0, 0.0]] * 10))
    monkeypatch.syspath_prepend(str(root / "tools"))
    monkeypatch.setattr(sys, "argv", ["report.py", str(folder)])
    assert importlib.import_module("report").main() == 0
    *printed, last = capsys.readouterr().out.splitlines()
    assert last == f"report: {folder / 'report.html'}"
    assert printed[0].startswith("- Validation is no better than guessing: 5 of 10 clips")
    assert all(line.startswith("- ") for line in printed) and len(printed) > 2


def test_report_finished_turns_errors_into_warnings(tmp_path, log, monkeypatch, no_charts):
    report_finished(tmp_path)
    warning = log.records[-1]
    assert warning.levelname == "WARNING"
    assert f"to try again: python tools/report.py {tmp_path}" in warning.message
    monkeypatch.setattr(run_report, "render", lambda *a: 1 / 0)
    report_finished(make_run(tmp_path / "run"))
    assert "division by zero" in log.text


def test_reports_a_missing_matplotlib(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'paddlevideo\[plot\]'"):
        write_report(run)
