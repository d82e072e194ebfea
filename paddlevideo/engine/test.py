"""Evaluation: exact numbers on any number of ranks, every video decoded once, memory bounded by scoring views in parts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle
from scipy.special import expit

from paddlevideo import dist, log, onednn
from paddlevideo.data.audio_pipeline import MissingAudio
from paddlevideo.data.loader import ClipDataset, EvalOrder, Loader, fit_prefetch, many_hot, refuse
from paddlevideo.data.pipeline import ClipPipeline
from paddlevideo.engine import amp
from paddlevideo.engine.build import (
    Classes,
    build_metric,
    build_model,
    build_pipeline,
    load_records,
    preflight,
)
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.findings import Worst, cross_entropy_of
from paddlevideo.sample import Batch, BatchShape, DecodeError, Failure, InputSpec, Record
from paddlevideo.schema import Config, ConfigError
from paddlevideo.weights import atomic_write, load_into, writable

Arrays = dict[str, np.ndarray]

TAGS = 20  # classes of a video that a score file holds where it may have several


@dataclass
class Evaluation:
    """`numbers`: those of the metric, and the loss; `rows`: one per video in list order, where they were kept.

    `headline`: which number says how good a model is, and what it is called. `worst`: the clips of the largest loss, see
    findings.py; `by_class`: makes what the metric knows of each class.
    """

    numbers: dict[str, float]
    headline: tuple[str, str] = ("top1", "top1 acc")
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list)
    by_class: Callable[[], dict[str, list]] = dict

    @property
    def score(self) -> float:
        return self.numbers[self.headline[0]]


def to_tensors(pipeline: ClipPipeline, arrays: Arrays) -> dict[str, paddle.Tensor]:
    """Model inputs of a batch: a GPU gets uint8 and normalises itself, on a CPU NumPy does it."""
    if amp.on_gpu():
        return pipeline.finish_on_device({name: paddle.to_tensor(array) for name, array in arrays.items()})
    return {name: paddle.to_tensor(array) for name, array in pipeline.finish(arrays).items()}


def mean_scores(
    run: Callable[[Arrays], np.ndarray],
    inputs: dict[str, InputSpec],
    batch: Batch,
    views_per_step: int,
    average: Literal["logits", "probabilities"] = "logits",
) -> np.ndarray:
    """Scores of each video of a batch, averaged over its views.

    Args:
        run: arrays as the loader gives them, `[n, ...]` -> scores `[n, K]`.
        inputs: arrays of `batch` by name, as they come without views; one axis more carries them, `[N, V, ...]`.
        views_per_step: how many views go through `run` at once; videos of one view go through together.
        average: what is averaged; of probabilities the logarithm is returned, whose softmax they are.

    Returns:
        logits, float64 `[N, K]`.
    """
    first, spec = next((batch[name], spec) for name, spec in inputs.items())
    num_videos = first.shape[0]
    views = first.shape[1] if first.ndim == len(spec.shape) + 1 else 1
    flat = {
        name: batch[name].reshape(num_videos * views, *batch[name].shape[batch[name].ndim - len(s.shape) + 1 :])
        for name, s in inputs.items()
    }
    step = views_per_step if views > 1 else num_videos
    parts = [run({name: array[i : i + step] for name, array in flat.items()}) for i in range(0, num_videos * views, step)]
    scores = np.concatenate(parts).astype(np.float64).reshape(num_videos, views, -1)
    if average == "probabilities" and views > 1:
        return np.log(np.maximum(softmax(scores).mean(axis=1), np.finfo(np.float64).tiny))
    return scores.mean(axis=1)


def views_at_once(cfg: Config) -> int:
    """`views_per_step`, or as many as suit the device."""
    return cfg.DATASET.views_per_step or (10 if amp.on_gpu() else 1)


def evaluate(
    cfg: Config,
    model: paddle.nn.Layer,
    loader: Loader,
    num_classes: int,
    skip: bool,
    label: str = "",
    keep_rows: bool = False,
    num_worst: int = 0,
) -> Evaluation:
    """Score every record of `loader` once over all ranks.

    Args:
        skip: count a file that cannot be decoded as wrong instead of stopping.
        keep_rows: keep a row per video: id, path, label, scores (softmax of the mean logits).
        num_worst: how many of the worst videos are kept with their best classes.

    Raises:
        DecodeError: a file failed and `skip` is off.
    """
    multilabel = getattr(model, "multilabel", False)
    metric, pipeline, records = build_metric(cfg, num_classes, multilabel), loader.dataset.pipeline, loader.dataset.records
    rows, failures, losses, missing, worst = [], [], {}, MissingAudio(records), Worst(num_worst)
    row_of = tag_row if multilabel else class_row

    def run(arrays: Arrays) -> np.ndarray:
        with paddle.no_grad(), amp.autocast(cfg, model):
            return model(to_tensors(pipeline, arrays)).astype("float32").numpy()

    model.eval()
    for loaded in log.progress(loader.epoch(0), len(loader), label, show=dist.is_main()):
        if not skip:
            refuse(loaded, "on_error: skip to count it as wrong")
        failures += loaded.failures
        if loaded.batch:
            logits = mean_scores(run, pipeline.travels, loaded.batch, views_at_once(cfg), model.view_average)
            missing.add(loaded.batch)
            metric.update(logits, loaded.batch)
            ids = loaded.batch.get("id", [b""] * len(logits))
            for place, target, name, row in zip(
                loaded.batch["index"].tolist(), loaded.batch["label"], ids, logits, strict=True
            ):
                if np.min(target) >= 0 and (num_worst or not multilabel):
                    loss = cross_entropy_of(row, target)
                    worst.offer(records[place], name.decode("utf-8", "replace"), place, target, row, loss)
                    if not multilabel:
                        losses[place] = loss
                if keep_rows:
                    rows.append((place, row_of(records[place], target, name.decode("utf-8", "replace"), row)))
        for place in loaded.lost:
            record = records[place]
            lost_label = -1 if record.label is None else record.label
            if record.labels is not None:
                metric.update(None, {"label": many_hot(record.labels, num_classes)[None]})
            elif not multilabel:  # of shards they are in the file that failed
                metric.update(np.full((1, num_classes), np.nan), {"label": np.array([lost_label])})
            if keep_rows:
                reason = next(str(f) for f in loaded.failures if f.path == record.place)
                known = {"label": lost_label} if record.labels is None else {"labels": list(record.labels)}
                rows.append((place, {"id": record.id, "path": record.place, **known, "error": reason}))
    missing.places.update(*dist.gather(sorted(missing.places)))
    if str(missing):
        log.logger.warning(str(missing))
    state = metric.merge(dist.gather(metric.state()))
    numbers = metric.result(state)
    parts = dist.gather((rows, failures, losses, worst.heap))
    every = {place: loss for part in parts for place, loss in part[2].items()}
    if every:
        numbers["loss"] = float(np.mean([every[place] for place in sorted(every)]))
    elif "avg_loss" in numbers:
        numbers["loss"] = numbers["avg_loss"]
    in_order = [row for _, row in sorted((item for part in parts for item in part[0]), key=lambda item: item[0])]
    failures = [f for part in parts for f in part[1]]
    found = worst.rows([part[3] for part in parts])
    return Evaluation(numbers, metric.headline, in_order, failures, found, partial(metric.by_class, state))


def test(cfg: Config, weights: str, out: str | None = None, names: list[str] | None = None) -> Evaluation:
    """Test a weight file on DATASET.test, print the numbers and write per-video scores where `out` says.

    Args:
        weights: `.pdparams`, `.safetensors` or `.pdstate`.
        out: `.json` or `.npz`.
        names: which numbers to print (top_k_accuracy, mean_class_accuracy), None for all.

    Raises:
        ConfigError, DatasetError, WeightsError: what is missing or does not fit.
        DecodeError: a file failed and `on_error: skip` is not set, or every file did.
        OSError: `out` cannot be written; said before the work.
    """
    if out and Path(out).suffix not in (".json", ".npz"):
        raise ConfigError([f"--out {out}: expected a .json or .npz file"])
    if out:
        writable(out)
    arrays, class_names = read_model(weights)
    lists, classes = load_records(cfg, ("test",), class_names)
    onednn.use(cfg.onednn)
    model = build_model(cfg, classes.num)
    preflight(cfg, model, ("test",))
    log.logger.info(load_into(model, arrays, weights))
    loader = eval_loader(cfg, "test", lists["test"].records, classes.num)
    skip = on_error(cfg, "test", "fail", ("fail", "skip")) == "skip"
    try:
        done = evaluate(cfg, model, loader, classes.num, skip, "test", keep_rows=out is not None)
    finally:
        loader.close()
    if "loss" not in done.numbers and done.failures:
        raise DecodeError(f"not one test file could be decoded; first: {done.failures[0]}")
    if dist.is_main():
        report(done, names)
        if out:
            write_scores(out, done, classes)
            log.logger.info(f"scores of {len(done.rows)} videos are in {out}")
    return done


def report(done: Evaluation, names: list[str] | None = None) -> None:
    """Print the final numbers of a test, and what was counted wrong because it could not be decoded."""
    kinds = {"top_k_accuracy": "top", "mean_class_accuracy": "mean_class_accuracy"}
    if "avg_loss" in done.numbers:  # several labels a video
        shown = {k: v for k, v in done.numbers.items() if not k.startswith("num_") and k != "loss"}
    else:
        wanted = tuple(kinds[n] for n in names) if names else ("top", "mean_class_accuracy", "loss")
        shown = {k: v for k, v in done.numbers.items() if k.startswith(wanted)}
    spelled = ", ".join(f"avg_acc{k[3:]}= {v:.6f}" if k.startswith("top") else f"{k}= {v:.6f}" for k, v in shown.items())
    log.logger.info(f"[TEST] finished, {spelled}, videos= {done.numbers['num_samples']}")
    for failure in done.failures:
        log.logger.warning(f"counted as wrong: {failure}")


def write_scores(path: str, done: Evaluation, classes: Classes) -> None:
    """Per-video scores with ids: JSON for people and scripts, or npz (id, label, scores; NaN rows where decoding failed).

    Of videos with several labels it holds the best TAGS classes: npz (id, classes, scores).
    """
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".json":
            content = {"numbers": done.numbers, "class_names": classes.names, "results": done.rows}
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
            return
        arrays: dict[str, Any] = {"id": np.array([row["id"] for row in done.rows])}
        blank = [float("nan")] * min(classes.num, TAGS if "avg_loss" in done.numbers else classes.num)
        arrays["scores"] = np.array([row.get("scores", blank) for row in done.rows], np.float64)
        if "avg_loss" in done.numbers:
            arrays["classes"] = np.array([row.get("classes", [-1] * len(blank)) for row in done.rows], np.int64)
        else:
            arrays["label"] = np.array([row["label"] for row in done.rows], np.int64)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)


def on_error(cfg: Config, split: str, default: str, allowed: tuple[str, ...]) -> str:
    """What the config says to do about a file of this split that fails.

    Raises:
        ConfigError: something that this split cannot do.
    """
    component = getattr(cfg.DATASET, split)
    policy = component.args.get("on_error") or default
    if policy not in allowed:
        raise ConfigError([f"{component.where}: DATASET.{split}.on_error is {policy!r}, expected {' or '.join(allowed)} here"])
    return policy


def eval_loader(cfg: Config, split: str, records: list[Record], num_classes: int) -> Loader:
    """The loader of `valid` or `test` for this rank."""
    data = cfg.DATASET
    batch = data.test_batch_size if split == "test" else data.valid_batch_size or data.batch_size
    workers = data.test_num_workers if split == "test" else data.valid_num_workers
    pipeline = build_pipeline(cfg, split)
    order = EvalOrder(len(records), batch, dist.rank(), dist.world_size())
    dataset = ClipDataset(records, pipeline, cfg.seed, num_classes=num_classes)
    return fitted_loader(dataset, order, data.num_workers if workers is None else workers, data.prefetch, [BatchShape(batch)])


def fitted_loader(dataset: ClipDataset, order, num_workers: int, prefetch: int, batches: Sequence[BatchShape]) -> Loader:
    """A loader whose batches fit the shared memory; says so where that takes fewer workers or batches ahead.

    Args:
        batches: all that will be loaded; the largest counts.
    """
    if num_workers:
        bytes_of = {clip: sum(a.nbytes for a in dataset.at(clip).synthetic().values()) for _, clip in batches}
        largest = max(size * bytes_of[clip] for size, clip in batches)
        num_workers, prefetch, message = fit_prefetch(largest, num_workers, prefetch, dist.local_size())
        if message:
            log.logger.warning(message)
    return Loader(dataset, order, num_workers, prefetch)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of rows of logits [..., K], float64."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def class_row(record: Record, label: np.ndarray, name: str, logits: np.ndarray) -> dict[str, Any]:
    """What a score file says of a video that has one class: probabilities of all."""
    scores = [float(f"{p:.8g}") for p in softmax(logits)]
    return {"id": name or record.id, "path": record.place, "label": int(label), "scores": scores}


def tag_row(record: Record, label: np.ndarray, name: str, logits: np.ndarray) -> dict[str, Any]:
    """What a score file says of a video that may have several classes: the best of them, best first, and its labels."""
    best = np.argsort(-logits, kind="stable")[:TAGS]
    scores = [float(f"{expit(logits[k]):.8g}") for k in best]
    labels = np.flatnonzero(label > 0).tolist()
    return {"id": name or record.id, "path": record.place, "labels": labels, "classes": best.tolist(), "scores": scores}
