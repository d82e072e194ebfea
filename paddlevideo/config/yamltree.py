"""YAML files, their `_base_` files and `-o` overrides -> plain data; each value has a location.

No value is ever evaluated as code. Mistakes are collected in the tree; a file that cannot be read
at all is a `ConfigError`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from paddlevideo.config import yaml_text
from paddlevideo.config.schema import ConfigError
from paddlevideo.config.shipped import find_base

Keys = tuple[str | int, ...]

MAX_FILES = 1000  # bases may name bases: each naming two doubles the number
MAX_KEYS = 100  # parts of the path of an override


@dataclass
class Tree:
    """A config as plain data.

    Args:
        data: nested dicts, lists and values.
        marks: location of each value by its keys: file:line, or the override.
        problems: mistakes so far, one line each.
        sources: files that were read, bases first.
    """

    data: dict
    marks: dict[Keys, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def forget(self, keys: Keys) -> None:
        """Remove the locations of the value at `keys` and of everything inside it."""
        for mark in [m for m in self.marks if m[: len(keys)] == keys]:
            del self.marks[mark]

    def where(self, keys: Keys) -> str:
        """The location of the value at `keys`, or of the smallest part around it that has one."""
        while keys and keys not in self.marks:
            keys = keys[:-1]
        return self.marks.get(keys, "config")


# --- YAML -----------------------------------------------------------------------------------------


class _Loader(yaml_text.Bounded, yaml.SafeLoader):
    """PyYAML's YAML 1.1, except that `1e-4` is a number, and `None` is null as in older configs."""


class _Dumper(yaml.SafeDumper):
    """Quotes all text that `_Loader` would read as another type, and writes no aliases."""

    def ignore_aliases(self, data):
        return True


for _class, _parent in ((_Loader, yaml.SafeLoader), (_Dumper, yaml.SafeDumper)):
    _class.yaml_implicit_resolvers = {
        k: list(v) for k, v in _parent.yaml_implicit_resolvers.items()
    }
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )
    _class.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^None$"), ["N"])


class NotYaml(ValueError):
    """Text that is no YAML document, or exceeds a limit; the message begins with the location."""


def parse(text: str, keys: Keys, locate: Callable[[int], str], tree: Tree) -> Any:
    """The value of a YAML text; its locations and mistakes go into `tree`.

    Args:
        keys: where the value belongs in `tree`.
        locate: turns a line number into a location.

    Raises:
        NotYaml: the text is not YAML.
    """
    try:
        # Text with characters that are not allowed fails here.
        loader = _Loader(text)
        node = yaml_text.compose(loader, text, yaml_text.MAX_CONFIG_VALUES)
        return None if node is None else _plain(loader, node, keys, locate, tree)
    except yaml_text.NotYaml as error:
        reason, line = error.reason, error.line
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = f"not valid YAML: {error.problem or error.context}"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"not valid YAML: character {error.character!r} is not allowed"
    raise NotYaml(f"{locate(line)}: {reason}")


def _plain(loader, node, keys: Keys, locate, tree: Tree) -> Any:
    """The value of a YAML node; adds all locations and duplicate keys to the tree."""
    here = locate(node.start_mark.line + 1)
    tree.marks[keys] = here
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, keys, locate, tree)
        loader.flatten_mapping(node)
        values = {}
        for key, value in node.value:
            name = str(key.value)
            values[name] = _plain(loader, value, (*keys, name), locate, tree)
            tree.marks[(*keys, name)] = locate(key.start_mark.line + 1)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*keys, i), locate, tree) for i, item in enumerate(node.value)]
    try:
        value = loader.construct_object(node)
    except (ValueError, LookupError, AttributeError, OverflowError, yaml.YAMLError) as error:
        reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
        problem = f"{dotted(keys)} is {node.value!r}, which cannot be read: {reason}"
        tree.problems.append(f"{here}: {problem}")
        return None
    # YAML turns some plain text into dates or binary data; a config means the text.
    return value if value is None or isinstance(value, (bool, int, float, str)) else node.value


def _check_keys(node, keys: Keys, locate, tree: Tree) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            raise NotYaml(f"{locate(line)}: not valid YAML: a list or a map cannot be a key")
        if key.value in lines:
            # Overrides have no lines.
            first = f", first on line {lines[key.value]}" if locate(1) != locate(2) else ""
            label = dotted((*keys, key.value))
            tree.problems.append(f"{locate(line)}: {label} is given twice{first}")
        lines[key.value] = line


def dump(data: dict) -> str:
    """`data` as YAML text that `parse` reads back equal.

    `yaml.safe_dump` would not quote the text "1e5", which is a number here.
    """
    return yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=120,
    )


# --- files ----------------------------------------------------------------------------------------


def read(path: Path, parents: tuple[Path, ...], named_by: str = "") -> Tree:
    """A file on top of its `_base_` files.

    Args:
        parents: the files whose `_base_` led here.
        named_by: location of the `_base_` that names this file.

    Raises:
        ConfigError: a file cannot be read, is not a YAML map, or is its own base.
    """
    tree = Tree({}, sources=[str(path)])
    text = _read_text(path, parents, named_by)
    try:
        tree.data = parse(text, (), lambda line: f"{path}:{line}", tree)
    except NotYaml as error:
        raise ConfigError([str(error)]) from None
    if not isinstance(tree.data, dict):
        raise ConfigError([f"{path}:1: expected a map of sections (MODEL, DATASET, ...)"])
    location = tree.where(("_base_",))
    merged = Tree({})
    for base in _pop_bases(tree, location):
        file = path.parent / base
        file = file if file.exists() else find_base(base) or file
        _merge(merged, read(file, (*parents, path.resolve()), location))
        if len(merged.sources) > MAX_FILES:
            raise ConfigError([f"{location}: _base_ leads to more than {MAX_FILES} files"])
    _merge(merged, tree)
    merged.marks[()] = f"{path}:1"
    return merged


def _read_text(path: Path, parents: tuple[Path, ...], named_by: str) -> str:
    try:
        if path.resolve() in parents:
            cycle = " -> ".join(map(str, (*parents, path.resolve())))
            raise ConfigError([f"{path}: the _base_ files form a cycle: {cycle}"])
        return yaml_text.read_text(path, yaml_text.MAX_CONFIG)
    except OSError as error:
        advice = "give the path of a config file with -c"
        if named_by:
            advice = f"{named_by} names it as _base_"
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; {advice}"]) from None
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise ConfigError([f"{path}: not a UTF-8 text file ({reason})"]) from None


def _pop_bases(tree: Tree, location: str) -> list[str]:
    bases = tree.data.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if isinstance(bases, list) and all(isinstance(b, str) and "\0" not in b for b in bases):
        return bases
    expected = "expected a path or a list of paths, relative to this file"
    raise ConfigError([f"{location}: _base_ is {bases!r}, {expected}"])


# What has the value of `epochs` where it is left out.
FOLLOWERS = tuple(("OPTIMIZER", "learning_rate", name) for name in ("max_epoch", "T_max"))


def followers(tree: Tree) -> list[Keys]:
    """The keys of a tree that repeat the value of `epochs`, and so follow it where it changes."""
    epochs = tree.data.get("epochs")
    return [keys for keys in FOLLOWERS if epochs is not None and _value(tree.data, keys) == epochs]


def drop(tree: Tree, keys: Keys) -> None:
    """Remove the value at `keys`."""
    tree.forget(keys)
    parent = _value(tree.data, keys[:-1])
    if isinstance(parent, dict):
        parent.pop(keys[-1], None)


def _value(data: Any, keys: Keys) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


_NAME_KEYS = ("name", "framework", "format")


def _merge(under: Tree, over: Tree) -> None:
    """Put `over` on top of `under`, in place.

    Maps merge, unless they name different components. Everything else replaces the old value.
    """

    def merge_maps(old, new, keys):
        for key, value in new.items():
            here = (*keys, key)
            old_value = old.get(key)
            if (
                isinstance(value, dict)
                and isinstance(old_value, dict)
                and all(value.get(k, old_value.get(k)) == old_value.get(k) for k in _NAME_KEYS)
            ):
                merge_maps(old_value, value, here)
            else:
                old[key] = value
                under.forget(here)

    for keys in followers(under) if "epochs" in over.data else ():
        drop(under, keys)
    merge_maps(under.data, over.data, ())
    under.marks.update(over.marks)
    under.problems += over.problems
    under.sources += over.sources


# --- overrides ------------------------------------------------------------------------------------


def override(tree: Tree, text: str) -> None:
    """Apply an override `A.b.0.c=value`, whose value is YAML.

    Missing maps on the way are created; unknown keys are reported later, with those of the file.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        tree.problems.append(f"-o {text}: expected KEY.PATH=value, as in -o DATASET.batch_size=16")
        return
    keys: list[str | int] = []
    here = tree.data
    *parents, last = path.strip().split(".")
    if len(parents) >= MAX_KEYS:
        tree.problems.append(f"-o {path[:80]}...: a path of more than {MAX_KEYS} keys")
        return
    for part in parents:
        step = _step(tree, text, here, part, keys)
        if step is None:
            return
        keys.append(step)
        if isinstance(here, dict) and here.get(step) is None:
            here[step] = {}
            tree.marks[tuple(keys)] = f"-o {text}"
        here = here[step]
    step = _step(tree, text, here, last, keys)
    if step is None:
        return
    target = (*keys, step)
    tree.forget(target)
    try:
        here[step] = parse(value, target, lambda line: f"-o {text}", tree)
    except NotYaml as error:
        tree.problems.append(f"{error}; put quotes around the value")
    tree.marks[target] = f"-o {text}"


def _step(tree: Tree, text: str, here, part: str, keys: list):
    """The key or index that `part` means in `here`; None after adding a problem."""
    if isinstance(here, dict):
        return part
    label = dotted(tuple(keys))
    if not isinstance(here, list):
        tree.problems.append(f"-o {text}: {label} is {here!r}, it has no {part!r}")
    elif part.isdecimal() and len(part) < 6 and int(part) < len(here):
        return int(part)
    else:
        expected = f"{label} is a list of {len(here)}; {part!r} is not an index of it"
        tree.problems.append(f"-o {text}: {expected}")
    return None


def dotted(keys: Keys) -> str:
    """The keys as messages and overrides write them: `PIPELINE.train.transform.0`."""
    return ".".join(map(str, keys))
