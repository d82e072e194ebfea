"""The training step of a config, on made-up data: threads, Paddle's static graph, and how far it is from a matrix product."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import nn

from benchmarks.measure import Child, Group, Job, Variant, measure
from paddlevideo import dist
from paddlevideo.engine.build import build_model, build_pipeline, load_config, synthetic_sample
from paddlevideo.engine.steps import supervised
from paddlevideo.schema import Config

MATRIX = 1536  # rows and columns of the matrix product that tells what this machine can do
# Set to 0, MKL picks its code by the processor's maker, which leaves AVX unused on AMD's.
MKL_CHOICE = "MKL_DEBUG_CPU_TYPE"


@dataclass(frozen=True)
class Way:
    """One way to run the step: compute threads, static graph or not, and the environment of its process."""

    name: str
    threads: int
    static: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def ways(cores: int) -> list[Way]:
    """What is compared on this machine; the first is the baseline."""
    found = [Way("1 thread", 1)]
    if cores > 1:
        found.append(Way(f"{cores} threads", cores))
    found.append(Way(f"{cores} threads, to_static", cores, static=True))
    found.append(Way(f"{cores} threads, {MKL_CHOICE}=0", cores, environment={MKL_CHOICE: "0"}))
    return found


def run(config: str, overrides: list[str], batch_size: int, rounds: int) -> Iterator[Group]:
    """The step in processes of their own, one after the other in every round, and the matrix product beside it."""
    cfg = load_config(config, overrides)
    inputs = made_up_inputs(cfg, batch_size)
    operations = 2 * 3 * multiplications(build_model(cfg), inputs)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
    with ExitStack() as stack:
        step, product = [], []
        for way in ways(cores):
            arguments = (config, overrides, batch_size, way.threads, way.static)
            child = Child(jobs, arguments, way.environment)
            stack.callback(child.close)
            measured = Measured(child, operations)
            product.append(Variant(way.name, measured.product))
            step.append(Variant(way.name, measured.step, measured.note))
        products = measure(f"matrix product, float32 {MATRIX} x {MATRIX}", "product", 1, product, rounds)
        yield products
        yield measure(f"training step of {cfg.model_name}, {shapes}", "clip", batch_size, step, rounds)


class Measured:
    """A child's two jobs, and what they say together."""

    def __init__(self, child: Child, operations: float):
        self.child, self.operations = child, operations
        self.products: list[float] = []
        self.first_loss: float | None = None

    def product(self) -> float:
        seconds, _ = self.child("product")
        self.products.append(seconds)
        return seconds

    def step(self) -> float:
        seconds, loss = self.child("step")
        self.first_loss = loss if self.first_loss is None else self.first_loss
        return seconds

    def note(self, median: float) -> str:
        peak = 2 * MATRIX**3 / float(np.median(self.products[1:]))
        reached = self.operations / median
        return f"{reached / 1e9:.0f} GFLOP/s, {reached / peak:.0%} of the product's; first loss {self.first_loss:.5f}"


def jobs(config: str, overrides: list[str], batch_size: int, threads: int, static: bool) -> dict[str, Job]:
    """What a child does: `step`, one training step, gives its loss; `product`, one matrix product."""
    dist.use_threads(threads)
    cfg = load_config(config, overrides)
    matrix = paddle.to_tensor(np.random.default_rng(0).standard_normal((MATRIX, MATRIX)).astype(np.float32))
    paddle.seed(0)
    model = build_model(cfg)
    optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
    network = paddle.jit.to_static(model) if static else model
    batch = {name: paddle.to_tensor(array) for name, array in made_up_inputs(cfg, batch_size).items()}
    batch["label"] = paddle.to_tensor(np.arange(batch_size) % model.num_classes)

    def step() -> float:
        paddle.seed(0)
        network.train()
        loss = supervised(network, model, batch)["loss"]
        value = loss.item()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return value

    return {"step": step, "product": lambda: float(paddle.matmul(matrix, matrix)[0, 0])}


def made_up_inputs(cfg: Config, batch_size: int) -> dict[str, np.ndarray]:
    """Model inputs [batch_size, ...] as PIPELINE.train makes them of a clip of noise."""
    pipeline = build_pipeline(cfg, "train")
    arrays = synthetic_sample(pipeline)
    wanted = build_model(cfg).inputs
    return pipeline.finish({name: np.stack([arrays[name]] * batch_size) for name in wanted})


def multiplications(model: nn.Layer, inputs: Mapping[str, np.ndarray]) -> float:
    """Multiply-adds of the convolutions and linear layers in one forward pass; a training step has three times that."""
    total = 0.0

    def count(layer: Any, _, output: paddle.Tensor) -> None:
        nonlocal total
        # [out, in, ...] of a convolution is used at each place of the output; [in, out] of a linear layer for each row.
        each = np.prod(layer.weight.shape[1:]) if not isinstance(layer, nn.Linear) else layer.weight.shape[0]
        total += float(np.prod(output.shape)) * float(each)

    kinds = (nn.Conv1D, nn.Conv2D, nn.Conv3D, nn.Linear)
    hooks = [layer.register_forward_post_hook(count) for layer in model.sublayers() if isinstance(layer, kinds)]
    model.eval()
    with paddle.no_grad():
        model({name: paddle.to_tensor(array[:1]) for name, array in inputs.items()})
    for hook in hooks:
        hook.remove()
    return total * len(next(iter(inputs.values())))
