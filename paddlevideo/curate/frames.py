"""Videos -> folders of JPEG pictures, one for each frame, and the list of them that a FrameDataset reads."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from paddlevideo.curate.batch_jobs import Job, plan
from paddlevideo.curate.known_sets import (
    LABELS,
    check_class_names,
    ids_of,
    jobs_of_list,
    lines,
    path_in_list,
)
from paddlevideo.files import atomic_write
from paddlevideo.media.decode import VideoDecoder, count_frame_files
from paddlevideo.sample import Record

PATTERN = "img_{:05}.jpg"  # FrameDataset's
LIST = "frames.list"


@dataclass(frozen=True)
class WriteFrames:
    """Writes all frames of a video, upright, as `img_00001.jpg` ...

    Args:
        short_side: of the pictures (px), the aspect kept; smaller ones are not enlarged. None keeps the video's size.
        quality: of the JPEG files, 1 .. 100.
    """

    short_side: int | None = None
    quality: int = 95

    suffix = ""

    def __post_init__(self):
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(
                f"short_side is {self.short_side}; expected at least 1 pixel, or nothing for the video's own"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}; expected 1 .. 100")

    def __call__(
        self, source: str, target: str, start_sec: float | None = None, end_sec: float | None = None
    ) -> None:
        """
        Raises:
            DecodeError: no video, or one of its frames is damaged; nothing is left at `target` then.
            OSError: the pictures cannot be written.
        """
        record = Record(source, start_sec=start_sec, end_sec=end_sec)
        with VideoDecoder().open(record) as clip, atomic_folder(Path(target)) as folder:
            counter = itertools.count()

            def store(image: np.ndarray) -> np.ndarray:
                # The decoder may begin again from the start, so which frame this is shows only when all are there.
                serial = next(counter)
                (folder / str(serial)).write_bytes(self.encode(image))
                return np.array([serial], "<u8").view(np.uint8)

            serials = (
                clip.read(np.arange(clip.num_frames), each=store).view("<u8").reshape(-1).tolist()
            )
            for number, serial in enumerate(serials, 1):
                (folder / str(serial)).rename(folder / PATTERN.format(number))
            for serial in set(range(next(counter))) - set(serials):
                (folder / str(serial)).unlink()

    def encode(self, image: np.ndarray) -> bytes:
        """uint8 [H, W, 3] RGB -> a JPEG file."""
        height, width = image.shape[:2]
        if self.short_side is not None and self.short_side < min(height, width):
            scale = self.short_side / min(height, width)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(
            ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        )
        return data.tobytes()


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path`; when the block ends well it takes the place of `path`."""
    temporary, old = (
        path.with_name(f".{path.name}.{os.getpid()}.tmp"),
        path.with_name(f".{path.name} old.{os.getpid()}.tmp"),
    )
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


# --- which videos, which list ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What to extract.

    Attributes:
        labels: what a list says behind each job's folder, None for a video in no class folder.
        class_names: in the order of their ids; None where a list gave ids.
    """

    jobs: list[Job]
    labels: list[str | None]
    class_names: list[str] | None


def plan_frames(
    source: Path, out: Path, root: Path | None = None, class_names: list[str] | None = None
) -> Plan:
    """What to make of a folder per class, or of a list or table.

    Args:
        root: folder that the paths of a list are relative to; None as of `base_folder`.
        class_names: in the order of their ids; None sorts the names that are found.

    Raises:
        ValueError: nothing to do, wrong lines, an unknown class, or two videos that would become one folder.
    """
    labels: list[str | None]
    if source.is_dir():
        jobs = plan(source, out, "")
        folders = [Path(job.source).relative_to(source).parts[:-1] for job in jobs]
        labels = [parts[0] if parts else None for parts in folders]
    else:
        if not source.is_file():
            raise ValueError(f"{source}: no such folder or list")
        rows, jobs = jobs_of_list(source, out, "", root, parts=True)
        labels = [row.label for row in rows]
        if all(row.label.isdecimal() for row in rows):
            return Plan(jobs, labels, class_names)
    ids, names = ids_of({label for label in labels if label is not None}, class_names)
    return Plan(jobs, [None if label is None else ids[label] for label in labels], names)


def write_list(plan: Plan, file: Path, overwrite: bool = False) -> int:
    """Write `folder num_frames label` of every folder that is there, and class names beside it; returns how many lines.

    A list that is there is written anew: it says what the folders hold.

    Raises:
        FileExistsError: other class names are there.
    """
    texts = []
    for job, label in zip(plan.jobs, plan.labels, strict=True):
        if label is not None and os.path.isdir(job.target):
            count = count_frame_files(Path(job.target), PATTERN)
            texts.append(f"{path_in_list(job.target, file.parent)} {count} {label}")
    if not texts:
        return 0
    contents = {file: texts}
    if plan.class_names is not None:
        check_class_names(file.parent, plan.class_names, overwrite)
        contents[file.parent / LABELS] = plan.class_names
    for path, content in contents.items():
        with atomic_write(path) as temporary:
            temporary.write_text(lines(content), encoding="utf-8", newline="\n")
    return len(texts)


def check_list(plan: Plan, file: Path, overwrite: bool = False) -> None:
    """Find out before long work whether the list can be written.

    Raises:
        ValueError: a path that no list can hold.
        FileExistsError: other class names are there.
    """
    for job in plan.jobs:
        path_in_list(job.target, file.parent)
    if plan.class_names is not None:
        check_class_names(file.parent, plan.class_names, overwrite)


def not_listed(plan: Plan) -> Sequence[Job]:
    """Videos that lie in no class folder."""
    return [job for job, label in zip(plan.jobs, plan.labels, strict=True) if label is None]
