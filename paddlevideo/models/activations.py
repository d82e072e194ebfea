"""Activations that need more than one call of Paddle."""

import paddle
import paddle.nn.functional as F


@paddle.jit.not_to_static
def leaky_relu(x: paddle.Tensor, slope: float) -> paddle.Tensor:
    """x where it is positive, else slope * x.

    In a program it is written with ReLU. Paddle Inference 3.3.1 with oneDNN stops with a
    segmentation fault when it loads a PIR program of PP-TSM that has the operator `leaky_relu`, and
    the logits of its ONNX program differ by 5e-3 of the largest with that operator.

    Args:
        x: float, of any shape.
        slope: of the negative part.
    """
    if paddle.in_dynamic_mode():
        return F.leaky_relu(x, slope)
    return F.relu(x) - F.relu(x * -slope)


@paddle.jit.not_to_static
def sigmoid(x: paddle.Tensor) -> paddle.Tensor:
    """1 / (1 + exp(-x)); in a program a softmax, since a `.pdmodel` cannot have the operator.

    Args:
        x: float, of any shape.
    """
    if paddle.in_dynamic_mode():
        return F.sigmoid(x)
    return F.softmax(paddle.stack([x, paddle.zeros_like(x)], -1), -1)[..., 0]
