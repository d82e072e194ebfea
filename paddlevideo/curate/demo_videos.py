"""A small labelled video data set, drawn and sounded by itself: mp4 files (H.264, AAC), the same bytes for the same seed.

| subset     | its classes                          | what tells them apart                                                    |
| ---        | ---                                  | ---                                                                      |
| appearance | red discs, green squares, ...        | colour and shape of what is in any single frame; the sound tells nothing |
| motion     | rising, falling, swaying, resting    | motion: grey blobs, in any one frame anywhere                            |
| sound      | low tone, high tone, noise, beeps    | the sound; pictures are drawn alike for all of them                      |
| pair       | (rising, falling) x (low, high tone) | motion and sound together, neither alone                                 |

No class turns into another by resizing, cropping or a horizontal flip. Each subset has its own
kind of picture, so that all classes together are a task too. Under the folder `out`:

    <subset>/<train|val|test>/<class>/0000.mp4       a folder per class: DATASET.train.file_path may name it
    <subset>/{train,val,test}.list, labels.txt       `path label`, paths relative to the list
    {train,val,test}.list, labels.txt                all subsets together
    demo.json                                        how it was made; written last
"""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from paddlevideo.processes import Crash, run_each

WIDTH, HEIGHT, FPS = 160, 120, 25  # px, px, frames per second
NUM_FRAMES = 40
SAMPLE_RATE = 16000  # Hz
# x264's look-ahead over macroblock trees with B-frames gives other bits from run to run, even on one thread.
H264 = {
    "preset": "veryfast",
    "crf": "25",
    "g": "12",
    "bf": "2",
    "x264-params": "no-mbtree=1:rc-lookahead=0",
}
VERSION = 1  # raise it when the clips change, so that sets on disk are made anew


class Shape(NamedTuple):
    """What an appearance class shows.

    Args:
        color: RGB.
        corners: of a polygon; 0 is a disc, 1 a ring.
    """

    color: tuple[int, int, int]
    corners: int


SHAPES = {
    "blue_triangles": Shape((40, 80, 230), 3),
    "green_squares": Shape((40, 190, 60), 4),
    "red_discs": Shape((220, 40, 40), 0),
    "yellow_rings": Shape((235, 205, 30), 1),
}
MOTIONS = ("falling", "resting", "rising", "swaying")
SOUNDS = ("beeps", "high_tone", "low_tone", "noise")
CLASSES = {
    "appearance": sorted(SHAPES),
    "motion": sorted(MOTIONS),
    "pair": sorted(
        f"{motion}_{sound}"
        for motion in ("falling", "rising")
        for sound in ("high_tone", "low_tone")
    ),
    "sound": sorted(SOUNDS),
}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DemoPlan:
    """What makes one set different from another.

    Args:
        seed: of every random draw.
        clips: training clips per class; validation has a quarter of that, the test three eighths, at least two each.
    """

    seed: int = 0
    clips: int = 16
    version: int = VERSION

    def num_clips(self, split: str) -> int:
        return {
            "train": self.clips,
            "val": max(2, self.clips // 4),
            "test": max(2, self.clips * 3 // 8),
        }[split]

    def files(self) -> list[tuple[str, str, str, int]]:
        """(subset, split, class, number) of every clip."""
        return [
            (subset, split, name, number)
            for subset, names in CLASSES.items()
            for split in SPLITS
            for name in names
            for number in range(self.num_clips(split))
        ]


def make_demo_set(out: Path, plan: DemoPlan, num_workers: int | None = None) -> bool:
    """Write the set to the folder `out`; False where a complete one of the same plan is there already.

    A set of another plan is replaced; the folder appears under its name only when it is whole.

    Raises:
        FileExistsError: the folder holds something that is no demo set.
        ValueError: a plan without clips.
    """
    if plan.clips < 1:
        raise ValueError(f"{plan.clips} clips per class; give at least 1")
    made = read_manifest(out)
    if made == asdict(plan):
        return False
    if out.exists() and made is None and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} is there and is no demo set (it has no demo.json); give another folder or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        os.chmod(work, 0o755)  # mkdtemp's folders are closed to others
        files = plan.files()
        write = partial(write_clip, work, plan.seed)
        for index, result in run_each(write, files, num_workers or None, show=False):
            if isinstance(result, Crash):
                raise OSError(f"{out / clip_path(files[index])}: the process that wrote it crashed")
        write_lists(work, plan)
        (work / "demo.json").write_text(json.dumps(asdict(plan)) + "\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        work.rename(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return True


def read_manifest(out: Path) -> dict | None:
    """How the set in this folder was made; None where there is none."""
    try:
        return json.loads((out / "demo.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def write_lists(out: Path, plan: DemoPlan) -> None:
    """Lists of every split and label names, for the whole set and for each subset; paths are relative to the list."""
    every = sorted(name for names in CLASSES.values() for name in names)
    for folder, subsets, names in [
        (out, list(CLASSES), every),
        *((out / s, [s], CLASSES[s]) for s in CLASSES),
    ]:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        for split in SPLITS:
            lines = [
                f"{(out / clip_path(file)).relative_to(folder).as_posix()} {names.index(file[2])}\n"
                for file in plan.files()
                if file[0] in subsets and file[1] == split
            ]
            (folder / f"{split}.list").write_text("".join(lines), encoding="utf-8")


def clip_path(file: tuple[str, str, str, int]) -> Path:
    subset, split, name, number = file
    return Path(subset, split, name, f"{number:04}.mp4")


def write_clip(out: Path, seed: int, file: tuple[str, str, str, int]) -> None:
    """One clip of the set; its draws depend on the seed and its own name only."""
    subset, _, name, _ = file
    path = clip_path(file)
    rng = np.random.default_rng((seed, zlib.crc32(path.as_posix().encode())))
    pictures, sound = SUBSETS[subset](name, rng)
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    encode(out / path, pictures, sound, "libx264", "aac", H264)


def write_example(path: Path, seed: int = 0) -> bool:
    """A 3 s AVI of red discs with a beeping sound, 320x240 (MPEG-4, PCM); False where the file is there already."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, 3))
    pictures = draw(rng, 3 * FPS, SHAPES["red_discs"], (150, 150, 150), random_drift(rng))
    pictures = np.stack([cv2.resize(picture, (2 * WIDTH, 2 * HEIGHT)) for picture in pictures])
    work = path.with_name(f".{path.name}.{os.getpid()}.avi")
    try:
        encode(
            work,
            pictures,
            make_sound("beeps", rng, 3.0),
            "mpeg4",
            "pcm_s16le",
            {"qscale": "4", "g": "25"},
        )
        work.rename(path)
    finally:
        work.unlink(missing_ok=True)
    return True


def encode(
    path: Path,
    pictures: np.ndarray,
    sound: np.ndarray,
    video: str,
    audio: str,
    options: dict[str, str],
) -> None:
    """uint8 [T, H, W, 3] RGB at FPS and float32 [n] at SAMPLE_RATE -> a file with the same bytes each time."""
    # One thread and no version strings: encoders on several threads may cut a picture differently.
    exact = {"threads": "1", "flags": "+bitexact"}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(video, rate=FPS, options=options | exact)
        stream.height, stream.width, stream.pix_fmt = (
            pictures.shape[1],
            pictures.shape[2],
            "yuv420p",
        )
        if "qscale" in options:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = 118 * int(
                options["qscale"]
            )  # in FFmpeg's units, FF_QP2LAMBDA
        track = container.add_stream(audio, rate=SAMPLE_RATE, layout="mono", options=exact)
        if audio == "aac":
            track.bit_rate = 48000
        packets = []
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        layout = "s16" if audio.startswith("pcm_s16") else "fltp"
        samples = (sound * 32767).astype(np.int16) if layout == "s16" else sound
        chunk = av.AudioFrame.from_ndarray(samples[None], format=layout, layout="mono")
        chunk.sample_rate, chunk.pts, chunk.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        packets += track.encode(chunk)
        packets += track.encode(None)
        # Interleaved by time, so that a player needs no second place in the file.
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)


Paths = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # start points [n, 2], frame numbers [T] -> points [T, n, 2] (x, y; px)


def draw(
    rng: np.random.Generator,
    num_frames: int,
    shape: Shape,
    ground: tuple[int, int, int],
    paths: Paths,
) -> np.ndarray:
    """Shapes moving over a plain ground that wraps around at its edges -> uint8 [num_frames, HEIGHT, WIDTH, 3] RGB."""
    count = int(rng.integers(6, 10))
    points = paths(rng.uniform((0, 0), (WIDTH, HEIGHT), (count, 2)), np.arange(num_frames))
    sizes, turns = rng.uniform(9, 17, count), rng.uniform(0, 2 * np.pi, count)
    colors = np.clip(np.array(shape.color) + rng.integers(-25, 26, (count, 3)), 0, 255)
    slope = np.linspace(-1, 1, WIDTH) * rng.uniform(-25, 25) + np.linspace(-1, 1, HEIGHT)[
        :, None
    ] * rng.uniform(-25, 25)
    empty = np.clip(np.array(ground) + rng.integers(-20, 21) + slope[..., None], 0, 255).astype(
        np.uint8
    )
    frames = np.repeat(empty[None], num_frames, 0)
    wraps = [(x, y) for x in (-WIDTH, 0, WIDTH) for y in (-HEIGHT, 0, HEIGHT)]
    for frame, places in zip(frames, points % (WIDTH, HEIGHT), strict=True):
        for place, size, turn, color in zip(places, sizes, turns, colors.tolist(), strict=True):
            for wrap in wraps:
                draw_one(frame, place + wrap, size, turn, color, shape.corners)
    return frames


def draw_one(
    frame: np.ndarray, place: np.ndarray, size: float, turn: float, color: list[int], corners: int
) -> None:
    """Draw one shape into `frame` (uint8 [H, W, 3], in place); `place` [x, y] and `size` in pixels, `turn` in radians."""
    x, y = place
    if not (-size < x < WIDTH + size and -size < y < HEIGHT + size):
        return
    # cv2 takes 1/16 px here, so that slow motion is smooth.
    if corners > 1:
        angles = turn + np.arange(corners) * 2 * np.pi / corners
        outline = place + size * 1.2 * np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(frame, [np.round(outline * 16).astype(np.int32)], color, cv2.LINE_AA, 4)
    else:
        center = (round(x * 16), round(y * 16))
        cv2.circle(frame, center, round(size * 16), color, 5 if corners else -1, cv2.LINE_AA, 4)


def random_drift(rng: np.random.Generator) -> Paths:
    """All shapes go the same way, any way, slowly."""
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2.0)
    step = speed * np.array([np.cos(angle), np.sin(angle)])
    return lambda starts, times: starts + times[:, None, None] * step


def named_motion(name: str, rng: np.random.Generator) -> Paths:
    """Motion of one of MOTIONS. Start points are uniform and the ground wraps, so one frame looks the same for each of them."""
    speed = rng.uniform(1.5, 3.0)  # px per frame
    if name == "swaying":
        reach, period, phase = (
            rng.uniform(12, 20),
            rng.uniform(16, 24),
            rng.uniform(0, 2 * np.pi),
        )  # px, frames, rad
        side = np.array([reach, 0.0])
        return lambda starts, times: (
            starts + np.sin(2 * np.pi * times / period + phase)[:, None, None] * side
        )
    down = {"falling": speed, "rising": -speed, "resting": 0.0}[name]
    return lambda starts, times: starts + times[:, None, None] * np.array([0.0, down])


def make_sound(
    name: str, rng: np.random.Generator, seconds: float = NUM_FRAMES / FPS
) -> np.ndarray:
    """One of SOUNDS, or `hum`: float32 [seconds * SAMPLE_RATE] in -1 .. 1."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    loudness = rng.uniform(0.15, 0.5)
    hiss = rng.standard_normal(len(time))
    if name == "noise":
        return (loudness * np.clip(hiss / 3, -1, 1)).astype(np.float32)
    low, high = {
        "low_tone": (180, 320),
        "high_tone": (1400, 2600),
        "beeps": (500, 900),
        "hum": (60, 100),
    }[name]
    pitch, phase = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * pitch * time + phase) + 0.3 * np.sin(4 * np.pi * pitch * time)
    if name == "beeps":
        wave *= (time * rng.uniform(4, 7) + rng.uniform()) % 1 < 0.5
    return (loudness * (wave / 1.3 * 0.9 + 0.02 * np.clip(hiss / 3, -1, 1))).astype(np.float32)


def appearance_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    pictures = draw(rng, NUM_FRAMES, SHAPES[name], (150, 150, 150), random_drift(rng))
    return pictures, make_sound(str(rng.choice(SOUNDS)), rng)


def motion_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    pictures = draw(
        rng, NUM_FRAMES, Shape((205, 205, 205), 0), (45, 45, 45), named_motion(name, rng)
    )
    return pictures, make_sound("hum", rng)


def sound_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    pictures = draw(rng, NUM_FRAMES, Shape((120, 60, 150), 4), (215, 180, 215), random_drift(rng))
    return pictures, make_sound(name, rng)


def pair_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    motion, sound = name.split("_", 1)
    pictures = draw(
        rng, NUM_FRAMES, Shape((40, 40, 40), 3), (215, 215, 215), named_motion(motion, rng)
    )
    return pictures, make_sound(sound, rng)


SUBSETS = {
    "appearance": appearance_clip,
    "motion": motion_clip,
    "sound": sound_clip,
    "pair": pair_clip,
}
