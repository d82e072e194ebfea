"""The windows of a file or stream, scored by a model.

    model = TimelineModel(predictor, window=2.0, stride=1.0)
    for window in model.windows(source):         # as soon as its last frame has come
        print(window.start, window.end, window.scores)

`TimelineModel.windows(source, live=False, fps=None)` takes any iterable of `Frame`, `Sound` and
`Gap`. For a live source, each window is scored at once; for a file, several windows are scored in
one run of the network while the next ones are decoded.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """The scores of a part of a file or stream.

    Args:
        start, end: of the part (s).
        scores: probability of each class, float32 [num_classes]; None where there is none.
        error: why there are no scores; None if there are.
    """

    start: float
    end: float
    scores: np.ndarray | None = None
    error: str | None = None
