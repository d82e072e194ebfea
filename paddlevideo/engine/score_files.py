"""Per-video score files: one writer and one reader."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.engine.build import Classes
from paddlevideo.engine.evaluate import TAGS, Evaluation
from paddlevideo.files import atomic_write


def write_scores(path: str, done: Evaluation, classes: Classes) -> None:
    """Per-video scores with ids: JSON for people and scripts, or npz (id, label, scores; NaN rows where decoding failed).

    Of videos with several labels it holds the best TAGS classes: npz (id, classes, scores).
    """
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".json":
            content = {"numbers": done.numbers, "class_names": classes.names, "results": done.rows}
            temporary.write_text(
                json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8"
            )
            return
        arrays: dict[str, Any] = {"id": np.array([row["id"] for row in done.rows])}
        blank = [float("nan")] * min(
            classes.num, TAGS if "avg_loss" in done.numbers else classes.num
        )
        arrays["scores"] = np.array([row.get("scores", blank) for row in done.rows], np.float64)
        if "avg_loss" in done.numbers:
            arrays["classes"] = np.array(
                [row.get("classes", [-1] * len(blank)) for row in done.rows], np.int64
            )
        else:
            arrays["label"] = np.array([row["label"] for row in done.rows], np.int64)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
