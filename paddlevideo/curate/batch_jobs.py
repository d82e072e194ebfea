"""Many files -> many files, in several processes: what the scripts of tools/data/ that make media run.

Results keep the relative paths of their sources. One is there whole or not at all, one that is there is kept, so a run that was
stopped goes on where it stopped. What fails is told with its reason, in `failures.tsv` too.
"""

import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from paddlevideo import log
from paddlevideo.data.lists import read_path_list
from paddlevideo.data.paths import base_folder, list_files
from paddlevideo.files import atomic_write
from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES, has_audio_suffix
from paddlevideo.processes import Crash, run_each
from paddlevideo.sample import DecodeError

MADE_WITH = "made_with.json"
MAX_SHOWN = 10
SET_LIST_ROOT = "set --list-root to the folder that contains the files"
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.tmp")


# --- what is to be done ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One file or folder to make of another file, or of its part between two times (s)."""

    source: str
    target: str
    part: tuple[float | None, float | None] | None = None


def plan(
    source: Path,
    out: Path,
    suffix: str,
    ext: str | None = None,
    level: int | None = None,
    root: Path | None = None,
) -> list[Job]:
    """What to make: `out/<relative path>` with the new suffix, sorted.

    Args:
        source: a folder, or a list with a path on each line, perhaps with `label` or `num_frames label` behind it.
        ext: take only files with this suffix; of a folder, None takes videos (and sounds, for features).
        level: take only files in folders so deep, 1 for those in the folder itself; None takes any.
        root: folder that the paths of a list are relative to; None as of `base_folder`.

    Raises:
        ValueError: nothing to do, or two files that would become one.
    """
    of_sound = suffix in (".wav", ".npy")
    if source.is_dir():
        paths, base = _below(source, out, suffix, ext, level), source
    elif source.is_file():
        paths, base = _listed(source, ext, root)
    else:
        raise ValueError(f"{source}: no such folder or list")
    if not paths:
        what = (
            f"no file ending in .{ext.lstrip('.')}"
            if ext
            else f"no video{' or sound' if of_sound else ''}"
        )
        deep = f", {level} folder(s) deep" if level else ""
        raise ValueError(
            f"{source}: {what} here{deep}{'; see --ext and --level' if ext or level else ''}"
        )
    jobs: dict[Path, Path] = {}
    for path in paths:
        target = out / path.with_suffix(suffix)
        if jobs.setdefault(target, path) != path:
            fix = "choose one kind with --ext" if of_sound else "rename one of them"
            raise ValueError(f"{jobs[target]} and {path} would both become {target}; {fix}")
    return [Job(str(base / path), str(target)) for target, path in jobs.items()]


def _below(folder: Path, out: Path, suffix: str, ext: str | None, level: int | None) -> list[Path]:
    """Paths of the wanted files, relative to `folder`; files below `out` are left out."""
    audio = set(AUDIO_SUFFIXES) - {".npy"} if suffix == ".npy" else set()
    wanted = {f".{ext.lstrip('.').lower()}"} if ext else {*VIDEO_SUFFIXES, *audio}
    paths = (path.relative_to(folder) for path in list_files(folder, wanted, skip=out))
    return [path for path in paths if level is None or len(path.parts) == level]


def _listed(file: Path, ext: str | None, root: Path | None) -> tuple[list[Path], Path]:
    """(paths of a list, relative to a folder; that folder)."""
    texts = [
        next((row.path for row in readings if has_audio_suffix(row.path)), readings[0].path)
        for readings in read_path_list(file, "a folder, or a list with a path on each line")
    ]
    base = Path(base_folder(texts, file, root, fix=SET_LIST_ROOT))
    paths = [below(base, text, f"{file}: path {number}") for number, text in enumerate(texts, 1)]
    wanted = f".{ext.lstrip('.').lower()}" if ext else None
    kept = (path for path in paths if wanted in (None, path.suffix.lower()))
    return list(dict.fromkeys(kept)), base


def below(root: Path, text: str, place: str) -> Path:
    """A path of a list, relative to `root`.

    Raises:
        ValueError: it leads elsewhere, so that there is no place for its result.
    """
    path = Path(os.path.relpath(text, root) if os.path.isabs(text) else text)
    if ".." in path.parts:
        raise ValueError(
            f"{place}, {text}, is not below {root or 'the current folder'}; set --list-root"
        )
    return path


def part_of(jobs: Sequence[Job], part: str) -> Sequence[Job]:
    """`2/3` is the second of three parts, for as many machines.

    Raises:
        ValueError: not of this form.
    """
    words = part.split("/")
    if (
        len(words) != 2
        or not all(word.isdecimal() for word in words)
        or not 1 <= int(words[0]) <= int(words[1])
    ):
        raise ValueError(f"--part {part}: expected I/N with I from 1 to N, as 1/3")
    return jobs[int(words[0]) - 1 :: int(words[1])]


# --- doing it ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """`made`, `kept`: numbers of files; `failed`: (source, reason), in order; `report`: the file with all of these."""

    made: int
    kept: int
    failed: list[tuple[str, str]]
    report: Path


def work(
    write: Callable[..., None],
    jobs: Sequence[Job],
    out: Path,
    workers: int,
    overwrite: bool = False,
    part: str = "1/1",
) -> Outcome:
    """Make what is not there yet, with at most `workers` processes, and write `failures.tsv`.

    Args:
        write: a dataclass, whose fields are the settings that all files of a folder share; called with source and target, and
            the two times of a job's part.
        workers: 1 works in this process, where a decoder that crashes ends the run; more name the file and go on.
        part: `2/3` does the second of three parts, each with a `failures.2of3.tsv` of its own; for as many machines.

    Raises:
        ValueError: fewer than one worker, no such part, a file that would replace its source, or `out` holds files made with
            other settings.
        OSError: `out` cannot be written.
    """
    if workers < 1:
        raise ValueError(f"--num-workers {workers}: expected at least 1")
    jobs = part_of(list(dict.fromkeys(jobs)), part)
    report = out / ("failures.tsv" if part == "1/1" else f"failures.{part.replace('/', 'of')}.tsv")
    if same := next(
        (job for job in jobs if os.path.abspath(job.source) == os.path.abspath(job.target)), None
    ):
        raise ValueError(
            f"{same.source} would be replaced by what is made of it; choose another folder"
        )
    _same_settings(write, out, overwrite)
    left = [job for job in jobs if overwrite or not os.path.exists(job.target)]
    clear_leftovers(left)
    reasons: dict[int, str] = {}
    for place, reason in run_each(
        functools.partial(_try, write), left, workers if workers > 1 else 0, out.name
    ):
        reasons[place] = (
            "the decoder ends the whole process on it" if isinstance(reason, Crash) else reason
        )
    failed = [(job.source, reasons[place]) for place, job in enumerate(left) if reasons[place]]
    if failed:
        with atomic_write(report) as temporary:
            temporary.write_text(
                "".join(f"{source}\t{reason}\n" for source, reason in failed), encoding="utf-8"
            )
    else:
        report.unlink(missing_ok=True)
    return Outcome(len(left) - len(failed), len(jobs) - len(left), failed, report)


def _try(write: Callable[..., None], job: Job) -> str:
    """Do it; why it failed, nothing where it did not."""
    try:
        write(job.source, job.target, *(job.part or ()))
    except (DecodeError, OSError) as error:
        return log.error_text(error) or type(error).__name__
    except (
        Exception
    ) as error:  # one odd file must not end the work on all others; it is told and counted
        return f"{type(error).__name__}: {error}"
    return ""


def clear_leftovers(jobs: Sequence[Job]) -> None:
    """Delete what a run that was killed left beside its targets: hidden, and named by a process that is no more."""
    names: dict[str, set[str]] = {}
    for job in jobs:
        folder, name = os.path.split(job.target)
        names.setdefault(folder, set()).add(name)
    for folder in filter(os.path.isdir, names):
        for entry in list(os.scandir(folder)):
            found = TEMPORARY.fullmatch(entry.name)
            if found and found["name"] in names[folder] and not _alive(int(found["process"])):
                shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)


def _alive(process: int) -> bool:
    if os.name == "nt":  # a signal of 0 does not ask there, it interrupts
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return process != os.getpid()


def _same_settings(write, out: Path, overwrite: bool) -> None:
    """Stop where the folder holds files that were made otherwise."""
    file, settings = out / MADE_WITH, {"kind": write.suffix, **asdict(write)}
    if file.exists() and not overwrite:
        before = json.loads(file.read_text(encoding="utf-8"))
        if before != settings:
            names = [
                name for name in {**before, **settings} if before.get(name) != settings.get(name)
            ]
            was, now = ({name: each.get(name) for name in names} for each in (before, settings))
            raise ValueError(
                f"{file}: the files here were made with {was}, now it is {now}; use another folder or --overwrite"
            )
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def tell(done: Outcome, out: Path) -> int:
    """Print what was done; the exit status."""
    print(f"{out}: {done.made} made, {done.kept} already there, {len(done.failed)} failed")
    for source, reason in done.failed[:MAX_SHOWN]:
        print(f"  {source}: {reason}")
    if len(done.failed) > MAX_SHOWN:
        print(f"  ... and {len(done.failed) - MAX_SHOWN} more")
    if done.failed:
        print(f"all that failed, with reasons: {done.report}")
    return 1 if done.failed else 0
