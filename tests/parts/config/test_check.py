"""Reading a config: values, defaults, and all mistakes at once, each with its location."""

import textwrap

import pytest

from paddlevideo.config import check
from paddlevideo.config.schema import ConfigError
from tests.config_files import PLAIN, problems

# --- valid configs --------------------------------------------------------------------------------


def test_reads_values_components_and_defaults(write):
    cfg = check.read_config(write(PLAIN))
    assert cfg.MODEL.args["backbone"].name == "ResNetTweaksTSN"
    assert (cfg.DATASET.batch_size, cfg.DATASET.num_workers) == (2, 0)
    assert cfg.DATASET.train.name == "VideoDataset"
    assert [t.name for t in cfg.PIPELINE.train.transform] == ["Scale", "RandomFlip", "Image2Array"]
    assert cfg.OPTIMIZER.args["learning_rate"].args["learning_rate"] == 0.01, "1e-2 is a number"
    assert cfg.MIX is None and cfg.folder == "output/model"
    assert cfg.OPTIMIZER.make().learning_rate(0.0) == 0.01


def test_notes_keys_without_effect_with_the_reason(write):
    text = PLAIN.replace("batch_size: 2", "shuffle_valid: True") + "log_level: INFO\n"
    text = text.replace("seg_len: 1}", "seg_len: 1, use_pil: False}")
    text = text.replace("train.list}", "train.list, num_retries: 5}")
    notes = check.read_config(write(text)).origin.notes
    assert len(notes) == 4
    for expected in (
        ":6: DATASET.shuffle_valid has no effect: validation uses each sample once",
        ":21: log_level has no effect: the log has one level",
        ":7: DATASET.train.num_retries has no effect: a file that fails",
        ":11: PIPELINE.train.sample.use_pil has no effect",
    ):
        assert any(expected in note for note in notes), expected


def test_notes_where_inference_differs_from_the_test_pipeline(write):
    test_pipeline = PLAIN.replace("  train:\n    decode", "  test:\n    decode")
    text = test_pipeline + "INFERENCE: {num_seg: 8, seg_len: 1, alpha: 8, short_size: 72}\n"
    (note,) = check.read_config(write(text)).origin.notes
    assert note.endswith(
        "a.yaml:21: INFERENCE.num_seg 8 has no effect: "
        "PIPELINE.test has 2, and exported models use PIPELINE.test"
    )
    assert check.read_config(write(PLAIN + "INFERENCE: {num_seg: 8}\n")).origin.notes == ()


def test_decode_sampler_replaces_decode_and_sample(write):
    def config(steps: str):
        old = (
            "    decode: {name: VideoDecoder}\n    sample: {name: Sampler, num_seg: 2, seg_len: 1}"
        )
        assert old in PLAIN
        return write(PLAIN.replace(old, textwrap.indent(steps, "    ")))

    sampler = "decode_sampler: {name: DecodeSampler, num_frames: 8, sampling_rate: 2}"
    path = config(sampler)
    train = check.read_config(path, ["PIPELINE.train.decode_sampler.num_frames=16"]).PIPELINE.train
    assert (train.sample.name, train.sample.args["num_frames"]) == ("DecodeSampler", 16)
    assert train.decode.name == "VideoDecoder"
    assert train.sample.path == "PIPELINE.train.decode_sampler"
    assert problems(path, ["PIPELINE.train.decode_sampler.frames=3"])[0].endswith(
        "PIPELINE.train.decode_sampler (DecodeSampler) has no argument 'frames'; "
        "did you mean 'num_frames'?"
    )
    assert problems(config(f"{sampler}\nsample: {{name: Sampler}}"))[0].endswith(
        "PIPELINE.train.decode_sampler is another name for sample, which is also given; "
        "keep one of them"
    )


def test_reads_multigrid_and_precise_bn(write):
    text = """
        MULTIGRID:
          LONG_CYCLE: True
          epoch_factor: 1.5
          long_cycle_factors: [{value: [0.5, 1]}, [1, 1]]
        PRECISEBN: {preciseBN_interval: 20, num_iters_preciseBN: 200}
    """
    cfg = check.read_config(write(PLAIN + textwrap.dedent(text)))
    assert cfg.MULTIGRID.LONG_CYCLE is True and cfg.MULTIGRID.SHORT_CYCLE is False
    assert cfg.MULTIGRID.epoch_factor == 1.5
    assert cfg.MULTIGRID.long_cycle_factors == [{"value": [0.5, 1]}, [1.0, 1.0]]
    assert (cfg.PRECISEBN.preciseBN_interval, cfg.PRECISEBN.num_iters_preciseBN) == (20, 200)
    assert check.read_config(write(PLAIN)).MULTIGRID is None
    assert problems(write(PLAIN + "MULTIGRID: {LONG_CYCLES: True, bn_base_size: 0}\n")) == [
        "a.yaml:21: MULTIGRID.LONG_CYCLES is not known; did you mean 'LONG_CYCLE'?",
        "a.yaml:21: MULTIGRID.bn_base_size is 0, expected at least 1",
    ]


# --- mistakes -------------------------------------------------------------------------------------


def test_reports_all_mistakes_at_once_with_their_locations(write):
    text = """
        MODEL:
          framework: Recogniser2D
          backbone: {name: ResNet, depht: 50}
        DATASET:
          batch_size: two
          num_worker: 4
          train: {format: VideoDataset, file_path: [a]}
        PIPELINE:
          valid:
            decode: {name: VideoDecoder, backend: ffmpeg}
            transform:
              - Scale: {short_size: 2.5}
              - CentreCrop: {target_size: 4}
              - CenterCrop:
        epochs: true
        epoch: 3
    """
    assert problems(write(text)) == [
        "a.yaml:2: MODEL.framework: there is no framework named 'Recogniser2D'; "
        "did you mean 'Recognizer2D'?",
        "a.yaml:5: DATASET.batch_size is 'two', expected int",
        "a.yaml:6: DATASET.num_worker is not known; did you mean 'num_workers'?",
        "a.yaml:7: DATASET.train.file_path is ['a'], expected str",
        "a.yaml:10: PIPELINE.valid.decode.backend is 'ffmpeg', "
        "expected 'pyav' or 'decord' or 'cv2'",
        "a.yaml:12: PIPELINE.valid.transform.0.Scale.short_size is 2.5, expected int",
        "a.yaml:13: PIPELINE.valid.transform.1.CentreCrop: "
        "there is no transform named 'CentreCrop'; did you mean 'CenterCrop'?",
        "a.yaml:14: PIPELINE.valid.transform.2.CenterCrop lacks 'target_size' (int)",
        "a.yaml:15: epochs is True, expected int",
        "a.yaml:16: epoch is not known; did you mean 'epochs'?",
    ]


def test_reports_missing_sections(write):
    assert problems(write("epochs: 1\n")) == [
        "a.yaml:1: the file lacks 'MODEL' (a map with a 'framework')",
        "a.yaml:1: the file lacks 'PIPELINE' (a map with train, valid, test)",
    ]


def test_reports_mistakes_of_file_and_overrides_together(write):
    path = write(PLAIN.replace("epochs: 5", "epoch: 5"))
    found = problems(path, ["DATASET.batch_size=x", "nonsense", "log_interval=0"])
    assert [problem.split(": ")[0] for problem in found] == [
        "-o nonsense",
        "-o DATASET.batch_size=x",
        "a.yaml:20",
        "-o log_interval=0",
    ]


def test_reports_the_location_of_a_component_that_rejects_its_arguments(write):
    cfg = check.read_config(write(PLAIN), ["PIPELINE.train.sample.num_seg=0"])
    with pytest.raises(
        ConfigError,
        match=r"a.yaml:11: PIPELINE.train.sample: Sampler: num_seg is 0, expected at least 1",
    ):
        cfg.PIPELINE.train.sample.make()
    cfg = check.read_config(write(PLAIN.replace("short_size: 72", "short_size: -1")))
    with pytest.raises(
        ConfigError, match=r"a.yaml:13: PIPELINE.train.transform.0.Scale: Scale: short_size is -1"
    ):
        cfg.PIPELINE.train.transform[0].make()


# --- plain data -----------------------------------------------------------------------------------


def test_plain_data_gives_the_same_config(write):
    first = check.read_config(write(PLAIN), ["epochs=3"])
    second = check.config_from_data(dict(first.origin.data), "model.yaml")
    assert second.epochs == 3 and second.origin.path == "model.yaml"
    assert second.PIPELINE.train.transform[0].args == first.PIPELINE.train.transform[0].args
    with pytest.raises(
        ConfigError, match=r"^model.yaml: epoch is not known; did you mean 'epochs'\?$"
    ):
        check.config_from_data({**first.origin.data, "epoch": 3}, "model.yaml")


def test_reads_a_dumped_config_back_equal(write):
    write(PLAIN, "base.yaml")
    path = write("_base_: base.yaml\nmodel_name: '1e5'\n")
    first = check.read_config(path, ["DATASET.class_names='None'", "output_dir='0x1f'"])
    assert (first.model_name, first.output_dir) == ("1e5", "0x1f")
    assert first.DATASET.class_names == "None"
    text = check.dump(dict(first.origin.data))
    second = check.read_config(write(text, "run.yaml"))
    assert second.origin.data == first.origin.data
    assert check.dump(dict(second.origin.data)) == text
