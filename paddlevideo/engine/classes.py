"""Records and classes of a config: what data, config and checkpoint agree on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddlevideo.config.registry import lookup
from paddlevideo.config.schema import Component, Config, ConfigError
from paddlevideo.data.class_names import (
    both_orders,
    check_order,
    class_names_under,
    matches,
    read_class_names,
    resolve_num_classes,
)
from paddlevideo.data.datasets import DatasetError, RecordList
from paddlevideo.data.labels import check_numbering, numbering_note
from paddlevideo.data.paths import split_under
from paddlevideo.engine.component_tree import class_argument, descendants
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
        names: class names of a checkpoint; see `reconciled`. Without them the names come from the
            config's own file, or else from the training data.

    Raises:
        ConfigError, DatasetError: a section or a list is missing or wrong, or data and config
            disagree on the classes.
    """
    own_names, model_names = config_names(cfg), names
    names = own_names or names  # what class ids in a list mean
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
    if own_names and model_names:
        names = reconciled(cfg, own_names, model_names)
        lists = {split: with_order(part, own_names, names) for split, part in lists.items()}
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


def config_names(cfg: Config) -> list[str] | None:
    """The class names in the file of a config, None if it has no such file.

    Raises:
        DatasetError: the file is wrong, or that of DATASET.root has the names in another order.
    """
    file = class_names_file(cfg)
    if not file:
        return None
    names = read_class_names(file)
    other = class_names_under(cfg.DATASET.root) if cfg.DATASET.root else None
    if other and Path(other).resolve() != Path(file).resolve():
        check_order(file, names, other, read_class_names(other))
    return names


def reconciled(cfg: Config, own_names: list[str], model_names: list[str]) -> list[str]:
    """The class names of a trained model in the order of its outputs.

    Args:
        own_names: of the config's file.
        model_names: of the checkpoint. The same names in another order, or spelt differently, are
            the same classes. Other names rename the classes if DATASET.rename_classes is set.

    Raises:
        DatasetError: other names, and DATASET.rename_classes is not set.
    """
    if own_names == model_names:
        return model_names
    file = class_names_file(cfg) or ""
    text = both_orders(file, own_names, "the checkpoint", model_names)
    if cfg.DATASET.rename_classes:
        if len(own_names) != len(model_names):
            raise DatasetError(f"DATASET.rename_classes needs a name for each class: {text}")
        logger.info(f"classes are renamed: {text}")
        return own_names
    if matches(own_names, model_names) is None:
        raise DatasetError(
            f"the checkpoint is for other classes: {text}; use the names that it was trained "
            "with, or set DATASET.rename_classes=true to give its classes these names, in the "
            "order of the file"
        )
    logger.info(f"classes are matched by name: {text}")
    return model_names


def with_order(records: RecordList, own_names: list[str], names: list[str]) -> RecordList:
    """The records with the class ids of `names` in place of those of `own_names`.

    Raises:
        DatasetError: the labels are inside shards.
    """
    ids = matches(own_names, names)
    if ids is None or ids == list(range(len(names))):  # renamed, or the same order
        return records
    if not isinstance(records.records, list):
        raise DatasetError(
            "the labels in shards are class ids, and the file of class names has another order "
            "than the checkpoint: " + both_orders("the file", own_names, "the checkpoint", names)
        )
    mapped = [
        replace(
            record,
            label=None if record.label is None else ids[record.label],
            labels=record.labels and tuple(sorted(ids[label] for label in record.labels)),
        )
        for record in records.records
    ]
    return replace(records, records=mapped, class_names=names)


def known_classes(cfg: Config, names: list[str] | None) -> Classes:
    """The classes of a model without its data: from the config, a checkpoint, or the train list.

    Args:
        names: class names of the checkpoint; see `reconciled`.
    """
    names_file = class_names_file(cfg)
    own_names = config_names(cfg) if names_file and Path(names_file).exists() else None
    if own_names:
        names = reconciled(cfg, own_names, names) if names else own_names
    configured = configured_classes(cfg)
    if names is not None or configured is not None:
        return Classes(resolve_num_classes(names, -1, configured), names)
    return load_records(cfg, ("train",))[1]


def configured_classes(cfg: Config) -> int | None:
    """The number of classes of the heads; None where the config leaves it to the data.

    A backbone with the layers of a classifier has the number as `class_num`.

    Raises:
        ConfigError: heads, or a head and its backbone, have different numbers.
    """
    numbers = {
        number: f"{part.path}.{argument}, {part.where}"
        for kind in ("backbone", "head")
        for part in descendants(cfg.MODEL, kind)
        if (argument := class_argument(part)) and (number := part.args.get(argument))
    }
    if len(numbers) > 1:
        given = ", ".join(f"{number} ({where})" for number, where in numbers.items())
        raise ConfigError([
            f"{cfg.origin.path}: num_classes of the model is {given}; "
            "one model has one number of classes"
        ])  # fmt: skip
    return next(iter(numbers), None)
