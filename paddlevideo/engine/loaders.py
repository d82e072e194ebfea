"""The loaders of a run, fitted to batch sizes, workers and shared memory."""

from collections.abc import Sequence

from paddlevideo import dist, log
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.loader import ClipDataset, Loader, fit_prefetch
from paddlevideo.data.orders import EvalOrder
from paddlevideo.engine.build import build_pipeline
from paddlevideo.remote import CacheSettings
from paddlevideo.sample import BatchShape, Record


def remote_cache(cfg: Config) -> CacheSettings | None:
    """The cache of remote videos that a config names.

    Raises:
        ConfigError: its limit is too small.
    """
    data = cfg.DATASET
    if data.cache_dir is None:
        return None
    try:
        return CacheSettings(data.cache_dir, data.cache_gb)
    except ValueError as error:
        raise ConfigError([f"{cfg.origin.path}: DATASET.{error}"]) from error


def on_error(cfg: Config, split: str, default: str, allowed: tuple[str, ...]) -> str:
    """The policy of a split for files that cannot be decoded.

    Args:
        default: where the config leaves it out.
        allowed: policies of this split.

    Raises:
        ConfigError: another policy.
    """
    component = getattr(cfg.DATASET, split)
    policy = component.args.get("on_error") or default
    if policy not in allowed:
        raise ConfigError([
            f"{component.where}: DATASET.{split}.on_error is {policy!r}, "
            f"expected {' or '.join(allowed)} here"
        ])  # fmt: skip
    return policy


def eval_loader(cfg: Config, split: str, records: list[Record], num_classes: int) -> Loader:
    """The loader of `valid` or `test` for this rank."""
    data = cfg.DATASET
    batch = data.test_batch_size if split == "test" else data.valid_batch_size or data.batch_size
    workers = data.test_num_workers if split == "test" else data.valid_num_workers
    pipeline = build_pipeline(cfg, split)
    order = EvalOrder(len(records), batch, dist.rank(), dist.world_size())
    dataset = ClipDataset(
        records, pipeline, cfg.seed, num_classes=num_classes, cache=remote_cache(cfg)
    )
    return fitted_loader(
        dataset,
        order,
        data.num_workers if workers is None else workers,
        data.prefetch,
        [BatchShape(batch)],
    )


def fitted_loader(
    dataset: ClipDataset, order, num_workers: int, prefetch: int, batches: Sequence[BatchShape]
) -> Loader:
    """A loader whose batches fit into the shared memory.

    A warning says so where that needs fewer workers or prefetched batches.

    Args:
        batches: the shapes of all batches; the largest counts.
    """
    if num_workers:
        bytes_of = {
            clip: sum(a.nbytes for a in dataset.at(clip).synthetic().values())
            for _, clip in batches
        }
        largest = max(size * bytes_of[clip] for size, clip in batches)
        num_workers, prefetch, message = fit_prefetch(
            largest, num_workers, prefetch, dist.local_size()
        )
        if message:
            log.logger.warning(message)
    return Loader(dataset, order, num_workers, prefetch)
