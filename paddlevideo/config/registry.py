"""Names in a config -> the classes and functions that carry them: the package's only lookup by string.

A component registers itself under a kind ("backbone", "transform", "lr", ...) and its signature is its schema:
`config.py` checks a YAML section against the parameters and type hints found here.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """Marks a parameter that takes another component: `head: Annotated[nn.Layer, Kind("head")]`.

    Args:
        name: the kind to look up.
        key: the key of a section that holds the component's name.
        supplied: arguments that the code supplies where the file leaves them out.
    """

    name: str
    key: str = "name"
    supplied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A registered component; `ignores` maps keys that older files carry to the reason why they have no effect here."""

    make: Callable[..., Any]
    ignores: Mapping[str, str] = field(default_factory=dict)

    def parameters(self, given: Mapping[str, Any] | None = None) -> dict[str, inspect.Parameter]:
        """The arguments a config may give, with their annotations resolved.

        Args:
            given: those that it does give, for a component whose `further_parameters(given)` depend on them.
        """
        signature = inspect.signature(self.make)
        function = self.make.__init__ if inspect.isclass(self.make) else self.make
        hints = typing.get_type_hints(function, include_extras=True)
        own = {
            name: parameter.replace(annotation=hints.get(name, Any))
            for name, parameter in signature.parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        further = getattr(self.make, "further_parameters", None)
        return {**further(given or {}), **own} if further else own


_ENTRIES: dict[str, dict[str, Entry]] = {}


def register(kind: str, *names: str, ignores: Mapping[str, str] | None = None):
    """Class or function decorator: make the component known as `names` (its own name by default) among its `kind`."""

    def add(component):
        for name in names or (component.__name__,):
            entries = _ENTRIES.setdefault(kind, {})
            assert name not in entries, f"{kind} {name!r} is registered twice"
            entries[name] = Entry(component, ignores or {})
        return component

    return add


def known(kind: str) -> list[str]:
    return sorted(_ENTRIES.get(kind, {}))


def nearest(name: str, names: list[str]) -> str:
    """`; did you mean 'x'?`, or what there is to choose from."""
    # Case is the commonest slip, and difflib counts it as a full mismatch.
    lower = {str(n).lower(): str(n) for n in names}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {lower[close[0]]!r}?"
    return f"; known: {', '.join(map(str, names))}" if names else ""


def lookup(kind: str, name: str) -> Entry:
    """The entry of a component.

    Raises:
        KeyError: nothing of that kind has this name; the message proposes the nearest.
    """
    try:
        return _ENTRIES[kind][name]
    except KeyError:
        raise KeyError(f"there is no {kind} named {name!r}{nearest(name, known(kind))}") from None
