"""The validation scores of several runs, such as folds or seeds, and their mean."""

from collections.abc import Sequence
from pathlib import Path

from paddlevideo.report.run_facts import SCORES, Rows, read_metrics

DIGITS = 4


def common_score(runs: Sequence[Rows]) -> str:
    """The key of the score that compares runs: the first of SCORES that one of them has."""
    rows = [row for each in runs for row in each["valid"]]
    return next((key for key in SCORES if any(key in row for row in rows)), "top1")


def comparison(folders: Sequence[str | Path], names: Sequence[str] = ()) -> str:
    """A table with the best and the last validation of each run; of two runs or more, the mean.

    Args:
        names: one per folder; the names of the folders by default.

    Raises:
        FileNotFoundError, ValueError: metrics.jsonl is missing or damaged.
    """
    names = names or [Path(folder).name for folder in folders]
    runs = [read_metrics(folder) for folder in folders]
    key = common_score(runs)
    scores = [[row[key] for row in rows["valid"] if row.get(key) is not None] for rows in runs]
    lines = [[f"validation {SCORES[key]}", "best", "last", "validations"]]
    for name, values in zip(names, scores, strict=True):
        shown = [f"{value:.{DIGITS}f}" for value in (max(values), values[-1])] if values else "--"
        lines.append([name, *shown, str(len(values))])
    pairs = [(max(values), values[-1]) for values in scores if values]
    if len(pairs) > 1:
        for title, combine in (("mean", mean), ("lowest", min), ("highest", max)):
            best, last = (f"{combine(column):.{DIGITS}f}" for column in zip(*pairs, strict=True))
            lines.append([f"{title} of {len(pairs)} runs", best, last, ""])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
