"""Decoding: whatever way frames are asked for they equal those of a full decode, and wrong files say what is wrong."""

import gc
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
from paddlevideo.media import containers, decode
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.sample import DecodeError, Record
from tests.clips import random_frames, write_clip

UNEVEN = np.cumsum(np.random.default_rng(1).integers(20, 4000, 60)).tolist()
OPEN_GOP = {"bf": "3", "x264-params": "keyint=12:open-gop=1:b-adapt=0:scenecut=0"}
SHORT_GOP = {"bf": "2", "g": "10"}
CASES = {
    "b_pyramid.mp4": {
        "options": {"bf": "3", "g": "12", "x264-params": "b-pyramid=normal:b-adapt=0"}
    },
    "long_group.mp4": {"num_frames": 90, "options": {"bf": "3", "g": "250"}},
    "open_group.mp4": {"num_frames": 60, "options": OPEN_GOP},
    "open_group.mkv": {"num_frames": 60, "options": OPEN_GOP},
    "open_group.ts": {"num_frames": 60, "options": OPEN_GOP},
    "open_group_hevc.mp4": {
        "codec": "libx265",
        "num_frames": 50,
        "options": {
            "x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=4:log-level=none:pools=1"
        },
    },
    "intra_refresh.mp4": {
        "num_frames": 60,
        "options": {"x264-params": "intra-refresh=1:keyint=20"},
    },
    "uneven.mp4": {"num_frames": 60, "pts": UNEVEN, "options": SHORT_GOP},
    "uneven.mkv": {"num_frames": 60, "pts": UNEVEN, "options": SHORT_GOP},
    "late_start.mp4": {"pts": [100_000 + 1000 * i for i in range(30)], "options": SHORT_GOP},
    # Frames before time 0 are cut off by an edit list, in the middle of a group.
    "edit_list.mp4": {
        "pts": [1000 * i - 7000 for i in range(30)],
        "container_options": {"avoid_negative_ts": "disabled"},
    },
    "pieces.mp4": {
        "options": SHORT_GOP,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "mpeg2.mpg": {"codec": "mpeg2video", "options": SHORT_GOP},
    "reordered.avi": {"codec": "mpeg4", "options": SHORT_GOP},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "10"}},
    "stills.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "no_times.h264": {"options": SHORT_GOP},
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
    },
    "hidden_vp8.webm": {
        "codec": "libvpx",
        "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"},
    },
    "rotated.mp4": {"rotation": 90},
    "ten_bits.mkv": {"pixel_format": "yuv420p10le"},
    "odd_size.mkv": {"pixel_format": "yuv444p", "height": 47, "width": 63},
    "one_frame.mp4": {"num_frames": 1},
    "with_sound.mov": {"options": SHORT_GOP, "tone": 440.0},
}


def record(path, **fields) -> Record:
    return Record(str(path), **fields)


def decode_all(path, stream: int = 0) -> np.ndarray:
    """The oracle: every frame in order by PyAV's plain loop, turned as its flag says (uint8 [N, H, W, 3])."""
    with av.open(str(path)) as container:
        video = container.streams.video[stream]
        video.codec_context.thread_count = 1
        return np.stack(
            [
                np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90)
                for f in container.decode(video)
            ]
        )


def check_reads(path, stream: int = 0, single: int = 40) -> None:
    expected = decode_all(path, stream)
    rng = np.random.default_rng(2)
    with VideoDecoder(stream=stream).open(record(path)) as clip:
        n = clip.num_frames
        assert n == len(expected)
        assert np.array_equal(clip.read(np.arange(n)[::-1]), expected[::-1])
        for number in rng.permutation(n)[:single]:
            assert np.array_equal(clip.read([number])[0], expected[number]), f"frame {number}"
        for _ in range(10):
            some = rng.integers(0, n, 4)
            assert np.array_equal(clip.read(some), expected[some]), some


@pytest.mark.parametrize("threads", [1, 0])
@pytest.mark.parametrize("name", CASES)
def test_frames_equal_those_of_a_full_decode(tmp_path, monkeypatch, name, threads):
    if CASES[name].get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {CASES[name]['codec']}")
    monkeypatch.setattr(containers, "num_threads", lambda: threads)
    check_reads(write_clip(tmp_path / name, **CASES[name]))


def test_real_clips_equal_a_full_decode(shared):
    for path in sorted((shared / "videos").glob("*.*")):
        if path.suffix in (".md", ".wav"):
            continue
        for stream in range(2 if path.name.startswith("nasa") else 1):
            check_reads(path, stream, single=10)


def test_rotated_phone_clip_stands_upright(shared):
    path = shared / "videos" / "rotated_90.mov"
    expected = []
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        expected.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    for backend in ("pyav", "cv2"):
        with VideoDecoder(backend).open(record(path)) as clip:
            assert np.array_equal(clip.read([0, 1, 2]), np.stack(expected)) and expected[
                0
            ].shape == (568, 320, 3)


def test_edit_list_drops_frames(tmp_path):
    path = write_clip(tmp_path / "edit.mp4", **CASES["edit_list.mp4"])
    with VideoDecoder().open(record(path)) as clip:
        assert clip.num_frames == 23


def test_only_the_groups_of_wanted_frames_are_decoded(tmp_path, monkeypatch):
    path = write_clip(
        tmp_path / "a.mp4", num_frames=200, options={"bf": "0", "g": "10", "sc_threshold": "0"}
    )
    frames = []
    key_frame = containers.PyAVReader._from_key_frame
    monkeypatch.setattr(
        containers.PyAVReader,
        "_from_key_frame",
        lambda *a: (frames.append(f.pts) or f for f in key_frame(*a)),
    )
    monkeypatch.setattr(containers, "num_threads", lambda: 1)
    with VideoDecoder().open(record(path)) as clip:
        clip.read([5, 5, 150, 153, 6])
    assert len(frames) == 7 + 4  # 0..6 and 150..153


def test_a_stream_that_is_not_as_its_table_says_is_decoded_from_the_beginning(
    tmp_path, monkeypatch
):
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


def test_stream_is_the_first_or_the_chosen_one(tmp_path):
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
    with (
        pytest.raises(DecodeError, match="2 video streams, and cv2"),
        VideoDecoder("cv2").open(record(path)),
    ):
        pass


@pytest.mark.parametrize("backend", ["pyav", "decord", "cv2"])
def test_each_frame_is_changed_as_it_is_decoded(tmp_path, backend):
    if backend == "decord":
        pytest.importorskip("decord")
    path, seen = write_clip(tmp_path / "a.mp4", 40), []

    def each(frame):
        seen.append(frame.shape)
        return frame[::4, ::4]

    with VideoDecoder(backend).open(record(path)) as clip:
        indices = [*range(39, 0, -1), 7, 7]
        assert np.array_equal(clip.read(indices, each), clip.read(indices)[:, ::4, ::4])
    assert seen == [(48, 64, 3)] * 39, "a frame that is wanted three times is changed once"


@pytest.mark.parametrize("backend", ["decord", "cv2"])
def test_other_backends_give_the_same_frames(tmp_path, backend):
    if backend == "decord":
        pytest.importorskip("decord")
    path = write_clip(tmp_path / "a.mp4", options=SHORT_GOP, height=96, width=128)
    expected = decode_all(path)
    with VideoDecoder(backend).open(record(path, start_sec=0.2)) as clip:
        assert (clip.num_frames, clip.fps) == (25, 25.0)
        assert np.array_equal(clip.read([20, 3, 3]), expected[[25, 8, 8]])
        assert np.array_equal(clip.read([0]), expected[[5]])


def test_decord_in_a_config_runs_without_decord(tmp_path, monkeypatch, caplog):
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


def test_part_of_a_video_by_time(tmp_path):
    # Time counts from the first frame, which is at 4 s here.
    path = write_clip(tmp_path / "a.mp4", pts=[100_000 + 1000 * i for i in range(30)])
    expected = decode_all(path)
    with VideoDecoder().open(record(path, start_sec=0.4, end_sec=0.6)) as clip:
        assert clip.num_frames == 5
        assert np.array_equal(clip.read([0, 4]), expected[[10, 14]])
    with VideoDecoder().open(record(path, end_sec=99.0)) as clip:
        assert clip.num_frames == 30
    for start, end in ((0.5, 0.5), (0.41, 0.42), (5.0, None), (2.0, 1.0)):
        with (
            pytest.raises(DecodeError, match="no frame between"),
            VideoDecoder().open(record(path, start_sec=start, end_sec=end)),
        ):
            pass


def test_indices_are_checked(tmp_path):
    with VideoDecoder().open(record(write_clip(tmp_path / "a.mp4"))) as clip:
        for wrong in ([30], [-1]):
            with pytest.raises(IndexError, match="a clip of 30 frames"):
                clip.read(wrong)
        for wrong in ([], [0.5], [[1]]):
            with pytest.raises(ValueError, match="must be integers"):
                clip.read(wrong)


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    good = write_clip(folder / "good.mp4", num_frames=60, tone=440.0)
    data = good.read_bytes()
    fast = write_clip(
        folder / "fast.mp4", num_frames=60, container_options={"movflags": "faststart"}
    ).read_bytes()
    moved = {
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
    for name, (content, message) in moved.items():
        (folder / name).write_bytes(content)
        files[name] = (folder / name, message)
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        chunk = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        chunk.sample_rate = 16000
        container.mux(stream.encode(chunk))
        container.mux(stream.encode(None))
    files["sound"] = (folder / "sound.mp4", r"no video stream in it \(only audio\)")
    files["folder"] = (folder, "a folder, not a video file")
    files["missing"] = (folder / "nothing.mp4", "no such file")
    return files


@pytest.mark.parametrize("backend", ["pyav", "decord", "cv2"])
def test_a_wrong_file_says_what_is_wrong(tmp_path, backend):
    if backend == "decord":
        pytest.importorskip("decord")
    for name, (path, message) in broken_files(tmp_path).items():
        if name == "cut.mp4" and backend != "pyav":
            message = "decord cannot open it|frame 59 of 60 cannot be decoded"
        with (
            pytest.raises(DecodeError, match=message),
            VideoDecoder(backend).open(record(path)) as clip,
        ):
            clip.read([clip.num_frames - 1])


def test_a_damaged_frame_is_an_error_and_the_others_are_not(tmp_path):
    path = write_clip(tmp_path / "a.avi", num_frames=20, codec="mjpeg", pixel_format="yuvj420p")
    expected = decode_all(path)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    start, size = packets[7]
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    with VideoDecoder().open(record(path)) as clip:
        assert np.array_equal(clip.read([6, 8]), expected[[6, 8]])
        with pytest.raises(DecodeError, match="frame 7 of 20 cannot be decoded"):
            clip.read([6, 7, 8])


def test_a_cut_avi_counts_what_is_there(tmp_path):
    path = write_clip(tmp_path / "a.avi", num_frames=40, codec="mjpeg", pixel_format="yuvj420p")
    data, expected = path.read_bytes(), decode_all(path)
    path.write_bytes(data[: len(data) // 2])
    with VideoDecoder().open(record(path)) as clip:
        assert 10 < clip.num_frames < 30
        assert np.array_equal(clip.read(np.arange(clip.num_frames)), expected[: clip.num_frames])


def test_nothing_stays_open(tmp_path):
    good, wrong = write_clip(tmp_path / "a.mp4"), broken_files(tmp_path)
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc to count open files in")
    gc.collect()
    before = len(os.listdir(folder))
    for _ in range(5):
        with pytest.raises(KeyError), VideoDecoder().open(record(good)) as clip:
            clip.read([3])
            raise KeyError
        with VideoDecoder("cv2").open(record(good)) as clip:
            clip.read([3])
        for path, _ in wrong.values():
            with pytest.raises(DecodeError), VideoDecoder().open(record(path)):
                pass
    assert len(os.listdir(folder)) == before


def test_paths_in_any_script_and_with_colons(tmp_path):
    for name in ("два слова.mp4", "视频 1.mp4", "http:a.mp4", "100% real #1.mp4"):
        path = write_clip(tmp_path / "plain.mp4").rename(tmp_path / name)
        with VideoDecoder().open(record(path)) as clip:
            assert clip.num_frames == 30


def test_workers_decode_on_one_thread():
    code = (
        "import multiprocessing as m\nfrom paddlevideo.media.containers import num_threads\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('fork').Pool(1) as pool: print(num_threads.__wrapped__(), pool.apply(num_threads))"
    )
    root = Path(decode.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.split() == ["0", "1"]


def write_pictures(folder: Path, num_frames: int, pattern: str = "img_{:05}.png") -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    frames = random_frames(num_frames)
    for number, frame in enumerate(frames):
        cv2.imwrite(
            str(folder / pattern.format(number + 1)), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        )
    return frames


def test_folder_of_frames(tmp_path):
    frames = write_pictures(tmp_path / "a b", 6)
    item = record(tmp_path / "a b", frame_pattern="img_{:05}.png")
    with FrameDecoder().open(item) as clip:  # counted
        assert (clip.num_frames, clip.fps) == (6, 0.0)
        assert np.array_equal(clip.read([5, 0, 0]), frames[[5, 0, 0]])
    with FrameDecoder().open(
        record(item.path, frame_pattern=item.frame_pattern, num_frames=9)
    ) as clip:
        assert clip.num_frames == 9
        with pytest.raises(
            DecodeError, match=r"img_00008.png: No such file or directory \(9 frames expected\)"
        ):
            clip.read([2, 7])
    (tmp_path / "a b" / "img_00003.png").write_bytes(b"no picture")
    (tmp_path / "a b" / "img_00004.png").write_bytes(b"")
    with FrameDecoder().open(item) as clip:
        for number in (2, 3):
            with pytest.raises(
                DecodeError, match=rf"img_0000{number + 1}.png: not a picture, or damaged"
            ):
                clip.read([number])


def test_folder_of_frames_jpeg_equals_pillow(tmp_path):
    from PIL import Image

    write_pictures(tmp_path, 2, "img_{:05}.jpg")
    expected = [
        np.asarray(Image.open(tmp_path / f"img_0000{n}.jpg").convert("RGB")) for n in (1, 2)
    ]
    with FrameDecoder().open(record(tmp_path, frame_pattern="img_{:05}.jpg")) as clip:
        assert np.array_equal(clip.read([0, 1]), np.stack(expected))


def test_folder_of_frames_wrong(tmp_path):
    pattern = "img_{:05}.jpg"
    (tmp_path / "file").write_text("")
    cases = {
        "no such folder": record(tmp_path / "x", frame_pattern=pattern),
        "a file, not a folder": record(tmp_path / "file", frame_pattern=pattern),
        "no frames in it": record(tmp_path, frame_pattern=pattern),
        "need a frame rate": record(tmp_path, frame_pattern=pattern, start_sec=1.0),
        "no frame_pattern": record(tmp_path),
    }
    for message, item in cases.items():
        with pytest.raises(DecodeError, match=message), FrameDecoder().open(item):
            pass


def test_registered():
    assert lookup("decode", "VideoDecoder").make is VideoDecoder
    assert "mode" in lookup("decode", "VideoDecoder").ignores
    assert lookup("decode", "FrameDecoder").make is FrameDecoder
