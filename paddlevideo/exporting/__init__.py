"""A trained model becomes a folder of programs that is complete by itself.

`paddlevideo.export` is this package and also a function of the API, so the package is callable:
`paddlevideo.export(cfg, weights)` calls `paddlevideo.export.export.export`.
"""

import sys
from importlib import import_module
from types import ModuleType


class _CallablePackage(ModuleType):
    def __call__(self, *args, **kwargs):
        return import_module("paddlevideo.export.export").export(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
