"""The files of a run: weights, optimizer state, and the state from which a run resumes exactly.

| file                         | holds                                         | read by          |
| ---                          | ---                                           | ---              |
| <name>_epoch_00010.pdparams  | the model after epoch 10, PaddleVideo's form  | test, export, -w |
| <name>_epoch_00010.pdopt     | optimizer and progress after epoch 10         | -o resume_epoch  |
| <name>_best.pdparams, .pdopt | the same for the best validation so far       | test, export     |
| <name>_best_student.pdparams | of a distillation: the student alone          | test, export     |
| <name>_latest.pdstate        | all of it in one file, written atomically     | --resume         |

Random numbers need no state: every draw is keyed by seed, epoch and step.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo import dist
from paddlevideo.data.class_names import both_orders
from paddlevideo.engine.architecture import ARCHITECTURE, architecture_note
from paddlevideo.engine.named_models import class_names, fetched, weight_file
from paddlevideo.engine.not_finite import check_finite
from paddlevideo.engine.trained_clips import TRAIN_CLIPS, TrainedClips
from paddlevideo.log import logger
from paddlevideo.models.base import Recognizer
from paddlevideo.remote import path_suffix, shown
from paddlevideo.sample import Arrays
from paddlevideo.solver import ema
from paddlevideo.solver.optimizer import optimizer_state, restore_optimizer_state
from paddlevideo.weights import (
    WeightsError,
    check_values,
    load_into,
    own_names,
    read_arrays,
    state_arrays,
    write_arrays,
)
from paddlevideo.zoo.table import find_model, name_hint

CLASS_NAMES = "class_names@@"
_PROGRESS = "progress@@"
_SUMS = "sums@@"


@dataclass
class Progress:
    """How far a run is: `step` batches of epoch `epoch` (counted from 0) are done.

    Args:
        best, best_loss: score and loss of the best validation so far, None before the first.
        stale: validations since the best one.
        sums: running sums of the current epoch's log values.
        seconds: duration of the run so far, without interruptions.
    """

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_loss: float | None = None
    stale: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


_NEEDED = {"scaler", "fingerprint"}
_PROGRESS_KEYS = {*Progress.__dataclass_fields__, *_NEEDED}


@dataclass
class TrainState:
    """What changes while a run goes on, and how it is written and read.

    Args:
        class_names: names of the classes, which are saved with the weights.
        fingerprint: the settings that must be the same when a run is resumed, as text.
        average: moving average of the weights, see solver/ema.py; None without one.
        finished: all epochs are done; False while a run goes on, or after a stop signal.
        train_clips: the clips that the weights were trained on, which are saved with them.
    """

    model: Recognizer
    optimizer: Any
    scaler: paddle.amp.GradScaler
    progress: Progress = field(default_factory=Progress)
    class_names: Sequence[str] | None = None
    fingerprint: str = ""
    average: dict[str, paddle.Tensor] | None = None
    finished: bool = False
    train_clips: TrainedClips | None = None

    def model_arrays(self) -> Arrays:
        """The content of a `.pdparams` file: tensors; class names, architecture (JSON); clips."""
        return self._with_facts(self.model)

    def _with_facts(self, model: Recognizer) -> Arrays:
        arrays = state_arrays(model)
        if model.architecture:
            arrays[ARCHITECTURE] = _to_bytes(model.architecture)
        if self.train_clips is not None:
            arrays = {**arrays, TRAIN_CLIPS: self.train_clips.array()}
        if self.class_names is None:
            return arrays
        return {**arrays, CLASS_NAMES: _to_bytes(list(self.class_names))}

    def optimizer_arrays(self) -> Arrays:
        arrays = optimizer_state(self.optimizer, self.model)
        scaler = {k: np.asarray(v).tolist() for k, v in self.scaler.state_dict().items()}
        arrays[_PROGRESS] = _to_bytes(
            {**vars(self.progress), "scaler": scaler, "fingerprint": self.fingerprint}
        )
        return arrays

    def save_pair(self, stem: Path) -> None:
        """Write `<stem>.pdparams`, `<stem>.pdopt`; for a distillation, also the student.

        Raises:
            NotFinite: a tensor is not finite; no file is written.
        """
        model, optimizer = self.model_arrays(), self.optimizer_arrays()
        check_finite({**model, **optimizer}, stem.name)
        write_arrays(stem.with_name(stem.name + ".pdparams"), model)
        if self.model.evaluated is not self.model:  # a distillation: the student as a plain model
            student = self._with_facts(self.model.evaluated)
            write_arrays(stem.with_name(stem.name + "_student.pdparams"), student)
        write_arrays(stem.with_name(stem.name + ".pdopt"), optimizer)

    def save(self, path: Path) -> None:
        """Write the state as one file from rank 0.

        Other ranks contribute their batch statistics and sums of log values.

        Raises:
            NotFinite: on every rank whose tensors are not finite; an earlier file is kept.
        """
        own = _buffers(self.model)
        check_finite(state_arrays(self.model), path.name)
        averages = {f"ema/{k}": v for k, v in ema.arrays_of(self.average or {}).items() if k in own}
        statistics = dist.gather({**own, **averages, _SUMS: _to_bytes(self.progress.sums)})
        if not dist.is_main():
            return
        arrays = {f"model/{k}": v for k, v in self.model_arrays().items()}
        arrays |= {f"optimizer/{k}": v for k, v in self.optimizer_arrays().items()}
        arrays |= {f"ema/{k}": v for k, v in ema.arrays_of(self.average or {}).items()}
        for rank, values in enumerate(statistics[1:], 1):
            arrays |= {f"rank{rank}/{k}": v for k, v in values.items()}
        write_arrays(path, arrays)

    def restore(self, path: Path) -> None:
        """Restore a state written by `save`, bit for bit.

        Raises:
            WeightsError: the file does not fit this run; the message says why.
        """
        arrays = read_arrays(path)
        check_values(arrays, str(path))
        own_prefix = f"rank{dist.rank()}"
        part: dict[str, Arrays] = {k: {} for k in ("model", "optimizer", "ema", own_prefix)}
        for name, array in arrays.items():
            prefix, _, rest = name.partition("/")
            if prefix in part:
                part[prefix][rest] = array
        ranks = 1 + len({m[1] for k in arrays if (m := re.match(r"(rank\d+)/", k))})
        if ranks != dist.world_size():
            raise WeightsError(
                f"{path}: saved by {ranks} rank(s), this run has {dist.world_size()}; "
                "use as many, or -w for weights only"
            )
        self._restore(part["model"], part["optimizer"], path)
        self._restore_average(part["ema"], path)
        own = part[own_prefix]
        if own:
            self.progress.sums = _from_bytes(own.pop(_SUMS), f"{path}: {_SUMS}")
        tensors = self.model.state_dict()
        for name, array in own.items():
            if not name.startswith("ema/"):
                tensors[name].set_value(array)
            elif self.average is not None:
                self.average[name[4:]] = paddle.to_tensor(array)

    def _restore_average(self, saved: Arrays, path: Path) -> None:
        if self.average is None:
            if saved:
                logger.warning(f"{path}: its averaged weights are dropped: the config has no EMA")
            return
        if not saved:
            raise WeightsError(
                f"{path}: saved by a run without EMA; remove EMA, or start a new run from its "
                "weights with -w"
            )
        try:
            self.average = ema.restored(self.model, saved)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}") from error

    def restore_pair(self, stem: Path) -> None:
        """Restore the end of an epoch from `<stem>.pdparams` and `<stem>.pdopt`.

        Raises:
            WeightsError: a file is missing, does not fit, or was not written by this project.
        """
        path = stem.with_name(stem.name + ".pdopt")
        optimizer = read_arrays(path)
        check_values(optimizer, str(path))
        self._restore(read_arrays(stem.with_name(stem.name + ".pdparams")), optimizer, path)
        if self.average is not None:  # the files hold no average: start one from these weights
            self.average = ema.start(self.model)

    def _restore(self, model: Arrays, optimizer: Arrays, path: Path) -> None:
        if _PROGRESS not in optimizer:
            raise WeightsError(
                f"{path}: an optimizer file of another program, whose names depend on the process "
                "that wrote it; start from the weights alone: -w <the .pdparams file>"
            )
        progress = _from_bytes(optimizer.pop(_PROGRESS), f"{path}: {_PROGRESS}")
        if not isinstance(progress, dict) or not _NEEDED <= progress.keys() <= _PROGRESS_KEYS:
            raise WeightsError(f"{path}: {_PROGRESS} is not the progress of a run; use -w")
        fingerprint = progress.pop("fingerprint")
        if fingerprint != self.fingerprint:
            raise WeightsError(
                f"{path}: saved by a run with {fingerprint}; this run has {self.fingerprint}. "
                "Resume with the same settings"
            )
        names = _class_names(path, model.pop(CLASS_NAMES)) if CLASS_NAMES in model else None
        if self.train_clips is not None:
            self.train_clips = self.train_clips.with_earlier(TrainedClips.read(model))
        model.pop(TRAIN_CLIPS, None)
        recorded = _architecture(path, model)
        if recorded:
            architecture_note(self.model, path, recorded, training=False)
        if names and self.class_names and names != list(self.class_names):
            orders = both_orders("the file", names, "this run", self.class_names)
            raise WeightsError(f"{path}: saved by a run with other classes: {orders}")
        load_into(self.model, model, str(path))
        restore_optimizer_state(self.optimizer, self.model, optimizer)
        scaler = progress.pop("scaler")
        if scaler:
            values: Any = {
                k: np.asarray(v, np.float32) if k == "scale" else v for k, v in scaler.items()
            }
            self.scaler.load_state_dict(values)
        self.progress = Progress(**progress)


def read_progress(path: Path) -> tuple[int, int]:
    """(finished epochs, steps of the next one) of a `.pdstate`.

    Raises:
        WeightsError: damaged, or not the state of a run.
    """
    arrays = read_arrays(path)
    name = f"optimizer/{_PROGRESS}"
    progress = _from_bytes(arrays[name], f"{path}: {name}") if name in arrays else None
    if not isinstance(progress, dict) or not _NEEDED <= progress.keys() <= _PROGRESS_KEYS:
        raise WeightsError(f"{path}: not the state of a run; use -w")
    return int(progress["epoch"]), int(progress["step"])


def read_model(path: str | Path) -> tuple[Arrays, list[str] | None]:
    """Read (arrays, class names or None) of a weight file, or of the model in a `.pdstate`.

    Raises:
        WeightsError: no such file, damaged, the state of an optimizer, or with values that are not
            finite or too large.
    """
    return read_checkpoint(path)[:2]


def read_checkpoint(
    path: str | Path,
) -> tuple[Arrays, list[str] | None, TrainedClips | None, str | None]:
    """`read_model`, the clips that the weights were trained on, and the architecture.

    Clips and architecture are None where they are unknown. A name of `zoo/models.yaml` in place of
    a path is downloaded if it is not in the cache; the table has its classes and architecture.
    """
    model = find_model(path)
    file = fetched(model) if model else weight_file(path)
    if file != path:
        logger.info(f"{model.name if model else shown(path)} is {file}")
    try:
        arrays = read_arrays(file)
    except WeightsError as error:
        hint = "" if model or os.path.exists(file) else name_hint(path)
        raise WeightsError(f"{error}{hint}") from error
    clips = TrainedClips.read(arrays)
    if path_suffix(path) == ".pdstate":
        arrays = {k[6:]: v for k, v in arrays.items() if k.startswith("model/")}
    if _PROGRESS in arrays:
        raise WeightsError(
            f"{path}: the state of an optimizer, not a model; give the .pdparams file next to it"
        )
    names = arrays.pop(CLASS_NAMES, None)
    arrays.pop(TRAIN_CLIPS, None)
    architecture = _architecture(path, arrays)
    arrays = own_names(arrays)
    check_values(arrays, str(path))
    known = None if names is None else _class_names(path, names)
    if model:
        known, architecture = known or class_names(model), architecture or model.architecture
    return arrays, known, clips, architecture


def _architecture(path: str | Path, arrays: Arrays) -> str | None:
    """Take the name of the architecture out of a file's arrays; None where it has none."""
    if ARCHITECTURE not in arrays:
        return None
    name = _from_bytes(arrays.pop(ARCHITECTURE), f"{path}: {ARCHITECTURE}")
    if not isinstance(name, str):
        raise WeightsError(f"{path}: {ARCHITECTURE} is not a name; save the weights again")
    return name


def _class_names(path: str | Path, array: np.ndarray) -> list[str]:
    names = _from_bytes(array, f"{path}: {CLASS_NAMES}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{path}: {CLASS_NAMES} is not a list of names; save the weights again")
    return names


def find_resume(folder: Path, model_name: str, where: str) -> Path | None:
    """The file to resume from, None where there is none.

    Args:
        where: "auto" for the latest state in `folder`, or the path of a `.pdstate` or its folder.

    Raises:
        WeightsError: the path is not a state.
    """
    latest = folder / f"{model_name}_latest.pdstate"
    if where == "auto":
        return latest if latest.exists() else None
    path = Path(where)
    if path.is_dir():
        path = path / latest.name
    if path.suffix != ".pdstate" or not path.exists():
        raise WeightsError(
            f"--resume {where}: expected a .pdstate file, or a folder that holds {latest.name}"
        )
    return path


def _buffers(model: Recognizer) -> Arrays:
    """Running statistics as arrays, as they are saved."""
    return {name: tensor.numpy() for name, tensor in _moving(model).items()}


def average_buffers(model: Recognizer, average: dict[str, paddle.Tensor] | None = None) -> None:
    """Give all ranks the mean of their running statistics, including those in `average`.

    All ranks then validate and save the same model.
    """
    moving = _moving(model)
    tensors = [
        *moving.values(),
        *(tensor for name, tensor in (average or {}).items() if name in moving),
    ]
    dist.average([tensor for tensor in tensors if "float32" in str(tensor.dtype)])


def _moving(model: Recognizer) -> dict[str, paddle.Tensor]:
    """Running statistics: what differs between ranks inside an epoch.

    Paddle keeps them as parameters without gradient.
    """
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    frozen = model.frozen_prefixes  # equal on all ranks
    return {
        n: tensor
        for n, tensor in model.state_dict().items()
        if n not in trained and not n.startswith(frozen)
    }


def _to_bytes(value) -> np.ndarray:
    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), np.uint8)


def _from_bytes(array: np.ndarray, source: str):
    """The value that `_to_bytes` stored.

    Raises:
        WeightsError: naming `source`; it holds something else.
    """
    if array.dtype != np.uint8 or array.ndim != 1:
        raise WeightsError(f"{source} is {array.dtype} {list(array.shape)}, expected bytes of JSON")
    try:
        return json.loads(array.tobytes().decode())
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{source} is not JSON ({str(error)[:80]}); the file is damaged"
        ) from error
