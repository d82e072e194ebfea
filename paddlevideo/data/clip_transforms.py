"""Transforms of the SlowFast configs: scale jittering, and the frames of both pathways.

The contract is `data.pipeline.Transform`. Sizes and rounding are PaddleVideo's, so that released
weights see the pixels they were trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import Transform
from paddlevideo.data.transforms import check_sizes, make_resize, with_frames
from paddlevideo.sample import ClipShape, Sample

_SET_BY_PLAN = "the plan made from MULTIGRID sets the sizes of each phase"


@register(
    "transform",
    ignores={"short_cycle_factors": _SET_BY_PLAN, "default_min_size": _SET_BY_PLAN},
)
@dataclass(frozen=True)
class JitterScale(Transform):
    """Resizes a clip with pillow so that its short side has a random size, one for all frames.

    Args:
        min_size, max_size: limits of the short side (pixels), both included.
    """

    min_size: int
    max_size: int

    @property
    def random(self) -> bool:
        return self.min_size != self.max_size

    def __post_init__(self):
        check_sizes("JitterScale", min_size=self.min_size)
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
        """Draw the size of one clip; return the function that resizes its frames.

        The function takes uint8 [..., H, W, 3] and draws nothing.
        """
        short = round(rng.uniform(self.min_size, self.max_size)) if self.random else self.min_size

        def size_for(width: int, height: int) -> tuple[int, int]:
            if min(width, height) == short:
                return width, height
            if width < height:
                return short, int(height / width * short)
            return int(width / height * short), short

        return make_resize(size_for, "pillow")


@register("transform")
@dataclass(frozen=True)
class PackOutput(Transform):
    """Replaces `frames` by the inputs of both pathways, `slow` and `fast`.

    frames [..., T, H, W, 3] -> fast [..., 3, T, H, W] and slow [..., 3, T / alpha, H, W]. The slow
    pathway gets frames int(linspace(0, T - 1, T / alpha)), so the first and the last among them.

    Args:
        alpha: fast frames per slow frame.
    """

    alpha: int

    on_batch: ClassVar[bool] = True

    def __post_init__(self):
        if self.alpha < 1:
            raise ValueError(f"PackOutput: alpha is {self.alpha}, expected at least 1")

    def slow_numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        """Frame numbers of the slow pathway, int64 [T / alpha].

        Args:
            shape: of the frames, [..., T, H, W, 3].

        Raises:
            ValueError: alpha does not divide T, or the axes are different.
        """
        if len(shape) < 4 or shape[-1] != 3:
            raise ValueError(
                f"PackOutput takes frames [..., T, H, W, 3], these are {list(shape)}; "
                "put '- Image2Array: {transpose: False}' before it"
            )
        num_frames = shape[-4]
        if num_frames % self.alpha:
            fitting = max(1, round(num_frames / self.alpha)) * self.alpha
            raise ValueError(
                f"alpha {self.alpha} does not divide {num_frames} frames; "
                f"set num_frames to {fitting} or another alpha"
            )
        return np.linspace(0, num_frames - 1, num_frames // self.alpha).astype(np.int64)

    def __call__(self, sample: Sample, rng=None) -> Sample:
        frames = sample["frames"]
        numbers = self.slow_numbers(tuple(frames.shape))
        return self._pathways(sample, np.take(frames, numbers, len(frames.shape) - 4))

    def on_device(self, sample: Sample) -> Sample:
        """`__call__` for Paddle tensors, on their device."""
        import paddle  # decoding workers must not load it

        frames = sample["frames"]
        axis, numbers = len(frames.shape) - 4, self.slow_numbers(tuple(frames.shape))
        # Slices: a list of numbers would be copied from the host, and a GPU would wait for it.
        every = [slice(None)] * axis
        slow = [frames[(*every, slice(i, i + 1))] for i in numbers.tolist()]
        return self._pathways(sample, paddle.concat(slow, axis))

    def _pathways(self, sample: Sample, slow) -> Sample:
        frames = sample["frames"]
        n = len(frames.shape)
        moved = [*range(n - 4), n - 1, n - 4, n - 3, n - 2]
        others = {key: value for key, value in sample.items() if key != "frames"}
        return {**others, "slow": slow.transpose(moved), "fast": frames.transpose(moved)}
