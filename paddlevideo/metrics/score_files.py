"""Files with the scores of videos: one reader and one writer for tests, predictions and fusion.

| written by | content |
| --- | --- |
| `main.py --test --out x.json` | `{numbers, class_names, results: [{id, path, label, scores}]}` |
| `main.py --test --out x.npz` | arrays `id` [N], `scores` [N, K], `label` [N] |
| `report_accuracy.py --out` | the same two, with the fused scores |
| `predict.py --save_json x.json` | `[{input_path, class_ids, scores, label_names}]`, best first |
| other tools, as MMAction2 | `.json` or `.pkl`: one row of scores per video, without ids |

A multi-label test keeps the best classes of each video: `labels`, `classes` and `scores` in JSON,
`classes` [N, k] in place of `label` in `.npz`. Predictions may also go to `.jsonl` and `.csv`.
Both forms of a test begin with `made_by`, which names the test; see `recorded_test`.
A result with `error` in place of `scores` is a video that failed.
"""

import csv
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.array_files import ArrayFileError, read_npz
from paddlevideo.files import atomic_write, check_regular, json_text
from paddlevideo.metrics.fusion import FusionError, Scores
from paddlevideo.plain_text import csv_cell, csv_path
from paddlevideo.safe_pickle import read_pickle, unwrap

SCORE_SUFFIXES = (".json", ".npz")
PREDICTION_SUFFIXES = (".json", ".jsonl", ".csv")
MAX_SCORE = 1e15
MAX_CONTAINERS, BYTES_PER_CONTAINER = 1_000_000, 16  # lists and dicts in a JSON file
EXPECTED = (
    "a file that a test wrote with --out, or a prediction with --save_json, "
    "or a list with one row of scores per video"
)


# --- writing ------------------------------------------------------------------------------------


def write_scores(
    path: str | Path,
    results: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, Any],
    class_names: Sequence[str] | None,
    num_scores: int,
    multi_label: bool = False,
    made_by: str = "",
) -> None:
    """Write the scores of all videos to `.json` or `.npz`, completely or not at all.

    Args:
        results: one per video: `id`, `path`, `label` (class id, -1 if unknown) and `scores` [K].
            Multi-label: `labels`, `classes` [k] and `scores` [k], best class first.
            A video that failed has `error` in place of its scores; its row in `.npz` is NaN.
        numbers: accuracies and counts of all videos (JSON only).
        class_names: in the order of the class ids, None if unknown (JSON only).
        num_scores: length of each `scores`.
        made_by: names the test, see `recorded_test`; "" leaves it out.

    Raises:
        OSError: `path` cannot be written; a file that was there before is kept.
    """
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, **_score_arrays(results, num_scores, multi_label))
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.comment = made_by.encode()
        else:
            content = {"numbers": numbers, "class_names": class_names, "results": results}
            text = json_text({"made_by": made_by} | content if made_by else content, indent=1)
            temporary.write_text(text, encoding="utf-8")


def recorded_test(path: str | Path) -> str:
    """`made_by` of a score file: the test that wrote it; "" where the file does not say it."""
    path = Path(path)
    try:
        check_regular(path)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return archive.comment.decode("utf-8", "replace")
        with path.open("rb") as file:
            start = file.read(200).decode("utf-8", "replace")
    except (OSError, ValueError, zipfile.BadZipFile):
        return ""
    match = re.match(r'\{\s*"made_by": "([^"\\]*)"', start)
    return match[1] if match else ""


def _score_arrays(
    results: Sequence[Mapping[str, Any]], num_scores: int, multi_label: bool
) -> dict[str, Any]:
    no_scores, no_classes = [float("nan")] * num_scores, [-1] * num_scores
    scores = [result.get("scores", no_scores) for result in results]
    arrays = {
        "id": np.array([result["id"] for result in results]),
        "scores": np.array(scores, np.float64),
    }
    if multi_label:
        classes = [result.get("classes", no_classes) for result in results]
        return arrays | {"classes": np.array(classes, np.int64)}
    return arrays | {"label": np.array([result["label"] for result in results], np.int64)}


def check_prediction_suffix(path: str | Path) -> None:
    """Check that predictions can be written to a file of this name.

    Raises:
        ValueError: they cannot.
    """
    if Path(path).suffix not in PREDICTION_SUFFIXES:
        suffixes = ", ".join(PREDICTION_SUFFIXES)
        raise ValueError(f"{path}: expected a file for predictions, which ends in {suffixes}")


@contextmanager
def prediction_file(path: str | Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that writes one prediction, so that predictions need not fit in memory.

    A prediction is a dict: `input_path` and, where known, `id`; then `class_ids`, `scores` and
    `label_names`, best class first, or `error`. `.json` holds one list, `.jsonl` one object per
    line. `.csv` is the submission format of the YouTube-8M challenge (`VideoId`,
    `LabelConfidencePairs`); it names a video by its id, else by its path, and omits failed videos.
    The file appears when the block ends without an error.

    Raises:
        ValueError: another suffix.
        OSError: `path` cannot be written; a file that was there before is kept.
    """
    check_prediction_suffix(path)
    suffix, count = Path(path).suffix, 0
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        table = csv.writer(file, lineterminator="\n")

        def write(prediction: Mapping[str, Any]) -> None:
            nonlocal count
            if suffix == ".jsonl":
                file.write(json_text(prediction) + "\n")
            elif suffix == ".json":
                file.write(",\n" if count else "[\n")
                file.write(json_text(prediction, indent=1))
            elif "error" not in prediction:
                table.writerow(_csv_row(prediction))
            count += 1

        if suffix == ".csv":
            table.writerow(["VideoId", "LabelConfidencePairs"])
        yield write
        if suffix == ".json":
            file.write("\n]\n" if count else "[]\n")


def _csv_row(prediction: Mapping[str, Any]) -> list[str]:
    pairs = zip(prediction["class_ids"], prediction["scores"], strict=True)
    text = " ".join(f"{class_id} {score:g}" for class_id, score in pairs)
    return [csv_cell(prediction.get("id") or csv_path(prediction["input_path"])), text]


# --- reading ------------------------------------------------------------------------------------


def read_scores(path: str | Path) -> Scores:
    """Read the scores of a `.json`, `.npz` or `.pkl` file. Code inside the file is never run.

    Raises:
        FusionError, WeightsError: it is not a score file, or a score is not a finite number.
    """
    path = Path(path)
    try:
        check_regular(path)
        if path.suffix == ".json":
            scores = _from_json(path, _load_json(path))
        elif path.suffix == ".npz":
            scores = _from_npz(path)
        elif path.suffix in (".pkl", ".pickle"):
            scores = Scores(str(path), _matrix(path, unwrap(read_pickle(path))))
        else:
            raise FusionError(f"{path}: expected a score file: .json, .npz or .pkl")
    except (FileNotFoundError, IsADirectoryError):
        raise FusionError(f"{path}: no such file") from None
    except OSError as error:
        raise FusionError(f"{path}: cannot be read: {error.strerror or error}") from None
    except FusionError:
        raise
    except OverflowError:
        raise FusionError(f"{path}: a number in it is too large for a score or a label") from None
    _check_values(path, scores)
    _check_class_names(path, scores)
    return scores


def _load_json(path: Path) -> Any:
    text = path.read_bytes().decode("utf-8-sig", "replace")
    # Each list and dict takes 64 bytes and more. Score files hold a row of numbers in each.
    if text.count("[") + text.count("{") > MAX_CONTAINERS + len(text) // BYTES_PER_CONTAINER:
        raise FusionError(f"{path}: holds mostly empty lists or dicts; expected {EXPECTED}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise FusionError(f"{path}: not JSON, or truncated: {error}") from None


def _from_json(path: Path, content: Any) -> Scores:
    if isinstance(content, dict) and isinstance(content.get("results"), list):
        return _from_test(path, content)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return _from_predictions(path, content)
    if isinstance(content, list):
        return Scores(str(path), _matrix(path, content))
    raise FusionError(f"{path}: holds a JSON {type(content).__name__}; expected {EXPECTED}")


def _from_test(path: Path, content: dict) -> Scores:
    """Scores that `main.py --test --out` wrote."""
    results = _dicts(path, content["results"], "id")
    for result in results:
        # A multi-label test has `labels`, and scores of its best classes, best first.
        label = result.get("label", result.get("labels", -1))
        if not _is_integer(label):
            raise FusionError(
                f"{path}: the label of {result['id']!r} is {label!r}; "
                "expected one class id per video (multi-label results cannot be fused)"
            )
    ids = [result["id"] for result in results]
    labels = np.array([result.get("label", -1) for result in results], np.int64)
    values = _values(path, ids, results, [result.get("scores") for result in results])
    return Scores(str(path), values, ids, labels, content.get("class_names"))


def _from_predictions(path: Path, content: list) -> Scores:
    """Scores that `tools/predict.py --save_json` wrote, in the order of the class ids."""
    results = _dicts(path, content, "input_path")
    rows: list[list | None] = []
    for result in results:
        name, classes, scores = result["input_path"], result.get("class_ids"), result.get("scores")
        if "error" in result:
            rows.append(None)
            continue
        if not (isinstance(classes, list) and isinstance(scores, list)):
            raise FusionError(f"{path}: {name!r} has neither class_ids and scores nor an error")
        if len(classes) != len(scores):
            counts = f"{len(classes)} class_ids and {len(scores)} scores"
            raise FusionError(f"{path}: {name!r} has {counts}; expected as many of both")
        if not all(map(_is_integer, classes)) or sorted(classes) != list(range(len(classes))):
            raise FusionError(
                f"{path}: holds only the best {len(classes)} classes of {name!r}; fusion needs "
                "all of them: predict with --topk NUMBER_OF_CLASSES"
            )
        by_class = dict(zip(classes, scores, strict=True))
        rows.append([by_class[k] for k in range(len(classes))])
    ids = [result["input_path"] for result in results]
    return Scores(str(path), _values(path, ids, results, rows), ids, None, _names_in(results))


def _names_in(predictions: list[dict]) -> list[str] | None:
    """The class names in the order of the class ids; None if a prediction has none."""
    for result in predictions:
        names, classes = result.get("label_names"), result.get("class_ids")
        if names and classes and len(names) == len(classes):
            by_class = dict(zip(classes, names, strict=True))
            return [by_class[k] for k in range(len(classes))]
    return None


def _from_npz(path: Path) -> Scores:
    try:
        arrays = read_npz(path)
    except ArrayFileError as error:
        raise FusionError(f"{path}: not an .npz file of plain arrays: {error}") from None
    missing = [name for name in ("id", "label", "scores") if name not in arrays]
    if missing:
        present = ", ".join(arrays) or "none"
        raise FusionError(f"{path}: lacks the array {missing[0]!r}; its arrays are: {present}")
    ids, labels, values = arrays["id"], arrays["label"], _matrix(path, arrays["scores"])
    if ids.shape != (len(values),) or labels.shape != ids.shape or labels.dtype.kind not in "iu":
        raise FusionError(
            f"{path}: id has shape {list(ids.shape)}, label {list(labels.shape)} "
            f"{labels.dtype}; expected [{len(values)}] and integer labels, as scores has rows"
        )
    return Scores(str(path), values, [str(video) for video in ids], labels.astype(np.int64))


def _values(path: Path, ids: list[str], results: list[dict], rows: list[list | None]) -> np.ndarray:
    """Scores [N, K] of all videos; the rows of failed videos (None) are NaN."""
    for name, result, row in zip(ids, results, rows, strict=True):
        if row is None and "error" not in result:
            raise FusionError(f"{path}: {name!r} has neither scores nor an error")
    present = np.array([row is not None for row in rows], bool)
    if not present.any():
        raise FusionError(f"{path}: no video in it has scores")
    scored = _matrix(path, [row for row in rows if row is not None])
    all_nan = np.flatnonzero(np.isnan(scored).all(axis=1))
    if len(all_nan):
        name = ids[np.flatnonzero(present)[all_nan[0]]]
        raise FusionError(f"{path}: all scores of {name!r} are NaN; the model is broken")
    values = np.full((len(rows), scored.shape[1]), np.nan)
    values[present] = scored
    return values


def _matrix(path: Path, content: Any) -> np.ndarray:
    """Rows of scores as one array [N, K]: float32 if the file holds float32, else float64."""
    if isinstance(content, np.ndarray):
        if content.ndim != 2 or content.dtype.kind not in "fiu" or not content.size:
            raise FusionError(
                f"{path}: holds an array {list(content.shape)} of {content.dtype}; "
                "expected numbers of shape [videos, classes]"
            )
        return content if content.dtype == np.float32 else content.astype(np.float64)
    if isinstance(content, list | tuple):
        content = [unwrap(row) for row in content]
    rows = _equal_rows(path, content)
    if all(isinstance(row, np.ndarray) for row in rows):
        return _matrix(path, np.stack(rows))
    for index, row in enumerate(rows):
        if isinstance(row, np.ndarray) or not all(map(_is_number, row)):
            raise FusionError(f"{path}: row {index} holds values that are not numbers")
    return np.array(rows, np.float64)


def _equal_rows(path: Path, rows: Any) -> list:
    """Check that the content is a list of rows (lists or 1-d arrays) of the same length."""
    if not isinstance(rows, list) or not rows:
        content = "nothing" if rows == [] else f"a {type(rows).__name__}"
        raise FusionError(f"{path}: holds {content}; expected {EXPECTED}")
    for index, row in enumerate(rows):
        if not isinstance(row, list) and not (isinstance(row, np.ndarray) and row.ndim == 1):
            raise FusionError(f"{path}: row {index} is a {type(row).__name__}; expected {EXPECTED}")
        if len(row) != len(rows[0]) or not len(row):
            raise FusionError(
                f"{path}: row {index} has {len(row)} scores, row 0 has {len(rows[0])}; "
                "expected one score per class in every row"
            )
    return rows


def _dicts(path: Path, results: list, key: str) -> list[dict]:
    for index, result in enumerate(results):
        if not isinstance(result, dict) or not isinstance(result.get(key), str):
            raise FusionError(f"{path}: result {index} has no {key!r}; expected {EXPECTED}")
    return results


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _check_values(path: Path, scores: Scores) -> None:
    """Check that scores are finite; only a video with an id may be all NaN: it failed."""
    wrong = ~(np.abs(scores.values) <= MAX_SCORE)  # also NaN
    if scores.ids is not None:
        wrong &= ~np.isnan(scores.values).all(axis=1, keepdims=True)
    if wrong.any():
        row, class_id = np.argwhere(wrong)[0]
        name = f"row {row}" if scores.ids is None else repr(scores.ids[row])
        value = scores.values[row, class_id]
        raise FusionError(
            f"{path}: the score of class {class_id} of {name} is {value}, expected a finite number "
            f"of at most {MAX_SCORE:g}"
        )


def _check_class_names(path: Path, scores: Scores) -> None:
    names, num_classes = scores.class_names, scores.values.shape[1]
    if names is not None and (not isinstance(names, list) or len(names) != num_classes):
        got = f"{len(names)} names" if isinstance(names, list) else f"a {type(names).__name__}"
        raise FusionError(f"{path}: class_names holds {got}, expected {num_classes} names")
