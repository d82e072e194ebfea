"""Normalized images against goldens that keep their pixels, one in four, and a checksum of all."""

import hashlib

import numpy as np


def check_normalized(images, golden, name: str, channel_axis: int, image_axis: int) -> None:
    """Assert that float32 images equal the reference's, bit for bit.

    Every fourth image is compared first, so that a failure shows where the numbers differ.

    Args:
        golden: `name` has the pixels (uint8) before normalization, `values` [3, 256] the
            reference's number for each pixel of each channel, `name`/sha256 the checksum of the
            reference's float32 images.
        channel_axis: the axis of `images` that has the three channels.
        image_axis: the axis along which every fourth image is kept.
    """
    channel_shape = [1] * images.ndim
    channel_shape[channel_axis] = 3
    channels = np.arange(3).reshape(channel_shape)
    kept = images.take(range(0, images.shape[image_axis], 4), axis=image_axis)
    np.testing.assert_array_equal(kept, golden["values"][channels, golden[name]], err_msg=name)
    checksum = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    assert checksum == str(golden[f"{name}/sha256"]), name
