"""What prediction gives for one video: classes and scores, or the reason why there are none; and files of that."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlevideo.files import atomic_write
from paddlevideo.metrics.score_files import prediction_file


@dataclass(frozen=True)
class Result:
    """The best classes of one video, best first.

    Args:
        input_path: the file as it was given, with `@` and the place of a record inside; `array 0` for frames in memory.
        class_ids: the ids, k of them.
        scores: their probabilities.
        label_names: their names, the ids as text where the model has no names.
        error: why the video could not be classified, None where it was.
        id: of the video, where the record has one.
        note: what else there is to know, as that there was no sound.
        modalities: results of each modality alone, where they were asked for.
    """

    input_path: str
    class_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    error: str | None = None
    id: str = ""
    note: str = ""
    modalities: Mapping[str, "Result"] = field(default_factory=dict)

    @property
    def json(self) -> dict[str, Any]:
        """Plain data: input_path with class_ids, scores and label_names, or error; and id, note, modalities where there are."""
        name = {"input_path": self.input_path, **({"id": self.id} if self.id else {})}
        if self.error is not None:
            return {**name, "error": self.error}
        content = {**name, **self._classes}
        if self.note:
            content["note"] = self.note
        if self.modalities:
            content["modalities"] = {
                modality: result._classes for modality, result in self.modalities.items()
            }
        return content

    @property
    def _classes(self) -> dict[str, Any]:
        return {"class_ids": self.class_ids, "scores": self.scores, "label_names": self.label_names}

    def __str__(self):
        lines = [f"Current video file: {self.input_path}"]
        if self.id:
            lines.append(f"\tid: {self.id}")
        if self.error is not None:
            lines.append(f"\tfailed: {self.error}")
        if self.note:
            lines.append(f"\tnote: {self.note}")
        lines += self._lines("")
        for modality, result in self.modalities.items():
            lines += result._lines(f"{modality} ")
        return "\n".join(lines)

    def _lines(self, which: str) -> Iterator[str]:
        for rank, (number, score, name) in enumerate(
            zip(self.class_ids, self.scores, self.label_names, strict=True), 1
        ):
            yield f"\t{which}top-{rank} class: {number}"
            yield f"\t{which}top-{rank} score: {score}"
            if name != str(number):
                yield f"\t{which}top-{rank} label: {name}"

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
        with atomic_write(path) as temporary:
            temporary.write_text(
                json.dumps(self.json, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
            )
        return path


@contextmanager
def result_file(path: str | Path) -> Iterator[Callable[[Result], None]]:
    """Yield a function that writes one result to `path`; see `score_files.prediction_file`.

    Raises:
        ValueError: another suffix than `.json`, `.jsonl` or `.csv`.
        OSError: it cannot be written.
    """
    with prediction_file(path) as write:
        yield lambda result: write(result.json)


def write_results(path: str | Path, results: Sequence[Result]) -> None:
    """Write all results, in their order; see `result_file`."""
    with result_file(path) as write:
        for result in results:
            write(result)
