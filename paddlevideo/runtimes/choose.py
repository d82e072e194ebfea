"""Finds the runtimes, and opens a model with one of them.

    backend = open_backend("inference/ppTSN", "onnxruntime")
    logits = backend.run({"frames": array})  # arrays as in backend.inputs -> float32 [N, K]

| kind        | reads             | needs                                    | runs on           |
| ---         | ---               | ---                                      | ---               |
| paddle      | .pdmodel, .json   | nothing more (Paddle Inference; oneDNN)  | CPU, GPU          |
| tensorrt    | .pdmodel, .json   | a GPU build of Paddle with TensorRT      | GPU               |
| onnxruntime | .onnx             | pip install onnxruntime                  | CPU, GPU          |
| openvino    | .onnx, .pdmodel,  | pip install openvino                     | CPU, Intel GPU    |
|             | .xml in int8      |                                          |                   |
| eager       | a built model     | nothing more                             | CPU, GPU          |

`auto` is described in auto.py. To add a runtime, add a file with a subclass of `Backend` to this
folder, and its kind to the choices of `--backend` (commands/predict.py).
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle

from paddlevideo import runtimes
from paddlevideo.config.shipped import typed
from paddlevideo.log import logger
from paddlevideo.runtimes.auto import LOWER, MOST_LOSS, Try, by_rank, tries
from paddlevideo.runtimes.base import Backend, BackendError, Options, Program, reason
from paddlevideo.runtimes.golden import golden_difference, read_golden
from paddlevideo.runtimes.manifest import (
    INT8,
    PROGRAM_FILES,
    Manifest,
    check_files,
    exported_folder,
    read_manifest,
)
from paddlevideo.runtimes.measured import FILE as MEASURED
from paddlevideo.runtimes.measured import Row, read_rows
from paddlevideo.sample import InputSpec

# Suffix of a program -> the --format that writes it.
FORMAT_OF = {suffixes[0]: name for name, suffixes in PROGRAM_FILES.items()}
# Suffix of a program -> that of its weights; "" where the program contains them.
WEIGHTS_OF = {".pdmodel": ".pdiparams", ".json": ".pdiparams", ".onnx": "", ".xml": ".bin"}


# --- available runtimes ---------------------------------------------------------------------------


def _find_runtimes() -> dict[str, type[Backend]]:
    """{kind: class} of every runtime in this folder, those of `auto` on any device first."""
    classes: list[type[Backend]] = []
    for module in pkgutil.iter_modules(runtimes.__path__, f"{runtimes.__name__}."):
        if module.name != __name__:
            values = vars(importlib.import_module(module.name)).values()
            classes += [value for value in values if isinstance(value, type)]
    by_kind = {c.kind: c for c in classes if issubclass(c, Backend) and c.kind}

    def order(kind: str) -> tuple[bool, bool, int, str]:
        ranks = by_kind[kind].auto_rank
        return len(ranks) < 2, "cpu" not in ranks, ranks.get("cpu", 0), kind

    return {kind: by_kind[kind] for kind in sorted(by_kind, key=order)}


RUNTIMES = _find_runtimes()


def available_backends() -> dict[str, str]:
    """{kind: what this machine lacks for it, "" where it can run}, of every runtime."""
    return {kind: runtime.missing() for kind, runtime in RUNTIMES.items()}


def readers(suffix: str, precision: str = "fp32") -> list[str]:
    """The kinds that `auto` tries on a CPU for programs with this suffix, the preferred first."""
    kinds = by_rank(RUNTIMES, "cpu")
    return [kind for kind in kinds if suffix in RUNTIMES[kind].reads(precision)]


def available_readers(suffix: str, precision: str = "fp32") -> list[str]:
    """Those of `readers(suffix, precision)` that this machine can run."""
    return [kind for kind in readers(suffix, precision) if not RUNTIMES[kind].missing()]


def require(kind: str) -> None:
    """Check that this machine can run a kind of runtime.

    Raises:
        BackendError: it cannot; the message names what is missing and what is available.
    """
    available = available_backends()
    if kind not in available:
        raise BackendError(f"there is no backend {kind!r}; known: auto, {', '.join(available)}")
    if available[kind]:
        ready = ", ".join(name for name, missing in available.items() if not missing)
        raise BackendError(
            f"backend {kind} is not available: {available[kind]}. This machine has: {ready}"
        )


# --- opening --------------------------------------------------------------------------------------


def open_backend(
    model: str | Path | paddle.nn.Layer,
    kind: str = "auto",
    params_file: str | Path | None = None,
    **options,
) -> Backend:
    """Open an exported model, or a built one, in a runtime.

    Args:
        model: an exported folder, or that of the run; a .pdmodel, .json or .onnx file, or an .xml
            in int8; or a built `Recognizer`.
        kind: a kind of runtime. auto is the fastest that was measured on this machine, else the
            first that can open a program of the folder, in the order of auto.py. It computes in
            fp32 unless `precision` asks for another.
        params_file: weights of a .pdmodel or .json; by default the .pdiparams next to it.
        options: see `Options`. Precision int8 selects the int8 program of the folder; auto is a
            lower one where the outputs for the golden inputs stay close; the log says which, and
            how close.

    Raises:
        BackendError: the runtime is not available or does not read this file, or the file is
            damaged.
        ManifestError: the file is not the one that the model.yaml next to it describes.
    """
    for_models = [name for name, runtime in RUNTIMES.items() if runtime.runs_models]
    if isinstance(model, paddle.nn.Layer):
        if kind not in ("auto", *for_models):
            raise BackendError(
                f"backend {kind} runs exported programs; export the model first, "
                f"or use {' or '.join(for_models)}"
            )
        if options.get("precision") == "auto":
            logger.info("precision auto: fp32, because a built model has no golden inputs")
            options["precision"] = "fp32"
        return RUNTIMES[for_models[0] if kind == "auto" else kind](model, Options(**options))
    if kind in for_models:
        raise BackendError(
            f"backend {kind} runs a built model; give it a config and weights (--config, --weights)"
        )
    if kind != "auto":
        require(kind)
    path = Path(model)
    if options.get("precision") == "auto":
        return _open_lower(path, kind, params_file, options)
    if kind != "auto":
        precision = Options(**options).precision
        return open_program(kind, find_program(path, kind, params_file, precision), options)
    return _open_auto(path, params_file, options, measured_rows(path))


def open_program(kind: str, program: Program, options: Mapping[str, Any]) -> Backend:
    """Open a program in a runtime that this machine has.

    Args:
        options: see `Options`.

    Raises:
        BackendError: it cannot open it.
    """
    settings = Options(**options)
    try:
        return RUNTIMES[kind](program, settings)
    except BackendError:
        raise
    except (RuntimeError, ValueError, OSError, SystemError, MemoryError) as error:
        raise BackendError(f"{program.model}: {kind} cannot open it: {reason(error)}") from error


# --- auto -----------------------------------------------------------------------------------------


def measured_rows(path: Path) -> list[Row]:
    """What tools/benchmark.py measured on this machine for the programs of a folder."""
    folder = exported_folder(path)
    manifest = read_manifest(folder) if (folder / MEASURED).exists() else None
    return read_rows(folder, manifest) if manifest else []


def _available(kind: str = "auto") -> list[str]:
    """The kinds to choose from: those that this machine has, or the one that was asked for."""
    kinds = RUNTIMES if kind == "auto" else (kind,)
    return [name for name in kinds if not RUNTIMES[name].missing()]


def _open_auto(
    path: Path, params_file: str | Path | None, options: Mapping[str, Any], rows: list[Row]
) -> Backend:
    """Open a program in the first runtime that can; the log names those that cannot.

    Raises:
        BackendError: there is no program, or no runtime can open it.
        ManifestError: a program has changed since it was exported.
    """
    failures = []
    for attempt in tries(RUNTIMES, _available(), options, rows):
        try:
            program = _program_for(attempt, path, params_file)
        except BackendError:
            continue  # the folder has no program that this runtime reads
        try:
            backend = _open_try(attempt, program)
        except BackendError as error:
            failures.append(str(error))
            continue
        for failure in failures:
            logger.info(f"auto: {backend.name}, because {failure}")
        return backend
    if failures:
        raise BackendError("; ".join(dict.fromkeys(failures)))
    precision = Options(**options).precision
    suffix = find_program(path, "auto", params_file, precision).model.suffix  # or says what to do
    require(readers(suffix, precision)[0])
    raise BackendError(f"{path}: no runtime of auto reads {suffix} on this device")


def _program_for(attempt: Try, path: Path, params_file: str | Path | None) -> Program:
    precision = Options(**attempt.options).precision
    file = exported_folder(path) / attempt.row.program if attempt.row else path
    return find_program(file, attempt.kind, params_file, precision)


def _open_try(attempt: Try, program: Program) -> Backend:
    backend = open_program(attempt.kind, program, attempt.options)
    if attempt.row:
        backend.clips_per_run = attempt.row.clips
        logger.info(
            f"auto: {backend.name}, the fastest that was measured on this machine "
            f"({1000 * attempt.row.seconds:.3g} ms a clip)"
        )
    return backend


def _open_lower(
    path: Path, kind: str, params_file: str | Path | None, options: Mapping[str, Any]
) -> Backend:
    """Open a program in the fastest precision whose outputs are close to those of fp32.

    Closeness is measured on the golden inputs; without them, or where nothing is close, it is fp32.
    """
    folder = exported_folder(path)
    folder = folder if folder.is_dir() else folder.parent
    manifest = read_manifest(folder)
    golden = read_golden(folder, manifest) if manifest else None
    exact = {**options, "precision": "fp32"}
    if manifest is None or golden is None:
        logger.info(f"precision auto: fp32, because there is no golden.npz in {folder}")
        return open_backend(path, kind, params_file, **exact)
    # Engines are built for a largest batch, and the golden samples run together.
    fitting = {**options, "max_batch": max(Options(**exact).max_batch, len(golden[1]))}
    reason_for_fp32 = "no runtime has another"
    for attempt in _lower_tries(path, kind, fitting):
        try:
            backend = _open_try(attempt, _program_for(attempt, path, params_file))
            loss = golden_difference(backend, *golden, manifest.any_batch)
        except BackendError as error:
            reason_for_fp32 = str(error)
            continue
        precision = attempt.options["precision"]
        text = f"outputs for the golden inputs differ by {loss:.1e} of the largest"
        if loss <= MOST_LOSS:
            logger.info(f"precision auto: {precision} on {backend.name}; {text}")
            return backend
        reason_for_fp32 = f"in {precision} on {backend.name} the {text}"
    logger.info(f"precision auto: fp32, because {reason_for_fp32}")
    return open_backend(path, kind, params_file, **exact)


def _lower_tries(path: Path, kind: str, options: Mapping[str, Any]) -> list[Try]:
    """What `--precision auto` tries: what was measured, else a precision that the device may have.

    The fastest measured row may be one of fp32.
    """
    kinds, found = _available(kind), []
    for attempt in tries(RUNTIMES, kinds, options, measured_rows(path), MOST_LOSS):
        device = attempt.options["device"].partition(":")[0]
        lower = {**attempt.options, "precision": LOWER[device]}
        found.append(attempt if attempt.row else replace(attempt, options=lower))
    return found


def find_program(
    path: Path,
    kind: str = "auto",
    params_file: str | Path | None = None,
    precision: str = "fp32",
) -> Program:
    """Find the files of a program, and check them against the model.yaml next to them.

    Args:
        path: a program, an exported folder, or the folder of a run with `inference/`.
        kind: the runtime that has to read it; auto for any.
        params_file: its weights; by default the .pdiparams next to the program.
        precision: int8 finds programs that tools/quantize.py wrote, any other finds the others;
            TensorRT computes a .pdmodel in int8.

    Raises:
        BackendError: there is no such file, or none that this runtime reads.
        ManifestError: model.yaml and the files do not belong together.
    """
    path = exported_folder(path)
    suffixes = _suffixes(path, kind, precision)
    runtime = "a backend" if kind == "auto" else kind
    manifest = read_manifest(path if path.is_dir() else path.parent)
    file = _find_in_folder(path, manifest, runtime, suffixes) if path.is_dir() else path
    if file.suffix not in suffixes:
        fix = _fix(file.parent, suffixes)
        if file.suffix in _int8_suffixes():
            fix = "this may be an int8 program, which needs --precision int8"
        raise BackendError(f"{file}: {runtime} reads {', '.join(suffixes)}; {fix}")
    weights = WEIGHTS_OF[file.suffix]
    params = Path(params_file or file.with_suffix(weights)) if weights else None
    files = [f for f in (file, params) if f]
    for f in files:
        if not f.is_file():
            raise BackendError(
                f"{f}: there is no such file; "
                f"give the exported folder, or both the program and its {weights or 'weights'}"
            )
    inputs: dict[str, InputSpec] = {}
    # A program that is not in the manifest, although its stem is, is left over from an export of
    # other weights; `check_files` refuses it.
    stems = {Path(name).stem for name in manifest.files} if manifest else set()
    if manifest and (path.is_dir() or {file.stem, file.stem.removesuffix(INT8)} & stems):
        check_files(manifest, [f for f in files if f.parent == file.parent])
        inputs = dict(manifest.inputs)
    return Program(file, params, inputs)


def _find_in_folder(
    folder: Path, manifest: Manifest | None, runtime: str, suffixes: tuple[str, ...]
) -> Path:
    names = list(manifest.files) if manifest else sorted(p.name for p in folder.iterdir())
    programs = [name for name in names if _is_program(Path(name), names)]
    for suffix in suffixes:
        matches = [name for name in programs if name.endswith(suffix)]
        if len(matches) > 1:
            raise BackendError(
                f"{folder}: contains {', '.join(matches)}; choose one with --model_file"
            )
        if matches:
            return folder / matches[0]
    raise BackendError(
        f"{folder}: no program that {runtime} reads ({', '.join(suffixes)}), "
        f"found {', '.join(programs) or 'none at all'}; {_fix(folder, suffixes)}"
    )


def _is_program(file: Path, names: list[str]) -> bool:
    """Whether it is a program; weights next to it tell a Paddle program from other .json files."""
    weights = WEIGHTS_OF.get(file.suffix)
    return weights == "" or f"{file.stem}{weights}" in names


def _suffixes(path: Path, kind: str, precision: str) -> tuple[str, ...]:
    """Suffixes of the programs that a runtime reads for a precision.

    Raises:
        BackendError: the runtime computes no int8.
    """
    if precision == "int8":
        suffixes = _int8_suffixes() if kind == "auto" else RUNTIMES[kind].reads(precision)
        if not suffixes:
            able = [name for name, runtime in RUNTIMES.items() if runtime.reads(precision)]
            raise BackendError(
                f"{path}: backend {kind} computes no int8; use --backend {' or '.join(able)}"
            )
        return suffixes
    return tuple(FORMAT_OF) if kind == "auto" else RUNTIMES[kind].reads(precision)


def _int8_suffixes() -> tuple[str, ...]:
    return tuple(suffix for runtime in RUNTIMES.values() for suffix in runtime.int8_suffixes)


def _fix(folder: Path, suffixes: tuple[str, ...]) -> str:
    """How to get a program with one of these suffixes."""
    if not set(suffixes) & set(FORMAT_OF):
        quantize = typed("tools/quantize.py", "quantize")
        return f"quantize first: {quantize} -m {folder} --videos LIST"
    return f"export with --format {' or '.join(FORMAT_OF[s] for s in suffixes if s in FORMAT_OF)}"
