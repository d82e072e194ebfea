"""OpenVINO in a process with signals."""

import subprocess
import sys

from tests.parts.conftest import skip_without

CODE = """
import gc, signal, sys
from paddlevideo.runtimes.choose import open_backend

first, second = (open_backend(sys.argv[1], "openvino", threads=1) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""


def test_a_signal_is_handled_after_backends_have_ended(exported):
    """A core that ends before a later one takes away the stack of the signal handlers."""
    skip_without("openvino")
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(exported.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["handled"]), done.stderr
