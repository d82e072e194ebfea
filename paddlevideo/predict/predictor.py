"""Classifies videos, audio files or shards of features, with any runtime.

    predictor = Predictor("inference/ppTSN")
    for result in predictor.predict("videos/", topk=5):
        result.print()

A prediction reads and transforms its inputs as a test does, with the model's PIPELINE.test, and
averages the scores of a video over its views in the same way.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import paddle

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.config.shipped import typed
from paddlevideo.data.pipeline import Pipeline
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.engine.load import config_of_run, trained_model
from paddlevideo.log import logger
from paddlevideo.media.containers import one_thread
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.predict.ahead import LoadAhead, default_workers
from paddlevideo.predict.feed import Extract, Feed
from paddlevideo.predict.gpus import uses_gpu
from paddlevideo.predict.identity import identity, text_checksum
from paddlevideo.predict.inputs import AnyDecoder, Input, InputRules, Inputs, find_inputs
from paddlevideo.predict.labels import names_in_config, requested_names
from paddlevideo.predict.results import Result, Results
from paddlevideo.predict.room import Room
from paddlevideo.predict.scoring import Modalities, Scorer
from paddlevideo.remote import local_copy
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.manifest import FILE, Manifest, exported_folder, read_manifest
from paddlevideo.runtimes.paddlex import read_paddlex
from paddlevideo.runtimes.remote_folder import is_remote, local_model
from paddlevideo.sample import Record, Sample
from paddlevideo.zoo.table import find_model, name_hint

# Limit on the bytes of input in one run. Activations take about twenty times as much.
RUN_BYTES = {"cpu": 32 << 20, "gpu": 320 << 20}
# Limit on the bytes of decoded views that wait for a run.
WAIT_BYTES = 1 << 30


class Predictor:
    """A model that is ready to classify videos.

    Args:
        model: an exported folder, or that of the run with `inference/` in it; a .pdmodel, .json
            or .onnx file; a URL of one of these; a published model's name, as "ppTSN_k400"; a
            built `Recognizer` (with `config`); None for the model of `config` with `weights`.
        config: a config, or its path. It is required if there is no model.yaml next to the model;
            otherwise its PIPELINE.test replaces the exported one.
        weights: the weight file, if `model` is None.
        backend: auto, paddle, tensorrt, onnxruntime, openvino or eager; see runtimes/choose.py
            and, for auto, runtimes/auto.py.
        params_file: weights of a .pdmodel or .json; by default the .pdiparams next to it.
        views_per_step: clips in one run of the network; None for as many as suit the device.
        class_names: names to show in place of the model's own: a list, a file as
            DATASET.class_names takes it, or YouTube-8M's vocabulary.csv.
        features: extracts frame features, so that a model of frame features also takes videos.
        options: device, precision, threads, ...; see `runtimes.base.Options`.

    Attributes:
        backend: runs the model; `backend.name` describes runtime and device.
        feed: makes the samples and the inputs of the network.
        labels: name of each class; None if only ids are known.
        multi_label: whether a video may have several classes; each score is then an
            independent probability.
        modalities: {modality: names of its inputs}; empty for a model of one modality.
        top_k: default number of classes of a result.
        frame_logits: whether `backend.run_frames` gives the logits of frames, see `Manifest`.
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
        if weights is None and find_model(model):
            model, weights = None, str(model)
        if model is None and cfg is None and find_model(weights):
            cfg = config_of_run(str(weights))
        model = local_model(str(model)) if is_remote(model) else model
        params_file = local_copy(params_file) if params_file else None
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
        self.feed = Feed(pipeline, names, features)
        clips = views_per_step or cfg.DATASET.views_per_step
        clips = clips or clips_per_run(self.feed, backend, options.get("device", "auto"))
        if built and options.get("onednn") is None:
            options["onednn"] = cfg.onednn
        self.backend = open_backend(model, backend, params_file, max_batch=clips, **options)
        if not (views_per_step or cfg.DATASET.views_per_step):
            clips = self.backend.clips_per_run or clips
        self.feed.connect(self.backend.inputs)
        self.views_per_step = max(1, clips // self.feed.views_in_clip)
        averages = manifest.frame_logits if manifest else built and source.has_frame_logits
        self.frame_logits = averages and self.backend.num_outputs > 1
        self._identify = partial(identity, model, manifest, cfg, params_file)

    def predict(
        self,
        inputs: Input | Iterable[Input] | Inputs,
        batch_size: int | None = None,
        topk: int | None = None,
        modalities: bool = False,
        workers: int | None = None,
    ) -> Results:
        """Classify videos, with one result for each in the order of the inputs.

        Threads decode the next videos while the network runs. They end with the last result, and
        when the results are closed or no longer referenced. The result of a video that cannot be
        decoded has an `error`.

        Args:
            inputs: one or several of: a file; a folder (all files below it that the model takes:
                videos, audio files or shards); a glob; a .txt or .list file of paths; uint8 frames
                [T, H, W, 3]; a `FrameExample`. A shard gives one result per record. Or what `find`
                returned.
            batch_size: videos that are scored together; None for as many as fill runs of the
                network, 1 for results as early as possible. Their views go through the network
                `views_per_step` at a time, so the scores do not depend on it.
            topk: classes of each result; None for INFERENCE.top_k of the exported config.
            modalities: also score each modality of the model alone.
            workers: threads that decode; None for one per core, at most 8; 0 decodes between the
                runs of the network.

        Raises:
            ValueError: no video is found, a number is too small, or `modalities` is requested from
                a model of one modality.
        """
        topk = self.top_k if topk is None else topk
        workers = default_workers() if workers is None else workers
        if (batch_size is not None and batch_size < 1) or topk < 1:
            raise ValueError(
                f"batch_size is {batch_size} and topk is {topk}; both must be at least 1"
            )
        if workers < 0:
            raise ValueError(f"workers is {workers}; it must be at least 0")
        if modalities and not self.modalities:
            raise ValueError(
                "scores of each modality are for audio-visual models; "
                "this one has a single modality"
            )
        records = self.find(inputs)
        batch_size = self.limit_batch(batch_size, len(records))
        loading = self._load_ahead(records, workers, batch_size)
        scorer = self.scorer(self.modalities if modalities else {})
        return Results(self._results(loading, batch_size, scorer, topk), loading, len(records))

    def samples(
        self, inputs: Input | Iterable[Input] | Inputs, workers: int | None = None
    ) -> Iterator[tuple[Record, Sample | str]]:
        """Decode and transform inputs as `predict` does, without the network.

        Args:
            workers: see `predict`.

        Yields:
            each record and its sample with all views, or why there is none.

        Raises:
            ValueError: no video is found.
        """
        workers = default_workers() if workers is None else workers
        with self._load_ahead(self.find(inputs), workers, 1) as loading:
            while (pair := loading.next(0)) is not None:
                yield pair

    def score(
        self,
        samples: Iterable[tuple[Record, Sample | str]],
        topk: int | None = None,
        modalities: bool = False,
    ) -> Iterator[Result]:
        """The results of `samples`, scored together, in order."""
        with self.scorer(self.modalities if modalities else {}) as scorer:
            yield from scorer.score(list(samples), topk or self.top_k)

    def scorer(self, modalities: Modalities | None = None) -> Scorer:
        """Scores samples of `feed`; a context manager.

        Args:
            modalities: {modality: names of its inputs} to score alone, too.
        """
        return Scorer(
            self.feed,
            self.backend,
            self.labels,
            self.multi_label,
            "audio" in self.modalities,
            modalities or {},
            self._view_average,
            self.views_per_step,
        )

    def find(self, inputs: Input | Iterable[Input] | Inputs) -> Inputs:
        """The records of inputs, see `predict`; `shard` and `without` of it select some of them.

        Raises:
            ValueError: no video is found, or the model does not take an input.
        """
        return inputs if isinstance(inputs, Inputs) else find_inputs(inputs, self._rules)

    def _results(
        self, loading: LoadAhead, batch_size: int, scorer: Scorer, topk: int
    ) -> Generator[Result]:
        """Results in order; a failure waits until the batch before it is full and scored."""
        waiting: list[tuple[Record, Sample | str]] = []
        num_samples = 0
        with loading, scorer:
            while (pair := loading.next(num_samples)) is not None:
                waiting.append(pair)
                num_samples += isinstance(pair[1], dict)
                if num_samples in (0, batch_size):
                    loading.fill(num_samples)  # the threads load while the network runs
                    yield from scorer.score(waiting, topk)
                    waiting, num_samples = [], 0
            yield from scorer.score(waiting, topk)

    @property
    def identity(self) -> str:
        """Names what the scores depend on: weights, pipeline, class names, runtime, precision."""
        names = "" if self.labels is None else f" names {text_checksum(self.labels)}"
        return f"{self._identify()}{names} {self.backend.name} {self.backend.precision}"

    def _load_ahead(self, records: Inputs, workers: int, batch_size: int) -> LoadAhead:
        load = self.feed.load if workers < 2 else self._load_on_one_thread
        return LoadAhead(load, records, workers, self._room().samples(batch_size, workers))

    def _load_on_one_thread(self, record: Record, source: Any) -> Sample | str:
        """`feed.load`, where other videos keep the other cores busy."""
        with one_thread():
            return self.feed.load(record, source)

    def limit_batch(self, batch_size: int | None, num_videos: int) -> int:
        """How many videos `predict` scores together; see `Room.batch_size`."""
        return self._room().batch_size(batch_size, num_videos)

    def _room(self) -> Room:
        views = self.feed.num_views // self.feed.views_in_clip
        return Room(self.feed, views, self.views_per_step, WAIT_BYTES)


def clips_per_run(feed: Feed, kind: str, device: str) -> int:
    """How many clips in one run suit the device that `open_backend` takes for a runtime."""
    on_gpu = uses_gpu(kind, device)
    return max(1, RUN_BYTES["gpu" if on_gpu else "cpu"] // feed.clip_bytes)


def _model_of(
    model: str | Path | paddle.nn.Layer | None, cfg: Config | None, weights: str | Path | None
) -> tuple[str | Path | paddle.nn.Layer, Manifest | None, list[str] | None]:
    """(the model, its manifest if it has one, its class names if it has them).

    Raises:
        ConfigError: there is no model, or weights are given for a model that has its own.
    """
    if model is None:
        if cfg is None or weights is None:
            raise ConfigError(
                [
                    "no model: give an exported folder (--model), or a config and weights "
                    "(--config, --weights)"
                ]
            )
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
                f"export the model first: {typed('tools/export_model.py', 'export')}"
                f"{name_hint(model)}"
            ]
        )
    path = exported_folder(path)
    weights_in_it = sorted(path.glob("*_best.pdparams")) or sorted(path.glob("*_epoch_*.pdparams"))
    if weights_in_it and not any(path.glob("*.pdiparams")) and not any(path.glob("*.onnx")):
        raise ConfigError([
            f"{model}: the folder of a run without an exported model; export one with: "
            f"{typed('tools/export_model.py', 'export')} -p {weights_in_it[-1]}"
        ])  # fmt: skip
    folder = path if path.is_dir() else path.parent
    manifest = read_manifest(folder) or (read_paddlex(folder) if cfg is None else None)
    if manifest and not path.is_dir() and path.name not in manifest.files:
        manifest = None  # it describes another program in this folder
    if manifest and manifest.preprocess:
        raise ConfigError([
            f"{model}: its programs contain the preprocessing, to be embedded elsewhere; to "
            "predict here, export the model without --with-preprocess to another folder"
        ])  # fmt: skip
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
                    f"{model}: no {FILE} that belongs to it; "
                    f"give a folder that `{typed('tools/export_model.py', 'export')}` wrote, "
                    "or, to predict, the config of its pipeline: --config"
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
