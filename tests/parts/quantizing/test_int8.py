"""Quantization of small programs with NNCF, and where it has to leave operators in fp32."""

import logging
import os
import sys

import numpy as np
import pytest

from paddlevideo.exporting.program import ExportError
from paddlevideo.quantizing import int8
from paddlevideo.runtimes.base import Program
from paddlevideo.runtimes.openvino import SignalStack, openvino_core

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")

WIDTH = 16


def write_network(folder, gain=1.0) -> Program:
    """Two fully connected layers; classes differ little, so that rounding changes the best one.

    Args:
        gain: of one feature, whose large values take the range of all.
    """
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    first = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32)
    first[:, 0] *= gain
    last = rng.standard_normal((WIDTH, 4)).astype(np.float32)
    last[0] /= gain
    x = ops.parameter([-1, WIDTH], np.float32, "x")
    x.output(0).set_names({"x"})
    hidden = ops.relu(ops.matmul(x, ops.constant(first), False, False))
    model = openvino.Model([ops.matmul(hidden, ops.constant(last), False, False)], [x], "net")
    openvino.save_model(model, str(folder / "net.xml"), compress_to_fp16=False)
    return Program(folder / "net.xml", folder / "net.bin", {})


def run(model, arrays) -> np.ndarray:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return np.array(openvino_core().compile_model(model, "CPU", settings)(arrays)[0])


def make_views(program, num=24):
    """Views and, as their labels, the best classes of the fp32 program."""
    x = np.random.default_rng(1).standard_normal((num, WIDTH)).astype(np.float32)
    best = run(str(program.model), {"x": x}).argmax(1)
    return x, [({"x": row[None]}, frozenset([int(k)])) for row, k in zip(x, best, strict=True)]


def num_quantizers(model) -> int:
    return sum(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def test_a_quantized_program_is_close(tmp_path):
    program = write_network(tmp_path)
    x, views = make_views(program)
    model, left_out = int8.quantize(program, views, dict)
    int8.save(model, tmp_path / "q.xml")
    expected, given = (run(str(tmp_path / f), {"x": x}) for f in ("net.xml", "q.xml"))
    assert left_out == [] and num_quantizers(model) == 2
    assert 1e-5 < np.abs(given - expected).mean() / np.abs(expected).max() < 0.05


def test_layers_that_cost_accuracy_stay_in_fp32(tmp_path):
    program = write_network(tmp_path, gain=300.0)
    x, views = make_views(program)
    labels = np.array([next(iter(label)) for _, label in views])
    plain, _ = int8.quantize(program, views, dict)
    assert (run(plain, {"x": x}).argmax(1) == labels).mean() < 0.9
    stack = SignalStack.current()
    kept = int8.quantize_accurately(program, views, dict, [], 0.01)
    if stack is not None:  # else Ctrl-C would crash the process
        assert SignalStack.current().address == stack.address
    assert (run(kept, {"x": x}).argmax(1) == labels).mean() > 0.98
    assert num_quantizers(kept) < num_quantizers(plain)


def test_views_without_labels_do_not_count_as_misses(tmp_path):
    """They would make the loss of accuracy look smaller than it is."""
    program = write_network(tmp_path, gain=300.0)
    _, views = make_views(program)
    unlabeled = [(view, frozenset()) for view, _ in views * 10]
    plain, _ = int8.quantize(program, views, dict)
    kept = int8.quantize_accurately(program, [*views, *unlabeled], dict, [], 0.05)
    assert num_quantizers(kept) < num_quantizers(plain)


def test_leaves_out_operators_that_openvino_cannot_compile(tmp_path, monkeypatch):
    program = write_network(tmp_path)
    _, views = make_views(program, 4)
    model = openvino_core().read_model(str(program.model))
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    names = [layer.get_friendly_name() for layer in layers]

    class Core:  # nothing inherits from OpenVINO's: there is one core in a process
        messages = (f"opset1::Multiply {names[0]}/DequantizationMultiply[0]:f32[?,32] failed",)

        def compile_model(self, model, *args, **options):
            if num_quantizers(model) > 1:
                raise RuntimeError(*self.messages)
            return openvino_core().compile_model(model, *args, **options)

        def __getattr__(self, name):
            return getattr(openvino_core(), name)

    monkeypatch.setattr(int8, "openvino_core", Core)
    quantized, left_out = int8.quantize(program, views, dict)
    assert left_out == names[:1] and num_quantizers(quantized) == 1
    for message in ("another problem", "opset1::Multiply other/DequantizationMultiply[0]"):
        Core.messages = (message,)
        with pytest.raises(ExportError, match="cannot run this model in int8: .*bf16"):
            int8.quantize(program, views, dict)


def test_names_the_extra_that_is_missing(monkeypatch):
    assert int8.missing_for_int8() == ""
    monkeypatch.setattr(int8.importlib.util, "find_spec", lambda name: None)
    message = r"needs nncf and openvino: pip install 'paddlevideo[openvino,quantize]'"
    assert int8.missing_for_int8().endswith(message)


def test_leaves_the_environment_and_the_log_of_nncf(monkeypatch):
    level = logging.getLogger("nncf").level
    with int8._nncf() as nncf:
        assert nncf is sys.modules["nncf"] and logging.getLogger("nncf").level >= logging.ERROR
    assert "NNCF_CI" not in os.environ and logging.getLogger("nncf").level == level
    monkeypatch.setenv("NNCF_CI", "mine")
    with int8._nncf():
        assert os.environ["NNCF_CI"] == "mine"
