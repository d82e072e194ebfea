"""Videos for quantization: clips to calibrate with, and samples to compare programs on.

Both are made by the test pipeline of the exported model.
"""

import glob
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import ConfigError
from paddlevideo.curate.batch_jobs import CRASHED
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.views import stack
from paddlevideo.data.webdataset.find import names_shards
from paddlevideo.engine.build import VIEWS
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.log import logger
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.inputs import find_inputs
from paddlevideo.predict.predictor import input_rules, pipeline_for_any_input
from paddlevideo.processes import Crash, RunEach
from paddlevideo.remote import exists, shown, without_query
from paddlevideo.runtimes.base import Backend
from paddlevideo.runtimes.manifest import FILE, Manifest, sha256
from paddlevideo.sample import Arrays, Record, Sample

Labels = frozenset[int]
# Videos that a cluster decodes at once, and the bytes of their views; all of them are in memory.
AHEAD, AHEAD_BYTES = 64, 1 << 30


class Videos:
    """The videos of a list, as samples of an exported model.

    Args:
        folder: of the export.
        source: a list, a table, a folder, a glob or shards: with labels, as DATASET.test.file_path
            takes it, or without, as the predict command takes it.
        run: decodes on other machines; None decodes one video after the other in this process.

    Attributes:
        records: one for each video.
        multi_label: whether the scores of the model are one sigmoid per class.
        unlabeled: why no labels are known; "" where they are.
        skipped: {path: why it cannot be read}, of the videos that were tried.

    Raises:
        ValueError: there is no video for this model.
    """

    def __init__(self, folder: Path, manifest: Manifest, source: str, run: RunEach | None = None):
        cfg = manifest.test_config(folder / FILE)
        pipeline = pipeline_for_any_input(cfg)
        self._feed = Feed(pipeline, list(manifest.inputs))
        self._feed.connect(manifest.inputs)
        self._view_average: Literal["logits", "probabilities"] = manifest.view_average
        self.multi_label = manifest.multi_label
        self._source, self._run = source, run
        self.skipped: dict[str, str] = {}
        is_pattern = glob.has_magic(without_query(source)) or names_shards(source)
        if not is_pattern and not exists(source):
            raise ValueError(
                f"{shown(source)}: there is no such file or folder; give a list of videos"
            )
        self.records: Sequence[Record]
        try:
            self.records, self.unlabeled = labeled_records(manifest, source), ""
        except (DatasetError, ConfigError) as error:
            self.unlabeled = str(error)
            rules = input_rules(cfg, manifest, pipeline, None)
            self.records = [record for record, _ in find_inputs(source, rules)]

    def samples(self, numbers: Sequence[int]) -> Iterator[tuple[int, Sample]]:
        """(number, sample with all of its views) of those videos that can be read."""
        for number, sample in self._loaded(numbers):
            if not isinstance(sample, str):
                yield number, sample
                continue
            location = self.records[number].location
            if location not in self.skipped:
                logger.warning(f"skipped {shown(location)}: {sample}")
            self.skipped[location] = sample

    def _loaded(self, numbers: Sequence[int]) -> Iterator[tuple[int, Sample | str]]:
        """(number, its sample or why there is none), in the order of the numbers."""
        if self._run is None:
            yield from ((number, self._feed.load(self.records[number])) for number in numbers)
            return
        ahead = max(1, min(AHEAD, AHEAD_BYTES // max(1, self._feed.sample_bytes)))
        for start in range(0, len(numbers), ahead):
            some = numbers[start : start + ahead]
            records = [self.records[number] for number in some]
            samples = dict(self._run(self._feed.load, records, None, "decoding"))
            for index, number in enumerate(some):
                sample = samples.pop(index)
                yield number, CRASHED if isinstance(sample, Crash) else sample

    def labels(self, number: int, sample: Sample) -> Labels:
        """The classes of a video; empty where they are unknown."""
        record = self.records[number]
        if record.label is not None:
            return frozenset([record.label])
        if record.labels is not None:
            return frozenset(record.labels)
        label = np.asarray(sample.get("label", -1))
        if label.ndim:  # multi-label, from a shard
            return frozenset(np.flatnonzero(label).tolist())
        return frozenset([int(label)] if label >= 0 else [])

    def view(self, number: int, sample: Sample) -> Arrays:
        """One view of a video, another for each number, as it waits for a run: [1, ...] each."""
        arrays = {}
        for name, spec in self._feed.batch_specs.items():
            array = stack([sample[name]])
            if array.ndim == len(spec.shape) + 1:  # [1, V, ...]
                views = array.shape[1]
                array = array.reshape(views, *array.shape[2:])
                array = array[number % views : number % views + 1]
            arrays[name] = np.asarray(array)
        return arrays

    def inputs(self, view: Arrays) -> Arrays:
        """The inputs of the program for a view."""
        return self._feed.arrays(view)

    def logits(self, backend: Backend, sample: Sample) -> np.ndarray:
        """Logits of a video, averaged over its views as in a prediction, float64 [K]."""
        specs = self._feed.batch_specs
        batch = {name: stack([sample[name]]) for name in specs}

        def run(arrays: Arrays) -> np.ndarray:
            return backend.run(self._feed.arrays(arrays))

        return mean_scores(run, specs, batch, 1, self._view_average)[0]

    def checksum(self) -> str:
        """SHA-256 of the list, or of the paths that a folder or a glob has."""
        if Path(self._source).is_file():
            return sha256(Path(self._source))
        text = "\n".join(record.location for record in self.records)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def labeled_records(manifest: Manifest, source: str) -> Sequence[Record]:
    """The records of a labeled list, read as a test reads DATASET.test.file_path.

    Raises:
        ConfigError: the model has no DATASET.test section that says how.
        DatasetError: the list cannot be read so, for example because it has no labels.
    """
    section: dict[str, Any] = dict(manifest.test_section)
    if "format" not in section:
        raise ConfigError([f"{FILE} has no DATASET.test.format"])
    entry = lookup("dataset", section.pop("format"))
    known = entry.parameters()
    ours = ("file_path", "data_prefix", "index_file", "split", *VIEWS)
    options = {key: v for key, v in section.items() if key in known and key not in ours}
    if "multi_label" in known:
        options["multi_label"] = manifest.multi_label
    return entry.make(file_path=source, **options).load(manifest.labels).records


def spread(count: int, num: int) -> list[int]:
    """`num` of the numbers below `count`, evenly spaced; then the others, in order."""
    chosen = [i * count // num for i in range(num)] if num < count else list(range(count))
    others = set(range(count)) - set(chosen)
    return [*chosen, *sorted(others)]
