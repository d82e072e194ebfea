"""Predictions of a model of frames: scores, inputs, errors, the command."""

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from paddlevideo.api import test as run_test
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.load import trained_model
from paddlevideo.media.clip import ArrayClip
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import Result, write_results
from paddlevideo.runtimes.base import finite
from paddlevideo.sample import Record
from paddlevideo.weights import WeightsError
from tests.clips import random_frames
from tests.parts.conftest import NAMES, skip_without

PATTERN = "img_{:05}.jpg"


@pytest.fixture(scope="module")
def expected(exported, tmp_path_factory) -> dict[str, np.ndarray]:
    """The scores of main.py --test, by path."""
    out = tmp_path_factory.mktemp("test") / "scores.json"
    run_test(exported.cfg, str(exported.weights), str(out))
    rows = json.loads(out.read_text(encoding="utf-8"))["results"]
    return {row["path"]: np.array(row["scores"]) for row in rows}


@pytest.fixture(scope="module")
def predictor(exported) -> Predictor:
    return Predictor(exported.folder, device="cpu", threads=1)


def scores_of(result: Result) -> np.ndarray:
    assert result.error is None, result.error
    rows = sorted(zip(result.class_ids, result.scores, strict=True))
    return np.array([score for _, score in rows])


@pytest.mark.parametrize("kind", ["paddle", "onnxruntime", "openvino", "eager"])
def test_scores_equal_those_of_a_test(exported, expected, kind):
    skip_without(kind)
    source = {"model": exported.folder}
    if kind == "eager":
        source = {"config": exported.config, "weights": exported.weights}
    predictor = Predictor(**source, backend=kind, device="cpu", threads=1)
    for batch_size in (1, 2, 250):
        results = list(predictor.predict(exported.videos, batch_size, topk=3))
        assert [r.input_path for r in results] == list(expected)
        for result in results:
            np.testing.assert_allclose(
                scores_of(result), expected[result.input_path], rtol=0, atol=1e-4
            )
    different = {tuple(np.round(scores, 3)) for scores in expected.values()}
    assert len(different) == 3, "the videos have equal scores, so this test could not fail"


def test_a_built_model_predicts_with_its_config(exported, expected):
    model, _ = trained_model(exported.cfg, exported.weights)
    (result,) = Predictor(model, exported.cfg, device="cpu").predict(exported.files[0], topk=3)
    np.testing.assert_allclose(scores_of(result), expected[result.input_path], rtol=0, atol=1e-5)
    assert result.label_names == [str(i) for i in result.class_ids]


def test_a_built_model_has_the_class_names_of_its_data(small, clips):
    overrides = ("MIX=null", "DATASET.train={format: VideoDataset}", f"DATASET.root={clips}")
    for cfg in (small("MIX=null"), small(*overrides)):
        predictor = Predictor(build_model(cfg, 3), config=cfg, backend="eager")
        assert predictor.labels == ["blue sky", "green", "红色"]


def test_views_per_step_does_not_change_scores(exported, predictor):
    (one,) = predictor.predict(exported.files[0])
    for views in (1, 3, 10):
        other_predictor = Predictor(exported.folder, device="cpu", views_per_step=views)
        (other,) = other_predictor.predict(exported.files[0])
        np.testing.assert_allclose(other.scores, one.scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [10, 10, 10]), (2, [15, 5, 10]), (250, [15, 15])]
)
def test_views_of_different_videos_share_runs(exported, monkeypatch, batch_size, sizes):
    predictor = Predictor(exported.folder, device="cpu", views_per_step=15)
    real, run_sizes = predictor.backend.run, []

    def run(arrays):
        run_sizes.append(len(arrays["frames"]))
        return real(arrays)

    monkeypatch.setattr(predictor.backend, "run", run)
    assert len(list(predictor.predict(exported.videos, batch_size))) == 3
    assert run_sizes == sizes


def test_memory_limits_the_number_of_waiting_videos(exported, monkeypatch, caplog):
    predictor = Predictor(exported.folder, device="cpu")
    assert predictor.views_per_step > 10  # small clips share a run
    monkeypatch.setattr("paddlevideo.predict.predictor.WAIT_BYTES", 2 * 10 * 2 * 64 * 64 * 3)
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    assert len(list(predictor.predict(exported.videos, 250))) == 3
    logger.removeHandler(caplog.handler)
    assert "2 video(s) at a time instead of 250: the views of one take 0 MB" in caplog.text


def test_results_have_the_best_classes_with_names(exported, predictor):
    (two,) = predictor.predict(exported.files[0])
    (most,) = predictor.predict(exported.files[0], topk=99)
    assert len(two.class_ids) == 2  # INFERENCE.top_k
    assert sorted(most.class_ids) == [0, 1, 2] and most.scores == sorted(most.scores, reverse=True)
    assert most.label_names == [NAMES[i] for i in most.class_ids]
    assert sum(most.scores) == pytest.approx(1)
    assert two.class_ids == most.class_ids[:2]


def test_a_failure_is_a_result_and_the_others_have_scores(exported, predictor, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video " * 100, encoding="utf-8")
    complete = Path(exported.files[0]).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(complete[: len(complete) // 2])
    inputs = [
        tmp_path / "empty.mp4",
        exported.files[0],
        tmp_path / "text.mp4",
        tmp_path / "cut.mp4",
        exported.files[1],
        "no.mp4",
    ]
    for batch_size in (1, 3):
        results = list(predictor.predict(inputs, batch_size))
        assert [r.input_path for r in results] == [str(i) for i in inputs]
        assert [r.error is None for r in results] == [False, True, False, False, True, False]
        assert results[0].error == "decode: the file is empty (0 bytes)"
        assert results[2].error.startswith("decode: ") and results[3].error.startswith("decode: ")
        assert results[5].error == "decode: no such file"
        assert results[0].class_ids == []
        assert results[0].json == {"input_path": str(inputs[0]), "error": results[0].error}


def test_scores_that_are_not_finite_are_a_failure(exported, predictor, monkeypatch, tmp_path):
    """Only the video with such scores fails, whatever else is in its batch."""
    run, frames = predictor.backend.run, np.zeros((9, 40, 40, 3), np.uint8)
    white = np.full_like(frames, 255)

    def broken(arrays):
        logits = run(arrays)
        logits[arrays["frames"].mean(axis=(1, 2, 3, 4)) > 1] = np.nan  # the white ones
        return finite(logits, "the runtime")

    monkeypatch.setattr(predictor.backend, "run", broken)
    results = list(predictor.predict([frames, white, frames], batch_size=3))
    assert [result.error is None for result in results] == [True, False, True]
    assert results[1].error.startswith("the runtime returned NaN or infinity")
    write_results(tmp_path / "r.json", results)
    json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)


def test_all_inputs_may_fail(predictor):
    results = list(predictor.predict(["a.mp4", "b.mp4"], 2))
    assert [r.error for r in results] == ["decode: no such file"] * 2
    assert list(predictor.predict([])) == []


def test_takes_frames_in_memory(exported, predictor):
    with VideoDecoder().open(Record(exported.files[0])) as clip:
        frames = clip.read(np.arange(clip.num_frames))
    inputs = [exported.files[0], frames, random_frames(9, seed=4)]
    from_file, from_memory, other = predictor.predict(inputs)
    assert from_memory.input_path == "array 1"
    assert from_memory.scores == pytest.approx(from_file.scores, abs=1e-6)
    assert other.scores != pytest.approx(from_file.scores, abs=1e-3)
    (alone,) = predictor.predict(frames)
    assert alone.class_ids == from_file.class_ids


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.zeros((4, 8, 8, 3), np.float32),
            r"input 0 is float32 \[4, 8, 8, 3\], expected frames uint8 \[T, H, W, 3\]",
        ),
        (np.zeros((8, 8, 3), np.uint8), r"input 0 is uint8 \[8, 8, 3\]"),
        ([3], "input 0 is a int, expected a path or frames"),
    ],
)
def test_rejects_inputs_of_other_types(predictor, value, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(value)


def test_rejects_numbers_below_one(predictor, exported):
    with pytest.raises(ValueError, match="batch_size is 0 and topk is 2; both must be at least 1"):
        predictor.predict(exported.files[0], batch_size=0)
    with pytest.raises(ValueError, match="topk is 0"):
        predictor.predict(exported.files[0], topk=0)


def test_a_folder_of_frames_is_one_video(exported, predictor, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, frame in enumerate(random_frames(6), 1):
        cv2.imwrite(str(folder / PATTERN.format(number)), frame[..., ::-1])
    (result,) = predictor.predict(folder)
    assert result.input_path == str(folder) and result.error is None


def test_a_model_of_frame_folders_predicts_videos(exported, expected):
    cfg = load_config(exported.config, ["PIPELINE.test.decode={name: FrameDecoder}"])
    (result,) = Predictor(exported.folder, cfg, device="cpu").predict(exported.files[0], topk=3)
    np.testing.assert_allclose(scores_of(result), expected[result.input_path], rtol=0, atol=1e-4)


def test_a_given_config_replaces_the_exported_one_with_a_warning(exported, caplog):
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    Predictor(exported.folder, exported.config, device="cpu")
    assert "differs" not in caplog.text
    cfg = load_config(exported.config, ["PIPELINE.test.transform.0.Scale.short_size=100"])
    (other,) = Predictor(exported.folder, cfg, device="cpu").predict(exported.files[0])
    logger.removeHandler(caplog.handler)
    assert "PIPELINE.test of" in caplog.text
    assert "differs from the one that the model was exported with" in caplog.text
    (same,) = Predictor(exported.folder, device="cpu").predict(exported.files[0])
    assert other.scores != pytest.approx(same.scores, abs=1e-4)


def test_rejects_a_config_that_does_not_fit_the_program(exported):
    cfg = load_config(exported.config, ["PIPELINE.test.sample.num_seg=3"])
    message = r"takes frames \[2, 3, 64, 64\], PIPELINE\.test gives \[3, 3, 64, 64\]"
    with pytest.raises(ConfigError, match=message):
        Predictor(exported.folder, cfg)


def test_names_what_is_missing(exported, tmp_path):
    for suffix in (".pdmodel", ".pdiparams"):
        shutil.copy(exported.folder / f"tiny{suffix}", tmp_path)
    with pytest.raises(ConfigError, match=r"no model\.yaml that belongs to it; .*--config"):
        Predictor(tmp_path / "tiny.pdmodel")
    predictor = Predictor(tmp_path / "tiny.pdmodel", exported.config, device="cpu")
    (result,) = predictor.predict(exported.files[0])
    assert result.error is None
    with pytest.raises(ConfigError, match="a built model needs the config of its pipeline"):
        Predictor(trained_model(exported.cfg, exported.weights)[0])
    with pytest.raises(ConfigError, match=r"none: there is no such file or folder; export the"):
        Predictor(tmp_path / "none")
    with pytest.raises(ConfigError, match="no model: give an exported folder .*config and weights"):
        Predictor(config=exported.config)
    with pytest.raises(ConfigError, match="weights are for a Predictor without model"):
        Predictor(exported.folder, weights=exported.weights)
    other = load_config(exported.config, ["MODEL.backbone.layers=34"])
    with pytest.raises(WeightsError, match="another model"):
        Predictor(config=other, weights=exported.weights)


@pytest.fixture(scope="module")
def folded(exported, tmp_path_factory) -> Path:
    """PaddleVideo's programs take one clip of views x segments, and have no model.yaml."""
    folder = tmp_path_factory.mktemp("folded")
    model, _ = trained_model(exported.cfg, exported.weights)

    class Folded(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, data):
            return self.model({"frames": data})

    spec = paddle.static.InputSpec([None, 20, 3, 64, 64], "float32", "data_batch_0")
    paddle.jit.save(Folded(), str(folder / "old"), input_spec=[spec])
    return folder / "old.json"


@pytest.mark.parametrize("suffix", ["", ".onnx"])
def test_exports_of_paddlevideo_fold_views_into_segments(
    exported, expected, folded, tmp_path, suffix
):
    program = folded
    if suffix:
        skip_without("onnxruntime")
        import paddle2onnx

        converted = tmp_path / "old.onnx"
        weights = program.with_suffix(".pdiparams")
        paddle2onnx.export(str(program), str(weights), str(converted), opset_version=13)
        program = converted
    predictor = Predictor(program, exported.config, device="cpu")
    for result in predictor.predict(exported.videos, 2, topk=3):
        np.testing.assert_allclose(
            scores_of(result), expected[result.input_path], rtol=0, atol=1e-4
        )


def test_videos_of_different_sizes_are_scored_one_by_one(exported, tmp_path):
    transform = (
        "PIPELINE.test.transform=[{Scale: {short_size: 64, fixed_ratio: false}}, Image2Array, "
        "{Normalization: {mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}}]"
    )
    cfg = load_config(exported.config, [transform])
    model, _ = trained_model(cfg, exported.weights)
    results = list(Predictor(model, cfg, device="cpu").predict(exported.videos, 3))
    assert [r.error for r in results] == [None] * 3


def test_array_clip_reads_any_order():
    clip = ArrayClip(random_frames(5))
    assert clip.num_frames == 5
    np.testing.assert_array_equal(clip.read([3, 0, 3]), clip.frames[[3, 0, 3]])
