"""The predict command: parsed flags -> a Predictor -> printed and written results."""

import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from paddlevideo import dist, log, paddle_internals
from paddlevideo.engine.build import load_config
from paddlevideo.features.extract import FeatureExtractor
from paddlevideo.files import check_writable
from paddlevideo.log import LINES, logger, plural
from paddlevideo.metrics.score_files import check_prediction_suffix, prediction_file
from paddlevideo.plain_text import readable
from paddlevideo.predict.gpus import gpu_without_paddle
from paddlevideo.predict.inputs import Inputs, Key
from paddlevideo.predict.lines import MADE_BY, ResultLines, note_others
from paddlevideo.predict.paddlex import ResultFolder
from paddlevideo.predict.predictor import Predictor, Results
from paddlevideo.predict.remote_output import local_outputs
from paddlevideo.predict.results import Result, name_width, result_file
from paddlevideo.runtimes.choose import require


class Source(Protocol):
    """Results in the order of the inputs, as `predictor.Results` yields them."""

    total: int

    @property
    def waited(self) -> float | None: ...

    def __iter__(self) -> Iterator[Result]: ...

    def close(self) -> None: ...


Predict = Callable[[Inputs, Namespace, Predictor], Source]


def predict_here(inputs: Inputs, args: Namespace, predictor: Predictor) -> Results:
    """Predict in this process."""
    return predictor.predict(
        inputs, args.batch_size, args.topk, args.modalities, args.decode_workers
    )


def run_command(
    args: Namespace,
    ignored: Mapping[str, str],
    predict: Predict = predict_here,
    at_once: bool = False,
) -> int:
    """Print the result of each input as soon as it is known, and write all of them to a file.

    Args:
        args: see commands/predict.py.
        ignored: {flag: why it has no effect}, for the flags that were given.
        predict: where the work runs.
        at_once: a new .jsonl file of --out appears when it is complete, not line by line.

    Returns:
        the number of inputs that failed.

    Raises:
        ValueError, OSError: a flag, the model or the inputs are wrong; nothing was predicted.
    """
    with log.session(), paddle_internals.keep_num_threads():
        for flag, reason in ignored.items():
            logger.warning(f"--{flag} has no effect: {reason}")
        return _predict(args, predict, at_once)


def _predict(args: Namespace, predict: Predict, at_once: bool) -> int:
    with local_outputs(args, output_path) as (args, place):
        out = check_output(args)
        predictor = open_predictor(args)
        if out and out.suffix == ".csv" and not predictor.multi_label:
            raise ValueError(f"--out {out}: .csv is for multi-label models; use .json or .jsonl")
        inputs = predictor.find(args.input_file)
        if args.shard:
            inputs = inputs.shard(*args.shard)
        if out is None:
            return show(inputs, args, predictor, predict=predict)
        with open_output(out, args, predictor, at_once) as (write, done):
            left = inputs.without(done)
            note_others(out, done, left.num_done)
            num_failed = show(left, args, predictor, write, predict)
        logger.info(f"{len(inputs)} results are in {place}")
        return num_failed


def check_output(args: Namespace) -> Path | None:
    """Check the flags for the output, before any work; returns the file for the results.

    Raises:
        ValueError: the results are neither printed nor written, or the file has an unknown suffix
            or exists; the flags contradict each other.
        OSError: the file cannot be written.
    """
    out = output_path(args)
    if args.resume and args.overwrite:
        raise ValueError("--resume and --overwrite are both given; leave one of them out")
    if out is None and (args.resume or args.overwrite):
        flag = "--resume" if args.resume else "--overwrite"
        raise ValueError(f"{flag} is for the file of --out, and there is none; give --out FILE")
    if out:
        check_prediction_suffix(out)
        if args.resume and out.suffix != ".jsonl":
            raise ValueError(
                f"--resume continues .jsonl files, which grow line by line; {out} appears when all "
                "results are known: use --out FILE.jsonl"
            )
        if out.exists() and not (args.resume or args.overwrite):
            fix = "continue it with --resume, " if out.suffix == ".jsonl" else ""
            raise ValueError(
                f"--out {out}: this file exists; {fix}replace it with --overwrite, or give "
                "another path"
            )
        check_writable(out)
    if args.quiet and args.verbose:
        raise ValueError("--quiet and --verbose are both given; leave one of them out")
    if args.quiet and not (args.out or args.save_path):
        raise ValueError("--quiet prints no results; give --out FILE to write them")
    if args.save_path:
        if args.resume or args.shard:
            flag = "--resume" if args.resume else "--shard"
            raise ValueError(
                f"--save_path numbers the videos of one name, so it needs all inputs; {flag} takes "
                "some of them: leave one of the two out"
            )
        check_writable(Path(args.save_path, "result.json"))
    return out


def output_path(args: Namespace) -> Path | None:
    """The file of --out; with --shard 2/8 `out.jsonl` becomes `out.2-of-8.jsonl`."""
    if not args.out:
        return None
    path = Path(args.out)
    if not args.shard:
        return path
    number, count = args.shard
    return path.with_name(f"{path.stem}.{number}-of-{count}{path.suffix}")


@contextmanager
def open_output(
    out: Path, args: Namespace, predictor: Predictor, at_once: bool = False
) -> Iterator[tuple[Callable[[Result], None], Counter[Key]]]:
    """Yield a function that writes a result, and which inputs have their results in the file.

    Raises:
        ValueError: --resume, and another model or other settings wrote the file.
        OSError: the file cannot be written.
    """
    if out.suffix != ".jsonl":
        with result_file(out) as write:
            yield write, Counter()
        return
    if at_once and not (args.resume and out.exists()):
        with prediction_file(out) as write_row:
            more = {MADE_BY: made_by(args, predictor)}
            yield lambda result: write_row({**result.json, **more}), Counter()
        return
    lines = ResultLines(out, made_by(args, predictor), args.resume)
    try:
        yield lambda result: lines.write(result.json), lines.done
    finally:
        lines.close()


def made_by(args: Namespace, predictor: Predictor) -> str:
    """Names all that the results of a command depend on, besides the inputs."""
    text = f"{predictor.identity} topk {args.topk or predictor.top_k}"
    text += " modalities" if args.modalities else ""
    return text + (f" features {args.features}" if args.features else "")


def is_verbose(args: Namespace) -> bool:
    """Whether results are printed as PaddleVideo's predict.py does, with lines for each class.

    A command line of PaddleVideo, which scripts may parse, has --model_file and --params_file.
    """
    if args.verbose is not None:
        return args.verbose
    return bool(args.model_file or args.params_file)


def result_text(args: Namespace, predictor: Predictor) -> Callable[[Result], str]:
    """A function that returns a result as text, in the form that the flags select."""
    if is_verbose(args):
        return str
    labels, topk = predictor.labels, args.topk or predictor.top_k
    width, num_classes = name_width(labels), min(topk, len(labels or range(topk)))
    return lambda result: result.line(width, num_classes)


def show(
    inputs: Inputs,
    args: Namespace,
    predictor: Predictor,
    write: Callable[[Result], None] | None = None,
    predict: Predict = predict_here,
) -> int:
    """Predict, print and write; log the failures, and return their number."""
    text = result_text(args, predictor)
    folder = ResultFolder(args.save_path) if args.save_path else None
    results = predict(inputs, args, predictor)
    count, failed, notes, start = 0, [], Counter(), time.perf_counter()
    total = results.total + inputs.num_done
    with log.progress(total=total, label="predict", start=inputs.num_done) as bar:
        bar.unit = "video"
        try:
            for result in results:
                count += 1
                if write:
                    write(result)
                if folder:
                    folder.write(result)
                if not args.quiet:
                    tqdm.write(text(result), file=sys.stdout)  # above the bar
                    sys.stdout.flush()
                if result.error is not None:
                    failed.append(readable(f"  {result.input_path}: {result.error}"))
                if result.note:
                    notes[result.note] += 1
                if results.waited is not None:
                    bar.set_postfix_str(f"network waited {results.waited:.0%}", refresh=False)
                bar.update()
        finally:
            results.close()
    _log_end(count, inputs.num_done, time.perf_counter() - start, results)
    for note, times in notes.items():
        logger.warning(f"{times} of {plural(count, 'input')}: {note}")
    if failed:
        lines = "\n".join([f"{len(failed)} of {count} inputs failed:", *failed])
        logger.error(lines, extra=LINES)
    return len(failed)


def _log_end(count: int, num_done: int, seconds: float, results: Source) -> None:
    earlier = f"; {num_done} were done before" if num_done else ""
    if not count:
        logger.info(f"no inputs are left{earlier}")
        return
    text = (
        f"{plural(count, 'input')} in {seconds:.1f} s, {count / max(seconds, 1e-9):.3g} per second"
    )
    if results.waited is not None:
        text += f", the network waited {results.waited:.0%} of the time"
    logger.info(f"{text}{earlier}")


def open_predictor(args: Namespace) -> Predictor:
    """Create the predictor that the flags describe.

    Raises:
        ValueError: a flag is not supported, or two flags contradict each other.
    """
    options = predictor_options(args)
    dist.use_threads(args.cpu_threads)
    predictor = Predictor(**options)
    logger.info(predictor.backend.name)
    return predictor


def predictor_options(args: Namespace) -> dict[str, Any]:
    """The arguments of `Predictor` that the flags describe; see `open_predictor`."""
    for flag in ("use_xpu", "use_npu"):
        if vars(args)[flag]:
            raise ValueError(f"--{flag} is not supported: models run on a CPU or a GPU")
    if args.model and args.model_file:
        raise ValueError("--model and --model_file are both given; leave one of them out")
    if args.override and not args.config:
        raise ValueError("-o changes a config; give it with --config")
    backend = args.backend
    if args.use_tensorrt:
        if backend not in ("auto", "tensorrt"):
            raise ValueError(
                f"--use_tensorrt and --backend {backend} are both given; leave one of them out"
            )
        backend = "tensorrt"
        require(backend)
    return {
        "model": args.model or args.model_file,
        "config": load_config(args.config, args.override) if args.config else None,
        "weights": args.weights,
        "backend": backend,
        "params_file": args.params_file,
        "device": _device(args.use_gpu, backend),
        "precision": args.precision,
        "threads": args.cpu_threads,
        "class_names": args.class_names,
        "features": FeatureExtractor.from_folder(args.features) if args.features else None,
        "gpu_mem": args.gpu_mem,
        "ir_optim": args.ir_optim,
        "onednn": args.enable_mkldnn,
        "quiet": args.disable_glog,
    }


def _device(use_gpu: bool | None, backend: str) -> str:
    """The device for --use_gpu.

    Old command lines often have --use_gpu=True, so a missing GPU is a warning, not an error.
    """
    if use_gpu is None:
        return "auto"
    if use_gpu and not dist.num_gpus() and (device := gpu_without_paddle(backend)):
        return device
    device, note = dist.choose_device(use_gpu)
    if note:
        logger.warning(note)
    return device
