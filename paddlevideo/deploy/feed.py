"""Between a pipeline and a program: what the one gives, as the other takes it."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.data.pipeline import ClipPipeline
from paddlevideo.deploy.inputs import ArrayClip
from paddlevideo.engine.build import SYNTHETIC_SIZE
from paddlevideo.sample import InputSpec, Record, Sample
from paddlevideo.schema import ConfigError

Arrays = dict[str, np.ndarray]


def made_up_sample(pipeline: ClipPipeline, height: int, width: int) -> Sample:
    """What a pipeline makes of a grey video of this size (pixels), without the label."""
    frames = np.broadcast_to(np.uint8(128), (300, height, width, 3))
    sample = pipeline(Record("a made-up clip"), np.random.default_rng(0), ArrayClip(frames))
    return {name: sample[name] for name in pipeline.travels}


class Feed:
    """A pipeline, measured on a made-up clip, and fitted to a program by `connect`.

    A program that PaddleVideo itself exported names its inputs differently (they are taken in order) and, for a model of
    segments, has all views of a video as segments of one clip; its logits are then their mean already.

    Args:
        names: of the inputs, None for all that the pipeline gives.

    Attributes:
        specs: name -> float32 clips, the batch in front, as the pipeline gives them.
        num_views: clips of one video.
        travels: what a sample holds until a run, by name; see ClipPipeline.
        clip_bytes: of one clip, float32.
        views_in_clip: views that the program takes as one clip, 1 but for PaddleVideo's exports.
        sample_bytes: of one video's views, as they wait for a run.
        fixed: whether clips of all videos have one shape.
    """

    def __init__(self, pipeline: ClipPipeline, names: list[str] | None = None):
        self._pipeline, self.num_views, self.travels = pipeline, pipeline.num_views, pipeline.travels
        sample = made_up_sample(pipeline, *SYNTHETIC_SIZE)
        turned = made_up_sample(pipeline, *reversed(SYNTHETIC_SIZE))
        self.fixed = all(sample[name].shape == turned[name].shape for name in sample)
        self.sample_bytes = sum(array.nbytes for array in sample.values())
        view = pipeline.finish({name: array[:1] if pipeline.view_axis else array[None] for name, array in sample.items()})
        missing = [name for name in names or () if name not in view]
        if missing:
            raise ConfigError([f"the program takes {', '.join(missing)}; PIPELINE.test gives {', '.join(view)}"])
        self._sizes = {name: view[name].shape[1:] for name in names or view}
        self.specs = {name: InputSpec((None, *size), "float32", "") for name, size in self._sizes.items()}
        self.clip_bytes = 4 * sum(int(np.prod(size)) for size in self._sizes.values())
        self._names, self.views_in_clip = {name: name for name in self._sizes}, 1

    def connect(self, program: Mapping[str, tuple[int | None, ...]]) -> None:
        """Fit to a program that takes these inputs: shapes with None where free, () where unknown.

        Raises:
            ConfigError: the pipeline gives something else; says both.
        """
        if len(program) != len(self._sizes):
            raise ConfigError([f"the program takes {', '.join(program)}; PIPELINE.test gives {', '.join(self._sizes)}"])
        if set(program) != set(self._sizes):
            self._names = dict(zip(self._sizes, program, strict=True))
            self.views_in_clip = self.num_views if len(program) == 1 else 1
        for name, size in self._sizes.items():
            wanted = program[self._names[name]]
            given = (self.views_in_clip * size[0], *size[1:])
            fits = len(wanted) == len(given) + 1 and all(w in (None, g) for w, g in zip(wanted[1:], given, strict=True))
            if wanted and not fits:
                said = f"the program takes {name} {list(wanted[1:])}, PIPELINE.test gives {list(given)}"
                raise ConfigError([f"{said}; use the config that the model was exported with"])

    def sample(self, record: Record, clip=None) -> Sample:
        """What waits for a run: all views of a video, uint8.

        Args:
            clip: open already, as frames in memory are; None opens the record.

        Raises:
            StageError: the video cannot be decoded or transformed.
        """
        sample = self._pipeline(record, np.random.default_rng(0), clip)
        if self.views_in_clip > 1:  # [V, S, ...] -> [V*S, ...]
            views = {name: np.asarray(sample[name]) for name in self.travels}
            sample |= {name: array.reshape(-1, *array.shape[2:]) for name, array in views.items()}
        return sample

    def arrays(self, clips: Arrays) -> Arrays:
        """Clips [n, ...] of samples -> what the program is run with."""
        clips = self._pipeline.finish(clips)
        return {self._names[name]: np.asarray(clips[name]) for name in self._sizes}
