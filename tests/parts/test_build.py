"""Config -> objects: pretrained files are accounted for, classes derived, pipelines tried before data is opened."""

import numpy as np
import paddle
import pytest

from paddlevideo.engine.build import (
    Classes,
    build_model,
    build_pipeline,
    known_classes,
    load_pretrained,
    load_records,
    preflight,
)
from paddlevideo.schema import ConfigError
from paddlevideo.weights import WeightsError, state_arrays, write_arrays


def imagenet_file(cfg, path, drop=()):
    """What an ImageNet classifier of the same backbone would hold, as PaddleVideo's download does."""
    arrays = {k.removeprefix("backbone."): v for k, v in state_arrays(build_model(cfg, 2)).items() if k.startswith("backbone.")}
    arrays |= {"out.weight": np.zeros((512, 1000), np.float32), "out.bias": np.zeros(1000, np.float32)}
    write_arrays(path, {k: v for k, v in arrays.items() if k not in drop})
    return arrays


def test_pretrained_backbone_is_loaded_and_accounted_for(small, tmp_path):
    path = tmp_path / "imagenet.pdparams"
    paddle.seed(7)
    arrays = imagenet_file(small(), path)
    cfg = small(f"MODEL.backbone.pretrained={path}")
    paddle.seed(8)
    model = build_model(cfg, 3)
    (account,) = load_pretrained(cfg, model)
    assert str(account) == f"{path}: 115 of 115 tensors loaded; not in the model: out.weight, out.bias"
    got = model.state_dict()["backbone.conv1_1._conv.weight"].numpy()
    assert (got == arrays["conv1_1._conv.weight"]).all()


def test_a_whole_recognizer_serves_as_pretrained(small, tmp_path):
    write_arrays(tmp_path / "video.pdparams", state_arrays(build_model(small(), 5)))
    cfg = small(f"MODEL.backbone.pretrained={tmp_path / 'video.pdparams'}")
    (account,) = load_pretrained(cfg, build_model(cfg, 3))
    assert len(account.loaded) == 115 and not account.missing


def test_pretrained_of_another_network_is_refused(small, tmp_path):
    imagenet_file(small(), tmp_path / "part.pdparams", drop=("conv1_1._conv.weight",))
    cfg = small(f"MODEL.backbone.pretrained={tmp_path / 'part.pdparams'}")
    with pytest.raises(WeightsError, match=r"114 of 115 tensors loaded; not in the file: conv1_1._conv.weight"):
        load_pretrained(cfg, build_model(cfg, 3))


def test_classes_come_from_data_config_or_checkpoint(small):
    cfg = small()
    lists, classes = load_records(cfg, ("train", "valid"))
    assert classes == Classes(3, ["blue sky", "green", "红色"]) and classes.name(2) == "红色"
    assert {r.label for r in lists["valid"].records} == {0, 1, 2}
    assert known_classes(cfg, ["a", "b"]).num == 2
    assert known_classes(small("MODEL.head.num_classes=7"), None) == Classes(7)
    with pytest.raises(ValueError, match=r"num_classes 7, the data has 3 classes \(blue sky, green, 红色\)"):
        load_records(small("MODEL.head.num_classes=7"), ("train",))


def test_a_file_of_class_names_wins(small, tmp_path):
    (tmp_path / "names.txt").write_text("green\nblue sky\n红色\nunseen\n", encoding="utf-8")
    cfg = small(f"DATASET.class_names={tmp_path / 'names.txt'}")
    lists, classes = load_records(cfg, ("train",))
    assert classes.num == 4
    assert {r.label for r in lists["train"].records if "green" in r.path} == {0}


def test_missing_sections_say_what_is_needed(small):
    with pytest.raises(ConfigError, match=r"config.yaml: DATASET.test is missing; give it a format and a file_path"):
        load_records(small("DATASET.test=null"), ("test",))
    with pytest.raises(ConfigError, match=r"PIPELINE.valid is missing"):
        build_pipeline(small("PIPELINE.valid=null"), "valid")


def test_preflight_gives_shapes(small):
    cfg = small()
    shapes = preflight(cfg, build_model(cfg, 3), ("train", "valid", "test"))
    assert shapes == {
        "train": {"frames": (2, 3, 32, 32)}, "valid": {"frames": (2, 3, 32, 32)}, "test": {"frames": (10, 2, 3, 32, 32)},
    }  # fmt: skip


def test_preflight_names_every_pipeline_that_does_not_fit(small):
    cfg = small(
        "PIPELINE.train.transform=[{CenterCrop: {target_size: 32}}]", "PIPELINE.valid.transform.1.CenterCrop.target_size=320"
    )
    with pytest.raises(ConfigError) as caught:
        preflight(cfg, build_model(cfg, 3), ("train", "valid"))
    train, valid = caught.value.problems
    assert (
        "PIPELINE.train: the model takes frames as S C H W = any x 3 x any x any float32; the pipeline gives [2, 32, 32, 3]"
        in train
    )
    assert "PIPELINE.valid fails on a made-up clip of 320x240: CenterCrop" in valid


def test_a_test_pipeline_must_not_draw(small):
    cfg = small("PIPELINE.test.transform.1={RandomCrop: {target_size: 32}}")
    with pytest.raises(ConfigError, match=r"PIPELINE.test draws random numbers"):
        build_pipeline(cfg, "test")
