"""The models of a service: opened once, tried once, described to clients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlevideo.data.pipeline import Pipeline
from paddlevideo.log import logger
from paddlevideo.predict.predictor import Predictor
from paddlevideo.sample import Record
from paddlevideo.serve.batches import MANY, Batcher


@dataclass(frozen=True)
class ServedModel:
    """A model of the service.

    Args:
        name: that requests give.
        num_classes: width of its scores.
    """

    name: str
    predictor: Predictor
    batcher: Batcher
    num_classes: int

    @property
    def pipeline(self) -> Pipeline:
        """Makes its samples."""
        return self.predictor.feed.pipeline

    @property
    def modalities(self) -> list[str]:
        """What it takes: frames, audio, features."""
        if self.pipeline.find_records is not None:
            return ["features"]
        return [name for name in ("frames", "audio") if name in self.pipeline.batch_specs]

    def describe(self) -> dict[str, Any]:
        """The model as /models answers."""
        modalities = self.modalities
        kind = {"audio": "audio", "features": "feature"}.get(modalities[0], "video")
        return {
            "name": self.name,
            "task": f"{kind}-{'tagging' if self.predictor.multi_label else 'classification'}",
            "classes": self.num_classes,
            "labels": list(self.predictor.labels) if self.predictor.labels else None,
            "modalities": modalities,
            "multi_label": bool(self.predictor.multi_label),
            "backend": self.predictor.backend.name,
        }


def named_folders(texts: Sequence[str]) -> dict[str, str]:
    """{name: folder} of `--model FOLDER` or `--model NAME=FOLDER`.

    A folder without a name is named as its last part that is not `inference`.

    Raises:
        ValueError: two models have one name, or a text has an empty part.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).exists():
            parts = [part for part in Path(text).resolve().parts if part != "inference"]
            name, folder = parts[-1] if parts else "", text
        if not name or not folder or "/" in name:
            raise ValueError(f"--model {text!r}: expected FOLDER or NAME=FOLDER")
        if name in found:
            raise ValueError(
                f"two models have the name {name!r}: {found[name]} and {folder}; give one another "
                "name, as --model NAME=FOLDER"
            )
        found[name] = folder
    return found


def open_models(
    folders: Mapping[str, str], batch_wait: float, **options: Any
) -> dict[str, ServedModel]:
    """Open the models, and run each once.

    Args:
        batch_wait: see `Batcher`.
        options: of `Predictor`.

    Raises:
        ValueError: a folder has no model that runs here.
    """
    models: dict[str, ServedModel] = {}
    try:
        for name, folder in folders.items():
            predictor = Predictor(folder, **options)
            num_classes = warm_up(predictor)
            models[name] = ServedModel(name, predictor, Batcher(predictor, batch_wait), num_classes)
            logger.info(f"model {name}: {folder}, {num_classes} classes, {predictor.backend.name}")
    except BaseException:
        for model in models.values():
            model.batcher.close()
        raise
    return models


def warm_up(predictor: Predictor) -> int:
    """Run the model on a synthetic video, which takes longer than later runs; its classes.

    Raises:
        ValueError: it does not run.
    """
    feed = predictor.feed
    sample = feed.fitted(feed.pipeline.synthetic())
    result = next(iter(predictor.score([(Record("synthetic"), sample)], MANY)))
    if result.error is not None:
        raise ValueError(f"the model fails on a synthetic video: {result.error}")
    return len(result.class_ids)
