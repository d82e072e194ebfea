"""Convert many files in several processes: the batch mode of the scripts in tools/data/.

Results keep the relative paths of their sources. Each result is written atomically, and an existing
one is kept, so an interrupted run continues where it stopped. Failures are printed with their
reasons and written to `failures.tsv`.
"""

import functools
import json
import os
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from paddlevideo import files, log
from paddlevideo.data.lists import read_path_list
from paddlevideo.data.paths import base_folder, list_files, remote_paths
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES, has_audio_suffix
from paddlevideo.plain_text import tab_line
from paddlevideo.processes import Crash, RunEach, run_each
from paddlevideo.remote import (
    absolute_path,
    atomic_file,
    check_storable,
    exists,
    is_file,
    is_folder,
    is_url,
    join_path,
    names_below,
    path_below,
    path_name,
    read_bytes,
    remove,
    shown,
    written,
)
from paddlevideo.sample import DecodeError
from paddlevideo.urls import is_web

MADE_WITH = "made_with.json"
MAX_SHOWN = 10
SET_LIST_ROOT = "set --list-root to the folder that contains the files"
CRASHED = "the decoder crashes on this file"


# --- the jobs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A file or folder to make from a source file.

    Args:
        source, target: paths or URLs.
        span: start and end of the part to use (s), None for the complete file.
    """

    source: str
    target: str
    span: tuple[float | None, float | None] | None = None


def plan_jobs(
    source: str | Path,
    out: str | Path,
    suffix: str,
    ext: str | None = None,
    level: int | None = None,
    root: str | Path | None = None,
) -> list[Job]:
    """List the jobs of a folder or a list; the target is `out/<relative path>` with the new suffix.

    Args:
        source: a folder, or a list with a path on each line, optionally followed by `label` or
            `num_frames label`; or the URL of one of them.
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
    if is_folder(source):
        found = _below(source, out, suffix, ext, level)
    elif is_file(source):
        found = _listed(source, ext, root)
    else:
        raise ValueError(f"{shown(source)}: no such folder or list")
    if not found:
        kind = "video or audio file" if uses_audio else "video"
        what = f"no file with suffix .{ext.lstrip('.')}" if ext else f"no {kind}"
        depth = f" at level {level}" if level else ""
        hint = "; see --ext and --level" if ext or level else ""
        raise ValueError(f"{shown(source)}: {what}{depth}{hint}")
    jobs: dict[str, Job] = {}
    names: dict[str, PurePosixPath] = {}
    for where, path in found:
        target = target_of(out, path.with_suffix(suffix))
        if names.setdefault(target, path) != path:
            fix = "choose one kind of file with --ext" if uses_audio else "rename one of them"
            raise ValueError(f"{names[target]} and {path} would both become {shown(target)}; {fix}")
        jobs.setdefault(target, Job(where, target))
    return list(jobs.values())


def target_of(out: str | Path, name: PurePosixPath) -> str:
    """The path of a result in the output folder."""
    return join_path(str(out).rstrip("/"), str(name)) if is_url(out) else str(Path(out, name))


# (path of a file, its path below the folder or the base of the list).
Found = list[tuple[str, PurePosixPath]]


def _below(
    folder: str | Path, out: str | Path, suffix: str, ext: str | None, level: int | None
) -> Found:
    """Find the files of a folder, but not below `out`."""
    audio = {s for s in AUDIO_SUFFIXES if s != ".npy"} if suffix == ".npy" else set()
    wanted = {f".{ext.lstrip('.').lower()}"} if ext else {*VIDEO_SUFFIXES, *audio}
    if is_url(folder):
        names = remote_paths(str(folder), wanted)
        whole = [f"{str(folder).rstrip('/')}/{name}" for name in names]
        quoted = is_web(folder)
        found = [
            (path, PurePosixPath(urllib.parse.unquote(name) if quoted else name))
            for path, name in zip(whole, names, strict=True)
            if path_below(path, out) is None
        ]
    else:
        paths = [path.relative_to(folder) for path in list_files(folder, wanted, skip=Path(out))]
        found = [(str(Path(folder, path)), PurePosixPath(path.as_posix())) for path in paths]
    return [pair for pair in found if level is None or len(pair[1].parts) == level]


def _listed(file: str | Path, ext: str | None, root: str | Path | None) -> Found:
    """The files of a list."""
    texts = [
        next((row.path for row in readings if has_audio_suffix(row.path)), readings[0].path)
        for readings in read_path_list(file, "a folder, or a list with a path on each line")
    ]
    base = base_folder(texts, file, root, fix=SET_LIST_ROOT)
    wanted = f".{ext.lstrip('.').lower()}" if ext else None
    found = (
        below(base, text, f"{shown(file)}: path {number}") for number, text in enumerate(texts, 1)
    )
    return list(dict.fromkeys(pair for pair in found if wanted in (None, pair[1].suffix.lower())))


def below(root: str, text: str, location: str) -> tuple[str, PurePosixPath]:
    """The file that a path of a list means, and its path below `root`, which is also that of its
    result below the output folder.

    Args:
        root: folder that the list's paths are relative to; "" for the working directory.
        text: the path in the list.
        location: of the path in the list, for the message.

    Raises:
        ValueError: the path is not below `root`.
    """
    if is_url(root) or is_url(text):
        path = join_path(root, text)
        name = path_below(path, root) or ".."
    else:
        name = os.path.relpath(text, root or ".") if os.path.isabs(text) else text
        path = str(Path(root, name))
    if ".." in PurePosixPath(name).parts:
        folder = shown(root) if root else "the working directory"
        raise ValueError(f"{location}, {shown(text)}, is not below {folder}; set --list-root")
    return path, PurePosixPath(name)


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
    report: str | Path


def run_jobs(
    write: Callable[..., None],
    jobs: Sequence[Job],
    out: str | Path,
    num_workers: int,
    overwrite: bool = False,
    part: str = "1/1",
    run: RunEach = run_each,
    last: str = "",
) -> Outcome:
    """Make all files that do not exist yet, and write `failures.tsv`.

    A result at a URL is made in a temporary folder first.

    Args:
        write: a dataclass instance whose fields are the settings that all files of a folder share.
            It is called with the source and the target, and with the start and end of a job's span.
        out: folder of the results.
        num_workers: 1 works in this process, where a decoder that crashes ends the run. More
            processes report the file that crashed, and continue.
        overwrite: remove existing files first, so that none with other settings is left where a
            source fails, or the run is stopped and continued.
        part: "2/3" runs the second of three parts, for as many machines. Each part has its own
            report, such as `failures.2of3.tsv`.
        run: where the work runs: in processes of this machine, or on a cluster.
        last: where the results are folders, the file of each that is stored last at a URL, so that
            a folder with it is complete.

    Raises:
        ValueError: fewer than one worker, no such part, a result that would replace a source, or
            files in `out` that were made with other settings.
        OSError: `out` is not writable.
    """
    if num_workers < 1:
        raise ValueError(f"--num-workers {num_workers}: expected at least 1")
    jobs = select_part(list(dict.fromkeys(jobs)), part)
    name = "failures.tsv" if part == "1/1" else f"failures.{part.replace('/', 'of')}.tsv"
    report = target_of(out, PurePosixPath(name))
    check_storable(out)
    _check_targets(jobs)
    _check_settings(write, out, overwrite)
    done = existing(jobs, out, last)
    if overwrite:
        for target in done:
            remove(target)
        done = set()
    missing = [job for job in jobs if job.target not in done]
    remove_leftovers(missing)
    run_one = functools.partial(_run_job, write, last)
    reasons: dict[int, str] = {}
    num = num_workers if num_workers > 1 else 0
    for index, result in run(run_one, missing, num, path_name(out)):
        reasons[index] = CRASHED if isinstance(result, Crash) else result
    failed = [
        (shown(job.source), reasons[index]) for index, job in enumerate(missing) if reasons[index]
    ]
    write_report(failed, report)
    return Outcome(len(missing) - len(failed), len(jobs) - len(missing), failed, report)


def _check_targets(jobs: Sequence[Job]) -> None:
    """
    Raises:
        ValueError: a result would replace a source.
    """
    sources = {absolute_path(job.source) for job in jobs}
    for job in jobs:
        if absolute_path(job.target) in sources:
            raise ValueError(
                f"{shown(job.target)}: the result would replace it; choose another folder"
            )


def write_report(failed: Sequence[tuple[str, str]], report: str | Path) -> None:
    """Write (source, reason) of each failure, or remove the file of earlier ones."""
    if not failed:
        remove(report)
        return
    with atomic_file(report) as temporary:
        temporary.write_text("".join(f"{tab_line(row)}\n" for row in failed), encoding="utf-8")


def existing(jobs: Sequence[Job], out: str | Path, last: str = "") -> set[str]:
    """The targets that exist, complete; arguments as of `run_jobs`."""
    if not is_url(out):
        return {job.target for job in jobs if os.path.exists(job.target)}
    names = names_below(str(out))  # one listing, not a request for each job
    return {
        job.target
        for job in jobs
        if path_below(join_path(job.target, last) if last else job.target, out) in names
    }


def _run_job(write: Callable[..., None], last: str, job: Job) -> str:
    """Run a job; return the reason for its failure, "" if it succeeded."""
    try:
        if last and is_url(job.target):
            remove(job.target)  # what a killed run has stored of the folder
        with written(job.target, (last,)) as target:
            write(job.source, str(target), *(job.span or ()))
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
    for folder in filter(os.path.isdir, names):  # a URL is none
        files.remove_leftovers(Path(folder), names[folder])


def _check_settings(write: Any, out: str | Path, overwrite: bool) -> None:
    """Write the settings to `made_with.json`.

    Raises:
        ValueError: the files in the folder were made with other settings.
    """
    file = target_of(out, PurePosixPath(MADE_WITH))
    settings = {"kind": write.suffix, **asdict(write)}
    if not overwrite and exists(file):
        try:
            before = json.loads(read_bytes(file))
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise ValueError(
                f"{shown(file)}: not the settings of a conversion; use another folder, or "
                "--overwrite, which makes all files again"
            )
        different = [
            name for name in {**before, **settings} if before.get(name) != settings.get(name)
        ]
        if before != settings:
            old = {name: before.get(name) for name in different}
            new = {name: settings.get(name) for name in different}
            raise ValueError(
                f"{shown(file)}: the existing files were made with {old}, not with {new}; "
                "use another folder or --overwrite"
            )
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def print_outcome(outcome: Outcome, out: str | Path) -> int:
    """Print what was made and what failed; return the exit code, 1 if a job failed."""
    num_failed = len(outcome.failed)
    log.show(f"{shown(out)}: {outcome.num_made} made, {outcome.num_kept} kept, {num_failed} failed")
    for source, reason in outcome.failed[:MAX_SHOWN]:
        log.show(f"  {source}: {reason}")
    if num_failed > MAX_SHOWN:
        log.show(f"  ... and {num_failed - MAX_SHOWN} more")
    if outcome.failed:
        log.show(f"all failures with their reasons: {shown(outcome.report)}")
    return 1 if outcome.failed else 0
