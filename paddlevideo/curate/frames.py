"""Write the frames of videos as JPEG files, and the list of them that a FrameDataset reads."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from paddlevideo.curate.batch_jobs import Job, existing, plan_jobs
from paddlevideo.curate.known_sets import (
    check_class_names,
    class_ids,
    jobs_of_list,
    join_lines,
    path_in_list,
)
from paddlevideo.data.class_names import LABELS_FILE
from paddlevideo.files import temporary_name
from paddlevideo.media.decode import VideoDecoder, count_frame_files
from paddlevideo.remote import (
    atomic_file,
    check_storable,
    is_file,
    is_folder,
    is_url,
    join_path,
    names_below,
    parent_path,
    path_below,
    shown,
)
from paddlevideo.sample import Record

# The default file names of FrameDataset.
FRAME_PATTERN = "img_{:05}.jpg"
FIRST_FRAME = FRAME_PATTERN.format(1)
LIST_NAME = "frames.list"


@dataclass(frozen=True)
class WriteFrames:
    """Write all frames of a video, upright, as `img_00001.jpg` ...

    Args:
        short_side: of the frames (px), with the aspect ratio kept. Smaller frames are not enlarged.
            None keeps the size of the video.
        quality: of the JPEG files, 1 .. 100.
    """

    short_side: int | None = None
    quality: int = 95

    suffix = ""

    def __post_init__(self):
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(
                f"short_side is {self.short_side}; expected at least 1 pixel, "
                "or None to keep the size of the video"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}; expected 1 .. 100")

    def __call__(
        self, source: str, target: str, start_sec: float | None = None, end_sec: float | None = None
    ) -> None:
        """
        Raises:
            DecodeError: no video, or a damaged frame. Nothing is written then.
            OSError: the frames cannot be written.
        """
        record = Record(source, start_sec=start_sec, end_sec=end_sec)
        with VideoDecoder().open(record) as clip, atomic_folder(Path(target)) as folder:
            counter = itertools.count()

            def store(image: np.ndarray) -> np.ndarray:
                # The decoder may start over, so the frame number is only known at the end. Write
                # the file under a serial number, and return this number in place of the frame.
                serial = next(counter)
                (folder / str(serial)).write_bytes(self.encode(image))
                return np.array([serial], "<u8").view(np.uint8)

            stored = clip.read(np.arange(clip.num_frames), each=store)
            serials = stored.view("<u8").reshape(-1).tolist()
            for number, serial in enumerate(serials, 1):
                (folder / str(serial)).rename(folder / FRAME_PATTERN.format(number))
            for serial in set(range(next(counter))) - set(serials):
                (folder / str(serial)).unlink()

    def encode(self, image: np.ndarray) -> bytes:
        """Resize and encode a frame: uint8 [H, W, 3] RGB -> the bytes of a JPEG file."""
        height, width = image.shape[:2]
        if self.short_side is not None and self.short_side < min(height, width):
            scale = self.short_side / min(height, width)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return data.tobytes()


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path`, and move it to `path` if the block succeeds.

    An existing folder at `path` is replaced. After an error it is there as before.
    """
    temporary = temporary_name(path)
    old = temporary_name(path.with_name(f"{path.name} old"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


# --- jobs and list -------------------------------------------------------------------------------


@dataclass(frozen=True)
class FramePlan:
    """The videos to extract frames from.

    Attributes:
        jobs: one per folder of frames.
        labels: class id of each job as text, None for a video outside of the class folders.
        class_names: in the order of their ids; None if a list gave ids.
    """

    jobs: list[Job]
    labels: list[str | None]
    class_names: list[str] | None


def plan_frames(
    source: str | Path,
    out: str | Path,
    root: str | Path | None = None,
    class_names: list[str] | None = None,
) -> FramePlan:
    """Find the videos of a folder per class, or of a list or table.

    Args:
        out: folder of the results.
        root: folder that the paths of a list are relative to; None as in `base_folder`.
        class_names: in the order of their ids; None sorts the names that occur.

    Raises:
        ValueError: no videos, wrong lines, an unknown class, or two videos with the same target.
    """
    labels: list[str | None]
    if is_folder(source):
        jobs = plan_jobs(source, out, "")
        folders = [PurePosixPath(path_below(job.target, out) or "").parts[:-1] for job in jobs]
        labels = [parts[0] if parts else None for parts in folders]
    else:
        if not is_file(source):
            raise ValueError(f"{shown(source)}: no such folder or list")
        rows, jobs = jobs_of_list(source, out, "", root, use_spans=True)
        labels = [row.label for row in rows]
        if all(row.label.isdecimal() for row in rows):
            return FramePlan(jobs, labels, class_names)
    ids, names = class_ids({label for label in labels if label is not None}, class_names)
    return FramePlan(jobs, [None if label is None else ids[label] for label in labels], names)


def write_list(
    plan: FramePlan, file: str | Path, overwrite: bool = False, out: str | Path | None = None
) -> int:
    """Write `folder num_frames label` for every existing folder, and the class names next to it.

    An existing list is replaced by one of the folders that exist now.

    Args:
        out: folder of the results, where it is a URL.

    Returns:
        the number of lines; nothing is written if it is 0.

    Raises:
        FileExistsError: other class names exist.
    """
    lines, folder = [], parent_path(file)
    counts = _count_frames(plan.jobs, out)
    for job, label in zip(plan.jobs, plan.labels, strict=True):
        if label is not None and (num_frames := counts.get(job.target)) is not None:
            lines.append(f"{path_in_list(job.target, folder)} {num_frames} {label}")
    if not lines:
        return 0
    contents = {str(file): lines}
    if plan.class_names is not None:
        check_class_names(folder, plan.class_names, overwrite)
        contents[join_path(folder, LABELS_FILE)] = plan.class_names
    for path, content in contents.items():
        with atomic_file(path) as temporary:
            temporary.write_text(join_lines(content), encoding="utf-8", newline="\n")
    return len(lines)


def _count_frames(jobs: Sequence[Job], out: str | Path | None) -> dict[str, int]:
    """The number of frames in each folder that exists: {target: number}."""
    if out is None or not is_url(out):
        folders = {job.target for job in jobs if os.path.isdir(job.target)}
        return {path: count_frame_files(os.listdir(path), FRAME_PATTERN) for path in folders}
    names: dict[str, list[str]] = {}
    for path in names_below(str(out)):
        folder, _, name = path.rpartition("/")
        names.setdefault(folder, []).append(name)
    done = existing(jobs, out, FIRST_FRAME)
    return {
        path: count_frame_files(names[path_below(path, out) or ""], FRAME_PATTERN) for path in done
    }


def check_list(plan: FramePlan, file: str | Path, overwrite: bool = False) -> None:
    """Check before the long extraction that the list can be written.

    Raises:
        ValueError: a path that a list cannot hold.
        FileExistsError: other class names exist.
    """
    check_storable(file)
    folder = parent_path(file)
    for job in plan.jobs:
        path_in_list(job.target, folder)
    if plan.class_names is not None:
        check_class_names(folder, plan.class_names, overwrite)


def jobs_without_class(plan: FramePlan) -> Sequence[Job]:
    """Return the jobs of videos outside of the class folders."""
    return [job for job, label in zip(plan.jobs, plan.labels, strict=True) if label is None]
