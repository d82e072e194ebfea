"""Transforms that crop frames to a square of `target_size` pixels.

The contract is `data.pipeline.Transform`. Sizes and rounding are PaddleVideo's, so that released
weights see the pixels they were trained on.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import Transform
from paddlevideo.data.transforms import Backend, check_sizes, flip, resize, with_frames
from paddlevideo.data.views import Views
from paddlevideo.sample import ClipShape, Sample

_SET_BY_PLAN = "the plan made from MULTIGRID sets the sizes of each phase"


def check_frame_size(name: str, frames, size: int) -> tuple[int, int]:
    """Return (height, width) of frames from which the transform `name` crops `size` pixels.

    Raises:
        ValueError: the frames are smaller.
    """
    height, width = frames.shape[-3:-1]
    if min(height, width) < size:
        raise ValueError(
            f"{name} needs frames of at least {size}x{size}, "
            f"these are {width}x{height} (width x height); "
            f"put '- Scale: {{short_size: {size}}}' (or larger) before it"
        )
    return height, width


@register("transform")
@dataclass(frozen=True)
class MultiScaleCrop(Transform):
    """Crops a random rectangle of the clip and resizes it to a square: TSN's scale jittering.

    Args:
        target_size: side of the result (pixels).
        scales: possible sides, as fractions of the short side; None for 1, 0.875, 0.75, 0.66.
        max_distort: largest distance between width and height in `scales`, counted in entries; 0
            crops squares only.
        fix_crop: draw the corner from a fixed set (4 corners and the center); False draws any
            location.
        allow_duplication: keep a corner that equals another one of the set, which is then drawn
            more often.
        more_fix_crop: add eight further corners to the set.
        backend: library that resizes the crop, pillow or cv2.
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
        check_sizes("MultiScaleCrop", target_size=self.target_size)
        invalid = [scale for scale in self.scales or () if not 0 < scale <= 1]
        if invalid:
            raise ValueError(
                f"MultiScaleCrop: scales has {invalid[0]}, "
                "expected fractions of the short side in (0, 1]"
            )

    def sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """The (width, height) pairs to draw from, in the reference's order."""
        short = min(width, height)
        sides = [max(1, int(short * scale)) for scale in self.scales or (1, 0.875, 0.75, 0.66)]
        # A side that nearly has the target size gets it, which saves the resize. It never exceeds
        # the frame.
        if self.target_size <= short:
            target = self.target_size
            sides = [target if abs(side - target) < 3 else side for side in sides]
        return [
            (w, h)
            for i, h in enumerate(sides)
            for j, w in enumerate(sides)
            if abs(i - j) <= self.max_distort
        ]

    def offsets(
        self, width: int, height: int, crop_width: int, crop_height: int
    ) -> list[tuple[float, float]]:
        """The upper left corners (x, y) to draw from, in the reference's order.

        Corners lie on a grid of quarters of the free space, so fractions of a pixel occur.
        """
        x, y = (width - crop_width) / 4, (height - crop_height) / 4
        # Grid positions, and whether each differs from those before it.
        corners = [((0, 0), True), ((4, 0), x), ((0, 4), y), ((4, 4), x and y), ((2, 2), x or y)]
        kept = [corner for corner, is_new in corners if is_new or self.allow_duplication]
        if self.more_fix_crop:
            kept += [(0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
        return [(i * x, j * y) for i, j in kept]

    @staticmethod
    def box(x: float, y: float, width: int, height: int) -> tuple[int, int, int, int]:
        """Pixel edges left, top, right, bottom of a crop.

        Each edge is rounded half to even by itself, as pillow does, so a side may differ by 1.
        """
        left, top = round(x), round(y)
        return left, top, max(round(x + width), left + 1), max(round(y + height), top + 1)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames = sample["frames"]
        height, width = frames.shape[-3:-1]
        pairs = self.sizes(width, height)
        crop_width, crop_height = pairs[rng.integers(len(pairs))]
        if self.fix_crop:
            corners = self.offsets(width, height, crop_width, crop_height)
            x, y = corners[rng.integers(len(corners))]
        else:
            x = rng.integers(0, width - crop_width, endpoint=True)
            y = rng.integers(0, height - crop_height, endpoint=True)
        left, top, right, bottom = self.box(x, y, crop_width, crop_height)
        crop = frames[..., top:bottom, left:right, :]
        if crop.shape[-3:-1] != (self.target_size, self.target_size):
            crop = resize(crop, self.target_size, self.target_size, self.backend)
        return with_frames(sample, crop)


@register("transform")
@dataclass(frozen=True)
class RandomCrop(Transform):
    """Crops `target_size` pixels at a random location, the same for all frames of the clip."""

    target_size: int

    random: ClassVar[bool] = True

    def __post_init__(self):
        check_sizes("RandomCrop", target_size=self.target_size)

    @property
    def crop_size(self) -> int:
        return self.target_size

    def at(self, shape: ClipShape) -> "RandomCrop":
        return RandomCrop(shape.crop_size)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames, size = sample["frames"], self.target_size
        height, width = check_frame_size("RandomCrop", frames, size)
        x, y = (rng.integers(0, n - size, endpoint=True) for n in (width, height))
        return with_frames(sample, frames[..., y : y + size, x : x + size, :])


@register("transform", ignores={"backend": "a crop has the same pixels with every backend"})
@dataclass(frozen=True)
class CenterCrop(Transform):
    """Crops the center.

    Args:
        target_size: side of the square (pixels).
        do_round: round the corner half to even instead of down.
    """

    target_size: int
    do_round: bool = True

    def __post_init__(self):
        check_sizes("CenterCrop", target_size=self.target_size)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames, size = sample["frames"], self.target_size
        height, width = check_frame_size("CenterCrop", frames, size)
        y, x = (
            round((n - size) / 2) if self.do_round else (n - size) // 2 for n in (height, width)
        )
        return with_frames(sample, frames[..., y : y + size, x : x + size, :])


@register("transform")
@dataclass(frozen=True)
class TenCrop(Transform):
    """Makes ten views: the four corners and the center, each also mirrored.

    frames [T, H, W, 3] -> [10, T, s, s, 3], in the order upper left, upper right, lower left, lower
    right, center; each crop is followed by its mirror image. Existing views stay in front:
    [V, T, H, W, 3] -> [V * 10, T, s, s, 3].
    """

    target_size: int

    views: ClassVar[int] = 10

    def __post_init__(self):
        check_sizes("TenCrop", target_size=self.target_size)

    def __call__(self, sample: Sample, rng) -> Sample:
        frames, size = sample["frames"], self.target_size
        height, width = check_frame_size("TenCrop", frames, size)
        x, y = (width - size) // 4, (height - size) // 4
        out = np.empty((*frames.shape[:-4], 10, frames.shape[-4], size, size, 3), np.uint8)
        for k, (i, j) in enumerate(((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))):
            crop = frames[..., j * y : j * y + size, i * x : i * x + size, :]
            out[..., 2 * k, :, :, :, :] = crop
            flip(crop, out[..., 2 * k + 1, :, :, :, :])
        return with_frames(sample, out.reshape(-1, *out.shape[-4:]))


@register("transform")
@dataclass(frozen=True)
class GroupFullResSample(Transform):
    """Makes three views, left, right and center, at half height, for tests of PP-TSM.

    frames [T, H, W, 3] -> [3, T, s, s, 3], or [6, T, s, s, 3] with `flip`, where each crop is
    followed by its mirror image. Existing views stay in front: [V, T, H, W, 3] ->
    [V * 3, T, s, s, 3]. The left edges are 0, 4 * ((W - s) // 4) and 2 * ((W - s) // 4), so the
    right crop may end up to 3 pixels before the border.

    Args:
        crop_size: s (pixels).
        flip: make the mirror images, too.
    """

    crop_size: int
    flip: bool = False

    def __post_init__(self):
        check_sizes("GroupFullResSample", crop_size=self.crop_size)

    @property
    def views(self) -> int:
        return 6 if self.flip else 3

    @property
    def supports_views(self) -> bool:
        return not self.flip

    def corners(self, width: int, height: int) -> list[tuple[int, int]]:
        """The (top, left) corners of the crops, in order (pixels)."""
        x, y = (width - self.crop_size) // 4, (height - self.crop_size) // 4
        return [(2 * y, 0), (2 * y, 4 * x), (2 * y, 2 * x)]

    def __call__(self, sample: Sample, rng) -> Sample:
        frames, size = sample["frames"], self.crop_size
        height, width = check_frame_size("GroupFullResSample", frames, size)
        corners = self.corners(width, height)
        if isinstance(frames, Views):
            return with_frames(sample, frames.crop(corners, size, size))
        crops = [frames[..., top : top + size, left : left + size, :] for top, left in corners]
        if self.flip:
            crops = [each for crop in crops for each in (crop, flip(crop))]
        out = np.stack(crops, -5)  # the crops of one clip are neighbors
        return with_frames(sample, out.reshape(-1, *out.shape[-4:]))


@register(
    "transform",
    ignores={"short_cycle_factors": _SET_BY_PLAN, "default_crop_size": _SET_BY_PLAN},
)
@dataclass(frozen=True)
class MultiCrop(Transform):
    """Crops a random location in training, and n squares that cover the long side in a test.

    frames [T, H, W, 3] -> [T, s, s, 3]; with n > 1, [n, T, s, s, 3]. Existing views stay in front:
    [V, T, H, W, 3] -> [V * n, T, s, s, 3]. The crops of a test are evenly spaced from one end of
    the long side to the other, and centered on the short side. A single crop is the center, where
    the reference fails.

    Args:
        target_size: s (pixels).
        test_mode: make the crops of a test; False crops a random location.
        num_spatial_crops: n. If the config does not set it, the section of the data set may.
    """

    target_size: int
    test_mode: bool = False
    num_spatial_crops: int = 1

    supports_views: ClassVar[bool] = True

    def __post_init__(self):
        check_sizes("MultiCrop", target_size=self.target_size)
        if self.num_spatial_crops < 1:
            raise ValueError(
                f"MultiCrop: num_spatial_crops is {self.num_spatial_crops}, expected at least 1"
            )
        if self.num_spatial_crops > 1 and not self.test_mode:
            raise ValueError(
                f"MultiCrop: num_spatial_crops is {self.num_spatial_crops}, but training makes one "
                "crop; set test_mode: True"
            )

    @property
    def random(self) -> bool:
        return not self.test_mode

    @property
    def views(self) -> int:
        return self.num_spatial_crops

    @property
    def crop_size(self) -> int:
        return self.target_size

    def at(self, shape: ClipShape) -> "MultiCrop":
        return replace(self, target_size=shape.crop_size)

    def corners(self, width: int, height: int) -> list[tuple[int, int]]:
        """The (top, left) corners of a test's crops, in order (pixels)."""
        size, count = self.target_size, self.num_spatial_crops
        short_offset = math.ceil((min(width, height) - size) / 2)
        room = max(width, height) - size
        if count == 1:
            long_offsets = [math.ceil(room / 2)]
        else:
            step = math.ceil(room / (count - 1))
            long_offsets = [min(step * k, room) for k in range(count - 1)] + [room]
        if height > width:
            return [(offset, short_offset) for offset in long_offsets]
        return [(short_offset, offset) for offset in long_offsets]

    def __call__(self, sample: Sample, rng) -> Sample:
        if not self.test_mode:
            return RandomCrop(self.target_size)(sample, rng)
        frames, size = sample["frames"], self.target_size
        height, width = check_frame_size("MultiCrop", frames, size)
        corners = self.corners(width, height)
        if isinstance(frames, Views):
            return with_frames(sample, frames.crop(corners, size, size))
        crops = [frames[..., top : top + size, left : left + size, :] for top, left in corners]
        if len(crops) == 1:
            return with_frames(sample, crops[0])
        out = np.stack(crops, -5)  # the crops of one clip are neighbors
        return with_frames(sample, out.reshape(-1, *out.shape[-4:]))
