"""Convolutions of a CPU by oneDNN, in dynamic mode too: Paddle ships the library, and calls it in static programs only.

Paddle's own convolution on a CPU copies every pixel under a kernel into a matrix (for the fast stem of SlowFast 735 times)
and multiplies that, a clip after the other. oneDNN multiplies in registers. Here its C interface is called directly on the
memory of Paddle's tensors: same layout, same numbers up to the order of additions (about 1e-6). Measured: docs/benchmarks.md.

    if onednn.supports_conv(x, weight, stride, padding):
        y = onednn.conv(x, weight, stride, padding)

Source: oneDNN developer guide, C API 3.x, https://uxlfoundation.github.io/oneDNN (convolution, reorder).
"""

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from ctypes import POINTER, Structure, byref, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import paddle
from paddle.autograd import PyLayer

# Values of the C interface, as dnnl_types.h has them in all of version 3.
_CPU, _FLOAT32, _ANY_FORMAT, _IN_ORDER, _DIRECT, _OPENMP = 1, 3, 1, 1, 1, 2
# What a forward convolution is prepared for. Not for inference (96): oneDNN 3.6.2, which Paddle 3.3 ships, then chooses its
# brgemm code, which reads and writes beside its memory at some sizes (one channel and a stride, a stride above the kernel).
_FORWARD_TRAINING = 64
_OWN_SCRATCHPAD = 1  # memory for intermediate results comes from the caller; oneDNN's own belongs to the thread that prepared
_SRC, _DST, _WEIGHTS, _DIFF_SRC, _DIFF_DST, _DIFF_WEIGHTS = (
    1,
    17,
    33,
    129,
    145,
    161,
)  # arguments of an execution
_SCRATCHPAD = 80
_MEMORY_OF = {
    _SRC: 129,
    _DIFF_SRC: 130,
    _WEIGHTS: 131,
    _DIFF_WEIGHTS: 132,
    _DST: 133,
    _DIFF_DST: 134,
    _SCRATCHPAD: 136,
}  # queries of a descriptor
_ALIGNMENT = 64  # bytes
_KEPT = 2048  # prepared convolutions; a multigrid run of SlowFast has about 160 a clip shape

Shape = tuple[int, ...]


class OneDNNError(RuntimeError):
    """oneDNN refused what it was asked for."""


class _Version(Structure):
    _fields_ = (
        *((name, c_int) for name in ("major", "minor", "patch")),
        ("hash", ctypes.c_char_p),
        *((name, ctypes.c_uint) for name in ("cpu_runtime", "gpu_runtime")),
    )


class _Argument(Structure):
    _fields_ = (("name", c_int), ("memory", c_void_p))


# --- the library ---------------------------------------------------------------------------------------------------


class _Library:
    """The C functions, an engine and a stream; `call` raises where a function says that it failed."""

    def __init__(self, folder: Path):
        self.dnnl = ctypes.CDLL(str(folder / "libdnnl.so.3"))
        self.openmp = ctypes.CDLL(str(folder / "libiomp5.so"))
        self.dnnl.dnnl_version.restype = POINTER(_Version)
        self.version = self.dnnl.dnnl_version().contents
        if self.version.major != 3 or self.version.cpu_runtime != _OPENMP:
            raise OSError(
                f"oneDNN {self.version.major} with runtime {self.version.cpu_runtime}; expected 3 with OpenMP"
            )
        self.dnnl.dnnl_primitive_desc_query_md.restype = c_void_p
        self.dnnl.dnnl_primitive_desc_query_md.argtypes = (c_void_p, c_int, c_int)
        self.dnnl.dnnl_memory_desc_get_size.restype = c_size_t
        self.dnnl.dnnl_memory_desc_get_size.argtypes = (c_void_p,)
        self.dnnl.dnnl_memory_desc_equal.argtypes = (c_void_p, c_void_p)
        self.dnnl.dnnl_memory_set_data_handle.argtypes = (c_void_p, c_void_p)
        self.engine = self.make("dnnl_engine_create", c_int(_CPU), c_size_t(0))
        self.attributes = self.make("dnnl_primitive_attr_create")
        self.call(
            "dnnl_primitive_attr_set_scratchpad_mode", self.attributes, c_int(_OWN_SCRATCHPAD)
        )
        self.stream = self.make("dnnl_stream_create", self.engine, c_int(_IN_ORDER))

    def call(self, function: str, *arguments) -> None:
        status = getattr(self.dnnl, function)(*arguments)
        if status:
            raise OneDNNError(
                f"{function} gave status {status}; onednn: false in the config computes without it"
            )

    def make(self, function: str, *arguments) -> c_void_p:
        """What a `*_create` function creates."""
        made = c_void_p()
        self.call(function, byref(made), *arguments)
        return made

    @property
    def threads(self) -> int:
        return self.openmp.omp_get_max_threads()


@functools.cache
def _library() -> _Library:
    """
    Raises:
        OSError: this installation of Paddle has none that is known here.
    """
    if not sys.platform.startswith("linux"):
        raise OSError(f"known on Linux only, not on {sys.platform}")
    return _Library(Path(paddle.__file__).parent / "libs")


_wanted: ContextVar[bool] = ContextVar("onednn", default=False)
_lock = threading.Lock()  # a prepared convolution and the workspace serve one call at a time


@functools.cache
def missing() -> str:
    """Why oneDNN cannot be used here, "" where it can."""
    try:
        _library()
    except (
        OSError,
        AttributeError,
    ) as error:  # no such file, another version, or no such function in it
        return str(error)
    return ""


@contextlib.contextmanager
def use(wanted: bool) -> Iterator[bool]:
    """Inside, convolutions of this thread run by oneDNN, or not; it is off outside of any `use`.

    Yields:
        whether it is on, which it cannot be where the library is missing.
    """
    token = _wanted.set(wanted)
    try:
        yield wanted and not missing()
    finally:
        _wanted.reset(token)


@paddle.jit.not_to_static  # a question, no part of a program
def supports_conv(
    x: paddle.Tensor, weight: paddle.Tensor, stride: Sequence[int], padding: Sequence[int]
) -> bool:
    """Whether these are to be convolved here: switched on, float32 in the memory of a CPU, and sizes that come out right.

    Sizes that do not fit each other are left to Paddle, whose messages say what is wrong; so are a stride above the kernel and
    a kernel above what padding leaves of an axis, for which oneDNN 3.6.2 has wrong gradients (tests/parts/models/test_onednn.py).
    """
    if not (_wanted.get() and paddle.in_dynamic_mode()) or missing():
        return False
    if not (
        x.place.is_cpu_place() and weight.place.is_cpu_place() and paddle.get_device() == "cpu"
    ):  # where results go
        return False
    if (
        not x.dtype == weight.dtype == paddle.float32
        or len(x.shape) != len(weight.shape)
        or x.shape[1] != weight.shape[1]
    ):
        return False
    if min(x.shape) == 0 or min(_output_shape(x.shape, weight.shape, stride, padding)) <= 0:
        return False
    axes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    return all(
        pad == 0 if kernel == 1 else step <= kernel <= size - pad
        for size, kernel, step, pad in axes
    )


# --- convolution ---------------------------------------------------------------------------------------------------


def conv(
    x: paddle.Tensor, weight: paddle.Tensor, stride: Sequence[int], padding: Sequence[int]
) -> paddle.Tensor:
    """Convolution without bias, groups or dilation, with zeros around; gradients as usual, but none of gradients.

    Args:
        x: float32 [N, C, ...] with one to three axes of space.
        weight: float32 [O, C, ...].
        stride, padding: per axis of space.

    Raises:
        OneDNNError: sizes that do not fit each other.
    """
    stride, padding = tuple(stride), tuple(padding)
    if paddle.is_grad_enabled() and not (x.stop_gradient and weight.stop_gradient):
        return _Convolution.apply(x, weight, stride, padding)
    return _forward(x, weight, stride, padding)


class _Convolution(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.sizes = (stride, padding)
        ctx.wanted = (not x.stop_gradient, not weight.stop_gradient)
        return _forward(x, weight, stride, padding)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensor()
        shapes = (tuple(x.shape), tuple(weight.shape), *ctx.sizes)
        of_x, of_weight = ctx.wanted
        grad_x = (
            _run("data", shapes, {_DIFF_DST: grad, _WEIGHTS: weight}, _DIFF_SRC, x.shape)
            if of_x
            else None
        )
        grad_weight = (
            _run("weights", shapes, {_SRC: x, _DIFF_DST: grad}, _DIFF_WEIGHTS, weight.shape)
            if of_weight
            else None
        )
        return grad_x, grad_weight


def _forward(x, weight, stride, padding) -> paddle.Tensor:
    shapes = (tuple(x.shape), tuple(weight.shape), stride, padding)
    return _run("forward", shapes, {_SRC: x, _WEIGHTS: weight}, _DST, _output_shape(*shapes))


def _run(
    kind, shapes, inputs: dict[int, paddle.Tensor], output: int, output_shape
) -> paddle.Tensor:
    result = paddle.empty(output_shape, "float32")
    tensors = {name: t if t.is_contiguous() else t.contiguous() for name, t in inputs.items()}
    with _lock:
        _prepared(kind, *shapes, _library().threads).run(
            {n: t.data_ptr() for n, t in tensors.items()} | {output: result.data_ptr()}
        )
    return result


def _output_shape(
    x: Sequence[int], weight: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Shape:
    space = zip(x[2:], weight[2:], stride, padding, strict=True)
    return (
        x[0],
        weight[0],
        *((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in space),
    )


@functools.lru_cache(_KEPT)
def _prepared(
    kind, x: Shape, weight: Shape, stride: Shape, padding: Shape, threads: int
) -> "_Prepared":
    """A convolution of these sizes, ready to run; it belongs to a number of threads."""
    return _Prepared(kind, x, weight, stride, padding)


class _Prepared:
    """One convolution and the conversions between Paddle's layout and those that it is fastest with.

    Args:
        kind: "forward", or the gradient of "data" or "weights".
    """

    def __init__(self, kind: str, x: Shape, weight: Shape, stride: Shape, padding: Shape):
        self._dnnl = _library().dnnl
        self._owned: list[tuple[str, c_void_p]] = []  # (function that frees it, handle)
        self._steps: list[tuple] = []
        self._bytes = 0  # of the workspace
        self._outer: dict[int, c_void_p] = {}  # Paddle's memory, by argument
        self._inner: list[tuple[c_void_p, int]] = []  # (memory, place in the workspace)
        y = _output_shape(x, weight, stride, padding)
        descriptor = self._descriptor(kind, x, weight, y, stride, padding)
        inputs, output = {
            "forward": ({_SRC: x, _WEIGHTS: weight}, (_DST, y)),
            "data": ({_DIFF_DST: y, _WEIGHTS: weight}, (_DIFF_SRC, x)),
            "weights": ({_SRC: x, _DIFF_DST: y}, (_DIFF_WEIGHTS, weight)),
        }[kind]
        arguments = [(name, self._into(descriptor, name, shape)) for name, shape in inputs.items()]
        result, conversion = self._out_of(descriptor, *output)
        self._step(descriptor, [*arguments, (output[0], result)])
        if conversion:
            self._step(*conversion)

    def run(self, addresses: dict[int, int]) -> None:
        """Compute.

        Args:
            addresses: of contiguous float32 memory, by argument.
        """
        library = _library()
        work = _workspace(self._bytes)
        for name, memory in self._outer.items():
            library.dnnl.dnnl_memory_set_data_handle(memory, addresses[name])
        for memory, place in self._inner:
            library.dnnl.dnnl_memory_set_data_handle(memory, work + place)
        for primitive, count, arguments in self._steps:
            library.call("dnnl_primitive_execute", primitive, library.stream, count, arguments)

    def _descriptor(self, kind, x, weight, y, stride, padding) -> c_void_p:
        """Of the convolution, with the layouts left to it."""
        library = _library()
        sizes = [
            self._own("dnnl_memory_desc_destroy", _free_layout(shape)) for shape in (x, weight, y)
        ]
        space = (_dims(stride), _dims((0,) * len(stride)), _dims(padding), _dims(padding))
        create, destroy = "dnnl_convolution_{}_primitive_desc_create", "dnnl_primitive_desc_destroy"
        source, kernel, target = sizes
        made = library.make(
            create.format("forward"),
            library.engine,
            c_int(_FORWARD_TRAINING),
            _DIRECT,
            source,
            kernel,
            None,
            target,
            *space,
            library.attributes,
        )
        self._own(destroy, made)
        if kind == "forward":
            return made
        bias = (None,) if kind == "weights" else ()
        shapes = (source, kernel, *bias, target)
        gradient = library.make(
            create.format(f"backward_{kind}"),
            library.engine,
            _DIRECT,
            *shapes,
            *space,
            made,
            library.attributes,
        )
        return self._own(destroy, gradient)

    def _into(self, descriptor: c_void_p, name: int, shape: Shape) -> c_void_p:
        """The memory that the convolution reads, converted from Paddle's where the layouts differ."""
        plain, wanted = self._plain(shape), _layout(descriptor, name)
        outer = self._outer[name] = self._memory(plain)
        if _library().dnnl.dnnl_memory_desc_equal(plain, wanted):
            return outer
        inner = self._temporary(wanted)
        self._step(self._conversion(plain, wanted), [(_SRC, outer), (_DST, inner)])
        return inner

    def _out_of(
        self, descriptor: c_void_p, name: int, shape: Shape
    ) -> tuple[c_void_p, tuple | None]:
        """The memory that the convolution writes, and the step that converts it to Paddle's where the layouts differ."""
        plain, wanted = self._plain(shape), _layout(descriptor, name)
        outer = self._outer[name] = self._memory(plain)
        if _library().dnnl.dnnl_memory_desc_equal(plain, wanted):
            return outer, None
        inner = self._temporary(wanted)
        return inner, (self._conversion(wanted, plain), [(_SRC, inner), (_DST, outer)])

    def _plain(self, shape: Shape) -> c_void_p:
        """Paddle's layout: contiguous, the last axis without gaps."""
        strides = [1]
        for size in shape[:0:-1]:
            strides.insert(0, strides[0] * size)
        layout = (
            "dnnl_memory_desc_create_with_strides",
            c_int(len(shape)),
            _dims(shape),
            c_int(_FLOAT32),
            _dims(strides),
        )
        return self._own("dnnl_memory_desc_destroy", _library().make(*layout))

    def _conversion(self, source: c_void_p, target: c_void_p) -> c_void_p:
        library = _library()
        ends = (source, library.engine, target, library.engine)
        made = library.make("dnnl_reorder_primitive_desc_create", *ends, library.attributes)
        return self._own("dnnl_primitive_desc_destroy", made)

    def _memory(self, layout: c_void_p) -> c_void_p:
        return self._own(
            "dnnl_memory_destroy",
            _library().make("dnnl_memory_create", layout, _library().engine, None),
        )

    def _temporary(self, layout: c_void_p) -> c_void_p:
        memory = self._memory(layout)
        self._inner.append((memory, self._bytes))
        size = _library().dnnl.dnnl_memory_desc_get_size(layout)
        self._bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        return memory

    def _step(self, descriptor: c_void_p, arguments: list[tuple[int, c_void_p]]) -> None:
        scratch = _layout(descriptor, _SCRATCHPAD)
        if _library().dnnl.dnnl_memory_desc_get_size(scratch):
            arguments = [*arguments, (_SCRATCHPAD, self._temporary(scratch))]
        primitive = self._own(
            "dnnl_primitive_destroy", _library().make("dnnl_primitive_create", descriptor)
        )
        packed = (_Argument * len(arguments))(
            *(_Argument(name, memory) for name, memory in arguments)
        )
        self._steps.append((primitive, c_int(len(arguments)), packed))

    def _own(self, destroy: str, handle: c_void_p) -> c_void_p:
        self._owned.append((destroy, handle))
        return handle

    def __del__(self):
        if not sys.is_finalizing():
            for destroy, handle in reversed(self._owned):
                getattr(self._dnnl, destroy)(handle)


def _dims(values) -> ctypes.Array:
    return (c_int64 * 12)(*values)


def _free_layout(shape: Shape) -> c_void_p:
    layout = (
        "dnnl_memory_desc_create_with_tag",
        c_int(len(shape)),
        _dims(shape),
        c_int(_FLOAT32),
        c_int(_ANY_FORMAT),
    )
    return _library().make(*layout)


def _layout(descriptor: c_void_p, name: int) -> c_void_p:
    """The layout that a convolution has chosen for an argument; it lives as long as the descriptor."""
    return c_void_p(_library().dnnl.dnnl_primitive_desc_query_md(descriptor, _MEMORY_OF[name], 0))


class _Workspace:
    """Memory between conversion and convolution, kept and grown: a fresh allocation costs as much as the conversion."""

    def __init__(self):
        self._buffer = None
        self._size = -1

    def __call__(self, size: int) -> int:
        """The address of at least `size` bytes."""
        if size > self._size:
            self._buffer, self._size = None, -1  # freed before the larger one is taken
            self._buffer = paddle.empty([size + _ALIGNMENT], "uint8")
            self._size = size
        address = self._buffer.data_ptr()
        return -(-address // _ALIGNMENT) * _ALIGNMENT


_workspace = _Workspace()
