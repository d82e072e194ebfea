"""The check of a data set finds every seeded fault, nothing else, and what it writes is read back as it was meant."""

import csv
import ctypes
import json
import os
import shlex
import shutil
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlevideo.curate import probe
from paddlevideo.curate import results as clean
from paddlevideo.curate.check import Checked, CheckPlan, check, key_of
from paddlevideo.curate.faults import KINDS
from paddlevideo.curate.inventory import Inputs, Item
from paddlevideo.curate.probe import (
    HEAD,
    ProbeOptions,
    VideoInfo,
    find_spelling,
    format_of,
    missing_bytes,
    odd_name,
    probe_video,
    spread,
)
from paddlevideo.curate.report import durations, headline, histograms, html_report, text_report
from paddlevideo.curate.results import check_free, how_to_train, read_manifest, write
from paddlevideo.data.class_names import class_names_under, read_class_names
from paddlevideo.data.datasets import DatasetError, VideoDataset
from paddlevideo.data.paths import split_under
from paddlevideo.engine.build import load_config
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.processes import Crash, run_each
from paddlevideo.sample import Record
from tests.clips import random_frames, write_clip

STREAM = {"g": "6", "bf": "0"}


def checked(data, look=None, **options):
    inputs = {
        key: options.pop(key)
        for key in ("valid", "test", "data_prefix", "class_names", "source")
        if key in options
    }
    plan = CheckPlan(
        Inputs(data, **inputs), look or ProbeOptions(), **{"num_workers": 0, **options}
    )
    return check(plan, show=False)


def found(result):
    """Every fault as (kind, path), once for each."""
    return sorted((fault.kind, fault.path) for fault in result.faults)


def good_clip(path, seed, num_frames=12, **options):
    """A clip unlike any other of its set."""
    return write_clip(
        path, num_frames, 48, 64, frames=random_frames(num_frames, 48, 64, seed=seed), **options
    )


def tree(root, classes=("run", "swim"), count=5):
    """`count` good clips in each class folder."""
    for number, label in enumerate(classes):
        for n in range(count):
            good_clip(root / label / f"{n}.mp4", 100 * number + n)
    return root


def cut(path, target, share):
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])


def damage(path, start=0.55, share=0.2):
    content = bytearray(path.read_bytes())
    first, count = int(len(content) * start), int(len(content) * share)
    content[first : first + count] = bytes(count)
    path.write_bytes(content)


def write_sound(path, container_format, codec, rate=16000):
    with av.open(str(path), "w", format=container_format) as container:
        track = container.add_stream(codec, rate=rate, layout="mono")
        layout = "s16" if codec.startswith("pcm") else "fltp"
        wave = np.zeros((1, rate), np.int16 if layout == "s16" else np.float32)
        chunk = av.AudioFrame.from_ndarray(wave, format=layout, layout="mono")
        chunk.sample_rate, chunk.pts = rate, 0
        container.mux(track.encode(chunk))
        container.mux(track.encode(None))


def write_without_frames(path, codec):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def remux(path, target):
    """The same pictures in another container."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


# --- seeded faults ---------------------------------------------------------------------------------------------------


def seed_files(root):
    """A tree with 24 faults of files and folders among good clips; returns what must be found."""
    tree(root)
    run, swim = root / "run", root / "swim"
    good = good_clip(root.parent / "good.mp4", 900, 40)
    index_first = good_clip(
        root.parent / "first.mp4", 901, 40, container_options={"movflags": "faststart"}
    )

    (run / "empty.mp4").touch()
    cut(good, run / "no index.mp4", 0.6)
    cut(index_first, run / "half.mp4", 0.7)
    cut(good_clip(root.parent / "a.avi", 902, 40, codec="mpeg4"), run / "half.avi", 0.7)
    cut(good_clip(root.parent / "a.mkv", 903, 40), run / "half.mkv", 0.7)
    cut(good_clip(root.parent / "a.ts", 904, 40, options=STREAM), run / "half.ts", 0.73)
    damage(good_clip(run / "holes.mp4", 905, 40, container_options={"movflags": "faststart"}))
    damage(good_clip(run / "holes.mkv", 906, 40))
    damage(good_clip(run / "holes.avi", 907, 40, codec="mpeg4"))
    (run / "words.mp4").write_text("this is no video\n" * 50)
    (run / "page.mp4").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    cv2.imwrite(str(run / "picture.png"), random_frames(1)[0])
    (run / "picture.png").rename(run / "picture.mp4")
    with zipfile.ZipFile(run / "packed.mov", "w") as archive:
        archive.writestr("a.txt", "text")
    write_sound(run / "wave.avi", "wav", "pcm_s16le")
    write_sound(run / "song.mp4", "mp4", "aac")
    write_without_frames(run / "none.avi", "mpeg4")
    write_without_frames(run / "none.mp4", "libx264")
    good_clip(run / "one.mp4", 908, 1)
    small, large = (good_clip(root.parent / f"{w}.ts", w, 12, options=STREAM) for w in (3, 4))
    write_clip(large, 12, 96, 128, options=STREAM)
    (run / "sizes.ts").write_bytes(small.read_bytes() + large.read_bytes())
    os.symlink(root / "gone.mp4", run / "link.mp4")
    good_clip(run / "really.mkv", 909).rename(run / "really.mp4")
    good_clip(run / "download.mp4", 910).rename(run / "download.mp4.part")
    good_clip(run / "line\nbreak.mp4", 911)
    good_clip(root / "loose.mp4", 912)
    (root / "empty class").mkdir()
    shutil.copy(run / "0.mp4", run / "copy of 0.mp4")
    remux(run / "1.mp4", run / "1 again.mov")
    shutil.copy(run / "2.mp4", swim / "2 too.mp4")
    good_clip(root / "Run" / "single.mp4", 913)
    # What is no fault: hidden files, and files that nobody takes for videos.
    (run / ".hidden.mp4").touch()
    (run / "notes.txt").write_text("mine")
    (root / "README.md").write_text("mine")
    return [
        ("alike", ""), ("bad_name", "run/line\nbreak.mp4"), ("conflict", "run/2.mp4"), ("conflict", "swim/2 too.mp4"),
        ("damaged", "run/holes.avi"), ("damaged", "run/holes.mkv"), ("damaged", "run/holes.mp4"),
        ("duplicate", "run/1 again.mov"), ("duplicate", "run/copy of 0.mp4"), ("empty", "run/empty.mp4"),
        ("empty_class", "empty class"), ("few", "Run"), ("missing", "run/link.mp4"), ("no_class", "loose.mp4"),
        ("no_frames", "run/none.avi"), ("no_video", "run/none.mp4"), ("no_video", "run/song.mp4"),
        ("not_video", "run/packed.mov"), ("not_video", "run/page.mp4"), ("not_video", "run/picture.mp4"),
        ("not_video", "run/wave.avi"), ("not_video", "run/words.mp4"), ("size_changes", "run/sizes.ts"),
        ("too_short", "run/one.mp4"), ("truncated", "run/half.avi"), ("truncated", "run/half.mkv"),
        ("truncated", "run/half.mp4"), ("truncated", "run/half.ts"), ("truncated", "run/no index.mp4"),
        ("unknown_suffix", "run/download.mp4.part"), ("wrong_suffix", "run/really.mp4"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """(folder with faults, what is wrong in it)."""
    root = tmp_path_factory.mktemp("seeded") / "set"
    return root, seed_files(root)


@pytest.mark.parametrize(("whole", "workers"), [(False, 2), (True, 0)])
def test_every_seeded_fault_of_files_is_found_and_nothing_else(seeded, whole, workers):
    root, expected = seeded
    assert len(expected) >= 30
    result = checked(root, ProbeOptions(whole=whole), num_workers=workers)
    assert found(result) == expected
    kept = {item.name for item in result.items}
    left_out = {path for kind, path in expected if KINDS[kind].left_out}
    assert "run/really.mp4" in kept and not kept & left_out
    assert kept | left_out >= {f"{label}/{n}.mp4" for label in ("run", "swim") for n in range(5)}
    assert result.class_names == ["Run", "run", "swim"]
    assert result.notes == ["1 other file is not looked at: 1 .txt"]


def seed_lists(root):
    """Two lists with faults of lines, labels and splits; returns them and what must be found."""
    media = root / "media"
    names = [
        "ok 1.mp4",
        "ok, 2.mp4",
        'ok "3".mp4',
        "v_Run_g01_c01.mp4",
        "v_Run_g01_c02.mp4",
        "v_Run_g02_c01.mp4",
    ]
    names += [
        "-WfzPs4-m0k_000012_000022.mp4",
        "-WfzPs4-m0k_000050_000060.mp4",
        "derby_clip_1.mp4",
        "derby_clip_2.mp4",
    ]
    names += [
        "sub/back.mp4",
        "Case.mp4",
        "long.mp4",
        "twin.mp4",
        "only.mp4",
        "also ok.mp4",
        "еще.mp4",
    ]
    for seed, name in enumerate(names):
        good_clip(media / name, 300 + seed)
    shutil.copy(media / "twin.mp4", media / "twin in val.mp4")
    (media / "folder.mp4").mkdir()
    train = [
        ["ok 1.mp4", "run"], ["ok, 2.mp4", "swim"], ['ok "3".mp4', "run"], ["еще.mp4", "swim"],
        ["v_Run_g01_c01.mp4", "run"], ["-WfzPs4-m0k_000012_000022.mp4", "swim"], ["derby_clip_1.mp4", "run"],
        ["sub\\back.mp4", "run"], ["case.MP4", "run"], ["twin.mp4", "run"], ["folder.mp4", "run"], ["gone.mp4", "run"],
        ["ok 1.mp4", "run"], ["ok 1.mp4", ""], ["ok 1.mp4", "7"], ["long.mp4", "run", "0", "0.2"],
        ["long.mp4", "run", "0.3", "0.4"], ["long.mp4", "run", "40", "50"], ["long.mp4", "run", "3", "2"],
        ["long.mp4", "run", "soon", ""], ["too", "many", "", "", "cells"],
    ]  # fmt: skip
    valid = [
        ["also ok.mp4", "swim"], ["v_Run_g01_c02.mp4", "run"], ["v_Run_g02_c01.mp4", "run"],
        ["-WfzPs4-m0k_000050_000060.mp4", "swim"], ["derby_clip_2.mp4", "run"], ["twin in val.mp4", "run"],
        ["only.mp4", "jump"],
    ]  # fmt: skip
    for name, rows in (("train", train), ("valid", valid)):
        with (media / f"{name}.csv").open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerows(
                [
                    ["path", "label", "start_sec", "end_sec"],
                    *(r + [""] * (4 - len(r)) for r in rows),
                ]
            )
    expected = [
        ("bad_label", "ok 1.mp4"), ("bad_line", ""), ("bad_line", ""), ("bad_line", ""), ("bad_line", ""),
        ("bad_times", "long.mp4"), ("folder", "folder.mp4"), ("leak", "-WfzPs4-m0k_000012_000022.mp4"),
        ("leak", "derby_clip_1.mp4"), ("leak", "twin.mp4"), ("leak", "v_Run_g01_c01.mp4"), ("missing", "gone.mp4"),
        ("no_training", "jump"), ("repeated", "ok 1.mp4"), ("respelt", "case.MP4"), ("respelt", "sub\\back.mp4"),
    ]  # fmt: skip
    return media, expected


def test_every_seeded_fault_of_lists_is_found_and_nothing_else(tmp_path):
    media, expected = seed_lists(tmp_path)
    result = checked(media / "train.csv", valid=media / "valid.csv")
    assert found(result) == expected
    text = "\n".join(map(str, result.faults))
    for said in (
        "train.csv:13: gone.mp4: no such file", "train.csv:15: no label", "train.csv:16: ok 1.mp4: label 7 is a class id, most",
        "train.csv:14: ok 1.mp4: the same clip and label as in", "train.csv:19: long.mp4: no frame between 40.0 s and 50.0 s",
        "train.csv:20: end_sec 2.0 is not after start_sec 3.0", "train.csv:21: start_sec 'soon'", "train.csv:22: 5 columns",
        "the same video is in val as twin in val.mp4", "source 'v_Run_g01' is in val too, as v_Run_g01_c02.mp4",
        "source 'derby' is in val too", "the file's own spelling is Case.mp4", "written with backslashes; the file is back.mp4",
        "jump: no training clip is left of this class, 1 in other splits",
    ):  # fmt: skip
        assert said in text, said
    names = {"train": set(), "val": set()}
    for item in result.items:
        names[item.split].add(item.name)
    assert names["train"] >= {
        "ok 1.mp4",
        "ok, 2.mp4",
        'ok "3".mp4',
        "еще.mp4",
        "long.mp4",
        "sub\\back.mp4",
        "case.MP4",
    }
    assert len(names["val"]) == 6 and result.class_names == ["run", "swim"]
    counts = write(result, tmp_path / "out")
    assert (
        counts["train.csv"] == 8
        and counts["val.csv"] == 6
        and counts["bad_files.csv"] == len(expected)
    )
    loaded = VideoDataset(str(tmp_path / "out" / "train.csv")).load(["run", "swim"])
    assert [(r.start_sec, r.end_sec) for r in loaded.records if r.path.endswith("long.mp4")] == [
        (0.0, 0.2),
        (0.3, 0.4),
    ]
    assert all(os.path.isfile(record.path) for record in loaded.records)


def test_leaks_are_gone_after_a_new_split(tmp_path):
    media, _ = seed_lists(tmp_path)
    result = checked(media / "train.csv", valid=media / "valid.csv", resplit=True, valid_share=0.3)
    assert "leak" not in {fault.kind for fault in result.faults} and result.drawn
    split_of = {}
    for item in result.items:
        assert split_of.setdefault(item.source, item.split) == item.split


def write_good_clips(root):
    """Clips of many forms, all of them sound."""
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
    good_clip(
        two / "pieces.mp4", 14, 30, container_options={"movflags": "frag_keyframe+empty_moov"}
    )
    good_clip(two / "motion.avi", 15, 20, codec="mjpeg", pixel_format="yuvj420p")
    good_clip(two / "two.mp4", 16, 2)
    black = np.zeros((12, 48, 64, 3), np.uint8)  # slides may be alike and yet not the same
    write_clip(one / "black.mp4", 12, 48, 64, frames=black)
    write_clip(two / "black as well.mkv", 12, 48, 64, frames=black)


@pytest.mark.parametrize("whole", [False, True])
def test_no_alarm_on_sound_clips(tmp_path, clips, whole):
    write_good_clips(tmp_path / "set")
    assert found(checked(tmp_path / "set", ProbeOptions(whole=whole))) == []
    result = checked(clips, ProbeOptions(whole=whole))
    assert (
        found(result) == []
        and not result.drawn
        and result.counts()["green"] == {"train": 4, "val": 2, "test": 2}
    )


@pytest.mark.parametrize("whole", [False, True])
def test_no_alarm_on_real_clips(shared, tmp_path, whole):
    files = sorted(p for p in (shared / "videos").iterdir() if p.suffix not in (".md", ".wav"))
    lines = [f"{path}\t{number % 2}\n" for number, path in enumerate(files)]
    (tmp_path / "real.list").write_text("".join(lines), encoding="utf-8")
    result = checked(tmp_path / "real.list", ProbeOptions(whole=whole))
    assert found(result) == [] and len(result.items) == len(files) >= 7


# --- one file --------------------------------------------------------------------------------------------------------


def test_what_is_seen(tmp_path):
    path = good_clip(tmp_path / "a.mp4", 1, 30, tone=300.0)
    seen, whole = (
        probe_video(Record(str(path), id="a"), ProbeOptions(whole=w)) for w in (False, True)
    )
    assert (seen.num_frames, seen.fps, seen.seconds, seen.width, seen.height) == (
        30,
        25.0,
        1.2,
        64,
        48,
    )
    assert (seen.codec, seen.sound, seen.format, seen.faults) == (
        "h264",
        True,
        "MP4 or QuickTime",
        [],
    )
    assert seen.pictures == whole.pictures != ""
    part = probe_video(Record(str(path), id="a", start_sec=0.4, end_sec=0.8), ProbeOptions())
    assert part.num_frames == 10 and part.pictures != seen.pictures
    turned = probe_video(
        Record(str(good_clip(tmp_path / "b.mov", 1, 5, rotation=90))), ProbeOptions()
    )
    assert (turned.width, turned.height) == (48, 64)


@pytest.mark.parametrize("whole", [False, True])
def test_what_the_decoder_covers_up_is_told_of_the_right_file(tmp_path, whole):
    bad, good = (
        good_clip(tmp_path / name, n, 60, codec="libvpx-vp9")
        for n, name in enumerate(("bad.webm", "good.webm"))
    )
    damage(bad, 0.3, 0.125)
    # Every frame that is left decodes; only FFmpeg's log knows that some are gone. It would count repeats of a line.
    with VideoDecoder().open(Record(str(bad))) as clip:
        assert len(clip.read(np.arange(clip.num_frames))) < 60
    for _ in range(3):
        faults = probe_video(Record(str(bad), id="bad"), ProbeOptions(whole=whole)).faults
        assert [fault.kind for fault in faults] == ["damaged"]
        assert (
            "the decoder covers it up: 0x00 at pos" in faults[0].text
            and faults[0].text.count("\n") == 0
        )
        assert probe_video(Record(str(good)), ProbeOptions(whole=whole)).faults == []
    assert av.logging.get_level() is None


def test_too_short(tmp_path):
    path = str(good_clip(tmp_path / "a.mp4", 1, 10))
    assert [
        str(f) for f in probe_video(Record(path, id="a"), ProbeOptions(min_frames=11)).faults
    ] == ["a: 10 frames, at least 11 wanted"]
    assert [
        str(f) for f in probe_video(Record(path, id="a"), ProbeOptions(min_seconds=0.5)).faults
    ] == ["a: 0.40 s, at least 0.5 s wanted"]
    assert probe_video(Record(path), ProbeOptions(min_frames=10, min_seconds=0.4)).faults == []
    with pytest.raises(
        ValueError, match="frames 0, min_frames 2, min_seconds 0: expected 1 or more"
    ):
        ProbeOptions(num_frames=0)


def test_a_library_that_fails_in_its_own_way_is_a_finding(tmp_path, monkeypatch):
    def fail(*_):
        raise OverflowError("4294967295 frames")

    monkeypatch.setattr(probe, "read_frames", fail)
    faults = probe_video(
        Record(str(good_clip(tmp_path / "a.mp4", 1, 3)), id="a"), ProbeOptions()
    ).faults
    assert [str(f) for f in faults] == ["a: reading it fails with OverflowError: 4294967295 frames"]


def test_frames_that_are_looked_at():
    assert spread(100, 4).tolist() == [0, 33, 66, 99]
    assert (
        spread(3, 8).tolist() == [0, 1, 2]
        and spread(1, 8).tolist() == [0]
        and spread(9, 1).tolist() == [0]
    )


def test_formats_by_their_first_bytes(tmp_path):
    cases = [
        ("a.mp4", "libx264", "MP4 or QuickTime"),
        ("a.mkv", "libx264", "Matroska or WebM"),
        ("a.avi", "mpeg4", "AVI"),
    ]
    cases += [
        ("a.ts", "libx264", "MPEG-TS"),
        ("a.flv", "libx264", "FLV"),
        ("a.mpg", "mpeg2video", "MPEG"),
    ]
    cases += [("a.wmv", "mpeg4", "ASF"), ("a.m2ts", "libx264", "MPEG-TS")]
    for name, codec, family in cases:
        path = good_clip(tmp_path / name, 1, 10, codec=codec)
        assert format_of(path.read_bytes()[:HEAD]) == (family, ""), name
        assert missing_bytes(str(path), family) == 0
        size = path.stat().st_size
        cut(path, tmp_path / "cut", 0.5)
        if family in ("AVI", "Matroska or WebM"):
            assert missing_bytes(str(tmp_path / "cut"), family) == size - size // 2
    assert format_of(b"") == ("", "") and format_of(b"version https://git-lfs.github.com/spec/v1")[
        1
    ].startswith("a pointer of Git LFS")
    assert (
        format_of(b"\xff\xd8\xff\xe0")[1] == "a picture (JPEG)"
        and format_of(b"RIFF\0\0\0\0WAVE")[1] == "sound (WAV)"
    )


def test_containers_of_recorders_are_not_called_cut(tmp_path):
    """Sizes that a recorder leaves open, and padding behind the last box."""
    avi, mkv, mp4 = (good_clip(tmp_path / f"a.{s}", n, 10, codec=c) for n, (s, c) in enumerate(
        (("avi", "mpeg4"), ("mkv", "libx264"), ("mp4", "libx264"))))  # fmt: skip
    for length in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        avi.write_bytes(avi.read_bytes()[:4] + length + avi.read_bytes()[8:])
        assert missing_bytes(str(avi), "AVI") == 0
    content = mkv.read_bytes()
    at = content.index(b"\x18\x53\x80\x67") + 4
    mkv.write_bytes(content[:at] + b"\x01" + b"\xff" * 7 + content[at + 8 :])
    assert (
        missing_bytes(str(mkv), "Matroska or WebM") == 0
        and probe_video(Record(str(mkv)), ProbeOptions()).faults == []
    )
    for padding in (b"\0" * 300, b"\xff" * 300, b"camera's own data " * 9):
        mp4.write_bytes(mp4.read_bytes() + padding)
        assert missing_bytes(str(mp4), "MP4 or QuickTime") == 0
    assert probe_video(Record(str(mp4)), ProbeOptions()).faults == []


def test_names_in_another_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Été.mp4", "d/a b.mp4", "x.mp4", "X.mp4"):
        good = tmp_path / name
        good.parent.mkdir(exist_ok=True)
        good.touch()
    assert (
        find_spelling("d\\a b.mp4")[0] == "d/a b.mp4"
        and find_spelling('"d/a b.mp4"')[0] == "d/a b.mp4"
    )
    assert find_spelling("E\u0301te\u0301.MP4")[0] == "Été.mp4"
    assert find_spelling("x.mp4") == ("x.mp4", "") and find_spelling("x.MP4") == (
        "x.MP4",
        "",
    )  # two are alike: none is taken
    assert find_spelling("none/at all.mp4") == ("none/at all.mp4", "")
    assert odd_name("a b.mp4") == odd_name('视频, "x".mp4') == ""
    assert (
        "line break" in odd_name("a\nb")
        and "not UTF-8" in odd_name("a\udcff")
        and "space" in odd_name(" a")
    )


# --- folders and labels ----------------------------------------------------------------------------------------------


def test_folders_of_splits_are_kept_and_compared(tmp_path):
    tree(tmp_path / "train")
    for label in ("run", "swim"):
        (tmp_path / "Val" / label).mkdir(parents=True)
        shutil.copy(tmp_path / "train" / label / "0.mp4", tmp_path / "Val" / label / "9.mp4")
    result = checked(tmp_path)
    assert found(result) == [("leak", "train/run/0.mp4"), ("leak", "train/swim/0.mp4")]
    assert result.counts() == {"run": {"train": 4, "val": 1}, "swim": {"train": 4, "val": 1}}


def test_a_training_folder_alone_is_divided(tmp_path):
    tree(tmp_path / "train")
    assert checked(tmp_path).counts() == checked(tmp_path / "train").counts() == {
        "run": {"train": 4, "val": 1}, "swim": {"train": 4, "val": 1},
    }  # fmt: skip
    assert {item.name for item in checked(tmp_path).items} >= {"train/run/0.mp4"}


def test_train_and_test_give_a_validation_set_from_training(tmp_path):
    tree(tmp_path / "train")
    for number, label in enumerate(("run", "swim")):
        good_clip(tmp_path / "test" / label / "a.mp4", 5000 + number)
    assert checked(tmp_path).counts()["run"] == {"train": 4, "val": 1, "test": 1}
    assert checked(tmp_path, valid_share=0.0).counts()["run"] == {"train": 5, "test": 1}


def test_classes_called_train_and_test_are_classes(tmp_path):
    tree(tmp_path, ("train", "test"))
    assert checked(tmp_path).class_names == ["test", "train"]


def test_class_names_of_any_kind(tmp_path):
    tree(tmp_path, ("10", "2", "бег", 'a, "b"', "跑步 快"), 2)
    result = checked(tmp_path)
    assert found(result) == [] and result.class_names == sorted(
        ("10", "2", "бег", 'a, "b"', "跑步 快")
    )
    write(result, tmp_path)
    names = read_class_names(class_names_under(tmp_path))
    assert names == result.class_names
    for split in ("train", "valid"):
        loaded = VideoDataset(**split_under(tmp_path, split)).load(names)
        assert {r.path.split("/")[-2] for r in loaded.records} == set(names)
        assert all(names[record.label] == record.path.split("/")[-2] for record in loaded.records)


def test_class_ids(tmp_path):
    for n in range(6):
        good_clip(tmp_path / f"{n}.mp4", n)

    def run(labels, **options):
        (tmp_path / "a.list").write_text(
            "".join(f"{n}.mp4 {label}\n" for n, label in enumerate(labels))
        )
        return checked(tmp_path / "a.list", **options)

    assert found(run("001122")) == []
    assert run("001122").class_names is None and run("001122").class_ids == {"0": 0, "1": 1, "2": 2}
    shifted = run("112233")
    assert (
        found(shifted) == [("empty_class", "")]
        and "if ids count from 1 here" in shifted.faults[0].text
    )
    assert "class ids 1, 2" in run("000333").faults[0].text
    assert found(run(["0", "0", "0", "1", "1", "-1"])) == [("bad_label", "5.mp4")]
    several = run(["0", "0", "0", "1", "1", "0,1"])
    assert (
        found(several) == [("bad_label", "5.mp4")] and "several class ids" in several.faults[0].text
    )
    named = run("001122", class_names=["a", "b", "c"])
    assert found(named) == [] and named.class_names == ["a", "b", "c"] and named.class_ids["c"] == 2
    assert found(run("001133", class_names=["a", "b", "c"])) == [
        ("bad_label", "4.mp4"), ("bad_label", "5.mp4"), ("empty_class", "c"),
    ]  # fmt: skip
    assert (
        "did you mean 'walk'"
        in run(["run"] * 5 + ["wolk"], class_names=["run", "walk"]).faults[0].text
    )


def test_a_list_from_windows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in range(4):
        good_clip(tmp_path / "set" / "my run" / f"{n}.mp4", n)
    text = "".join(f"my run\\{n}.mp4 0\r\n" for n in range(4))
    (tmp_path / "set" / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    result = checked(tmp_path / "set" / "a.txt")
    assert (
        found(result) == [("respelt", f"my run\\{n}.mp4") for n in range(4)]
        and len(result.items) == 4
    )
    write(result, tmp_path / "set")
    lines = (tmp_path / "set" / "train.csv").read_text().splitlines()
    assert lines[1].startswith("my run/") and len(lines) == 4


def test_a_list_without_any_file_is_one_message(tmp_path):
    (tmp_path / "a.list").write_text("".join(f"v/{n}.mp4 0\n" for n in range(500)))
    with pytest.raises(
        DatasetError,
        match=r"none of its files exists \(tried 10 of 10, first 'v/0.mp4'.* set data_prefix",
    ):
        checked(tmp_path / "a.list")


def test_tables_may_name_split_and_source(tmp_path):
    for n in range(8):
        good_clip(tmp_path / f"{n}.mp4", n)
    rows = [{"path": f"{n}.mp4", "label": "ab"[n % 2], "split": "validation" if n > 5 else "train", "source": f"day {n // 2}"}
            for n in range(8)]  # fmt: skip
    write_lines = lambda rows: (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )  # noqa: E731
    write_lines(rows)
    result = checked(tmp_path / "a.jsonl")
    assert found(result) == [] and result.counts()["a"] == {"train": 3, "val": 1}
    rows[0]["source"], rows[1]["split"], rows[2]["split"] = "day 3", "later", None
    write_lines(rows)
    assert found(checked(tmp_path / "a.jsonl")) == [
        ("bad_line", "1.mp4"),
        ("bad_line", "2.mp4"),
        ("leak", "0.mp4"),
    ]


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    return tree(tmp_path_factory.mktemp("data") / "my videos")


@pytest.fixture
def result(small_set):
    return checked(small_set)


def test_lists_are_read_back(small_set, result, tmp_path, monkeypatch):
    counts = write(result, tmp_path / "lists")
    assert counts == {"train.csv": 8, "val.csv": 2, "labels.txt": 2, "bad_files.csv": 0}
    monkeypatch.chdir(tmp_path)
    loaded = VideoDataset("lists/train.csv").load(["run", "swim"])
    assert len(loaded.records) == 8 and all(os.path.isabs(r.path) for r in loaded.records)
    copy = tmp_path / "copy"
    shutil.copytree(small_set, copy)
    write(result_of_copy := checked(copy), copy)
    shutil.move(
        copy, tmp_path / "moved"
    )  # paths in it are relative, so it can be carried elsewhere
    assert (
        len(VideoDataset(**split_under(tmp_path / "moved", "val")).load(["run", "swim"]).records)
        == 2
    )
    assert [(i.name, i.split) for i in result_of_copy.items] == [
        (i.name, i.split) for i in result.items
    ]


def test_a_second_check_of_its_own_lists_changes_nothing(result, tmp_path):
    write(result, tmp_path)
    again = checked(
        tmp_path / "train.csv",
        valid=tmp_path / "val.csv",
        class_names=read_class_names(tmp_path / "labels.txt"),
    )
    assert found(again) == [] and again.class_ids == result.class_ids
    assert [(i.label, i.split, i.source) for i in again.items if i.split == "val"] == [
        (i.label, i.split, i.source) for i in result.items if i.split == "val"
    ]


def test_foreign_and_changed_files_are_kept(result, tmp_path):
    (tmp_path / "val.csv").write_text("mine")
    with pytest.raises(
        FileExistsError,
        match=r"val.csv is there and was not written by this tool; .* --out, or .* --overwrite",
    ):
        write(result, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val.csv"]
    write(result, tmp_path, overwrite=True)
    write(result, tmp_path, {"data_report.html": "<p>"})  # its own files it replaces
    with (tmp_path / "train.csv").open("a") as file:
        file.write("x.mp4,0\n")
    with pytest.raises(FileExistsError, match="train.csv was changed since it was written"):
        check_free(tmp_path)
    (tmp_path / "check.json").write_text("[]")
    with pytest.raises(FileExistsError, match="not written by this tool"):
        check_free(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        check_free(tmp_path / "file" / "out")


def test_lists_of_an_earlier_check_go_only_if_they_are_ours(small_set, result, tmp_path):
    write(checked(small_set, test_share=0.2), tmp_path)
    assert (tmp_path / "test.csv").exists()
    write(result, tmp_path)
    assert not (tmp_path / "test.csv").exists()
    write(checked(small_set, test_share=0.2), tmp_path)
    (tmp_path / "test.csv").write_text("mine")
    write(result, tmp_path, overwrite=True)
    assert (tmp_path / "test.csv").read_text() == "mine"


def test_an_interrupted_write_can_be_repeated(result, tmp_path, monkeypatch):
    write(result, tmp_path, {"data_report.html": "old"})
    whole, calls = clean.atomic_write, []

    def stop(path):
        calls.append(path.name)
        if path.name == "labels.txt":
            raise OSError(28, "No space left on device")
        return whole(path)

    monkeypatch.setattr(clean, "atomic_write", stop)
    result.items[0].source = "another"
    with pytest.raises(OSError, match="No space left"):
        write(result, tmp_path, {"data_report.html": "new"})
    monkeypatch.undo()
    assert (
        "another" in (tmp_path / "train.csv").read_text()
        and (tmp_path / "data_report.html").read_text() == "old"
    )
    write(result, tmp_path, {"data_report.html": "new"})
    assert (
        read_manifest(tmp_path)["coming"] == {}
        and (tmp_path / "data_report.html").read_text() == "new"
    )


def test_nothing_left_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.mp4").touch()
    result = checked(tmp_path)
    assert found(result) == [("empty", "a/x.mp4"), ("empty_class", "a")]
    with pytest.raises(DatasetError, match="no clip is left to train on"):
        write(result, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "root", ["my videos", "2024", "a #1", "it's", 'a "b"', "x: y", "null", "-o", "视频, 2"]
)
def test_the_command_that_trains_names_any_folder(root):
    *_, flag, value = shlex.split(how_to_train(Path(root), {"val.csv": 1}))
    assert flag == "-o" and load_config("configs/finetune/pptsn.yaml", [value]).DATASET.root == root


def test_a_data_set_that_is_one_folder(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        split_under(tmp_path / "none", "train")
    with pytest.raises(
        DatasetError, match=r"no val.csv in it; make one with: python tools/check_data.py"
    ):
        split_under(tmp_path, "valid")
    with pytest.raises(DatasetError, match=r"--test_share 0.1$"):
        split_under(tmp_path, "test")
    (tmp_path / "valid").mkdir()
    assert split_under(tmp_path, "valid") == {"file_path": str(tmp_path / "valid")}
    (tmp_path / "val.list").touch()
    assert split_under(str(tmp_path), "valid") == {
        "file_path": str(tmp_path / "val.list"),
        "data_prefix": str(tmp_path),
    }
    assert class_names_under(tmp_path) is None


odd_text = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12
)


@settings(max_examples=40)
@given(st.dictionaries(odd_text.filter(lambda t: not odd_name(t) and "/" not in t), odd_text.filter(lambda t: not odd_name(t)),
                       min_size=1, max_size=6))  # fmt: skip
def test_any_name_survives_the_table(tmp_path_factory, names):
    result = Checked([], {}, [], [], None, {}, 0, False)
    out = tmp_path_factory.mktemp("odd")
    result.class_names = sorted(set(names.values()))
    result.class_ids = {name: n for n, name in enumerate(result.class_names)}
    for number, (name, label) in enumerate(names.items()):
        (out / f"{name}.mp4").touch()
        item = Item(
            Record(str(out / f"{name}.mp4"), id=f"{name}.mp4"), label, "train", f"s{number}"
        )
        result.items.append(item)
        result.seen[key_of(item)] = VideoInfo(item.record.path, num_frames=3, fps=25.0)
    write(result, out)
    labels = read_class_names(out / "labels.txt")
    loaded = VideoDataset(**split_under(out, "train")).load(labels)
    assert [(r.path, labels[r.label]) for r in loaded.records] == [
        (str(out / f"{n}.mp4"), label) for n, label in names.items()
    ]


# --- reports ---------------------------------------------------------------------------------------------------------


def test_text_report(seeded):
    text = text_report(checked(seeded[0]))
    lines = text.splitlines()
    assert (
        lines[0].split() == ["class", "train", "val"]
        and lines[1].startswith("run  ")
        and "duration (s)" in lines
    )
    assert "not_video: not a video, 5 (left out); delete it, or fetch it again" in lines
    assert (
        "  run/line\\nbreak.mp4: its name holds a line break or another control character" in lines
    )
    assert "note: 1 other file is not looked at: 1 .txt" in lines
    assert lines[-1].endswith("classes; 5 s of video") and " clips are good: " in lines[-1]


def test_a_single_class_is_told(tmp_path):
    result = checked(tree(tmp_path, classes=("run",), count=3))
    assert found(
        result
    ) == [] and "note: there is one class, and nothing to tell it from" in text_report(result)


def test_long_lists_of_faults_are_cut_on_the_console_only(tmp_path):
    tree(tmp_path, count=2)
    for n in range(9):
        (tmp_path / "run" / f"empty{n}.mp4").touch()
    result = checked(tmp_path)
    assert "  ... and 4 more, see bad_files.csv" in text_report(result)
    page = html_report(result, "x")
    Balanced().feed(page)
    assert page.count("the file is empty") == 9


def test_html_report_holds_names_of_any_kind_and_nothing_from_elsewhere(tmp_path):
    label = "<script>alert(1)</script>&\"'"
    tree(tmp_path, (label.replace("/", "∕"), "b"), 2)
    page = html_report(checked(tmp_path), "My <videos>")
    assert "<script" not in page and "&lt;script&gt;" in page and "My &lt;videos&gt;" in page
    assert "http" not in page and "src=" not in page and "color-scheme: light dark" in page
    assert page.count("<table>") == page.count("</table>") == 4
    Balanced().feed(page)


class Balanced(HTMLParser):
    """Fails where a tag is closed that was not the last one opened."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag in ("meta", "br") else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_histograms(small_set, result):
    assert [h.rows for h in histograms(result)] == [
        [("0.45 - 0.5", 10)],
        [("25", 10)],
        [("64x48", 10)],
    ]
    assert (
        headline(result)
        == "all 10 clips are good: 8 train, 2 val (split drawn here); 2 classes; 5 s of video"
    )
    assert durations([]) == [] and sum(n for _, n in durations([0.1, 5, 9.99, 1000])) == 4
    rows = durations([float(n % 10) for n in range(99)] + [500.0])
    assert rows[0] == ("0 - 1", 10) and rows[-1][1] == 1 and rows[-1][0].endswith("and more")


# --- processes -------------------------------------------------------------------------------------------------------


def test_an_item_that_ends_its_process_is_named_and_the_others_go_on():
    items = [b"a", b"b", 0, b"c", b"d", b"e"]  # the second reads memory at address 0
    results = dict(run_each(ctypes.string_at, items, 2, show=False))
    assert isinstance(results.pop(2), Crash)
    assert results == {0: b"a", 1: b"b", 3: b"c", 4: b"d", 5: b"e"}


def test_what_a_function_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(run_each(divmod_by, [1, 0], 0, show=False))
    assert dict(run_each(divmod_by, [1, 2], 0, show=False)) == {0: (10, 0), 1: (5, 0)} and not list(
        run_each(len, [], 4)
    )


def divmod_by(number):
    return divmod(10, number)
