"""Type hints as rules for config values: test a value, and describe a hint in messages."""

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal

from paddlevideo.config.registry import Follows, Kind


def fit(hint, value) -> tuple[Any, bool]:
    """(converted value, whether it fits), for a hint without components or sections inside.

    An int fits float and is converted. A bool fits neither int nor float. Numbers of 1e300 and
    more, which include infinity, do not fit float.
    """
    origin = typing.get_origin(hint)
    if hint in (None, type(None)):
        return None, value is None
    if origin is Literal:
        return value, any(type(value) is type(a) and value == a for a in typing.get_args(hint))
    if hint is bool:
        return value, isinstance(value, bool)
    if hint is int:
        return value, isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value, False
        return (float(value), True) if abs(value) < 10**300 else (value, False)
    if hint in (str, list, dict, tuple):
        return value, isinstance(value, list if hint is tuple else hint)
    if origin in (list, tuple):
        return value, False
    if origin is dict:
        return value, isinstance(value, dict)
    return value, True


def spell(hint) -> str:
    """What a value of this hint looks like in a config, for messages."""
    origin = typing.get_origin(hint)
    if hint in (None, type(None)):
        return "nothing"
    if origin is Annotated:
        kind = component_kind(hint)
        return f"a map with a {kind.key!r}" if kind else spell(typing.get_args(hint)[0])
    if origin is Literal:
        return " or ".join(repr(a) for a in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(spell(a) for a in typing.get_args(hint))
    if dataclasses.is_dataclass(hint):
        return f"a map with {', '.join(field_names(hint))}"
    if origin in (list, tuple):
        return f"a list of {spell(typing.get_args(hint)[0])}"
    if origin is dict:
        return f"a map of names to {spell(typing.get_args(hint)[1])}"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def component_kind(hint) -> Kind | None:
    """The kind of component that a hint takes; None for plain values and sections."""
    if typing.get_origin(hint) is not Annotated:
        return None
    return next((mark for mark in hint.__metadata__ if isinstance(mark, Kind)), None)


def followed_key(hint) -> str | None:
    """The key of the config whose value an argument takes where it is left out; None for none."""
    marks = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
    return next((mark.key for mark in marks if isinstance(mark, Follows)), None)


def is_structured(hint) -> bool:
    """Whether the values of a hint have parts that are checked one by one."""
    return typing.get_origin(hint) in (Annotated, list) or dataclasses.is_dataclass(hint)


def allows_none(hint) -> bool:
    return hint in (Any, None) or type(None) in typing.get_args(hint)


def field_names(section) -> list[str]:
    """The keys of a section; `section` is its dataclass."""
    return [f.name for f in dataclasses.fields(section) if f.name != "origin"]


def required_fields(section) -> dict[str, Any]:
    """The keys of a section that have no default, with their hints."""
    missing, hints = dataclasses.MISSING, typing.get_type_hints(section, include_extras=True)
    return {
        f.name: hints[f.name]
        for f in dataclasses.fields(section)
        if f.default is missing and f.default_factory is missing
    }
