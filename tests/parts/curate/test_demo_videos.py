"""The demo set: files, reproducibility, and what distinguishes the classes of each subset."""

import json
import subprocess
import sys
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from paddlevideo.curate import demo_videos
from paddlevideo.curate.demo_videos import (
    CLASSES,
    SPLITS,
    DemoPlan,
    make_demo_set,
    sound_clip,
    write_clip,
    write_example,
)
from paddlevideo.curate.synthetic_media import (
    FPS,
    HEIGHT,
    MOTIONS,
    NUM_FRAMES,
    SAMPLE_RATE,
    SOUNDS,
    WIDTH,
    named_motion,
)
from paddlevideo.data.class_names import read_class_names
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.processes import Crash, run_each
from paddlevideo.sample import Record

PLAN = DemoPlan(seed=3, clips=2)


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "set"
    assert make_demo_set(out, PLAN, num_workers=1)
    return out


@pytest.fixture
def one_class(monkeypatch):
    """A set of a single class, made in this process."""
    monkeypatch.setattr(demo_videos, "CLASSES", {"appearance": ["red_discs"]})

    def run_here(function, items, num_workers, **options):
        return run_each(function, items, 0, **options)

    monkeypatch.setattr(demo_videos, "run_each", run_here)


def read_audio(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


# --- the files -----------------------------------------------------------------------------------


def test_lists_and_folders_agree(demo_set):
    for subset, names in CLASSES.items():
        assert read_class_names(demo_set / subset / "labels.txt") == names
        for split in SPLITS:
            by_list = VideoDataset(str(demo_set / subset / f"{split}.list")).load(names)
            by_folder = VideoDataset(str(demo_set / subset / split)).load()
            listed = [(record.path, record.label) for record in by_list.records]
            assert listed == [(record.path, record.label) for record in by_folder.records]
            assert len(listed) == len(names) * 2 and by_folder.class_names == names
    all_names = read_class_names(demo_set / "labels.txt")
    assert len(all_names) == len(set(all_names)) == 16
    for record in VideoDataset(str(demo_set / "train.list")).load(all_names).records:
        assert f"/{all_names[record.label]}/" in record.path


def test_clips_have_frames_and_audio(demo_set):
    for path in sorted(demo_set.rglob("*.mp4"))[::7]:
        with VideoDecoder().open(Record(str(path))) as clip:
            assert (clip.num_frames, clip.fps) == (NUM_FRAMES, FPS)
            assert clip.read([NUM_FRAMES - 1]).shape == (1, HEIGHT, WIDTH, 3)
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert container.streams.audio[0].codec_context.name == "aac"
        assert len(read_audio(path)) == NUM_FRAMES * SAMPLE_RATE // FPS


def test_the_same_seed_gives_the_same_bytes(demo_set, tmp_path):
    for clip in PLAN.all_clips()[::9]:
        write_clip(tmp_path, PLAN.seed, clip)
        assert (tmp_path / clip.path).read_bytes() == (demo_set / clip.path).read_bytes(), clip
    clip = PLAN.all_clips()[0]
    write_clip(tmp_path, PLAN.seed + 1, clip)
    assert (tmp_path / clip.path).read_bytes() != (demo_set / clip.path).read_bytes()


def test_keeps_a_set_or_replaces_one_with_other_settings(tmp_path, one_class):
    out = tmp_path / "deep" / "set"
    assert make_demo_set(out, DemoPlan(clips=1), 1)
    first = next(out.rglob("*.mp4"))
    before = first.stat().st_mtime_ns
    assert not make_demo_set(out, DemoPlan(clips=1), 1)
    assert first.stat().st_mtime_ns == before
    assert make_demo_set(out, DemoPlan(clips=2), 1)
    assert json.loads((out / "demo.json").read_text())["clips"] == 2
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def test_does_not_replace_other_folders(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(FileExistsError, match="exists and is not a demo set"):
        make_demo_set(tmp_path, PLAN)
    with pytest.raises(ValueError, match="0 clips per class; expected at least 1"):
        make_demo_set(tmp_path / "x", DemoPlan(clips=0))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("text", ["{}", "[]", '"a"', '{"seed": 0}', '{"clips": 1, "mine": 2}', "{"])
def test_does_not_replace_the_folder_of_another_demo(tmp_path, text):
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(FileExistsError, match="exists and is not a demo set"):
        make_demo_set(tmp_path, PLAN)
    assert (tmp_path / "demo.json").read_text() == text


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, one_class):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_videos, "write_lists", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_demo_set(tmp_path / "set", DemoPlan(clips=1), 1)
    assert not list(tmp_path.iterdir())


def test_a_crashed_process_leaves_nothing(tmp_path, monkeypatch, one_class):
    monkeypatch.setattr(demo_videos, "run_each", lambda *_, **options: [(0, Crash())])
    with pytest.raises(OSError, match=r"0000.mp4: the process that wrote it crashed"):
        make_demo_set(tmp_path / "set", DemoPlan(clips=1), 1)
    assert not list(tmp_path.iterdir())


# --- what distinguishes the classes --------------------------------------------------------------


def test_one_frame_shows_the_appearance(demo_set):
    # In the units of OpenCV, 2 degrees.
    hues = {"red_discs": 0, "yellow_rings": 27, "green_squares": 65, "blue_triangles": 112}
    for split in SPLITS:
        loaded = VideoDataset(str(demo_set / "appearance" / split)).load()
        for record in loaded.records:
            with VideoDecoder().open(record) as clip:
                frame = clip.read([clip.num_frames // 2])[0, 20:-20, 20:-20]
            hue, saturation, _ = cv2.split(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV))
            median = np.median((hue[saturation > 120].astype(int) + 20) % 180) - 20
            nearest = min(hues, key=lambda name: abs(hues[name] - median))
            assert nearest == loaded.class_names[record.label]


def mean_shift(record: Record) -> tuple[float, float]:
    """Return (mean absolute horizontal shift, median vertical shift) from frame to frame (px)."""
    with VideoDecoder().open(record) as clip:
        frames = clip.read(range(clip.num_frames))
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    shifts = np.array([cv2.phaseCorrelate(a, b)[0] for a, b in pairwise(gray)])
    return float(np.abs(shifts[:, 0]).mean()), float(np.median(shifts[:, 1]))


def motion_of(horizontal: float, vertical: float) -> str:
    if abs(vertical) > 1:
        return "falling" if vertical > 0 else "rising"
    return "swaying" if horizontal > 0.5 else "resting"


def test_frame_shifts_show_the_motion(demo_set):
    for subset in ("motion", "pair"):
        loaded = VideoDataset(str(demo_set / subset / "train")).load()
        for record in loaded.records:
            name = motion_of(*mean_shift(record))
            assert loaded.class_names[record.label].startswith(name), record.path


@pytest.mark.parametrize("name", MOTIONS)
def test_one_frame_does_not_show_the_motion(name):
    """At any time, the points are uniformly distributed over the frame."""
    points = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        motion = named_motion(name, rng)
        starts = rng.uniform((0, 0), (WIDTH, HEIGHT), (8, 2))
        points.append(motion(starts, np.arange(NUM_FRAMES))[seed % NUM_FRAMES])
    x, y = (np.concatenate(points) % (WIDTH, HEIGHT)).T
    counts, *_ = np.histogram2d(x, y, bins=4, range=((0, WIDTH), (0, HEIGHT)))
    expected = counts.sum() / 16
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 37.7, "15 degrees of freedom, 0.1 %"


def sound_of(waveform: np.ndarray) -> str:
    """Classify audio by the share of its strongest frequencies and by the strongest one."""
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) ** 2
    if np.sort(power)[-40:].sum() <= 0.4 * power.sum():
        return "noise"
    frequency = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)[power.argmax()]
    if frequency < 400:
        return "low_tone"
    return "high_tone" if frequency > 1200 else "beeps"


def test_the_audio_shows_the_sound(demo_set):
    for subset in ("sound", "pair"):
        loaded = VideoDataset(str(demo_set / subset / "train")).load()
        for record in loaded.records:
            name = sound_of(read_audio(record.path))
            assert loaded.class_names[record.label].endswith(name), record.path


def test_frames_of_the_sound_subset_do_not_depend_on_the_class():
    expected, _ = sound_clip("noise", np.random.default_rng(1))
    for name in SOUNDS:
        frames, _ = sound_clip(name, np.random.default_rng(1))
        assert np.array_equal(frames, expected)


# --- example and command -------------------------------------------------------------------------


def test_writes_the_example_clip(tmp_path):
    path = tmp_path / "new" / "example.avi"
    assert write_example(path)
    with VideoDecoder().open(Record(str(path))) as clip:
        assert (clip.num_frames, clip.fps) == (75, 25.0)
        assert clip.read([74]).shape == (1, 240, 320, 3)
    assert len(read_audio(path)) == 3 * SAMPLE_RATE
    before = path.read_bytes()
    assert not write_example(path, seed=1) and path.read_bytes() == before
    path.unlink()
    assert write_example(path) and path.read_bytes() == before


def test_the_command(tmp_path, root, demo_set):
    def make_demo(out):
        example = str(tmp_path / "e.avi")
        options = ["--example", example, "--seed", "3", "--clips", "2", "--out", str(out)]
        command = [sys.executable, str(root / "tools" / "data" / "make_demo.py"), *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    done = make_demo(demo_set)
    assert done.returncode == 0, done.stderr
    assert "96 clips, 16 classes" in done.stdout and "already there" in done.stdout
    assert (tmp_path / "e.avi").is_file()
    done = make_demo(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "is not a demo set" in done.stderr
