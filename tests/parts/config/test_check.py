"""The config reader: everything that is wrong, at once, each with its place and what to do about it."""

import textwrap
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import paddlevideo.engine.build  # noqa: F401, registers what a config can name
from paddlevideo.config import check, registry, yamltree
from paddlevideo.config.registry import Kind, register
from paddlevideo.config.schema import Component, ConfigError

PLAIN = """
MODEL:
  framework: Recognizer2D
  backbone: {name: ResNetTweaksTSN, layers: 18}
  head: {name: ppTSNHead, num_classes: 4}
DATASET:
  batch_size: 2
  train: {format: VideoDataset, file_path: train.list}
PIPELINE:
  train:
    decode: {name: VideoDecoder}
    sample: {name: Sampler, num_seg: 2, seg_len: 1}
    transform:
      - Scale: {short_size: 72}
      - RandomFlip:
      - Image2Array
OPTIMIZER:
  name: Momentum
  learning_rate: {name: CosineAnnealingDecay, learning_rate: 1e-2, T_max: 5}
  weight_decay: {name: L2, value: 1e-4}
epochs: 5
"""


@pytest.fixture
def write(tmp_path):
    """Writes a config file and returns its path; text may be indented, or bytes."""

    def write_file(text: str | bytes, name: str = "a.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(
            text if isinstance(text, bytes) else textwrap.dedent(text).lstrip("\n").encode()
        )
        return path

    return write_file


def problems(path, overrides=()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check.read_config(path, overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [text.replace(f"{Path(path).parent}/", "") for text in caught.value.problems]


# --- what is right ----------------------------------------------------------------------------------------------------


def test_values_components_and_defaults(write):
    cfg = check.read_config(write(PLAIN))
    assert cfg.MODEL.args["backbone"].name == "ResNetTweaksTSN"
    assert (
        cfg.DATASET.batch_size == 2
        and cfg.DATASET.num_workers == 0
        and cfg.DATASET.train.name == "VideoDataset"
    )
    assert [t.name for t in cfg.PIPELINE.train.transform] == ["Scale", "RandomFlip", "Image2Array"]
    assert cfg.OPTIMIZER.args["learning_rate"].args["learning_rate"] == 0.01, "1e-2 is a number"
    assert cfg.MIX is None and cfg.folder == "output/model"
    assert cfg.OPTIMIZER.make().learning_rate(0.0) == 0.01


def test_all_spellings_of_numbers_and_nothing(write):
    text = "A: [1e-4, 1E5, -2.5e+3, .5e1, 1.5, 3, None, ~, null, '1e-4', 1e, e4, Nones, 1:30, 2024-01-01]\n"
    data = yamltree.read(write(text), ()).data["A"]
    numbers = [
        1e-4,
        1e5,
        -2500.0,
        5.0,
        1.5,
        3,
        None,
        None,
        None,
        "1e-4",
        "1e",
        "e4",
        "Nones",
        90,
        "2024-01-01",
    ]
    assert data == numbers and [type(x) for x in data] == [type(x) for x in numbers]


def test_three_ways_to_write_a_component_in_a_list(write):
    head, tail = PLAIN.split(
        "      - Scale: {short_size: 72}\n      - RandomFlip:\n      - Image2Array\n"
    )
    for item in (
        "      - CenterCrop: {target_size: 64}\n",
        "      - {name: CenterCrop, target_size: 64}\n",
    ):
        cfg = check.read_config(write(head + item + tail))
        assert cfg.PIPELINE.train.transform[0].make().target_size == 64
        assert cfg.PIPELINE.train.transform[0].path.startswith("PIPELINE.train.transform.0")


def test_anchors_and_merge_keys(write):
    text = PLAIN.replace("{short_size: 72}", "&scale {short_size: 72, backend: cv2}")
    text = text.replace(
        "- Image2Array", "- Scale: *scale\n      - Scale: {<<: *scale, short_size: 36}"
    )
    first, _, same, other = check.read_config(write(text)).PIPELINE.train.transform
    assert first.args == same.args == {"short_size": 72, "backend": "cv2"}
    assert other.args == {"short_size": 36, "backend": "cv2"}


def test_a_mark_at_the_beginning_of_the_file_is_skipped(write):
    assert check.read_config(write(b"\xef\xbb\xbf" + PLAIN.lstrip().encode())).epochs == 5


def test_keys_without_effect_are_noted_with_their_reason(write):
    text = PLAIN.replace("batch_size: 2", "shuffle_valid: True") + "log_level: INFO\n"
    text = text.replace("seg_len: 1}", "seg_len: 1, use_pil: False}").replace(
        "train.list}", "train.list, num_retries: 5}"
    )
    notes = check.read_config(write(text)).origin.notes
    assert len(notes) == 4
    assert any(":6: DATASET.shuffle_valid has no effect" in note for note in notes)
    assert any(":21: log_level has no effect: the log has one level" in note for note in notes)
    assert any(
        ":7: DATASET.train.num_retries has no effect: a file that fails" in note for note in notes
    )
    assert any(":11: PIPELINE.train.sample.use_pil has no effect" in note for note in notes)


def test_inference_is_compared_with_the_test_pipeline(write):
    text = (
        PLAIN.replace("  train:\n    decode", "  test:\n    decode")
        + "INFERENCE: {num_seg: 8, seg_len: 1, alpha: 8, short_size: 72}\n"
    )
    assert [note.split("a.yaml")[1] for note in check.read_config(write(text)).origin.notes] == [
        ":21: INFERENCE.num_seg 8 has no effect: PIPELINE.test has 2, and an exported model works as the test does"
    ]
    assert check.read_config(write(PLAIN + "INFERENCE: {num_seg: 8}\n")).origin.notes == ()


SLOWFAST = PLAIN.replace(
    "    decode: {name: VideoDecoder}\n    sample: {name: Sampler, num_seg: 2, seg_len: 1}",
    "    SAMPLE",
)


def test_decode_sampler_stands_for_decode_and_sample(write):
    path = write(
        SLOWFAST.replace(
            "SAMPLE", "decode_sampler: {name: DecodeSampler, num_frames: 8, sampling_rate: 2}"
        )
    )
    train = check.read_config(path, ["PIPELINE.train.decode_sampler.num_frames=16"]).PIPELINE.train
    assert (train.sample.name, train.sample.args["num_frames"], train.decode.name) == (
        "DecodeSampler",
        16,
        "VideoDecoder",
    )
    assert train.sample.path == "PIPELINE.train.decode_sampler"
    assert problems(path, ["PIPELINE.train.decode_sampler.frames=3"])[0].endswith(
        "PIPELINE.train.decode_sampler (DecodeSampler) has no argument 'frames'; did you mean 'num_frames'?"
    )
    both = "decode_sampler: {name: DecodeSampler, num_frames: 8, sampling_rate: 2}\n    sample: {name: Sampler}"
    problem = problems(write(SLOWFAST.replace("SAMPLE", both)))[0]
    assert problem.endswith(
        "PIPELINE.train.decode_sampler is another name of sample, which is given too; keep one of them"
    )


def test_multigrid_and_precise_bn(write):
    text = """
        MULTIGRID: {LONG_CYCLE: True, epoch_factor: 1.5, long_cycle_factors: [{value: [0.5, 1]}, [1, 1]]}
        PRECISEBN: {preciseBN_interval: 20, num_iters_preciseBN: 200}
    """
    cfg = check.read_config(write(PLAIN + textwrap.dedent(text)))
    assert (cfg.MULTIGRID.LONG_CYCLE, cfg.MULTIGRID.SHORT_CYCLE, cfg.MULTIGRID.epoch_factor) == (
        True,
        False,
        1.5,
    )
    assert cfg.MULTIGRID.long_cycle_factors == [{"value": [0.5, 1]}, [1.0, 1.0]]
    assert (cfg.PRECISEBN.preciseBN_interval, cfg.PRECISEBN.num_iters_preciseBN) == (20, 200)
    assert check.read_config(write(PLAIN)).MULTIGRID is None
    assert problems(write(PLAIN + "MULTIGRID: {LONG_CYCLES: True, bn_base_size: 0}\n")) == [
        "a.yaml:21: MULTIGRID.LONG_CYCLES is not known; did you mean 'LONG_CYCLE'?",
        "a.yaml:21: MULTIGRID.bn_base_size is 0, expected at least 1",
    ]


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_all_mistakes_at_once_each_with_its_place(write):
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
        "a.yaml:2: MODEL.framework: there is no framework named 'Recogniser2D'; did you mean 'Recognizer2D'?",
        "a.yaml:5: DATASET.batch_size is 'two', expected int",
        "a.yaml:6: DATASET.num_worker is not known; did you mean 'num_workers'?",
        "a.yaml:7: DATASET.train.file_path is ['a'], expected str",
        "a.yaml:10: PIPELINE.valid.decode.backend is 'ffmpeg', expected 'pyav' or 'decord' or 'cv2'",
        "a.yaml:12: PIPELINE.valid.transform.0.Scale.short_size is 2.5, expected int",
        "a.yaml:13: PIPELINE.valid.transform.1.CentreCrop: there is no transform named 'CentreCrop'; "
        "did you mean 'CenterCrop'?",
        "a.yaml:14: PIPELINE.valid.transform.2.CenterCrop lacks 'target_size' (int)",
        "a.yaml:15: epochs is True, expected int",
        "a.yaml:16: epoch is not known; did you mean 'epochs'?",
    ]


def test_a_component_inside_a_component_is_checked(write):
    text = PLAIN.replace("layers: 18", "layer: 18").replace(
        "num_classes: 4", "num_classes: 4, drop_ratio: much"
    )
    text = text.replace("T_max: 5", "T_max: 5, gamma: 1").replace("name: L2", "name: L3")
    path = write(text)
    assert problems(path) == [
        "a.yaml:3: MODEL.backbone (ResNetTweaksTSN) has no argument 'layer'; did you mean 'layers'?",
        "a.yaml:4: MODEL.head.drop_ratio is 'much', expected float",
        "a.yaml:18: OPTIMIZER.learning_rate (CosineAnnealingDecay) has no argument 'gamma'; "
        + problems(path)[2].split("'gamma'; ")[1],
        "a.yaml:19: OPTIMIZER.weight_decay.name: there is no regularizer named 'L3'; did you mean 'L2'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("batch_size: 2", "batch_size: 0", ":6: DATASET.batch_size is 0, expected at least 1"),
        ("batch_size: 2", "num_workers: -1", ":6: DATASET.num_workers is -1, expected at least 0"),
        ("batch_size: 2", "valid_batch_size: 0", ":6: DATASET.valid_batch_size is 0, expected at least 1"),
        ("batch_size: 2", "batch_size: yes", ":6: DATASET.batch_size is True, expected int"),
        ("batch_size: 2", "batch_size: 2.0", ":6: DATASET.batch_size is 2.0, expected int"),
        ("epochs: 5", "sync_bn: 1", ":20: sync_bn is 1, expected bool"),
        ("epochs: 5", "model_name: 5", ":20: model_name is 5, expected str"),
        ("epochs: 5", "amp_level: O3", ":20: amp_level is 'O3', expected 'O1' or 'O2'"),
        ("epochs: 5", "amp: 1", ":20: amp is 1, expected bool"),
        ("layers: 18", "layers: 50.0", ":3: MODEL.backbone.layers is 50.0, expected 18 or 34 or 50 or 101 or 152"),
        ("layers: 18", "layers: 19", ":3: MODEL.backbone.layers is 19, expected 18 or 34 or 50 or 101 or 152"),
        ("layers: 18", "lr_mult_list: [1, a]", ":3: MODEL.backbone.lr_mult_list.1 is 'a', expected float"),
        ("value: 1e-4", "value: '1e-4'", ":19: OPTIMIZER.weight_decay.value is '1e-4', expected float"),
        ("value: 1e-4", "value: ", ":19: OPTIMIZER.weight_decay.value is None, expected float"),
        ("value: 1e-4", "value: " + "9" * 400, "expected float"),
        ("{name: L2, value: 1e-4}", "L2", ":19: OPTIMIZER.weight_decay is 'L2', expected a map with a 'name' that says which"),
        ("{name: L2, value: 1e-4}", "{name: 5}", ":19: OPTIMIZER.weight_decay is name: 5, expected a map with a 'name'"),
        ("{name: L2, value: 1e-4}", "yes", ":19: OPTIMIZER.weight_decay is True, expected"),
        ("{name: ResNetTweaksTSN, layers: 18}", "ResNet", ":3: MODEL.backbone is 'ResNet', expected a map with a 'name' that"),
        ("{short_size: 72}", "72", ":13: PIPELINE.train.transform.0.Scale is 72, expected a map of arguments"),
        ("- Image2Array", "- 5", ":15: PIPELINE.train.transform.2 is 5, expected a map with a 'name'"),
        ("Scale: {short_size: 72}", "Scale:\n        short_size: 72", ":13: PIPELINE.train.transform.0 has Scale, short_size "
         "side by side; indent the arguments under the name"),
        ("epochs: 5", "PRECISE: 1", ":20: PRECISE is not known; "),
        ("epochs: 5", "origin: 1", ":20: origin is not known; "),
        ("epochs: 5", "INFERENCE: 3", ":20: INFERENCE is 3, expected a map with name, num_seg"),
    ],
)  # fmt: skip
def test_types(write, old, new, said):
    assert old in PLAIN
    (problem,) = problems(write(PLAIN.replace(old, new)))
    assert said in problem


def test_missing_sections(write):
    assert problems(write("epochs: 1\n")) == [
        "a.yaml:1: the file lacks 'MODEL' (a map with a 'framework')",
        "a.yaml:1: the file lacks 'PIPELINE' (a map with train, valid, test)",
    ]


def test_doubled_keys(write):
    text = PLAIN + "epochs: 6\n"
    text = text.replace("layers: 18}", "layers: 18, layers: 34}").replace(
        "  batch_size: 2\n", "  batch_size: 2\n  batch_size: 3\n"
    )
    assert sorted(problems(write(text))) == [
        "a.yaml:22: epochs is given twice, first on line 21",
        "a.yaml:3: MODEL.backbone.layers is given twice, first on line 3",
        "a.yaml:7: DATASET.batch_size is given twice, first on line 6",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "a.yaml:2: not valid YAML: expected ',' or ']'"),
        ("MODEL:\n\tframework: x\n", "a.yaml:2: not valid YAML: found character '\\t'"),
        ("a: 1\n  b: 2\n", "a.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("a: *b\n", "a.yaml:1: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2: not valid YAML: but found another document"),
        ("a: 1\nb: \x01\n", "a.yaml:2: not valid YAML: character"),
        ("? [a, b]\n: 1\n", "a.yaml:1: not valid YAML: a list or a map cannot be a key"),
        (
            "a: 1\n<<: 3\n",
            "a.yaml:2: not valid YAML: expected a mapping or list of mappings for merging",
        ),
        ("a: &a [*a]\n", "a.yaml:1: not valid YAML: nested too deep, or an alias"),
        ("a: " + "[" * 3000, "a.yaml:1: not valid YAML: nested too deep"),
        ("", "a.yaml:1: expected a map of sections"),
        ("# only a comment\n", "a.yaml:1: expected a map of sections"),
        ("- a\n", "a.yaml:1: expected a map of sections"),
        ("just words\n", "a.yaml:1: expected a map of sections"),
        (b"a: \xff\xfe\n", "a.yaml: not a UTF-8 text file (invalid start byte at byte 3)"),
        ("\ufeffa: 1".encode("utf-16"), "a.yaml: not a UTF-8 text file"),
    ],
)
def test_files_that_are_no_config(write, text, said):
    (problem,) = problems(write(text))
    assert problem.startswith(said)


@pytest.mark.parametrize(
    "tag", ["!!int ''", "!!int x", "!!float y", "!!bool maybe", "!!timestamp x", "2024-13-45"]
)
def test_values_that_yaml_cannot_read_are_named(write, tag):
    (problem,) = [
        p for p in problems(write(PLAIN + f"max_iters: {tag}\n")) if "cannot be read" in p
    ]
    assert problem.startswith("a.yaml:21: max_iters is ")


def test_nothing_in_a_file_is_run(write, tmp_path):
    trap = tmp_path / "trap"
    found = problems(write(PLAIN + f"model_name: !!python/object/apply:os.mkdir ['{trap}']\n"))
    assert found and not trap.exists()
    assert (
        problems(write(PLAIN), [f"model_name=!!python/object/apply:os.mkdir ['{trap}']"])
        and not trap.exists()
    )
    assert (
        check.read_config(write(PLAIN), ["model_name=__import__('os').getcwd()"]).model_name
        == "__import__('os').getcwd()"
    )


def test_aliases_cannot_multiply_without_end(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
    ]
    (problem,) = problems(write("\n".join(lines)))
    assert "more than 100000 values" in problem


def test_files_that_cannot_be_read(tmp_path):
    assert problems(tmp_path / "no.yaml") == [
        "no.yaml: cannot be read: No such file or directory; give the path of a config file with -c"
    ]
    (tmp_path / "dir").mkdir()
    assert problems(tmp_path / "dir") == [
        "dir: cannot be read: Is a directory; give the path of a config file with -c"
    ]


# --- _base_ -----------------------------------------------------------------------------------------------------------


def test_base_maps_merge_and_lists_replace(write):
    write(PLAIN, "base.yaml")
    text = """
        _base_: base.yaml
        DATASET: {num_workers: 3}
        PIPELINE: {train: {transform: [{CenterCrop: {target_size: 8}}]}}
        epochs: 9
    """
    cfg = check.read_config(write(text))
    assert (cfg.DATASET.batch_size, cfg.DATASET.num_workers, cfg.epochs) == (2, 3, 9)
    assert cfg.PIPELINE.train.sample.args["num_seg"] == 2
    assert [t.name for t in cfg.PIPELINE.train.transform] == ["CenterCrop"]
    assert [Path(p).name for p in cfg.origin.sources] == ["base.yaml", "a.yaml"]
    assert "_base_" not in cfg.origin.data


def test_base_a_component_of_another_name_replaces_the_old_one(write):
    write(PLAIN, "base.yaml")
    other = check.read_config(
        write("_base_: base.yaml\nMODEL: {backbone: {name: ResNet, depth: 34}, head: {std: 0.1}}\n")
    )
    assert other.MODEL.args["backbone"].args == {"depth": 34}
    assert other.MODEL.args["head"].args == {"num_classes": 4, "std": 0.1}, (
        "the same component keeps its arguments"
    )
    frames = check.read_config(
        write("_base_: base.yaml\nDATASET: {train: {format: FrameDataset, file_path: f.list}}\n")
    )
    assert frames.DATASET.train.args == {"file_path": "f.list"}


def test_base_later_ones_win_and_places_stay_right(write):
    write(PLAIN, "one.yaml")
    write("epochs: many\nDATASET: {batch_size: 7}\n", "two.yaml")
    path = write("_base_: [one.yaml, two.yaml]\nlog_interval: x\n")
    assert sorted(problems(path)) == [
        "a.yaml:2: log_interval is 'x', expected int",
        "two.yaml:1: epochs is 'many', expected int",
    ]
    write("epochs: 3\nDATASET: {batch_size: 7}\n", "two.yaml")
    cfg = check.read_config(write("_base_: [one.yaml, two.yaml]\n"))
    assert (cfg.epochs, cfg.DATASET.batch_size) == (3, 7)


def test_base_is_relative_to_its_file_and_goes_on(write, tmp_path):
    (tmp_path / "deep").mkdir()
    write(PLAIN, "base.yaml")
    write("_base_: ../base.yaml\nepochs: 2\n", "deep/mid.yaml")
    assert check.read_config(write("_base_: deep/mid.yaml\n")).epochs == 2


def test_base_in_a_circle(write):
    write("_base_: a.yaml\n", "b.yaml")
    (problem,) = problems(write("_base_: b.yaml\n"))
    assert (
        problem.startswith("a.yaml: _base_ goes round in a circle: ") and problem.count("->") == 2
    )


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (
            "no.yaml",
            "no.yaml: cannot be read: No such file or directory; a.yaml:2 names it as _base_",
        ),
        ("5", "a.yaml:2: _base_ is 5, expected a path or a list of paths, relative to this file"),
        ("", "a.yaml:2: _base_ is None, expected a path"),
        ("[b.yaml, 5]", "a.yaml:2: _base_ is ['b.yaml', 5], expected a path"),
        ('"a\\0b"', "a.yaml:2: _base_ is ['a\\x00b'], expected a path"),
    ],
)
def test_base_that_is_not_there(write, base, said):
    (problem,) = problems(write(f"epochs: 1\n_base_: {base}\n"))
    assert problem.startswith(said)


# --- overrides --------------------------------------------------------------------------------------------------------


def test_overrides_reach_everywhere(write):
    cfg = check.read_config(
        write(PLAIN),
        [
            "epochs=7",
            "DATASET.batch_size=4",
            "PIPELINE.train.transform.0.Scale.short_size=96",
            "PIPELINE.train.transform.1.RandomFlip.p=0.25",
            "PIPELINE.train.transform.2={CenterCrop: {target_size: 8}}",
            "MODEL.backbone={name: ResNet, depth: 34}",
            "OPTIMIZER.weight_decay.value=5e-5",
            "OPTIMIZER.grad_clip.name=ClipGradByGlobalNorm",
            "OPTIMIZER.grad_clip.value=40",
            "DATASET.class_names=None",
            "MIX.name=Mixup",
            "MIX.alpha=.2",
            "model_name=a=b",
        ],
    )
    scale, flip, crop = cfg.PIPELINE.train.transform
    assert (scale.args["short_size"], flip.args, crop.args["target_size"]) == (96, {"p": 0.25}, 8)
    assert cfg.MODEL.args["backbone"].args == {"depth": 34}
    assert (cfg.epochs, cfg.DATASET.batch_size, cfg.MIX.args["alpha"], cfg.model_name) == (
        7,
        4,
        0.2,
        "a=b",
    )
    assert cfg.OPTIMIZER.args["weight_decay"].args["value"] == 5e-5
    assert cfg.OPTIMIZER.args["grad_clip"].args["value"] == 40.0
    assert cfg.DATASET.class_names is None and len(cfg.origin.overrides) == 13


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("DATASET.batchsize=4", "DATASET.batchsize is not known; did you mean 'batch_size'?"),
        ("DATASET.trian.file_path=x", "DATASET.trian is not known; did you mean 'train'?"),
        ("DATASET.batch_size=many", "DATASET.batch_size is 'many', expected int"),
        ("DATASET.batch_size=0", "DATASET.batch_size is 0, expected at least 1"),
        ("DATASET.batch_size=", None),
        (
            "PIPELINE.train.transform.7=x",
            "PIPELINE.train.transform is a list of 3; '7' is no place in it",
        ),
        (
            "PIPELINE.train.transform.Scale.short_size=3",
            "PIPELINE.train.transform is a list of 3; 'Scale' is no place in it",
        ),
        (
            "PIPELINE.train.transform.²=3",
            "PIPELINE.train.transform is a list of 3; '²' is no place in it",
        ),
        (
            "PIPELINE.train.transform.2.p=3",
            "PIPELINE.train.transform.2 is 'Image2Array', it has no 'p'",
        ),
        ("epochs.a=1", "epochs is 5, it has no 'a'"),
        ("epochs", "expected KEY.PATH=value, as in -o DATASET.batch_size=16"),
        ("=3", "expected KEY.PATH=value, as in -o DATASET.batch_size=16"),
        ("MODEL.backbone={name: ResNet, name: ResNet}", "MODEL.backbone.name is given twice"),
        (
            "epochs=[1",
            "not valid YAML: expected ',' or ']', but got '<stream end>'; put quotes around the value",
        ),
        (
            "epochs=&a [*a]",
            "nested too deep, or an alias (*name) inside its own anchor; put quotes around the value",
        ),
        (
            "epochs=2024-13-45",
            "epochs is '2024-13-45', which cannot be read: month must be in 1..12",
        ),
        (
            "PIPELINE.train.transform=[{Scale: {short: 4}}]",
            "transform.0.Scale has no argument 'short'; did you mean",
        ),
    ],
)
def test_overrides_are_checked_like_the_file_and_name_themselves(write, override, said):
    if said is None:  # an empty value means the default
        assert check.read_config(write(PLAIN), [override]).DATASET.batch_size == 8
        return
    found = problems(write(PLAIN), [override])
    assert any(p.startswith(f"-o {override}: ") and said in p for p in found), found
    assert all(p.startswith("-o ") for p in found)


def test_an_override_that_changes_the_name_keeps_the_old_arguments(write):
    assert problems(write(PLAIN), ["MODEL.backbone.name=ResNet"]) == [
        "a.yaml:3: MODEL.backbone (ResNet) has no argument 'layers'; known: depth, pretrained"
    ]
    cfg = check.read_config(write(PLAIN), ["OPTIMIZER.name=SGD"])
    assert cfg.OPTIMIZER.args["learning_rate"].name == "CosineAnnealingDecay"


def test_mistakes_of_file_and_overrides_come_together(write):
    found = problems(
        write(PLAIN.replace("epochs: 5", "epoch: 5")),
        ["DATASET.batch_size=x", "nonsense", "log_interval=0"],
    )
    assert [p.split(": ")[0] for p in found] == [
        "-o nonsense",
        "-o DATASET.batch_size=x",
        "a.yaml:20",
        "-o log_interval=0",
    ]


# --- components -------------------------------------------------------------------------------------------------------


def test_what_a_constructor_refuses_has_a_place(write):
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


@pytest.fixture
def thing():
    @register("thing", "Thing", ignores={"old": "it is always so"})
    def make(
        size: int,
        parts: list[Annotated[object, Kind("thing")]] | None = None,
        mode: Literal["a", 1] = "a",
        pair: tuple[float, ...] = (),
        limit: int | float = 1,
        free=None,
    ):
        if size == 13:
            raise ValueError("13 brings bad luck")
        return {"size": size, "parts": parts, "pair": pair, "limit": limit}

    yield Annotated[Component, Kind("thing")]
    del registry._ENTRIES["thing"]


def checked(hint, data):
    checker = check._Checker(yamltree.Tree({}, {(): "here:1"}))
    return checker.value(hint, data, ("A",)), checker.problems


def test_nested_components_build_inside_out(thing):
    component, found = checked(
        thing,
        {
            "name": "Thing",
            "size": 1,
            "parts": [{"Thing": {"size": 2, "limit": 0.5}}, {"name": "Thing", "size": 3}],
        },
    )
    assert not found
    made = component.make(pair=(1.0, 2.0))
    assert [part["size"] for part in made["parts"]] == [2, 3] and made["parts"][0]["limit"] == 0.5
    assert component.make(size=5)["size"] == 5 and component.with_args(size=6).make()["size"] == 6


def test_the_innermost_component_is_named_when_it_refuses(thing):
    component, _ = checked(thing, {"name": "Thing", "size": 1, "parts": [{"Thing": {"size": 13}}]})
    with pytest.raises(ConfigError, match=r"^here:1: A.parts.0.Thing: 13 brings bad luck$"):
        component.make()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "A (Thing) lacks 'size' (int)"),
        ({"size": 1, "mode": True}, "A.mode is True, expected 'a' or 1"),
        ({"size": 1, "mode": 1.0}, "A.mode is 1.0, expected 'a' or 1"),
        ({"size": 1, "pair": 3}, "A.pair is 3, expected a list of float"),
        ({"size": 1, "pair": [1, "x"]}, "A.pair.1 is 'x', expected float"),
        ({"size": 1, "limit": "1"}, "A.limit is '1', expected int or float"),
        (
            {"size": 1, "parts": [{"Thin": None}]},
            "A.parts.0.Thin: there is no thing named 'Thin'; did you mean 'Thing'?",
        ),
        (
            {"size": 1, "colour": 1},
            "A (Thing) has no argument 'colour'; known: size, parts, mode, pair, limit, free",
        ),
    ],
)
def test_signatures_are_the_schema(thing, args, said):
    _, found = checked(thing, {"name": "Thing", **args})
    assert found == [f"here:1: {said}"]


def test_free_arguments_and_numbers(thing):
    component, found = checked(
        thing,
        {"name": "Thing", "size": 1, "free": {"any": [1]}, "pair": [1, 2], "mode": 1, "old": 3},
    )
    assert not found
    assert component.args["free"] == {"any": [1]} and component.args["pair"] == [1.0, 2.0]
    assert all(isinstance(x, float) for x in component.args["pair"])


# --- round trips ------------------------------------------------------------------------------------------------------


def test_plain_data_gives_the_same_config(write):
    first = check.read_config(write(PLAIN), ["epochs=3"])
    again = check.config_from_data(dict(first.origin.data), "model.yaml")
    assert again.epochs == 3 and again.origin.path == "model.yaml"
    assert again.PIPELINE.train.transform[0].args == first.PIPELINE.train.transform[0].args
    with pytest.raises(
        ConfigError, match=r"^model.yaml: epoch is not known; did you mean 'epochs'\?$"
    ):
        check.config_from_data({**first.origin.data, "epoch": 3}, "model.yaml")


def test_a_dumped_config_reads_back_equal(write):
    write(PLAIN, "base.yaml")
    first = check.read_config(
        write("_base_: base.yaml\nmodel_name: '1e5'\n"),
        ["DATASET.class_names='None'", "output_dir='0x1f'"],
    )
    assert (first.model_name, first.DATASET.class_names, first.output_dir) == (
        "1e5",
        "None",
        "0x1f",
    )
    text = check.dump(dict(first.origin.data))
    again = check.read_config(write(text, "run.yaml"))
    assert again.origin.data == first.origin.data
    assert check.dump(dict(again.origin.data)) == text


# Names and paths; PyYAML itself loses some line separators in keys.
words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain_values)
def test_any_plain_value_survives_dump_and_read(value):
    tree = yamltree.Tree({})
    text = check.dump({"A": value})
    assert (
        yamltree.parse(text, (), lambda line: f"text:{line}", tree) == {"A": value}
        and not tree.problems
    )


# --- anything at all --------------------------------------------------------------------------------------------------

PIECES = [
    "&a ", "*a", "<<: ", "? ", "[", "]", "{", "}", "- ", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ",
    "!!map ", "!!seq ", "!!str ", "!local ", "\t", "\n", "  ", ":", "'", '"', "|", ">", "%", "@", "#", "---", "...", "\x00",
    "\u2028", "None", "1e4", "2024-01-01", "1:30", "~", "_base_: ", "MODEL: ", "PIPELINE: ", ".inf", ".nan", "0x", "9" * 400,
]  # fmt: skip
broken = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
mangled = st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 30), broken).map(
    lambda cut: PLAIN[: cut[0]] + cut[2] + PLAIN[cut[0] + cut[1] :]
)
paths = st.sampled_from(
    [
        "MODEL",
        "MODEL.backbone",
        "PIPELINE.train.transform.0",
        "DATASET.batch_size",
        "epochs",
        ".",
        "",
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.one_of(st.text(), broken, mangled), override=st.tuples(paths, broken).map("=".join))
def test_any_text_loads_or_is_refused_with_a_reason(tmp_path, text, override):
    path = tmp_path / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for overrides in ([], [override]):
        try:
            cfg = check.read_config(path, overrides)
        except ConfigError as error:
            assert error.problems and all(error.problems)
        else:
            assert cfg.MODEL.name == "Recognizer2D" and cfg.epochs == cfg.epochs
