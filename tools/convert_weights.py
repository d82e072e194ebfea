"""Translate the weights of another project into a `.pdparams` or `.safetensors` file of this one.

Example: python tools/convert_weights.py --source paddlecv_nextvlad -w NEXTVLAD.pdparams -o nextvlad.pdparams
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo import log
from paddlevideo.files import check_writable
from paddlevideo.models.convert import convert, sources
from paddlevideo.models.convert.files import read_weights
from paddlevideo.weights import write_arrays

WRITES = (".pdparams", ".safetensors")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", required=True, choices=sources(), help="where the weights come from")
    add(
        "-w",
        "--weights",
        required=True,
        help="their file: .pdparams, .safetensors, .npz, .pth, or a TensorFlow checkpoint",
    )
    add("-o", "--output", required=True, help="our file, .pdparams or .safetensors")
    add("-q", "--quiet", action="store_true", help="leave out the line for each tensor")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    try:
        if Path(args.output).suffix not in WRITES:
            raise ValueError(f"-o {args.output}: expected a {' or '.join(WRITES)} file")
        check_writable(args.output)
        arrays = read_weights(args.weights)
        done = convert(arrays, args.source)
        if not args.quiet:
            print("\n".join(done.lines))
        write_arrays(args.output, done.arrays)
    except (ValueError, OSError) as error:  # mistakes of a user or a file: a message, not a trace
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    values = sum(array.size for array in done.arrays.values())
    print(
        f"{args.weights}: {len(arrays)} tensors read; {args.output}: {len(done.arrays)} tensors, {values:,} values written"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
