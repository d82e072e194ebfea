"""Upload a model to a hub and download it: the Hugging Face Hub, and ModelScope.

Both packages are optional, and find the user's token themselves. No token is read, logged or sent
by this code, and known forms of tokens are removed from the messages of the packages.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paddlevideo import log
from paddlevideo.engine.checkpoint import read_checkpoint
from paddlevideo.engine.load import RUN_FILE
from paddlevideo.exporting.export_folder import remove_export
from paddlevideo.files import temporary_name
from paddlevideo.hub.bundle import CARD, PLAIN, SUFFIXES, HubError, bundle, check_names
from paddlevideo.hub.card import card
from paddlevideo.runtimes.manifest import FILE, check_files, read_manifest
from paddlevideo.urls import is_url, shown

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
TOKENS = re.compile(r"\b(?:hf_|ms-)[\w-]{6,}|(?<=[Bb]earer )\S+", re.ASCII)
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN")
# What a pull downloads; anything else in a repository stays there.
PATTERNS = [CARD, FILE, RUN_FILE, "*.pdmodel", "*.json", "*.pdiparams", "*.pdiparams.info"]
PATTERNS += ["*.onnx", "*.npz", *(f"*{suffix}" for suffix in SUFFIXES)]


def push(
    source: str | Path,
    repo: str,
    hub: str = "huggingface",
    public: bool = False,
    license_name: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> str:
    """Upload a model with a card; returns the text of the card.

    model.yaml and run.yaml are uploaded as they are: they contain the config, with the paths of its
    lists.

    Args:
        source: see `bundle`.
        repo: owner/name; it is created where it does not exist.
        public: a new repository is readable by everybody; an existing one stays as it is.
        license_name: as hubs know it: apache-2.0.
        message: of the upload.
        dry_run: print card and names of the files, and upload nothing.

    Raises:
        HubError: the package of the hub is not installed, or the hub refuses.
        ManifestError, WeightsError, ConfigError: the model is not complete.
    """
    check_repo(repo)
    model = bundle(source)
    text = card(model, repo, hub, license_name)
    if dry_run:
        log.show(*text.splitlines(), "", f"files for {repo}: {', '.join([*model.files, CARD])}")
        return text
    upload = _UPLOADS[hub]()
    with tempfile.TemporaryDirectory() as folder:
        for name, path in model.files.items():
            shutil.copyfile(path, Path(folder, name))
        Path(folder, CARD).write_text(text, encoding="utf-8")
        message = message or f"Upload {model.name} with paddlevideo"
        _call(hub, repo, upload, repo, folder, public, message)
    log.show(f"uploaded to {repo}: {', '.join([*model.files, CARD])}")
    return text


def pull(
    repo: str,
    output: str | Path | None = None,
    hub: str = "huggingface",
    revision: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Download what `push` has uploaded, and check it; returns the folder.

    An export is compared with the checksums in its model.yaml, a weight file is read. No code of
    the repository is downloaded or run.

    Args:
        output: the folder; `inference/<name>` by default.
        revision: branch, tag or commit; None for the newest.
        overwrite: replace the files that are in the folder.

    Raises:
        HubError: the package is not installed, the hub refuses, the repository has no model, or the
            folder contains files.
        ManifestError, WeightsError: a file is missing, damaged or not safe to read.
    """
    check_repo(repo)
    if is_url(output or ""):
        raise HubError(f"{shown(output or '')}: a download needs a folder of this machine; see -o")
    folder = Path(output or f"inference/{repo.partition('/')[2]}")
    if folder.exists() and not (folder.is_dir() and (overwrite or not any(folder.iterdir()))):
        raise HubError(f"{folder} exists; choose another folder with -o, or replace: --overwrite")
    download = _DOWNLOADS[hub]()
    work = temporary_name(folder.absolute())
    try:
        work.mkdir(parents=True)
        _call(hub, repo, download, repo, str(work), revision)
        names = _checked(work, repo)
        if folder.is_dir():
            remove_export(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:  # model.yaml comes last: it says that the others are there
            os.replace(work / name, folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.show(f"downloaded to {folder}: {', '.join(names)}")
    return folder


def check_repo(repo: str) -> None:
    """Check that a name is owner/name.

    Raises:
        HubError: it is not.
    """
    if not REPO.fullmatch(repo) or ".." in repo:
        raise HubError(f"{repo}: expected owner/name of a repository, as me/my-model")


def _checked(folder: Path, repo: str) -> list[str]:
    """Check what was downloaded; returns the names of the files of the model.

    Raises:
        HubError, ManifestError, WeightsError: it is not a model, or damaged.
    """
    extra = [CARD] if (folder / CARD).is_file() else []
    if manifest := read_manifest(folder):
        check_names(manifest, folder)
        check_files(manifest, [folder / name for name in manifest.files])
        return [*extra, *manifest.files, FILE]
    weights = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    weights = [path for path in weights if PLAIN.fullmatch(path.name)]
    if not weights or not (folder / RUN_FILE).is_file():
        raise HubError(
            f"{repo}: neither an exported model ({FILE}) nor a weight file with {RUN_FILE} is in it"
        )
    for path in weights:
        read_checkpoint(path)
    return [*extra, *(path.name for path in weights), RUN_FILE]


def _call(hub: str, repo: str, function: Callable[..., Any], *args: Any) -> None:
    """Call a package, whose errors become one line without tokens."""
    try:
        function(*args)
    except Exception as error:  # packages of hubs raise errors of many other packages
        text = without_tokens(" ".join(str(error).split()) or type(error).__name__)
        raise HubError(f"{hub}, {repo}: {text}") from None


def without_tokens(text: str) -> str:
    """A message without what looks like a token."""
    known = [os.environ.get(name, "").strip() for name in TOKEN_VARIABLES]
    for token in filter(None, known):
        text = text.replace(token, "***")
    return TOKENS.sub("***", text)


# --- the packages ---------------------------------------------------------------------------------


def _missing(package: str, extra: str) -> HubError:
    return HubError(f"this needs the package {package}: pip install 'paddlevideo[{extra}]'")


def _huggingface_upload() -> Callable[..., Any]:
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError:
        raise _missing("huggingface_hub", "hub") from None

    def upload(repo: str, folder: str, public: bool, message: str) -> None:
        api = HfApi()
        api.create_repo(repo_id=repo, repo_type="model", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repo, repo_type="model", folder_path=folder, commit_message=message
        )

    return upload


def _huggingface_download() -> Callable[..., Any]:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise _missing("huggingface_hub", "hub") from None

    def download(repo: str, folder: str, revision: str | None) -> None:
        snapshot_download(
            repo_id=repo, revision=revision, local_dir=folder, allow_patterns=PATTERNS
        )

    return download


def _modelscope_upload() -> Callable[..., Any]:
    try:
        from modelscope.hub.api import HubApi
    except ModuleNotFoundError:
        raise _missing("modelscope", "modelscope") from None

    def upload(repo: str, folder: str, public: bool, message: str) -> None:
        api = HubApi()
        visibility = "public" if public else "private"
        api.create_repo(repo_id=repo, repo_type="model", visibility=visibility, exist_ok=True)
        api.upload_folder(
            repo_id=repo, repo_type="model", folder_path=folder, commit_message=message
        )

    return upload


def _modelscope_download() -> Callable[..., Any]:
    try:
        from modelscope import snapshot_download
    except ModuleNotFoundError:
        raise _missing("modelscope", "modelscope") from None

    def download(repo: str, folder: str, revision: str | None) -> None:
        snapshot_download(
            model_id=repo, revision=revision, local_dir=folder, allow_patterns=PATTERNS
        )

    return download


_UPLOADS = {"huggingface": _huggingface_upload, "modelscope": _modelscope_upload}
_DOWNLOADS = {"huggingface": _huggingface_download, "modelscope": _modelscope_download}
