"""Programs that take uint8 frames and return probabilities."""

import numpy as np
import paddle
import pytest
import yaml

from paddlevideo.commands.export import make_parser
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.exporting.export import export, program_inputs
from paddlevideo.exporting.golden import golden_inputs
from paddlevideo.exporting.preprocess import LARGE_VIDEO, video_inputs, video_probabilities
from paddlevideo.exporting.program import ExportError
from paddlevideo.exporting.video_program import VideoProgram
from paddlevideo.predict.predictor import Predictor
from paddlevideo.runtimes.choose import available_backends, open_backend
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.sample import Record
from paddlevideo.weights import state_arrays, write_arrays
from tests.parts.conftest import CONFIG, NAMES, write_weights
from tests.parts.predict.families import CONFIGS as OTHER_FAMILIES

SLOWFAST = """
MODEL:
  framework: Recognizer3D
  backbone: {name: ResNetSlowFast, alpha: 4, beta: 4, width_per_group: 8}
  head: {name: SlowFastHead, width_per_group: 8, alpha: 4, beta: 4, num_frames: 8, crop_size: 32}
DATASET:
  test: {format: SFVideoDataset, file_path: LIST, num_ensemble_views: 1, num_spatial_crops: 3}
PIPELINE:
  test:
    decode: {name: VideoDecoder}
    decode_sampler: {name: DecodeSampler, num_frames: 8, sampling_rate: 1, test_mode: True}
    transform:
      - JitterScale: {min_size: 36, max_size: 36}
      - MultiCrop: {target_size: 32, test_mode: True}
      - Image2Array: {transpose: False}
      - Normalization: {mean: [0.45, 0.45, 0.45], std: [0.225, 0.225, 0.225],
                        tensor_shape: [1, 1, 1, 3]}
      - PackOutput: {alpha: 4}
model_name: slowfast
"""
CHANNELS_LAST = """
MODEL:
  framework: Recognizer2D
  backbone: {name: ResNetTSM, depth: 10, base_channels: 8, num_seg: 4, data_format: NHWC}
  head: {name: TSMHead}
DATASET:
  test: {format: VideoDataset, file_path: LIST}
PIPELINE:
  test:
    decode: {name: VideoDecoder}
    sample: {name: Sampler, num_seg: 4, seg_len: 1, valid_mode: True, select_left: True}
    transform:
      - Scale: {short_size: 40}
      - CenterCrop: {target_size: 32}
      - Image2Array: {transpose: False}
      - Normalization: {mean: [0.4, 0.5, 0.4], std: [0.2, 0.2, 0.3], tensor_shape: [1, 1, 3]}
model_name: tsm
"""
FAMILIES = {"tsn": CONFIG, "slowfast": SLOWFAST, "tsm, channels last": CHANNELS_LAST}


def make_model(text, tmp_path, multi_label=False):
    """(config, model with random weights whose classes differ)."""
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("LIST", "none.list"), encoding="utf-8")
    cfg = load_config(path)
    paddle.seed(3)
    model = build_model(cfg, 3)
    for name, parameter in model.named_parameters():
        if parameter.shape[-1] == 3 and len(parameter.shape) == 2:
            noise = np.random.default_rng(0).standard_normal(parameter.shape)
            parameter.set_value(noise.astype(np.float32) * 0.3)
            assert "head" in name
    if multi_label:
        model.allow_multi_label()
    model.eval()
    return cfg, model


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_program_computes_what_a_prediction_does(family, multi_label, tmp_path):
    cfg, model = make_model(FAMILIES[family], tmp_path, multi_label)
    plain, _ = program_inputs(cfg, model)
    inputs, golden = video_inputs(cfg, model, plain, None)
    views = build_pipeline(cfg, "test").num_views
    assert list(inputs) == ["frames"] and inputs["frames"].dtype == "uint8"
    assert inputs["frames"].shape[:2] == (None, views) and inputs["frames"].axes == "N V T H W C"
    assert golden["frames"].shape == (2, *inputs["frames"].shape[1:])
    expected = video_probabilities(cfg, model, golden)
    assert expected.shape == (2, 3) and np.ptp(expected) > 0.01
    assert np.allclose(expected.sum(1), 1) != multi_label
    pipeline = build_pipeline(cfg, "test")
    assert isinstance(pipeline, ClipPipeline)
    program = VideoProgram(model, pipeline.batch_transforms, list(inputs["frames"].shape[1:]))
    with paddle.no_grad():
        values = program({"frames": paddle.to_tensor(golden["frames"])}).numpy()
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_a_multi_label_program_can_be_written(tmp_path):
    """A `.pdmodel`, from which an ONNX program is made, cannot have all operators."""
    text = CONFIG.replace("DATASET:", "DATASET:\n  multi_label: True")
    cfg, _ = make_model(text, tmp_path)
    weights = write_weights(cfg, tmp_path / "w.pdparams", NAMES)
    out = export(cfg, weights, tmp_path / "out", with_preprocess=True)
    manifest = read_manifest(out)
    assert manifest is not None and manifest.multi_label and manifest.preprocess
    assert manifest.differences["tiny.pdmodel"]["paddle"] < 1e-5


def test_large_videos_have_one_golden_sample_and_a_fixed_batch_its_own(tmp_path):
    cfg, model = make_model(CONFIG, tmp_path)
    plain, _ = program_inputs(cfg, model)
    inputs, golden = video_inputs(cfg, model, plain, 3)
    assert inputs["frames"].shape == (3, 10, 2, 64, 64, 3) and len(golden["frames"]) == 3
    segments = LARGE_VIDEO // (10 * 64 * 64 * 3) + 1
    large = load_config(tmp_path / "config.yaml", [f"PIPELINE.test.sample.num_seg={segments}"])
    assert len(video_inputs(large, model, plain, None)[1]["frames"]) == 1


def test_model_yaml_says_what_the_program_takes(video_export):
    manifest = read_manifest(video_export / "out")
    assert manifest.preprocess and manifest.views == 10 and manifest.labels == NAMES
    content = yaml.safe_load((video_export / "out" / "model.yaml").read_text(encoding="utf-8"))
    shape = [None, 10, 2, 64, 64, 3]
    assert content["inputs"] == {
        "frames": {"shape": shape, "dtype": "uint8", "axes": "N V T H W C"}
    }
    assert content["output"] == "probabilities [N, K] float32"
    assert content["scores"] == "the output" and content["preprocess"] is True


def test_the_program_gives_the_scores_of_the_plain_one(video_export, exported):
    """From the same decoded frames, in every runtime and for several numbers of videos."""
    plain = Predictor(exported.folder, backend="paddle", device="cpu", threads=1)
    results = list(plain.predict(exported.files, topk=3))
    expected = [dict(zip(r.class_ids, r.scores, strict=True)) for r in results]
    pipeline = build_pipeline(exported.cfg, "test")
    rng = np.random.default_rng(0)
    frames = np.stack([pipeline(Record(path), rng)["frames"] for path in exported.files])
    lacking = available_backends()
    for kind in ("onnxruntime", "openvino"):
        if lacking[kind]:
            continue
        program = open_backend(video_export / "out", kind, device="cpu")
        for number in (3, 1, 2):
            for row, scores in zip(
                program.run({"frames": frames[:number]}), expected, strict=False
            ):
                assert dict(enumerate(row.tolist())) == pytest.approx(scores, rel=0, abs=1e-5)


def test_predict_refuses_it_and_says_what_to_do(video_export):
    for model in (video_export / "out", video_export / "out" / "tiny.onnx"):
        with pytest.raises(ConfigError, match="contain the preprocessing.*without --with-preproc"):
            Predictor(model)


def test_a_folder_holds_one_kind_of_program(video_export, exported):
    with pytest.raises(ExportError, match="an export of tiny with other settings"):
        export(exported.cfg, exported.weights, video_export / "out", ["pir"])
    with pytest.raises(ExportError, match="an export of tiny with other settings"):
        export(exported.cfg, exported.weights, exported.folder, ["pir"], with_preprocess=True)


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_refuses_models_of_more_than_frames(family, tmp_path):
    cfg, model = make_model(OTHER_FAMILIES[family], tmp_path)
    inputs, _ = program_inputs(cfg, model)
    with pytest.raises(ExportError, match="for models of frames alone.*Export it without"):
        video_inputs(cfg, model, inputs, None)


def test_refuses_frames_of_any_size(tmp_path):
    cfg, model = make_model(CONFIG.replace("- TenCrop: {target_size: 64}", ""), tmp_path)
    inputs, _ = program_inputs(cfg, model)
    with pytest.raises(ExportError, match="needs frames of one size.*with a crop"):
        video_inputs(cfg, model, inputs, None)


@pytest.mark.parametrize(("batch", "with_preprocess"), [(2, False), (0, True), (-1, True)])
def test_refuses_a_batch_that_makes_no_sense(exported, tmp_path, batch, with_preprocess):
    with pytest.raises(ExportError, match=f"batch is {batch}; expected 1 or more videos"):
        export(
            exported.cfg,
            exported.weights,
            tmp_path,
            with_preprocess=with_preprocess,
            batch=batch,
        )


def test_the_command_has_the_flags():
    parser = make_parser()
    plain = parser.parse_args([])
    assert (plain.verify, plain.with_preprocess, plain.batch, plain.triton) == (
        True,
        False,
        None,
        None,
    )
    flags = ["--verify=False", "--with-preprocess", "--batch", "4", "--triton", "repo"]
    args = parser.parse_args(flags)
    assert (args.verify, args.with_preprocess, args.batch, args.triton) == (False, True, 4, "repo")
    assert parser.parse_args(["--with_preprocess", "--verify"]).with_preprocess


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [None, 3])
def test_every_format_and_runtime_gives_the_probabilities(family, batch, tmp_path):
    """Export compares them in every runtime that this machine has."""
    cfg, model = make_model(FAMILIES[family], tmp_path)
    weights = tmp_path / "w.pdparams"
    write_arrays(weights, state_arrays(model))
    cfg = load_config(tmp_path / "config.yaml", ["MODEL.head.num_classes=3"])
    options = {"with_preprocess": True, "batch": batch}
    export(cfg, weights, tmp_path / "out", ["all"], **options)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.inputs["frames"].shape[0] == batch
    assert all("paddle" in row or "onnxruntime" in row for row in manifest.differences.values())
    frames = golden_inputs({"frames": np.zeros(manifest.inputs["frames"].shape[1:], np.uint8)}, 3)
    values = open_backend(tmp_path / "out", "paddle").run(frames)
    np.testing.assert_allclose(values, video_probabilities(cfg, model, frames), atol=1e-5)
