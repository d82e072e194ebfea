"""Many videos -> a folder of shards with their features: fitted, resumed, reported. What tools/extract_features.py runs.

    extractor.json          how they were made; see extract.Recipe
    fitted.npz              components, means and deviations, fitted here or copied from another set
    whitening.npy           what undoes the whitening, for `whitening` of NeXtVLAD
    labels.txt              names of the classes, where there are any
    <folder>00000.tfrecord  videos, in the order of the list; written whole or not at all
    failures.tsv            shard, video, reason; no file where nothing failed

A run that was stopped goes on with the shards that are missing. While components are being fitted, vectors that are not bytes
yet lie in the folder `.vectors`, so that no video goes through the network twice.
"""

import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo import log
from paddlevideo.config.schema import ConfigError
from paddlevideo.curate.tagged_videos import TaggedVideo, find_tagged
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import Split
from paddlevideo.data.youtube8m.sequence_example import encode_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.features.codec import Codec, Moments, fit, read_codecs, write_codecs
from paddlevideo.features.extract import (
    FITTED,
    RECIPE,
    FeatureExtractor,
    FrameNetwork,
    Recipe,
    Vectors,
    check_codecs,
    write_recipe,
)
from paddlevideo.files import atomic_write, check_writable
from paddlevideo.sample import DecodeError

LABELS, WHITENING, FAILURES, VECTORS = "labels.txt", "whitening.npy", "failures.tsv", ".vectors"
MAX_SHOWN = 10


@dataclass(frozen=True)
class SetPlan:
    """What is made of the videos, beside the recipe.

    Args:
        out: the folder.
        fitted: the folder of another set, whose components and class names are used; None fits anew.
        num_components: principal components of the picture's features; None keeps the values, each whitened by itself.
        fit_videos: on how many videos, drawn at random, components are fitted.
        per_shard: videos in a file.
        retry_failed: make shards again that lack videos which failed.
        overwrite: begin anew, whatever is in the folder.
    """

    out: Path
    fitted: Path | None = None
    num_components: int | None = None
    fit_videos: int = 2000
    per_shard: int = 256
    retry_failed: bool = False
    overwrite: bool = False

    def __post_init__(self):
        if min(self.per_shard, self.fit_videos) < 1:
            raise ValueError(
                f"per_shard is {self.per_shard} and fit_videos {self.fit_videos}; expected at least 1"
            )
        if self.fitted and self.num_components:
            raise ValueError("--fitted brings its components; --pca is for fitting anew")

    def shard(self, number: int) -> Path:
        return self.out / f"{self.out.resolve().name}{number:05}.tfrecord"


@dataclass(frozen=True)
class Outcome:
    """Numbers of videos: `made` now, `kept` from before; `silent` of those made; `failed`: (shard, path, reason) of all."""

    made: int
    kept: int
    silent: int
    failed: list[tuple[str, str, str]]


def extract_set(
    recipe: Recipe,
    plan: SetPlan,
    inputs: Sequence[str],
    class_names: str | None = None,
    with_labels: bool = True,
    num_workers: int | None = None,
    split: Split | None = None,
) -> Outcome:
    """Make the shards that are not there yet.

    Args:
        inputs: videos, folders, lists; see data/tagged_videos.py.
        class_names: a file of them; None takes those of `plan.fitted`, or the names that the labels are.
        num_workers: processes that decode; None for one per core, 0 for this one.
        split: which rows of a table with a column of that name.

    Raises:
        DatasetError, ConfigError, WeightsError, DecodeError: what is missing or does not fit.
        OSError: the folder cannot be written.
    """
    names = read_class_names(class_names) if class_names else _names_beside(plan.fitted)
    videos, names = find_tagged(inputs, names, with_labels, split)
    check_writable(plan.out / RECIPE)
    network = FrameNetwork(recipe)
    _begin(plan, recipe, network, videos)
    if names and with_labels:
        with atomic_write(plan.out / LABELS) as temporary:
            temporary.write_text(
                "".join(f"{number} {name}\n" for number, name in enumerate(names)), encoding="utf-8"
            )
    codecs = _codecs(plan, network, videos, num_workers)
    with atomic_write(plan.out / WHITENING) as temporary, temporary.open("wb") as file:
        np.save(file, codecs["rgb"].scale)
    done = _Shards(plan, FeatureExtractor(network, codecs, network.made_by), videos).make(
        num_workers
    )
    shutil.rmtree(plan.out / VECTORS, ignore_errors=True)
    return done


def _names_beside(folder: Path | None) -> list[str] | None:
    return read_class_names(folder / LABELS) if folder and (folder / LABELS).exists() else None


def _begin(plan: SetPlan, recipe: Recipe, network: FrameNetwork, videos: list[TaggedVideo]) -> None:
    """Write the recipe; stop where the folder holds features that were made otherwise, or of other videos."""
    listed = json.dumps([(video.record.id, video.labels) for video in videos])
    settings = {
        "made_by": network.made_by, "widths": network.widths, "max_frames": recipe.max_frames, "per_shard": plan.per_shard,
        "num_components": plan.num_components, "num_videos": len(videos), "list": f"{zlib.crc32(listed.encode()):08x}",
        "fitted": f"{zlib.crc32((plan.fitted / FITTED).read_bytes()):08x}" if plan.fitted else None,
    }  # fmt: skip
    file = plan.out / RECIPE
    if plan.overwrite:
        for old in (
            file,
            plan.out / FITTED,
            plan.out / FAILURES,
            *plan.out.glob(f"{plan.out.resolve().name}?????.tfrecord"),
        ):
            old.unlink(missing_ok=True)
        shutil.rmtree(plan.out / VECTORS, ignore_errors=True)
    if file.exists():
        before = _settings_in(file)
        differ = [
            f"{key} was {before.get(key)}, now {value}"
            for key, value in settings.items()
            if before.get(key) != value
        ]
        if differ:
            raise ConfigError(
                [
                    f"{file}: the features here were made otherwise: {'; '.join(differ)}; use another folder, or --overwrite"
                ]
            )
    write_recipe(file, recipe, settings=settings)


def _settings_in(file: Path) -> dict:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            [
                f"{file}: damaged ({type(error).__name__}: {error}); use another folder, or --overwrite"
            ]
        ) from error


# --- components ---------------------------------------------------------------------------------------------------------


def _codecs(
    plan: SetPlan, network: FrameNetwork, videos: list[TaggedVideo], num_workers: int | None
) -> dict[str, Codec]:
    """The codecs of the set: those that are there, those of another set, or new ones."""
    file = plan.out / FITTED
    if not file.exists() and plan.fitted:
        codecs, made_by = read_codecs(plan.fitted / FITTED)
        check_codecs(network, codecs, made_by, str(plan.fitted / FITTED))
        write_codecs(file, codecs, made_by)
    elif not file.exists():
        write_codecs(file, _fit(plan, network, videos, num_workers), network.made_by)
    codecs, made_by = read_codecs(file)
    check_codecs(network, codecs, made_by, str(file))
    return codecs


def _fit(
    plan: SetPlan, network: FrameNetwork, videos: list[TaggedVideo], num_workers: int | None
) -> dict[str, Codec]:
    places = np.sort(np.random.default_rng(0).permutation(len(videos))[: plan.fit_videos]).tolist()
    left = [place for place in places if not _vectors_file(plan, place).exists()]
    log.logger.info(f"fitting on {len(places)} of {len(videos)} videos")
    reason = ""
    for number, got in network.vectors(
        [videos[place].record for place in left], num_workers, "fitting"
    ):
        if isinstance(got, str):  # it is told when its shard is made
            reason = reason or f"{videos[left[number]].record.path}: {got}"
            continue
        with (
            atomic_write(_vectors_file(plan, left[number])) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, silent=np.bool_(got.silent), **got.features)
    moments = {name: Moments(width) for name, width in network.widths.items()}
    for place in places:  # in one order, so that the same videos give the same bits
        if _vectors_file(plan, place).exists():
            for name, frames in _read_vectors(plan, place).features.items():
                moments[name].add(frames)
    if not moments["rgb"].count:
        raise DecodeError(f"not one video could be used to fit on; first: {reason}")
    return {
        name: fit(held, plan.num_components if name == "rgb" else None)
        for name, held in moments.items()
    }


def _vectors_file(plan: SetPlan, place: int) -> Path:
    return plan.out / VECTORS / f"{place}.npz"


def _read_vectors(plan: SetPlan, place: int) -> Vectors:
    with np.load(_vectors_file(plan, place), allow_pickle=False) as held:
        return Vectors(
            {name: held[name] for name in held if name != "silent"}, bool(held["silent"])
        )


# --- shards -------------------------------------------------------------------------------------------------------------


class _Shards:
    """The shards of a set while they are made: results come in any order, a shard is written when all of its own are there."""

    def __init__(self, plan: SetPlan, extractor: FeatureExtractor, videos: list[TaggedVideo]):
        self._plan, self._extractor, self._videos = plan, extractor, videos
        self._ready: dict[int, bytes | str] = {}  # by place: the payload, or why there is none
        self._failed = self._read_failures()
        self._made = self._silent = 0

    def make(self, num_workers: int | None) -> Outcome:
        plan, kept = self._plan, 0
        left: dict[int, list[int]] = {}
        for number, places in self._all():
            broken = any(shard == plan.shard(number).name for shard, *_ in self._failed)
            if plan.shard(number).exists() and not (broken and plan.retry_failed):
                kept += len(places)
            else:
                left[number] = places
        self._failed = [
            row
            for row in self._failed
            if row[0] not in {plan.shard(number).name for number in left}
        ]
        kept -= len(self._failed)
        if kept:
            log.logger.info(f"{plan.out}: {kept} videos are there already")
        places = [
            place
            for own in left.values()
            for place in own
            if not _vectors_file(plan, place).exists()
        ]
        open_ones = {
            number: sum(not _vectors_file(plan, place).exists() for place in own)
            for number, own in left.items()
        }
        for number in [number for number, count in open_ones.items() if not count]:
            self._write(number, left[number])
        records = [self._videos[place].record for place in places]
        for at, got in (
            self._extractor.network.vectors(records, num_workers, "features") if records else ()
        ):
            place = places[at]
            self._ready[place] = self._payload(place, got)
            number = place // plan.per_shard
            open_ones[number] -= 1
            if not open_ones[number]:
                self._write(number, left[number])
        return Outcome(self._made, kept, self._silent, self._failed)

    def _all(self) -> Iterator[tuple[int, list[int]]]:
        step = self._plan.per_shard
        for number, start in enumerate(range(0, len(self._videos), step)):
            yield number, list(range(start, min(start + step, len(self._videos))))

    def _payload(self, place: int, got: Vectors | str) -> bytes | str:
        if isinstance(got, str):
            return got
        video = self._videos[place]
        try:
            payload = encode_example(video.record.id, video.labels, self._extractor.encode(got))
        except ValueError as error:
            return str(error)
        self._made += 1
        self._silent += got.silent
        return payload

    def _write(self, number: int, places: list[int]) -> None:
        """A shard of what was read; its failures are told before it is there, so that no kill can lose them."""
        shard, payloads = self._plan.shard(number), []
        for place in places:
            got = (
                self._ready.pop(place)
                if place in self._ready
                else self._payload(place, _read_vectors(self._plan, place))
            )
            if isinstance(got, str):
                self._failed.append((shard.name, self._videos[place].record.path, got))
            else:
                payloads.append(got)
        self._write_failures()
        if payloads:
            write_payloads(shard, payloads)
        else:
            shard.unlink(missing_ok=True)  # an empty file would be no shard

    def _read_failures(self) -> list[tuple[str, str, str]]:
        file = self._plan.out / FAILURES
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        rows = [tuple(line.split("\t", 2)) for line in lines]
        return [row for row in rows if len(row) == 3]  # type: ignore[misc]

    def _write_failures(self) -> None:
        file = self._plan.out / FAILURES
        if not self._failed:
            file.unlink(missing_ok=True)
            return
        with atomic_write(file) as temporary:
            rows = [
                "\t".join(" ".join(part.split()) for part in row) for row in sorted(self._failed)
            ]
            temporary.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def tell(done: Outcome, out: Path) -> int:
    """Print what was done; the exit status."""
    print(
        f"{out}: features of {done.made} videos made, {done.kept} already there, {len(done.failed)} failed"
    )
    if done.silent:
        print(f"  {done.silent} of those made have no sound: silence stands for it")
    for _, path, reason in done.failed[:MAX_SHOWN]:
        print(f"  {path}: {reason}")
    if len(done.failed) > MAX_SHOWN:
        print(f"  ... and {len(done.failed) - MAX_SHOWN} more")
    if done.failed:
        print(
            f"all that failed, with reasons: {out / FAILURES}; mended ones are taken with --retry_failed"
        )
    return 1 if done.failed else 0
