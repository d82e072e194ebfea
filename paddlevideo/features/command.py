"""The command `tools/extract_features.py`: flags -> a feature set, and a summary of it."""

import sys
from argparse import Namespace
from collections.abc import Callable

from paddlevideo import dist, log
from paddlevideo.features.extract import FrameNetwork, Recipe
from paddlevideo.features.feature_sets import extract_set, here, print_summary
from paddlevideo.features.feature_shards import SetOptions, Vectorize
from paddlevideo.features.remote_set import local_features, local_set


@log.session()
def run_command(args: Namespace, vectors_of: Callable[[FrameNetwork], Vectorize] = here) -> int:
    """Extract features; return the exit code: 1 after an error or if a video failed.

    Args:
        args: see commands/extract_features.py.
        vectors_of: see `extract_set`.
    """
    try:
        device, note = dist.choose_device(args.use_gpu)
        log.logger.info(note or f"{device}, {dist.use_threads()} compute thread(s)")
        recipe = Recipe(
            args.config,
            args.weights,
            tuple(args.override),
            args.frame_rate,
            args.max_frames,
            audio=not args.no_audio,
        )
        fitted = local_features(args.fitted) if args.fitted else None
        with local_set(args.output) as out:
            options = SetOptions(
                out,
                fitted,
                args.pca,
                args.fit_videos,
                args.per_shard,
                args.retry_failed,
                args.overwrite,
            )
            summary = extract_set(
                recipe,
                options,
                args.input_file,
                args.class_names,
                not args.no_labels,
                args.num_workers,
                args.split,
                vectors_of,
            )
    except (ValueError, OSError) as error:  # of the user or the machine: no traceback
        log.show_error(error)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    print_summary(summary, args.output)
    return 1 if summary.failed else 0
