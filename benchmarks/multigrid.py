"""Plain training against each phase of a multigrid plan: clips per second, and how much of what the plan saves is real time."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle

from benchmarks.clips import records_of
from benchmarks.measure import Group, Row, Variant, measure
from benchmarks.train import multiplications
from paddlevideo import dist
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import TrainOrder
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.engine.evaluate import to_tensors
from paddlevideo.engine.phases import batch_shapes, phases_of
from paddlevideo.models.layers import set_norm_splits
from paddlevideo.sample import BatchShape, ClipShape, Record
from paddlevideo.solver.phases import Phase


def run(
    config: str,
    overrides: list[str],
    records: list[Record],
    workers: int,
    batch_size: int,
    rounds: int,
) -> Iterator[Group]:
    """One group: a plain step, and the steps of a short cycle of every clip shape, data and optimizer included.

    Args:
        batch_size: clips of a plain step; those of the phases follow from it.
        workers: loader processes.
    """
    cfg = load_config(config, [*overrides, f"DATASET.batch_size={batch_size}"])
    paddle.seed(0)
    model = build_model(cfg)
    phases, _ = phases_of(cfg, cfg.OPTIMIZER.make().learning_rate, model, True)
    most = max(sum(shape.size for shape in batch_shapes(phase)) for phase in phases)
    trial = Trial(cfg, model, records * -(-most // len(records)), workers)
    shapes = list({(p.num_frames, p.crop_size): p for p in phases}.values())
    plain = Timed(trial, "plain", (BatchShape(batch_size),), 1)
    timed = [Timed(trial, name(phase), batch_shapes(phase), phase.bn_splits) for phase in shapes]
    try:
        title = f"training of {cfg.model_name}, {trial.about}, {workers} loader process(es)"
        group = measure(
            title,
            "clip",
            batch_size,
            [t.variant(batch_size, plain) for t in (plain, *timed)],
            rounds,
        )
    finally:
        trial.close()
    yield group
    yield total(group, phases, plain, {t.name: t for t in timed})


def name(phase: Phase) -> str:
    return f"{phase.num_frames} x {phase.crop_size}"


class Trial:
    """A model in training and the records that it learns from."""

    def __init__(self, cfg, model, records: list[Record], workers: int):
        self.cfg, self.model = cfg, model
        self.optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
        self.optimizer.set_lr(1e-5)  # noise must not drive the weights to infinity
        self.dataset = ClipDataset(records, build_pipeline(cfg, "train"), cfg.seed)
        self.loader = Loader(
            self.dataset, TrainOrder(len(records), (BatchShape(1),)), workers, cfg.DATASET.prefetch
        )
        size = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
        self.about = f"{size / 1e6:.1f} M parameters, {dist.use_threads()} compute threads"
        self.epoch = 0

    def train(self, cycle: tuple[BatchShape, ...], splits: int) -> None:
        """A step on each batch of the cycle."""
        set_norm_splits(self.model, splits)
        self.model.train()
        need = sum(shape.size for shape in cycle)
        self.loader.order = replace(self.loader.order, num_records=need, cycle=cycle)
        self.epoch += 1
        for loaded in self.loader.epoch(self.epoch):
            arrays = {key: loaded.batch[key] for key in self.dataset.pipeline.batch_specs}
            label = paddle.to_tensor(loaded.batch["label"])
            batch = {"label": label, **to_tensors(self.dataset.pipeline, arrays)}
            loss = self.model.losses(self.model(batch), batch)["loss"]
            loss.item()
            loss.backward()
            self.optimizer.step()
            self.optimizer.clear_grad()

    def work(self, clip: ClipShape | None) -> float:
        """Multiply-adds of a forward pass on one clip."""
        pipeline = self.dataset.at(clip)
        arrays = pipeline.synthetic()
        return multiplications(
            self.model, pipeline.finish({key: arrays[key][None] for key in pipeline.batch_specs})
        )

    def close(self) -> None:
        self.loader.close()


class Timed:
    """The steps of one cycle, timed per clip."""

    def __init__(self, trial: Trial, name: str, cycle: tuple[BatchShape, ...], splits: int):
        self.trial, self.name, self.cycle, self.splits = trial, name, cycle, splits
        self.clips = sum(shape.size for shape in cycle)
        self.work = sum(shape.size * trial.work(shape.clip) for shape in cycle) / self.clips

    def variant(self, count: int, plain: "Timed") -> Variant:
        """Seconds for `count` clips, so that batches of any size compare."""

        def seconds() -> float:
            start = time.perf_counter()
            self.trial.train(self.cycle, self.splits)
            return (time.perf_counter() - start) * count / self.clips

        allowed = plain.work / self.work
        steps = ", ".join(
            f"{shape.size}" + (f" at {shape.clip.crop_size}" if shape.clip else "")
            for shape in self.cycle
        )

        def note(median: float) -> str:
            return f"{6 * self.work * count / median / 1e9:.0f} GFLOP/s; steps of {steps}; FLOPs allow {allowed:.2f}"

        return Variant(self.name, seconds, note)


def total(group: Group, phases: list[Phase], plain: Timed, timed: dict[str, Timed]) -> Group:
    """The whole plan against plain training, from the times per clip: ratios of hours, and of multiplications."""
    rows = {row.name: row for row in group.rows}
    before = phases[0].baseline.epochs

    def spent(per_clip) -> float:
        return sum(phase.num_epochs * per_clip(name(phase)) for phase in phases)

    rounds = range(len(group.rows[0].seconds))
    ratios = sorted(
        before * rows["plain"].seconds[i] / spent(lambda n, i=i: rows[n].seconds[i]) for i in rounds
    )
    ratio = float(np.median(ratios))
    allowed = before * plain.work / spent(lambda n: timed[n].work)
    seconds = [before * rows["plain"].seconds[i] for i in rounds]
    base = Row(
        "plain",
        seconds,
        float(np.median(seconds)),
        before / float(np.median(seconds)),
        1.0,
        1.0,
        1.0,
        f"{before} epochs",
    )
    note = (
        f"{phases[-1].end} epochs; FLOPs allow {allowed:.2f}, reached {100 * ratio / allowed:.0f} %"
    )
    mine = [spent(lambda n, i=i: rows[n].seconds[i]) for i in rounds]
    row = Row(
        "multigrid",
        mine,
        float(np.median(mine)),
        before / float(np.median(mine)),
        ratio,
        ratios[0],
        ratios[-1],
        note,
    )
    return Group(f"the whole plan, {group.count:g} clip(s) an epoch", "epoch", before, [base, row])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=0, help="loader processes")


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    made = records_of(None, folder, 8, (340, 256), 250, 50)
    return run(args.config, args.override, made, args.workers, args.batch_size, args.rounds)
