"""AVSlowFast as a whole: training with wrong sounds and DropPathway, exact resume, ranks, pretraining without labels."""

import json
import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine import train as train_module
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.engine.sync_accuracy import sync_accuracy
from paddlevideo.sample import DecodeError
from paddlevideo.weights import checksum, state_arrays, write_arrays
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip
from tests.runs.test_ranks import finish, launch
from tests.runs.test_train import Killed, kill_at, metrics_of
from tests.scripts import run_script

SPLITS = ("train", "valid", "test")
OVERRIDES = [
    "MODEL.backbone.width_per_group=4", "MODEL.backbone.audio_alpha=8", "MODEL.head.crop_size=32",
    "MODEL.sync_weight=0.2", "MODEL.hard_from_epoch=1", "MODEL.hard_share=0.5", "DATASET.batch_size=4", "DATASET.num_workers=0",
    "DATASET.valid_batch_size=4", "DATASET.test_batch_size=2", "DATASET.root=null", "epochs=2", "log_interval=1",
    "PRECISEBN.preciseBN_interval=1", "PRECISEBN.num_iters_preciseBN=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """`<split>/<class>/*.mkv`: 8 train, 4 val and 5 test videos of two classes, one second each, no two sounds alike."""
    folder = tmp_path_factory.mktemp("videos")
    for split, count in (("train", 8), ("val", 4), ("test", 5)):
        for number in range(count):
            name = ("a b", "c")[number % 2]
            sound = chirps(1.2, seed=number + 10 * len(split)) * (1, 0.2)[number % 2]
            write_audio(folder / split / name / f"{number}.mkv", sound, video={"num_frames": 30})
    return folder


@pytest.fixture
def small(root, videos, tmp_path):
    """`small(*overrides, config="avslowfast")` -> the demo's config for 4 channels, 8 frames of 32 pixels and 16 rows."""

    def make(*overrides: str, config: str = "avslowfast"):
        base = yaml.safe_load((root / "configs" / "demo" / "avslowfast.yaml").read_text())
        for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
            base["DATASET"][split]["file_path"] = str(videos / name)
            base["PIPELINE"][split]["decode_sampler"] |= {"num_frames": 8, "sampling_rate": 1}
            base["PIPELINE"][split]["audio"] |= {"num_rows": 16, "misaligned": split == "train"}
            for transform in base["PIPELINE"][split]["transform"]:
                arguments = next(iter(transform.values())) or {}
                arguments |= {"min_size": 36, "max_size": 36} if "min_size" in arguments else {}
                arguments |= {"target_size": 32} if "target_size" in arguments else {}
        own = yaml.safe_load((root / "configs" / "demo" / f"{config}.yaml").read_text())
        if config != "avslowfast":
            own["MODEL"] = {
                **base["MODEL"],
                **own["MODEL"],
                "backbone": base["MODEL"]["backbone"] | own["MODEL"]["backbone"],
            }
            own = {key: value for key, value in own.items() if key in ("MODEL", "model_name")}
        path = tmp_path / f"{config}.yaml"
        path.write_text(yaml.safe_dump({**base, **own, **{k: base[k] for k in ("DATASET", "PIPELINE")},
                                        "output_dir": str(tmp_path / "out")}), encoding="utf-8")  # fmt: skip
        return load_config(path, [*OVERRIDES, *overrides])

    return make


def weights_of(cfg):
    return checksum(read_model(f"{cfg.folder}/{cfg.model_name}_latest.pdstate")[0])


def steps_of(cfg):
    return [row for row in metrics_of(cfg) if row["split"] == "train"]


def test_killed_and_resumed_equals_uninterrupted(small, tmp_path, monkeypatch):
    options = ["DATASET.num_workers=2", "amp=true"]
    straight = small(*options, f"output_dir={tmp_path}/straight")
    train(straight)
    broken = small(*options)
    for step in (
        4,
        1,
    ):  # in the second epoch, whose wrong sounds are in part hard; then at its beginning
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(broken, resume="auto")
    train(broken, resume="auto")
    assert weights_of(broken) == weights_of(straight)
    rows = [
        [(r["split"], r["epoch"], r["loss"]) for r in metrics_of(cfg)] for cfg in (straight, broken)
    ]
    assert rows[0] == rows[1]


def test_losses_of_a_run(small):
    cfg = small()
    train(cfg)
    steps = steps_of(cfg)
    assert len(steps) == 4
    for row in steps:
        parts = [row[f"sync_s{stage}"] for stage in (3, 4, 5)]
        assert row["loss"] == pytest.approx(row["label_loss"] + 0.2 * sum(parts), rel=1e-5)
        assert row["sync_s3"] > 0 and (parts[1] > 0) == (parts[2] > 0), (
            "the later stages count where sound was dropped"
        )
    assert len({row["sync_s4"] > 0 for row in steps}) == 2, "half of the steps are dropped"
    valid = [row for row in metrics_of(cfg) if row["split"] == "valid"]
    assert len(valid) == 2 and all(np.isfinite(row["loss"]) for row in valid)


def test_stopped_at_the_last_step_of_an_epoch(small, tmp_path, monkeypatch):
    """What precise statistics draw, as for DropPathway, belongs to the epoch, and not to what was run before."""
    straight = small("epochs=1", f"output_dir={tmp_path}/straight")
    train(straight)
    broken, real, seen = small("epochs=1"), train_module.train_step, []

    def ask(*args):
        seen.append(1)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(train_module, "train_step", ask)
    state = train(broken)
    assert (state.progress.epoch, state.progress.step) == (0, 2)
    monkeypatch.undo()
    train(broken, resume="auto")
    assert weights_of(broken) == weights_of(straight)


def test_the_seed_decides(small, tmp_path):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        cfg = small(
            "epochs=1", f"seed={seed}", "deterministic=true", f"output_dir={tmp_path}/{name}"
        )
        train(cfg, validate=False)
        found.append(weights_of(cfg))
    assert found[0] == found[1] != found[2]


def test_pretraining_without_labels_and_a_probe(small, tmp_path):
    cfg = small("MODEL.sync_weight=1", config="avslowfast_sync")
    first = state_arrays(build_model(cfg, 2))
    train(cfg, validate=False)
    last = read_model(f"{cfg.folder}/{cfg.model_name}_epoch_00002.pdparams")[0]
    assert all(
        row["loss"] == pytest.approx(sum(row[f"sync_s{n}"] for n in (3, 4, 5)), rel=1e-5)
        for row in steps_of(cfg)
    )
    assert np.array_equal(last["head.projection.bias"], first["head.projection.bias"]), (
        "no label was learnt from"
    )
    weights = f"{cfg.folder}/{cfg.model_name}_epoch_00002.pdparams"
    for split, count in (("valid", 4), ("test", 5)):
        shares, clips = sync_accuracy(cfg, weights, split)
        assert clips == count and list(shares) == ["s3", "s4", "s5"]
        # The mean over all pairs is that over both kinds, and pairs are counted in halves.
        alike = {4: 4, 5: 8}[count]  # ordered pairs of one class
        for row in shares.values():
            right = row["of the same class"] * alike + row["of another class"] * (
                count * (count - 1) - alike
            )
            assert row["all"] * count * (count - 1) == pytest.approx(right) and (
                2 * right
            ) % 1 == pytest.approx(0, abs=1e-9)
    probe = small(
        f"MODEL.backbone.pretrained={weights}",
        f"output_dir={tmp_path}/probe",
        config="avslowfast_probe",
    )
    train(probe)
    after = read_model(f"{probe.folder}/{probe.model_name}_best.pdparams")[0]
    for name, array in after.items():
        if name.startswith("backbone."):
            assert np.array_equal(array, last[name]), (
                f"{name}: the backbone stays, its statistics too"
            )
    assert not np.array_equal(after["head.projection.weight"], last["head.projection.weight"])
    assert "sync_s3" not in steps_of(probe)[0]


def test_clips_without_sound_stop_or_are_counted(small, videos, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    write_clip(tmp_path / "mute.mp4", num_frames=30)
    lines = [
        f"{path} {i % 2}" for i, path in enumerate(sorted((videos / "train").rglob("*.mkv"))[:3])
    ]
    (tmp_path / "all.list").write_text(
        "\n".join([*lines, f"{tmp_path}/mute.mp4 1"]), encoding="utf-8"
    )
    options = [f"DATASET.{split}.file_path={tmp_path}/all.list" for split in SPLITS]
    options += ["MODEL.head.num_classes=2", "epochs=1", "PRECISEBN=null"]
    zeros = [f"PIPELINE.{split}.audio.missing_audio=zeros" for split in SPLITS]
    cfg = small(*options, *zeros)
    train(cfg)
    told = {(record.module, record.getMessage()) for record in caplog.records}
    for place in ("epoch_log", "evaluate"):
        assert (place, "1 of 4 records have no audio (missing_audio: zeros)") in told
    best = f"{cfg.folder}/{cfg.model_name}_best.pdparams"
    done = run_test(cfg, best, str(tmp_path / "scores.json"))
    assert done.numbers["num_samples"] == 4
    with pytest.raises(
        DecodeError, match=r"mute.mp4: audio: no audio stream in it; missing_audio: zeros"
    ):
        run_test(small(*options), best)


def test_synchronisation_of_other_networks_and_of_silence(
    small, root, monkeypatch, capsys, tmp_path
):
    script = "tools/analysis/sync_accuracy.py"
    cfg = small("MODEL.head.num_classes=2")
    weights = tmp_path / "x.pdparams"
    write_arrays(weights, state_arrays(build_model(cfg, 2)))
    write_clip(tmp_path / "mute.mp4", num_frames=30)
    (tmp_path / "mute.list").write_text(
        f"{tmp_path}/mute.mp4 0\n{tmp_path}/mute.mp4 1", encoding="utf-8"
    )
    flags = [x for o in OVERRIDES for x in ("-o", o)] + [
        "-w",
        weights,
        "-o",
        f"DATASET.valid.file_path={tmp_path}/mute.list",
    ]
    flags += ["-o", "PIPELINE.valid.audio.missing_audio=zeros"]
    code, _, said = run_script(
        monkeypatch, capsys, script, "-c", tmp_path / "avslowfast.yaml", *flags
    )
    assert code == 1 and "0 clips with audio; at least two are needed" in said
    flags += ["-o", "MODEL.backbone.avs_stages=[]"]
    code, _, said = run_script(
        monkeypatch, capsys, script, "-c", tmp_path / "avslowfast.yaml", *flags
    )
    assert code == 1 and "no embeddings of pictures and sound" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["PIPELINE.train.audio=null"],
            r"PIPELINE.train: the model takes slow, fast, audio; the pipeline gives no 'audio'",
        ),
        (
            ["PIPELINE.train.audio.misaligned=false"],
            r"takes 'audio_negative'; set misaligned: True in PIPELINE.train.audio, or MODEL.sync_weight: 0",
        ),
        (
            ["PIPELINE.train.audio.num_rows=24"],
            r"audio_alpha is 8, the pipeline gives 24 time steps of audio and 2 slow frames; set num_rows: 16",
        ),
        (
            ["PIPELINE.train.transform.5.PackOutput.alpha=8"],
            r"audio_alpha is 8, the pipeline gives 16 time steps of audio and 1 slow frames",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_any_data(small, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train(small(*overrides), validate=False)


@pytest.mark.slow
def test_ranks(small, root, tmp_path):
    """Two ranks train with wrong sounds and precise statistics; what they score together is what one scores."""
    cfg = small()
    overrides = [word for text in OVERRIDES for word in ("-o", text)]
    finish(
        launch(
            root,
            tmp_path,
            2,
            "--validate",
            "-c",
            cfg.origin.path,
            *overrides,
            "-o",
            "DATASET.batch_size=2",
        ),
        tmp_path,
    )
    assert metrics_of(cfg)[-1]["num_samples"] == 4 and len(steps_of(cfg)) == 4
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 2)))
    run_test(cfg, str(tmp_path / "w.pdparams"), out=str(tmp_path / "one.json"))
    arguments = ["-w", f"{tmp_path}/w.pdparams", "--out", f"{tmp_path}/two.json"]
    finish(
        launch(root, tmp_path, 2, "--test", "-c", cfg.origin.path, *overrides, *arguments), tmp_path
    )
    one, two = (
        json.loads((tmp_path / name).read_text())["results"] for name in ("one.json", "two.json")
    )
    assert [row["id"] for row in one] == [row["id"] for row in two] and len(one) == 5
    np.testing.assert_allclose(
        [row["scores"] for row in one], [row["scores"] for row in two], atol=1e-6
    )
