"""Export and predict of models of frame features, of audio, and of frames with audio."""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from paddlevideo.api import test as run_test
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.data.youtube8m.sequence_example import FrameExample, encode_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.engine.checkpoint import TrainState
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import export
from paddlevideo.exporting.golden import golden_inputs
from paddlevideo.models.audiovisual import keep_only
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import Result, result_file, write_results
from paddlevideo.runtimes.base import BackendError
from paddlevideo.runtimes.choose import available_backends, open_backend
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.sample import Record
from paddlevideo.weights import write_arrays
from tests.audio_clips import chirps, write_audio
from tests.clips import random_frames, write_clip

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


def make_data(name: str, folder: Path) -> tuple[Path, Path]:
    """Write four or more different videos; returns (the list of DATASET.test, their folder)."""
    data = folder / "data"
    if name == "tags":
        features = tuple(WIDTHS.items())
        plan = ShardPlan(
            classes=NUM_CLASSES, videos=20, per_shard=3, frames=(3, 12), features=features
        )
        make_shards(data, plan)
        for path in [*data.glob("train*"), *data.glob("validate*")]:
            path.unlink()
        return data / "test.list", data
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
    (folder / "test.list").write_text("".join(lines), encoding="utf-8")
    return folder / "test.list", data


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


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """`families(name)`: exported at the first call."""
    made: dict[str, Family] = {}

    def family(name: str) -> Family:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            file, data = make_data(name, folder)
            config = folder / "config.yaml"
            config.write_text(CONFIGS[name].replace("LIST", str(file)), encoding="utf-8")
            cfg = load_config(config)
            weights = write_weights(cfg, folder / "w.pdparams")
            run_test(cfg, str(weights), str(folder / "scores.json"))
            rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["results"]
            expected = {
                r["path"]: dict(zip(r.get("classes", range(NUM_CLASSES)), r["scores"], strict=True))
                for r in rows
            }
            out = export(cfg, weights, folder / "out", ["all"])
            made[name] = Family(name, out, config, weights, file, data, expected)
        return made[name]

    return family


@pytest.fixture(params=FAMILIES)
def family(request, families) -> Family:
    return families(request.param)


@pytest.fixture(scope="module")
def predictors(families):
    """`predictors(name)`: the exported model on Paddle Inference, opened once."""
    made = {}

    def predictor(name: str) -> Predictor:
        if name not in made:
            made[name] = Predictor(families(name).folder, device="cpu", threads=1)
        return made[name]

    return predictor


# --- export ---------------------------------------------------------------------------------------


INPUTS = {
    "tags": {
        "rgb": ([None, 12, 16], "uint8"),
        "audio": ([None, 12, 8], "uint8"),
        "num_frames": ([None], "int64"),
    },
    "audio": {"audio": ([None, 2, 1, 24, 80], "float32")},
    "both": {
        "slow": ([None, 3, 2, 32, 32], "float32"),
        "fast": ([None, 3, 8, 32, 32], "float32"),
        "audio": ([None, 1, 32, 80], "float32"),
    },
}
SCORES = {"tags": "sigmoid", "audio": "mean", "both": "mean"}


def test_model_yaml_has_inputs_scores_and_modalities(family):
    content = yaml.safe_load((family.folder / "model.yaml").read_text(encoding="utf-8"))
    inputs = {name: (spec["shape"], spec["dtype"]) for name, spec in content["inputs"].items()}
    assert inputs == INPUTS[family.name]
    assert content["multilabel"] == (family.name == "tags")
    assert content["scores"].startswith(SCORES[family.name])
    modalities = {"visual": ["slow", "fast"], "audio": ["audio"]}
    assert content["modalities"] == (modalities if family.name == "both" else {})
    assert (content["views"], content["labels"]) == (6 if family.name == "both" else 1, NAMES)
    differences = content["differences"].values()
    assert len(differences) == 3 and all(0 <= d < 1e-4 for d in differences)


def test_reads_an_export_without_the_newer_keys(families, tmp_path):
    content = yaml.safe_load((families("audio").folder / "model.yaml").read_text(encoding="utf-8"))
    (tmp_path / "model.yaml").write_text(
        yaml.safe_dump({k: v for k, v in content.items() if k not in ("multilabel", "modalities")})
    )
    manifest = read_manifest(tmp_path)
    assert not manifest.multi_label and manifest.modalities == {}
    assert manifest.view_average == "probabilities"


def test_golden_inputs_are_valid(family):
    golden = family.inputs
    for name, spec in read_manifest(family.folder).inputs.items():
        assert golden[name].shape == (2, *spec.shape[1:]) and golden[name].dtype == spec.dtype
        if golden[name].ndim > 1:
            assert (golden[name][0] != golden[name][1]).any(), "the two samples are equal"
    if family.name == "tags":
        assert golden["num_frames"].tolist() == [8, 4]
        assert golden["rgb"].min() == 0 and golden["rgb"].max() == 255
    logits = family.golden["logits"]
    assert np.ptp(logits) > 0.1 and np.abs(np.diff(logits, axis=0)).max() > 1e-3


def test_golden_inputs_by_type():
    made = golden_inputs(
        {"n": np.int64(7), "bytes": np.zeros((3, 2), np.uint8), "noise": np.zeros(5, np.float32)}
    )
    assert made["n"].tolist() == [7, 4] and made["n"].dtype == np.int64
    assert made["bytes"].dtype == np.uint8 and made["bytes"].shape == (2, 3, 2)
    assert made["noise"].dtype == np.float32 and made["noise"].std() > 0.3


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("paddle", ".pdmodel"),
        ("paddle", ".json"),
        ("onnxruntime", ".onnx"),
        ("openvino", ".onnx"),
        ("openvino", ".pdmodel"),
        ("eager", ""),
    ],
)
def test_golden_replays_on_every_backend(family, kind, suffix):
    missing = available_backends()[kind]
    if missing:
        pytest.skip(f"no backend {kind}: {missing}")
    source = family.folder / f"{family.name}{suffix}"
    if kind == "eager":
        source = trained_model(family.cfg, family.weights)[0]
    # OpenVINO lacks the log_softmax and conv3d of Paddle programs.
    if (kind, suffix) == ("openvino", ".pdmodel") and family.name != "tags":
        message = r"openvino cannot open it: .*: export with --format onnx"
        with pytest.raises(BackendError, match=message):
            open_backend(source, kind)
        return
    backend = open_backend(source, kind, device="cpu", threads=1)
    inputs, logits = family.inputs, family.golden["logits"]
    assert {name: spec.dtype for name, spec in backend.inputs.items()} == {
        n: str(a.dtype) for n, a in inputs.items()
    }
    reordered = dict(reversed(list(inputs.items())))  # inputs are matched by name
    tolerance = 1e-4 * np.abs(logits).max()
    for rows in ([0, 1], [1], [0, 1, 1]):
        result = backend.run({name: array[rows] for name, array in reordered.items()})
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, logits[rows], rtol=0, atol=tolerance)
    name = next(iter(inputs))
    other = np.float64 if inputs[name].dtype != np.float64 else np.float32
    message = rf"takes {name} as {inputs[name].dtype} .*it was given float64"
    with pytest.raises(BackendError, match=message):
        backend.run({**inputs, name: inputs[name].astype(other)})
    with pytest.raises(BackendError, match=r"takes \w+ as .*was given only x"):
        backend.run({"x": inputs[name]})


# --- scores ---------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", ["paddle", "onnxruntime", "openvino", "eager"])
def test_scores_equal_those_of_a_test(family, kind):
    missing = available_backends()[kind]
    if missing:
        pytest.skip(f"no backend {kind}: {missing}")
    source = {"model": family.folder}
    if kind == "eager":
        source = {"config": family.config, "weights": family.weights}
    predictor = Predictor(**source, backend=kind, device="cpu", threads=1)
    for batch_size in (1, 3):
        assert_as_tested(list(predictor.predict(family.list, batch_size, topk=NUM_CLASSES)), family)
    rows = [tuple(np.round(list(scores.values()), 3)) for scores in family.expected.values()]
    assert len(set(rows)) == len(rows), "the videos have equal scores, so this test could not fail"


def test_a_built_model_predicts_with_its_config(family):
    model, _ = trained_model(family.cfg, family.weights)
    predictor = Predictor(model, family.cfg, class_names=NAMES, device="cpu")
    assert_as_tested(list(predictor.predict(family.list, 2, topk=NUM_CLASSES)), family)


def test_without_model_yaml_the_framework_defines_the_scores(families, tmp_path):
    family = families("tags")
    for file in family.folder.glob("tags.pd*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    predictor = Predictor(tmp_path / "tags.pdmodel", family.config, class_names=NAMES, device="cpu")
    assert_as_tested(list(predictor.predict(family.list, 3, topk=NUM_CLASSES)), family)


def test_class_names_of_a_built_model_come_from_the_class_folders(small):
    cfg = small()
    predictor = Predictor(build_model(cfg), cfg, device="cpu")
    assert predictor.labels == ["blue sky", "green", "红色"]
    train = {"format": "VideoDataset", "file_path": "nowhere"}
    cfg = small(DATASET={**cfg.origin.data["DATASET"], "train": train})
    assert Predictor(build_model(cfg, 3), cfg, device="cpu").labels is None


# --- shards ---------------------------------------------------------------------------------------


def test_a_shard_a_folder_and_a_glob_have_the_same_results(families, predictors):
    family, predictor = families("tags"), predictors("tags")
    shards = sorted(family.data.glob("*.tfrecord"))
    assert len(shards) == 2
    inputs = (family.data, str(family.data / "*.tfrecord"), shards)
    results = [list(predictor.predict(item)) for item in inputs]
    assert results[0] == results[1] == results[2] and len(results[0]) == 5
    assert [r.id for r in results[0]] == [f"test{number:05}" for number in range(5)]
    files = [r.input_path.partition("@")[0] for r in results[0]]
    assert files == [str(shards[0])] * 3 + [str(shards[1])] * 2
    assert all(len(r.class_ids) == 3 for r in results[0]), "INFERENCE.top_k"
    assert all(r.json["id"] == r.id for r in results[0])
    assert any(sum(r.scores) > 1 for r in results[0]), "the scores of classes are independent"


def test_reads_records_while_it_scores(families, predictors, monkeypatch):
    predictor, read = predictors("tags"), []
    real = Feed.sample

    def sample(self, record, source=None):
        read.append(record.location)
        return real(self, record, source)

    monkeypatch.setattr(Feed, "sample", sample)
    results = predictor.predict(families("tags").data, batch_size=2)
    next(results)
    assert len(read) == 2


def test_a_damaged_record_has_an_error_and_the_others_have_scores(families, predictors, tmp_path):
    shard = sorted(families("tags").data.glob("*.tfrecord"))[0]
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    (tmp_path / "a.tfrecord").write_bytes(content)
    for batch_size in (1, 2, 3):
        results = list(predictors("tags").predict(tmp_path / "a.tfrecord", batch_size))
        assert [r.error is None for r in results] == [False, True, True]
        assert results[0].error.startswith("decode: byte 0: ")
        assert results[0].input_path.endswith("a.tfrecord@0")


def test_takes_features_in_memory(families, predictors):
    rng = np.random.default_rng(0)
    features = {name: rng.integers(0, 256, (7, width), np.uint8) for name, width in WIDTHS.items()}
    example = FrameExample(b"mine", np.zeros(0, np.int64), features)
    results = list(predictors("tags").predict([example, families("tags").list, example]))
    assert results[0].id == "mine" and results[0].input_path == "example 0" and len(results) == 7
    assert results[0].scores == results[-1].scores
    wide = {**features, "rgb": np.zeros((7, 20), np.uint8)}
    (result,) = predictors("tags").predict(FrameExample(b"w", example.labels, wide))
    assert "a frame of rgb has 20 values, expected 16" in result.error
    incomplete = {"rgb": features["rgb"]}
    (result,) = predictors("tags").predict(FrameExample(b"w", example.labels, incomplete))
    assert "video 'w' has no feature list audio" in result.error


def test_rejects_a_video_for_a_tagger_and_explains_features(families, predictors, tmp_path):
    write_clip(tmp_path / "videos" / "a.mp4", 5)
    (tmp_path / "some.list").write_text("videos/a.mp4 3\n")
    videos = tmp_path / "videos"
    message = r"this model takes frame features; make them with tools/extract_features\.py"
    for item in (videos / "a.mp4", videos, tmp_path / "some.list", str(videos / "*")):
        with pytest.raises(ValueError, match=message):
            predictors("tags").predict(item)
    with pytest.raises(ValueError, match="no such file or folder"):
        predictors("tags").predict("none.tfrecord")
    with pytest.raises(
        ValueError, match=r"input 0 is a ndarray, expected a path or a FrameExample"
    ):
        predictors("tags").predict(random_frames(4))


def test_features_are_extracted_from_videos_only(families, tmp_path):
    family, extracted = families("tags"), []
    write_clip(tmp_path / "a.mp4", 5)
    write_clip(tmp_path / "broken.mp4", 5)

    def features(record: Record) -> FrameExample:
        extracted.append(record.path)
        if "broken" in record.path:
            raise ValueError("no frames in it")
        made = {name: np.full((4, width), 9, np.uint8) for name, width in WIDTHS.items()}
        return FrameExample(b"a", np.zeros(0, np.int64), made)

    predictor = Predictor(family.folder, features=features, device="cpu")
    results = list(predictor.predict([tmp_path, family.list], 2))
    assert extracted == [str(tmp_path / "a.mp4"), str(tmp_path / "broken.mp4")], (
        "shards have features already"
    )
    assert results[0].id == "a" and results[0].input_path == extracted[0]
    assert results[1].error == "features: no frames in it" and len(results) == 7
    with pytest.raises(
        ConfigError, match="features are for a model of frame features; this one takes"
    ):
        Predictor(families("audio").folder, features=features, device="cpu")


def test_takes_records_without_labels_or_id(predictors, tmp_path):
    features = {name: np.full((3, width), 99, np.uint8) for name, width in WIDTHS.items()}
    write_payloads(tmp_path / "a.tfrecord", [encode_example("", [], features)])
    (result,) = predictors("tags").predict(tmp_path / "a.tfrecord")
    assert result.id == "a.tfrecord:0" and result.error is None


# --- audio ----------------------------------------------------------------------------------------


def test_takes_audio_features_and_videos_of_a_folder(families, predictors):
    family, predictor = families("audio"), predictors("audio")
    results = list(predictor.predict(family.data, topk=NUM_CLASSES))
    assert [Path(r.input_path).name for r in results] == ["0.npy", "1.npy", "c.wav", "d e.mp4"]
    for result in results[2:]:  # the list has no number of frames for these
        expected = {Path(path).name: scores for path, scores in family.expected.items()}
        scores = expected[Path(result.input_path).name]
        assert scores_of(result) == pytest.approx(scores, abs=1e-5)
    write_audio(family.data.parent / "e.mp3", chirps(1.0), codec="mp3")
    (result,) = predictor.predict(family.data.parent / "e.mp3")
    assert result.error is None and result.note == ""


def test_silence_replaces_missing_audio_for_an_audio_model(families, predictors, tmp_path):
    write_clip(tmp_path / "silent.mp4", 12)
    (tmp_path / "text.wav").write_text("no audio at all " * 50)
    silent, text = predictors("audio").predict([tmp_path / "silent.mp4", tmp_path / "text.wav"])
    assert silent.note == "no audio: replaced by silence (missing_audio: zeros)"
    assert silent.error is None
    assert text.error.startswith("decode: ")
    cfg = load_config(families("audio").config, ["PIPELINE.test.decode.missing_audio=error"])
    predictor = Predictor(families("audio").folder, cfg, device="cpu")
    (failed,) = predictor.predict(tmp_path / "silent.mp4")
    assert "missing_audio: zeros uses silence instead" in failed.error
    (tmp_path / "empty").mkdir()
    message = r"empty: no video or audio file in this folder; known suffixes: .*\.wav"
    with pytest.raises(ValueError, match=message):
        predictors("audio").predict(tmp_path / "empty")
    message = r"a\.tfrecord: a shard of frame features, but this model takes"
    with pytest.raises(ValueError, match=message):
        predictors("audio").predict("a.tfrecord")


# --- frames with audio ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["paddle", "onnxruntime", "eager"])
def test_scores_each_modality_alone(families, kind):
    """The program's scores of a modality are the model's scores with zeros for the others."""
    if available_backends()[kind]:
        pytest.skip(f"no backend {kind}: {available_backends()[kind]}")
    family = families("both")
    source = {"model": family.folder}
    if kind == "eager":
        source = {"config": family.config, "weights": family.weights}
    predictor = Predictor(**source, backend=kind, device="cpu", threads=1)
    path = family.data / "0.mp4"
    (result,) = predictor.predict(path, topk=NUM_CLASSES, modalities=True)
    model, _ = trained_model(family.cfg, family.weights)
    pipeline = build_pipeline(family.cfg, "test")
    views = pipeline.finish(pipeline(Record(str(path)), np.random.default_rng(0)))
    tensors = {name: paddle.to_tensor(np.asarray(views[name])) for name in model.inputs}
    assert result.modalities.keys() == {"visual", "audio"}
    for modality, names in model.modalities.items():
        with paddle.no_grad():
            logits = model(keep_only(tensors, names))
            expected = paddle.nn.functional.softmax(logits, -1).mean(0).numpy()
        scores = scores_of(result.modalities[modality])
        in_order = [scores[k] for k in range(NUM_CLASSES)]
        np.testing.assert_allclose(in_order, expected, rtol=0, atol=1e-5)
        assert scores != pytest.approx(scores_of(result), abs=1e-4)
    audio = result.modalities["audio"]
    assert result.json["modalities"]["audio"]["label_names"] == audio.label_names
    assert "\tvisual top-1 class: " in str(result) and "note" not in str(result)


def test_a_video_without_audio_is_classified_by_its_frames(families, predictors):
    family, predictor = families("both"), predictors("both")
    silent, part = predictor.predict(
        [family.data / "silent.mp4", family.data / "x" / "part.mkv"], 2, modalities=True
    )
    assert silent.note == "no audio: classified by the frames alone"
    assert list(silent.modalities) == ["visual"]
    assert silent.modalities["visual"].scores == pytest.approx(silent.scores, abs=1e-6)
    assert part.note == "no audio in 3 of 6 views: classified by the frames alone"
    assert list(part.modalities) == ["visual", "audio"]
    assert silent.json["note"] == silent.note and f"\tnote: {silent.note}\n" in str(silent)


def test_frames_in_memory_and_in_folders_have_no_audio(families, predictors, tmp_path):
    import cv2

    frames = random_frames(30)
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(tmp_path / f"img_{number:05}.jpg"), frame[..., ::-1])
    memory, folder = predictors("both").predict([frames, tmp_path])
    assert memory.note == folder.note == "no audio: classified by the frames alone"


def test_rejects_modalities_of_a_model_with_one(predictors):
    with pytest.raises(ValueError, match="this one has a single modality"):
        predictors("audio").predict("a.wav", modalities=True)


# --- files of results, the command ----------------------------------------------------------------


def test_files_of_results(tmp_path):
    results = [
        Result("a", [4, 0], [0.75, 0.1234567], ["x", "y"], id="id1"),
        Result("b, c", [1], [1e-7], ["z"]),
        Result("d", error="no"),
    ]
    write_results(tmp_path / "r.csv", results)
    rows = ["VideoId,LabelConfidencePairs", "id1,4 0.75 0 0.123457", '"b, c",1 1e-07', ""]
    assert (tmp_path / "r.csv").read_text() == "\n".join(rows)
    write_results(tmp_path / "r.jsonl", results)
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [r.json for r in results]
    for rows in (results, []):
        write_results(tmp_path / "r.json", rows)
        assert json.loads((tmp_path / "r.json").read_text()) == [r.json for r in rows]
    with pytest.raises(ValueError, match=r"r\.txt: .*ends in \.json, \.jsonl, \.csv"):
        write_results(tmp_path / "r.txt", results)


def test_a_failure_leaves_no_incomplete_file_of_results(tmp_path):
    with pytest.raises(ZeroDivisionError), result_file(tmp_path / "r.jsonl") as write:
        write(Result("a"))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tool(families, monkeypatch, root):
    """`tool(family, flags...)` runs tools/predict.py in this process and returns its exit code."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    import predict

    def run(name, *flags):
        model = ["--model", str(families(name).folder)]
        monkeypatch.setattr(sys, "argv", ["predict.py", *model, *map(str, flags)])
        return predict.main()

    return run


def test_writes_tags_in_the_format_of_the_challenge(families, tool, tmp_path, capsys):
    family = families("tags")
    vocabulary = family.data / "vocabulary.csv"
    flags = ["-i", family.data, "--topk", "20", "-b", "3", "--use_gpu", "f"]
    flags += ["--class_names", vocabulary]
    assert tool("tags", *flags, "--out", tmp_path / "r.csv", "--quiet") == 0
    assert "top-1" not in capsys.readouterr().out
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["VideoId"] for row in rows] == [f"test{number:05}" for number in range(5)]
    for row, expected in zip(rows, family.expected.values(), strict=True):
        words = row["LabelConfidencePairs"].split()
        scores = dict(zip(map(int, words[::2]), map(float, words[1::2]), strict=True))
        assert scores == pytest.approx(expected, abs=1e-5)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert tool("tags", *flags, "--out", tmp_path / "r.jsonl") == 0
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [row["VideoId"] for row in rows]
    assert set(lines[0]["label_names"]) == set(NAMES)
    assert "\tid: test00000\n\ttop-1 class: " in capsys.readouterr().out


def test_modalities_on_the_command_line(families, tool, tmp_path, capsys):
    folder, out = families("both").data, tmp_path / "r.json"
    videos = [folder / "silent.mp4", folder / "0.mp4"]
    assert tool("both", "-i", *videos, "--modalities", "--out", out) == 0
    silent, loud = json.loads(out.read_text())
    assert list(silent["modalities"]) == ["visual"]
    assert list(loud["modalities"]) == ["visual", "audio"]
    printed = capsys.readouterr().out
    assert printed.count("\tnote: no audio: classified by the frames alone") == 1


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        (
            "audio",
            ["--out", "x.csv"],
            "--out x.csv: .csv is for multi-label models; use .json or .jsonl",
        ),
        ("audio", ["--out", "x.txt"], "ends in .json, .jsonl, .csv"),
        ("audio", ["--quiet"], "--quiet prints no results; give --out FILE to write them"),
        ("audio", ["--modalities"], "this one has a single modality"),
        ("tags", ["-i", "a.mp4"], "make them with tools/extract_features.py"),
    ],
)
def test_rejects_flags_that_do_not_fit(tool, capsys, monkeypatch, tmp_path, name, flags, message):
    monkeypatch.chdir(tmp_path)
    assert tool(name, "-i", "a.wav", *flags) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
