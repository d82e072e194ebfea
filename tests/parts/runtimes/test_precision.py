"""Precisions: each runtime computes in the one that was requested, or says which it has."""

import logging
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import inference

from paddlevideo import paddle_internals
from paddlevideo.commands.predict import make_parser
from paddlevideo.engine.load import trained_model
from paddlevideo.log import logger
from paddlevideo.runtimes import openvino, paddle_inference
from paddlevideo.runtimes.base import PRECISIONS, BackendError, Options, Program, precision_here
from paddlevideo.runtimes.choose import RUNTIMES, find_program, open_backend
from paddlevideo.runtimes.openvino import openvino_core
from tests.parts.conftest import missing_for_onnx, skip_without

needs_bfloat16 = pytest.mark.skipif(
    not paddle_internals.has_bfloat16(), reason="no bfloat16 on this processor"
)


@pytest.fixture(scope="module")
def golden(exported):
    with np.load(exported.folder / "golden.npz") as file:
        return dict(file)


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.WARNING, logger.name):
        yield caplog


def loss(backend, golden) -> float:
    """The largest difference of the logits, relative to the largest logit."""
    logits = backend.run({"frames": golden["frames"]})
    return np.abs(logits - golden["logits"]).max() / np.abs(golden["logits"]).max()


def test_the_command_takes_every_precision():
    for precision in PRECISIONS:
        flags = ["-i", "x", "--precision", precision]
        assert make_parser().parse_args(flags).precision == precision


@needs_bfloat16
@pytest.mark.parametrize("suffix", [".pdmodel", ".json"])
def test_paddle_computes_bf16(exported, golden, suffix):
    file = exported.folder / f"tiny{suffix}"
    backend = open_backend(file, "paddle", device="cpu", precision="bf16", threads=1)
    assert backend.precision == "bf16" and backend.name.endswith("cpu with oneDNN, bf16")
    assert 1e-4 < loss(backend, golden) < 0.05


def test_openvino_computes_bf16(exported, golden):
    skip_without("openvino")
    try:
        backend = open_backend(exported.folder, "openvino", device="cpu", precision="bf16")
    except BackendError as error:
        assert "OpenVINO on cpu computes in fp32" in str(error)
        return
    assert backend.precision == "bf16" and backend.name == "OpenVINO on cpu, bf16"
    assert 1e-4 < loss(backend, golden) < 0.05


def test_openvino_keeps_to_the_limit_of_onednn(exported, monkeypatch):
    skip_without("openvino")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(BackendError, match="OpenVINO on cpu computes in fp32"):
        open_backend(exported.folder, "openvino", device="cpu", precision="bf16")


def test_a_built_model_computes_the_numbers_of_bf16(exported, golden):
    model, _ = trained_model(exported.cfg, exported.weights)
    weights = model.head.fc.weight.numpy()
    half = open_backend(model, device="cpu", precision="bf16")
    assert half.name == "eager on cpu, bf16" and 1e-4 < loss(half, golden) < 0.05
    exact = open_backend(model, device="cpu")
    assert exact.name == "eager on cpu" and loss(exact, golden) < 1e-5
    np.testing.assert_array_equal(model.head.fc.weight.numpy(), weights)
    assert model.head.fc.weight.dtype == paddle.float32


def test_fp16_on_a_cpu_is_bf16_and_says_so(exported, golden, warnings):
    """PaddleVideo's command lines mean bfloat16 by fp16 on a CPU."""
    model, _ = trained_model(exported.cfg, exported.weights)
    backend = open_backend(model, device="cpu", precision="fp16")
    # Here, as above, 6e-3 to 9e-3 with AVX2 and AVX-512.
    assert backend.precision == "bf16" and 1e-4 < loss(backend, golden) < 0.05
    assert "precision fp16: eager on cpu has no fp16 and computes in bf16" in warnings.text


@needs_bfloat16
def test_fp16_of_paddle_on_a_cpu_is_bf16_and_says_so(exported, warnings):
    backend = open_backend(exported.folder, "paddle", device="cpu", precision="fp16")
    assert backend.precision == "bf16" and backend.name.endswith(", bf16")
    assert "has no fp16 and computes in bf16 instead" in warnings.text


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_processor_without_bfloat16_says_what_it_has(exported, monkeypatch, precision):
    monkeypatch.setattr(paddle_internals, "has_bfloat16", lambda: False)
    message = rf"on this cpu computes in fp32, but precision {precision} .* needs a processor with"
    with pytest.raises(BackendError, match=message):
        open_backend(exported.folder, "paddle", device="cpu", precision=precision)


def test_the_limit_of_onednn_counts(monkeypatch):
    has = paddle.base.core.supports_bfloat16_fast_performance()
    for limit, expected in (("AVX2", False), ("AVX512_CORE_VNNI", False), ("ALL", has)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert paddle_internals.has_bfloat16() == expected


@needs_bfloat16
def test_bf16_of_paddle_needs_onednn(exported):
    with pytest.raises(BackendError, match=r"bf16 needs oneDNN; leave it on"):
        open_backend(exported.folder, "paddle", device="cpu", precision="bf16", onednn=False)


@needs_bfloat16
def test_paddle_does_not_leave_3d_convolutions_in_fp32(tmp_path):
    """Paddle computes the 3-D convolutions of a .pdmodel in fp32, whatever is requested."""
    config = inference.Config()
    for name, message in (("a.pdmodel", "export with --format pir"), ("a.json", "")):
        (tmp_path / name).write_bytes(b"\n..\x1a\x06conv3d..")
        program = Program(tmp_path / name, None, {})
        missing = paddle_inference._missing_for_bf16(config, program)
        assert message in missing and bool(message) == bool(missing)


def test_paddle_prefers_the_program_that_it_computes_in_bf16(exported):
    assert find_program(exported.folder, "paddle").model.suffix == ".pdmodel"
    assert find_program(exported.folder, "paddle", precision="bf16").model.suffix == ".json"


def test_an_operator_without_a_bf16_kernel_is_explained(exported, golden, monkeypatch):
    backend = open_backend(exported.folder, "paddle", device="cpu")

    def run():
        raise NotImplementedError("(Unimplemented) There are no kernels of dequantize.")

    handle = SimpleNamespace(copy_from_cpu=lambda array: None)
    broken = SimpleNamespace(run=run, get_input_handle=lambda name: handle)
    monkeypatch.setattr(backend, "_predictor", broken)
    with pytest.raises(BackendError, match=r"cannot run it: .* no kernels of dequantize\.$"):
        backend.run({"frames": golden["frames"]})
    monkeypatch.setattr(backend, "precision", "bf16")
    with pytest.raises(BackendError, match=r"no kernels of dequantize\.; use precision fp32"):
        backend.run({"frames": golden["frames"]})


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_onnxruntime_on_a_cpu_has_fp32_alone(exported, precision):
    skip_without("onnxruntime")
    message = f"onnxruntime computes in fp32, but precision {precision} was requested"
    with pytest.raises(BackendError, match=message):
        open_backend(exported.folder, "onnxruntime", device="cpu", precision=precision)


@pytest.mark.parametrize("kind", ["paddle", "onnxruntime"])
def test_int8_names_the_runtimes_that_have_it(exported, kind):
    message = f"{kind} computes no int8; use --backend openvino or tensorrt"
    with pytest.raises(BackendError, match=message):
        find_program(exported.folder, kind, precision="int8")


def test_a_built_model_has_no_int8(exported):
    model, _ = trained_model(exported.cfg, exported.weights)
    with pytest.raises(BackendError, match="eager on cpu computes in fp32, bf16, but .* int8"):
        open_backend(model, device="cpu", precision="int8")


@pytest.mark.parametrize("kind", ["auto", "openvino"])
def test_a_folder_without_an_int8_program_asks_for_it(exported, kind):
    with pytest.raises(BackendError, match=r"quantize first: .*quantize.* -m .*out --videos LIST"):
        find_program(exported.folder, kind, precision="int8")


@pytest.mark.parametrize("kind", ["auto", "openvino"])
def test_programs_are_of_the_precision_that_is_requested(tmp_path, kind):
    for name in ("a.onnx", "a_int8.xml", "a_int8.bin"):
        (tmp_path / name).touch()
    assert find_program(tmp_path, kind).model.name == "a.onnx"
    program = find_program(tmp_path, kind, precision="int8")
    assert program.model.name == "a_int8.xml" and program.params == tmp_path / "a_int8.bin"
    with pytest.raises(BackendError, match=r"a_int8\.xml: .* which needs --precision int8"):
        find_program(tmp_path / "a_int8.xml", kind)
    with pytest.raises(BackendError, match=r"a\.onnx: .* reads \.xml; quantize first"):
        find_program(tmp_path / "a.onnx", kind, precision="int8")
    (tmp_path / "a_int8.bin").unlink()
    with pytest.raises(BackendError, match=r"a_int8\.bin: there is no such file; .* and its \.bin"):
        find_program(tmp_path / "a_int8.xml", kind, precision="int8")


def test_a_program_that_is_not_quantized_is_not_int8(exported, tmp_path):
    skip_without("openvino")
    if missing_for_onnx():
        pytest.skip(missing_for_onnx())
    library = pytest.importorskip("openvino")
    model = openvino_core().read_model(str(exported.folder / "tiny.onnx"))
    library.save_model(model, str(tmp_path / "a.xml"), compress_to_fp16=False)
    with pytest.raises(BackendError, match=r"a\.xml: not a quantized program"):
        open_backend(tmp_path / "a.xml", "openvino", precision="int8")
    (tmp_path / "a.xml").write_text("<net", encoding="utf-8")
    with pytest.raises(BackendError, match="cannot open it: .*quantize the model again"):
        open_backend(tmp_path / "a.xml", "openvino", precision="int8")


def test_a_device_of_openvino_has_what_it_lists(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)

    def core(*names):
        return SimpleNamespace(get_property=lambda device, key: names)

    assert openvino._precisions(core("FP32", "INT8", "BIN"), "CPU") == ("fp32", "int8")
    assert openvino._precisions(core("BF16", "FP32"), "CPU") == ("fp32", "bf16")
    assert openvino._precisions(core("FP16", "FP32"), "GPU.0") == ("fp32", "fp16")


def test_paddle_on_a_gpu_has_fp32_and_fp16():
    types = inference.PrecisionType
    assert paddle_inference.precision_type(Options(precision="fp16")) == types.Half
    assert paddle_inference.precision_type(Options()) == types.Float32
    with pytest.raises(BackendError, match="Paddle on a GPU computes in fp32, fp16, but .* bf16"):
        paddle_inference.precision_type(Options(precision="bf16"))


def test_a_precision_that_is_missing_is_an_error_with_those_that_are_there():
    assert precision_here(Options(precision="bf16"), ("fp32", "bf16"), "X") == "bf16"
    message = "X on cpu computes in fp32, int8, but precision bf16 was requested; do Y"
    with pytest.raises(BackendError, match=message):
        precision_here(Options(precision="bf16"), ("fp32", "int8"), "X on cpu", "do Y")
    assert {kind for kind, runtime in RUNTIMES.items() if runtime.int8_suffixes} == {"openvino"}
