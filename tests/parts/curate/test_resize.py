"""Smaller videos: the same frames at the same times, in the same colours, with the same sound; and nothing half-made."""

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from paddlevideo.curate import resize
from paddlevideo.curate.batch_jobs import Job, work
from paddlevideo.curate.resize import WriteSmaller, plan_smaller, write_list
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError, Record
from tests.audio_clips import chirps, tone, write_audio
from tests.clips import write_clip
from tests.scripts import run_script

SCRIPT = "tools/data/resize_videos.py"


def smooth(num_frames: int, height: int, width: int) -> np.ndarray:
    """Colours that halving a picture, or its colours' resolution, hardly changes; each frame is its own: uint8 [T, H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width] * (96 / height)
    waves = [(x + 4 * n, y - 5 * n, x + y + 6 * n) for n in range(num_frames)]
    colors = [np.stack([np.sin(a / 40), np.cos(b / 33), np.sin(c / 50)], -1) for a, b, c in waves]
    return (128 + 110 * np.stack(colors)).clip(0, 255).astype(np.uint8)


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    with VideoDecoder().open(Record(str(path))) as clip:
        return clip.read(np.arange(clip.num_frames)), clip.times(), clip.fps


def key_frames(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = sorted(
            (p for p in container.demux(stream) if p.size), key=lambda packet: packet.pts
        )
        return [number for number, packet in enumerate(packets) if packet.is_keyframe]


KINDS = {
    "plain.mp4": {},
    "reordered.mp4": {"options": {"bf": "3", "g": "30"}},
    "bt709.mp4": {
        "options": {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
    },
    "full range.mp4": {"pixel_format": "yuvj420p"},
    "motion jpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "turned.mp4": {"rotation": 90},
    "upside down.mp4": {"rotation": 180},
    "variable rate.mp4": {"pts": list(np.cumsum(np.arange(12) % 5 + 1) * 700)},
    "late.mp4": {"pts": [5000 + 1000 * number for number in range(12)]},
    "old codec.avi": {"codec": "mpeg4"},
    "reordered.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "whole colours.mkv": {"pixel_format": "yuv444p"},
    "ten bits.mkv": {"codec": "ffv1", "pixel_format": "yuv420p10le"},
    "rgb.mp4": {"codec": "libx264rgb", "pixel_format": "rgb24"},
    "grey.mkv": {"codec": "ffv1", "pixel_format": "gray"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9", "fps": 30},
}


@pytest.mark.parametrize("name", KINDS)
def test_same_frames_times_and_colours(tmp_path, name):
    kind = KINDS[name]
    source = write_clip(
        tmp_path / name, 12, height=96, width=128, frames=smooth(12, 96, 128), **kind
    )
    WriteSmaller(48, crf=5)(str(source), str(tmp_path / "small.mp4"))
    frames, times, fps = decoded(source)
    small, small_times, small_fps = decoded(tmp_path / "small.mp4")
    assert small.shape[1:3] == ((64, 48) if kind.get("rotation") == 90 else (48, 64))
    assert len(small) == 12 and np.abs(small_times - times).max() < 1e-3
    # How long the last frame is shown, a variable rate does not tell.
    assert small_fps == pytest.approx(fps, rel=0.1 if name == "variable rate.mp4" else 1e-3)
    wanted = np.stack(
        [cv2.resize(frame, small.shape[2:0:-1], interpolation=cv2.INTER_AREA) for frame in frames]
    )
    errors = np.abs(small[:, None].astype(np.float32) - wanted[None]).mean((2, 3, 4))
    assert (errors.argmin(1) == np.arange(12)).all(), "each frame is in its place"
    # A wrong range or matrix is off by 8 and more.
    assert errors.diagonal().max() < 4
    with av.open(str(tmp_path / "small.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace != 0, (
            "0 would say that this is RGB"
        )
    # Read in pieces, so by seeking, they are the same again.
    with VideoDecoder().open(Record(str(tmp_path / "small.mp4"))) as clip:
        assert np.array_equal(clip.read([11, 3]), small[[11, 3]])


def test_sizes_and_key_frames(tmp_path):
    source = write_clip(tmp_path / "a.mp4", 50, height=90, width=160, options={"g": "250"})
    sizes = {}
    for side, gop in ((60, 10), (60, 25), (500, 25)):
        out = tmp_path / f"{side} {gop}.mp4"
        WriteSmaller(side, gop)(str(source), str(out))
        frames, _, _ = decoded(out)
        sizes[side, gop] = out.stat().st_size
        assert frames.shape[:3] == ((50, 60, 106) if side == 60 else (50, 90, 160)), (
            "even sides, the aspect kept, no enlarging"
        )
        keys = key_frames(out)
        assert keys[0] == 0 and max(np.diff([*keys, 50])) <= gop
    assert sizes[60, 10] > sizes[60, 25]
    with av.open(str(tmp_path / "60 10.mp4")) as container:
        assert container.streams.video[
            0
        ].codec_context.name == "h264" and container.format.name.startswith("mov")
    odd = write_clip(tmp_path / "odd.mkv", 3, height=45, width=75, pixel_format="yuv444p")
    WriteSmaller(256)(str(odd), str(tmp_path / "even.mp4"))
    assert decoded(tmp_path / "even.mp4")[0].shape[1:3] == (44, 76)
    assert WriteSmaller(256).size_of(720, 1280) == (256, 456) and WriteSmaller(256).size_of(
        1280, 720
    ) == (456, 256)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.avi", "pcm_s16le"), ("a.mkv", "libopus"), ("a.mkv", "mp2")],
)
def test_sound_is_the_same(tmp_path, name, codec):
    rate = 48000
    video = {"num_frames": 30, "start": 0.2}
    source = write_audio(tmp_path / name, chirps(1.5, rate), rate, codec=codec, video=video)
    WriteSmaller(32)(str(source), str(tmp_path / "small.mp4"))
    before, after = (read_waveform(str(path), rate) for path in (source, tmp_path / "small.mp4"))
    # Where the sound begins is kept to a tick of the container's clock, 1 ms in Matroska.
    shifts = range(-60, 61)
    errors = [
        np.abs(before[1000:40000] - after[1000 + shift : 40000 + shift]).mean() for shift in shifts
    ]
    assert min(errors) < 1e-3 and abs(shifts[int(np.argmin(errors))]) <= (
        48 if name == "a.mkv" else 1
    )
    assert abs(len(before) - len(after)) <= 1500


def test_sound_that_does_not_fit(tmp_path):
    source = write_audio(tmp_path / "a.mkv", tone(0.5), codec="tta", video={"num_frames": 6})
    with pytest.raises(
        DecodeError,
        match=r"its sound \(tta\) cannot be copied into .mp4: choose another suffix, or no sound",
    ):
        WriteSmaller(32)(str(source), str(tmp_path / "b.mp4"))
    assert not (tmp_path / "b.mp4").exists()
    WriteSmaller(32, suffix=".mkv")(str(source), str(tmp_path / "b.mkv"))
    assert np.array_equal(
        *(read_waveform(str(path), 16000) for path in (source, tmp_path / "b.mkv"))
    )
    WriteSmaller(32, sound="none")(str(source), str(tmp_path / "c.mp4"))
    with pytest.raises(DecodeError, match="no audio stream"):
        read_waveform(str(tmp_path / "c.mp4"), 16000)


def test_damage_is_told_and_leaves_nothing(tmp_path):
    good = write_clip(tmp_path / "in" / "good.mp4", 40, height=90, width=160)
    data = good.read_bytes()
    (tmp_path / "in" / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "in" / "text.mp4").write_text("nothing to see " * 50)
    middle = bytearray(
        write_clip(
            tmp_path / "fast.mp4", 40, 90, 160, container_options={"movflags": "faststart"}
        ).read_bytes()
    )
    (tmp_path / "in" / "short.mp4").write_bytes(bytes(middle[:-600]))
    write_audio(tmp_path / "in" / "sound.mp4", tone(0.3), codec="aac")
    done = work(
        WriteSmaller(48),
        plan_smaller(tmp_path / "in", tmp_path / "out", ".mp4")[0],
        tmp_path / "out",
        1,
    )
    reasons = {Path(source).name: reason for source, reason in done.failed}
    assert done.made == 1 and set(reasons) == {"cut.mp4", "text.mp4", "short.mp4", "sound.mp4"}
    assert (
        "no moov" in reasons["cut.mp4"]
        and "no video stream" in reasons["sound.mp4"]
        and "cut short" in reasons["short.mp4"]
    )
    assert sorted(os.listdir(tmp_path / "out")) == ["failures.tsv", "good.mp4", "made_with.json"]


def test_a_result_that_is_not_whole_is_not_kept(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "a.mp4", 10)
    real = resize.Encoder.encode

    def lose_one(self, frame):
        packets = real(self, frame)
        return [] if self._count == 5 else packets

    monkeypatch.setattr(resize.Encoder, "encode", lose_one)
    monkeypatch.setattr(
        resize.WriteSmaller, "_add_video", zero_delay(resize.WriteSmaller._add_video)
    )
    done = work(
        WriteSmaller(32), [Job(str(source), str(tmp_path / "out" / "a.mp4"))], tmp_path / "out", 1
    )
    assert (
        "what was written has 9 frames of 10" in done.failed[0][1]
        and not (tmp_path / "out" / "a.mp4").exists()
    )


def zero_delay(add_video):
    """Each frame gives its packet at once, so that a packet can be lost."""

    def added(self, writer, video, size):
        out = add_video(self, writer, video, size)
        out.options = {**out.options, "tune": "zerolatency", "threads": "1"}
        out.codec_context.options = out.options
        return out

    return added


def test_the_command_goes_on_and_replaces_nothing(tmp_path, monkeypatch, capsys):
    videos, out = tmp_path / "in", tmp_path / "out"
    for name in ("a b/one.avi", "c/two.mp4"):
        write_clip(videos / name, 5, height=72, width=96, codec="mpeg4")
    (videos / "c" / "bad.mp4").write_bytes(b"bad")
    args = (SCRIPT, videos, out, "--short_side", 36, "--num-workers", 1)
    code, said, _ = run_script(monkeypatch, capsys, *args)
    assert (
        code == 1
        and "2 made, 0 already there, 1 failed" in said
        and "bad.mp4" in (out / "failures.tsv").read_text()
    )
    stamp = (out / "a b" / "one.mp4").stat().st_mtime_ns
    write_clip(videos / "c" / "bad.mp4", 4)
    code, said, _ = run_script(monkeypatch, capsys, *args[:-1], 2)
    assert code == 0 and "1 made, 2 already there, 0 failed" in said
    assert (out / "a b" / "one.mp4").stat().st_mtime_ns == stamp and not (
        out / "failures.tsv"
    ).exists()
    assert json.loads((out / "made_with.json").read_text())["gop"] == 32
    records = VideoDataset(str(out)).load()
    assert records.class_names == ["a b", "c"] and len(records.records) == 3
    code, _, err = run_script(monkeypatch, capsys, *args, "--gop", 8)
    assert code == 2 and "were made with" in err
    before = (videos / "c" / "two.mp4").read_bytes()
    code, _, err = run_script(
        monkeypatch, capsys, SCRIPT, videos, videos, "--overwrite", "--num-workers", 1
    )
    assert (
        code == 2
        and "would be replaced by what is made of it" in err
        and (videos / "c" / "two.mp4").read_bytes() == before
    )
    for wrong in (("--short_side", 255), ("--crf", 70), ("--gop", 0)):
        code, _, err = run_script(monkeypatch, capsys, *args, *wrong)
        assert code == 2 and "expected" in err


def test_lists_name_the_new_files(tmp_path, monkeypatch, capsys):
    videos, out = tmp_path / "in", tmp_path / "out"
    write_clip(videos / "a b" / "one.avi", 5, codec="mpeg4")
    (videos / "train.list").write_text("a b/one.avi 3\nmissing.avi 4\n")
    code, said, _ = run_script(
        monkeypatch,
        capsys,
        SCRIPT,
        videos / "train.list",
        out,
        "--short_side",
        24,
        "--num-workers",
        1,
    )
    assert code == 1 and "train.list: 1 of 2 lines" in said and "no such file" in said
    assert (out / "train.list").read_text() == "a b/one.mp4 3\n"
    (videos / "parts.csv").write_text(
        "path,label,start_sec,end_sec\na b/one.avi,my serve,0,0.1\na b/one.avi,rally,0.1,0.2\n"
    )
    jobs, rows = plan_smaller(videos / "parts.csv", out, ".mp4")
    assert work(WriteSmaller(24), jobs, out, 1).kept == 1, "two rows, one file"
    assert write_list(jobs, rows, out / "parts.csv") == (out / "parts.csv", 2)
    parts = VideoDataset(str(out / "parts.csv")).load()
    assert [(r.label, r.start_sec, r.end_sec) for r in parts.records] == [
        (0, 0, 0.1),
        (1, 0.1, 0.2),
    ]
    assert parts.class_names == ["my serve", "rally"] and all(
        Path(record.path).is_file() for record in parts.records
    )
    with pytest.raises(ValueError, match="the new list would replace"):
        plan_smaller(videos / "train.list", videos, ".mkv")
