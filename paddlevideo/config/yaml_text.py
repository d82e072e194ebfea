"""The one reader of YAML text: PyYAML's safe loaders, with limits on what a text may ask for.

Aliases and merge keys can turn ten lines into billions of values, a list may be nested ten thousand
times, and the time for a number in base 60 grows with the square of its length.
"""

import errno
import os
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from paddlevideo.files import check_regular

MAX_DEPTH = 100
MAX_NUMBER = 1000  # characters
MAX_TEXT = 1 << 16  # characters of one value
MAX_CONFIG = 1 << 20  # bytes of a file that people write; a config has a few thousand
MAX_DATA = 32 << 20  # bytes of a file that the package writes; it may name 100,000 classes
MAX_CONFIG_VALUES, MAX_DATA_VALUES = 100_000, 500_000

_NUMBERS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp")}


class NotYaml(ValueError):
    """Text that is not a YAML document, or exceeds a limit.

    Args:
        reason: without the location.
        line: from 1.
    """

    def __init__(self, reason: str, line: int = 1):
        super().__init__(f"line {line}: {reason}")
        self.reason, self.line = reason, line


def read_text(path: Path, most: int) -> str:
    """The text of a regular file; a byte order mark is skipped.

    Raises:
        OSError: it cannot be read, is a FIFO or a device, or has more than `most` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    check_regular(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, expected at most {most}", str(path))
        return file.read().decode("utf-8-sig")


def compose(loader: Any, text: str, max_values: int) -> yaml.Node | None:
    """The nodes of a text, with the number of values that they expand to checked.

    Args:
        loader: of the text, with the class `Bounded`.

    Raises:
        NotYaml: it is not a YAML document, or exceeds a limit.
    """
    try:
        loader.max_nodes = max_values
        node = loader.get_single_node()
        if node is not None and _num_values(node, {}) > max_values:
            raise NotYaml(f"more than {max_values} values; do aliases (*name) multiply?")
        return node
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = f"not valid YAML: {error.problem or error.context}"
        raise NotYaml(TOO_DEEP if "nesting depth" in reason else reason, line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"not valid YAML: character {error.character!r} is not allowed"
        raise NotYaml(reason, line) from error
    except RecursionError:
        raise NotYaml(TOO_DEEP) from None


TOO_DEEP = "not valid YAML: nested too deep, or an alias (*name) inside its own anchor"


def _num_values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node expands to, aliases and merge keys included.

    Args:
        known: of nodes that were counted, by id; 0 while a node is being counted.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise NotYaml(TOO_DEEP, node.start_mark.line + 1)
        return known[id(node)]
    known[id(node)], total = 0, 1
    if isinstance(node, yaml.MappingNode):
        total += sum(_num_values(value, known) for pair in node.value for value in pair)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_num_values(value, known) for value in node.value)
    known[id(node)] = total
    return total


class Bounded:
    """Limits of a loader, ahead of PyYAML's own classes."""

    max_nodes = MAX_CONFIG_VALUES
    _depth = _num_nodes = 0

    def compose_node(self, parent, index):
        event: Any = self.peek_event()  # pyright: ignore[reportAttributeAccessIssue]
        self._depth, self._num_nodes = self._depth + 1, self._num_nodes + 1
        if self._depth > MAX_DEPTH:
            raise NotYaml(TOO_DEEP, event.start_mark.line + 1)
        if self._num_nodes > self.max_nodes:
            reason = f"more than {self.max_nodes} values; do aliases (*name) multiply?"
            raise NotYaml(reason, event.start_mark.line + 1)
        node = super().compose_node(parent, index)  # pyright: ignore[reportAttributeAccessIssue]
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode):
            self._check_length(node)
        return node

    def _check_length(self, node: yaml.ScalarNode) -> None:
        length, is_number = len(node.value), node.tag in _NUMBERS
        if length > (MAX_NUMBER if is_number else MAX_TEXT):
            kind = "a number" if is_number else "a value"
            raise ComposerError(None, None, f"{kind} of {length} characters", node.start_mark)

    def resolve(self, kind, value, implicit):
        """The tag of a node. The patterns of numbers take quadratic time on long text."""
        if kind is yaml.ScalarNode and implicit[0] and len(value) > MAX_NUMBER:
            is_number = re.fullmatch(r"[-+]?[0-9.:_]+", value)
            return f"tag:yaml.org,2002:{'int' if is_number else 'str'}"
        return super().resolve(kind, value, implicit)  # pyright: ignore[reportAttributeAccessIssue]


class _PythonLoader(Bounded, yaml.SafeLoader):
    """PyYAML's YAML 1.1."""


_DataLoader: Any = _PythonLoader
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # pyright: ignore[reportAttributeAccessIssue]

    class _FastLoader(Bounded, Composer, CParser, SafeConstructor, Resolver):
        """The same with libyaml's parser, ten times as fast; its composer would have no limits."""

        def __init__(self, text: str):
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    _DataLoader = _FastLoader


def load_data(text: str) -> Any:
    """The content of YAML that the package wrote, as `yaml.safe_load` gives it.

    Raises:
        NotYaml: it is not a YAML document, exceeds a limit, or has a value that cannot be read.
    """
    try:
        loader = _DataLoader(text)
        node = compose(loader, text, MAX_DATA_VALUES)
        return None if node is None else loader.construct_document(node)
    except NotYaml:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise NotYaml(f"not valid YAML: {error.problem or error.context}", line) from error
    except yaml.reader.ReaderError as error:
        raise NotYaml("not valid YAML: a character in it is not allowed") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise NotYaml(f"a value in it cannot be read: {error}") from error
    except RecursionError:
        raise NotYaml(TOO_DEEP) from None
