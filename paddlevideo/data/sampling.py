"""Which frames of a video to look at: pure integers, no decoding.

A sampler is called with the number of frames that a video has and returns frame numbers, counted from 0, all of which exist.
Segments as in Temporal Segment Networks (Wang et al., ECCV 2016), dense clips as in SlowFast (Feichtenhofer et al., ICCV 2019);
the rules below are PaddleVideo's, number for number.
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
    ignores={"use_pil": "frames are always RGB arrays; each transform chooses its own backend"},
)
@dataclass(frozen=True)
class Sampler(FrameSampler):
    """`num_seg` places spread over the video, `seg_len` consecutive frames at each.

    With N frames, avg = N // num_seg, and i = 0 .. num_seg - 1, the first frame of segment i is

    | mode              | valid_mode True                             | valid_mode False                          |
    | ---               | ---                                         | ---                                       |
    | default           | (avg - 1) // 2 + i * avg                    | i * avg + random in [0, avg - seg_len]    |
    |                   | i * avg where avg < seg_len; i where avg is 0                                           |
    | select_left       | int(d / 2 + d * i), d = N / num_seg;        | i * avg + random in [0, avg - 1];         |
    |                   | 0 where N <= num_seg                        | 0 where avg is 0                          |
    | linspace_sample   | num_seg points from 0 to N - 1, both ends included                                      |
    | dense_sample      | s + i * (64 // num_seg): 10 clips, s from   | the same, one clip, s random in           |
    |                   | 0 to N - 64                                 | [0, N - 65]                               |
    | frame_interval k  | int(i * a + a / 2), a = (N - seg_len * k + 1) / num_seg; frames k apart  | floor(a) * i + random |

    Numbers past the end wrap around to the beginning. Where several modes are set the first of frame_interval, linspace_sample,
    select_left, dense_sample holds. In three places the reference asks for frames that do not exist or for the wrong ones, and
    this does not: frame folders wrap as videos do, dense clips of a video are not shifted by one frame, and select_left reads
    frame 0 where there are too few.

    Args:
        num_seg: segments of a video.
        seg_len: frames of a segment; 1 in the modes linspace_sample, select_left and dense_sample.
        frame_interval: distance of a segment's frames (frames); None for consecutive ones.
        valid_mode: the same frames each time; False draws them (training).
        select_left, linspace_sample, dense_sample: the mode, see above.

    Raises:
        ValueError: a size below 1, or one that the mode cannot use.
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
                f"Sampler: {self.mode} takes one frame of each segment, but seg_len is {self.seg_len}; "
                f"set seg_len: 1 and raise num_seg, or use frame_interval"
            )
        if self.mode == "dense_sample" and self.num_seg > DENSE_WINDOW:
            raise ValueError(
                f"Sampler: a dense clip spans {DENSE_WINDOW} frames, num_seg is {self.num_seg}; lower num_seg"
            )

    @property
    def mode(self) -> str:
        if self.frame_interval is not None:
            return "frame_interval"
        for key in ("linspace_sample", "select_left", "dense_sample"):
            if getattr(self, key):
                return key
        return "default"

    @property
    def random(self) -> bool:
        """Whether it draws from the generator."""
        return not self.valid_mode and self.mode != "linspace_sample"

    @property
    def num_frames(self) -> int:
        """Frames of one view."""
        return self.num_seg * self.seg_len

    @property
    def num_views(self) -> int:
        """Clips cut from a video; more than one only for dense sampling in valid_mode."""
        return DENSE_CLIPS if self.mode == "dense_sample" and self.valid_mode else 1

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Frame numbers int64 [num_views * num_seg * seg_len] in [0, num_frames), segment by segment.

        Args:
            num_frames: frames of the video, at least 1.
            fps: frames per second; segment sampling does not depend on it.
            rng: drawn from only where `random` says so.

        Raises:
            ValueError: the video has no frame.
        """
        if num_frames < 1:
            raise ValueError(f"Sampler: the video has {num_frames} frames, at least 1 is needed")
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
        return (clips[:, None] + np.arange(self.num_seg) * (DENSE_WINDOW // self.num_seg)).reshape(
            -1
        )

    def _frame_interval(self, total: int, rng) -> np.ndarray:
        segments = np.arange(self.num_seg)
        span = self.seg_len * (self.frame_interval or 1)
        room = total - span + 1  # places where a whole segment fits
        if self.valid_mode:
            return (
                segments * (room / self.num_seg) + room / self.num_seg / 2
                if room > 0
                else 0 * segments
            )
        avg = room // self.num_seg
        if avg > 0:
            return segments * avg + rng.integers(0, avg, size=self.num_seg)
        if total > max(self.num_seg, span):
            return np.sort(rng.integers(0, room, size=self.num_seg))
        return np.round(segments * (room / self.num_seg)) if room > 0 else 0 * segments


@register(
    "sample",
    ignores={"default_sampling_rate": "the plan made from MULTIGRID says the rates of each phase"},
)
@dataclass(frozen=True)
class DecodeSampler(FrameSampler):
    """A clip of frames that are evenly apart, or several clips spread over the video.

    A clip spans L = num_frames * sampling_rate * fps / target_fps frames of a video with N frames, so that it shows the same
    time at any frame rate. It begins at s, and its frames are the whole parts of num_frames numbers from s to s + L - 1:

    | mode       | s, with room = max(N - L, 0)                                                |
    | ---        | ---                                                                         |
    | train      | drawn from [0, room)                                                        |
    | valid_mode | room / 2                                                                    |
    | test_mode  | room * k / num_ensemble_views for clip k; the last one ends before the end  |

    Where a video is shorter than a clip its last frame is repeated (the reference asks for a frame that is not there). A video
    of unknown frame rate counts as one of target_fps; a rate that varies counts as its mean.

    Args:
        num_frames: frames of a clip.
        sampling_rate: distance of a clip's frames, in frames of a video with target_fps.
        target_fps: frames per second.
        test_mode: clips spread over the video, the same each time.
        valid_mode: one clip from the middle, the same each time.
        num_ensemble_views: clips of a test. Where the config leaves it out, the data set's own number is taken.
        max_sampling_rate: in training, draw the rate from sampling_rate .. max_sampling_rate, both included; None for no draw.

    Raises:
        ValueError: a number below 1, or modes that contradict each other.
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
                f"DecodeSampler: target_fps is {self.target_fps}, expected frames per second above 0"
            )
        if self.test_mode and self.valid_mode:
            raise ValueError(
                "DecodeSampler: test_mode spreads clips over the video, valid_mode takes the middle one; keep one"
            )
        if self.num_ensemble_views > 1 and not self.test_mode:
            raise ValueError(
                f"DecodeSampler: {self.num_ensemble_views} ensemble views are a test's; set test_mode: True"
            )
        if self.max_sampling_rate is not None and self.max_sampling_rate < self.sampling_rate:
            raise ValueError(
                f"DecodeSampler: max_sampling_rate is {self.max_sampling_rate}, below the sampling_rate {self.sampling_rate}"
            )

    @property
    def random(self) -> bool:
        """Whether it draws from the generator."""
        return not (self.test_mode or self.valid_mode)

    @property
    def num_views(self) -> int:
        """Clips cut from a video."""
        return self.num_ensemble_views

    @property
    def seconds(self) -> float | None:
        """That a clip lasts, None where its rate is drawn."""
        return (
            None
            if self.max_sampling_rate
            else self.num_frames * self.sampling_rate / self.target_fps
        )

    def single_view(self) -> "DecodeSampler":
        return replace(self, num_ensemble_views=1)

    def at(self, shape: ClipShape) -> "DecodeSampler":
        """The same for clips of another shape."""
        slowest, fastest = shape.stride
        drawn = None if slowest == fastest else fastest
        return replace(
            self, num_frames=shape.num_frames, sampling_rate=slowest, max_sampling_rate=drawn
        )

    def __call__(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Frame numbers int64 [num_views * self.num_frames] in [0, num_frames), clip by clip.

        Args:
            num_frames: frames of the video, N, at least 1.
            fps: its mean frames per second; 0.0 where unknown.
            rng: drawn from only where `random` says so.

        Raises:
            ValueError: the video has no frame.
        """
        if num_frames < 1:
            raise ValueError(
                f"DecodeSampler: the video has {num_frames} frames, at least 1 is needed"
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
        places = [np.linspace(start, start + max(span - 1, 0), self.num_frames) for start in starts]
        return np.concatenate(places).astype(np.int64).clip(0, num_frames - 1)
