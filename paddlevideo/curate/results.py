"""The files that a check leaves behind, and how a data set that is one folder is found again.

| file            | what                                                                                        |
| ---             | ---                                                                                         |
| `train.csv` ... | a table per split: path, class id, class name, source, times where given, frames, rate, size |
| `labels.txt`    | `id name` a line                                                                            |
| `bad_files.csv` | everything that is wrong, a line each                                                       |
| `check.json`    | what was asked, counts, and the hash of each file above, by which it is known as ours        |

Media are never touched. A file that this did not write, or that was changed since, is not overwritten unless asked for.
"""

import csv
import hashlib
import io
import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import yaml

from paddlevideo.curate.check import SPLITS, Checked, key_of
from paddlevideo.curate.faults import KINDS
from paddlevideo.data.class_names import LABELS_FILE as LABELS
from paddlevideo.data.lists import DatasetError
from paddlevideo.files import atomic_write, writable
from paddlevideo.log import readable

MANIFEST = "check.json"
BAD = "bad_files.csv"
REPORT = "data_report.html"
VERSION = 1
CONFIG = "configs/finetune/pptsn.yaml"


# --- writing ---------------------------------------------------------------------------------------------------------


def check_free(out: Path, overwrite: bool = False) -> None:
    """Find out before long work whether the files can be written to `out`.

    Raises:
        FileExistsError: a file of such a name is there that is not ours, or was changed since.
        OSError: the folder cannot be written to.
    """
    writable(out / MANIFEST)
    names = [f"{split}.csv" for split in SPLITS] + [LABELS, BAD, REPORT]
    ours = read_manifest(out)
    for name in () if overwrite else names:
        path = out / name
        if path.exists() and not is_ours(path, ours):
            why = (
                "was changed since it was written"
                if name in ours["files"]
                else "is there and was not written by this tool"
            )
            raise FileExistsError(
                f"{path} {why}; choose another folder with --out, or replace it with --overwrite"
            )


def write(
    checked: Checked, out: Path, more: Mapping[str, str] | None = None, overwrite: bool = False
) -> dict[str, int]:
    """Write the lists of all splits, class names, faults and the manifest; each file whole or not at all.

    Args:
        more: name -> text of other files, as the report.

    Returns:
        name of each file -> how many records or lines it holds.

    Raises:
        DatasetError: no clip is left to write.
        OSError: as `check_free`.
    """
    if not any(item.split == "train" for item in checked.items):
        raise DatasetError("no clip is left to train on; the faults say why")
    check_free(out, overwrite)
    texts = {
        f"{split}.csv": table(checked, split, out)
        for split in SPLITS
        if any(i.split == split for i in checked.items)
    }
    counts = {name: text.count("\n") - 1 for name, text in texts.items()}
    if checked.class_names is not None:
        texts[LABELS] = "".join(
            f"{number} {name}\n" for number, name in enumerate(checked.class_names)
        )
        counts[LABELS] = len(checked.class_names)
    texts[BAD], counts[BAD] = fault_table(checked), len(checked.faults)
    texts |= dict(more or {})
    before, after = read_manifest(out), manifest(checked, texts)
    # Before the first file is replaced: a run that is ended half-way must know both as its own.
    write_json(out / MANIFEST, before | {"coming": after["files"]})
    for name, text in texts.items():
        with atomic_write(out / name) as temporary:
            temporary.write_bytes(text.encode("utf-8"))
    for name in before["files"]:
        if name not in texts and Path(name).name == name and is_ours(out / name, before):
            (out / name).unlink(missing_ok=True)
    write_json(out / MANIFEST, after)
    return counts


def how_to_train(out: Path, counts: Mapping[str, int]) -> str:
    """The command that trains on the lists that `write` counted."""
    validate = " --validate" if "val.csv" in counts else ""
    try:
        plain = yaml.safe_load(str(out)) == str(out)
    except yaml.YAMLError:
        plain = False
    root = (
        str(out) if plain else json.dumps(str(out), ensure_ascii=False)
    )  # 2024, or a #: -o reads values as YAML
    return f"python main.py{validate} -c {CONFIG} -o {shlex.quote(f'DATASET.root={root}')}"


def table(checked: Checked, split: str, out: Path) -> str:
    """Comma-separated records of a split, paths relative to `out` where they lie below it, else absolute."""
    timed = any(
        item.record.start_sec is not None or item.record.end_sec is not None
        for item in checked.items
    )
    columns = [
        "path",
        "label",
        "class",
        "source",
        *(["start_sec", "end_sec"] if timed else []),
        "frames",
        "fps",
        "width",
        "height",
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for item in checked.items:
        if item.split == split:
            seen, name = checked.of(item), item.label if checked.class_names is not None else ""
            times = [item.record.start_sec, item.record.end_sec] if timed else []
            facts = [seen.num_frames, round(seen.fps, 3), seen.width, seen.height]
            writer.writerow(
                [
                    listed(seen.path, out),
                    checked.class_ids[item.label],
                    name,
                    item.source,
                    *times,
                    *facts,
                ]
            )
    return text.getvalue()


def listed(path: str, out: Path) -> str:
    full, base = Path(os.path.abspath(path)), Path(os.path.abspath(out))
    return full.relative_to(base).as_posix() if full.is_relative_to(base) else full.as_posix()


def fault_table(checked: Checked) -> str:
    """All faults as comma-separated values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "left_out", "path", "place", "text"])
    for fault in checked.faults:
        left_out = "yes" if KINDS[fault.kind].left_out else "no"
        writer.writerow(
            [
                fault.kind,
                left_out,
                readable(fault.path),
                readable(fault.place),
                readable(fault.text),
            ]
        )
    return text.getvalue()


def manifest(checked: Checked, texts: Mapping[str, str]) -> dict:
    """Counts for other programs, and the hash of each file by which the next check knows it."""
    seen = {key_of(item): checked.of(item) for item in checked.items}.values()
    return {
        "version": VERSION,
        "clips": {"named": checked.total, **Counter(str(item.split) for item in checked.items)},
        "seconds": round(sum(facts.seconds for facts in seen), 3),
        "classes": {label: dict(count) for label, count in sorted(checked.counts().items())},
        "faults": dict(Counter(fault.kind for fault in checked.faults)),
        "notes": checked.notes,
        "files": {name: digest_of(text.encode("utf-8")) for name, text in texts.items()},
    }


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_ours(path: Path, ours: Mapping) -> bool:
    """An earlier check wrote this file, and nobody changed it."""
    return path.is_file() and digest_of(path.read_bytes()) in (
        ours["files"].get(path.name),
        ours["coming"].get(path.name),
    )


def write_json(path: Path, data: Mapping) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(
            json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def read_manifest(out: Path) -> dict:
    """The manifest of an earlier check; without files where there is none, or none that can be read."""
    try:
        data = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = None
    data = data if isinstance(data, dict) else {}
    return {
        key: data[key] if isinstance(data.get(key), dict) else {} for key in ("files", "coming")
    }


# --- finding ---------------------------------------------------------------------------------------------------------
