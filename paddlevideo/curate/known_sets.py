"""Lists of a published data set: find and probe the videos of its annotations, write the lists."""

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from paddlevideo import log
from paddlevideo.curate.batch_jobs import CRASHED, SET_LIST_ROOT, Job, below, target_of
from paddlevideo.curate.faults import KINDS
from paddlevideo.curate.file_names import name_problem
from paddlevideo.curate.probe import ProbeOptions, VideoInfo, probe_video
from paddlevideo.data.class_names import LABELS_FILE, read_class_names
from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Row, read_rows
from paddlevideo.data.paths import base_folder
from paddlevideo.files import atomic_write, check_writable, remove_leftovers
from paddlevideo.plain_text import file_line, tab_line
from paddlevideo.processes import Crash, run_each
from paddlevideo.remote import absolute_path, exists, is_url, join_path, path_below, shown
from paddlevideo.sample import Record

PROBLEMS = "problems.tsv"
NUM_EXAMPLES = 3  # problems of a kind that are printed


class Problem(NamedTuple):
    """A problem with a clip.

    Args:
        kind: one word, such as "missing".
        name: of the clip in the annotations, or of a class.
        text: the details.
    """

    kind: str
    name: str
    text: str


@dataclass
class Prepared:
    """The lists of a data set, before they are written.

    Attributes:
        class_names: in the order of their ids.
        lists: file name -> its lines.
        wanted: file name -> number of clips in the annotations.
        problems: why clips are not listed.
        notes: remarks on clips that are listed.
    """

    class_names: list[str]
    lists: dict[str, list[str]] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def probe_videos(
    paths: Iterable[str], num_workers: int | None, options: ProbeOptions | None
) -> dict[str, VideoInfo]:
    """Probe each video; return path -> result.

    Args:
        num_workers: processes, None for one per core, 0 to work in this process.
        options: None opens no video and returns empty results.
    """
    records = [Record(path, id=path) for path in dict.fromkeys(paths)]
    infos = {record.path: VideoInfo(record.path) for record in records}
    if options is None:
        return infos
    probe = functools.partial(probe_video, options=options)
    for index, result in run_each(probe, records, num_workers, "videos"):
        path = records[index].path
        if isinstance(result, Crash):
            infos[path].add_fault("crash", path, CRASHED)
        else:
            infos[path] = result
    return infos


def reject_reason(info: VideoInfo) -> str:
    """Return why a file cannot be used for training, "" if it can."""
    return next((fault.text for fault in info.faults if KINDS[fault.kind].left_out), "")


def path_in_list(path: str | Path, folder: str | Path) -> str:
    """Return the path of a file in a list in `folder`: relative below the folder, else absolute or
    a URL.

    Raises:
        DatasetError: a path that a list cannot hold.
    """
    text = path_below(path, folder) or (
        str(path) if is_url(path) else Path(absolute_path(path)).as_posix()
    )
    if reason := name_problem(text):
        raise DatasetError(f"{path}: {reason}; rename it")
    return text


# --- lists of videos to convert ------------------------------------------------------------------


def jobs_of_list(
    file: str | Path, out: str | Path, suffix: str, root: str | Path | None, use_spans: bool
) -> tuple[list[Row], list[Job]]:
    """Read a list or table of videos; return its rows, and a job for each row.

    Args:
        out: folder of the results.
        suffix: of the results; "" for folders.
        root: folder that the paths of the list are relative to; None as in `base_folder`.
        use_spans: rows with times have a result of their own, named after the times. Otherwise the
            result is made from the complete video.

    Raises:
        ValueError: wrong lines, or two videos with the same target.
    """
    rows, problems = read_rows(file, with_num_frames=False)
    problems.stop()
    base = base_folder([row.path for row in rows], file, root, fix=SET_LIST_ROOT)
    jobs: list[Job] = []
    sources: dict[str, PurePosixPath] = {}
    for row in rows:
        location = f"{shown(file)}:{row.line}"
        source, path = below(base, row.path, location)
        name, span = path.stem, None
        if use_spans and (row.start_sec is not None or row.end_sec is not None):
            span = (row.start_sec, row.end_sec)
            end = "end" if row.end_sec is None else float(row.end_sec)
            name += f"_{float(row.start_sec or 0)}_{end}"
        target = target_of(out, path.with_name(name + suffix))
        if sources.setdefault(target, path) != path:
            raise ValueError(
                f"{location}: {sources[target]} and {path} would both become {target}; "
                "rename one of them"
            )
        jobs.append(Job(source, target, span))
    return rows, jobs


def class_ids(
    labels: set[str], class_names: list[str] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Number the classes.

    Args:
        labels: the names that occur.
        class_names: in the order of their ids; None sorts `labels`.

    Returns:
        (class name -> its id as text, class names in the order of their ids).

    Raises:
        DatasetError: a label that is not among `class_names`.
    """
    names = sorted(labels) if class_names is None else class_names
    ids = {name: str(number) for number, name in enumerate(names)}
    if unknown := sorted(labels - ids.keys()):
        shown = ", ".join(map(repr, unknown[:MAX_SHOWN]))
        raise DatasetError(
            f"not among the {len(names)} class names: {shown} ({len(unknown)} in total)"
        )
    return ids, names


# --- write and print -----------------------------------------------------------------------------


def join_lines(lines: Iterable[str]) -> str:
    return "".join(f"{file_line(line)}\n" for line in lines)


def check_existing(out: Path, texts: Mapping[str, str], overwrite: bool) -> None:
    """Check that no file would be replaced by another content.

    Args:
        texts: file name -> new content.

    Raises:
        FileExistsError: a file exists with another content.
    """
    for name, text in () if overwrite else texts.items():
        path = out / name
        if path.exists() and path.read_bytes() != text.encode("utf-8"):
            raise FileExistsError(
                f"{path} exists with another content; choose another --out, "
                "or replace it with --overwrite"
            )


def check_class_names(out: str | Path, names: list[str], overwrite: bool) -> None:
    """Check that the folder has no other class names, which would mean other ids in its lists.

    Raises:
        FileExistsError: it has.
    """
    path = join_path(out, LABELS_FILE)
    if overwrite or not exists(path):
        return
    existing = read_class_names(path)
    if existing == names:
        return
    pairs = enumerate(itertools.zip_longest(existing, names))
    number, (old, new) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    raise FileExistsError(
        f"{path} has {len(existing)} classes, the annotations have {len(names)}; class {number} "
        f"is {old} in the file and {new} in the annotations. "
        f"Use --class_names {path}, another --out, or --overwrite"
    )


def check_folder(out: Path, names: list[str], overwrite: bool) -> None:
    """Check before long work that the lists can be written.

    Raises:
        FileExistsError: the folder has other class names.
        OSError: it cannot be written.
    """
    check_class_names(out, names, overwrite)
    check_writable(out / PROBLEMS)


def write_prepared(prepared: Prepared, out: Path, overwrite: bool) -> None:
    """Write the lists that have lines, the class names and the problems, each file atomically.

    Raises:
        FileExistsError: a list or class names exist with another content; nothing is written.
    """
    check_class_names(out, prepared.class_names, overwrite)
    texts = {name: join_lines(lines) for name, lines in prepared.lists.items() if lines}
    check_existing(out, texts, overwrite)
    if overwrite or not (out / LABELS_FILE).exists():
        texts[LABELS_FILE] = join_lines(prepared.class_names)
    problems = prepared.problems + prepared.notes
    texts[PROBLEMS] = join_lines(tab_line(problem) for problem in problems)
    remove_leftovers(out)
    for name, text in texts.items():
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def print_prepared(prepared: Prepared, out: Path) -> int:
    """Print a summary; return the exit code, 1 if clips are missing or damaged."""
    for name, wanted in prepared.wanted.items():
        listed = len(prepared.lists[name])
        share = f", {1 - listed / wanted:.1%} are not" if listed < wanted else ""
        unwritten = "" if listed else "; no list was written"
        log.show(f"{out / name}: {listed} of {wanted} clips are listed{share}{unwritten}")
    _print_by_kind(prepared.problems, "not listed")
    _print_by_kind(prepared.notes, "listed nevertheless")
    log.show(f"{out / LABELS_FILE}: {len(prepared.class_names)} classes")
    if prepared.problems or prepared.notes:
        log.show(f"complete report: {out / PROBLEMS}")
    return 1 if prepared.problems or not all(prepared.lists.values()) else 0


def _print_by_kind(problems: Sequence[Problem], consequence: str) -> None:
    for kind, count in Counter(problem.kind for problem in problems).most_common():
        log.show(f"{kind}: {count}, {consequence}")
        of_kind = [problem for problem in problems if problem.kind == kind]
        for problem in of_kind[:NUM_EXAMPLES]:
            log.show(f"  {problem.name}: {problem.text}")
        if count > NUM_EXAMPLES:
            log.show(f"  ... and {count - NUM_EXAMPLES} more")
