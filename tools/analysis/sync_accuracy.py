"""How often a network that learnt synchronisation finds the own sound of a clip nearer than that of another clip.

Example: python tools/analysis/sync_accuracy.py -c configs/demo/avslowfast_sync.yaml -w output/demo_sync/Sync_latest.pdstate
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddlevideo import dist, log
from paddlevideo.engine.build import load_config
from paddlevideo.engine.sync_accuracy import COLUMNS, sync_accuracy


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--config", required=True, help="config file (YAML)")
    parser.add_argument(
        "-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="as for main.py"
    )
    parser.add_argument("-w", "--weights", required=True, help="weights of the network")
    parser.add_argument(
        "--split",
        choices=["valid", "test"],
        default="valid",
        help="whose list and pipeline to take",
    )
    args = parser.parse_args()
    try:
        cfg = load_config(args.config, args.override)
        log.setup(None)
        dist.choose_device(cfg.use_gpu)
        dist.use_threads()
        shares, num_clips = sync_accuracy(cfg, args.weights, args.split)
    except (ValueError, OSError) as error:
        print(f"error: {log.error_text(error)}", file=sys.stderr)
        return 1
    print(
        f"{num_clips} clips, each against all others; own sound nearer than that of another clip (chance 0.5):"
    )
    print("stage" + "".join(name.rjust(20) for name in COLUMNS))
    for stage, row in shares.items():
        print(stage.ljust(5) + "".join(f"{row[name]:.4f}".rjust(20) for name in COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
