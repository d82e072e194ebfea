"""Any video to shards of features: what is in them, resume, failures, other networks, and a tagger on top."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.youtube8m.sequence_example import parse_example
from paddlevideo.data.youtube8m.tfrecord import read_payloads
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.features import extract, feature_sets
from paddlevideo.features.codec import read_codecs
from paddlevideo.features.extract import FeatureExtractor, FrameNetwork, Recipe
from paddlevideo.features.feature_sets import SetPlan, extract_set
from paddlevideo.features.video_steps import audio_vectors
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import Record
from paddlevideo.weights import state_arrays, write_arrays
from tests.clips import write_clip
from tests.conftest import CLASSES, small_config
from tools import extract_features, predict

RATE = 10.0  # the clips last 0.32 s: 4 steps


@pytest.fixture(scope="module")
def recipe(clips, tmp_path_factory):
    """A small network with weights of its own; its batch norms have seen something."""
    folder = tmp_path_factory.mktemp("network")
    config = small_config(clips, folder)
    paddle.seed(3)
    model = build_model(load_config(config), 3)
    model.train()
    model({"frames": paddle.randn([4, 2, 3, 32, 32])})
    write_arrays(folder / "w.pdparams", state_arrays(model))
    return Recipe(str(config), str(folder / "w.pdparams"), frame_rate=RATE)


def examples(folder):
    """Shard name -> its examples."""
    return {
        path.name: [parse_example(payload) for _, payload in read_payloads(path)]
        for path in sorted(folder.glob("*.tfrecord"))
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tfrecord"))}


def made(recipe, out, *inputs, workers=0, class_names=None, **plan):
    return extract_set(
        recipe,
        SetPlan(Path(out), **plan),
        [str(text) for text in inputs],
        class_names,
        num_workers=workers,
    )


@pytest.fixture(scope="module")
def train_set(recipe, clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "train"
    done = made(recipe, out, clips / "train", per_shard=5)
    assert (done.made, done.kept, done.silent, done.failed) == (12, 0, 12, [])
    return out


def test_what_is_in_the_shards(recipe, clips, train_set):
    found = examples(train_set)
    assert {name: len(part) for name, part in found.items()} == {
        f"train0000{n}.tfrecord": c for n, c in enumerate((5, 5, 2))
    }
    every = [example for part in found.values() for example in part]
    paths = sorted((clips / "train").rglob("*.mp4"))
    assert [example.id.decode() for example in every] == [
        path.relative_to(clips / "train").as_posix() for path in paths
    ]
    assert [example.labels.tolist() for example in every] == [
        [CLASSES.index(path.parent.name)] for path in paths
    ]
    assert (train_set / "labels.txt").read_text(encoding="utf-8") == "0 blue sky\n1 green\n2 红色\n"
    left = {path.name for path in train_set.iterdir()}
    assert left == {*found, "extractor.json", "fitted.npz", "whitening.npy", "labels.txt"}, (
        "nothing else stays"
    )
    codecs, _ = read_codecs(train_set / "fitted.npz")
    np.testing.assert_array_equal(np.load(train_set / "whitening.npy"), codecs["rgb"].scale)


def test_features_are_what_the_head_gets(recipe, clips, train_set):
    """Made once more, by hand: the frames of the middles, the valid pipeline, the backbone, the mean over the picture."""
    cfg = load_config(recipe.config)
    model = build_model(cfg, 3)
    model.set_state_dict(paddle.load(recipe.weights))
    model.eval()
    pipeline = build_pipeline(cfg, "valid")
    codecs, _ = read_codecs(train_set / "fitted.npz")
    every = [example for part in examples(train_set).values() for example in part]
    for example in every[::4]:
        path = str(clips / "train" / example.id.decode())
        with VideoDecoder().open(Record(path)) as clip:
            frames = clip.read([1, 3, 6, 7])  # at 0.05, 0.15, 0.25 s, and the last one
        arrays = pipeline.finish(pipeline.apply(frames, np.random.default_rng(0)))["frames"]
        vectors = model.backbone(paddle.to_tensor(arrays)).mean([2, 3]).numpy()
        off = np.abs(codecs["rgb"].encode(vectors).astype(int) - example.features["rgb"])
        assert (
            example.features["rgb"].shape == (4, 512) and off.max() <= 1 and (off > 0).mean() < 0.02
        )
        sound, silent = audio_vectors(path, 0.0, 4, RATE)
        assert silent and np.array_equal(codecs["audio"].encode(sound), example.features["audio"])


def test_workers_give_the_same_bytes(recipe, clips, train_set, tmp_path):
    made(recipe, tmp_path / "train", clips / "train", per_shard=5, workers=2)
    assert contents(tmp_path / "train") == contents(train_set)


class Killed(Exception):
    pass


def test_a_run_that_was_stopped_goes_on(recipe, clips, train_set, tmp_path, monkeypatch):
    out, seen = tmp_path / "train", []
    real_run, real_write = FrameNetwork._of, feature_sets.write_payloads

    def count(self, steps):
        seen.append(1)
        if len(seen) == 7:
            raise Killed
        return real_run(self, steps)

    monkeypatch.setattr(FrameNetwork, "_of", count)
    with pytest.raises(Killed):  # while fitting
        made(recipe, out, clips / "train", per_shard=5)
    assert not contents(out) and len(list((out / ".vectors").glob("*.npz"))) == 6

    def write_one(path, payloads):
        if contents(out):
            raise Killed
        return real_write(path, payloads)

    monkeypatch.setattr(feature_sets, "write_payloads", write_one)
    with pytest.raises(Killed):  # at the second shard
        made(recipe, out, clips / "train", per_shard=5)
    first = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    assert list(first) == ["train00000.tfrecord"] and len(seen) == 7 + 6, (
        "no video goes through the network twice"
    )
    monkeypatch.setattr(feature_sets, "write_payloads", real_write)
    done = made(recipe, out, clips / "train", per_shard=5)
    assert (done.made, done.kept) == (7, 5) and contents(out) == contents(train_set)
    assert (out / "train00000.tfrecord").stat().st_mtime_ns == first["train00000.tfrecord"]
    assert not (out / ".vectors").exists() and len(seen) == 13
    assert made(recipe, out, clips / "train", per_shard=5).kept == 12


def test_another_set_takes_what_was_fitted(recipe, clips, train_set, tmp_path):
    (tmp_path / "val" / "green").mkdir(parents=True)  # one class of the three: its id stays 1
    for path in (clips / "val" / "green").iterdir():
        shutil.copy(path, tmp_path / "val" / "green")
    out = tmp_path / "f" / "val"
    made(recipe, out, tmp_path / "val", fitted=train_set)
    (part,) = examples(out).values()
    assert len(part) == 2 and all(example.labels.tolist() == [1] for example in part)
    assert (out / "fitted.npz").read_bytes() == (train_set / "fitted.npz").read_bytes()
    assert (out / "labels.txt").read_bytes() == (train_set / "labels.txt").read_bytes()
    with pytest.raises(ValueError, match="--fitted brings its components"):
        SetPlan(out, train_set, num_components=4)


def test_components(recipe, clips, tmp_path):
    made(recipe, tmp_path / "few", clips / "train", num_components=6, fit_videos=5)
    (part,) = examples(tmp_path / "few").values()
    assert len(part) == 12 and part[0].features["rgb"].shape == (4, 6)
    codecs, _ = read_codecs(tmp_path / "few" / "fitted.npz")
    assert codecs["rgb"].components.shape == (512, 6) and codecs["audio"].components is None
    with pytest.raises(
        ValueError, match="40 principal components of 512 values in 20 frames; at most 19"
    ):
        made(recipe, tmp_path / "many", clips / "train", num_components=40, fit_videos=5)
    made(replace(recipe, audio=False), tmp_path / "mute", clips / "train" / "green")
    (payload,) = [next(read_payloads(path))[1] for path in (tmp_path / "mute").glob("*.tfrecord")]
    assert list(parse_example(payload, ["rgb"]).features) == ["rgb"] and b"audio" not in payload


def test_other_settings_are_refused(recipe, clips, train_set, tmp_path):
    for change, told in (
        ({"frame_rate": 5.0}, "10 frames a second, now network .* 5 frames a second"),
        (
            {"overrides": ("PIPELINE.valid.transform.0.Scale.short_size=40",)},
            "made_by was network .*, config ",
        ),
        ({"max_frames": 2}, "max_frames was 300, now 2"),
    ):
        with pytest.raises(
            ConfigError,
            match=rf"(?s)extractor.json: the features here were made otherwise: .*{told}.*--overwrite",
        ):
            made(replace(recipe, **change), train_set, clips / "train", per_shard=5)
    with pytest.raises(ConfigError, match="per_shard was 5, now 256"):
        made(recipe, train_set, clips / "train")
    with pytest.raises(ConfigError, match="num_videos was 12, now 6; list was"):
        made(recipe, train_set, clips / "val", per_shard=5)
    other = replace(recipe, frame_rate=5.0)
    with pytest.raises(
        ConfigError,
        match=r"fitted.npz was fitted on features of another kind: .* 10 frames a second.*or fit anew",
    ):
        made(other, tmp_path / "val", clips / "val", fitted=train_set)
    shutil.copytree(train_set, tmp_path / "train")
    made(other, tmp_path / "train", clips / "val", overwrite=True)
    assert {name: len(part) for name, part in examples(tmp_path / "train").items()} == {
        "train00000.tfrecord": 6
    }
    (tmp_path / "train" / "extractor.json").write_text("{")
    with pytest.raises(ConfigError, match="extractor.json: damaged"):
        made(other, tmp_path / "train", clips / "val")


def test_videos_that_fail(recipe, clips, tmp_path):
    source = tmp_path / "videos"
    for number, path in enumerate(sorted((clips / "train").rglob("*.mp4"))[:5]):
        source.mkdir(exist_ok=True)
        shutil.copy(path, source / f"{number}.mp4")
    good = (source / "1.mp4").read_bytes()
    (source / "1.mp4").write_bytes(good[: len(good) // 2])
    (source / "4.mp4").write_text("text")
    out, options = tmp_path / "out", {"per_shard": 2}
    done = made(recipe, out, source, **options)
    assert done.made == 3 and [(shard, Path(path).name) for shard, path, _ in done.failed] == [
        ("out00000.tfrecord", "1.mp4"), ("out00002.tfrecord", "4.mp4"),
    ]  # fmt: skip
    assert {name: len(part) for name, part in examples(out).items()} == {
        "out00000.tfrecord": 1,
        "out00001.tfrecord": 2,
    }
    rows = (out / "failures.tsv").read_text().splitlines()
    assert "cut short" in rows[0] and "1.mp4\t" in rows[0] and len(rows) == 2
    (source / "1.mp4").write_bytes(good)
    again = made(
        recipe, out, source, **options
    )  # what is done stays; a shard of nothing is tried again
    assert again.made == 0 and len(again.failed) == 2 and again.kept == 3
    mended = made(recipe, out, source, retry_failed=True, **options)
    assert (
        mended.made == 2
        and len(mended.failed) == 1
        and len(examples(out)["out00000.tfrecord"]) == 2
    )
    (source / "4.mp4").write_bytes(good)
    assert not made(recipe, out, source, **options).failed and not (out / "failures.tsv").exists()
    for path in source.iterdir():
        path.write_text("text")
    with pytest.raises(ValueError, match=r"not one video could be used to fit on; first: .*0.mp4"):
        made(recipe, tmp_path / "none", source)


class DiesAt:
    """Reads steps, but ends its process at one video, as a decoder may."""

    def __init__(self, read, name):
        self.read, self.name = read, name

    def __call__(self, job):
        if job[0].path.endswith(self.name):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.read(job)


def test_a_video_that_ends_its_process(recipe, clips):
    network = FrameNetwork(recipe)
    records = [Record(str(path)) for path in sorted((clips / "train").rglob("*.mp4"))[:4]]
    network.reader = DiesAt(network.reader, records[2].path)
    got = dict(network.vectors(records, num_workers=1))
    assert got.pop(2) == "it ended the process that decoded it"
    assert got.keys() == {0, 1, 3} and not any(isinstance(one, str) for one in got.values())


def test_a_network_of_clips(root, tmp_path, monkeypatch):
    """A vector of both pathways for each second, from the clip around its middle; in parts as in one piece."""
    small = [
        "MODEL.backbone.width_per_group=8",
        "MODEL.head.width_per_group=8",
        "MODEL.head.num_classes=2",
    ]
    small += ["PIPELINE.valid.decode_sampler.num_frames=8", "MODEL.head.num_frames=8"]
    cfg = load_config(root / "configs/demo/slowfast.yaml", small)
    model = build_model(cfg, 2)
    write_arrays(tmp_path / "w.pdparams", state_arrays(model))
    video = write_clip(tmp_path / "long.mp4", 80, 72, 96, tone=300.0)  # 3.2 s: 4 steps
    network = FrameNetwork(
        Recipe(str(root / "configs/demo/slowfast.yaml"), str(tmp_path / "w.pdparams"), tuple(small))
    )
    assert network.of_clips and network.widths == {"rgb": 32 * 8 + 32 * 2, "audio": 128}
    whole = network(Record(str(video))).features
    assert whole["rgb"].shape == (4, 320) and whole["audio"].shape == (4, 128)

    pipeline = build_pipeline(cfg, "valid")
    model.eval()
    with VideoDecoder().open(Record(str(video))) as clip:
        frames = clip.read(
            np.linspace(29.5, 44.5, 8).astype(int)
        )  # 0.64 s around 1.5 s: 17 frames, of which 16
    inputs = pipeline.finish(
        {k: v[None] for k, v in pipeline.apply(frames, np.random.default_rng(0)).items()}
    )
    maps = model.backbone({name: paddle.to_tensor(inputs[name]) for name in ("slow", "fast")})
    by_hand = np.concatenate([maps[name].mean([2, 3, 4]).numpy()[0] for name in ("fast", "slow")])
    np.testing.assert_allclose(whole["rgb"][1], by_hand, atol=1e-4)

    monkeypatch.setattr(extract, "PART_BYTES", 1)
    in_parts = FrameNetwork(network.recipe)
    assert in_parts.reader.part == 1
    parted = in_parts(Record(str(video))).features
    np.testing.assert_allclose(parted["rgb"], whole["rgb"], atol=1e-5)
    np.testing.assert_array_equal(parted["audio"], whole["audio"])


def test_networks_that_cannot(root, clips, recipe, tmp_path):
    cfg = load_config(
        root / "configs/demo/audio.yaml",
        ["MODEL.head.num_classes=2", "DATASET.root=null", "DATASET.class_names=null"],
    )
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 2)))
    changes = ("MODEL.head.num_classes=2", "DATASET.root=null", "DATASET.class_names=null")
    with pytest.raises(
        ConfigError,
        match=r"AudioRecognizer takes audio; features of frames are made by a network that takes frames",
    ):
        FrameNetwork(Recipe(cfg.origin.path, str(tmp_path / "w.pdparams"), changes))
    flip = replace(recipe, overrides=('PIPELINE.valid.transform=["RandomFlip"]',))
    with pytest.raises(ConfigError, match=r"PIPELINE.valid: RandomFlip draws random numbers"):
        FrameNetwork(flip)
    with pytest.raises(ValueError, match="max_frames 0; expected"):
        replace(recipe, max_frames=0)


def test_one_video_as_the_shards_have_it(recipe, clips, train_set, tmp_path):
    extractor = FeatureExtractor.beside(train_set)
    stored = examples(train_set)["train00001.tfrecord"][2]
    again = extractor(Record(str(clips / "train" / stored.id.decode()), id="other"))
    assert again.id == b"other" and not len(again.labels)
    for name, frames in stored.features.items():
        np.testing.assert_array_equal(again.features[name], frames)
    with pytest.raises(ValueError, match="no such file"):
        extractor(Record("gone.mp4"))
    with pytest.raises(
        ConfigError, match=r"extractor.json: there is no such file; it stands beside features"
    ):
        FeatureExtractor.beside(tmp_path)
    shutil.copytree(train_set, tmp_path / "copy")
    recipe_file = tmp_path / "copy" / "extractor.json"
    held = json.loads(recipe_file.read_text())
    recipe_file.write_text(json.dumps({**held, "frame_rate": 3.0}))
    with pytest.raises(ConfigError, match="was fitted on features of another kind"):
        FeatureExtractor.beside(tmp_path / "copy")
    recipe_file.write_text("[]")
    with pytest.raises(ConfigError, match="not the recipe of features, or damaged"):
        FeatureExtractor.beside(tmp_path / "copy")


def test_a_tagger_learns_from_it(recipe, clips, train_set, root, tmp_path):
    made(recipe, tmp_path / "val", clips / "val", fitted=train_set)
    changes = [
        f"DATASET.{split}.file_path={folder}"
        for split, folder in (("train", train_set), ("valid", tmp_path / "val"))
    ]
    changes += [
        "MODEL.head.num_classes=3",
        "DATASET.batch_size=4",
        "epochs=4",
        "val_interval=1",
        f"output_dir={tmp_path}/out",
    ]
    train(load_config(root / "configs/demo/nextvlad.yaml", changes))
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    ]
    assert max(row["gap"] for row in rows if row["split"] == "valid") > 0.8, (
        "three colours are told apart"
    )


def test_the_tool(recipe, clips, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        fixed = [
            "-c",
            recipe.config,
            "-w",
            recipe.weights,
            "--frame_rate",
            "10",
            "--num_workers",
            "0",
            "--no-use_gpu",
        ]
        monkeypatch.setattr(sys, "argv", ["extract_features.py", *map(str, arguments), *fixed])
        return extract_features.main(), capsys.readouterr()

    code, said = run("-i", clips / "val", "-o", tmp_path / "val", "--pca", "5", "--no_audio")
    assert code == 0 and "features of 6 videos made, 0 already there, 0 failed" in said.out
    code, said = run("-i", clips / "val", "-o", tmp_path / "val", "--pca", "5", "--no_audio")
    assert code == 0 and "0 videos made, 6 already there" in said.out
    (tmp_path / "bad.mp4").write_text("text")
    code, said = run("-i", clips / "val", tmp_path / "bad.mp4", "-o", tmp_path / "some")
    assert (
        code == 1
        and "bad.mp4: " in said.out
        and "6 of those made have no sound: silence" in said.out
    )
    code, said = run("-i", tmp_path / "nowhere", "-o", tmp_path / "x")
    assert (
        code == 1
        and "no such file or folder" in said.err
        and "Traceback" not in said.err
        and not (tmp_path / "x").exists()
    )
    monkeypatch.setattr(
        FrameNetwork, "vectors", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    code, said = run("-i", clips / "val", "-o", tmp_path / "y")
    assert code == 130 and "start it again to go on" in said.err


def test_a_tagger_is_given_videos(recipe, clips, train_set, root, tmp_path, monkeypatch, capsys):
    """`predict` does both steps: the tags of an mp4 are those of its record in the shards."""
    config = root / "configs/demo/nextvlad.yaml"
    model = build_model(load_config(config, ["MODEL.head.num_classes=3"]))
    write_arrays(tmp_path / "tagger.pdparams", state_arrays(model))

    def run(*arguments):
        fixed = [
            "-c",
            config,
            "-o",
            "MODEL.head.num_classes=3",
            "-w",
            tmp_path / "tagger.pdparams",
            "--quiet",
        ]
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, fixed), *map(str, arguments)])
        code = predict.main()
        return code, capsys.readouterr()

    rows = {}
    for name, source in (
        ("shard", [train_set]),
        ("video", [clips / "train", "--features", train_set]),
    ):
        code, _ = run(
            "-i",
            *source,
            "--out",
            tmp_path / f"{name}.json",
            "--class_names",
            train_set / "labels.txt",
        )
        rows[name] = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        assert code == 0 and len(rows[name]) == 12
    for of_shard, of_video in zip(rows["shard"], rows["video"], strict=True):
        assert (
            of_video["input_path"].endswith(of_shard["id"])
            and of_video["label_names"] == of_shard["label_names"]
        )
        np.testing.assert_allclose(of_video["scores"], of_shard["scores"], atol=1e-6)
    (tmp_path / "bad.mp4").write_text("text")
    code, said = run(
        "-i",
        tmp_path / "bad.mp4",
        clips / "val",
        "--features",
        train_set,
        "--out",
        tmp_path / "bad.json",
    )
    results = json.loads((tmp_path / "bad.json").read_text(encoding="utf-8"))
    assert (
        code == 1
        and "features: " in results[0]["error"]
        and len(results) == 7
        and "error" not in results[1]
    )
    code, said = run("-i", clips / "val", "--out", tmp_path / "none.json")
    assert (
        code == 1
        and "make them with tools/extract_features.py" in said.err
        and "--features" in said.err
    )
