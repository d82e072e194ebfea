"""Views of a multi-view test, cut from frames that they share.

Ten clips with three crops each show a pixel of a 10 s video several times over: 30 views of 32 frames of 256 x 256 pixels are
189 MB, the frames that they are cut from 65 MB. So those travel, each once, and views are cut when the model asks for them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Views:
    """Stands for uint8 [V, T, H, W, 3], the views of one video, or [N, V, T, H, W, 3] of a batch; slices are cut on demand.

    A video has C clips with the same K crops each; view `c * K + k` is crop k of clip c.

    Args:
        frames: of each video, uint8 [U, h, w, 3]: those that some clip needs, each once. Videos may differ in U, h and w.
        numbers: of each video, int64 [C, T]: which of its frames a clip has.
        corners: of each video, int64 [K, 2]: top and left edge of each crop (pixels).
        size: height and width of a crop (pixels).
        batched: whether the shape has the axis N.
    """

    frames: list[Any]
    numbers: list[np.ndarray]
    corners: list[np.ndarray]
    size: tuple[int, int]
    batched: bool = False

    dtype = np.dtype(np.uint8)

    @classmethod
    def of(cls, frames: np.ndarray, numbers: np.ndarray) -> "Views":
        """Clips of whole frames: uint8 [U, h, w, 3], int [C, T] -> views [C, T, h, w, 3]."""
        height, width = frames.shape[1:3]
        return cls(
            [frames], [np.asarray(numbers, np.int64)], [np.zeros((1, 2), np.int64)], (height, width)
        )

    @property
    def num_views(self) -> int:
        """V, of one video."""
        return len(self.numbers[0]) * len(self.corners[0])

    @property
    def shape(self) -> tuple[int, ...]:
        videos = len(self.frames)
        lead = (videos, self.num_views) if self.batched else (videos * self.num_views,)
        return (*lead, self.numbers[0].shape[1], *self.size, 3)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Of the frames, which is what it takes to hold the views."""
        return sum(frames.nbytes for frames in self.frames)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Views [v, T, H, W, 3] of consecutive rows; a batch is flattened by `reshape` first."""
        if self.batched or not isinstance(rows, slice):
            raise IndexError(
                f"views {list(self.shape)} are cut by slices of the first axis, after reshape where there are six"
            )
        chosen = range(*rows.indices(len(self)))
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        height, width = self.size
        for view, row in zip(out, chosen, strict=True):
            video, place = divmod(row, self.num_views)
            clip, crop = divmod(place, len(self.corners[video]))
            top, left = self.corners[video][crop]
            for t, number in enumerate(self.numbers[video][clip]):
                view[t] = self.frames[video][number, top : top + height, left : left + width]
        return out

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("views are cut from shared frames, which copies them")
        return (
            self.reshape(-1, *self.shape[-4:])[:]
            .reshape(self.shape)
            .astype(dtype or np.uint8, copy=False)
        )

    def reshape(self, *shape: int) -> "Views":
        """All views along one axis: [N, V, T, H, W, 3] -> [N * V, T, H, W, 3]; nothing else.

        Raises:
            ValueError: another shape.
        """
        flat = replace(self, batched=False)
        if shape not in (flat.shape, (-1, *flat.shape[1:])):
            raise ValueError(
                f"views {list(self.shape)} become {list(flat.shape)} only, not {list(shape)}"
            )
        return flat

    def crop(self, corners: list[tuple[int, int]], height: int, width: int) -> "Views":
        """Cut each view at several (top, left) corners: V * len(corners) views, the crops of a view following one another."""
        cuts = np.asarray(corners, np.int64)
        nested = [(own[:, None] + cuts).reshape(-1, 2) for own in self.corners]
        return replace(self, corners=nested, size=(height, width))

    def compact(self) -> "Views":
        """The same views of frames without the rows and columns that no crop shows, contiguous in memory."""
        frames, corners = [], []
        for held, own in zip(self.frames, self.corners, strict=True):
            kept, starts = zip(
                *(_used(own[:, axis], self.size[axis], held.shape[1 + axis]) for axis in (0, 1)),
                strict=True,
            )
            for axis, wanted in enumerate(kept):
                held = held if wanted.all() else held.compress(wanted, 1 + axis)
            frames.append(np.ascontiguousarray(held))
            corners.append(np.stack(starts, 1))
        return replace(self, frames=frames, corners=corners)

    def with_frames(self, change: Callable[[Any], Any]) -> "Views":
        """The same views of `change(frames)`, as it takes to send the frames by another way."""
        return replace(self, frames=[change(frames) for frames in self.frames])


def _used(starts: np.ndarray, size: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """(bool [total]: what windows of `size` from `starts` on cover, where the windows start among it)."""
    wanted = np.zeros(total, bool)
    for start in starts:
        wanted[start : start + size] = True
    return wanted, np.cumsum(wanted)[starts] - 1


def stack(arrays: list[Any]) -> Any:
    """A batch of arrays, or of views, of one shape: a new first axis."""
    if not isinstance(arrays[0], Views):
        return np.stack(arrays)
    parts = {
        key: [part for views in arrays for part in getattr(views, key)]
        for key in ("frames", "numbers", "corners")
    }
    return replace(arrays[0], batched=True, **parts)
