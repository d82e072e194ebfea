"""Convert many files in several processes: the batch mode of the scripts in tools/data/.

Results keep the relative paths of their sources. Each result is written atomically, and an existing
one is kept, so an interrupted run continues where it stopped. Failures are printed with their
reasons and written to `failures.tsv`.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddlevideo import files, log
from paddlevideo.data.lists import read_path_list
from paddlevideo.data.paths import base_folder, list_files
from paddlevideo.files import atomic_write
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES, has_audio_suffix
from paddlevideo.plain_text import tab_line
from paddlevideo.processes import Crash, RunEach, run_each
from paddlevideo.sample import DecodeError

MADE_WITH = "made_with.json"
MAX_SHOWN = 10
SET_LIST_ROOT = "set --list-root to the folder that contains the files"
CRASHED = "the decoder crashes on this file"


# --- the jobs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A file or folder to make from a source file.

    Args:
        span: start and end of the part to use (s), None for the complete file.
    """

    source: str
    target: str
    span: tuple[float | None, float | None] | None = None


def plan_jobs(
    source: Path,
    out: Path,
    suffix: str,
    ext: str | None = None,
    level: int | None = None,
    root: Path | None = None,
) -> list[Job]:
    """List the jobs of a folder or a list; the target is `out/<relative path>` with the new suffix.

    Args:
        source: a folder, or a list with a path on each line, optionally followed by `label` or
            `num_frames label`.
        suffix: of the results.
        ext: use only files with this suffix. In a folder, None uses videos and, for features,
            also audio files.
        level: use only files this many folders deep, 1 for files in the folder itself; None uses
            files at any depth.
        root: folder that the paths of a list are relative to; None as in `base_folder`.

    Raises:
        ValueError: no such file, or two files with the same target.
    """
    uses_audio = suffix in (".wav", ".npy")
    if source.is_dir():
        paths, base = _below(source, out, suffix, ext, level), source
    elif source.is_file():
        paths, base = _listed(source, ext, root)
    else:
        raise ValueError(f"{source}: no such folder or list")
    if not paths:
        kind = "video or audio file" if uses_audio else "video"
        what = f"no file with suffix .{ext.lstrip('.')}" if ext else f"no {kind}"
        depth = f" at level {level}" if level else ""
        hint = "; see --ext and --level" if ext or level else ""
        raise ValueError(f"{source}: {what}{depth}{hint}")
    jobs: dict[Path, Path] = {}
    for path in paths:
        target = out / path.with_suffix(suffix)
        if jobs.setdefault(target, path) != path:
            fix = "choose one kind of file with --ext" if uses_audio else "rename one of them"
            raise ValueError(f"{jobs[target]} and {path} would both become {target}; {fix}")
    return [Job(str(base / path), str(target)) for target, path in jobs.items()]


def _below(folder: Path, out: Path, suffix: str, ext: str | None, level: int | None) -> list[Path]:
    """Find files, but not below `out`; return their paths relative to `folder`."""
    audio = {s for s in AUDIO_SUFFIXES if s != ".npy"} if suffix == ".npy" else set()
    wanted = {f".{ext.lstrip('.').lower()}"} if ext else {*VIDEO_SUFFIXES, *audio}
    paths = (path.relative_to(folder) for path in list_files(folder, wanted, skip=out))
    return [path for path in paths if level is None or len(path.parts) == level]


def _listed(file: Path, ext: str | None, root: Path | None) -> tuple[list[Path], Path]:
    """Read a list; return (paths relative to a folder, that folder)."""
    texts = [
        next((row.path for row in readings if has_audio_suffix(row.path)), readings[0].path)
        for readings in read_path_list(file, "a folder, or a list with a path on each line")
    ]
    base = Path(base_folder(texts, file, root, fix=SET_LIST_ROOT))
    paths = [below(base, text, f"{file}: path {number}") for number, text in enumerate(texts, 1)]
    wanted = f".{ext.lstrip('.').lower()}" if ext else None
    kept = (path for path in paths if wanted in (None, path.suffix.lower()))
    return list(dict.fromkeys(kept)), base


def below(root: Path, text: str, location: str) -> Path:
    """Return a path of a list relative to `root`; results use the same path below their folder.

    Args:
        text: the path in the list.
        location: of the path in the list, for the message.

    Raises:
        ValueError: the path is not below `root`.
    """
    path = Path(os.path.relpath(text, root) if os.path.isabs(text) else text)
    if ".." in path.parts:
        folder = root if root != Path() else "the working directory"
        raise ValueError(f"{location}, {text}, is not below {folder}; set --list-root")
    return path


def select_part(jobs: Sequence[Job], part: str) -> Sequence[Job]:
    """Return every N-th job for the part "I/N", so that N machines can share the work.

    Raises:
        ValueError: not of this form.
    """
    number, _, count = part.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return jobs[int(number) - 1 :: int(count)]
    raise ValueError(f"--part {part}: expected I/N with I from 1 to N, such as 1/3")


# --- run the jobs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Args:
        num_made: files that were made.
        num_kept: files that existed before.
        failed: (source, reason) of each failed job, in order.
        report: the file that lists the failures.
    """

    num_made: int
    num_kept: int
    failed: list[tuple[str, str]]
    report: Path


def run_jobs(
    write: Callable[..., None],
    jobs: Sequence[Job],
    out: Path,
    num_workers: int,
    overwrite: bool = False,
    part: str = "1/1",
    run: RunEach = run_each,
) -> Outcome:
    """Make all files that do not exist yet, and write `failures.tsv`.

    Args:
        write: a dataclass instance whose fields are the settings that all files of a folder share.
            It is called with the source and the target, and with the start and end of a job's span.
        out: folder of the results.
        num_workers: 1 works in this process, where a decoder that crashes ends the run. More
            processes report the file that crashed, and continue.
        overwrite: make existing files again.
        part: "2/3" runs the second of three parts, for as many machines. Each part has its own
            report, such as `failures.2of3.tsv`.
        run: where the work runs: in processes of this machine, or on a cluster.

    Raises:
        ValueError: fewer than one worker, no such part, a result that would replace its source, or
            files in `out` that were made with other settings.
        OSError: `out` is not writable.
    """
    if num_workers < 1:
        raise ValueError(f"--num-workers {num_workers}: expected at least 1")
    jobs = select_part(list(dict.fromkeys(jobs)), part)
    report = out / ("failures.tsv" if part == "1/1" else f"failures.{part.replace('/', 'of')}.tsv")
    for job in jobs:
        if os.path.abspath(job.source) == os.path.abspath(job.target):
            raise ValueError(f"{job.source}: the result would replace it; choose another folder")
    _check_settings(write, out, overwrite)
    missing = [job for job in jobs if overwrite or not os.path.exists(job.target)]
    remove_leftovers(missing)
    run_one = functools.partial(_run_job, write)
    reasons: dict[int, str] = {}
    for index, result in run(run_one, missing, num_workers if num_workers > 1 else 0, out.name):
        reasons[index] = CRASHED if isinstance(result, Crash) else result
    failed = [(job.source, reasons[index]) for index, job in enumerate(missing) if reasons[index]]
    if failed:
        lines = "".join(f"{tab_line(job)}\n" for job in failed)
        with atomic_write(report) as temporary:
            temporary.write_text(lines, encoding="utf-8")
    else:
        report.unlink(missing_ok=True)
    return Outcome(len(missing) - len(failed), len(jobs) - len(missing), failed, report)


def _run_job(write: Callable[..., None], job: Job) -> str:
    """Run a job; return the reason for its failure, "" if it succeeded."""
    try:
        write(job.source, job.target, *(job.span or ()))
    except (DecodeError, OSError) as error:
        return log.error_text(error) or type(error).__name__
    # An unexpected error in one file must not end the run. It is reported and counted.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def remove_leftovers(jobs: Sequence[Job]) -> None:
    """Delete the temporary files of killed runs next to the targets."""
    names: dict[str, set[str]] = {}
    for job in jobs:
        folder, name = os.path.split(job.target)
        names.setdefault(folder, set()).update((name, f"{name} old"))
    for folder in filter(os.path.isdir, names):
        files.remove_leftovers(Path(folder), names[folder])


def _check_settings(write: Any, out: Path, overwrite: bool) -> None:
    """Write the settings to `made_with.json`.

    Raises:
        ValueError: the files in the folder were made with other settings.
    """
    file, settings = out / MADE_WITH, {"kind": write.suffix, **asdict(write)}
    if file.exists() and not overwrite:
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise ValueError(
                f"{file}: not the settings of a conversion; use another folder, or --overwrite, "
                "which makes all files again"
            )
        different = [
            name for name in {**before, **settings} if before.get(name) != settings.get(name)
        ]
        if before != settings:
            old = {name: before.get(name) for name in different}
            new = {name: settings.get(name) for name in different}
            raise ValueError(
                f"{file}: the existing files were made with {old}, not with {new}; "
                "use another folder or --overwrite"
            )
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def print_outcome(outcome: Outcome, out: Path) -> int:
    """Print what was made and what failed; return the exit code, 1 if a job failed."""
    num_failed = len(outcome.failed)
    log.show(f"{out}: {outcome.num_made} made, {outcome.num_kept} kept, {num_failed} failed")
    for source, reason in outcome.failed[:MAX_SHOWN]:
        log.show(f"  {source}: {reason}")
    if num_failed > MAX_SHOWN:
        log.show(f"  ... and {num_failed - MAX_SHOWN} more")
    if outcome.failed:
        log.show(f"all failures with their reasons: {outcome.report}")
    return 1 if outcome.failed else 0
