"""What is kept when a loss is NaN or infinite: the batch and the weights that produced it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from paddlevideo import dist
from paddlevideo.files import atomic_write
from paddlevideo.sample import Arrays
from paddlevideo.weights import write_arrays


class NotFinite(ValueError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class FailedStep:
    """A step whose loss is not finite: epoch from 1, step from 0."""

    epoch: int
    step: int
    loss: float
    lr: float


def keep_evidence(
    folder: Path, failed: FailedStep, files: Sequence[str], weights: Arrays, batch: Arrays
) -> NoReturn:
    """Write the batch and the weights of a step whose loss is not finite, and stop.

    Args:
        files: of the records in the batch.

    Raises:
        NotFinite: always.
    """
    stem = folder / f"not_finite_epoch{failed.epoch}_step{failed.step}_rank{dist.rank()}"
    content = {**asdict(failed), "loss": str(failed.loss), "files": list(files)}
    with atomic_write(stem.with_suffix(".json")) as temporary:
        text = json.dumps(content, ensure_ascii=False, indent=1)
        temporary.write_text(text, encoding="utf-8")
    write_arrays(stem.with_suffix(".pdparams"), weights)
    write_arrays(stem.with_suffix(".safetensors"), batch)
    raise NotFinite(
        f"the loss is {failed.loss} at epoch {failed.epoch} step {failed.step}, "
        f"lr {failed.lr:g}. Checkpoints are kept; batch and weights are in {stem}.*; a lower "
        "learning rate or grad_clip is the usual fix. "
        f"Files of the batch: {', '.join(files)}"
    )
