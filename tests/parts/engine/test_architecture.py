"""Files of TSM and TSN have the same tensors; what tells them apart, and where it is asked."""

import json
import logging

import numpy as np
import paddle
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.engine.architecture import ARCHITECTURE, architecture_note
from paddlevideo.engine.checkpoint import TrainState, read_checkpoint
from paddlevideo.engine.load import trained_model
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.weights import WeightsError, read_arrays, state_arrays, write_arrays

HEADS = {
    "ResNet": "TSNHead",
    "ResNetTSM": "TSMHead",
    "ResNetTweaksTSN": "ppTSNHead",
    "ResNetTweaksTSM": "ppTSMHead",
}
PAIRS = [
    ("ResNet", "ResNetTSM"),
    ("ResNetTSM", "ResNet"),
    ("ResNetTweaksTSN", "ResNetTweaksTSM"),
    ("ResNetTweaksTSM", "ResNetTweaksTSN"),
]


def build(name):
    depth = "layers" if name == "ResNetTweaksTSN" else "depth"
    backbone = lookup("backbone", name).make(**{depth: 50}, base_channels=4)
    return Recognizer2D(backbone, lookup("head", HEADS[name]).make(num_classes=4))


def saved(name, path):
    write_arrays(path, TrainState(build(name), None, None).model_arrays())
    return path


@pytest.mark.parametrize(("made_by", "configured"), PAIRS)
def test_the_tensors_do_not_tell_them_apart(made_by, configured):
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in build(name).state_dict().items()}
        for name in (made_by, configured)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("made_by", "configured"), PAIRS)
def test_a_file_of_the_other_kind_is_refused(tmp_path, made_by, configured):
    path = saved(made_by, tmp_path / "a.pdparams")
    recorded = read_checkpoint(path)[3]
    assert recorded == made_by
    assert architecture_note(build(made_by), path, recorded, training=False) is None
    message = f"weights of {made_by}, but MODEL.backbone is {configured}; leave out -c"
    with pytest.raises(WeightsError, match=message):
        architecture_note(build(configured), path, recorded, training=False)
    note = architecture_note(build(configured), path, recorded, training=True)
    assert note.endswith("the training starts from them all the same")


@pytest.mark.parametrize(
    ("file", "configured", "doubt"),
    [
        ("ppTSN_k400.pdparams", "ResNetTweaksTSM", "Its name says TSN: check MODEL.backbone"),
        ("ppTSM_k400_uniform.pdparams", "ResNetTweaksTSN", "Its name says TSM"),
        ("TSM_ucf101_nchw.pdparams", "ResNet", "Its name says TSM"),
        ("TSN_k400_8.pdparams", "ResNetTSM", "Its name says TSN"),
        ("ppTSM_k400_dense.pdparams", "ResNetTweaksTSM", ""),
        ("mine.pdparams", "ResNetTSM", ""),
    ],
)
def test_of_a_file_without_a_record_the_config_decides(tmp_path, file, configured, doubt):
    model = build(configured)
    write_arrays(tmp_path / file, state_arrays(model))
    recorded = read_checkpoint(tmp_path / file)[3]
    assert recorded is None
    note = architecture_note(model, tmp_path / file, recorded, training=False)
    assert f"{file} does not record its architecture; it is taken for {configured}" in note
    assert (doubt in note) if doubt else "Its name says" not in note


def test_no_note_where_no_other_network_has_the_tensors(tmp_path):
    backbone = lookup("backbone", "EfficientNetLite").make()
    model = Recognizer2D(backbone, lookup("head", "TSNHead").make(num_classes=4))
    assert architecture_note(model, "ppTSN.pdparams", None, training=False) is None


@pytest.mark.parametrize("value", [[1], None, {"a": 1}])
def test_rejects_an_odd_record(tmp_path, value):
    stored = np.frombuffer(json.dumps(value).encode(), np.uint8)
    write_arrays(tmp_path / "w.pdparams", {"w": np.ones(2), ARCHITECTURE: stored})
    with pytest.raises(WeightsError, match=rf"w.pdparams: {ARCHITECTURE} is not a name"):
        read_checkpoint(tmp_path / "w.pdparams")


def test_a_state_of_the_other_kind_is_not_resumed(tmp_path):
    arrays = TrainState(build("ResNet"), None, None).model_arrays()
    progress = np.frombuffer(b'{"scaler": {}, "fingerprint": ""}', np.uint8)
    state = TrainState(build("ResNetTSM"), None, None)
    with pytest.raises(WeightsError, match="weights of ResNet, but MODEL.backbone is ResNetTSM"):
        state._restore(arrays, {"progress@@": progress}, tmp_path / "a.pdstate")


def test_a_test_and_an_export_refuse_the_other_kind(demo, tmp_path, caplog):
    small = demo("MODEL.backbone.base_channels=4", "MODEL.head.num_classes=4")
    depth = small.MODEL.args["backbone"].args["layers"]
    own = Recognizer2D(
        lookup("backbone", "ResNetTweaksTSN").make(layers=depth, base_channels=4),
        lookup("head", "ppTSNHead").make(num_classes=4),
    )
    arrays = TrainState(own, None, None).model_arrays()
    write_arrays(tmp_path / "own.pdparams", arrays)
    model, _ = trained_model(small, tmp_path / "own.pdparams")
    assert model.architecture == "ResNetTweaksTSN"
    assert "does not record" not in caplog.text

    arrays[ARCHITECTURE] = np.frombuffer(b'"ResNetTweaksTSM"', np.uint8)
    write_arrays(tmp_path / "other.pdparams", arrays)
    with pytest.raises(WeightsError, match="weights of ResNetTweaksTSM, but MODEL.backbone is"):
        trained_model(small, tmp_path / "other.pdparams")

    del arrays[ARCHITECTURE]
    write_arrays(tmp_path / "ppTSM_k400.pdparams", arrays)
    with caplog.at_level(logging.WARNING):
        trained_model(small, tmp_path / "ppTSM_k400.pdparams")
    assert "Its name says TSM" in caplog.text


def test_weights_are_written_with_their_architecture(tmp_path):
    paddle.seed(0)
    path = saved("ResNetTSM", tmp_path / "a.pdparams")
    assert read_arrays(path)[ARCHITECTURE].tobytes() == b'"ResNetTSM"'
    assert ARCHITECTURE not in read_checkpoint(path)[0]
