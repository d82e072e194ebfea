"""The files of a model as bytes, unpacked once per node."""

import os
import tempfile
from types import SimpleNamespace

import pytest

from paddlevideo.scale import model_files as module
from paddlevideo.scale.model_files import model_files, models_folder, packed, send, unpack


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "export"
    (folder / "more").mkdir(parents=True)
    for name in ("model.yaml", "net.pdmodel", "net.pdiparams", "more/x.bin"):
        (folder / name).write_bytes(name.encode() * 100)
    (folder.parent / "video.mp4").write_bytes(b"no part of it")
    return folder


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_a_folder_arrives_as_it_is(export, tmp_path):
    files = model_files(export)
    data = packed(files, export)
    unpack(data, tmp_path / "copy")
    assert names(tmp_path / "copy") == names(export)
    for name in names(export):
        assert (tmp_path / "copy" / name).read_bytes() == (export / name).read_bytes()
    os.utime(export / "model.yaml", (1, 1))
    assert packed(files, export) == data  # they name the folder


def test_a_file_brings_what_belongs_to_it(export):
    (export / "other.pdmodel").write_bytes(b"")
    (export / "net.mp4.txt").write_bytes(b"")
    found = [path.name for path in model_files(export / "net.pdmodel")]
    assert found == ["net.mp4.txt", "net.pdiparams", "net.pdmodel", "model.yaml"]


def test_names_with_magic_characters(tmp_path):
    for name in ("a[1].pdmodel", "a[1].pdiparams", "a1.pdmodel"):
        (tmp_path / name).write_bytes(b"x")
    found = [path.name for path in model_files(tmp_path / "a[1].pdmodel")]
    assert found == ["a[1].pdiparams", "a[1].pdmodel"]


def test_a_worker_unpacks_once(export, monkeypatch):
    stored = {}
    ray = SimpleNamespace(put=lambda data: stored.setdefault("ref", data))
    sent = send(ray, export)
    calls = []

    def get(ref):
        calls.append(1)
        return ref

    monkeypatch.setitem(__import__("sys").modules, "ray", SimpleNamespace(get=get))
    first, second = sent.path(), sent.path()
    assert first == second and len(calls) == 1 and names(first) == names(export)
    one = send(ray, export / "net.pdmodel")
    assert one.path().name == "net.pdmodel" and one.path().with_name("model.yaml").exists()


def test_two_processes_that_unpack_at_once(export, tmp_path, monkeypatch):
    data, target = packed(model_files(export), export), tmp_path / "copy"
    rename = os.rename

    def another_was_faster(source, destination):
        monkeypatch.setattr(os, "rename", rename)
        unpack(data, target)
        rename(source, destination)

    monkeypatch.setattr(os, "rename", another_was_faster)
    unpack(data, target)
    assert names(target) == names(export)
    assert not list(tmp_path.glob(".copy*"))


def test_a_broken_archive_leaves_nothing(tmp_path):
    with pytest.raises(Exception, match="."):
        unpack(b"no archive", tmp_path / "copy")
    assert not (tmp_path / "copy").exists() and not list(tmp_path.glob(".copy*"))


def test_rejects_what_is_no_model(export, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no such file or folder to send"):
        model_files(tmp_path / "missing")
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="too much for a model"):
        model_files(export)


def test_the_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    own = models_folder()
    assert own.parent.parent == tmp_path / "node" and own.parent.stat().st_mode & 0o77 == 0
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert models_folder() != own
