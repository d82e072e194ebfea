"""Configs by name, label lists from any folder, and copies of configs whose bases still resolve."""

import runpy
import sys
from types import SimpleNamespace

import pytest

from paddlevideo import cli
from paddlevideo.config import shipped
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.class_names import DatasetError, read_class_names
from paddlevideo.engine.build import load_config as read_config


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_config_of_the_checkout_has_a_name(root):
    files = {path.relative_to(root / "configs") for path in (root / "configs").rglob("*.yaml")}
    names = shipped.short_names()
    assert {f"{full}.yaml" for full in names.values()} == {file.as_posix() for file in files}
    for name, full in names.items():
        assert shipped.find_config(name) == root / "configs" / f"{full}.yaml"
        assert len(shipped.about(shipped.configs()[full])) > 20, f"{full}: a first comment line"


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("pptsn", "finetune/pptsn"),
        ("finetune/pptsn", "finetune/pptsn"),
        ("demo/pptsn", "demo/pptsn"),
        ("configs/demo/pptsn.yaml", "demo/pptsn"),
        ("configs/demo/pptsn", "demo/pptsn"),
        ("pptsn_k400_videos", "recognition/pptsn/pptsn_k400_videos"),
        ("slowfast/slowfast", "recognition/slowfast/slowfast"),
        ("finetune/slowfast", "finetune/slowfast"),
    ],
)
def test_finds_a_config_by_name(elsewhere, name, full):
    assert shipped.find_config(name) == shipped.configs()[full]
    assert read_config(name).origin.path == str(shipped.configs()[full])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "pptsm",
            "pptsm: neither a file nor .*; did you mean 'pptsn'. `paddlevideo configs` lists",
        ),
        ("pptsn_k400_vidoes", "did you mean 'pptsn_k400_videos'"),
        ("nextvlad", "did you mean 'demo/nextvlad'"),
        ("demo/pptns", "did you mean 'demo/pptsn'"),
        ("qqqqqqq", "qqqqqqq: neither a file nor the name of a shipped config; `paddlevideo"),
        (
            "slowfast",
            "several shipped configs have this name: finetune/slowfast, slowfast/slowfast",
        ),
        ("pptsn.yaml", "pptsn.yaml: cannot be read"),  # a file that is not here
        ("demo/pptsn.yaml", "demo/pptsn.yaml: cannot be read"),
        ("missing.yaml", "missing.yaml: cannot be read: No such file"),
        ("configs/demo/pptns.yaml", "configs/demo/pptns.yaml: cannot be read"),
        ("/nowhere/pptsn", "/nowhere/pptsn: cannot be read"),
        ("../pptsn", "../pptsn: cannot be read"),
    ],
)
def test_other_names_are_mistakes(elsewhere, name, message):
    with pytest.raises(ConfigError, match=message):
        read_config(name)


@pytest.mark.parametrize("name", ["pptsn", "pptsn.yaml", "demo/pptsn", "slowfast"])
def test_a_file_wins(elsewhere, name):
    (elsewhere / name).parent.mkdir(exist_ok=True)
    (elsewhere / name).write_text("_base_: configs/finetune/pptsn.yaml\nepochs: 7\n")
    cfg = read_config(name)
    assert cfg.epochs == 7 and cfg.origin.path == name and cfg.model_name == "ppTSN"


def test_a_folder_is_no_config(elsewhere):
    (elsewhere / "pptsn").mkdir()
    assert read_config("pptsn").origin.path == str(shipped.configs()["finetune/pptsn"])


def test_label_lists_are_found_from_any_folder(elsewhere):
    names = read_class_names("data/k400/labels.txt")
    assert len(names) == 400 and names[0] == "abseiling"
    (elsewhere / "data/k400").mkdir(parents=True)
    (elsewhere / "data/k400/labels.txt").write_text("own\n")
    assert read_class_names("data/k400/labels.txt") == ["own"]
    for other in ("k400/labels.txt", "data/k700/labels.txt", "data/../data/k400/none.txt"):
        with pytest.raises(DatasetError, match=f"{other}: no such file of class names"):
            read_class_names(other)


@pytest.mark.parametrize("full", shipped.configs())
def test_a_copy_reads_as_its_original(elsewhere, full):
    copy = elsewhere / "mine.yaml"
    copy.write_text(shipped.copied_text(full), encoding="utf-8")
    original = shipped.configs()[full]
    assert read_config(copy).origin.data == read_config(original).origin.data


@pytest.mark.parametrize("base", ["pptsn.yaml", "demo/pptsn.yaml", "pptsn", "configs/no.yaml"])
def test_another_missing_base_is_a_mistake(elsewhere, base):
    (elsewhere / "mine.yaml").write_text(f"_base_: {base}\n")
    with pytest.raises(ConfigError, match=f"{base}: cannot be read: .* names it as _base_"):
        read_config("mine.yaml")


def test_copy_replaces_no_file(elsewhere, capsys):
    assert cli.main(["configs", "copy", "pptsn_224", "mine.yaml"]) == 0
    assert "a copy of finetune/pptsn_224; train with: paddlevideo train -c mine.yaml" in (
        capsys.readouterr().out
    )
    text = (elsewhere / "mine.yaml").read_text(encoding="utf-8")
    assert "_base_: configs/finetune/pptsn.yaml\n" in text
    assert cli.main(["configs", "copy", "pptsn", "mine.yaml"]) == 1
    assert "mine.yaml exists; choose another file" in capsys.readouterr().err
    assert (elsewhere / "mine.yaml").read_text(encoding="utf-8") == text
    (elsewhere / "link.yaml").symlink_to("nowhere.yaml")
    assert cli.main(["configs", "copy", "pptsn", "link.yaml"]) == 1
    assert cli.main(["configs", "copy", "pptsn", "no/folder.yaml"]) == 1
    assert cli.main(["configs", "copy", "pptsm", "other.yaml"]) == 1
    assert "did you mean 'pptsn'?" in capsys.readouterr().err
    assert cli.main(["configs", "copy", "mine.yaml", "other.yaml"]) == 1
    assert "mine.yaml: not the name of a shipped config" in capsys.readouterr().err
    assert sorted(path.name for path in elsewhere.iterdir()) == ["link.yaml", "mine.yaml"]


def test_messages_write_the_command_of_the_checkout(root, tmp_path):
    assert shipped.typed("tools/check_data.py", "check-data") == "python tools/check_data.py"
    for script in ("main.py", "tools/export_model.py", "tools/data/prepare_kinetics.py"):
        assert (root / script).is_file() and shipped.typed(script, "x") == f"python {script}"


def test_lists_all_configs(capsys):
    assert cli.main(["configs"]) == cli.main(["configs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(shipped.configs())
    assert any(line.split()[:2] == ["pptsn", "PP-TSN"] for line in lines)


def test_an_installed_package_has_its_own_files(tmp_path, monkeypatch):
    """The layout of the wheel: configs and labels below `paddlevideo/shipped`."""
    (tmp_path / "shipped/configs/demo").mkdir(parents=True)
    monkeypatch.setattr(shipped.resources, "files", lambda package: tmp_path)
    assert shipped.typed("tools/check_data.py", "check-data") == "paddlevideo check-data"
    assert shipped.shipped_file("configs") == tmp_path / "shipped/configs"
    assert shipped.shipped_file("data/k400/labels.txt").parts[-4:-2] == ("shipped", "data")


def test_the_wheel_holds_what_is_found_by_name(root):
    """setup.py maps the folders of the checkout to where `shipped_file` looks."""
    given = {}
    module = SimpleNamespace(setup=given.update, find_packages=lambda **_: ["paddlevideo"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "setuptools", module)
        runpy.run_path(str(root / "setup.py"))
    assert given["version"] == __import__("paddlevideo").__version__
    assert given["entry_points"] == {"console_scripts": ["paddlevideo = paddlevideo.cli:main"]}
    held = set()
    for package, folder in given["package_dir"].items():
        assert package in given["packages"] and package == f"paddlevideo.shipped.{folder}"
        for pattern in given["package_data"][package]:
            held |= {p.relative_to(root).as_posix() for p in (root / folder).glob(pattern)}
    configs = {path.relative_to(root).as_posix() for path in shipped.configs().values()}
    assert configs | {"data/k400/labels.txt"} <= held


@pytest.mark.parametrize("as_typed", ["configs/demo/pptsn.yaml", "./configs/demo/pptsn.yaml"])
def test_copies_a_path_of_the_checkout(root, tmp_path, monkeypatch, as_typed):
    monkeypatch.chdir(root)
    assert cli.main(["configs", "copy", as_typed, str(tmp_path / "mine.yaml")]) == 0
    assert (tmp_path / "mine.yaml").read_text() == shipped.copied_text("demo/pptsn")
