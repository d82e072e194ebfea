"""Convolutions on a CPU by oneDNN, in dynamic mode too, where Paddle itself does not use oneDNN.

Paddle's own CPU convolution copies every pixel under a kernel into a matrix (735 copies per pixel
for the fast stem of SlowFast) and multiplies that, one clip after the other. oneDNN multiplies in
registers. This module calls its C interface directly on the memory of Paddle's tensors: same
layout, same numbers up to the order of additions (about 1e-6). Measurements: docs/benchmarks.md.

    if onednn.supports_conv(x, weight, stride, padding):
        y = onednn.conv(x, weight, stride, padding)

Source: oneDNN developer guide, C API 3.x, https://uxlfoundation.github.io/oneDNN (convolution,
reorder).
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from ctypes import c_int, c_void_p
from typing import Literal

import paddle
from paddle.autograd import PyLayer

from paddlevideo.models.onednn_library import (
    DIFF_DST,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DIRECT,
    DST,
    FORWARD_TRAINING,
    SCRATCHPAD,
    SRC,
    WEIGHTS,
    Argument,
    OneDNNError,
    Shape,
    dimensions,
    library,
    missing,
)

__all__ = ["OneDNNError", "conv", "missing", "supports_conv", "use"]

_ALIGNMENT = 64  # bytes
# Number of prepared convolutions; a multigrid run of SlowFast has about 160 per clip shape.
_CACHE_SIZE = 2048

Kind = Literal["forward", "data", "weights"]  # the convolution, or the gradient of x or weight

_enabled: ContextVar[bool] = ContextVar("onednn", default=False)
_lock = threading.Lock()  # a prepared convolution and the workspace serve one call at a time


@contextlib.contextmanager
def use(enabled: bool) -> Iterator[bool]:
    """Switch convolutions of this thread to oneDNN, or away from it; outside of `use` it is off.

    Yields:
        whether it is on; it stays off where the library is missing.
    """
    token = _enabled.set(enabled)
    try:
        yield enabled and not missing()
    finally:
        _enabled.reset(token)


@paddle.jit.not_to_static  # a check, not part of a program
def supports_conv(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int = 1,
) -> bool:
    """Whether oneDNN computes this convolution: it is on, and the tensors are float32 on a CPU.

    Sizes that do not fit each other are left to Paddle, whose messages explain them. So are a
    stride larger than the kernel and a kernel larger than an axis minus its padding, for which
    oneDNN 3.6.2 has wrong gradients (tests/parts/models/test_onednn.py).
    """
    if not (_enabled.get() and paddle.in_dynamic_mode()) or missing():
        return False
    on_cpu = x.place.is_cpu_place() and weight.place.is_cpu_place()
    if not on_cpu or paddle.get_device() != "cpu":  # results are created on the default device
        return False
    if not x.dtype == weight.dtype == paddle.float32:
        return False
    if len(x.shape) != len(weight.shape) or x.shape[1] != weight.shape[1] * groups:
        return False
    if weight.shape[0] % groups:
        return False
    if min(x.shape) == 0 or min(_output_shape(x.shape, weight.shape, stride, padding)) <= 0:
        return False
    axes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    return all(
        pad == 0 if kernel == 1 else step <= kernel <= size - pad
        for size, kernel, step, pad in axes
    )


def conv(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int = 1,
) -> paddle.Tensor:
    """Convolution without bias or dilation, with zero padding; has first-order gradients.

    Args:
        x: float32 [N, C, ...] with one to three spatial axes.
        weight: float32 [O, C / groups, ...].
        stride, padding: per spatial axis.
        groups: parts of the channels that do not see each other; C of a depthwise convolution.

    Raises:
        OneDNNError: sizes do not fit each other.
    """
    stride, padding = tuple(stride), tuple(padding)
    if paddle.is_grad_enabled() and not (x.stop_gradient and weight.stop_gradient):
        return _Convolution.apply(x, weight, stride, padding, groups)
    return _forward(x, weight, stride, padding, groups)


class _Convolution(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, stride, padding, groups):
        ctx.save_for_backward(x, weight)
        ctx.sizes = (stride, padding, groups)
        ctx.needs_grad = (not x.stop_gradient, not weight.stop_gradient)
        return _forward(x, weight, stride, padding, groups)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensor()
        shapes = (tuple(x.shape), tuple(weight.shape), *ctx.sizes)
        x_needs_grad, weight_needs_grad = ctx.needs_grad
        grad_x = grad_weight = None
        if x_needs_grad:
            inputs = {DIFF_DST: grad, WEIGHTS: weight}
            grad_x = _run("data", shapes, inputs, DIFF_SRC, x.shape)
        if weight_needs_grad:
            inputs = {SRC: x, DIFF_DST: grad}
            grad_weight = _run("weights", shapes, inputs, DIFF_WEIGHTS, weight.shape)
        return grad_x, grad_weight


def _forward(x, weight, stride, padding, groups) -> paddle.Tensor:
    shapes = (tuple(x.shape), tuple(weight.shape), stride, padding)
    output = _output_shape(*shapes)
    return _run("forward", (*shapes, groups), {SRC: x, WEIGHTS: weight}, DST, output)


def _run(
    kind: Kind, shapes, inputs: dict[int, paddle.Tensor], output: int, output_shape
) -> paddle.Tensor:
    result = paddle.empty(output_shape, "float32")
    tensors = {name: t if t.is_contiguous() else t.contiguous() for name, t in inputs.items()}
    addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    with _lock:
        *sizes, groups = shapes
        prepared = _prepared(kind, *sizes, library().threads, groups)
        prepared.run(addresses | {output: result.data_ptr()})
    return result


def _output_shape(
    x: Sequence[int], weight: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Shape:
    axes = zip(x[2:], weight[2:], stride, padding, strict=True)
    sizes = ((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in axes)
    return (x[0], weight[0], *sizes)


# --- prepared convolutions ------------------------------------------------------------------------


@functools.lru_cache(_CACHE_SIZE)
def _prepared(
    kind: Kind,
    x: Shape,
    weight: Shape,
    stride: Shape,
    padding: Shape,
    threads: int,
    groups: int = 1,
) -> "_Prepared":
    """A convolution of these sizes, ready to run with this number of threads."""
    return _Prepared(kind, x, weight, stride, padding, groups)


class _Prepared:
    """A convolution, and the conversions between Paddle's layout and the fastest for oneDNN."""

    def __init__(
        self, kind: Kind, x: Shape, weight: Shape, stride: Shape, padding: Shape, groups: int = 1
    ):
        self._library = library()
        self._owned: list[tuple[str, c_void_p]] = []  # (function that frees it, handle)
        self._steps: list[tuple] = []  # (primitive, number of arguments, arguments)
        self._workspace_size = 0  # bytes
        self._paddle_memory: dict[int, c_void_p] = {}  # by argument
        self._work_memory: list[tuple[c_void_p, int]] = []  # (memory, offset in the workspace)
        y = _output_shape(x, weight, stride, padding)
        if groups > 1:  # oneDNN has an axis of groups: the same memory
            weight = (groups, weight[0] // groups, *weight[1:])
        descriptor = self._describe(kind, x, weight, y, stride, padding)
        inputs, (output, output_shape) = {
            "forward": ({SRC: x, WEIGHTS: weight}, (DST, y)),
            "data": ({DIFF_DST: y, WEIGHTS: weight}, (DIFF_SRC, x)),
            "weights": ({SRC: x, DIFF_DST: y}, (DIFF_WEIGHTS, weight)),
        }[kind]
        arguments = [(name, self._input(descriptor, name, shape)) for name, shape in inputs.items()]
        result, conversion = self._output(descriptor, output, output_shape)
        self._add_step(descriptor, [*arguments, (output, result)])
        if conversion:
            self._add_step(*conversion)

    def run(self, addresses: dict[int, int]) -> None:
        """Compute.

        Args:
            addresses: of contiguous float32 memory, by argument.
        """
        set_address = self._library.dnnl.dnnl_memory_set_data_handle
        workspace = _workspace(self._workspace_size)
        for name, memory in self._paddle_memory.items():
            set_address(memory, addresses[name])
        for memory, offset in self._work_memory:
            set_address(memory, workspace + offset)
        stream = self._library.stream
        for primitive, count, arguments in self._steps:
            self._library.call("dnnl_primitive_execute", primitive, stream, count, arguments)

    def _describe(self, kind: Kind, x, weight, y, stride, padding) -> c_void_p:
        """The primitive descriptor of the convolution; oneDNN chooses the layouts."""
        source, kernel, target = (
            self._own("dnnl_memory_desc_destroy", self._library.free_layout(shape))
            for shape in (x, weight, y)
        )
        no_dilation = dimensions((0,) * len(stride))
        pads = dimensions(padding)
        space = (dimensions(stride), no_dilation, pads, pads)
        forward = self._own(
            "dnnl_primitive_desc_destroy",
            self._library.make(
                "dnnl_convolution_forward_primitive_desc_create",
                self._library.engine,
                c_int(FORWARD_TRAINING),
                DIRECT,
                source,
                kernel,
                None,  # no bias
                target,
                *space,
                self._library.attributes,
            ),
        )
        if kind == "forward":
            return forward
        bias = (None,) if kind == "weights" else ()
        gradient = self._library.make(
            f"dnnl_convolution_backward_{kind}_primitive_desc_create",
            self._library.engine,
            DIRECT,
            source,
            kernel,
            *bias,
            target,
            *space,
            forward,
            self._library.attributes,
        )
        return self._own("dnnl_primitive_desc_destroy", gradient)

    def _input(self, descriptor: c_void_p, name: int, shape: Shape) -> c_void_p:
        """The memory that the convolution reads, converted from Paddle's where layouts differ."""
        plain, wanted = self._layouts(descriptor, name, shape)
        memory = self._paddle_memory[name] = self._memory(plain)
        if self._library.same_layout(plain, wanted):
            return memory
        converted = self._add_work_memory(wanted)
        self._add_step(self._conversion(plain, wanted), [(SRC, memory), (DST, converted)])
        return converted

    def _output(
        self, descriptor: c_void_p, name: int, shape: Shape
    ) -> tuple[c_void_p, tuple | None]:
        """The memory that the convolution writes, and the step that converts it to Paddle's."""
        plain, wanted = self._layouts(descriptor, name, shape)
        memory = self._paddle_memory[name] = self._memory(plain)
        if self._library.same_layout(plain, wanted):
            return memory, None
        raw = self._add_work_memory(wanted)
        return raw, (self._conversion(wanted, plain), [(SRC, raw), (DST, memory)])

    def _layouts(self, descriptor: c_void_p, name: int, shape: Shape) -> tuple[c_void_p, c_void_p]:
        """(Paddle's layout, the layout that oneDNN chose) of an argument."""
        plain = self._own("dnnl_memory_desc_destroy", self._library.contiguous_layout(shape))
        return plain, self._library.layout_of(descriptor, name)

    def _conversion(self, source: c_void_p, target: c_void_p) -> c_void_p:
        engine, attributes = self._library.engine, self._library.attributes
        ends = (source, engine, target, engine)
        descriptor = self._library.make("dnnl_reorder_primitive_desc_create", *ends, attributes)
        return self._own("dnnl_primitive_desc_destroy", descriptor)

    def _memory(self, layout: c_void_p) -> c_void_p:
        memory = self._library.make("dnnl_memory_create", layout, self._library.engine, None)
        return self._own("dnnl_memory_destroy", memory)

    def _add_work_memory(self, layout: c_void_p) -> c_void_p:
        memory = self._memory(layout)
        self._work_memory.append((memory, self._workspace_size))
        self._workspace_size += _aligned(self._library.size_of(layout))
        return memory

    def _add_step(self, descriptor: c_void_p, arguments: list[tuple[int, c_void_p]]) -> None:
        scratch = self._library.layout_of(descriptor, SCRATCHPAD)
        if self._library.size_of(scratch):
            arguments = [*arguments, (SCRATCHPAD, self._add_work_memory(scratch))]
        primitive = self._own(
            "dnnl_primitive_destroy", self._library.make("dnnl_primitive_create", descriptor)
        )
        array = (Argument * len(arguments))(*(Argument(*argument) for argument in arguments))
        self._steps.append((primitive, c_int(len(arguments)), array))

    def _own(self, destroy: str, handle: c_void_p) -> c_void_p:
        self._owned.append((destroy, handle))
        return handle

    def __del__(self):
        if not sys.is_finalizing():
            for destroy, handle in reversed(self._owned):
                self._library.destroy(destroy, handle)


def _aligned(number: int) -> int:
    """The next multiple of the alignment."""
    return -(-number // _ALIGNMENT) * _ALIGNMENT


class _Workspace:
    """Memory for conversions and scratchpads, kept between calls.

    It only grows: a new allocation per call would take as long as a conversion.
    """

    def __init__(self):
        self._buffer: paddle.Tensor | None = None
        self._size = -1

    def __call__(self, size: int) -> int:
        """The address of at least `size` bytes."""
        if self._buffer is None or size > self._size:
            self._buffer, self._size = None, -1  # free it before the larger allocation
            self._buffer = paddle.empty([size + _ALIGNMENT], "uint8")
            self._size = size
        return _aligned(self._buffer.data_ptr())


_workspace = _Workspace()
