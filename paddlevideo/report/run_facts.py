"""Read what a training run left in its folder, for the report.

| file              | content                                                                 |
| ---               | ---                                                                     |
| `metrics.jsonl`   | losses, scores, learning rate, times, phases                            |
| `valid_best.json` | class results and hardest clips of the best validation (with --validate) |
| `labels.txt`      | class names, if the data has them                                       |
| `run.yaml`        | config, command, versions                                               |
| `check.json`      | next to the training list: what `tools/check_data.py` found             |
"""

import csv
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.config.yaml_text import MAX_DATA, NotYaml, load_data, read_text
from paddlevideo.curate.report import duration_rows
from paddlevideo.urls import is_url

# The same as in engine/best_validation.py, which writes the file.
BEST_VALIDATION = "valid_best.json"
VERSION = 1
LABELS = "labels.txt"  # see engine/runfile.py
# Validation scores between 0 and 1, the most common first, with their names in a legend.
SCORES = {
    "top1": "top-1",
    "mean_class_accuracy": "mean class",
    "gap": "GAP",
    "map": "mAP",
    "avg_hit_at_one": "Hit@1",
    "avg_perr": "PERR",
}

Rows = dict[str, list[dict]]  # rows of metrics.jsonl by split


@dataclass
class RunFacts:
    """Everything that the folder of a run contains.

    Args:
        rows: metrics.jsonl by split.
        best: valid_best.json, None if the run has none.
        config_text: run.yaml without its header.
        labels: number of class names in labels.txt, None without this file.
        header: the `key: value` lines at the top of run.yaml.
        config: run.yaml as plain data.
        durations: histogram of the checked clips: (range in seconds, number of clips).
        check: check.json.
    """

    folder: Path
    rows: Rows
    best: dict[str, Any] | None = None
    labels: int | None = None
    config_text: str = ""
    header: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    durations: list[tuple[str, int]] = field(default_factory=list)
    check: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.config.get("model_name") or self.folder.resolve().name)

    @property
    def multi_label(self) -> bool:
        return bool(self.best and "average_precision" in self.best)

    @property
    def num_classes(self) -> int | None:
        """K; None if the run records neither class names nor a best validation."""
        return len(self.best["samples"]) if self.best else self.labels

    @property
    def headline(self) -> tuple[str, str]:
        """(key, name) of the score that ranks models."""
        if self.best:
            return self.best["headline"][0], self.best["headline"][1]
        for key, name in SCORES.items():
            if any(key in row for row in self.rows["valid"]):
                return key, name
        return "top1", SCORES["top1"]

    def class_names(self) -> list[str]:
        """Names of the classes of the best validation; ids as text if the run has no names."""
        assert self.best is not None
        names = self.best["class_names"] or []
        return [names[k] if k < len(names) else str(k) for k in range(len(self.best["samples"]))]

    def confusion(self, group_size: int = 1) -> np.ndarray:
        """Clips by true (rows) and predicted class; without undecodable clips.

        Args:
            group_size: neighboring classes that are counted together, G.

        Returns:
            int64 [ceil(K / G), ceil(K / G)].
        """
        assert self.best is not None
        side = -(-len(self.best["samples"]) // group_size)
        counts = np.zeros((side, side), np.int64)
        for true, predicted, count in self.best["confusion"]:
            counts[true // group_size, predicted // group_size] += count
        return counts

    def find_file(self, path: str) -> str:
        """A path of the run, relative to the working directory of today or of the training; a URL
        as it is."""
        base = (self.best or {}).get("working_folder", "")
        return path if is_url(path) or os.path.exists(path) else os.path.join(base, path)


def read_run(folder: str | Path) -> RunFacts:
    """Read the folder of a run.

    Raises:
        FileNotFoundError: there is no metrics.jsonl, so it is not the folder of a run.
        ValueError: a file is damaged or has another version.
    """
    folder = Path(folder)
    facts = RunFacts(folder, read_metrics(folder), read_best_validation(folder))
    facts.labels = count_labels(folder)
    file = folder / "run.yaml"
    if file.is_file():
        text = read_text(file, MAX_DATA)
        lines = text.splitlines()
        facts.header = parse_header([line[1:].strip() for line in lines if line.startswith("#")])
        facts.config_text = "\n".join(line for line in lines if not line.startswith("#"))
        try:
            facts.config = load_data(text) or {}
        except NotYaml as error:
            raise ValueError(f"{file}: not YAML: {error}") from error
    read_check(facts)
    return facts


def read_metrics(folder: str | Path) -> Rows:
    """Read `<folder>/metrics.jsonl`, by split.

    Returns:
        Rows of `train` (one per logged step), `epoch` (means of an epoch), `valid`, and `phase`
        (multigrid only). A last line that a kill left incomplete is ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not JSON.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; give the output folder of a training run")
    rows: Rows = {"train": [], "epoch": [], "valid": [], "phase": []}
    *lines, _incomplete = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.setdefault(row["split"], []).append(row)
        except (json.JSONDecodeError, TypeError, KeyError):
            raise ValueError(f"{path}:{number}: not a line of JSON; the file is damaged") from None
    return rows


def parse_header(comments: list[str]) -> dict[str, str]:
    """Parse the first lines of run.yaml: command, sources, overrides, ranks, git, versions."""
    header = {}
    for line in comments:
        key, _, value = line.partition(": ")
        if key == "ranks":
            *parts, versions = line.split("; ")
            header |= dict(part.split(": ", 1) for part in parts if ": " in part)
            header["versions"] = versions
        elif key.endswith("To repeat it"):
            header["to repeat it"] = value
        elif value:
            header[key] = value
    return header


def read_best_validation(folder: Path) -> dict[str, Any] | None:
    """Read valid_best.json, None if the run has none.

    Raises:
        ValueError: it is damaged or has another version.
    """
    path = folder / BEST_VALIDATION
    fix = "delete it for a report without classes"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged, not JSON ({error}); {fix}") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise ValueError(f"{path}: version {version}, expected {VERSION}; {fix}")
    return content


def count_labels(folder: Path) -> int | None:
    """The number of class names of a run, one per line of labels.txt; None without names."""
    path = folder / LABELS
    return path.read_bytes().count(b"\n") if path.is_file() else None


def read_check(facts: RunFacts) -> None:
    """Read the check of the training data and the clip durations, if `check_data` has run.

    Raises:
        ValueError: its files are damaged.
    """
    folder = find_check_folder(facts)
    if folder is None:
        return
    try:
        check = json.loads((folder / "check.json").read_text(encoding="utf-8"))
        if not isinstance(check, dict):
            raise ValueError(f"check.json holds a {type(check).__name__}, expected an object")
        seconds = []
        for split in ("train", "val"):
            if (folder / f"{split}.csv").is_file():
                seconds += read_durations(folder / f"{split}.csv")
    except (OSError, ValueError) as error:
        reason = f"the files of check_data cannot be read ({error}); run it again"
        raise ValueError(f"{folder}: {reason}") from error
    facts.check, facts.durations = check, duration_rows(seconds)


def find_check_folder(facts: RunFacts) -> Path | None:
    """The folder with check.json: that of the data set, or the one that holds its list."""
    section = facts.config.get("DATASET") or {}
    file_path = (section.get("train") or {}).get("file_path")
    paths = [section.get("root"), file_path and Path(file_path).parent, file_path]
    bases = [Path(), Path((facts.best or {}).get("working_folder", "."))]
    folders = [base / path for path in paths if path for base in bases]
    return next((folder for folder in folders if (folder / "check.json").is_file()), None)


def read_durations(path: Path) -> list[float]:
    """Seconds of each clip of a list that `check_data` has written; unknown ones are left out."""
    seconds = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            start, fps = float(row.get("start_sec") or 0), float(row.get("fps") or 0)
            if row.get("seconds"):  # an audio file, or a part of one
                seconds.append(float(row["seconds"]))
            elif row.get("end_sec"):
                seconds.append(float(row["end_sec"]) - start)
            elif fps and row.get("frames"):  # those of the part
                seconds.append(int(row["frames"]) / fps)
    return seconds
