"""A trained model: config, weights and classes together."""

from collections.abc import Sequence
from pathlib import Path

from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.config.shipped import typed
from paddlevideo.engine.architecture import architecture_note
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_checkpoint
from paddlevideo.engine.classes import Classes, configured_classes, known_classes
from paddlevideo.engine.named_models import config_of_model, weight_file
from paddlevideo.engine.start_weights import classifiers, first
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.remote import exists, is_url, join_path, local_copy, parent_path
from paddlevideo.sample import Arrays
from paddlevideo.weights import Account, WeightsError, load_into
from paddlevideo.zoo.table import find_model, name_hint

RUN_FILE = "run.yaml"


def config_of_run(weights: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config of the run that wrote a weight file: `run.yaml` next to it.

    Args:
        weights: the file, or the name of a published model, whose config is in the table.

    Raises:
        ConfigError: there is none, or it does not describe this file.
    """
    if model := find_model(weights):
        if not model.config:
            raise ConfigError([
                f"{weights}: weights of a backbone, not of a whole model; "
                f"-o MODEL.backbone.pretrained={weights} starts a training from them"
            ])  # fmt: skip
        logger.info(f"config: {model.config}")
        return config_of_model(model, overrides)
    path, file = Path(weights), Path(weights).with_name(RUN_FILE)
    if is_url(weights):
        path, file = _remote_run(str(weights))
    if not path.exists() and not file.is_file():
        raise ConfigError([
            f"{weights}: there is no such file or folder, and no {RUN_FILE} next to it; check the "
            f"path{name_hint(weights)}"
        ])  # fmt: skip
    if not file.is_file():
        raise ConfigError([
            f"{weights}: no {RUN_FILE} next to it, which the run that wrote it would have left; "
            "give the config of the model with -c"
        ])  # fmt: skip
    if path.stem.endswith("_student"):
        raise ConfigError([
            f"{weights}: the student of a distillation, and {file} describes student and teacher; "
            "give the config of the student with -c"
        ])  # fmt: skip
    logger.info(f"config: {file}")
    return load_config(file, tuple(overrides))


def _remote_run(weights: str) -> tuple[Path, Path]:
    """Local copies of a weight file that is a URL, and of the run.yaml next to it."""
    url = join_path(parent_path(weights), RUN_FILE)
    path = Path(weight_file(weights))
    file = local_copy(url) if exists(url) else path.with_name(RUN_FILE)
    return path, file


def trained_model(cfg: Config, weights: str | Path) -> tuple[Recognizer, Classes]:
    """(the model of a config with its weights, in evaluation mode; its classes).

    Raises:
        ConfigError, WeightsError: config and weights do not fit each other.
    """
    arrays, class_names, _, architecture = read_checkpoint(weights)
    check_num_classes(cfg, weights, class_names)
    classes = known_classes(cfg, class_names)
    model = build_model(cfg, classes.num)
    if note := architecture_note(model, weights, architecture, training=False):
        logger.warning(note)
    logger.info(load_trained(model, arrays, weights, class_names, classes))
    model.eval()
    return model, classes


def check_num_classes(cfg: Config, weights: str | Path, names: Sequence[str] | None) -> None:
    """Check the number of class names in a checkpoint against `num_classes` of the config.

    Raises:
        WeightsError: they differ; the message has the classes of the checkpoint.
    """
    number = configured_classes(cfg)
    if names is not None and number not in (None, len(names)):
        file = f"{len(names)} classes ({first(names)})"
        text = f"num_classes of the config is {number}"
        raise WeightsError(other_classes(weights, file, text, cfg.origin.path))


def load_trained(
    model: Recognizer,
    arrays: Arrays,
    weights: str | Path,
    names: Sequence[str] | None,
    classes: Classes,
) -> Account:
    """Copy the weights of a trained model, whose classes must be those of `model`.

    Args:
        names: class names in the file, None where it has none.
        classes: of `model`.

    Raises:
        WeightsError: they do not fit; where only the classifier is of another width, the message
            has the classes of both.
    """
    try:
        return load_into(model, arrays, str(weights))
    except WeightsError as error:
        number = other_width(model, arrays)
        if number is None:
            raise
        file = f"{number} classes" + (f" ({first(names)})" if names else "")
        data = f"{classes.num} classes" + (f" ({first(classes.names)})" if classes.names else "")
        differing = str(error).partition("; ")[2].partition(". ")[0]
        text = other_classes(weights, file, f"the config or its data has {data}")
        raise WeightsError(f"{text} [{differing}]") from None


def other_width(model: Recognizer, arrays: Arrays) -> int | None:
    """The classes of a file that differs from the model in its classifiers alone; else None."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if shapes.keys() != arrays.keys():
        return None
    layers = classifiers(model)
    tensors = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    different = {name for name, shape in shapes.items() if arrays[name].shape != shape}
    biases = [f"{layer}.bias" for layer in layers if f"{layer}.bias" in different]
    return arrays[biases[0]].size if biases and different <= tensors else None


def other_classes(weights: str | Path, file: str, config: str, path: str = "") -> str:
    """The message about a checkpoint with other classes than the config, which is at `path`."""
    own = Path(weights).with_name(RUN_FILE)
    fix = f"leave out -c: {own} describes it" if own.is_file() else "give the config of its run"
    if path == str(own):
        fix = f"leave out what changes the classes of {own}"
    if find_model(weights):
        fix = "leave out -c: the config of this name is known"
    return (
        f"{weights} has {file}, and {config}; {fix}, or start a training from it with "
        f"{typed('main.py', 'train')} -w, which makes a new classifier"
    )
