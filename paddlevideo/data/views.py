"""Views of a multi-view test, cropped on demand from the frames that they share.

The views of a video overlap. 10 clips x 3 crops of 32 frames of 256 x 256 pixels take 189 MB; the
frames of a 10 s video that they are cropped from take 65 MB. So each frame is sent once, and views
are cropped where the model asks for them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Views:
    """Represents uint8 [V, T, H, W, 3], the views of a video, or [N, V, T, H, W, 3] of a batch.

    Slices are cropped on demand. A video has C clips, each with the same K crops; view `c * K + k`
    is crop k of clip c.

    Args:
        frames: per video, uint8 [U, h, w, 3]: each frame that some clip needs, once. Videos may
            differ in U, h and w.
        numbers: per video, int64 [C, T]: indices into its frames for each clip.
        corners: per video, int64 [K, 2]: top and left edge of each crop (pixels).
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
        """Clips of uncropped frames: uint8 [U, h, w, 3], int [C, T] -> views [C, T, h, w, 3]."""
        height, width = frames.shape[1:3]
        return cls(
            [frames], [np.asarray(numbers, np.int64)], [np.zeros((1, 2), np.int64)], (height, width)
        )

    @property
    def num_views(self) -> int:
        """V, the views of one video."""
        return len(self.numbers[0]) * len(self.corners[0])

    @property
    def shape(self) -> tuple[int, ...]:
        num_videos = len(self.frames)
        if self.batched:
            first_axes = (num_videos, self.num_views)
        else:
            first_axes = (num_videos * self.num_views,)
        return (*first_axes, self.numbers[0].shape[1], *self.size, 3)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the shared frames, the memory that the views occupy."""
        return sum(frames.nbytes for frames in self.frames)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Views [v, T, H, W, 3] of a slice of the first axis; `reshape` flattens a batch first.

        Raises:
            IndexError: not a slice, or the views of a batch.
        """
        if self.batched or not isinstance(rows, slice):
            raise IndexError(
                f"views {list(self.shape)} accept slices of the first axis only; "
                "reshape a batch to one axis of views first"
            )
        indices = range(*rows.indices(len(self)))
        out = np.empty((len(indices), *self.shape[1:]), np.uint8)
        height, width = self.size
        for view, index in zip(out, indices, strict=True):
            video, view_number = divmod(index, self.num_views)
            clip, crop = divmod(view_number, len(self.corners[video]))
            top, left = self.corners[video][crop]
            for t, number in enumerate(self.numbers[video][clip]):
                view[t] = self.frames[video][number, top : top + height, left : left + width]
        return out

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("views are cropped from shared frames, which needs a copy")
        views = self.reshape(-1, *self.shape[-4:])[:]
        return views.reshape(self.shape).astype(dtype or np.uint8, copy=False)

    def reshape(self, *shape: int) -> "Views":
        """All views along one axis: [N, V, T, H, W, 3] -> [N * V, T, H, W, 3].

        Raises:
            ValueError: any other shape.
        """
        flat = replace(self, batched=False)
        if shape not in (flat.shape, (-1, *flat.shape[1:])):
            raise ValueError(
                f"views {list(self.shape)} can be reshaped to {list(flat.shape)} only, "
                f"not to {list(shape)}"
            )
        return flat

    def crop(self, corners: list[tuple[int, int]], height: int, width: int) -> "Views":
        """Crop each view at several corners: V * len(corners) views; crops of a view are neighbors.

        Args:
            corners: (top, left) edges (pixels).
        """
        offsets = np.asarray(corners, np.int64)
        nested = [(own[:, None] + offsets).reshape(-1, 2) for own in self.corners]
        return replace(self, corners=nested, size=(height, width))

    def compact(self) -> "Views":
        """The same views of contiguous frames without the rows and columns that no crop covers."""
        frames, corners = [], []
        for array, own in zip(self.frames, self.corners, strict=True):
            starts = []
            for axis, size in enumerate(self.size):
                covered, new_starts = _covered(own[:, axis], size, array.shape[1 + axis])
                array = array if covered.all() else array.compress(covered, 1 + axis)
                starts.append(new_starts)
            frames.append(np.ascontiguousarray(array))
            corners.append(np.stack(starts, 1))
        return replace(self, frames=frames, corners=corners)

    def with_frames(self, change: Callable[[Any], Any]) -> "Views":
        """The same views of `change(frames)`, for example frames in shared memory."""
        return replace(self, frames=[change(frames) for frames in self.frames])


def _covered(starts: np.ndarray, size: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of an axis are covered by windows of `size` pixels.

    Returns:
        bool [total], and where each window starts among the covered pixels.
    """
    covered = np.zeros(total, bool)
    for start in starts:
        covered[start : start + size] = True
    return covered, np.cumsum(covered)[starts] - 1


def stack(arrays: list[Any]) -> Any:
    """Stack arrays of one shape, or views of one shape, along a new first axis."""
    if not isinstance(arrays[0], Views):
        return np.stack(arrays)
    return replace(
        arrays[0],
        batched=True,
        frames=[frames for views in arrays for frames in views.frames],
        numbers=[numbers for views in arrays for numbers in views.numbers],
        corners=[corners for views in arrays for corners in views.corners],
    )
