"""Testing a weight file: numbers in the log, and a score file with a row per video."""

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from paddlevideo import dist, log
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.engine.architecture import architecture_note
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import read_checkpoint
from paddlevideo.engine.classes import Classes, load_records
from paddlevideo.engine.evaluate import Evaluation, Scored, Scores, evaluate
from paddlevideo.engine.load import check_num_classes, load_trained
from paddlevideo.engine.loaders import eval_loader, on_error
from paddlevideo.engine.preflight import preflight
from paddlevideo.engine.trained_clips import clips_note
from paddlevideo.files import check_writable
from paddlevideo.metrics.score_files import SCORE_SUFFIXES, recorded_test, write_scores
from paddlevideo.metrics.scores import best_classes, softmax
from paddlevideo.sample import Batch, DecodeError, Record
from paddlevideo.weights import checksum

TAGS = 20  # best classes of a video in a multi-label score file


class ScoreRows:
    """Collects a row per video for a score file.

    Args:
        multi_label: keep the best `TAGS` classes instead of the probabilities of all classes.

    Attributes:
        rows: after `merge`, the rows of all ranks in the order of the list.
    """

    def __init__(self, multi_label: bool):
        self.rows: list[dict[str, Any]] = []
        self._row = tag_row if multi_label else class_row
        self._own: list[tuple[int, dict[str, Any]]] = []

    def add(self, scored: Scored) -> None:
        self._own.append((scored.index, self._row(scored)))

    def add_failure(self, record: Record, index: int, reason: str) -> None:
        if record.labels is not None:
            known: dict[str, Any] = {"labels": list(record.labels)}
        else:
            known = {"label": -1 if record.label is None else record.label}
        row = {"id": record.id, "path": record.location, **known, "error": reason}
        self._own.append((index, row))

    def state(self) -> list[tuple[int, dict[str, Any]]]:
        return self._own

    def merge(self, states: Sequence[list[tuple[int, dict[str, Any]]]]) -> None:
        items = (item for state in states for item in state)
        self.rows = [row for _, row in sorted(items, key=lambda item: item[0])]


def class_row(scored: Scored) -> dict[str, Any]:
    """The row of a video with one class: probabilities of all classes."""
    scores = [float(f"{p:.8g}") for p in softmax(scored.logits)]
    return {**_where(scored), "label": int(scored.target), "scores": scores}


def tag_row(scored: Scored) -> dict[str, Any]:
    """The row of a multi-label video: its labels and its best classes, best first."""
    best = best_classes(scored.logits, TAGS)
    scores = [float(f"{expit(scored.logits[k]):.8g}") for k in best]
    labels = np.flatnonzero(scored.target > 0).tolist()
    return {**_where(scored), "labels": labels, "classes": best.tolist(), "scores": scores}


def _where(scored: Scored) -> dict[str, str]:
    return {"id": scored.name or scored.record.id, "path": scored.record.location}


def test_name(cfg: Config, weights: str) -> str:
    """Names a test by its weights and the sections of the config that it uses.

    Args:
        weights: their checksum.
    """
    data = cfg.origin.data
    dataset = {k: v for k, v in data.get("DATASET", {}).items() if k not in ("train", "valid")}
    used = (data.get("MODEL"), dataset, data.get("PIPELINE", {}).get("test"), data.get("METRIC"))
    text = json.dumps(used, sort_keys=True, default=str)
    return f"weights {weights} config {zlib.crc32(text.encode()):08x}"


def check_replaced(out: str, made_by: str, overwrite: bool) -> None:
    """Check that the scores of a test replace no others; the same test may be repeated.

    Raises:
        ConfigError: another test or program wrote the file.
    """
    if Path(out).exists() and not overwrite and recorded_test(out) != made_by:
        raise ConfigError([
            f"--out {out}: another test, with other weights or another config, or another program "
            "wrote this file; give another path, or replace it with --overwrite"
        ])  # fmt: skip


def run_test(
    cfg: Config,
    weights: str,
    out: str | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Test a weight file on DATASET.test; see `paddlevideo.test`."""
    check_out(out)
    arrays, class_names, clips, architecture = read_checkpoint(weights)
    made_by = test_name(cfg, checksum(arrays))
    if out:
        check_replaced(out, made_by, overwrite)
    check_num_classes(cfg, weights, class_names)
    lists, classes = load_records(cfg, ("test",), class_names)
    model = build_model(cfg, classes.num)
    preflight(cfg, model, ("test",))
    if note := architecture_note(model, weights, architecture, training=False):
        log.logger.warning(note)
    log.logger.info(load_trained(model, arrays, weights, class_names, classes))
    if note := clips_note(weights, clips, lists["test"].records):
        log.logger.warning(note)
    return test_records(cfg, model, lists["test"].records, classes, made_by, out, names)


def check_out(out: str | None) -> None:
    """Check the file for the scores, before any work.

    Raises:
        ConfigError: another suffix than .json and .npz.
        OSError: it cannot be written.
    """
    if out and Path(out).suffix not in SCORE_SUFFIXES:
        raise ConfigError([f"--out {out}: expected a .json or .npz file"])
    if out:
        check_writable(out)


def test_records(
    cfg: Config,
    model: Scores,
    records: Any,
    classes: Classes,
    made_by: str,
    out: str | None,
    names: Sequence[str] | None,
    score: Callable[[Batch], np.ndarray] | None = None,
) -> Evaluation:
    """Score the records of DATASET.test, log the numbers, and write the scores to `out`.

    Args:
        made_by: name of the test, see `test_name`.
        score: see `evaluate`.

    Raises:
        DecodeError: a file failed and `on_error: skip` is not set, or every file did.
    """
    rows = ScoreRows(model.multi_label)
    policy = on_error(cfg, "test", "fail", ("fail", "skip"))
    loader = eval_loader(cfg, "test", records, classes.num)
    try:
        result = evaluate(cfg, model, loader, policy, "test", [rows] if out else [], score)
    finally:
        loader.close()
    if "loss" not in result.numbers and result.failures:
        raise DecodeError(f"not one test file could be decoded; first: {result.failures[0]}")
    if dist.is_main():
        log_result(result, names)
        if out:
            num_scores = min(TAGS, classes.num) if model.multi_label else classes.num
            names_of_classes = classes.names
            write_scores(
                out,
                rows.rows,
                result.numbers,
                names_of_classes,
                num_scores,
                model.multi_label,
                made_by,
            )
            log.logger.info(f"scores of {len(rows.rows)} videos are in {out}")
    return result


def log_result(result: Evaluation, names: Sequence[str] | None = None) -> None:
    """Log the numbers of a test in PaddleVideo's form, and the files that count as wrong.

    Args:
        names: which numbers: top_k_accuracy, mean_class_accuracy; None for all.
    """
    prefixes = {"top_k_accuracy": "top", "mean_class_accuracy": "mean_class_accuracy"}
    numbers = result.numbers
    if "avg_loss" in numbers:  # multi-label
        shown = {k: v for k, v in numbers.items() if not k.startswith("num_") and k != "loss"}
    else:
        wanted = [prefixes[name] for name in names or prefixes] + ([] if names else ["loss"])
        shown = {k: v for k, v in numbers.items() if k.startswith(tuple(wanted))}
    texts = []
    for key, value in shown.items():
        name = f"avg_acc{key[3:]}" if key.startswith("top") else key
        texts.append(f"{name}= {value:.6f}")
    # PaddleVideo's own line, which users search for.
    log.logger.info(f"[TEST] finished, {', '.join(texts)}, videos= {numbers['num_samples']}")
    for failure in result.failures:
        log.logger.warning(f"counted as wrong: {failure}")
