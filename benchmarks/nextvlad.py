"""NeXtVLAD: one matrix product a video against a tensor [K, D1] for each frame, each in a process of its own."""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import paddle

from benchmarks.measure import Child, Group, Job, Variant, measure
from paddlevideo import dist
from paddlevideo.losses import sigmoid_cross_entropy
from paddlevideo.models import vlad
from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import VideoTagger
from paddlevideo.solver.lr import ConstantDecay
from paddlevideo.solver.optimizer import Adam

CLASSES = 3862
SMALL = {
    "cluster_size": 8,
    "groups": 4,
    "feature_size": 16,
    "audio_size": 8,
    "whitening": None,
}  # for tests
WAYS = {"a tensor for each frame": True, "one product a video": False}


def run(
    batch_size: int, num_frames: int, threads: int, rounds: int, small: bool = False
) -> Iterator[Group]:
    """A training step on full videos, then one on videos as long as they are on average (211 of 300), and an evaluation.

    Args:
        small: a tiny network, to try the benchmark itself.

    Raises:
        ValueError: the two ways give different losses.
    """
    with ExitStack() as stack:
        children = {}
        for name, by_frame in WAYS.items():
            child = Child(jobs, (by_frame, batch_size, num_frames, threads, small), {})
            stack.callback(child.close)
            children[name] = child
        size = f"{batch_size} videos of {num_frames} frames"
        for title, job in (
            (f"NeXtVLAD, training step, {size}", "full"),
            (f"NeXtVLAD, training step, {size} at most, 70 % of them on average", "ragged"),
            (f"NeXtVLAD, evaluation, {size}", "evaluate"),
        ):
            told: list[Told] = []
            for name, child in children.items():
                told.append(Told(name, child, job, told[0] if told else None))
            group = measure(title, "video", batch_size, [one.variant for one in told], rounds)
            first, second = (one.value for one in told)
            if abs(first - second) > 1e-4 * abs(first):
                raise ValueError(f"{title}: the two ways give {first:.7g} and {second:.7g}")
            yield group


class Told:
    """A child's job as a variant. Into the note go the seconds of all its threads together, which other programs on the machine
    change less than the time on the clock, their ratio to the first variant's (median over rounds), the first value, and the
    most memory that its process has held."""

    def __init__(self, name: str, child: Child, job: str, first: "Told | None" = None):
        self.child, self.job, self.value, self.first = child, job, None, first or self
        self.used: list[float] = []
        self.variant = Variant(name, self.seconds, self.note)

    def seconds(self) -> float:
        seconds, (value, used) = self.child(self.job)
        self.value = value if self.value is None else self.value
        self.used.append(used)
        return seconds

    def note(self, median: float) -> str:
        used = statistics.median(self.used[1:])  # the first round is not counted
        ratio = statistics.median(
            a / b for a, b in zip(self.first.used[1:], self.used[1:], strict=True)
        )
        memory = self.child("memory")[1]
        return f"{used:.2f} CPU-s (ratio {ratio:.2f}), gives {self.value:.6g}, its process has held {memory:.2f} GB at most"


def jobs(
    by_frame: bool, batch_size: int, num_frames: int, threads: int, small: bool
) -> dict[str, Job]:
    """What a child does: (a value, CPU-s). `full`, `ragged`: a training step, its loss; `evaluate`: deviation of the logits."""
    dist.use_threads(threads)
    if by_frame:
        vlad.aggregate, vlad.Stream.project = aggregate_by_frame, project_by_layers
    paddle.seed(0)
    sizes = SMALL if small else {}
    model = VideoTagger(
        NeXtVLAD(**sizes), NeXtVLADHead(5 if small else CLASSES, 16 if small else 2048)
    )
    optimizer = Adam(ConstantDecay(1e-6)).build(model.named_parameters())
    rng = np.random.default_rng(0)
    arrays = {
        n: rng.integers(0, 256, (batch_size, num_frames, s.shape[2]), np.uint8)
        for n, s in model.inputs.items()
        if s.shape[1:]
    }
    labels = paddle.to_tensor(
        (rng.random((batch_size, model.num_classes)) < 3 / model.num_classes).astype(np.uint8)
    )
    features = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    full = {**features, "num_frames": paddle.full([batch_size], num_frames, "int64")}
    some = np.clip(rng.normal(0.7, 0.15, batch_size), 0.1, 1.0) * num_frames
    ragged = {**features, "num_frames": paddle.to_tensor(some.astype(np.int64))}

    def step(inputs) -> float:
        paddle.seed(0)  # the same dropout
        model.train()
        loss = sigmoid_cross_entropy(model(inputs), labels)
        value = loss.item()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return value

    def evaluate() -> float:
        model.eval()
        with paddle.no_grad():
            return float(model(full).numpy().std())

    def counted(job: Job) -> Job:
        def work() -> tuple[float, float]:
            start = time.process_time()
            return job(), time.process_time() - start

        return work

    return {
        "full": counted(lambda: step(full)),
        "ragged": counted(lambda: step(ragged)),
        "evaluate": counted(evaluate),
        "memory": lambda: (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        ),  # GB; Linux counts in KB
    }


def aggregate_by_frame(alpha, features, centers):
    """`vlad.aggregate` as both releases compute it: a product [K, G] x [G, D1] for each frame, then the sum over frames."""
    videos, places, clusters = alpha.shape
    groups = GROUPS[features.shape[-1], clusters]
    alpha, features = (x.reshape([videos, places // groups, groups, -1]) for x in (alpha, features))
    each = paddle.matmul(alpha, features, transpose_x=True)  # [N, T, K, D1]
    return each.sum(1) - alpha.sum([1, 2]).unsqueeze(-1) * centers


def project_by_layers(stream: vlad.Stream, x):
    """`vlad.Stream.project` as both releases compute it: the logits from the expanded features."""
    features = stream.expansion(x)
    return features, stream.assignment(features)


# (D1, K) of the streams above -> G: what the product needs no more.
GROUPS = {(256, 128): 8, (32, 128): 8, (8, 8): 4, (4, 8): 4}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=300, help="of a video")
    parser.add_argument("--threads", type=int, help="of each process; default: one per core")


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    return run(args.batch_size, args.frames, args.threads or dist.use_threads(), args.rounds)
