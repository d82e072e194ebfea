"""Jobs for decoding processes, in a module of their own so that a process can load them."""

import ctypes
import os
import signal
import sys
import time

from paddlevideo.sample import DecodeError
from paddlevideo.serve.decoder import LimitError


def work(job):
    """Do what the name of a job says, as a decoder that meets hostile bytes may."""
    yield from JOBS[job]()


def answer():
    yield "answer"


def several():
    for number in range(4):
        yield bytes(number << 20)


def refuse():
    raise DecodeError("no known video format")
    yield


def refuse_later():
    yield 1
    raise LimitError("it is too long")


def fail():
    raise ZeroDivisionError("a mistake in our code")
    yield


def crash():
    yield 1
    ctypes.string_at(0)


def leave():
    os._exit(3)
    yield


def abort():
    os.abort()
    yield


def hang():
    time.sleep(600)
    yield


def take_all_memory():
    blocks = []
    for _ in range(64):
        blocks.append(bytearray(256 << 20))
        yield len(blocks)


def modules():
    yield sorted({name.split(".")[0] for name in sys.modules})


def signals():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    yield "alive"


JOBS = {
    f.__name__: f
    for f in (
        *(answer, several, refuse, refuse_later, fail, crash, leave, abort, hang),
        *(take_all_memory, modules, signals),
    )
}
