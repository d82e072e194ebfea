"""paddlevideo: video recognition on PaddlePaddle, from a file to a label.

The API for notebooks and scripts: `load_config`, `build_model`, `session`, `train`, `test`,
`check`, `export`, `Predictor`, `create_model` and `convert_state_dict`. Each name is imported when
it is first used, so `import paddlevideo` does not load Paddle.
"""

import warnings
from importlib import import_module

__version__ = "0.1.0"

# The module that holds each name.
_API = {
    "load_config": "paddlevideo.engine.build",
    "build_model": "paddlevideo.engine.build",
    "session": "paddlevideo.api",
    "train": "paddlevideo.api",
    "test": "paddlevideo.api",
    "test_program": "paddlevideo.api",
    "check": "paddlevideo.api",
    "export": "paddlevideo.exporting.export",
    "Predictor": "paddlevideo.predict.predictor",
    "create_model": "paddlevideo.predict.paddlex",
    "convert_state_dict": "paddlevideo.models.convert",
}

__all__ = ["__version__", *_API]


def __getattr__(name: str):
    if name not in _API:
        raise AttributeError(f"module 'paddlevideo' has no attribute {name!r}")
    # The import may load Paddle, which warns about itself. The filters end with the block.
    with warnings.catch_warnings():
        import_module("paddlevideo.log").quiet_paddle_warnings()
        module = import_module(_API[name])
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
