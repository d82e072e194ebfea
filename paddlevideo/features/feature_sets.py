"""Make a folder of features from many videos: fit the codec, write shards, resume, report.

    extractor.json          the recipe (see extract.Recipe) and the settings of the set
    fitted.npz              codecs, fitted on these videos or copied from another set
    whitening.npy           undoes the whitening; `whitening` of NeXtVLAD
    labels.txt              class names, if there are any
    <folder>00000.tfrecord  shards of videos in the order of the list, each written completely
    failures.tsv            shard, video, reason; no file if no video failed

A stopped run continues with the missing shards. While the codec is being fitted, the vectors of
its videos are kept in the folder `.vectors`, so that no video goes through the network twice.
"""

import glob
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo import log
from paddlevideo.config.schema import ConfigError
from paddlevideo.curate.tagged_videos import TaggedVideo, find_tagged
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import Split
from paddlevideo.features.codec import Codec, Moments, fit, read_codecs, write_codecs
from paddlevideo.features.extract import (
    CODEC_FILE,
    RECIPE_FILE,
    FeatureExtractor,
    FrameNetwork,
    Recipe,
    Vectors,
    check_codecs,
    write_recipe,
)
from paddlevideo.features.feature_shards import (
    FAILURES_FILE,
    VECTORS_DIR,
    SetOptions,
    ShardWriter,
    Summary,
    Vectorize,
    read_vectors,
    write_vectors,
)
from paddlevideo.files import atomic_write, check_writable, remove_leftovers
from paddlevideo.plain_text import file_line
from paddlevideo.remote import join_path, shown
from paddlevideo.sample import DecodeError

LABELS_FILE, WHITENING_FILE = "labels.txt", "whitening.npy"
MAX_SHOWN = 10  # failures on the console
ANOTHER_FOLDER = "use another folder, or --overwrite"


def here(network: FrameNetwork) -> Vectorize:
    """Decode in processes of this machine, and run the network in this one."""
    return network.vectors


def extract_set(
    recipe: Recipe,
    options: SetOptions,
    inputs: Sequence[str],
    class_names: str | None = None,
    with_labels: bool = True,
    num_workers: int | None = None,
    split: Split | None = None,
    vectors_of: Callable[[FrameNetwork], Vectorize] = here,
) -> Summary:
    """Make the missing shards of a feature set.

    Args:
        inputs: videos, folders, lists; see curate/tagged_videos.py.
        class_names: file of class names; by default those of `options.fitted`, or the labels.
        with_labels: False ignores labels and the names of folders.
        num_workers: processes that decode; None for one per core, 0 for this process.
        split: use only these rows of a table with a column `split`.
        vectors_of: where decoding and the network run: in this process, or on a cluster.

    Raises:
        DatasetError, ConfigError, WeightsError, DecodeError: something is missing or unsuitable.
        OSError: the folder cannot be written.
    """
    names = read_class_names(class_names) if class_names else _fitted_class_names(options.fitted)
    videos, names = find_tagged(inputs, names, with_labels, split)
    check_writable(options.out / RECIPE_FILE)
    remove_leftovers(options.out)
    network = FrameNetwork(recipe)
    _check_components(options, network)
    _write_settings(options, recipe, network, videos)
    if names and with_labels:
        lines = [f"{class_id} {file_line(name)}\n" for class_id, name in enumerate(names)]
        with atomic_write(options.out / LABELS_FILE) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    vectors = vectors_of(network)
    codecs = _get_codecs(options, network, videos, num_workers, vectors)
    with atomic_write(options.out / WHITENING_FILE) as temporary, temporary.open("wb") as file:
        np.save(file, codecs["rgb"].scale)
    extractor = FeatureExtractor(network, codecs, network.made_by)
    summary = ShardWriter(options, extractor, videos, vectors).run(num_workers)
    shutil.rmtree(options.out / VECTORS_DIR, ignore_errors=True)
    return summary


def print_summary(summary: Summary, out: str | Path) -> None:
    """Print the counts and the first failures of a run."""
    counts = f"{summary.kept} already there, {len(summary.failed)} failed"
    log.show(f"{shown(out)}: features of {summary.made} videos made, {counts}")
    if summary.no_audio:
        log.show(
            f"  {summary.no_audio} of those made have no audio; their audio vectors are silence"
        )
    for _, path, reason in summary.failed[:MAX_SHOWN]:
        log.show(f"  {path}: {reason}")
    if len(summary.failed) > MAX_SHOWN:
        log.show(f"  ... and {len(summary.failed) - MAX_SHOWN} more")
    if summary.failed:
        file = shown(join_path(out, FAILURES_FILE))
        log.show(f"all failures are in {file}; fix the files, then use --retry_failed")


def _fitted_class_names(folder: Path | None) -> list[str] | None:
    if folder and (folder / LABELS_FILE).exists():
        return read_class_names(folder / LABELS_FILE)
    return None


# --- settings -----------------------------------------------------------------------------------


def _write_settings(
    options: SetOptions, recipe: Recipe, network: FrameNetwork, videos: Sequence[TaggedVideo]
) -> None:
    """Write the recipe and the settings of the set.

    Raises:
        ConfigError: the folder holds features that were made with other settings or videos.
    """
    file = options.out / RECIPE_FILE
    settings = _settings(options, recipe, network, videos)
    if options.overwrite:
        name = glob.escape(options.out.resolve().name)
        others = (RECIPE_FILE, CODEC_FILE, WHITENING_FILE, LABELS_FILE, FAILURES_FILE)
        for old in (*options.out.glob(f"{name}?????.tfrecord"), *map(options.out.joinpath, others)):
            old.unlink(missing_ok=True)
        shutil.rmtree(options.out / VECTORS_DIR, ignore_errors=True)
    if file.exists():
        before = _read_settings(file)
        if not (options.out / CODEC_FILE).exists():  # nothing has been encoded
            before["num_components"] = settings["num_components"]
        changes = [
            f"{key} was {before.get(key)}, now {value}"
            for key, value in settings.items()
            if before.get(key) != value
        ]
        if changes:
            problem = f"the features in this folder have other settings: {'; '.join(changes)}"
            raise ConfigError([f"{file}: {problem}; {ANOTHER_FOLDER}"])
    write_recipe(file, recipe, settings=settings)


def _check_components(options: SetOptions, network: FrameNetwork) -> None:
    """Check the number of principal components before videos go through the network.

    Raises:
        ValueError: the network gives fewer values.
    """
    number, limit = options.num_components, network.sizes["rgb"]
    if number is not None and not 1 <= number <= limit:
        raise ValueError(f"--pca {number}: the network gives {limit} values; expected 1 to {limit}")


def _settings(
    options: SetOptions, recipe: Recipe, network: FrameNetwork, videos: Sequence[TaggedVideo]
) -> dict[str, Any]:
    video_list = json.dumps([(video.record.id, video.labels) for video in videos])
    fitted = None
    if options.fitted:
        fitted = f"{zlib.crc32((options.fitted / CODEC_FILE).read_bytes()):08x}"
    return {
        "made_by": network.made_by,
        "widths": network.sizes,
        "max_frames": recipe.max_frames,
        "per_shard": options.per_shard,
        "num_components": options.num_components,
        "num_videos": len(videos),
        "list": f"{zlib.crc32(video_list.encode()):08x}",
        "fitted": fitted,
    }


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError([f"{file}: damaged ({reason}); {ANOTHER_FOLDER}"]) from error


# --- codecs -------------------------------------------------------------------------------------


def _get_codecs(
    options: SetOptions,
    network: FrameNetwork,
    videos: Sequence[TaggedVideo],
    num_workers: int | None,
    vectors: Vectorize,
) -> dict[str, Codec]:
    """Read the codecs of the set; the first time, copy those of another set or fit new ones."""
    file = options.out / CODEC_FILE
    if not file.exists() and options.fitted:
        codecs, made_by = read_codecs(options.fitted / CODEC_FILE)
        check_codecs(network, codecs, made_by, str(options.fitted / CODEC_FILE))
        write_codecs(file, codecs, made_by)
    elif not file.exists():
        codecs = _fit_codecs(options, network, videos, num_workers, vectors)
        write_codecs(file, codecs, network.made_by)
    codecs, made_by = read_codecs(file)
    check_codecs(network, codecs, made_by, str(file))
    return codecs


def _fit_codecs(
    options: SetOptions,
    network: FrameNetwork,
    videos: Sequence[TaggedVideo],
    num_workers: int | None,
    vectors: Vectorize,
) -> dict[str, Codec]:
    order = np.random.default_rng(0).permutation(len(videos))
    chosen = np.sort(order[: options.fit_videos]).tolist()
    missing = [index for index in chosen if not options.vectors_file(index).exists()]
    log.logger.info(f"fitting on {len(chosen)} of {len(videos)} videos")
    first_failure = ""
    records = [videos[index].record for index in missing]
    for number, result in vectors(records, num_workers, "fitting"):
        if isinstance(result, Vectors):
            write_vectors(options.vectors_file(missing[number]), result)
        else:  # its shard will report it
            first_failure = first_failure or f"{records[number].path}: {result}"
    moments = {name: Moments(size) for name, size in network.sizes.items()}
    for index in chosen:  # in a fixed order, so that the same videos give the same bits
        if options.vectors_file(index).exists():
            for name, frames in read_vectors(options.vectors_file(index)).features.items():
                moments[name].add(frames)
    if not moments["rgb"].count:
        raise DecodeError(f"no video could be used to fit on; first failure: {first_failure}")
    num_components = {"rgb": options.num_components}
    return {name: fit(part, num_components.get(name)) for name, part in moments.items()}
