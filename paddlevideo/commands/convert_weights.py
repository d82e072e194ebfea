"""Convert weights of another project to a `.pdparams` or `.safetensors` file for this one.

Example:
  %(prog)s --source paddlecv_nextvlad -w NEXTVLAD.pdparams -o out.pdparams
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlevideo import log
from paddlevideo.commands import load, run

# The converters in paddlevideo/models/convert; not imported, so that --help is fast.
SOURCES = (
    "avslowfast",
    "mmaction2",
    "nextvlad_mixture",
    "paddlecv_nextvlad",
    "youtube8m_nextvlad",
)
OUTPUT_SUFFIXES = (".pdparams", ".safetensors")


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/convert_weights.py."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", required=True, choices=SOURCES, help="origin of the weights")
    add(
        "-w",
        "--weights",
        required=True,
        help="file to read: .pdparams, .safetensors, .npz, .pth, or a TensorFlow checkpoint",
    )
    add("-o", "--output", required=True, help="file to write: .pdparams or .safetensors")
    add("--overwrite", action="store_true", help="replace an output file with other weights")
    add("-q", "--quiet", action="store_true", help="do not print a line for each tensor")
    return parser


def work(args: argparse.Namespace) -> None:
    """Convert, and say how many tensors were read and written.

    Raises:
        ValueError, OSError: wrong flags or files.
    """
    if Path(args.output).suffix not in OUTPUT_SUFFIXES:
        raise ValueError(f"-o {args.output}: expected a {' or '.join(OUTPUT_SUFFIXES)} file")
    load("paddlevideo.files:check_writable")(args.output)
    arrays = load("paddlevideo.models.convert.files:read_weights")(args.weights)
    conversion = load("paddlevideo.models.convert:convert")(arrays, args.source)
    if not args.quiet:
        log.show(*conversion.lines)
    if not args.overwrite:
        load("paddlevideo.weights:check_replaces_nothing")(args.output, conversion.arrays)
    load("paddlevideo.weights:write_arrays")(args.output, conversion.arrays)
    values = sum(array.size for array in conversion.arrays.values())
    log.show(
        f"{args.weights}: {len(arrays)} tensors read; "
        f"{args.output}: {len(conversion.arrays)} tensors, {values:,} values written"
    )


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, local_files=True, bare_help=False)
