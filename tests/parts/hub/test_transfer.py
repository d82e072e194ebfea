"""Uploads and downloads with doubles of the hubs' packages, whose calls fit the real ones."""

import inspect
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

from paddlevideo.commands import models as command
from paddlevideo.hub import transfer
from paddlevideo.hub.bundle import HubError
from paddlevideo.hub.transfer import pull, push, without_tokens
from paddlevideo.predict.predictor import Predictor
from paddlevideo.runtimes.manifest import ManifestError
from paddlevideo.weights import WeightsError

HUBS = ("huggingface", "modelscope")
TOKEN = "hf_AbCdEfGhIjKlMnOp"


class Hub:
    """A hub in a folder; both packages call it.

    Attributes:
        calls: (method, its arguments).
        error: raised by every call.
    """

    def __init__(self, folder: Path):
        self.folder, self.calls, self.error = folder, [], None

    def note(self, method, kwargs):
        self.calls.append((method, kwargs))
        if self.error:
            raise self.error

    def create_repo(self, **kwargs):
        self.note("create_repo", kwargs)

    def upload_folder(self, **kwargs):
        self.note("upload_folder", kwargs)
        shutil.copytree(kwargs["folder_path"], self.folder / kwargs["repo_id"], dirs_exist_ok=True)

    def snapshot_download(self, **kwargs):
        self.note("snapshot_download", kwargs)
        source = self.folder / (kwargs.get("repo_id") or kwargs["model_id"])
        for path in source.rglob("*"):
            name = path.relative_to(source).as_posix()
            if path.is_file() and any(fnmatch(name, p) for p in kwargs["allow_patterns"]):
                target = Path(kwargs["local_dir"], name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        Path(kwargs["local_dir"], ".cache").mkdir()  # as huggingface_hub does
        return kwargs["local_dir"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    double = Hub(tmp_path / "hub")
    modules = {name: ModuleType(name) for name in ("huggingface_hub", "modelscope")}
    modules["huggingface_hub"].HfApi = lambda: double
    modules["modelscope.hub"] = ModuleType("modelscope.hub")
    modules["modelscope.hub.api"] = ModuleType("modelscope.hub.api")
    modules["modelscope.hub.api"].HubApi = lambda: double
    for name, module in modules.items():
        module.snapshot_download = double.snapshot_download
        monkeypatch.setitem(sys.modules, name, module)
    return double


@pytest.fixture
def model(exported, tmp_path):
    """A folder with an export, a weight file and its run.yaml."""
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder / "inference")
    shutil.copy(exported.weights, folder / "tiny_best.pdparams")
    shutil.copy(exported.config, folder / "run.yaml")
    return folder


def files_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("name", HUBS)
def test_an_export_goes_to_a_hub_and_back(hub, model, exported, tmp_path, name, capsys):
    push(model / "inference", "me/my-model", name)
    uploaded = files_in(hub.folder / "me/my-model")
    assert uploaded == sorted([*files_in(model / "inference"), "README.md"])
    for extra in ("run.sh", "evil.py", "more/x.onnx"):
        path = hub.folder / "me/my-model" / extra
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    folder = pull("me/my-model", tmp_path / "got", name)
    assert files_in(folder) == uploaded  # nothing else comes along
    assert [r.class_ids for r in Predictor(folder, device="cpu").predict(exported.videos)] == [
        r.class_ids for r in Predictor(exported.folder, device="cpu").predict(exported.videos)
    ]
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
    printed = capsys.readouterr().out
    assert "uploaded to me/my-model: " in printed and f"downloaded to {folder}: " in printed


@pytest.mark.parametrize("output", ["s3://bucket/x", "https://me:word@host/x"])
def test_a_download_needs_a_local_folder(hub, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError, match="/x: a download needs a folder of this machine") as error:
        pull("me/my-model", output)
    assert "word" not in str(error.value) and not hub.calls and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", HUBS)
def test_a_weight_file_goes_to_a_hub_and_back(hub, model, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    push(model / "tiny_best.pdparams", "me/tiny", name)
    assert files_in(hub.folder / "me/tiny") == ["README.md", "run.yaml", "tiny_best.pdparams"]
    folder = pull("me/tiny", hub=name, revision="v1")
    assert folder == Path("inference/tiny") and len(files_in(folder)) == 3
    assert hub.calls[-1][1]["revision"] == "v1"


@pytest.mark.parametrize("name", HUBS)
def test_the_calls_fit_the_real_packages(hub, model, tmp_path, name, monkeypatch):
    """Each argument that is passed is a parameter of the installed package."""
    push(model / "inference", "me/x", name, public=True, message="first")
    pull("me/x", tmp_path / "got", name)
    monkeypatch.undo()
    if name == "huggingface":
        real = pytest.importorskip("huggingface_hub")
        api, module = [real.HfApi], real
    else:
        module = pytest.importorskip("modelscope")
        from modelscope.hub.api import HubApi

        # upload_folder passes its other arguments on to this one.
        below = pytest.importorskip("modelscope_hub.api")
        api = [HubApi, below.HubApi]
    assert [method for method, _ in hub.calls] == [
        "create_repo",
        "upload_folder",
        "snapshot_download",
    ]
    for method, kwargs in hub.calls:
        if method == "snapshot_download":
            inspect.signature(module.snapshot_download).bind(**kwargs)
            continue
        inspect.signature(getattr(api[0], method)).bind(None, **kwargs)
        if method == "upload_folder":
            inspect.signature(getattr(api[-1], method)).bind(None, **kwargs)
        assert not [key for key in kwargs if "token" in key]


@pytest.mark.parametrize("public", [False, True])
def test_a_new_repository_is_private_unless_asked(hub, model, public):
    for name in HUBS:
        push(model / "inference", "me/x", name, public)
    hugging, scope = (kwargs for method, kwargs in hub.calls if method == "create_repo")
    assert hugging["private"] is not public and hugging["exist_ok"] and scope["exist_ok"]
    assert scope["visibility"] == ("public" if public else "private")


def test_a_dry_run_uploads_nothing(hub, model, capsys):
    text = push(model / "inference", "me/x", dry_run=True)
    printed = capsys.readouterr().out
    assert not hub.calls and "# x" in printed and text.splitlines()[0] in printed
    assert "files for me/x: " in printed and "tiny.pdiparams" in printed


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HUBS)
def test_a_missing_package_names_its_extra(model, monkeypatch, tmp_path, name):
    for module in ("huggingface_hub", "modelscope", "modelscope.hub.api"):
        monkeypatch.setitem(sys.modules, module, None)
    extra = "hub" if name == "huggingface" else name
    with pytest.raises(HubError, match=rf"needs the package .*paddlevideo\[{extra}\]"):
        push(model / "inference", "me/x", name)
    with pytest.raises(HubError, match=rf"needs the package .*paddlevideo\[{extra}\]"):
        pull("me/x", tmp_path / "got", name)


@pytest.mark.parametrize("repo", ["x", "a/b/c", "/x", "me/", "me/../x", "me/..", "-o/x", "me/x y"])
def test_a_repository_has_an_owner_and_a_name(hub, model, repo):
    for call in (lambda: push(model, repo), lambda: pull(repo)):
        with pytest.raises(HubError, match="expected owner/name of a repository"):
            call()
    assert not hub.calls


@pytest.mark.parametrize(
    "text",
    [
        f"401 Unauthorized for url https://h/x (token {TOKEN})",
        "headers: {'authorization': 'Bearer abcdef'}",
        "bad key my-own-secret-1",
    ],
)
def test_tokens_are_not_shown(hub, model, monkeypatch, tmp_path, capsys, text):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "my-own-secret-1")
    hub.error = RuntimeError(text)
    for name in HUBS:
        assert command.main(["push", str(model / "inference"), "me/x", "--hub", name]) == 1
        printed = "".join(capsys.readouterr())
        assert f"error: {name}, me/x: " in printed and "***" in printed
        assert not [word for word in (TOKEN, "abcdef", "my-own-secret-1") if word in printed]
    with pytest.raises(HubError) as info:
        pull("me/x", tmp_path / "nowhere")
    assert info.value.__cause__ is None and "abcdef" not in str(info.value)


def test_messages_without_tokens_are_unchanged():
    text = "404 Client Error. Repository Not Found for url: https://huggingface.co/api/models/me/x"
    assert without_tokens(text) == text
    assert without_tokens("") == ""


def test_what_comes_back_is_checked(hub, model, tmp_path):
    push(model / "inference", "me/x")
    with (hub.folder / "me/x/tiny.pdiparams").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ManifestError, match=r"tiny\.pdiparams: damaged"):
        pull("me/x", tmp_path / "got")
    (hub.folder / "me/x/tiny.pdiparams").unlink()
    with pytest.raises(ManifestError, match="does not exist"):
        pull("me/x", tmp_path / "got")
    (hub.folder / "me/y").mkdir()
    (hub.folder / "me/y/a.onnx").touch()
    with pytest.raises(HubError, match=r"me/y: neither an exported model \(model.yaml\) nor a wei"):
        pull("me/y", tmp_path / "got")
    (hub.folder / "me/y/w.pdparams").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    (hub.folder / "me/y/run.yaml").write_text("model_name: x\n")
    with pytest.raises(WeightsError, match="refused, no code in the file was run"):
        pull("me/y", tmp_path / "got")
    assert not (tmp_path / "got").exists() and not list(tmp_path.glob(".*.tmp"))


def test_a_folder_is_replaced_by_request_only(hub, model, tmp_path, capsys):
    push(model / "inference", "me/x")
    folder = tmp_path / "got"
    pull("me/x", folder)
    (folder / "mine.txt").write_text("stays")
    hub.calls.clear()
    with pytest.raises(HubError, match=r"got exists; choose another folder with -o, or replace"):
        pull("me/x", folder)
    assert not hub.calls
    assert command.main(["pull", "me/x", "-o", str(folder), "--overwrite"]) == 0
    assert (folder / "mine.txt").read_text() == "stays" and (folder / "model.yaml").is_file()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(HubError, match="file exists"):
        pull("me/x", file, overwrite=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert pull("me/x", empty) == empty


def test_a_failed_download_keeps_the_folder(hub, model, tmp_path):
    push(model / "inference", "me/x")
    folder = pull("me/x", tmp_path / "got")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.error = ConnectionError("no network")
    with pytest.raises(HubError, match="huggingface, me/x: no network"):
        pull("me/x", folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_both_hubs_are_flags():
    assert set(transfer._UPLOADS) == set(transfer._DOWNLOADS) == set(command.HUBS)
