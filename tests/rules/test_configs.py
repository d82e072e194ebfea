"""Every file in configs/ loads without problems, fits its model, and takes a training step."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlevideo.api import train
from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Component, Config
from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.curate.make_shards import ShardSettings, load_data
from paddlevideo.curate.make_shards import make_shards as make_tar_shards
from paddlevideo.data.class_names import read_class_names
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.classes import configured_classes
from paddlevideo.engine.describe import describe
from paddlevideo.weights import state_arrays, write_arrays
from tests.audio_clips import chirps, write_audio
from tests.clips import random_frames

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))


@pytest.fixture(autouse=True)
def in_root(root, monkeypatch):
    """Paths in a config are relative to the working directory."""
    monkeypatch.chdir(root)


def test_finds_the_configs():
    names = ["slowfast", "slowfast_multigrid"]
    names += [f"{model}_k400_{kind}" for model in ("pptsn", "tsn") for kind in ("frames", "videos")]
    for name in names:
        assert f"recognition/{name.split('_')[0]}/{name}.yaml" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_config_loads_and_fits_its_model(name):
    cfg = load_config(CONFIGS / name)
    assert not cfg.origin.notes, "a key has no effect"
    plan = describe(cfg)
    assert "no mistakes found" in plan and f"model      {cfg.model_name}: " in plan
    for split in ("train", "valid", "test"):
        assert re.search(rf"^{split} +batch ", plan, re.M), f"a plan for {split}"
    longer = load_config(CONFIGS / name, [f"epochs={2 * cfg.epochs + 1}"])
    schedule = longer.OPTIMIZER.make().learning_rate
    assert {*schedule.lengths.values()} <= {longer.epochs}, "the schedule follows the epochs"


@pytest.mark.parametrize("name", NAMES)
def test_a_header_names_command_and_hardware(name):
    header = re.match(r"(?:#.*\n)+", (CONFIGS / name).read_text(encoding="utf-8")).group().lower()
    wanted = ["command", "hardware"]
    if name.startswith("recognition"):
        wanted += ["hours", "expected"]
    assert not [word for word in wanted if not re.search(rf"^# ?{word}", header, re.M)]
    assert f"configs/{name}".lower() in header, "the command names this file"


@pytest.mark.parametrize("name", NAMES)
def test_class_names_agree_with_num_classes(name):
    cfg = load_config(CONFIGS / name)
    if cfg.DATASET.class_names:
        assert len(read_class_names(cfg.DATASET.class_names)) == configured_classes(cfg)


SMALL_2D = ("MODEL.backbone.base_channels=8", "MODEL.head.in_channels=64")
SMALL_3D = tuple(
    f"MODEL.{key}"
    for key in ("backbone.width_per_group=8", "head.width_per_group=8", "head.num_frames=8")
)
SMALL_MODEL = {
    "ResNet": ("MODEL.backbone.depth=10", *SMALL_2D),
    "ResNetTweaksTSN": ("MODEL.backbone.layers=10", *SMALL_2D),
    "ResNetTSM": ("MODEL.backbone.depth=10", *SMALL_2D),
    "ResNetTweaksTSM": ("MODEL.backbone.depth=10", *SMALL_2D),
    "PPTSM_v2": tuple(
        f"MODEL.backbone.{key}" for key in ("scale=0.125", "class_expand=16", "class_num=2")
    ),
    "EfficientNetLite": (),
    "ResNetSlowFast": ("MODEL.head.crop_size=32", *SMALL_3D),
    "MotionNet": ("MODEL.backbone.widths=[4,4]",),
    "AVSlowFast": ("MODEL.head.crop_size=32", "MODEL.backbone.width_per_group=8"),
    "NeXtVLAD": (
        *(
            f"MODEL.backbone.{text}"
            for text in (
                "cluster_size=4",
                "groups=2",
                "feature_size=8",
                "audio_size=4",
                "whitening=null",
            )
        ),
        *("MODEL.head.hidden_size=16", "MODEL.head.gating_reduction=4"),
    ),
}
EXPORTED = "finetune/motion.yaml"  # an export takes seconds; tests of exports have other models
SMALL_FEATURES = {"rgb": 8, "audio": 4}
SMALL_STEPS = {
    "short_size": 36,
    "target_size": 32,
    "crop_size": 32,
    "min_size": 36,
    "max_size": 36,
}


def small_model(part: Component) -> list[str]:
    """Overrides that make a recognizer small, where MODEL is that recognizer."""
    backbone = part.args["backbone"]
    overrides = [*SMALL_MODEL[backbone.name], "MODEL.head.num_classes=2"]
    if "pretrained" in lookup("backbone", backbone.name).parameters():
        overrides.append("MODEL.backbone.pretrained=null")
    return overrides


def with_teacher(name: str, overrides: list[str], file: Path) -> list[str]:
    """Overrides, and one that gives the frozen teacher random weights of its small size."""
    loss = "MODEL.loss.Train=[{name: DistillationDMLLoss, model_name_pairs: [Student, Teacher]}]"
    key = "MODEL.models.0.Teacher.weights"
    without = [f"{key}=null", "MODEL.freeze_params_list=null", loss]
    model = build_model(load_config(CONFIGS / name, [*overrides, *without]))
    write_arrays(file, state_arrays(model.part("Teacher")))
    return [*overrides, f"{key}={file}"]


def shrunken(cfg: Config, data: dict[str, Path], folder: Path) -> list[str]:
    """Overrides that make a run small: a thin network, 2 classes, 32 x 32 pixels, one step.

    Args:
        data: the fixture `data`.
        folder: where the run writes.
    """
    parts = cfg.MODEL.args.get("models", [cfg.MODEL])
    texts = [text.replace("MODEL", part.path, 1) for part in parts for text in small_model(part)]
    texts += ["DATASET.root=null", "DATASET.class_names=null", "DATASET.num_workers=0"]
    texts += ["DATASET.batch_size=2", "DATASET.valid_batch_size=2"]
    texts += ["epochs=1", "max_iters=1", "log_interval=1", f"output_dir={folder}"]
    for split in ("train", "valid", "test"):  # an export takes the sizes of PIPELINE.test
        pipeline = getattr(cfg.PIPELINE, split)
        if split != "test":
            kind = "audio" if pipeline.audio else getattr(cfg.DATASET, split).name
            texts.append(f"DATASET.{split}.file_path={data[kind]}")
        if "features" in lookup("decode", pipeline.decode.name).parameters():
            sizes = ", ".join(f"{name}: {width}" for name, width in SMALL_FEATURES.items())
            decode = pipeline.decode.path
            texts += [f"{decode}.features={{{sizes}}}", f"{decode}.max_frames=9"]
        if pipeline.sample and "num_frames" in pipeline.sample.args:
            texts.append(f"{pipeline.sample.path}.num_frames=8")
        if pipeline.audio:
            sizes = cfg.MODEL.args["backbone"].args
            num_rows = 8 * sizes["audio_alpha"] // sizes["alpha"]
            texts.append(f"{pipeline.audio.path}.num_rows={num_rows}")
        for transform in pipeline.transform:
            texts += [
                f"{transform.path}.{key}={pixels}"
                for key, pixels in SMALL_STEPS.items()
                if key in transform.args
            ]
    return texts


def write_list(file: Path, paths) -> None:
    """Write a list; the labels are 0, 1, ..."""
    lines = [f"{path} {label}\n" for label, path in enumerate(paths)]
    file.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def data(clips, tmp_path_factory) -> dict[str, Path]:
    """Dataset component (or "audio", for videos with audio) -> files of two classes."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(2):
        clip = folder / "frames" / f"class {number}" / "clip"
        clip.mkdir(parents=True)
        for index, frame in enumerate(random_frames(5, seed=number), 1):
            cv2.imwrite(str(clip / f"img_{index:05}.jpg"), frame)
    videos = folder / "videos.list"
    write_list(videos, sorted((clips / "train").rglob("*.mp4"))[:2])
    with_audio = folder / "audio.list"
    files = [
        write_audio(folder / f"{seed}.mkv", chirps(2, seed=seed), video={"num_frames": 50})
        for seed in range(2)
    ]
    write_list(with_audio, files)
    features = folder / "features"
    sizes = tuple(SMALL_FEATURES.items())
    make_shards(features, ShardPlan(classes=2, videos=4, frames=(3, 9), features=sizes))
    audio = dict.fromkeys(("audio", "AudioDataset", "AudioFeatureDataset"), with_audio)
    audio["YouTube8MDataset"] = features
    shards = folder / "shards"
    make_tar_shards(*load_data(str(videos), "video"), shards, ShardSettings("train"), 1)
    audio["WebDataset"] = shards
    return {
        **audio,
        "FrameDataset": folder / "frames",
        "VideoDataset": videos,
        "SFVideoDataset": videos,
    }


def first_of_each_folder(names: list[str]) -> list:
    """The names as parameters. In `recognition`, all but the first of each folder are slow."""
    folders, parameters = set(), []
    for name in names:
        folder = Path(name).parent
        known = name.startswith("recognition") and folder in folders
        parameters.append(pytest.param(name, marks=[pytest.mark.slow] if known else []))
        folders.add(folder)
    return parameters


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", first_of_each_folder(NAMES))
def test_a_config_takes_a_step(name, data, tmp_path, monkeypatch):
    shipped = load_config(CONFIGS / name)
    overrides = shrunken(shipped, data, tmp_path / "out")
    if name != EXPORTED:
        overrides.append("export=false")
    if any(role.args.get("weights") for role in shipped.MODEL.args.get("models", ())):
        overrides = with_teacher(name, overrides, tmp_path / "teacher.pdparams")
    cfg = load_config(CONFIGS / name, overrides)
    assert isinstance(cfg.DATASET.train, Component) and cfg.epochs == 1
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)  # models are exported to the working directory
        train(cfg, validate=True)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert any(np.isfinite(row.get("loss") or np.nan) for row in rows)
    assert any({"top1", "gap"} & row.keys() for row in rows)
    arrays, _ = read_model(tmp_path / "out" / f"{cfg.model_name}_best.pdparams")
    assert all(np.isfinite(array).all() for array in arrays.values())
    again = load_config(tmp_path / "out" / "run.yaml")
    assert again.origin.data == cfg.origin.data, "run.yaml repeats the run"
