"""The command lines of tools/data: help texts load no large packages, defaults agree."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from paddlevideo.curate.resize import WriteResized
from paddlevideo.curate.ucf101 import SPLITS
from paddlevideo.media.log_mel import DecibelMel

ROOT = Path(__file__).resolve().parents[3]
TOOLS = sorted(path.name for path in (ROOT / "tools" / "data").glob("*.py"))
LARGE = ("paddle", "numpy", "cv2", "av")

# Run a script with --help, then print the large packages that it imported.
PROBE = """
import contextlib, io, runpy, sys
sys.argv = [sys.argv[1], "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    runpy.run_path(sys.argv[0], run_name="__main__")
print([name for name in LARGE if name in sys.modules])
""".replace("LARGE", repr(LARGE))


@pytest.mark.parametrize("name", TOOLS)
def test_help_loads_no_large_packages(name):
    command = [sys.executable, "-B", "-c", PROBE, str(ROOT / "tools" / "data" / name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def parsed(name: str, *arguments: str):
    """Return the options of a script as its command parses them."""
    return import_module(f"paddlevideo.commands.{name}").make_parser().parse_args(arguments)


def test_default_settings_are_those_of_the_classes():
    args = parsed("resize_videos", "in", "out")
    settings = (args.short_side, args.gop, args.crf, args.preset, args.sound, args.suffix)
    assert WriteResized(*settings) == WriteResized()
    args = parsed("build_audio_features", "in", "out")
    settings = (args.sample_rate, args.n_fft, args.hop_length, args.num_mels, args.fmin, args.fmax)
    assert DecibelMel(*settings) == DecibelMel()
    options = ("lists", "--videos", "in", "--out", "out")
    assert parsed("prepare_ucf101", *options).splits == SPLITS
