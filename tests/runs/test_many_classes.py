"""A head with very many classes trains, validates, tests and reports."""

import json

import pytest

import paddlevideo
from paddlevideo.report.run_report import write_report

NUM_CLASSES = 100_000


@pytest.mark.slow
def test_100_000_classes(small, clips, tmp_path):
    lists = []
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        files = sorted((clips / name).rglob("*.mp4"))
        last = NUM_CLASSES - 1
        lines = [
            f"{file} {number * last // (len(files) - 1)}\n" for number, file in enumerate(files)
        ]
        (tmp_path / f"{split}.list").write_text("".join(lines), encoding="utf-8")
        lists.append(f"DATASET.{split}.file_path={tmp_path / split}.list")
    cfg = small(*lists, f"MODEL.head.num_classes={NUM_CLASSES}", "epochs=1", "MIX=null")
    paddlevideo.train(cfg)
    best = json.loads((tmp_path / "out" / "valid_best.json").read_text(encoding="utf-8"))
    assert len(best["samples"]) == NUM_CLASSES and sum(best["samples"]) > 0
    paddlevideo.test(cfg, str(tmp_path / "out" / "ppTSN_best.pdparams"))
    assert write_report(tmp_path / "out").stat().st_size < 6 << 20
