"""Turn videos into frame features with a trained recognizer, as input of NeXtVLAD.

    extract = FeatureExtractor.from_folder("features/train")  # of tools/extract_features.py
    example = extract(Record("clip.mp4", id="clip"))    # rgb uint8 [T, D], audio uint8 [T, 128]

There is one image vector and one audio vector per second. The image vector is the input of the
recognizer's head, averaged over space: that of the frame in the middle of each second, or, from a
network that takes clips, the concatenated pathways of a clip around that moment. The audio vector
comes from no network: it is the mean and std of 64 log-mel bins. The official features of
YouTube-8M come from other networks, so weights that were trained on them do not fit these.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.config.shipped import typed
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.views import Views
from paddlevideo.data.youtube8m.sequence_example import FrameExample
from paddlevideo.engine import amp
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.engine.evaluate import to_tensors
from paddlevideo.engine.load import trained_model
from paddlevideo.features.codec import Codec, read_codecs
from paddlevideo.features.remote_set import local_features
from paddlevideo.features.video_steps import (
    AUDIO_SIZE,
    FeatureInput,
    StepReader,
    Steps,
    feature_pipeline,
)
from paddlevideo.files import atomic_write
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.models import onednn
from paddlevideo.models.base import Recognizer
from paddlevideo.processes import Crash, run_each
from paddlevideo.sample import DecodeError, Record
from paddlevideo.weights import checksum, state_arrays

RECIPE_FILE, CODEC_FILE = "extractor.json", "fitted.npz"
CRASHED = "decoding it ended its process"
PART_BYTES = 64 << 20  # decoded frames that one process holds and sends at once
BATCH_BYTES = {"cpu": 32 << 20, "gpu": 320 << 20}  # float32 input of one run of the network


@dataclass(frozen=True)
class Recipe:
    """How features are made; stored next to them as `extractor.json`.

    Args:
        config, overrides: of the recognizer.
        weights: its weight file.
        frame_rate: steps per second.
        max_frames: steps per video; the rest of the video is ignored.
        audio: also make audio vectors.
    """

    config: str
    weights: str
    overrides: tuple[str, ...] = ()
    frame_rate: float = 1.0
    max_frames: int = 300
    audio: bool = True

    def __post_init__(self):
        if not 0 < self.frame_rate <= 1000:
            raise ValueError(f"frame_rate is {self.frame_rate}, expected above 0, up to 1000 (1/s)")
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}, expected at least 1")


@dataclass
class Vectors:
    """Features of one video before encoding.

    Args:
        features: name -> float32 [T, D].
        no_audio: the video has no audio; its audio vectors are those of silence.
    """

    features: dict[str, np.ndarray]
    no_audio: bool = False


class FrameNetwork:
    """A recognizer that makes the vectors of videos, as a recipe describes.

    Args:
        recipe: names config and weights.
        cfg: the config, where its file cannot be read.

    Attributes:
        cfg: the config.
        reader: decodes: (record, number of the part) -> its steps.
        num_parts: parts of a video, each of which is decoded and sent at once.
        sizes: feature name -> values per step: `rgb`, and `audio` if the recipe includes it.
        made_by: identifies network, config and frame rate; equal texts mean equal vectors.

    Raises:
        ConfigError, WeightsError: config or weights are wrong, or the model has no frame features.
    """

    def __init__(self, recipe: Recipe, cfg: Config | None = None):
        self.recipe = recipe
        cfg = cfg or load_config(recipe.config, recipe.overrides)
        self.cfg = cfg
        self._onednn = cfg.onednn
        self._model, _ = trained_model(cfg, recipe.weights)
        self.feature_input = _feature_input(self._model, cfg)
        split = "valid" if cfg.PIPELINE.valid else "test"
        self._pipeline = _visual_pipeline(cfg, split, self.feature_input)
        self.sizes = {"rgb": self._model.feature_size}
        if recipe.audio:
            self.sizes["audio"] = AUDIO_SIZE
        self.made_by = _made_by(cfg, split, self._model, recipe.frame_rate)
        step_bytes = max(1, self._step_bytes())
        part_size = max(1, min(recipe.max_frames, PART_BYTES // step_bytes))
        self.num_parts = -(-recipe.max_frames // part_size)
        # Bytes become float32.
        batch_bytes = BATCH_BYTES["gpu" if amp.on_gpu() else "cpu"]
        self._batch_size = max(1, batch_bytes // (4 * step_bytes))
        self.reader = StepReader(
            self._pipeline,
            self.feature_input,
            recipe.frame_rate,
            recipe.max_frames,
            part_size,
            recipe.audio,
        )

    def vectors(
        self, records: Sequence[Record], num_workers: int | None = None, label: str = "videos"
    ) -> Iterator[tuple[int, Vectors | str]]:
        """Yield (index of the record, its vectors or an error text), in the order of completion.

        Args:
            num_workers: processes that decode, a few videos ahead of the network; None for one
                per core, 0 to decode in this process.
            label: of the progress bar.
        """
        jobs = [(record, part) for record in records for part in range(self.num_parts)]
        pending: dict[int, dict[int, Vectors | str | None]] = {}
        for job, result in run_each(self.reader, jobs, num_workers, label):
            index, part = divmod(job, self.num_parts)
            parts = pending.setdefault(index, {})
            parts[part] = self._vectors_of(result)
            if len(parts) == self.num_parts:
                yield index, _join([parts[part] for part in range(self.num_parts)])
                del pending[index]

    def __call__(self, record: Record) -> Vectors:
        """Return the vectors of one video; decode it in this process.

        Raises:
            DecodeError: it cannot be decoded.
        """
        _, result = next(self.vectors([record], num_workers=0, label=""))
        if isinstance(result, str):
            raise DecodeError(result)
        return result

    def _step_bytes(self) -> int:
        """Bytes of the frames of one step, as they are sent between processes."""
        num_bytes = self._pipeline.synthetic()["frames"].nbytes
        if self.feature_input == "clip":
            return num_bytes
        return num_bytes // (self._pipeline.sample.num_frames * self._pipeline.num_clips)

    def from_steps(self, parts: Sequence[Steps | str | None]) -> Vectors | str:
        """The vectors of a video from what `reader` returned for each of its parts."""
        return _join([self._vectors_of(part) for part in parts])

    def _vectors_of(self, steps: Steps | Crash | str | None) -> Vectors | str | None:
        if isinstance(steps, Crash):
            return CRASHED
        if not isinstance(steps, Steps):
            return steps
        features = {"rgb": self._image_vectors(steps)}
        if steps.audio is not None:
            features["audio"] = steps.audio
        return Vectors(features, steps.no_audio)

    def _image_vectors(self, steps: Steps) -> np.ndarray:
        """Features of each step, float32 [T, D], averaged over crops."""
        frames, num_steps, is_clip = steps.frames, steps.num_steps, self.feature_input == "clip"
        if not isinstance(frames, Views):
            # Merge steps and crops: [n, H, W, 3] or [n, num_frames, H, W, 3].
            frames = frames.reshape(-1, *frames.shape[-4 if is_clip else -3 :])
        starts = range(0, len(frames), self._batch_size)
        with paddle.no_grad(), onednn.use(self._onednn):
            parts = [self._run(frames[start : start + self._batch_size]) for start in starts]
        rows = np.concatenate(parts)
        if is_clip:  # the crops of a clip follow each other
            return rows.reshape(num_steps, -1, rows.shape[1]).mean(axis=1)
        return rows.reshape(-1, num_steps, rows.shape[1]).mean(axis=0)

    def _run(self, frames: np.ndarray) -> np.ndarray:
        """Frames [n, H, W, 3] or clips [n, num_frames, H, W, 3], uint8 -> float32 [n, D]."""
        inputs = to_tensors(self._pipeline, {"frames": frames})
        return self._model.frame_features(inputs).numpy()


def _feature_input(model: Recognizer, cfg: Config) -> FeatureInput:
    """Return what the network takes per step.

    Raises:
        ConfigError: it has no frame features.
    """
    if model.feature_input is None:
        reason = (
            f"{cfg.MODEL.name} takes {', '.join(model.inputs)}; frame features "
            "need a network that takes frames (Recognizer2D) or slow and fast (Recognizer3D)"
        )
        if "frames" in model.inputs:
            reason = "its backbone mixes the frames of a clip; a frame has no features of its own"
        raise ConfigError([f"{cfg.origin.path}: {reason}"])
    return model.feature_input


def _made_by(cfg: Config, split: str, model: Recognizer, frame_rate: float) -> str:
    sections = [cfg.origin.data["MODEL"], cfg.origin.data["PIPELINE"][split]]
    config = zlib.crc32(json.dumps(sections, sort_keys=True).encode())
    network = checksum(state_arrays(model))
    return f"network {network}, config {config:08x}, {frame_rate:g} frames a second"


def _visual_pipeline(cfg: Config, split: str, feature_input: FeatureInput) -> ClipPipeline:
    pipeline = build_pipeline(cfg, split)
    if not isinstance(pipeline, ClipPipeline):
        family = type(pipeline).__name__
        problem = f"PIPELINE.{split} is a {family}; frame features need frames of videos"
        raise ConfigError([f"{cfg.origin.path}: {problem}"])
    if isinstance(pipeline.decode, FrameDecoder):
        pipeline.decode = VideoDecoder()
    try:
        return feature_pipeline(pipeline, feature_input)
    except ValueError as error:
        raise ConfigError([f"{cfg.origin.path}: PIPELINE.{split}: {error}"]) from error


def _join(parts: Sequence[Vectors | str | None]) -> Vectors | str:
    """Join the parts of one video; parts after its end are None."""
    errors = [part for part in parts if isinstance(part, str)]
    if errors:
        return errors[0]
    vectors = [part for part in parts if isinstance(part, Vectors)]
    rgb = np.concatenate([part.features["rgb"] for part in vectors])
    # The first part holds the audio vectors of all steps.
    return Vectors({**vectors[0].features, "rgb": rgb}, vectors[0].no_audio)


class FeatureExtractor:
    """Make encoded frame features of any video.

    Args:
        network: makes the vectors.
        codecs: encode them, by the name of the feature.
        made_by: `FrameNetwork.made_by` of the network that the codecs were fitted for.

    Raises:
        ConfigError: the codecs were fitted for another network.
    """

    def __init__(self, network: FrameNetwork, codecs: dict[str, Codec], made_by: str):
        check_codecs(network, codecs, made_by, "the codec")
        self.network, self.codecs = network, codecs

    @classmethod
    def from_folder(cls, folder: str | Path, **changes: Any) -> "FeatureExtractor":
        """Return the extractor that made the features in this folder, or at this URL.

        Args:
            changes: replace fields of its recipe, as `weights` if the file has moved.

        Raises:
            ConfigError, WeightsError, DecodeError: not a folder of features, or config or weights
                have changed since.
        """
        local = local_features(folder)
        recipe = replace(read_recipe(local / RECIPE_FILE), **changes)
        return cls(FrameNetwork(recipe), *read_codecs(local / CODEC_FILE))

    def __call__(self, record: Record) -> FrameExample:
        """Return the features of one video, with the id of its record.

        Raises:
            DecodeError: it cannot be decoded.
        """
        features = self.encode(self.network(record))
        return FrameExample(record.id.encode(), np.zeros(0, np.int64), features)

    def encode(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Feature name -> uint8 [T, d]."""
        return {name: self.codecs[name].encode(frames) for name, frames in vectors.features.items()}


def check_codecs(
    network: FrameNetwork, codecs: dict[str, Codec], made_by: str, source: str
) -> None:
    """Check that codecs were fitted for this network.

    Args:
        source: names the codecs in the message.

    Raises:
        ConfigError: they were fitted for another network.
    """
    sizes = {name: len(codec.mean) for name, codec in codecs.items()}
    if made_by != network.made_by or sizes != network.sizes:
        raise ConfigError([
            f"{source} was fitted for other features: {made_by}, sizes {sizes}; these are "
            f"{network.made_by}, sizes {network.sizes}. Use the config, weights and frame rate "
            "that it was fitted with, or fit it again"
        ])  # fmt: skip


def write_recipe(path: Path, recipe: Recipe, **more: Any) -> None:
    """Write a recipe, with more keys on request."""
    text = json.dumps({**asdict(recipe), **more}, indent=1) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a folder of features.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = {key: content[key] for key in Recipe.__dataclass_fields__}
        return Recipe(**{**values, "overrides": tuple(values["overrides"])})
    except FileNotFoundError:
        command = typed("tools/extract_features.py", "extract")
        fix = f"give a folder of features that `{command}` has written"
        raise ConfigError([f"{path}: no such file; {fix}"]) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"{path}: not a recipe of features, or damaged ({reason})"
        raise ConfigError([message]) from error
