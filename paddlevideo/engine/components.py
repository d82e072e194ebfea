"""Imports every module that registers a component, so that a config can name it.

No list is kept: all modules of the rooms with components are imported.
"""

import importlib
import pkgutil

import paddlevideo.losses  # noqa: F401, one file that registers losses
from paddlevideo import data, media, metrics, models, solver

for _room in (media, data, models, metrics, solver):
    for _module in pkgutil.walk_packages(_room.__path__, f"{_room.__name__}."):
        importlib.import_module(_module.name)
