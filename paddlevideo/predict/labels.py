"""The class names that results show."""

from collections.abc import Sequence
from pathlib import Path

from paddlevideo.config.schema import Config
from paddlevideo.curate.youtube8m import class_names as read_vocabulary
from paddlevideo.data.class_names import check_order, read_class_names
from paddlevideo.data.datasets import DatasetError
from paddlevideo.data.paths import split_under
from paddlevideo.engine.classes import class_names_file, load_records
from paddlevideo.log import logger
from paddlevideo.remote import exists, local_copy, path_suffix


def requested_names(
    names: str | Path | Sequence[str] | None, own_names: Sequence[str] | None = None
) -> list[str] | None:
    """The class names that a caller passed.

    Args:
        names: a list, a file as DATASET.class_names takes it, or YouTube-8M's vocabulary.csv.
        own_names: of the model, which the names replace.

    Raises:
        DatasetError: the file is wrong, or the names are those of the model in another order.
    """
    if not names:
        return None
    if not isinstance(names, (str, Path)):
        given = list(names)
    elif path_suffix(names) == ".csv":
        given = read_vocabulary(local_copy(names))
    else:
        given = read_class_names(names)
    check_order("class_names", given, "the model", own_names)
    return given


def names_in_config(cfg: Config, class_folders: bool) -> list[str] | None:
    """The class names of a config, from its file of names.

    Args:
        class_folders: without a file, use the names of the class folders of DATASET.train.
    """
    file = class_names_file(cfg)
    if file and exists(file):
        return read_class_names(file)
    if not class_folders or not cfg.DATASET.train:
        return None
    try:
        folder = _train_path(cfg)
        if not folder or not Path(folder).is_dir():
            return None
        return load_records(cfg, ("train",))[1].names
    except DatasetError as error:
        logger.warning(f"results show class ids, because DATASET.train has no class names: {error}")
        return None


def _train_path(cfg: Config) -> str | None:
    """Where the training data is; None if the config does not say.

    Raises:
        DatasetError: DATASET.root has no training split.
    """
    path = cfg.DATASET.train.args.get("file_path") if cfg.DATASET.train else None
    if path or not cfg.DATASET.root:
        return path
    return split_under(cfg.DATASET.root, "train")["file_path"]
