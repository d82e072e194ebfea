"""The settings of every family's program on a GPU, on doubles of Paddle and of ONNX Runtime."""

import numpy as np
import paddle
import pytest

from paddlevideo.engine.build import build_model, load_config
from paddlevideo.exporting.export import program_inputs
from paddlevideo.runtimes import engines, tensorrt
from paddlevideo.runtimes.base import Options, Program
from paddlevideo.runtimes.onnx_runtime import tensorrt_settings
from paddlevideo.runtimes.paddle_inference import PaddleBackend
from tests.gpu_build import GpuBuild
from tests.parts.conftest import skip_without

CONFIGS = {
    "pptsn": "configs/demo/pptsn.yaml",
    "tsn": "configs/recognition/tsn/tsn_k400_videos.yaml",
    "pptsm": "configs/recognition/pptsm/v2/pptsm_lcnet_k400_8frames_uniform.yaml",
    "slowfast": "configs/demo/slowfast_small.yaml",
    "avslowfast": "configs/demo/avslowfast.yaml",
    "audio": "configs/demo/audio.yaml",
    "motion": "configs/finetune/motion.yaml",
    "nextvlad": "configs/demo/nextvlad.yaml",
}
CLIPS = 6


@pytest.fixture(scope="module", params=CONFIGS)
def family(request, root):
    """(inputs of the program of a family, the sizes of one clip by input)."""
    cfg = load_config(root / CONFIGS[request.param], [])
    with paddle.LazyGuard():  # without initial weights, which no test reads
        model = build_model(cfg, 3868 if "nextvlad" in request.param else 4)
    inputs, sample = program_inputs(cfg, model)
    return inputs, {name: list(sample[name].shape) for name in inputs}


@pytest.fixture
def program(family, tmp_path) -> Program:
    """Files that only a double opens."""
    (tmp_path / "x.pdmodel").write_bytes(b"\n")
    (tmp_path / "x.pdiparams").write_bytes(b"weights")
    return Program(tmp_path / "x.pdmodel", tmp_path / "x.pdiparams", family[0])


def zeros(program: Program, num_clips: int) -> dict[str, np.ndarray]:
    return {
        name: np.zeros([num_clips, *(size or 1 for size in spec.shape[1:])], spec.dtype)
        for name, spec in program.inputs.items()
    }


def test_every_family_has_ranges_of_shapes(family):
    inputs, sizes = family
    ranges = engines.shape_ranges(Program("x", None, inputs), CLIPS)  # pyright: ignore
    assert ranges.keys() == inputs.keys()
    for name, shapes in ranges.items():
        assert shapes.least == [1, *sizes[name]]
        assert shapes.usual == shapes.most == [CLIPS, *sizes[name]]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_gets_the_shapes_of_every_family(monkeypatch, program, family, precision):
    build = GpuBuild(monkeypatch)
    build.inputs, sizes = list(program.inputs), family[1]
    options = Options(precision=precision, max_batch=CLIPS)
    backend = tensorrt.TensorRTBackend(program, options)
    (shapes,) = build.calls("set_trt_dynamic_shape_info")
    assert shapes["min_input_shape"] == {name: [1, *size] for name, size in sizes.items()}
    most = {name: [CLIPS, *size] for name, size in sizes.items()}
    assert shapes["max_input_shape"] == shapes["optim_input_shape"] == most
    # The runs that collect the shapes inside the program have all inputs, in their types.
    given = [
        (c["name"], c["array"].shape, str(c["array"].dtype)) for c in build.calls("copy_from_cpu")
    ]
    assert given == [
        (name, (num, *size), program.inputs[name].dtype)
        for num in (1, CLIPS)
        for name, size in sizes.items()
    ]
    assert backend.run(zeros(program, 2)).shape == (2, 3)
    assert len(build.calls("enable_tensorrt_engine")) == 1


def test_paddle_inference_opens_every_family(monkeypatch, program):
    build = GpuBuild(monkeypatch)
    build.inputs = list(program.inputs)
    backend = PaddleBackend(program, Options(device="gpu", precision="fp16"))
    assert backend.name == "Paddle Inference on gpu:0, fp16"
    assert backend.inputs == dict(program.inputs)
    assert backend.run(zeros(program, 2)).shape == (2, 3)
    assert {c["name"] for c in build.calls("copy_from_cpu")} == set(program.inputs)


def test_onnxruntime_gets_the_shapes_of_every_family(program, family):
    skip_without("onnxruntime")
    settings = tensorrt_settings(program, Options(precision="fp16", max_batch=CLIPS), 0)
    for word, num in (("min", 1), ("opt", CLIPS), ("max", CLIPS)):
        texts = [f"{name}:{'x'.join(map(str, [num, *size]))}" for name, size in family[1].items()]
        assert settings[f"trt_profile_{word}_shapes"] == ",".join(texts)
