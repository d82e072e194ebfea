"""From a config to models, classes and pipelines; pretrained files; checks before data is read."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.engine.classes import Classes, known_classes, load_records
from paddlevideo.engine.preflight import preflight
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.models.base import Recognizer
from paddlevideo.sample import InputSpec
from paddlevideo.weights import WeightsError, state_arrays, write_arrays


def imagenet_file(cfg, path, drop=()):
    """Write weights of an ImageNet classifier with this backbone, as PaddleVideo publishes them."""
    arrays = {
        name.removeprefix("backbone."): array
        for name, array in state_arrays(build_model(cfg, 2)).items()
        if name.startswith("backbone.")
    }
    arrays["out.weight"] = np.zeros((512, 1000), np.float32)
    arrays["out.bias"] = np.zeros(1000, np.float32)
    write_arrays(path, {k: v for k, v in arrays.items() if k not in drop})
    return arrays


def test_loads_a_pretrained_backbone_and_reports_its_tensors(small, tmp_path):
    path = tmp_path / "imagenet.pdparams"
    paddle.seed(7)
    arrays = imagenet_file(small(), path)
    cfg = small(f"MODEL.backbone.pretrained={path}")
    paddle.seed(8)
    model = build_model(cfg, 3)
    (account,) = load_pretrained(cfg, model)
    text = f"{path}: 75 of 75 tensors loaded; not in the model: out.weight, out.bias"
    assert str(account) == text
    weight = model.state_dict()["backbone.conv1_1._conv.weight"].numpy()
    assert (weight == arrays["conv1_1._conv.weight"]).all()


def test_loads_the_backbone_of_a_complete_recognizer(small, tmp_path):
    write_arrays(tmp_path / "video.pdparams", state_arrays(build_model(small(), 5)))
    cfg = small(f"MODEL.backbone.pretrained={tmp_path / 'video.pdparams'}")
    (account,) = load_pretrained(cfg, build_model(cfg, 3))
    assert len(account.loaded) == 75 and not account.missing


def test_rejects_a_pretrained_file_of_another_network(small, tmp_path):
    imagenet_file(small(), tmp_path / "part.pdparams", drop=("conv1_1._conv.weight",))
    cfg = small(f"MODEL.backbone.pretrained={tmp_path / 'part.pdparams'}")
    message = r"74 of 75 tensors loaded; not in the file: conv1_1._conv.weight"
    with pytest.raises(WeightsError, match=message):
        load_pretrained(cfg, build_model(cfg, 3))


def test_reads_classes_from_data_config_or_checkpoint(small):
    cfg = small()
    lists, classes = load_records(cfg, ("train", "valid"))
    assert classes == Classes(3, ["blue sky", "green", "红色"]) and classes.name(2) == "红色"
    assert {r.label for r in lists["valid"].records} == {0, 1, 2}
    assert known_classes(cfg, ["a", "b"]).num == 2
    assert known_classes(small("MODEL.head.num_classes=7"), None) == Classes(7)
    data = r"the data has 3 classes \(blue sky, green, 红色\)"
    with pytest.raises(ValueError, match=rf"num_classes is 7 in the config, but {data}"):
        load_records(small("MODEL.head.num_classes=7"), ("train",))


def test_a_class_file_defines_the_classes(small, tmp_path):
    (tmp_path / "names.txt").write_text("green\nblue sky\n红色\nunseen\n", encoding="utf-8")
    cfg = small(f"DATASET.class_names={tmp_path / 'names.txt'}")
    lists, classes = load_records(cfg, ("train",))
    assert classes.num == 4
    assert {r.label for r in lists["train"].records if "green" in r.path} == {0}


def test_rejects_class_ids_in_one_list_and_names_in_another(small, clips, tmp_path):
    files = sorted((clips / "train").rglob("*.mp4"))[:4]
    with_ids = [f"{path} {number % 2}" for number, path in enumerate(files)]
    with_names = [f"{path},{'ba'[number % 2]}" for number, path in enumerate(files)]
    (tmp_path / "ids.list").write_text("\n".join(with_ids), encoding="utf-8")
    (tmp_path / "names.csv").write_text("\n".join(["path,label", *with_names]), encoding="utf-8")
    lists = [
        f"DATASET.train.file_path={tmp_path}/ids.list",
        f"DATASET.valid.file_path={tmp_path}/names.csv",
    ]
    message = r"DATASET.valid has class names \(a, b, ...\), DATASET.train has class ids"
    with pytest.raises(ValueError, match=message):
        load_records(small(*lists), ("train", "valid"))
    (tmp_path / "classes.txt").write_text("b\na\n")
    cfg = small(*lists, f"DATASET.class_names={tmp_path}/classes.txt")
    records, classes = load_records(cfg, ("train", "valid"))
    assert classes.names == ["b", "a"]
    assert [record.label for record in records["valid"].records] == [0, 1, 0, 1]


def test_class_ids_far_above_the_others_need_a_num_classes(small, clips, tmp_path, caplog):
    files = sorted((clips / "train").rglob("*.mp4"))[:3]
    path = tmp_path / "train.list"
    train = f"DATASET.train={{format: VideoDataset, file_path: {path}}}"

    def classes(labels, *overrides):
        lines = [f"{file} {label}" for file, label in zip(files, labels, strict=True)]
        path.write_text("\n".join(lines), encoding="utf-8")
        return load_records(small(train, *overrides), ("train",))[1]

    with pytest.raises(ValueError, match="DATASET.train: 3 records, labels 0 to 99999"):
        classes([0, 1, 99999])
    assert classes([0, 1, 99999], "MODEL.head.num_classes=100000").num == 100_000
    assert classes([1, 2, 3]).num == 4
    assert "DATASET.train: labels are 1 to 3 and no record has label 0" in caplog.text


def test_names_missing_sections(small):
    message = r"config.yaml: DATASET.test is missing; give it a format and a file_path"
    with pytest.raises(ConfigError, match=message):
        load_records(small("DATASET.test=null"), ("test",))
    with pytest.raises(ConfigError, match=r"PIPELINE.valid is missing"):
        build_pipeline(small("PIPELINE.valid=null"), "valid")


def test_preflight_returns_sizes(small):
    cfg = small()
    sizes = preflight(cfg, build_model(cfg, 3), ("train", "valid", "test"))
    num_bytes = 2 * 3 * 32 * 32  # between processes they are uint8
    assert sizes == {
        "train": ({"frames": (2, 3, 32, 32)}, 1, num_bytes),
        "valid": ({"frames": (2, 3, 32, 32)}, 1, num_bytes),
        "test": ({"frames": (10, 2, 3, 32, 32)}, 10, 10 * num_bytes),
    }


def test_preflight_names_every_pipeline_that_does_not_fit(small):
    cfg = small(
        "PIPELINE.train.transform=[{CenterCrop: {target_size: 32}}]",
        "PIPELINE.valid.transform.1.CenterCrop.target_size=320",
    )
    with pytest.raises(ConfigError) as caught:
        preflight(cfg, build_model(cfg, 3), ("train", "valid"))
    train, valid = caught.value.problems
    needed = "the model takes frames as S C H W = any x 3 x any x any float32"
    assert f"PIPELINE.train: {needed}; the pipeline gives [2, 32, 32, 3]" in train
    assert "PIPELINE.valid fails on a synthetic clip of 320x240: CenterCrop" in valid


def test_rejects_random_transforms_in_a_test(small):
    cfg = small("PIPELINE.test.transform.1={RandomCrop: {target_size: 32}}")
    with pytest.raises(ConfigError, match=r"PIPELINE.test draws random numbers"):
        build_pipeline(cfg, "test")


# --- tests with several views ---------------------------------------------------------------------


def many_views(small, *overrides, sampler=(), crop=(), data=()):
    """A config with the test of SlowFast; the arguments add to these components."""
    last_transforms = [
        {"Image2Array": {"transpose": False}},
        {"Normalization": {"mean": [0.45] * 3, "std": [0.225] * 3, "tensor_shape": [1, 1, 1, 3]}},
        {"PackOutput": {"alpha": 4}},
    ]
    crops = {"target_size": 32, "test_mode": True, **dict(crop)}
    test = {
        "decode_sampler": {
            "name": "DecodeSampler",
            "num_frames": 8,
            "sampling_rate": 2,
            "test_mode": True,
            **dict(sampler),
        },
        "transform": [
            {"JitterScale": {"min_size": 36, "max_size": 36}},
            {"MultiCrop": crops},
            *last_transforms,
        ],
    }
    dataset = {
        "format": "SFVideoDataset",
        "file_path": "test.list",
        "test_mode": True,
        "num_retries": 5,
        **dict(data),
    }
    return small(*overrides, PIPELINE={"test": test}, DATASET={"test": dataset})


@pytest.mark.parametrize(
    ("arguments", "views"),
    [
        ({}, 1),
        ({"data": {"num_ensemble_views": 4, "num_spatial_crops": 3}}, 12),
        ({"sampler": {"num_ensemble_views": 4}, "crop": {"num_spatial_crops": 3}}, 12),
        (
            {
                "sampler": {"num_ensemble_views": 2},
                "data": {"num_ensemble_views": 4, "num_spatial_crops": 3},
            },
            6,
        ),
    ],
)
def test_dataset_or_pipeline_sets_the_number_of_views(small, arguments, views):
    cfg = many_views(small, **arguments)
    assert build_pipeline(cfg, "test").num_views == views
    assert isinstance(build_pipeline(cfg, "test").decode, VideoDecoder)
    axis = (views,) if views > 1 else ()
    size = preflight(cfg, Pathways(), ("test",))["test"]
    assert size.shapes == {"slow": (*axis, 3, 2, 32, 32), "fast": (*axis, 3, 8, 32, 32)}


def test_rejects_several_views_of_a_random_sampler(small):
    cfg = many_views(small, sampler={"test_mode": False}, data={"num_ensemble_views": 4})
    problem = r"num_ensemble_views is 4, but only a test samples several clips; set test_mode: True"
    with pytest.raises(ConfigError, match=rf"decode_sampler: DecodeSampler: {problem}"):
        build_pipeline(cfg, "test")


class Pathways(Recognizer):
    """A model of two pathways that can only be preflighted."""

    alpha = 4

    def __init__(self):
        nn.Layer.__init__(self)

    @property
    def inputs(self):
        clip = InputSpec((None, 3, None, None, None), "float32", "N C T H W")
        return {"slow": clip, "fast": clip}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "PIPELINE.test.decode_sampler.num_frames=6",
            "PIPELINE.test fails on a synthetic clip of 320x240: "
            "PackOutput: alpha 4 does not divide 6 frames",
        ),
        (
            "PIPELINE.test.transform.1.MultiCrop.target_size=64",
            "MultiCrop needs frames of at least 64x64",
        ),
        (
            "PIPELINE.test.transform.4={Normalization: {mean: [0], std: [1], tensor_shape: [1]}}",
            "Normalization: frames are",
        ),
        (
            "PIPELINE.test.transform="
            "[{JitterScale: {min_size: 36, max_size: 36}}, {CenterCrop: {target_size: 32}}]",
            "the model takes slow, fast; the pipeline gives no 'slow'; "
            "'- PackOutput: {alpha: 4}' as its last step makes slow",
        ),
    ],
)
def test_rejects_pathways_that_do_not_fit(small, override, problem):
    cfg = many_views(small, override, data={"num_ensemble_views": 2})
    with pytest.raises(ConfigError) as caught:
        preflight(cfg, Pathways(), ("test",))
    assert problem in str(caught.value)


def test_a_frame_pipeline_needs_a_sampler(small):
    message = r"PIPELINE.valid: 'sample' is missing: it selects the frames"
    with pytest.raises(ConfigError, match=message):
        build_pipeline(small("PIPELINE.valid.sample=null"), "valid")


def test_a_root_on_the_command_line_replaces_the_lists_of_the_file(tmp_path, clips):
    root = f"DATASET.root={clips}"
    cfg = load_config(
        "configs/recognition/pptsn/pptsn_k400_videos.yaml",
        [root, "DATASET.valid.file_path=own.list"],
    )
    note = cfg.origin.notes[0]
    assert note.startswith(
        f"DATASET.root {clips} replaces train.file_path: data/k400/train.list, test.file_path"
    )
    assert note.endswith("class_names: data/k400/labels.txt") and cfg.DATASET.class_names is None
    assert "file_path" not in cfg.DATASET.train.args
    assert cfg.DATASET.valid.args["file_path"] == "own.list"
    cfg = load_config("configs/demo/pptsn.yaml", [root, "DATASET.train.data_prefix=elsewhere"])
    assert cfg.DATASET.train.args == {"data_prefix": "elsewhere"}
    assert "data_prefix" not in cfg.DATASET.valid.args

    (tmp_path / "base.yaml").write_text(f"_base_: {Path('configs/demo/pptsn.yaml').resolve()}\n")
    over = tmp_path / "over.yaml"
    over.write_text(f"_base_: base.yaml\nDATASET: {{root: {clips}, test: {{file_path: own}}}}\n")
    cfg = load_config(over)
    assert "file_path" not in cfg.DATASET.train.args
    assert cfg.DATASET.test.args["file_path"] == "own", "a list next to the root is kept"
    assert len(load_records(cfg, ("train",))[0]["train"].records) == 12


def test_a_root_provides_lists_and_class_names(small, clips):
    """tools/check_data.py writes this layout: `<split>.csv` or folders, and labels.txt."""
    cfg = small(
        "DATASET.train={format: VideoDataset}",
        "DATASET.valid={format: VideoDataset}",
        f"DATASET.root={clips}",
    )
    lists, classes = load_records(cfg, ("train", "valid"))
    assert [len(lists[s].records) for s in ("train", "valid")] == [12, 6] and classes.num == 3
    message = r"DATASET.train lacks file_path; or name a folder with DATASET.root"
    with pytest.raises(ConfigError, match=message):
        load_records(small("DATASET.train={format: VideoDataset}"), ("train",))
