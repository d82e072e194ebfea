"""Audio-visual synchronization: how often a clip's own audio is closer to it than other audio."""

import numpy as np
import paddle

from paddlevideo import dist, log
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.data.failures import refuse
from paddlevideo.data.loader import Loader
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.classes import load_records
from paddlevideo.engine.evaluate import mean_scores, to_tensors, views_at_once
from paddlevideo.engine.loaders import eval_loader
from paddlevideo.engine.preflight import preflight
from paddlevideo.models import onednn
from paddlevideo.models.base import Recognizer
from paddlevideo.sample import Arrays
from paddlevideo.weights import load_into

COLUMNS = ("all", "of another class", "of the same class")


def sync_accuracy(
    cfg: Config, weights: str, split: str = "valid"
) -> tuple[dict[str, dict[str, float]], int]:
    """Share of clip pairs in which the visual embedding is closer to its own audio embedding.

    Every clip is compared with every other clip; chance is 0.5. No audio is added to the visual
    pathways. Clips without audio do not count. Labels only tell which pairs have the same class.
    Embeddings are averaged over the views of a video.

    Args:
        weights: of a model with synchronization embeddings (`.pdparams`, `.safetensors`,
            `.pdstate`).
        split: valid or test, whose list and pipeline are used.

    Returns:
        {"s3": {"all": share, "of another class": share, "of the same class": share}, ...}, NaN
        without such pairs, and the number of clips that count.

    Raises:
        ConfigError, DatasetError, WeightsError: what is missing or does not fit.
        DecodeError: a file cannot be decoded.
        ValueError: fewer than two clips with audio.
    """
    if dist.world_size() > 1:
        raise ConfigError([
            "all clips are compared with one another in one process; start it without a launcher"
        ])  # fmt: skip
    arrays, class_names = read_model(weights)
    lists, classes = load_records(cfg, (split,), class_names)
    model = build_model(cfg, classes.num)
    stages = model.sync_stages
    if not stages:
        raise ConfigError([
            f"{cfg.origin.path}: this model has no audio-visual embeddings: "
            "MODEL.backbone.avs_stages"
        ])  # fmt: skip
    preflight(cfg, model, (split,))
    log.logger.info(load_into(model, arrays, weights))
    loader = eval_loader(cfg, split, lists[split].records, classes.num)
    try:
        embeddings, labels = embed_all(cfg, model, loader, split)
    finally:
        loader.close()
    has_audio = embeddings[:, -1] == 1  # in all views
    count = int(np.count_nonzero(has_audio))
    if count < 2:
        raise ValueError(f"DATASET.{split}: {count} clips with audio; at least two are needed")
    parts = np.split(embeddings[has_audio, :-1], 2 * len(stages), axis=1)
    pairs = zip(stages, parts[::2], parts[1::2], strict=True)
    return {
        stage: closer(visual, audio, labels[has_audio]) for stage, visual, audio in pairs
    }, count


def embed_all(
    cfg: Config, model: Recognizer, loader: Loader, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings of all stages and whether there is audio, float64 [N, D + 1]; labels [N])."""
    pipeline, rows, labels = loader.dataset.pipeline, [], []

    def embed(clips: Arrays) -> np.ndarray:
        with paddle.no_grad():
            pairs, has_audio = model.embed(to_tensors(pipeline, clips))
            columns = [tensor for pair in pairs.values() for tensor in pair]
            return paddle.concat([*columns, has_audio], axis=1).numpy()

    model.eval()
    with onednn.use(cfg.onednn):
        for loaded in log.progress(loader.epoch(0), len(loader), label):
            refuse(loaded, f"DATASET.{label}.file_path to a list without it")
            if loaded.batch:
                views = views_at_once(cfg)
                rows.append(mean_scores(embed, pipeline.batch_specs, loaded.batch, views))
                labels.append(loaded.batch["label"])
    return np.concatenate(rows), np.concatenate(labels)


def closer(visual: np.ndarray, audio: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Shares of pairs (i, j) in which visual i is closer to audio i than to audio j.

    Args:
        visual, audio: float [N, D], of length 1 or averages of such.
        labels: int [N].

    Returns:
        {column: share}, for the pairs that `COLUMNS` names; ties count half.
    """
    visual, audio = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (visual, audio)
    )
    similarity = visual @ audio.T
    own = np.diag(similarity)[:, None]
    right = (own > similarity) + 0.5 * (own == similarity)
    other = ~np.eye(len(labels), dtype=bool)
    same_class = labels[:, None] == labels
    selections = (other, other & ~same_class, other & same_class)
    return {
        name: float(right[pairs].mean()) if pairs.any() else float("nan")
        for name, pairs in zip(COLUMNS, selections, strict=True)
    }
