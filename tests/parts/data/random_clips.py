"""Random frames in place of videos; new processes import this module without Paddle."""

import os
import signal

import numpy as np

from paddlevideo.data.loader import ClipDataset
from paddlevideo.data.pipeline import Pipeline, StageError
from paddlevideo.sample import Record


class FakePipeline(Pipeline):
    """Makes random frames with the sample's own generator; fails for paths with "bad"."""

    def __call__(self, record, rng, source=None):
        if "bad" in record.path:
            raise StageError("decode", "not a video")
        if "kill" in record.path:
            os.kill(os.getpid(), signal.SIGKILL)
        size = 6 if "wide" in record.path else 4
        return {
            "frames": rng.integers(0, 256, (2, 4, size, 3), np.uint8),
            "label": np.int64(record.label),
        }


def dataset(names, replace=False, seed=3):
    return ClipDataset(
        [Record(name, i, name) for i, name in enumerate(names)], FakePipeline(), seed, replace
    )
