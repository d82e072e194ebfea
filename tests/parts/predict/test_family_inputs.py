"""What the models of families.py take: shards, features, audio, videos, frames in memory."""

from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.youtube8m.sequence_example import FrameExample, encode_example
from paddlevideo.data.youtube8m.tfrecord import write_payloads
from paddlevideo.engine.build import build_pipeline, load_config
from paddlevideo.models.audiovisual import keep_only
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.predictor import Predictor
from paddlevideo.sample import Record
from tests.audio_clips import chirps, write_audio
from tests.clips import random_frames, write_clip
from tests.parts.predict.families import NUM_CLASSES, WIDTHS, scores_of

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
    for workers in (0, 1):  # one thread may read the next batch meanwhile, and no more
        results = predictor.predict(families("tags").data, batch_size=2, workers=workers)
        next(results)
        results.close()
        assert len(read) == 2 if workers == 0 else 2 <= len(read) <= 4
        read.clear()


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
    message = r"this model takes frame features; make them with python tools/extract_features\.py"
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


def test_takes_audio_features_and_videos_of_a_folder(families, predictors, tmp_path):
    family, predictor = families("audio"), predictors("audio")
    results = list(predictor.predict(family.data, topk=NUM_CLASSES))
    assert [Path(r.input_path).name for r in results] == ["0.npy", "1.npy", "c.wav", "d e.mp4"]
    for result in results[2:]:  # the list has no number of frames for these
        expected = {Path(path).name: scores for path, scores in family.expected.items()}
        scores = expected[Path(result.input_path).name]
        assert scores_of(result) == pytest.approx(scores, abs=1e-5)
    write_audio(tmp_path / "e.mp3", chirps(1.0), codec="mp3")
    (result,) = predictor.predict(tmp_path / "e.mp3")
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
def test_scores_each_modality_alone(families, predictor, trained, kind):
    """The program's scores of a modality are the model's scores with zeros for the others."""
    family = families("both")
    path = family.data / "0.mp4"
    (result,) = predictor(family, kind).predict(path, topk=NUM_CLASSES, modalities=True)
    model = trained(family)
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
