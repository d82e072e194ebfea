"""Names in a config -> classes and functions: the only lookup by string in the package.

A component registers itself under a kind ("backbone", "transform", "lr", ...):

    @register("transform")
    @dataclass(frozen=True)
    class Scale:
        short_size: int
        backend: Literal["pillow", "cv2"] = "pillow"

The signature is the schema. No other list of options exists: the config checker reads the names,
types and defaults of the arguments from the signature of the component. A new parameter is a new
option of the config, and `- Scale: {size: 3}` is reported with its line and the nearest name.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Further = Callable[[Mapping[str, Any]], dict[str, inspect.Parameter]]


@dataclass(frozen=True)
class Kind:
    """Marks a parameter that takes another component: `head: Annotated[nn.Layer, Kind("head")]`.

    Args:
        name: the kind to look up.
        key: the key of the YAML map that holds the name of the component.
        supplied: required arguments that a config may leave out, because the code supplies them.
    """

    name: str
    key: str = "name"
    supplied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Follows:
    """Marks an argument that has the value of a key at the top of the config where it is left out.

    Args:
        key: the key, as "epochs".
    """

    key: str


@dataclass(frozen=True)
class Entry:
    """A registered component.

    Args:
        make: the class or function.
        ignores: keys of older configs that have no effect, and the reason for each.
        further: for a component that passes arguments on to another one: given the arguments in the
            config, the parameters of the other one.
    """

    make: Callable[..., Any]
    ignores: Mapping[str, str] = field(default_factory=dict)
    further: Further | None = None

    def parameters(self, given: Mapping[str, Any] | None = None) -> dict[str, inspect.Parameter]:
        """The arguments that a config may give, with resolved type hints.

        Args:
            given: the arguments in the config.
        """
        signature = inspect.signature(self.make)
        function = self.make.__init__ if inspect.isclass(self.make) else self.make
        hints = typing.get_type_hints(function, include_extras=True)
        own = {
            name: parameter.replace(annotation=hints.get(name, Any))
            for name, parameter in signature.parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        return {**self.further(given or {}), **own} if self.further else own


_ENTRIES: dict[str, dict[str, Entry]] = {}


def register(
    kind: str,
    *names: str,
    ignores: Mapping[str, str] | None = None,
    further: Further | None = None,
):
    """Decorator for a class or function: register it under `kind`.

    Args:
        names: its names in a config; by default the name of the class or function.
        ignores: keys of older configs that have no effect, and the reason for each.
        further: see `Entry`.
    """

    def add(component):
        for name in names or (component.__name__,):
            entries = _ENTRIES.setdefault(kind, {})
            assert name not in entries, f"{kind} {name!r} is registered twice"
            entries[name] = Entry(component, ignores or {}, further)
        return component

    return add


def known(kind: str) -> list[str]:
    """The names that are registered under `kind`, sorted."""
    return sorted(_ENTRIES.get(kind, {}))


def nearest(name: str, names: list[str]) -> str:
    """The end of an error message: `; did you mean 'x'?`, or all names if none is similar."""
    # Wrong case is the most frequent mistake, but difflib would count it as a full mismatch.
    lower = {str(n).lower(): str(n) for n in names}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {lower[close[0]]!r}?"
    return f"; known: {', '.join(map(str, names))}" if names else ""


def lookup(kind: str, name: str) -> Entry:
    """The component that is registered under `kind` and `name`.

    Raises:
        KeyError: there is none; the message proposes the nearest name.
    """
    try:
        return _ENTRIES[kind][name]
    except KeyError:
        raise KeyError(f"there is no {kind} named {name!r}{nearest(name, known(kind))}") from None
