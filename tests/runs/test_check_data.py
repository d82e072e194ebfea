"""tools/check_data.py as a user runs it: from a folder to lists that a config trains on, exit codes, one message a mistake."""

import os
import shutil
import subprocess
import sys

import pytest

from paddlevideo.curate.results import CONFIG
from paddlevideo.engine.build import load_config, load_records
from tests.clips import random_frames, write_clip


def run(root, *arguments):
    command = [sys.executable, "-B", "tools/check_data.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def videos(tmp_path):
    """`my videos`: five clips of each of two classes."""
    for number in range(10):
        label = ("run", "跑步")[number % 2]
        write_clip(
            tmp_path / "my videos" / label / f"{number}.mp4",
            8,
            frames=random_frames(8, seed=number),
        )
    return tmp_path / "my videos"


def test_a_folder_becomes_lists_that_train(root, videos):
    done = run(root, videos)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "all 10 clips are good: 8 train, 2 val (split drawn here); 2 classes; 3 s of video"
        in done.stdout
    )
    files = {path.name for path in videos.iterdir()}
    assert files == {
        "run",
        "跑步",
        "train.csv",
        "val.csv",
        "labels.txt",
        "bad_files.csv",
        "check.json",
        "data_report.html",
    }
    command = f"python main.py --validate -c configs/finetune/pptsn.yaml -o 'DATASET.root={videos}'"
    assert done.stdout.endswith(f"train on it: {command}\n") and (root / CONFIG).exists()
    cfg = load_config(root / CONFIG, [f"DATASET.root={videos}"])
    lists, classes = load_records(cfg, ("train", "valid"))
    assert (len(lists["train"].records), len(lists["valid"].records), classes.names) == (
        8,
        2,
        ["run", "跑步"],
    )

    before = {name: (videos / name).read_bytes() for name in ("train.csv", "val.csv", "labels.txt")}
    (videos / "run" / "broken.mp4").write_bytes(b"")
    done = run(root, videos, "--seed", "0")
    assert done.returncode == 1 and "empty: empty file, 1 (left out)" in done.stdout
    assert {name: (videos / name).read_bytes() for name in before} == before


def test_nothing_is_written_where_nothing_was_asked_for(root, videos):
    shutil.rmtree(videos / "跑步")
    done = run(root, videos, "--dry_run", "--workers", "0", "--min_frames", "9")
    assert done.returncode == 1 and "run/0.mp4: 8 frames, at least 9 wanted" in done.stdout
    assert [path.name for path in videos.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such file or folder"),
        (["README.md"], "README.md: none of its files exists"),
        (["VIDEOS", "--valid_share", "1"], "shares of 1 and 0 leave nothing to train on"),
        (["VIDEOS", "--source", "(x"], "source '(x' is no regular expression"),
        (["VIDEOS", "--class_names", "none.txt"], "none.txt: no such file of class names"),
        (["VIDEOS", "--out", "README.md"], "cannot write README.md"),
        (["VIDEOS", "--frames", "0"], "frames 0, min_frames 2"),
    ],
)
def test_mistakes_give_one_message(root, videos, arguments, message):
    done = run(root, *(str(videos) if word == "VIDEOS" else word for word in arguments))
    assert (
        done.returncode == 2
        and done.stderr.startswith("error: ")
        and "Traceback" not in done.stderr
    )
    assert message in done.stderr, done.stderr
    assert sorted(os.listdir(videos)) == ["run", "跑步"]
