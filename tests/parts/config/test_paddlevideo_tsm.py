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


@pytest.mark.parametrize("num_seg", [4, 6, 16])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_another_number_of_frames_is_reported(tmp_path, split, num_seg):
    """PaddleVideo runs with 8 of 16 frames shifted, and with frames of two videos mixed."""
    with pytest.raises(ValueError, match=rf"8 frames of a clip.* the pipeline gives {num_seg}"):
        plan_of(pp_tsm("uniform"), tmp_path, f"PIPELINE.{split}.sample.num_seg={num_seg}")
