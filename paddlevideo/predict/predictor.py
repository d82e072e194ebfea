"""Classifies videos, audio files or shards of features, with any runtime.

    predictor = Predictor("inference/ppTSN")
    for result in predictor.predict("videos/", topk=5):
        result.print()

A prediction reads and transforms its inputs as a test does, with the model's PIPELINE.test, and
averages the scores of a video over its views in the same way.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from scipy.special import expit

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.config.shipped import typed
from paddlevideo.data.pipeline import Pipeline, StageError
from paddlevideo.data.views import stack
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.engine.load import trained_model
from paddlevideo.log import logger
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.metrics.scores import best_classes, softmax
from paddlevideo.models.audiovisual import MIN_VARIANCE, keep_only
from paddlevideo.predict.feed import Extract, Feed
from paddlevideo.predict.inputs import AnyDecoder, Input, InputRules, Inputs, find_inputs
from paddlevideo.predict.labels import names_in_config, requested_names
from paddlevideo.predict.results import Result
from paddlevideo.runtimes.base import NotFiniteError
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.manifest import FILE, Manifest, exported_folder, read_manifest
from paddlevideo.sample import Arrays, Record, Sample

# Limit on the bytes of input in one run. Activations take about twenty times as much.
RUN_BYTES = {"cpu": 32 << 20, "gpu": 320 << 20}
# Limit on the bytes of decoded views that wait for a run.
WAIT_BYTES = 1 << 30

Modalities = Mapping[str, Sequence[str]]


class Predictor:
    """A model that is ready to classify videos.

    Args:
        model: an exported folder, or that of the run with `inference/` in it; a .pdmodel, .json
            or .onnx file; a built `Recognizer` (with `config`); None for the model of `config` with
            `weights`.
        config: a config, or its path. It is required if there is no model.yaml next to the model;
            otherwise its PIPELINE.test replaces the exported one.
        weights: the weight file, if `model` is None.
        backend: auto, paddle, tensorrt, onnxruntime, openvino or eager; see runtimes/choose.py.
        params_file: weights of a .pdmodel or .json; by default the .pdiparams next to it.
        views_per_step: clips in one run of the network; None for as many as suit the device.
        class_names: names to show in place of the model's own: a list, a file as
            DATASET.class_names takes it, or YouTube-8M's vocabulary.csv.
        features: extracts frame features, so that a model of frame features also takes videos.
        options: device, precision, threads, ...; see `runtimes.base.Options`.

    Attributes:
        backend: runs the model; `backend.name` describes runtime and device.
        labels: name of each class; None if only ids are known.
        multi_label: whether a video may have several classes; each score is then an
            independent probability.
        modalities: {modality: names of its inputs}; empty for a model of one modality.
        top_k: default number of classes of a result.
        views_per_step: clips in one run of the network.

    Raises:
        ConfigError, WeightsError, BackendError, ManifestError: something is missing, or does not
            fit the rest.
    """

    def __init__(
        self,
        model: str | Path | paddle.nn.Layer | None = None,
        config: str | Path | Config | None = None,
        weights: str | Path | None = None,
        backend: str = "auto",
        params_file: str | Path | None = None,
        views_per_step: int | None = None,
        class_names: str | Path | Sequence[str] | None = None,
        features: Extract | None = None,
        **options,
    ):
        cfg = load_config(config) if isinstance(config, (str, Path)) else config
        model, manifest, labels = _model_of(model, cfg, weights)
        cfg = _config_of(cfg, manifest, model)
        built = isinstance(model, paddle.nn.Layer)
        # A program without a model.yaml has the properties of the framework in the config.
        source: Any = manifest or (model if built else lookup("framework", cfg.MODEL.name).make)
        self._view_average = source.view_average
        self.multi_label: bool = source.multi_label
        self.modalities: Modalities = source.modalities
        class_folders = built and not self.multi_label
        self.labels = requested_names(class_names, labels) or labels
        self.labels = self.labels or names_in_config(cfg, class_folders)
        self.top_k = cfg.INFERENCE.top_k
        pipeline = pipeline_for_any_input(cfg)
        self._rules = input_rules(cfg, manifest, pipeline, features)
        names = list(source.inputs) if manifest or built else None
        self._feed = Feed(pipeline, names, features)
        on_gpu = options.get("device", "auto") != "cpu" and paddle.is_compiled_with_cuda()
        limit = RUN_BYTES["gpu" if on_gpu else "cpu"]
        clips = views_per_step or cfg.DATASET.views_per_step
        clips = clips or max(1, limit // self._feed.clip_bytes)
        if built and options.get("onednn") is None:
            options["onednn"] = cfg.onednn
        self.backend = open_backend(model, backend, params_file, max_batch=clips, **options)
        self._feed.connect(self.backend.inputs)
        self.views_per_step = max(1, clips // self._feed.views_in_clip)

    def predict(
        self,
        inputs: Input | Iterable[Input],
        batch_size: int = 1,
        topk: int | None = None,
        modalities: bool = False,
    ) -> Iterator[Result]:
        """Classify videos, with one result for each in the order of the inputs.

        The result of a video that cannot be decoded has an `error`.

        Args:
            inputs: one or several of: a file; a folder (all files below it that the model takes:
                videos, audio files or shards); a glob; a .txt or .list file of paths; uint8 frames
                [T, H, W, 3]; a `FrameExample`. A shard gives one result per record.
            batch_size: videos that are scored together. Their views go through the network
                `views_per_step` at a time, so the scores do not depend on it.
            topk: classes of each result; None for INFERENCE.top_k of the exported config.
            modalities: also score each modality of the model alone.

        Raises:
            ValueError: no video is found, a number is below 1, or `modalities` is requested from a
                model of one modality.
        """
        topk = self.top_k if topk is None else topk
        if batch_size < 1 or topk < 1:
            raise ValueError(
                f"batch_size is {batch_size} and topk is {topk}; both must be at least 1"
            )
        if modalities and not self.modalities:
            raise ValueError(
                "scores of each modality are for audio-visual models; "
                "this one has a single modality"
            )
        records = find_inputs(inputs, self._rules)
        batch_size = self._limit_batch(batch_size, len(records))
        return self._results(records, batch_size, topk, self.modalities if modalities else {})

    def _results(
        self, records: Inputs, batch_size: int, topk: int, modalities: Modalities
    ) -> Iterator[Result]:
        """Results in order; a failure waits until the batch before it is full and scored."""
        waiting: list[tuple[Record, Sample | str]] = []
        for record, source in records:
            waiting.append((record, self._load(record, source)))
            num_samples = sum(isinstance(sample, dict) for _, sample in waiting)
            if num_samples in (0, batch_size):
                yield from self._score(waiting, topk, modalities)
                waiting = []
        yield from self._score(waiting, topk, modalities)

    def _load(self, record: Record, source: Any) -> Sample | str:
        """The sample, or why there is none."""
        try:
            return self._feed.sample(record, source)
        except StageError as error:
            return str(error)

    def _score(
        self, waiting: list[tuple[Record, Sample | str]], topk: int, modalities: Modalities
    ) -> Iterator[Result]:
        samples = [sample for _, sample in waiting if isinstance(sample, dict)]
        logits = iter(self._checked_logits(samples))
        parts = {
            name: iter(self._checked_logits(samples, inputs))
            for name, inputs in modalities.items()
            if samples
        }
        for record, sample in waiting:
            if isinstance(sample, str):
                yield Result(record.location, error=sample)
                continue
            row = next(logits)
            alone = {name: next(rows) for name, rows in parts.items()}
            failed = [each for each in (row, *alone.values()) if isinstance(each, str)]
            if isinstance(row, str) or failed:
                yield Result(record.location, error=failed[0])
            else:
                yield self._result(record, sample, row, alone, topk)

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
        specs = self._feed.batch_specs
        batch = {name: stack([sample[name] for sample in samples]) for name in specs}
        run = partial(self._run, modality)
        return mean_scores(run, specs, batch, self.views_per_step, self._view_average)

    def _run(self, modality: Sequence[str], arrays: Arrays) -> np.ndarray:
        arrays = self._feed.arrays(arrays)
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
        if self.labels and len(self.labels) != len(logits):
            raise ConfigError(
                [
                    f"the model has {len(logits)} classes, "
                    f"but {len(self.labels)} class names are given"
                ]
            )
        scores = expit(logits) if self.multi_label else softmax(logits)
        best = best_classes(logits, topk).tolist()
        names = [self.labels[i] if self.labels else str(i) for i in best]
        return Result(record.location, best, [float(scores[i]) for i in best], names)

    def _silent_views(self, sample: Sample) -> np.ndarray:
        """Which views an audio-visual model treats as views without audio, bool [V].

        The model uses the same threshold.
        """
        if "audio" not in self.modalities:
            return np.zeros(1, bool)
        return np.atleast_1d(np.var(sample["audio"], axis=(-3, -2, -1)) <= MIN_VARIANCE)

    def _note(self, sample: Sample, silent: np.ndarray) -> str:
        if silent.any():
            where = "" if silent.all() else f" in {silent.sum()} of {len(silent)} views"
            return f"no audio{where}: classified by the frames alone"
        if sample.get("missing_audio", False) and not self.modalities:
            return "no audio: replaced by silence (missing_audio: zeros)"
        return ""

    def _limit_batch(self, batch_size: int, num_videos: int) -> int:
        """The batch size, reduced to what the memory limit allows; 1 if shapes may differ."""
        if not self._feed.fixed_size:
            limit, reason = 1, "their sizes differ"
        else:
            limit = max(1, WAIT_BYTES // self._feed.sample_bytes)
            reason = f"the views of one take {self._feed.sample_bytes / 2**20:.0f} MB"
        if min(batch_size, num_videos) > limit:
            logger.info(f"{limit} video(s) at a time instead of {batch_size}: {reason}")
        return min(batch_size, limit)


def _model_of(
    model: str | Path | paddle.nn.Layer | None, cfg: Config | None, weights: str | Path | None
) -> tuple[str | Path | paddle.nn.Layer, Manifest | None, list[str] | None]:
    """(the model, its manifest if it has one, its class names if it has them).

    Raises:
        ConfigError: there is no model, or weights are given for a model that has its own.
    """
    if model is None:
        if cfg is None or weights is None:
            raise ConfigError(["a Predictor needs an exported model, or a config and weights"])
        built, classes = trained_model(cfg, weights)
        return built, None, classes.names
    if weights is not None:
        raise ConfigError(
            ["weights are for a Predictor without model; an exported or built model has its own"]
        )
    if isinstance(model, paddle.nn.Layer):
        return model, None, None
    path = Path(model)
    if not path.exists():
        raise ConfigError(
            [
                f"{model}: there is no such file or folder; "
                "export the model first (tools/export_model.py)"
            ]
        )
    path = exported_folder(path)
    weights_in_it = sorted(path.glob("*_best.pdparams")) or sorted(path.glob("*_epoch_*.pdparams"))
    if weights_in_it and not any(path.glob("*.pdiparams")) and not any(path.glob("*.onnx")):
        raise ConfigError([
            f"{model}: the folder of a run without an exported model; export one with: "
            f"{typed('tools/export_model.py', 'export')} -p {weights_in_it[-1]}"
        ])  # fmt: skip
    manifest = read_manifest(path if path.is_dir() else path.parent)
    if manifest and not path.is_dir() and path.name not in manifest.files:
        manifest = None  # it describes another program in this folder
    return path, manifest, manifest.labels if manifest else None


def _config_of(
    cfg: Config | None, manifest: Manifest | None, model: str | Path | paddle.nn.Layer
) -> Config:
    """The config that makes the inputs: the given one, else the one in the manifest.

    Raises:
        ConfigError: there is none.
    """
    if cfg is None:
        if isinstance(model, paddle.nn.Layer):
            raise ConfigError(["a built model needs the config of its pipeline: --config"])
        if manifest is None:
            raise ConfigError(
                [
                    f"{model}: no {FILE} that belongs to it, "
                    "so it needs the config of its pipeline: --config"
                ]
            )
        folder = Path(model) if Path(model).is_dir() else Path(model).parent
        return manifest.test_config(folder / FILE)
    if manifest and cfg.origin.data.get("PIPELINE", {}).get("test") != manifest.pipeline:
        logger.warning(
            f"PIPELINE.test of {cfg.origin.path} differs from the one that the model was exported "
            "with; the config's is used"
        )
    return cfg


def pipeline_for_any_input(cfg: Config) -> Pipeline:
    """PIPELINE.test, where a model of frames decodes both video files and folders of frames."""
    pipeline = build_pipeline(cfg, "test")
    if "frames" in pipeline.batch_specs:
        folders = isinstance(pipeline.decode, FrameDecoder)
        pipeline.decode = AnyDecoder(VideoDecoder() if folders else pipeline.decode)
    return pipeline


def input_rules(
    cfg: Config, manifest: Manifest | None, pipeline: Pipeline, features: Extract | None
) -> InputRules:
    """What a path means to this pipeline.

    Raises:
        ConfigError: `features` is given for a model that takes no frame features.
    """
    find_records: Any = pipeline.find_records
    if features and not find_records:
        raise ConfigError(
            ["features are for a model of frame features; this one takes videos or audio itself"]
        )
    section = manifest.test_section if manifest else _test_section(cfg)
    suffix = section.get("suffix") or ""
    if not suffix and "format" in section:
        parameters = lookup("dataset", section["format"]).parameters()
        suffix = parameters["suffix"].default if "suffix" in parameters else ""
    naming = {"frame_pattern": suffix} if "{" in suffix else {"suffix": suffix}
    return InputRules(pipeline.suffixes, find_records, features is not None, **naming)


def _test_section(cfg: Config) -> Mapping[str, Any]:
    return (cfg.origin.data.get("DATASET") or {}).get("test") or {}
