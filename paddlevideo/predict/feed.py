"""Between a pipeline and a program: what the one gives, as the other takes it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.pipeline import SYNTHETIC_SIZE, Pipeline, Stage
from paddlevideo.data.youtube8m.sequence_example import FrameExample
from paddlevideo.engine.preflight import batch_of_one
from paddlevideo.sample import Arrays, InputSpec, Record, Sample

Extract = Callable[[Record], FrameExample]


class Feed:
    """A pipeline, measured on a made-up clip, and fitted to a program by `connect`.

    A program that PaddleVideo itself exported names its inputs differently (they are taken in order) and, for a model of
    segments, has all views of a video as segments of one clip; its logits are then their mean already.

    Args:
        names: of the inputs, None for all that the pipeline gives.
        extract: makes frame features of a video, for a pipeline that takes those.

    Attributes:
        specs: name -> clips, the batch in front, as the pipeline gives them.
        num_views: clips of one video.
        batch_specs: what a sample holds until a run, by name; see ClipPipeline.
        clip_bytes: of one clip, as the program takes it.
        views_in_clip: views that the program takes as one clip, 1 but for PaddleVideo's exports.
        sample_bytes: of one video's views, as they wait for a run.
        fixed: whether clips of all videos have one shape.
    """

    def __init__(
        self, pipeline: Pipeline, names: list[str] | None = None, extract: Extract | None = None
    ):
        self._pipeline, self._extract = pipeline, extract
        self.num_views, self.batch_specs = pipeline.num_views, pipeline.batch_specs
        sample, turned = (
            {name: made[name] for name in self.batch_specs}
            for made in map(pipeline.synthetic, (SYNTHETIC_SIZE, SYNTHETIC_SIZE[::-1]))
        )
        self.fixed = all(sample[name].shape == turned[name].shape for name in sample)
        self.sample_bytes = sum(array.nbytes for array in sample.values())
        view = batch_of_one(pipeline, sample)
        missing = [name for name in names or () if name not in view]
        if missing:
            raise ConfigError(
                [f"the program takes {', '.join(missing)}; PIPELINE.test gives {', '.join(view)}"]
            )
        self.specs = {
            name: InputSpec((None, *view[name].shape[1:]), str(view[name].dtype), "")
            for name in names or view
        }
        self.clip_bytes = sum(view[name].nbytes for name in self.specs)
        self._names, self.views_in_clip = {name: name for name in self.specs}, 1

    def connect(self, program: Mapping[str, InputSpec]) -> None:
        """Fit to a program that takes these inputs: shapes with None where free, () where unknown.

        Raises:
            ConfigError: the pipeline gives something else; says both.
        """
        if len(program) != len(self.specs):
            raise ConfigError(
                [
                    f"the program takes {', '.join(program)}; PIPELINE.test gives {', '.join(self.specs)}"
                ]
            )
        if set(program) != set(self.specs):
            self._names = dict(zip(self.specs, program, strict=True))
            self.views_in_clip = self.num_views if len(program) == 1 else 1
        for name, spec in self.specs.items():
            wanted = program[self._names[name]].shape
            given = tuple(
                self.views_in_clip * size if axis == 0 else size
                for axis, size in enumerate(spec.shape[1:])
            )
            fits = len(wanted) == len(given) + 1 and all(
                w in (None, g) for w, g in zip(wanted[1:], given, strict=True)
            )
            if wanted and not fits:
                said = f"the program takes {name} {list(wanted[1:])}, PIPELINE.test gives {list(given)}"
                raise ConfigError([f"{said}; use the config that the model was exported with"])

    def sample(self, record: Record, clip: Any = None) -> Sample:
        """What waits for a run: all views of a video, uint8, or the features of its sound or frames.

        Args:
            clip: open already, as frames in memory are; None opens the record.

        Raises:
            StageError: the video cannot be decoded or transformed.
        """
        if clip is None and self._extract and record.offset is None:
            with Stage("features"):
                clip = self._extract(record)
        sample = self._pipeline(record, np.random.default_rng(0), clip)
        if self.views_in_clip > 1:  # [V, S, ...] -> [V*S, ...]
            views = {name: np.asarray(sample[name]) for name in self.batch_specs}
            sample |= {name: array.reshape(-1, *array.shape[2:]) for name, array in views.items()}
        return sample

    def arrays(self, clips: Arrays) -> Arrays:
        """Clips [n, ...] of samples -> what the program is run with."""
        clips = self._pipeline.finish(clips)
        return {self._names[name]: np.asarray(clips[name]) for name in self.specs}
