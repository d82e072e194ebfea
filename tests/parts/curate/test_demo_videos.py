"""The demo set: whole, the same each time, and each subset told apart by what it says and by nothing else."""

import json
import subprocess
import sys
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from paddlevideo.curate import demo_videos as demo
from paddlevideo.curate.demo_videos import (
    CLASSES,
    FPS,
    HEIGHT,
    NUM_FRAMES,
    SAMPLE_RATE,
    WIDTH,
    DemoPlan,
    make_demo_set,
    write_example,
)
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import Record

PLAN = DemoPlan(seed=3, clips=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "set"
    assert make_demo_set(out, PLAN, num_workers=2)
    return out


def read_sound(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_lists_and_folders_agree(made):
    for subset, names in CLASSES.items():
        assert read_class_names(made / subset / "labels.txt") == names
        for split in demo.SPLITS:
            by_list = VideoDataset(str(made / subset / f"{split}.list")).load(names)
            by_folder = VideoDataset(str(made / subset / split)).load()
            assert [(r.path, r.label) for r in by_list.records] == [
                (r.path, r.label) for r in by_folder.records
            ]
            assert len(by_list.records) == len(names) * 2 and by_folder.class_names == names
    every = read_class_names(made / "labels.txt")
    assert len(every) == len(set(every)) == 16
    for record in VideoDataset(str(made / "train.list")).load(every).records:
        assert f"/{every[record.label]}/" in record.path


def test_clips_hold_picture_and_sound(made):
    for path in sorted(made.rglob("*.mp4"))[::7]:
        with VideoDecoder().open(Record(str(path))) as clip:
            assert (clip.num_frames, clip.fps) == (NUM_FRAMES, FPS)
            assert clip.read([NUM_FRAMES - 1]).shape == (1, HEIGHT, WIDTH, 3)
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert container.streams.audio[0].codec_context.name == "aac"
        assert len(read_sound(path)) == NUM_FRAMES * SAMPLE_RATE // FPS


def test_same_seed_same_bytes(made, tmp_path):
    for file in PLAN.files()[::9]:
        demo.write_clip(tmp_path, PLAN.seed, file)
        assert (tmp_path / demo.clip_path(file)).read_bytes() == (
            made / demo.clip_path(file)
        ).read_bytes(), file
    file = PLAN.files()[0]
    demo.write_clip(tmp_path, PLAN.seed + 1, file)
    assert (tmp_path / demo.clip_path(file)).read_bytes() != (
        made / demo.clip_path(file)
    ).read_bytes()


def test_a_set_is_kept_or_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "CLASSES", {"appearance": ["red_discs"]})
    out = tmp_path / "deep" / "set"
    assert make_demo_set(out, DemoPlan(clips=1), 1)
    first = next(out.rglob("*.mp4"))
    before = first.stat().st_mtime_ns
    assert not make_demo_set(out, DemoPlan(clips=1), 1) and first.stat().st_mtime_ns == before
    assert (
        make_demo_set(out, DemoPlan(clips=2), 1)
        and json.loads((out / "demo.json").read_text())["clips"] == 2
    )
    assert [p.name for p in out.parent.iterdir()] == ["set"]


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(FileExistsError, match="is no demo set"):
        make_demo_set(tmp_path, PLAN)
    with pytest.raises(ValueError, match="0 clips per class"):
        make_demo_set(tmp_path / "x", DemoPlan(clips=0))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "CLASSES", {"appearance": ["red_discs"]})
    monkeypatch.setattr(demo, "write_lists", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_demo_set(tmp_path / "set", DemoPlan(clips=1), 1)
    assert not list(tmp_path.iterdir())


def test_one_frame_tells_the_appearance(made):
    hues = {
        "red_discs": 0,
        "yellow_rings": 27,
        "green_squares": 65,
        "blue_triangles": 112,
    }  # OpenCV's half degrees
    for subset in demo.SPLITS:
        loaded = VideoDataset(str(made / "appearance" / subset)).load()
        for record in loaded.records:
            with VideoDecoder().open(record) as clip:
                picture = clip.read([clip.num_frames // 2])[0, 20:-20, 20:-20]
            hue, saturation, _ = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
            angle = np.median((hue[saturation > 120].astype(int) + 20) % 180) - 20
            assert (
                min(hues, key=lambda name: abs(hues[name] - angle))
                == loaded.class_names[record.label]
            )


def drift(record: Record) -> np.ndarray:
    """Mean shift between frames (x, y; px), absolute in x: float [2]."""
    with VideoDecoder().open(record) as clip:
        gray = [
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
            for frame in clip.read(range(clip.num_frames))
        ]
    shifts = np.array([cv2.phaseCorrelate(a, b)[0] for a, b in pairwise(gray)])
    return np.array([np.abs(shifts[:, 0]).mean(), np.median(shifts[:, 1])])


def test_motion_tells_the_motion(made):
    for subset in ("motion", "pair"):
        loaded = VideoDataset(str(made / subset / "train")).load()
        for record in loaded.records:
            sideways, down = drift(record)
            name = (
                "falling"
                if down > 1
                else "rising"
                if down < -1
                else "swaying"
                if sideways > 0.5
                else "resting"
            )
            assert loaded.class_names[record.label].startswith(name), (record.path, sideways, down)


def test_one_frame_does_not_tell_the_motion():
    # The places of the shapes at any one time: uniform over the picture whatever the motion.
    for name in demo.MOTIONS:
        places = []
        for seed in range(300):
            rng = np.random.default_rng(seed)
            paths = demo.named_motion(name, rng)
            places.append(
                paths(rng.uniform((0, 0), (WIDTH, HEIGHT), (8, 2)), np.arange(NUM_FRAMES))[
                    seed % NUM_FRAMES
                ]
            )
        counts, *_ = np.histogram2d(
            *(np.concatenate(places) % (WIDTH, HEIGHT)).T, bins=4, range=((0, WIDTH), (0, HEIGHT))
        )
        expected = counts.sum() / 16
        assert (
            (counts - expected) ** 2 / expected
        ).sum() < 37.7  # chi-square, 15 degrees of freedom, 0.1 %


def test_the_sound_tells_the_sound(made):
    for subset in ("sound", "pair"):
        loaded = VideoDataset(str(made / subset / "train")).load()
        for record in loaded.records:
            wave = read_sound(record.path)
            power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
            frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)[power.argmax()]
            is_tone = np.sort(power)[-40:].sum() > 0.4 * power.sum()
            name = (
                "noise"
                if not is_tone
                else "low_tone"
                if frequency < 400
                else "high_tone"
                if frequency > 1200
                else "beeps"
            )
            assert loaded.class_names[record.label].endswith(name), (record.path, frequency)


def test_pictures_of_the_sound_subset_do_not_depend_on_the_class():
    for name in demo.SOUNDS:
        assert np.array_equal(
            demo.sound_clip(name, np.random.default_rng(1))[0],
            demo.sound_clip("noise", np.random.default_rng(1))[0],
        )


def test_example(tmp_path):
    path = tmp_path / "new" / "example.avi"
    assert write_example(path)
    with VideoDecoder().open(Record(str(path))) as clip:
        assert (clip.num_frames, clip.fps) == (75, 25.0) and clip.read([74]).shape == (
            1,
            240,
            320,
            3,
        )
    assert len(read_sound(path)) == 3 * SAMPLE_RATE
    before = path.read_bytes()
    assert not write_example(path, seed=1) and path.read_bytes() == before
    path.unlink()
    assert write_example(path) and path.read_bytes() == before


def test_tool(tmp_path, root, made):
    script = [
        sys.executable,
        str(root / "tools" / "data" / "make_demo.py"),
        "--example",
        str(tmp_path / "e.avi"),
    ]
    arguments = ["--seed", "3", "--clips", "2", "--out"]
    done = subprocess.run(
        [*script, *arguments, str(made)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (
        "96 clips, 16 classes" in done.stdout
        and "already there" in done.stdout
        and (tmp_path / "e.avi").is_file()
    )
    done = subprocess.run(
        [*script, *arguments, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert (
        done.returncode == 1
        and done.stderr.startswith("make_demo: ")
        and "is no demo set" in done.stderr
    )
