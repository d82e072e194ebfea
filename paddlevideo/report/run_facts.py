"""What a training run left in its folder, read for a report: numbers, the best validation, config, data.

| file                | what it gives                                                                |
| ---                 | ---                                                                          |
| `metrics.jsonl`     | curves, learning rate, times, phases                                         |
| `valid_best.json`   | classes and worst clips of the best validation; a run without one has none   |
| `run.yaml`          | config, command, versions                                                    |
| `check.json`        | beside the training list: what `tools/check_data.py` found, with the lists   |
"""

import csv
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from paddlevideo.curate.report import durations
from paddlevideo.report.plot import SCORES, Rows, read_metrics

FINDINGS = "valid_best.json"
VERSION = 1
PAIRS = 20  # of classes that are taken for each other
SLOW_DATA = 0.10  # share of a step that waiting for data should not exceed
GAP = 0.15  # between the scores of training and validation that is worth a word


@dataclass
class RunFacts:
    """A run, as its folder tells it.

    Args:
        rows: of metrics.jsonl, by split.
        best: valid_best.json, None where there is none.
        config: run.yaml without its head; `head`: its lines `key: value`; `data`: the config as plain data.
        durations: (seconds, how many clips) of the checked lists; `checked`: check.json.
    """

    folder: Path
    rows: Rows
    best: dict[str, Any] | None = None
    config: str = ""
    head: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    durations: list[tuple[str, int]] = field(default_factory=list)
    checked: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.data.get("model_name") or self.folder.resolve().name)

    @property
    def multi_label(self) -> bool:
        return bool(self.best and "average_precision" in self.best)

    @property
    def headline(self) -> tuple[str, str]:
        """(key, name) of the score that says how good the model is."""
        if self.best:
            return self.best["headline"][0], self.best["headline"][1]
        key = next((key for key in SCORES if any(key in row for row in self.rows["valid"])), "top1")
        return key, SCORES[key]

    def class_names(self) -> list[str]:
        """One for each class of the best validation; ids where the run has no names."""
        assert self.best is not None
        names = self.best["class_names"] or []
        return [names[k] if k < len(names) else str(k) for k in range(len(self.best["samples"]))]

    def confusion(self) -> np.ndarray:
        """[K, K] true x predicted, without clips that could not be decoded."""
        assert self.best is not None
        counts = np.zeros((len(self.best["samples"]),) * 2, np.int64)
        for true, said, count in self.best["confusion"]:
            counts[true, said] = count
        return counts


def read_run(folder: str | Path) -> RunFacts:
    """Read the folder of a run.

    Raises:
        FileNotFoundError: there is no metrics.jsonl; that is not the folder of a run.
        ValueError: a file is damaged or of another version.
    """
    folder = Path(folder)
    facts = RunFacts(folder, read_metrics(folder), read_findings(folder / FINDINGS))
    if (folder / "run.yaml").is_file():
        text = (folder / "run.yaml").read_text(encoding="utf-8")
        lines = text.splitlines()
        comments = [line[1:].strip() for line in lines if line.startswith("#")]
        facts.head = head_of(comments)
        facts.config = "\n".join(line for line in lines if not line.startswith("#"))
        try:
            facts.data = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{folder / 'run.yaml'}: not YAML: {error}") from error
    read_data(facts)
    return facts


def head_of(comments: list[str]) -> dict[str, str]:
    """What the first lines of run.yaml say: command, sources, overrides, ranks, git, versions."""
    head = {}
    for line in comments:
        key, _, value = line.partition(": ")
        if key == "ranks":
            *parts, versions = line.split("; ")
            head |= dict(part.split(": ", 1) for part in parts if ": " in part) | {
                "versions": versions
            }
        elif key.endswith("To repeat it"):
            head["to repeat it"] = value
        elif value:
            head[key] = value
    return head


def read_findings(path: Path) -> dict[str, Any] | None:
    """The best validation, None where the run has none.

    Raises:
        ValueError: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path}: not JSON ({error}); the file is damaged, delete it for a report without classes"
        ) from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise ValueError(
            f"{path}: version {version}, expected {VERSION}; delete it for a report without classes"
        )
    return found


def read_data(facts: RunFacts) -> None:
    """Durations and the check of the training data, where `check_data` has looked at them."""
    section = facts.data.get("DATASET") or {}
    train = section.get("train") or {}
    wanted = [
        section.get("root"),
        train.get("file_path") and Path(train["file_path"]).parent,
        train.get("file_path"),
    ]
    bases = [Path(), Path((facts.best or {}).get("working_folder", "."))]
    folders = [base / path for path in wanted if path for base in bases]
    folder = next((path for path in folders if (path / "check.json").is_file()), None)
    if folder is None:
        return
    try:
        facts.checked = json.loads((folder / "check.json").read_text(encoding="utf-8"))
        if not isinstance(facts.checked, dict):
            raise ValueError("check.json holds no map")
        seconds = []
        for split in ("train", "val"):
            if (folder / f"{split}.csv").is_file():
                seconds += list_seconds(folder / f"{split}.csv")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: the lists of check_data cannot be read ({error}); run it again"
        ) from error
    facts.durations = durations(seconds)


def list_seconds(path: Path) -> list[float]:
    """How long the clips of a checked list are."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rate = float(row.get("fps") or 0)
            if row.get("end_sec"):
                found.append(float(row["end_sec"]) - float(row.get("start_sec") or 0))
            elif rate and row.get("frames"):
                found.append(int(row["frames"]) / rate - float(row.get("start_sec") or 0))
    return found


# --- what follows from it --------------------------------------------------------------------------------------------


def data_share(rows: Rows) -> float | None:
    """The share of the steps that was spent waiting for data, None where no step was logged."""
    pairs = [
        (row["reader_cost"], row["batch_cost"]) for row in rows["train"] if row.get("batch_cost")
    ]
    return sum(wait for wait, _ in pairs) / sum(cost for _, cost in pairs) if pairs else None


def time_parts(facts: RunFacts) -> list[tuple[str, float]]:
    """(what, seconds): computing, waiting for data, validating; empty where times were not recorded."""
    rows = facts.rows
    ends = sorted(
        (row["seconds"], split)
        for split in ("epoch", "valid")
        for row in rows[split]
        if "seconds" in row
    )
    spent, before = {"epoch": 0.0, "valid": 0.0}, 0.0
    for seconds, split in ends:
        spent[split] += seconds - before
        before = seconds
    share = data_share(rows)
    if share is None or before <= 0:
        return []
    wait = share * spent["epoch"]
    after = "validating and precise BN" if facts.data.get("PRECISEBN") else "validating"
    return [
        ("computing", spent["epoch"] - wait),
        ("waiting for data", wait),
        (after, spent["valid"]),
    ]


@dataclass(frozen=True)
class ClassFacts:
    """A class in the best validation: `right` of `samples` clips, or the average precision where clips have several."""

    number: int
    name: str
    samples: int
    score: float
    right: int = 0
    taken_for: str = ""
    train: int | None = None


def class_table(facts: RunFacts) -> list[ClassFacts]:
    """The classes that were validated, the worst first; of equal ones the larger."""
    best, names = facts.best, facts.class_names()
    assert best is not None
    train = best["train_samples"] or [None] * len(names)
    rows = []
    if facts.multi_label:
        for k, samples in enumerate(best["samples"]):
            rows.append(
                ClassFacts(k, names[k], samples, best["average_precision"][k], train=train[k])
            )
    else:
        counts = facts.confusion()
        for k, samples in enumerate(best["samples"]):
            others = counts[k].copy()
            right, others[k] = int(others[k]), 0
            said = f"{names[others.argmax()]} ({others.max()})" if others.any() else ""
            rows.append(
                ClassFacts(k, names[k], samples, right / max(samples, 1), right, said, train[k])
            )
    return sorted(
        (row for row in rows if row.samples), key=lambda row: (row.score, -row.samples, row.number)
    )


def confused_pairs(facts: RunFacts) -> list[tuple[str, str, int, float]]:
    """(true class, predicted class, how often, share of the true class), the most frequent first."""
    assert facts.best is not None
    names, samples = facts.class_names(), facts.best["samples"]
    wrong = sorted(
        (item for item in facts.best["confusion"] if item[0] != item[1]), key=lambda item: -item[2]
    )
    return [
        (names[true], names[said], count, count / max(samples[true], 1))
        for true, said, count in wrong[:PAIRS]
    ]


def remarks(facts: RunFacts) -> list[str]:
    """What is worth a sentence."""
    said, best, rows = [], facts.best, facts.rows
    key, _ = facts.headline
    share = data_share(rows)
    if share is not None and share > SLOW_DATA:
        said.append(
            f"{share:.0%} of the time of training steps went into waiting for data: more DATASET.num_workers, or smaller files."
        )
    if best is None:
        return [
            *said,
            "No best validation is kept in this folder, so there is nothing on classes and clips: train with --validate.",
        ]
    trained = {row["epoch"] + 1: row.get(key) for row in rows["epoch"]}.get(best["epoch"])
    score, last = (
        best["numbers"].get(key),
        max((row["epoch"] + 1 for row in rows["valid"]), default=0),
    )
    if trained is not None and score is not None and trained - score > GAP:
        said.append(
            f"Training score {trained:.3f}, validation {score:.3f} in the best epoch: it knows the training clips better."
        )
    if best["epoch"] == last and len(rows["valid"]) > 2 and (score or 0) < 0.999:
        said.append("The last validation is the best one; more epochs may give more.")
    if 0 < best["numbers"]["num_samples"] < 50:
        count = best["numbers"]["num_samples"]
        said.append(
            f"{count} validation clips are few: one of them is {100 / count:.1f} points of accuracy."
        )
    if best["numbers"].get("num_failed"):
        said.append(
            f"{best['numbers']['num_failed']} validation clips could not be decoded and count as wrong."
        )
    known = [count for count in best["train_samples"] or [] if count]
    if known and max(known) >= 5 * min(known):
        said.append(f"Classes have between {min(known)} and {max(known)} training clips.")
    table = class_table(facts)
    if len(table) > 1 and table[0].score < table[-1].score and not facts.multi_label:
        worst = table[0]
        also = f", most often taken for {worst.taken_for}" if worst.taken_for else ""
        said.append(
            f"The worst class is {worst.name}: {worst.right} of {worst.samples} clips right{also}."
        )
    return said


def resolve(facts: RunFacts, path: str) -> str:
    """A path of the run, from where one is now, or from where the run was started."""
    base = (facts.best or {}).get("working_folder", "")
    return path if os.path.exists(path) else os.path.join(base, path)
