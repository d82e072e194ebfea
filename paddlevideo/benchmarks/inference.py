"""Exported models in every runtime of this machine: precisions, threads, clips per run."""

import argparse
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.benchmarks.exported import Exported, export_random, quantize_random
from paddlevideo.benchmarks.inference_table import Measured, table
from paddlevideo.benchmarks.measure import PAUSE, Child, Group, Row, Variant, measure, timed
from paddlevideo.benchmarks.settings import (
    Opened,
    Setting,
    Way,
    clips_of,
    default_threads,
    device_here,
    settings,
)
from paddlevideo.benchmarks.train import MATRIX, multiplications, speed
from paddlevideo.config.schema import ConfigError
from paddlevideo.config.shipped import typed
from paddlevideo.engine.build import build_model
from paddlevideo.log import error_text, logger
from paddlevideo.report.doctor import gpu_memory_mb
from paddlevideo.runtimes import measured
from paddlevideo.runtimes.base import Backend, BackendError
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.golden import golden_difference, read_golden
from paddlevideo.runtimes.manifest import FILE, Manifest, exported_folder, read_manifest
from paddlevideo.sample import Arrays

GPU_MATRIX = 8192
QUICK = 0.1  # seconds of a run below which it is repeated once before it is timed
FASTEST = 2  # settings that are measured again next to auto


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py inference; of several models also a table at the end.

    Raises:
        ValueError: a model cannot be measured; the others are.
    """
    device = args.device or device_here()
    peak = 0.0
    if device == "cpu" or dist.num_gpus():  # Paddle computes the product
        product = matrix_product(args.rounds, device)
        yield product
        peak = 2.0 * side(device) ** 3 / product.rows[0].median
    names, results, failed = [str(name) for name in args.model or args.config], [], []
    for number, name in enumerate(names):
        try:
            exported = exported_of(args, name, folder / str(number))
            results.append((yield from run(exported, args, peak)))
        except ValueError as error:
            if len(names) == 1:
                raise
            logger.error(f"{name} is left out: {error_text(error)}")
            failed.append(name)
    if len(names) > 1:
        log.show("", *table(results))
    if failed:
        raise ValueError(f"could not be measured, see above: {', '.join(failed)}")


def exported_of(args: argparse.Namespace, name: str, folder: Path) -> Exported:
    """The exported model of a folder; or of a config, which is exported to `folder`."""
    if args.model:
        return Exported(exported_folder(Path(name)), name)
    folder.mkdir()
    exported = export_random(name, args.override, folder)
    if "int8" in args.precision:
        quantize_random(exported.folder)
    return exported


def run(
    exported: Exported, args: argparse.Namespace, peak: float
) -> Generator[Group, None, Measured]:
    """The program in every setting, and `auto`, which uses what was measured.

    Args:
        peak: operations per second of a matrix product.

    Raises:
        ValueError: the folder has no export, or no setting can be run.
    """
    folder, manifest = exported.folder, read_manifest(exported.folder)
    golden = read_golden(folder, manifest) if manifest else None
    if manifest is None or golden is None:
        raise ValueError(
            f"{folder}: no {FILE} and golden.npz in it; "
            f"give a folder that `{typed('tools/export_model.py', 'export')}` wrote"
        )
    device = args.device or device_here()
    numbers = clips_of(manifest, args.clips)
    opened = list(open_all(exported, manifest, golden, args, device))
    if not opened:
        raise ValueError(f"{folder}: no runtime of this machine runs a program of it, see above")
    if args.memory:
        for each in opened:
            found = memory_of(each.setting, folder, golden[0], max(numbers))
            each.memory, each.gpu_memory = found
    view = {name: array[:1] for name, array in golden[0].items()}
    operations = operations_of(exported, manifest, view)
    several = len(args.threads or default_threads()) > 1
    ways = [Way(each, clips, several) for each in opened for clips in numbers]
    shapes = ", ".join(f"{name} {list(array.shape)[1:]}" for name, array in view.items())
    variants = [variant(way.name, way.opened.backend, golden[0], way.clips) for way in ways]
    title = f"inference of {manifest.name}, {shapes}"
    group = measure(title, "clip", 1, variants, args.rounds)
    rows = [
        replace(row, note=note(row, way, operations, peak))
        for row, way in zip(group.rows, ways, strict=True)
    ]
    yield replace(group, rows=rows)
    store(exported, manifest, rows, ways, device)
    differences = [(way.opened.setting.options["precision"], way.opened.difference) for way in ways]
    auto = auto_group(folder, manifest, rows, ways, golden[0], args.rounds, device)
    if auto:
        yield auto
    return Measured(exported.name, rows, differences, auto)


def open_all(
    exported: Exported,
    manifest: Manifest,
    golden: tuple[Arrays, np.ndarray],
    args: argparse.Namespace,
    device: str,
) -> Iterator[Opened]:
    """The settings that this machine and the folder have; the log names what is left out."""
    for setting in settings(exported, manifest, args, device):
        label = setting.label(threads=True)
        model = exported.folder / setting.program if setting.program else exported.model
        try:
            backend = open_backend(
                model, setting.kind, max_batch=max(args.clips), **setting.options
            )
            if backend.precision != setting.options["precision"]:
                logger.info(f"left out: {label}: it computes in {backend.precision}")
                continue
            difference = golden_difference(backend, *golden, manifest.any_batch)
        except BackendError as error:
            logger.info(f"left out: {label}: {' '.join(str(error).split())}")
            continue
        yield Opened(setting, backend, difference)


# --- numbers --------------------------------------------------------------------------------------


def side(device: str) -> int:
    """Of the matrices: large enough that starting and reading cost little on a GPU."""
    return MATRIX if device == "cpu" else GPU_MATRIX


def matrix_product(rounds: int, device: str) -> Group:
    """A matrix product in float32: the speed that the device can reach."""
    size, before = side(device), paddle.get_device()
    paddle.set_device(device)
    try:
        noise = np.random.default_rng(0).standard_normal((size, size), np.float32)
        matrix = paddle.to_tensor(noise)
        product = timed(lambda: paddle.matmul(matrix, matrix)[0, 0].item())
        variant = Variant("paddle", product, lambda median: speed(2.0 * size**3, median, 0.0))
        title = f"matrix product, float32 {size} x {size}"
        return measure(title, "product", 1, [variant], rounds)
    finally:
        paddle.set_device(before)


def operations_of(exported: Exported, manifest: Manifest, view: Arrays) -> float:
    """Operations of one clip; 0 where they are unknown."""
    model = exported.model
    if model is None and not manifest.preprocess:
        try:
            cfg = manifest.test_config(exported.folder / FILE)
            model = build_model(cfg, manifest.num_classes)
        except ConfigError as error:
            logger.info(f"GFLOP/s are unknown: {error}")
    return 2 * multiplications(model, view) if model is not None else 0.0


def variant(name: str, backend: Backend, golden: Arrays, clips: int) -> Variant:
    """A variant: seconds of a clip in runs of `clips` clips."""
    number = len(next(iter(golden.values())))
    inputs = {key: array[np.arange(clips) % number] for key, array in golden.items()}
    once = timed(lambda: backend.run(inputs))

    def seconds() -> float:
        time.sleep(PAUSE)  # idle threads of another runtime may still spin
        first = once()
        return (once() if first < QUICK else first) / clips

    return Variant(name, seconds)


def note(row: Row, way: Way, operations: float, peak: float) -> str:
    """The last column of a row."""
    opened, clips = way.opened, way.clips
    middle, high = (1000 * clips * np.percentile(row.seconds, p) for p in (50, 95))
    texts = [f"p50 {middle:.4g} p95 {high:.4g} ms a run"]
    if opened.memory:
        texts.append(f"{opened.memory / 2**20:.0f} MB")
    if opened.gpu_memory is not None:
        texts.append(f"{opened.gpu_memory} MB of the GPU")
    if operations:
        texts.append(speed(operations, row.median, peak))
    return f"{', '.join(texts)}; {opened.backend.name}; logits differ by {opened.difference:.1e}"


def memory_of(setting: Setting, folder: Path, golden: Arrays, clips: int) -> tuple[int, int | None]:
    """Memory of a process that opens and runs a setting: as `Opened.memory`, `gpu_memory`."""
    if not setting.program or not Path("/proc/self/status").exists():
        return 0, None
    arguments = (str(folder / setting.program), setting.kind, setting.options, golden, clips)
    child = Child(memory_jobs, arguments, {})
    try:
        return child("memory")[1]
    except ChildProcessError as error:
        logger.warning(f"no memory of {setting.label(True)}: {error}")
        return 0, None
    finally:
        child.close()


def memory_jobs(program: str, kind: str, options: dict, golden: Arrays, clips: int) -> dict:
    """The job of a child process."""

    def memory() -> tuple[int, int | None]:
        backend = open_backend(program, kind, max_batch=clips, **options)
        number = len(next(iter(golden.values())))
        backend.run({key: array[np.arange(clips) % number] for key, array in golden.items()})
        on_gpu = gpu_memory_mb() if options["device"] == "gpu" else None
        lines = Path("/proc/self/status").read_text().splitlines()
        most = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return most, on_gpu

    return {"memory": memory}


def store(
    exported: Exported, manifest: Manifest, rows: list[Row], ways: list[Way], device: str
) -> None:
    """Store the rows for `auto`, and log the fastest in fp32."""
    found = []
    for row, way in zip(rows, ways, strict=True):
        setting, options = way.opened.setting, way.opened.setting.options
        if not setting.program:
            continue  # the built model
        own = (setting.kind, setting.program, manifest.files[setting.program], device)
        choice = (options["precision"], options["threads"], options.get("onednn"), way.clips)
        # Other programs only add time, so the shortest shows what the setting can do.
        numbers = (float(f"{min(row.seconds):.4g}"), float(f"{way.opened.difference:.3g}"))
        found.append(measured.Row(*own, *choice, *numbers))
    best = measured.best_row(found, {}, device)
    try:
        path = measured.write_rows(exported.folder, manifest, found)
    except OSError as error:
        logger.warning(f"not stored for --backend auto: {error}")
        return
    if not exported.temporary:
        logger.info(f"stored in {path}, which --backend auto reads on this machine")
    if best:
        logger.info(
            f"the fastest in fp32: {best.kind} with {best.program}, {best.threads} threads, "
            f"{best.clips} clips per run, {1000 * best.seconds:.4g} ms a clip"
        )


def auto_group(
    folder: Path,
    manifest: Manifest,
    rows: list[Row],
    ways: list[Way],
    golden: Arrays,
    rounds: int,
    device: str,
) -> Group | None:
    """`--backend auto` next to the fastest settings that are exact in fp32, measured again.

    None where no setting is exact.
    """
    pairs = zip(rows, ways, strict=True)
    exact = sorted(((row.median, n) for n, (row, way) in enumerate(pairs) if way.exact))[:FASTEST]
    if not exact:
        return None
    manual = [ways[number] for _, number in exact]
    backend = open_backend(folder, device=device)
    clips = backend.clips_per_run or clips_of(manifest, [1])[0]
    variants = [variant(way.name, way.opened.backend, golden, way.clips) for way in manual]
    variants.append(variant("auto", backend, golden, clips))
    group = measure(f"auto for {manifest.name}", "clip", 1, variants, rounds)
    *others, auto = group.rows
    share = auto.median / min(row.median for row in others)
    text = f"{backend.name}, {clips} clips per run; {share:.2f} times the time of the fastest"
    return replace(group, rows=[*others, replace(auto, note=text)])
