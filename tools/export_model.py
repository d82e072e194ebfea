"""Export a trained model: programs that run without its Python code, model.yaml, golden.npz. See docs/deploy.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddlevideo import dist, log
from paddlevideo.engine.build import load_config
from paddlevideo.exporting.export import FORMATS, export


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-c", "--config", required=True, help="config file (YAML) of the model")
    add(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="as INFERENCE.top_k=5; repeatable",
    )
    add(
        "-p",
        "--pretrained_params",
        default="./best.pdparams",
        help="weights (.pdparams, .safetensors, .pdstate)",
    )
    add("-o", "--output_path", help="folder to write; default inference/<model_name>")
    add("--save_name", help="stem of the files; default <model_name>")
    add(
        "--format",
        nargs="+",
        default=["pdmodel"],
        choices=[*FORMATS, "all"],
        help="pir is Paddle 3's .json",
    )
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    log.setup()
    dist.use_threads()
    try:
        cfg = load_config(args.config, args.override)
        export(cfg, args.pretrained_params, args.output_path, args.format, args.save_name)
    except (
        ValueError,
        OSError,
    ) as error:  # mistakes of a user or a machine: a message, not a trace
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
