"""Weak scaling: a training step of one rank, and of several with the same batch each.

The gradients are exchanged as in a training, by gloo on this machine. All ranks have the same
number of compute threads, so that with enough cores one rank and several have the same work.
"""

import argparse
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo import dist
from paddlevideo.benchmarks.measure import Child, Group, Job, Variant, measure
from paddlevideo.benchmarks.train import optimizer_of, synthetic_inputs
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.models import onednn


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py ranks."""
    return run(args.config, args.override, args.batch_size, args.rounds, args.ranks, args.threads)


def run(
    config: str,
    overrides: list[str],
    batch_size: int,
    rounds: int,
    numbers: list[int],
    threads: int,
) -> Iterator[Group]:
    """Training steps of each number of ranks; the first is the baseline.

    Args:
        batch_size: clips of each rank.
        threads: compute threads of each rank.
    """
    cfg = load_config(config, overrides)
    arguments = (config, overrides, batch_size, threads)
    with ExitStack() as stack:
        variants = []
        for number in numbers:
            ranks = Ranks(number, arguments, stack)
            variants.append(Variant(f"{number} rank(s)", ranks.seconds, ranks.note))
        each = f"{batch_size} clips and {threads} thread(s) a rank"
        title = f"training step of {cfg.model_name}, {each}"
        yield measure(title, "clip", batch_size, variants, rounds)


class Ranks:
    """The processes of a run of several ranks.

    Args:
        arguments: of `jobs`.
        stack: ends the processes.
    """

    def __init__(self, number: int, arguments: tuple, stack: ExitStack):
        self.number, self.losses = number, [0.0]
        ports = free_ports(number + 1)
        self._children = []
        for rank in range(number):
            child = Child(jobs, arguments, environment(rank, ports))
            stack.callback(child.close)
            self._children.append(child)
        self._pool = stack.enter_context(ThreadPoolExecutor(number))

    def seconds(self) -> float:
        """Let all ranks do a step; the time of the slowest (s)."""
        done = list(self._pool.map(lambda child: child("step"), self._children))
        self.losses = [loss for _, loss in done]
        return max(seconds for seconds, _ in done)

    def note(self, median: float) -> str:
        """The loss of rank 0 and how many ranks computed, as text."""
        return f"per rank; {self.number} at a time; last loss {self.losses[0]:.6g}"


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody uses now."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [server.getsockname()[1] for server in servers]


def environment(rank: int, ports: list[int]) -> Mapping[str, str]:
    """The variables that the launcher would set for a rank; the first port is that of the store."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return {
        "PADDLE_MASTER": addresses[0],
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(ports) - 1),
        "PADDLE_LOCAL_SIZE": str(len(ports) - 1),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses[1:]),
        "PADDLE_CURRENT_ENDPOINT": addresses[1 + rank],
        dist.BACKEND: "gloo",
    }


def jobs(config: str, overrides: list[str], batch_size: int, threads: int) -> dict[str, Job]:
    """The job `step` of a rank: a training step on noise, which returns its loss."""
    paddle.set_device("cpu")
    dist.init_ranks()
    dist.use_threads(threads)
    cfg = load_config(config, overrides)
    paddle.seed(0)
    model = build_model(cfg)
    optimizer = optimizer_of(cfg).build(model.named_parameters())
    optimizer.set_lr(1e-5)  # training on noise must not diverge
    network: Any = paddle.DataParallel(model) if dist.world_size() > 1 else model
    arrays = synthetic_inputs(cfg, batch_size)
    inputs = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    batch = {**inputs, "label": paddle.to_tensor(np.arange(batch_size) % model.num_classes)}

    def step() -> float:
        network.train()
        with onednn.use(True):
            loss = model.losses(network(inputs), batch)["loss"]
        value = loss.item()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return value

    return {"step": step}
