"""Several models in one table, as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paddlevideo.benchmarks.measure import Group, Row


@dataclass(frozen=True)
class Measured:
    """What was measured for a model.

    Args:
        rows: of its settings; the first is the baseline.
        differences: (precision, largest relative difference of the outputs) of each row.
        auto: `auto` as the last row, next to the fastest settings.
    """

    name: str
    rows: Sequence[Row]
    differences: Sequence[tuple[str, float]]
    auto: Group | None


def table(models: Sequence[Measured]) -> Iterator[str]:
    """The lines of a table: a model in each row, a setting in each column.

    A cell is the speed relative to the first setting of the model; in a precision below fp32 also
    the difference of the outputs for the golden inputs.
    """
    names = list(dict.fromkeys(row.name for model in models for row in model.rows))
    yield _line(["model", "ms a clip at 1.00", *names, "auto: time / that of the fastest"])
    yield _line(["---"] * (len(names) + 3))
    for model in models:
        cells = dict(zip((row.name for row in model.rows), _cells(model), strict=True))
        first = f"{1000 * model.rows[0].median:.4g}"
        yield _line([model.name, first, *(cells.get(name, "") for name in names), _auto(model)])


def _cells(model: Measured) -> Iterator[str]:
    for row, (precision, difference) in zip(model.rows, model.differences, strict=True):
        text = f"{row.ratio:.2f}"
        yield text if precision == "fp32" else f"{text} ({100 * difference:.2g} %)"


def _auto(model: Measured) -> str:
    if model.auto is None:
        return ""
    *others, auto = model.auto.rows
    return f"{auto.median / min(row.median for row in others):.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
