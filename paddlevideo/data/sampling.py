"""Which frames of a video to look at: pure integers, no decoding.

A sampler is called with the number of frames that a video has and returns frame numbers, counted from 0, all of which exist.
Segments as in Temporal Segment Networks (Wang et al., ECCV 2016); the rules below are PaddleVideo's, number for number.
"""

from dataclasses import dataclass

import numpy as np

from paddlevideo.registry import register

DENSE_WINDOW = 64  # frames that a dense clip spans
DENSE_CLIPS = 10  # dense clips of a video in validation and test


@register("sample", ignores={"use_pil": "frames are always RGB arrays; each transform chooses its own backend"})
@dataclass(frozen=True)
class Sampler:
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
            raise ValueError(f"Sampler: a dense clip spans {DENSE_WINDOW} frames, num_seg is {self.num_seg}; lower num_seg")

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
        return (clips[:, None] + np.arange(self.num_seg) * (DENSE_WINDOW // self.num_seg)).reshape(-1)

    def _frame_interval(self, total: int, rng) -> np.ndarray:
        segments = np.arange(self.num_seg)
        span = self.seg_len * (self.frame_interval or 1)
        room = total - span + 1  # places where a whole segment fits
        if self.valid_mode:
            return segments * (room / self.num_seg) + room / self.num_seg / 2 if room > 0 else 0 * segments
        avg = room // self.num_seg
        if avg > 0:
            return segments * avg + rng.integers(0, avg, size=self.num_seg)
        if total > max(self.num_seg, span):
            return np.sort(rng.integers(0, room, size=self.num_seg))
        return np.round(segments * (room / self.num_seg)) if room > 0 else 0 * segments
