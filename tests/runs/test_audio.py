"""Complete audio runs: features, audio files and videos, exact resume, ranks, missing audio."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

import main
from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.curate.audio_files import WriteFeature
from paddlevideo.curate.batch_jobs import plan_jobs, run_jobs
from paddlevideo.data.audio_pipeline import LoadAudioFeature
from paddlevideo.data.failures import TooManyFailures
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.sample import DecodeError
from paddlevideo.weights import checksum, state_arrays, write_arrays
from tests.audio_clips import tone, write_audio
from tests.clips import write_clip
from tests.runs.test_ranks import finish, launch
from tests.runs.test_train import Killed, kill_at, losses_of, metrics_of

SPLITS = ("train", "valid", "test")
OVERRIDES = [
    "MODEL.backbone={name: ResNetAudio, base_channels: 4}",  # small: its checkpoints take no time
    "DATASET.batch_size=4",
    "DATASET.num_workers=0",
    "DATASET.root=null",
    "epochs=2",
    "log_interval=1",
    *(f"PIPELINE.{split}.sample.clip_len=12" for split in SPLITS),
    *(f"PIPELINE.{split}.transform.0.AudioFeatureSelector.fixed_length=30" for split in SPLITS),
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """`<split>/<class>/*`: 12 train, 6 val and 7 test WAV files and videos of 3 pitches."""
    folder = tmp_path_factory.mktemp("recordings")
    for split, count in (("train", 12), ("val", 6), ("test", 7)):
        for number in range(count):
            name, hertz = (("low", 200), ("high tone", 2000), ("middle", 600))[number % 3]
            wave = tone(0.8, hertz=hertz * (1 + number / 50), level=0.1 + number / 40)
            path = folder / split / name / f"{number}.wav"
            if number < 2:
                write_audio(path.with_suffix(".mkv"), wave, video={"num_frames": 20})
            else:
                write_audio(path, wave)
    return folder


@pytest.fixture
def small(root, recordings, tmp_path):
    """`small(*overrides)`: the demo config on these recordings."""
    config = yaml.safe_load((root / "configs" / "demo" / "audio.yaml").read_text())
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        config["DATASET"][split]["file_path"] = str(recordings / name)
    path = tmp_path / "audio.yaml"
    path.write_text(
        yaml.safe_dump({**config, "output_dir": str(tmp_path / "out")}), encoding="utf-8"
    )

    def make(*overrides: str):
        return load_config(path, [*OVERRIDES, *overrides])

    return make


def weights_of(cfg):
    return checksum(read_model(f"{cfg.folder}/Audio_latest.pdstate")[0])


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(small, tmp_path, monkeypatch):
    options = [
        "DATASET.num_workers=2",
        "amp=true",
        "PRECISEBN.preciseBN_interval=1",
        "PRECISEBN.num_iters_preciseBN=2",
    ]
    uninterrupted = small(*options, f"output_dir={tmp_path}/uninterrupted")
    train(uninterrupted)
    killed = small(*options)
    for step in (5, 2):  # both in the second epoch
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(killed, resume="auto")
    train(killed, resume="auto")
    assert weights_of(killed) == weights_of(uninterrupted)
    assert losses_of(killed) == losses_of(uninterrupted)
    plain = small(f"output_dir={tmp_path}/plain")
    train(plain)
    reason = "mixed precision and precise statistics have an effect"
    assert weights_of(plain) != weights_of(uninterrupted), reason


def test_features_audio_files_and_videos_give_the_same_scores(small, recordings, tmp_path):
    cfg = small("epochs=1")
    train(cfg)
    best = f"{cfg.folder}/Audio_best.pdparams"
    assert read_model(best)[1] == ["high tone", "low", "middle"]
    features = tmp_path / "features"
    for split in ("train", "val", "test"):
        out = features / split
        jobs = plan_jobs(recordings / split, out, ".npy")
        assert not run_jobs(WriteFeature(LoadAudioFeature().feature), jobs, out, 1).failed
    from_features = small(
        f"DATASET.test.file_path={features}/test", f"DATASET.train.file_path={features}/train"
    )
    rows = []
    for config, name in ((cfg, "a.json"), (from_features, "b.json")):
        run_test(config, best, str(tmp_path / name))
        rows.append(json.loads((tmp_path / name).read_text())["results"])
    paths, labels, scores = (
        [[row[key] for row in part] for part in rows] for key in ("path", "label", "scores")
    )
    stems = [[Path(path).stem for path in part] for part in paths]
    assert stems[0] == stems[1] and labels[0] == labels[1] and len(labels[0]) == 7
    # A feature file lacks the frame rate of its video, which moves a clip by under one time step.
    np.testing.assert_allclose(*scores, atol=0.05)


def test_the_command_lines_of_paddlevideo(small, monkeypatch, tmp_path, capsys):
    def run(*arguments):
        config = ["-c", small().origin.path, *(word for text in OVERRIDES for word in ("-o", text))]
        monkeypatch.setattr("sys.argv", ["main.py", *config, *arguments])
        return main.main()

    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        flags = ["--seed", seed, "--deterministic", "-o", f"output_dir={tmp_path}/{name}"]
        assert run("--validate", *flags, "-o", "epochs=1") == 0
    first, same_seed, other_seed = (
        weights_of(small(f"output_dir={tmp_path}/{name}")) for name in "abc"
    )
    assert first == same_seed != other_seed
    capsys.readouterr()
    out, best = tmp_path / "result.json", f"{tmp_path}/a/Audio_best.pdparams"
    flags = ["--eval", "top_k_accuracy", "mean_class_accuracy", "--out", str(out)]
    assert run("--test", "-w", best, *flags) == 0
    text = capsys.readouterr().out
    assert "avg_acc1= " in text and "avg_acc3= 1.0" in text
    assert "mean_class_accuracy= " in text and "loss=" not in text
    rows = json.loads(out.read_text())
    assert len(rows["results"]) == 7 and rows["class_names"] == ["high tone", "low", "middle"]
    assert all(abs(sum(row["scores"]) - 1) < 1e-6 for row in rows["results"])


def test_missing_audio_stops_or_is_counted(small, recordings, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    write_clip(tmp_path / "mute.mp4", num_frames=20)
    files = sorted((recordings / "train").rglob("*.*"))
    lines = [f"{path} 20 {number % 3}" for number, path in enumerate(files)]
    lines.append(f"{tmp_path}/mute.mp4 20 0")
    (tmp_path / "all.list").write_text("\n".join(lines), encoding="utf-8")
    lists = [f"DATASET.{split}.file_path={tmp_path}/all.list" for split in SPLITS]
    options = [*lists, "DATASET.batch_size=13", "epochs=1", "MODEL.head.num_classes=3"]
    with pytest.raises(TooManyFailures, match=r"1 of 13 files failed, max_failures allows 0"):
        train(small(*options))
    message = "mute.mp4: decode: no audio stream in it; missing_audio: zeros"
    assert f"{message} uses silence instead" in caplog.text
    caplog.clear()
    zeros = [f"PIPELINE.{split}.decode.missing_audio=zeros" for split in SPLITS]
    cfg = small(*options, *zeros)
    train(cfg)
    logged = {(record.module, record.getMessage()) for record in caplog.records}
    for module in ("epoch_log", "evaluate"):  # after the epoch, and after its validation
        assert (module, "1 of 13 records have no audio (missing_audio: zeros)") in logged
    assert f"no audio in {tmp_path}/mute.mp4: silence replaces it" in caplog.text
    best = f"{cfg.folder}/Audio_best.pdparams"
    assert run_test(cfg, best).numbers["num_samples"] == 13
    with pytest.raises(DecodeError, match=message):
        run_test(small(*options), best)


@pytest.mark.slow
def test_ranks(small, root, tmp_path):
    """Two ranks train, and their test scores equal those of one rank."""
    cfg = small()
    overrides = [word for text in OVERRIDES for word in ("-o", text)]
    arguments = ["-c", cfg.origin.path, *overrides]
    flags = ["--validate", *arguments, "-o", "DATASET.batch_size=2"]
    finish(launch(root, tmp_path, 2, *flags), tmp_path)
    assert metrics_of(cfg)[-1]["num_samples"] == 6
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    alone = run_test(cfg, str(tmp_path / "w.pdparams"), out=str(tmp_path / "one.json"))
    out = tmp_path / "two.json"
    flags = ["--test", *arguments, "-w", f"{tmp_path}/w.pdparams", "--out", str(out)]
    finish(launch(root, tmp_path, 2, *flags), tmp_path)
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert [row["id"] for row in one["results"]] == [row["id"] for row in two["results"]]
    assert two["numbers"]["top1"] == alone.numbers["top1"]
    scores = [[row["scores"] for row in part["results"]] for part in (one, two)]
    np.testing.assert_allclose(*scores, atol=1e-6)
