"""The benchmark of smaller copies on tiny videos; the tests do not check speeds."""

import argparse
from pathlib import Path

import pytest

from paddlevideo.benchmarks import resize
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import Record
from tests.clips import write_clip


@pytest.fixture
def measured(small, tmp_path):
    """`measured(videos)` -> the groups of the benchmark."""

    def run(videos: Path):
        (tmp_path / "work").mkdir()
        synthetic = {"clips": 1, "frames": 12, "size": (64, 48), "gop": 6}
        args = argparse.Namespace(
            config=small().origin.path,
            override=[],
            batch_size=2,
            rounds=2,
            workers=0,
            videos=videos,
            short_side=[32],
            new_gop=[2, 6],
            **synthetic,
        )
        return list(resize.groups(args, tmp_path / "work"))

    return run


def test_compares_originals_with_copies(measured, tmp_path):
    write_clip(tmp_path / "videos" / "a b.mp4")
    write_clip(tmp_path / "videos" / "c.avi", codec="mpeg4")
    groups = measured(tmp_path / "videos")
    assert [(group.unit, group.count) for group in groups] == [("clip", 16), ("video", 16)]
    for group in groups:
        names = ["as they are", "short side 32, gop 2", "short side 32, gop 6"]
        assert [row.name for row in group.rows] == names
        for row in group.rows:
            assert len(row.seconds) == 2 and row.ratio > 0 and row.note.endswith(" MB")
    copies = sorted((tmp_path / "work").glob("32_*/*.mp4"))
    assert len(copies) == 4
    for path in copies:
        with VideoDecoder().open(Record(str(path))) as clip:
            assert clip.num_frames == 30 and min(clip.read([0]).shape[1:3]) == 32


def test_names_a_video_that_cannot_be_resized(measured, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text.mp4: .*; take it out of the folder"):
        measured(tmp_path / "videos")
