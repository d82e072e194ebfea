"""Extract frame features of videos with a recognizer, as shards in the format of YouTube-8M.

See docs/nextvlad.md.
"""

import argparse
from collections.abc import Sequence

from paddlevideo.commands import load, run
from paddlevideo.scale.flags import add_flags, place
from paddlevideo.urls import as_path

EPILOG = (
    "Run the same command again to continue after a stop. "
    "The exit code is 1 if any video failed; see failures.tsv."
)


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of tools/extract_features.py."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    text = "videos: files, folders (also one per class), lists `path [label,label]`, or URLs"
    add("-i", "--input_file", nargs="+", required=True, help=text)
    add("-c", "--config", required=True, help="config of the recognizer (YAML)")
    add("-w", "--weights", required=True, help="weights of the recognizer")
    add("-o", "--output", type=as_path, required=True, help="output folder, or its URL")
    text = "change the config; repeatable"
    add("--override", action="append", default=[], metavar="KEY=VALUE", help=text)
    text = "feature folder whose codecs and class names are used, usually of the training set"
    add("--fitted", type=as_path, help=text)
    text = "principal components of the image features (default: keep the values themselves)"
    add("--pca", type=int, metavar="N", help=text)
    text = "number of random videos on which codecs are fitted (default: %(default)s)"
    add("--fit_videos", type=int, default=2000, help=text)
    text = "frames per second (default: %(default)s)"
    add("--frame_rate", type=float, default=1.0, help=text)
    text = "frames per video; the rest of the video is ignored (default: %(default)s)"
    add("--max_frames", type=int, default=300, help=text)
    add("--no_audio", action="store_true", help="extract image features only")
    text = "file of class names, in the order of their ids (default: from --fitted, or sorted)"
    add("--class_names", help=text)
    text = "use only these rows of a table with a column `split`"
    add("--split", choices=["train", "valid", "test"], help=text)
    add("--no_labels", action="store_true", help="ignore labels and the names of folders")
    add("--per_shard", type=int, default=256, help="videos per file (default: %(default)s)")
    text = "processes that decode (default: one per core; 0: decode in this process)"
    add("--num_workers", type=int, help=text)
    text = "make those shards again in which videos failed"
    add("--retry_failed", action="store_true", help=text)
    add("--overwrite", action="store_true", help="delete what the folder holds and start again")
    text = "default: use a GPU if there is one"
    add("--use_gpu", action=argparse.BooleanOptionalAction, help=text)
    add_flags(parser, with_gpus=True)
    return parser


def work(args: argparse.Namespace) -> int:
    """Extract; 1 after an error or if a video failed."""
    where = place(args)
    if where.is_local:
        return load("paddlevideo.features.command:run_command")(args)
    return load("paddlevideo.scale.features:run_command")(args, where)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, bare_help=False)
