"""Names a model and its pipeline, to tell results of one model from those of another."""

import json
import zlib
from pathlib import Path
from typing import Any

import paddle

from paddlevideo.config.schema import Config
from paddlevideo.engine.build import VIEWS
from paddlevideo.runtimes.manifest import Manifest, sha256
from paddlevideo.weights import checksum, state_arrays


def identity(
    model: str | Path | paddle.nn.Layer,
    manifest: Manifest | None,
    cfg: Config,
    params_file: str | Path | None = None,
) -> str:
    """Checksums of the weights and of the pipeline, as "weights 0a1b2c3d pipeline 4e5f6a7b".

    Args:
        model: a built model, or the files of an exported one.
        manifest: its model.yaml; None where it has none.
        cfg: the config with the pipeline.
        params_file: weights of a program; None for those next to it.

    Raises:
        OSError: a file cannot be read.
    """
    data = cfg.origin.data
    section = (data.get("DATASET") or {}).get("test") or {}
    views = {key: section[key] for key in VIEWS if key in section}
    used = (data.get("PIPELINE", {}).get("test"), views)
    return f"weights {_weights(model, manifest, params_file)} pipeline {text_checksum(used)}"


def _weights(
    model: str | Path | paddle.nn.Layer, manifest: Manifest | None, params_file: str | Path | None
) -> str:
    if isinstance(model, paddle.nn.Layer):
        return checksum(state_arrays(model))
    path = Path(model)
    files = sorted(path.iterdir()) if path.is_dir() else [path, path.with_suffix(".pdiparams")]
    others = params_file and not any(file.samefile(params_file) for file in files if file.exists())
    if manifest is not None and not others:
        return manifest.weights
    files += [Path(params_file)] if params_file and others else []
    return text_checksum([sha256(file) for file in files if file.is_file()])


def text_checksum(content: Any) -> str:
    """A CRC-32 of plain data, as 8 hex digits."""
    text = json.dumps(content, sort_keys=True, default=str)
    return f"{zlib.crc32(text.encode()):08x}"
