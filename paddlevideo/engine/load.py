"""A trained model: config, weights and classes together."""

from pathlib import Path

from paddlevideo.config.schema import Config
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.classes import Classes, known_classes
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.weights import load_into


def trained_model(cfg: Config, weights: str | Path) -> tuple[Recognizer, Classes]:
    """(the model of a config with its weights, in evaluation mode; its classes).

    Raises:
        ConfigError, WeightsError: config and weights do not fit each other.
    """
    arrays, class_names = read_model(weights)
    classes = known_classes(cfg, class_names)
    model = build_model(cfg, classes.num)
    logger.info(load_into(model, arrays, str(weights)))
    model.eval()
    return model, classes
