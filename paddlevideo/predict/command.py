"""The predict command: its flags, those of PaddleVideo's predict.py among them -> a Predictor -> printed results."""

from argparse import Namespace
from contextlib import nullcontext

from paddlevideo import dist
from paddlevideo.engine.build import load_config
from paddlevideo.features.extract import FeatureExtractor
from paddlevideo.files import check_writable
from paddlevideo.log import logger
from paddlevideo.metrics.score_files import check_prediction_suffix
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import result_file
from paddlevideo.runtimes.choose import require


def run_command(args: Namespace) -> int:
    """Print a result for each input as it comes, write all of them where `out` says, and return how many failed.

    Raises:
        ValueError, OSError: a flag, the model or the inputs are wrong; nothing was predicted.
    """
    if args.out:
        check_prediction_suffix(args.out)
        check_writable(args.out)
    elif args.quiet:
        raise ValueError(
            "--quiet prints no results, and nothing says where to write them; give --out FILE"
        )
    predictor = open_predictor(args)
    if args.out and args.out.endswith(".csv") and not predictor.multi_label:
        raise ValueError(
            f"--out {args.out}: .csv is for models of several labels a video; use .json or .jsonl"
        )
    results = predictor.predict(args.input_file, args.batch_size, args.topk, args.modalities)
    count, failed, noted = 0, [], {}
    with result_file(args.out) if args.out else nullcontext() as write:
        for result in results:
            count += 1
            if not args.quiet:
                result.print()
            if write:
                write(result)
            if result.error is not None:
                failed.append(f"\n  {result.input_path}: {result.error}")
            if result.note:
                noted[result.note] = noted.get(result.note, 0) + 1
    if args.out:
        logger.info(f"{count} results are in {args.out}")
    for note, times in noted.items():
        logger.warning(f"{times} of {count} inputs: {note}")
    if failed:
        logger.error(f"{len(failed)} of {count} inputs failed:{''.join(failed)}")
    return len(failed)


def open_predictor(args: Namespace) -> Predictor:
    """The predictor that the flags ask for.

    Raises:
        ValueError: flags that are not supported, or that contradict each other.
    """
    for flag in ("use_xpu", "use_npu"):
        if getattr(args, flag):
            raise ValueError(f"--{flag} is not supported: models run on a CPU or a GPU")
    if args.model and args.model_file:
        raise ValueError("--model and --model_file are both given; one of them says what to run")
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
        features=FeatureExtractor.beside(args.features) if args.features else None,
        gpu_mem=args.gpu_mem,
        ir_optim=args.ir_optim,
        onednn=args.enable_mkldnn,
        quiet=args.disable_glog,
    )
    logger.info(predictor.backend.name)
    return predictor


def _device(use_gpu: bool | None) -> str:
    """Old command lines ask for a GPU by default, so one that is not there is a line and no error."""
    if use_gpu is None:
        return "auto"
    device, note = dist.choose_device(use_gpu)
    if note:
        logger.warning(note)
    return device
