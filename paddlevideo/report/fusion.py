"""Accuracy of score files alone and fused: what tools/analysis/report_accuracy.py prints, draws and writes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlevideo.files import atomic_write, writable
from paddlevideo.metrics.fusion import (
    Aligned,
    FusionError,
    accuracies,
    align,
    best_coefficients,
    curve,
    fuse,
    softmax,
)
from paddlevideo.report.score_files import read_list, read_scores, write_scores

MEASURES = {"mean_class_accuracy": "Mean Class", "top1": "Top 1", "top5": "Top 5"}
PICTURES = (".png", ".svg", ".pdf")


def report_accuracy(
    files: Sequence[str],
    datalist: str | None = None,
    coefficients: Sequence[float] | None = None,
    apply_softmax: bool = False,
    search: bool = False,
    plot: str | None = None,
    out: str | None = None,
) -> str:
    """The report as text.

    Args:
        files: scores of each modality.
        datalist: the videos and their labels; needed where a file has no ids, or none has labels.
        coefficients: one for each file, 1 by default.
        apply_softmax: of each row of each file, before they are weighted.
        search: find the coefficients that get most of these labels right.
        plot: a picture of the accuracy over the coefficients (.png, .svg, .pdf).
        out: the fused scores (.json, .npz).

    Raises:
        ValueError: files or flags that do not fit (FusionError, DatasetError, WeightsError).
        OSError: `plot` or `out` cannot be written; said before the work.
        ModuleNotFoundError: a plot is wanted and matplotlib is not installed.
    """
    _check_flags(files, coefficients, search, plot, out)
    figure = _figure() if plot else None
    scores = [read_scores(file) for file in files]
    class_names = next((s.class_names for s in scores if s.class_names), None)
    videos = align(scores, read_list(datalist, class_names) if datalist else None)
    names = _short([s.name for s in scores])
    notes = _notes(videos, names, apply_softmax)
    if apply_softmax:
        videos = Aligned(videos.ids, videos.labels, [softmax(values) for values in videos.values])
    if search:
        coefficients = best_coefficients(videos.values, videos.labels)
        found = " ".join(map(str, coefficients))
        notes += [
            f"found on these {np.count_nonzero(videos.labels >= 0)} videos: --coefficients {found}"
        ]
        notes += [
            "what they gain here is not what they gain elsewhere: report it on videos that were not searched"
        ]
    coefficients = [1.0] * len(files) if coefficients is None else coefficients
    fused = fuse(videos.values, coefficients)
    alone = [accuracies(values, videos.labels) for values in videos.values]
    both = accuracies(fused, videos.labels)
    if plot and figure:
        _draw(figure, plot, videos, coefficients, names, both)
        notes.append(f"plot: {plot}")
    if out:
        failed = int(np.count_nonzero(np.isnan(fused).any(axis=1) & (videos.labels >= 0)))
        unlabelled = int(np.count_nonzero(videos.labels < 0))
        counts = {
            "num_samples": len(videos.ids) - unlabelled,
            "num_failed": failed,
            "num_unlabelled": unlabelled,
        }
        write_scores(out, videos, fused, both | counts, class_names)
        notes.append(f"scores of {len(videos.ids)} videos are in {out}")
    told = [f"{title} Accuracy: {both[key]:.4f}" for key, title in MEASURES.items()]
    return "\n".join(
        [*_table(names, coefficients, alone, both), "", *told, *([""] if notes else []), *notes]
    )


def _check_flags(files, coefficients, search, plot, out) -> None:
    if coefficients is not None and search:
        raise FusionError("--search finds the coefficients; leave out --coefficients")
    if coefficients is not None and len(coefficients) != len(files):
        raise FusionError(
            f"--coefficients has {len(coefficients)} numbers for {len(files)} score files; give one for each"
        )
    if len(files) < 2 and (search or plot):
        raise FusionError("--search and --plot need at least two score files")
    if plot and Path(plot).suffix not in PICTURES:
        raise FusionError(f"--plot {plot}: expected a file that ends in {', '.join(PICTURES)}")
    if out and Path(out).suffix not in (".json", ".npz"):
        raise FusionError(f"--out {out}: expected a .json or .npz file")
    for path in filter(None, (plot, out)):
        writable(path)


def _notes(videos: Aligned, names: list[str], apply_softmax: bool) -> list[str]:
    """What a reader of the numbers should know."""
    notes = []
    for name, values in zip(names, videos.values, strict=True):
        failed = np.flatnonzero(np.isnan(values).any(axis=1))
        if len(failed):
            shown = ", ".join(repr(videos.ids[i]) for i in failed[:5]) + (
                ", ..." if len(failed) > 5 else ""
            )
            notes.append(
                f"{name} has no scores of {len(failed)} videos, which count as wrong, also fused: {shown}"
            )
        known = np.delete(values, failed, axis=0)
        if apply_softmax and (known >= 0).all() and np.allclose(known.sum(axis=1), 1, atol=1e-3):
            notes.append(
                f"{name} holds probabilities already; another softmax makes them nearly equal"
            )
    unlabelled = int(np.count_nonzero(videos.labels < 0))
    return notes + ([f"{unlabelled} videos have no label and do not count"] if unlabelled else [])


def _short(paths: list[str]) -> list[str]:
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths


def _table(
    names: list[str], coefficients: Sequence[float], alone: list[dict], both: dict
) -> list[str]:
    rows = [("", "coefficient", *MEASURES.values())]
    for name, coefficient, numbers in zip(names, coefficients, alone, strict=True):
        rows.append((name, f"{coefficient:g}", *(f"{numbers[key]:.4f}" for key in MEASURES)))
    rows.append(("fused", "", *(f"{both[key]:.4f}" for key in MEASURES)))
    gains = {key: both[key] - max(numbers[key] for numbers in alone) for key in MEASURES}
    rows.append(("gain over the best alone", "", *(f"{gain:+.4f}" for gain in gains.values())))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]


# --- the picture ------------------------------------------------------------------------------------------------------


def _figure():
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'paddlevideo[plot]'"
        ) from error
    return Figure(figsize=(7, 4.5), layout="constrained")


def _draw(
    figure, out: str, videos: Aligned, coefficients: Sequence[float], names: list[str], both: dict
) -> None:
    """Accuracy over the share of the second modality of two; of more, top 1 over the share of each. A dot is what was fused."""
    axes, total, two = figure.subplots(), sum(coefficients), len(names) == 2
    for modality in [1] if two else range(len(names)):
        numbers = curve(videos.values, videos.labels, coefficients, modality)
        for key in ("top5", "top1", "mean_class_accuracy") if two else ("top1",):
            style = "--" if key == "mean_class_accuracy" else "-"  # it often lies on top 1
            (line,) = axes.plot(
                numbers["share"],
                numbers[key],
                style,
                label=MEASURES[key] if two else names[modality],
            )
            share = coefficients[modality] / total if total else -1
            if 0 <= share <= 1:
                axes.plot(share, both[key], "o", color=line.get_color())
    axes.set(
        xlabel=f"share of {names[1]}; the rest is {names[0]}"
        if two
        else "share of a modality; the others keep their proportions",
        ylabel="accuracy" if two else "top 1 accuracy",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_write(out) as temporary:
        figure.savefig(temporary, format=Path(out).suffix[1:], dpi=110)
