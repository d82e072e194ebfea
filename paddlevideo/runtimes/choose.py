"""Finds the runtimes, and opens a model with one of them.

    backend = open_backend("inference/ppTSN", "onnxruntime")
    logits = backend.run({"frames": array})  # arrays as in backend.inputs -> float32 [N, K]

| kind        | reads             | needs                                    | runs on           |
| ---         | ---               | ---                                      | ---               |
| paddle      | .pdmodel, .json   | nothing more (Paddle Inference; oneDNN)  | CPU, GPU          |
| tensorrt    | .pdmodel          | a GPU build of Paddle with TensorRT      | GPU               |
| onnxruntime | .onnx             | pip install onnxruntime                  | CPU, GPU          |
| openvino    | .onnx, .pdmodel,  | pip install openvino                     | CPU, Intel GPU    |
|             | .xml in int8      |                                          |                   |
| eager       | a built model     | nothing more                             | CPU, GPU          |

To add a runtime, add a file with a subclass of `Backend` to this folder, and its kind to the
choices of `--backend` (commands/predict.py).
"""

import importlib
import pkgutil
from pathlib import Path

import paddle

from paddlevideo import runtimes
from paddlevideo.config.shipped import typed
from paddlevideo.runtimes.base import Backend, BackendError, Options, Program, reason
from paddlevideo.runtimes.manifest import (
    INT8,
    PROGRAM_FILES,
    Manifest,
    check_files,
    exported_folder,
    read_manifest,
)
from paddlevideo.sample import InputSpec

# Suffix of a program -> the --format that writes it.
FORMAT_OF = {suffixes[0]: name for name, suffixes in PROGRAM_FILES.items()}
# Suffix of a program -> that of its weights; "" where the program contains them.
WEIGHTS_OF = {".pdmodel": ".pdiparams", ".json": ".pdiparams", ".onnx": "", ".xml": ".bin"}


# --- available runtimes ---------------------------------------------------------------------------


def _find_runtimes() -> dict[str, type[Backend]]:
    """{kind: class} of every runtime in this folder: those of `auto` first, then by name."""
    classes: list[type[Backend]] = []
    for module in pkgutil.iter_modules(runtimes.__path__, f"{runtimes.__name__}."):
        if module.name != __name__:
            values = vars(importlib.import_module(module.name)).values()
            classes += [value for value in values if isinstance(value, type)]
    by_kind = {c.kind: c for c in classes if issubclass(c, Backend) and c.kind}

    def order(kind: str) -> tuple[bool, int, str]:
        priority = by_kind[kind].auto_priority
        return priority is None, priority or 0, kind

    return {kind: by_kind[kind] for kind in sorted(by_kind, key=order)}


RUNTIMES = _find_runtimes()


def available_backends() -> dict[str, str]:
    """{kind: what this machine lacks for it, "" where it can run}, of every runtime."""
    return {kind: runtime.missing() for kind, runtime in RUNTIMES.items()}


def readers(suffix: str, precision: str = "fp32") -> list[str]:
    """The kinds that `auto` tries for programs with this suffix, the preferred one first."""
    return [
        kind
        for kind, runtime in RUNTIMES.items()
        if runtime.auto_priority is not None and suffix in runtime.reads(precision)
    ]


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
        kind: a kind of runtime. auto is paddle where the folder has a Paddle program, else a
            runtime that reads the file.
        params_file: weights of a .pdmodel or .json; by default the .pdiparams next to it.
        options: see `Options`. Precision int8 selects the int8 program of the folder.

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
        return RUNTIMES[for_models[0] if kind == "auto" else kind](model, Options(**options))
    if kind in for_models:
        raise BackendError(
            f"backend {kind} runs a built model; give it a config and weights (--config, --weights)"
        )
    if kind != "auto":
        require(kind)
    settings = Options(**options)
    precision = settings.precision
    program = find_program(Path(model), kind, params_file, precision)
    if kind == "auto":
        suffix = program.model.suffix
        kind = [*available_readers(suffix, precision), *readers(suffix, precision)][0]
        require(kind)
    try:
        return RUNTIMES[kind](program, settings)
    except BackendError:
        raise
    except (RuntimeError, ValueError, OSError, SystemError, MemoryError) as error:
        raise BackendError(f"{program.model}: {kind} cannot open it: {reason(error)}") from error


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
        precision: int8 finds programs that tools/quantize.py wrote, any other finds the others.

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
            able = [name for name, runtime in RUNTIMES.items() if runtime.int8_suffixes]
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
