"""The predict command on a cluster: decoding and the network are stages with own workers.

The functions are those of a prediction in one process: `Feed.load` decodes, `Predictor.score` runs
the network. The results pass through parts (parts.py) and have the order of the inputs.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from paddlevideo import dist, log, paddle_internals
from paddlevideo.curate.batch_jobs import CRASHED
from paddlevideo.engine.load import config_of_run
from paddlevideo.engine.named_models import weight_file
from paddlevideo.features.extract import FeatureExtractor
from paddlevideo.files import check_writable, json_text
from paddlevideo.log import logger
from paddlevideo.predict import command
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.inputs import Inputs
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import Result
from paddlevideo.remote import is_url, local_copy, path_name, shown
from paddlevideo.runtimes.remote_folder import is_remote, local_model
from paddlevideo.sample import Record, Sample
from paddlevideo.scale.cluster import Cluster, connected
from paddlevideo.scale.engine import Engine
from paddlevideo.scale.flags import Place
from paddlevideo.scale.model_files import SentFiles, send
from paddlevideo.scale.parts import OtherParts, PartFiles, delete
from paddlevideo.scale.stages import Stage
from paddlevideo.zoo.cache import cached
from paddlevideo.zoo.table import find_model

UNIT_BYTES = 32 << 20  # decoded views that are sent together, at most
MAX_UNIT = 32  # videos that are sent together, at most
MIN_UNITS = 100  # of a job, so that all workers have some of them
NETWORK_CRASHED = "the process of the network ended each time it was alone with this input"

Loaded = tuple[Record, Sample | str]
Line = tuple[str, bool]  # JSON of a result, and whether it is a failure


# --- what the workers run -------------------------------------------------------------------------


@dataclass(frozen=True)
class Decode:
    """Builds the function of a worker that decodes: records -> samples."""

    feed: Feed

    def __call__(self) -> Callable[[list[Record]], list[Loaded]]:
        return lambda records: [(record, self.feed.load(record)) for record in records]


@dataclass(frozen=True)
class Score:
    """Builds the function of a worker that holds the network: samples -> lines.

    Args:
        options: arguments of `Predictor` without files.
        files: of the model, under the name of their argument.
        features: folder of a tagger's training features, which each node has to see; "" for none.
        batch: videos that are scored together.
        topk, modalities: see `Predictor.score`.
    """

    options: Mapping[str, Any]
    files: Mapping[str, SentFiles]
    features: str
    batch: int
    topk: int | None
    modalities: bool

    def __call__(self) -> Callable[[list], list[Line]]:
        dist.use_threads(self.options["threads"])
        files = {name: str(file.path()) for name, file in self.files.items()}
        features = FeatureExtractor.from_folder(self.features) if self.features else None
        predictor = Predictor(**{**self.options, **files, "features": features})
        return partial(self._lines, predictor)

    def _lines(self, predictor: Predictor, items: list) -> list[Line]:
        if self.features:  # a network extracts the features, so the worker of a network decodes
            items = [(record, predictor.feed.load(record)) for record in items]
        lines = []
        for start in range(0, len(items), self.batch):
            samples = items[start : start + self.batch]
            lines += map(line_of, predictor.score(samples, self.topk, self.modalities))
        return lines


def line_of(result: Result) -> Line:
    return json_text(result.json), result.error is not None


def decoder_crashed(record: Record) -> Loaded:
    return record, CRASHED


def network_crashed(item: Loaded | Record) -> Line:
    record = item if isinstance(item, Record) else item[0]
    return line_of(Result.of(record, error=NETWORK_CRASHED))


# --- the job --------------------------------------------------------------------------------------


def stages_of(ray: Any, args: Namespace, place: Place, predictor: Predictor, batch: int):
    """The stages of a prediction, with the model in the object store."""
    options = worker_options(args, place, predictor)
    model, params, weights = (options[name] for name in ("model", "params_file", "weights"))
    options |= dict.fromkeys(("model", "params_file", "weights"))
    files = {}
    if model is not None:
        files["model"] = send(ray, model)
    if params is not None:
        if model is not None and Path(params).with_suffix("") == Path(model).with_suffix(""):
            files["params_file"] = replace(files["model"], main=Path(params).name)
        else:
            files["params_file"] = send(ray, params)
    if weights is not None:
        files["weights"] = send(ray, weights)
    score = Score(options, files, args.features or "", batch, args.topk, args.modalities)
    network = Stage(
        "the network",
        score,
        network_crashed,
        place.num_cpus,
        place.num_gpus,
        place.least,
        place.most,
        keeps=True,
    )
    if args.features:
        return [network]
    decode = Stage(
        "decoding", Decode(predictor.feed), decoder_crashed, most=args.decode_workers or None
    )
    return [decode, network]


def worker_options(args: Namespace, place: Place, predictor: Predictor) -> dict[str, Any]:
    """The arguments of `Predictor` in a worker; its files are those of this machine.

    Raises:
        ValueError: a GPU is asked for, and workers get none.
    """
    if args.use_gpu and not place.num_gpus:
        raise ValueError("--use_gpu with --on needs GPUs for the workers; give --num_gpus 1")
    options = command.predictor_options(Namespace(**{**vars(args), "features": None}))
    options["device"] = "gpu" if place.num_gpus else "cpu"
    options["threads"] = args.cpu_threads or max(1, int(place.num_cpus))
    options["class_names"] = predictor.labels
    if options["backend"] == "auto" and not place.num_gpus:
        options["backend"] = predictor.backend.kind  # the same on all nodes
    name = options["model"] if find_model(options["model"]) else options["weights"]
    if find_model(options["model"]):
        options["model"], options["weights"] = None, name
    if options["model"] is None and options["config"] is None:
        options["config"] = config_of_run(str(name))
    if (published := find_model(options["weights"])) is not None:
        options["weights"] = cached(published)
    elif options["weights"] is not None:
        options["weights"] = weight_file(options["weights"])
    if options["model"] is not None and is_remote(options["model"]):
        options["model"] = local_model(options["model"])
    if is_url(options["params_file"] or ""):
        options["params_file"] = local_copy(options["params_file"])
    return options


class Ordered:
    """Results in the order of the inputs, from parts that become complete in any order.

    Args:
        parts: of the job.
        work: results that were added to the parts, while they are made.
        stack: what ends with the results.
    """

    waited = None

    def __init__(self, parts: PartFiles, work: Iterator[None], stack: ExitStack):
        self._parts, self._work, self._stack = parts, work, stack
        self.total = parts.total

    def __iter__(self) -> Iterator[Result]:
        for number in range(len(self._parts)):
            while not self._parts.is_complete(number):
                next(self._work)
            yield from map(Result.of_json, self._parts.rows(number))

    def close(self) -> None:
        self._stack.close()


def key_of(record: Record) -> tuple:
    return record.location, record.start_sec, record.end_sec


def work_on(
    cluster: Cluster,
    place: Place,
    inputs: Inputs,
    args: Namespace,
    predictor: Predictor,
    parts: PartFiles,
) -> Iterator[None]:
    """Make the results that are missing, and add them to the parts."""
    if parts.num_kept:
        logger.info(f"{parts.folder}: {parts.num_kept} of {parts.total} results are there already")
    if not parts.num_left:
        return
    batch = predictor.limit_batch(args.batch_size, parts.num_left)
    stages = stages_of(cluster.ray, args, place, predictor, batch)
    engine = Engine(cluster, stages, "videos", failed=lambda line: line[1])
    records = (record for record, _ in inputs)
    size = unit_size(parts.num_left, predictor.feed.sample_bytes, batch)
    for index, (line, _) in engine.run(parts.left(records), size, parts.num_left):
        parts.add(index, line)
        yield


def unit_size(count: int, sample_bytes: int, batch: int) -> int:
    """Videos that are sent together: whole batches, and fewer where a list is short.

    Args:
        count: number of videos.
        sample_bytes: decoded views of a video.
        batch: videos that are scored together.
    """
    size = min(MAX_UNIT, UNIT_BYTES // max(1, sample_bytes), count // MIN_UNITS)
    return max(1, size // batch) * batch


@dataclass(frozen=True)
class PredictOnCluster:
    """`predict_here` on a cluster, for `command.run_command`.

    Args:
        place: where, and what a worker gets.
        folder: of the parts; None for a temporary folder.
        replaced: a file of results that is deleted, with its parts, when the cluster is there.
    """

    place: Place
    folder: Path | None
    replaced: Path | None

    def __call__(self, inputs: Inputs, args: Namespace, predictor: Predictor) -> Ordered:
        with ExitStack() as stack:
            folder = self.folder
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="predict-")))
            cluster = stack.enter_context(connected(self.place.on))
            if self.replaced:
                delete(folder)
                self.replaced.unlink()
            parts = stack.enter_context(open_parts(folder, inputs, args, predictor))
            work = work_on(cluster, self.place, inputs, args, predictor, parts)
            return Ordered(parts, work, stack.pop_all())


def open_parts(folder: Path, inputs: Inputs, args: Namespace, predictor: Predictor) -> PartFiles:
    """The parts of a prediction; with --overwrite in place of those of another one."""
    made_by = command.made_by(args, predictor)

    def opened() -> PartFiles:
        keys = (key_of(record) for record, _ in inputs)
        return PartFiles(folder, made_by, keys, len(inputs), retry_failed=args.resume)

    try:
        return opened()
    except OtherParts:
        if not args.overwrite:
            raise
    delete(folder)
    return opened()


def run_command(args: Namespace, ignored: Mapping[str, str], place: Place) -> int:
    """`command.run_command` on a cluster.

    `--out FILE` has parts in `FILE.parts` until it is written; `--out FOLDER` keeps them there.

    Returns:
        the number of inputs that failed.

    Raises:
        ValueError, OSError: as there, or the cluster can not run the job.
    """
    out = Path(args.out) if args.out and not is_url(args.out) else None
    if args.out and not out:
        if not Path(path_name(args.out)).suffix:
            raise ValueError(
                f"--out {shown(args.out)}: parts are written to a folder of this machine; give "
                "one, and copy it to the store, or give a file such as results.jsonl"
            )
        logger.warning(
            f"--out {shown(args.out)}: a job that stops begins again, because its parts are on "
            "this machine only; give a local file for long jobs"
        )
    if out and (out.is_dir() or not out.suffix):
        return run_in_folder(out, args, place)
    file = out and command.output_path(args)
    parts = file and file.with_name(f"{file.name}.parts")
    replaced = file if file and args.overwrite and file.exists() else None
    predict = PredictOnCluster(place, parts, replaced)
    failed = command.run_command(args, ignored, predict, at_once=True)
    if parts:
        delete(parts)
    return failed


def run_in_folder(folder: Path, args: Namespace, place: Place) -> int:
    """Predict into parts that stay in a folder; returns the number of failures."""
    if args.shard or args.save_path:
        flag = "--shard" if args.shard else "--save_path"
        raise ValueError(f"{flag} is for a single file of --out; {folder} is a folder of parts")
    with log.session(), paddle_internals.keep_num_threads():
        check_writable(folder / "part-00001.jsonl")
        predictor = command.open_predictor(args)
        inputs = predictor.find(args.input_file)
        with connected(place.on) as cluster:
            if args.overwrite:
                delete(folder)
            with open_parts(folder, inputs, args, predictor) as parts:
                for _ in work_on(cluster, place, inputs, args, predictor, parts):
                    pass
                failed = parts.num_failed()
        logger.info(f"{len(inputs)} results are in {len(parts)} parts in {folder}, {failed} failed")
    return failed
