"""Folders that PaddleX exported: their preprocessing, and mistakes in inference.yml."""

from copy import deepcopy

import av
import cv2
import numpy as np
import paddle
import pytest
from paddle.nn.initializer import Constant

from paddlevideo.config.schema import ConfigError
from paddlevideo.predict.predictor import Predictor
from paddlevideo.runtimes.choose import find_program, open_backend
from paddlevideo.runtimes.manifest import exported_folder
from paddlevideo.runtimes.paddlex import read_paddlex
from tests.parts.conftest import NAMES, skip_without
from tests.parts.paddlex_folders import STEPS, description, make_folder, write_description
from tests.parts.predict.families import scores_of


@pytest.fixture(scope="module")
def backend(exported):
    """Runs the program of `exported`."""
    return open_backend(exported.folder, "paddle", device="cpu", threads=1)


def paddlex_scores(backend, path: str, num_seg: int = 2, short: int = 72, crop: int = 64):
    """The scores that PaddleX's steps give, written without this package's transforms."""
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    average = len(frames) // num_seg
    clip = []
    for segment in range(num_seg):
        image = frames[segment * average + (average - 1) // 2]
        height, width = image.shape[:2]
        if min(height, width) != short:
            long = int(short * 4.0 / 3.0)
            size = (short, long) if width <= height else (long, short)
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        height, width = image.shape[:2]
        left, top = round((width - crop) / 2.0), round((height - crop) / 2.0)
        clip.append(image[top : top + crop, left : left + crop])
    array = np.stack(clip).astype("float32").transpose(0, 3, 1, 2) / 255.0
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (mean, std))
    logits = backend.run({"frames": ((array - mean) / std)[None].astype(np.float32)})[0]
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


@pytest.mark.parametrize("program", [".json", ".pdmodel"])
def test_scores_are_those_of_paddlex(exported, backend, tmp_path, program):
    folder = make_folder(exported, tmp_path / "model", program, topk=3)
    predictor = Predictor(folder, device="cpu", threads=1)
    assert predictor.top_k == 3 and predictor.labels == NAMES
    for path, result in zip(exported.files, predictor.predict(exported.videos, 2), strict=True):
        expected = paddlex_scores(backend, path)
        scores = scores_of(result)
        np.testing.assert_allclose([scores[k] for k in range(3)], expected, rtol=0, atol=1e-5)
        assert result.label_names == [NAMES[k] for k in np.argsort(-expected)]
        assert len(set(result.scores)) == 3


def test_an_onnx_program_is_found_too(exported, backend, tmp_path):
    skip_without("onnxruntime")
    folder = make_folder(exported, tmp_path, topk=3)
    (folder / "inference.json").unlink()
    (folder / "inference.onnx").write_bytes((exported.folder / "tiny.onnx").read_bytes())
    (result,) = Predictor(folder, backend="onnxruntime").predict(exported.files[0])
    expected = paddlex_scores(backend, exported.files[0])
    assert scores_of(result)[0] == pytest.approx(float(expected[0]), abs=1e-4)


def test_a_program_with_paddlex_input_name(exported, tmp_path):
    class MeanColor(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.scale = self.create_parameter([1], default_initializer=Constant(2.0))

        def forward(self, x):
            return x.mean(axis=[1, 3, 4]) * self.scale

    write_description(tmp_path, description(labels=["red", "green", "blue"], topk=3))
    spec = paddle.static.InputSpec([None, 2, 3, 64, 64], "float32", "x")
    paddle.jit.save(MeanColor(), str(tmp_path / "inference"), input_spec=[spec])
    frames = np.zeros((9, 80, 90, 3), np.uint8)
    frames[..., 2] = 255
    predictor = Predictor(tmp_path, device="cpu", threads=1)
    assert list(predictor.backend.inputs) == ["x"]
    (result,) = predictor.predict(frames)
    assert result.label_names[0] == "blue" and result.scores[0] > 0.9


def test_the_order_of_the_list_has_no_effect(tmp_path):
    write_description(tmp_path, description(STEPS[::-1]))
    pipeline = read_paddlex(tmp_path).pipeline
    assert [next(iter(step)) for step in pipeline["transform"]] == [
        *("Scale", "CenterCrop", "Image2Array", "Normalization")
    ]


def test_defaults_are_those_of_paddlex(tmp_path):
    steps = [{"ReadVideo": {"sample_type": "uniform"}}, "Scale", "CenterCrop", "Image2Array"]
    write_description(tmp_path, description([*steps, {"NormalizeVideo": None}], labels=None))
    found = read_paddlex(tmp_path)
    scale, crop, _, normalize = (next(iter(step.values())) for step in found.pipeline["transform"])
    assert (found.pipeline["sample"]["num_seg"], found.labels) == (8, None)
    assert (scale["short_size"], scale["backend"], crop["target_size"]) == (224, "cv2", 224)
    assert normalize["std"] == [0.229, 0.224, 0.225]


def test_labels_are_text(tmp_path):
    write_description(tmp_path, description(labels=["a", 7, True, "红"]))
    assert read_paddlex(tmp_path).labels == ["a", "7", "True", "红"]


def test_other_folders_are_no_exports_of_paddlex(tmp_path, exported):
    assert read_paddlex(tmp_path) is None
    assert read_paddlex(exported.folder) is None


@pytest.mark.parametrize("inside", ["", "inference", "best_model/inference"])
def test_the_folder_of_a_training_is_searched(exported, tmp_path, inside):
    folder = make_folder(exported, tmp_path / "output" / inside)
    assert exported_folder(tmp_path / "output") == folder
    assert find_program(tmp_path / "output").model == folder / "inference.json"


def test_a_program_is_given_by_its_path(exported, tmp_path):
    folder = make_folder(exported, tmp_path)
    predictor = Predictor(folder / "inference.json", device="cpu", threads=1)
    (result,) = predictor.predict(exported.files[0])
    assert result.label_names[0] in NAMES


def test_a_config_replaces_the_description(exported, tmp_path):
    """A wrong inference.yml does not matter then, and the test of the config has ten crops."""
    folder = make_folder(exported, tmp_path, steps=["Broken"])
    predictor = Predictor(folder, exported.config, device="cpu", threads=1)
    assert predictor.top_k == 2 and predictor.labels is None
    (result,) = predictor.predict(exported.files[0])
    assert len(result.scores) == 2 and result.error is None


def test_the_number_of_labels_must_be_that_of_the_model(exported, tmp_path):
    folder = make_folder(exported, tmp_path, labels=["a", "b"])
    with pytest.raises(ConfigError, match="3 classes, but 2 class names"):
        list(Predictor(folder, device="cpu").predict(exported.files[0]))


def test_a_pipeline_that_does_not_fit_the_program(exported, tmp_path):
    steps = deepcopy(STEPS)
    steps[0]["ReadVideo"]["num_seg"] = 8
    folder = make_folder(exported, tmp_path, program=".pdmodel", steps=steps)
    predictor = Predictor(folder, backend="paddle", device="cpu", threads=1)
    assert predictor.backend.inputs  # Paddle knows no shapes before a run; onnxruntime does
    skip_without("onnxruntime")
    (folder / "inference.onnx").write_bytes((exported.folder / "tiny.onnx").read_bytes())
    with pytest.raises(ConfigError, match=r"the program takes frames \[2, 3, 64, 64\]"):
        Predictor(folder, backend="onnxruntime")


def changed(number: int, **args) -> list:
    """STEPS with other arguments of one operation."""
    steps = deepcopy(STEPS)
    ((name, old),) = steps[number].items()
    steps[number] = {name: {**old, **args}}
    return steps


@pytest.mark.parametrize(
    ("steps", "line", "message"),
    [
        (changed(0, num_seg=0), "num_seg: 0", "ReadVideo.num_seg is 0, expected at least 1"),
        (changed(0, num_segs=8), "num_segs: 8", "num_segs is not known; did you mean 'num_seg'?"),
        (changed(0, sample_type="dense"), "sample_type: dense", "is 'dense', expected 'uniform'"),
        ([{"ReadVideo": {"num_seg": 8}}, *STEPS[1:]], "- ReadVideo:", "lacks 'sample_type'"),
        (changed(1, short_size="9px"), "short_size: 9px", "short_size is '9px', expected int"),
        (changed(3, data_format="cthw"), "data_format: cthw", "is 'cthw', expected 'tchw'"),
        (
            [{"CentreCrop": {}}],
            "- CentreCrop",
            "'CentreCrop' for videos; did you mean 'CenterCrop'",
        ),
        ([{"ResizeImage": {"size": 4}}], "- ResizeImage", "'ResizeImage' for videos; known: Read"),
        ([*STEPS, {"Scale": {"short_size": 9}}], "- Scale", "Scale is given twice, first at"),
        (
            STEPS[:4],
            "transform_ops:",
            "transform_ops has no NormalizeVideo; a model for videos has",
        ),
        ([{"Scale": {}, "CenterCrop": {}}], "- CenterCrop", "expected a map with one operation"),
        ("all", "transform_ops: all", "expected PreProcess.transform_ops, a list of ReadVideo"),
    ],
)
def test_mistakes_have_a_line(tmp_path, steps, line, message):
    path = write_description(tmp_path, description(steps))
    with pytest.raises(ConfigError) as caught:
        read_paddlex(tmp_path)
    (found,) = [text for text in caught.value.problems if message in text]
    place = found.removeprefix(f"{path}:").split(":")[0]
    assert line in path.read_text(encoding="utf-8").splitlines()[int(place) - 1], found


def test_values_that_a_step_refuses_have_a_line(exported, tmp_path):
    steps = changed(4, std=[0.2, 0.0, 0.2])
    folder = make_folder(exported, tmp_path, steps=steps)
    with pytest.raises(ConfigError, match=r"inference.yml:\d+: .*std is .* divides a channel by 0"):
        Predictor(folder, device="cpu")


RIGHT = {"transform_ops": STEPS}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"PreProcess": RIGHT, "PostProcess": {"Threshold": {}}}, "expected Topk"),
        ({"PreProcess": RIGHT, "PostProcess": {"Topk": {"k": 1}}}, "k is not known"),
        ({"PreProcess": RIGHT, "PostProcess": {"Topk": {"topk": 0}}}, "at least 1"),
        ({"PreProcess": None}, "no preprocessing of videos in this file"),
        ({}, "no preprocessing of videos in this file"),
        ([1, 2], "expected a map of sections"),
    ],
)
def test_other_descriptions_are_refused(tmp_path, content, message):
    path = write_description(tmp_path, content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_paddlex(tmp_path)
    assert str(caught.value).startswith(f"{path}:")


def test_text_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "inference.yml").write_text("PreProcess: [\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"inference.yml:\d+: not valid YAML"):
        read_paddlex(tmp_path)
