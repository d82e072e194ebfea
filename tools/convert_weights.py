"""Convert weights of another project to a `.pdparams` or `.safetensors` file for this one.

Example:
  python tools/convert_weights.py --source paddlecv_nextvlad -w NEXTVLAD.pdparams -o out.pdparams
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# The converters in paddlevideo/models/convert; not imported, so that --help is fast.
SOURCES = (
    "avslowfast",
    "mmaction2",
    "nextvlad_mixture",
    "paddlecv_nextvlad",
    "youtube8m_nextvlad",
)
OUTPUT_SUFFIXES = (".pdparams", ".safetensors")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)

    from paddlevideo import log
    from paddlevideo.files import check_writable
    from paddlevideo.models.convert import convert
    from paddlevideo.models.convert.files import read_weights
    from paddlevideo.weights import check_replaces_nothing, write_arrays

    try:
        if Path(args.output).suffix not in OUTPUT_SUFFIXES:
            raise ValueError(f"-o {args.output}: expected a {' or '.join(OUTPUT_SUFFIXES)} file")
        check_writable(args.output)
        arrays = read_weights(args.weights)
        conversion = convert(arrays, args.source)
        if not args.quiet:
            log.show(*conversion.lines)
        if not args.overwrite:
            check_replaces_nothing(args.output, conversion.arrays)
        write_arrays(args.output, conversion.arrays)
    except (ValueError, OSError) as error:  # wrong arguments or files: no traceback
        log.show_error(error)
        return 1
    values = sum(array.size for array in conversion.arrays.values())
    log.show(
        f"{args.weights}: {len(arrays)} tensors read; "
        f"{args.output}: {len(conversion.arrays)} tensors, {values:,} values written"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
