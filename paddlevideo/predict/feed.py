"""Connects a pipeline to a program: the arrays of the one become the inputs of the other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.pipeline import SYNTHETIC_SIZE, Pipeline, Stage, StageError
from paddlevideo.data.youtube8m.sequence_example import FrameExample
from paddlevideo.engine.preflight import batch_of_one
from paddlevideo.media.containers import VIDEO_SUFFIXES
from paddlevideo.sample import Arrays, InputSpec, Record, Sample
from paddlevideo.tar_paths import tar_path
from paddlevideo.urls import path_suffix

Extract = Callable[[Record], FrameExample]


class Feed:
    """A pipeline, measured with a synthetic clip; `connect` fits it to a program.

    Programs that PaddleVideo exported differ in two ways. Their inputs have other names, and are
    matched by their order. A program of a model with segments takes all views of a video as the
    segments of one clip, and returns the mean of their logits.

    Args:
        names: inputs of the program; None for all that the pipeline gives.
        extract: extracts frame features of a video, for a pipeline that takes features.

    Attributes:
        pipeline: the pipeline.
        specs: the pipeline's inputs by name, with a batch axis in front.
        num_views: clips of one video.
        batch_specs: arrays of a sample that waits for a run; see `Pipeline.batch_specs`.
        clip_bytes: size of the inputs of one clip.
        sample_bytes: size of a sample that waits for a run, with all of its views.
        fixed_size: whether clips of all videos have one shape.
        views_in_clip: views that the program takes as one clip; more than 1 only for programs that
            PaddleVideo exported.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        names: Sequence[str] | None = None,
        extract: Extract | None = None,
    ):
        self.pipeline = pipeline
        self._extract = extract
        self.num_views = pipeline.num_views
        self.batch_specs = pipeline.batch_specs
        height, width = SYNTHETIC_SIZE
        wide, tall = (
            {name: sample[name] for name in self.batch_specs}
            for sample in map(pipeline.synthetic, ((height, width), (width, height)))
        )
        self.fixed_size = all(wide[name].shape == tall[name].shape for name in wide)
        self.sample_bytes = sum(array.nbytes for array in wide.values())
        view = batch_of_one(pipeline, wide)
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
        self.views_in_clip = 1
        self._program_names = {name: name for name in self.specs}

    def connect(self, program: Mapping[str, InputSpec]) -> None:
        """Fit to a program.

        Args:
            program: its inputs by name, with None for a free size and () for an unknown shape.

        Raises:
            ConfigError: the pipeline gives something else.
        """
        if len(program) != len(self.specs):
            given = ", ".join(self.specs)
            raise ConfigError(
                [f"the program takes {', '.join(program)}; PIPELINE.test gives {given}"]
            )
        if set(program) != set(self.specs):
            self._program_names = dict(zip(self.specs, program, strict=True))
            self.views_in_clip = self.num_views if len(program) == 1 else 1
        for name, spec in self.specs.items():
            expected = program[self._program_names[name]].shape
            if not expected:
                continue
            given = list(spec.shape[1:])
            if given and self.views_in_clip > 1:
                given[0] = self.views_in_clip * (given[0] or 1)
            fits = len(expected) == len(given) + 1 and all(
                size in (None, own) for size, own in zip(expected[1:], given, strict=True)
            )
            if not fits:
                raise ConfigError(
                    [
                        f"the program takes {name} {list(expected[1:])}, PIPELINE.test gives "
                        f"{given}; use the config that the model was exported with"
                    ]
                )

    def sample(self, record: Record, source: Any = None) -> Sample:
        """The sample of a video with all of its views, which waits for a run.

        Args:
            source: an open clip, or features in memory; None to open the record.

        Raises:
            StageError: the video cannot be decoded or transformed.
        """
        if source is None and self._extract and not has_features(record):
            with Stage("features"):
                source = self._extract(record)
        return self.fitted(self.pipeline(record, np.random.default_rng(0), source))

    def fitted(self, sample: Sample) -> Sample:
        """A sample of the pipeline, with its views as the program takes them."""
        if self.views_in_clip > 1:  # [V, S, ...] -> [V*S, ...]
            views = {name: np.asarray(sample[name]) for name in self.batch_specs}
            sample |= {name: array.reshape(-1, *array.shape[2:]) for name, array in views.items()}
        return sample

    def arrays(self, clips: Arrays) -> Arrays:
        """The inputs of the program for clips [n, ...] of samples."""
        clips = self.pipeline.finish(clips)
        return {self._program_names[name]: np.asarray(clips[name]) for name in self.specs}

    def load(self, record: Record, source: Any = None) -> Sample | str:
        """`sample`, or why there is none."""
        try:
            return self.sample(record, source)
        except StageError as error:
            return str(error)

    @property
    def extracts(self) -> bool:
        """Whether a network extracts features of videos."""
        return self._extract is not None


def has_features(record: Record) -> bool:
    """Whether a record names features in a shard; a video otherwise."""
    inside = tar_path(record.path)
    if inside is None:
        return record.offset is not None
    return path_suffix(inside.name) not in VIDEO_SUFFIXES and record.frame_pattern is None
