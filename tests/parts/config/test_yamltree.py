"""YAML files, bases and overrides: plain data, locations, and text that is not a config."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddlevideo.config import check, yamltree
from paddlevideo.config.schema import ConfigError
from tests.config_files import PLAIN, problems
from tests.hostile_files import yamls

HOSTILE = yamls()

# --- YAML -----------------------------------------------------------------------------------------


def test_reads_all_spellings_of_numbers_and_null(write):
    spellings = {
        "1e-4": 1e-4,
        "1E5": 1e5,
        "-2.5e+3": -2500.0,
        ".5e1": 5.0,
        "1.5": 1.5,
        "3": 3,
        "None": None,
        "~": None,
        "null": None,
        "'1e-4'": "1e-4",
        "1e": "1e",
        "e4": "e4",
        "Nones": "Nones",
        "1:30": 90,
        "2024-01-01": "2024-01-01",
    }
    data = yamltree.read(write(f"A: [{', '.join(spellings)}]\n"), ()).data["A"]
    expected = list(spellings.values())
    assert data == expected and [type(x) for x in data] == [type(x) for x in expected]


def test_reads_anchors_and_merge_keys(write):
    text = PLAIN.replace("{short_size: 72}", "&scale {short_size: 72, backend: cv2}")
    text = text.replace(
        "- Image2Array", "- Scale: *scale\n      - Scale: {<<: *scale, short_size: 36}"
    )
    first, _, same, other = check.read_config(write(text)).PIPELINE.train.transform
    assert first.args == same.args == {"short_size": 72, "backend": "cv2"}
    assert other.args == {"short_size": 36, "backend": "cv2"}


def test_skips_a_byte_order_mark(write):
    assert check.read_config(write(b"\xef\xbb\xbf" + PLAIN.lstrip().encode())).epochs == 5


def test_reports_duplicate_keys(write):
    text = PLAIN + "epochs: 6\n"
    text = text.replace("layers: 18}", "layers: 18, layers: 34}")
    text = text.replace("  batch_size: 2\n", "  batch_size: 2\n  batch_size: 3\n")
    assert sorted(problems(write(text))) == [
        "a.yaml:22: epochs is given twice, first on line 21",
        "a.yaml:3: MODEL.backbone.layers is given twice, first on line 3",
        "a.yaml:7: DATASET.batch_size is given twice, first on line 6",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_rejects_files_that_are_not_a_config(write, text, message):
    (problem,) = problems(write(text))
    assert problem.startswith(message)


@pytest.mark.parametrize(
    "value", ["!!int ''", "!!int x", "!!float y", "!!bool maybe", "!!timestamp x", "2024-13-45"]
)
def test_names_values_that_yaml_cannot_read(write, value):
    found = problems(write(PLAIN + f"max_iters: {value}\n"))
    (problem,) = [problem for problem in found if "cannot be read" in problem]
    assert problem.startswith("a.yaml:21: max_iters is ")


def test_runs_no_code_in_a_file(write, tmp_path):
    trap = tmp_path / "trap"
    call = f"!!python/object/apply:os.mkdir ['{trap}']"
    assert problems(write(PLAIN + f"model_name: {call}\n"))
    assert problems(write(PLAIN), [f"model_name={call}"])
    assert not trap.exists()
    text = "__import__('os').getcwd()"
    assert check.read_config(write(PLAIN), [f"model_name={text}"]).model_name == text


def test_rejects_aliases_that_multiply(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        nine_aliases = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{nine_aliases}]")
    (problem,) = problems(write("\n".join(lines)))
    assert "more than 100000 values" in problem


def test_rejects_texts_that_ask_for_too_much(write):
    for name, (text, message) in HOSTILE.items():
        if len(text) > 100_000:  # test_yaml_text.py reads these
            continue
        (problem, *_) = problems(write(text))
        assert message in problem and len(problem) < 300, name


@pytest.mark.parametrize("value", ["1:" * 600 + "1", "9" * 900_000, "[" * 200, "&a {<<: *a}"])
def test_rejects_overrides_that_ask_for_too_much(write, value):
    (problem, *_) = problems(write(PLAIN), [f"max_iters={value}"])
    assert problem.startswith("-o max_iters=")


def test_rejects_an_override_of_many_keys(write):
    (problem,) = problems(write(PLAIN), [".".join(["a"] * 5000) + "=1"])
    assert problem.endswith("a path of more than 100 keys") and len(problem) < 200


def test_keeps_long_text_and_numbers_that_are_usual(write):
    text = f"A: ['{'a' * 5000}', {'b' * 5000}, {'1' * 900}, 1:30:59, 0x1F, {'12-' * 500}]"
    data = yamltree.read(write(text), ()).data["A"]
    assert data[:5] == ["a" * 5000, "b" * 5000, int("1" * 900), 5459, 31]


def test_merge_keys_keep_their_meaning(write):
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], z: 5}\nd: {<<: *b, x: 0}\n"
    data = yamltree.read(write(text), ()).data
    assert data["c"] == {"x": 1, "y": 2, "z": 5} and data["d"] == {"x": 0, "y": 3, "z": 4}


def test_rejects_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    (problem,) = problems(tmp_path / "fifo.yaml")
    assert problem.startswith("fifo.yaml: cannot be read: a FIFO, expected a regular file; give")
    (problem,) = problems(Path("/dev/zero"))
    assert "a device or socket, expected a regular file" in problem
    (tmp_path / "large.yaml").write_text("# a comment\n" * 100_000)
    (problem,) = problems(tmp_path / "large.yaml")
    assert "it has 1200000 bytes, expected at most 1048576" in problem


def test_rejects_bases_that_multiply(write, tmp_path, monkeypatch):
    """Each file names the next one twice: 2^20 files to read."""
    monkeypatch.setattr(yamltree, "MAX_FILES", 100)
    for number in range(20):
        write(f"_base_: [f{number + 1}.yaml, f{number + 1}.yaml]\n", f"f{number}.yaml")
    write(PLAIN, "f20.yaml")
    assert ["leads to more than 100 files" in p for p in problems(tmp_path / "f0.yaml")] == [True]


def test_reports_files_that_cannot_be_read(tmp_path):
    advice = "give the path of a config file with -c"
    assert problems(tmp_path / "no.yaml") == [
        f"no.yaml: cannot be read: No such file or directory; {advice}"
    ]
    (tmp_path / "dir").mkdir()
    assert problems(tmp_path / "dir") == [f"dir: cannot be read: Is a directory; {advice}"]


# --- bases ----------------------------------------------------------------------------------------


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
    assert [Path(source).name for source in cfg.origin.sources] == ["base.yaml", "a.yaml"]
    assert "_base_" not in cfg.origin.data


def test_a_component_of_another_name_replaces_the_one_of_the_base(write):
    write(PLAIN, "base.yaml")
    model = "MODEL: {backbone: {name: ResNet, depth: 34}, head: {std: 0.1}}"
    cfg = check.read_config(write(f"_base_: base.yaml\n{model}\n"))
    assert cfg.MODEL.args["backbone"].args == {"depth": 34}
    assert cfg.MODEL.args["head"].args == {"num_classes": 4, "std": 0.1}, (
        "same name: arguments stay"
    )
    dataset = "DATASET: {train: {format: FrameDataset, file_path: f.list}}"
    cfg = check.read_config(write(f"_base_: base.yaml\n{dataset}\n"))
    assert cfg.DATASET.train.args == {"file_path": "f.list"}


def test_later_bases_win_and_keep_their_locations(write):
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


def test_a_base_is_relative_to_its_file_and_may_have_bases(write, tmp_path):
    (tmp_path / "deep").mkdir()
    write(PLAIN, "base.yaml")
    write("_base_: ../base.yaml\nepochs: 2\n", "deep/mid.yaml")
    assert check.read_config(write("_base_: deep/mid.yaml\n")).epochs == 2


def test_rejects_bases_that_form_a_cycle(write):
    write("_base_: a.yaml\n", "b.yaml")
    (problem,) = problems(write("_base_: b.yaml\n"))
    assert problem.startswith("a.yaml: the _base_ files form a cycle: ")
    assert problem.count("->") == 2


@pytest.mark.parametrize(
    ("base", "message"),
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
def test_rejects_bases_that_are_not_files(write, base, message):
    (problem,) = problems(write(f"epochs: 1\n_base_: {base}\n"))
    assert problem.startswith(message)


# --- overrides ------------------------------------------------------------------------------------


def test_overrides_reach_every_value(write):
    overrides = [
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
    ]
    cfg = check.read_config(write(PLAIN), overrides)
    scale, flip, crop = cfg.PIPELINE.train.transform
    assert (scale.args["short_size"], flip.args, crop.args["target_size"]) == (96, {"p": 0.25}, 8)
    assert cfg.MODEL.args["backbone"].args == {"depth": 34}
    assert (cfg.epochs, cfg.model_name) == (7, "a=b")
    assert (cfg.DATASET.batch_size, cfg.DATASET.class_names) == (4, None)
    assert cfg.MIX.args["alpha"] == 0.2
    assert cfg.OPTIMIZER.args["weight_decay"].args["value"] == 5e-5
    assert cfg.OPTIMIZER.args["grad_clip"].args["value"] == 40.0
    assert cfg.origin.overrides == tuple(overrides)


TRANSFORM = "PIPELINE.train.transform"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("DATASET.batchsize=4", "DATASET.batchsize is not known; did you mean 'batch_size'?"),
        ("DATASET.trian.file_path=x", "DATASET.trian is not known; did you mean 'train'?"),
        ("DATASET.batch_size=many", "DATASET.batch_size is 'many', expected int"),
        ("DATASET.batch_size=0", "DATASET.batch_size is 0, expected at least 1"),
        (f"{TRANSFORM}.7=x", f"{TRANSFORM} is a list of 3; '7' is not an index of it"),
        (f"{TRANSFORM}.Scale.p=3", f"{TRANSFORM} is a list of 3; 'Scale' is not an index of it"),
        (f"{TRANSFORM}.²=3", f"{TRANSFORM} is a list of 3; '²' is not an index of it"),
        (f"{TRANSFORM}.2.p=3", f"{TRANSFORM}.2 is 'Image2Array', it has no 'p'"),
        ("epochs.a=1", "epochs is 5, it has no 'a'"),
        ("epochs", "expected KEY.PATH=value, as in -o DATASET.batch_size=16"),
        ("=3", "expected KEY.PATH=value, as in -o DATASET.batch_size=16"),
        ("MODEL.backbone={name: ResNet, name: ResNet}", "MODEL.backbone.name is given twice"),
        (
            "epochs=[1",
            "not valid YAML: expected ',' or ']', but got '<stream end>'; "
            "put quotes around the value",
        ),
        (
            "epochs=&a [*a]",
            "nested too deep, or an alias (*name) inside its own anchor; "
            "put quotes around the value",
        ),
        (
            "epochs=2024-13-45",
            "epochs is '2024-13-45', which cannot be read: month must be in 1..12",
        ),
        (
            f"{TRANSFORM}=[{{Scale: {{short: 4}}}}]",
            "transform.0.Scale has no argument 'short'; did you mean",
        ),
    ],
)
def test_problems_of_an_override_name_it(write, override, message):
    found = problems(write(PLAIN), [override])
    assert any(p.startswith(f"-o {override}: ") and message in p for p in found), found
    assert all(p.startswith("-o ") for p in found)


def test_an_empty_override_means_the_default(write):
    assert check.read_config(write(PLAIN), ["DATASET.batch_size="]).DATASET.batch_size == 8


def test_an_override_of_a_name_keeps_the_old_arguments(write):
    assert problems(write(PLAIN), ["MODEL.backbone.name=ResNet"]) == [
        "a.yaml:3: MODEL.backbone (ResNet) has no argument 'layers'; "
        "known: depth, pretrained, base_channels"
    ]
    cfg = check.read_config(write(PLAIN), ["OPTIMIZER.name=SGD"])
    assert cfg.OPTIMIZER.args["learning_rate"].name == "CosineAnnealingDecay"


# --- properties -----------------------------------------------------------------------------------

# Text as in names and paths; PyYAML itself loses some line separators in keys.
words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain_values)
def test_any_plain_value_survives_dump_and_parse(value):
    tree = yamltree.Tree({})
    text = yamltree.dump({"A": value})
    assert yamltree.parse(text, (), lambda line: f"text:{line}", tree) == {"A": value}
    assert not tree.problems


PIECES = [
    *("&a ", "*a", "<<: ", "? ", "[", "]", "{", "}", "- ", "\t", "\n", "  ", ":", "'", '"'),
    *("!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ", "!!map ", "!!seq "),
    *("!!str ", "!local ", "|", ">", "%", "@", "#", "---", "...", "\x00", "\u2028", "None", "1e4"),
    *("2024-01-01", "1:30", "~", "_base_: ", "MODEL: ", "PIPELINE: ", ".inf", ".nan", "0x"),
    "9" * 400,
]
broken = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
damaged = st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 30), broken).map(
    lambda cut: PLAIN[: cut[0]] + cut[2] + PLAIN[cut[0] + cut[1] :]
)
override_keys = st.sampled_from(
    ["MODEL", "MODEL.backbone", f"{TRANSFORM}.0", "DATASET.batch_size", "epochs", ".", ""]
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=st.one_of(st.text(), broken, damaged),
    override=st.tuples(override_keys, broken).map("=".join),
)
def test_any_text_is_read_or_rejected_with_a_reason(tmp_path, text, override):
    path = tmp_path / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for overrides in ([], [override]):
        try:
            cfg = check.read_config(path, overrides)
        except ConfigError as error:
            assert error.problems and all(error.problems)
        else:
            assert cfg.MODEL.name == "Recognizer2D" and cfg.epochs == cfg.epochs
