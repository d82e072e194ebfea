"""The training step of a config, on made-up data: threads, whose convolutions, and how far it is from a matrix product."""

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from benchmarks.measure import Child, Group, Job, Variant, measure
from paddlevideo import dist
from paddlevideo.config.schema import Config
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.models import onednn

MATRIX = 1536  # rows and columns of the matrix product that tells what this machine can do
# Paddle's MKL (2019) looks at the processor's maker before it uses AVX; a number here is the code that it then takes.
MKL_CHOICE = "MKL_DEBUG_CPU_TYPE"
_AVX512 = ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")


@dataclass(frozen=True)
class Way:
    """One way to compute: threads, convolutions by oneDNN or Paddle's own, static graph or not, environment of its process."""

    name: str
    threads: int
    onednn: bool = True
    static: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def ways(cores: int, cpuinfo: str) -> list[Way]:
    """What is compared on this machine; the first is the baseline.

    Args:
        cpuinfo: the text of /proc/cpuinfo, "" where there is none.
    """
    all_cores = f"{cores} threads" if cores > 1 else "1 thread"
    found = [Way("1 thread", 1)] if cores > 1 else []
    found += [
        Way(all_cores, cores),
        Way(f"{all_cores}, no oneDNN", cores, onednn=False),
        Way(f"{all_cores}, to_static", cores, onednn=False, static=True),
    ]
    flags = set(
        next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    )
    if flags and "GenuineIntel" not in cpuinfo:
        able = {"0": True, "5": "avx2" in flags, "7": flags.issuperset(_AVX512)}
        names = {"0": "MKL by maker", "5": "MKL AVX2", "7": "MKL AVX-512"}
        chosen = [n for n in able if able[n]]
        found += [
            Way(f"{all_cores}, {names[n]}", cores, onednn=False, environment={MKL_CHOICE: n})
            for n in chosen
        ]
    return found


def run(config: str, overrides: list[str], batch_size: int, rounds: int) -> Iterator[Group]:
    """Matrix product, training step and forward pass, each way in a process of its own, one after the other in every round."""
    cfg = load_config(config, overrides)
    inputs = made_up_inputs(cfg, batch_size)
    forward = 2 * multiplications(build_model(cfg), inputs)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    about = Path("/proc/cpuinfo")
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
    with ExitStack() as stack:
        workers = []
        for way in ways(cores, about.read_text() if about.exists() else ""):
            child = Child(
                jobs,
                (config, overrides, batch_size, way.threads, way.onednn, way.static),
                way.environment,
            )
            stack.callback(child.close)
            workers.append((way.name, child))
        peak = 0.0  # of all ways to multiply matrices, operations a second
        # A training step: forward, and the gradients of inputs and weights, which multiply as much each.
        for title, unit, count, job, operations in (
            (
                f"matrix product, float32 {MATRIX} x {MATRIX}",
                "product",
                1,
                "product",
                2.0 * MATRIX**3,
            ),
            (
                f"training step of {cfg.model_name}, {shapes}",
                "clip",
                batch_size,
                "step",
                3 * forward,
            ),
            (f"evaluation of {cfg.model_name}, {shapes}", "clip", batch_size, "forward", forward),
        ):
            told = [Told(name, child, job, operations, peak).variant for name, child in workers]
            group = measure(title, unit, count, told, rounds)
            peak = peak or max(operations / row.median for row in group.rows)
            yield group


class Told:
    """A child's job as a variant, with the speed and the first value that it gives in the note.

    Args:
        operations: that it takes.
        peak: operations a second to compare with, 0 for none.
    """

    def __init__(self, name: str, child: Child, job: str, operations: float, peak: float):
        self.child, self.job, self.operations, self.peak = child, job, operations, peak
        self.first: float | None = None
        self.variant = Variant(name, self.seconds, self.note)

    def seconds(self) -> float:
        seconds, value = self.child(self.job)
        self.first = value if self.first is None else self.first
        return seconds

    def note(self, median: float) -> str:
        return f"{speed(self.operations, median, self.peak)}, gives {self.first:.6g}"


def speed(operations: float, seconds: float, peak: float) -> str:
    """GFLOP/s, and the share of a matrix product's (`peak`, operations a second) where that is known."""
    share = f", {100 * operations / seconds / peak:.0f} % of the product" if peak else ""
    return f"{operations / seconds / 1e9:.0f} GFLOP/s{share}"


def jobs(
    config: str, overrides: list[str], batch_size: int, threads: int, by_onednn: bool, static: bool
) -> dict[str, Job]:
    """What a child does. `product`: a matrix product; `step`: a training step, gives its loss; `forward`: an evaluation
    without gradients, gives the standard deviation of the logits."""
    dist.use_threads(threads)
    cfg = load_config(config, overrides)
    matrix = paddle.to_tensor(
        np.random.default_rng(0).standard_normal((MATRIX, MATRIX)).astype(np.float32)
    )
    paddle.seed(0)
    model = build_model(cfg)
    optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
    optimizer.set_lr(1e-5)  # noise must not drive the weights to infinity
    network = paddle.jit.to_static(model) if static else model
    inputs = {
        name: paddle.to_tensor(array) for name, array in made_up_inputs(cfg, batch_size).items()
    }
    batch = {**inputs, "label": paddle.to_tensor(np.arange(batch_size) % model.num_classes)}

    def step() -> float:
        paddle.seed(0)  # the same dropout
        network.train()
        with onednn.use(by_onednn and not static):  # a static program has none of it
            loss = model.losses(network(inputs), batch)["loss"]
        value = loss.item()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return value

    def forward() -> float:
        network.eval()
        with paddle.no_grad(), onednn.use(by_onednn and not static):
            return float(network(inputs).numpy().std())

    return {
        "step": step,
        "forward": forward,
        "product": lambda: float(paddle.matmul(matrix, matrix)[0, 0]),
    }


def made_up_inputs(cfg: Config, batch_size: int) -> dict[str, np.ndarray]:
    """Model inputs [batch_size, ...] as PIPELINE.train makes them of a clip of noise."""
    pipeline = build_pipeline(cfg, "train")
    arrays = pipeline.synthetic()
    return pipeline.finish(
        {name: np.stack([arrays[name]] * batch_size) for name in pipeline.batch_specs}
    )


def multiplications(model: nn.Layer, inputs: Mapping[str, np.ndarray]) -> float:
    """Multiply-adds of the convolutions and linear layers in one forward pass; a training step has three times that."""
    total = 0.0

    def count(layer: Any, _, output: paddle.Tensor) -> None:
        nonlocal total
        # [out, in, ...] of a convolution is used at each place of the output; [in, out] of a linear layer for each row.
        each = (
            np.prod(layer.weight.shape[1:])
            if not isinstance(layer, nn.Linear)
            else layer.weight.shape[0]
        )
        total += float(np.prod(output.shape)) * float(each)

    kinds = (nn.Conv1D, nn.Conv2D, nn.Conv3D, nn.Linear)
    hooks = [
        layer.register_forward_post_hook(count)
        for layer in model.sublayers()
        if isinstance(layer, kinds)
    ]
    model.eval()
    with paddle.no_grad():
        model({name: paddle.to_tensor(array[:1]) for name, array in inputs.items()})
    for hook in hooks:
        hook.remove()
    return total * len(next(iter(inputs.values())))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # those of every benchmark do


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    return run(args.config, args.override, args.batch_size, args.rounds)
