"""Many files -> wav files or features, in parallel: what tools/data/extract_audio.py and build_audio_features.py run.

Results keep the relative paths of their sources. A file is written whole or not at all, one that is there is kept, so a run
that was stopped goes on where it stopped. What fails is told with its reason, in `failures.tsv` too.
"""

import json
import os
import signal
import wave
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from paddlevideo import log
from paddlevideo.data.audio import DecibelMel
from paddlevideo.data.audio_pipeline import SOUND_SUFFIXES, has_sound_suffix
from paddlevideo.data.lists import VIDEO_SUFFIXES
from paddlevideo.data.waveform import Backend, open_sound, read_waveform
from paddlevideo.sample import DecodeError
from paddlevideo.weights import atomic_write

MADE_WITH = "made_with.json"
MAX_SHOWN = 10


@dataclass(frozen=True)
class WriteWav:
    """Writes the sound of a file as 16-bit wav, beginning with the video's first frame.

    Args:
        sample_rate: mono at this rate (Hz); None keeps the file's own rate and channels.
        stream: which audio stream, counted from 0.
    """

    sample_rate: int | None = None
    stream: int = 0

    suffix = ".wav"

    def __call__(self, source: str, target: str) -> None:
        """
        Raises:
            DecodeError: no sound in it, or damaged; nothing is left at `target` then.
        """
        with atomic_write(target) as temporary:
            if self.sample_rate is None:
                self._as_stored(source, temporary)
            else:
                sound = read_waveform(source, self.sample_rate, stream=self.stream)
                with wave.open(str(temporary), "wb") as file:
                    file.setparams((1, 2, self.sample_rate, 0, "NONE", ""))
                    file.writeframes(sixteen_bits(sound[None]))

    def _as_stored(self, source: str, target: Path) -> None:
        with open_sound(source, self.stream) as sound, wave.open(str(target), "wb") as file:
            file.setparams((sound.num_channels, 2, sound.sample_rate, 0, "NONE", ""))
            for piece in sound.pieces():
                if len(piece) != sound.num_channels:
                    raise DecodeError(
                        f"the number of channels changes from {sound.num_channels} to {len(piece)}; set a sample rate"
                    )
                file.writeframesraw(sixteen_bits(piece))


def sixteen_bits(sound: np.ndarray) -> bytes:
    """float [channels, n] -> interleaved little-endian samples; what was read from 16 bits comes out the same."""
    return np.rint(sound.T * 32768.0).clip(-32768, 32767).astype("<i2").tobytes()


@dataclass(frozen=True)
class WriteFeature:
    """Writes the feature of a video or an audio file as `.npy`, float32 [rows, num_mels]; see `audio.DecibelMel`."""

    feature: DecibelMel
    stream: int = 0
    backend: Backend = "pyav"

    suffix = ".npy"

    def __call__(self, source: str, target: str) -> None:
        """As WriteWav's."""
        rows = self.feature(read_waveform(source, self.feature.sample_rate, stream=self.stream, backend=self.backend))
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            np.save(file, rows)


# --- what is to be done ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One file to make of another."""

    source: str
    target: str


def plan(
    source: Path, out: Path, suffix: str, ext: str | None = None, level: int | None = None, root: Path | None = None
) -> list[Job]:
    """What to make: `out/<relative path>` with the new suffix, sorted.

    Args:
        source: a folder, or a list with a path on each line, perhaps with `label` or `num_frames label` behind it.
        ext: take only files with this suffix; of a folder, None takes videos (and sounds, for features).
        level: take only files in folders so deep, 1 for those in the folder itself; None takes any.
        root: folder that the paths of a list are relative to; None is the current one, or the list's own.

    Raises:
        ValueError: nothing to do, or two files that would become one.
    """
    if source.is_dir():
        paths, base = _below(source, out, suffix, ext, level), source
    elif source.is_file():
        paths, base = _listed(source, ext, root)
    else:
        raise ValueError(f"{source}: no such folder or list")
    if not paths:
        what = f"no file ending in .{ext.lstrip('.')}" if ext else "no video or sound"
        raise ValueError(f"{source}: {what} here{f', {level} folder(s) deep' if level else ''}; see --ext and --level")
    jobs: dict[Path, Path] = {}
    for path in paths:
        target = out / path.with_suffix(suffix)
        if jobs.setdefault(target, path) != path:
            raise ValueError(f"{jobs[target]} and {path} would both become {target}; choose one kind with --ext")
    return [Job(str(base / path), str(target)) for target, path in jobs.items()]


def _below(folder: Path, out: Path, suffix: str, ext: str | None, level: int | None) -> list[Path]:
    sounds = set(SOUND_SUFFIXES) - {".npy"} if suffix == ".npy" else set()
    wanted = {f".{ext.lstrip('.').lower()}"} if ext else {*VIDEO_SUFFIXES, *sounds}
    found, made = [], out.resolve()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(parent, name).resolve() != made)
        if level is None or len(Path(parent).relative_to(folder).parts) == level - 1:
            here = (Path(parent, name) for name in sorted(names) if not name.startswith("."))
            found += [path.relative_to(folder) for path in here if path.suffix.lower() in wanted]
    return found


def _listed(file: Path, ext: str | None, root: Path | None) -> tuple[list[Path], Path]:
    """(relative paths, the folder that they are relative to)."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: neither a folder nor a UTF-8 list with a path on each line ({error.reason})") from error
    # The longest beginning of a line that ends as a sound or a video does is the path; paths may hold spaces.
    texts = [next((t for t in (line, *_shorter(line)) if has_sound_suffix(t)), line) for line in lines]
    if root is None:
        root = Path() if texts and (os.path.isabs(texts[0]) or os.path.exists(texts[0])) else file.parent
    paths = []
    for number, text in enumerate(texts, 1):
        path = Path(os.path.relpath(text, root) if os.path.isabs(text) else text)
        if ".." in path.parts:
            raise ValueError(f"{file}: path {number}, {text}, is not below {root or 'the current folder'}; set --list-root")
        if not ext or path.suffix.lower() == f".{ext.lstrip('.').lower()}":
            paths.append(path)
    return list(dict.fromkeys(paths)), root


def _shorter(line: str) -> list[str]:
    return [line.rsplit(None, number)[0] for number in (1, 2)]


def part_of(jobs: Sequence[Job], part: str) -> Sequence[Job]:
    """`2/3` is the second of three parts, for as many machines.

    Raises:
        ValueError: not of this form.
    """
    words = part.split("/")
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not 1 <= int(words[0]) <= int(words[1]):
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
    write: Callable[[str, str], None],
    jobs: Sequence[Job],
    out: Path,
    workers: int,
    overwrite: bool = False,
    part: str = "1/1",
) -> Outcome:
    """Make what is not there yet, with at most `workers` processes, and write `failures.tsv`.

    Args:
        part: `2/3` does the second of three parts, each with a `failures.2of3.tsv` of its own; for as many machines.

    Raises:
        ValueError: fewer than one worker, no such part, or `out` holds files made with other settings.
        OSError: `out` cannot be written.
        ChildProcessError: a process was killed.
    """
    if workers < 1:
        raise ValueError(f"--num-workers {workers}: expected at least 1")
    jobs, report = part_of(jobs, part), out / (f"failures.{part.replace('/', 'of')}.tsv" if part != "1/1" else "failures.tsv")
    _same_settings(write, out, overwrite)
    left = [job for job in jobs if overwrite or not os.path.exists(job.target)]
    reasons: dict[str, str] = {}
    bar = log.progress(total=len(left), label=out.name)
    for job, reason in _results(write, left, min(workers, len(left))):
        bar.update()
        if reason:
            reasons[job.source] = reason
    bar.close()
    failed = [(job.source, reasons[job.source]) for job in left if job.source in reasons]
    if failed:
        with atomic_write(report) as temporary:
            temporary.write_text("".join(f"{source}\t{reason}\n" for source, reason in failed), encoding="utf-8")
    else:
        report.unlink(missing_ok=True)
    return Outcome(len(left) - len(failed), len(jobs) - len(left), failed, report)


def _results(write, jobs: list[Job], workers: int) -> Iterable[tuple[Job, str]]:
    """(job, why it failed or nothing) as they come."""
    if workers <= 1:
        yield from ((job, _try(write, job)) for job in jobs)
        return
    # A Ctrl-C reaches the whole group; the workers end when the main process lets them.
    pool = ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        waiting = {pool.submit(_try, write, job): job for job in jobs}
        for future in as_completed(waiting):
            yield waiting.pop(future), future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError("a process was ended from outside, perhaps for lack of memory; start again with fewer workers, "
                                "what is done is kept") from error  # fmt: skip
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _try(write: Callable[[str, str], None], job: Job) -> str:
    """Do it; why it failed, nothing where it did not."""
    try:
        write(job.source, job.target)
    except (DecodeError, OSError) as error:
        return log.told(error) or type(error).__name__
    except Exception as error:  # one odd file must not end the work on all others; it is told and counted
        return f"{type(error).__name__}: {error}"
    return ""


def _same_settings(write, out: Path, overwrite: bool) -> None:
    """Stop where the folder holds files that were made otherwise."""
    file, settings = out / MADE_WITH, {"kind": write.suffix, **asdict(write)}
    if file.exists() and not overwrite:
        before = json.loads(file.read_text(encoding="utf-8"))
        if before != settings:
            raise ValueError(
                f"{file}: the files here were made with {before}, now it is {settings}; use another folder or --overwrite"
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
