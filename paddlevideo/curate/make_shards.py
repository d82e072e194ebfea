"""Write the files of a data set into tar shards, by the rules of WebDataset.

The plan, which sample is in which shard, follows from the list and the sizes of the files alone.
So the shards are the same bytes for any number of processes, and a run that was interrupted goes on
with the shards that are missing.
"""

import fnmatch
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from paddlevideo import files
from paddlevideo.curate.batch_jobs import Outcome, write_report
from paddlevideo.curate.resize import WriteResized
from paddlevideo.curate.shard_samples import (
    SampleJob,
    measure_all,
    resized,
    run_all,
    sample_jobs,
    text_digest,
)
from paddlevideo.curate.tar_writer import Member, SampleFiles, ShardPlan, write_shard
from paddlevideo.data.audio_datasets import AudioFeatureDataset
from paddlevideo.data.datasets import FrameDataset, RecordList, Split, VideoDataset
from paddlevideo.data.webdataset.index import index_name, read_index
from paddlevideo.remote import (
    atomic_file,
    check_storable,
    is_file,
    is_url,
    join_path,
    names_below,
    path_name,
    read_bytes,
    remove,
    shown,
)

DATASETS = {"video": VideoDataset, "frames": FrameDataset, "audio": AudioFeatureDataset}
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40
}  # fmt: skip


@dataclass(frozen=True)
class ShardSettings:
    """How shards are made.

    Args:
        prefix: of their names, PREFIX-000000.tar.
        shard_bytes: size at which the next shard begins (bytes). A larger file has its own shard.
        shuffle_seed: order the samples at random by this seed; None keeps the order of the list.
        short_side: videos are written smaller, with this short side (px); None copies the files.

    Raises:
        ValueError: a prefix with folders, or sizes that are too small or odd.
    """

    prefix: str
    shard_bytes: int = 256 * 10**6
    shuffle_seed: int | None = None
    short_side: int | None = None

    def __post_init__(self):
        if not self.prefix or set(self.prefix) & set("/\\{}*?[]"):
            raise ValueError(f"prefix {self.prefix!r}: expected the beginning of a file name")
        if self.shard_bytes < 1:
            raise ValueError(f"shard_size is {self.shard_bytes} bytes, expected at least 1")
        if self.short_side is not None:
            WriteResized(self.short_side)  # checks it


def parse_size(text: str) -> int:
    """Bytes of a size such as "256MB", "1.5GB", "512MiB" or "1000000".

    Raises:
        ValueError: no such size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not match or match[2].upper() not in UNITS or float(match[1]) <= 0:
        raise ValueError(f"size {text!r}: expected a number with B, KB, MB or GB, such as 256MB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def load_data(
    source: str,
    media: Literal["video", "frames", "audio"],
    root: str | None = None,
    split: Split | None = None,
    multi_label: bool = False,
    class_names: list[str] | None = None,
) -> tuple[RecordList, bool]:
    """(the records of a list, table or folder; whether its labels are class names).

    Args:
        media: what the list names; audio are also features (.npy).
        root: folder that the paths of a list are relative to.
        class_names: in the order of their ids, where the list has names.

    Raises:
        DatasetError: the list is missing or wrong.
    """
    options: dict[str, Any] = {"data_prefix": root, "split": split}
    if media != "audio":
        options["multi_label"] = multi_label
    elif multi_label:
        raise ValueError("audio lists have one label for each record; leave out --multi_label")
    dataset = DATASETS[media](source, **options)
    found = dataset.load()
    has_names = found.class_names is not None
    return (dataset.load(class_names) if class_names else found), has_names


def make_shards(
    data: RecordList,
    has_names: bool,
    out: str | Path,
    settings: ShardSettings,
    num_workers: int,
    overwrite: bool = False,
) -> Outcome:
    """Write all shards that are missing, their indexes, and PREFIX.manifest.json.

    Args:
        out: folder of the shards, or its URL.

    Returns:
        what was made, counted in shards; each file that cannot be used, and each shard that could
        not be written, is a row of failures.PREFIX.tsv.

    Raises:
        ValueError: fewer than one worker, no file that can be used, or other shards of this name.
        OSError: `out` is not writable.
    """
    if num_workers < 1:
        raise ValueError(f"--num-workers {num_workers}: expected at least 1")
    _prepare_folder(out)
    jobs = sample_jobs(data, has_names, settings.shuffle_seed)
    found = measure_all(jobs)
    failed = [
        (shown(job.source), r) for job, r in zip(jobs, found, strict=True) if isinstance(r, str)
    ]
    good = [(job, r) for job, r in zip(jobs, found, strict=True) if not isinstance(r, str)]
    state = [(job.key, sorted(job.texts.items()), *members) for job, members in good]
    origin = text_digest([settings, state])
    manifest = join_path(out, f"{settings.prefix}.manifest.json")
    earlier = _read_manifest(manifest)
    done = _kept(earlier, origin, out)
    if done is not None:
        failed += [(source, reason) for source, reason in earlier.get("failed", ())]
        return Outcome(0, done, _report(failed, out, settings), _report_file(out, settings))
    copies, not_resized = _copies_folder(out, settings), []
    if settings.short_side is not None:
        good, not_resized = resized(good, copies, settings.short_side, num_workers)
        failed += not_resized
    if not good:
        _report(failed, out, settings)
        raise ValueError(f"no file can be used; the reasons are in {_report_file(out, settings)}")
    plans = plan_shards(good, out, settings)
    waiting = [plan for plan in plans if not plan.is_written]
    _check_others(out, settings, plans, earlier, origin, overwrite)
    others = [*earlier.get("shards", ()), *earlier.get("replaced", ())]
    _write_manifest(manifest, origin, settings, plans, complete=False, replaced=others)
    reasons = run_all(write_shard, waiting, num_workers, settings.prefix)
    failed += [(plan.path, r) for plan, r in zip(waiting, reasons, strict=True) if r]
    num_failed = sum(map(bool, reasons))
    if not num_failed:
        _write_manifest(manifest, origin, settings, plans, complete=True, failed=not_resized)
        _remove_extra(out, others, plans)
        shutil.rmtree(copies, ignore_errors=True)
    _report(failed, out, settings)
    made, kept = len(waiting) - num_failed, len(plans) - len(waiting)
    return Outcome(made, kept, failed, _report_file(out, settings))


# --- the plan and the manifest --------------------------------------------------------------------


def plan_shards(
    samples: Sequence[tuple[SampleJob, tuple[Member, ...]]],
    out: str | Path,
    settings: ShardSettings,
) -> list[ShardPlan]:
    """Fill one shard after the other, each up to its size."""
    groups: list[list[SampleFiles]] = []
    size = 0
    for job, members in samples:
        sample = SampleFiles(job.key, members, job.texts)
        if not groups or size + sample.num_bytes > settings.shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(sample)
        size += sample.num_bytes
    names = (f"{settings.prefix}-{number:06}.tar" for number in range(len(groups)))
    return [
        ShardPlan(join_path(out, name), group) for name, group in zip(names, groups, strict=True)
    ]


def _prepare_folder(out: str | Path) -> None:
    """Make the folder, and remove what killed runs left in it.

    Raises:
        OSError: it cannot be written, as one of a web server.
    """
    check_storable(out)
    if not is_url(out):
        Path(out).mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(Path(out))


def _copies_folder(out: str | Path, settings: ShardSettings) -> Path:
    """Where the smaller copies of videos wait for their shard, on this machine.

    Raises:
        ValueError: the shards are at a URL, and there is no home folder.
    """
    if not is_url(out):
        return Path(out, f".{settings.prefix}.resized")
    folder = files.cache_folder()
    if folder is None:
        raise ValueError("copies of videos need a folder; name one with PADDLEVIDEO_HOME")
    return folder / "resized" / text_digest([str(out), settings.prefix])


def _write_manifest(
    file: str,
    origin: str,
    settings: ShardSettings,
    plans: Sequence[ShardPlan],
    complete: bool,
    replaced: Sequence[str] = (),
    failed: Sequence[tuple[str, str]] = (),
) -> None:
    """Write what the shards are made of: settings, names, numbers of samples.

    Args:
        replaced: names of earlier shards, which are removed when the new ones are complete.
        failed: (source, reason) of videos that could not be resized, which only this run has tried.
    """
    content = {
        "complete": complete,
        "origin": origin,
        "settings": asdict(settings),
        "num_samples": sum(len(plan.samples) for plan in plans),
        "shards": {path_name(plan.path): len(plan.samples) for plan in plans},
        **({"replaced": sorted(replaced)} if replaced else {}),
        **({"failed": failed} if failed else {}),
    }
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_manifest(file: str) -> dict[str, Any]:
    """The manifest of an earlier run; empty where there is none."""
    try:
        content = json.loads(read_bytes(file))
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("shards"), dict):
        raise ValueError(
            f"{shown(file)}: not a manifest of shards; remove it, or choose another folder"
        )
    return content


def _kept(earlier: dict[str, Any], origin: str, out: str | Path) -> int | None:
    """The number of shards of an earlier run that has made all of them; None if it has not."""
    if not earlier.get("complete") or earlier.get("origin") != origin:
        return None
    names = list(earlier["shards"])
    paths = [join_path(out, name) for name in names]
    are_there = all(is_file(path) and read_index(path) for path in paths)
    return len(names) if are_there else None


def _check_others(
    out: str | Path,
    settings: ShardSettings,
    plans: Sequence[ShardPlan],
    earlier: dict[str, Any],
    origin: str,
    overwrite: bool,
) -> None:
    """
    Raises:
        ValueError: the folder has shards of this name that were made of other files or with other
            labels or settings, and they may not be replaced.
    """
    if overwrite or earlier.get("origin") == origin:
        return
    names = names_below(str(out)) if is_url(out) else os.listdir(out)
    there = sorted(fnmatch.filter(names, f"{settings.prefix}-[0-9]*.tar"))
    if there:
        raise ValueError(
            f"{join_path(out, there[0])}: {len(there)} shard(s) of this name were made of other "
            "files or with other labels or settings; choose another folder or --prefix, or use "
            "--overwrite"
        )


def _remove_extra(out: str | Path, names: Sequence[str], plans: Sequence[ShardPlan]) -> None:
    """Remove earlier shards with these names, unless the plans have made them again."""
    current = {path_name(plan.path) for plan in plans}
    for name in names:
        if name not in current and Path(name).name == name and name.endswith(".tar"):
            remove(join_path(out, name))
            remove(index_name(join_path(out, name)))


# --- failures -------------------------------------------------------------------------------------


def _report_file(out: str | Path, settings: ShardSettings) -> str:
    return join_path(out, f"failures.{settings.prefix}.tsv")


def _report(
    failed: list[tuple[str, str]], out: str | Path, settings: ShardSettings
) -> list[tuple[str, str]]:
    """Write the failures, or remove the file of earlier ones; returns them."""
    write_report(failed, _report_file(out, settings))
    return failed
