"""The C interface of the oneDNN library that Paddle ships: constants, structures, calls.

Source: oneDNN developer guide, C API 3.x, https://uxlfoundation.github.io/oneDNN.
"""

import ctypes
import functools
import sys
from ctypes import POINTER, Structure, byref, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import paddle

# Values of the C interface, from dnnl_types.h; they hold for all of version 3.
_CPU, _IN_ORDER, _OPENMP = 1, 1, 2
FLOAT32, ANY_FORMAT, DIRECT = 3, 1, 1
# Forward convolutions are prepared for training, not for inference (96): for inference, oneDNN
# 3.6.2, which Paddle 3.3 ships, selects its brgemm code, which reads and writes outside its memory
# at some sizes (one channel with a stride, a stride larger than the kernel).
FORWARD_TRAINING = 64
# The caller provides the memory for intermediate results; oneDNN's own belongs to the thread that
# prepared the operation.
_USER_SCRATCHPAD = 1
# Arguments of an execution.
SRC, DST, WEIGHTS, DIFF_SRC, DIFF_DST, DIFF_WEIGHTS, SCRATCHPAD = 1, 17, 33, 129, 145, 161, 80
# Argument -> query of a primitive descriptor for the memory layout of that argument.
MEMORY_QUERIES = {
    SRC: 129,
    DIFF_SRC: 130,
    WEIGHTS: 131,
    DIFF_WEIGHTS: 132,
    DST: 133,
    DIFF_DST: 134,
    SCRATCHPAD: 136,
}
_MAX_DIMENSIONS = 12

Shape = tuple[int, ...]


class OneDNNError(RuntimeError):
    """oneDNN rejected a call."""


class _Version(Structure):
    _fields_ = (
        *((name, c_int) for name in ("major", "minor", "patch")),
        ("hash", ctypes.c_char_p),
        *((name, ctypes.c_uint) for name in ("cpu_runtime", "gpu_runtime")),
    )


class Argument(Structure):
    """An argument of an execution and its memory."""

    _fields_ = (("name", c_int), ("memory", c_void_p))


class Library:
    """The C functions, an engine and a stream.

    Args:
        folder: with libdnnl.so.3 and libiomp5.so.

    Raises:
        OSError: a file is missing, or the library has another version or no OpenMP.
        AttributeError: the library lacks a function.
    """

    def __init__(self, folder: Path):
        self.dnnl = ctypes.CDLL(str(folder / "libdnnl.so.3"))
        self.openmp = ctypes.CDLL(str(folder / "libiomp5.so"))
        self.dnnl.dnnl_version.restype = POINTER(_Version)
        self.version = self.dnnl.dnnl_version().contents
        if self.version.major != 3 or self.version.cpu_runtime != _OPENMP:
            raise OSError(
                f"oneDNN {self.version.major} with runtime {self.version.cpu_runtime}; "
                "expected 3 with OpenMP"
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
            "dnnl_primitive_attr_set_scratchpad_mode", self.attributes, c_int(_USER_SCRATCHPAD)
        )
        self.stream = self.make("dnnl_stream_create", self.engine, c_int(_IN_ORDER))

    def call(self, function: str, *arguments) -> None:
        """Call a C function.

        Raises:
            OneDNNError: it returned an error status.
        """
        status = getattr(self.dnnl, function)(*arguments)
        if status:
            raise OneDNNError(
                f"{function} returned status {status}; set onednn: false in the config to compute "
                "without oneDNN"
            )

    def make(self, function: str, *arguments) -> c_void_p:
        """Call a `*_create` function and return the handle that it creates."""
        handle = c_void_p()
        self.call(function, byref(handle), *arguments)
        return handle

    def destroy(self, function: str, handle: c_void_p) -> None:
        """Free a handle with its `*_destroy` function."""
        getattr(self.dnnl, function)(handle)

    @property
    def threads(self) -> int:
        """Number of threads that a call uses."""
        return self.openmp.omp_get_max_threads()

    # --- memory layouts ---------------------------------------------------------------------------

    def free_layout(self, shape: Shape) -> c_void_p:
        """A float32 layout that oneDNN may choose."""
        return self.make(
            "dnnl_memory_desc_create_with_tag",
            c_int(len(shape)),
            dimensions(shape),
            c_int(FLOAT32),
            c_int(ANY_FORMAT),
        )

    def contiguous_layout(self, shape: Shape) -> c_void_p:
        """Paddle's float32 layout: contiguous, the last axis first in memory."""
        strides = [1]
        for size in shape[:0:-1]:
            strides.insert(0, strides[0] * size)
        return self.make(
            "dnnl_memory_desc_create_with_strides",
            c_int(len(shape)),
            dimensions(shape),
            c_int(FLOAT32),
            dimensions(strides),
        )

    def layout_of(self, descriptor: c_void_p, argument: int) -> c_void_p:
        """The layout that a primitive uses for an argument; it lives as long as the descriptor."""
        query = MEMORY_QUERIES[argument]
        return c_void_p(self.dnnl.dnnl_primitive_desc_query_md(descriptor, query, 0))

    def same_layout(self, a: c_void_p, b: c_void_p) -> bool:
        return bool(self.dnnl.dnnl_memory_desc_equal(a, b))

    def size_of(self, layout: c_void_p) -> int:
        """Bytes."""
        return self.dnnl.dnnl_memory_desc_get_size(layout)


def dimensions(values) -> ctypes.Array:
    """Sizes, strides or padding as a C array."""
    return (c_int64 * _MAX_DIMENSIONS)(*values)


@functools.cache
def library() -> Library:
    """The library of this installation of Paddle.

    Raises:
        OSError: there is none, or not a supported one.
    """
    if not sys.platform.startswith("linux"):
        raise OSError(f"supported on Linux only, not on {sys.platform}")
    return Library(Path(paddle.__file__).parent / "libs")


@functools.cache
def missing() -> str:
    """Why oneDNN cannot be used here; "" where it can."""
    try:
        library()
    except (OSError, AttributeError) as error:  # no file, another version, or a missing function
        return str(error)
    return ""
