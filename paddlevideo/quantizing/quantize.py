"""Prepares an exported model for int8, and compares its scores with those of fp32.

For OpenVINO this writes an int8 program; for TensorRT it measures ranges of activations on a GPU.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from paddlevideo.config.shipped import typed
from paddlevideo.exporting.export import WORKSPACE
from paddlevideo.exporting.export_folder import publish
from paddlevideo.exporting.program import ExportError
from paddlevideo.files import json_text, remove_leftovers, temporary_name
from paddlevideo.log import logger
from paddlevideo.metrics.scores import softmax
from paddlevideo.processes import RunEach
from paddlevideo.quantizing import int8, tensorrt_int8
from paddlevideo.quantizing.videos import Videos, spread
from paddlevideo.remote import is_url, shown
from paddlevideo.runtimes.base import Backend, Program
from paddlevideo.runtimes.choose import find_program, open_backend, require
from paddlevideo.runtimes.manifest import FILE, INT8, Manifest, exported_folder, read_manifest
from paddlevideo.runtimes.remote_folder import writable_model

BACKENDS = ("openvino", "tensorrt")
MIN_VIDEOS = 4  # fewer say too little about the range of a network's activations
MAX_LOSS = 0.01  # of top-1 accuracy; more is reported, and layers are kept in fp32


@dataclass(frozen=True)
class Comparison:
    """The int8 program next to the fp32 program, on the same videos.

    Args:
        videos: their number.
        held_out: whether they are others than those that the quantization used.
        agreement: share of videos with the same best class.
        accuracy: top-1 accuracy of fp32 and int8 over the videos with labels; None without labels.
            A video with any number of labels counts where the best class is one of them.
        largest_change, mean_change: of the scores, |int8 - fp32| over all videos and classes.
    """

    videos: int
    held_out: bool
    agreement: float
    accuracy: tuple[float, float] | None
    largest_change: float
    mean_change: float

    @property
    def loss(self) -> float:
        """Top-1 accuracy that is lost; without labels the videos whose best class changed."""
        return 1 - self.agreement if self.accuracy is None else self.accuracy[0] - self.accuracy[1]

    def lines(self) -> list[str]:
        """The numbers as text."""
        which = "" if self.held_out else ", which the quantization also used"
        lines = [f"fp32 and int8 on {self.videos} videos{which}:"]
        if self.accuracy is not None:
            before, after = (100 * value for value in self.accuracy)
            lines.append(f"  top-1 accuracy     {before:.2f} % -> {after:.2f} %")
        lines.append(f"  same best class    {100 * self.agreement:.2f} %")
        lines.append(f"  change of scores   largest {self.largest_change:.4f}, mean ")
        lines[-1] += f"{self.mean_change:.5f}"
        return lines


@dataclass(frozen=True)
class Request:
    """Which videos to use, and how; as the arguments of `quantize`."""

    videos: str
    num: int
    num_test: int
    overwrite: bool
    run: RunEach | None


def quantize(
    model: str | Path,
    videos: str | Path,
    num: int = 64,
    num_test: int | None = None,
    overwrite: bool = False,
    run: RunEach | None = None,
    backend: str = "openvino",
) -> Comparison:
    """Write `<name>_int8.xml` and `.bin` to an exported folder, and list them in its model.yaml.

    The program is calibrated with one view of each of `num` videos, and compared with the fp32
    program on other videos, with all of their views. Where more than a point of accuracy is lost
    and there are labels, the layers that cost the most stay in fp32.

    With backend tensorrt, the ranges of the activations are written to `engines/` in the folder,
    for its .pdmodel and the TensorRT of this machine. They were never measured on a GPU; tests run
    this against a double.

    Args:
        model: an exported folder, or that of a run with `inference/`; or its URL.
        videos: a list, folder, glob or shards, or their URL, if possible with labels as for
            DATASET.test.
        num: the largest number of videos to calibrate with.
        num_test: the largest number of other videos to compare on; None for `num`.
        overwrite: replace an int8 program that is there.
        run: decodes the videos on other machines; None decodes them in this process.
        backend: openvino or tensorrt.

    Raises:
        ExportError: something is missing, or the model cannot be quantized; nothing was written.
        ValueError: there are no videos, the export is damaged, or there is no such backend here.
    """
    if num < MIN_VIDEOS or (num_test is not None and num_test < 1):
        raise ExportError(
            f"num is {num} and num_test is {num_test}; expected at least {MIN_VIDEOS} and 1"
        )
    if backend not in BACKENDS:
        raise ExportError(f"backend is {backend!r}, expected {' or '.join(BACKENDS)}")
    if backend == "tensorrt":
        require(backend)
        if is_url(model):
            raise ExportError(
                f"{shown(model)}: the ranges for tensorrt belong to the engines of this machine; "
                "copy the export to a local folder"
            )
    elif missing := int8.missing_for_int8():
        raise ExportError(missing)
    work = _measure_folder if backend == "tensorrt" else _quantize_folder
    with writable_model(model) as path:
        request = Request(str(videos), num, num_test or num, overwrite, run)
        comparison, name = work(path, request)
    place = shown(model) if is_url(model) else exported_folder(Path(model))
    logger.info(f"wrote {place}/{name}; use it with --backend {backend} --precision int8")
    return comparison


def _quantize_folder(path: Path, request: Request) -> tuple[Comparison, str]:
    """(the comparison, the name of the program); errors as of `quantize`."""
    folder, manifest = _export(path)
    name = f"{manifest.name}{INT8}.xml"
    existing = [file for file in (name, f"{manifest.name}{INT8}.bin") if (folder / file).exists()]
    if existing and not request.overwrite:
        raise ExportError(f"{folder} contains {existing[0]}; replace it with --overwrite")
    program = find_program(folder, "openvino")
    open_backend(program.model, "openvino", device="cpu")  # reports what it cannot read
    source = _videos(folder, manifest, request)
    work = temporary_name(folder / WORKSPACE)
    remove_leftovers(folder, {WORKSPACE})
    work.mkdir(0o700)
    try:
        comparison, how = _quantize(source, program, work / name, request.num, request.num_test)
        manifest = replace(manifest, quantization={"program": name, **how})
        publish(work, folder, _export(folder)[1], manifest)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return comparison, name


def _measure_folder(path: Path, request: Request) -> tuple[Comparison, str]:
    """`_quantize_folder` for TensorRT; returns the comparison, and the name of a folder."""
    folder, manifest = _export(path)
    program = find_program(folder, "tensorrt", precision="int8")
    tables = tensorrt_int8.int8_folder(program)
    if tensorrt_int8.has_tables(program) and not request.overwrite:
        raise ExportError(f"{tables} has ranges of activations; replace them with --overwrite")
    source = _videos(folder, manifest, request)
    views, rest = _calibration(source, request.num)
    numbers = _numbers_to_compare(source, rest, request.num_test)
    logger.info(f"measuring activations on {len(views)} videos ...")
    with tensorrt_int8.measured(program, (source.inputs(view) for view, _ in views)) as measured:
        logger.info(f"comparing on {len(numbers)} videos; engines are built first ...")
        backends = (
            open_backend(program.model, "paddle", device="gpu"),
            open_backend(measured.model, "tensorrt", device="gpu", precision="int8"),
        )
        comparison, _ = _compare(source, backends, numbers, bool(rest))
        if comparison.loss > MAX_LOSS:
            logger.warning(_loss_text(comparison, "fp16"))
        facts = _facts(source, program, len(views), comparison)
        file = tensorrt_int8.int8_folder(measured) / tensorrt_int8.FACTS
        file.write_text(json_text(facts, indent=1), encoding="utf-8")
    return comparison, str(tables.relative_to(folder))


def _videos(folder: Path, manifest: Manifest, request: Request) -> Videos:
    source = Videos(folder, manifest, request.videos, request.run)
    if source.unlabeled:
        first = source.unlabeled.splitlines()[0]
        logger.warning(f"no labels are used, so accuracy is not measured: {first}")
    return source


def _export(path: Path) -> tuple[Path, Manifest]:
    """The folder of an export and its manifest.

    Raises:
        ExportError: there is none.
        ManifestError: its model.yaml is damaged, or of another version.
    """
    folder = exported_folder(path)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ExportError(
            f"{path}: no exported model, because there is no {FILE}; export one first: "
            f"{typed('tools/export_model.py', 'export')} --format onnx"
        )
    return folder, manifest


def _quantize(
    source: Videos, program: Program, file: Path, num: int, num_test: int
) -> tuple[Comparison, dict[str, Any]]:
    """Write the program to `file`; returns the comparison, and what model.yaml records."""
    views, rest = _calibration(source, num)
    logger.info(f"quantizing with {len(views)} videos ...")
    model, left_out = int8.quantize(program, views, source.inputs)
    if left_out:
        logger.info(f"openvino cannot compute these in int8, they stay in fp32: {left_out}")
    int8.save(model, file)
    numbers = _numbers_to_compare(source, rest, num_test)
    logger.info(f"comparing on {len(numbers)} videos ...")
    comparison, test_views = _compare(source, _openvino(program, file), numbers, bool(rest))
    accurate = False
    if comparison.loss > MAX_LOSS and comparison.accuracy is not None:
        logger.warning(
            f"int8 loses {100 * comparison.loss:.1f} points of top-1 accuracy; "
            "finding layers to keep in fp32, which takes long ..."
        )
        model = int8.quantize_accurately(
            program, [*views, *test_views], source.inputs, left_out, MAX_LOSS
        )
        int8.save(model, file)
        # The layers were chosen on these videos.
        comparison, _ = _compare(source, _openvino(program, file), numbers, held_out=False)
        accurate = True
    if comparison.loss > MAX_LOSS:
        logger.warning(_loss_text(comparison))
    versions = {package: metadata.version(package) for package in ("nncf", "openvino")}
    return comparison, {
        **_facts(source, program, len(views), comparison),
        "accuracy_control": accurate,
        "in_fp32": left_out,
        "versions": versions,
    }


def _facts(
    source: Videos, program: Program, num_views: int, comparison: Comparison
) -> dict[str, Any]:
    """What is recorded of a calibration."""
    return {
        "from": program.model.name,
        "calibration_sha256": source.checksum(),
        "calibration_videos": num_views,
        "skipped_videos": len(source.skipped),
        "comparison": _plain(comparison),
    }


def _numbers_to_compare(source: Videos, rest: list[int], num_test: int) -> list[int]:
    """The videos to compare on: others than those of the calibration, where there are any."""
    return (rest or list(range(len(source.records))))[:num_test]


def _loss_text(comparison: Comparison, better: str = "bf16 or fp32") -> str:
    points = f"{100 * comparison.loss:.1f}"
    if comparison.accuracy is not None:
        return f"int8 loses {points} points of top-1 accuracy; use precision {better}"
    labels = ""
    if better != "fp16":
        labels = "give a list with labels, so that the layers that cost accuracy are kept in fp32, "
    return f"the best class of {points} % of the videos changed; {labels}or use precision {better}"


def _plain(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data, with four digits."""
    data = asdict(comparison)
    if comparison.accuracy is not None:
        data["accuracy"] = [float(f"{value:.4g}") for value in comparison.accuracy]
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in data.items()}


def _calibration(source: Videos, num: int) -> tuple[list[int8.View], list[int]]:
    """Views of up to `num` videos from all parts of the list, and the numbers of other videos.

    Raises:
        ExportError: too few videos can be read.
    """
    order = spread(len(source.records), num)
    views, tried = [], 0
    for number, sample in source.samples(order):
        views.append((source.view(number, sample), source.labels(number, sample)))
        tried = order.index(number) + 1
        if len(views) == num:
            break
    else:
        tried = len(order)
    if source.skipped:
        logger.warning(f"{len(source.skipped)} of {tried} videos could not be read")
    if len(views) < MIN_VIDEOS:
        raise ExportError(
            f"{len(views)} of {tried} videos can be read, but quantization needs at least "
            f"{MIN_VIDEOS}; add videos to the list"
        )
    return views, order[tried:]


def _openvino(program: Program, file: Path) -> tuple[Backend, Backend]:
    """The program in fp32, and the file in int8."""
    return (
        open_backend(program.model, "openvino", program.params, device="cpu"),
        open_backend(file, "openvino", device="cpu", precision="int8"),
    )


def _compare(
    source: Videos, backends: tuple[Backend, Backend], numbers: Sequence[int], held_out: bool
) -> tuple[Comparison, list[int8.View]]:
    """Compare fp32 and int8 on videos; returns also one view of each with labels.

    Raises:
        ExportError: none of the videos can be read.
    """
    pairs, labels, views = [], [], []
    for number, sample in source.samples(numbers):
        pairs.append([source.logits(backend, sample) for backend in backends])
        labels.append(source.labels(number, sample))
        if labels[-1]:
            views.append((source.view(number, sample), labels[-1]))
    if not pairs:
        raise ExportError("none of the videos to compare on can be read; add videos to the list")
    logits = np.stack(pairs, 1)  # [2, N, K]
    best = logits.argmax(-1)
    known = [number for number, classes in enumerate(labels) if classes]
    accuracy = None
    if known:
        before, after = ([int(row[i]) in labels[i] for i in known] for row in best)
        accuracy = (float(np.mean(before)), float(np.mean(after)))
    scores = expit(logits) if source.multi_label else softmax(logits)
    change = np.abs(scores[1] - scores[0])
    agreement = float((best[0] == best[1]).mean())
    result = Comparison(
        len(pairs), held_out, agreement, accuracy, float(change.max()), float(change.mean())
    )
    return result, views
