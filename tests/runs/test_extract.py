"""Feature sets: content of the shards, resume, settings, failures, the command."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.youtube8m.sequence_example import parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.features import feature_shards
from paddlevideo.features.codec import read_codecs
from paddlevideo.features.extract import FrameNetwork
from paddlevideo.features.feature_sets import extract_set
from paddlevideo.features.feature_shards import SetOptions
from paddlevideo.features.video_steps import audio_vectors
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.remote import list_url, path_name, read_bytes
from paddlevideo.sample import Record
from tests.conftest import CLASSES
from tests.remote_files import memory_files
from tests.runs.feature_sets import FRAME_RATE, make_recipe, make_set, read_examples, read_shards
from tools import extract_features


@pytest.fixture(scope="module")
def recipe(clips, tmp_path_factory):
    return make_recipe(clips, tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def train_set(recipe, clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "train"
    summary = make_set(recipe, out, clips / "train", per_shard=5)
    assert (summary.made, summary.kept, summary.no_audio, summary.failed) == (12, 0, 12, [])
    return out


# --- content ------------------------------------------------------------------------------------


def test_shards_hold_all_videos_in_order(recipe, clips, train_set):
    shards = read_examples(train_set)
    counts = {name: len(examples) for name, examples in shards.items()}
    assert counts == {f"train0000{n}.tfrecord": count for n, count in enumerate((5, 5, 2))}
    examples = [example for part in shards.values() for example in part]
    paths = sorted((clips / "train").rglob("*.mp4"))
    ids = [path.relative_to(clips / "train").as_posix() for path in paths]
    assert [example.id.decode() for example in examples] == ids
    labels = [[CLASSES.index(path.parent.name)] for path in paths]
    assert [example.labels.tolist() for example in examples] == labels


def test_folder_holds_only_documented_files(train_set):
    names = {"extractor.json", "fitted.npz", "whitening.npy", "labels.txt"}
    assert {path.name for path in train_set.iterdir()} == {*read_shards(train_set), *names}
    assert (train_set / "labels.txt").read_text(encoding="utf-8") == "0 blue sky\n1 green\n2 红色\n"
    codecs, _ = read_codecs(train_set / "fitted.npz")
    np.testing.assert_array_equal(np.load(train_set / "whitening.npy"), codecs["rgb"].scale)


def test_features_are_the_input_of_the_head(recipe, clips, train_set):
    """Compute them again: middle frames, valid pipeline, backbone, mean over space."""
    cfg = load_config(recipe.config)
    model = build_model(cfg, 3)
    model.set_state_dict(paddle.load(recipe.weights))
    model.eval()
    pipeline = build_pipeline(cfg, "valid")
    codecs, _ = read_codecs(train_set / "fitted.npz")
    examples = [example for part in read_examples(train_set).values() for example in part]
    for example in examples[::4]:
        path = str(clips / "train" / example.id.decode())
        with VideoDecoder().open(Record(path)) as clip:
            frames = clip.read([1, 3, 6, 7])  # at 0.05, 0.15 and 0.25 s, and the last one
        arrays = pipeline.finish(pipeline.apply(frames, np.random.default_rng(0)))["frames"]
        vectors = model.backbone(paddle.to_tensor(arrays)).mean([2, 3]).numpy()
        stored = example.features["rgb"]
        difference = np.abs(codecs["rgb"].encode(vectors).astype(int) - stored)
        assert stored.shape == (4, 64)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.02
        audio, no_audio = audio_vectors(path, 0.0, 4, FRAME_RATE)
        assert no_audio
        np.testing.assert_array_equal(codecs["audio"].encode(audio), example.features["audio"])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_do_not_change_the_bytes(recipe, clips, train_set, tmp_path, workers):
    make_set(recipe, tmp_path / "train", clips / "train", per_shard=5, workers=workers)
    assert read_shards(tmp_path / "train") == read_shards(train_set)


def test_fits_principal_components(recipe, clips, tmp_path, monkeypatch):
    make_set(recipe, tmp_path / "few", clips / "train", num_components=6, fit_videos=5)
    (examples,) = read_examples(tmp_path / "few").values()
    assert len(examples) == 12 and examples[0].features["rgb"].shape == (4, 6)
    codecs, _ = read_codecs(tmp_path / "few" / "fitted.npz")
    assert codecs["rgb"].components.shape == (64, 6) and codecs["audio"].components is None
    message = "40 principal components of 64 values in 20 frames; at most 19"
    with pytest.raises(ValueError, match=message):
        make_set(recipe, tmp_path / "many", clips / "train", num_components=40, fit_videos=5)
    calls, real = [], FrameNetwork._vectors_of
    monkeypatch.setattr(
        FrameNetwork, "_vectors_of", lambda self, steps: calls.append(1) or real(self, steps)
    )
    # Nothing has been encoded: another number goes on with the vectors of the five videos.
    make_set(recipe, tmp_path / "many", clips / "train", num_components=6, fit_videos=5)
    assert len(calls) == 7
    assert [*read_shards(tmp_path / "many").values()] == [*read_shards(tmp_path / "few").values()]


@pytest.mark.parametrize("number", [0, -1, 65])
def test_counts_components_before_the_videos(recipe, clips, tmp_path, number):
    message = f"--pca {number}: the network gives 64 values; expected 1 to 64"
    with pytest.raises(ValueError, match=message):
        make_set(recipe, tmp_path / "none", clips / "train", num_components=number)
    assert not list((tmp_path / "none").iterdir())


def test_leaves_out_audio(recipe, clips, tmp_path):
    make_set(replace(recipe, audio=False), tmp_path / "mute", clips / "train" / "green")
    (payload,) = [next(read_payloads(path))[1] for path in (tmp_path / "mute").glob("*.tfrecord")]
    assert list(parse_example(payload, ["rgb"]).features) == ["rgb"] and b"audio" not in payload


def test_uses_codecs_and_classes_of_another_set(recipe, clips, train_set, tmp_path):
    # The folder has one class of three, and that class keeps its id.
    shutil.copytree(clips / "val" / "green", tmp_path / "val" / "green")
    out = tmp_path / "f" / "val"
    make_set(recipe, out, tmp_path / "val", fitted=train_set)
    (examples,) = read_examples(out).values()
    assert len(examples) == 2 and all(example.labels.tolist() == [1] for example in examples)
    for name in ("fitted.npz", "labels.txt"):
        assert (out / name).read_bytes() == (train_set / name).read_bytes()
    with pytest.raises(ValueError, match="--fitted includes principal components; leave out --pca"):
        SetOptions(out, train_set, num_components=4)


# --- resume and settings ------------------------------------------------------------------------


class Killed(Exception):
    pass


def test_continues_a_stopped_run(recipe, clips, train_set, tmp_path, monkeypatch):
    out, calls = tmp_path / "train", []
    real_vectors, real_write = FrameNetwork._vectors_of, feature_shards.write_payloads

    def stop_at_seventh(self, steps):
        calls.append(1)
        if len(calls) == 7:
            raise Killed
        return real_vectors(self, steps)

    def stop_at_second_shard(path, payloads):
        if read_shards(out):
            raise Killed
        return real_write(path, payloads)

    monkeypatch.setattr(FrameNetwork, "_vectors_of", stop_at_seventh)
    with pytest.raises(Killed):  # while the codec is fitted
        make_set(recipe, out, clips / "train", per_shard=5)
    assert not read_shards(out) and len(list((out / ".vectors").glob("*.npz"))) == 6

    monkeypatch.setattr(feature_shards, "write_payloads", stop_at_second_shard)
    with pytest.raises(Killed):  # while shards are written
        make_set(recipe, out, clips / "train", per_shard=5)
    times = {name: (out / name).stat().st_mtime_ns for name in read_shards(out)}
    assert list(times) == ["train00000.tfrecord"]
    assert len(calls) == 7 + 6, "no video goes through the network twice"

    monkeypatch.setattr(feature_shards, "write_payloads", real_write)
    summary = make_set(recipe, out, clips / "train", per_shard=5)
    assert (summary.made, summary.kept) == (7, 5) and read_shards(out) == read_shards(train_set)
    assert (out / "train00000.tfrecord").stat().st_mtime_ns == times["train00000.tfrecord"]
    assert not (out / ".vectors").exists() and len(calls) == 13
    assert make_set(recipe, out, clips / "train", per_shard=5).kept == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_rate": 5.0}, "10 frames a second, now network .* 5 frames a second"),
        (
            {"overrides": ("PIPELINE.valid.transform.0.Scale.short_size=40",)},
            "made_by was network .*, config ",
        ),
        ({"max_frames": 2}, "max_frames was 300, now 2"),
    ],
)
def test_rejects_a_folder_with_another_recipe(recipe, clips, train_set, change, message):
    problem = "extractor.json: the features in this folder have other settings"
    with pytest.raises(ConfigError, match=rf"(?s){problem}: .*{message}.*--overwrite"):
        make_set(replace(recipe, **change), train_set, clips / "train", per_shard=5)


def test_rejects_a_folder_with_other_options(recipe, clips, train_set):
    with pytest.raises(ConfigError, match="per_shard was 5, now 256"):
        make_set(recipe, train_set, clips / "train")
    with pytest.raises(ConfigError, match="num_videos was 12, now 6; list was"):
        make_set(recipe, train_set, clips / "val", per_shard=5)


def test_rejects_codecs_of_another_frame_rate(recipe, clips, train_set, tmp_path):
    message = r"fitted\.npz was fitted for other features: .* 10 frames a second.*fit it again"
    with pytest.raises(ConfigError, match=message):
        make_set(replace(recipe, frame_rate=5.0), tmp_path, clips / "val", fitted=train_set)


def test_overwrites_a_folder(recipe, clips, train_set, tmp_path):
    other, out = replace(recipe, frame_rate=5.0), tmp_path / "train"
    shutil.copytree(train_set, out)
    make_set(other, out, clips / "val", overwrite=True)
    counts = {name: len(examples) for name, examples in read_examples(out).items()}
    assert counts == {"train00000.tfrecord": 6}
    (out / "extractor.json").write_text("{")
    with pytest.raises(ConfigError, match="extractor.json: damaged"):
        make_set(other, out, clips / "val")


def test_overwriting_leaves_nothing_of_before(recipe, clips, tmp_path):
    out = tmp_path / "v[1]"
    make_set(recipe, out, clips / "val", per_shard=2)
    assert len(read_shards(out)) == 3 and (out / "labels.txt").exists()
    options = SetOptions(out, overwrite=True)
    extract_set(recipe, options, [str(clips / "val")], with_labels=False, num_workers=0)
    ((name, examples),) = read_examples(out).items()
    assert name == "v[1]00000.tfrecord" and [e.labels.tolist() for e in examples] == [[]] * 6
    assert not (out / "labels.txt").exists()


@pytest.mark.parametrize("option", ["per_shard", "fit_videos"])
def test_rejects_options_below_1(tmp_path, option):
    with pytest.raises(ValueError, match=f"{option} is 0, expected at least 1"):
        SetOptions(tmp_path, **{option: 0})


# --- failures -----------------------------------------------------------------------------------


@pytest.fixture
def videos(clips, tmp_path):
    """Five videos, 0.mp4 to 4.mp4; the second is truncated and the last is text."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, path in enumerate(sorted((clips / "train").rglob("*.mp4"))[:5]):
        shutil.copy(path, folder / f"{number}.mp4")
    content = (folder / "1.mp4").read_bytes()
    (folder / "1.mp4").write_bytes(content[: len(content) // 2])
    (folder / "4.mp4").write_text("text")
    return folder


def test_reports_failures_and_retries_them(recipe, videos, tmp_path):
    good, out = (videos / "0.mp4").read_bytes(), tmp_path / "out"
    summary = make_set(recipe, out, videos, per_shard=2)
    failed = [(shard, path.rsplit("/", 1)[-1]) for shard, path, _ in summary.failed]
    assert failed == [("out00000.tfrecord", "1.mp4"), ("out00002.tfrecord", "4.mp4")]
    assert summary.made == 3
    counts = {name: len(examples) for name, examples in read_examples(out).items()}
    assert counts == {"out00000.tfrecord": 1, "out00001.tfrecord": 2}
    rows = (out / "failures.tsv").read_text().splitlines()
    assert len(rows) == 2 and "1.mp4\t" in rows[0] and "cut short" in rows[0]

    (videos / "1.mp4").write_bytes(good)
    again = make_set(recipe, out, videos, per_shard=2)
    assert again.made == 0 and len(again.failed) == 2 and again.kept == 3
    retried = make_set(recipe, out, videos, retry_failed=True, per_shard=2)
    assert retried.made == 2 and len(retried.failed) == 1
    assert len(read_examples(out)["out00000.tfrecord"]) == 2

    (videos / "4.mp4").write_bytes(good)  # its shard is missing, so it is tried again
    assert not make_set(recipe, out, videos, per_shard=2).failed
    assert not (out / "failures.tsv").exists()


def test_needs_one_video_to_fit_on(recipe, videos, tmp_path):
    for path in videos.iterdir():
        path.write_text("text")
    message = r"no video could be used to fit on; first failure: .*0\.mp4"
    with pytest.raises(ValueError, match=message):
        make_set(recipe, tmp_path / "none", videos)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def run_tool(recipe, monkeypatch, capsys):
    def run(*arguments):
        fixed = ["-c", recipe.config, "-w", recipe.weights, "--frame_rate", "10"]
        fixed += ["--num_workers", "0", "--no-use_gpu"]
        monkeypatch.setattr(sys, "argv", ["extract_features.py", *map(str, arguments), *fixed])
        return extract_features.main(), capsys.readouterr()

    return run


def test_tool_makes_and_keeps_features(run_tool, clips, tmp_path):
    flags = ("-i", clips / "val", "-o", tmp_path / "val", "--pca", "5", "--no_audio")
    code, printed = run_tool(*flags)
    assert code == 0
    assert "features of 6 videos made, 0 already there, 0 failed" in printed.out
    code, printed = run_tool(*flags)
    assert code == 0 and "0 videos made, 6 already there" in printed.out


def test_tool_writes_to_a_url(run_tool, recipe, clips, train_set, monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "home"))
    with memory_files() as files:
        out = f"{files.url}/val"
        flags = ["-i", clips / "val", "-o", out, "--per_shard", "4", "--fitted"]
        code, printed = run_tool(*flags, train_set)
        assert code == 0, printed.err
        make_set(recipe, tmp_path / "val", clips / "val", per_shard=4, fitted=train_set)
        shards = {path_name(path): read_bytes(path) for path in list_url(out)}
        assert {name: shards[name] for name in read_shards(tmp_path / "val")} == read_shards(
            tmp_path / "val"
        )
        code, printed = run_tool(*flags, train_set)
        assert code == 0 and f"{out}: features of 0 videos made, " in printed.out


def test_tool_reports_failures(run_tool, clips, tmp_path):
    (tmp_path / "bad.mp4").write_text("text")
    code, printed = run_tool("-i", clips / "val", tmp_path / "bad.mp4", "-o", tmp_path / "out")
    assert code == 1 and "bad.mp4: " in printed.out
    assert "6 of those made have no audio; their audio vectors are silence" in printed.out
    assert "fix the files, then use --retry_failed" in printed.out


def test_tool_prints_errors_without_a_traceback(run_tool, tmp_path):
    code, printed = run_tool("-i", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert code == 1 and "no such file or folder" in printed.err
    assert "Traceback" not in printed.err and not (tmp_path / "out").exists()


def test_tool_can_be_interrupted(run_tool, clips, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(FrameNetwork, "vectors", interrupt)
    code, printed = run_tool("-i", clips / "val", "-o", tmp_path / "out")
    assert code == 130 and "run the same command again to continue" in printed.err
