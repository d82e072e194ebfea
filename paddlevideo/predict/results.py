"""The result of a prediction for one video, and files of results."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlevideo.files import atomic_write, json_text
from paddlevideo.metrics.score_files import prediction_file
from paddlevideo.plain_text import display_width, padded, readable
from paddlevideo.predict.ahead import LoadAhead
from paddlevideo.sample import Record

MAX_NAME = 24  # columns up to which class names are aligned
SCORE_WIDTH = len(" 0.1234")


@dataclass(frozen=True)
class Result:
    """The best classes of one video, best first; or the reason why there are none.

    Args:
        input_path: the file as it was given, and for a record in a file `@` and its offset;
            `array 0` for frames in memory.
        class_ids: ids of the best classes.
        scores: their probabilities.
        label_names: their names; ids as text where the model has no names.
        error: why the video could not be classified; None if it was.
        id: of the video, where its record has one.
        note: what a user should know about the result, such as missing audio.
        modalities: results of each modality alone, if they were requested.
        start_sec, end_sec: the part of the video, where its list names one (seconds).
    """

    input_path: str
    class_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    error: str | None = None
    id: str = ""
    note: str = ""
    modalities: Mapping[str, "Result"] = field(default_factory=dict)
    start_sec: float | None = None
    end_sec: float | None = None

    @classmethod
    def of(cls, record: Record, *classes: list, error: str | None = None) -> "Result":
        """The result of a record: its class_ids, scores and label_names, or its error."""
        part = {"start_sec": record.start_sec, "end_sec": record.end_sec}
        return cls(record.location, *classes, error=error, **part)

    @classmethod
    def of_json(cls, row: Mapping[str, Any]) -> "Result":
        """The result whose `json` is `row`; what else is in the row is left out."""
        alone = row.get("modalities") or {}
        values = {key: row[key] for key in cls.__dataclass_fields__ if key in row}
        values["modalities"] = {
            name: cls(row["input_path"], **classes) for name, classes in alone.items()
        }
        return cls(**values)

    @property
    def json(self) -> dict[str, Any]:
        """Plain data.

        It has input_path, and class_ids, scores and label_names, or error; id, start_sec, end_sec,
        note and modalities where they are not empty.
        """
        name: dict[str, Any] = {"input_path": self.input_path}
        name |= {"id": self.id} if self.id else {}
        part = {"start_sec": self.start_sec, "end_sec": self.end_sec}
        name |= {key: value for key, value in part.items() if value is not None}
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
        lines = [f"Current video file: {readable(self.input_path)}"]
        if self.id:
            lines.append(f"\tid: {readable(self.id)}")
        if self.error is not None:
            lines.append(f"\tfailed: {readable(self.error)}")
        if self.note:
            lines.append(f"\tnote: {readable(self.note)}")
        lines += self._lines("")
        for modality, result in self.modalities.items():
            lines += result._lines(f"{modality} ")
        return "\n".join(lines)

    def _lines(self, prefix: str) -> Iterator[str]:
        rows = zip(self.class_ids, self.scores, self.label_names, strict=True)
        for rank, (class_id, score, name) in enumerate(rows, 1):
            yield f"\t{prefix}top-{rank} class: {class_id}"
            yield f"\t{prefix}top-{rank} score: {score}"
            if name != str(class_id):
                yield f"\t{prefix}top-{rank} label: {readable(name)}"

    def line(self, name_width: int = 0, num_classes: int = 0) -> str:
        """One line for people: `archery 0.9907  bowling 0.0093  clip.avi`, scores with 4 digits.

        A failure has its reason after the file. Results of single modalities are further lines.

        Args:
            name_width: columns of a class name, for lines in columns.
            num_classes: how many classes the lines have, so that a failure has its file in place.
        """
        classes = self._columns(name_width)
        if self.error is not None:
            between = num_classes * (name_width + SCORE_WIDTH) + 2 * (num_classes - 1)
            classes = padded("failed", between)
        parts = [classes, readable(self.input_path)]
        if self.id:
            parts.append(f"id: {readable(self.id)}")
        parts += [f"({readable(text)})" for text in (self.error, self.note) if text]
        lines = ["  ".join(part for part in parts if part)]
        for modality, result in self.modalities.items():
            lines.append(f"  {modality} alone: {result._columns(name_width)}".rstrip())
        return "\n".join(lines)

    def _columns(self, name_width: int) -> str:
        rows = zip(self.label_names, self.scores, strict=True)
        return "  ".join(
            f"{padded(readable(name), name_width)} {score:.4f}" for name, score in rows
        )

    def print(self, verbose: bool = True) -> None:
        """Print it in the format of PaddleVideo's predict.py, with the names of the classes.

        Args:
            verbose: False prints `line()` instead.
        """
        print(self if verbose else self.line(), flush=True)

    def save_to_json(self, path: str | Path) -> Path:
        """Write the result as JSON; returns the path of the file.

        Args:
            path: a `.json` file, or a folder, where the file becomes `<name of the input>.json`.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(path)
        if path.suffix != ".json":
            path = path / f"{Path(self.input_path).stem}.json"
        with atomic_write(path) as temporary:
            text = json_text(self.json, indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")
        return path


class Results(Iterator[Result]):
    """Results in the order of the inputs, which are computed while they are read.

    Attributes:
        total: number of results, with those that were read.
    """

    def __init__(self, results: Generator[Result], loading: LoadAhead, total: int):
        self._results, self._loading, self.total = results, loading, total
        self._started = 0.0

    def __next__(self) -> Result:
        self._started = self._started or time.perf_counter()
        return next(self._results)

    @property
    def waited(self) -> float:
        """The share of the time since the first result was asked for in which the network waited
        for samples, 0 ... 1."""
        seconds = time.perf_counter() - self._started
        return min(1.0, self._loading.waited / seconds) if self._started else 0.0

    def close(self) -> None:
        """End the prediction and its threads."""
        self._results.close()


def name_width(labels: Sequence[str] | None) -> int:
    """The columns for class names in lines of results: those of the longest, at most MAX_NAME."""
    longest = max((display_width(readable(name)) for name in labels or ()), default=0)
    return min(longest, MAX_NAME)


@contextmanager
def result_file(path: str | Path) -> Iterator[Callable[[Result], None]]:
    """Yield a function that writes one result to `path`; see `score_files.prediction_file`.

    Raises:
        ValueError: the suffix is not `.json`, `.jsonl` or `.csv`.
        OSError: it cannot be written.
    """
    with prediction_file(path) as write:
        yield lambda result: write(result.json)


def write_results(path: str | Path, results: Sequence[Result]) -> None:
    """Write all results in the given order; see `result_file`."""
    with result_file(path) as write:
        for result in results:
            write(result)
