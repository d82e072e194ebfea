"""`model.yaml`: the description of an exported model, next to its programs.

It makes the folder complete: inputs, pipeline, labels, views, versions, and a checksum of every
file. It is located in this room because runtimes read what export writes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from paddlevideo.config import yaml_text
from paddlevideo.config.check import config_from_data
from paddlevideo.config.schema import Config
from paddlevideo.engine.build import VIEWS
from paddlevideo.engine.earlier_run import EXPORT_DIR
from paddlevideo.sample import InputSpec

FILE = "model.yaml"
PADDLEX_FILE = "inference.yml"  # of a folder that PaddleX exported; see runtimes/paddlex.py
FORMAT = 1
# Format of a program (--format of tools/export_model.py) -> suffixes of its files, program first.
PROGRAM_FILES = {
    "pdmodel": (".pdmodel", ".pdiparams", ".pdiparams.info"),
    "pir": (".json", ".pdiparams"),
    "onnx": (".onnx",),
}
INT8 = "_int8"  # ends the stem of an int8 program, `<name>_int8.xml` and `.bin`
# How scores are made of logits, as text for people.
SCORES = {
    "logits": "softmax of the logits' mean over the views",
    "probabilities": "mean over the views of the logits' softmax",
}
MULTI_LABEL_SCORES = "sigmoid of the logits' mean over the views"
# The sections that prediction reads. The others are kept as a record of the training; they may name
# files that exist only where the model was trained.
_USED = ("MODEL", "INFERENCE", "model_name")


class ManifestError(ValueError):
    """A model.yaml that is damaged, or does not describe the files next to it."""


@dataclass(frozen=True)
class Manifest:
    """The content of model.yaml.

    Args:
        name: the stem of the program files.
        inputs: what the program takes, by name; None in a shape for a free size.
        num_classes: width of the logits, K.
        labels: name of each class; None if only ids are known.
        views: clips of one video whose scores are averaged.
        top_k: how many classes to show (INFERENCE.top_k).
        weights: checksum of the weights.
        config: the config as plain data; PIPELINE.test is the pipeline of the model.
        files: SHA-256 of each file, by name.
        differences: {file: {runtime: max |program - eager| / max |eager| of the outputs for
            golden.npz, or why there is none}}; older exports have one number per file. Files that
            were not verified are missing.
        versions: of the packages that wrote it.
        view_average: what is averaged over the views of a video.
        multi_label: a video may have several classes, and the score of a class is the sigmoid of
            its logit; otherwise scores are the softmax of the logits.
        quantization: how the int8 program was made: its `program`, `calibration` and `result`;
            empty where there is none.
        modalities: {modality: names of its inputs}; a modality is scored alone by setting the
            inputs of the others to zero. Empty for models of one modality.
        preprocess: the programs take uint8 frames of all views of a video and return probabilities.
        frame_logits: the logits of a clip are the mean of those of its frames, each alone, which
            the programs return as a second output [N, S, K].
    """

    name: str
    inputs: Mapping[str, InputSpec]
    num_classes: int
    labels: list[str] | None
    views: int
    top_k: int
    weights: str
    config: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    differences: Mapping[str, float | Mapping[str, float | str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    view_average: Literal["logits", "probabilities"] = "logits"
    multi_label: bool = False
    quantization: Mapping[str, Any] = field(default_factory=dict)
    modalities: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preprocess: bool = False
    frame_logits: bool = False

    @property
    def pipeline(self) -> Mapping[str, Any]:
        """PIPELINE.test as plain data."""
        return self.config["PIPELINE"]["test"]

    @property
    def any_batch(self) -> bool:
        """Whether the programs take any number of clips."""
        return all(spec.shape[0] is None for spec in self.inputs.values())

    @property
    def test_section(self) -> Mapping[str, Any]:
        """DATASET.test as plain data; empty where the config has none."""
        return (self.config.get("DATASET") or {}).get("test") or {}

    def test_config(self, path: Path) -> Config:
        """The part of the config that prediction uses, as a checked config.

        Args:
            path: names the config in error messages.

        Raises:
            ConfigError: this version of the package cannot build it.
        """
        data = {key: self.config[key] for key in _USED if key in self.config}
        # PaddleVideo's configs give the number of views in DATASET.test.
        section = {k: v for k, v in self.test_section.items() if k in ("format", *VIEWS)}
        if section.keys() & set(VIEWS):
            data["DATASET"] = {"test": {**section, "file_path": ""}}
        return config_from_data({**data, "PIPELINE": {"test": self.pipeline}}, str(path))

    def same_model(self, other: "Manifest") -> bool:
        """Whether both describe one model: weights, inputs, labels, preprocessing, views."""

        def key(m: Manifest) -> tuple:
            settings = (m.config["MODEL"], m.pipeline, m.views, m.top_k)
            return m.name, m.weights, dict(m.inputs), m.labels, settings

        return key(self) == key(other)

    def text(self) -> str:
        """The content of the file."""
        inputs = {
            name: {"shape": list(spec.shape), "dtype": spec.dtype, "axes": spec.axes}
            for name, spec in self.inputs.items()
        }
        content = {
            "format": FORMAT,
            **asdict(self),
            "inputs": inputs,
            "output": f"{'probabilities' if self.preprocess else 'logits'} [N, K] float32",
            "scores": MULTI_LABEL_SCORES if self.multi_label else SCORES[self.view_average],
        }
        if self.preprocess:
            content["scores"] = "the output"
        content["multilabel"] = content.pop("multi_label")  # the key in the file
        content["config"] = content.pop("config")  # the longest part comes last
        head = (
            "# An exported model: what its program takes and returns. "
            "Written by tools/export_model.py.\n"
        )
        return head + yaml.safe_dump(
            content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of an exported folder; None where it has none.

    Raises:
        ManifestError: there is a model.yaml, but export did not write it.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = yaml_text.load_data(yaml_text.read_text(path, yaml_text.MAX_DATA))
        if content["format"] != FORMAT:
            raise ManifestError(
                f"{path}: format {content['format']!r}, but this version reads {FORMAT}; "
                "export the model again"
            )
        content["multi_label"] = content.get("multilabel", False)
        content["inputs"] = {
            name: InputSpec(tuple(spec["shape"]), spec["dtype"], spec["axes"])
            for name, spec in content["inputs"].items()
        }
        fields = Manifest.__dataclass_fields__
        return Manifest(**{key: content[key] for key in fields if key in content})
    except ManifestError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise ManifestError(f"{path}: cannot be read: {reason}; export the model again") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ManifestError(
            f"{path}: not a file that export wrote ({text}); export the model again"
        ) from error


def exported_folder(path: Path) -> Path:
    """The folder of an export: `path` itself, or `inference/` in the folder of a training run.

    PaddleX writes it to `inference/` or `best_model/inference/`.
    """
    for folder in (path, path / EXPORT_DIR, path / "best_model" / EXPORT_DIR):
        if (folder / FILE).exists() or (folder / PADDLEX_FILE).exists():
            return folder
    return path


def check_files(manifest: Manifest, files: list[Path]) -> None:
    """Compare files with the manifest next to them.

    Raises:
        ManifestError: a file is missing, is not part of this export, or has changed since.
    """
    for file in files:
        if file.name not in manifest.files:
            raise ManifestError(
                f"{file}: not part of the export that {FILE} next to it describes "
                f"({', '.join(manifest.files)}); export the model again"
            )
        if not file.exists():
            raise ManifestError(
                f"{file}: {FILE} lists this file, but it does not exist; export the model again"
            )
        if sha256(file) != manifest.files[file.name]:
            raise ManifestError(
                f"{file}: damaged, or from another export than {FILE} next to it; "
                "export the model again"
            )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
