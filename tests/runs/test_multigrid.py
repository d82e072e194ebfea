"""A complete multigrid run: batch shapes, exact resume in each phase, checkpoints."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import yaml

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine import train as train_module
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.phases import phases_of
from paddlevideo.weights import WeightsError, checksum
from tests.runs.test_ranks import finish, launch
from tests.runs.test_train import Killed, kill_at

pytestmark = pytest.mark.usefixtures("all_shallow")
OVERRIDES = [
    *(f"MODEL.{part}.width_per_group=8" for part in ("backbone", "head")),
    *(f"MODEL.{part}.{key}=2" for part in ("backbone", "head") for key in ("alpha", "beta")),
    "MODEL.head.num_frames=8",
    "MODEL.head.crop_size=32",
    "DATASET.batch_size=2",
    "DATASET.num_workers=0",
    "epochs=3",
    "log_interval=1",
    "save_interval=100",
    "OPTIMIZER.learning_rate.max_epoch=3",
    "OPTIMIZER.learning_rate.steps=[0, 2]",
    "OPTIMIZER.learning_rate.lrs=[1, 0.1]",
    "OPTIMIZER.learning_rate.step_base_lr=0.02",
    "OPTIMIZER.learning_rate.warmup_epochs=1",
    "OPTIMIZER.learning_rate.reference_batch_size=2",
    "MULTIGRID.bn_base_size=2",
    "MULTIGRID.long_cycle_factors=[[0.5, 0.75], [0.5, 1], [1, 1]]",
    "MULTIGRID.EVAL_FREQ=1",
    "MULTIGRID.epoch_factor=2.4",
    "PRECISEBN.num_iters_preciseBN=2",
]


@pytest.fixture(scope="module")
def tiny(root, clips, tmp_path_factory):
    """`tiny(folder, *overrides)`: the demo config with a network of 8 channels and 24 records."""
    data = tmp_path_factory.mktemp("lists")
    for split in ("train", "val", "test"):
        files = sorted((clips / split).rglob("*.mp4")) * (2 if split == "train" else 1)
        lines = "".join(f"{path} {number % 3}\n" for number, path in enumerate(files))
        (data / f"{split}.list").write_text(lines, encoding="utf-8")
    config = yaml.safe_load((root / "configs" / "demo" / "slowfast.yaml").read_text())
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        config["DATASET"][split]["file_path"] = str(data / f"{name}.list")
        config["PIPELINE"][split]["decode_sampler"] |= {"num_frames": 8, "sampling_rate": 1}
        config["PIPELINE"][split]["decode_sampler"].pop("num_ensemble_views", None)
        for transform in config["PIPELINE"][split]["transform"]:
            if isinstance(transform, str):
                continue
            ((name, arguments),) = transform.items()
            if name == "JitterScale":
                arguments |= {"min_size": 36, "max_size": 40 if split == "train" else 36}
            if split == "test":
                arguments.pop("num_spatial_crops", None)
            if name in ("MultiCrop", "PackOutput"):
                arguments |= {"target_size": 32} if name == "MultiCrop" else {"alpha": 2}

    def make(folder: Path, *overrides: str):
        path = data / f"{folder.name}.yaml"
        path.write_text(yaml.safe_dump({**config, "output_dir": str(folder)}), encoding="utf-8")
        return load_config(path, [*OVERRIDES, *overrides])

    return make


@pytest.fixture(scope="module")
def uninterrupted(all_shallow, tiny, tmp_path_factory):
    """A run without interruption: (its config, shape and norm splits of each batch)."""
    cfg, batches = tiny(tmp_path_factory.mktemp("uninterrupted")), []
    real_make_batch = train_module.make_batch

    def record_batch(run, *arguments):
        batch = real_make_batch(run, *arguments)
        clips, _, frames, height, width = batch["fast"].shape
        assert height == width
        norms = {layer.splits for layer in run.state.model.sublayers() if hasattr(layer, "splits")}
        batches.append(((frames, height, clips), norms))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "make_batch", record_batch)
        train(cfg, multigrid=True)
    return cfg, batches


def phases(cfg):
    model = build_model(cfg, 3)
    return phases_of(cfg, cfg.OPTIMIZER.make().learning_rate, model, True)[0]


def test_batches_follow_the_plan(uninterrupted):
    cfg, batches = uninterrupted
    plan = phases(cfg)
    assert {phase.num_frames for phase in plan} == {4, 8} and plan[-1].end == 7
    expected = []
    for phase in plan:
        shapes = [(phase.num_frames, step.crop_size, step.batch_size) for step in phase.cycle]
        for _ in range(phase.num_epochs):
            records_left, step = 24, 0
            while shapes[step % 3][2] <= records_left:
                expected.append((shapes[step % 3], {phase.bn_splits}))
                records_left, step = records_left - shapes[step % 3][2], step + 1
    assert batches == expected


def test_rates_validations_and_checkpoints_follow_the_plan(uninterrupted):
    cfg, batches = uninterrupted
    rows = [json.loads(line) for line in Path(cfg.folder, "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["split"] == "train"]
    assert [row["iteration"] for row in steps] == list(range(len(batches)))
    plan = phases(cfg)
    ends = {phase.end for phase in plan}
    validated = [row["epoch"] + 1 for row in rows if row["split"] == "valid"]
    assert validated == sorted(ends)
    # The rate grows with the batch, after a warm-up over the first epoch.
    rates = {row["epoch"]: row["lr"] for row in steps if row["epoch"] > 0}
    expected = {
        epoch: 0.02 * phase.lr_scale
        for phase in plan
        for epoch in rates
        if phase.first <= epoch < phase.end
    }
    assert rates == pytest.approx(expected)
    kept = sorted(path.name for path in Path(cfg.folder).glob("*_epoch_*.pdparams"))
    assert kept == [f"SlowFast_epoch_{epoch:05d}.pdparams" for epoch in sorted({1, *ends})]


@pytest.mark.parametrize(
    "step", [*(pytest.param(step, marks=pytest.mark.slow) for step in (2, 4, 6)), 8]
)
def test_killed_and_resumed_equals_uninterrupted(uninterrupted, tiny, tmp_path, monkeypatch, step):
    cfg, _ = uninterrupted
    num_workers = {4: 2, 8: 1}.get(step, 0)
    killed = tiny(tmp_path / "killed", f"DATASET.num_workers={num_workers}")
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Killed):
            train(killed, resume="auto", multigrid=True)
    train(killed, resume="auto", multigrid=True)
    states = [checksum(read_model(f"{c.folder}/SlowFast_latest.pdstate")[0]) for c in (killed, cfg)]
    assert states[0] == states[1]


def test_plain_and_multigrid_runs_exchange_weights(uninterrupted, tiny, tmp_path):
    cfg, _ = uninterrupted
    best = f"{cfg.folder}/SlowFast_best.pdparams"
    done = run_test(cfg, best, str(tmp_path / "scores.json"))
    assert done.numbers["num_samples"] == 7
    plain = tiny(tmp_path / "plain", "epochs=1", "max_iters=1")
    train(plain, weights=best, validate=False)
    weights = f"{plain.folder}/SlowFast_latest.pdstate"
    again = tiny(tmp_path / "again", "max_iters=1")
    train(again, weights=weights, validate=False, multigrid=True)


def test_rejects_resuming_with_another_plan(uninterrupted, tiny, tmp_path):
    cfg, _ = uninterrupted
    shutil.copytree(cfg.folder, tmp_path / "copy")
    for changed, multigrid in ((["MULTIGRID.SHORT_CYCLE=false"], True), ([], False)):
        with pytest.raises(WeightsError, match=r"multigrid plan .*Resume with the same settings"):
            train(tiny(tmp_path / "copy", *changed), resume="auto", multigrid=multigrid)


def test_plain_training_reports_an_unused_section(tiny, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    train(tiny(tmp_path / "plain", "epochs=1", "max_iters=1"), validate=False)
    assert "--multigrid would follow the MULTIGRID section" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["MULTIGRID=null"],
            r"--multigrid needs a MULTIGRID section.*slowfast_multigrid.yaml has one",
        ),
        (
            ["GRADIENT_ACCUMULATION.global_batch_size=8"],
            r"chooses batches .* itself; remove GRADIENT_ACCUMULATION",
        ),
        (
            ["DATASET.batch_size=5", "MULTIGRID.bn_base_size=3"],
            r"cannot be normalized in .* equal groups",
        ),
        (["MULTIGRID.long_cycle_factors=[[0.5, 0.71], [1, 1]]"], r"gives 23, an odd or empty size"),
        (["MULTIGRID.long_cycle_factors=[[0.125, 1], [1, 1]]"], r"is 1, expected a multiple of 2"),
        (
            ["PIPELINE.train.transform.5.PackOutput.alpha=4"],
            r"alpha is 2, the pipeline gives 8 fast and 2 slow frames",
        ),
        (
            ["DATASET.batch_size=4", "MULTIGRID.bn_base_size=4"],
            r"24 training records do not fill one batch of 32",
        ),
    ],
)
def test_rejects_a_plan_that_does_not_fit(tiny, tmp_path, overrides, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        train(tiny(tmp_path / "out", *overrides), validate=False, multigrid=True)


@pytest.mark.slow
def test_two_ranks_train_the_same_weights_again(tiny, tmp_path, root):
    folder = tmp_path / "ranks"
    cfg = tiny(folder, "DATASET.batch_size=1", "MULTIGRID.bn_base_size=1")
    saved = tmp_path / "ranks.yaml"
    saved.write_text(yaml.safe_dump(cfg.origin.data), encoding="utf-8")
    states = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        arguments = ["-c", str(saved), "-o", f"output_dir={folder}"]
        finish(launch(root, folder, 2, "--validate", "--multigrid", *arguments), folder)
        states.append(checksum(read_model(folder / "SlowFast_latest.pdstate")[0]))
    assert states[0] == states[1]
