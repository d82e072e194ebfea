"""What prediction gives for one video: classes and scores, or the reason why there are none."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlevideo.weights import atomic_write


@dataclass(frozen=True)
class Result:
    """The best classes of one video, best first.

    Args:
        input_path: the file as it was given; `array 0` for frames in memory.
        class_ids: the ids, k of them.
        scores: their probabilities.
        label_names: their names, the ids as text where the model has no names.
        error: why the video could not be classified, None where it was.
    """

    input_path: str
    class_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        """Plain data: input_path with class_ids, scores and label_names, or with error."""
        if self.error is not None:
            return {"input_path": self.input_path, "error": self.error}
        return {
            "input_path": self.input_path,
            "class_ids": self.class_ids,
            "scores": self.scores,
            "label_names": self.label_names,
        }

    def __str__(self):
        lines = [f"Current video file: {self.input_path}"]
        if self.error is not None:
            lines.append(f"\tfailed: {self.error}")
        for rank, (number, score, name) in enumerate(zip(self.class_ids, self.scores, self.label_names, strict=True), 1):
            lines += [f"\ttop-{rank} class: {number}", f"\ttop-{rank} score: {score}"]
            if name != str(number):
                lines.append(f"\ttop-{rank} label: {name}")
        return "\n".join(lines)

    def print(self) -> None:
        """Print it as PaddleVideo does, with the label's name."""
        print(self, flush=True)

    def save_to_json(self, path: str | Path) -> Path:
        """Write `.json` to a file, or as `<name of the input>.json` into a folder; returns the file's path.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(path)
        if path.suffix != ".json":
            path = path / f"{Path(self.input_path).stem}.json"
        _write(path, self.json)
        return path


def write_results(path: str | Path, results: Sequence[Result]) -> None:
    """Write all results as one JSON list, in the order of the inputs."""
    _write(Path(path), [result.json for result in results])


def _write(path: Path, content) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
