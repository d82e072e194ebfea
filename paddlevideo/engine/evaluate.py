"""Evaluation: exact numbers on any number of ranks, every video decoded once, memory bounded by scoring views in parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import paddle
from scipy.special import expit

from paddlevideo import dist, log
from paddlevideo.config.schema import Config
from paddlevideo.data.failures import MissingAudio, refuse
from paddlevideo.data.loader import Loader, multi_hot
from paddlevideo.data.pipeline import ClipPipeline
from paddlevideo.engine import amp
from paddlevideo.engine.best_validation import HardestClips, cross_entropy_of
from paddlevideo.engine.build import build_metric
from paddlevideo.metrics.scores import softmax
from paddlevideo.sample import Arrays, Batch, Failure, InputSpec, Record

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
        return pipeline.finish_on_device(
            {name: paddle.to_tensor(array) for name, array in arrays.items()}
        )
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
        name: batch[name].reshape(
            num_videos * views, *batch[name].shape[batch[name].ndim - len(s.shape) + 1 :]
        )
        for name, s in inputs.items()
    }
    step = views_per_step if views > 1 else num_videos
    parts = [
        run({name: array[i : i + step] for name, array in flat.items()})
        for i in range(0, num_videos * views, step)
    ]
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
    num_hardest: int = 0,
) -> Evaluation:
    """Score every record of `loader` once over all ranks.

    Args:
        skip: count a file that cannot be decoded as wrong instead of stopping.
        keep_rows: keep a row per video: id, path, label, scores (softmax of the mean logits).
        num_hardest: how many of the worst videos are kept with their best classes.

    Raises:
        DecodeError: a file failed and `skip` is off.
    """
    multi_label = getattr(model, "multi_label", False)
    metric, pipeline, records = (
        build_metric(cfg, num_classes, multi_label),
        loader.dataset.pipeline,
        loader.dataset.records,
    )
    rows, failures, losses, missing, worst = (
        [],
        [],
        {},
        MissingAudio(records),
        HardestClips(num_hardest),
    )
    row_of = tag_row if multi_label else class_row

    def run(arrays: Arrays) -> np.ndarray:
        with paddle.no_grad(), amp.autocast(cfg, model):
            return model(to_tensors(pipeline, arrays)).astype("float32").numpy()

    model.eval()
    for loaded in log.progress(loader.epoch(0), len(loader), label, show=dist.is_main()):
        if not skip:
            refuse(loaded, "on_error: skip to count it as wrong")
        failures += loaded.failures
        if loaded.batch:
            logits = mean_scores(
                run, pipeline.batch_specs, loaded.batch, views_at_once(cfg), model.view_average
            )
            missing.add(loaded.batch)
            metric.update(logits, loaded.batch)
            ids = loaded.batch.get("id", [b""] * len(logits))
            for place, target, name, row in zip(
                loaded.batch["index"].tolist(), loaded.batch["label"], ids, logits, strict=True
            ):
                if np.min(target) >= 0 and (num_hardest or not multi_label):
                    loss = cross_entropy_of(row, target)
                    worst.offer(
                        records[place], name.decode("utf-8", "replace"), place, target, row, loss
                    )
                    if not multi_label:
                        losses[place] = loss
                if keep_rows:
                    rows.append(
                        (
                            place,
                            row_of(records[place], target, name.decode("utf-8", "replace"), row),
                        )
                    )
        for place in loaded.lost:
            record = records[place]
            lost_label = -1 if record.label is None else record.label
            if record.labels is not None:
                metric.update(None, {"label": multi_hot(record.labels, num_classes)[None]})
            elif not multi_label:  # of shards they are in the file that failed
                metric.update(np.full((1, num_classes), np.nan), {"label": np.array([lost_label])})
            if keep_rows:
                reason = next(str(f) for f in loaded.failures if f.path == record.location)
                known = (
                    {"label": lost_label}
                    if record.labels is None
                    else {"labels": list(record.labels)}
                )
                rows.append(
                    (place, {"id": record.id, "path": record.location, **known, "error": reason})
                )
    missing.indices.update(*dist.gather(sorted(missing.indices)))
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
    in_order = [
        row
        for _, row in sorted((item for part in parts for item in part[0]), key=lambda item: item[0])
    ]
    failures = [f for part in parts for f in part[1]]
    found = worst.rows([part[3] for part in parts])
    return Evaluation(
        numbers, metric.headline, in_order, failures, found, partial(metric.by_class, state)
    )


def class_row(record: Record, label: np.ndarray, name: str, logits: np.ndarray) -> dict[str, Any]:
    """What a score file says of a video that has one class: probabilities of all."""
    scores = [float(f"{p:.8g}") for p in softmax(logits)]
    return {"id": name or record.id, "path": record.location, "label": int(label), "scores": scores}


def tag_row(record: Record, label: np.ndarray, name: str, logits: np.ndarray) -> dict[str, Any]:
    """What a score file says of a video that may have several classes: the best of them, best first, and its labels."""
    best = np.argsort(-logits, kind="stable")[:TAGS]
    scores = [float(f"{expit(logits[k]):.8g}") for k in best]
    labels = np.flatnonzero(label > 0).tolist()
    return {
        "id": name or record.id,
        "path": record.location,
        "labels": labels,
        "classes": best.tolist(),
        "scores": scores,
    }
