"""The index of a shard: where its samples are, so that any of them can be read at once.

It is the file `NAME.index.json` next to `NAME.tar`, written with the shard or when the shard is
first read. It belongs to a shard of one size and modification time. Where it cannot be written,
the shard is scanned again by the next run.

Of a shard at a URL, the index next to it is used if it is for its size. Without one, the result of
a scan is kept in the cache folder.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

from paddlevideo.data.lists import MAX_SHOWN, DatasetError
from paddlevideo.data.webdataset.samples import TarSample, read_samples
from paddlevideo.files import cache_folder
from paddlevideo.log import logger
from paddlevideo.media.tar_files import file_state
from paddlevideo.remote import (
    AccessError,
    RemoteError,
    atomic_file,
    is_url,
    read_bytes,
    shown,
    without_query,
)
from paddlevideo.sample import DecodeError

INDEX_VERSION = 1
NUM_THREADS = 8  # they mostly wait for the disk
ENDING = ".index.json"


def index_name(shard: str) -> str:
    """The file of a shard's index, with the query of a web address."""
    path = without_query(shard)
    return path.removesuffix(".tar") + ENDING + shard[len(path) :]


def stamp_of(shard: str) -> dict[str, Any]:
    """The state of a shard: its size (bytes) and modification time (ns), or the version of a remote
    one.

    Raises:
        OSError: it does not exist.
    """
    size, version = file_state(shard)
    return {"size": size, "mtime_ns": version}


def _cached_index(shard: str) -> Path | None:
    """Where the index of a remote shard is kept on this machine."""
    folder = cache_folder()
    name = hashlib.sha256(without_query(shard).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return folder / "shards" / f"{name}{ENDING}" if folder else None


def samples_of_shards(shards: Sequence[str]) -> list[list[TarSample]]:
    """The samples of each shard, from its index or by a scan, whose result becomes the index.

    Raises:
        DatasetError: files that do not exist or are no tar files; the message names all of them.
    """

    def samples_or_error(shard: str) -> list[TarSample] | DatasetError:
        try:
            return samples_of(shard)
        except DecodeError as error:
            return DatasetError(f"{shown(shard)}: {error}")

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(samples_or_error, shards))
    errors = [str(result) for result in results if isinstance(result, DatasetError)]
    if errors:
        rest = [f"... and {len(errors) - MAX_SHOWN} more"] if len(errors) > MAX_SHOWN else []
        raise DatasetError("\n".join(errors[:MAX_SHOWN] + rest))
    return [result for result in results if not isinstance(result, DatasetError)]


def samples_of(shard: str) -> list[TarSample]:
    """The samples of a shard; see `samples_of_shards`.

    Raises:
        DecodeError: it does not exist, or is no tar file.
    """
    index = read_index(shard)
    if index is None:
        stamp = None
        with contextlib.suppress(OSError):  # `read_samples` says that it does not exist
            stamp = stamp_of(shard)
        samples, problem = read_samples(shard)
        index = {"problem": problem, "samples": samples}
        try:
            if stamp == stamp_of(shard):  # else it is still being written
                write_index(shard, samples, problem)
        except OSError as error:
            logger.info("%s; the next run scans %s again", error.strerror or error, shown(shard))
    if index["problem"]:
        logger.warning("%s: %s", shown(shard), index["problem"])
    return index["samples"]


def write_index(
    shard: str,
    samples: Sequence[TarSample],
    problem: str = "",
    is_own: bool = False,
    **more: Any,
) -> None:
    """Write the index of a shard atomically.

    Args:
        is_own: whether this program has written the shard. The index of another one at a URL goes
            into the cache folder.
        more: further entries, which `read_index` returns.

    Raises:
        OSError: it cannot be written.
    """
    content = {"version": INDEX_VERSION, **stamp_of(shard), "problem": problem, **more}
    content["samples"] = [
        {name: value for name, value in vars(sample).items() if value} for sample in samples
    ]
    target = _cached_index(shard) if is_url(shard) and not is_own else index_name(shard)
    if target is None:
        return
    with atomic_file(target) as temporary:
        # Names that are not UTF-8 are kept by the escapes of ASCII.
        temporary.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="ascii")


def read_index(shard: str) -> dict[str, Any] | None:
    """The index of a shard with `samples` as objects; None if it is missing, damaged or outdated.

    A damaged one is reported in the log.
    """
    found = _read(shard, index_name(shard))
    if found is None and is_url(shard) and (cached := _cached_index(shard)):
        found = _read(shard, str(cached))
    return found


def _read(shard: str, name: str) -> dict[str, Any] | None:
    try:
        content = json.loads(read_bytes(name))
        if content["version"] != INDEX_VERSION:
            raise ValueError(f"version {content['version']}, expected {INDEX_VERSION}")
        stamp = stamp_of(shard)
        if is_url(name):
            del stamp["mtime_ns"]  # it was another one where the index was written
        if any(content[key] != value for key, value in stamp.items()):
            logger.info("%s: the shard is newer than its index; scanning it", shown(shard))
            return None
        if not isinstance(content["problem"], str):
            raise TypeError("problem is not a text")
        return {**content, "samples": [_sample(values) for values in content["samples"]]}
    except FileNotFoundError:
        return None
    except (RemoteError, AccessError) as error:
        # A signature may be that of the shard alone.
        if isinstance(error, AccessError) and name == without_query(name):
            raise
        logger.info("%s: the index cannot be read: %s", shown(name), error)
        return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        logger.warning(
            "%s: the index cannot be used and is written again (%s)", shown(name), reason
        )
        return None


FIELDS = {field.name for field in fields(TarSample)}


def _sample(values: dict[str, Any]) -> TarSample:
    """A sample as the index has it.

    Raises:
        ValueError, TypeError: it has other values.
    """
    if not values.keys() <= FIELDS:
        raise ValueError(f"unknown entries {sorted(values.keys() - FIELDS)}")
    sample = TarSample(**values)
    texts = (sample.key, sample.problem, sample.label_problem)
    if not all(isinstance(text, str) for text in texts) or not isinstance(sample.label, dict):
        raise TypeError("a sample has values of other types")
    sample.media = {str(kind): _numbers(value, 2) for kind, value in sample.media.items()}  # type: ignore[assignment]
    for name in ("frames", "features"):
        if getattr(sample, name) is not None:
            setattr(sample, name, _numbers(getattr(sample, name), 3))
    return sample


def _numbers(values: Any, count: int) -> tuple[int, ...]:
    numbers = tuple(values)
    if len(numbers) != count or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
        raise ValueError(f"{values} is not a place in a shard")
    return numbers
