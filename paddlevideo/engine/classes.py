"""Records and classes of a config: what data, config and checkpoint agree on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Component, Config, ConfigError
from paddlevideo.data.class_names import class_names_under, read_class_names, resolve_num_classes
from paddlevideo.data.datasets import DatasetError, RecordList
from paddlevideo.data.labels import check_numbering, numbering_note
from paddlevideo.data.paths import split_under
from paddlevideo.engine.component_tree import descendants
from paddlevideo.log import logger


@dataclass(frozen=True)
class Classes:
    """The number of classes and their names; `names` is None where labels are plain ids."""

    num: int
    names: list[str] | None = None

    def name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)


def load_records(
    cfg: Config, splits: Sequence[str], names: list[str] | None = None
) -> tuple[dict[str, RecordList], Classes]:
    """The records of the given splits and the classes they agree on.

    Args:
        names: class names of a checkpoint. Names in the config's own file win over them, and both
            over the names of the training data.

    Raises:
        ConfigError, DatasetError: a section or a list is missing or wrong, or data and config
            disagree on the classes.
    """
    names_file = class_names_file(cfg)
    if names_file:
        names = read_class_names(names_file)
    lists: dict[str, RecordList] = {}
    for split in splits:
        component = getattr(cfg.DATASET, split)
        if component is None:
            raise ConfigError([
                f"{cfg.origin.path}: DATASET.{split} is missing; give it a format and a file_path"
            ])  # fmt: skip
        lists[split] = split_dataset(cfg, component, split).load(names)
        found = lists[split].class_names
        if names is None and found is not None and len(lists) > 1:
            raise DatasetError(
                f"DATASET.{split} has class names ({', '.join(found[:3])}, ...), "
                f"DATASET.{splits[0]} has class ids: it is unknown which name has which id; "
                "name the classes in the order of their ids with DATASET.class_names=FILE"
            )
        names = names or found
    for split, part in lists.items() if names is None else ():
        if configured_classes(cfg) is None:
            check_numbering(f"DATASET.{split}", part.records)
        if split == "train" and (note := numbering_note(part.records)):
            logger.warning(f"DATASET.train: {note}")
    max_label = max((records.max_label for records in lists.values()), default=-1)
    return lists, Classes(resolve_num_classes(names, max_label, configured_classes(cfg)), names)


def split_dataset(cfg: Config, component: Component, split: str) -> Any:
    """The dataset of a split, with the settings of DATASET that all splits share.

    Raises:
        ConfigError: it cannot be multi-label, contradicts DATASET.multi_label, or has no location.
        DatasetError: DATASET.root has no such split.
    """
    parameters = lookup("dataset", component.name).parameters()
    multi_label = cfg.DATASET.multi_label
    if multi_label and "multi_label" not in parameters:
        raise ConfigError([
            f"{component.where}: DATASET.multi_label: {component.name} has no multi-label lists"
        ])  # fmt: skip
    if component.args.get("multi_label", multi_label) != multi_label:
        raise ConfigError([
            f"{component.where}: DATASET.{split}.multi_label is {not multi_label}; "
            "set DATASET.multi_label for all splits"
        ])  # fmt: skip
    location: Mapping[str, str] = {}
    if "file_path" not in component.args:
        if not cfg.DATASET.root:
            raise ConfigError([
                f"{component.where}: DATASET.{split} lacks file_path; "
                "or name a folder with DATASET.root"
            ])  # fmt: skip
        location = split_under(cfg.DATASET.root, split)
    shared = {"split": split, "multi_label": multi_label, **location}
    return with_defaults(component, shared).make()


def with_defaults(component: Component, values: Mapping[str, Any]) -> Component:
    """The component with those of `values` that it accepts and the config leaves out."""
    accepted = lookup(component.kind, component.name).parameters()
    missing = {k: v for k, v in values.items() if k in accepted and k not in component.args}
    return component.with_args(**missing)


def class_names_file(cfg: Config) -> str | None:
    """The file of class names: DATASET.class_names, or the one in DATASET.root."""
    if cfg.DATASET.class_names:
        return cfg.DATASET.class_names
    return class_names_under(cfg.DATASET.root) if cfg.DATASET.root else None


def known_classes(cfg: Config, names: list[str] | None) -> Classes:
    """The classes of a model without its data: from the config, a checkpoint, or the train list.

    Args:
        names: class names of the checkpoint.
    """
    names_file = class_names_file(cfg)
    if names_file and Path(names_file).exists():
        names = read_class_names(names_file)
    configured = configured_classes(cfg)
    if names is not None or configured is not None:
        return Classes(resolve_num_classes(names, -1, configured), names)
    return load_records(cfg, ("train",))[1]


def configured_classes(cfg: Config) -> int | None:
    """`num_classes` of the head; None where the config leaves it to the data.

    Raises:
        ConfigError: the heads of a distillation have different numbers.
    """
    numbers = {
        head.args["num_classes"]: head.where
        for head in descendants(cfg.MODEL, "head")
        if head.args.get("num_classes")
    }
    if len(numbers) > 1:
        given = ", ".join(f"{number} ({where})" for number, where in numbers.items())
        raise ConfigError([
            f"{cfg.origin.path}: num_classes of the heads is {given}; "
            "one model has one number of classes"
        ])  # fmt: skip
    return next(iter(numbers), None)
