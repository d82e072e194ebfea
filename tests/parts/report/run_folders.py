"""Folders of synthetic training runs, and a strict reader of the report's page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import yaml

from paddlevideo.engine.best_validation import HardestClips, write_best_validation
from paddlevideo.engine.evaluate import Evaluation, Scored
from paddlevideo.metrics.recognition import RecognitionMetric
from paddlevideo.report import charts
from paddlevideo.sample import Record

# Class names that a page or a chart may break on.
NASTY = ["<script>alert(1)</script>", 'a "quoted" & $x^2$', "红色 \u202e rot", "new\nline"]
LABELS = [0, 0, 0, 1, 1, 2, 2, 3]
LOGITS = np.eye(4)[[0, 1, 1, 1, 1, 2, 0, 3]] * 4.0 + 0.1
VOID = {"meta", "img", "br", "link", "input"}
FORBIDDEN = {"script", "iframe", "object", "link", "base", "form"}
REFERENCES = ("src", "href", "xlink:href", "data", "action", "poster")


def make_metrics(epochs=4, steps=5, scores=("top1", "top5")):
    """Rows of metrics.jsonl: 5 steps of 1 s per epoch, 0.25 s of waiting each, then 0.5 s."""
    rows, clock = [], 0.0
    for epoch in range(epochs):
        for step in range(steps):
            clock += 1.0
            row = {"split": "train", "epoch": epoch, "step": step}
            row |= {"iteration": epoch * steps + step, "lr": 0.1 / (epoch + 1), "seconds": clock}
            row |= {"loss": 2 / (1 + epoch + step / steps), "batch_cost": 1.0, "reader_cost": 0.25}
            rows.append(row)
        end = {"epoch": epoch, "iteration": (epoch + 1) * steps}
        end |= dict.fromkeys(scores, 0.2 + 0.2 * epoch)
        rows.append({"split": "epoch", **end, "seconds": clock, "loss": 1.0, "loss_extra": 0.5})
        clock += 0.5
        rows.append({"split": "valid", **end, "seconds": clock, "loss": 1.2 - 0.1 * epoch})
    return rows


def make_run(folder: Path, rows=None, **config) -> Path:
    """Write metrics.jsonl and run.yaml of a run; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) + "\n" for row in rows or make_metrics()]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    header = (
        "# The resolved config of a run. To repeat it: python main.py --validate -c run.yaml\n"
        "# command: main.py --validate\n"
        "# ranks: 1; git: abc; python 3.11, numpy 2.4\n"
    )
    text = yaml.safe_dump({"model_name": "tiny", **config}, allow_unicode=True)
    (folder / "run.yaml").write_text(header + text, encoding="utf-8")
    return folder


def write_best(folder: Path, names, labels, logits, records=None, failures=()) -> None:
    """Write valid_best.json with the engine's own code; a row of NaN logits is a failed clip."""
    metric, hardest = RecognitionMetric(len(names)), HardestClips()
    if records is None:
        records = [Record(f"{folder}/clip {i}.mp4", label) for i, label in enumerate(labels)]
    metric.update(logits, {"label": np.array(labels)})
    for index, (record, row) in enumerate(zip(records, logits, strict=True)):
        if not np.isnan(row).any():
            hardest.add(Scored(record, index, np.int64(labels[index]), "", row))
    hardest.merge([hardest.state()])
    state = metric.state()
    result = Evaluation(
        metric.result(state), metric.headline, list(failures), lambda: metric.by_class(state)
    )
    train = [Record("t", k) for k in range(len(names)) for _ in range(2 + 10 * (k % 4))]
    write_best_validation(folder, 4, result, hardest.rows, list(names), train)


class Page(HTMLParser):
    """A page, read strictly: every element is closed by its own end tag."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.references, self.tags, self.texts = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.references += [values[key] for key in REFERENCES if key in values]
        styles = " ".join(value or "" for value in values.values())
        self.references += re.findall(r"url\(([^)]*)\)", styles)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def images(self):
        """The `src` of each <img>."""
        return self.sources("img")

    def sources(self, element):
        """The `src` of each element of this name."""
        return [values["src"] for tag, values in self.tags if tag == element]


def read_page(path: Path) -> Page:
    """Read a page and check what holds for every page: small, no scripts, nothing external."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert len(text.encode()) < 5_000_000
    assert not [tag for tag, _ in page.tags if tag in FORBIDDEN]
    assert not [key for _, values in page.tags for key in values if key.startswith("on")]
    inside = ("data:image/", "data:audio/", "#")
    assert all(ref.startswith(inside) for ref in page.references), page.references
    assert len(page.ids) == len(set(page.ids))
    assert {ref[1:] for ref in page.references if ref.startswith("#")} <= set(page.ids)
    body = text.partition("</style>")[2]  # the page's own style defines the colors
    for color in charts.THEME:
        assert color not in body, "a color that the page does not define"
    return page
