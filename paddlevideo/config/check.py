"""Read a YAML file, its `_base_` files and overrides into a checked `Config`.

Every value knows its file and line, no value is ever evaluated as code, and all mistakes are
reported at once. The sections of a config are the dataclasses of `schema.py`. What the sections
name, such as a backbone or a transform, is checked against its own signature (`registry.py`).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from paddlevideo.config.checker import Checker
from paddlevideo.config.schema import Config, ConfigError, Origin
from paddlevideo.config.shipped import find_config
from paddlevideo.config.yamltree import Keys, Tree, drop, dump, followers, override, read
from paddlevideo.urls import is_url, shown

__all__ = ["check", "config_from_data", "dump", "read_config"]


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a config file.

    Args:
        path: the YAML file, or the name of a shipped one (see `find_config`).
        overrides: texts `A.b.0.c=value`, whose values are YAML.

    Raises:
        ConfigError: with all mistakes of the files and the overrides, one line each.
    """
    path = find_config(path)
    tree = read(path, ())
    following = followers(tree)
    for text in overrides:
        override(tree, text)
    if _is_override(tree, ("epochs",)):
        for keys in following:
            if not _is_override(tree, keys):
                drop(tree, keys)
    notes = apply_root(tree)
    config = check(tree, str(path), tuple(overrides))
    origin = dataclasses.replace(config.origin, notes=(*notes, *config.origin.notes))
    return dataclasses.replace(config, origin=origin)


def config_from_data(data: dict, path: str) -> Config:
    """Check a config that is plain data already, such as the one in an exported model.

    Args:
        path: name of the config in messages.

    Raises:
        ConfigError: with all mistakes, one line each.
    """
    return check(Tree(data, {(): path}, [], [path]), path)


def check(tree: Tree, path: str, overrides: tuple[str, ...] = ()) -> Config:
    """The config of a tree.

    Raises:
        ConfigError: with all mistakes, those of the tree included.
    """
    checker = Checker(tree)
    config = checker.section(Config, tree.data, ())
    problems = tree.problems + checker.problems
    if not problems and config.epochs == 0 and config.FROZEN is None:
        where = tree.where(("epochs",))
        problems = [f"{where}: epochs is 0, expected at least 1 (0 only with a section FROZEN)"]
    if not problems and is_url(config.output_dir or ""):
        where, folder = tree.where(("output_dir",)), shown(config.output_dir or "")
        problems = [
            f"{where}: output_dir is {folder}; a training writes to a local folder, and goes on "
            "from it: name one, and copy what is to be kept, or export to a URL"
        ]
    if problems:
        raise ConfigError(problems)
    checker.compare_inference(config)
    origin = Origin(path, tuple(tree.sources), overrides, tree.data, tuple(checker.notes))
    return dataclasses.replace(config, origin=origin)


def _is_override(tree: Tree, keys: Keys) -> bool:
    return tree.where(keys).startswith("-o ")


# --- DATASET.root ---------------------------------------------------------------------------------


def apply_root(tree: Tree) -> list[str]:
    """Let a DATASET.root replace lists and class names that come from files below it.

    A user who names a folder of data wants that data. So a root in a file replaces the `file_path`
    of each split, its `data_prefix` and `class_names` where a `_base_` sets them; a root in an
    override replaces those of all files. Values in the same file as the root, or in overrides, are
    kept.

    Returns:
        a note that lists the replaced values, or nothing.
    """
    data = tree.data.get("DATASET")
    if not isinstance(data, dict) or not data.get("root"):
        return []
    root_layer = _layer(tree, "root")
    replaced = []
    for split in ("train", "valid", "test"):
        section = data.get(split)
        if not isinstance(section, dict) or section.get("file_path") is None:
            continue
        if _layer(tree, split, "file_path") < root_layer:
            replaced.append(f"{split}.file_path: {_remove(tree, section, split, 'file_path')}")
            # The prefix belongs to the list.
            if "data_prefix" in section and _layer(tree, split, "data_prefix") < root_layer:
                _remove(tree, section, split, "data_prefix")
    if data.get("class_names") is not None and _layer(tree, "class_names") < root_layer:
        replaced.append(f"class_names: {_remove(tree, data, 'class_names')}")
    return [f"DATASET.root {data['root']} replaces {', '.join(replaced)}"] if replaced else []


def _layer(tree: Tree, *keys: str) -> int:
    """The rank of the file or override that sets a key of DATASET; later ones have higher ranks."""
    location = tree.where(("DATASET", *keys))
    if location.startswith("-o "):
        return len(tree.sources)
    ranks = {source: number for number, source in enumerate(tree.sources)}
    return ranks.get(location.rpartition(":")[0], -1)


def _remove(tree: Tree, section: dict, *keys: str):
    """Remove a key of DATASET from its section and return its value."""
    tree.forget(("DATASET", *keys))
    return section.pop(keys[-1])
