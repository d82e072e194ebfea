"""Features of the training clips by a frozen network, computed once and kept on disk.

They are kept in `<output_dir>/<model_name>_features.safetensors`. A row belongs to a network (all
its weights but the classifier), a pipeline and a file (path, size, time of change), so a change of
any of them computes it again. A run that was killed goes on where it was: each clip goes through
the network alone, so its features do not depend on what is computed with it.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.failures import refuse
from paddlevideo.data.loader import ClipDataset
from paddlevideo.data.orders import ChosenOrder
from paddlevideo.engine import amp
from paddlevideo.engine.build import build_pipeline
from paddlevideo.engine.evaluate import mean_scores, to_tensors, views_at_once
from paddlevideo.engine.loaders import fitted_loader, on_error, remote_cache
from paddlevideo.log import logger
from paddlevideo.media.tar_files import file_state
from paddlevideo.models.base import Recognizer
from paddlevideo.remote import absolute_path
from paddlevideo.sample import Arrays, BatchShape, Record
from paddlevideo.weights import WeightsError, read_arrays, state_arrays, write_arrays

MAX_BYTES = 2 << 30  # of all features
SAVE_SECONDS = 15.0
DIGEST_BYTES = 16


class FeatureFile:
    """Rows of features by a digest of what they were computed from.

    Args:
        path: the file; one that is damaged is replaced.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[bytes, np.ndarray] = {}
        self._saved = time.monotonic()
        if not path.exists():
            return
        try:
            arrays = read_arrays(path)
            digests, features = arrays["digests"], arrays["features"]
            pairs = zip(digests, features, strict=True)
            self.rows = {digest.tobytes(): row for digest, row in pairs}
        except (WeightsError, KeyError, ValueError) as error:
            logger.warning(f"{path}: computing the features again: {error}")

    def put(self, digest: bytes, row: np.ndarray) -> None:
        """Keep a row, and write the file if that was not done for a while."""
        self.rows[digest] = row
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save(list(self.rows))

    def save(self, digests: Sequence[bytes]) -> None:
        """Write these rows and no others."""
        if digests:
            names = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
            features = np.stack([self.rows[digest] for digest in digests])
            write_arrays(self.path, {"digests": names, "features": features})
        self._saved = time.monotonic()


def features_of(
    cfg: Config, model: Recognizer, records: Sequence[Record], chosen: Sequence[int]
) -> tuple[np.ndarray, list[int]]:
    """Features of the clips of some records: those of PIPELINE.valid, then of PIPELINE.train.

    Args:
        chosen: indices of the records.

    Returns:
        float32 [FROZEN.views, n, D], and the indices of the n records of which all views could be
        decoded. The same on all ranks, which share the work.

    Raises:
        ConfigError: there is no PIPELINE.valid, or the features would take too much memory.
        DecodeError: a file failed, and `on_error: fail` is set.
    """
    assert cfg.FROZEN is not None
    size = model.state_dict()[f"{model.linear_layer}.weight"].shape[0]
    views = cfg.FROZEN.views
    num_bytes = 4 * len(chosen) * views * size
    if num_bytes > MAX_BYTES:
        raise ConfigError([
            f"{cfg.origin.path}: FROZEN: {len(chosen)} clips x {views} views x {size} features are "
            f"{num_bytes / 2**30:.1f} GiB, at most {MAX_BYTES >> 30} are kept; use fewer views, or "
            "fine-tune without FROZEN"
        ])  # fmt: skip
    suffix = f"_rank{dist.rank()}" if dist.rank() else ""
    file = FeatureFile(Path(cfg.folder) / f"{cfg.model_name}_features{suffix}.safetensors")
    own = list(chosen)[dist.rank() :: dist.world_size()]
    begin, used, found, num_new = time.perf_counter(), [], [], 0
    for view in range(views):
        key = network_key(cfg, model, view)
        digests = {index: digest_of(key, records[index], index, view) for index in own}
        missing = [index for index in own if digests[index] not in file.rows]
        num_new += len(missing)
        _compute(cfg, model, records, missing, view, file, digests)
        found.append({i: file.rows[d] for i, d in digests.items() if d in file.rows})
        used += [digests[index] for index in found[-1]]
    file.save(used)
    by_view = [
        {k: v for part in parts for k, v in part.items()} for parts in map(dist.gather, found)
    ]
    kept = [index for index in chosen if all(index in rows for rows in by_view)]
    total = len(own) * views
    logger.info(
        f"features of {len(kept)} clips x {views} view(s), {size} numbers each, in "
        f"{time.perf_counter() - begin:.1f} s; {total - num_new} of {total} were in {file.path}"
    )
    if not kept:
        return np.zeros((views, 0, size), np.float32), []
    return np.stack([np.stack([rows[index] for index in kept]) for rows in by_view]), kept


def _compute(
    cfg: Config,
    model: Recognizer,
    records: Sequence[Record],
    missing: Sequence[int],
    view: int,
    file: FeatureFile,
    digests: dict[int, bytes],
) -> None:
    """Compute the features of some records, and put them into the file."""
    if not missing:
        return
    pipeline = build_pipeline(cfg, split_of(view))
    dataset = ClipDataset(
        records, pipeline, cfg.seed, num_classes=model.num_classes, cache=remote_cache(cfg)
    )
    order = ChosenOrder(len(records), 1, indices=tuple(missing))
    data = cfg.DATASET
    loader = fitted_loader(dataset, order, data.num_workers, data.prefetch, [BatchShape(1)])
    strict = on_error(cfg, "train", "replace", ("replace", "fail")) == "fail"
    model.eval()

    def run(arrays: Arrays) -> np.ndarray:
        with paddle.no_grad():
            return model.clip_features(to_tensors(pipeline, arrays)).numpy()

    try:
        for loaded in log.progress(
            loader.epoch(view), len(loader), "features", show=dist.is_main()
        ):
            if strict:
                refuse(loaded, "on_error: replace")
            for failure in loaded.failures:
                logger.warning(f"left out: {failure}")
            if loaded.batch:
                views = views_at_once(cfg)
                row = mean_scores(run, pipeline.batch_specs, loaded.batch, views)[0]
                file.put(digests[int(loaded.batch["index"][0])], row.astype(np.float32))
    finally:
        loader.close()


def split_of(view: int) -> str:
    """The section of PIPELINE that a view comes from; random clips differ by their number."""
    return "valid" if view == 0 else "train"


def network_key(cfg: Config, model: Recognizer, view: int) -> str:
    """What the features depend on besides the file: network, pipeline, the way of computing."""
    data = cfg.origin.data
    digest = hashlib.sha256()
    for name, array in sorted(state_arrays(model).items()):
        if not name.startswith(f"{model.linear_layer}."):
            digest.update(f"{name} {array.shape} {array.dtype} ".encode())
            digest.update(array.tobytes())
    split = split_of(view)
    settings = [data["MODEL"], data["PIPELINE"][split], cfg.onednn, amp.on_gpu()]
    if view:
        settings += [cfg.seed]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def digest_of(key: str, record: Record, index: int, view: int) -> bytes:
    """The digest of a row: the network, the file and the part of it, and the random numbers."""
    identity: tuple[Any, ...] = (-1, -1)  # decoding will report that there is no file
    with contextlib.suppress(OSError):
        identity = file_state(record.path)
    part = (record.start_sec, record.end_sec, record.num_frames, record.frame_pattern)
    draw = (view, index) if view else ()
    text = repr((key, absolute_path(record.path), identity, part, record.offset, draw))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:DIGEST_BYTES]
