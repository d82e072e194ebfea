"""Generate a small labeled set of synthetic videos with audio: mp4 files (H.264, AAC).

| subset     | classes                              | what distinguishes them                |
| ---        | ---                                  | ---                                    |
| appearance | red discs, green squares, ...        | color and shape in any single frame    |
| motion     | rising, falling, swaying, resting    | only the motion of gray discs          |
| sound      | low tone, high tone, noise, beeps    | only the audio; all classes look alike |
| pair       | (rising, falling) x (low, high tone) | only motion and audio together         |

The audio of the first two subsets does not depend on the class. Resizing, cropping and horizontal
flips do not change the class. The subsets look different from each other, so all 16 classes
together are a task, too. The same seed gives the same bytes. The files in the folder `out`:

    <subset>/<train|val|test>/<class>/0000.mp4       a folder per class, for DATASET.train.file_path
    <subset>/{train,val,test}.list, labels.txt       `path label`, paths relative to the list
    {train,val,test}.list, labels.txt                all subsets together
    demo.json                                        the settings; written last
"""

import json
import os
import shutil
import tempfile
import zlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from paddlevideo.curate.synthetic_media import (
    FPS,
    H264,
    HEIGHT,
    MOTIONS,
    NUM_FRAMES,
    SOUNDS,
    WIDTH,
    Shape,
    draw,
    encode,
    named_motion,
    random_drift,
    synthesize_audio,
)
from paddlevideo.processes import Crash, run_each

# Increase it if the clips change, so that existing sets are replaced.
VERSION = 1
SHAPES = {
    "blue_triangles": Shape((40, 80, 230), 3),
    "green_squares": Shape((40, 190, 60), 4),
    "red_discs": Shape((220, 40, 40), 0),
    "yellow_rings": Shape((235, 205, 30), 1),
}
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


# --- the files of a set --------------------------------------------------------------------------


class DemoClip(NamedTuple):
    """A clip of the set; `number` counts within its class."""

    subset: str
    split: str
    class_name: str
    number: int

    @property
    def path(self) -> Path:
        """The path relative to the folder of the set."""
        return Path(self.subset, self.split, self.class_name, f"{self.number:04}.mp4")


@dataclass(frozen=True)
class DemoPlan:
    """The settings of a set.

    Args:
        seed: of all random draws.
        clips: training clips per class. Validation has a quarter of it and test three eighths, at
            least two each.
        version: of the drawing code.
    """

    seed: int = 0
    clips: int = 16
    version: int = VERSION

    def num_clips(self, split: str) -> int:
        """Return the number of clips per class in a split."""
        if split == "train":
            return self.clips
        return max(2, self.clips // 4 if split == "val" else self.clips * 3 // 8)

    def all_clips(self) -> list[DemoClip]:
        return [
            DemoClip(subset, split, name, number)
            for subset, names in CLASSES.items()
            for split in SPLITS
            for name in names
            for number in range(self.num_clips(split))
        ]


def make_demo_set(out: Path, plan: DemoPlan, num_workers: int | None = None) -> bool:
    """Write the set to the folder `out`; return False if it exists there already.

    A set with other settings is replaced. The folder appears under its name when it is complete.

    Args:
        num_workers: processes, None for one per core.

    Raises:
        FileExistsError: the folder has other content than a demo set.
        ValueError: a plan without clips.
    """
    if plan.clips < 1:
        raise ValueError(f"{plan.clips} clips per class; expected at least 1")
    existing = read_manifest(out)
    if existing == asdict(plan):
        return False
    if out.exists() and existing is None and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} exists and is not a demo set (it has no demo.json); use another folder, "
            "or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        # mkdtemp makes folders that other users cannot read.
        os.chmod(work, 0o755)
        write_clips(work, plan, num_workers)
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
    """Read the settings of the set in a folder; None if there is no set, or a file of that name of
    another program."""
    try:
        content = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    is_set = isinstance(content, dict) and content.keys() == asdict(DemoPlan()).keys()
    return content if is_set else None


def write_lists(out: Path, plan: DemoPlan) -> None:
    """Write the lists of all splits and the class names, for the set and for each subset."""
    all_names = sorted(name for names in CLASSES.values() for name in names)
    folders = [(out, list(CLASSES), all_names)]
    folders += [(out / subset, [subset], names) for subset, names in CLASSES.items()]
    for folder, subsets, names in folders:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        for split in SPLITS:
            lines = [
                f"{(out / clip.path).relative_to(folder).as_posix()} "
                f"{names.index(clip.class_name)}\n"
                for clip in plan.all_clips()
                if clip.subset in subsets and clip.split == split
            ]
            (folder / f"{split}.list").write_text("".join(lines), encoding="utf-8")


def write_clips(out: Path, plan: DemoPlan, num_workers: int | None) -> None:
    """Write all clips of the set in several processes.

    Raises:
        OSError: a process crashed.
    """
    clips = plan.all_clips()
    write = partial(write_clip, out, plan.seed)
    for index, result in run_each(write, clips, num_workers or None, show=False):
        if isinstance(result, Crash):
            raise OSError(f"{out / clips[index].path}: the process that wrote it crashed")


def write_clip(out: Path, seed: int, clip: DemoClip) -> None:
    """Write one clip of the set; its random draws depend on the seed and on its own path only."""
    rng = np.random.default_rng((seed, zlib.crc32(clip.path.as_posix().encode())))
    frames, waveform = SUBSETS[clip.subset](clip.class_name, rng)
    (out / clip.path).parent.mkdir(parents=True, exist_ok=True)
    encode(out / clip.path, frames, waveform, "libx264", "aac", H264)


def write_example(path: Path, seed: int = 0) -> bool:
    """Write a 3 s AVI of red discs with beeps, 320x240 (MPEG-4, PCM); return False if it exists."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, 3))
    small = draw(rng, 3 * FPS, SHAPES["red_discs"], (150, 150, 150), random_drift(rng))
    frames = np.stack([cv2.resize(frame, (2 * WIDTH, 2 * HEIGHT)) for frame in small])
    waveform = synthesize_audio("beeps", rng, 3.0)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.avi")
    try:
        encode(temporary, frames, waveform, "mpeg4", "pcm_s16le", {"qscale": "4", "g": "25"})
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


# --- subsets: class -> frames, waveform ----------------------------------------------------------


def appearance_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    frames = draw(rng, NUM_FRAMES, SHAPES[name], (150, 150, 150), random_drift(rng))
    return frames, synthesize_audio(str(rng.choice(SOUNDS)), rng)


def motion_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    disc = Shape((205, 205, 205), 0)
    frames = draw(rng, NUM_FRAMES, disc, (45, 45, 45), named_motion(name, rng))
    return frames, synthesize_audio("hum", rng)


def sound_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    square = Shape((120, 60, 150), 4)
    frames = draw(rng, NUM_FRAMES, square, (215, 180, 215), random_drift(rng))
    return frames, synthesize_audio(name, rng)


def pair_clip(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    motion, sound = name.split("_", 1)
    triangle = Shape((40, 40, 40), 3)
    frames = draw(rng, NUM_FRAMES, triangle, (215, 215, 215), named_motion(motion, rng))
    return frames, synthesize_audio(sound, rng)


SUBSETS = {
    "appearance": appearance_clip,
    "motion": motion_clip,
    "sound": sound_clip,
    "pair": pair_clip,
}
