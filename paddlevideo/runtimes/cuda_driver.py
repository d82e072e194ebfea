"""The GPUs that the CUDA driver has, whatever library uses them."""

import ctypes
import functools
import sys

NAME_BYTES = 256


@functools.cache
def cuda_gpus() -> tuple[str, ...]:
    """The names of the GPUs, in the order of CUDA; empty without a driver that works."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return ()
    count, device = ctypes.c_int(0), ctypes.c_int(0)
    name = ctypes.create_string_buffer(NAME_BYTES)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    names = []
    for number in range(count.value):
        failed = driver.cuDeviceGet(ctypes.byref(device), number)
        failed = failed or driver.cuDeviceGetName(name, NAME_BYTES, device)
        names.append("" if failed else name.value.decode(errors="replace"))
    return tuple(names)
