"""Data preparation --on: files and lists have the same bytes as those of this machine."""

import shutil
from pathlib import Path

import pytest

from paddlevideo import paddle_internals
from paddlevideo.commands import (
    build_audio_features,
    check_data,
    extract_features,
    extract_frames,
    resize_videos,
)
from paddlevideo.quantizing.videos import Videos
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.scale.cluster import Cluster
from paddlevideo.scale.flags import Place
from paddlevideo.scale.run_each import RunOnCluster
from tests.audio_clips import chirps, write_audio
from tests.clips import random_frames, write_clip
from tests.runs.feature_sets import make_recipe


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two classes with two videos each, and a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        path = folder / ("a b", "c")[number % 2] / f"clip {number}.mp4"
        write_clip(path, frames=random_frames(8, 64, 96, seed=number), height=64, width=96)
    (folder / "c" / "broken.mp4").write_bytes(b"no video")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def compared(command, words, tmp_path: Path, double, code: int) -> dict[str, bytes]:
    """Run a command on this machine and on the double; returns the files of both."""
    out, trees = tmp_path / "out", []
    for flags in ((), ("--on", "ray")):
        given = [str(out) if word == "OUT" else str(word) for word in words]
        assert command.main([*given, *flags]) == code
        trees.append(tree(out))
        shutil.rmtree(out)
    assert double.connections == 1 and double.rounds.sizes
    assert trees[0] == trees[1] and len(trees[0]) > 2
    return trees[0]


def test_resize(videos, tmp_path, double, capsys):
    words = [videos, "OUT", "--short_side", "32", "--num_workers", "1"]
    files = compared(resize_videos, words, tmp_path, double, 1)
    assert {"a b/clip 0.mp4", "failures.tsv", "made_with.json"} <= files.keys()
    assert capsys.readouterr().out.count("4 made, 0 kept, 1 failed") == 2


def test_resize_goes_on(videos, tmp_path, double, capsys):
    words = [str(videos), str(tmp_path / "out"), "--short_side", "32", "--on", "ray"]
    assert resize_videos.main([*words, "--part", "1/2"]) == 1
    assert resize_videos.main(words) == 1
    assert "2 made, 2 kept, 1 failed" in capsys.readouterr().out


def test_frames(videos, tmp_path, double):
    words = [videos, "OUT", "--short_side", "32", "--num_workers", "1"]
    files = compared(extract_frames, words, tmp_path, double, 1)
    assert len([name for name in files if name.endswith(".jpg")]) == 32
    assert "frames.list" in files


def test_audio_features(tmp_path, double):
    source = tmp_path / "audio"
    for number in range(3):
        write_audio(source / f"{number}.wav", chirps(0.4, seed=number))
    (source / "broken.wav").write_bytes(b"RIFF")
    words = [source, "OUT", "--num-workers", "1"]
    files = compared(build_audio_features, words, tmp_path, double, 1)
    assert {"0.npy", "1.npy", "2.npy"} <= files.keys()


def test_check_data(videos, tmp_path, double, monkeypatch):
    words = [videos, "--out", "OUT", "--workers", "0"]
    files = compared(check_data, words, tmp_path, double, 1)
    assert b"broken.mp4" in files["bad_files.csv"]


def test_frame_features(videos, clips, tmp_path, double):
    recipe = make_recipe(clips, tmp_path, 8)
    words = ["-i", videos, "-c", recipe.config, "-w", recipe.weights, "-o", "OUT"]
    words += ["--frame_rate", "10", "--num_workers", "0", "--per_shard", "2", "--no_audio"]
    with paddle_internals.keep_num_threads():
        files = compared(extract_features, words, tmp_path, double, 1)
    assert len([name for name in files if name.endswith(".tfrecord")]) == 3
    assert b"broken.mp4" in files["failures.tsv"]


def test_gpus_for_frame_features(videos, tmp_path, double, capsys):
    words = ["-i", str(videos), "-c", "pptsn", "-w", "w.pdparams", "-o", str(tmp_path / "out")]
    assert extract_features.main([*words, "--on", "ray", "--use_gpu"]) == 1
    assert "--use_gpu with --on needs GPUs for the workers" in capsys.readouterr().err
    assert double.connections == 0


def test_calibration_videos(exported, videos, double):
    """What quantize calibrates and compares with."""
    run = RunOnCluster(Cluster("the double", double), Place("ray"))
    manifest = read_manifest(exported.folder)
    found = []
    for how in (None, run):
        source = Videos(exported.folder, manifest, str(videos), how)
        samples = list(source.samples(range(len(source.records))))
        views = [source.view(number, sample)["frames"].tobytes() for number, sample in samples]
        found.append(([number for number, _ in samples], views, source.skipped))
    assert found[0] == found[1]
    assert len(found[0][0]) == 4 and list(found[0][2]) == [str(videos / "c" / "broken.mp4")]


@pytest.mark.parametrize("command", [resize_videos, extract_frames, build_audio_features])
def test_flags_of_a_cluster_need_one(command, tmp_path, capsys, videos):
    words = [str(videos), str(tmp_path / "out"), "--actors", "2:3"]
    assert command.main(words) in (1, 2)
    assert "--actors is for work on a cluster; give --on ray" in capsys.readouterr().err
