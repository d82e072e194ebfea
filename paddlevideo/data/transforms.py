"""Transforms of frames: scaling, flipping, axes and normalization. Crops are in crops.py.

A transform changes `sample["frames"]`, uint8 [..., T, H, W, 3] RGB, and never writes to its input;
`data.pipeline.Transform` states what each of its attributes means.

Sizes and rounding are PaddleVideo's, so that released weights see the pixels they were trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from PIL import Image

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import Transform
from paddlevideo.sample import Sample

Backend = Literal["pillow", "cv2"]


def resize(frames: np.ndarray, width: int, height: int, backend: Backend) -> np.ndarray:
    """Resize frames bilinearly: uint8 [..., H, W, 3] -> [..., height, width, 3].

    Args:
        backend: pillow applies an antialiasing filter when it makes frames smaller, cv2 does not.
    """
    out = np.empty((*frames.shape[:-3], height, width, 3), np.uint8)
    for index in np.ndindex(frames.shape[:-3]):
        if backend == "cv2":
            cv2.resize(
                frames[index], (width, height), dst=out[index], interpolation=cv2.INTER_LINEAR
            )
        else:
            image = Image.fromarray(frames[index])
            resized = image.resize((width, height), Image.Resampling.BILINEAR)
            out[index] = np.asarray(resized)
    return out


def make_resize(
    size_for: Callable[[int, int], tuple[int, int]], backend: Backend
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that resizes frames uint8 [..., H, W, 3].

    Args:
        size_for: (width, height) of frames -> their new (width, height). Frames whose size stays
            the same are returned unchanged.
    """

    def resize_frames(frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[-3:-1]
        new_size = size_for(width, height)
        return frames if new_size == (width, height) else resize(frames, *new_size, backend)

    return resize_frames


def flip(frames: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Mirror frames left to right, uint8 [..., H, W, 3]."""
    out = np.empty(frames.shape, np.uint8) if out is None else out
    for index in np.ndindex(frames.shape[:-3]):
        cv2.flip(frames[index], 1, dst=out[index])
    return out


def with_frames(sample: Sample, frames: Any) -> Sample:
    """The same sample with other frames."""
    return {**sample, "frames": frames}


def check_sizes(name: str, **sizes: float) -> None:
    """Check the sizes (pixels) among the arguments of the transform `name`.

    Raises:
        ValueError: a size is below 1.
    """
    for key, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: {key} is {value}, expected at least 1 (pixels)")


@register("transform")
@dataclass(frozen=True)
class Scale(Transform):
    """Resizes frames so that their short side has `short_size` pixels.

    Frames whose short side has this size already stay unchanged.

    Args:
        short_size: new short side (pixels).
        fixed_ratio: make the long side 4/3 of the short one, whatever the aspect ratio was, which
            distorts frames; False keeps the aspect ratio.
        keep_ratio: with fixed_ratio False: False makes frames square, True or None keeps the aspect
            ratio.
        do_round: round the long side to the nearest pixel instead of down.
        backend: library that interpolates bilinearly; pillow applies antialiasing, cv2 does not.
    """

    short_size: int
    fixed_ratio: bool = True
    keep_ratio: bool | None = None
    do_round: bool = False
    backend: Backend = "pillow"

    def __post_init__(self):
        check_sizes("Scale", short_size=self.short_size)
        if self.fixed_ratio and self.keep_ratio:
            raise ValueError(
                "Scale: fixed_ratio and keep_ratio are both True; "
                "set fixed_ratio: False to keep the aspect ratio of frames"
            )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after scaling (pixels)."""
        short, long = min(width, height), max(width, height)
        if short == self.short_size:
            return width, height
        if self.fixed_ratio:
            new = int(self.short_size * 4 / 3)
        elif self.keep_ratio is False:
            new = self.short_size
        elif self.do_round:
            new = int(long * (self.short_size / short) + 0.5)
        else:
            new = int(long * self.short_size / short)
        return (self.short_size, new) if width <= height else (new, self.short_size)

    def __call__(self, sample: Sample, rng) -> Sample:
        return with_frames(sample, self.frame_transform(rng)(sample["frames"]))

    def frame_transform(self, rng) -> Callable[[np.ndarray], np.ndarray]:
        """The function that resizes frames uint8 [..., H, W, 3]."""
        return make_resize(self.size, self.backend)


@register("transform")
@dataclass(frozen=True)
class RandomFlip(Transform):
    """Mirrors the complete clip left to right with probability `p`."""

    p: float = 0.5

    random: ClassVar[bool] = True

    def __post_init__(self):
        if not 0 <= self.p <= 1:
            raise ValueError(f"RandomFlip: p is {self.p}, expected a probability in [0, 1]")

    def __call__(self, sample: Sample, rng) -> Sample:
        return with_frames(sample, flip(sample["frames"])) if rng.random() < self.p else sample


@register("transform")
@dataclass(frozen=True)
class Image2Array(Transform):
    """Moves the channel axis: [..., T, H, W, 3] -> [..., T, 3, H, W] or [..., 3, T, H, W].

    Values and dtype stay unchanged. (The reference converts to float32 here; in this project
    Normalization does, or the end of the pipeline.)

    Args:
        transpose: False leaves the axes unchanged.
        data_format: tchw puts channels after time, cthw before time.
    """

    transpose: bool = True
    data_format: Literal["tchw", "cthw"] = "tchw"

    on_batch: ClassVar[bool] = True

    def __call__(self, sample: Sample, rng=None) -> Sample:
        return self.on_device(sample)

    def on_device(self, sample: Sample) -> Sample:
        """`__call__` for Paddle tensors, on their device."""
        if not self.transpose:
            return sample
        frames = sample["frames"]
        n = len(frames.shape)
        time, height, width, channel = n - 4, n - 3, n - 2, n - 1
        if self.data_format == "tchw":
            moved = (time, channel, height, width)
        else:
            moved = (channel, time, height, width)
        return with_frames(sample, frames.transpose([*range(n - 4), *moved]))


@register("transform")
@dataclass(frozen=True)
class Normalization(Transform):
    """Computes (x / 255 - mean) / std, operation by operation in float32.

    Args:
        mean, std: of each channel, for values in [0, 1].
        tensor_shape: how mean and std broadcast against the last axes of the frames: [3, 1, 1] for
            [..., 3, H, W], [3, 1, 1, 1] for [..., 3, T, H, W], [1, 1, 1, 3] for [..., T, H, W, 3].
        inplace: must be False. With True, the reference expects mean and std for values in
            [0, 255].
    """

    mean: list[float]
    std: list[float]
    tensor_shape: tuple[int, ...] = (3, 1, 1)
    inplace: bool = False

    on_batch: ClassVar[bool] = True

    def __post_init__(self):
        shape, channels = list(self.tensor_shape), len(self.mean)
        if sorted(shape) != [1] * (len(shape) - 1) + [channels] or len(self.std) != channels:
            given = f"mean has {channels} values, std {len(self.std)}, tensor_shape is {shape}"
            raise ValueError(
                f"Normalization: {given}; "
                "expected one value per channel and a shape such as [3, 1, 1]"
            )
        if 0 in self.std:
            raise ValueError(
                f"Normalization: std is {list(self.std)}, which divides a channel by 0; "
                "give values above 0"
            )
        if self.inplace:
            raise ValueError(
                "Normalization: inplace: True is not supported; "
                "remove it and give mean and std for values in [0, 1]"
            )

    def __call__(self, sample: Sample, rng=None) -> Sample:
        frames = sample["frames"]
        axis = frames.ndim - len(self.tensor_shape) + int(np.argmax(self.tensor_shape))
        if axis < 0 or frames.shape[axis] != len(self.mean):
            raise ValueError(
                f"Normalization: frames are {list(frames.shape)}, tensor_shape "
                f"{list(self.tensor_shape)} expects {len(self.mean)} channels at axis "
                f"{axis - frames.ndim}; is '- Image2Array' before it?"
            )
        if frames.dtype == np.uint8:
            return with_frames(sample, self._normalize_bytes(frames, axis))
        mean, std = (values.reshape(self.tensor_shape) for values in self._float32())
        return with_frames(sample, (frames.astype(np.float32) / np.float32(255) - mean) / std)

    def _float32(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)

    def on_device(self, sample: Sample) -> Sample:
        """`__call__` for Paddle tensors, on their device; the result is float32."""
        import paddle  # decoding workers must not load it

        frames = sample["frames"]
        # Paddle 3.3.0 divides by a number as if it multiplied by 1 / number: other last bits.
        # `full` computes on the device; a copy from the host would make a GPU wait.
        white = paddle.full([1], 255.0, "float32")
        mean, std = (
            paddle.concat([paddle.full([1], float(v), "float32") for v in values]).reshape(
                self.tensor_shape
            )
            for values in self._float32()
        )
        return with_frames(sample, (frames.astype("float32") / white - mean) / std)

    def _normalize_bytes(self, frames: np.ndarray, axis: int) -> np.ndarray:
        """Normalize uint8 frames with a table of all 256 values for each channel.

        The result equals the arithmetic on each pixel, and takes a fraction of the time.

        Args:
            axis: the channel axis.
        """
        values = np.arange(256, dtype=np.float32)
        tables = [
            (values / np.float32(255) - mean) / std
            for mean, std in zip(*self._float32(), strict=True)
        ]
        out = np.empty(frames.shape, np.float32)
        # With channels last, an image of either layout is [A, B, C], and each channel is a plane.
        images, targets = np.moveaxis(frames, axis, -1), np.moveaxis(out, axis, -1)
        for index in np.ndindex(images.shape[:-3]):
            image = images[index]
            planes = cv2.split(image) if image.strides[-1] == 1 else np.moveaxis(image, -1, 0)
            for channel, plane in enumerate(planes):
                table = tables[channel]
                targets[index][..., channel] = cv2.LUT(np.ascontiguousarray(plane), table)
        return out
