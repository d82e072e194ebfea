"""Leaky ReLU and sigmoid, as one operator and as they are written to a program."""

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec

from paddlevideo.models.activations import leaky_relu, sigmoid


class Leaky(paddle.nn.Layer):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return leaky_relu(x, self.slope)


@pytest.mark.parametrize("slope", [0.01, 0.25])
def test_a_program_gives_the_same_values(slope):
    values = np.array([-3.0, -1e-3, -0.0, 0.0, 1e-3, 5.0], np.float32)
    expected = np.where(values > 0, values, np.float32(slope) * values)
    np.testing.assert_array_equal(leaky_relu(paddle.to_tensor(values), slope).numpy(), expected)
    spec = [InputSpec([None], "float32", "x")]
    program = paddle.jit.to_static(Leaky(slope), input_spec=spec, full_graph=True)
    np.testing.assert_array_equal(program(paddle.to_tensor(values)).numpy(), expected)
    assert "leaky_relu" not in str(program.forward.concrete_program.main_program)


class Sigmoid(paddle.nn.Layer):
    def forward(self, x):
        return sigmoid(x)


def test_a_program_has_the_sigmoid_of_the_model():
    values = np.array([[-100.0, -3.0, -1e-3, 0.0], [1e-3, 2.0, 20.0, 100.0]], np.float32)
    expected = 1 / (1 + np.exp(-values.astype(np.float64)))
    spec = [InputSpec([None, None], "float32", "x")]
    program = paddle.jit.to_static(Sigmoid(), input_spec=spec, full_graph=True)
    for function in (sigmoid, program):
        got = function(paddle.to_tensor(values)).numpy()
        np.testing.assert_allclose(got, expected, atol=1e-7)
    assert "sigmoid" not in str(program.forward.concrete_program.main_program)
