"""Reading weight files of all sources without running code in them."""

from pathlib import Path

import numpy as np

from paddlevideo.models.convert.tf_checkpoint import read_checkpoint
from paddlevideo.models.convert.torch_file import SUFFIXES as TORCH
from paddlevideo.models.convert.torch_file import read_torch
from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError, read_arrays


def read_weights(path: str | Path) -> Arrays:
    """Read the arrays of a weight file of another project.

    Args:
        path: a `.pdparams` file of Paddle, `.safetensors`, `.npz`, a `.pth` file of PyTorch, or a
            TensorFlow checkpoint: its `.index` file, or the prefix of its files.

    Raises:
        WeightsError: the file is missing, damaged, or contains more than arrays.
    """
    path = Path(path)
    if path.suffix == ".index" or path.with_name(path.name + ".index").exists():
        return read_checkpoint(path)
    if path.suffix in TORCH:
        return read_torch(path)
    if path.suffix != ".npz":
        return read_arrays(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except Exception as error:  # zipfile and NumPy raise many kinds on a damaged archive
        raise WeightsError(f"{path}: not a .npz file of arrays, or damaged ({error})") from error
