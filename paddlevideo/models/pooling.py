"""Pooling over positions and averages of probabilities, as the heads over clips compute them."""

import paddle
import paddle.nn.functional as F


def pool_positions(x, window):
    """Mean over a window that slides by one position: float [N, C, H, W] -> [N, positions, C].

    Args:
        window: height and width of the window; None covers all of x. A window that covers all of
            x has one position.
    """
    window = _window_on(x, window)
    x = x.mean([2, 3], keepdim=True) if window is None else F.avg_pool2d(x, window, stride=1)
    return x.transpose([0, 2, 3, 1]).flatten(1, 2)


@paddle.jit.not_to_static  # checks the shape only, not part of a program
def _window_on(x, window):
    """[height, width] of the window on x, None where it covers all of x.

    Sides that a program leaves free (-1) count as larger than the window.
    """
    sides = x.shape[2:]
    if window is None or 0 < min(sides) <= max(sides) <= window:
        return None
    return [min(window, side) if side > 0 else window for side in sides]


def log_mean_probability(logits):
    """log of the mean over P of softmax(logits): float [N, P, K] -> float32 [N, K].

    It stays exact where probabilities underflow. A program computes the same from log_softmax,
    because the older program format has no exp and log: logsumexp(x) = x[p] - log_softmax(x)[p]
    for any p. There, probabilities on a CPU are cut off at exp(-64).
    """
    logits = logits.astype("float32")
    if paddle.in_dynamic_mode():
        log_p = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        largest = log_p.max(1, keepdim=True)
        return (log_p - largest).exp().mean(1).log() + largest.squeeze(1)
    log_p = F.log_softmax(logits, axis=-1)
    log_share = F.log_softmax(log_p, axis=1)  # of each position in the sum over positions
    log_equal_share = F.log_softmax(log_p[:, :, :1] * 0, axis=1)  # -log P, where P may be free
    return log_p[:, 0] - log_share[:, 0] + log_equal_share[:, 0]
