"""Small data sets of synthetic videos, with and without faults."""

import csv
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from paddlevideo.curate.check import CheckOptions, CheckResult, check
from paddlevideo.curate.inventory import Inputs
from paddlevideo.curate.probe import ProbeOptions
from tests.audio_clips import chirps, write_audio, write_six_streams
from tests.clips import random_frames, write_clip

# Encoder options of transport streams: short groups of pictures, no B-frames.
STREAM = {"g": "6", "bf": "0"}
INDEX_FIRST = {"movflags": "faststart"}


def check_set(data: Path, probe: ProbeOptions | None = None, **options) -> CheckResult:
    """Check a data set in this process; `options` are those of Inputs and CheckOptions."""
    names = ("valid", "test", "data_prefix", "class_names", "source", "media")
    inputs = Inputs(data, **{name: options.pop(name) for name in names if name in options})
    options = {"num_workers": 0, **options}
    return check(CheckOptions(inputs, probe or ProbeOptions(), **options), show=False)


def fault_list(result: CheckResult) -> list[tuple[str, str]]:
    """Return (kind, path) of every fault, sorted."""
    return sorted((fault.kind, fault.path) for fault in result.faults)


def good_clip(path: Path, seed: int, num_frames: int = 12, **options) -> Path:
    """Write a clip whose content depends on the seed."""
    frames = random_frames(num_frames, 48, 64, seed=seed)
    return write_clip(path, num_frames, 48, 64, frames=frames, **options)


def class_folders(root: Path, labels: Sequence[str] = ("run", "swim"), count: int = 5) -> Path:
    """Write `count` good clips into each class folder."""
    for class_number, label in enumerate(labels):
        for number in range(count):
            good_clip(root / label / f"{number}.mp4", 100 * class_number + number)
    return root


def truncate(path: Path, target: Path, share: float) -> None:
    """Copy the first part of a file."""
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])


def damage(path: Path, start: float = 0.55, share: float = 0.2) -> None:
    """Overwrite a part of a file with zeros."""
    content = bytearray(path.read_bytes())
    first, count = int(len(content) * start), int(len(content) * share)
    content[first : first + count] = bytes(count)
    path.write_bytes(content)


def write_without_frames(path: Path, codec: str) -> None:
    """Write a header without any frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def remux(path: Path, target: Path) -> None:
    """Copy the video stream into another container."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


# --- faults of files ------------------------------------------------------------------------------


def write_faulty_folders(root: Path) -> list[tuple[str, str]]:
    """Write class folders with faulty files among good clips.

    Returns:
        (kind, path) of each fault, sorted.
    """
    class_folders(root)
    write_unreadable_files(root / "run")
    write_misplaced_files(root)
    # Hidden files and files of other types are no faults.
    (root / "run" / ".hidden.mp4").touch()
    (root / "run" / "notes.txt").write_text("notes")
    (root / "README.md").write_text("notes")
    return [
        ("alike", ""),
        ("bad_name", "run/line\nbreak.mp4"),
        ("conflict", "run/2.mp4"),
        ("conflict", "swim/2 too.mp4"),
        ("damaged", "run/holes.avi"),
        ("damaged", "run/holes.mkv"),
        ("damaged", "run/holes.mp4"),
        ("duplicate", "run/1 again.mov"),
        ("duplicate", "run/copy of 0.mp4"),
        ("empty", "run/empty.mp4"),
        ("empty_class", "empty class"),
        ("few", "Run"),
        ("missing", "run/link.mp4"),
        ("no_class", "loose.mp4"),
        ("no_frames", "run/none.avi"),
        ("no_video", "run/none.mp4"),
        ("no_video", "run/song.mp4"),
        ("not_video", "run/packed.mov"),
        ("not_video", "run/page.mp4"),
        ("not_video", "run/photo.mp4"),
        ("not_video", "run/wave.avi"),
        ("not_video", "run/words.mp4"),
        ("size_changes", "run/sizes.ts"),
        ("too_short", "run/one.mp4"),
        ("truncated", "run/half.avi"),
        ("truncated", "run/half.mkv"),
        ("truncated", "run/half.mp4"),
        ("truncated", "run/half.ts"),
        ("truncated", "run/no index.mp4"),
        ("unknown_suffix", "run/download.mp4.part"),
        ("wrong_suffix", "run/really.mp4"),
    ]


def write_unreadable_files(folder: Path) -> None:
    """Write files that no training can read, and one with the suffix of another format."""
    originals = folder.parent.parent
    (folder / "empty.mp4").touch()
    truncate(good_clip(originals / "good.mp4", 900, 40), folder / "no index.mp4", 0.6)
    index_first = good_clip(originals / "b.mp4", 901, 40, container_options=INDEX_FIRST)
    truncate(index_first, folder / "half.mp4", 0.7)
    truncate(good_clip(originals / "a.avi", 902, 40, codec="mpeg4"), folder / "half.avi", 0.7)
    truncate(good_clip(originals / "a.mkv", 903, 40), folder / "half.mkv", 0.7)
    truncate(good_clip(originals / "a.ts", 904, 40, options=STREAM), folder / "half.ts", 0.73)
    damage(good_clip(folder / "holes.mp4", 905, 40, container_options=INDEX_FIRST))
    damage(good_clip(folder / "holes.mkv", 906, 40))
    damage(good_clip(folder / "holes.avi", 907, 40, codec="mpeg4"))
    (folder / "words.mp4").write_text("this is no video\n" * 50)
    (folder / "page.mp4").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    cv2.imwrite(str(originals / "photo.png"), random_frames(1)[0])
    (originals / "photo.png").rename(folder / "photo.mp4")
    with zipfile.ZipFile(folder / "packed.mov", "w") as archive:
        archive.writestr("a.txt", "text")
    silence = np.zeros(16000, np.float32)
    write_audio(originals / "wave.wav", silence).rename(folder / "wave.avi")
    write_audio(folder / "song.mp4", silence, codec="aac")
    write_without_frames(folder / "none.avi", "mpeg4")
    write_without_frames(folder / "none.mp4", "libx264")
    good_clip(folder / "one.mp4", 908, 1)
    small = good_clip(originals / "small.ts", 3, options=STREAM)
    large = write_clip(originals / "large.ts", 12, 96, 128, options=STREAM)
    (folder / "sizes.ts").write_bytes(small.read_bytes() + large.read_bytes())
    os.symlink(folder / "gone.mp4", folder / "link.mp4")
    good_clip(folder / "really.mkv", 909).rename(folder / "really.mp4")


def write_misplaced_files(root: Path) -> None:
    """Write readable videos with unusual names, in wrong folders, and copies of others."""
    run, swim = root / "run", root / "swim"
    good_clip(run / "download.mp4", 910).rename(run / "download.mp4.part")
    good_clip(run / "line\nbreak.mp4", 911)
    good_clip(root / "loose.mp4", 912)
    (root / "empty class").mkdir()
    shutil.copy(run / "0.mp4", run / "copy of 0.mp4")
    remux(run / "1.mp4", run / "1 again.mov")
    shutil.copy(run / "2.mp4", swim / "2 too.mp4")
    good_clip(root / "Run" / "single.mp4", 913)


# --- faults of lists ------------------------------------------------------------------------------

LISTED_FILES = (
    "ok 1.mp4", "ok, 2.mp4", 'ok "3".mp4', "v_Run_g01_c01.mp4", "v_Run_g01_c02.mp4",
    "v_Run_g02_c01.mp4", "-WfzPs4-m0k_000012_000022.mp4", "-WfzPs4-m0k_000050_000060.mp4",
    "derby_clip_1.mp4", "derby_clip_2.mp4", "sub/back.mp4", "Case.mp4", "long.mp4", "twin.mp4",
    "only.mp4", "also ok.mp4", "еще.mp4",
)  # fmt: skip
# The first line of the table has number 2, below the column names.
TRAIN_LIST = (
    ("ok 1.mp4", "run"),
    ("ok, 2.mp4", "swim"),
    ('ok "3".mp4', "run"),
    ("еще.mp4", "swim"),
    ("v_Run_g01_c01.mp4", "run"),
    ("-WfzPs4-m0k_000012_000022.mp4", "swim"),
    ("derby_clip_1.mp4", "run"),
    ("sub\\back.mp4", "run"),
    ("case.MP4", "run"),
    ("twin.mp4", "run"),
    ("folder.mp4", "run"),
    ("gone.mp4", "run"),
    ("ok 1.mp4", "run"),
    ("ok 1.mp4", ""),
    ("ok 1.mp4", "7"),
    ("long.mp4", "run", "0", "0.2"),
    ("long.mp4", "run", "0.3", "0.4"),
    ("long.mp4", "run", "40", "50"),
    ("long.mp4", "run", "3", "2"),
    ("long.mp4", "run", "soon", ""),
    ("too", "many", "", "", "cells"),
)
VALID_LIST = (
    ("also ok.mp4", "swim"),
    ("v_Run_g01_c02.mp4", "run"),
    ("v_Run_g02_c01.mp4", "run"),
    ("-WfzPs4-m0k_000050_000060.mp4", "swim"),
    ("derby_clip_2.mp4", "run"),
    ("twin in valid.mp4", "run"),
    ("only.mp4", "jump"),
)


def write_faulty_lists(root: Path) -> tuple[Path, list[tuple[str, str]]]:
    """Write train.csv and valid.csv with faulty lines, labels and splits.

    Returns:
        (folder, (kind, path) of each fault, sorted).
    """
    media = root / "media"
    for seed, name in enumerate(LISTED_FILES):
        good_clip(media / name, 300 + seed)
    shutil.copy(media / "twin.mp4", media / "twin in valid.mp4")
    (media / "folder.mp4").mkdir()
    for name, rows in (("train", TRAIN_LIST), ("valid", VALID_LIST)):
        with (media / f"{name}.csv").open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerow(["path", "label", "start_sec", "end_sec"])
            writer.writerows([*row, *[""] * (4 - len(row))] for row in rows)
    return media, [
        ("bad_label", "ok 1.mp4"),
        ("bad_line", ""),
        ("bad_line", ""),
        ("bad_line", ""),
        ("bad_line", ""),
        ("bad_times", "long.mp4"),
        ("folder", "folder.mp4"),
        ("leak", "-WfzPs4-m0k_000012_000022.mp4"),
        ("leak", "derby_clip_1.mp4"),
        ("leak", "twin.mp4"),
        ("leak", "v_Run_g01_c01.mp4"),
        ("missing", "gone.mp4"),
        ("no_training", "jump"),
        ("repeated", "ok 1.mp4"),
        ("respelt", "case.MP4"),
        ("respelt", "sub\\back.mp4"),
    ]


# --- no faults ------------------------------------------------------------------------------------


def write_good_clips(root: Path) -> None:
    """Write intact clips of many codecs and containers."""
    one, two = root / "one", root / "two"
    good_clip(one / "b frames.mp4", 1, 60, options={"bf": "3", "g": "250"})
    good_clip(one / "open.mkv", 2, 60, options={"bf": "2", "g": "10", "x264-params": "open-gop=1"})
    good_clip(one / "old.avi", 3, 30, codec="mpeg4")
    good_clip(one / "web.webm", 4, 30, codec="libvpx-vp9")
    good_clip(one / "vp8.webm", 5, 20, codec="libvpx")
    good_clip(one / "stream.ts", 6, 40, options=STREAM)
    good_clip(one / "disc.mpg", 7, 30, codec="mpeg2video")
    good_clip(one / "flash.flv", 8, 30)
    good_clip(two / "UPPER.MP4", 9, 20, tone=440.0)
    good_clip(two / "phone.mov", 10, 20, rotation=90)
    good_clip(two / "windows.wmv", 11, 30, codec="mpeg4")
    good_clip(two / "two streams.mp4", 12, 20, num_streams=2)
    good_clip(two / "uneven.mp4", 13, 20, pts=[n * 1000 + (n % 3) * 300 for n in range(20)])
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    good_clip(two / "fragments.mp4", 14, 30, container_options=fragments)
    good_clip(two / "motion.avi", 15, 20, codec="mjpeg", pixel_format="yuvj420p")
    good_clip(two / "two.mp4", 16, 2)
    hevc = {"bf": "3", "x265-params": "log-level=none:pools=1"}
    good_clip(two / "hevc.mp4", 17, 10, codec="libx265", options=hevc)
    write_six_streams(two / "six streams.mp4")
    waveform, video = chirps(2, 44100), {"num_frames": 50, "seed": 18}
    write_audio(one / "mp3.avi", waveform, 44100, "libmp3lame", video=video)
    # Clips of one still image may be equal without being copies.
    black = np.zeros((12, 48, 64, 3), np.uint8)
    write_clip(one / "black.mp4", 12, 48, 64, frames=black)
    write_clip(two / "black as well.mkv", 12, 48, 64, frames=black)
