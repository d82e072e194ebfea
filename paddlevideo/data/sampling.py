"""Samplers: which frames of a video a clip has. They compute integers and decode nothing.

A sampler is called with the number of frames of a video and returns frame numbers, counted from 0,
all of which exist. Segments follow Temporal Segment Networks (Wang et al., ECCV 2016), dense clips
follow SlowFast (Feichtenhofer et al., ICCV 2019). The numbers equal those of PaddleVideo, except
where a docstring states a difference.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.data.pipeline import FrameSampler
from paddlevideo.sample import ClipShape

DENSE_WINDOW = 64  # frames that a dense clip spans
DENSE_CLIPS = 10  # dense clips of a video in validation and test


@register(
    "sample",
    ignores={"use_pil": "frames are always RGB arrays; each transform has its own backend"},
)
@dataclass(frozen=True)
class Sampler(FrameSampler):
    """Samples `num_seg` segments spread over the video, `seg_len` consecutive frames of each.

    With N frames, avg = N // num_seg, and i = 0 .. num_seg - 1, the first frame of segment i is

    | mode            | valid_mode True                   | valid_mode False                       |
    | ---             | ---                               | ---                                    |
    | default         | (avg - 1) // 2 + i * avg          | i * avg + random in [0, avg - seg_len] |
    | - avg < seg_len | i * avg; i if avg is 0            | the same                               |
    | select_left     | int(d * i + d / 2), d = N/num_seg | i * avg + random in [0, avg - 1]       |
    | - few frames    | 0 if N <= num_seg                 | 0 if avg is 0                          |
    | linspace        | num_seg points from 0 to N - 1    | the same                               |
    | dense           | s + i * (64 // num_seg)           | the same                               |
    | - clips, s      | 10, s from 0 to N - 64            | 1, s random in [0, N - 65]             |
    | frame_interval  | int(i * a + a / 2)                | floor(a) * i + random                  |

    where linspace and dense are linspace_sample and dense_sample, and a segment with frame_interval
    k has frames k apart and a = (N - seg_len * k + 1) / num_seg. Numbers past the end wrap around
    to the beginning. If several modes are set, the first one of frame_interval, linspace_sample,
    select_left, dense_sample applies. The reference asks for missing or wrong frames in three
    cases, where this sampler differs: frame folders wrap around as videos do, dense clips of a
    video are not shifted by one frame, and select_left reads frame 0 if there are too few frames.

    Args:
        num_seg: segments of a video.
        seg_len: frames of a segment; 1 in the modes linspace_sample, select_left and dense_sample.
        frame_interval: distance of a segment's frames (frames); None for consecutive ones.
        valid_mode: sample the same frames each time; False draws them (training).
        select_left, linspace_sample, dense_sample: the mode, see above.

    Raises:
        ValueError: a size is below 1, or the mode cannot use it.
    """

    num_seg: int
    seg_len: int
    frame_interval: int | None = None
    valid_mode: bool = False
    select_left: bool = False
    dense_sample: bool = False
    linspace_sample: bool = False

    def __post_init__(self):
        for key in ("num_seg", "seg_len", "frame_interval"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"Sampler: {key} is {value}, expected at least 1")
        if self.seg_len > 1 and self.mode not in ("default", "frame_interval"):
            raise ValueError(
                f"Sampler: {self.mode} samples one frame per segment, but seg_len is "
                f"{self.seg_len}; set seg_len: 1 and raise num_seg, or use frame_interval"
            )
        if self.mode == "dense_sample" and self.num_seg > DENSE_WINDOW:
            raise ValueError(
                f"Sampler: a dense clip spans {DENSE_WINDOW} frames, but num_seg is "
                f"{self.num_seg}; lower num_seg"
            )

    @property
    def mode(self) -> str:
        """The mode that applies."""
        if self.frame_interval is not None:
            return "frame_interval"
        for key in ("linspace_sample", "select_left", "dense_sample"):
            if getattr(self, key):
                return key
        return "default"

    @property
    def random(self) -> bool:
        """Whether the sampler draws from the generator."""
        return not self.valid_mode and self.mode != "linspace_sample"

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.num_seg * self.seg_len

    @property
    def num_views(self) -> int:
        """Clips of a video; more than one only for dense sampling in valid_mode."""
        return DENSE_CLIPS if self.mode == "dense_sample" and self.valid_mode else 1

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Return the frame numbers of all clips, one segment after the other.

        Args:
            num_frames: frames of the video, at least 1.
            fps: not used.
            rng: used only if `random` is true.

        Returns:
            int64 [num_views * num_seg * seg_len], in [0, num_frames).

        Raises:
            ValueError: the video has no frame.
        """
        if num_frames < 1:
            raise ValueError(f"Sampler: the video has {num_frames} frames, expected at least 1")
        starts = getattr(self, f"_{self.mode}")(num_frames, rng)
        within = np.arange(self.seg_len) * (self.frame_interval or 1)
        return ((starts.astype(np.int64)[:, None] + within) % num_frames).reshape(-1)

    def _default(self, total: int, rng) -> np.ndarray:
        avg = total // self.num_seg
        first = np.arange(self.num_seg) * max(avg, 1)
        if avg < self.seg_len:
            return first
        if self.valid_mode:
            return first + (avg - 1) // 2
        return first + rng.integers(0, avg - self.seg_len, size=self.num_seg, endpoint=True)

    def _select_left(self, total: int, rng) -> np.ndarray:
        segments = np.arange(self.num_seg)
        avg = total // self.num_seg
        if self.valid_mode:
            width = total / self.num_seg
            return width / 2 + width * segments if total > self.num_seg else 0 * segments
        return segments * avg + rng.integers(0, avg, size=self.num_seg) if avg else 0 * segments

    def _linspace_sample(self, total: int, rng) -> np.ndarray:
        return np.linspace(0, total - 1, self.num_seg)

    def _dense_sample(self, total: int, rng) -> np.ndarray:
        last = max(0, total - DENSE_WINDOW)
        if self.valid_mode:
            clips = np.linspace(0, last, DENSE_CLIPS, dtype=np.int64)
        else:
            clips = np.array([rng.integers(0, last) if last else 0])
        within = np.arange(self.num_seg) * (DENSE_WINDOW // self.num_seg)
        return (clips[:, None] + within).reshape(-1)

    def _frame_interval(self, total: int, rng) -> np.ndarray:
        segments = np.arange(self.num_seg)
        span = self.seg_len * (self.frame_interval or 1)
        num_starts = total - span + 1  # first frames with which a complete segment fits
        width = num_starts / self.num_seg
        if self.valid_mode:
            return segments * width + width / 2 if num_starts > 0 else 0 * segments
        avg = num_starts // self.num_seg
        if avg > 0:
            return segments * avg + rng.integers(0, avg, size=self.num_seg)
        if total > max(self.num_seg, span):
            return np.sort(rng.integers(0, num_starts, size=self.num_seg))
        return np.round(segments * width) if num_starts > 0 else 0 * segments


@register(
    "sample",
    ignores={"default_sampling_rate": "the plan made from MULTIGRID sets the rates of each phase"},
)
@dataclass(frozen=True)
class DecodeSampler(FrameSampler):
    """Samples clips of evenly spaced frames: one clip, or several spread over the video.

    A clip spans L = num_frames * sampling_rate * fps / target_fps frames of a video with N frames,
    so that it covers the same time at any frame rate. It begins at s. Its frames are num_frames
    points from s to s + L - 1, rounded down:

    | mode       | s, with room = max(N - L, 0)                                               |
    | ---        | ---                                                                        |
    | train      | random in [0, room)                                                        |
    | valid_mode | room / 2                                                                   |
    | test_mode  | room * k / num_ensemble_views for clip k; the last clip ends before N        |

    If a video is shorter than a clip, its last frame is repeated (the reference asks for a frame
    that does not exist). An unknown frame rate counts as target_fps, a variable one as its mean.

    Args:
        num_frames: frames of a clip.
        sampling_rate: distance of a clip's frames, in frames of a video with target_fps.
        target_fps: frames per second.
        test_mode: sample clips spread over the video, the same each time.
        valid_mode: sample one clip from the middle, the same each time.
        num_ensemble_views: clips of a test. If the config does not set it, the section of the data
            set may.
        max_sampling_rate: in training, draw the rate from sampling_rate .. max_sampling_rate, both
            included; None keeps sampling_rate.

    Raises:
        ValueError: a number is below 1, or modes contradict each other.
    """

    num_frames: int
    sampling_rate: int
    target_fps: float = 30
    test_mode: bool = False
    valid_mode: bool = False
    num_ensemble_views: int = 1
    max_sampling_rate: int | None = None

    def __post_init__(self):
        for key in ("num_frames", "sampling_rate", "num_ensemble_views"):
            if getattr(self, key) < 1:
                raise ValueError(
                    f"DecodeSampler: {key} is {getattr(self, key)}, expected at least 1"
                )
        if not (self.target_fps > 0 and math.isfinite(self.target_fps)):
            raise ValueError(
                f"DecodeSampler: target_fps is {self.target_fps}, "
                "expected frames per second above 0"
            )
        if self.test_mode and self.valid_mode:
            raise ValueError(
                "DecodeSampler: test_mode and valid_mode are both set; remove test_mode for the "
                "middle clip, or valid_mode for clips spread over the video"
            )
        if self.num_ensemble_views > 1 and not self.test_mode:
            raise ValueError(
                f"DecodeSampler: num_ensemble_views is {self.num_ensemble_views}, but only a test "
                "samples several clips; set test_mode: True"
            )
        if self.max_sampling_rate is not None and self.max_sampling_rate < self.sampling_rate:
            raise ValueError(
                f"DecodeSampler: max_sampling_rate is {self.max_sampling_rate}, "
                f"below sampling_rate, which is {self.sampling_rate}"
            )

    @property
    def random(self) -> bool:
        """Whether the sampler draws from the generator."""
        return not (self.test_mode or self.valid_mode)

    @property
    def num_views(self) -> int:
        """Clips of a video."""
        return self.num_ensemble_views

    @property
    def seconds(self) -> float | None:
        """Duration of a clip; None if its rate is drawn."""
        if self.max_sampling_rate:
            return None
        return self.num_frames * self.sampling_rate / self.target_fps

    def single_view(self) -> "DecodeSampler":
        """The same sampler with one clip per video."""
        return replace(self, num_ensemble_views=1)

    def at(self, shape: ClipShape) -> "DecodeSampler":
        """The same sampler for clips of another shape."""
        smallest, largest = shape.stride
        return replace(
            self,
            num_frames=shape.num_frames,
            sampling_rate=smallest,
            max_sampling_rate=None if smallest == largest else largest,
        )

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Return the frame numbers of all clips, one clip after the other.

        Args:
            num_frames: frames of the video, N, at least 1.
            fps: its mean frames per second; 0.0 if unknown.
            rng: used only if `random` is true.

        Returns:
            int64 [num_views * self.num_frames], in [0, num_frames).

        Raises:
            ValueError: the video has no frame.
        """
        if num_frames < 1:
            raise ValueError(
                f"DecodeSampler: the video has {num_frames} frames, expected at least 1"
            )
        rate = self.sampling_rate
        if self.random and self.max_sampling_rate is not None:
            rate = int(rng.integers(rate, self.max_sampling_rate, endpoint=True))
        fps = fps if fps > 0 and math.isfinite(fps) else self.target_fps
        span = self.num_frames * rate * fps / self.target_fps
        room = max(num_frames - span, 0.0)
        if self.test_mode:
            starts = [room * k / self.num_ensemble_views for k in range(self.num_ensemble_views)]
        else:
            starts = [room / 2 if self.valid_mode else rng.uniform(0, room)]
        length = max(span - 1, 0)
        points = [np.linspace(start, start + length, self.num_frames) for start in starts]
        return np.concatenate(points).astype(np.int64).clip(0, num_frames - 1)
