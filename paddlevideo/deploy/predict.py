"""Videos -> classes, with an exported model or a built one, on any backend.

    predictor = Predictor("inference/ppTSN")
    for result in predictor.predict("videos/", topk=5):
        result.print()

Frames are picked and transformed by the objects that a test uses, built from the model's own PIPELINE.test; the logits of a
video's views are averaged as a test does it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import paddle

from paddlevideo.data.datasets import read_class_names
from paddlevideo.data.decode import FrameDecoder, VideoDecoder
from paddlevideo.data.pipeline import ClipPipeline, StageError
from paddlevideo.data.views import stack
from paddlevideo.deploy.backends import open_backend
from paddlevideo.deploy.export import trained_model
from paddlevideo.deploy.feed import Feed
from paddlevideo.deploy.inputs import AnyDecoder, ArrayClip, Input, find_inputs
from paddlevideo.deploy.manifest import FILE, Manifest, read_manifest
from paddlevideo.deploy.results import Result
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.engine.test import mean_scores, softmax
from paddlevideo.log import logger
from paddlevideo.sample import Record, Sample
from paddlevideo.schema import Config, ConfigError

# Bytes of float32 input in one run; what a network holds besides is about twenty times as much.
RUN_BYTES = {"cpu": 32 << 20, "gpu": 320 << 20}
# Bytes of decoded views that wait for a run.
WAIT_BYTES = 1 << 30


class Predictor:
    """A model that is ready to classify videos.

    Args:
        model: an exported folder; a .pdmodel, .json or .onnx file; a built `nn.Layer` (with `config`); None for the model
            of `config` with `weights`.
        config: a config, or its path. Needed where no model.yaml stands beside the model; where one does, this config's
            PIPELINE.test is used instead of the exported one.
        weights: the weight file, where `model` is None.
        backend: auto, paddle, tensorrt, onnxruntime, openvino, eager; see backends.py.
        params_file: of a .pdmodel or .json; the .pdiparams beside it by default.
        views_per_step: clips in one run of the network; None takes as many as suit the device.
        options: device, precision, threads, ...; see `backends.Options`.

    Attributes:
        backend: what runs the model; `backend.name` says so in words.
        labels: name of each class, None where only ids are known.

    Raises:
        ConfigError, WeightsError, BackendError, ManifestError: what is missing or does not fit.
    """

    def __init__(
        self,
        model: str | Path | paddle.nn.Layer | None = None,
        config: str | Path | Config | None = None,
        weights: str | Path | None = None,
        backend: str = "auto",
        params_file: str | Path | None = None,
        views_per_step: int | None = None,
        **options,
    ):
        cfg = load_config(config) if isinstance(config, (str, Path)) else config
        manifest, labels = None, None
        if model is None:
            if cfg is None or weights is None:
                raise ConfigError(["a Predictor needs an exported model, or a config and weights"])
            model, classes = trained_model(cfg, weights)
            labels = classes.names
        elif weights is not None:
            raise ConfigError(["weights are for a Predictor without model: what was exported, or built, has its own"])
        elif not isinstance(model, paddle.nn.Layer):
            if not Path(model).exists():
                raise ConfigError([f"{model}: there is no such file or folder; export the model first (tools/export_model.py)"])
            manifest = _manifest_of(Path(model))
            labels = manifest.labels if manifest else None
        self._view_average = manifest.view_average if manifest else getattr(model, "view_average", "logits")
        cfg = _choose_config(cfg, manifest, model)
        self.labels = labels or _names_in(cfg)
        self.top_k = cfg.INFERENCE.top_k
        self._frame_pattern = _frame_pattern(cfg, manifest)
        self._feed = Feed(_pipeline_for_any(cfg), list(manifest.inputs) if manifest else None)
        on_gpu = options.get("device", "auto") != "cpu" and paddle.is_compiled_with_cuda()
        limit = RUN_BYTES["gpu" if on_gpu else "cpu"]
        most = views_per_step or cfg.DATASET.views_per_step or max(1, limit // self._feed.clip_bytes)
        self.backend = open_backend(model, backend, params_file, max_batch=most, **options)
        self._feed.connect(self.backend.inputs)
        self.views_per_step = max(1, most // self._feed.views_in_clip)

    def predict(self, inputs: Input | Iterable[Input], batch_size: int = 1, topk: int | None = None) -> Iterator[Result]:
        """Classify videos, one result for each, in the order of the inputs; one that cannot be decoded has an `error`.

        Args:
            inputs: a file, a folder (all videos below it), a glob, a .txt or .list file of paths, frames uint8 [T, H, W, 3],
                or several of these.
            batch_size: videos that are scored together. Their views go through the network `views_per_step` at a time, so
                the scores do not depend on it.
            topk: classes of each result; None takes what the model was exported with (INFERENCE.top_k).

        Raises:
            ValueError: no video where `inputs` say, or a number below 1.
        """
        topk = self.top_k if topk is None else topk
        if batch_size < 1 or topk < 1:
            raise ValueError(f"batch_size is {batch_size} and topk is {topk}; both must be at least 1")
        found = find_inputs(inputs, self._frame_pattern)
        return self._results(found, self._fitting(batch_size, len(found)), topk)

    def _results(self, found, batch_size: int, topk: int) -> Iterator[Result]:
        """Results in order: a batch is scored when it is full, and failures wait for those before them."""
        waiting: list[tuple[Record, Sample | str]] = []
        for place, (record, clip) in enumerate(found, 1):
            waiting.append((record, self._load(record, clip)))
            if place == len(found) or sum(isinstance(sample, dict) for _, sample in waiting) == batch_size:
                yield from self._score(waiting, topk)
                waiting = []

    def _load(self, record: Record, clip: ArrayClip | None) -> Sample | str:
        """The sample, or why there is none."""
        try:
            return self._feed.sample(record, clip)
        except StageError as error:
            return str(error)

    def _score(self, waiting: list[tuple[Record, Sample | str]], topk: int) -> Iterator[Result]:
        samples = [sample for _, sample in waiting if isinstance(sample, dict)]
        rows = iter(self._logits(samples) if samples else ())
        for record, sample in waiting:
            yield Result(record.path, error=sample) if isinstance(sample, str) else self._result(record, next(rows), topk)

    def _logits(self, samples: list[Sample]) -> np.ndarray:
        """Logits of each video, averaged over its views, float64 [N, K]."""
        travels = self._feed.travels
        batch = {name: stack([sample[name] for sample in samples]) for name in travels}
        return mean_scores(self._run, travels, batch, self.views_per_step, self._view_average)

    def _run(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        return self.backend.run(self._feed.arrays(arrays))

    def _result(self, record: Record, logits: np.ndarray, topk: int) -> Result:
        if self.labels and len(self.labels) != len(logits):
            raise ConfigError([f"the model has {len(logits)} classes, but {len(self.labels)} class names are given"])
        scores = softmax(logits)
        best = np.argsort(-scores, kind="stable")[:topk].tolist()
        names = [self.labels[i] if self.labels else str(i) for i in best]
        return Result(record.path, best, [float(scores[i]) for i in best], names)

    def _fitting(self, batch_size: int, num_videos: int) -> int:
        """No more videos at once than memory is meant for, or than are sure to have one shape."""
        fits = max(1, WAIT_BYTES // self._feed.sample_bytes) if self._feed.fixed else 1
        if min(batch_size, num_videos) > fits:
            size = f"the views of one take {self._feed.sample_bytes / 2**20:.0f} MB"
            logger.info(
                f"{fits} video(s) at a time instead of {batch_size}: {size if self._feed.fixed else 'their sizes differ'}"
            )
        return min(batch_size, fits)


def _manifest_of(path: Path) -> Manifest | None:
    """The manifest of a folder, or of a file that it lists."""
    manifest = read_manifest(path if path.is_dir() else path.parent)
    return manifest if manifest and (path.is_dir() or path.name in manifest.files) else None


def _choose_config(cfg: Config | None, manifest: Manifest | None, model) -> Config:
    if cfg is None and manifest is None:
        what = "a built model" if isinstance(model, paddle.nn.Layer) else f"{model}: no {FILE} that belongs to it, so it"
        raise ConfigError([f"{what} needs the config that says how its frames are made: --config"])
    if cfg is None:
        folder = Path(model) if Path(model).is_dir() else Path(model).parent
        return manifest.test_config(folder / FILE)
    if manifest and cfg.origin.data.get("PIPELINE", {}).get("test") != manifest.pipeline:
        logger.warning(
            f"PIPELINE.test of {cfg.origin.path} differs from the one that the model was exported with: using the former"
        )
    return cfg


def _pipeline_for_any(cfg: Config) -> ClipPipeline:
    """PIPELINE.test, which decodes what it is given: a model of frame folders predicts video files too."""
    pipeline = build_pipeline(cfg, "test")
    pipeline.decode = AnyDecoder(VideoDecoder() if isinstance(pipeline.decode, FrameDecoder) else pipeline.decode)
    return pipeline


def _frame_pattern(cfg: Config, manifest: Manifest | None) -> str:
    data = manifest.config if manifest else cfg.origin.data
    return ((data.get("DATASET") or {}).get("test") or {}).get("suffix") or "img_{:05}.jpg"


def _names_in(cfg: Config) -> list[str] | None:
    file = cfg.DATASET.class_names
    return read_class_names(file) if file and Path(file).exists() else None
