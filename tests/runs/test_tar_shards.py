"""Training, test and prediction from tar shards equal those of files; resuming is exact."""

import json

import numpy as np
import pytest
import yaml

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.commands.predict import main as predict
from paddlevideo.curate.make_shards import ShardSettings, load_data, make_shards
from paddlevideo.data.failures import TooManyFailures
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.weights import state_arrays, write_arrays
from tests.conftest import small_config
from tests.runs.test_ranks import finish, launch
from tests.runs.test_train import Killed, kill_at, losses_of, weights_of
from tests.tar_shards import write_tar


@pytest.fixture(scope="module")
def shards(clips, tmp_path_factory):
    """The session's clips in shards of a few clips each, in the order of their folders."""
    out = tmp_path_factory.mktemp("shards")
    for split in ("train", "val", "test"):
        data = load_data(str(clips / split), "video")
        done = make_shards(*data, out, ShardSettings(split, 9_000), 1)
        assert done.num_made > 1
    return out


@pytest.fixture
def tar_config(clips, shards, tmp_path):
    """`tar_config(*overrides, **options)`: the small config on shards; options are WebDataset's."""

    def make(*overrides, **options):
        folder = tmp_path / "tar"
        folder.mkdir(exist_ok=True)
        path = small_config(clips, folder)
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
            data["DATASET"][split] = {
                "format": "WebDataset",
                "file_path": f"{shards}/{name}-*.tar",
                **(options if split == "train" else {}),
            }
        path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        return load_config(path, list(overrides))

    return make


def test_training_and_test_equal_those_of_files(small, tar_config, tmp_path):
    files, tars = small("epochs=1"), tar_config("epochs=1", "DATASET.num_workers=2")
    for cfg in (files, tars):
        train(cfg)
    assert weights_of(files) == weights_of(tars)
    assert losses_of(files) == losses_of(tars)
    weights = f"{files.folder}/ppTSN_best.pdparams"
    scores = {}
    for name, cfg in (("files", files), ("tars", tars)):
        run_test(cfg, weights, out=str(tmp_path / f"{name}.npz"))
        with np.load(tmp_path / f"{name}.npz") as arrays:
            scores[name] = {key: arrays[key] for key in arrays.files}
    assert scores["files"].keys() == scores["tars"].keys()
    for key, array in scores["files"].items():
        assert np.array_equal(array, scores["tars"][key]), key


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tar_config, tmp_path, monkeypatch):
    uninterrupted = tar_config(f"output_dir={tmp_path}/whole", shuffle_buffer=3)
    train(uninterrupted)
    killed = tar_config(shuffle_buffer=3)
    for step in (6, 2):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(killed, resume="auto")
    train(killed, resume="auto")
    assert weights_of(killed) == weights_of(uninterrupted)
    assert losses_of(killed) == losses_of(uninterrupted)


def test_samples_that_fail_are_counted_and_named(tar_config, tmp_path, clips):
    video = next((clips / "train").rglob("*.mp4")).read_bytes()
    entries = [("bad.mp4", b"no video" * 99), ("bad.cls", b"1"), ("link.pkl", b"x")]
    for number in range(6):
        entries += [(f"v{number}.mp4", video), (f"v{number}.cls", b"%d" % (number % 3))]
    write_tar(tmp_path / "bad.tar", entries)
    path = [f"DATASET.{split}.file_path={tmp_path}/bad.tar" for split in ("train", "valid")]
    flags = [*path, "epochs=1", "MODEL.head.num_classes=3", "DATASET.valid.on_error=skip"]
    with pytest.raises(TooManyFailures, match=r"bad.tar@(bad|link): decode: "):
        train(tar_config(*flags))


def test_predict_gives_a_result_for_each_sample(small, shards, clips, tmp_path):
    cfg = small()
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    results = {}
    common = ["-c", str(cfg.origin.path), "-w", str(tmp_path / "w.pdparams")]
    inputs = {"tars": shards / "test-*.tar", "files": clips / "test", "folder": shards}
    for name, given in inputs.items():
        out = tmp_path / f"{name}.jsonl"
        assert predict([*common, "-i", str(given), "--out", str(out)]) == 0
        results[name] = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(results["tars"]) == len(results["files"]) == 7
    assert len(results["folder"]) == 12 + 6 + 7

    def name_of(result):
        return result["input_path"].rpartition("/")[2].removesuffix(".mp4")

    scores = {name_of(result): result["scores"] for result in results["files"]}
    assert {name_of(result): result["scores"] for result in results["tars"]} == scores
    first = results["tars"][0]["input_path"]
    assert first.startswith(f"{shards}/test-000000.tar@blue sky/clip ")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_evaluate_the_same_scores(tar_config, tmp_path, root, ranks):
    cfg = tar_config()
    write_arrays(tmp_path / "w.pdparams", state_arrays(build_model(cfg, 3)))
    alone = run_test(cfg, str(tmp_path / "w.pdparams"), out=str(tmp_path / "one.npz"))
    arguments = ["-c", str(cfg.origin.path), "-w", f"{tmp_path}/w.pdparams"]
    out = tmp_path / "many.json"
    finish(launch(root, tmp_path, ranks, "--test", *arguments, "--out", str(out)), tmp_path)
    together = json.loads(out.read_text())
    for key in ("top1", "top3", "num_samples"):
        assert together["numbers"][key] == alone.numbers[key]


@pytest.mark.slow
def test_two_ranks_train_as_on_files(small, tar_config, tmp_path, root):
    weights = []
    for name, cfg in (("files", small()), ("tars", tar_config())):
        folder = tmp_path / f"{name}_out"
        folder.mkdir()
        flags = ["-o", f"output_dir={folder}", "-o", "DATASET.batch_size=2"]
        finish(launch(root, folder, 2, "-c", str(cfg.origin.path), *flags), folder)
        cfg = load_config(cfg.origin.path, [f"output_dir={folder}"])
        weights.append(weights_of(cfg))
    assert weights[0] == weights[1]
