"""The report of a run: made from its folder alone, whole for every kind of run, safe for every name."""

import base64
import json
import logging
import re
import wave
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from paddlevideo.engine import best_validation
from paddlevideo.engine.best_validation import HardestClips, write_best_validation
from paddlevideo.engine.evaluate import Evaluation
from paddlevideo.metrics.multilabel import MultiLabelMetric
from paddlevideo.metrics.recognition import RecognitionMetric
from paddlevideo.report import charts, run_facts, run_report
from paddlevideo.report.run_facts import (
    class_table,
    confused_pairs,
    data_share,
    head_of,
    read_run,
    remarks,
    time_parts,
)
from paddlevideo.report.run_report import report_finished, write_report
from paddlevideo.sample import Failure, Record
from tests.clips import write_clip

pytest.importorskip("matplotlib")
NASTY = ["<script>alert(1)</script>", 'a "quoted" & $x^2$', "红色 \u202e rot", "new\nline"]
VOID = {"meta", "img", "br", "link", "input"}
SVG_ALONE = {"path", "use", "rect", "image", "line", "circle"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed by its own end, ids are there once."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.refs, self.tags, self.texts, self.alone = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.refs += [
            values[key]
            for key in ("src", "href", "xlink:href", "data", "action", "poster")
            if key in values
        ]
        self.refs += re.findall(
            r"url\(([^)]*)\)", " ".join(value or "" for value in values.values())
        )
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def read_page(path: Path) -> Page:
    """The page, checked for what holds of each: small, nothing from elsewhere, no script, ids once."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert len(text.encode()) < 5_000_000
    assert not [
        tag
        for tag, values in page.tags
        if tag in ("script", "iframe", "object", "link", "base", "form")
    ]
    assert not [key for _, values in page.tags for key in values if key.startswith("on")]
    assert all(ref.startswith(("data:image/", "#")) for ref in page.refs), page.refs
    assert len(page.ids) == len(set(page.ids))
    assert {ref[1:] for ref in page.refs if ref.startswith("#")} <= set(page.ids)
    for color in charts.THEME:
        assert color not in text, "a colour that the page does not set"
    return page


def metrics(epochs=4, steps=5, scores=("top1", "top5"), headline="top1"):
    rows, clock = [], 0.0
    for epoch in range(epochs):
        for step in range(steps):
            clock += 1.0
            rows.append({
                "split": "train", "epoch": epoch, "step": step, "iteration": epoch * steps + step, "lr": 0.1 / (epoch + 1),
                "loss": 2.0 / (1 + epoch + step / steps), "batch_cost": 1.0, "reader_cost": 0.25, "seconds": clock,
            })  # fmt: skip
        end = {"epoch": epoch, "iteration": (epoch + 1) * steps}
        values = dict.fromkeys(scores, 0.2 + 0.2 * epoch)
        rows.append(
            {"split": "epoch", **end, "seconds": clock, "loss": 1.0, **values, "loss_extra": 0.5}
        )
        clock += 0.5
        rows.append(
            {"split": "valid", **end, "seconds": clock, "loss": 1.2 - 0.1 * epoch, **values}
        )
    return rows


def classified(folder: Path, names, labels, logits, records=None, failures=()):
    """Let the engine's own code count these clips and write them."""
    metric, worst = RecognitionMetric(len(names)), HardestClips(best_validation.NUM_HARDEST)
    records = records or [Record(f"{folder}/clip {i}.mp4", label) for i, label in enumerate(labels)]
    metric.update(logits, {"label": np.array(labels)})
    for place, (record, row) in enumerate(zip(records, logits, strict=True)):
        if not np.isnan(row).any():
            worst.offer(
                record,
                "",
                place,
                np.int64(labels[place]),
                row,
                best_validation.cross_entropy_of(row, labels[place]),
            )
    state = metric.state()
    done = Evaluation(
        metric.result(state),
        metric.headline,
        [],
        list(failures),
        worst.rows([worst.heap]),
        lambda: metric.by_class(state),
    )
    train = [Record("t", k) for k in range(len(names)) for _ in range(2 + 10 * (k % 4))]
    write_best_validation(folder, 4, done, list(names), train)


def make_run(folder: Path, rows=None, **config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows or metrics()), encoding="utf-8"
    )
    head = ["# The resolved config of a run. To repeat it: python main.py --validate -c run.yaml",
            "# command: main.py --validate", "# ranks: 1; git: abc; python 3.11, numpy 2.4"]  # fmt: skip
    text = yaml.safe_dump({"model_name": "tiny", **config}, allow_unicode=True)
    (folder / "run.yaml").write_text("\n".join(head) + "\n" + text, encoding="utf-8")
    return folder


LABELS = [0, 0, 0, 1, 1, 2, 2, 3]
LOGITS = np.eye(4)[[0, 1, 1, 1, 1, 2, 0, 3]] * 4.0 + 0.1


@pytest.fixture
def run(tmp_path):
    folder = make_run(tmp_path / "run")
    classified(folder, NASTY, LABELS, LOGITS)
    return folder


@pytest.fixture
def no_charts(monkeypatch):
    """Drawing takes most of a report's time; what is not about charts does without."""
    monkeypatch.setattr(
        charts, "svg", lambda figure, name, about: f'<svg aria-label="{about}"></svg>'
    )


# --- what is written for a report --------------------------------------------------------------------------------------


def test_findings_hold_what_the_metric_counted(run):
    found = json.loads((run / "valid_best.json").read_text())
    assert found["samples"] == [3, 2, 2, 1] and found["train_samples"] == [2, 12, 22, 32]
    assert sorted(map(tuple, found["confusion"])) == [
        (0, 0, 1),
        (0, 1, 2),
        (1, 1, 2),
        (2, 0, 1),
        (2, 2, 1),
        (3, 3, 1),
    ]
    assert found["class_names"] == NASTY and found["headline"] == ["top1", "top1 acc"]
    worst = found["worst"]
    assert [row["path"][-5] for row in worst[:3]] == ["1", "2", "6"], (
        "largest loss first, of equal ones the earlier"
    )
    loss = np.log(np.exp(LOGITS[1]).sum()) - LOGITS[1][0]
    assert worst[0]["loss"] == pytest.approx(loss, rel=1e-5) and worst[0]["labels"] == [0]
    assert (
        worst[0]["label_scores"] == [pytest.approx(np.exp(-loss), rel=1e-5)]
        and worst[0]["classes"][0] == 1
    )
    assert sum(worst[0]["scores"]) == pytest.approx(1, rel=1e-4)


def test_the_worst_of_all_ranks():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((50, 3))
    losses = [best_validation.cross_entropy_of(row, 0) for row in logits]
    parts = [HardestClips(7), HardestClips(7)]
    for place, (row, loss) in enumerate(zip(logits, losses, strict=True)):
        parts[place % 2].offer(Record(str(place)), "", place, np.int64(0), row, loss)
    rows = parts[0].rows([part.heap for part in parts])
    assert [int(row["path"]) for row in rows] == np.argsort(losses)[::-1][:7].tolist()
    none = HardestClips(0)
    none.offer(Record("a"), "", 0, np.int64(0), logits[0], 1.0)
    assert none.heap == []
    parts[0].offer(Record("nan"), "", 99, np.int64(0), np.full(3, np.nan), float("nan"))
    assert parts[0].rows([parts[0].heap])[0] | {"classes": None} == {
        "path": "nan", "id": "", "labels": [0], "label_scores": [None], "classes": None, "scores": [None] * 3, "loss": None,
    }  # fmt: skip


def test_losses_of_several_labels():
    logits, labels = np.array([2.0, -1.0, 0.5]), np.array([1, 0, 1])
    p = 1 / (1 + np.exp(-logits))
    assert best_validation.cross_entropy_of(logits, labels) == pytest.approx(
        -(np.log(p[0]) + np.log(1 - p[1]) + np.log(p[2]))
    )


def test_report_and_engine_agree_on_the_file():
    assert (run_facts.FINDINGS, run_facts.VERSION) == (
        best_validation.FILE,
        best_validation.VERSION,
    )


# --- what is concluded -------------------------------------------------------------------------------------------------


def test_classes_worst_first(run):
    facts = read_run(run)
    table = class_table(facts)
    assert [(c.number, c.right, c.samples) for c in table] == [
        (0, 1, 3),
        (2, 1, 2),
        (1, 2, 2),
        (3, 1, 1),
    ]
    assert table[0].taken_for == f"{NASTY[1]} (2)" and table[0].train == 2
    assert confused_pairs(facts)[0] == (NASTY[0], NASTY[1], 2, pytest.approx(2 / 3))


def test_times(run):
    facts = read_run(run)
    assert data_share(facts.rows) == pytest.approx(0.25)
    assert dict(time_parts(facts)) == pytest.approx(
        {"computing": 15.0, "waiting for data": 5.0, "validating": 2.0}
    )
    facts.rows = {"train": [], "epoch": [], "valid": [], "phase": []}
    assert time_parts(facts) == [] and data_share(facts.rows) is None


def test_what_is_worth_a_sentence(run):
    said = " ".join(remarks(read_run(run)))
    for piece in ("25% of the time", "The last validation is the best", "8 validation clips are few", "between 2 and 32",
                  "The worst class is <script>", "1 of 3 clips right"):  # fmt: skip
        assert piece in said


def test_head_of_run_file():
    head = head_of(
        [
            "The resolved config of a run. To repeat it: a",
            "from: b: c",
            "ranks: 2; git: d; python 3",
            "no colon",
        ]
    )
    assert head == {
        "to repeat it": "a",
        "from": "b: c",
        "ranks": "2",
        "git": "d",
        "versions": "python 3",
    }


# --- the page ----------------------------------------------------------------------------------------------------------


def test_page_of_a_run(run):
    page = read_page(write_report(run))
    for piece in ("tiny", "best validation top1 acc", "Loss", "Learning rate", "Time of a step", "Parts of the training loss",
                  "Every class, worst first", "Taken for each other", "Worst clips", "Clips of each class",
                  "python 3.11, numpy 2.4", "run.yaml", "model_name: tiny"):  # fmt: skip
        assert piece in page.text, piece
    for name in (NASTY[0], NASTY[1], "红色 \\u202e rot", "new\\nline"):
        assert name in page.text, "names are shown as they are, what is not printable as its code"
    assert "Without pictures: no such file" in page.text
    assert not list(run.glob(".*tmp"))


def test_pictures_of_the_worst_clips(tmp_path, no_charts):
    folder = make_run(tmp_path / "run")
    frames = np.zeros((9, 40, 60, 3), np.uint8)
    frames[:3, ..., 0], frames[3:6, ..., 1], frames[6:, ..., 2] = 250, 250, 250
    write_clip(tmp_path / "a's <b>.mp4", frames=frames, num_frames=9, height=40, width=60)
    records = [Record(str(tmp_path / "a's <b>.mp4"), 0), Record(str(tmp_path / "gone.mp4"), 1)]
    classified(folder, ["a", "b"], [0, 1], np.array([[0.0, 3.0], [0.0, 2.0]]), records)
    page = read_page(write_report(folder))
    images = [values["src"] for tag, values in page.tags if tag == "img"]
    assert len(images) == 1 and "a's <b>.mp4" in page.text and "gone.mp4" in page.text
    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(images[0].split(",")[1]), np.uint8), cv2.IMREAD_COLOR_RGB
    )
    thirds = np.split(picture, 3, axis=1)
    assert [part.mean(axis=(0, 1)).argmax() for part in thirds] == [0, 1, 2], (
        "the frames in their order"
    )
    assert "Without pictures" not in page.text
    assert not [tag for tag, _ in read_page(write_report(folder, clips=0)).tags if tag == "img"]


def test_a_run_from_elsewhere_finds_its_clips(tmp_path, monkeypatch, no_charts):
    folder = make_run(tmp_path / "run")
    write_clip(tmp_path / "here" / "a.mp4", 8)
    monkeypatch.chdir(tmp_path / "here")
    classified(folder, ["a", "b"], [0], np.array([[0.0, 3.0]]), [Record("a.mp4", 0)])
    monkeypatch.chdir(tmp_path)
    assert [tag for tag, _ in read_page(write_report(folder)).tags if tag == "img"] == ["img"]


def test_sound_has_no_pictures(tmp_path, no_charts):
    folder, name = make_run(tmp_path / "run"), str(tmp_path / "a.wav")
    with wave.open(name, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    classified(folder, ["a", "b"], [0], np.array([[0.0, 3.0]]), [Record(name, 0)])
    page = read_page(write_report(folder))
    assert "Without pictures: no video stream" in page.text and "a.wav" in page.text


def test_pictures_stop_where_the_page_would_grow_too_large(tmp_path, monkeypatch, no_charts):
    folder = make_run(tmp_path / "run")
    write_clip(tmp_path / "a.mp4", 8)
    classified(
        folder,
        ["a", "b"],
        [0] * 20,
        np.array([[0.0, 3.0]] * 20),
        [Record(str(tmp_path / "a.mp4"), 0)] * 20,
    )
    without = len(write_report(folder, clips=0).read_bytes())
    monkeypatch.setattr(run_report, "MAX_BYTES", without + 30_000)
    out = write_report(folder)
    shown = [tag for tag, _ in read_page(out).tags if tag == "img"]
    assert 0 < len(shown) < 20 and len(out.read_bytes()) < without + 31_000


def test_several_labels_a_video(tmp_path):
    rng, metric, worst = np.random.default_rng(0), MultiLabelMetric(50), HardestClips(9)
    folder = make_run(
        tmp_path / "run", metrics(scores=("gap", "map", "avg_hit_at_one", "avg_perr", "hit_at_one"))
    )
    logits, labels = rng.standard_normal((30, 50)), (rng.random((30, 50)) < 0.06).astype(np.int64)
    metric.update(logits, {"label": labels})
    for place in range(30):
        loss = best_validation.cross_entropy_of(logits[place], labels[place])
        worst.offer(
            Record("yt8m.tfrecord", offset=place * 100),
            f"vid{place}",
            place,
            labels[place],
            logits[place],
            loss,
        )
    state = metric.state()
    done = Evaluation(
        metric.result(state),
        metric.headline,
        [],
        [],
        worst.rows([worst.heap]),
        lambda: metric.by_class(state),
    )
    write_best_validation(
        folder,
        4,
        done,
        None,
        [Record("x", labels=(1, 49)), Record("y", labels=(1,)), Record("z", labels=())],
    )
    facts = read_run(folder)
    assert [(k, n) for k, n in enumerate(facts.best["train_samples"]) if n] == [(1, 2), (49, 1)]
    table = class_table(facts)
    assert np.mean([c.score for c in table]) == pytest.approx(metric.result(state)["map"], abs=1e-5)
    assert [c.score for c in table] == sorted(c.score for c in table)
    page = read_page(write_report(folder))
    assert (
        "best validation GAP" in page.text
        and "average precision" in page.text
        and "predicted" not in page.text
    )
    assert "Without pictures: features have no pictures" in page.text
    assert f"{facts.best['worst'][0]['id']} in yt8m.tfrecord" in page.text and facts.best["worst"][
        0
    ]["id"].startswith("vid")
    assert "Taken for each other" not in page.text


def test_many_classes_stay_small(tmp_path):
    rng, folder = np.random.default_rng(0), make_run(tmp_path / "run", metrics(100, 60))
    labels = np.arange(4000) % 1500
    names = [f"class number {k} with a long name" for k in range(1500)]
    classified(folder, names, labels.tolist(), rng.standard_normal((4000, 1500)).astype(np.float32))
    out = write_report(folder)
    page = read_page(out)
    assert (
        "970 more, 500 are left out" in page.text
        and "4 classes a cell" in page.text
        and len(out.read_bytes()) < 2_000_000
    )


def test_failed_clips_are_named(tmp_path, no_charts):
    folder, failure = make_run(tmp_path / "run"), Failure("bad <1>.mp4", "decode", "cut short")
    classified(
        folder, ["a", "b"], [0, 1], np.array([[3.0, 0.0], [np.nan, np.nan]]), failures=[failure]
    )
    page = read_page(write_report(folder))
    assert (
        "Could not be decoded" in page.text
        and "bad <1>.mp4" in page.text
        and "1 validation clips could not be" in page.text
    )


def test_phases_of_a_multigrid_run(tmp_path):
    rows = [{"split": "phase", "epoch": first, "end": end, "iteration": 0, "shapes": f"8 x 4 x {32 + first}", "bn_splits": 4}
            for first, end in ((0, 1), (1, 4))]  # fmt: skip
    page = read_page(write_report(make_run(tmp_path / "run", rows + metrics())))
    assert "Phases" in page.text and "8 x 4 x 33" in page.text and "2 to 4" in page.text


def test_checked_data(run, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "check.json").write_text(json.dumps({"faults": {"truncated": 2}}))
    (data / "train.csv").write_text(
        "path,label,start_sec,end_sec,frames,fps\na,0,,,50,25\nb,0,1.0,8.0,500,25\nc,0,,,0,0\n"
    )
    make_run(run, DATASET={"train": {"file_path": str(data / "train.csv")}})
    facts = read_run(run)
    assert sum(count for _, count in facts.durations) == 2
    page = read_page(write_report(run))
    assert "How long the clips are" in page.text and "2 truncated" in page.text
    (data / "check.json").write_text("[]")
    with pytest.raises(ValueError, match=r"check.json holds no map"):
        read_run(run)
    (data / "check.json").write_text("{}")
    (data / "train.csv").write_text("path,label,frames,fps\na,0,many,25\n")
    with pytest.raises(ValueError, match=r"lists of check_data cannot be read .*run it again"):
        read_run(run)


# --- runs that have less -----------------------------------------------------------------------------------------------


def test_a_run_without_validation(tmp_path, no_charts):
    rows = [row for row in metrics() if row["split"] != "valid"]
    page = read_page(write_report(make_run(tmp_path / "run", rows)))
    assert "train with --validate" in page.text and "Worst clips" not in page.text


def test_a_run_that_was_killed_in_its_first_steps(tmp_path, no_charts):
    folder = make_run(tmp_path / "run", metrics()[:2])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"split": "tra')
    read_page(write_report(folder))
    (folder / "metrics.jsonl").write_text("")
    (folder / "run.yaml").unlink()
    assert "No step has been logged yet" in read_page(write_report(folder)).text


def test_one_value_that_is_not_finite(tmp_path):
    rows = metrics()
    rows[3]["loss"] = rows[6]["loss"] = None
    read_page(write_report(make_run(tmp_path / "run", rows)))


def test_refusals(run, tmp_path, no_charts):
    with pytest.raises(FileNotFoundError, match="output folder of a training run"):
        write_report(tmp_path)
    for text, said in (
        ("{", "not JSON"),
        ("[]", "version None, expected 1"),
        ('{"version": 7}', "version 7, expected 1"),
    ):
        (run / "valid_best.json").write_text(text)
        with pytest.raises(ValueError, match=said + ".*without classes"):
            write_report(run)
    assert not (run / "report.html").exists()


def test_never_makes_a_finished_training_fail(run, tmp_path, caplog, monkeypatch, no_charts):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "propagate", True)
    with caplog.at_level(logging.INFO, "paddlevideo"):
        report_finished(run)
        assert "report: " in caplog.text and (run / "report.html").exists()
        report_finished(tmp_path)
    warning = caplog.records[-1]
    assert (
        warning.levelname == "WARNING" and f"python tools/report.py {tmp_path}" in warning.message
    )
    monkeypatch.setattr(run_report, "render", lambda *a: 1 / 0)
    report_finished(run)
    assert "division by zero" in caplog.text


def test_without_matplotlib(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'paddlevideo\[plot\]'"):
        write_report(run)


def test_long_curves_are_thinned():
    x, y = charts.thin([(i, i % 2) for i in range(10_000)])
    assert (
        len(x) == charts.POINTS and y == pytest.approx(0.5, abs=0.021) and x[0] == pytest.approx(12)
    )
    assert [list(part) for part in charts.thin([(0, 1), (1, 3)])] == [[0, 1], [1, 3]]
