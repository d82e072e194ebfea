"""`--with-preprocess`: the input of a `VideoProgram`, and the probabilities to compare it with."""

import numpy as np
import paddle

from paddlevideo.config.schema import Config
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.engine.build import build_pipeline
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.exporting.golden import golden_inputs
from paddlevideo.exporting.program import ExportError
from paddlevideo.metrics.scores import softmax
from paddlevideo.models.base import Recognizer
from paddlevideo.sample import Arrays, InputSpec

AXES = "N V T H W C"
# Bytes of a video above which there is one golden sample in place of two: all views of a video run
# together, and take much memory.
LARGE_VIDEO = 32 << 20


def video_inputs(
    cfg: Config, model: Recognizer, plain: dict[str, InputSpec], batch: int | None
) -> tuple[dict[str, InputSpec], Arrays]:
    """The input of the program, and golden inputs for it.

    Args:
        plain: inputs of the program without preprocessing.
        batch: videos in one run; None for any number.

    Raises:
        ExportError: the pipeline has other inputs than frames, or frames of any size.
    """
    pipeline = build_pipeline(cfg, "test")
    if not isinstance(pipeline, ClipPipeline) or pipeline.audio:
        raise ExportError(
            "--with-preprocess is for models of frames alone: frames become inputs by normalizing "
            f"them; the inputs of this model ({', '.join(plain)}) are computed from audio or read "
            "from files. Export it without --with-preprocess"
        )
    if any(None in spec.shape[1:] for spec in plain.values()):
        raise ExportError(
            "--with-preprocess needs frames of one size, and in this pipeline the size depends on "
            "the video; end PIPELINE.test with a crop"
        )
    frames = np.asarray(pipeline.synthetic()["frames"])
    frames = frames.reshape(pipeline.num_views, *frames.shape[-4:])
    number = batch or (2 if frames.nbytes <= LARGE_VIDEO else 1)
    inputs = {"frames": InputSpec((batch, *frames.shape), "uint8", AXES)}
    return inputs, golden_inputs({"frames": frames}, number)


def video_probabilities(cfg: Config, model: Recognizer, golden: Arrays) -> np.ndarray:
    """The probabilities that a prediction with the model gives, float32 [N, K]."""
    pipeline = build_pipeline(cfg, "test")

    def run(arrays: Arrays) -> np.ndarray:
        inputs = pipeline.finish(arrays)
        with paddle.no_grad():
            tensors = {name: paddle.to_tensor(inputs[name]) for name in model.inputs}
            return model.predictions(model(tensors)).numpy()

    scores = mean_scores(run, pipeline.batch_specs, golden, 1, model.view_average)
    probabilities = 1 / (1 + np.exp(-scores)) if model.multi_label else softmax(scores)
    return probabilities.astype(np.float32)
