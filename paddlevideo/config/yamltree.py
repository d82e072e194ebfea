"""YAML files, their `_base_` and `-o` overrides -> plain data that knows the file:line of every value.

Nothing is ever evaluated. Mistakes are collected in the tree; what cannot be read at all is a `ConfigError`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from paddlevideo.config.schema import ConfigError

Keys = tuple[str | int, ...]


@dataclass
class Tree:
    """A config as plain data.

    Args:
        marks: the place, as file:line or the override, of every key path.
        problems: what is wrong so far.
        sources: the files that were read, bases first.
    """

    data: dict
    marks: dict[Keys, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def forget(self, keys: Keys) -> None:
        """Drop the places of what stood at `keys`."""
        for mark in [m for m in self.marks if m[: len(keys)] == keys]:
            del self.marks[mark]

    def where(self, keys: Keys) -> str:
        while keys and keys not in self.marks:
            keys = keys[:-1]
        return self.marks.get(keys, "config")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `1e-4` is a number, as everywhere else, and `None` is null, as in older files."""


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for something else than text, and writes shared values twice instead of naming them."""

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

MAX_VALUES = (
    100_000  # a config has a few hundred; nested aliases can make billions out of ten lines
)


def read(path: Path, seen: tuple[Path, ...], asked_by: str = "") -> Tree:
    """One file and its bases. `asked_by` is the place of the `_base_` that names it."""
    try:
        if path.resolve() in seen:
            raise ConfigError(
                [
                    f"{path}: _base_ goes round in a circle: {' -> '.join(map(str, (*seen, path.resolve())))}"
                ]
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        advice = (
            f"{asked_by} names it as _base_"
            if asked_by
            else "give the path of a config file with -c"
        )
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; {advice}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            [f"{path}: not a UTF-8 text file ({error.reason} at byte {error.start})"]
        ) from None
    tree = Tree({}, sources=[str(path)])
    try:
        tree.data = parse(text, (), lambda line: f"{path}:{line}", tree)
    except NotYaml as error:
        raise ConfigError([str(error)]) from None
    if not isinstance(tree.data, dict):
        raise ConfigError([f"{path}:1: expected a map of sections (MODEL, DATASET, ...)"])
    place = tree.where(("_base_",))
    bases = tree.data.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(
        isinstance(base, str) and "\0" not in base for base in bases
    ):
        raise ConfigError(
            [
                f"{place}: _base_ is {bases!r}, expected a path or a list of paths, relative to this file"
            ]
        )
    merged = Tree({})
    for base in bases:
        _merge(merged, read(path.parent / base, (*seen, path.resolve()), place))
    _merge(merged, tree)
    merged.marks[()] = f"{path}:1"
    return merged


class NotYaml(ValueError):
    """Text that is no YAML document; the message begins with the place."""


def parse(text: str, keys: Keys, place: Callable[[int], str], tree: Tree) -> Any:
    """The value of a YAML text, which is to stand at `keys` of `tree`; `place(line)` says where a line is.

    Raises:
        NotYaml: the text is no YAML.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _plain(loader, node, keys, place, tree)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise NotYaml(f"{place(line)}: not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotYaml(
            f"{place(line)}: not valid YAML: character {error.character!r} is not allowed"
        ) from None
    except RecursionError:
        raise NotYaml(
            f"{place(1)}: not valid YAML: nested too deep, or an alias (*name) inside its own anchor"
        ) from None


def _plain(loader, node, keys: Keys, place, tree: Tree) -> Any:
    """The value of a YAML node; records the place of everything in it and reports doubled keys."""
    if len(tree.marks) > MAX_VALUES:
        raise NotYaml(f"{place(1)}: more than {MAX_VALUES} values; do aliases (*name) multiply?")
    here = place(node.start_mark.line + 1)
    tree.marks[keys] = here
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, keys, place, tree)
        loader.flatten_mapping(node)
        values = {}
        for key, value in node.value:
            name = str(key.value)
            values[name] = _plain(loader, value, (*keys, name), place, tree)
            tree.marks[(*keys, name)] = place(key.start_mark.line + 1)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*keys, i), place, tree) for i, item in enumerate(node.value)]
    try:
        value = loader.construct_object(node)
    except (ValueError, LookupError, AttributeError, OverflowError, yaml.YAMLError) as error:
        why = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
        tree.problems.append(
            f"{here}: {dotted(keys)} is {node.value!r}, which cannot be read: {why}"
        )
        return None
    # Dates and binary data, which YAML makes out of plain text, mean text here.
    return value if value is None or isinstance(value, (bool, int, float, str)) else node.value


def _check_keys(node, keys: Keys, place, tree: Tree) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            raise NotYaml(f"{place(line)}: not valid YAML: a list or a map cannot be a key")
        if key.value in lines:
            first = f", first on line {lines[key.value]}" if place(1) != place(2) else ""
            tree.problems.append(
                f"{place(line)}: {dotted((*keys, key.value))} is given twice{first}"
            )
        lines[key.value] = line


_NAME_KEYS = ("name", "framework", "format")


def _merge(under: Tree, over: Tree) -> None:
    """Lay `over` on `under`: maps merge, everything else replaces, and so does a map that names another component."""

    def lay(low, high, keys):
        for key, value in high.items():
            here = (*keys, key)
            old = low.get(key)
            merges = isinstance(value, dict) and isinstance(old, dict)
            if merges and not any(value.get(k, old.get(k)) != old.get(k) for k in _NAME_KEYS):
                lay(old, value, here)
            else:
                low[key] = value
                under.forget(here)

    lay(under.data, over.data, ())
    under.marks.update(over.marks)
    under.problems += over.problems
    under.sources += over.sources


def override(tree: Tree, text: str) -> None:
    """Apply one `A.b.0.c=value`; a part that is not there is made, and checked later like the rest of the file."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        tree.problems.append(f"-o {text}: expected KEY.PATH=value, as in -o DATASET.batch_size=16")
        return
    keys: list[str | int] = []
    here = tree.data
    *parents, last = path.strip().split(".")
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
    """The dict key or list index that `part` means in `here`, or None after noting the problem."""
    if isinstance(here, dict):
        return part
    dotted = ".".join(map(str, keys))
    if isinstance(here, list):
        if part.isdecimal() and len(part) < 6 and int(part) < len(here):
            return int(part)
        tree.problems.append(
            f"-o {text}: {dotted} is a list of {len(here)}; {part!r} is no place in it"
        )
    else:
        tree.problems.append(f"-o {text}: {dotted} is {here!r}, it has no {part!r}")
    return None


def dump(data: dict) -> str:
    """`data` as YAML text that this module reads back equal; `yaml.safe_dump` would leave the text "1e5" without quotes."""
    return yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=120,
    )


def dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))
