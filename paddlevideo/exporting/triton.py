"""A model repository for Triton Inference Server with its onnxruntime backend.

    DIR/NAME/1/model.onnx
    DIR/NAME/config.pbtxt   inputs and outputs, batching
    DIR/NAME/labels.txt     a class name per line, where they are known

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevideo.exporting.program import ExportError
from paddlevideo.files import atomic_write, json_text
from paddlevideo.log import logger
from paddlevideo.plain_text import file_line
from paddlevideo.remote import is_url, shown
from paddlevideo.sample import Arrays

TYPES = {"float32": "FP32", "float16": "FP16", "uint8": "UINT8", "int64": "INT64", "int32": "INT32"}
MOST_BYTES = 320 << 20  # of the inputs of one run
MOST_BATCH = 64
DELAY = 1000  # microseconds that a request waits for others


def check_repository(repository: str | Path | None, name: str, overwrite: bool) -> None:
    """Check that a repository is a local folder, and does not have the model yet.

    Args:
        repository: the folder; None where nothing is written to one.

    Raises:
        ExportError: it is a URL, or has the model, and `overwrite` is not set.
    """
    if not repository:
        return
    if is_url(str(repository)):
        raise ExportError(
            f"--triton {shown(str(repository))}: a model repository is written to a local folder; "
            "give one, and copy it"
        )
    repository = Path(repository)
    if (repository / name).exists() and not overwrite:
        raise ExportError(
            f"{repository / name} exists; give another folder with --triton, "
            "or replace its version 1 with --overwrite"
        )


def write_repository(
    repository: Path, program: Path, sample: Arrays, labels: Sequence[str] | None
) -> Path:
    """Write a model to the repository.

    Args:
        program: the .onnx file; its stem is the name of the model.
        sample: its inputs [N, ...]; their sizes decide how many are batched.
        labels: class names.

    Returns:
        the folder of the model.

    Raises:
        OSError: it cannot be written.
    """
    name = program.stem
    folder = repository / name
    with atomic_write(folder / "1" / "model.onnx") as temporary:
        shutil.copyfile(program, temporary)
    if labels:
        with atomic_write(folder / "labels.txt") as temporary:
            lines = "".join(f"{file_line(label)}\n" for label in labels)
            temporary.write_text(lines, encoding="utf-8")
    with atomic_write(folder / "config.pbtxt") as temporary:
        text = config_text(name, program, sample, bool(labels))
        temporary.write_text(text, encoding="utf-8")
    if not labels:  # of a model that was here before
        (folder / "labels.txt").unlink(missing_ok=True)
    logger.info(f"wrote {name} for Triton to {folder}")
    return folder


def config_text(name: str, program: Path, sample: Arrays, labels: bool) -> str:
    """The text of config.pbtxt for an ONNX program.

    Args:
        sample: inputs [N, ...].
        labels: the folder has a labels.txt.
    """
    import onnx  # an optional extra

    graph = onnx.load(str(program), load_external_data=False).graph
    inputs = [_port(port) for port in graph.input]
    outputs = [_port(port) for port in graph.output]
    free = all(shape[0] < 0 for _, _, shape in inputs)
    bytes_of_one = sum(array.nbytes // len(array) for array in sample.values())
    most = min(MOST_BATCH, max(1, MOST_BYTES // bytes_of_one)) if free else 0
    lines = [f"name: {json_text(name)}", 'backend: "onnxruntime"', f"max_batch_size: {most}"]
    for title, ports in (("input", inputs), ("output", outputs)):
        for port, dtype, shape in ports:
            # A second output has the logits of single frames.
            is_scores = title == "output" and port == outputs[0][0]
            extra = ['label_filename: "labels.txt"'] if labels and is_scores else []
            lines += [f"{title} [", "  {", f"    name: {json_text(port)}"]
            lines += [f"    data_type: TYPE_{TYPES[dtype]}"]
            lines += [f"    {line}" for line in (*_dims(shape[1:] if free else shape), *extra)]
            lines += ["  }", "]"]
    if free:
        lines += ["dynamic_batching {", f"  max_queue_delay_microseconds: {DELAY}", "}"]
    return "\n".join(lines) + "\n"


def _port(port: Any) -> tuple[str, str, list[int]]:
    """(name, dtype, shape) of an input or output of an ONNX graph; -1 for a free size."""
    import onnx  # an optional extra

    tensor = port.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return port.name, dtype, [dim.dim_value or -1 for dim in tensor.shape.dim]


def _dims(shape: list[int]) -> list[str]:
    """The dims of an input; Triton has none for a number per item, so it reshapes one of 1."""
    if not shape:
        return ["dims: [ 1 ]", "reshape { shape: [ ] }"]
    return [f"dims: [ {', '.join(map(str, shape))} ]"]
