"""Small exported models that take features, audio, or frames with audio; and their data."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.api import test as run_test
from paddlevideo.config.schema import Config
from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import TrainState
from paddlevideo.exporting.export import export, missing_for_onnx
from paddlevideo.predict.results import Result
from paddlevideo.weights import write_arrays
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip

FAMILIES = ("tags", "audio", "both")
NUM_CLASSES = 5
NAMES = [f"thing {number}" for number in range(NUM_CLASSES)]
WIDTHS = {"rgb": 16, "audio": 8}
CONFIGS = {
    "tags": """
MODEL:
  framework: VideoTagger
  backbone: {name: NeXtVLAD, cluster_size: 8, groups: 4, feature_size: 16, audio_size: 8,
             whitening: null, max_frames: 12}
  head: {name: NeXtVLADHead, num_classes: 5, hidden_size: 16, gating_reduction: 4}
DATASET:
  test: {format: YouTube8MDataset, file_path: LIST}
PIPELINE:
  test: {decode: {name: FeatureDecoder, max_frames: 12, features: {rgb: 16, audio: 8}}}
INFERENCE: {top_k: 3}
model_name: tags
""",
    "audio": """
MODEL:
  framework: AudioRecognizer
  backbone: {name: ResNetAudio, base_channels: 2}
  head: {name: TSNAudioHead}
DATASET:
  test: {format: AudioFeatureDataset, file_path: LIST}
PIPELINE:
  test:
    decode: {name: LoadAudioFeature, missing_audio: zeros}
    sample: {name: SampleFrames, clip_len: 12, num_clips: 2, test_mode: True}
    transform:
      - AudioFeatureSelector: {fixed_length: 24}
      - FormatAudioShape: {input_format: NCTF}
model_name: audio
""",
    "both": """
MODEL:
  framework: AudioVisualRecognizer
  backbone: {name: AVSlowFast, alpha: 4, beta: 4, width_per_group: 8, audio_alpha: 16,
             audio_beta: 2}
  head: {name: AVSlowFastHead, crop_size: 32}
DATASET:
  test: {format: SFVideoDataset, file_path: LIST, num_ensemble_views: 2, num_spatial_crops: 3}
PIPELINE:
  test:
    decode: {name: VideoDecoder}
    decode_sampler: {name: DecodeSampler, num_frames: 8, sampling_rate: 1, test_mode: True}
    audio: {name: ClipAudio, num_rows: 32, missing_audio: zeros}
    transform:
      - JitterScale: {min_size: 32, max_size: 32}
      - MultiCrop: {target_size: 32, test_mode: True}
      - Image2Array: {transpose: False}
      - Normalization: {mean: [0.45, 0.45, 0.45], std: [0.225, 0.225, 0.225],
                        tensor_shape: [1, 1, 1, 3]}
      - PackOutput: {alpha: 4}
model_name: both
""",
}


@dataclass(frozen=True)
class Family:
    """An exported model of one family.

    Args:
        folder: the export.
        list: the list of DATASET.test.
        data: the folder with the files of the list.
        expected: the scores of main.py --test: {path: {class: score}}.
    """

    name: str
    folder: Path
    config: Path
    weights: Path
    list: Path
    data: Path
    expected: dict[str, dict[int, float]]

    @property
    def cfg(self) -> Config:
        return load_config(self.config)

    @property
    def golden(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "golden.npz") as file:
            return dict(file)

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return {name: array for name, array in self.golden.items() if name != "logits"}


def list_of(name: str, folder: Path) -> Path:
    """The list of DATASET.test that `make_data` writes."""
    return folder / ("data/test.list" if name == "tags" else "test.list")


def make_data(name: str, folder: Path) -> None:
    """Write four or more different videos to the folder `data`, and their list."""
    data = folder / "data"
    if name == "tags":
        features = tuple(WIDTHS.items())
        plan = ShardPlan(
            classes=NUM_CLASSES, videos=20, per_shard=3, frames=(3, 12), features=features
        )
        make_shards(data, plan)
        for path in [*data.glob("train*"), *data.glob("validate*")]:
            path.unlink()
        return
    lines = []
    if name == "audio":
        data.mkdir()
        for number, time_steps in enumerate((60, 200)):
            feature = np.random.default_rng(number).random((time_steps, 80), np.float32)
            np.save(data / f"{number}.npy", feature)
            lines.append(f"data/{number} {number * 40 + 30} {number}\n")
        write_audio(data / "c.wav", chirps(2.0))
        write_audio(data / "d e.mp4", chirps(1.5, seed=3), codec="aac", video={"num_frames": 38})
        lines += ["data/c.wav 2\n", "data/d e.mp4 3\n"]
    else:
        for number, audio in enumerate((chirps(1.6), chirps(1.6, seed=4)[:, None].T)):
            write_audio(data / f"{number}.mp4", audio, codec="aac", video={"num_frames": 40})
        write_clip(data / "silent.mp4", 30)
        short = chirps(0.4, seed=5)
        write_audio(data / "x" / "part.mkv", short, codec="flac", video={"num_frames": 60})
        files = sorted(data.rglob("*.m*"))
        lines = [f"{path.relative_to(folder)} {number}\n" for number, path in enumerate(files)]
    list_of(name, folder).write_text("".join(lines), encoding="utf-8")


def write_weights(cfg: Config, path: Path) -> Path:
    """Random weights with an effect of every part.

    Tensors that are initialized to zero, and the small weights of classifiers, are drawn again.
    """
    paddle.seed(0)
    rng = np.random.default_rng(0)
    model = build_model(cfg, NUM_CLASSES)
    arrays = TrainState(model, None, None, class_names=NAMES).model_arrays()
    for key, array in arrays.items():
        if key.endswith("weight") and (not array.any() or array.shape[-1] == NUM_CLASSES):
            std = 0.3 if array.ndim == 1 else 0.2
            arrays[key] = (rng.standard_normal(array.shape) * std).astype(np.float32)
    write_arrays(path, arrays)
    return path


def formats_of(name: str) -> list[str]:
    """What the model is exported to; a slow test writes the `.json` programs of the others."""
    if name == "tags":
        return ["all"]
    return ["pdmodel"] if missing_for_onnx() else ["pdmodel", "onnx"]


def make_family(name: str, folder: Path) -> None:
    """Write data and weights, test the model with them, and export it."""
    make_data(name, folder)
    config = folder / "config.yaml"
    text = CONFIGS[name].replace("LIST", json.dumps(str(list_of(name, folder))))
    config.write_text(text, encoding="utf-8")
    cfg = load_config(config)
    weights = write_weights(cfg, folder / "w.pdparams")
    run_test(cfg, str(weights), str(folder / "scores.json"))
    export(cfg, weights, folder / "out", formats_of(name))


def read_family(name: str, folder: Path) -> Family:
    """The family that `make_family` wrote."""
    rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["results"]
    expected = {
        r["path"]: dict(zip(r.get("classes", range(NUM_CLASSES)), r["scores"], strict=True))
        for r in rows
    }
    files = (folder / file for file in ("out", "config.yaml", "w.pdparams"))
    return Family(name, *files, list_of(name, folder), folder / "data", expected)


def scores_of(result: Result) -> dict[int, float]:
    assert result.error is None, result.error
    return dict(zip(result.class_ids, result.scores, strict=True))


def assert_as_tested(results: list[Result], family: Family, atol: float = 1e-5) -> None:
    names = [Path(path).name for path in family.expected]
    assert [Path(r.input_path).name for r in results] == names
    for result, expected in zip(results, family.expected.values(), strict=True):
        scores = scores_of(result)
        assert scores.keys() == expected.keys()
        assert scores == pytest.approx(expected, rel=0, abs=atol)
        assert result.label_names == [NAMES[k] for k in result.class_ids]
        assert result.scores == sorted(result.scores, reverse=True)
