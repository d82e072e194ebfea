"""Reading weight files of all sources without running code in them."""

from pathlib import Path

from paddlevideo.array_files import ArrayFileError, read_npz
from paddlevideo.models.convert.tf_checkpoint import read_checkpoint
from paddlevideo.models.convert.torch_file import SUFFIXES as TORCH
from paddlevideo.models.convert.torch_file import read_torch
from paddlevideo.safe_pickle import reading
from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError, check_values, read_arrays


def read_weights(path: str | Path) -> Arrays:
    """Read the arrays of a weight file of another project.

    Args:
        path: a `.pdparams` file of Paddle, `.safetensors`, `.npz`, a `.pth` file of PyTorch, or a
            TensorFlow checkpoint: its `.index` file, or the prefix of its files.

    Raises:
        WeightsError: the file is missing, damaged, or contains more than arrays, or values that are
            not finite or too large.
    """
    arrays = _read(Path(path))
    check_values(arrays, str(path))
    return arrays


def _read(path: Path) -> Arrays:
    if path.suffix == ".index" or path.with_name(path.name + ".index").exists():
        return read_checkpoint(path)
    if path.suffix in TORCH:
        return read_torch(path)
    if path.suffix != ".npz":
        return read_arrays(path)
    with reading(path):
        try:
            return read_npz(path)
        except ArrayFileError as error:
            raise WeightsError(f"not a .npz file of arrays: {error}") from error
