"""Config files with the keys of PaddleVideo's TSM and PP-TSM files are read as they are."""

import copy

import pytest
import yaml

from paddlevideo.engine.build import load_config
from paddlevideo.engine.describe import describe

NORMALIZATION = {
    "Normalization": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}
PP_TSM = {
    "framework": "Recognizer2D",
    "backbone": {"name": "ResNetTweaksTSM", "pretrained": "data/vd.pdparams", "depth": 50},
    "head": {
        "name": "ppTSMHead",
        "num_classes": 400,
        "in_channels": 2048,
        "drop_ratio": 0.5,
        "std": 0.01,
        "ls_eps": 0.1,
    },
}
TSM = {
    "framework": "Recognizer2D",
    "backbone": {
        "name": "ResNetTSM",
        "pretrained": "data/TSM_k400.pdparams",
        "num_seg": 8,
        "depth": 50,
    },
    "head": {
        "name": "TSMHead",
        "num_classes": 101,
        "in_channels": 2048,
        "drop_ratio": 0.8,
        "std": 0.001,
    },
}


def pipeline(decode, operations, last=("Image2Array", "Normalization"), **sample):
    array, normalization = {"Image2Array": None}, copy.deepcopy(NORMALIZATION)
    if last == "NHWC":
        array = {"Image2Array": {"transpose": False}}
        normalization["Normalization"]["tensor_shape"] = [1, 1, 3]
    return {
        "decode": decode,
        "sample": {"name": "Sampler", "num_seg": 8, "seg_len": 1, **sample},
        "transform": [*operations, array, normalization],
    }


def dataset(frames: bool):
    section = {"format": "FrameDataset" if frames else "VideoDataset", "file_path": "a.list"}
    if frames:
        section |= {"data_prefix": "", "suffix": "img_{:05}.jpg"}
    splits = {split: dict(section) for split in ("train", "valid", "test")}
    return {"batch_size": 16, "num_workers": 4, "test_batch_size": 1, **splits}


def pp_tsm(kind):
    """PP-TSM: `uniform` from frames, `videos`, or `dense`."""
    decode = {"name": "VideoDecoder" if kind == "videos" else "FrameDecoder"}
    dense = {"dense_sample": True} if kind == "dense" else {}
    center = [{"Scale": {"short_size": 256}}, {"CenterCrop": {"target_size": 224}}]
    train = [
        {"Scale": {"short_size": 256}},
        {"MultiScaleCrop": {"target_size": 256}},
        {"RandomCrop": {"target_size": 224}},
        {"RandomFlip": None},
    ]
    full = [{"Scale": {"short_size": 256}}, {"GroupFullResSample": {"crop_size": 224}}]
    test = full if kind == "dense" else center
    inference = {"name": "ppTSM_Inference_helper", "num_seg": 8, "target_size": 224}
    return {
        "MODEL": copy.deepcopy(PP_TSM),
        "DATASET": dataset(kind != "videos"),
        "PIPELINE": {
            "train": pipeline(decode, train, valid_mode=False, **dense),
            "valid": pipeline(decode, center, valid_mode=True),
            "test": pipeline(decode, test, valid_mode=True, **dense),
        },
        "OPTIMIZER": {
            "name": "Momentum",
            "momentum": 0.9,
            "learning_rate": {
                "iter_step": True,
                "name": "CustomWarmupCosineDecay",
                "max_epoch": 80,
                "warmup_epochs": 10,
                "warmup_start_lr": 0.005,
                "cosine_base_lr": 0.01,
            },
            "weight_decay": {"name": "L2", "value": 1e-4},
            "use_nesterov": True,
        },
        "MIX": {"name": "Mixup", "alpha": 0.2},
        "PRECISEBN": {"preciseBN_interval": 5, "num_iters_preciseBN": 200},
        "METRIC": {"name": "CenterCropMetric"},
        **({} if kind == "dense" else {"INFERENCE": inference}),
        "model_name": "ppTSM",
        "log_interval": 10,
        "epochs": 80,
        "log_level": "INFO",
    }


def tsm(kind):
    """TSM on UCF-101: `frames`, `videos`, or `nhwc`."""
    decode = {"name": "FrameDecoder"}
    if kind == "videos":
        decode = {"name": "VideoDecoder", "backend": "cv2"}
    last = "NHWC" if kind == "nhwc" else ""
    train = [
        {"MultiScaleCrop": {"target_size": 224, "allow_duplication": True}},
        {"RandomFlip": None},
    ]
    center = [
        {"Scale": {"short_size": 256, "fixed_ratio": False}},
        {"CenterCrop": {"target_size": 224}},
    ]
    model = copy.deepcopy(TSM)
    if kind == "nhwc":
        model["backbone"]["data_format"] = model["head"]["data_format"] = "NHWC"
    return {
        "MODEL": model,
        "DATASET": dataset(kind != "videos"),
        "PIPELINE": {
            "train": pipeline(decode, train, last, valid_mode=False, select_left=True),
            "valid": pipeline(decode, center, last, valid_mode=True, select_left=True),
            "test": pipeline(decode, center, last, valid_mode=True, select_left=True),
        },
        "OPTIMIZER": {
            "name": "Momentum",
            "momentum": 0.9,
            "learning_rate": {
                "name": "PiecewiseDecay",
                "boundaries": [10, 20],
                "values": [0.001, 0.0001, 0.00001],
            },
            "grad_clip": {"name": "ClipGradByGlobalNorm", "value": 20.0},
        },
        "METRIC": {"name": "CenterCropMetric"},
        "model_name": "TSM",
        "log_interval": 20,
        "save_interval": 10,
        "epochs": 25,
        "log_level": "INFO",
    }


def pp_tsm_v2(num_seg, distilled=False, dense=False):
    """PP-TSMv2 from frames, alone or with PP-TSM as teacher."""
    data = pp_tsm("dense" if dense else "uniform")
    student = {
        "backbone": {
            "name": "PPTSM_v2",
            "pretrained": "data/lcnet.pdparams",
            "num_seg": num_seg,
            "class_num": 400,
        },
        "head": {"name": "MoViNetHead"},
    }
    data["MODEL"] = {"framework": "Recognizer2D", **student}
    for split in ("train", "valid", "test"):
        data["PIPELINE"][split]["sample"]["num_seg"] = num_seg
    rates = data["OPTIMIZER"]["learning_rate"]
    if distilled:
        if num_seg == 16:
            student["backbone"]["use_temporal_att"] = True
        teacher = copy.deepcopy(PP_TSM)
        teacher.pop("framework"), teacher["head"].pop("ls_eps")
        teacher["backbone"]["num_seg"] = teacher["head"]["num_seg"] = num_seg
        data["MODEL"] = distillation(teacher, student)
        rates |= {"warmup_start_lr": 0.0025, "cosine_base_lr": 0.005}
        data["DATASET"]["batch_size"] = 8
    rates["max_epoch"] = data["epochs"] = 120
    del data["PRECISEBN"]
    if "INFERENCE" in data:
        data["INFERENCE"]["num_seg"] = num_seg
    data["model_name"] = "ppTSMv2"
    return data


def distillation(teacher, student):
    """Deep mutual learning: both learn from labels and from each other."""
    pairs = (["Student", "GroundTruth"], ["Teacher", "GroundTruth"], ["Student", "Teacher"])
    names = ("DistillationCELoss", "DistillationCELoss", "DistillationDMLLoss")
    train = [
        {"name": name, "model_name_pairs": list(pair)}
        for name, pair in zip(names, pairs, strict=True)
    ]
    return {
        "framework": "RecognizerDistillation",
        "freeze_params_list": [False, False],
        "models": [{"Teacher": teacher}, {"Student": student}],
        "loss": {"Train": train, "Val": [copy.deepcopy(train[0])]},
    }


def plan_of(data, folder, *overrides):
    path = folder / "theirs.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return describe(load_config(path, list(overrides)))


@pytest.mark.parametrize("kind", ["uniform", "videos", "dense"])
def test_pp_tsm(tmp_path, kind):
    plan = plan_of(pp_tsm(kind), tmp_path)
    assert "24.35 M parameters, 400 classes" in plan
    assert ("30 views a video" in plan) == (kind == "dense")


@pytest.mark.parametrize("kind", ["frames", "videos", "nhwc"])
def test_tsm(tmp_path, kind):
    plan = plan_of(tsm(kind), tmp_path)
    assert "ResNetTSM + TSMHead" in plan and "101 classes" in plan
    shape = "frames [8, 224, 224, 3]" if kind == "nhwc" else "frames [8, 3, 224, 224]"
    assert shape in plan


@pytest.mark.parametrize(
    ("num_seg", "kind"),
    [(8, "uniform"), (16, "uniform"), (8, "dense"), (8, "distilled"), (16, "distilled")],
)
def test_pp_tsm_v2(tmp_path, num_seg, kind):
    distilled = kind == "distilled"
    data = pp_tsm_v2(num_seg, distilled, dense=kind == "dense")
    plan = plan_of(data, tmp_path)
    if distilled:
        parts = "Teacher (ResNetTweaksTSM + ppTSMHead) + Student (PPTSM_v2 + MoViNetHead)"
        assert parts in plan and "400 classes" in plan
    else:
        assert "PPTSM_v2 + MoViNetHead, 5.92 M parameters, 400 classes" in plan
    assert f"frames [{num_seg}, 3, 224, 224]" in plan
    assert ("30 views a video" in plan) == (kind == "dense")


@pytest.mark.parametrize(("split", "num_seg"), [("train", 4), ("valid", 16), ("test", 4)])
def test_a_teacher_or_student_with_other_frames_is_reported(tmp_path, split, num_seg):
    """PaddleVideo trains a teacher of 4 frames on clips of 8 without a word."""
    with pytest.raises(ValueError, match=rf"8 frames of a clip.* the pipeline gives {num_seg}"):
        override = f"PIPELINE.{split}.sample.num_seg={num_seg}"
        plan_of(pp_tsm_v2(8, distilled=True), tmp_path, override)


def test_the_teacher_alone_may_have_the_wrong_number(tmp_path):
    data = pp_tsm_v2(8, distilled=True)
    data["MODEL"]["models"][0]["Teacher"]["backbone"]["num_seg"] = 4
    with pytest.raises(ValueError, match=r"Teacher: the backbone shifts the 4 frames.* gives 8"):
        plan_of(data, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("MODEL.backbone.depths=[2]", "has no argument 'depths'"),
        ("MODEL.backbone.use_last_conv=false", "has no argument 'use_last_conv'"),
        ("MODEL.backbone.num_classes=5", "has no argument 'num_classes'"),
        ("MODEL.head.num_classes=5", r"400 \(MODEL.backbone.class_num.*5 \(MODEL.head.num_classes"),
        ("MODEL.head.name=ppTSMHead", "expected MoViNetHead"),
    ],
)
def test_mistakes_of_a_v2_file_have_hints(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        plan_of(pp_tsm_v2(8), tmp_path, change)


@pytest.mark.parametrize(
    ("changes", "classes"),
    [
        ((), "400 classes"),
        (("MODEL.backbone.class_num=null",), "as many classes as the training data"),
        (("MODEL.backbone.class_num=null", "MODEL.head.num_classes=7"), "7 classes"),
        (("MODEL.backbone.class_num=7", "MODEL.head.num_classes=7"), "7 classes"),
        (("MODEL.backbone.use_ssld=true",), "use_ssld has no effect"),
    ],
)
def test_where_the_number_of_classes_is_given(tmp_path, changes, classes):
    assert classes in plan_of(pp_tsm_v2(8), tmp_path, *changes)


EVERY = [(split, number) for split in ("train", "valid", "test") for number in (4, 6, 16)]
FAST = {("train", 4), ("valid", 16), ("test", 6)}


@pytest.mark.parametrize(
    ("split", "num_seg"),
    [pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow) for case in EVERY],
)
def test_another_number_of_frames_is_reported(tmp_path, split, num_seg):
    """PaddleVideo runs with 8 of 16 frames shifted, and with frames of two videos mixed."""
    with pytest.raises(ValueError, match=rf"8 frames of a clip.* the pipeline gives {num_seg}"):
        plan_of(pp_tsm("uniform"), tmp_path, f"PIPELINE.{split}.sample.num_seg={num_seg}")
