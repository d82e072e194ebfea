"""Files of scores: what a test and a prediction of ours wrote, plain rows as MMAction2 writes them; lists of videos."""

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.data.datasets import is_integer
from paddlevideo.data.lists import Problems, read_rows
from paddlevideo.files import atomic_write
from paddlevideo.metrics.fusion import Aligned, FusionError, Scores
from paddlevideo.weights import plain, read_pickle

KINDS = "what main.py --test --out or tools/predict.py --save_json wrote, or a list with a row of scores for each video"


def read_scores(path: str | Path) -> Scores:
    """The scores in a `.json`, `.npz` or `.pkl` file; no code in the file is ever run.

    Raises:
        FusionError, WeightsError: not a file of scores, or scores that are no numbers; the message names the file.
    """
    path = Path(path)
    try:
        if path.suffix == ".json":
            scores = _of_json(path, json.loads(path.read_text(encoding="utf-8-sig")))
        elif path.suffix == ".npz":
            scores = _of_npz(path)
        elif path.suffix in (".pkl", ".pickle"):
            scores = Scores(str(path), _rows(path, plain(read_pickle(path))))
        else:
            raise FusionError(f"{path}: files of scores end in .json, .npz or .pkl")
    except (FileNotFoundError, IsADirectoryError):
        raise FusionError(f"{path}: there is no such file") from None
    except OSError as error:
        raise FusionError(f"{path}: cannot be read: {error.strerror or error}") from None
    except FusionError:
        raise
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FusionError(f"{path}: not JSON, or cut short: {error}") from None
    _check(path, scores)
    return scores


def _of_json(path: Path, content: Any) -> Scores:
    if isinstance(content, dict) and isinstance(content.get("results"), list):
        results = _dicts(path, content["results"], "id")
        labels = [row.get("label", -1) for row in results]
        wrong = next((row for row in results if not _is_integer(row.get("label", -1))), None)
        if wrong:
            raise FusionError(
                f"{path}: the label of {wrong['id']!r} is {wrong['label']!r}; fusion is for one class id a video"
            )
        values = _filled(path, results, [row.get("scores") for row in results])
        ids = [row["id"] for row in results]
        return Scores(
            str(path), values, ids, np.array(labels, np.int64), content.get("class_names")
        )
    if isinstance(content, list) and content and isinstance(content[0], dict):
        results = _dicts(path, content, "input_path")
        return Scores(
            str(path), _of_prediction(path, results), [row["input_path"] for row in results]
        )
    if isinstance(content, list):
        return Scores(str(path), _rows(path, content))
    raise FusionError(f"{path}: a JSON {type(content).__name__}, expected {KINDS}")


def _of_prediction(path: Path, results: list[dict]) -> np.ndarray:
    """Scores by class id of what predict wrote best first; it must have written all of them."""
    rows: list[list | None] = []
    for row in results:
        classes, scores = row.get("class_ids"), row.get("scores")
        if "error" in row:
            rows.append(None)
        elif (
            not isinstance(classes, list)
            or not isinstance(scores, list)
            or len(classes) != len(scores)
        ):
            raise FusionError(f"{path}: {row['input_path']!r} has no class_ids with as many scores")
        elif not all(_is_integer(k) for k in classes) or sorted(classes) != list(
            range(len(classes))
        ):
            raise FusionError(
                f"{path}: only the best {len(classes)} classes of {row['input_path']!r} are in it; fusion needs them all: "
                "predict with --topk and the number of classes"
            )
        else:
            rows.append([score for _, score in sorted(zip(classes, scores, strict=True))])
    return _filled(path, results, rows)


def _filled(path: Path, results: list[dict], rows: list[list | None]) -> np.ndarray:
    """Rows [N, K], NaN where a video failed."""
    given = [row for row in rows if row is not None]
    for result, row in zip(results, rows, strict=True):
        if row is None and "error" not in result:
            raise FusionError(
                f"{path}: {next(iter(result.values()))!r} has neither scores nor an error"
            )
    if not given:
        raise FusionError(f"{path}: not one video in it has scores")
    numbers, present = _rows(path, given), np.array([row is not None for row in rows])
    empty = np.flatnonzero(np.isnan(numbers).all(axis=1))
    if len(empty):
        result = results[np.flatnonzero(present)[empty[0]]]
        raise FusionError(
            f"{path}: the scores of {next(iter(result.values()))!r} are all NaN; its model is broken"
        )
    values = np.full((len(rows), numbers.shape[1]), np.nan)
    values[present] = numbers
    return values


def _of_npz(path: Path) -> Scores:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FusionError(
            f"{path}: not an .npz file of plain arrays, or damaged: {error}"
        ) from None
    lacking = [name for name in ("id", "label", "scores") if name not in arrays]
    if lacking:
        raise FusionError(
            f"{path}: no array {lacking[0]!r} in it; there are {', '.join(arrays) or 'none'}"
        )
    ids, labels, values = arrays["id"], arrays["label"], _rows(path, arrays["scores"])
    if ids.shape != (len(values),) or labels.shape != ids.shape or labels.dtype.kind not in "iu":
        raise FusionError(
            f"{path}: {list(ids.shape)} ids and {list(labels.shape)} labels for {len(values)} rows of scores"
        )
    return Scores(str(path), values, [str(video) for video in ids], labels.astype(np.int64))


def _dicts(path: Path, results: list, key: str) -> list[dict]:
    for number, row in enumerate(results):
        if not isinstance(row, dict) or not isinstance(row.get(key), str):
            raise FusionError(f"{path}: result {number} has no {key!r}; expected {KINDS}")
    return results


def _rows(path: Path, content: Any) -> np.ndarray:
    """Rows of numbers as one array, float32 where they were."""
    if isinstance(content, np.ndarray):
        if content.ndim != 2 or content.dtype.kind not in "fiu" or not content.size:
            raise FusionError(
                f"{path}: an array {list(content.shape)} of {content.dtype}; expected numbers, [videos, classes]"
            )
        return content if content.dtype == np.float32 else content.astype(np.float64)
    rows = _sized(
        path, [plain(row) for row in content] if isinstance(content, list | tuple) else content
    )
    if all(isinstance(row, np.ndarray) for row in rows):
        return _rows(path, np.stack(rows))
    for number, row in enumerate(rows):
        if isinstance(row, np.ndarray) or not all(
            isinstance(v, float | int) and not isinstance(v, bool) for v in row
        ):
            raise FusionError(f"{path}: row {number} holds something else than numbers")
    return np.array(rows, np.float64)


def _sized(path: Path, rows: Any) -> list:
    """Rows that have one length, of lists or arrays."""
    if not isinstance(rows, list) or not rows:
        raise FusionError(
            f"{path}: {'nothing' if rows == [] else f'a {type(rows).__name__}'} in it; expected {KINDS}"
        )
    for number, row in enumerate(rows):
        if not isinstance(row, list) and not (isinstance(row, np.ndarray) and row.ndim == 1):
            raise FusionError(f"{path}: row {number} is a {type(row).__name__}; expected {KINDS}")
        if len(row) != len(rows[0]) or not len(row):
            raise FusionError(
                f"{path}: row {number} has {len(row)} scores, the first {len(rows[0])}; every class needs one"
            )
    return rows


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(path: Path, scores: Scores) -> None:
    """Stop at numbers that are none; only a video that a test of ours counted as failed may have a row of NaN."""
    wrong = ~np.isfinite(scores.values)
    if scores.ids is not None:
        wrong &= ~np.isnan(scores.values).all(axis=1, keepdims=True)
    if wrong.any():
        row, number = np.argwhere(wrong)[0]
        which = repr(scores.ids[row]) if scores.ids is not None else f"row {row}"
        raise FusionError(
            f"{path}: the score of class {number} of {which} is {scores.values[row, number]}, expected a number"
        )
    names = scores.class_names
    if names is not None and (not isinstance(names, list) or len(names) != scores.values.shape[1]):
        found = len(names) if isinstance(names, list) else type(names).__name__
        raise FusionError(f"{path}: class_names: {found} for {scores.values.shape[1]} classes")


def read_list(
    path: str | Path, class_names: list[str] | None = None
) -> tuple[str, list[str], np.ndarray]:
    """Name, ids and labels of a list of videos: lines `path label` or `path num_frames label`, or a table as data sets have.

    Args:
        class_names: of the class ids, needed where the list has names for labels.

    Raises:
        DatasetError, FusionError: no list, or labels that are not known.
    """
    path = Path(path)
    try:
        rows, problems = read_rows(path, with_num_frames=False)
    except OSError as error:
        raise FusionError(f"{path}: cannot be read: {error.strerror or error}") from None
    problems.stop()
    words = [row.path.rsplit(None, 1) for row in rows]
    if all(len(w) == 2 and w[1].isdecimal() for w in words):
        rows = [row._replace(path=w[0]) for row, w in zip(rows, words, strict=True)]
    ids = {name: number for number, name in enumerate(class_names or [])}
    problems = Problems(str(path))
    for row in rows:
        if not is_integer(row.label) and row.label not in ids:
            known = (
                "is no class of the score files"
                if ids
                else "is no class id, and the score files have no class names"
            )
            problems.add(row.line, f"label {row.label!r} {known}")
    problems.stop()
    labels = [int(row.label) if is_integer(row.label) else ids[row.label] for row in rows]
    return str(path), [row.path for row in rows], np.array(labels, np.int64)


def write_scores(
    path: str | Path,
    videos: Aligned,
    values: np.ndarray,
    numbers: dict,
    class_names: Iterable[str] | None,
) -> None:
    """Scores as `main.py --test --out` writes them, so that this tool, too, can read them; `.json` or `.npz`.

    Raises:
        OSError: it cannot be written; a file that was there before is kept.
    """
    failed = np.isnan(values).any(axis=1)
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    id=np.array(videos.ids),
                    label=videos.labels,
                    scores=np.where(failed[:, None], np.nan, values),
                )
            return
        rows = []
        for video, label, row, lacks in zip(
            videos.ids, videos.labels.tolist(), values.tolist(), failed, strict=True
        ):
            rest = {"error": "a modality has no scores"} if lacks else {"scores": row}
            rows.append({"id": video, "path": video, "label": label, **rest})
        content = {"numbers": numbers, "class_names": class_names, "results": rows}
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
