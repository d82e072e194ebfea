"""Videos, sounds or shards of features -> classes, with an exported model or a built one, on any backend.

    predictor = Predictor("inference/ppTSN")
    for result in predictor.predict("videos/", topk=5):
        result.print()

Inputs are read and transformed by the objects that a test uses, built from the model's own PIPELINE.test; the logits of a
video's views are averaged as a test does it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import paddle
from scipy.special import expit

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.curate.youtube8m import class_names as names_of_vocabulary
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.datasets import DatasetError
from paddlevideo.data.paths import split_under
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.views import stack
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.engine.classes import class_names_file, load_records
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.engine.load import trained_model
from paddlevideo.log import logger
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.metrics.scores import best_classes, softmax
from paddlevideo.models.audiovisual import MIN_VARIANCE, keep_only
from paddlevideo.predict.feed import Extract, Feed
from paddlevideo.predict.inputs import AnyDecoder, Input, InputRules, Inputs, find_inputs
from paddlevideo.predict.results import Result
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.manifest import FILE, Manifest, read_manifest
from paddlevideo.sample import Record, Sample

# Bytes of input in one run; what a network holds besides is about twenty times as much.
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
        class_names: names of the classes in place of those that are known: a list, a file as DATASET.class_names takes it, or
            the vocabulary.csv of YouTube-8M.
        features: makes the frame features of a video, so that a model of those also takes videos.
        options: device, precision, threads, ...; see `backends.Options`.

    Attributes:
        backend: what runs the model; `backend.name` says so in words.
        labels: name of each class, None where only ids are known.
        multi_label: whether a video may have several classes; each score is then a probability of its own.
        modalities: {modality: names of its inputs}, empty for a model of one.

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
        class_names: str | Path | Sequence[str] | None = None,
        features: Extract | None = None,
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
            raise ConfigError(
                [
                    "weights are for a Predictor without model: what was exported, or built, has its own"
                ]
            )
        elif not isinstance(model, paddle.nn.Layer):
            if not Path(model).exists():
                raise ConfigError(
                    [
                        f"{model}: there is no such file or folder; export the model first (tools/export_model.py)"
                    ]
                )
            manifest = _manifest_of(Path(model))
            labels = manifest.labels if manifest else None
        cfg = _choose_config(cfg, manifest, model)
        built = isinstance(model, paddle.nn.Layer)
        about = manifest or (model if built else lookup("framework", cfg.MODEL.name).make)
        self._view_average = about.view_average
        self.multi_label = about.multi_label
        self.modalities: Mapping[str, Sequence[str]] = about.modalities
        self.labels = (
            _given_names(class_names) or labels or _names_in(cfg, built and not self.multi_label)
        )
        self.top_k = cfg.INFERENCE.top_k
        pipeline = _pipeline_for_any(cfg)
        self._rules = _rules(cfg, manifest, pipeline, features)
        self._feed = Feed(pipeline, list(about.inputs) if manifest or built else None, features)
        on_gpu = options.get("device", "auto") != "cpu" and paddle.is_compiled_with_cuda()
        limit = RUN_BYTES["gpu" if on_gpu else "cpu"]
        most = (
            views_per_step or cfg.DATASET.views_per_step or max(1, limit // self._feed.clip_bytes)
        )
        if built and options.get("onednn") is None:
            options["onednn"] = cfg.onednn
        self.backend = open_backend(model, backend, params_file, max_batch=most, **options)
        self._feed.connect(self.backend.inputs)
        self.views_per_step = max(1, most // self._feed.views_in_clip)

    def predict(
        self,
        inputs: Input | Iterable[Input],
        batch_size: int = 1,
        topk: int | None = None,
        modalities: bool = False,
    ) -> Iterator[Result]:
        """Classify videos, one result for each, in the order of the inputs; one that cannot be decoded has an `error`.

        Args:
            inputs: a file, a folder (all videos below it, or sounds, or shards: what the model takes), a glob, a .txt or .list
                file of paths, frames uint8 [T, H, W, 3], a `FrameExample`, or several of these. Each record of a shard is one.
            batch_size: videos that are scored together. Their views go through the network `views_per_step` at a time, so
                the scores do not depend on it.
            topk: classes of each result; None takes what the model was exported with (INFERENCE.top_k).
            modalities: score each of the model's modalities alone, too.

        Raises:
            ValueError: no video where `inputs` say, a number below 1, or a model of one modality.
        """
        topk = self.top_k if topk is None else topk
        if batch_size < 1 or topk < 1:
            raise ValueError(
                f"batch_size is {batch_size} and topk is {topk}; both must be at least 1"
            )
        if modalities and not self.modalities:
            raise ValueError(
                "scores of each modality are for models of pictures and sound; this one has a single modality"
            )
        found = find_inputs(inputs, self._rules)
        return self._results(
            found,
            self._fitting(batch_size, len(found)),
            topk,
            self.modalities if modalities else {},
        )

    def _results(
        self, found: Inputs, batch_size: int, topk: int, modalities: Mapping[str, Sequence[str]]
    ) -> Iterator[Result]:
        """Results in order: a batch is scored when it is full, and failures wait for those before them."""
        waiting: list[tuple[Record, Sample | str]] = []
        for record, clip in found:
            waiting.append((record, self._load(record, clip)))
            if sum(isinstance(sample, dict) for _, sample in waiting) in (0, batch_size):
                yield from self._score(waiting, topk, modalities)
                waiting = []
        yield from self._score(waiting, topk, modalities)

    def _load(self, record: Record, clip) -> Sample | str:
        """The sample, or why there is none."""
        try:
            return self._feed.sample(record, clip)
        except StageError as error:
            return str(error)

    def _score(
        self, waiting: list[tuple[Record, Sample | str]], topk: int, modalities: Mapping
    ) -> Iterator[Result]:
        samples = [sample for _, sample in waiting if isinstance(sample, dict)]
        whole = self._logits(samples) if samples else np.zeros((0, 0))
        parts = {
            name: self._logits(samples, inputs) for name, inputs in modalities.items() if samples
        }
        scored = 0
        for record, sample in waiting:
            if isinstance(sample, str):
                yield Result(record.location, error=sample)
                continue
            alone = {name: logits[scored] for name, logits in parts.items()}
            yield self._result(record, sample, whole[scored], alone, topk)
            scored += 1

    def _logits(self, samples: list[Sample], modality: Sequence[str] = ()) -> np.ndarray:
        """Logits of each video, averaged over its views, float64 [N, K]; of the inputs of one modality where they are given."""
        batch_specs = self._feed.batch_specs
        batch = {name: stack([sample[name] for sample in samples]) for name in batch_specs}
        return mean_scores(
            partial(self._run, modality),
            batch_specs,
            batch,
            self.views_per_step,
            self._view_average,
        )

    def _run(self, modality: Sequence[str], arrays: dict[str, np.ndarray]) -> np.ndarray:
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
        silent = self._silent(sample)
        result = self._best(record, logits, topk)
        parts = {
            name: self._best(record, row, topk)
            for name, row in alone.items()
            if name != "audio" or not silent.all()
        }
        # Of a record in a shard; a file is called by its path.
        name = sample["id"].decode("utf-8", "backslashreplace") if "id" in sample else ""
        return replace(result, id=name, note=self._note(sample, silent), modalities=parts)

    def _best(self, record: Record, logits: np.ndarray, topk: int) -> Result:
        if self.labels and len(self.labels) != len(logits):
            raise ConfigError(
                [
                    f"the model has {len(logits)} classes, but {len(self.labels)} class names are given"
                ]
            )
        scores = expit(logits) if self.multi_label else softmax(logits)
        best = best_classes(logits, topk).tolist()
        names = [self.labels[i] if self.labels else str(i) for i in best]
        return Result(record.location, best, [float(scores[i]) for i in best], names)

    def _silent(self, sample: Sample) -> np.ndarray:
        """Which views of a model that sees and hears have nothing to hear, bool [V]; the model tells by the same number."""
        if "audio" not in self.modalities:
            return np.zeros(1, bool)
        return np.atleast_1d(np.var(sample["audio"], axis=(-3, -2, -1)) <= MIN_VARIANCE)

    def _note(self, sample: Sample, silent: np.ndarray) -> str:
        if silent.any():
            views = (
                "no sound" if silent.all() else f"no sound in {silent.sum()} of {len(silent)} views"
            )
            return f"{views}: classified by the pictures alone"
        missing = sample.get("missing_audio", False) and not self.modalities
        return "no sound: silence takes its place (missing_audio: zeros)" if missing else ""

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
        what = (
            "a built model"
            if isinstance(model, paddle.nn.Layer)
            else f"{model}: no {FILE} that belongs to it, so it"
        )
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
    if "frames" in pipeline.batch_specs:
        pipeline.decode = AnyDecoder(
            VideoDecoder() if isinstance(pipeline.decode, FrameDecoder) else pipeline.decode
        )
    return pipeline


def _rules(
    cfg: Config, manifest: Manifest | None, pipeline: ClipPipeline, features: Extract | None
) -> InputRules:
    """What paths mean to this pipeline.

    Raises:
        ConfigError: `features` for a model that takes none.
    """
    find_records = pipeline.find_records
    if features and not find_records:
        raise ConfigError(
            ["features are for a model of frame features; this one takes its inputs as they are"]
        )
    section = ((manifest.config if manifest else cfg.origin.data).get("DATASET") or {}).get(
        "test"
    ) or {}
    known = lookup("dataset", section["format"]).parameters() if "format" in section else {}
    suffix = section.get("suffix") or (known["suffix"].default if "suffix" in known else "")
    naming = {"frame_pattern": suffix} if "{" in suffix else {"suffix": suffix}
    return InputRules(pipeline.suffixes, find_records, features is not None, **naming)


def _given_names(names: str | Path | Sequence[str] | None) -> list[str] | None:
    if not isinstance(names, (str, Path)):
        return list(names) if names else None
    return (
        names_of_vocabulary(Path(names))
        if Path(names).suffix.lower() == ".csv"
        else read_class_names(names)
    )


def _names_in(cfg: Config, of_data: bool) -> list[str] | None:
    """The class names of a config: of its file or, where they are wanted, of a folder per class that it trains on."""
    file = class_names_file(cfg)
    if file and Path(file).exists():
        return read_class_names(file)
    if not of_data or not cfg.DATASET.train:
        return None
    try:
        root = cfg.DATASET.root
        folder = cfg.DATASET.train.args.get("file_path") or (
            root and split_under(root, "train")["file_path"]
        )
        if not folder or not Path(folder).is_dir():
            return None
        return load_records(cfg, ("train",))[1].names
    except DatasetError as error:
        logger.warning(f"results show class ids, for DATASET.train gives no names: {error}")
        return None
