"""Report the accuracy of score files, alone and fused: the text, plot and output of
`tools/analysis/report_accuracy.py`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.data.labels import is_integer
from paddlevideo.data.lists import Problems, read_rows
from paddlevideo.files import check_writable
from paddlevideo.metrics.fusion import (
    Aligned,
    FusionError,
    accuracies,
    align,
    best_coefficients,
    curve,
    fuse,
)
from paddlevideo.metrics.score_files import SCORE_SUFFIXES, read_scores, write_scores
from paddlevideo.metrics.scores import softmax
from paddlevideo.report.learning import Guess, best_guess
from paddlevideo.report.outputs import check_replaced, made_of
from paddlevideo.report.plot import draw_guess, finish, new_figure, save

# Titles as in MMAction2's report_accuracy.py: users search for "Mean Class Accuracy: 0.7123".
MEASURES = {"mean_class_accuracy": "Mean Class", "top1": "Top 1", "top5": "Top 5"}
PLOT_SUFFIXES = (".png", ".svg", ".pdf")
MAX_SHOWN = 5  # ids in a note

VideoList = tuple[str, list[str], np.ndarray]  # (name, ids, labels int64 [N])


def report_accuracy(
    files: Sequence[str],
    datalist: str | None = None,
    coefficients: Sequence[float] | None = None,
    apply_softmax: bool = False,
    search: bool = False,
    plot: str | None = None,
    out: str | None = None,
    overwrite: bool = False,
) -> str:
    """Return the report as text; draw the plot and write the fused scores on request.

    Args:
        files: score files, one per modality.
        datalist: list of the videos with labels; required if a file has no ids or no file has
            labels.
        coefficients: weight of each file, 1 by default.
        apply_softmax: turn each row of each file into probabilities before weighting it.
        search: find the coefficients that classify most of these videos correctly.
        plot: image file for accuracy over the coefficients (.png, .svg, .pdf).
        out: file for the fused scores (.json, .npz), which alone need no labels.
        overwrite: replace a `plot` and an `out` that were not made from these files.

    Raises:
        FileExistsError: `plot` or `out` was not made from these files, or is one of them.
        ValueError: unsuitable files or flags (FusionError, DatasetError, WeightsError).
        OSError: `plot` or `out` cannot be written; raised before any work.
        ModuleNotFoundError: `plot` is given and matplotlib is not installed.
    """
    _check_flags(files, coefficients, search, plot, out)
    inputs = made_of(files)
    _check_outputs({"--plot": plot, "--out": out}, files, inputs, overwrite)
    figure = new_figure(7, 4.5) if plot else None
    videos, class_names = _read_all(files, datalist, search or bool(plot) or not out)
    names = _short_names(list(files))
    notes = _notes(videos, names, apply_softmax)
    if apply_softmax:
        videos = Aligned(videos.ids, videos.labels, [softmax(values) for values in videos.values])
    if search:
        coefficients = best_coefficients(videos.values, videos.labels)
        notes += _search_notes(videos, coefficients)
    if coefficients is None:
        coefficients = [1.0] * len(files)
    fused_values = fuse(videos.values, coefficients)
    if not (videos.labels >= 0).any():  # then there is no plot
        _write_fused(str(out), videos, fused_values, {}, class_names, inputs)
        notes[-1] = f"scores of {len(videos.ids)} videos are in {out}"  # for "have no label"
        return "\n".join([*_best_classes(videos.ids, fused_values, class_names), *notes])
    single = [accuracies(values, videos.labels) for values in videos.values]
    fused = accuracies(fused_values, videos.labels)
    if plot:
        _draw(figure, videos, coefficients, names, fused, _guess(videos, class_names))
        save(figure, plot, inputs)
        notes.append(f"plot: {plot}")
    if out:
        _write_fused(out, videos, fused_values, fused, class_names, inputs)
        notes.append(f"scores of {len(videos.ids)} videos are in {out}")
    summary = [f"{title} Accuracy: {fused[key]:.4f}" for key, title in MEASURES.items()]
    lines = [*_table(names, coefficients, single, fused), "", *summary]
    return "\n".join([*lines, "", *notes] if notes else lines)


def read_video_list(path: str | Path, class_names: list[str] | None = None) -> VideoList:
    """Read (name, ids, labels) of a list of videos.

    A line is `path label` or `path num_frames label`; a table with the columns of a data set is
    also accepted.

    Args:
        class_names: in the order of the class ids; required if the list has names as labels.

    Raises:
        DatasetError, FusionError: not a list, or unknown labels.
    """
    path = Path(path)
    try:
        rows, problems = read_rows(path, with_num_frames=False)
    except OSError as error:
        raise FusionError(f"{path}: cannot be read: {error.strerror or error}") from None
    problems.stop()
    words = [row.path.rsplit(None, 1) for row in rows]
    if all(len(parts) == 2 and parts[1].isdecimal() for parts in words):
        rows = [row._replace(path=parts[0]) for row, parts in zip(rows, words, strict=True)]
    class_ids = {name: class_id for class_id, name in enumerate(class_names or [])}
    reason = "is not a class id, and the score files have no class names"
    if class_ids:
        reason = "is not a class of the score files"
    problems = Problems(str(path))
    for row in rows:
        if not is_integer(row.label) and row.label not in class_ids:
            problems.add(row.line, f"label {row.label!r} {reason}")
    problems.stop()
    labels = [int(row.label) if is_integer(row.label) else class_ids[row.label] for row in rows]
    return str(path), [row.path for row in rows], np.array(labels, np.int64)


def _read_all(
    files: Sequence[str], datalist: str | None, need_labels: bool
) -> tuple[Aligned, list[str] | None]:
    """The scores of all files, in one order, and the class names where a file has them."""
    scores = [read_scores(file) for file in files]
    class_names = next((s.class_names for s in scores if s.class_names), None)
    listed = read_video_list(datalist, class_names) if datalist else None
    return align(scores, listed, need_labels), class_names


def _check_flags(
    files: Sequence[str],
    coefficients: Sequence[float] | None,
    search: bool,
    plot: str | None,
    out: str | None,
) -> None:
    if coefficients is not None and search:
        raise FusionError("--search finds the coefficients; leave out --coefficients")
    if coefficients is not None and len(coefficients) != len(files):
        counts = f"{len(coefficients)} numbers for {len(files)} score files"
        raise FusionError(f"--coefficients has {counts}; give one number per file")
    if len(files) < 2 and (search or plot):
        raise FusionError("--search and --plot need at least two score files")
    if plot and Path(plot).suffix not in PLOT_SUFFIXES:
        raise FusionError(f"--plot {plot}: expected a name ending in {', '.join(PLOT_SUFFIXES)}")
    if out and Path(out).suffix not in SCORE_SUFFIXES:
        raise FusionError(f"--out {out}: expected a .json or .npz file")


def _check_outputs(
    outputs: Mapping[str, str | None], files: Sequence[str], inputs: str, overwrite: bool
) -> None:
    read = {Path(file).resolve() for file in files}
    for flag, path in outputs.items():
        if path and Path(path).resolve() in read:
            raise FileExistsError(f"{flag} {path}: one of the score files; give another path")
        if path:
            check_replaced(path, inputs, overwrite, flag)
            check_writable(path)


def _notes(videos: Aligned, names: list[str], apply_softmax: bool) -> list[str]:
    """Facts that change how the accuracies are to be read: failures, softmax, missing labels."""
    notes = []
    for name, values in zip(names, videos.values, strict=True):
        failed = np.flatnonzero(np.isnan(values).any(axis=1))
        if len(failed):
            shown = [repr(videos.ids[i]) for i in failed[:MAX_SHOWN]]
            shown += ["..."] if len(failed) > MAX_SHOWN else []
            notes.append(
                f"{name} has no scores for {len(failed)} videos; they count as wrong, "
                f"alone and fused: {', '.join(shown)}"
            )
        known = np.delete(values, failed, axis=0)
        if apply_softmax and (known >= 0).all() and np.allclose(known.sum(axis=1), 1, atol=1e-3):
            notes.append(
                f"{name} already holds probabilities; --apply-softmax makes them nearly equal"
            )
    num_unlabeled = int(np.count_nonzero(videos.labels < 0))
    if num_unlabeled:
        notes.append(f"{num_unlabeled} videos have no label and are not counted")
    return notes


def _search_notes(videos: Aligned, coefficients: Sequence[float]) -> list[str]:
    num_labeled = np.count_nonzero(videos.labels >= 0)
    return [
        f"found on these {num_labeled} videos: --coefficients {' '.join(map(str, coefficients))}",
        "the gain on the searched videos is optimistic; report accuracy on other videos",
    ]


def _short_names(paths: list[str]) -> list[str]:
    """File names, or the full paths if two files have the same name."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths


def _table(
    names: list[str], coefficients: Sequence[float], single: list[dict], fused: dict
) -> list[str]:
    rows = [("", "coefficient", *MEASURES.values())]
    for name, coefficient, numbers in zip(names, coefficients, single, strict=True):
        rows.append((name, f"{coefficient:g}", *(f"{numbers[key]:.4f}" for key in MEASURES)))
    rows.append(("fused", "", *(f"{fused[key]:.4f}" for key in MEASURES)))
    gains = [fused[key] - max(numbers[key] for numbers in single) for key in MEASURES]
    rows.append(("gain over the best input", "", *(f"{gain:+.4f}" for gain in gains)))
    first_width, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for first, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([first.ljust(first_width), *aligned]))
    return lines


def _best_classes(ids: list[str], values: np.ndarray, class_names: list[str] | None) -> list[str]:
    """A line for each video: its best class and the fused score."""
    lines = []
    for video, row in zip(ids, values, strict=True):
        best = int(row.argmax())  # the position of NaN in a row with NaN
        name = class_names[best] if class_names else str(best)
        score = "no scores" if np.isnan(row[best]) else f"{name} {row[best]:.4f}"
        lines.append(f"{score}  {video}")
    return lines


def _write_fused(
    out: str,
    videos: Aligned,
    values: np.ndarray,
    numbers: dict,
    class_names: list[str] | None,
    inputs: str,
) -> None:
    """Write the fused scores [N, K] in the format of `main.py --test --out`."""
    failed = np.isnan(values).any(axis=1)
    num_unlabeled = int(np.count_nonzero(videos.labels < 0))
    counts = {
        "num_samples": len(videos.ids) - num_unlabeled,
        "num_failed": int(np.count_nonzero(failed & (videos.labels >= 0))),
        "num_unlabelled": num_unlabeled,
    }
    results = []
    rows = zip(videos.ids, videos.labels.tolist(), values, strict=True)
    for video, label, row in rows:
        scores: dict[str, Any] = {"scores": row.tolist()}
        if np.isnan(row).any():
            scores = {"error": "a modality has no scores"}
        results.append({"id": video, "path": video, "label": label, **scores})
    write_scores(out, results, numbers | counts, class_names, values.shape[1], made_by=inputs)


def _guess(videos: Aligned, class_names: list[str] | None) -> Guess | None:
    """The top 1 accuracy of guessing; None without labels or for one class."""
    labels, num_classes = videos.labels[videos.labels >= 0], videos.values[0].shape[1]
    if not len(labels) or num_classes < 2:
        return None
    samples = np.bincount(labels, minlength=num_classes).tolist()
    return best_guess(samples, class_names or [str(k) for k in range(num_classes)])


def _draw(
    figure: Any,
    videos: Aligned,
    coefficients: Sequence[float],
    names: list[str],
    fused: dict,
    guess: Guess | None,
) -> None:
    """Draw accuracy over the share of a modality; dots mark the given coefficients.

    With two files: all measures over the share of the second. With more: top 1 over the share of
    each, while the others keep their proportions. A dashed line shows the top 1 of guessing.
    """
    axes, total, is_pair = figure.subplots(), sum(coefficients), len(names) == 2
    for modality in [1] if is_pair else range(len(names)):
        numbers = curve(videos.values, videos.labels, coefficients, modality)
        share = coefficients[modality] / total if total else -1
        for key in ("top5", "top1", "mean_class_accuracy") if is_pair else ("top1",):
            # Dashed, because it often coincides with top 1.
            style = "--" if key == "mean_class_accuracy" else "-"
            label = MEASURES[key] if is_pair else names[modality]
            (line,) = axes.plot(numbers["share"], numbers[key], style, label=label)
            if 0 <= share <= 1:
                axes.plot(share, fused[key], "o", color=line.get_color())
    across = "share of a modality; the others keep their proportions"
    if is_pair:
        across = f"share of {names[1]}; the rest is {names[0]}"
    if guess:
        draw_guess(axes, guess)
    finish(axes, across, "accuracy" if is_pair else "top 1 accuracy")
