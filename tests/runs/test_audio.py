"""Audio recognition as a whole: training from features, sounds and videos, exact resume, ranks, what has no sound."""

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
from tests.runs.test_train import Killed, kill_at, metrics_of

OVERRIDES = [
    "MODEL.backbone={name: ResNetAudio, base_channels: 4}",  # small, so that little time goes into checkpoints
    "DATASET.batch_size=4", "DATASET.num_workers=0", "DATASET.root=null", "epochs=2", "log_interval=1",
    "PIPELINE.train.sample.clip_len=12", "PIPELINE.valid.sample.clip_len=12", "PIPELINE.test.sample.clip_len=12",
    *(f"PIPELINE.{split}.transform.0.AudioFeatureSelector.fixed_length=30" for split in ("train", "valid", "test")),
]  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """`<split>/<class>/*`: 12 train, 6 val and 7 test sounds of 3 pitches, wav files and videos."""
    folder = tmp_path_factory.mktemp("sounds")
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
def small(root, sounds, tmp_path):
    """`small(*overrides)` -> the demo's config on these sounds."""
    config = yaml.safe_load((root / "configs" / "demo" / "audio.yaml").read_text())
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        config["DATASET"][split]["file_path"] = str(sounds / name)
    path = tmp_path / "audio.yaml"
    path.write_text(
        yaml.safe_dump({**config, "output_dir": str(tmp_path / "out")}), encoding="utf-8"
    )

    def make(*overrides: str):
        return load_config(path, [*OVERRIDES, *overrides])

    return make


def weights_of(cfg):
    return checksum(read_model(f"{cfg.folder}/Audio_latest.pdstate")[0])


def test_killed_and_resumed_equals_uninterrupted(small, tmp_path, monkeypatch):
    options = [
        "DATASET.num_workers=2",
        "amp=true",
        "PRECISEBN.preciseBN_interval=1",
        "PRECISEBN.num_iters_preciseBN=2",
    ]
    straight = small(*options, f"output_dir={tmp_path}/straight")
    train(straight)
    broken = small(*options)
    for step in (5, 2):  # in the second epoch, then there again
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(broken, resume="auto")
    train(broken, resume="auto")
    assert weights_of(broken) == weights_of(straight)
    assert [r["loss"] for r in metrics_of(broken)] == [r["loss"] for r in metrics_of(straight)]
    plain = small(f"output_dir={tmp_path}/plain")
    train(plain)
    assert weights_of(plain) != weights_of(straight), (
        "mixed precision and precise statistics have an effect"
    )


def test_features_sounds_and_videos_are_the_same_to_a_model(small, sounds, tmp_path):
    cfg = small("epochs=1")
    train(cfg)
    best = f"{cfg.folder}/Audio_best.pdparams"
    assert read_model(best)[1] == ["high tone", "low", "middle"]
    features = tmp_path / "features"
    for split in ("train", "val", "test"):
        out = features / split
        assert not run_jobs(
            WriteFeature(LoadAudioFeature().feature), plan_jobs(sounds / split, out, ".npy"), out, 1
        ).failed
    done = [run_test(cfg, best, str(tmp_path / "a.json"))]
    made = small(
        *(
            f"DATASET.{key}.file_path={features}/{name}"
            for key, name in (("test", "test"), ("train", "train"))
        )
    )
    done.append(run_test(made, best, str(tmp_path / "b.json")))
    a, b = (json.loads((tmp_path / name).read_text())["results"] for name in ("a.json", "b.json"))
    assert [Path(row["path"]).with_suffix("").name for row in a] == [
        Path(row["path"]).with_suffix("").name for row in b
    ]
    assert [row["label"] for row in a] == [row["label"] for row in b] and len(a) == 7
    # A feature alone does not know its video's frame rate, which moves a clip by less than a row.
    np.testing.assert_allclose(
        [row["scores"] for row in a], [row["scores"] for row in b], atol=0.05
    )


def test_command_lines_of_the_reference(small, monkeypatch, tmp_path, capsys):
    def run(*arguments):
        config = ["-c", small().origin.path, *(word for text in OVERRIDES for word in ("-o", text))]
        monkeypatch.setattr("sys.argv", ["main.py", *arguments, *config])
        return main.main()

    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert (
            run(
                "--validate",
                "--seed",
                seed,
                "--deterministic",
                "-o",
                f"output_dir={tmp_path}/{name}",
            )
            == 0
        )
    found = [weights_of(small(f"output_dir={tmp_path}/{name}")) for name in "abc"]
    assert found[0] == found[1] != found[2]
    capsys.readouterr()
    out, best = tmp_path / "result.json", f"{tmp_path}/a/Audio_best.pdparams"
    assert (
        run(
            "--test",
            "-w",
            best,
            "--eval",
            "top_k_accuracy",
            "mean_class_accuracy",
            "--out",
            str(out),
        )
        == 0
    )
    text = capsys.readouterr().out
    assert (
        "avg_acc1= " in text
        and "avg_acc3= 1.0" in text
        and "mean_class_accuracy= " in text
        and "loss=" not in text
    )
    rows = json.loads(out.read_text())
    assert len(rows["results"]) == 7 and rows["class_names"] == ["high tone", "low", "middle"]
    assert all(abs(sum(row["scores"]) - 1) < 1e-6 for row in rows["results"])


def test_what_has_no_sound_stops_or_is_counted(small, sounds, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo"), "handlers", [caplog.handler])
    write_clip(tmp_path / "mute.mp4", num_frames=20)
    lines = [f"{path} 20 {i % 3}" for i, path in enumerate(sorted((sounds / "train").rglob("*.*")))]
    (tmp_path / "all.list").write_text(
        "\n".join([*lines, f"{tmp_path}/mute.mp4 20 0"]), encoding="utf-8"
    )
    (tmp_path / "whole.list").write_text("\n".join(lines), encoding="utf-8")
    lists = [
        f"DATASET.{split}.file_path={tmp_path}/all.list" for split in ("train", "valid", "test")
    ]
    options = [*lists, "DATASET.batch_size=13", "epochs=1", "MODEL.head.num_classes=3"]
    with pytest.raises(TooManyFailures, match=r"1 of 13 files failed, max_failures allows 0"):
        train(small(*options))
    assert (
        "mute.mp4: decode: no audio stream in it; missing_audio: zeros uses silence instead"
        in caplog.text
    )
    caplog.clear()
    zeros = [f"PIPELINE.{split}.decode.missing_audio=zeros" for split in ("train", "valid", "test")]
    cfg = small(*options, *zeros)
    train(cfg)
    told = {(record.module, record.getMessage()) for record in caplog.records}
    for place in ("epoch_log", "evaluate"):  # after the epoch, after its validation
        assert (place, "1 of 13 records have no audio (missing_audio: zeros)") in told
    assert f"no audio in {tmp_path}/mute.mp4: silence replaces it" in caplog.text
    best = f"{cfg.folder}/Audio_best.pdparams"
    assert run_test(cfg, best).numbers["num_samples"] == 13
    with pytest.raises(
        DecodeError, match=r"mute.mp4: decode: no audio stream in it; missing_audio: zeros"
    ):
        run_test(small(*options), best)


@pytest.mark.slow
def test_ranks(small, root, tmp_path):
    """Two ranks train and end with the same weights whether or not they were interrupted; their evaluation is one's."""
    cfg = small()
    overrides = [word for text in OVERRIDES for word in ("-o", text)]
    finish(
        launch(root, tmp_path, 2, "--validate", "-c", cfg.origin.path, *overrides, "-o", "DATASET.batch_size=2"), tmp_path
    )  # fmt: skip
    assert metrics_of(cfg)[-1]["num_samples"] == 6
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    alone = run_test(cfg, str(tmp_path / "w.pdparams"), out=str(tmp_path / "one.json"))
    out = tmp_path / "two.json"
    finish(
        launch(
            root,
            tmp_path,
            2,
            "--test",
            "-c",
            cfg.origin.path,
            *overrides,
            "-w",
            f"{tmp_path}/w.pdparams",
            "--out",
            str(out),
        ),
        tmp_path,
    )
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert [row["id"] for row in one["results"]] == [row["id"] for row in two["results"]]
    assert two["numbers"]["top1"] == alone.numbers["top1"]
    np.testing.assert_allclose(
        [r["scores"] for r in one["results"]], [r["scores"] for r in two["results"]], atol=1e-6
    )
