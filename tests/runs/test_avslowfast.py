"""Complete AVSlowFast runs: misaligned audio, DropPathway, exact resume, ranks, pretraining."""

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
from tests.runs.test_train import Killed, kill_at, losses_of, metrics_of
from tests.scripts import run_script

SPLITS = ("train", "valid", "test")
OVERRIDES = [
    "MODEL.backbone.width_per_group=4",
    "MODEL.backbone.audio_alpha=8",
    "MODEL.head.crop_size=32",
    "MODEL.sync_weight=0.2",
    "MODEL.hard_from_epoch=1",
    "MODEL.hard_share=0.5",
    "DATASET.batch_size=4",
    "DATASET.valid_batch_size=4",
    "DATASET.test_batch_size=2",
    "DATASET.num_workers=0",
    "DATASET.root=null",
    "epochs=2",
    "log_interval=1",
    "PRECISEBN.preciseBN_interval=1",
    "PRECISEBN.num_iters_preciseBN=2",
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """`<split>/<class>/*.mkv`: 8 train, 4 val and 5 test videos of two classes.

    Each lasts one second and has an audio track of its own.
    """
    folder = tmp_path_factory.mktemp("videos")
    for split, count in (("train", 8), ("val", 4), ("test", 5)):
        for number in range(count):
            name = ("a b", "c")[number % 2]
            wave = chirps(1.2, seed=number + 10 * len(split)) * (1, 0.2)[number % 2]
            write_audio(folder / split / name / f"{number}.mkv", wave, video={"num_frames": 30})
    return folder


@pytest.fixture
def small(root, videos, tmp_path):
    """`small(*overrides, config="avslowfast")`: a demo config on these videos.

    The network has 4 channels; clips have 8 frames of 32 pixels and 16 time steps of audio.
    """

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
        shared = {"DATASET": base["DATASET"], "PIPELINE": base["PIPELINE"]}
        merged = {**base, **own, **shared, "output_dir": str(tmp_path / "out")}
        path.write_text(yaml.safe_dump(merged), encoding="utf-8")
        return load_config(path, [*OVERRIDES, *overrides])

    return make


def weights_of(cfg):
    return checksum(read_model(f"{cfg.folder}/{cfg.model_name}_latest.pdstate")[0])


def steps_of(cfg):
    return [row for row in metrics_of(cfg) if row["split"] == "train"]


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(small, tmp_path, monkeypatch):
    options = ["DATASET.num_workers=2", "amp=true"]
    uninterrupted = small(*options, f"output_dir={tmp_path}/uninterrupted")
    train(uninterrupted)
    killed = small(*options)
    # First in the second epoch, where some of the misaligned audio is hard, then at its beginning.
    for step in (4, 1):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(killed, resume="auto")
    train(killed, resume="auto")
    assert weights_of(killed) == weights_of(uninterrupted)
    assert losses_of(killed) == losses_of(uninterrupted)


@pytest.mark.usefixtures("shallow")
def test_logs_the_parts_of_the_loss(small):
    cfg = small()
    train(cfg)
    steps = steps_of(cfg)
    assert len(steps) == 4
    for row in steps:
        parts = [row[f"sync_s{stage}"] for stage in (3, 4, 5)]
        assert row["loss"] == pytest.approx(row["label_loss"] + 0.2 * sum(parts), rel=1e-5)
        assert row["sync_s3"] > 0
        assert (parts[1] > 0) == (parts[2] > 0), "DropPathway drops both stages or none"
    assert len({row["sync_s4"] > 0 for row in steps}) == 2, "some steps drop the audio pathway"
    valid = [row for row in metrics_of(cfg) if row["split"] == "valid"]
    assert len(valid) == 2 and all(np.isfinite(row["loss"]) for row in valid)


@pytest.mark.slow
def test_stopped_at_the_last_step_of_an_epoch(small, tmp_path, monkeypatch):
    """The random numbers of precise BN, as for DropPathway, depend on the epoch alone."""
    uninterrupted = small("epochs=1", f"output_dir={tmp_path}/uninterrupted")
    train(uninterrupted)
    stopped = small("epochs=1")
    real_step, steps = train_module.train_step, []

    def stop_at_the_last_step(*args):
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_step", stop_at_the_last_step)
        progress = train(stopped).progress
    assert (progress.epoch, progress.step) == (0, 2)
    train(stopped, resume="auto")
    assert weights_of(stopped) == weights_of(uninterrupted)


@pytest.mark.slow
def test_weights_depend_on_the_seed(small, tmp_path):
    checksums = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        cfg = small(
            "epochs=1", f"seed={seed}", "deterministic=true", f"output_dir={tmp_path}/{name}"
        )
        train(cfg, validate=False)
        checksums.append(weights_of(cfg))
    assert checksums[0] == checksums[1] != checksums[2]


@pytest.mark.slow
def test_pretraining_without_labels_and_a_linear_probe(small, tmp_path):
    cfg = small("MODEL.sync_weight=1", config="avslowfast_sync")
    first = state_arrays(build_model(cfg, 2))
    train(cfg, validate=False)
    last = read_model(f"{cfg.folder}/{cfg.model_name}_epoch_00002.pdparams")[0]
    assert all(
        row["loss"] == pytest.approx(sum(row[f"sync_s{n}"] for n in (3, 4, 5)), rel=1e-5)
        for row in steps_of(cfg)
    )
    bias = "head.projection.bias"
    assert np.array_equal(last[bias], first[bias]), "the classifier is not trained"
    weights = f"{cfg.folder}/{cfg.model_name}_epoch_00002.pdparams"
    for split, count in (("valid", 4), ("test", 5)):
        shares, clips = sync_accuracy(cfg, weights, split)
        assert clips == count and list(shares) == ["s3", "s4", "s5"]
        # Ordered pairs of clips. The share of all pairs is the mean of both kinds; a tie is a half.
        num_pairs = count * (count - 1)
        num_same = {4: 4, 5: 8}[count]
        for row in shares.values():
            correct = row["of the same class"] * num_same
            correct += row["of another class"] * (num_pairs - num_same)
            assert row["all"] * num_pairs == pytest.approx(correct)
            assert (2 * correct) % 1 == pytest.approx(0, abs=1e-9)
    probe = small(
        f"MODEL.backbone.pretrained={weights}",
        f"output_dir={tmp_path}/probe",
        config="avslowfast_probe",
    )
    train(probe)
    after = read_model(f"{probe.folder}/{probe.model_name}_best.pdparams")[0]
    for name, array in after.items():
        if name.startswith("backbone."):
            assert np.array_equal(array, last[name]), f"{name}: the backbone is frozen"
    assert not np.array_equal(after["head.projection.weight"], last["head.projection.weight"])
    assert "sync_s3" not in steps_of(probe)[0]


@pytest.mark.usefixtures("shallow")
def test_missing_audio_stops_or_is_counted(small, videos, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    write_clip(tmp_path / "mute.mp4", num_frames=30)
    files = [*sorted((videos / "train").rglob("*.mkv"))[:3], tmp_path / "mute.mp4"]
    lines = [f"{path} {number % 2}" for number, path in enumerate(files)]
    (tmp_path / "all.list").write_text("\n".join(lines), encoding="utf-8")
    options = [f"DATASET.{split}.file_path={tmp_path}/all.list" for split in SPLITS]
    options += ["MODEL.head.num_classes=2", "epochs=1", "PRECISEBN=null"]
    zeros = [f"PIPELINE.{split}.audio.missing_audio=zeros" for split in SPLITS]
    cfg = small(*options, *zeros)
    train(cfg)
    logged = {(record.module, record.getMessage()) for record in caplog.records}
    for module in ("epoch_log", "evaluate"):  # after the epoch, and after its validation
        assert (module, "1 of 4 records have no audio (missing_audio: zeros)") in logged
    best = f"{cfg.folder}/{cfg.model_name}_best.pdparams"
    done = run_test(cfg, best, str(tmp_path / "scores.json"))
    assert done.numbers["num_samples"] == 4
    message = r"mute.mp4: audio: no audio stream in it; missing_audio: zeros"
    with pytest.raises(DecodeError, match=message):
        run_test(small(*options), best)


@pytest.mark.usefixtures("shallow")
def test_sync_accuracy_needs_audio_and_embeddings(small, root, monkeypatch, capsys, tmp_path):
    script = "tools/analysis/sync_accuracy.py"
    cfg = small("MODEL.head.num_classes=2")
    weights = tmp_path / "x.pdparams"
    write_arrays(weights, state_arrays(build_model(cfg, 2)))
    write_clip(tmp_path / "mute.mp4", num_frames=30)
    (tmp_path / "mute.list").write_text(
        f"{tmp_path}/mute.mp4 0\n{tmp_path}/mute.mp4 1", encoding="utf-8"
    )
    overrides = [
        *OVERRIDES,
        f"DATASET.valid.file_path={tmp_path}/mute.list",
        "PIPELINE.valid.audio.missing_audio=zeros",
    ]
    flags = ["-c", tmp_path / "avslowfast.yaml", "-w", weights]
    flags += [word for text in overrides for word in ("-o", text)]
    code, _, error = run_script(monkeypatch, capsys, script, *flags[:-2])  # without zeros
    assert code == 1 and "or set DATASET.valid.file_path to a list without it" in error
    code, _, error = run_script(monkeypatch, capsys, script, *flags)
    assert code == 1 and "0 clips with audio; at least two are needed" in error
    flags += ["-o", "MODEL.backbone.avs_stages=[]"]
    code, _, error = run_script(monkeypatch, capsys, script, *flags)
    assert code == 1
    assert "this model has no audio-visual embeddings: MODEL.backbone.avs_stages" in error


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["PIPELINE.train.audio=null"],
            r"PIPELINE.train: the model takes slow, fast, audio; the pipeline gives no 'audio'",
        ),
        (
            ["PIPELINE.train.audio.misaligned=false"],
            r"takes 'audio_negative'; set misaligned: True in PIPELINE.train.audio, "
            r"or MODEL.sync_weight: 0",
        ),
        (
            ["PIPELINE.train.audio.num_rows=24"],
            r"audio_alpha is 8, the pipeline gives 24 time steps of audio and 2 slow frames; "
            r"set num_rows: 16",
        ),
        (
            ["PIPELINE.train.transform.5.PackOutput.alpha=8"],
            r"audio_alpha is 8, the pipeline gives 16 time steps of audio and 1 slow frames",
        ),
    ],
)
def test_rejects_a_pipeline_that_does_not_fit_before_reading_data(small, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train(small(*overrides), validate=False)


@pytest.mark.slow
def test_ranks(small, root, tmp_path):
    """Two ranks train with misaligned audio and precise BN; their test scores equal one rank's."""
    cfg = small()
    overrides = [word for text in OVERRIDES for word in ("-o", text)]
    arguments = ["-c", cfg.origin.path, *overrides]
    flags = ["--validate", *arguments, "-o", "DATASET.batch_size=2"]
    finish(launch(root, tmp_path, 2, *flags), tmp_path)
    assert metrics_of(cfg)[-1]["num_samples"] == 4 and len(steps_of(cfg)) == 4
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 2)))
    run_test(cfg, str(tmp_path / "w.pdparams"), out=str(tmp_path / "one.json"))
    flags = ["--test", *arguments, "-w", f"{tmp_path}/w.pdparams", "--out", f"{tmp_path}/two.json"]
    finish(launch(root, tmp_path, 2, *flags), tmp_path)
    one, two = (
        json.loads((tmp_path / name).read_text())["results"] for name in ("one.json", "two.json")
    )
    assert [row["id"] for row in one] == [row["id"] for row in two] and len(one) == 5
    scores = [[row["scores"] for row in rows] for rows in (one, two)]
    np.testing.assert_allclose(*scores, atol=1e-6)
