"""The length of a run and its schedule: which follows which, and what is reported."""

import re

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.describe import describe
from paddlevideo.engine.phases import phases_of
from paddlevideo.engine.schedule import schedule_notes

PIECEWISE = "{name: PiecewiseDecay, boundaries: [40, 80], values: [3, 2, 1]}"
SHIPPED = {
    "configs/finetune/pptsn.yaml": "max_epoch",
    "configs/finetune/slowfast.yaml": "max_epoch",
    "configs/demo/pptsn.yaml": "max_epoch",
    "configs/demo/avslowfast_probe.yaml": "max_epoch",
    "configs/recognition/pptsn/pptsn_k400_frames.yaml": "max_epoch",
    "configs/recognition/slowfast/slowfast.yaml": "max_epoch",
    "configs/recognition/audio/tsn_r18_64x1x1_100e_kinetics400_audio_feature.yaml": "T_max",
}


def rule_of(cfg):
    return cfg.OPTIMIZER.make().learning_rate


def notes(cfg, validate=True):
    schedule = rule_of(cfg)
    return schedule_notes(cfg, phases_of(cfg, schedule, None, False)[0], schedule, validate)


@pytest.mark.parametrize("path", SHIPPED)
def test_shipped_schedules_decay_over_the_epochs(root, monkeypatch, path):
    monkeypatch.chdir(root)
    for epochs in (40, 60):  # longer than every warm-up
        cfg = load_config(path, [f"epochs={epochs}"])
        rule = rule_of(cfg)
        assert rule.lengths == {SHIPPED[path]: epochs} and rule(epochs) < 1e-9
        assert not [note for note in notes(cfg) if SHIPPED[path] in note]
    assert rule_of(load_config(path)).lengths == {SHIPPED[path]: load_config(path).epochs}


def test_a_length_that_is_given_is_kept_and_reported(small):
    cfg = small("epochs=5", "OPTIMIZER.learning_rate.max_epoch=2", "val_interval=2")
    (note,) = notes(cfg)
    assert note.startswith(f"epochs is 5 and {cfg.origin.path}:")
    assert (
        "OPTIMIZER.learning_rate.max_epoch is 2: the last 3 epochs have the rate of its end" in note
    )
    # In one file, both values are meant as they are; 2 and 3 disagree.
    (note,) = notes(small())
    assert "epochs is 2 and " in note and "max_epoch is 3: the run ends before the schedule" in note
    assert rule_of(small("epochs=7")).lengths == {"max_epoch": 3}, "they differed before"
    assert note in describe(small())


def test_a_length_follows_where_a_file_on_top_changes_the_epochs(tmp_path, small):
    base = small("epochs=3").origin.path
    (tmp_path / "base.yaml").write_text(f"_base_: {base}\nepochs: 3\n", encoding="utf-8")
    (tmp_path / "top.yaml").write_text("_base_: base.yaml\nepochs: 9\n", encoding="utf-8")
    assert rule_of(load_config(tmp_path / "base.yaml")).max_epoch == 3
    assert rule_of(load_config(tmp_path / "top.yaml")).max_epoch == 9
    cfg = load_config(tmp_path / "top.yaml", ["epochs=4"])
    assert rule_of(cfg).max_epoch == 4
    assert "max_epoch" not in cfg.origin.data["OPTIMIZER"]["learning_rate"]


def test_null_is_the_same_as_left_out(small):
    assert rule_of(small("OPTIMIZER.learning_rate.max_epoch=null")).max_epoch == 2
    steps = "{name: CustomWarmupPiecewiseDecay, warmup_start_lr: 0, warmup_epochs: 0, "
    steps += "step_base_lr: 1, lrs: [1, 0.1], steps: [0, 1], max_epoch: null}"
    assert rule_of(small(f"OPTIMIZER.learning_rate={steps}")).max_epoch is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["OPTIMIZER.learning_rate.warmup_epochs=34"],
            "warmup_epochs reaches to epoch 34: the run",
        ),
        (["OPTIMIZER.learning_rate.warmup_epochs=3"], "warmup_epochs reaches to epoch 3: the run"),
        (
            [f"OPTIMIZER.learning_rate={PIECEWISE}"],
            "boundaries reaches to epoch 80: the run ends before that",
        ),
        (["val_interval=10"], "val_interval is 10: only the last epoch is validated"),
        (["save_interval=4"], "save_interval is 4: only the first and the last epoch are saved"),
        (
            ["EARLY_STOPPING={patience: 3}"],
            r"with 3 validation\(s\), and EARLY_STOPPING.patience is 3: the run never stops early",
        ),
    ],
)
def test_what_a_run_does_not_reach_is_reported(small, overrides, message):
    found = notes(small("epochs=3", *overrides))
    assert len(found) == 1 and found[0].startswith("epochs is 3"), found
    assert re.search(message, found[0]), found


def test_intervals_that_fit_are_not_reported(small):
    assert notes(small("epochs=3", "val_interval=3", "save_interval=3")) == []
    assert notes(small("epochs=3", "val_interval=9"), validate=False) == []


def test_multigrid_follows_the_epochs(root, monkeypatch):
    monkeypatch.chdir(root)
    path = "configs/recognition/slowfast/slowfast_multigrid.yaml"
    changes = ["MULTIGRID.LONG_CYCLE=false", "MODEL.backbone.width_per_group=8", "epochs=40"]
    changes += ["MODEL.head.width_per_group=8"]
    steps = "OPTIMIZER.learning_rate.steps=[0, 20]"
    cfg = load_config(path, [*changes, steps, "OPTIMIZER.learning_rate.warmup_epochs=2"])
    phases, schedule = phases_of(cfg, rule_of(cfg), build_model(cfg, 400), True)
    assert phases[-1].end == 60 and schedule.steps == [0, 30]
    assert schedule_notes(cfg, phases, schedule, True) == []
    cfg = load_config(path, changes)
    with pytest.raises(ValueError, match=r"epochs is 40, but the last step .* begins at epoch"):
        phases_of(cfg, rule_of(cfg), build_model(cfg, 400), True)
    assert notes(cfg), "plain training goes on, and says so"


@pytest.mark.parametrize("size", [0, -8])
def test_a_reference_batch_has_clips(small, size):
    with pytest.raises(ConfigError, match=rf"reference_batch_size is {size}, expected at least 1"):
        small(f"OPTIMIZER.learning_rate.reference_batch_size={size}")
    assert (
        rule_of(small("OPTIMIZER.learning_rate.reference_batch_size=8")).reference_batch_size == 8
    )
