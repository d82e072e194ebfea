"""A sampler for short recordings of one action: most of the video, in evenly spaced frames."""

from dataclasses import dataclass, replace

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import FrameSampler
from paddlevideo.sample import ClipShape


@register("sample")
@dataclass(frozen=True)
class SpanSampler(FrameSampler):
    """Samples evenly spaced frames of a part of the video, whose length is a share of the video's.

    A clip of a short recording of one action should contain most of the action, however long it
    takes. With N frames, a part of L = share * N frames begins at s; the frames are num_frames
    points from s to s + L - 1, rounded down:

    | mode       | share                    | s, with room = N - L                    |
    | ---        | ---                      | ---                                     |
    | train      | random in [min_share, 1] | random in [0, room)                     |
    | valid_mode | 1                        | 0                                       |
    | test_mode  | 1, then min_share        | 0, then evenly spaced from 0 to room    |

    Frames are repeated where the video has fewer than num_frames.

    Args:
        num_frames: frames of a clip.
        min_share: shortest part, as a share of the video.
        valid_mode: sample one clip of the complete video, the same each time.
        test_mode: sample num_ensemble_views clips, the same each time.
        num_ensemble_views: clips of a test: the complete video, then shorter parts.

    Raises:
        ValueError: a number is out of range, or modes contradict each other.
    """

    num_frames: int
    min_share: float = 0.6
    valid_mode: bool = False
    test_mode: bool = False
    num_ensemble_views: int = 1

    def __post_init__(self):
        for key in ("num_frames", "num_ensemble_views"):
            if getattr(self, key) < 1:
                raise ValueError(f"SpanSampler: {key} is {getattr(self, key)}, expected at least 1")
        if not 0 < self.min_share <= 1:
            raise ValueError(
                f"SpanSampler: min_share is {self.min_share}, expected above 0, up to 1"
            )
        if self.test_mode and self.valid_mode:
            raise ValueError(
                "SpanSampler: test_mode and valid_mode are both set; remove one of them"
            )
        if self.num_ensemble_views > 1 and not self.test_mode:
            raise ValueError(
                f"SpanSampler: num_ensemble_views is {self.num_ensemble_views}, but only a test "
                "samples several clips; set test_mode: True"
            )

    @property
    def random(self) -> bool:
        """Whether the sampler draws from the generator."""
        return not (self.test_mode or self.valid_mode)

    @property
    def num_views(self) -> int:
        """Clips of a video."""
        return self.num_ensemble_views

    def single_view(self) -> "SpanSampler":
        """The same sampler with one clip per video."""
        return replace(self, num_ensemble_views=1)

    def at(self, shape: ClipShape) -> "SpanSampler":
        """The same sampler for clips of another number of frames."""
        return replace(self, num_frames=shape.num_frames)

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Return the frame numbers of all clips, one clip after the other.

        Args:
            num_frames: frames of the video, N, at least 1.
            fps: not used.
            rng: used only if `random` is true.

        Returns:
            int64 [num_views * self.num_frames], in [0, num_frames).

        Raises:
            ValueError: the video has no frame.
        """
        if num_frames < 1:
            raise ValueError(f"SpanSampler: the video has {num_frames} frames, expected at least 1")
        points = []
        for share, place in self._parts(rng):
            length = share * num_frames
            start = (num_frames - length) * place
            points.append(np.linspace(start, start + max(length - 1, 0), self.num_frames))
        return np.concatenate(points).astype(np.int64).clip(0, num_frames - 1)

    def _parts(self, rng: np.random.Generator) -> list[tuple[float, float]]:
        """(share of the video, place in it from 0 to 1) of each clip."""
        if self.random:
            return [(rng.uniform(self.min_share, 1), rng.uniform())]
        num_parts = self.num_ensemble_views - 1
        places = [k / (num_parts - 1) if num_parts > 1 else 0.5 for k in range(num_parts)]
        return [(1.0, 0.0), *((self.min_share, place) for place in places)]
