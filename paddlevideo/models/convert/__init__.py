"""Weights of other projects -> ours, one file a source.

A source registers a function of its own name, kind "converter", that takes their arrays by name and gives a `Conversion`:

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
    """What `convert` understands."""
    return known("converter")


def convert(arrays: Mapping[str, np.ndarray], source: str) -> Conversion:
    """Translate the weights of another project, with an account of every name.

    Args:
        arrays: their tensors by their names.
        source: where they come from, one of `sources()`.

    Raises:
        KeyError: an unknown source.
        WeightsError: a tensor has no place here, or two have the same.
    """
    return lookup("converter", source).make(arrays)


def convert_state_dict(arrays: Mapping[str, np.ndarray], source: str) -> Arrays:
    """The weights of another project under our names and in our layout, ready for `load_into`.

    Args:
        arrays: their tensors by their names.
        source: where they come from: "paddlecv_nextvlad", "youtube8m_nextvlad", ...; `models.convert.sources()` lists them.

    Returns:
        arrays by our names.

    Raises:
        KeyError: an unknown source.
        WeightsError: a tensor has no place here, or two have the same.
    """
    return convert(arrays, source).arrays
