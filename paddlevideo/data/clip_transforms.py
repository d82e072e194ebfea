"""What the SlowFast configs do to the frames of a clip; the contract is that of transforms.py.

Sizes and rounding are PaddleVideo's, so that released weights see the pixels they were trained on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import Transform
from paddlevideo.data.transforms import RandomCrop, need, positive, resizer, with_frames
from paddlevideo.data.views import Views
from paddlevideo.sample import ClipShape, Sample

_PLANNED = "the plan made from MULTIGRID says the sizes of each phase"


@register("transform", ignores={"short_cycle_factors": _PLANNED, "default_min_size": _PLANNED})
@dataclass(frozen=True)
class JitterScale(Transform):
    """Resize (pillow) so that the short side has a size drawn between `min_size` and `max_size` (pixels), one draw a clip."""

    min_size: int
    max_size: int

    @property
    def random(self) -> bool:
        return self.min_size != self.max_size

    def __post_init__(self):
        positive("JitterScale", min_size=self.min_size)
        if self.min_size > self.max_size:
            raise ValueError(
                f"JitterScale: min_size {self.min_size} is larger than max_size {self.max_size}"
            )

    def __call__(self, sample: Sample, rng) -> Sample:
        return with_frames(sample, self.frame_transform(rng)(sample["frames"]))

    @property
    def jitter(self) -> tuple[int, int]:
        return self.min_size, self.max_size

    def at(self, shape: ClipShape) -> "JitterScale":
        return JitterScale(*shape.jitter)

    def frame_transform(self, rng) -> Callable[[np.ndarray], np.ndarray]:
        """The resizing of all frames of one clip, uint8 [..., H, W, 3]; draws now, not when it is called."""
        short = round(rng.uniform(self.min_size, self.max_size)) if self.random else self.min_size

        def size(width: int, height: int) -> tuple[int, int]:
            if min(width, height) == short:
                return width, height
            return (
                (short, int(height / width * short))
                if width < height
                else (int(width / height * short), short)
            )

        return resizer(size, "pillow")


@register("transform", ignores={"short_cycle_factors": _PLANNED, "default_crop_size": _PLANNED})
@dataclass(frozen=True)
class MultiCrop(Transform):
    """Cut a square of `target_size` pixels at a random place, or, in a test, several that cover the long side.

    frames [T, H, W, 3] -> [T, s, s, 3]; with n > 1 crops [n, T, s, s, 3], and views that are there already stay in front:
    [V, T, H, W, 3] -> [V * n, T, s, s, 3]. The crops begin at one end of the long side, are evenly apart, and end at the other
    end; across it they are central. A single crop is the centre (the reference fails there).

    Args:
        target_size: s.
        test_mode: the crops of a test; False draws one.
        num_spatial_crops: n. Where the config leaves it out, the data set's own number is taken.
    """

    target_size: int
    test_mode: bool = False
    num_spatial_crops: int = 1

    supports_views: ClassVar[bool] = True

    def __post_init__(self):
        positive("MultiCrop", target_size=self.target_size)
        if self.num_spatial_crops < 1:
            raise ValueError(
                f"MultiCrop: num_spatial_crops is {self.num_spatial_crops}, expected at least 1"
            )
        if self.num_spatial_crops > 1 and not self.test_mode:
            raise ValueError(
                f"MultiCrop: {self.num_spatial_crops} spatial crops are those of a test; set test_mode: True"
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
        across, room = math.ceil((min(width, height) - size) / 2), max(width, height) - size
        if count == 1:
            along = [math.ceil(room / 2)]
        else:
            along = [min(math.ceil(room / (count - 1)) * k, room) for k in range(count - 1)] + [
                room
            ]
        return [(place, across) if height > width else (across, place) for place in along]

    def __call__(self, sample: Sample, rng) -> Sample:
        if not self.test_mode:
            return RandomCrop(self.target_size)(sample, rng)
        frames, size = sample["frames"], self.target_size
        height, width = need("MultiCrop", frames, size)
        corners = self.corners(width, height)
        if isinstance(frames, Views):
            return with_frames(sample, frames.crop(corners, size, size))
        cuts = [frames[..., top : top + size, left : left + size, :] for top, left in corners]
        if len(cuts) == 1:
            return with_frames(sample, cuts[0])
        out = np.stack(cuts, -5)  # the crops of a clip follow one another
        return with_frames(sample, out.reshape(-1, *out.shape[-4:]))


@register("transform")
@dataclass(frozen=True)
class PackOutput(Transform):
    """frames [..., T, H, W, 3] -> `fast` [..., 3, T, H, W] and `slow` [..., 3, T / alpha, H, W], which replace `frames`.

    The slow pathway's frames are spread from the first to the last: numbers int(linspace(0, T - 1, T / alpha)).

    Args:
        alpha: fast frames per slow frame.
    """

    alpha: int

    on_batch: ClassVar[bool] = True

    def __post_init__(self):
        if self.alpha < 1:
            raise ValueError(f"PackOutput: alpha is {self.alpha}, expected at least 1")

    def slow_numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        """Which frames of clips [..., T, H, W, 3] the slow pathway sees, int64 [T / alpha].

        Raises:
            ValueError: alpha does not divide T, or the axes are others.
        """
        if len(shape) < 4 or shape[-1] != 3:
            raise ValueError(
                f"PackOutput takes frames [..., T, H, W, 3], these are {list(shape)}; "
                "put '- Image2Array: {transpose: False}' before it"
            )
        length = shape[-4]
        if length % self.alpha:
            fitting = max(1, round(length / self.alpha)) * self.alpha
            raise ValueError(
                f"alpha {self.alpha} does not divide {length} frames; set num_frames to {fitting} or another alpha"
            )
        return np.linspace(0, length - 1, length // self.alpha).astype(np.int64)

    def __call__(self, sample: Sample, rng=None) -> Sample:
        return self.on_device(sample)

    def on_device(self, sample: Sample) -> Sample:
        """The same for paddle tensors, where they are."""
        frames = sample["frames"]
        n, numbers = len(frames.shape), self.slow_numbers(tuple(frames.shape))
        slow = frames[(*[slice(None)] * (n - 4), numbers.tolist())]
        moved = [*range(n - 4), n - 1, n - 4, n - 3, n - 2]
        others = {key: value for key, value in sample.items() if key != "frames"}
        return {**others, "slow": slow.transpose(moved), "fast": frames.transpose(moved)}
