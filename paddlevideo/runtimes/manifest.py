"""`model.yaml`: what an exported model needs beside its program, so that the folder works without config, data or this code's
version of them: inputs, pipeline, labels, views, versions, and a checksum of every file."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from paddlevideo.config.check import config_from_data
from paddlevideo.config.schema import Config
from paddlevideo.engine.build import VIEWS
from paddlevideo.sample import InputSpec

FILE = "model.yaml"
FORMAT = 1
SCORES = {
    "logits": "softmax of the logits' mean over the views",
    "probabilities": "mean over the views of the logits' softmax",
}
TAG_SCORES = "sigmoid of the logits' mean over the views"
# What prediction reads of a config; the rest is kept for the record and may name files that only the trainer has.
_USED = ("MODEL", "INFERENCE", "model_name")


class ManifestError(ValueError):
    """A model.yaml that is missing, damaged, or that does not describe the files beside it."""


@dataclass(frozen=True)
class Manifest:
    """The content of model.yaml.

    Args:
        name: the stem of the program files.
        inputs: what the program takes, by name; None in a shape is free.
        num_classes: width of the logits, K.
        labels: name of each class, None where only ids are known.
        views: clips of one video whose scores are averaged.
        top_k: how many classes to show (INFERENCE.top_k).
        weights: checksum of the weights.
        config: the config as plain data; PIPELINE.test is the model's pipeline.
        files: SHA-256 of each file, by name.
        differences: max |program - eager| / max |eager| of the logits in golden.npz, by file.
        versions: of the packages that wrote it.
        view_average: what is averaged over the views of a video.
        multi_label: a class's score is the sigmoid of its logit, for a video may have several; otherwise scores are a softmax.
        modalities: {modality: names of its inputs}, where the others may be zeros to score one alone; empty for one modality.
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
    differences: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    view_average: Literal["logits", "probabilities"] = "logits"
    multi_label: bool = False
    modalities: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def test_config(self, path: Path) -> Config:
        """The part of the config that prediction uses, checked; `path` names it in messages."""
        data = {key: self.config[key] for key in _USED if key in self.config}
        # A PaddleVideo file says in the data set's section how many views a video has.
        section = {
            k: v
            for k, v in ((self.config.get("DATASET") or {}).get("test") or {}).items()
            if k in ("format", *VIEWS)
        }
        if section.keys() & set(VIEWS):
            data["DATASET"] = {"test": {**section, "file_path": ""}}
        return config_from_data({**data, "PIPELINE": {"test": self.pipeline}}, str(path))

    @property
    def pipeline(self) -> Mapping[str, Any]:
        """PIPELINE.test as plain data."""
        return self.config["PIPELINE"]["test"]

    def same_model(self, other: "Manifest") -> bool:
        """Whether both describe one model: equal weights, inputs, labels and preprocessing."""
        mine, theirs = (
            (m.name, m.weights, dict(m.inputs), m.labels, m.config["MODEL"], m.pipeline, m.top_k)
            for m in (self, other)
        )
        return mine == theirs

    def text(self) -> str:
        inputs = {
            name: {"shape": list(spec.shape), "dtype": spec.dtype, "axes": spec.axes}
            for name, spec in self.inputs.items()
        }
        content = {
            "format": FORMAT,
            **asdict(self),
            "inputs": inputs,
            "output": "logits [N, K] float32",
            "scores": TAG_SCORES if self.multi_label else SCORES[self.view_average],
        }
        content["multilabel"] = content.pop("multi_label")  # its name in the file
        content["config"] = content.pop("config")  # the longest part comes last
        head = "# An exported model: what its program takes and gives. Written by tools/export_model.py.\n"
        return head + yaml.safe_dump(
            content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
        )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an exported folder, None where it has none.

    Raises:
        ManifestError: there is a model.yaml, but not one that export wrote.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ManifestError(
                f"{path}: format {content['format']!r}, this version reads {FORMAT}; export the model again"
            )
        content["multi_label"] = content.get("multilabel", False)
        content["inputs"] = {
            name: InputSpec(tuple(spec["shape"]), spec["dtype"], spec["axes"])
            for name, spec in content["inputs"].items()
        }
        return Manifest(
            **{key: content[key] for key in Manifest.__dataclass_fields__ if key in content}
        )
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise ManifestError(
            f"{path}: not a file that export wrote ({type(error).__name__}: {why}); export again"
        ) from error


def check_files(manifest: Manifest, files: list[Path]) -> None:
    """Compare files with the manifest beside them.

    Raises:
        ManifestError: a file is missing, not of this export, or changed since.
    """
    for file in files:
        if file.name not in manifest.files:
            listed = ", ".join(manifest.files)
            raise ManifestError(
                f"{file}: not part of the export that {FILE} beside it describes ({listed}); export it again"
            )
        if not file.exists():
            raise ManifestError(
                f"{file}: {FILE} lists it, but there is no such file; export it again"
            )
        if sha256(file) != manifest.files[file.name]:
            raise ManifestError(
                f"{file}: damaged, or of another export than {FILE} beside it; export it again"
            )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
