"""Write the shards of a feature set, and resume where a run has stopped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo import log
from paddlevideo.array_files import read_npz
from paddlevideo.curate.tagged_videos import TaggedVideo
from paddlevideo.data.youtube8m.sequence_example import encode_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.features.extract import FeatureExtractor, Vectors
from paddlevideo.files import atomic_write
from paddlevideo.plain_text import plain_cell, tab_line
from paddlevideo.sample import Record

# (records, processes that decode, label) -> (index of a record, its vectors or an error text).
Vectorize = Callable[[Sequence[Record], int | None, str], Iterator[tuple[int, Vectors | str]]]
FAILURES_FILE = "failures.tsv"
VECTORS_DIR = ".vectors"


@dataclass(frozen=True)
class SetOptions:
    """Options of a feature set, besides the recipe.

    Args:
        out: its folder.
        fitted: folder of another set whose codecs and class names are used; None fits new codecs.
        num_components: principal components of the image features; None keeps the values
            themselves, each whitened by itself.
        fit_videos: number of randomly chosen videos on which codecs are fitted.
        per_shard: videos per shard.
        retry_failed: make those shards again in which videos failed.
        overwrite: delete what the folder holds and start again.
    """

    out: Path
    fitted: Path | None = None
    num_components: int | None = None
    fit_videos: int = 2000
    per_shard: int = 256
    retry_failed: bool = False
    overwrite: bool = False

    def __post_init__(self):
        for name, value in (("per_shard", self.per_shard), ("fit_videos", self.fit_videos)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if self.fitted and self.num_components:
            raise ValueError("--fitted includes principal components; leave out --pca")

    def shard(self, number: int) -> Path:
        return self.out / f"{self.out.resolve().name}{number:05}.tfrecord"

    def vectors_file(self, index: int) -> Path:
        """Where the vectors of a video are kept while codecs are fitted."""
        return self.out / VECTORS_DIR / f"{index}.npz"


@dataclass(frozen=True)
class Summary:
    """What a run did, in numbers of videos.

    Args:
        made: encoded by this run.
        kept: already in the folder.
        no_audio: of those made, videos without audio.
        failed: (shard, path, reason) of all videos that failed, in this run or before.
    """

    made: int
    kept: int
    no_audio: int
    failed: list[tuple[str, str, str]]


def write_vectors(file: Path, vectors: Vectors) -> None:
    """Keep the vectors of a video while codecs are fitted."""
    arrays = {"silent": np.array(vectors.no_audio), **vectors.features}
    with atomic_write(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **arrays)  # pyright: ignore[reportArgumentType]


def read_vectors(file: Path) -> Vectors:
    arrays = read_npz(file)
    silent = bool(arrays.pop("silent"))
    return Vectors(arrays, silent)


class ShardWriter:
    """Write shards: results come in any order, and a shard is written when it is complete."""

    def __init__(
        self,
        options: SetOptions,
        extractor: FeatureExtractor,
        videos: Sequence[TaggedVideo],
        vectors: Vectorize | None = None,
    ):
        self._options, self._extractor, self._videos = options, extractor, videos
        self._vectors_of = vectors or extractor.network.vectors
        # Encoded examples or error texts of videos whose shards are incomplete, by index.
        self._ready: dict[int, bytes | str] = {}
        self._failed = self._read_failures()
        self._num_made = self._num_without_audio = 0

    def run(self, num_workers: int | None) -> Summary:
        """Make the missing shards."""
        options = self._options
        missing = self._missing_shards()
        names = {options.shard(number).name for number in missing}
        self._failed = [row for row in self._failed if row[0] not in names]
        num_missing = sum(map(len, missing.values()))
        num_kept = len(self._videos) - num_missing - len(self._failed)
        if num_kept:
            log.logger.info(f"{options.out}: {num_kept} videos are already there")
        # Videos without vectors in `.vectors` go through the network.
        todo = {
            number: [index for index in indices if not options.vectors_file(index).exists()]
            for number, indices in missing.items()
        }
        for number, indices in todo.items():
            if not indices:
                self._write(number, missing[number])
        order = [index for indices in todo.values() for index in indices]
        num_left = {number: len(indices) for number, indices in todo.items()}
        for index, result in self._vectors(order, num_workers):
            self._ready[index] = self._encode(index, result)
            number = index // options.per_shard
            num_left[number] -= 1
            if not num_left[number]:
                self._write(number, missing[number])
        return Summary(self._num_made, num_kept, self._num_without_audio, self._failed)

    def _missing_shards(self) -> dict[int, range]:
        """Shards to make: number -> indices of their videos."""
        options, num_videos = self._options, len(self._videos)
        shards_with_failures = {shard for shard, *_ in self._failed}
        missing = {}
        for number, start in enumerate(range(0, num_videos, options.per_shard)):
            shard = options.shard(number)
            retry = options.retry_failed and shard.name in shards_with_failures
            if retry or not shard.exists():
                missing[number] = range(start, min(start + options.per_shard, num_videos))
        return missing

    def _vectors(
        self, indices: Sequence[int], num_workers: int | None
    ) -> Iterator[tuple[int, Vectors | str]]:
        """Yield (index of a video, its vectors or an error text), in any order."""
        if indices:
            records = [self._videos[index].record for index in indices]
            for number, result in self._vectors_of(records, num_workers, "features"):
                yield indices[number], result

    def _encode(self, index: int, vectors: Vectors | str) -> bytes | str:
        """Return the encoded example of a video, or an error text."""
        if isinstance(vectors, str):
            return vectors
        video = self._videos[index]
        try:
            features = self._extractor.encode(vectors)
            payload = encode_example(video.record.id, video.labels, features)
        except ValueError as error:
            return str(error)
        self._num_made += 1
        self._num_without_audio += vectors.no_audio
        return payload

    def _write(self, number: int, indices: Sequence[int]) -> None:
        """Write a shard; its failures are saved before, so that a kill cannot lose them."""
        shard, payloads = self._options.shard(number), []
        for index in indices:
            result = self._ready.pop(index, None)
            if result is None:
                result = self._encode(index, read_vectors(self._options.vectors_file(index)))
            if isinstance(result, str):
                self._failed.append((shard.name, self._videos[index].record.path, result))
            else:
                payloads.append(result)
        self._write_failures()
        if payloads:
            write_payloads(shard, payloads)
        else:
            shard.unlink(missing_ok=True)  # an empty file is not a valid shard

    def _read_failures(self) -> list[tuple[str, str, str]]:
        file = self._options.out / FAILURES_FILE
        if not file.exists():
            return []
        rows = [line.split("\t", 2) for line in file.read_text(encoding="utf-8").splitlines()]
        cells = [[plain_cell(cell) for cell in row] for row in rows if len(row) == 3]
        return [(row[0], row[1], row[2]) for row in cells]

    def _write_failures(self) -> None:
        file = self._options.out / FAILURES_FILE
        if not self._failed:
            file.unlink(missing_ok=True)
            return
        lines = []
        for row in sorted(self._failed):
            # Tabs and line ends inside a path or reason become spaces.
            lines.append(tab_line(" ".join(part.split()) for part in row) + "\n")
        with atomic_write(file) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
