"""Write the files that a check of a data set leaves.

| file                       | content                                                             |
| ---                        | ---                                                                 |
| train.csv, val.csv, ...    | a table per split: path, class id, class name, source, times where  |
|                            | given; number of frames, frame rate, frame size of a video;         |
|                            | seconds, sample rate, channels of an audio file                     |
| labels.txt                 | `id name` per line                                                  |
| bad_files.csv              | a fault per line                                                    |
| check.json                 | the manifest: counts, and a hash of each other file                 |

Videos are never changed. A file that an earlier check did not write, or that was edited since, is
overwritten only on request.
"""

import hashlib
import itertools
import json
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paddlevideo.config import yamltree
from paddlevideo.config.shipped import typed
from paddlevideo.curate.check import CheckResult
from paddlevideo.curate.earlier import EarlierSplits
from paddlevideo.curate.faults import KINDS
from paddlevideo.curate.fold import Fold
from paddlevideo.curate.inventory import ClipKey, Media
from paddlevideo.curate.probe import VideoInfo
from paddlevideo.curate.probe_audio import AudioInfo
from paddlevideo.data.class_names import LABELS_FILE
from paddlevideo.data.lists import DatasetError, read_rows
from paddlevideo.data.paths import SPLITS, list_name, split_name
from paddlevideo.files import atomic_write, remove_leftovers
from paddlevideo.files import check_writable as check_file_writable
from paddlevideo.plain_text import csv_path, csv_text, file_line, readable
from paddlevideo.remote import absolute_path, is_url, join_path

MANIFEST = "check.json"
BAD_FILES = "bad_files.csv"
REPORT = "data_report.html"
VERSION = 1
CONFIG = "configs/finetune/motion.yaml"
FRAMES_CONFIG = "configs/finetune/quick.yaml"
AUDIO_CONFIG = "configs/finetune/audio.yaml"


def list_file(split: str) -> str:
    return f"{list_name(split)}.csv"


OWN_FILES = (*map(list_file, SPLITS), LABELS_FILE, BAD_FILES, REPORT, MANIFEST)


def check_writable(out_dir: Path, overwrite: bool = False) -> None:
    """Check before long work that the files can be written to `out_dir`.

    Raises:
        FileExistsError: a file of one of the names exists, and no check wrote it, or it was edited
            since.
        OSError: the folder cannot be written to.
    """
    check_file_writable(out_dir / MANIFEST)
    if overwrite:
        return
    manifest = read_manifest(out_dir)
    for name in OWN_FILES:
        path = out_dir / name
        is_own = is_manifest(path) if name == MANIFEST else is_own_file(path, manifest)
        if path.exists() and not is_own:
            if name in manifest["files"]:
                problem = "was edited since this tool wrote it"
            else:
                problem = "exists and was not written by this tool"
            raise FileExistsError(
                f"{path} {problem}; "
                "choose another folder with --out, or replace the file with --overwrite"
            )


def write(
    result: CheckResult,
    out_dir: Path,
    other_files: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write the lists of all splits, class names, faults and the manifest, each file atomically.

    Args:
        other_files: name -> text of other files, such as the report.

    Returns:
        name of each file -> its number of records.

    Raises:
        DatasetError: no training clip is left.
        OSError: as `check_writable`.
    """
    splits = {clip.split for clip in result.clips}
    if "train" not in splits:
        raise DatasetError("no training clip is left, see the faults for the reasons")
    check_writable(out_dir, overwrite)
    texts = {
        list_file(split): split_table(result, split, out_dir) for split in SPLITS if split in splits
    }
    counts = {name: text.count("\n") - 1 for name, text in texts.items()}
    if result.class_names is not None:
        lines = [f"{number} {file_line(name)}\n" for number, name in enumerate(result.class_names)]
        texts[LABELS_FILE], counts[LABELS_FILE] = "".join(lines), len(lines)
    texts[BAD_FILES], counts[BAD_FILES] = fault_table(result), len(result.faults)
    texts |= dict(other_files or {})
    before, after = read_manifest(out_dir), make_manifest(result, texts)
    remove_leftovers(out_dir)
    # An interrupted run leaves old and new files, and the next one must recognize both.
    write_json(out_dir / MANIFEST, before | {"coming": after["files"]})
    for name, text in texts.items():
        with atomic_write(out_dir / name) as temporary:
            temporary.write_bytes(text.encode("utf-8"))
    for name in before["files"]:
        if name not in texts and Path(name).name == name and is_own_file(out_dir / name, before):
            (out_dir / name).unlink(missing_ok=True)
    write_json(out_dir / MANIFEST, after)
    return counts


def training_command(
    out_dir: str | Path, file_names: Iterable[str], media: Media = "video", fold: Fold | None = None
) -> str:
    """Return the command that trains on the files that `write` wrote; each fold is a run.

    Where the output folder of the config or fold exists, the run gets another name.
    """
    validate = " --validate" if list_file("valid") in file_names else ""
    # -o reads values as YAML, where 2024 is a number and # begins a comment.
    try:
        read_back = yamltree.parse(str(out_dir), (), str, yamltree.Tree({}))
    except yamltree.NotYaml:
        read_back = None
    is_plain_text = read_back == str(out_dir)
    root = str(out_dir) if is_plain_text else json.dumps(str(out_dir), ensure_ascii=False)
    config = AUDIO_CONFIG if media == "audio" else CONFIG
    train, data = typed("main.py", "train"), shlex.quote(f"DATASET.root={root}")
    default = f"finetune_{Path(config).stem}"  # in `output_dir` of the config
    own = default if fold is None else f"fold_{fold.number}"
    names = itertools.chain([own], (f"{own}_{number}" for number in itertools.count(2)))
    name = next(name for name in names if not Path("output", name).exists())
    flag = "" if name == default else f" --name {name}"
    return f"{train}{validate} -c {config} -o {data}{flag}"


# --- tables ---------------------------------------------------------------------------------------


def split_table(result: CheckResult, split: str, out_dir: Path) -> str:
    """Format the clips of a split as comma-separated values."""
    records = [clip.record for clip in result.clips]
    has_times = any(r.start_sec is not None or r.end_sec is not None for r in records)
    columns = ["path", "label", "class", "source"]
    columns += ["start_sec", "end_sec"] if has_times else []
    columns += info_columns(result)
    rows: list[list[Any]] = []
    for clip in result.clips:
        if clip.split == split:
            info, record = result.info(clip), clip.record
            class_name = file_line(clip.label) if result.class_names is not None else ""
            path = listed_path(info.path, out_dir)
            row = [csv_path(path), result.class_ids[clip.label], class_name, clip.source]
            row += [record.start_sec, record.end_sec] if has_times else []
            row += info.cells()
            rows.append(row)
    return csv_text(columns, rows)


def info_columns(result: CheckResult) -> Sequence[str]:
    """Return the columns for the properties of a clip."""
    return AudioInfo.columns if result.media == "audio" else VideoInfo.columns


def listed_path(path: str, out_dir: Path) -> str:
    """Return the path relative to `out_dir` if it is inside, else the absolute path or the URL."""
    if is_url(path):
        return path
    full, base = Path(os.path.abspath(path)), Path(os.path.abspath(out_dir))
    return full.relative_to(base).as_posix() if full.is_relative_to(base) else full.as_posix()


def fault_table(result: CheckResult) -> str:
    """Format all faults as comma-separated values."""
    rows = []
    for fault in result.faults:
        left_out = "yes" if KINDS[fault.kind].left_out else "no"
        texts = [readable(text) for text in (fault.path, fault.location, fault.text)]
        rows.append([fault.kind, left_out, *texts])
    return csv_text(["kind", "left_out", "path", "place", "text"], rows)


# --- the manifest ---------------------------------------------------------------------------------


def make_manifest(result: CheckResult, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of check.json.

    Args:
        texts: name -> content of the other files.
    """
    infos = {clip.key: result.info(clip) for clip in result.clips}.values()
    num_clips = Counter(list_name(str(clip.split)) for clip in result.clips)
    classes = {
        label: {list_name(split): number for split, number in count.items()}
        for label, count in sorted(result.counts().items())
    }
    return {
        "version": VERSION,
        "media": result.media,
        "clips": {"named": result.num_listed, **num_clips},
        "seconds": round(sum(info.seconds for info in infos), 3),
        "classes": classes,
        "faults": dict(Counter(fault.kind for fault in result.faults)),
        "notes": result.notes,
        "draw": draw_of(result.seed, result.shares, result.fold),
        "contents": {
            result.info(clip).content_hash: list_name(str(clip.split))
            for clip in result.clips
            if result.info(clip).content_hash
        },
        "files": {name: digest(text.encode("utf-8")) for name, text in texts.items()},
    }


def draw_of(seed: int, shares: Mapping[str, float], fold: Fold | None) -> dict[str, Any]:
    """How splits are drawn, as check.json has it."""
    draw: dict[str, Any] = {"seed": seed} | {list_name(s): share for s, share in shares.items()}
    return draw | ({"fold": str(fold)} if fold is not None else {})


def check_fold_folder(out_dir: Path, seed: int, fold: Fold) -> None:
    """Check that the lists of a fold replace no other lists.

    Raises:
        FileExistsError: the folder has lists of another fold, or of no fold.
    """
    manifest = read_manifest(out_dir)
    draw = manifest["draw"]
    if manifest["files"] and draw != draw_of(seed, {}, fold):
        other = f"fold {draw['fold']} (seed {draw.get('seed')})" if "fold" in draw else "no fold"
        raise FileExistsError(
            f"{out_dir} has lists of {other}; a fold needs a folder of its own, such as "
            f"--out folds/{fold.number}, or replace the lists with --overwrite"
        )


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_own_file(path: Path, manifest: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether an earlier check wrote this file, and nobody edited it since."""
    if not path.is_file():
        return False
    digests = [manifest[key].get(path.name) for key in ("files", "coming")]
    return digest(path.read_bytes()) in digests


def is_manifest(path: Path) -> bool:
    """Return whether a check.json is that of a check, and not of another program."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and isinstance(content.get("files"), dict)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_earlier(out_dir: Path) -> EarlierSplits | None:
    """Read the splits that an earlier check wrote to a folder.

    Returns:
        None where there are no lists, or where they were edited since.
    """
    manifest = read_manifest(out_dir)
    of_clip: dict[ClipKey, str] = {}
    splits_of: dict[str, set[str]] = defaultdict(set)
    for split in SPLITS:
        path = out_dir / list_file(split)
        if not is_own_file(path, manifest):
            continue
        rows, _ = read_rows(path, with_num_frames=False)
        for row in rows:
            full = absolute_path(join_path(out_dir, row.path))
            of_clip[full, row.start_sec, row.end_sec] = split
            if row.source:
                splits_of[row.source].add(split)
    of_content = {
        key: split
        for key, name in manifest["contents"].items()
        if (split := split_name(str(name))) in set(of_clip.values())
    }
    of_source = {source: min(found) for source, found in splits_of.items() if len(found) == 1}
    shares = {
        split: float(share)
        for name, share in manifest["draw"].items()
        if (split := split_name(name)) and isinstance(share, (int, float))
    }
    seed = manifest["draw"].get("seed")
    return EarlierSplits(of_clip, of_content, of_source, shares, seed) if of_clip else None


def read_manifest(out_dir: Path) -> dict[str, dict[str, Any]]:
    """Read the hashes of the files that an earlier check wrote, and its splits.

    Returns:
        "files" and, of an interrupted run, "coming": name -> hash; "contents": hash of each clip ->
        its list; "draw": seed and shares. All are empty where there is no readable manifest.
    """
    try:
        content = json.loads((out_dir / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    hashes: dict[str, dict[str, Any]] = {}
    for key in ("files", "coming", "contents", "draw"):
        value = content.get(key) if isinstance(content, dict) else None
        hashes[key] = value if isinstance(value, dict) else {}
    return hashes
