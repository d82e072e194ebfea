"""Names of published models in place of weight files: in training, test, and `pretrained`."""

import pickle
import re

import numpy as np
import paddle
import pytest
import yaml

from paddlevideo.commands import export as export_command
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState, read_checkpoint
from paddlevideo.engine.load import config_of_run, trained_model
from paddlevideo.engine.named_models import compare
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.engine.run import Options, prepare
from paddlevideo.engine.start_weights import load_weights
from paddlevideo.safe_pickle import WeightsError
from paddlevideo.weights import checksum, state_arrays, write_arrays
from paddlevideo.zoo import cache, table
from tests.file_server import serve
from tests.named_models import publish
from tests.parts.models.distillation_models import CE, KL

NAMES = ["appel", "birne", "kürbis"]
BACKBONE = {"name": "ResNetTweaksTSN", "layers": 10, "base_channels": 8}


@pytest.fixture
def server():
    with serve() as state:
        yield state
    table._by_stem.cache_clear()


@pytest.fixture
def whole(small):
    """A small model whose weights are published."""
    cfg = small("MODEL.head.num_classes=3")
    paddle.seed(7)
    return cfg, state_arrays(build_model(cfg, 3))


@pytest.fixture
def files(server, tmp_path, whole, monkeypatch):
    """`files(arrays)`: publish these as `tiny`, and their backbone as `tinyNet`."""
    cfg, own = whole

    def make(arrays=own, **row):
        (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
        (tmp_path / "tiny.yaml").write_text(
            yaml.safe_dump(cfg.origin.data, allow_unicode=True), encoding="utf-8"
        )
        write_arrays(tmp_path / "tiny.pdparams", arrays)
        content = (tmp_path / "tiny.pdparams").read_bytes()
        server.files |= {"/tiny.pdparams": content, "/tinyNet_pretrained.pdparams": content}
        whole_row = {
            "file": "tiny.pdparams",
            "config": str(tmp_path / "tiny.yaml"),
            "architecture": "ResNetTweaksTSN",
            "classes": 3,
            "labels": str(tmp_path / "names.txt"),
            **row,
        }
        backbone_row = {
            "file": "tinyNet_pretrained.pdparams",
            "network": "Tiny",
            "backbone": BACKBONE,
        }
        rows = {"tiny": whole_row, "tinyNet": backbone_row}
        publish(monkeypatch, server, tmp_path / "home", rows)
        return tmp_path / "home" / "weights"

    return make


def test_a_name_is_read_like_a_file(files, server, whole, logged):
    folder = files()
    for _ in range(2):
        arrays, names, clips, architecture = read_checkpoint("tiny")
        assert checksum(arrays) == checksum(whole[1]) and names == NAMES and clips is None
        assert architecture == "ResNetTweaksTSN"
    assert len(server.asked) == 1 and (folder / "tiny.pdparams").is_file()
    assert f"tiny is {folder / 'tiny.pdparams'}" in logged()
    assert "compared with the model: tiny.pdparams: 77 of 77 tensors loaded" in logged()


def test_facts_in_the_file_have_priority(files, whole):
    state = TrainState(build_model(whole[0], 3), None, None, class_names=["a", "b", "c"])
    files(state.model_arrays())
    arrays, names, _, architecture = read_checkpoint("tiny")
    assert names == ["a", "b", "c"] and architecture == "ResNetTweaksTSN"
    assert not [name for name in arrays if name.endswith("@@")]


def spoiled(arrays, how):
    arrays = dict(arrays)
    if how == "missing":
        arrays.pop("head.fc.bias")
    elif how == "more":
        arrays["extra"] = np.zeros(3, np.float32)
    elif how == "shape":
        arrays["head.fc.bias"] = np.zeros(4, np.float32)
    else:
        arrays["head.fc.bias"] = np.full(3, np.nan, np.float32)
    return arrays


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "76 of 77 tensors loaded; not in the file: head.fc.bias"),
        ("more", "not in the model: extra"),
        ("shape", r"head.fc.bias is \[4\] in the file, \[3\] in the model"),
        ("nan", "1 tensors have values that are not finite"),
    ],
)
def test_a_file_of_other_tensors_is_not_kept(files, whole, how, reason):
    folder = files(spoiled(whole[1], how))
    with pytest.raises(WeightsError, match=f"not the published file and was removed: .*{reason}"):
        read_checkpoint("tiny")
    assert [path.name for path in folder.iterdir()] == [".lock-tiny.pdparams"]


def test_code_in_a_file_is_not_run(files, server, tmp_path):
    files()
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    server.files["/tiny.pdparams"] = pickle.dumps({"a": Evil()})
    with pytest.raises(WeightsError, match="refused, no code in the file was run"):
        read_checkpoint("tiny")
    assert not marker.exists()


def test_a_comparison_draws_no_random_numbers(files, whole, tmp_path):
    files()
    paddle.seed(3)
    expected = paddle.rand([4]).numpy()
    paddle.seed(3)
    compare(table.models()["tiny"], tmp_path / "tiny.pdparams")
    assert (paddle.rand([4]).numpy() == expected).all()


def test_a_training_starts_from_a_name(files, small, whole, logged):
    files()
    run = prepare(small("max_iters=1"), Options(validate=False, weights="tiny"))
    run.data.close()
    loaded = state_arrays(run.state.model)
    stem = "backbone.conv1_1._conv.weight"
    assert (loaded[stem] == whole[1][stem]).all()
    assert "tiny: 75 of 77 tensors loaded" in logged()  # of other classes
    assert "-w tiny" in (run.folder / "run.yaml").read_text("utf-8")


def test_a_name_keeps_rows_by_name(files, whole):
    files()
    cfg = whole[0]
    cfg = config_of_run("tiny", ["MODEL.head.keep_rows=by_name"])
    model = build_model(cfg, 3)
    arrays, names, *_ = read_checkpoint("tiny")
    lines = load_weights(model, arrays, "tiny", names, ["kürbis", "x", "appel"])
    assert "rows kept by name: 2 (kürbis, appel)" in lines[1]


def test_the_config_of_a_name(files):
    files(overrides=("epochs=7",))
    assert config_of_run("tiny").epochs == 7 and config_of_run("tiny", ["epochs=9"]).epochs == 9
    model, classes = trained_model(config_of_run("tiny"), "tiny")
    assert classes.names == NAMES and not model.training
    with pytest.raises(ConfigError, match="of a backbone, not of a whole model; -o MODEL.backbone"):
        config_of_run("tinyNet")


def test_the_architecture_of_a_name_is_known(files):
    """PP-TSM's tensors have the names of PP-TSN's: only the table tells them apart."""
    files(architecture="ResNetTweaksTSM")
    with pytest.raises(WeightsError, match="weights of ResNetTweaksTSM, but MODEL.backbone is"):
        trained_model(config_of_run("tiny"), "tiny")


def test_other_classes_than_the_config(files, tmp_path, monkeypatch):
    files()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").touch()  # of another run
    cfg = config_of_run("tiny", ["MODEL.head.num_classes=5"])
    with pytest.raises(WeightsError, match="tiny has 3 classes .*leave out -c: the config of this"):
        trained_model(cfg, "tiny")


def test_a_damaged_file_in_the_cache_is_named(files):
    folder = files()
    folder.mkdir(parents=True)
    (folder / "tiny.pdparams").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match=rf"{re.escape(str(folder))}/tiny\.pdparams: not a file"):
        read_checkpoint("tiny")


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", "x/" * 3000 + "y"])
def test_impossible_paths_are_missing_files(path):
    with pytest.raises(WeightsError):
        read_checkpoint(path)


def test_a_teacher_may_be_a_name(small, files, whole):
    """PaddleVideo's recipe of a distillation names the file of a whole model."""
    files()
    head = {"name": "ppTSNHead"}
    parts = [
        {"Teacher": {"backbone": BACKBONE, "head": head, "weights": "tiny"}},
        {"Student": {"backbone": BACKBONE, "head": head}},
    ]
    model = {"framework": "RecognizerDistillation", "models": parts, "loss": {"Train": [CE, KL]}}
    cfg = small(MODEL={**model, "freeze_params_list": [True, False]})
    built = build_model(cfg, 3)
    (account,) = load_pretrained(cfg, built)
    assert str(account) == "tiny: 77 of 77 tensors loaded"
    stem = built.part("Teacher").state_dict()["backbone.conv1_1._conv.weight"].numpy()
    assert (stem == whole[1]["backbone.conv1_1._conv.weight"]).all()


def test_an_export_of_a_name_goes_to_the_usual_folder(files, monkeypatch):
    files()
    calls, real = [], export_command.load

    def load(target):
        if target.startswith("paddlevideo.exporting"):
            return lambda *args: calls.append(args)
        return (lambda: None) if target.startswith("paddlevideo.dist") else real(target)

    monkeypatch.setattr(export_command, "load", load)
    export_command.work(export_command.make_parser().parse_args(["-p", "tiny"]))
    ((cfg, weights, folder, *_),) = calls
    assert cfg.model_name == "ppTSN" and weights == "tiny" and folder is None


# --- pretrained -----------------------------------------------------------------------------------


def loaded(cfg, arrays, **more):
    paddle.seed(6)
    model = build_model(cfg, 3)
    load_pretrained(cfg, model, **more)
    stem = model.state_dict()["backbone.conv1_1._conv.weight"].numpy()
    return bool((stem == arrays["backbone.conv1_1._conv.weight"]).all())


@pytest.mark.parametrize("name", ["tinyNet", "tinyNet_pretrained", "tiny"])
def test_a_backbone_starts_from_a_name(files, small, whole, server, name):
    files()
    cfg = small(f"MODEL.backbone.pretrained={name}")
    assert loaded(cfg, whole[1]) and len(server.asked) == 1
    assert not loaded(cfg, whole[1], replaced="x.pdparams") and len(server.asked) == 1


def test_a_name_that_cannot_be_downloaded_has_its_place(files, small, whole, monkeypatch):
    files()
    monkeypatch.setenv(cache.OFFLINE, "1")
    cfg = small("MODEL.backbone.pretrained=tinyNet")
    message = (
        r"MODEL\.backbone\.pretrained: tinyNet is not in the cache, and PADDLEVIDEO_OFFLINE is "
        r"set; fetch it by hand: curl .*; or start without: -o MODEL\.backbone\.pretrained=null$"
    )
    with pytest.raises(WeightsError, match=message):
        loaded(cfg, whole[1])


@pytest.mark.parametrize("word", ["imagenet", "imagenet_or_random"])
def test_imagenet_downloads_and_imagenet_or_random_does_not(files, small, whole, server, word):
    files()
    cfg = small(f"MODEL.backbone.pretrained={word}")
    model = build_model(cfg, 3)
    model.backbone.pretrained_model = "Tiny"
    load_pretrained(cfg, model)
    stem = model.state_dict()["backbone.conv1_1._conv.weight"].numpy()
    same = (stem == whole[1]["backbone.conv1_1._conv.weight"]).all()
    assert same == (word == "imagenet") and len(server.asked) == (word == "imagenet")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("data/tinyNet_pretrained.pdparams", "it is published: give the name tinyNet to download"),
        ("tinyNt", "did you mean the model tinyNet?"),
    ],
)
def test_a_missing_file_that_is_published_is_named(files, small, whole, path, hint):
    files()
    with pytest.raises(WeightsError, match="there is no such file.*" + hint.replace("?", r"\?")):
        loaded(small(f"MODEL.backbone.pretrained={path}"), whole[1])
    with pytest.raises(WeightsError, match="there is no such file.*" + hint.replace("?", r"\?")):
        read_checkpoint(path)
    with pytest.raises(ConfigError, match="no run.yaml next to it.*" + hint.replace("?", r"\?")):
        config_of_run(path)
