"""Probing one video: its properties, hidden damage, and clips that are too short."""

import av
import numpy as np
import pytest

from paddlevideo.curate import probe
from paddlevideo.curate.faults import KINDS
from paddlevideo.curate.probe import ProbeOptions, VideoInfo, probe_video, spaced_frames
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import Record
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip
from tests.video_sets import damage, good_clip


def probe_file(path, **options) -> VideoInfo:
    return probe_video(Record(str(path), id="a"), ProbeOptions(**options))


def fault_texts(info: VideoInfo) -> list[str]:
    return [str(fault) for fault in info.faults]


def test_reads_the_properties_of_a_video(tmp_path):
    info = probe_file(good_clip(tmp_path / "a.mp4", 1, 30, tone=300.0))
    assert (info.num_frames, info.fps, info.seconds) == (30, 25.0, 1.2)
    assert (info.width, info.height) == (64, 48)
    assert (info.format, info.codec, info.has_audio) == ("MP4 or QuickTime", "h264", True)
    assert info.num_bytes == (tmp_path / "a.mp4").stat().st_size and info.faults == []
    assert not probe_file(good_clip(tmp_path / "b.mp4", 1)).has_audio


def test_reads_the_upright_size_of_a_rotated_video(tmp_path):
    info = probe_file(good_clip(tmp_path / "a.mov", 1, 5, rotation=90))
    assert (info.width, info.height) == (48, 64)


def test_hashes_the_same_frames_whatever_is_decoded(tmp_path):
    path = good_clip(tmp_path / "a.mp4", 1, 30)
    assert probe_file(path).frames_hash == probe_file(path, all_frames=True).frames_hash != ""
    black = np.zeros((5, 48, 64, 3), np.uint8)
    assert probe_file(write_clip(tmp_path / "b.mp4", 5, frames=black)).frames_hash == ""


def test_probes_a_segment_of_a_video(tmp_path):
    path = str(good_clip(tmp_path / "a.mp4", 1, 30))
    segment = Record(path, id="a", start_sec=0.4, end_sec=0.8)
    info = probe_video(segment, ProbeOptions())
    assert info.num_frames == 10 and info.frames_hash != probe_file(path).frames_hash
    empty = probe_video(Record(path, id="a", start_sec=40.0, end_sec=50.0), ProbeOptions())
    assert [fault.kind for fault in empty.faults] == ["bad_times"]


def test_classifies_the_errors_of_the_decoder(tmp_path):
    complete = good_clip(tmp_path / "a.mp4", 1, 30)
    content = complete.read_bytes()
    # The index of this file is its last box.
    (tmp_path / "no index.mp4").write_bytes(content[: content.index(b"moov") - 4])
    (tmp_path / "text.txt").write_text("text\n" * 100)
    (tmp_path / "random.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    names = ("none.mp4", "folder.mp4", "empty.mp4", "no index.mp4", "text.txt", "random.mp4")
    kinds = [[fault.kind for fault in probe_file(tmp_path / name).faults] for name in names]
    expected = ("missing", "folder", "empty", "truncated", "not_video", "not_video")
    assert kinds == [[kind] for kind in expected]


@pytest.mark.parametrize("all_frames", [False, True])
def test_reports_damage_that_the_decoder_conceals(tmp_path, all_frames):
    bad, good = tmp_path / "bad.webm", tmp_path / "good.webm"
    for seed, path in enumerate((bad, good)):
        good_clip(path, seed, 60, codec="libvpx-vp9")
    damage(bad, 0.3, 0.125)
    # Every remaining frame decodes. Only FFmpeg's log shows that some are lost.
    with VideoDecoder().open(Record(str(bad))) as clip:
        assert len(clip.read(np.arange(clip.num_frames))) < 60
    # FFmpeg must neither fold repeated lines nor log them with the next file.
    for _ in range(3):
        (fault,) = probe_file(bad, all_frames=all_frames).faults
        assert fault.kind == "damaged" and "\n" not in fault.text
        assert "the decoder conceals it: 0x00 at pos" in fault.text
        assert probe_file(good, all_frames=all_frames).faults == []
    assert av.logging.get_level() is None


def test_reports_a_frame_that_cannot_be_decoded(tmp_path):
    path = good_clip(tmp_path / "a.avi", 1, 20, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes().replace(packets[7], bytes(len(packets[7]))))
    (fault,) = probe_file(path, all_frames=True).faults
    assert (fault.kind, fault.text) == (
        "damaged",
        "frame 7 of 20 cannot be decoded: it is damaged",
    )


def test_reports_audio_that_cannot_be_decoded(tmp_path):
    path = write_audio(tmp_path / "a.mp4", chirps(4), codec="aac", video={"num_frames": 100})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        found = [bytes(p) for p in packets if 2.0 <= float(p.pts * p.time_base) < 2.3]
    data = path.read_bytes()
    for packet in found:
        data = data.replace(packet, b"\x55" * len(packet))
    path.write_bytes(data)
    info = probe_file(path, all_frames=True)
    (fault,) = info.faults
    assert fault.kind == "damaged_audio" and "its audio is damaged at 2.0" in fault.text
    assert not KINDS["damaged_audio"].left_out and info.num_frames == 100
    assert probe_file(path).faults == [], "only a complete check decodes the audio"


def test_probes_the_film_behind_a_still_image(tmp_path):
    path = tmp_path / "two.mkv"
    film = good_clip(tmp_path / "film.mp4", 1, 30)
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        still = target.add_stream("mjpeg", rate=25)
        still.width, still.height, still.pix_fmt = 32, 32, "yuvj420p"
        stream = target.add_stream_from_template(source.streams.video[0])
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        image.pts = 0
        target.mux(still.encode(image) + still.encode(None))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    info = probe_file(path)
    assert (info.num_frames, info.width, info.codec, info.faults) == (30, 64, "h264", [])


def test_reports_clips_that_are_too_short(tmp_path):
    path = good_clip(tmp_path / "a.mp4", 1, 10)
    texts = fault_texts(probe_file(path, min_frames=11))
    assert texts == ["a: 10 frames, expected at least 11"]
    texts = fault_texts(probe_file(path, min_seconds=0.5))
    assert texts == ["a: 0.40 s, expected at least 0.5 s"]
    assert probe_file(path, min_frames=10, min_seconds=0.4).faults == []


def test_rejects_options_out_of_range():
    with pytest.raises(
        ValueError, match="frames 0, min_frames 2, min_seconds 0: expected 1 or more"
    ):
        ProbeOptions(num_frames=0)


def test_reports_unexpected_errors_of_a_library(tmp_path, monkeypatch):
    def fail(*_):
        raise OverflowError("4294967295 frames")

    monkeypatch.setattr(probe, "read_frames", fail)
    texts = fault_texts(probe_file(good_clip(tmp_path / "a.mp4", 1, 3)))
    assert texts == ["a: reading fails with OverflowError: 4294967295 frames"]


def test_reports_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(probe, "check_header", fail)
    info = probe_file(good_clip(tmp_path / "a.mp4", 1, 3))
    assert [fault.kind for fault in info.faults] == ["missing"]
    assert fault_texts(info) == ["a: cannot be read: Permission denied"]


def test_reports_the_suffix_of_another_format(tmp_path):
    path = good_clip(tmp_path / "a.mkv", 1).rename(tmp_path / "a.avi")
    expected = "a: the format is Matroska or WebM, expected the suffix .mkv or .webm"
    assert fault_texts(probe_file(path)) == [expected]


@pytest.mark.parametrize(
    ("num_frames", "count", "indices"),
    [(100, 4, [0, 33, 66, 99]), (3, 8, [0, 1, 2]), (1, 8, [0]), (9, 1, [0])],
)
def test_spaces_frames_evenly(num_frames, count, indices):
    assert spaced_frames(num_frames, count).tolist() == indices
