"""Samples become results: the network runs over their views, and the best classes get names."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from scipy.special import expit

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.views import stack
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.metrics.scores import best_classes, softmax
from paddlevideo.models.audiovisual import MIN_VARIANCE, keep_only
from paddlevideo.predict.ahead import one_ahead
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.results import Result
from paddlevideo.runtimes.base import Backend, NotFiniteError
from paddlevideo.sample import Arrays, Record, Sample

Modalities = Mapping[str, Sequence[str]]


@dataclass
class Scorer:
    """Runs the network on samples. A context manager; the block's end ends its thread.

    A thread makes the inputs of the next run while the network computes.

    Args:
        feed: makes the inputs.
        backend: runs the network.
        labels: name of each class; None if only ids are known.
        multi_label: whether scores are sigmoids.
        audio_visual: whether the model treats a view without audio by its frames alone.
        modalities: {modality: names of its inputs} to score alone, too.
        view_average: what is averaged over the views of a video.
        views_per_step: clips in one run of the network.
    """

    feed: Feed
    backend: Backend
    labels: Sequence[str] | None
    multi_label: bool
    audio_visual: bool
    modalities: Modalities
    view_average: Literal["logits", "probabilities"]
    views_per_step: int
    _pool: ThreadPoolExecutor = field(init=False)

    def __enter__(self) -> "Scorer":
        self._pool = ThreadPoolExecutor(1, "inputs")
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def score(self, waiting: list[tuple[Record, Sample | str]], topk: int) -> Iterator[Result]:
        """The results of samples, in order; a text in place of a sample is why there is none."""
        samples = [sample for _, sample in waiting if isinstance(sample, dict)]
        logits = iter(self._checked_logits(samples))
        parts = {
            name: iter(self._checked_logits(samples, inputs))
            for name, inputs in self.modalities.items()
            if samples
        }
        for record, sample in waiting:
            if isinstance(sample, str):
                yield Result.of(record, error=sample)
                continue
            row = next(logits)
            alone = {name: next(rows) for name, rows in parts.items()}
            failed = [each for each in (row, *alone.values()) if isinstance(each, str)]
            if isinstance(row, str) or failed:
                yield Result.of(record, error=failed[0])
            else:
                yield self._result(record, sample, row, alone, topk)

    def probabilities(self, samples: list[Sample]) -> list[np.ndarray | str]:
        """The probabilities of all classes of each sample, float64 [K], or why there are none."""
        rows = self._checked_logits(samples)
        return [row if isinstance(row, str) else self._probabilities(row) for row in rows]

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        self._check_names(len(logits))
        return expit(logits) if self.multi_label else softmax(logits)

    def _check_names(self, num_classes: int) -> None:
        if self.labels and len(self.labels) != num_classes:
            raise ConfigError(
                [
                    f"the model has {num_classes} classes, "
                    f"but {len(self.labels)} class names are given"
                ]
            )

    def _checked_logits(self, samples: list[Sample], modality: Sequence[str] = ()) -> list:
        """The logits of each video, or why there are none: they are not finite."""
        try:
            return list(self._logits(samples, modality)) if samples else []
        except NotFiniteError as error:
            if len(samples) == 1:
                return [str(error)]
            return [row for sample in samples for row in self._checked_logits([sample], modality)]

    def _logits(self, samples: list[Sample], modality: Sequence[str] = ()) -> np.ndarray:
        """Logits of each video, averaged over its views, float64 [N, K].

        Args:
            modality: inputs to use alone; all by default.
        """
        specs = self.feed.batch_specs
        batch = {name: stack([sample[name] for sample in samples]) for name in specs}
        return mean_scores(
            partial(self._run, modality),
            specs,
            batch,
            self.views_per_step,
            self.view_average,
            self.views_per_step,
            self._finished,
        )

    def _finished(self, steps: Iterator[Arrays]) -> Iterator[Arrays]:
        """The inputs of the program for each step, made one step ahead."""
        return one_ahead(map(self.feed.arrays, steps), self._pool)

    def _run(self, modality: Sequence[str], arrays: Arrays) -> np.ndarray:
        return self.backend.run(keep_only(arrays, modality) if modality else arrays)

    def _result(
        self,
        record: Record,
        sample: Sample,
        logits: np.ndarray,
        alone: dict[str, np.ndarray],
        topk: int,
    ) -> Result:
        silent = self._silent_views(sample)
        result = self._best(record, logits, topk)
        parts = {
            name: self._best(record, row, topk)
            for name, row in alone.items()
            if name != "audio" or not silent.all()
        }
        # Records of shards have an id; files are identified by their path.
        name = sample["id"].decode("utf-8", "backslashreplace") if "id" in sample else ""
        return replace(result, id=name, note=self._note(sample, silent), modalities=parts)

    def _best(self, record: Record, logits: np.ndarray, topk: int) -> Result:
        scores = self._probabilities(logits)
        best = best_classes(logits, topk).tolist()
        names = [self.labels[i] if self.labels else str(i) for i in best]
        return Result.of(record, best, [float(scores[i]) for i in best], names)

    def _silent_views(self, sample: Sample) -> np.ndarray:
        """Which views an audio-visual model treats as views without audio, bool [V].

        The model uses the same threshold.
        """
        if not self.audio_visual:
            return np.zeros(1, bool)
        return np.atleast_1d(np.var(sample["audio"], axis=(-3, -2, -1)) <= MIN_VARIANCE)

    def _note(self, sample: Sample, silent: np.ndarray) -> str:
        if silent.any():
            where = "" if silent.all() else f" in {silent.sum()} of {len(silent)} views"
            return f"no audio{where}: classified by the frames alone"
        if sample.get("missing_audio", False) and not self.audio_visual:
            return "no audio: replaced by silence (missing_audio: zeros)"
        return ""
