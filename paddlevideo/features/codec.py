"""Encode frame features as bytes: principal components, whitening and 8 bits.

A codec is fitted on a training set and applied to all sets. YouTube-8M stores its features in this
way: whitened principal components, clipped at two standard deviations, with 0 .. 255 for -2 .. 2.
Without principal components each value is whitened by itself, with its own mean and std.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevideo.array_files import read_npz, wrong_value
from paddlevideo.files import atomic_write
from paddlevideo.sample import DecodeError

LIMIT = 2.0  # values are clipped at this distance from the mean (standard deviations)
LEVELS = 255 / (2 * LIMIT)
EPSILON = 1e-4  # added to each std, as in the official features of YouTube-8M
VERSION = 1
MAX_FEATURE = 1e9  # features of a network have values of ones or tens
DAMAGED_FILE = (ValueError, TypeError, LookupError, OverflowError)


class Moments:
    """Running sums from which the mean and covariance of frames follow, in D x D memory.

    Args:
        size: D, values per frame.
    """

    def __init__(self, size: int):
        self.count = 0
        # Subtracted from all frames, because sums of large numbers lose digits.
        self.shift: np.ndarray | None = None
        self.sum, self.products = np.zeros(size), np.zeros((size, size))

    def add(self, frames: np.ndarray) -> None:
        """Add frames, float [T, D]."""
        if not len(frames):
            return
        frames = frames.astype(np.float64)
        if self.shift is None:
            self.shift = frames.mean(axis=0)
        centered = frames - self.shift
        self.count += len(frames)
        self.sum += centered.sum(axis=0)
        self.products += centered.T @ centered

    def mean_and_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 [D] and [D, D].

        Raises:
            ValueError: fewer than two frames.
        """
        if self.count < 2 or self.shift is None:
            raise ValueError(f"{self.count} frames to fit on; at least two are needed")
        offset = self.sum / self.count
        return self.shift + offset, self.products / self.count - np.outer(offset, offset)


@dataclass(frozen=True)
class Codec:
    """float [T, D] -> uint8 [T, d].

    Args:
        mean: float32 [D].
        components: principal components float32 [D, d], largest variance first; None keeps the
            values themselves, then d = D.
        scale: std of each stored value plus EPSILON, float32 [d]. Multiplying by it undoes the
            whitening; it is the `whitening` of NeXtVLAD.
    """

    mean: np.ndarray
    components: np.ndarray | None
    scale: np.ndarray

    def __post_init__(self):
        num_values, num_stored = self.mean.size, self.scale.size
        components_shape = None if self.components is None else self.components.shape
        shapes = (self.mean.shape, components_shape, self.scale.shape)
        expected = ((num_values,), (num_values, num_stored), (num_stored,))
        if self.components is None:
            expected = ((num_values,), None, (num_values,))
        if shapes != expected:
            raise ValueError(
                f"mean, components and scale have shapes {shapes}; "
                "expected [D], [D, d] or none, and [d]"
            )
        for name in ("mean", "components", "scale"):
            array = getattr(self, name)
            wrong = "" if array is None else wrong_value(array, MAX_FEATURE)
            if wrong:
                reason = f"values that are not finite or above {MAX_FEATURE:g}: {wrong}"
                raise ValueError(f"{name} holds {reason}")
        if self.scale.min(initial=1) <= 0:
            raise ValueError("scale holds a standard deviation of 0 or less")

    @property
    def size(self) -> int:
        """d, stored values per frame."""
        return len(self.scale)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """float [T, D] -> uint8 [T, d].

        Raises:
            ValueError: another number of values per frame, or values that are not finite.
        """
        if frames.ndim != 2 or frames.shape[1] != len(self.mean):
            raise ValueError(
                f"frames are {list(frames.shape)}, expected [T, {len(self.mean)}]: "
                "they are features of another network"
            )
        if not np.isfinite(frames).all():
            raise ValueError("the network returned values that are not finite")
        values = frames.astype(np.float32) - self.mean
        if self.components is not None:
            values = values @ self.components
        values = np.clip(values / self.scale, -LIMIT, LIMIT)
        return np.rint((values + LIMIT) * LEVELS).astype(np.uint8)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """uint8 [T, d] -> float32 [T, D], as close as 8 bits and the kept components allow."""
        values = (stored / LEVELS - LIMIT).astype(np.float32) * self.scale
        if self.components is not None:
            values = values @ self.components.T
        return values + self.mean


def fit(moments: Moments, num_components: int | None = None) -> Codec:
    """Fit a codec.

    Args:
        num_components: number of principal components; None keeps the values themselves.

    Raises:
        ValueError: more components than values per frame, or than frames minus one.
    """
    mean, covariance = moments.mean_and_covariance()
    if num_components is None:
        std = np.sqrt(np.maximum(np.diag(covariance), 0))
        return Codec(mean.astype(np.float32), None, (std + EPSILON).astype(np.float32))
    limit = min(len(mean), moments.count - 1)
    if not 1 <= num_components <= limit:
        data = f"{len(mean)} values in {moments.count} frames"
        raise ValueError(
            f"{num_components} principal components of {data}; at most {limit} can be fitted"
        )
    variance, vectors = np.linalg.eigh(covariance)
    variance, vectors = variance[::-1][:num_components], vectors[:, ::-1][:, :num_components]
    # The sign of a component is arbitrary. Its largest value is made positive, so that the result
    # does not depend on the machine.
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(num_components)]
    components = (vectors * np.sign(largest)).astype(np.float32)
    scale = np.sqrt(np.maximum(variance, 0)) + EPSILON
    return Codec(mean.astype(np.float32), components, scale.astype(np.float32))


def write_codecs(path: str | Path, codecs: Mapping[str, Codec], made_by: str) -> None:
    """Write the codecs of all features to `.npz`, completely or not at all.

    Args:
        codecs: by the name of the feature.
        made_by: identifies the network; compared before other features are encoded.
    """
    arrays: dict[str, np.ndarray] = {
        "version": np.array(VERSION, np.int64),
        "made_by": np.array(made_by),
        "names": np.array(list(codecs)),
    }
    for name, codec in codecs.items():
        arrays |= {f"{name}/mean": codec.mean, f"{name}/scale": codec.scale}
        if codec.components is not None:
            arrays[f"{name}/components"] = codec.components
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def read_codecs(path: str | Path) -> tuple[dict[str, Codec], str]:
    """Return (codecs by the name of the feature, made_by).

    Raises:
        DecodeError: it is not a file of codecs, or it is damaged.
        OSError: it cannot be read.
    """
    try:
        arrays = read_npz(path)
        version = int(arrays["version"])
        if version != VERSION:
            raise ValueError(f"version {version}, expected {VERSION}")
        codecs = {}
        for name in arrays["names"].tolist():
            components = arrays.get(f"{name}/components")
            codecs[name] = Codec(arrays[f"{name}/mean"], components, arrays[f"{name}/scale"])
        return codecs, str(arrays["made_by"])
    except DAMAGED_FILE as error:
        reason = f"{type(error).__name__}: {error}"
        raise DecodeError(f"{path}: not a file of feature codecs, or damaged ({reason})") from error
