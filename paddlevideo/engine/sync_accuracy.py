"""How well a network knows which sound belongs to which pictures, on videos that it has not seen."""

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.failures import refuse
from paddlevideo.engine.build import build_model, load_records
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.evaluate import mean_scores, to_tensors, views_at_once
from paddlevideo.engine.loaders import eval_loader
from paddlevideo.engine.preflight import preflight
from paddlevideo.models import onednn
from paddlevideo.sample import Arrays
from paddlevideo.weights import load_into

COLUMNS = ("all", "of another class", "of the same class")


def sync_accuracy(
    cfg: Config, weights: str, split: str = "valid"
) -> tuple[dict[str, dict[str, float]], int]:
    """In how many cases the own sound of a clip is nearer to its pictures than the sound of another clip.

    Every clip is compared with every other one; chance is 0.5. Pictures hear nothing here, at any stage. A clip without sound
    does not count. Labels only say which pairs are of one class. Of videos with several views the embeddings are averaged.

    Args:
        weights: of a network that learns synchronisation (`.pdparams`, `.safetensors`, `.pdstate`).
        split: valid or test, whose list and pipeline are taken.

    Returns:
        {"s3": {"all": share, "of another class": share, "of the same class": share}, ...}, NaN where there are no such pairs,
        and the number of clips that count.

    Raises:
        ConfigError, DatasetError, WeightsError: what is missing or does not fit.
        DecodeError: a file cannot be decoded.
        ValueError: fewer than two clips with sound.
    """
    if dist.world_size() > 1:
        raise ConfigError(
            [
                "all clips are compared with one another, which takes one process; start it without a launcher"
            ]
        )
    arrays, class_names = read_model(weights)
    lists, classes = load_records(cfg, (split,), class_names)
    onednn.use(cfg.onednn)
    model = build_model(cfg, classes.num)
    stages = [f"s{n}" for n in getattr(getattr(model, "backbone", None), "avs_stages", ())]
    if not stages:
        raise ConfigError(
            [
                f"{cfg.origin.path}: this network has no embeddings of pictures and sound: MODEL.backbone.avs_stages"
            ]
        )
    preflight(cfg, model, (split,))
    log.logger.info(load_into(model, arrays, weights))
    model.eval()
    loader = eval_loader(cfg, split, lists[split].records, classes.num)
    pipeline, rows, labels = loader.dataset.pipeline, [], []

    def embed(clips: Arrays) -> np.ndarray:
        with paddle.no_grad():
            pairs, audible = model.embed(to_tensors(pipeline, clips))
            return paddle.concat(
                [*(x for pair in pairs.values() for x in pair), audible], axis=1
            ).numpy()

    try:
        for loaded in log.progress(loader.epoch(0), len(loader), split):
            refuse(loaded, "leave it out of the list")
            if loaded.batch:
                rows.append(
                    mean_scores(embed, pipeline.batch_specs, loaded.batch, views_at_once(cfg))
                )
                labels.append(loaded.batch["label"])
    finally:
        loader.close()
    table, known = np.concatenate(rows), np.concatenate(labels)
    counts = table[:, -1] == 1  # in all of its views
    if np.count_nonzero(counts) < 2:
        raise ValueError(
            f"DATASET.{split}: {np.count_nonzero(counts)} clips with sound; to compare takes at least two"
        )
    parts = np.split(table[counts, :-1], 2 * len(stages), axis=1)
    shares = {
        s: nearer(visual, sound, known[counts])
        for s, visual, sound in zip(stages, parts[::2], parts[1::2], strict=True)
    }
    return shares, int(np.count_nonzero(counts))


def nearer(visual: np.ndarray, sound: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Shares of pairs of clips (i, j) in which the pictures of i are nearer to their own sound than to that of j.

    Args:
        visual, sound: float [N, D], of length 1 or averages of such.
        labels: int [N].
    """
    visual, sound = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (visual, sound)
    )
    alike = visual @ sound.T
    own = np.diag(alike)[:, None]
    right = (own > alike) + 0.5 * (own == alike)
    other = ~np.eye(len(labels), dtype=bool)
    same = labels[:, None] == labels
    kinds = zip(COLUMNS, (other, other & ~same, other & same), strict=True)
    return {
        name: float(right[pairs].mean()) if pairs.any() else float("nan") for name, pairs in kinds
    }
