"""What an earlier run left in an output folder. A run never writes over another run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paddlevideo.config import yaml_text
from paddlevideo.engine import best_validation
from paddlevideo.engine.checkpoint import find_resume
from paddlevideo.log import logger

# Only a training writes these, and it holds the lock of the folder.
METRICS = "metrics.jsonl"
RUN_FILES = ("run.yaml", "labels.txt", METRICS, best_validation.FILE)
# The report and the plot of a run, and what a hang and a step that is not finite leave.
OTHER_FILES = re.compile(
    r"(report\.html|run\.png"
    r"|stacks\.rank\d+\.txt"
    r"|not_finite_epoch\d+_step\d+_rank\d+\.(json|pdparams|safetensors))"
)
BOARD = "board"
BOARD_FILES = re.compile(r"(vdlrecords\.|events\.out\.tfevents\.).*")
EXPORT_DIR = "inference"  # in the folder of a run: the model that it exported
EXPORT_FILE = "model.yaml"  # the same as in runtimes/manifest.py, which reads it
FINISHED_EPOCH = re.compile(r'"split": *"(epoch|valid)"')
EPOCH_ROW = re.compile(r'"split": *"epoch"')  # one for each epoch
ELSEWHERE = "to another folder (--name NAME, or -o output_dir=...)"
MAX_SHOWN = 4  # files in a message


class FolderHoldsRun(ValueError):
    """The output folder holds another run, which this one would write over."""


def check_folder(
    folder: Path, model_name: str, resume: str | None = None, overwrite: bool = False
) -> None:
    """Check that a training may write to a folder; nothing is written.

    A folder is free until a run in it has finished an epoch, saved a state, or exported a model.

    Args:
        model_name: of the new run.
        resume: "auto", or the path of a `.pdstate` or its folder. Going on with the run in this
            folder is no writing over; going on with that of another folder is.
        overwrite: the earlier run may be replaced.

    Raises:
        FolderHoldsRun: the folder holds another run; the message lists what can be done.
        WeightsError: `resume` is not a state.
        ValueError: `overwrite` would remove the state that `resume` names.
    """
    state = find_resume(folder, model_name, resume) if resume else None
    elsewhere = state is not None and state.parent.resolve() != folder.resolve()
    if resume and overwrite and not elsewhere:
        raise ValueError(
            "--resume goes on with the run in the output folder and --overwrite removes it; "
            "leave one of them out"
        )
    names = {model_name, recorded_name(folder) or model_name}
    # A state without a run.yaml next to it is a copy that somebody made, perhaps of this run.
    of_another_run = elsewhere and state is not None and (state.parent / "run.yaml").exists()
    if resume and not overwrite and not of_another_run:
        if not (folder / f"{model_name}_latest.pdstate").exists():
            _check_other_model(folder, names - {model_name}, model_name)
        return
    held = [] if overwrite else sorted(_held(folder, names))
    if held:
        shown = ", ".join(held[:MAX_SHOWN]) + (", ..." if len(held) > MAX_SHOWN else "")
        has_state = (folder / f"{model_name}_latest.pdstate").exists()
        fix = "Go on with that run (--resume), write" if has_state else "Write"
        raise FolderHoldsRun(
            f"{folder} holds another run ({shown}), and a run never writes over another one. "
            f"{fix} {ELSEWHERE}, or replace that run (--overwrite)"
        )
    labels = folder / "labels.txt"
    if labels.exists() and not (folder / "run.yaml").exists():
        raise FolderHoldsRun(
            f"{labels} is not the file of a run, and this run would replace it; write {ELSEWHERE}"
        )


def check_going_on(folder: Path, model_name: str) -> None:
    """Check that --resume finds a state, or loses no more than the first epoch of a killed run.

    Raises:
        FolderHoldsRun: the folder has results of more epochs, or an export, and no state.
    """
    if (folder / f"{model_name}_latest.pdstate").exists():
        return
    num_epochs = len(EPOCH_ROW.findall(_metrics_text(folder)))
    if num_epochs < 2 and not (folder / EXPORT_DIR / EXPORT_FILE).exists():
        return
    pairs = [path for path in _entries(folder) if path.name.startswith(f"{model_name}_epoch_")]
    saved = [int(path.stem[-5:]) for path in pairs if path.suffix == ".pdopt"]
    fix = "write"
    if saved:
        fix = f"go on after a saved epoch (-o resume_epoch={saved[-1]} in place of --resume), write"
    raise FolderHoldsRun(
        f"{folder} holds a run of {num_epochs} epochs and no {model_name}_latest.pdstate, so "
        f"--resume would start again and write over it; {fix} {ELSEWHERE}, or replace that run "
        "(--overwrite)"
    )


def _check_other_model(folder: Path, other_names: set[str], model_name: str) -> None:
    for name in other_names:
        if any(_is_checkpoint(path.name, {name}) for path in _entries(folder)):
            raise FolderHoldsRun(
                f"{folder} holds a run of {name} and no state of {model_name}, so --resume would "
                f"write over it; check model_name, or write {ELSEWHERE}"
            )


def _held(folder: Path, names: set[str]) -> Iterator[str]:
    """The files of an earlier run that nobody wants to lose."""
    for path in _entries(folder):
        if _is_checkpoint(path.name, names) or path.name == best_validation.FILE:
            yield path.name
    if FINISHED_EPOCH.search(_metrics_text(folder)):
        yield METRICS
    if (folder / EXPORT_DIR / EXPORT_FILE).exists():
        yield f"{EXPORT_DIR}/{EXPORT_FILE}"


def _metrics_text(folder: Path) -> str:
    metrics = folder / METRICS
    return metrics.read_text(encoding="utf-8", errors="replace") if metrics.is_file() else ""


def _is_checkpoint(file_name: str, names: set[str]) -> bool:
    """Whether a run of one of these models names a checkpoint like this."""
    match = re.fullmatch(
        r"(.+)_(epoch_\d{5,}|best|latest)(_student)?\.(pdparams|pdopt|pdstate)", file_name
    )
    return match is not None and match[1] in names


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def recorded_name(folder: Path) -> str | None:
    """`model_name` of the run in a folder, None where run.yaml does not say it."""
    content: Any = None
    try:
        content = yaml_text.load_data(yaml_text.read_text(folder / "run.yaml", yaml_text.MAX_DATA))
    except (OSError, ValueError):  # no such file, or damaged
        return None
    name = content.get("model_name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


def remove_run(folder: Path, model_name: str, keep: str | None = None) -> None:
    """Remove the files of an earlier run: checkpoints, metrics, report; not those of others.

    The log is open, see `log.drop_earlier_lines`; the export belongs to `exporting`.

    Args:
        model_name: of the new run.
        keep: a file that stays, as the new run started from it.
    """
    names = {model_name, recorded_name(folder) or model_name}
    kept = Path(keep).resolve() if keep else None
    removed = 0
    for path in _entries(folder):
        own = path.name in RUN_FILES or OTHER_FILES.fullmatch(path.name)
        if (own or _is_checkpoint(path.name, names)) and path.is_file() and path.resolve() != kept:
            path.unlink()
            removed += 1
    for path in _entries(folder / BOARD):
        if BOARD_FILES.fullmatch(path.name):
            path.unlink()
    if removed:
        logger.info(f"{folder}: removed {removed} files of the earlier run (--overwrite)")
