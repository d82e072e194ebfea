"""A double of a GPU build of Paddle, made of the signatures of the installed build.

    gpu = GpuBuild(monkeypatch, num_gpus=2)
    dist.choose_device(None)          # ("gpu:0", "")
    gpu.calls("set_device")           # [{"device": "gpu:0"}]

Every call is recorded. A call with an argument that the real function does not have, or with too
few or too many, raises a TypeError, as the real one does. Tensors are on the CPU, whatever the
device is called; so all numbers are those of a CPU. Whatever makes the host wait for a GPU is
recorded as a wait: a value that is read, and a copy that is not queued.
"""

import contextlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import paddle
import paddle.distributed
from paddle import inference
from paddle.amp import grad_scaler

NOT_FOUND = "(NotFound) TensorRT is needed, but TensorRT dynamic library is not found."
READS = ("numpy", "item", "tolist", "__float__", "__int__", "__bool__", "__array__")
# From python/paddle/tensorrt/export.py of Paddle 3.3, which builds for a CPU leave out.
CONVERT = "(model_path, config)"
INPUT = (
    "(warmup_data=None, min_input_shape=None, max_input_shape=None, optim_input_shape=None, "
    "input_data_type='float32', input_range=None, name=None)"
)
TENSORRT_CONFIG = (
    "(inputs, min_subgraph_size=3, save_model_dir=None, disable_ops=None, precision_mode='FP32', "
    "ops_run_float=None, optimization_level=3, disable_passes=[], workspace_size=1 << 30, "
    "use_cuda_graph=False, refit_params_path=None)"
)


def signature_of(function: Any) -> inspect.Signature:
    """The signature of a Python function, or of a pybind function from the first line of its help.

    Raises:
        ValueError: neither is known.
    """
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        match = re.match(r"\w+\((.*)\) -> ", (function.__doc__ or "").lstrip())
        if match is None:
            raise ValueError(f"{function}: no signature is known") from None
        return parsed(match[1])


def parsed(text: str) -> inspect.Signature:
    """The signature of "self: A, size: int, device: int = 0"."""
    kind, parameters = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for part in _split(text):
        name, _, rest = part.partition(":")
        default = inspect.Parameter.empty if " = " not in rest else rest.rpartition(" = ")[2]
        parameters.append(inspect.Parameter(name.strip(), kind, default=default))
    return inspect.Signature(parameters)


def _split(text: str) -> list[str]:
    """Split at the commas outside of all brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


class GpuBuild:
    """Replaces Paddle's functions for the time of a test; see the module.

    Args:
        tensorrt: version that the build was compiled with.
        library: version of TensorRT's library; None where it is not installed.
    """

    def __init__(
        self, monkeypatch: Any, num_gpus: int = 1, tensorrt=(8, 6, 1), library: Any = (8, 6, 1)
    ):
        self.patch, self.num_gpus, self.capability = monkeypatch, num_gpus, (8, 6)
        self.record: list[tuple[str, dict[str, Any]]] = []
        self.inputs, self.num_classes = ["frames"], 3  # of a predictor
        self.waits: list[str] = []
        self.device = paddle.get_device()
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)  # Paddle 3.3.0 sets it to 0
        self._inside = 0
        self._devices()
        self._mixed_precision()
        self._ranks()
        self._inference(tensorrt, library)

    def calls(self, name: str) -> list[dict[str, Any]]:
        """The arguments of each call of a function, by name."""
        return [arguments for called, arguments in self.record if called == name]

    def checked(self, name: str, real: Any, result: Any = None) -> Callable:
        """A function that checks its call against `real`, records it, and returns `result`.

        Args:
            result: a value, or a function of the arguments.
        """
        signature = real if isinstance(real, inspect.Signature) else signature_of(real)

        def double(*args, **kwargs):
            arguments = dict(signature.bind(*args, **kwargs).arguments)
            self.record.append((name, arguments))
            return result(*args, **kwargs) if callable(result) else result

        return double

    def replace(self, owner: Any, name: str, result: Any = None, real: Any = None) -> None:
        """Replace a function of a module or class by its double."""
        double = self.checked(name, real or getattr(owner, name), result)
        self.patch.setattr(owner, name, double)

    # --- devices --------------------------------------------------------------------------------

    def _devices(self) -> None:
        cuda = paddle.device.cuda
        self.replace(paddle, "is_compiled_with_cuda", True)
        # Paddle itself, which seeds each GPU, finds none.
        core: Any = paddle.base.core
        self.patch.setattr(core, "get_cuda_device_count", lambda: 0, raising=False)
        self.replace(cuda, "device_count", lambda: self.num_gpus)
        self.replace(paddle, "set_device", self._set_device)
        self.replace(paddle, "get_device", lambda: self.device)
        self.replace(cuda, "get_device_properties", self._properties)
        self.replace(cuda, "max_memory_allocated", 300 << 20)
        self.replace(cuda, "max_memory_reserved", 500 << 20)
        self.replace(cuda, "current_stream", "stream")
        self.replace(cuda, "synchronize", lambda *_: self.waits.append("synchronize"))
        self.patch.setattr(cuda, "Event", self._event_class())
        self.patch.setattr(paddle, "CUDAPinnedPlace", lambda: "pinned")
        self._tensors()

    def _set_device(self, device: str) -> str:
        kind, _, number = device.partition(":")
        if kind == "gpu" and int(number or 0) >= self.num_gpus:
            raise SystemExit("Cannot use GPU because there is no GPU detected on your machine.")
        self.device = device if kind == "cpu" else f"gpu:{number or 0}"
        return self.device

    def _properties(self, device: Any = None) -> SimpleNamespace:
        if not self.num_gpus:
            raise IndexError("(OutOfRange) The device id 0 is out of range [0, 0)")
        major, minor = self.capability
        return SimpleNamespace(name="Double", major=major, minor=minor, total_memory=16 << 30)

    def _event_class(self) -> Any:
        """CUDA events. A build for a CPU leaves out their methods."""
        methods = {
            "__init__": (
                "self, enable_timing: bool = False, blocking: bool = False, "
                "interprocess: bool = False",
                None,
            ),
            "record": ("self, stream: CUDAStream = None", None),
            # Copies take a while, so that pinned memory is held.
            "query": ("self", False),
            "synchronize": ("self", None),
        }
        doubles = {
            name: self.checked(f"Event.{name}", parsed(text), result)
            for name, (text, result) in methods.items()
        }
        return type("Event", (), doubles)

    def _tensors(self) -> None:
        """Tensors that note what makes the host wait for a GPU."""
        real_tensor, tensor_class = paddle.to_tensor, paddle.Tensor

        def to_tensor(data, dtype=None, place=None, stop_gradient=True):
            if place == "pinned":
                self.record.append(("pin", {"shape": list(np.shape(data))}))
            elif self.on_gpu() and isinstance(data, np.ndarray | list):
                self.waits.append(f"to_tensor {np.shape(data)}")
            place = None if place == "pinned" else place
            with self._unseen():
                return real_tensor(data, dtype, place, stop_gradient)

        def cuda(tensor, device_id=None, blocking=True):
            self.record.append(("cuda", {"device_id": device_id, "blocking": blocking}))
            if blocking:
                self.waits.append("cuda")
            return tensor

        signature_of(tensor_class.cuda).bind(None, device_id=0, blocking=False)
        self.patch.setattr(paddle, "to_tensor", to_tensor)
        self.patch.setattr(tensor_class, "cuda", cuda)
        for name in READS:
            self.patch.setattr(tensor_class, name, self._noted(name, getattr(tensor_class, name)))

    def _noted(self, name: str, real: Callable) -> Callable:
        def read(tensor, *args, **kwargs):
            if self.on_gpu():
                self.waits.append(name)
            with self._unseen():
                return real(tensor, *args, **kwargs)

        return read

    def on_gpu(self) -> bool:
        """Whether the code under test, and not Paddle itself, works on a GPU."""
        return self.device.startswith("gpu") and not self._inside

    @contextlib.contextmanager
    def _unseen(self):
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    # --- training -------------------------------------------------------------------------------

    def _mixed_precision(self) -> None:
        amp = paddle.amp
        state = amp.auto_cast.__globals__["amp_global_state"]()
        self.patch.setattr(state, "amp_dtype", "float32")

        def auto_cast(*_, dtype="float16", **__):
            state.amp_dtype = dtype  # as in Paddle, it stays, and a scaler looks at it
            return contextlib.nullcontext()

        # A gradient scaler is a real one; it asks for the device when it is made.
        tracer = SimpleNamespace(_expected_place=SimpleNamespace(is_gpu_place=self.on_gpu))
        self.patch.setattr(grad_scaler, "_dygraph_tracer", lambda: tracer)
        self.replace(amp, "auto_cast", auto_cast)
        self.replace(amp, "is_float16_supported", lambda *_: self.capability >= (7, 0))
        self.replace(amp, "is_bfloat16_supported", lambda *_: self.capability >= (8, 0))
        self.replace(amp, "decorate", lambda models, optimizers, *_, **__: (models, optimizers))
        self.replace(paddle, "set_flags")

    def _ranks(self) -> None:
        self.replace(paddle.distributed, "init_parallel_env")
        convert = paddle.nn.SyncBatchNorm.convert_sync_batchnorm
        self.replace(paddle.nn.SyncBatchNorm, "convert_sync_batchnorm", convert)
        self.patch.setattr(
            paddle, "DataParallel", self.checked("DataParallel", paddle.DataParallel, lambda x: x)
        )

    # --- inference ------------------------------------------------------------------------------

    def _inference(self, tensorrt: tuple[int, int, int], library: Any) -> None:
        def runtime() -> tuple[int, int, int]:
            if library is None:
                raise RuntimeError(f"\nC++ Traceback\n{NOT_FOUND}\n  [Hint: null.]")
            return library

        self.replace(inference, "get_trt_compile_version", lambda: tensorrt)
        self.replace(inference, "get_trt_runtime_version", runtime)
        self.patch.setattr(inference, "Config", self._config_class(inference.Config))
        self.replace(inference, "create_predictor", self._predictor)

    def _config_class(self, real: Any) -> Any:
        """A class with the methods of `inference.Config`."""
        gpu = self

        class Config:
            def __init__(self, *files):
                if len(files) > 2 or not all(isinstance(file, str) for file in files):
                    raise TypeError(f"Config takes up to two paths, was given {files}")
                self.files = files
                gpu.record.append(("Config", {"files": files}))

        for name in dir(real):
            method = getattr(real, name)
            known = callable(method) and "Overloaded function" not in (method.__doc__ or "")
            if not name.startswith("_") and known and not inspect.isclass(method):
                # A real configuration of a GPU reports oneDNN as enabled, too.
                result = name == "mkldnn_enabled"
                setattr(Config, name, self.checked(name, method, result))
        return Config

    def _predictor(self, config: Any) -> Any:
        return Predictor(self, config)

    def add_convert(self) -> None:
        """Add `paddle.tensorrt`, which writes empty programs."""

        def convert(model_path, config):
            for suffix, text in ((".json", "{}"), (".pdiparams", "")):
                with open(config.save_model_dir + suffix, "w") as file:
                    file.write(text)

        def settings(**kwargs):
            return SimpleNamespace(**kwargs)

        package, module = ModuleType("paddle.tensorrt"), ModuleType("paddle.tensorrt.export")
        package.__spec__ = module.__spec__ = SimpleNamespace(name="x")  # pyright: ignore
        package.__path__ = []
        double: Any = module
        names = {"convert": CONVERT, "Input": INPUT, "TensorRTConfig": TENSORRT_CONFIG}
        for name, text in names.items():
            function: Any = eval(f"lambda {text[1:-1]}: None")
            result = convert if name == "convert" else settings
            setattr(double, name, self.checked(name, inspect.signature(function), result))
        double.PrecisionMode = SimpleNamespace(FP32="FP32", FP16="FP16")
        self.patch.setitem(sys.modules, "paddle.tensorrt", package)
        self.patch.setitem(sys.modules, "paddle.tensorrt.export", module)
        self.patch.setattr(paddle, "tensorrt", package, raising=False)


class Predictor:
    """A predictor of a GPU build, which writes the files that Paddle writes; its logits are 0.

    Engines of int8 need a table of ranges of activations where Paddle keeps engines. Without one,
    Paddle measures the ranges in each run, and writes the table when the predictor ends.
    """

    def __init__(self, gpu: GpuBuild, config: Any):
        self._gpu, self._files, self._batch = gpu, config.files, [1]
        gpu.record.append(("create_predictor", {"files": config.files}))
        for file in self._set(config, "collect_shape_range_info"):
            Path(file["arg0"]).write_text("shapes", encoding="utf-8")
        cache = [Path(call["arg0"]) for call in self._set(config, "set_optim_cache_dir")]
        self._measures = False
        for engine in self._set(config, "enable_tensorrt_engine"):
            tables = [file for folder in cache for file in folder.glob("trt_calib_*")]
            is_int8 = engine["precision_mode"] == inference.PrecisionType.Int8
            self._measures = is_int8 and engine["use_calib_mode"] and not tables
            if engine["use_static"] and not self._measures:
                (cache[0] / "trt_serialized_1").write_text("engine", encoding="utf-8")

    def _set(self, config: Any, name: str) -> list[dict[str, Any]]:
        return [call for call in self._gpu.calls(name) if call["self"] is config]

    def __del__(self):
        if self._measures and self._gpu.calls("run"):
            folder = Path(self._files[0]).parent / "_opt_cache"
            folder.mkdir(exist_ok=True)
            (folder / "trt_calib_1").write_text("ranges", encoding="utf-8")

    def get_input_names(self) -> list[str]:
        return self._gpu.inputs

    def get_output_names(self) -> list[str]:
        return ["logits"]

    def get_input_handle(self, name: str) -> Any:
        gpu, batch = self._gpu, self._batch  # a handle does not keep its predictor

        def copy_from_cpu(array: np.ndarray) -> None:
            batch[0] = len(array)
            gpu.record.append(("copy_from_cpu", {"name": name, "array": array}))

        return SimpleNamespace(copy_from_cpu=copy_from_cpu)

    def get_output_handle(self, name: str) -> Any:
        logits = np.zeros((self._batch[0], self._gpu.num_classes), np.float32)
        return SimpleNamespace(copy_to_cpu=lambda: logits)

    def run(self) -> None:
        self._gpu.record.append(("run", {}))
