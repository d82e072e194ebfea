"""From files to clips: decoding, frame sampling, transforms, data sets, loading.

Importing the package imports each of its modules, so that what they register is known; no list of them is kept.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
