"""Features of frames as bytes: principal components, whitening and 8 bits, fitted on a training set, applied to any other.

YouTube-8M stores its features so: whitened principal components, cut at two deviations, 0 .. 255 for -2 .. 2. Without
components each value is whitened by itself, with its own mean and deviation.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo.files import atomic_write
from paddlevideo.sample import DecodeError

LIMIT = 2.0  # what is further from the mean (deviations) is cut there
LEVELS = 255 / (2 * LIMIT)
EPSILON = 1e-4  # added to a deviation, as in the official features
VERSION = 1


class Moments:
    """Sums over frames from which mean and covariance follow: D x D numbers, however many frames there are."""

    def __init__(self, width: int):
        self.count = 0
        self.shift: np.ndarray | None = (
            None  # about where the values are; small differences lose no digits
        )
        self.sum, self.products = np.zeros(width), np.zeros((width, width))

    def add(self, frames: np.ndarray) -> None:
        """float [T, D]"""
        frames = frames.astype(np.float64)
        if self.shift is None and len(frames):
            self.shift = frames.mean(axis=0)
        if len(frames):
            centered = frames - self.shift
            self.count += len(frames)
            self.sum += centered.sum(axis=0)
            self.products += centered.T @ centered

    def mean_and_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 [D], [D, D]

        Raises:
            ValueError: fewer than two frames.
        """
        if self.count < 2 or self.shift is None:
            raise ValueError(f"{self.count} frames to fit on; at least two are needed")
        off = self.sum / self.count
        return self.shift + off, self.products / self.count - np.outer(off, off)


@dataclass(frozen=True)
class Codec:
    """float [T, D] -> uint8 [T, d].

    Args:
        mean: float32 [D].
        components: float32 [D, d], the largest first; None for the values themselves, d = D.
        scale: float32 [d], deviation of each, plus a little: what undoes the whitening, `whitening` of NeXtVLAD.
    """

    mean: np.ndarray
    components: np.ndarray | None
    scale: np.ndarray

    def __post_init__(self):
        shapes = (self.mean.shape, np.shape(self.components), self.scale.shape)
        wide, narrow = self.mean.size, self.scale.size
        wanted = ((wide,), (wide, narrow) if self.components is not None else (), (narrow,))
        if shapes != wanted or (self.components is None and wide != narrow):
            raise ValueError(
                f"mean, components, scale are {shapes}; expected [D], [D, d] or none, [d]"
            )
        if (
            not all(np.isfinite(part).all() for part in (self.mean, self.scale))
            or self.scale.min(initial=1) <= 0
        ):
            raise ValueError("mean or scale holds numbers that are not finite, or a deviation of 0")

    @property
    def width(self) -> int:
        """Values of a frame, as stored."""
        return len(self.scale)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """float [T, D] -> uint8 [T, d].

        Raises:
            ValueError: frames of another width, or numbers that are not finite.
        """
        if frames.ndim != 2 or frames.shape[1] != len(self.mean):
            raise ValueError(
                f"frames are {list(frames.shape)}, expected [T, {len(self.mean)}]: features of another network"
            )
        if not np.isfinite(frames).all():
            raise ValueError("the network gave numbers that are not finite")
        values = frames.astype(np.float32) - self.mean
        values = (values if self.components is None else values @ self.components) / self.scale
        return np.rint((np.clip(values, -LIMIT, LIMIT) + LIMIT) * LEVELS).astype(np.uint8)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """uint8 [T, d] -> float32 [T, D], as near as 8 bits and the components kept allow."""
        values = (stored / LEVELS - LIMIT).astype(np.float32) * self.scale
        return (values if self.components is None else values @ self.components.T) + self.mean


def fit(moments: Moments, num_components: int | None = None) -> Codec:
    """The codec for features with these moments.

    Args:
        num_components: how many principal components are kept; None keeps the values as they are.

    Raises:
        ValueError: fewer frames than components, or fewer values.
    """
    mean, covariance = moments.mean_and_covariance()
    if num_components is None:
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
        return Codec(mean.astype(np.float32), None, (deviation + EPSILON).astype(np.float32))
    if not 1 <= num_components <= min(len(mean), moments.count - 1):
        raise ValueError(
            f"{num_components} principal components of {len(mean)} values in {moments.count} frames; at most "
            f"{min(len(mean), moments.count - 1)} can be fitted"
        )
    variance, vectors = np.linalg.eigh(covariance)
    variance, vectors = variance[::-1][:num_components], vectors[:, ::-1][:, :num_components]
    # Either sign of a component is right: the largest value is made positive, so that every machine takes the same.
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(num_components)]
    scale = np.sqrt(np.maximum(variance, 0)) + EPSILON
    return Codec(
        mean.astype(np.float32),
        (vectors * np.sign(largest)).astype(np.float32),
        scale.astype(np.float32),
    )


def write_codecs(path: str | Path, codecs: Mapping[str, Codec], made_by: str) -> None:
    """Write the codec of each feature, whole or not at all.

    Args:
        made_by: what the features come from, to be compared before others are encoded.
    """
    arrays = {
        "version": np.int64(VERSION),
        "made_by": np.array(made_by),
        "names": np.array(list(codecs)),
    }
    for name, codec in codecs.items():
        arrays |= {f"{name}/mean": codec.mean, f"{name}/scale": codec.scale}
        if codec.components is not None:
            arrays[f"{name}/components"] = codec.components
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_codecs(path: str | Path) -> tuple[dict[str, Codec], str]:
    """(the codec of each feature, what the features come from).

    Raises:
        DecodeError: not such a file, or a damaged one.
        OSError: it cannot be read.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as held:
            if int(held["version"]) != VERSION:
                raise ValueError(f"of version {held['version']}")
            codecs = {}
            for name in held["names"].tolist():
                components = held.get(f"{name}/components")
                codecs[name] = Codec(held[f"{name}/mean"], components, held[f"{name}/scale"])
            return codecs, str(held["made_by"])
    except (
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        OSError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DecodeError(
            f"{path}: not what was fitted for features, or damaged ({type(error).__name__}: {error})"
        ) from error
