"""The exported models of a benchmark: those of the user, and those with random weights."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import paddle

from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.classes import configured_classes
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import export
from paddlevideo.exporting.export_folder import publish
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.quantizing import int8
from paddlevideo.runtimes.choose import find_program
from paddlevideo.runtimes.golden import read_golden
from paddlevideo.runtimes.manifest import INT8, read_manifest
from paddlevideo.weights import state_arrays, write_arrays

NUM_CLASSES = 400  # of a model whose config leaves it to the data


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Args:
        name: what the user gave, a folder or a config.
        model: the same model, built, if its weights are known.
        temporary: it exists for this benchmark only.
    """

    folder: Path
    name: str
    model: Recognizer | None = None
    temporary: bool = False


def model_of(args: argparse.Namespace, folder: Path) -> Path:
    """The model of --model, or that of --config with random weights, exported to `folder`."""
    if args.model is not None:
        return args.model
    return export_random(args.config, args.override, folder).folder


def export_random(config: str, overrides: Sequence[str], folder: Path) -> Exported:
    """Export the model of a config, with random weights, in every format to `folder`."""
    overrides = list(overrides)
    cfg = load_config(config, overrides)
    if configured_classes(cfg) is None:
        cfg = load_config(config, [*overrides, f"MODEL.head.num_classes={NUM_CLASSES}"])
    paddle.seed(0)
    weights = folder / "random.pdparams"
    write_arrays(weights, state_arrays(build_model(cfg)))
    exported = export(cfg, weights, folder / "exported", ["all"])
    return Exported(exported, config, trained_model(cfg, weights)[0], temporary=True)


def quantize_random(folder: Path) -> None:
    """Add an int8 program to an export, calibrated with its golden inputs.

    They are noise, so the program has the speed of one from tools/quantize.py, and not its
    accuracy. Where that is not possible, a line in the log says why.
    """
    manifest = read_manifest(folder)
    golden = read_golden(folder, manifest) if manifest else None
    missing = int8.missing_for_int8()
    if manifest is None or golden is None or missing:
        logger.info(f"no int8 program: {missing or 'there is no golden.npz'}")
        return
    views = [
        ({name: array[i : i + 1] for name, array in golden[0].items()}, frozenset[int]())
        for i in range(len(golden[1]))
    ]
    logger.info("quantizing with the golden inputs ...")
    model, _ = int8.quantize(find_program(folder, "openvino"), views, dict)
    work, name = folder / "int8", f"{manifest.name}{INT8}.xml"
    work.mkdir()
    int8.save(model, work / name)
    publish(work, folder, manifest, replace(manifest, quantization={"program": name}))
    work.rmdir()
