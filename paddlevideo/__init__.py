"""paddlevideo: video recognition on PaddlePaddle, from a file to a label.

For notebooks: `load_config`, `build_model`, `Predictor`, `train`, `test`, `export`,
`convert_state_dict`. They are imported when first used, so
that tools which need none of them start at once.
"""

import warnings
from importlib import import_module

__version__ = "0.1.0"

_API = {
    "load_config": "engine.build",
    "build_model": "engine.build",
    "session": "api",
    "train": "api",
    "test": "api",
    "check": "api",
    "export": "exporting.export",
    "Predictor": "predict.predictor",
    "convert_state_dict": "models.convert",
}
# Paddle looks for a compiler cache whenever it is imported, and its batch norm tells how it always behaves.
warnings.filterwarnings("ignore", message="No ccache found")
warnings.filterwarnings(
    "ignore", message="When training, we now always track global mean and variance"
)

__all__ = ["__version__", *_API]


def __getattr__(name: str):
    if name in _API:
        return getattr(import_module(f"paddlevideo.{_API[name]}"), name)
    raise AttributeError(f"module 'paddlevideo' has no attribute {name!r}")
