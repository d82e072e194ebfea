"""Generate small videos, train PP-TSN on them, test, export and predict: minutes on a CPU.

Everything is written below the current folder: data/demo, output/demo_pptsn, inference/demo_pptsn.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import paddlevideo
from paddlevideo import log
from paddlevideo.commands import export, load, make_demo, predict, run, test, train

CONFIG = "demo/pptsn"
OUTPUT, MODEL = "output/demo_pptsn", "inference/demo_pptsn"
WEIGHTS = f"{OUTPUT}/ppTSN_best.pdparams"


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of `paddlevideo demo`."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, help="number of epochs (default: that of the config)")
    parser.add_argument("--clips", type=int, default=16, help="training clips per class")
    return parser


def steps(args: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """(verb, flags) of each step, as one would type them."""
    epochs = [] if args.epochs is None else ["--epochs", str(args.epochs)]
    config = ["-c", CONFIG]
    scores, results = f"{OUTPUT}/test.json", f"{OUTPUT}/predictions.json"
    test_flags = ["-w", WEIGHTS, "--out", scores, "--overwrite"]
    export_flags = ["-p", WEIGHTS, "-o", MODEL, "--overwrite"]
    inputs = ["--input_file", "data/demo/appearance/test"]
    return [
        ("data make-demo", ["--clips", str(args.clips)]),
        ("train", ["--validate", *config, *epochs, "--overwrite"]),
        ("test", [*config, *test_flags]),
        ("export", [*config, *export_flags]),
        ("predict", ["--model", MODEL, *inputs, "--save_json", results, "--overwrite"]),
    ]


COMMANDS = {
    "data make-demo": make_demo.main,
    "train": train.main,
    "test": test.main,
    "export": export.main,
    "predict": predict.main,
}


def work(args: argparse.Namespace) -> int:
    """Run the steps; returns the exit code of the first that fails, 130 if training was stopped."""
    for verb, flags in steps(args):
        log.show("", f"$ paddlevideo {verb} {' '.join(flags)}")
        if code := COMMANDS[verb](flags, f"paddlevideo {verb}"):
            return code
        if verb == "train" and training_stopped(args):
            log.show("", "the demo ends here; the same command begins again")
            return 130
    log.show("", f"model        {MODEL}", f"predictions  {OUTPUT}/predictions.json")
    log.show(f"test scores  {OUTPUT}/test.json")
    return 0


def training_stopped(args: argparse.Namespace) -> bool:
    """Whether a signal stopped the training, which has saved its state, and ended with 0."""
    state = Path(OUTPUT, "ppTSN_latest.pdstate")
    epochs, _ = load("paddlevideo.engine.checkpoint:read_progress")(state)
    return epochs < (paddlevideo.load_config(CONFIG).epochs if args.epochs is None else args.epochs)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, bare_help=False)
