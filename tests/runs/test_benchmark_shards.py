"""The benchmark of shards on tiny videos; the tests do not check speeds."""

import argparse

import pytest

from paddlevideo.benchmarks import shards
from tests.clips import write_clip


@pytest.fixture
def measured(small, tmp_path):
    """`measured(**changes)` -> the groups of the benchmark."""

    def run(**changes):
        (tmp_path / "work").mkdir()
        values = {
            "config": small().origin.path,
            "override": [],
            "batch_size": 2,
            "rounds": 2,
            "workers": [0],
            "videos": None,
            "clips": 3,
            "frames": 6,
            "size": (64, 48),
            "gop": 6,
            "shard_size": "5KB",
            "shuffle_buffer": 2,
        }
        return list(shards.groups(argparse.Namespace(**values | changes), tmp_path / "work"))

    return run


def test_compares_files_with_shards(measured):
    (group,) = measured()
    assert (group.unit, group.count) == ("clip", 2)
    assert [row.name for row in group.rows] == ["files, 0 workers", "shards, 0 workers"]
    assert [row.note for row in group.rows] == ["3 files", "3 shards"]
    assert all(len(row.seconds) == 2 and row.ratio > 0 for row in group.rows)


def test_too_few_videos(measured, tmp_path):
    write_clip(tmp_path / "videos" / "a.mp4", 6)
    with pytest.raises(ValueError, match="1 clips do not fill a batch of 2"):
        measured(videos=tmp_path / "videos")


def test_names_a_video_that_cannot_be_stored(measured, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "empty.mp4").touch()
    write_clip(tmp_path / "videos" / "a.mp4", 6)
    with pytest.raises(ValueError, match=r"empty.mp4: .*0 bytes.*; take it out of the folder"):
        measured(videos=tmp_path / "videos")
