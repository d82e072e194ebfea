"""File and class names as an attack, through complete commands."""

import csv
import logging
import os
import shutil
import subprocess
import sys

import yaml

import main
from paddlevideo.api import train
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.predict.results import Result
from tests.clips import random_frames, write_clip

FORGED = "[01-01 00:00:00] training ppTSN finished"
EVIL = f"evil\x1b[2J\n{FORGED}"
SHOWN = rf"evil\x1b[2J\n{FORGED}"


def evil_folders(clips, folder):
    """`clips` with an evil class name and an evil name of a broken video."""
    for split in ("train", "val"):
        shutil.copytree(clips / split, folder / split)
        (folder / split / "green").rename(folder / split / EVIL)
    (folder / "train" / EVIL / f"broken {EVIL}.mp4").write_bytes(b"x")


def assert_harmless(text):
    assert "\x1b" not in text and not any(line.startswith(FORGED) for line in text.splitlines())


def test_names_of_a_training_reach_no_terminal_log_or_list(small, clips, tmp_path, capsys):
    evil_folders(clips, tmp_path)
    options = [
        f"DATASET.{k}.file_path={tmp_path / v}" for k, v in (("train", "train"), ("valid", "val"))
    ]
    cfg = small(*options, "epochs=1", "DATASET.train.max_failures=2", "seed=3", "model_name=ppTSN")
    before = list(logging.getLogger("paddlevideo").handlers)
    train(cfg)
    assert logging.getLogger("paddlevideo").handlers == before
    out, err = capsys.readouterr()
    folder = tmp_path / "out"
    for text in (out, err, *((folder / n).read_text() for n in ("log.txt", "labels.txt"))):
        assert_harmless(text)
    assert SHOWN in out and rf"broken {SHOWN}.mp4: decode: " in out
    assert read_class_names(folder / "labels.txt") == sorted(["blue sky", SHOWN, "红色"])
    names = read_model(folder / "ppTSN_best.pdparams")[1]
    assert names == read_class_names(folder / "labels.txt"), "one name in all files"


def test_a_command_line_ends_no_comment_of_run_yaml(small, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "sys.argv", ["main.py", "-o", "x=\nepochs: 99\u2028seed: 7\x85log_interval: 3"]
    )
    cfg = small("epochs=1", "max_iters=1")
    train(cfg, validate=False)
    data = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text(encoding="utf-8"))
    assert data["epochs"] == 1 and "seed" not in data


def test_errors_of_a_command_are_harmless(small, monkeypatch, capsys, tmp_path):
    cfg = small()
    arguments = ["main.py", "-c", cfg.origin.path, "-o", f"DATASET.train.file_path={EVIL}"]
    monkeypatch.setattr("sys.argv", arguments)
    assert main.main() == 1
    out, err = capsys.readouterr()
    assert_harmless(out + err)
    assert err.startswith("error: ")


def test_a_prediction_is_harmless(capsys):
    Result(EVIL, [0], [1.0], [EVIL], id=EVIL, error=EVIL, note=EVIL).print()
    out = capsys.readouterr().out
    assert_harmless(out)
    assert out.count(SHOWN) == 5


def test_tables_of_check_data_hold_no_formula_and_can_be_read(tmp_path, root):
    names = {"=cmd": "=1+1.mp4", "@sum": "@a.mp4", "+x 'y'": "+b|c.mp4", "-word": "-d.mp4"}
    for seed, (label, name) in enumerate(names.items()):
        for number in range(2):
            path = tmp_path / label / (name if number else f"0{name}")
            write_clip(
                path,
                num_frames=8,
                height=40,
                width=56,
                frames=random_frames(8, 40, 56, seed=2 * seed + number),
            )
    (tmp_path / "=cmd" / "=broken.mp4").write_bytes(b"x")
    command = [sys.executable, root / "tools/check_data.py", tmp_path, "--valid_share", "0.5"]
    subprocess.run([*map(str, command)], check=False, capture_output=True)
    cells, paths = [], []
    for table in sorted(path.name for path in tmp_path.glob("*.csv")):
        with (tmp_path / table).open(encoding="utf-8", newline="") as file:
            cells += [cell for row in csv.reader(file) for cell in row]
        if table != "bad_files.csv":
            records = VideoDataset(str(tmp_path / table)).load(list(names)).records
            paths += [record.path for record in records]
    assert not [cell for cell in cells if cell[:1] in ("=", "@", "+")]
    assert len(paths) == 8 and all(map(os.path.exists, paths))
