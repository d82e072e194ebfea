"""The predict command: parsed flags -> a Predictor -> printed and written results."""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

from paddlevideo import dist, log, paddle_internals
from paddlevideo.engine.build import load_config
from paddlevideo.features.extract import FeatureExtractor
from paddlevideo.files import check_writable
from paddlevideo.log import LINES, logger
from paddlevideo.metrics.score_files import check_prediction_suffix
from paddlevideo.plain_text import readable
from paddlevideo.predict.paddlex import ResultFolder
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import Result, name_width, result_file
from paddlevideo.runtimes.choose import require


def run_command(args: Namespace, ignored: Mapping[str, str]) -> int:
    """Print the result of each input as soon as it is known, and write all of them to `args.out`.

    Args:
        args: see commands/predict.py.
        ignored: {flag: why it has no effect}, for the flags that were given.

    Returns:
        the number of inputs that failed.

    Raises:
        ValueError, OSError: a flag, the model or the inputs are wrong; nothing was predicted.
    """
    with log.session(), paddle_internals.keep_num_threads():
        for flag, reason in ignored.items():
            logger.warning(f"--{flag} has no effect: {reason}")
        check_output(args)
        predictor = open_predictor(args)
        if args.out and args.out.endswith(".csv") and not predictor.multi_label:
            raise ValueError(
                f"--out {args.out}: .csv is for multi-label models; use .json or .jsonl"
            )
        results = predictor.predict(args.input_file, args.batch_size, args.topk, args.modalities)
        return show(results, args, predictor)


def check_output(args: Namespace) -> None:
    """Check the flags for the output.

    Raises:
        ValueError: the results are neither printed nor written, or the file has an unknown suffix;
            the flags contradict each other.
        OSError: the file cannot be written.
    """
    if args.out:
        check_prediction_suffix(args.out)
        check_writable(args.out)
    if args.quiet and args.verbose:
        raise ValueError("--quiet and --verbose are both given; leave one of them out")
    if args.quiet and not (args.out or args.save_path):
        raise ValueError("--quiet prints no results; give --out FILE to write them")
    if args.save_path:
        check_writable(Path(args.save_path, "result.json"))


def is_verbose(args: Namespace) -> bool:
    """Whether results are printed as PaddleVideo's predict.py does, with lines for each class.

    A command line of PaddleVideo, which scripts may parse, has --model_file and --params_file.
    """
    if args.verbose is not None:
        return args.verbose
    return bool(args.model_file or args.params_file)


def result_printer(args: Namespace, predictor: Predictor) -> Callable[[Result], None]:
    """A function that prints a result in the form that the flags select."""
    if args.quiet:
        return lambda result: None
    if is_verbose(args):
        return Result.print
    labels, topk = predictor.labels, args.topk or predictor.top_k
    width, num_classes = name_width(labels), min(topk, len(labels or range(topk)))
    return lambda result: print(result.line(width, num_classes), flush=True)


def show(results: Iterable[Result], args: Namespace, predictor: Predictor) -> int:
    """Print and write results, and log the failures; returns the number of failures."""
    show_result = result_printer(args, predictor)
    count, failed, notes = 0, [], Counter()
    folder = ResultFolder(args.save_path) if args.save_path else None
    with result_file(args.out) if args.out else nullcontext() as write:
        for result in results:
            count += 1
            show_result(result)
            if write:
                write(result)
            if folder:
                folder.write(result)
            if result.error is not None:
                failed.append(readable(f"  {result.input_path}: {result.error}"))
            if result.note:
                notes[result.note] += 1
    if args.out:
        logger.info(f"{count} results are in {args.out}")
    for note, times in notes.items():
        logger.warning(f"{times} of {count} inputs: {note}")
    if failed:
        lines = "\n".join([f"{len(failed)} of {count} inputs failed:", *failed])
        logger.error(lines, extra=LINES)
    return len(failed)


def open_predictor(args: Namespace) -> Predictor:
    """Create the predictor that the flags describe.

    Raises:
        ValueError: a flag is not supported, or two flags contradict each other.
    """
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
    dist.use_threads(args.cpu_threads)
    predictor = Predictor(
        args.model or args.model_file,
        load_config(args.config, args.override) if args.config else None,
        args.weights,
        backend,
        args.params_file,
        device=_device(args.use_gpu),
        precision=args.precision,
        threads=args.cpu_threads,
        class_names=args.class_names,
        features=FeatureExtractor.from_folder(args.features) if args.features else None,
        gpu_mem=args.gpu_mem,
        ir_optim=args.ir_optim,
        onednn=args.enable_mkldnn,
        quiet=args.disable_glog,
    )
    logger.info(predictor.backend.name)
    return predictor


def _device(use_gpu: bool | None) -> str:
    """The device for --use_gpu.

    Old command lines often have --use_gpu=True, so a missing GPU is a warning, not an error.
    """
    if use_gpu is None:
        return "auto"
    device, note = dist.choose_device(use_gpu)
    if note:
        logger.warning(note)
    return device
