"""Frozen first: features on disk, the fitted classifier, its place in a run, and refusals."""

import json
import logging
import os
import re
from importlib.util import find_spec

import numpy as np
import paddle
import pytest

from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine import clip_features
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.classes import Classes, load_records
from paddlevideo.engine.clip_features import FeatureFile
from paddlevideo.engine.frozen import fit_head, groups_of
from paddlevideo.sample import DecodeError, Record
from tests.conftest import small_config

NAMES = ["blue sky", "green", "红色"]
FROZEN = {"folds": 3, "strengths": [0.01, 1.0]}


@pytest.fixture
def said(caplog):
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


@pytest.fixture
def frozen(small):
    """`frozen(*overrides)`: the small config with FROZEN and without epochs."""

    def make(*overrides, spec=FROZEN, **changes):
        return small("epochs=0", *overrides, FROZEN=spec, **changes)

    return make


def fit(cfg, **records):
    """(the model after a fit to the clips of a config, the content of frozen.json)."""
    lists, classes = load_records(cfg, ("train",))
    paddle.seed(3)
    model = build_model(cfg, classes.num)
    fit_head(cfg, model, records.get("records", lists["train"].records), classes)
    path = os.path.join(cfg.folder, "frozen.json")
    with open(path, encoding="utf-8") as file:
        return model, json.load(file)


def head(model):
    return model.state_dict()["head.fc.weight"].numpy()


# --- features -------------------------------------------------------------------------------------


def test_features_are_computed_once(frozen, said, monkeypatch):
    cfg = frozen()
    model, content = fit(cfg)
    assert "0 of 12 were in" in said() and content["clips"] == 12

    def fails(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(clip_features, "build_pipeline", fails)
    again, second = fit(cfg)
    assert "12 of 12 were in" in said()
    assert (head(again) == head(model)).all() and second["accuracy"] == content["accuracy"]


def reused(said):
    """How many features the last fit took from the file."""
    return int(re.findall(r"(\d+) of \d+ were in", said())[-1])


def test_what_features_depend_on_makes_new_ones(frozen, said):
    cfg = frozen()
    fit(cfg)
    for change in ("MODEL.head.drop_ratio=0.1", "PIPELINE.valid.sample.num_seg=3", "onednn=false"):
        fit(frozen(change))
        assert reused(said) == 0, change
    fit(cfg)
    assert reused(said) == 0, "the file has the features of the last fit only"
    records, classes = load_records(cfg, ("train",))[0]["train"].records, Classes(3, NAMES)
    path = records[0].path
    status = os.stat(path)
    try:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
        fit(cfg)
    finally:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reused(said) == 11
    fit(cfg)
    assert reused(said) == 11
    fit_head(cfg, build_model(cfg, classes.num), records, classes)  # other random weights
    assert reused(said) == 0
    fit(cfg)
    fit_head(cfg, fit(cfg)[0], records, classes)  # another classifier on the same network
    assert reused(said) == 12


def test_a_killed_run_goes_on_with_the_same_bits(frozen, tmp_path, monkeypatch, said):
    whole, _ = fit(frozen(f"output_dir={tmp_path / 'whole'}"))
    cfg = frozen()
    monkeypatch.setattr(clip_features, "SAVE_SECONDS", -1.0)
    put, count = FeatureFile.put, iter(range(100))

    def dies(self, digest, row):
        put(self, digest, row)
        if next(count) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureFile, "put", dies)
        with pytest.raises(KeyboardInterrupt):
            fit(cfg)
    resumed, _ = fit(cfg)
    assert "5 of 12 were in" in said()
    assert (head(resumed) == head(whole)).all()


@pytest.mark.parametrize("content", [b"", b"damaged", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_replaced(frozen, content, said):
    cfg = frozen()
    model, _ = fit(cfg)
    path = os.path.join(cfg.folder, "ppTSN_features.safetensors")
    with open(path, "wb") as file:
        file.write(content)
    again, _ = fit(cfg)
    assert "computing the features again" in said()
    assert (head(again) == head(model)).all()


def test_more_views_are_random_clips_of_the_training(frozen, said):
    cfg = frozen(spec={**FROZEN, "views": 3})
    model, _ = fit(cfg)
    assert "12 clips x 3 view(s)" in said() and "0 of 36 were in" in said()
    rows = np.stack(list(FeatureFile(clip_path(cfg)).rows.values()))
    assert len(np.unique(rows, axis=0)) == 36
    os.remove(clip_path(cfg))
    again, _ = fit(cfg)
    assert (head(again) == head(model)).all()
    fit(frozen("seed=7", spec={**FROZEN, "views": 3}))
    assert "12 of 36 were in" in said(), "the first view is not random"


def clip_path(cfg):
    return clip_features.Path(cfg.folder) / "ppTSN_features.safetensors"


def test_features_are_those_of_the_classifier(frozen):
    cfg = frozen()
    model, _ = fit(cfg)
    rows = np.stack(list(FeatureFile(clip_path(cfg)).rows.values()))
    assert rows.shape == (12, 64) and rows.dtype == np.float32
    lists, classes = load_records(cfg, ("train",))
    features, kept = clip_features.features_of(cfg, model, lists["train"].records, range(12))
    assert kept == list(range(12)) and (features[0] == rows).all()
    assert classes.num == 3


def test_a_broken_file_is_left_out_or_stops(frozen, tmp_path, said):
    cfg = frozen()
    records = load_records(cfg, ("train",))[0]["train"].records
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with_broken = [*records, Record(str(tmp_path / "broken.mp4"), 0)]
    _, content = fit(cfg, records=with_broken)
    assert content["clips"] == 12 and "left out: " in said() and "broken.mp4" in said()
    with pytest.raises(DecodeError, match=r"broken\.mp4"):
        fit(frozen("DATASET.train.on_error=fail"), records=with_broken)


# --- groups ---------------------------------------------------------------------------------------


def test_sources_of_the_list_stay_together(frozen, tmp_path, said):
    cfg = frozen()
    records = load_records(cfg, ("train",))[0]["train"].records
    lines = [f"{r.path},{NAMES[r.label or 0]},take {i % 4}\n" for i, r in enumerate(records)]
    table = tmp_path / "train.csv"
    table.write_text("path,label,source\n" + "".join(lines), encoding="utf-8")
    _, content = fit(frozen(f"DATASET.train.file_path={table}"))
    assert content["by_source"] and content["groups"] == 4
    assert "cross-validation over 4 sources" in said() and "names no sources" not in said()


def test_without_sources_each_clip_is_a_group(frozen, said):
    _, content = fit(frozen())
    assert not content["by_source"] and content["groups"] == 12
    assert "over 12 clips" in said() and "the accuracy may be too high" in said()


@pytest.mark.parametrize(
    ("sources", "by_source"),
    [(("a", "b", "a"), True), (("a", "a", "a"), False), (("a", None, "b"), False)],
)
def test_groups(sources, by_source):
    records = [Record(f"{i}.mp4", 0, source=source) for i, source in enumerate(sources)]
    groups = groups_of(records)
    assert groups.by_source == by_source and groups.count == (2 if by_source else 3)


def test_parts_of_one_file_are_different_clips():
    records = [Record("a.mp4", 0, start_sec=float(i), end_sec=i + 1.0) for i in range(3)]
    assert groups_of(records).count == 3


# --- a run ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_report")
def test_without_epochs_the_fit_is_the_best_model(frozen):
    cfg = frozen()
    state = train(cfg)
    assert state.finished and state.progress.epoch == 0 and state.progress.best is not None
    folder = clip_features.Path(cfg.folder)
    best, names = read_model(folder / "ppTSN_best.pdparams")
    assert names == NAMES and (best["head.fc.weight"] == head(state.model)).all()
    assert (folder / "ppTSN_epoch_00000.pdparams").exists()
    assert (folder / "report.html").exists() == bool(find_spec("matplotlib"))
    valid = json.loads((folder / "valid_best.json").read_text(encoding="utf-8"))
    assert valid["epoch"] == 0
    model, _ = fit(cfg)
    assert state.model.state_dict()["head.fc.weight"].shape == head(model).shape


def test_without_validation_the_fit_is_saved_too(frozen):
    cfg = frozen()
    train(cfg, validate=False)
    assert (clip_features.Path(cfg.folder) / "ppTSN_epoch_00000.pdparams").exists()


def test_the_fit_stays_the_best_until_an_epoch_is_better(small):
    rate = "OPTIMIZER.learning_rate.{}=1e-30"
    overrides = [rate.format(key) for key in ("warmup_start_lr", "cosine_base_lr")]
    frozen_all = "FINETUNE.freeze=[stem, stage1, stage2, stage3, stage4]"
    cfg = small(*overrides, frozen_all, "max_iters=1", FROZEN=FROZEN)
    state = train(cfg)
    assert state.progress.epoch == 2 and state.progress.stale == 2
    valid = clip_features.Path(cfg.folder) / "valid_best.json"
    assert json.loads(valid.read_text(encoding="utf-8"))["epoch"] == 0


def test_a_resumed_run_equals_one_without_interruption(small, clips, tmp_path):
    def run(folder, epochs, resume=None):
        overrides = [f"output_dir={tmp_path / folder}", f"epochs={epochs}", "max_iters=2"]
        path = small_config(clips, tmp_path, FROZEN=FROZEN)
        return train(load_config(path, overrides), resume=resume)

    whole = run("whole", 1)
    run("parts", 0)
    parts = run("parts", 1, resume="auto")
    assert (head(parts.model) == head(whole.model)).all()
    assert parts.progress.best == whole.progress.best
    rows = [
        (tmp_path / folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        for folder in ("whole", "parts")
    ]
    keys = [[(json.loads(r)["split"], json.loads(r)["epoch"]) for r in part] for part in rows]
    assert keys[0] == keys[1]


# --- refusals -------------------------------------------------------------------------------------


def test_zero_epochs_need_the_section(small):
    with pytest.raises(ConfigError, match=r"epochs is 0, expected at least 1 \(0 only with"):
        small("epochs=0")
    with pytest.raises(ConfigError, match="epochs is -1, expected at least 0"):
        small("epochs=-1", FROZEN=FROZEN)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"folds": 1}, "FROZEN.folds is 1, expected at least 2"),
        ({"views": 0}, "FROZEN.views is 0, expected at least 1"),
        ({"fold": 3}, "FROZEN.fold is not known; did you mean 'folds'"),
    ],
)
def test_wrong_values(frozen, spec, message):
    with pytest.raises(ConfigError, match=message):
        frozen(spec=spec)


@pytest.mark.parametrize("strengths", [[], [0.0, 1.0], [-1.0]])
def test_wrong_strengths(frozen, strengths):
    cfg = frozen(spec={"strengths": strengths})
    with pytest.raises(ConfigError, match="expected numbers above 0"):
        fit(cfg)


def test_an_infinite_strength_is_no_number(frozen):
    with pytest.raises(ConfigError, match=r"FROZEN\.strengths\.0 is inf, expected float"):
        frozen(spec={"strengths": [float("inf")]})


def test_models_without_one_linear_layer_are_refused(frozen):
    backbone = {"name": "ResNetSlowFast", "width_per_group": 8}
    cfg = frozen(
        MODEL={
            "framework": "Recognizer3D",
            "backbone": backbone,
            "head": {"name": "SlowFastHead", "width_per_group": 8},
        }
    )
    with pytest.raises(ConfigError, match=r"one linear layer .* not Recognizer3D"):
        fit_head(cfg, build_model(cfg, 3), [], Classes(3, NAMES))


def test_multi_label_is_refused(frozen):
    cfg = frozen("DATASET.multi_label=true", "MIX=null")
    with pytest.raises(ConfigError, match="one class per video"):
        fit_head(cfg, build_model(cfg, 3), [], Classes(3, NAMES))


def test_clips_of_one_class_are_refused(frozen):
    cfg = frozen()
    records = [r for r in load_records(cfg, ("train",))[0]["train"].records if r.label == 1]
    with pytest.raises(ConfigError, match=r"clips of at least two classes; 4 clips of 1 are left"):
        fit(cfg, records=records)


def test_too_many_features_are_refused(frozen, monkeypatch):
    monkeypatch.setattr(clip_features, "MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match="use fewer views"):
        fit(frozen())
