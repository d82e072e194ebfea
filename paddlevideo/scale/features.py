"""Frame features on a cluster: decoding and the network are stages with own workers.

The functions are those of one process: `FrameNetwork.reader` decodes, `FrameNetwork.from_steps`
runs the network. The driver encodes the vectors and writes the shards.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from paddlevideo import dist, log
from paddlevideo.config.schema import Config
from paddlevideo.engine.named_models import weight_file
from paddlevideo.features import command
from paddlevideo.features.extract import CRASHED, FrameNetwork, Recipe, Vectors
from paddlevideo.features.feature_shards import Vectorize
from paddlevideo.features.video_steps import StepReader, Steps
from paddlevideo.sample import Record
from paddlevideo.scale.cluster import Cluster, connected
from paddlevideo.scale.engine import Engine
from paddlevideo.scale.flags import Place
from paddlevideo.scale.model_files import SentFiles, send
from paddlevideo.scale.stages import Stage
from paddlevideo.zoo.cache import cached
from paddlevideo.zoo.table import find_model

Parts = list[Steps | str | None]


@dataclass(frozen=True)
class ReadSteps:
    """Builds the function of a worker that decodes: records -> the steps of each."""

    reader: StepReader
    num_parts: int

    def __call__(self) -> Callable[[list[Record]], list[Parts]]:
        return lambda records: [
            [self.reader((record, part)) for part in range(self.num_parts)] for record in records
        ]


@dataclass(frozen=True)
class MakeVectors:
    """Builds the function of a worker that holds the network: steps -> vectors."""

    recipe: Recipe
    cfg: Config
    weights: SentFiles
    device: str
    threads: int

    def __call__(self) -> Callable[[list[Parts]], list[Vectors | str]]:
        dist.use_threads(self.threads)
        dist.choose_device(self.device == "gpu")
        recipe = replace(self.recipe, weights=str(self.weights.path()))
        network = FrameNetwork(recipe, self.cfg)
        return lambda items: [network.from_steps(parts) for parts in items]


def decoder_crashed(record: Record) -> Parts:
    return [CRASHED]


def network_crashed(parts: Parts) -> str:
    return "the network ended its process with this video"


@dataclass(frozen=True)
class VectorsOnCluster:
    """`FrameNetwork.vectors` on a cluster."""

    cluster: Cluster
    place: Place
    network: FrameNetwork

    def __call__(
        self, records: Sequence[Record], num_workers: int | None = None, label: str = "videos"
    ) -> Iterator[tuple[int, Vectors | str]]:
        """Yield (index of the record, its vectors or an error text), in the order of completion.

        Args:
            num_workers: workers that decode, at most; None for as many as fit.
        """
        if not records:
            return
        network, place = self.network, self.place
        weights = network.recipe.weights
        published = find_model(weights)
        file = cached(published) if published else weight_file(weights)
        sent = send(self.cluster.ray, file or weights)
        device, threads = "gpu" if place.num_gpus else "cpu", max(1, int(place.num_cpus))
        read = ReadSteps(network.reader, network.num_parts)
        make = MakeVectors(network.recipe, network.cfg, sent, device, threads)
        stages = [
            Stage("decoding", read, decoder_crashed, most=num_workers or None),
            Stage(
                "the network",
                make,
                network_crashed,
                place.num_cpus,
                place.num_gpus,
                place.least,
                place.most,
                keeps=True,
            ),
        ]
        engine = Engine(self.cluster, stages, label, failed=lambda result: isinstance(result, str))
        yield from engine.run(enumerate(records), 1, len(records))


def run_command(args: Namespace, place: Place) -> int:
    """`features.command.run_command` on a cluster; returns the exit code."""
    try:
        if args.use_gpu and not place.num_gpus:
            raise ValueError("--use_gpu with --on needs GPUs for the workers; give --num_gpus 1")
        with log.session(), connected(place.on) as cluster:

            def vectors_of(network: FrameNetwork) -> Vectorize:
                return VectorsOnCluster(cluster, place, network)

            return command.run_command(args, vectors_of)
    except (ValueError, OSError) as error:
        log.show_error(error)
        return 1
