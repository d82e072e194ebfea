"""Overlapping windows of a model of single frames: each frame goes through the network once.

The logits of a clip are the mean of those of its frames (`Manifest.frame_logits`). So the logits of
a frame serve all windows that sample it. Windows sample the same frames only if their distance fits
the distance of the sampled frames; `fitting_grid` chooses such distances.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from paddlevideo.data.pipeline import FrameSampler
from paddlevideo.predict.feed import Feed
from paddlevideo.runtimes.base import Backend
from paddlevideo.sample import Arrays

NUM_WINDOWS = 64  # whose frames are counted for an estimate
GOOD = 1.35  # times the frames of windows without overlap: no better grid is sought
WORTH = 0.75  # of the frames that the asked windows need: a grid must save a quarter
MAX_FRAMES = 3  # by which windows become longer or shorter
MAX_SHARE = 0.08  # of a window, by which it becomes longer or shorter
NUM_KEPT = 4096  # frames whose logits are kept, at least


@dataclass(frozen=True)
class Grid:
    """Windows in whole frames.

    Args:
        step: windows begin at multiples of this number of frames.
        num_frames: of a window.
        stride: frames from a window to the next one, before rounding to multiples of `step`.
        cost: frames that go through the network, divided by those of windows without overlap.
    """

    step: int
    num_frames: int
    stride: float
    cost: float

    def start(self, number: int) -> int:
        """The first frame of a window, counted from 0 as the windows are."""
        return round(number * self.stride / self.step) * self.step


def fitting_grid(sampler: FrameSampler, window: float, stride: float, fps: float) -> Grid | None:
    """The grid nearest to the asked windows on which they share most of their frames.

    Windows begin at most half a step, which is at most half a stride, from where they were asked
    for, and are at most MAX_FRAMES and MAX_SHARE longer or shorter.

    Args:
        sampler: of the pipeline; it draws nothing.
        window, stride: as asked (s).
        fps: frames per second.

    Returns:
        None where the asked windows share frames well, or no grid is much better.
    """
    asked, frames = stride * fps, round(window * fps)
    if asked < 1 or frames < 1:
        return None
    starts = np.ceil(np.arange(NUM_WINDOWS) * asked - 1e-6).astype(int)
    as_asked = _cost(sampler, frames, fps, starts)
    if as_asked <= GOOD:
        return None
    most = min(MAX_FRAMES, int(MAX_SHARE * frames))
    best = None
    for change in sorted(range(-most, most + 1), key=abs):
        for step in range(1, int(asked) + 1):
            grid = Grid(step, frames + change, asked, np.inf)
            starts = np.array([grid.start(number) for number in range(NUM_WINDOWS)])
            cost = _cost(sampler, grid.num_frames, fps, starts)
            if best is None or cost < best.cost:
                best = Grid(step, grid.num_frames, asked, cost)
            if cost <= GOOD:
                return best
    return best if best and best.cost <= WORTH * as_asked else None


def _cost(sampler: FrameSampler, num_frames: int, fps: float, starts: np.ndarray) -> float:
    """Frames that windows sample together, per time, divided by those without overlap."""
    sampled = np.unique(sampler(num_frames, fps, np.random.default_rng(0)))
    distinct = len(np.unique(starts[:, None] + sampled))
    return float(distinct / (starts[-1] + num_frames) / (len(sampled) / num_frames))


class SharedFrames:
    """Runs clips as the network does, with the logits of frames that it has seen.

    A frame is known by its pixels as the network gets them, so that crops, repeated frames and
    still images count, too.

    Args:
        clips_per_run: clips in one run of the network.
    """

    def __init__(self, feed: Feed, backend: Backend, clips_per_run: int):
        self._feed, self._backend, self._clips = feed, backend, clips_per_run
        (self._name,) = feed.batch_specs
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def run(self, arrays: Arrays) -> np.ndarray:
        """Logits float32 [n, K] of clips [n, S, ...], which `finish` has not changed yet."""
        clips = np.asarray(arrays[self._name])
        keys = [[_key(frame) for frame in clip] for clip in clips]
        missing: dict[bytes, np.ndarray] = {}
        for clip, own in zip(clips, keys, strict=True):
            for frame, key in zip(clip, own, strict=True):
                if key in self._known:
                    self._known.move_to_end(key)
                else:
                    missing[key] = frame
        self._compute(missing, clips.shape[1])
        logits = np.stack(
            [np.stack([self._known[key] for key in own]).mean(axis=0) for own in keys]
        )
        while len(self._known) > max(NUM_KEPT, 4 * sum(map(len, keys))):
            self._known.popitem(last=False)
        return logits

    def _compute(self, missing: dict[bytes, np.ndarray], length: int) -> None:
        """Run frames in clips of the program's length; the last frame fills up the last clip."""
        keys, frames = list(missing), list(missing.values())
        step = self._clips * length
        for first in range(0, len(keys), step):
            part = frames[first : first + step]
            filled = part + part[-1:] * (-len(part) % length)
            clips = np.stack(filled).reshape(-1, length, *filled[0].shape)
            logits = self._backend.run_frames(self._feed.arrays({self._name: clips}))
            rows = logits.reshape(-1, logits.shape[-1])
            self._known.update(zip(keys[first : first + step], rows, strict=False))


def _key(frame: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
