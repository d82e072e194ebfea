"""Post-training quantization with NNCF: a program of an exported model becomes one of int8.

Weights are quantized per channel, activations per tensor.
"""

import contextlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.exporting.program import ExportError
from paddlevideo.log import logger
from paddlevideo.runtimes.base import Program, reason
from paddlevideo.runtimes.openvino import HINTS, openvino_core, other_cores
from paddlevideo.sample import Arrays

# OpenVINO cannot compile a quantized operator in some places; it is then left in fp32. This is how
# its message names the operator.
UNSUPPORTED = re.compile(r"(\S+?)/DequantizationMultiply")
MOST_UNSUPPORTED = 16

View = tuple[Arrays, frozenset[int]]  # the inputs of a program before `inputs`, and the labels


def missing_for_int8() -> str:
    """What this machine lacks to quantize, and how to get it; "" if nothing."""
    missing = [name for name in ("nncf", "openvino") if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    fix = "pip install 'paddlevideo[openvino,quantize]'"
    return f"quantization needs {' and '.join(missing)}: {fix}"


def quantize(
    program: Program, views: Sequence[View], inputs: Callable[[Arrays], Arrays]
) -> tuple[Any, list[str]]:
    """Quantize a program.

    Args:
        views: what it is calibrated with.
        inputs: turns a view into the inputs of the program.

    Returns:
        an `openvino.Model`, and the names of operators that OpenVINO cannot compute in int8 and
        that stay in fp32.

    Raises:
        ExportError: OpenVINO cannot compile the quantized program.
    """
    core = openvino_core()
    left_out: list[str] = []
    while True:
        model = _read(core, program)
        with _nncf() as nncf:
            scope = nncf.IgnoredScope(names=left_out) if left_out else None
            data = nncf.Dataset([view for view, _ in views], inputs)
            quantized = nncf.quantize(
                model,
                data,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(views),
                ignored_scope=scope,
            )
        try:
            core.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": HINTS["int8"]})
        except RuntimeError as error:
            found = UNSUPPORTED.search(str(error))
            names = {node.get_friendly_name() for node in model.get_ops()} - set(left_out)
            if not found or found[1] not in names or len(left_out) == MOST_UNSUPPORTED:
                raise ExportError(
                    f"{program.model}: openvino cannot run this model in int8: {reason(error)}; "
                    "use precision bf16 or fp32"
                ) from error
            left_out.append(found[1])
        else:
            return quantized, left_out


def quantize_accurately(
    program: Program,
    views: Sequence[View],
    inputs: Callable[[Arrays], Arrays],
    left_out: Sequence[str],
    max_drop: float,
) -> Any:
    """Quantize a program, and keep those layers in fp32 that cost the most top-1 accuracy.

    Args:
        views: the program is calibrated with them, and its accuracy is that on those with labels.
        left_out: names of operators that are not quantized.
        max_drop: of the accuracy, which is a share of the views with labels.

    Returns:
        an `openvino.Model`.
    """

    def accuracy(compiled: Any, items: Iterable[View]) -> tuple[float, list[float]]:
        hits = []
        for view, labels in items:
            logits = np.asarray(compiled(inputs(view))[0])
            hits.append(float(int(logits[0].argmax()) in labels))
        return float(np.mean(hits)), hits

    with _nncf() as nncf:
        return nncf.quantize_with_accuracy_control(
            _read(openvino_core(), program),
            nncf.Dataset(list(views), lambda item: inputs(item[0])),
            nncf.Dataset([(view, labels) for view, labels in views if labels]),
            accuracy,
            max_drop=max_drop,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(views),
            ignored_scope=nncf.IgnoredScope(names=list(left_out)) if left_out else None,
        )


def save(model: Any, file: Path) -> None:
    """Write a quantized program, `<stem>.xml` and `<stem>.bin`; its other weights stay float32."""
    import openvino  # an optional extra

    openvino.save_model(model, str(file), compress_to_fp16=False)


def _read(core: Any, program: Program) -> Any:
    return core.read_model(*(str(file) for file in (program.model, program.params) if file))


@contextlib.contextmanager
def _nncf() -> Iterator[Any]:
    """NNCF, quiet and without its telemetry, which it decides on when it is imported."""
    before = os.environ.get("NNCF_CI")
    if "nncf" not in sys.modules:
        os.environ["NNCF_CI"] = "1"
    try:
        import nncf  # an optional extra
    finally:
        if before is None:
            os.environ.pop("NNCF_CI", None)
        else:
            os.environ["NNCF_CI"] = before
    log = logging.getLogger("nncf")
    level = log.level
    log.setLevel(max(logging.ERROR, logger.level))
    try:
        with other_cores():  # its accuracy control makes some
            yield nncf
    finally:
        log.setLevel(level)
