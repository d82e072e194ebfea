"""Measure how often a synchronization network prefers the audio of the same clip.

It compares the distance between a clip's frames and its own audio with the distance to the audio
of every other clip. Chance is 0.5.

Example: python tools/analysis/sync_accuracy.py -c configs/demo/avslowfast_sync.yaml \\
             -w output/demo_sync/Sync_latest.pdstate
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-c", "--config", required=True, help="config file (YAML)")
    text = "change the config, as for main.py; repeatable"
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help=text)
    add("-w", "--weights", required=True, help="weights of the network")
    text = "which list and pipeline are used (default: %(default)s)"
    add("--split", choices=["valid", "test"], default="valid", help=text)
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from paddlevideo import dist, log
    from paddlevideo.engine.build import load_config
    from paddlevideo.engine.sync_accuracy import COLUMNS, sync_accuracy

    try:
        cfg = load_config(args.config, args.override)
        dist.choose_device(cfg.use_gpu)
        dist.use_threads()
        with log.session():
            shares, num_clips = sync_accuracy(cfg, args.weights, args.split)
    except (ValueError, OSError) as error:
        log.show_error(error)
        return 1
    print(f"{num_clips} clips; how often the own audio is closer than the audio of another clip:")
    print("stage" + "".join(name.rjust(20) for name in COLUMNS))
    for stage, row in shares.items():
        print(stage.ljust(5) + "".join(f"{row[name]:.4f}".rjust(20) for name in COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
