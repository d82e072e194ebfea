"""The table of published weights: its rows, and names in place of files."""

import re
from pathlib import Path

import paddle
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.engine.classes import configured_classes
from paddlevideo.engine.named_models import class_names, config_of_model
from paddlevideo.zoo.table import find_model, for_network, models, name_hint

WHOLE = [name for name, model in models().items() if model.config]


@pytest.mark.parametrize("name", models())
def test_rows_are_complete(name):
    model = models()[name]
    assert model.about and model.data and model.source and model.license
    assert bool(model.config) != bool(model.network)
    assert model.file or model.package
    assert bool(model.config) == bool(model.architecture and model.classes and model.test)
    assert not model.config or 50 < model.top1 < 100
    assert not model.url or (
        model.url.startswith("https://") and Path(model.url).name == model.file
    )
    assert re.fullmatch(r"|[0-9a-f]{64}", model.sha256)
    assert not Path(name).suffix and "/" not in name  # no path looks like a name


def test_files_are_the_only_ones_of_their_name():
    files = [model.file for model in models().values() if model.file]
    assert len(set(files)) == len(files)
    networks = [model.network for model in models().values() if model.network]
    assert len(set(networks)) == len(networks)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_models_are_those_of_their_configs(name):
    model = models()[name]
    cfg = config_of_model(model)
    backbone = cfg.MODEL.args["backbone"]
    assert backbone.name == model.architecture and configured_classes(cfg) == model.classes
    names = class_names(model)
    assert names is None or len(names) == model.classes
    segments = re.search(r"(\d+) (segments|frames)", model.about)
    if segments:
        assert cfg.PIPELINE.train.sample.args["num_seg"] == int(segments[1])
    depth = next((backbone.args[key] for key in ("depth", "layers") if key in backbone.args), 50)
    network = "PP-LCNetV2" if backbone.name == "PPTSM_v2" else f"ResNet{depth}"
    assert network in model.about


@pytest.mark.parametrize("name", [name for name in models() if name not in WHOLE])
def test_backbones_are_those_of_their_networks(name):
    model = models()[name]
    arguments = dict(model.backbone)
    with paddle.LazyGuard():
        backbone = lookup("backbone", arguments.pop("name")).make(**arguments)
    assert backbone.pretrained_model == model.network
    assert for_network(model.network) is model


def test_an_unknown_network_has_no_weights():
    assert for_network("") is None and for_network("ResNet18") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ppTSN_k400", "ppTSN_k400"),
        (Path("ppTSN_k400"), "ppTSN_k400"),
        ("ResNet50_vd_ssld_v2", "ResNet50_vd_ssld_v2"),
        ("ResNet50_vd_ssld_v2_pretrained", "ResNet50_vd_ssld_v2"),
        ("SlowFast", "SlowFast"),
        ("ppTSN_k400.pdparams", None),
        ("data/ppTSN_k400", None),
        ("pptsn_k400", None),
        ("", None),
        (None, None),
        (3, None),
    ],
)
def test_names(text, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_model(text)
    assert (found.name if found else None) == name


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_or_folder_has_priority(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("ppTSN_k400")
    path.mkdir() if kind == "folder" else path.touch()
    assert find_model("ppTSN_k400") is None and find_model("TSN_k400")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("data/ppTSN_k400.pdparams", "give the name ppTSN_k400 to download it"),
        ("x/ResNet50_vd_ssld_v2_pretrained.pdparams", "give the name ResNet50_vd_ssld_v2 to"),
        ("weights/TSM_k400", "give the name TSM_k400"),
        ("ppTSN_k40", "did you mean the model ppTSN_k400?"),
        ("PPTSN_K400", "did you mean the model ppTSN_k400?"),
        ("pptsm_k400_unifrom", "did you mean the model ppTSM_k400_uniform?"),
    ],
)
def test_hints(text, hint):
    assert hint in name_hint(text)


@pytest.mark.parametrize("text", ["output/ppTSN/ppTSN_best.pdparams", "none", "my/pptsn_k40", ""])
def test_other_paths_have_no_hint(text):
    assert name_hint(text) == ""
