"""Evaluation: exact numbers on any number of ranks, and each video decoded once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.config.schema import Config
from paddlevideo.data.failures import MissingAudio, refuse
from paddlevideo.data.loader import Loaded, Loader, multi_hot
from paddlevideo.data.pipeline import Pipeline
from paddlevideo.engine import amp
from paddlevideo.engine.build import build_metric
from paddlevideo.engine.not_finite import check_logits
from paddlevideo.engine.upload import Upload, one_behind
from paddlevideo.metrics.scores import softmax
from paddlevideo.models.base import Recognizer
from paddlevideo.sample import Arrays, Batch, Failure, InputSpec, Record


@dataclass(frozen=True)
class Scored:
    """One scored record.

    Args:
        record: the record.
        index: its position in the list of records.
        target: class id, or uint8 [K] of 0 and 1 for a multi-label model.
        name: id read together with the data, "" if only the record has one.
        logits: float64 [K], averaged over views.
    """

    record: Record
    index: int
    target: np.ndarray
    name: str
    logits: np.ndarray

    @property
    def labeled(self) -> bool:
        return bool(np.min(self.target) >= 0)


class Scores(Protocol):
    """What an evaluation asks of a model: a `Recognizer`, or the model.yaml of a program."""

    @property
    def num_classes(self) -> int: ...

    @property
    def multi_label(self) -> bool: ...


class Collector(Protocol):
    """Collects something about every record that an evaluation scores on this rank.

    After the evaluation `merge` gets the `state()` of all ranks, in order of rank.
    """

    def add(self, scored: Scored) -> None: ...

    def add_failure(self, record: Record, index: int, reason: str) -> None: ...

    def state(self) -> Any: ...

    def merge(self, states: Sequence[Any]) -> None: ...


@dataclass
class Evaluation:
    """The result of an evaluation.

    Args:
        numbers: those of the metric, and the loss.
        headline: (key of the number that ranks models, its name for people).
        failures: files that could not be decoded, counted as wrong.
        by_class: () -> what the metric knows about each class.
    """

    numbers: dict[str, float]
    headline: tuple[str, str] = ("top1", "top1 acc")
    failures: list[Failure] = field(default_factory=list)
    by_class: Callable[[], dict[str, list]] = dict

    @property
    def score(self) -> float:
        return self.numbers[self.headline[0]]


def to_tensors(
    pipeline: Pipeline,
    arrays: Arrays,
    upload: Callable[[np.ndarray], paddle.Tensor] = paddle.to_tensor,
) -> dict[str, paddle.Tensor]:
    """Model inputs of a batch. Uint8 frames are normalized on a GPU, or by NumPy for a CPU.

    Args:
        upload: makes a tensor of an array; an `Upload` does not make a GPU wait.
    """
    if amp.on_gpu():
        tensors = {name: upload(array) for name, array in arrays.items()}
        return pipeline.finish_on_device(tensors)
    return {name: paddle.to_tensor(array) for name, array in pipeline.finish(arrays).items()}


def mean_scores(
    run: Callable[[Arrays], np.ndarray],
    inputs: dict[str, InputSpec],
    batch: Batch,
    views_per_step: int,
    average: Literal["logits", "probabilities"] = "logits",
    videos_per_step: int | None = None,
    prepare: Callable[[Iterator[Arrays]], Iterable[Arrays]] = iter,
) -> np.ndarray:
    """Scores of each video of a batch, averaged over its views.

    Args:
        run: arrays of the loader, `[n, ...]` -> scores `[n, K]`.
        inputs: specs of the arrays in `batch` without views; views add an axis, `[N, V, ...]`.
        views_per_step: views per call of `run`, for videos of several views.
        average: what is averaged; for probabilities, the result is the logarithm of their mean, and
            its softmax is that mean.
        videos_per_step: videos of one view per call of `run`; None for all of them.
        prepare: arrays of each step -> what `run` gets.

    Returns:
        logits, float64 `[N, K]`.
    """
    return queue_scores(run, inputs, batch, views_per_step, average, videos_per_step, prepare)()


def queue_scores(
    run: Callable[[Arrays], Any],
    inputs: dict[str, InputSpec],
    batch: Batch,
    views_per_step: int,
    average: Literal["logits", "probabilities"] = "logits",
    videos_per_step: int | None = None,
    prepare: Callable[[Iterator[Arrays]], Iterable[Arrays]] = iter,
) -> Callable[[], np.ndarray]:
    """`mean_scores` in two parts: this runs all views, and the result waits for the scores.

    Args:
        run: may return tensors, which a GPU computes while the host goes on.
    """
    first, spec = next((batch[name], spec) for name, spec in inputs.items())
    num_videos = first.shape[0]
    views = first.shape[1] if first.ndim == len(spec.shape) + 1 else 1
    total = num_videos * views
    flat = {}
    for name, one in inputs.items():
        array = batch[name]
        flat[name] = array.reshape(total, *array.shape[array.ndim - len(one.shape) + 1 :])
    step = views_per_step if views > 1 else videos_per_step or num_videos
    starts = range(0, total, step)
    steps = ({name: array[i : i + step] for name, array in flat.items()} for i in starts)
    parts = [run(arrays) for arrays in prepare(steps)]

    def scores() -> np.ndarray:
        arrays = [part if isinstance(part, np.ndarray) else part.numpy() for part in parts]
        found = np.concatenate(arrays).astype(np.float64).reshape(num_videos, views, -1)
        if average == "probabilities" and views > 1:
            probabilities = softmax(found).mean(axis=1)
            return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
        return found.mean(axis=1)

    return scores


def views_at_once(cfg: Config) -> int:
    """`views_per_step` of the config, or as many as suit the device."""
    return cfg.DATASET.views_per_step or (10 if amp.on_gpu() else 1)


def evaluate(
    cfg: Config,
    model: Scores,
    loader: Loader,
    on_error: str = "fail",
    label: str = "",
    collectors: Sequence[Collector] = (),
    score: Callable[[Batch], np.ndarray] | None = None,
) -> Evaluation:
    """Score every record of `loader` once over all ranks.

    Args:
        model: a built model, or with `score` whatever it scores for.
        on_error: "skip" counts a file that cannot be decoded as wrong, "fail" stops.
        label: text of the progress bar.
        collectors: keep more than the numbers; they hold the records of all ranks afterwards.
        score: a batch -> logits of each video, float64 [N, K]; None runs the model.

    Raises:
        DecodeError: a file failed and `on_error` is "fail".
        NotFinite: the scores of a video are NaN or infinite.
    """
    metric = build_metric(cfg, model.num_classes, model.multi_label)
    losses = Losses(model.multi_label)
    missing = MissingAudio(loader.dataset.records)
    failures: list[Failure] = []
    everything = (losses, *collectors)
    pipeline = loader.dataset.pipeline
    queue = partial(partial, score) if score else _model_queue(cfg, model, pipeline)

    def queued() -> Iterator[tuple[Loaded, Callable[[], np.ndarray] | None]]:
        for loaded in log.progress(loader.epoch(0), len(loader), label, show=dist.is_main()):
            if on_error == "fail":
                refuse(loaded, "on_error: skip to count it as wrong")
            yield loaded, queue(loaded.batch) if loaded.batch else None

    for loaded, scores in one_behind(queued()):
        failures += loaded.failures
        if scores is not None:
            missing.add(loaded.batch)
            logits = scores()
            records = loader.dataset.records
            indices = loaded.batch["index"].tolist()
            check_logits(logits, [records[index].location for index in indices])
            metric.update(logits, loaded.batch)
            for scored in scored_records(loader.dataset.records, loaded.batch, logits):
                for collector in everything:
                    collector.add(scored)
        count_failures(metric, model, loader.dataset.records, loaded, everything)
    return _merge(metric, losses, collectors, missing, failures)


def _model_queue(
    cfg: Config, model: Any, pipeline: Pipeline
) -> Callable[[Batch], Callable[[], np.ndarray]]:
    """`queue_batch` for a model that evaluates."""
    model.eval()
    return partial(queue_batch, cfg, model, pipeline, Upload())


def queue_batch(
    cfg: Config, model: Recognizer, pipeline: Pipeline, upload: Upload, batch: Batch
) -> Callable[[], np.ndarray]:
    """Run a batch; the result waits for the logits of each video, float64 [N, K].

    They are averaged over the views.
    """

    def run(arrays: Arrays) -> paddle.Tensor:
        with paddle.no_grad(), amp.autocast(cfg, model):
            tensors = to_tensors(pipeline, arrays, upload)
            upload.queued()
            return model.predictions(model(tensors)).astype("float32")

    return queue_scores(run, pipeline.batch_specs, batch, views_at_once(cfg), model.view_average)


def scored_records(records: Sequence[Record], batch: Batch, logits: np.ndarray) -> list[Scored]:
    """The records of a batch with their logits [N, K]."""
    names = batch.get("id", [b""] * len(logits))
    rows = zip(batch["index"].tolist(), batch["label"], names, logits, strict=True)
    return [
        Scored(records[index], index, target, name.decode("utf-8", "replace"), row)
        for index, target, name, row in rows
    ]


def count_failures(
    metric: Any,
    model: Scores,
    records: Sequence[Record],
    loaded: Loaded,
    collectors: Sequence[Collector],
) -> None:
    """Count the records of a batch that could not be decoded as wrong."""
    for index in loaded.lost:
        record = records[index]
        if record.labels is not None:
            labels = multi_hot(record.labels, model.num_classes)
            metric.update(None, {"label": labels[None]})
        elif not model.multi_label:  # labels of shards are inside the file that failed
            label = -1 if record.label is None else record.label
            nothing = np.full((1, model.num_classes), np.nan)
            metric.update(nothing, {"label": np.array([label])})
        reason = next(str(f) for f in loaded.failures if f.path == record.location)
        for collector in collectors:
            collector.add_failure(record, index, reason)


def cross_entropy_of(logits: np.ndarray, target: np.ndarray) -> float:
    """Cross entropy of one video.

    Args:
        logits: float [K].
        target: class id, or [K] of 0 and 1 for a multi-label model: then summed over classes.
    """
    if np.ndim(target):
        return float(np.logaddexp(0, logits).sum() - logits[target > 0].sum())
    return float(np.logaddexp.reduce(logits) - logits[target])


class Losses:
    """Cross entropy of each labeled record that has one class."""

    def __init__(self, multi_label: bool):
        self.multi_label = multi_label
        self.by_index: dict[int, float] = {}

    def add(self, scored: Scored) -> None:
        if scored.labeled and not self.multi_label:
            self.by_index[scored.index] = cross_entropy_of(scored.logits, scored.target)

    def add_failure(self, record: Record, index: int, reason: str) -> None:
        """A record without scores has no loss."""

    def state(self) -> dict[int, float]:
        return self.by_index

    def merge(self, states: Sequence[dict[int, float]]) -> None:
        self.by_index = {index: loss for state in states for index, loss in state.items()}

    @property
    def mean(self) -> float | None:
        """Mean over the records, in the order of the list; None without records."""
        if not self.by_index:
            return None
        return float(np.mean([self.by_index[index] for index in sorted(self.by_index)]))


def _merge(
    metric: Any,
    losses: Losses,
    collectors: Sequence[Collector],
    missing: MissingAudio,
    failures: list[Failure],
) -> Evaluation:
    """Join the results of the ranks; every rank gets the same result."""
    missing.indices.update(*dist.gather(sorted(missing.indices)))
    if str(missing):
        log.logger.warning(str(missing))
    state = metric.merge(dist.gather(metric.state()))
    numbers = metric.result(state)
    for collector in (losses, *collectors):
        collector.merge(dist.gather(collector.state()))
    loss = losses.mean
    if loss is not None:
        numbers["loss"] = loss
    elif "avg_loss" in numbers:
        numbers["loss"] = numbers["avg_loss"]
    failures = [failure for part in dist.gather(failures) for failure in part]
    return Evaluation(numbers, metric.headline, failures, partial(metric.by_class, state))
