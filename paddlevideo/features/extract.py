"""A trained recognizer -> features of a video's frames, as NeXtVLAD takes them: one picture and one sound vector a second.

    extract = FeatureExtractor.beside("features/train")    # the folder that tools/extract_features.py has written
    example = extract(Record("clip.mp4", id="clip"))       # rgb uint8 [T, D], audio uint8 [T, 128]

What is taken of a network is what its head gets, averaged over the picture. A network of pictures gives C values of the frame
in the middle of each second; one of clips gives those of its pathways, behind each other, of its own clip around that moment.
The sound is no network's: mean and deviation of 64 log-mel bands in that second. The official features of YouTube-8M come from
an Inception network, and a VGG-like one for sound, that are not ours: their values are others, and so are weights trained on
them.
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
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.views import Views
from paddlevideo.data.youtube8m.sequence_example import FrameExample
from paddlevideo.engine import amp
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.engine.evaluate import to_tensors
from paddlevideo.engine.load import trained_model
from paddlevideo.features.codec import Codec, read_codecs
from paddlevideo.features.video_steps import AUDIO_SIZE, ReadSteps, Steps, steady
from paddlevideo.files import atomic_write
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.models import onednn
from paddlevideo.processes import Crash, run_each
from paddlevideo.sample import DecodeError, Record
from paddlevideo.weights import checksum, state_arrays

RECIPE, FITTED = "extractor.json", "fitted.npz"
PART_BYTES = 64 << 20  # of decoded frames that one process holds and sends at once
RUN_BYTES = {"cpu": 32 << 20, "gpu": 320 << 20}  # of float32 input in one run of the network


@dataclass(frozen=True)
class Recipe:
    """What makes the features; stands beside them as `extractor.json`.

    Args:
        config, overrides: of the visual network.
        weights: its file.
        frame_rate: steps a second.
        max_frames: steps of a video; what is behind them is not looked at.
        audio: whether there are sound vectors.
    """

    config: str
    weights: str
    overrides: tuple[str, ...] = ()
    frame_rate: float = 1.0
    max_frames: int = 300
    audio: bool = True

    def __post_init__(self):
        if not 0 < self.frame_rate <= 1000 or self.max_frames < 1:
            raise ValueError(
                f"frame_rate is {self.frame_rate}, max_frames {self.max_frames}; expected steps a second above 0, and 1 or more"
            )


@dataclass
class Vectors:
    """Features of a video before they become bytes: name -> float32 [T, D]; `silent`: it has no sound."""

    features: dict[str, np.ndarray]
    silent: bool = False


class FrameNetwork:
    """The network of a recipe, ready to make vectors of videos.

    Attributes:
        widths: values of a frame, by the name of the feature: rgb, and audio where wanted.
        made_by: text that is equal where vectors are.

    Raises:
        ConfigError, WeightsError: config or weights are wrong, or give no features of frames.
    """

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        cfg = load_config(recipe.config, recipe.overrides)
        self._onednn = cfg.onednn
        self._model, _ = trained_model(cfg, recipe.weights)
        self.of_clips = _takes_clips(self._model, cfg)
        split = "valid" if cfg.PIPELINE.valid else "test"
        self._pipeline = _visual_pipeline(cfg, split, self.of_clips)
        channels = self._model.backbone.out_channels
        self.widths = {"rgb": sum(channels.values()) if isinstance(channels, dict) else channels}
        if recipe.audio:
            self.widths["audio"] = AUDIO_SIZE
        about = json.dumps(
            [cfg.origin.data["MODEL"], cfg.origin.data["PIPELINE"][split]], sort_keys=True
        )
        self.made_by = (
            f"network {checksum(state_arrays(self._model))}, config {zlib.crc32(about.encode()):08x}, "
            f"{recipe.frame_rate:g} frames a second"
        )
        per_step = self._pipeline.synthetic()["frames"].nbytes
        if not self.of_clips:
            per_step //= self._pipeline.sample.num_frames * self._pipeline.num_clips
        part = max(1, min(recipe.max_frames, PART_BYTES // max(1, per_step)))
        self._parts = -(-recipe.max_frames // part)
        self._rows = max(
            1, RUN_BYTES["gpu" if amp.on_gpu() else "cpu"] // (4 * max(1, per_step))
        )  # bytes become floats
        self.reader = ReadSteps(
            self._pipeline, self.of_clips, recipe.frame_rate, recipe.max_frames, part, recipe.audio
        )

    def vectors(
        self, records: Sequence[Record], num_workers: int | None = None, label: str = "videos"
    ) -> Iterator[tuple[int, Vectors | str]]:
        """(place of the record, its vectors or why there are none), in the order in which they are done.

        Videos are decoded in `num_workers` processes, None for one per core, 0 for this one, a few ahead of the network.
        """
        jobs = [(record, part) for record in records for part in range(self._parts)]
        waiting: dict[int, dict[int, Vectors | str | None]] = {}
        for number, got in run_each(self.reader, jobs, num_workers, label):
            place, part = divmod(number, self._parts)
            mine = waiting.setdefault(place, {})
            if isinstance(got, Crash):
                got = "it ended the process that decoded it"
            mine[part] = self._of(got) if isinstance(got, Steps) else got
            if len(mine) == self._parts:
                yield place, _joined([mine[part] for part in range(self._parts)])
                del waiting[place]

    def __call__(self, record: Record) -> Vectors:
        """The vectors of one video, in this process.

        Raises:
            DecodeError: there are none.
        """
        _, got = next(self.vectors([record], num_workers=0, label=""))
        if isinstance(got, str):
            raise DecodeError(got)
        return got

    def _of(self, steps: Steps) -> Vectors:
        features = {"rgb": self._seen(steps)}
        if steps.sound is not None:
            features["audio"] = steps.sound
        return Vectors(features, steps.silent)

    def _seen(self, steps: Steps) -> np.ndarray:
        """What the network makes of each step, float32 [T, D]; the mean over the crops of one."""
        frames, count = steps.frames, steps.num_steps
        if not isinstance(frames, Views):
            inner = 4 if self.of_clips else 3  # axes of one row: a clip, or a picture
            frames = frames.reshape(-1, *frames.shape[-inner:])
        with paddle.no_grad(), onednn.use(self._onednn):
            parts = [
                self._run(frames[i : i + self._rows]) for i in range(0, len(frames), self._rows)
            ]
        rows = np.concatenate(parts)
        # The crops of a clip follow one another; of pictures all of one crop do.
        return (
            rows.reshape(count, -1, rows.shape[1]).mean(1)
            if self.of_clips
            else rows.reshape(-1, count, rows.shape[1]).mean(0)
        )

    def _run(self, frames: np.ndarray) -> np.ndarray:
        """Pictures [n, h, w, 3] or clips [n, T, h, w, 3], uint8 -> float32 [n, D]."""
        inputs = to_tensors(self._pipeline, {"frames": frames})
        if not self.of_clips:
            return self._model.backbone(inputs["frames"]).mean([2, 3]).astype("float32").numpy()
        maps = self._model.backbone(inputs)
        return (
            paddle.concat([maps[name].mean([2, 3, 4]) for name in sorted(maps)], 1)
            .astype("float32")
            .numpy()
        )


def _takes_clips(model: paddle.nn.Layer, cfg: Config) -> bool:
    """Whether the network looks at clips in place of single frames.

    Raises:
        ConfigError: it takes sound, or features.
    """
    inputs, backbone = dict(getattr(model, "inputs", {})), getattr(model, "backbone", None)
    if set(inputs) == {"frames"} and backbone is not None:
        return False
    if inputs and set(inputs) <= {"slow", "fast"} and backbone is not None:
        return True
    raise ConfigError([
        f"{cfg.origin.path}: {cfg.MODEL.name} takes {', '.join(inputs)}; features of frames are made by a network that takes "
        "frames (Recognizer2D) or slow and fast (Recognizer3D)"
    ])  # fmt: skip


def _visual_pipeline(cfg: Config, split: str, of_clips: bool) -> ClipPipeline:
    pipeline = build_pipeline(cfg, split)
    if isinstance(pipeline.decode, FrameDecoder):
        pipeline.decode = VideoDecoder()
    try:
        return steady(pipeline, of_clips)
    except ValueError as error:
        raise ConfigError([f"{cfg.origin.path}: PIPELINE.{split}: {error}"]) from error


def _joined(parts: list[Any]) -> Vectors | str:
    """The parts of one video, in order, as one; None stands for those behind its end."""
    wrong = [part for part in parts if isinstance(part, str)]
    if wrong:
        return wrong[0]
    there = [part for part in parts if part is not None]
    features = {"rgb": np.concatenate([part.features["rgb"] for part in there])}
    return Vectors(
        features | {k: v for k, v in there[0].features.items() if k != "rgb"}, there[0].silent
    )


class FeatureExtractor:
    """Frame features of any video as bytes, with the network and the codec of a folder of features; or of your own.

    Raises:
        ConfigError: the codec belongs to features of another network.
    """

    def __init__(self, network: FrameNetwork, codecs: dict[str, Codec], made_by: str):
        check_codecs(network, codecs, made_by, "the codec")
        self.network, self.codecs = network, codecs

    @classmethod
    def beside(cls, folder: str | Path, **changes) -> "FeatureExtractor":
        """What made the features in this folder; `changes` replace parts of its recipe, as `weights` where the file has moved.

        Raises:
            ConfigError, WeightsError, DecodeError: not such a folder, or config or weights are others by now.
        """
        recipe = replace(read_recipe(Path(folder) / RECIPE), **changes)
        return cls(FrameNetwork(recipe), *read_codecs(Path(folder) / FITTED))

    def __call__(self, record: Record) -> FrameExample:
        """The features of one video, under the id of its record.

        Raises:
            DecodeError: it cannot be decoded.
        """
        return FrameExample(
            record.id.encode(), np.zeros(0, np.int64), self.encode(self.network(record))
        )

    def encode(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """name -> uint8 [T, D]"""
        return {name: self.codecs[name].encode(frames) for name, frames in vectors.features.items()}


def check_codecs(network: FrameNetwork, codecs: dict[str, Codec], made_by: str, what: str) -> None:
    """
    Raises:
        ConfigError: the codecs were fitted on vectors of another network.
    """
    widths = {name: len(codec.mean) for name, codec in codecs.items()}
    if made_by != network.made_by or widths != network.widths:
        raise ConfigError([
            f"{what} was fitted on features of another kind: {made_by}, widths {widths}; here it is {network.made_by}, widths "
            f"{network.widths}. Use the config, weights and frame rate that it was fitted with, or fit anew"
        ])  # fmt: skip


def write_recipe(path: Path, recipe: Recipe, **more: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(
            json.dumps({**asdict(recipe), **more}, indent=1) + "\n", encoding="utf-8"
        )


def read_recipe(path: Path) -> Recipe:
    """The recipe beside features.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        known = {key: held[key] for key in Recipe.__dataclass_fields__}
        return Recipe(**{**known, "overrides": tuple(known["overrides"])})
    except FileNotFoundError:
        told = f"{path}: there is no such file; it stands beside features that tools/extract_features.py has made"
        raise ConfigError([told]) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(
            [f"{path}: not the recipe of features, or damaged ({type(error).__name__}: {error})"]
        ) from error
