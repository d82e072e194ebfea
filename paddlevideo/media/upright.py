"""Frames as RGB images, rotated and flipped as they are shown."""

import numpy as np
from av.video.reformatter import VideoReformatter


def upright_rgb(frame, converter: VideoReformatter) -> np.ndarray:
    """Convert a decoded frame to uint8 [H, W, 3] RGB, rotated and flipped by its display matrix.

    Args:
        converter: kept over all frames of a video; with one thread it takes a third of the time of
            `frame.to_ndarray(format="rgb24")`.
    """
    image = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    # x' = a x + c y, y' = b x + d y; the matrix has the rows (a b .) and (c d .) in 16.16 fixed
    # point (ISO/IEC 14496-12, 6.2.2).
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image, right, down = image.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
