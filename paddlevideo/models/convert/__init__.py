"""Converters: weights of other projects -> weights of this project's models, one file per source.

A source registers a function with its own name, kind "converter". It takes arrays by name and
returns a `Conversion`:

    @register("converter")
    def paddlecv_nextvlad(arrays: Mapping[str, np.ndarray]) -> Conversion:
        return translate(arrays, RULES, "paddlecv_nextvlad")

Importing the package registers all of them.
"""

import importlib
import pkgutil
from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import known, lookup
from paddlevideo.models.convert.rules import Conversion, Rule, translate
from paddlevideo.sample import Arrays

__all__ = ["Conversion", "Rule", "convert", "convert_state_dict", "sources", "translate"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def sources() -> list[str]:
    """The sources that `convert` accepts."""
    return known("converter")


def convert(arrays: Mapping[str, np.ndarray], source: str) -> Conversion:
    """Convert the weights of another project, with a line on what became of each tensor.

    Args:
        arrays: the other project's arrays by name.
        source: that project's converter, one of `sources()`.

    Raises:
        KeyError: an unknown source.
        WeightsError: a tensor has no counterpart in this project, or shares it with another one.
    """
    return lookup("converter", source).make(arrays)


def convert_state_dict(arrays: Mapping[str, np.ndarray], source: str) -> Arrays:
    """The weights of another project with this project's names and layouts, for `load_into`.

    Args:
        arrays: the other project's arrays by name.
        source: that project's converter: "paddlecv_nextvlad", "youtube8m_nextvlad", ...;
            `models.convert.sources()` lists them.

    Returns:
        arrays by the names of this project.

    Raises:
        KeyError: an unknown source.
        WeightsError: a tensor has no counterpart in this project, or shares it with another one.
    """
    return convert(arrays, source).arrays
