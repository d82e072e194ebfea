"""NeXtVLAD: one matrix product per video, or a tensor [K, D1] per frame."""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import paddle

from paddlevideo import dist
from paddlevideo.benchmarks.measure import Child, Group, Job, Variant, measure
from paddlevideo.losses import sigmoid_cross_entropy
from paddlevideo.models import vlad
from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import VideoTagger
from paddlevideo.solver.lr import ConstantDecay
from paddlevideo.solver.optimizer import Adam

CLASSES = 3862
# A tiny network, for tests.
SMALL = {"cluster_size": 8, "groups": 4, "feature_size": 16, "audio_size": 8, "whitening": None}
VARIANTS = {"a tensor for each frame": True, "one product a video": False}


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py nextvlad."""
    return run(args.batch_size, args.frames, args.threads or dist.use_threads(), args.rounds)


def run(
    batch_size: int, num_frames: int, threads: int, rounds: int, small: bool = False
) -> Iterator[Group]:
    """Training steps on full videos and on videos of average length, and an evaluation.

    Videos of YouTube-8M have 211 of 300 frames on average.

    Args:
        small: use a tiny network, to test the benchmark.

    Raises:
        ValueError: the two variants give different losses.
    """
    size = f"{batch_size} videos of {num_frames} frames"
    ragged = f"{size} at most, 70 % of them on average"
    with ExitStack() as stack:
        children = {}
        for name, by_frame in VARIANTS.items():
            child = Child(jobs, (by_frame, batch_size, num_frames, threads, small), {})
            stack.callback(child.close)
            children[name] = child
        for title, job in (
            (f"NeXtVLAD, training step, {size}", "full"),
            (f"NeXtVLAD, training step, {ragged}", "ragged"),
            (f"NeXtVLAD, evaluation, {size}", "evaluate"),
        ):
            first, second = compared = _child_jobs(children, job)
            group = measure(title, "video", batch_size, [one.variant for one in compared], rounds)
            if abs(first.value - second.value) > 1e-4 * abs(first.value):
                raise ValueError(
                    f"{title}: the two variants give {first.value:.7g} and {second.value:.7g}"
                )
            yield group


class ChildJob:
    """A child's job as a variant.

    Its note has the CPU seconds of all threads, which other programs on the machine change less
    than the time on the clock; their ratio to the first variant's, median over the rounds; the
    value of the first call; and the peak memory of its process.
    """

    def __init__(self, name: str, child: Child, job: str, first: "ChildJob | None" = None):
        self.child, self.job, self.first = child, job, first or self
        self.value = float("nan")
        self.cpu_seconds: list[float] = []
        self.variant = Variant(name, self.seconds, self.note)

    def seconds(self) -> float:
        """Do the job once."""
        seconds, (value, cpu_seconds) = self.child(self.job)
        if not self.cpu_seconds:
            self.value = value
        self.cpu_seconds.append(cpu_seconds)
        return seconds

    def note(self, median: float) -> str:
        """The last column of the table."""
        # The first call is not counted.
        own, base = self.cpu_seconds[1:], self.first.cpu_seconds[1:]
        ratio = statistics.median(b / o for b, o in zip(base, own, strict=True))
        memory = self.child("memory")[1]
        return (
            f"{statistics.median(own):.2f} CPU-s (ratio {ratio:.2f}), gives {self.value:.6g}, "
            f"its process used {memory:.2f} GB at most"
        )


def _child_jobs(children: dict[str, Child], job: str) -> list[ChildJob]:
    compared: list[ChildJob] = []
    for name, child in children.items():
        compared.append(ChildJob(name, child, job, compared[0] if compared else None))
    return compared


def jobs(
    by_frame: bool, batch_size: int, num_frames: int, threads: int, small: bool
) -> dict[str, Job]:
    """The jobs of a child; except for `memory`, each returns (a value, CPU seconds).

    Returns:
        `full` and `ragged`, training steps that return the loss; `evaluate`, which returns the
        standard deviation of the logits; `memory`, the peak memory of the process (GB).
    """
    dist.use_threads(threads)
    if by_frame:
        vlad.aggregate, vlad.Stream.project = aggregate_by_frame, project_by_layers
    paddle.seed(0)
    backbone = NeXtVLAD(**SMALL) if small else NeXtVLAD()
    head = NeXtVLADHead(5, 16) if small else NeXtVLADHead(CLASSES, 2048)
    model = VideoTagger(backbone, head)
    optimizer = Adam(ConstantDecay(1e-6)).build(model.named_parameters())
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 256, (batch_size, num_frames, spec.shape[2]), np.uint8)
        for name, spec in model.inputs.items()
        if spec.shape[1:]
    }
    chosen = rng.random((batch_size, model.num_classes)) < 3 / model.num_classes
    labels = paddle.to_tensor(chosen.astype(np.uint8))
    features = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    full = {**features, "num_frames": paddle.full([batch_size], num_frames, "int64")}
    lengths = np.clip(rng.normal(0.7, 0.15, batch_size), 0.1, 1.0) * num_frames
    ragged = {**features, "num_frames": paddle.to_tensor(lengths.astype(np.int64))}

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
        "memory": peak_memory,
    }


def peak_memory() -> float:
    """The peak memory of this process (GB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KB


def aggregate_by_frame(alpha, features, centers):
    """`vlad.aggregate` as both releases compute it.

    Each frame has a product [K, G] x [G, D1]; their sum over frames is the result.
    """
    videos, rows, clusters = alpha.shape
    groups = GROUPS[features.shape[-1], clusters]
    alpha, features = (x.reshape([videos, rows // groups, groups, -1]) for x in (alpha, features))
    products = paddle.matmul(alpha, features, transpose_x=True)  # [N, T, K, D1]
    return products.sum(1) - alpha.sum([1, 2]).unsqueeze(-1) * centers


def project_by_layers(stream: vlad.Stream, x):
    """`vlad.Stream.project` as both releases compute it: logits from the expanded features."""
    features = stream.expansion(x)
    return features, stream.assignment(features)


# (D1, K) of the streams above -> number of groups G, which the single product does not need.
GROUPS = {(256, 128): 8, (32, 128): 8, (8, 8): 4, (4, 8): 4}
