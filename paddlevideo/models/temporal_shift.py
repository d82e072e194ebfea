"""Temporal shift: neighboring frames exchange channels, at no multiplication (TSM).

Paper: Lin et al. 2019, "TSM: Temporal Shift Module for Efficient Video Understanding".
Differs from the paper's code: the first part of the channels comes from the frame before and the
second from the frame after, as in Paddle's `temporal_shift` operator; there it is the reverse.
"""

import functools

import numpy as np
import paddle


def shift_frames(x: paddle.Tensor, num_seg: int, first: int, second: int) -> paddle.Tensor:
    """Take some channels of each frame from its neighbors; the ends of a clip get zeros.

    It is written as one choice of channels, since ONNX has no such operator.

    Args:
        x: float [N * num_seg, C, H, W], the frames of a clip in sequence.
        num_seg: frames of a clip.
        first: the channels [0, first) come from the frame before.
        second: the channels [first, first + second) come from the frame after.
    """
    channels = x.shape[1]
    x = x.reshape([-1, num_seg * channels, 0, 0])  # [N, S*C, H, W]
    nothing = paddle.zeros_like(x[:, :channels])
    padded = paddle.concat([nothing, x, nothing], 1)  # [N, (S+2)*C, H, W]
    # A program contains the numbers; a GPU would wait in each forward pass for a copy of them.
    choose = _kept_source if paddle.in_dynamic_mode() else _source
    source = choose(num_seg, channels, first, second, paddle.get_device())
    return paddle.index_select(padded, source, 1).reshape([-1, channels, 0, 0])


def _source(num_seg: int, channels: int, first: int, second: int, device: str) -> paddle.Tensor:
    """Which channel of the padded clip becomes each channel: int64 [S*C], on this device."""
    offsets = np.ones(channels, np.int64)
    offsets[:first] = 0
    offsets[first : first + second] = 2
    source = (np.arange(num_seg)[:, None] + offsets) * channels + np.arange(channels)
    return paddle.to_tensor(source.ravel())


_kept_source = functools.lru_cache(maxsize=64)(_source)


def shift_by_segments(x: paddle.Tensor, num_seg: int) -> paddle.Tensor:
    """Shift 1/num_seg of the channels from each neighbor, as PaddleVideo's TSM does.

    The paper shifts 1/8 whatever the number of frames; with 8 frames both are the same. The second
    part ends at int(2 * C / num_seg), so it may be one channel wider than the first.

    Args:
        x: float [N * num_seg, C, H, W], the frames of a clip in sequence.
        num_seg: frames of a clip, at least 3.
    """
    channels, ratio = x.shape[1], 1.0 / num_seg
    first = int(channels * ratio)
    return shift_frames(x, num_seg, first, int(2 * channels * ratio) - first)


def check_num_seg(num_seg: int) -> int:
    """The number of frames of a clip.

    Raises:
        ValueError: there are fewer than 3: 1/num_seg of the channels is shifted each way, which
            leaves none of the frame itself.
    """
    if num_seg < 3:
        raise ValueError(
            f"MODEL.backbone: num_seg is {num_seg}; expected at least 3 frames, since 1/num_seg of "
            "the channels comes from each neighbor; without a shift use ResNet or ResNetTweaksTSN"
        )
    return num_seg
