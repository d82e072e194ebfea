"""Folders that PaddleX exported: `inference.yml` next to the program describes its preprocessing.

    PreProcess:
      transform_ops:
      - ReadVideo: {num_seg: 8, sample_type: uniform}
      - Scale: {short_size: 256}
      - CenterCrop: {target_size: 224}
      - Image2Array: {data_format: tchw}
      - NormalizeVideo: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
    PostProcess:
      Topk: {topk: 1, label_list: [abseiling, air drumming]}

PaddleX runs the operations in the order above, whatever the order of the list is, and so does the
pipeline that is made of them here. It scales with OpenCV, where the training scales with Pillow.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from paddlevideo.config import yamltree
from paddlevideo.config.checker import Checker
from paddlevideo.config.registry import nearest
from paddlevideo.config.schema import (
    Component,
    Config,
    ConfigError,
    Count,
    Inference,
    Origin,
    Pipelines,
)
from paddlevideo.config.yamltree import Keys, Tree
from paddlevideo.log import logger
from paddlevideo.runtimes.manifest import PADDLEX_FILE, PROGRAM_FILES, Manifest, sha256

STEPS = ("PreProcess", "transform_ops")
# Sections without an effect here: the name of the model is shown, and the rest is for TensorRT and
# PaddleX's own choice of a runtime.
OTHER_SECTIONS = ("Global", "Hpi")


# --- operations: the signature is the schema ------------------------------------------------------


@dataclass(frozen=True)
class ReadVideo:
    """One clip of `num_seg` segments with `seg_len` frames each; PaddleX ignores target_size."""

    sample_type: Literal["uniform"]
    num_seg: Count = 8
    seg_len: Count = 1
    target_size: Count | None = None


@dataclass(frozen=True)
class Scale:
    """Resize with OpenCV; the arguments are those of this package's Scale."""

    short_size: Count = 224
    fixed_ratio: bool = True
    keep_ratio: bool | None = None
    do_round: bool = False


@dataclass(frozen=True)
class CenterCrop:
    """Crop the center."""

    target_size: Count = 224


@dataclass(frozen=True)
class Image2Array:
    """PaddleX always makes [T, 3, H, W], whatever this says."""

    data_format: Literal["tchw"] = "tchw"


@dataclass(frozen=True)
class NormalizeVideo:
    """(x / 255 - mean) / std of each channel."""

    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])


@dataclass(frozen=True)
class KeepKeys:
    """Which arrays PaddleX keeps; a video has one."""

    keep_keys: Any = None


@dataclass(frozen=True)
class Topk:
    """How many classes a result has, and the names of all classes."""

    topk: Count = 1
    label_list: list[Any] | None = None


OPERATIONS = {op.__name__: op for op in (ReadVideo, Scale, CenterCrop, Image2Array, NormalizeVideo)}
KNOWN = {**OPERATIONS, "KeepKeys": KeepKeys}


# --- the folder -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaddleXManifest(Manifest):
    """The description of a folder that PaddleX exported.

    Args:
        cfg: pipeline and number of classes to show; its model has no parts, as nothing builds it.
    """

    cfg: Config | None = None

    def test_config(self, path: Path) -> Config:
        assert self.cfg is not None
        return self.cfg


def read_paddlex(folder: Path) -> PaddleXManifest | None:
    """The description of a folder that PaddleX exported; None where it has no inference.yml.

    Raises:
        ConfigError: it is no description of a model for videos; with file:line of each mistake.
    """
    path = folder / PADDLEX_FILE
    if not path.is_file():
        return None
    tree = yamltree.read(path, ())
    checker = Checker(tree)
    operations, places = _operations(tree, checker)
    topk = _topk(tree, checker)
    problems = tree.problems + checker.problems
    if problems:
        raise ConfigError(problems)
    test = _test_pipeline(operations)
    cfg = _config(path, tree, test, places, topk.topk)
    others = [key for key in tree.data if key not in (*OTHER_SECTIONS, "PreProcess", "PostProcess")]
    if others:
        logger.info(f"{path}: {', '.join(others)} has no effect here")
    programs = {suffix for suffixes in PROGRAM_FILES.values() for suffix in suffixes}
    files = {p.name: sha256(p) for p in sorted(folder.iterdir()) if p.suffix in programs}
    labels = None if topk.label_list is None else [str(label) for label in topk.label_list]
    return PaddleXManifest(
        name=cfg.model_name,
        inputs={},  # the program knows their names
        num_classes=len(labels or ()),
        labels=labels,
        views=1,
        top_k=topk.topk,
        weights=next((files[name] for name in files if name.endswith(".pdiparams")), ""),
        config={"MODEL": {}, "PIPELINE": {"test": test}},
        files=files,
        cfg=cfg,
    )


def _operations(tree: Tree, checker: Checker) -> tuple[dict[str, Any], dict[str, str]]:
    """({name: operation with checked arguments}, {name: its file:line})."""
    section = tree.data.get("PreProcess")
    items = section.get("transform_ops") if isinstance(section, dict) else None
    found, places = {}, {}
    if not isinstance(items, list):
        expected = f"expected PreProcess.transform_ops, a list of {', '.join(OPERATIONS)}"
        checker.problems.append(
            f"{tree.where(STEPS)}: no preprocessing of videos in this file; {expected}"
        )
        return found, places
    for number, item in enumerate(items):
        keys: Keys = (*STEPS, number)
        item = {item: None} if isinstance(item, str) else item
        if not isinstance(item, dict) or len(item) != 1:
            expected = "expected a map with one operation, as 'Scale: {short_size: 256}'"
            checker.problems.append(
                f"{tree.where(keys)}: {yamltree.dotted(keys)} is {item!r}, {expected}"
            )
            continue
        ((name, args),) = item.items()
        places.setdefault(name, tree.where((*keys, name)))
        if name not in KNOWN:
            checker.problems.append(
                f"{places[name]}: there is no operation {name!r} for videos"
                f"{nearest(name, list(KNOWN))}; is this a model for videos?"
            )
        elif name in found:
            checker.problems.append(
                f"{tree.where(keys)}: {name} is given twice, first at {places[name]}"
            )
        else:
            found[name] = checker.section(KNOWN[name], args or {}, (*keys, name))
    missing = [name for name in OPERATIONS if name not in places]
    if missing and not checker.problems:
        checker.problems.append(
            f"{tree.where(STEPS)}: PreProcess.transform_ops has no {', '.join(missing)}; "
            f"a model for videos has {', '.join(OPERATIONS)}"
        )
    return found, places


def _topk(tree: Tree, checker: Checker) -> Any:
    """The checked PostProcess.Topk."""
    section = tree.data.get("PostProcess") or {}
    if not isinstance(section, dict) or any(name != "Topk" for name in section):
        wrong = next((name for name in section if name != "Topk"), section)
        place = tree.where(("PostProcess", wrong) if isinstance(wrong, str) else ("PostProcess",))
        checker.problems.append(
            f"{place}: PostProcess has {wrong!r}; expected Topk: {{topk: 1, label_list: [...]}}"
        )
        return Topk()
    return checker.section(Topk, section.get("Topk") or {}, ("PostProcess", "Topk"))


def _test_pipeline(operations: dict[str, Any]) -> dict[str, Any]:
    """The operations as the plain data of PIPELINE.test."""
    read, normalize = operations["ReadVideo"], operations["NormalizeVideo"]
    sample = {"num_seg": read.num_seg, "seg_len": read.seg_len, "valid_mode": True}
    return {
        "decode": {"name": "VideoDecoder"},
        "sample": {"name": "Sampler", **sample},
        "transform": [
            {"Scale": {**asdict(operations["Scale"]), "backend": "cv2"}},
            {"CenterCrop": asdict(operations["CenterCrop"])},
            {"Image2Array": asdict(operations["Image2Array"])},
            {"Normalization": asdict(normalize)},
        ],
    }


def _config(
    path: Path, tree: Tree, test: dict[str, Any], places: dict[str, str], topk: int
) -> Config:
    """The part of a config that prediction uses, whose components have the lines of `path`.

    Raises:
        ConfigError: the file gives a value that the component of this name does not take.
    """
    root: Keys = ("PIPELINE", "test")
    marks: dict[Keys, str] = {(): f"{path}:1", (*root, "sample"): places["ReadVideo"]}
    for number, name in enumerate(list(OPERATIONS)[1:]):
        marks[(*root, "transform", number)] = places[name]
    checker = Checker(Tree({}, marks))
    pipelines = checker.section(Pipelines, {"test": test}, root[:1])
    if checker.problems:
        raise ConfigError(checker.problems)
    section = tree.data.get("Global")
    name = section.get("model_name") if isinstance(section, dict) else None
    return Config(
        MODEL=Component("framework", "Recognizer2D"),
        PIPELINE=pipelines,
        INFERENCE=Inference(top_k=topk),
        model_name=str(name or path.parent.resolve().name),
        origin=Origin(str(path), (str(path),), data={"PIPELINE": {"test": test}}),
    )
