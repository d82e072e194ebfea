"""One exported model in every runtime of this machine: precisions, threads, clips per run."""

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo.benchmarks.measure import PAUSE, Child, Group, Row, Variant, measure, timed
from paddlevideo.benchmarks.train import MATRIX, multiplications, speed
from paddlevideo.config.schema import ConfigError
from paddlevideo.config.shipped import typed
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import export
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.processes import num_cores
from paddlevideo.runtimes import measured
from paddlevideo.runtimes.base import Backend, BackendError
from paddlevideo.runtimes.choose import RUNTIMES, open_backend
from paddlevideo.runtimes.golden import golden_difference, read_golden
from paddlevideo.runtimes.manifest import FILE, Manifest, exported_folder, read_manifest
from paddlevideo.sample import Arrays
from paddlevideo.weights import state_arrays, write_arrays

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# Options of a runtime that are measured besides its own, in fp32.
OPTIONS: dict[str, dict[str, Any]] = {"paddle": {"onednn": False}}
QUICK = 0.1  # seconds of a run below which it is repeated once before it is timed


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Args:
        model: the same model, built, if its weights are known.
        temporary: it exists for this benchmark only.
    """

    folder: Path
    model: Recognizer | None = None
    temporary: bool = False


@dataclass(frozen=True)
class Setting:
    """A program of the folder in a runtime.

    Args:
        program: file name; "" for the built model.
        options: of `open_backend`.
    """

    kind: str
    program: str
    options: dict[str, Any]

    def label(self, threads: bool) -> str:
        """Its name in the table.

        Args:
            threads: name their number.
        """
        suffix = Path(self.program).suffix
        usual = not suffix or suffix == RUNTIMES[self.kind].suffixes[0]
        words = [self.kind if usual else f"{self.kind} {suffix}"]
        if self.options["precision"] != "fp32":
            words.append(self.options["precision"])
        if self.options.get("onednn") is False:
            words.append("no oneDNN")
        if threads:
            words.append(f"{self.options['threads']} threads")
        return ", ".join(words)


@dataclass
class Opened:
    """A setting that this machine can run.

    Args:
        difference: of its outputs for the golden inputs.
        memory: largest resident memory of a process that runs it (bytes); 0 if unknown.
    """

    setting: Setting
    backend: Backend
    difference: float
    memory: int = 0


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py inference."""
    if args.model:
        exported = Exported(exported_folder(args.model))
    else:
        exported = export_random(args.config, args.override, folder)
    yield from run(exported, args)


def export_random(config: str, overrides: list[str], folder: Path) -> Exported:
    """Export the model of a config, with random weights, in every format to `folder`."""
    cfg = load_config(config, overrides)
    paddle.seed(0)
    weights = folder / "random.pdparams"
    write_arrays(weights, state_arrays(build_model(cfg)))
    exported = export(cfg, weights, folder / "exported", ["all"])
    return Exported(exported, trained_model(cfg, weights)[0], temporary=True)


def run(exported: Exported, args: argparse.Namespace) -> Iterator[Group]:
    """A matrix product, and the program in every setting; stores what was measured for `auto`.

    Raises:
        ValueError: the folder has no export, or no setting can be run.
    """
    folder, manifest = exported.folder, read_manifest(exported.folder)
    golden = read_golden(folder, manifest) if manifest else None
    if min([*args.clips, *(args.threads or [1])]) < 1:
        raise ValueError("--clips and --threads take numbers of at least 1")
    if manifest is None or golden is None:
        raise ValueError(
            f"{folder}: no {FILE} and golden.npz in it; "
            f"give a folder that `{typed('tools/export_model.py', 'export')}` wrote"
        )
    product = matrix_product(args.rounds)
    yield product
    peak = 2.0 * MATRIX**3 / product.rows[0].median
    numbers = clips_of(manifest, args.clips)
    opened = list(open_all(exported, manifest, golden, args))
    if not opened:
        raise ValueError(f"{folder}: no runtime of this machine runs a program of it, see above")
    if args.memory:
        for each in opened:
            each.memory = memory_of(each.setting, folder, golden[0], max(numbers))
    view = {name: array[:1] for name, array in golden[0].items()}
    operations = operations_of(exported, manifest, view)
    several = len(args.threads or []) > 1 or (not args.threads and len(default_threads()) > 1)
    described = [(each, clips) for each in opened for clips in numbers]
    variants = [variant(each, several, golden[0], clips) for each, clips in described]
    shapes = ", ".join(f"{name} {list(array.shape)[1:]}" for name, array in view.items())
    title = f"inference of {manifest.name}, {shapes}"
    group = measure(title, "clip", 1, variants, args.rounds)
    rows = [
        replace(row, note=note(row, each, clips, operations, peak))
        for row, (each, clips) in zip(group.rows, described, strict=True)
    ]
    yield replace(group, rows=rows)
    if not exported.temporary:
        store(folder, manifest, rows, described, args.device or device_here())


def open_all(
    exported: Exported, manifest: Manifest, golden: tuple[Arrays, np.ndarray], args
) -> Iterator[Opened]:
    """The settings that this machine and the folder have; the log names what is left out."""
    device = args.device or device_here()
    for setting in settings(exported, manifest, args.precision, args.threads, device):
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
        except (BackendError, RuntimeError) as error:
            logger.info(f"left out: {label}: {' '.join(str(error).split())}")
            continue
        yield Opened(setting, backend, difference)


def settings(
    exported: Exported,
    manifest: Manifest,
    precisions: list[str],
    threads: list[int] | None,
    device: str,
) -> Iterator[Setting]:
    """Every program in every runtime that reads it; then the built model, where there is one."""
    missing = {kind: runtime.missing() for kind, runtime in RUNTIMES.items()}
    for kind, text in missing.items():
        if text:
            logger.info(f"left out: {kind}: {text}")
    for number, precision in itertools.product(threads or default_threads(), precisions):
        options = {"device": device, "precision": precision, "threads": number}
        for kind, program in programs_for(manifest, precision, device):
            if missing[kind]:
                continue
            yield Setting(kind, program, options)
            if precision == "fp32" and kind in OPTIONS and device == "cpu":
                yield Setting(kind, program, options | OPTIONS[kind])
        if exported.model is not None and precision == "fp32":
            yield Setting("eager", "", options)
            yield Setting("eager", "", {**options, "onednn": False})


def programs_for(manifest: Manifest, precision: str, device: str) -> Iterator[tuple[str, str]]:
    """(runtime, file name) of the programs that a runtime reads for a precision."""
    names = sorted(manifest.files)
    for kind, runtime in RUNTIMES.items():
        for suffix in runtime.reads(precision) if device in runtime.auto_rank else ():
            yield from ((kind, name) for name in names if name.endswith(suffix))


def device_here() -> str:
    """gpu where a runtime has one, else cpu."""
    return "gpu" if any(r.has_gpu() for r in RUNTIMES.values() if not r.missing()) else "cpu"


def default_threads() -> list[int]:
    """All cores; and half of them where there are several, since two may share one unit."""
    cores = num_cores()
    return [cores] if cores < 4 else [cores, cores // 2]


def clips_of(manifest: Manifest, clips: list[int]) -> list[int]:
    """Numbers of clips per run that the programs take."""
    fixed = next(spec.shape[0] for spec in manifest.inputs.values())
    return sorted(set(clips)) if fixed is None else [fixed]


# --- numbers --------------------------------------------------------------------------------------


def matrix_product(rounds: int) -> Group:
    """A matrix product: the speed that the processor can reach."""
    noise = np.random.default_rng(0).standard_normal((MATRIX, MATRIX))
    matrix = paddle.to_tensor(noise.astype(np.float32))
    product = timed(lambda: paddle.matmul(matrix, matrix).numpy())
    variant = Variant("paddle", product, lambda median: speed(2.0 * MATRIX**3, median, 0.0))
    return measure(f"matrix product, float32 {MATRIX} x {MATRIX}", "product", 1, [variant], rounds)


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


def variant(opened: Opened, threads: bool, golden: Arrays, clips: int) -> Variant:
    """A setting as a variant: seconds of a clip in runs of `clips` clips."""
    name = opened.setting.label(threads) + (f", {clips} clips" if clips > 1 else "")
    backend = opened.backend
    number = len(next(iter(golden.values())))
    inputs = {key: array[np.arange(clips) % number] for key, array in golden.items()}
    once = timed(lambda: backend.run(inputs))

    def seconds() -> float:
        time.sleep(PAUSE)  # idle threads of another runtime may still spin
        first = once()
        return (once() if first < QUICK else first) / clips

    return Variant(name, seconds)


def note(row: Row, opened: Opened, clips: int, operations: float, peak: float) -> str:
    """The last column of a row."""
    middle, high = (1000 * clips * np.percentile(row.seconds, p) for p in (50, 95))
    texts = [f"p50 {middle:.4g} p95 {high:.4g} ms a run"]
    if opened.memory:
        texts.append(f"{opened.memory / 2**20:.0f} MB")
    if operations:
        texts.append(speed(operations, row.median, peak))
    return f"{', '.join(texts)}; {opened.backend.name}; logits differ by {opened.difference:.1e}"


def memory_of(setting: Setting, folder: Path, golden: Arrays, clips: int) -> int:
    """Largest resident memory of a process that opens and runs a setting (bytes); 0 if unknown."""
    if not setting.program or not Path("/proc/self/status").exists():
        return 0
    arguments = (str(folder / setting.program), setting.kind, setting.options, golden, clips)
    child = Child(memory_jobs, arguments, {})
    try:
        return child("memory")[1]
    except ChildProcessError as error:
        logger.warning(f"no memory of {setting.label(True)}: {error}")
        return 0
    finally:
        child.close()


def memory_jobs(program: str, kind: str, options: dict, golden: Arrays, clips: int) -> dict:
    """The job of a child process."""

    def memory() -> int:
        backend = open_backend(program, kind, max_batch=clips, **options)
        number = len(next(iter(golden.values())))
        backend.run({key: array[np.arange(clips) % number] for key, array in golden.items()})
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    return {"memory": memory}


def store(folder: Path, manifest: Manifest, rows: list[Row], described: list, device: str) -> None:
    """Store the rows for `auto`, and log the fastest in fp32."""
    found = []
    for row, (each, clips) in zip(rows, described, strict=True):
        setting, options = each.setting, each.setting.options
        own = (setting.kind, setting.program, manifest.files[setting.program], device)
        choice = (options["precision"], options["threads"], options.get("onednn"), clips)
        # Other programs only add time, so the shortest shows what the setting can do.
        numbers = (float(f"{min(row.seconds):.4g}"), float(f"{each.difference:.3g}"))
        found.append(measured.Row(*own, *choice, *numbers))
    best = measured.best_row(found, {}, device)
    try:
        path = measured.write_rows(folder, manifest, found)
    except OSError as error:
        logger.warning(f"not stored for --backend auto: {error}")
        return
    logger.info(f"stored in {path}, which --backend auto reads on this machine")
    if best:
        logger.info(
            f"the fastest in fp32: {best.kind} with {best.program}, {best.threads} threads, "
            f"{best.clips} clips per run, {1000 * best.seconds:.4g} ms a clip"
        )
