"""tools/check_data.py: from a folder to lists that train, exit codes, and error messages."""

import os
import shutil
import subprocess
import sys

import pytest

from paddlevideo.curate.results import CONFIG, FRAMES_CONFIG
from paddlevideo.engine.build import load_config
from paddlevideo.engine.classes import load_records
from tests.clips import random_frames, write_clip
from tests.scripts import run_script

OUTPUTS = {
    "train.csv",
    "val.csv",
    "labels.txt",
    "bad_files.csv",
    "check.json",
    "data_report.html",
}


TOOL = "tools/check_data.py"


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """`run_tool(*arguments)`: run the tool in this process, with no other ones.

    Returns (exit code, standard output, standard error).
    """
    return lambda *words: run_script(monkeypatch, capsys, TOOL, *words, "--workers", "0")


@pytest.fixture
def videos(tmp_path):
    """`my videos`: five clips in each of two class folders."""
    folder = tmp_path / "my videos"
    for number in range(10):
        path = folder / ("run", "跑步")[number % 2] / f"{number}.mp4"
        write_clip(path, 8, frames=random_frames(8, seed=number))
    return folder


def test_writes_lists_that_train(root, videos):
    command = [sys.executable, "-B", TOOL, str(videos), "--workers", "1"]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    headline = "all 10 clips are good: 8 train, 2 valid (split drawn here); 2 classes; 3 s of video"
    assert headline in done.stdout
    assert {path.name for path in videos.iterdir()} == OUTPUTS | {"run", "跑步"}
    command = (
        f"python main.py --validate -c configs/finetune/motion.yaml -o 'DATASET.root={videos}'"
    )
    other = f"where single frames show the class: the same with -c {FRAMES_CONFIG}"
    assert done.stdout.endswith(f"train on it: {command}\n{other}\n")
    assert (root / CONFIG).exists() and (root / FRAMES_CONFIG).exists()
    cfg = load_config(root / CONFIG, [f"DATASET.root={videos}"])
    lists, classes = load_records(cfg, ("train", "valid"))
    assert {split: len(lists[split].records) for split in lists} == {"train": 8, "valid": 2}
    assert classes.names == ["run", "跑步"]


def test_keeps_the_lists_when_a_broken_file_is_added(run_tool, videos):
    assert run_tool(videos)[0] == 0
    before = {name: (videos / name).read_bytes() for name in ("train.csv", "val.csv", "labels.txt")}
    (videos / "run" / "broken.mp4").write_bytes(b"")
    code, printed, _ = run_tool(videos, "--seed", "0")
    assert code == 1 and "empty: empty file, 1 (left out)" in printed
    assert {name: (videos / name).read_bytes() for name in before} == before


def test_writes_nothing_in_a_dry_run(run_tool, videos):
    shutil.rmtree(videos / "跑步")
    code, printed, _ = run_tool(videos, "--dry_run", "--min_frames", "9")
    assert code == 1 and "run/0.mp4: 8 frames, expected at least 9" in printed
    assert [path.name for path in videos.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such file or folder"),
        (["README.md"], "README.md: none of its files exists"),
        (["VIDEOS", "--valid_share", "1"], "shares of 1 and 0 leave nothing to train on"),
        (["VIDEOS", "--source", "(x"], "source '(x' is not a regular expression"),
        (["VIDEOS", "--class_names", "none.txt"], "none.txt: no such file of class names"),
        (["VIDEOS", "--out", "README.md"], "cannot write README.md"),
        (["VIDEOS", "--frames", "0"], "frames 0, min_frames 2"),
    ],
)
def test_reports_mistakes_in_one_message(
    run_tool, videos, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# No list\n")
    words = [str(videos) if word == "VIDEOS" else word for word in arguments]
    code, _, errors = run_tool(*words)
    assert code == 2
    assert errors.startswith("error: ") and "Traceback" not in errors
    assert message in errors
    assert sorted(os.listdir(videos)) == ["run", "跑步"]


def test_help_imports_no_library(root):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['check_data.py', '--help']\n"
        "try: runpy.run_path('tools/check_data.py', run_name='__main__')\n"
        "finally: print({'av', 'cv2', 'numpy', 'paddle'} & set(sys.modules), file=sys.stderr)\n"
    )
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ") and done.stderr == "set()\n"
