"""What happens to damage inside a file: one policy for frames and audio.

Whatever FFmpeg decodes is used, also where it conceals errors. What it cannot decode is replaced: a
frame by the frame before it, audio by silence of its length. A warning in the log names the file,
and `check_data` reports it. If more than MAX_LOST of what was asked for is lost, it is a
`DecodeError`, and the data set's `on_error` decides what happens.
"""

import functools
from collections.abc import Sequence

from paddlevideo.log import logger
from paddlevideo.tar_paths import location
from paddlevideo.urls import shown

MAX_LOST = 0.5
MAX_NAMED = 5  # frames that a message names


@functools.lru_cache(maxsize=4096)
def note_damage(path: str, text: str) -> None:
    """Log what was replaced; once, although a training reads the file in every epoch."""
    logger.warning("%s: %s", shown(location(path)), text)


def repeated_frames(numbers: Sequence[int]) -> str:
    """Say for the log which frames were replaced."""
    named = ", ".join(map(str, numbers[:MAX_NAMED])) + (", ..." if len(numbers) > MAX_NAMED else "")
    if len(numbers) == 1:
        return f"damaged: frame {named} cannot be decoded and repeats the frame before"
    return f"damaged: {len(numbers)} frames cannot be decoded and repeat the frame before ({named})"
