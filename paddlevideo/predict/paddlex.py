"""PaddleX's Python API for video classification, with the models and runtimes of this package.

model = create_model("PP-TSM-R50_8frames_uniform", model_dir="output/best_model/inference")
for result in model.predict("videos/", batch_size=1, topk=5):
    result.print()
    result.save_to_json("output/")    # output/<name>_res.json
    result.save_to_video("output/")   # output/<name>_res.mp4
"""

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.config.paddlex.sections import MODELS, RUN_MODES
from paddlevideo.config.registry import nearest
from paddlevideo.config.schema import ConfigError
from paddlevideo.curate.resize import FORMATS
from paddlevideo.files import atomic_write
from paddlevideo.log import logger
from paddlevideo.plain_text import readable
from paddlevideo.predict.annotate import read_annotated, write_annotated
from paddlevideo.predict.inputs import Input
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import Result
from paddlevideo.remote import RemoteError, is_url, local_copy, path_name, shown
from paddlevideo.runtimes.base import BackendError
from paddlevideo.runtimes.manifest import exported_folder

DIGITS = 5  # of a score
ENDING = "_res"  # of the names of files of results
CACHE = "PADDLE_PDX_CACHE_HOME"  # environment variable of PaddleX
# hpi_config["backend"] of PaddleX -> a runtime of this package.
HPI_BACKENDS = {
    "paddle": "paddle",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
}


def create_model(
    model_name: str | None = None,
    model_dir: str | Path | None = None,
    *,
    device: str | None = None,
    topk: int | None = None,
    use_hpip: bool | None = None,
    hpi_config: Mapping[str, Any] | None = None,
    pp_option: Mapping[str, Any] | None = None,
    **options: Any,
) -> "VideoModel":
    """Open a model for videos as `paddlex.create_model` does.

    Args:
        model_name: PaddleX's name of a model; without `model_dir` the folder of this name that
            PaddleX has downloaded to its cache.
        model_dir: a folder that PaddleX or `export` wrote.
        device: cpu, gpu or gpu:<number>; None for a GPU if there is one.
        topk: classes of each result; None for the number that the folder gives.
        use_hpip, hpi_config: PaddleX's choice of a runtime; here `{"backend": NAME}` selects one,
            and otherwise `auto` does.
        pp_option: `{"run_mode": ..., "cpu_threads": ...}`.
        options: further ones of a `Predictor`, as backend="openvino".

    Raises:
        ConfigError: there is no such model here, or its inference.yml is wrong.
        ValueError: an option is not known, or has a value without a meaning here.
    """
    if device is not None:
        options["device"] = _device(device)
    options = {**_run_options(pp_option or {}), **_hpi_options(hpi_config or {}), **options}
    return VideoModel(Predictor(find_model(model_name, model_dir), **options), topk)


class VideoModel:
    """A model with the interface of PaddleX's.

    Args:
        topk: default number of classes of a result; None for that of the exported folder.
    """

    def __init__(self, predictor: Predictor, topk: int | None = None):
        self.predictor, self._topk = predictor, topk

    def predict(
        self, input: Input | Iterable[Input], batch_size: int = 1, topk: int | None = None
    ) -> Iterator["VideoResult"]:
        """Classify videos; a result for each, in the order of the inputs.

        Args:
            input: as of `Predictor.predict`: a file, a folder, a list of those, frames, ...
            batch_size: videos that are scored together.
            topk: classes of each result; None for that of `create_model`.

        Raises:
            ValueError: no video is found, or a number is below 1.
            OSError: a URL cannot be read.
        """
        results = self.predictor.predict(input, batch_size, self._topk if topk is None else topk)
        return (VideoResult(result) for result in results)

    __call__ = predict


class VideoResult(dict):
    """A result like PaddleX's, a dict: input_path, class_ids, scores (5 digits) and label_names.

    The result of a video that cannot be decoded has empty lists, and `error`.
    """

    def __init__(self, result: Result):
        content = {
            "input_path": result.input_path,
            "class_ids": result.class_ids,
            "scores": [round(score, DIGITS) for score in result.scores],
            "label_names": result.label_names,
        }
        if result.error is not None:
            content["error"] = result.error
        super().__init__(content)

    @property
    def json(self) -> dict[str, Any]:
        """The result as plain data, `{"res": {...}}`."""
        return {"res": dict(self)}

    def print(self, format_json: bool = True, indent: int = 4, ensure_ascii: bool = False) -> None:
        """Print `{"res": {...}}`, as JSON with `indent` spaces or on one line."""
        text = str(self.json)
        if format_json:
            text = json.dumps(self.json, indent=indent, ensure_ascii=ensure_ascii)
        print("\n".join(map(readable, text.split("\n"))), flush=True)

    def save_to_json(
        self, save_path: str | Path, indent: int = 4, ensure_ascii: bool = False
    ) -> Path:
        """Write the result as JSON, without the outer "res", as PaddleX does.

        Args:
            save_path: a .json file; or a folder, where the file becomes `<name>_res.json`.

        Returns:
            the file.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(save_path)
        if path.suffix.lower() != ".json":
            path = path / f"{_stem(self['input_path'])}{ENDING}.json"
        with atomic_write(path) as temporary:
            text = json.dumps(dict(self), indent=indent, ensure_ascii=ensure_ascii)
            temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        return path

    def save_to_video(self, save_path: str | Path, font: str | Path | None = None) -> Path:
        """Write the video with the best class and its score on each frame, as H.264.

        Args:
            save_path: an .mp4 or .mkv file; or a folder, where the file becomes `<name>_res.mp4`
                (`.mkv` for a source of this kind).
            font: a font file with the letters of the class names; None to find one.

        Returns:
            the file.

        Raises:
            ValueError: the input was no video file, or could not be classified.
            OSError: the file cannot be written.
        """
        source, path, texts = self._source(), Path(save_path), self._texts()
        if path.is_dir() or not path.suffix:
            suffix = source.suffix.lower() if source.suffix.lower() in FORMATS else ".mp4"
            path = path / f"{_stem(self['input_path'])}{ENDING}{suffix}"
        try:
            return write_annotated(source, path, *texts, font)
        except ValueError as error:
            # The reason of a DecodeError is without the path.
            raise ValueError(f"{source}: {error}") from error

    @property
    def video(self) -> dict[str, tuple[np.ndarray, float]]:
        """The frames of `save_to_video`, all in memory: `{"res": (frames, frames per second)}`.

        Frames are uint8 [T, H, W, 3] BGR, as OpenCV writes them.

        Raises:
            ValueError: the input was no video file, or could not be classified.
        """
        frames, fps = read_annotated(self._source(), *self._texts())
        return {"res": (frames[..., ::-1], fps)}

    def _source(self) -> Path:
        """The video to draw on.

        Raises:
            ValueError: there is none, or no result to draw.
        """
        path = self["input_path"]
        if "error" in self:
            raise ValueError(f"{shown(path)}: has no result to draw: {self['error']}")
        try:
            source = local_copy(path)
        except RemoteError as error:
            raise ValueError(f"no frames to draw on: {error}") from error
        if not source.is_file():
            raise ValueError(f"{path}: not a video file, so there are no frames to draw on")
        return source

    def _texts(self) -> tuple[str, str]:
        """What is drawn: the best class and its score, with its name and with its number."""
        score, number = f"{self['scores'][0]:.2f}", self["class_ids"][0]
        return f"{self['label_names'][0]} {score}", f"class {number} {score}"

    def save_all(self, save_path: str | Path) -> None:
        """Write both files to a folder; a video that failed has no .mp4."""
        self.save_to_json(save_path)
        if "error" not in self and _may_have_video(self["input_path"]):
            self.save_to_video(save_path)


def _stem(input_path: str) -> str:
    return Path(path_name(input_path)).stem


def _may_have_video(input_path: str) -> bool:
    return is_url(input_path) or Path(input_path).is_file()


class ResultFolder:
    """Writes results to a folder as PaddleX does; videos of the same name get a number."""

    def __init__(self, folder: str | Path):
        self._folder, self._names = Path(folder), set[str]()

    def write(self, result: Result) -> None:
        """Write `<name>_res.json`, and `<name>_res.mp4` where there is a video to draw on.

        Raises:
            OSError: a file cannot be written.
        """
        video, stem = VideoResult(result), _stem(result.input_path)
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        video.save_to_json(self._folder / f"{name}{ENDING}.json")
        if result.error is None and _may_have_video(result.input_path):
            try:
                video.save_to_video(self._folder / f"{name}{ENDING}.mp4")
            except ValueError as error:
                logger.warning(f"no {name}{ENDING}.mp4: {error}")


# --- finding the folder ---------------------------------------------------------------------------


def find_model(model_name: str | None, model_dir: str | Path | None) -> Path:
    """The exported folder of a model.

    Raises:
        ConfigError: neither is given, no model for videos has this name, or it is not here.
    """
    if model_dir is not None:
        return Path(model_dir)
    if not model_name:
        raise ConfigError(["give the name of a model, or its folder as model_dir"])
    if model_name not in MODELS:
        near = nearest(model_name, list(MODELS))
        raise ConfigError([
            f"there is no model {model_name!r} for videos in PaddleX{near}; "
            "give the folder of any other model as model_dir"
        ])  # fmt: skip
    folder = paddlex_cache() / "official_models" / model_name
    if exported_folder(folder).is_dir():
        return folder
    raise ConfigError([
        f"{model_name} is not in PaddleX's cache ({folder}), and this package knows no address of "
        f"it; unpack PaddleX's {model_name}_infer.tar there, or give its folder as model_dir"
    ])  # fmt: skip


def paddlex_cache() -> Path:
    """The folder in which PaddleX keeps what it has downloaded."""
    return Path(os.environ.get(CACHE) or "~/.paddlex").expanduser()


# --- options --------------------------------------------------------------------------------------


def _device(device: str) -> str:
    """
    Raises:
        BackendError: a kind of device that is not supported.
    """
    if device.partition(":")[0] not in ("cpu", "gpu"):
        raise BackendError(f"device {device!r} is not supported: models run on cpu, gpu or gpu:0")
    if "," in device:
        raise BackendError(f"device {device!r}: a model runs on one GPU, as gpu:0")
    return device


def _run_options(pp_option: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a `Predictor` from PaddleX's pp_option.

    Raises:
        ValueError: an option or a run mode that is not known.
    """
    known = ("run_mode", "cpu_threads")
    options: dict[str, Any] = {}
    for key, value in pp_option.items():
        if key not in known:
            raise ValueError(f"pp_option has no {key!r} here{nearest(key, list(known))}")
        if key == "cpu_threads":
            options["threads"] = value
        elif value in RUN_MODES:
            options |= RUN_MODES[value]
        else:
            raise ValueError(
                f"run_mode {value!r} is not supported{nearest(value, list(RUN_MODES))}"
            )
    return options


def _hpi_options(hpi_config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a `Predictor` from PaddleX's hpi_config.

    Raises:
        ValueError: a runtime that is not known.
    """
    ignored = [key for key in hpi_config if key != "backend"]
    if ignored:
        logger.warning(f"hpi_config: {', '.join(ignored)} has no effect here")
    backend = hpi_config.get("backend")
    if backend is None:
        return {}
    if backend not in HPI_BACKENDS:
        raise ValueError(
            f"hpi_config: there is no backend {backend!r}{nearest(backend, list(HPI_BACKENDS))}"
        )
    return {"backend": HPI_BACKENDS[backend]}
