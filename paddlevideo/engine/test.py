"""Evaluation: exact numbers on any number of ranks, every video decoded once, memory bounded by scoring views in parts."""

from pathlib import Path

from paddlevideo import dist, log
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.engine.build import build_model, load_records
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.evaluate import TAGS, Evaluation, evaluate
from paddlevideo.engine.loaders import eval_loader, on_error
from paddlevideo.engine.preflight import preflight
from paddlevideo.files import check_writable
from paddlevideo.metrics.score_files import SCORE_SUFFIXES, write_scores
from paddlevideo.models import onednn
from paddlevideo.sample import DecodeError
from paddlevideo.weights import load_into


def test(
    cfg: Config, weights: str, out: str | None = None, names: list[str] | None = None
) -> Evaluation:
    """Test a weight file on DATASET.test, print the numbers and write per-video scores where `out` says.

    Args:
        weights: `.pdparams`, `.safetensors` or `.pdstate`.
        out: `.json` or `.npz`.
        names: which numbers to print (top_k_accuracy, mean_class_accuracy), None for all.

    Raises:
        ConfigError, DatasetError, WeightsError: what is missing or does not fit.
        DecodeError: a file failed and `on_error: skip` is not set, or every file did.
        OSError: `out` cannot be written; said before the work.
    """
    if out and Path(out).suffix not in SCORE_SUFFIXES:
        raise ConfigError([f"--out {out}: expected a .json or .npz file"])
    if out:
        check_writable(out)
    arrays, class_names = read_model(weights)
    lists, classes = load_records(cfg, ("test",), class_names)
    onednn.use(cfg.onednn)
    model = build_model(cfg, classes.num)
    preflight(cfg, model, ("test",))
    log.logger.info(load_into(model, arrays, weights))
    loader = eval_loader(cfg, "test", lists["test"].records, classes.num)
    skip = on_error(cfg, "test", "fail", ("fail", "skip")) == "skip"
    try:
        done = evaluate(cfg, model, loader, classes.num, skip, "test", keep_rows=out is not None)
    finally:
        loader.close()
    if "loss" not in done.numbers and done.failures:
        raise DecodeError(f"not one test file could be decoded; first: {done.failures[0]}")
    if dist.is_main():
        report(done, names)
        if out:
            multi_label = "avg_loss" in done.numbers
            num_scores = min(TAGS, classes.num) if multi_label else classes.num
            write_scores(out, done.rows, done.numbers, classes.names, num_scores, multi_label)
            log.logger.info(f"scores of {len(done.rows)} videos are in {out}")
    return done


def report(done: Evaluation, names: list[str] | None = None) -> None:
    """Print the final numbers of a test, and what was counted wrong because it could not be decoded."""
    kinds = {"top_k_accuracy": "top", "mean_class_accuracy": "mean_class_accuracy"}
    if "avg_loss" in done.numbers:  # several labels a video
        shown = {k: v for k, v in done.numbers.items() if not k.startswith("num_") and k != "loss"}
    else:
        wanted = tuple(kinds[n] for n in names) if names else ("top", "mean_class_accuracy", "loss")
        shown = {k: v for k, v in done.numbers.items() if k.startswith(wanted)}
    spelled = ", ".join(
        f"avg_acc{k[3:]}= {v:.6f}" if k.startswith("top") else f"{k}= {v:.6f}"
        for k, v in shown.items()
    )
    log.logger.info(f"[TEST] finished, {spelled}, videos= {done.numbers['num_samples']}")
    for failure in done.failures:
        log.logger.warning(f"counted as wrong: {failure}")
