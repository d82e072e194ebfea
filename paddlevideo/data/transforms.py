"""What is done to the frames of a clip, one small class each: `__call__(sample, rng) -> sample`.

`sample["frames"]` is uint8 [..., T, H, W, 3] RGB; the input is never written to. What a class says about itself:

- `random`: it draws from `rng`. The others never touch it.
- `late`: elementwise or a change of axes only, so it may run on a whole batch [N, ...]; frames travel as uint8.
- `views`: clips it makes out of one, as a new leading axis.
- `frame_transform(rng)`: it changes frame by frame, by the function that this gives; where it comes first, frames are changed as
  they are decoded, and the large ones never lie side by side.
- `shares`: it takes `Views` (see views.py) in place of an array.
- `at(shape)`: it depends on the shape of a clip that a training plan changes; gives the same for another `ClipShape`.

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
from paddlevideo.sample import ClipShape, Sample

Backend = Literal["pillow", "cv2"]


def resize(frames: np.ndarray, width: int, height: int, backend: Backend) -> np.ndarray:
    """Bilinear: uint8 [..., H, W, 3] -> [..., height, width, 3]. pillow smooths what it shrinks, cv2 does not."""
    out = np.empty((*frames.shape[:-3], height, width, 3), np.uint8)
    for at in np.ndindex(frames.shape[:-3]):
        if backend == "cv2":
            cv2.resize(frames[at], (width, height), dst=out[at], interpolation=cv2.INTER_LINEAR)
        else:
            out[at] = Image.fromarray(frames[at]).resize((width, height), Image.Resampling.BILINEAR)
    return out


def resizer(
    size: Callable[[int, int], tuple[int, int]], backend: Backend
) -> Callable[[np.ndarray], np.ndarray]:
    """Resizes uint8 [..., H, W, 3] to the (width, height) that `size` makes of theirs; frames of that size stay as they are."""

    def resized(frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[-3:-1]
        new = size(width, height)
        return frames if new == (width, height) else resize(frames, *new, backend)

    return resized


def flip(frames: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Mirrored left to right, uint8 [..., H, W, 3]."""
    out = np.empty(frames.shape, np.uint8) if out is None else out
    for at in np.ndindex(frames.shape[:-3]):
        cv2.flip(frames[at], 1, dst=out[at])
    return out


def with_frames(sample: Sample, frames: Any) -> Sample:
    return {**sample, "frames": frames}


def need(name: str, frames, size: int) -> tuple[int, int]:
    """(height, width) of frames that a square of `size` pixels can be cut from."""
    height, width = frames.shape[-3:-1]
    if min(height, width) < size:
        raise ValueError(
            f"{name} needs frames of at least {size}x{size}, these are {width}x{height} (width x height); "
            f"put '- Scale: {{short_size: {size}}}' (or larger) before it"
        )
    return height, width


def positive(name: str, **sizes: float) -> None:
    for key, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: {key} is {value}, expected at least 1 (pixels)")


@register("transform")
@dataclass(frozen=True)
class Scale(Transform):
    """Resize so that the short side has `short_size` pixels; frames that have it already stay as they are.

    Args:
        short_size: the new short side (pixels).
        fixed_ratio: make the long side 4/3 of the short one, whatever it was, which distorts; False keeps the shape.
        keep_ratio: with fixed_ratio False, False makes a square, True or None keeps the shape.
        do_round: round the long side to the nearest pixel instead of down.
        backend: whose bilinear filter, pillow (smooths) or cv2 (does not).
    """

    short_size: int
    fixed_ratio: bool = True
    keep_ratio: bool | None = None
    do_round: bool = False
    backend: Backend = "pillow"

    def __post_init__(self):
        positive("Scale", short_size=self.short_size)
        if self.fixed_ratio and self.keep_ratio:
            raise ValueError(
                "Scale: fixed_ratio and keep_ratio are both True; set fixed_ratio: False to keep the frames' shape"
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
        """The resizing of frames uint8 [..., H, W, 3]."""
        return resizer(self.size, self.backend)


@register("transform")
@dataclass(frozen=True)
class MultiScaleCrop(Transform):
    """Cut a random rectangle of the clip and resize it to a square: the scale jittering of TSN.

    Args:
        target_size: side of the result (pixels).
        scales: possible sides as parts of the short side; None for 1, 0.875, 0.75, 0.66.
        max_distort: how many places in `scales` width and height may differ by; 0 cuts squares only.
        fix_crop: corners from a fixed set (4 corners and the centre); False: any place.
        allow_duplication: keep a place in the set that coincides with another, so that it is drawn more often.
        more_fix_crop: eight further places in the set.
        backend: whose bilinear filter resizes the cut, pillow or cv2.
    """

    target_size: int
    scales: list[float] | None = None
    max_distort: int = 1
    fix_crop: bool = True
    allow_duplication: bool = False
    more_fix_crop: bool = True
    backend: Backend = "pillow"

    random: ClassVar[bool] = True

    def __post_init__(self):
        positive("MultiScaleCrop", target_size=self.target_size)
        bad = [s for s in self.scales or () if not 0 < s <= 1]
        if bad:
            raise ValueError(
                f"MultiScaleCrop: scales holds {bad[0]}, expected parts of the short side in (0, 1]"
            )

    def sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """The (width, height) pairs to draw from, in the reference's order."""
        base = min(width, height)
        sides = [max(1, int(base * scale)) for scale in self.scales or (1, 0.875, 0.75, 0.66)]
        # A side that is nearly the target becomes it, which spares the resize; never more than there is.
        sides = [
            self.target_size if abs(s - self.target_size) < 3 and self.target_size <= base else s
            for s in sides
        ]
        return [
            (w, h)
            for i, h in enumerate(sides)
            for j, w in enumerate(sides)
            if abs(i - j) <= self.max_distort
        ]

    def offsets(
        self, width: int, height: int, crop_width: int, crop_height: int
    ) -> list[tuple[float, float]]:
        """The upper left corners (x, y) to draw from, in the reference's order; quarters of a pixel occur."""
        x, y = (width - crop_width) / 4, (height - crop_height) / 4
        apart = [((0, 0), True), ((4, 0), x), ((0, 4), y), ((4, 4), x and y), ((2, 2), x or y)]
        places = [place for place, distinct in apart if distinct or self.allow_duplication]
        if self.more_fix_crop:
            places += [(0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
        return [(i * x, j * y) for i, j in places]

    @staticmethod
    def box(x: float, y: float, width: int, height: int) -> tuple[int, int, int, int]:
        """Pixel edges left, top, right, bottom, each rounded half to even by itself as in pillow: a side may vary by 1."""
        left, top = round(x), round(y)
        return left, top, max(round(x + width), left + 1), max(round(y + height), top + 1)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames = sample["frames"]
        height, width = frames.shape[-3:-1]
        pairs = self.sizes(width, height)
        crop_width, crop_height = pairs[rng.integers(len(pairs))]
        if self.fix_crop:
            places = self.offsets(width, height, crop_width, crop_height)
            x, y = places[rng.integers(len(places))]
        else:
            x = rng.integers(0, width - crop_width, endpoint=True)
            y = rng.integers(0, height - crop_height, endpoint=True)
        left, top, right, bottom = self.box(x, y, crop_width, crop_height)
        cut = frames[..., top:bottom, left:right, :]
        if cut.shape[-3:-1] == (self.target_size, self.target_size):
            return with_frames(sample, cut)
        return with_frames(sample, resize(cut, self.target_size, self.target_size, self.backend))


@register("transform")
@dataclass(frozen=True)
class RandomCrop(Transform):
    """Cut a square of `target_size` pixels at a random place, the same for all frames of the clip."""

    target_size: int

    random: ClassVar[bool] = True

    def __post_init__(self):
        positive("RandomCrop", target_size=self.target_size)

    @property
    def crop_size(self) -> int:
        return self.target_size

    def at(self, shape: ClipShape) -> "RandomCrop":
        """The same for clips of another shape."""
        return RandomCrop(shape.crop_size)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames, size = sample["frames"], self.target_size
        height, width = need("RandomCrop", frames, size)
        x, y = (rng.integers(0, n - size, endpoint=True) for n in (width, height))
        return with_frames(sample, frames[..., y : y + size, x : x + size, :])


@register("transform", ignores={"backend": "a cut has the same pixels with every backend"})
@dataclass(frozen=True)
class CenterCrop(Transform):
    """Cut the middle square of `target_size` pixels; `do_round` rounds its corner half to even instead of down."""

    target_size: int
    do_round: bool = True

    def __post_init__(self):
        positive("CenterCrop", target_size=self.target_size)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames, size = sample["frames"], self.target_size
        height, width = need("CenterCrop", frames, size)
        y, x = (
            round((n - size) / 2) if self.do_round else (n - size) // 2 for n in (height, width)
        )
        return with_frames(sample, frames[..., y : y + size, x : x + size, :])


@register("transform")
@dataclass(frozen=True)
class TenCrop(Transform):
    """Five squares (upper left, upper right, lower left, lower right, centre), each also mirrored: ten views.

    frames [T, H, W, 3] -> [10, T, s, s, 3], each crop followed by its mirror image. Views that are there already stay in
    front: [V, T, H, W, 3] -> [V * 10, T, s, s, 3].
    """

    target_size: int

    views: ClassVar[int] = 10

    def __post_init__(self):
        positive("TenCrop", target_size=self.target_size)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames, size = sample["frames"], self.target_size
        height, width = need("TenCrop", frames, size)
        x, y = (width - size) // 4, (height - size) // 4
        out = np.empty((*frames.shape[:-4], 10, frames.shape[-4], size, size, 3), np.uint8)
        for k, (i, j) in enumerate(((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))):
            crop = frames[..., j * y : j * y + size, i * x : i * x + size, :]
            out[..., 2 * k, :, :, :, :] = crop
            flip(crop, out[..., 2 * k + 1, :, :, :, :])
        return with_frames(sample, out.reshape(-1, *out.shape[-4:]))


@register("transform")
@dataclass(frozen=True)
class RandomFlip(Transform):
    """Mirror the whole clip left to right with probability `p`."""

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
    """Move the colour axis: [..., T, H, W, 3] -> [..., T, 3, H, W] ('tchw') or [..., 3, T, H, W] ('cthw').

    The values and their type stay (the reference makes float32 of them here; Normalization, or the end of the pipeline, does).

    Args:
        transpose: False leaves the axes alone.
        data_format: the new order.
    """

    transpose: bool = True
    data_format: Literal["tchw", "cthw"] = "tchw"

    on_batch: ClassVar[bool] = True

    def __call__(self, sample: Sample, rng=None) -> Sample:
        return self.on_device(sample)

    def on_device(self, sample: Sample) -> Sample:
        """The same for paddle tensors, where they are."""
        if not self.transpose:
            return sample
        frames = sample["frames"]
        n = len(frames.shape)
        moved = (
            (n - 4, n - 1, n - 3, n - 2)
            if self.data_format == "tchw"
            else (n - 1, n - 4, n - 3, n - 2)
        )
        return with_frames(sample, frames.transpose([*range(n - 4), *moved]))


@register("transform")
@dataclass(frozen=True)
class Normalization(Transform):
    """(x / 255 - mean) / std, step by step in float32.

    Args:
        mean, std: of each colour, for values in [0, 1].
        tensor_shape: how mean and std lie against the last axes of the frames: [3, 1, 1] for [..., 3, H, W], [3, 1, 1, 1] for
            [..., 3, T, H, W], [1, 1, 1, 3] for [..., T, H, W, 3].
        inplace: only False. The reference takes mean and std in 0..255 where it is True.
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
                f"Normalization: {given}; expected one value per channel and a shape such as [3, 1, 1]"
            )
        if 0 in self.std:
            raise ValueError(
                f"Normalization: std is {list(self.std)}; a channel would be divided by 0"
            )
        if self.inplace:
            raise ValueError(
                "Normalization: inplace: True is not supported; leave it out and give mean and std in [0, 1]"
            )

    def __call__(self, sample: Sample, rng=None) -> Sample:
        frames = sample["frames"]
        axis = frames.ndim - len(self.tensor_shape) + int(np.argmax(self.tensor_shape))
        if axis < 0 or frames.shape[axis] != len(self.mean):
            raise ValueError(
                f"Normalization: frames are {list(frames.shape)}, tensor_shape {list(self.tensor_shape)} expects "
                f"{len(self.mean)} channels at axis {axis - frames.ndim}; is '- Image2Array' before it?"
            )
        if frames.dtype == np.uint8:
            return with_frames(sample, self._by_table(frames, axis))
        mean, std = (values.reshape(self.tensor_shape) for values in self._float32())
        return with_frames(sample, (frames.astype(np.float32) / np.float32(255) - mean) / std)

    def _float32(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)

    def on_device(self, sample: Sample) -> Sample:
        """The same arithmetic on paddle tensors, where they are: [..., 3, H, W] (or as tensor_shape says) -> float32."""
        import paddle  # the workers that decode have no use for it

        frames = sample["frames"]
        mean, std = (
            paddle.to_tensor(v.reshape(self.tensor_shape), place=frames.place)
            for v in self._float32()
        )
        return with_frames(sample, (frames.astype("float32") / 255 - mean) / std)

    def _by_table(self, frames: np.ndarray, axis: int) -> np.ndarray:
        """A byte has 256 values: compute those, look the rest up. The same numbers as pixel by pixel, several times as fast."""
        steps = np.arange(256, dtype=np.float32)
        tables = [
            (steps / np.float32(255) - mean) / std
            for mean, std in zip(*self._float32(), strict=True)
        ]
        out = np.empty(frames.shape, np.float32)
        # With the colours last, an image of either layout is [A, B, C]; its planes are cut out before the look-up.
        images, targets = np.moveaxis(frames, axis, -1), np.moveaxis(out, axis, -1)
        for at in np.ndindex(images.shape[:-3]):
            image = images[at]
            planes = cv2.split(image) if image.strides[-1] == 1 else np.moveaxis(image, -1, 0)
            for c, plane in enumerate(planes):
                targets[at][..., c] = cv2.LUT(np.ascontiguousarray(plane), tables[c])
        return out
