"""One small interface over the runtimes that can run an exported model.

    backend = open_backend("inference/ppTSN", "onnxruntime")
    logits = backend.run({"frames": array})   # named arrays as in backend.inputs -> float32 [N, K]

| kind        | reads             | needs                                    | runs on           |
| ---         | ---               | ---                                      | ---               |
| paddle      | .pdmodel, .json   | nothing more (Paddle Inference; oneDNN)  | CPU, GPU          |
| tensorrt    | .pdmodel          | a GPU build of Paddle with TensorRT      | GPU               |
| onnxruntime | .onnx             | pip install onnxruntime                  | CPU, GPU          |
| openvino    | .onnx, .pdmodel   | pip install openvino                     | CPU, Intel GPU    |
| eager       | a built model     | nothing more                             | CPU, GPU          |
"""

import importlib.util
from pathlib import Path

import paddle
from paddle import inference

from paddlevideo.runtimes.base import Backend, BackendError, Options, Program, reason
from paddlevideo.runtimes.eager import EagerBackend
from paddlevideo.runtimes.manifest import check_files, read_manifest
from paddlevideo.runtimes.onnx_runtime import OnnxRuntimeBackend
from paddlevideo.runtimes.openvino import OpenVINOBackend
from paddlevideo.runtimes.paddle_inference import PaddleBackend
from paddlevideo.sample import InputSpec

READS = {
    "paddle": (".pdmodel", ".json"),
    "tensorrt": (".pdmodel",),
    "onnxruntime": (".onnx",),
    "openvino": (".onnx", ".pdmodel"),
}
FORMAT_OF = {
    ".pdmodel": "pdmodel",
    ".json": "pir",
    ".onnx": "onnx",
}  # the --format that writes a file


# --- what there is -------------------------------------------------------------------------------------------------


def available_backends() -> dict[str, str]:
    """Each kind of backend -> "" where this machine can run it, else what is missing."""
    return {kind: _missing(kind) for kind in (*READS, "eager")}


def _missing(kind: str) -> str:
    if kind == "tensorrt":
        if not paddle.is_compiled_with_cuda():
            return f"paddlepaddle {paddle.__version__} here is the CPU build; install paddlepaddle-gpu with TensorRT"
        if inference.get_trt_compile_version() == (0, 0, 0):
            return f"this build of paddlepaddle-gpu {paddle.__version__} was made without TensorRT"
        wanted = ".".join(map(str, inference.get_trt_compile_version()))
        return (
            ""
            if inference.get_trt_runtime_version() != (0, 0, 0)
            else f"the TensorRT {wanted} library is not installed"
        )
    if kind in ("onnxruntime", "openvino") and importlib.util.find_spec(kind) is None:
        return f"pip install {kind}"
    return ""


def require(kind: str) -> None:
    """
    Raises:
        BackendError: this machine cannot run that kind; says what is missing and what there is.
    """
    found = available_backends()
    if kind not in found:
        raise BackendError(f"there is no backend {kind!r}; known: auto, {', '.join(found)}")
    if found[kind]:
        ready = ", ".join(name for name, missing in found.items() if not missing)
        raise BackendError(
            f"backend {kind} is not available: {found[kind]}. This machine has: {ready}"
        )


# --- opening -------------------------------------------------------------------------------------------------------


def open_backend(
    model: str | Path | paddle.nn.Layer,
    kind: str = "auto",
    params_file: str | Path | None = None,
    **options,
) -> Backend:
    """Make an exported model, or a built one, ready to run.

    Args:
        model: an exported folder; a .pdmodel, .json or .onnx file; or an `nn.Layer` with `.inputs`.
        kind: auto takes paddle where the folder has a Paddle program, and what reads the file otherwise.
        params_file: of a .pdmodel or .json; by default the .pdiparams beside it.
        options: see `Options`.

    Raises:
        BackendError: the kind is not available or does not read this file, or the file is damaged.
        ManifestError: the file is not the one that model.yaml beside it describes.
    """
    if isinstance(model, paddle.nn.Layer):
        if kind not in ("auto", "eager"):
            raise BackendError(
                f"backend {kind} runs exported programs; export the model first, or use eager"
            )
        return EagerBackend(model, Options(**options))
    if kind == "eager":
        raise BackendError(
            "backend eager runs a built model; give it a config and weights (--config, --weights)"
        )
    if kind != "auto":
        require(kind)
    program = find_program(Path(model), kind, params_file)
    if kind == "auto":
        readers = [
            k for k in ("paddle", "onnxruntime", "openvino") if program.model.suffix in READS[k]
        ]
        kind = next((k for k in readers if not _missing(k)), readers[0])
        require(kind)
    made = {
        "paddle": PaddleBackend,
        "tensorrt": PaddleBackend,
        "onnxruntime": OnnxRuntimeBackend,
        "openvino": OpenVINOBackend,
    }
    settings = Options(**options)
    try:
        return (
            made[kind](program, settings, tensorrt=True)
            if kind == "tensorrt"
            else made[kind](program, settings)
        )
    except BackendError:
        raise
    except (RuntimeError, ValueError, OSError, SystemError, MemoryError) as error:
        raise BackendError(f"{program.model}: {kind} cannot open it: {reason(error)}") from error


def find_program(path: Path, kind: str = "auto", params_file: str | Path | None = None) -> Program:
    """The program files that a folder or a file means, checked against the model.yaml beside them.

    Raises:
        BackendError: no such file, or none that this kind reads.
        ManifestError: model.yaml and the files do not belong together.
    """
    suffixes = tuple(FORMAT_OF) if kind == "auto" else READS[kind]
    manifest = read_manifest(path if path.is_dir() else path.parent)
    file = _in_folder(path, manifest, kind, suffixes) if path.is_dir() else path
    if file.suffix not in suffixes:
        formats = " or ".join(FORMAT_OF[s] for s in suffixes)
        raise BackendError(
            f"{file}: {kind if kind != 'auto' else 'a backend'} reads {', '.join(suffixes)}; export with --format {formats}"
        )
    params = None if file.suffix == ".onnx" else Path(params_file or file.with_suffix(".pdiparams"))
    files = [f for f in (file, params) if f]
    for f in files:
        if not f.is_file():
            raise BackendError(
                f"{f}: there is no such file; give the exported folder, or both program and .pdiparams"
            )
    inputs: dict[str, InputSpec] = {}
    # A program of the same name that the manifest does not list is left over from other weights.
    if manifest is not None and (
        path.is_dir() or file.stem in {Path(name).stem for name in manifest.files}
    ):
        check_files(manifest, [f for f in files if f.parent == file.parent])
        inputs = dict(manifest.inputs)
    return Program(file, params, inputs)


def _in_folder(folder: Path, manifest, kind: str, suffixes: tuple[str, ...]) -> Path:
    names = list(manifest.files) if manifest else sorted(p.name for p in folder.iterdir())
    # A folder may hold other .json files; a program has its parameters beside it.
    programs = [
        n
        for n in names
        if n.endswith(".onnx")
        or (Path(n).suffix in FORMAT_OF and Path(n).stem + ".pdiparams" in names)
    ]
    for suffix in suffixes:
        fitting = [folder / n for n in programs if n.endswith(suffix)]
        if len(fitting) > 1:
            raise BackendError(
                f"{folder}: holds {', '.join(f.name for f in fitting)}; say which with --model_file"
            )
        if fitting:
            return fitting[0]
    formats = " or ".join(FORMAT_OF[s] for s in suffixes)
    raise BackendError(
        f"{folder}: no program that {kind if kind != 'auto' else 'a backend'} reads ({', '.join(suffixes)}), "
        f"found {', '.join(programs) or 'none at all'}; export with --format {formats}"
    )
