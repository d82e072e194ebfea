"""NaN and infinity in a run: where they are found, and what is kept of the step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import paddle
from paddle import nn

from paddlevideo import dist
from paddlevideo.files import atomic_write, json_text
from paddlevideo.sample import Arrays
from paddlevideo.weights import WeightsError, check_values, write_arrays

MAX_NAMES = 6  # tensors or videos in a message


class NotFinite(ValueError):
    """A loss, gradient, weight or score became NaN or infinite."""


@dataclass(frozen=True)
class FailedStep:
    """A step whose loss or gradients are not finite: epoch from 1, step from 0.

    Args:
        gradients: names of the parameters whose gradients are not finite.
    """

    epoch: int
    step: int
    loss: float
    lr: float
    gradients: Sequence[str] = ()


def keep_evidence(
    folder: Path,
    failed: FailedStep,
    files: Sequence[str],
    weights: Arrays | None,
    batch: Arrays | None,
) -> NoReturn:
    """Write the batch and the weights of a step that is not finite, and stop.

    Args:
        files: of the records in the batch.
        weights, batch: None where the step was found only after later ones.

    Raises:
        NotFinite: always.
    """
    stem = folder / f"not_finite_epoch{failed.epoch}_step{failed.step}_rank{dist.rank()}"
    content = {**asdict(failed), "loss": str(failed.loss), "files": list(files)}
    with atomic_write(stem.with_suffix(".json")) as temporary:
        temporary.write_text(json_text(content, indent=1), encoding="utf-8")
    kept = f"its files are listed in {stem}.json; -o log_interval=1 keeps batch and weights, too"
    if weights is not None and batch is not None:
        write_arrays(stem.with_suffix(".pdparams"), weights)
        numbers = {name: array for name, array in batch.items() if array.dtype.kind != "S"}
        write_arrays(stem.with_suffix(".safetensors"), numbers)  # it has no type for ids
        kept = f"batch and weights are in {stem}.*"
    what = f"the loss is {failed.loss}"
    if failed.gradients and weights is None:
        what = "gradients are not finite"
    elif failed.gradients:
        first = ", ".join(failed.gradients[:MAX_NAMES])
        what = f"{len(failed.gradients)} gradients are not finite ({first})"
    raise NotFinite(
        f"{what} at epoch {failed.epoch} step {failed.step}, "
        f"lr {failed.lr:g}. Checkpoints are kept; {kept}; a lower "
        "learning rate or grad_clip is the usual fix. "
        f"Files of the batch: {', '.join(files)}"
    )


def check_finite(arrays: Arrays, name: str) -> None:
    """Check what is about to be written to a checkpoint.

    Raises:
        NotFinite: naming the tensors.
    """
    try:
        check_values(arrays, name)
    except WeightsError as error:
        raise NotFinite(f"not written, earlier files are kept: {error}") from error


def wrong_gradients(model: nn.Layer) -> list[str]:
    """The names of the parameters whose gradients are not finite."""
    named = ((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    wrong = [name for name, grad in named if not bool(paddle.isfinite(grad).all())]
    return wrong or ["all are finite, but their norm is not"]


def check_logits(logits: np.ndarray, videos: Sequence[str]) -> None:
    """Check the scores of videos.

    Args:
        logits: [N, K].
        videos: the location of each.

    Raises:
        NotFinite: naming the first videos with other scores.
    """
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1)).tolist()
    if wrong:
        listed = ", ".join(videos[index] for index in wrong[:MAX_NAMES])
        raise NotFinite(
            f"the model returned NaN or infinity for {len(wrong)} of {len(logits)} videos "
            f"({listed}): its weights are broken, or the values of these inputs are"
        )
