"""A multigrid run as a whole: the shapes that arrive at the model, exact resume in each kind of phase, what is kept."""

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

OVERRIDES = [
    "MODEL.backbone.alpha=2", "MODEL.head.alpha=2", "MODEL.backbone.width_per_group=8", "MODEL.head.width_per_group=8",
    "MODEL.backbone.beta=2", "MODEL.head.beta=2", "MODEL.head.num_frames=8", "MODEL.head.crop_size=32",
    "DATASET.batch_size=2", "DATASET.num_workers=0", "epochs=3", "log_interval=1", "save_interval=100",
    "OPTIMIZER.learning_rate.max_epoch=3", "OPTIMIZER.learning_rate.steps=[0, 2]", "OPTIMIZER.learning_rate.lrs=[1, 0.1]",
    "OPTIMIZER.learning_rate.step_base_lr=0.02", "OPTIMIZER.learning_rate.warmup_epochs=1",
    "OPTIMIZER.learning_rate.reference_batch_size=2",
    "MULTIGRID.bn_base_size=2", "MULTIGRID.long_cycle_factors=[[0.5, 0.75], [0.5, 1], [1, 1]]", "MULTIGRID.EVAL_FREQ=1",
    "MULTIGRID.epoch_factor=2.4", "PRECISEBN.num_iters_preciseBN=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def tiny(root, clips, tmp_path_factory):
    """`tiny(folder, *overrides)` -> the demo's config for a network of 8 channels and 24 records of 8 frames."""
    data = tmp_path_factory.mktemp("lists")
    for split in ("train", "val", "test"):
        found = sorted((clips / split).rglob("*.mp4")) * (2 if split == "train" else 1)
        lines = "".join(f"{path} {number % 3}\n" for number, path in enumerate(found))
        (data / f"{split}.list").write_text(lines, encoding="utf-8")
    config = yaml.safe_load((root / "configs" / "demo" / "slowfast.yaml").read_text())
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        config["DATASET"][split]["file_path"] = str(data / f"{name}.list")
        config["PIPELINE"][split]["decode_sampler"] |= {"num_frames": 8, "sampling_rate": 1}
        for transform in config["PIPELINE"][split]["transform"]:
            name, arguments = (
                next(iter(transform.items())) if isinstance(transform, dict) else (transform, None)
            )
            if name == "JitterScale":
                arguments |= {"min_size": 36, "max_size": 40 if split == "train" else 36}
            if name in ("MultiCrop", "PackOutput"):
                arguments |= {"target_size": 32} if name == "MultiCrop" else {"alpha": 2}

    def make(folder: Path, *overrides: str):
        path = data / f"{folder.name}.yaml"
        path.write_text(yaml.safe_dump({**config, "output_dir": str(folder)}), encoding="utf-8")
        return load_config(path, [*OVERRIDES, *overrides])

    return make


@pytest.fixture(scope="module")
def straight(tiny, tmp_path_factory):
    """A run without interruption, what its model was given, and what it said."""
    cfg, given, real = tiny(tmp_path_factory.mktemp("straight")), [], train_module.make_batch

    def seeing(run, *arguments):
        batch = real(run, *arguments)
        clips, _, frames, height, width = batch["fast"].shape
        assert height == width
        norms = {layer.splits for layer in run.state.model.sublayers() if hasattr(layer, "splits")}
        given.append(((frames, height, clips), norms))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "make_batch", seeing)
        train(cfg, multigrid=True)
    return cfg, given


def phases(cfg):
    model = build_model(cfg, 3)
    return phases_of(cfg, cfg.OPTIMIZER.make().learning_rate, model, True)[0]


def test_the_model_is_given_the_plan(straight):
    cfg, given = straight
    found = phases(cfg)
    assert {p.num_frames for p in found} == {4, 8} and found[-1].end == 7
    expected = []
    for phase in found:
        shapes = [(phase.num_frames, step.crop_size, step.batch_size) for step in phase.cycle]
        for _ in range(phase.num_epochs):
            left, step = 24, 0
            while shapes[step % 3][2] <= left:
                expected.append((shapes[step % 3], {phase.bn_splits}))
                left, step = left - shapes[step % 3][2], step + 1
    assert given == expected


def test_numbers_of_a_run(straight):
    cfg, given = straight
    rows = [json.loads(line) for line in Path(cfg.folder, "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["split"] == "train"]
    assert [row["iteration"] for row in steps] == list(range(len(given)))
    found = phases(cfg)
    assert [row["epoch"] + 1 for row in rows if row["split"] == "valid"] == sorted(
        {p.end for p in found}
    )
    # The rate goes with the batch: four times and twice the plain one, after a warm-up over the first epoch.
    rates = {row["epoch"]: row["lr"] for row in steps if row["epoch"] > 0}
    plain = {
        epoch: next(p.lr_scale for p in found if p.first <= epoch < p.end) * 0.02 for epoch in rates
    }
    assert rates == pytest.approx(plain)
    kept = sorted(path.name for path in Path(cfg.folder).glob("*_epoch_*.pdparams"))
    assert kept == [
        f"SlowFast_epoch_{epoch:05d}.pdparams" for epoch in sorted({1, *(p.end for p in found)})
    ]


@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_killed_in_a_phase_and_resumed(straight, tiny, tmp_path, monkeypatch, step):
    cfg, _ = straight
    broken = tiny(
        tmp_path / "broken", "DATASET.num_workers=2" if step == 4 else "DATASET.num_workers=0"
    )
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Killed):
            train(broken, resume="auto", multigrid=True)
    train(broken, resume="auto", multigrid=True)
    states = [checksum(read_model(f"{c.folder}/SlowFast_latest.pdstate")[0]) for c in (broken, cfg)]
    assert states[0] == states[1]


def test_weights_go_both_ways_between_plain_and_multigrid(straight, tiny, tmp_path):
    cfg, _ = straight
    best = f"{cfg.folder}/SlowFast_best.pdparams"
    done = run_test(cfg, best, str(tmp_path / "scores.json"))
    assert done.numbers["num_samples"] == 7
    plain = tiny(tmp_path / "plain", "epochs=1", "max_iters=1")
    train(plain, weights=best, validate=False)
    train(
        tiny(tmp_path / "again", "max_iters=1"),
        weights=f"{plain.folder}/SlowFast_latest.pdstate",
        multigrid=True,
    )


def test_a_plan_is_not_resumed_by_another(straight, tiny, tmp_path):
    cfg, _ = straight
    shutil.copytree(cfg.folder, tmp_path / "copy")
    for changed, multigrid in ((["MULTIGRID.SHORT_CYCLE=false"], True), ([], False)):
        with pytest.raises(WeightsError, match=r"multigrid plan .*Resume with the same settings"):
            train(tiny(tmp_path / "copy", *changed), resume="auto", multigrid=multigrid)


def test_plain_training_says_that_a_section_is_not_used(tiny, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "paddlevideo"):
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
def test_what_does_not_work_out(tiny, tmp_path, overrides, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        train(tiny(tmp_path / "out", *overrides), validate=False, multigrid=True)


@pytest.mark.slow
def test_two_ranks_end_at_the_same_weights_after_a_kill(tiny, tmp_path, root):
    folder = tmp_path / "ranks"
    cfg = tiny(folder, "DATASET.batch_size=1", "MULTIGRID.bn_base_size=1")
    saved = tmp_path / "ranks.yaml"
    saved.write_text(yaml.safe_dump(cfg.origin.data), encoding="utf-8")
    states = []
    for name in ("straight", "again"):
        folder = tmp_path / name
        folder.mkdir()
        process = launch(
            root,
            folder,
            2,
            "--validate",
            "--multigrid",
            "-c",
            str(saved),
            "-o",
            f"output_dir={folder}",
        )
        finish(process, folder)
        states.append(checksum(read_model(folder / "SlowFast_latest.pdstate")[0]))
    assert states[0] == states[1]
