"""What all ranks must have in common, compared before any work: config, code, data, and the state.

Each check exchanges short digests. Only where these differ, the ranks exchange what they are made
of, and every rank raises the same error, which names the rank, its machine, and the difference.
"""

import hashlib
import json
import os
import platform
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlevideo import __version__, dist, log
from paddlevideo.config.schema import Config
from paddlevideo.data.datasets import RecordList
from paddlevideo.engine.checkpoint import find_resume, read_progress
from paddlevideo.engine.runfile import versions
from paddlevideo.files import atomic_write
from paddlevideo.sample import Record
from paddlevideo.weights import WeightsError

# Keys that may differ between machines: where files are, and what only changes the speed.
LOCAL_KEYS = {
    *("_base_", "output_dir", "root", "file_path", "data_prefix", "class_names", "folder"),
    *("pretrained", "cache", "num_workers", "valid_num_workers", "test_num_workers", "prefetch"),
    *("use_gpu", "onednn", "views_per_step", "hang_minutes"),
    *("cache_dir", "cache_gb"),
}
MAX_SHOWN = 4  # ranks, and differences of a rank, in a message
BLOCKS = 64  # parts of a list that have digests of their own
MISSING = "not given"


class RanksDiffer(ValueError):
    """Ranks of one run have different configs, code, lists or states."""


# --- config and code ------------------------------------------------------------------------------


def check_ranks(cfg: Config, flags: Mapping[str, Any]) -> None:
    """Check that all ranks have the same config, flags and code.

    Args:
        flags: values of the flags of the command, by name.

    Raises:
        RanksDiffer: on every rank.
    """
    if dist.world_size() == 1:
        return
    config = {**flat(cfg.origin.data), **{f"flag {k}": _text(v) for k, v in flags.items()}}
    _compare(config, "config", "give all ranks the same config and flags")
    code = {"version": __version__, **source_digests()}
    _compare(code, "code", "install the same version of paddlevideo on all machines")
    every = dist.gather((platform.node(), versions()))
    if any(other[1] != every[0][1] for other in every):
        log.logger.warning(differences(every, "versions of packages"))


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of a config by key, as `DATASET.batch_size`; without those of one machine."""
    found: dict[str, str] = {}
    for key, value in data.items():
        if key in LOCAL_KEYS:
            continue
        items = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(items, dict) and items:
            found |= flat({str(k): v for k, v in items.items()}, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _text(value)
    return found


def source_digests() -> dict[str, str]:
    """A digest of each source file of the package, by its path in the package."""
    folder = Path(__file__).resolve().parents[1]
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".yaml")]
    return {
        path.relative_to(folder).as_posix(): f"{zlib.crc32(path.read_bytes()):08x}"
        for path in files
    }


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _compare(values: Mapping[str, str], what: str, fix: str) -> None:
    """Compare `values` of all ranks with those of rank 0.

    Raises:
        RanksDiffer: on every rank.
    """
    digest = hashlib.sha256(_text(values).encode()).hexdigest()
    if len(set(dist.gather(digest))) == 1:
        return
    every = dist.gather((platform.node(), dict(values)))
    raise RanksDiffer(f"{differences(every, what)}; {fix}")


def differences(every: Sequence[tuple[str, Mapping[str, str]]], what: str) -> str:
    """How ranks differ from rank 0, as text.

    Args:
        every: (machine, values by name) of each rank.
    """
    (host, first), parts = every[0], []
    for rank, (machine, values) in enumerate(every):
        names = [n for n in {**first, **values} if first.get(n) != values.get(n)]
        if not names:
            continue
        shown = [
            f"{name} is {values.get(name, MISSING)} (rank 0: {first.get(name, MISSING)})"
            for name in names[:MAX_SHOWN]
        ]
        more = [f"{len(names) - MAX_SHOWN} more"] if len(names) > MAX_SHOWN else []
        parts.append(f"rank {rank} on {machine}: {', '.join(shown + more)}")
    more = [f"and {len(parts) - MAX_SHOWN} more ranks"] if len(parts) > MAX_SHOWN else []
    text = "; ".join(parts[:MAX_SHOWN] + more)
    return f"the {what} differs from that of rank 0 on {host}: {text}"


# --- data -----------------------------------------------------------------------------------------


def check_lists(cfg: Config, lists: Mapping[str, RecordList]) -> None:
    """Check that all ranks have the same records in the same order; their folders may differ.

    Raises:
        RanksDiffer: on every rank.
    """
    if dist.world_size() == 1:
        return
    for split, part in lists.items():
        names = {str(i): name for i, name in enumerate(part.class_names or ())}
        _compare(names, f"class names of DATASET.{split}", "give all ranks the same names")
        _check_records(split, _location(cfg, split), part.records)


def _check_records(split: str, location: str, records: Sequence[Record]) -> None:
    blocks = block_digests(records)
    every = dist.gather((platform.node(), location, len(records), blocks))
    if all(facts[2:] == every[0][2:] for facts in every):
        return
    parts = [
        f"rank {rank} on {machine} has {count} records in {path}"
        for rank, (machine, path, count, digests) in enumerate(every)
        if rank == 0 or (count, digests) != every[0][2:]
    ]
    text = f"DATASET.{split} differs between ranks: {'; '.join(parts[: MAX_SHOWN + 1])}"
    if len({facts[2] for facts in every}) == 1:
        pairs = zip(*(facts[3] for facts in every), strict=True)
        block = next(i for i, digests in enumerate(pairs) if len(set(digests)) > 1)
        rows = dist.gather(_rows(records, block))
        number = next(i for i, row in enumerate(zip(*rows, strict=True)) if len(set(row)) > 1)
        other = next(i for i, row in enumerate(rows) if row[number] != rows[0][number])
        text += (
            f"; the first difference is record {_starts(len(records))[block] + number + 1}: "
            f"{rows[other][number]} on rank {other}, {rows[0][number]} on rank 0"
        )
    raise RanksDiffer(f"{text}; give all machines the same list")


def block_digests(records: Sequence[Record]) -> list[int]:
    """A digest of each of up to 64 parts of the records."""
    return [zlib.crc32("\n".join(_rows(records, i)).encode()) for i in range(BLOCKS)]


def _starts(count: int) -> list[int]:
    return [count * i // BLOCKS for i in range(BLOCKS + 1)]


def _rows(records: Sequence[Record], block: int) -> list[str]:
    """The records of a part as text; of shards, whose records are made on demand, only the first.

    A path contributes its last two names, because the folders above may differ between machines.
    """
    begin, end = _starts(len(records))[block : block + 2]
    end = end if isinstance(records, list) else min(end, begin + 1)
    return [record_text(records[number]) for number in range(begin, end)]


def record_text(record: Record) -> str:
    """What a record is, on any machine."""
    label = record.label if record.labels is None else record.labels
    name = "/".join(record.path.replace(os.sep, "/").split("/")[-2:])
    part = (record.start_sec, record.end_sec, record.num_frames, record.offset)
    known = [str(value) for value in part if value is not None]
    return " ".join([name, f"label {label}", *known])


def _location(cfg: Config, split: str) -> str:
    component = getattr(cfg.DATASET, split)
    return str((component and component.args.get("file_path")) or cfg.DATASET.root)


# --- the state ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundState:
    """The state that a rank found: how far it is, and its digest."""

    epoch: int
    step: int
    digest: str


def common_state(folder: Path, model_name: str, resume: str | None) -> str | None:
    """`resume` for this rank, so that all ranks go on from the state that rank 0 finds.

    Machines without a shared disk have states of different age, or none, because only rank 0 writes
    them. A rank that lacks rank 0's state receives it into its own output folder.

    Raises:
        WeightsError: rank 0 lacks the state, on every rank.
    """
    if not resume or dist.world_size() == 1:
        return resume
    path, problem = None, ""
    try:
        path = find_resume(folder, model_name, resume)
    except WeightsError as error:
        problem = str(error)
    every = dist.gather((platform.node(), _found(path) if path else None, problem, str(folder)))
    host, state, problem, _ = every[0]
    if state is None:
        if problem or any(facts[1] for facts in every):
            raise WeightsError(problem or _only_elsewhere(every))
        return resume
    lacking = [rank for rank, facts in enumerate(every) if facts[1] != state]
    if not lacking:
        return resume
    content = dist.broadcast_bytes(path.read_bytes() if path else b"", source=0)
    if dist.rank() not in lacking:
        return resume
    with atomic_write(folder / f"{model_name}_latest.pdstate") as temporary:
        temporary.write_bytes(content)
    log.logger.warning(
        f"{folder} on {platform.node()} did not have the state of rank 0 on {host} ({state.epoch} "
        f"epochs and {state.step} steps): received {len(content) / 1e6:.1f} MB"
    )
    return "auto"


def _only_elsewhere(every: Sequence[tuple[str, FoundState | None, str, str]]) -> str:
    rank, (host, state, _, folder) = next((i, one) for i, one in enumerate(every) if one[1])
    assert state is not None
    return (
        f"rank 0 on {every[0][0]} has no state in {every[0][3]}, but rank {rank} on {host} has one "
        f"in {folder} ({state.epoch} epochs and {state.step} steps). Machines need a shared output "
        "folder; or start the machine that has the state with --rank=0, or copy the folder; to "
        "start from the beginning, remove that state"
    )


def _found(path: Path) -> FoundState:
    epoch, step = read_progress(path)
    return FoundState(epoch, step, hashlib.sha256(path.read_bytes()).hexdigest())
