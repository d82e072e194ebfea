"""VideoDecoder: frames equal those of a full decode in any order, and errors name the problem."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.media import containers, decode, sources
from paddlevideo.media.damage import note_damage
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.sample import DecodeError, Record
from tests.audio_clips import chirps, write_audio, write_six_streams
from tests.clips import CASES, SHORT_GOP, write_clip


def record(path, **fields) -> Record:
    return Record(str(path), **fields)


def decode_all(path, stream: int = 0) -> np.ndarray:
    """Decode every frame in order with PyAV, rotated by its flag: uint8 [N, H, W, 3]."""
    with av.open(str(path)) as container:
        video = container.streams.video[stream]
        video.codec_context.thread_count = 1
        frames = [
            np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            for frame in container.decode(video)
        ]
    return np.stack(frames)


def assert_same_frames(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare frames of two builds of FFmpeg.

    Both decode the same, but convert YUV to RGB with other code, which rounds by up to 3 levels
    differently. Neighboring frames of `write_clip` differ by 20 on average.
    """
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 6


def check_reads(path, stream: int = 0, num_single: int = 40) -> None:
    """Compare reads of all frames in reverse, of single frames and of random ones."""
    expected = decode_all(path, stream)
    rng = np.random.default_rng(2)
    with VideoDecoder(stream=stream).open(record(path)) as clip:
        num_frames = clip.num_frames
        assert num_frames == len(expected)
        assert np.array_equal(clip.read(np.arange(num_frames)[::-1]), expected[::-1])
        for number in rng.permutation(num_frames)[:num_single]:
            assert np.array_equal(clip.read([number])[0], expected[number]), f"frame {number}"
        for _ in range(10):
            numbers = rng.integers(0, num_frames, 4)
            assert np.array_equal(clip.read(numbers), expected[numbers]), numbers


@pytest.mark.parametrize("threads", [1, 0])
@pytest.mark.parametrize("name", CASES)
def test_frames_equal_a_full_decode(tmp_path, monkeypatch, name, threads):
    if CASES[name].get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {CASES[name]['codec']}")
    monkeypatch.setattr(containers, "num_threads", lambda: threads)
    check_reads(write_clip(tmp_path / name, **CASES[name]))


def test_frames_next_to_other_streams_equal_a_full_decode(tmp_path):
    path = write_six_streams(tmp_path / "six.mp4")
    for stream in range(2):
        check_reads(path, stream, num_single=10)
    video = {"num_frames": 75}
    check_reads(write_audio(tmp_path / "a.avi", chirps(3), codec="libmp3lame", video=video))


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_applies_the_rotation_flag(tmp_path, rotation):
    """OpenCV applies the flag as players do."""
    path = write_clip(tmp_path / "rotated.mov", num_frames=3, rotation=rotation)
    expected = []
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        expected.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    assert expected[0].shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
    for backend in ("pyav", "cv2"):
        with VideoDecoder(backend).open(record(path)) as clip:
            assert_same_frames(clip.read([0, 1, 2]), np.stack(expected))


def test_leaves_out_frames_that_an_edit_list_drops(tmp_path):
    path = write_clip(tmp_path / "edit.mp4", **CASES["edit_list.mp4"])
    with VideoDecoder().open(record(path)) as clip:
        assert clip.num_frames == 23


def test_decodes_only_from_the_nearest_key_frames(tmp_path, monkeypatch):
    options = {"bf": "0", "g": "10", "sc_threshold": "0"}
    path = write_clip(tmp_path / "a.mp4", num_frames=200, options=options)
    decoded = []
    decode_from_key_frame = containers.PyAVReader._decode_from_key_frame

    def count(self, table, entry):
        for frame in decode_from_key_frame(self, table, entry):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(containers.PyAVReader, "_decode_from_key_frame", count)
    monkeypatch.setattr(containers, "num_threads", lambda: 1)
    with VideoDecoder().open(record(path)) as clip:
        clip.read([5, 5, 150, 153, 6])
    assert len(decoded) == 7 + 4  # 0..6 and 150..153


def test_decodes_from_the_start_where_frames_differ_from_the_packet_table(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", options=SHORT_GOP)
    expected = decode_all(path)
    tables = []
    make = containers.PacketTable.__init__

    def shift_one(self, pts, is_key, is_shown):
        pts = pts.copy()
        pts[4] += 1
        make(self, pts, is_key, is_shown)
        tables.append(self)

    monkeypatch.setattr(containers.PacketTable, "__init__", shift_one)
    with VideoDecoder().open(record(path)) as clip:
        assert np.array_equal(clip.read([3, 4, 5, 25]), expected[[3, 4, 5, 25]])
    assert tables


def test_reads_the_chosen_stream(tmp_path):
    path = write_clip(tmp_path / "two.mp4", num_streams=2)
    for stream, width in ((None, 64), (0, 64), (1, 128)):
        with VideoDecoder(stream=stream).open(record(path)) as clip:
            assert clip.read([0]).shape == (1, 48, width, 3)
    with (
        pytest.raises(DecodeError, match="no video stream 2; the file has 2"),
        VideoDecoder(stream=2).open(record(path)),
    ):
        pass
    with pytest.raises(ValueError, match="cv2 cannot choose a stream"):
        VideoDecoder("cv2", stream=1)
    reason = "the file has 2 video streams and backend cv2 cannot choose one; use backend: pyav"
    with pytest.raises(DecodeError, match=reason), VideoDecoder("cv2").open(record(path)):
        pass


@pytest.mark.parametrize("backend", ["pyav", "decord", "cv2"])
def test_transforms_each_frame_once_as_it_is_decoded(tmp_path, backend):
    if backend == "decord":
        pytest.importorskip("decord")
    path, shapes = write_clip(tmp_path / "a.mp4", 40), []

    def each(frame):
        shapes.append(frame.shape)
        return frame[::4, ::4]

    with VideoDecoder(backend).open(record(path)) as clip:
        indices = [*range(39, 0, -1), 7, 7]
        assert np.array_equal(clip.read(indices, each), clip.read(indices)[:, ::4, ::4])
    # Frame 7 is requested three times.
    assert shapes == [(48, 64, 3)] * 39


@pytest.mark.parametrize("backend", ["decord", "cv2"])
def test_other_backends_give_the_same_frames(tmp_path, backend):
    if backend == "decord":
        pytest.importorskip("decord")
    path = write_clip(tmp_path / "a.mp4", options=SHORT_GOP, height=96, width=128)
    expected = decode_all(path)
    with VideoDecoder(backend).open(record(path, start_sec=0.2)) as clip:
        assert (clip.num_frames, clip.fps) == (25, 25.0)
        assert_same_frames(clip.read([20, 3, 3]), expected[[25, 8, 8]])
        assert_same_frames(clip.read([0]), expected[[5]])


def test_pyav_replaces_decord_where_it_is_not_installed(tmp_path, monkeypatch, caplog):
    path = write_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(decode.importlib.util, "find_spec", lambda name: None)
    decode.has_decord.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, "paddlevideo"):
            for _ in range(2):
                with VideoDecoder("decord").open(record(path)) as clip:
                    assert np.array_equal(clip.read([3]), decode_all(path)[[3]])
        assert [r.message for r in caplog.records] == [
            "decord is not installed: PyAV decodes instead (it gives the same frames)"
        ]
    finally:
        decode.has_decord.cache_clear()


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write broken files and return, by name, each path and the error that it must cause."""
    good = write_clip(folder / "good.mp4", num_frames=60, tone=440.0)
    data = good.read_bytes()
    fast = write_clip(
        folder / "fast.mp4", num_frames=60, container_options={"movflags": "faststart"}
    ).read_bytes()
    contents = {
        "no_index.mp4": (data[: len(data) * 2 // 3], "no moov atom"),
        "cut.mp4": (fast[: len(fast) * 2 // 3], "cut short: it lists 60 frames and holds"),
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"a text\n" * 100, "no known video format"),
        "text.txt": (b"a text\n" * 100, "a text file, not a video"),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), "no known video format"),
        "list.m3u8": (
            b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n",
            "cannot be opened|no known video format|no video stream",
        ),
    }
    files = {}
    for name, (content, message) in contents.items():
        (folder / name).write_bytes(content)
        files[name] = (folder / name, message)
    with av.open(str(folder / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        chunk = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        chunk.sample_rate = 16000
        container.mux(stream.encode(chunk))
        container.mux(stream.encode(None))
    files["audio"] = (folder / "audio.mp4", r"no video stream in it \(only audio\)")
    files["folder"] = (folder, "a folder, not a video file")
    files["missing"] = (folder / "nothing.mp4", "no such file")
    return files


@pytest.mark.parametrize("backend", ["pyav", "decord", "cv2"])
def test_names_the_problem_of_a_broken_file(tmp_path, backend):
    if backend == "decord":
        pytest.importorskip("decord")
    for name, (path, message) in broken_files(tmp_path).items():
        if name == "cut.mp4" and backend != "pyav":
            message = "decord cannot (open|decode) it|frame 59 of 60 cannot be decoded"
        with (
            pytest.raises(DecodeError, match=message),
            VideoDecoder(backend).open(record(path)) as clip,
        ):
            clip.read([clip.num_frames - 1])


def test_a_damaged_frame_repeats_the_one_before_and_others_are_readable(tmp_path, caplog):
    path = write_clip(tmp_path / "a.avi", num_frames=20, codec="mjpeg", pixel_format="yuvj420p")
    expected = decode_all(path)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    start, size = packets[7]
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    note_damage.cache_clear()
    with caplog.at_level(logging.WARNING, "paddlevideo"), VideoDecoder().open(record(path)) as clip:
        assert np.array_equal(clip.read([6, 8]), expected[[6, 8]]) and clip.lost == set()
        assert np.array_equal(clip.read([6, 7, 8]), expected[[6, 6, 8]]) and clip.lost == {7}
        with pytest.raises(DecodeError, match="frame 7 of 20 cannot be decoded"):
            clip.read([7])
    text = f"{path}: damaged: frame 7 cannot be decoded and repeats the frame before"
    assert [line.message for line in caplog.records] == [text]


def test_reads_the_frames_that_a_cut_avi_has(tmp_path):
    path = write_clip(tmp_path / "a.avi", num_frames=40, codec="mjpeg", pixel_format="yuvj420p")
    data, expected = path.read_bytes(), decode_all(path)
    path.write_bytes(data[: len(data) // 2])
    with VideoDecoder().open(record(path)) as clip:
        assert 10 < clip.num_frames < 30
        assert np.array_equal(clip.read(np.arange(clip.num_frames)), expected[: clip.num_frames])


def test_closes_every_file(tmp_path):
    good, broken = write_clip(tmp_path / "a.mp4"), broken_files(tmp_path)
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc to count open files in")
    for _ in range(5):
        with pytest.raises(KeyError), VideoDecoder().open(record(good)) as clip:
            clip.read([3])
            raise KeyError
        with VideoDecoder("cv2").open(record(good)) as clip:
            clip.read([3])
        for path, _ in broken.values():
            with pytest.raises(DecodeError), VideoDecoder().open(record(path)):
                pass
    # Files of other tests, which may be closed meanwhile, do not count.
    targets = [os.path.realpath(link) for link in folder.iterdir()]
    assert [path for path in targets if path.startswith(str(tmp_path.resolve()))] == []


def test_opens_paths_with_unusual_characters(tmp_path):
    for name in ("два слова.mp4", "视频 1.mp4", "http:a.mp4", "100% real #1.mp4"):
        path = write_clip(tmp_path / "plain.mp4").rename(tmp_path / name)
        with VideoDecoder().open(record(path)) as clip:
            assert clip.num_frames == 30


def test_opens_files_whose_metadata_is_not_utf8(tmp_path):
    path = write_clip(tmp_path / "a.avi", num_frames=3, codec="mpeg4", title="a cafe in Paris")
    content = path.read_bytes()
    assert b"a cafe in Paris" in content
    path.write_bytes(content.replace(b"a cafe", b"a caf\xe9"))
    with VideoDecoder().open(record(path)) as clip:
        assert clip.num_frames == 3


def test_worker_processes_decode_on_one_thread():
    code = (
        "import multiprocessing as m\n"
        "from paddlevideo.media.containers import num_threads\n"
        "if __name__ == '__main__':\n"
        "    before = num_threads()\n"
        "    with m.get_context('fork').Pool(1) as pool:\n"
        "        print(before, num_threads(), pool.apply(num_threads))"
    )
    root = Path(decode.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.split() == ["0", "0", "1"]


def test_decoders_are_registered():
    assert lookup("decode", "VideoDecoder").make is VideoDecoder
    assert "mode" in lookup("decode", "VideoDecoder").ignores
    assert lookup("decode", "FrameDecoder").make is FrameDecoder


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", denied)
    monkeypatch.setattr(sources, "open", denied, raising=False)
    opened = VideoDecoder().open(record(path))
    with pytest.raises(DecodeError, match="^cannot be opened: Permission denied$"), opened:
        pass
