"""The samples of one tar shard, by the rules of WebDataset.

Consecutive files with the same key are a sample; the key is the name up to the first dot behind the
folders, and the rest is the kind of file: `v_1.mp4`, `v_1.cls`, `v_1.json`. Of a sample are used

- a video, an audio file or a feature (`.npy`), known by its last suffix;
- `NAME.npy` files, the features of its frames for `FeatureDecoder`: `v_1.rgb.npy`, `v_1.audio.npy`;
- images, which are the frames of a clip: `v_1.img_00001.jpg`, `v_1.img_00002.jpg`, ...;
- `.cls`, a text with the class id or name, and `.json`, an object with `label` (or `labels`) and,
  where wanted, `path`, `start_sec`, `end_sec`, `num_frames`, `source`. It goes before `.cls`.

Other files are left alone. A sample that cannot be used keeps its place with the reason, and fails
when it is read, as a video that cannot be decoded does.
"""

import json
import tarfile
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from paddlevideo.media.containers import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from paddlevideo.media.frame_files import IMAGE_SUFFIXES
from paddlevideo.media.tar_files import BLOCK, TarDamage, has_end, headers, open_shard
from paddlevideo.plain_text import readable
from paddlevideo.sample import DecodeError
from paddlevideo.tar_paths import key_of

MEDIA_SUFFIXES = (*VIDEO_SUFFIXES, *AUDIO_SUFFIXES)
PICKLE_SUFFIXES = (".pkl", ".pickle", ".pyd", ".pyc", ".pt", ".pth", ".ckpt", ".joblib", ".dill")
LABELS = {"label", "labels"}
MAX_LABEL = 1 << 20  # bytes of a .cls or .json
JSON_KEYS = ("label", "labels", "path", "start_sec", "end_sec", "num_frames", "source")
DAMAGED = "damaged"  # key of the sample that stands for those behind the damage


@dataclass
class TarSample:
    """What the index keeps of a sample.

    Attributes:
        key: as the shard names it.
        media: {kind: (first byte, size)} of its video, audio and feature files, as {"mp4": ...}.
        frames: (first byte, size, number) of all its images with their headers; None without.
        features: the same of its files NAME.npy, the features of its frames by name.
        label: what `.json` and `.cls` say: some of JSON_KEYS.
        problem: why the sample cannot be used, "" if it can.
        label_problem: why its label cannot be used.
    """

    key: str
    media: dict[str, tuple[int, int]] = field(default_factory=dict)
    frames: tuple[int, int, int] | None = None
    features: tuple[int, int, int] | None = None
    label: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    label_problem: str = ""


def read_samples(path: str) -> tuple[list[TarSample], str]:
    """(the samples of a shard, what is wrong with the shard or ""). Reads headers and labels only.

    A damaged or cut shard has one more sample at its end, which fails: it stands for the samples
    that cannot be found.

    Raises:
        DecodeError: the shard does not exist, cannot be opened, or is no tar file.
    """
    reader = _Reader()
    with open_shard(path) as file:
        try:
            for header in headers(file):
                reader.add(header, file)
            has_its_end = has_end(file)
        except TarDamage as error:
            return reader.finish(str(error)), str(error)
        except OSError as error:
            raise DecodeError(f"the shard cannot be read: {error.strerror or error}") from error
        problem = "" if has_its_end else "its end is missing: it may be cut short behind a file"
    return reader.finish(""), problem


class _Reader:
    """Collects the samples of a shard, one file after another."""

    def __init__(self):
        self._samples: list[TarSample] = []
        self._current: TarSample | None = None
        self._kinds: set[str] = set()  # of the files of the current sample
        self._pickles: list[str] = []  # and its pickles
        self._keys: set[str] = set()

    def add(self, header: tarfile.TarInfo, file: BinaryIO) -> None:
        """Add a file to its sample."""
        name = header.name
        key = key_of(name)
        if header.isdir() or not key or (name.startswith("__") and name.endswith("__")):
            return
        sample = self._sample(key)
        kind = name[len(key) + 1 :].lower()
        if problem := _wrong_header(header):
            sample.problem = sample.problem or f"{readable(name)} {problem}"
        elif kind in self._kinds:
            sample.problem = sample.problem or f"it has two files {readable(kind)}"
        else:
            self._use(sample, kind, header, file)
        self._kinds.add(kind)

    def _sample(self, key: str) -> TarSample:
        """The sample of the next file: the current one, or a new one."""
        if self._current is not None and self._current.key == key:
            return self._current
        self._close()
        sample = self._current = TarSample(key)
        self._kinds, self._pickles = set(), []
        if key in self._keys:
            sample.problem = f"the shard has another sample {readable(key)} before it"
        self._keys.add(key)
        return sample

    def _use(self, sample: TarSample, kind: str, header: tarfile.TarInfo, file: BinaryIO) -> None:
        suffix = f".{kind.rpartition('.')[2]}"
        if suffix in MEDIA_SUFFIXES:
            sample.media[kind] = (header.offset_data, header.size)
            if kind.endswith(".npy"):
                sample.features = _with_file(sample.features, header)
        elif suffix in IMAGE_SUFFIXES:
            sample.frames = _with_file(sample.frames, header)
        elif kind in ("cls", "json"):
            self._read_label(sample, kind, header, file)
        elif suffix in PICKLE_SUFFIXES:
            self._pickles.append(header.name)

    def _read_label(
        self, sample: TarSample, kind: str, header: tarfile.TarInfo, file: BinaryIO
    ) -> None:
        if header.size > MAX_LABEL:
            sample.label_problem = f"its .{kind} has {header.size} bytes, at most {MAX_LABEL}"
            return
        place = file.tell()
        file.seek(header.offset_data)
        data = file.read(header.size)
        file.seek(place)
        try:
            text = data.decode("utf-8-sig").strip()
            values = {"label": text} if kind == "cls" else json.loads(text)
        except (ValueError, RecursionError) as error:
            sample.label_problem = f"its .{kind} cannot be read: {error}"
            return
        if isinstance(values, int | str) and not isinstance(values, bool):
            values = {"label": values}
        elif isinstance(values, list):
            values = {"labels": values}
        elif not isinstance(values, dict):
            sample.label_problem = f"its .json is {str(values)[:40]!r}, expected an object"
            return
        kept = {name: values[name] for name in JSON_KEYS if values.get(name) not in (None, "")}
        if not LABELS.isdisjoint(kept) and not LABELS.isdisjoint(sample.label):
            other = kept if kind == "cls" else sample.label  # .json goes before .cls
            for name in LABELS:
                other.pop(name, None)
        sample.label = kept | sample.label

    def _close(self) -> None:
        """Check the current sample, which is complete, and keep it."""
        sample, self._current = self._current, None
        if sample is None:
            return
        usable = sample.media or sample.frames
        if not usable and not sample.problem and not self._pickles and not sample.label:
            return  # a file of another kind, as README.txt
        if not usable and self._pickles:
            sample.problem = sample.problem or (
                f"{readable(self._pickles[0])} is a pickle, which could run any code; write a "
                "video, images or a .npy"
            )
        elif not usable and not sample.problem:
            sample.problem = (
                f"no video, images, audio or .npy in it, only {', '.join(sorted(self._kinds))}"
            )
        self._samples.append(sample)

    def finish(self, problem: str) -> list[TarSample]:
        """All samples; with a problem of the shard, one more."""
        if problem and self._current and any(sample.label for sample in self._samples):
            # The label of the last sample may be among what is missing.
            self._current = self._current if self._current.label else None
        self._close()
        if problem:
            self._samples.append(TarSample(DAMAGED, problem=f"the shard is damaged: {problem}"))
        return self._samples


def _with_file(files: tuple[int, int, int] | None, header: tarfile.TarInfo) -> tuple[int, int, int]:
    """(first byte, size, number) of files and one more."""
    start, _, count = files or (header.offset, 0, 0)
    end = header.offset_data + -(-header.size // BLOCK) * BLOCK
    return start, end - start, count + 1


def _wrong_header(header: tarfile.TarInfo) -> str:
    """Why a file is not used, "" if it is."""
    parts = header.name.replace("\\", "/").split("/")
    if header.name.startswith("/") or parts[0].endswith(":"):
        return "has an absolute name"
    if ".." in parts:
        return "has a name with '..'"
    if header.issym() or header.islnk():
        return f"is a link to {readable(header.linkname)[:80]}; a shard holds plain files"
    if header.sparse is not None:
        return "is a sparse file; a shard holds plain files"
    if not header.isreg():
        return "is a device, a FIFO or a file of unknown kind; a shard holds plain files"
    return ""
