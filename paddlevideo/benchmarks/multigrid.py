"""Plain training and each phase of a multigrid plan: clips per second.

The last group compares the complete plan with plain training, in time and in operations.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle

from paddlevideo import dist
from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.measure import Group, Row, Variant, measure
from paddlevideo.benchmarks.train import multiplications, optimizer_of
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import TrainOrder
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.engine.evaluate import to_tensors
from paddlevideo.engine.phases import batch_shapes, phases_of
from paddlevideo.models.layers import set_norm_splits
from paddlevideo.sample import BatchShape, ClipShape, Record
from paddlevideo.solver.phases import Phase


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py multigrid."""
    records = records_of(None, folder, 8, (340, 256), 250, 50)
    return run(args.config, args.override, records, args.workers, args.batch_size, args.rounds)


def run(
    config: str,
    overrides: list[str],
    records: list[Record],
    workers: int,
    batch_size: int,
    rounds: int,
) -> Iterator[Group]:
    """Steps with data and optimizer: plain ones, and a short cycle of every clip shape.

    Args:
        workers: loader processes.
        batch_size: clips of a plain step; the batch sizes of the phases follow from it.
    """
    cfg = load_config(config, [*overrides, f"DATASET.batch_size={batch_size}"])
    paddle.seed(0)
    model = build_model(cfg)
    phases, _ = phases_of(cfg, optimizer_of(cfg).learning_rate, model, True)
    largest = max(sum(shape.size for shape in batch_shapes(phase)) for phase in phases)
    trial = Trial(cfg, model, records * -(-largest // len(records)), workers)
    by_shape = {(phase.num_frames, phase.crop_size): phase for phase in phases}.values()
    plain = Cycle(trial, "plain", (BatchShape(batch_size),), 1)
    cycles = [Cycle(trial, name(phase), batch_shapes(phase), phase.bn_splits) for phase in by_shape]
    title = f"training of {cfg.model_name}, {trial.description}, {workers} loader process(es)"
    try:
        variants = [cycle.variant(batch_size, plain) for cycle in (plain, *cycles)]
        group = measure(title, "clip", batch_size, variants, rounds)
    finally:
        trial.close()
    yield group
    yield total(group, phases, plain, {cycle.name: cycle for cycle in cycles})


def name(phase: Phase) -> str:
    """The clip shape of a phase, as text."""
    return f"{phase.num_frames} x {phase.crop_size}"


class Trial:
    """A model and the records to train it on."""

    def __init__(self, cfg, model, records: list[Record], workers: int):
        self.cfg, self.model = cfg, model
        self.optimizer = optimizer_of(cfg).build(model.named_parameters())
        self.optimizer.set_lr(1e-5)  # training on noise must not diverge
        self.dataset = ClipDataset(records, build_pipeline(cfg, "train"), cfg.seed)
        order = TrainOrder(len(records), (BatchShape(1),))
        self.loader = Loader(self.dataset, order, workers, cfg.DATASET.prefetch)
        size = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
        self.description = f"{size / 1e6:.1f} M parameters, {dist.use_threads()} compute threads"
        self.epoch = 0

    def train(self, cycle: tuple[BatchShape, ...], splits: int) -> None:
        """Do a step on each batch of the cycle."""
        set_norm_splits(self.model, splits)
        self.model.train()
        num_records = sum(shape.size for shape in cycle)
        self.loader.order = replace(self.loader.order, num_records=num_records, cycle=cycle)
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
        sample = pipeline.synthetic()
        batch = {key: sample[key][None] for key in pipeline.batch_specs}
        return multiplications(self.model, pipeline.finish(batch))

    def close(self) -> None:
        """End the loader processes."""
        self.loader.close()


class Cycle:
    """The steps of one short cycle, timed per clip.

    Args:
        cycle: the shape of each batch.
        splits: parts of a batch with batch-norm statistics of their own.
    """

    def __init__(self, trial: Trial, name: str, cycle: tuple[BatchShape, ...], splits: int):
        self.trial, self.name, self.cycle, self.splits = trial, name, cycle, splits
        self.clips = sum(shape.size for shape in cycle)
        self.work = sum(shape.size * trial.work(shape.clip) for shape in cycle) / self.clips

    def variant(self, count: int, plain: "Cycle") -> Variant:
        """Seconds per `count` clips, so that batches of any size can be compared."""

        def seconds() -> float:
            start = time.perf_counter()
            self.trial.train(self.cycle, self.splits)
            return (time.perf_counter() - start) * count / self.clips

        allowed = plain.work / self.work
        sizes = [
            f"{shape.size} at {shape.clip.crop_size}" if shape.clip else f"{shape.size}"
            for shape in self.cycle
        ]

        def note(median: float) -> str:
            flops = 6 * self.work * count / median / 1e9
            return f"{flops:.0f} GFLOP/s; steps of {', '.join(sizes)}; FLOPs allow {allowed:.2f}"

        return Variant(self.name, seconds, note)


def total(group: Group, phases: list[Phase], plain: Cycle, cycles: dict[str, Cycle]) -> Group:
    """The complete plan and plain training: total time from the times per clip, and operations."""
    times = {row.name: row.seconds for row in group.rows}
    epochs = phases[0].baseline.epochs
    rounds = range(len(times["plain"]))

    def sum_over_phases(per_clip: Callable[[str], float]) -> float:
        return sum(phase.num_epochs * per_clip(name(phase)) for phase in phases)

    baseline = [epochs * seconds for seconds in times["plain"]]
    multigrid = [sum_over_phases(lambda n, i=i: times[n][i]) for i in rounds]
    base = Row.of("plain", baseline, baseline, epochs, f"{epochs} epochs")
    row = Row.of("multigrid", multigrid, baseline, epochs, "")
    allowed = epochs * plain.work / sum_over_phases(lambda n: cycles[n].work)
    reached = 100 * row.ratio / allowed
    note = f"{phases[-1].end} epochs; FLOPs allow {allowed:.2f}, reached {reached:.0f} %"
    title = f"the whole plan, {group.count:g} clip(s) an epoch"
    return Group(title, "epoch", epochs, [base, replace(row, note=note)])
