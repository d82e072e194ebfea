"""Folders as PaddleX exports them: a program, its weights, and `inference.yml`."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.parts.conftest import NAMES, Exported

STEPS: list[dict[str, Any]] = [
    {"ReadVideo": {"num_seg": 2, "sample_type": "uniform"}},
    {"Scale": {"short_size": 72}},
    {"CenterCrop": {"target_size": 64}},
    {"Image2Array": {"data_format": "tchw"}},
    {"NormalizeVideo": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
    {"KeepKeys": {"keep_keys": ["image"]}},
]
SHAPES = {"x": [[1, 3, 224, 224], [1, 3, 224, 224], [8, 3, 224, 224]]}


def description(steps: list[Any] | None = None, labels: Any = NAMES, topk: Any = 1) -> dict:
    """The content of inference.yml."""
    return {
        "Global": {"model_name": "PP-TSM-R50_8frames_uniform"},
        "Hpi": {"backend_configs": {"paddle_infer": {"trt_dynamic_shapes": SHAPES}}},
        "PostProcess": {"Topk": {"topk": topk, "label_list": labels}},
        "PreProcess": {"transform_ops": STEPS if steps is None else steps},
    }


def write_description(folder: Path, content: Any) -> Path:
    """Write inference.yml as PaddleX does, with sorted keys."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "inference.yml"
    text = yaml.dump(content, default_flow_style=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
    return path


def make_folder(exported: Exported, folder: Path, program: str = ".json", **changes: Any) -> Path:
    """Write the model of `exported` as PaddleX exports one.

    Args:
        program: suffix of the program.
        changes: arguments of `description`.
    """
    write_description(folder, description(**changes))
    for suffix in (program, ".pdiparams"):
        shutil.copy(exported.folder / f"tiny{suffix}", folder / f"inference{suffix}")
    return folder
