"""Container formats by their first bytes, and the detection of truncated files."""

import pytest

from paddlevideo.curate.formats import HEAD_BYTES, identify_format, missing_bytes
from paddlevideo.curate.probe import ProbeOptions, probe_video
from paddlevideo.sample import Record
from tests.video_sets import good_clip, truncate

ISO, MATROSKA = "MP4 or QuickTime", "Matroska or WebM"


@pytest.mark.parametrize(
    ("name", "codec", "container_format"),
    [
        ("a.mp4", "libx264", ISO),
        ("a.mkv", "libx264", MATROSKA),
        ("a.avi", "mpeg4", "AVI"),
        ("a.ts", "libx264", "MPEG-TS"),
        ("a.m2ts", "libx264", "MPEG-TS"),
        ("a.flv", "libx264", "FLV"),
        ("a.mpg", "mpeg2video", "MPEG"),
        ("a.wmv", "mpeg4", "ASF"),
    ],
)
def test_identifies_containers(tmp_path, name, codec, container_format):
    path = good_clip(tmp_path / name, 1, 10, codec=codec)
    assert identify_format(path.read_bytes()[:HEAD_BYTES]) == (container_format, "")
    assert missing_bytes(str(path), container_format) == 0


@pytest.mark.parametrize(
    ("head", "description"),
    [
        (b"", ""),
        (b"\xff\xd8\xff\xe0", "an image (JPEG)"),
        (b"\0\0\0\x20ftypavif", "an image (HEIF or AVIF)"),
        (b"RIFF\0\0\0\0WAVE", "audio (WAV)"),
        (b"\n <html>", "a web page (HTML), perhaps the error page of a failed download"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "a Git LFS pointer; download the video itself with `git lfs pull`",
        ),
    ],
)
def test_describes_files_that_are_not_videos(head, description):
    assert identify_format(head) == ("", description)


@pytest.mark.parametrize(
    ("name", "codec", "container_format"),
    [("a.avi", "mpeg4", "AVI"), ("a.mkv", "libx264", MATROSKA)],
)
def test_counts_missing_bytes(tmp_path, name, codec, container_format):
    path = good_clip(tmp_path / name, 1, 10, codec=codec)
    size = path.stat().st_size
    truncate(path, tmp_path / "half", 0.5)
    assert missing_bytes(str(tmp_path / "half"), container_format) == size - size // 2


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_accepts_an_avi_of_unknown_size(tmp_path, length):
    path = good_clip(tmp_path / "a.avi", 1, 10, codec="mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[:4] + length + content[8:])
    assert missing_bytes(str(path), "AVI") == 0


def test_accepts_a_matroska_file_of_unknown_size(tmp_path):
    path = good_clip(tmp_path / "a.mkv", 1, 10)
    content = path.read_bytes()
    start = content.index(b"\x18\x53\x80\x67") + 4
    path.write_bytes(content[:start] + b"\x01" + b"\xff" * 7 + content[start + 8 :])
    assert missing_bytes(str(path), MATROSKA) == 0
    assert probe_video(Record(str(path)), ProbeOptions()).faults == []


@pytest.mark.parametrize("padding", [b"\0" * 300, b"\xff" * 300, b"camera's own data " * 9])
def test_accepts_padding_after_the_last_box(tmp_path, padding):
    path = good_clip(tmp_path / "a.mp4", 1, 10)
    path.write_bytes(path.read_bytes() + padding)
    assert missing_bytes(str(path), ISO) == 0
    assert probe_video(Record(str(path)), ProbeOptions()).faults == []
