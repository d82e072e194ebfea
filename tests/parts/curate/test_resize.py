"""Smaller copies of videos: same frames, times, colors and audio; continued runs and lists."""

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from paddlevideo.curate import resize
from paddlevideo.curate.batch_jobs import Job, run_jobs
from paddlevideo.curate.resize import WriteResized, plan_resize, write_list
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError, Record
from tests.audio_clips import chirps, tone, write_audio
from tests.clips import write_clip
from tests.flash_clips import flash_and_beep, join_flv, write_flash
from tests.scripts import run_script

SCRIPT = "tools/data/resize_videos.py"


def smooth_frames(num_frames: int, height: int, width: int) -> np.ndarray:
    """Frames that change little when their size or color resolution is halved.

    All frames differ from each other: uint8 [T, H, W, 3].
    """
    y, x = np.mgrid[0:height, 0:width] * (96 / height)
    waves = [(x + 4 * n, y - 5 * n, x + y + 6 * n) for n in range(num_frames)]
    colors = [np.stack([np.sin(a / 40), np.cos(b / 33), np.sin(c / 50)], -1) for a, b, c in waves]
    return (128 + 110 * np.stack(colors)).clip(0, 255).astype(np.uint8)


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Return (frames, their times (s), frames per second)."""
    with VideoDecoder().open(Record(str(path))) as clip:
        return clip.read(np.arange(clip.num_frames)), clip.times(), clip.fps


def key_frames(path: Path) -> list[int]:
    """Return the numbers of the key frames."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    packets.sort(key=lambda packet: packet.pts)
    return [number for number, packet in enumerate(packets) if packet.is_keyframe]


def test_copies_have_the_same_bytes_each_time(tmp_path):
    """Even where a side of the copy is no multiple of 16 pixels."""
    frames = smooth_frames(40, 90, 122)
    source = str(write_clip(tmp_path / "a.mp4", frames=frames, num_frames=40, height=90, width=122))
    copies = [tmp_path / f"{number}.mp4" for number in range(4)]
    for copy in copies:
        WriteResized(short_side=74)(source, str(copy))
    assert len({copy.read_bytes() for copy in copies}) == 1


# --- frames, times and colors --------------------------------------------------------------------

BT709 = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
SOURCES = {
    "plain.mp4": {},
    "b-frames.mp4": {"options": {"bf": "3", "g": "30"}},
    "bt709.mp4": {"options": BT709},
    "full range.mp4": {"pixel_format": "yuvj420p"},
    "motion jpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "rotated.mp4": {"rotation": 90},
    "upside down.mp4": {"rotation": 180},
    "variable rate.mp4": {"pts": list(np.cumsum(np.arange(12) % 5 + 1) * 700)},
    "late start.mp4": {"pts": [5000 + 1000 * number for number in range(12)]},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4 b-frames.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "full color resolution.mkv": {"pixel_format": "yuv444p"},
    "ten bits.mkv": {"codec": "ffv1", "pixel_format": "yuv420p10le"},
    "rgb.mp4": {"codec": "libx264rgb", "pixel_format": "rgb24"},
    "gray.mkv": {"codec": "ffv1", "pixel_format": "gray"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9", "fps": 30},
}


@pytest.mark.parametrize("name", SOURCES)
def test_keeps_frames_times_and_colors(tmp_path, name):
    settings, copy = SOURCES[name], tmp_path / "small.mp4"
    frames = smooth_frames(12, 96, 128)
    source = write_clip(tmp_path / name, 12, height=96, width=128, frames=frames, **settings)
    WriteResized(48, crf=5)(str(source), str(copy))
    frames, times, fps = decoded(source)
    small, small_times, small_fps = decoded(copy)
    assert small.shape[1:3] == ((64, 48) if settings.get("rotation") == 90 else (48, 64))
    assert len(small) == 12 and np.abs(small_times - times).max() < 1e-3
    # With a variable rate, the duration of the last frame is unknown.
    assert small_fps == pytest.approx(fps, rel=0.1 if name == "variable rate.mp4" else 1e-3)
    size = small.shape[2:0:-1]
    expected = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    errors = np.abs(small[:, None].astype(np.float32) - np.stack(expected)[None]).mean((2, 3, 4))
    assert (errors.argmin(1) == np.arange(12)).all(), "the frames keep their order"
    # A wrong color range or matrix gives an error of 8 or more.
    assert errors.diagonal().max() < 4
    with av.open(str(copy)) as container:
        assert container.streams.video[0].codec_context.colorspace != 0, "0 means RGB"
    # Random access gives the same frames.
    with VideoDecoder().open(Record(str(copy))) as clip:
        assert np.array_equal(clip.read([11, 3]), small[[11, 3]])


def test_sizes_and_key_frames(tmp_path):
    source = write_clip(tmp_path / "a.mp4", 50, height=90, width=160, options={"g": "250"})
    for side, gop, shape in ((60, 10, (60, 106)), (60, 25, (60, 106)), (500, 25, (90, 160))):
        copy = tmp_path / f"{side} {gop}.mp4"
        WriteResized(side, gop)(str(source), str(copy))
        assert decoded(copy)[0].shape[:3] == (50, *shape), "even sides, never enlarged"
        keys = key_frames(copy)
        assert keys[0] == 0 and max(np.diff([*keys, 50])) <= gop
    with av.open(str(tmp_path / "60 10.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.format.name.startswith("mov")


def test_odd_sides_become_even(tmp_path):
    odd = write_clip(tmp_path / "odd.mkv", 3, height=45, width=75, pixel_format="yuv444p")
    WriteResized(256)(str(odd), str(tmp_path / "even.mp4"))
    assert decoded(tmp_path / "even.mp4")[0].shape[1:3] == (44, 76)
    assert WriteResized(256).size_of(720, 1280) == (256, 456)
    assert WriteResized(256).size_of(1280, 720) == (456, 256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"short_side": 255}, "short_side is 255; expected an even number of pixels"),
        ({"gop": 0}, "gop is 0; expected at least 1"),
        ({"crf": 70}, "crf is 70; expected 0 .. 51"),
        ({"preset": "fastest"}, "preset is 'fastest'; expected one of ultrafast"),
        ({"suffix": ".avi"}, "suffix is '.avi'; expected .mp4 or .mkv"),
        ({"sound": "mute"}, "sound is 'mute'; expected copy or none"),
    ],
)
def test_rejects_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        WriteResized(**settings)


# --- audio ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.avi", "pcm_s16le"), ("a.mkv", "libopus"), ("a.mkv", "mp2")],
)
def test_keeps_the_audio(tmp_path, name, codec):
    rate, copy = 48000, tmp_path / "small.mp4"
    video = {"num_frames": 30, "start": 0.2}
    source = write_audio(tmp_path / name, chirps(1.5, rate), rate, codec=codec, video=video)
    WriteResized(32)(str(source), str(copy))
    before, after = read_waveform(str(source), rate), read_waveform(str(copy), rate)
    # The start of the audio may move by a tick of the container's clock, 1 ms in Matroska.
    shifts = range(-60, 61)
    errors = [
        np.abs(before[1000:40000] - after[1000 + shift : 40000 + shift]).mean() for shift in shifts
    ]
    assert min(errors) < 1e-3
    assert abs(shifts[int(np.argmin(errors))]) <= (48 if name == "a.mkv" else 1)
    assert abs(len(before) - len(after)) <= 1500


def test_rejects_audio_that_the_container_cannot_hold(tmp_path):
    source = write_audio(tmp_path / "a.mkv", tone(0.5), codec="tta", video={"num_frames": 6})
    message = r"its audio \(tta\) cannot be copied into .mp4; use --suffix .mkv or --sound none"
    with pytest.raises(DecodeError, match=message):
        WriteResized(32)(str(source), str(tmp_path / "b.mp4"))
    assert not (tmp_path / "b.mp4").exists()
    WriteResized(32, suffix=".mkv")(str(source), str(tmp_path / "b.mkv"))
    before, after = (read_waveform(str(path), 16000) for path in (source, tmp_path / "b.mkv"))
    assert np.array_equal(before, after)
    WriteResized(32, sound="none")(str(source), str(tmp_path / "c.mp4"))
    with pytest.raises(DecodeError, match="no audio stream"):
        read_waveform(str(tmp_path / "c.mp4"), 16000)


@pytest.mark.parametrize("name", ["same.ts", "joined.flv"])
def test_copies_joined_parts_with_their_audio(tmp_path, name):
    suffix = Path(name).suffix
    first = write_flash(tmp_path / f"a{suffix}", at=9.0, seconds=1.4, options={"bf": "2"})
    second = write_flash(tmp_path / f"b{suffix}", at=1.0, seconds=2.0, options={"bf": "2"})
    source, copy = tmp_path / name, tmp_path / "small.mp4"
    if suffix == ".flv":
        join_flv(first, second, source, 13)
    else:
        source.write_bytes(first.read_bytes() + second.read_bytes())
    WriteResized(32)(str(source), str(copy))
    (frames, times, _), (small, small_times, _) = decoded(source), decoded(copy)
    assert len(small) == len(frames) == 35 + 50
    assert np.abs(small_times - times).max() < 1e-3
    assert np.abs(small.mean((1, 2, 3)) - frames.mean((1, 2, 3))).max() < 6
    flash, beep = flash_and_beep(copy)
    assert abs(flash - 2.4) < 1e-3 and abs(flash - beep) < 0.01


def test_copies_a_damaged_stream_as_it_is_decoded(tmp_path):
    source, copy = write_clip(tmp_path / "a.ts", 60, 96, 128, options={"bf": "2"}), "small.mp4"
    data = bytearray(source.read_bytes())
    middle = len(data) // 188 // 2 * 188
    for number in range(middle, middle + 400):
        data[number] = (data[number] * 7 + 91) & 255
    source.write_bytes(data)
    WriteResized(48)(str(source), str(tmp_path / copy))
    assert len(decoded(tmp_path / copy)[0]) == len(decoded(source)[0]) > 50


# --- damage --------------------------------------------------------------------------------------


def test_reports_damaged_files_and_leaves_nothing(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    good = write_clip(folder / "good.mp4", 40, height=90, width=160).read_bytes()
    (folder / "half.mp4").write_bytes(good[: len(good) // 2])
    (folder / "text.mp4").write_text("this is a text file " * 50)
    faststart = {"movflags": "faststart"}
    complete = write_clip(tmp_path / "fast.mp4", 40, 90, 160, container_options=faststart)
    (folder / "short.mp4").write_bytes(complete.read_bytes()[:-600])
    write_audio(folder / "audio.mp4", tone(0.3), codec="aac")
    done = run_jobs(WriteResized(48), plan_resize(folder, out, ".mp4")[0], out, 1)
    reasons = {Path(source).name: reason for source, reason in done.failed}
    assert done.num_made == 1
    assert set(reasons) == {"half.mp4", "text.mp4", "short.mp4", "audio.mp4"}
    assert "no moov" in reasons["half.mp4"]
    assert "no video stream" in reasons["audio.mp4"]
    assert "cut short" in reasons["short.mp4"]
    assert sorted(os.listdir(out)) == ["failures.tsv", "good.mp4", "made_with.json"]


def test_rejects_a_change_of_the_frame_size(tmp_path):
    source = write_clip(tmp_path / "a.mp4", 3)
    with av.open(str(source)) as reader, av.open(str(tmp_path / "b.mp4"), "w") as writer:
        video = reader.streams.video[0]
        out = WriteResized(32)._add_video(writer, video, (32, 42))
        encoder = resize.Encoder(video, out, np.arange(3) / 25)
        frames = list(reader.decode(video=0))
        encoder.encode(frames[0])
        message = "the frame size changes from 64x48 to 32x24 at frame 1 of 3"
        with pytest.raises(DecodeError, match=message):
            encoder.encode(frames[1].reformat(32, 24))
        with pytest.raises(DecodeError, match="damaged: only 1 of 3 frames can be decoded"):
            encoder.flush()
        encoder.encode(frames[1])
        encoder.encode(frames[2])
        with pytest.raises(DecodeError, match="frame 3 of 3 is not in the index of the file"):
            encoder.encode(frames[2])
        writer.mux(encoder.flush())


def test_does_not_keep_incomplete_copies(tmp_path, monkeypatch):
    source, out = write_clip(tmp_path / "a.mp4", 10), tmp_path / "out"
    real_encode, real_add_video = resize.Encoder.encode, resize.WriteResized._add_video

    def lose_a_packet(self, frame):
        packets = real_encode(self, frame)
        return [] if self._count == 5 else packets

    def without_delay(self, writer, video, size):
        """Make the encoder return one packet per frame."""
        stream = real_add_video(self, writer, video, size)
        stream.options = {**stream.options, "tune": "zerolatency", "threads": "1"}
        stream.codec_context.options = stream.options
        return stream

    monkeypatch.setattr(resize.Encoder, "encode", lose_a_packet)
    monkeypatch.setattr(resize.WriteResized, "_add_video", without_delay)
    done = run_jobs(WriteResized(32), [Job(str(source), str(out / "a.mp4"))], out, 1)
    assert "the written copy has 9 frames, expected 10" in done.failed[0][1]
    assert not (out / "a.mp4").exists()


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two videos, and one file that is not a video."""
    for name in ("a b/one.avi", "c/two.mp4"):
        write_clip(tmp_path / "in" / name, 5, height=72, width=96, codec="mpeg4")
    (tmp_path / "in" / "c" / "bad.mp4").write_bytes(b"bad")
    return tmp_path / "in"


@pytest.fixture
def command(monkeypatch, capsys):
    """`command(*arguments)` -> (exit code, standard output, standard error)."""

    def run(*arguments):
        return run_script(monkeypatch, capsys, SCRIPT, *arguments)

    return run


def test_the_command_continues_with_the_same_settings(folder, tmp_path, command):
    out = tmp_path / "out"
    options = (folder, out, "--short_side", 36, "--num-workers")
    code, printed, _ = command(*options, 1)
    assert code == 1 and "2 made, 0 kept, 1 failed" in printed
    assert "bad.mp4" in (out / "failures.tsv").read_text()
    stamp = (out / "a b" / "one.mp4").stat().st_mtime_ns
    write_clip(folder / "c" / "bad.mp4", 4)
    code, printed, _ = command(*options, 2)
    assert code == 0 and "1 made, 2 kept, 0 failed" in printed
    assert (out / "a b" / "one.mp4").stat().st_mtime_ns == stamp
    assert not (out / "failures.tsv").exists()
    assert json.loads((out / "made_with.json").read_text())["gop"] == 32
    loaded = VideoDataset(str(out)).load()
    assert loaded.class_names == ["a b", "c"] and len(loaded.records) == 3
    code, _, error = command(*options, 1, "--gop", 8)
    assert code == 2 and "were made with {'gop': 32}, not with {'gop': 8}" in error


def test_the_command_does_not_replace_sources(folder, command):
    before = (folder / "c" / "two.mp4").read_bytes()
    code, _, error = command(folder, folder, "--overwrite", "--num-workers", 1)
    assert code == 2 and "the result would replace it; choose another folder" in error
    assert (folder / "c" / "two.mp4").read_bytes() == before


def test_the_command_reports_wrong_settings(folder, tmp_path, command):
    code, _, error = command(folder, tmp_path / "out", "--preset", "fastest")
    assert code == 2 and error.startswith("error: preset is 'fastest'; expected one of")


# --- lists and tables ----------------------------------------------------------------------------


def test_a_list_gives_a_list_of_the_copies(folder, tmp_path, command):
    out, file = tmp_path / "out", folder / "train.list"
    file.write_text("a b/one.avi 3\nmissing.avi 4\n")
    code, printed, _ = command(file, out, "--short_side", 24, "--num-workers", 1)
    assert code == 1 and "train.list: 1 of 2 lines" in printed and "no such file" in printed
    assert (out / "train.list").read_text() == "a b/one.mp4 3\n"
    with pytest.raises(ValueError, match="the new list would replace"):
        plan_resize(file, folder, ".mkv")
    with pytest.raises(ValueError, match="no such folder or list"):
        plan_resize(folder / "none.list", out, ".mkv")


def test_a_table_gives_a_table_of_the_copies(folder, tmp_path):
    out, file = tmp_path / "out", folder / "parts.csv"
    rows = ["a b/one.avi,my serve,0,0.1", "a b/one.avi,rally,0.1,0.2"]
    file.write_text("\n".join(["path,label,start_sec,end_sec", *rows]) + "\n")
    jobs, rows = plan_resize(file, out, ".mp4")
    assert run_jobs(WriteResized(24), jobs, out, 1).num_made == 1, "two rows, one video"
    assert write_list(jobs, rows, out / "parts.csv") == (out / "parts.csv", 2)
    loaded = VideoDataset(str(out / "parts.csv")).load()
    spans = [(record.label, record.start_sec, record.end_sec) for record in loaded.records]
    assert spans == [(0, 0, 0.1), (1, 0.1, 0.2)]
    assert loaded.class_names == ["my serve", "rally"]
    assert all(Path(record.path).is_file() for record in loaded.records)
