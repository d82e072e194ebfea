"""The training step of a config on synthetic data: threads, oneDNN, static graphs, and MKL code.

The speeds are compared with that of a matrix product.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddlevideo import dist, paddle_internals
from paddlevideo.benchmarks.measure import Child, Group, Job, Variant, measure
from paddlevideo.config.schema import Config
from paddlevideo.cores import num_cores
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.models import onednn
from paddlevideo.sample import Arrays

MATRIX = 1536  # rows and columns of the matrix product that shows the speed of the processor
# Paddle ships MKL 2019, which checks who made the processor before it uses AVX. This variable
# selects the code path instead.
MKL_CHOICE = "MKL_DEBUG_CPU_TYPE"
AVX512 = ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")


@dataclass(frozen=True)
class Setup:
    """One way to compute.

    Args:
        threads: compute threads.
        onednn: convolutions of oneDNN, else Paddle's own.
        static: compile the model to a static graph.
        environment: variables of its process.
    """

    name: str
    threads: int
    onednn: bool = True
    static: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def setups(cores: int, cpuinfo: str) -> list[Setup]:
    """The setups to compare on this machine; the first is the baseline.

    Args:
        cpuinfo: the text of /proc/cpuinfo, "" where there is none.
    """
    all_cores = f"{cores} threads" if cores > 1 else "1 thread"
    compared = [Setup("1 thread", 1)] if cores > 1 else []
    compared += [
        Setup(all_cores, cores),
        Setup(f"{all_cores}, no oneDNN", cores, onednn=False),
        Setup(f"{all_cores}, to_static", cores, onednn=False, static=True),
    ]
    lines = cpuinfo.splitlines()
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    if not flags or "GenuineIntel" in cpuinfo:
        return compared
    supported = {"0": True, "5": "avx2" in flags, "7": flags.issuperset(AVX512)}
    names = {"0": "MKL by maker", "5": "MKL AVX2", "7": "MKL AVX-512"}
    for number, name in names.items():
        if supported[number]:
            environment = {MKL_CHOICE: number}
            setup = Setup(f"{all_cores}, {name}", cores, onednn=False, environment=environment)
            compared.append(setup)
    return compared


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py train."""
    return run(args.config, args.override, args.batch_size, args.rounds)


def run(config: str, overrides: list[str], batch_size: int, rounds: int) -> Iterator[Group]:
    """Matrix product, training step and forward pass.

    Each setup has its own process; one process works at a time.
    """
    cfg = load_config(config, overrides)
    inputs = synthetic_inputs(cfg, batch_size)
    forward = 2 * multiplications(build_model(cfg), inputs)
    cpuinfo = Path("/proc/cpuinfo")
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
    # (title, unit, count, job, operations). A training step has three times the operations of a
    # forward pass: the gradients of inputs and of weights take as many each.
    work = (
        (f"matrix product, float32 {MATRIX} x {MATRIX}", "product", 1, "product", 2.0 * MATRIX**3),
        (f"training step of {cfg.model_name}, {shapes}", "clip", batch_size, "step", 3 * forward),
        (f"evaluation of {cfg.model_name}, {shapes}", "clip", batch_size, "forward", forward),
    )
    with ExitStack() as stack:
        children = []
        for setup in setups(num_cores(), cpuinfo.read_text() if cpuinfo.exists() else ""):
            arguments = (config, overrides, batch_size, setup.threads, setup.onednn, setup.static)
            child = Child(jobs, arguments, setup.environment)
            stack.callback(child.close)
            children.append((setup.name, child))
        peak = 0.0  # operations per second of the fastest matrix product
        for title, unit, count, job, operations in work:
            variants = [
                ChildJob(name, child, job, operations, peak).variant for name, child in children
            ]
            group = measure(title, unit, count, variants, rounds)
            peak = peak or max(operations / row.median for row in group.rows)
            yield group


class ChildJob:
    """A child's job as a variant; its note has the speed, and the value of its first call.

    Args:
        operations: of one call.
        peak: operations per second of a matrix product; 0 if unknown.
    """

    def __init__(self, name: str, child: Child, job: str, operations: float, peak: float):
        self.child, self.job, self.operations, self.peak = child, job, operations, peak
        self.first: float | None = None
        self.variant = Variant(name, self.seconds, self.note)

    def seconds(self) -> float:
        """Do the job once."""
        seconds, value = self.child(self.job)
        self.first = value if self.first is None else self.first
        return seconds

    def note(self, median: float) -> str:
        """Speed and first value, as text."""
        return f"{speed(self.operations, median, self.peak)}, gives {self.first:.6g}"


def speed(operations: float, seconds: float, peak: float) -> str:
    """GFLOP/s as text, and their share of a matrix product's speed.

    Args:
        peak: operations per second of a matrix product; 0 if unknown.
    """
    share = f", {100 * operations / seconds / peak:.0f} % of the product" if peak else ""
    return f"{operations / seconds / 1e9:.0f} GFLOP/s{share}"


def jobs(
    config: str, overrides: list[str], batch_size: int, threads: int, use_onednn: bool, static: bool
) -> dict[str, Job]:
    """The jobs of a child.

    Returns:
        `product`, a matrix product; `step`, a training step that returns its loss; `forward`, an
        evaluation that returns the standard deviation of the logits.
    """
    dist.use_threads(threads)
    cfg = load_config(config, overrides)
    noise = np.random.default_rng(0).standard_normal((MATRIX, MATRIX))
    matrix = paddle.to_tensor(noise.astype(np.float32))
    paddle.seed(0)
    model = build_model(cfg)
    optimizer = optimizer_of(cfg).build(model.named_parameters())
    optimizer.set_lr(1e-5)  # training on noise must not diverge
    arrays = synthetic_inputs(cfg, batch_size)
    inputs = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    network = static_network(model, inputs) if static else model
    batch = {**inputs, "label": paddle.to_tensor(np.arange(batch_size) % model.num_classes)}

    def step() -> float:
        paddle.seed(0)  # the same dropout
        network.train()
        with onednn.use(use_onednn and not static):  # static programs do not use it
            loss = model.losses(network(inputs), batch)["loss"]
        value = loss.item()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return value

    def forward() -> float:
        network.eval()
        with paddle.no_grad(), onednn.use(use_onednn and not static):
            return float(network(inputs).numpy().std())

    return {
        "step": step,
        "forward": forward,
        "product": lambda: float(paddle.matmul(matrix, matrix)[0, 0]),
    }


def static_network(model: nn.Layer, inputs: Mapping[str, Any]) -> Any:
    """The model as a static program, whose code is translated here."""
    network = paddle.jit.to_static(model)
    with (
        tempfile.TemporaryDirectory() as folder,
        paddle_internals.translated_code_in(folder),
        paddle.no_grad(),
    ):
        network(inputs)
    return network


def optimizer_of(cfg: Config) -> Any:
    """The optimizer settings of a config.

    Raises:
        ValueError: it has none.
    """
    if cfg.OPTIMIZER is None:
        raise ValueError(f"{cfg.origin.path}: no OPTIMIZER section, which a training step needs")
    return cfg.OPTIMIZER.make()


def synthetic_inputs(cfg: Config, batch_size: int) -> Arrays:
    """Model inputs [batch_size, ...], as PIPELINE.train makes them of a synthetic clip."""
    pipeline = build_pipeline(cfg, "train")
    sample = pipeline.synthetic()
    batch = {name: np.stack([sample[name]] * batch_size) for name in pipeline.batch_specs}
    return pipeline.finish(batch)


def multiplications(model: nn.Layer, inputs: Mapping[str, np.ndarray]) -> float:
    """Multiply-adds of the convolutions and linear layers in one forward pass."""
    total = 0.0

    def count(layer: Any, _, output: Any) -> None:
        nonlocal total
        # Multiply-adds of one output value: the weight is [in, out] of a linear layer, and
        # [out, in, ...] of a convolution.
        shape = layer.weight.shape
        per_value = shape[0] if isinstance(layer, nn.Linear) else np.prod(shape[1:])
        total += float(np.prod(output.shape)) * float(per_value)

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
