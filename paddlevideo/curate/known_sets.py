"""Lists of a known set: what its annotations name, looked for on disk, looked at, and written down."""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paddlevideo.curate.batch_jobs import SET_LIST_ROOT, Job, below
from paddlevideo.curate.faults import KINDS
from paddlevideo.curate.file_names import name_problem
from paddlevideo.curate.probe import ProbeOptions, VideoInfo, probe_video
from paddlevideo.data.class_names import LABELS_FILE as LABELS
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.lists import MAX_SHOWN, DatasetError, Row, read_rows
from paddlevideo.data.paths import base_folder
from paddlevideo.files import atomic_write
from paddlevideo.processes import Crash, run_each
from paddlevideo.sample import Record

PROBLEMS = "problems.tsv"


class Problem(NamedTuple):
    """What is wrong with a clip: `kind` is one word, `name` what the annotations call it, `text` says it."""

    kind: str
    name: str
    text: str


@dataclass
class Prepared:
    """What came out.

    Attributes:
        class_names: in the order of their ids.
        lists: file name -> its lines.
        wanted: file name -> clips that the annotations name for it.
        problems: clips that are in no list, and why.
        notes: what is worth a line, though the clips are listed.
    """

    class_names: list[str]
    lists: dict[str, list[str]] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def look_at(
    paths: Iterable[str], workers: int | None, how: ProbeOptions | None
) -> dict[str, VideoInfo]:
    """What is seen of each video; nothing is opened where `how` is None.

    Args:
        workers: processes, None for one per core, 0 for none beside this one.
    """
    records = [Record(path, id=path) for path in dict.fromkeys(paths)]
    seen = {record.path: VideoInfo(record.path) for record in records}
    if how is None:
        return seen
    for place, result in run_each(
        functools.partial(probe_video, options=how), records, workers, "videos"
    ):
        path = records[place].path
        if isinstance(result, Crash):
            seen[path].add_fault("crash", path, "the decoder crashes on this file")
        else:
            seen[path] = result
    return seen


def unusable(seen: VideoInfo) -> str:
    """Why training could not use this file, "" where it could."""
    return next((fault.text for fault in seen.faults if KINDS[fault.kind].left_out), "")


def path_in_list(path: str | Path, folder: Path) -> str:
    """How a list in `folder` names a file: relative to it where the file lies below, else absolute.

    Raises:
        DatasetError: no list can hold it.
    """
    whole = Path(os.path.abspath(path))
    base = Path(os.path.abspath(folder))
    text = (whole.relative_to(base) if whole.is_relative_to(base) else whole).as_posix()
    if why := name_problem(text):
        raise DatasetError(f"{path}: {why}; rename it")
    return text


# --- lists that are made smaller, or turned into frames -----------------------------------------------------------------


def jobs_of_list(
    file: Path, out: Path, suffix: str, root: Path | None, parts: bool
) -> tuple[list[Row], list[Job]]:
    """Rows of a list or table of videos, and for each of them what is to be made of its video.

    Args:
        suffix: of what is made; "" for a folder.
        root: folder that its paths are relative to; None as of `base_folder`.
        parts: rows with times have a result of their own, called after them; otherwise it is made of the whole file.

    Raises:
        ValueError: wrong lines, or two videos that would become one.
    """
    rows, problems = read_rows(file, with_num_frames=False)
    problems.stop()
    base = Path(base_folder([row.path for row in rows], file, root, fix=SET_LIST_ROOT))
    jobs, sources = [], {}
    for row in rows:
        path = below(base, row.path, f"{file}:{row.line}")
        name, part = path.stem, None
        if parts and (row.start_sec is not None or row.end_sec is not None):
            part = (row.start_sec, row.end_sec)
            name += f"_{float(row.start_sec or 0)}_{'end' if row.end_sec is None else float(row.end_sec)}"
        target = out / path.with_name(name + suffix)
        if sources.setdefault(target, path) != path:
            raise ValueError(
                f"{file}:{row.line}: {sources[target]} and {path} would both become {target}; rename one of them"
            )
        jobs.append(Job(str(base / path), str(target), part))
    return rows, jobs


def ids_of(
    labels: set[str], class_names: list[str] | None = None
) -> tuple[dict[str, str], list[str]]:
    """(class name -> its id as written in a list, class names in the order of their ids); sorted where None are given.

    Raises:
        DatasetError: a name that is not among `class_names`.
    """
    names = sorted(labels) if class_names is None else class_names
    ids = {name: str(number) for number, name in enumerate(names)}
    if unknown := sorted(labels - ids.keys()):
        shown = ", ".join(map(repr, unknown[:MAX_SHOWN]))
        raise DatasetError(
            f"not among the {len(names)} class names: {shown} ({len(unknown)} in all)"
        )
    return ids, names


# --- writing and telling ------------------------------------------------------------------------------------------------


def lines(texts: Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def check_free(out: Path, texts: Mapping[str, str], overwrite: bool) -> None:
    """
    Raises:
        FileExistsError: one of the files is there with another content.
    """
    for name, text in () if overwrite else texts.items():
        path = out / name
        if path.exists() and path.read_bytes() != text.encode("utf-8"):
            raise FileExistsError(
                f"{path} is there and says something else; choose another --out, or replace it: --overwrite"
            )


def check_class_names(out: Path, names: list[str], overwrite: bool) -> None:
    """
    Raises:
        FileExistsError: the folder has other class names already, so its lists would have other ids.
    """
    path = out / LABELS
    if overwrite or not path.exists() or (there := read_class_names(path)) == names:
        return
    pairs = enumerate(itertools.zip_longest(there, names))
    place, (one, other) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
    raise FileExistsError(
        f"{path} has {len(there)} classes, the annotations have {len(names)}; the first difference is class {place}: "
        f"{one} there, {other} here. Give --class_names {path}, another --out, or --overwrite"
    )


def write(made: Prepared, out: Path, overwrite: bool) -> None:
    """Write all lists that have lines, class names and problems, each whole or not at all; nothing where one may not be.

    Raises:
        FileExistsError: a list or other class names are there.
    """
    check_class_names(out, made.class_names, overwrite)
    texts = {name: lines(content) for name, content in made.lists.items() if content}
    check_free(out, texts, overwrite)
    if overwrite or not (out / LABELS).exists():
        texts[LABELS] = lines(made.class_names)
    texts[PROBLEMS] = lines("\t".join(problem) for problem in made.problems + made.notes)
    for name, text in texts.items():
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def tell(made: Prepared, out: Path) -> int:
    """Print what came out; the exit status, 1 where a clip is missing or damaged."""
    for name, wanted in made.wanted.items():
        listed = len(made.lists[name])
        share = f", {1 - listed / wanted:.1%} are not" if listed < wanted else ""
        print(
            f"{out / name}: {listed} of {wanted} clips are listed{share}{'' if listed else '; no list was written'}"
        )
    for title, found in (("not listed", made.problems), ("listed all the same", made.notes)):
        for kind, count in Counter(problem.kind for problem in found).most_common():
            some = [problem for problem in found if problem.kind == kind]
            print(f"{kind}: {count}, {title}")
            for problem in some[:3]:
                print(f"  {problem.name}: {problem.text}")
            if count > 3:
                print(f"  ... and {count - 3} more")
    print(f"{out / LABELS}: {len(made.class_names)} classes")
    if made.problems or made.notes:
        print(f"all of this, a line each: {out / PROBLEMS}")
    return 1 if made.problems or not all(made.lists.values()) else 0
