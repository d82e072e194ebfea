"""The folder of an export: what an earlier export left there, and how new files replace it."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from paddlevideo.exporting.program import ExportError
from paddlevideo.log import logger
from paddlevideo.runtimes.engines import FOLDER as ENGINES
from paddlevideo.runtimes.manifest import FILE, Manifest, ManifestError, read_manifest, sha256
from paddlevideo.runtimes.measured import FILE as MEASURED


def check_name(name: str) -> str:
    """The stem of the files of an export.

    Raises:
        ExportError: it names a folder, in which files of others would be replaced and removed.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise ExportError(
            f"the name of the model is {name!r}; expected a name without a folder "
            "(--save_name, or model_name of the config); -o chooses the folder"
        )
    return name


def earlier_export(folder: Path, name: str, overwrite: bool) -> Manifest | None:
    """The export that is in a folder, None where there is none.

    Raises:
        ManifestError, ExportError: its model.yaml is damaged, or it has another name than the new
            export, and `overwrite` is not set.
    """
    try:
        earlier = read_manifest(folder)
    except ManifestError:
        if overwrite:
            return None
        raise
    if earlier and earlier.name != name and not overwrite:
        raise ExportError(
            f"{folder} contains the model {earlier.name}; export {name} to another folder with -o, "
            "or replace that model with --overwrite"
        )
    return earlier


def check_same_model(folder: Path, earlier: Manifest | None, manifest: Manifest) -> None:
    """Check that an earlier export in the folder is of the same model.

    Raises:
        ExportError: it has other weights or settings.
    """
    if earlier and not earlier.same_model(manifest):
        what = "settings" if earlier.weights == manifest.weights else "weights"
        raise ExportError(
            f"{folder} contains an export of {earlier.name} with other {what}; export to another "
            "folder with -o, or replace it with --overwrite"
        )


def check_foreign_files(work: Path, folder: Path) -> None:
    """Check that no file in the folder has the name of a new file and another content.

    Raises:
        ExportError: there is one, and no model.yaml that describes it.
    """
    names = [path.name for path in sorted(work.iterdir()) if (folder / path.name).exists()]
    others = [name for name in names if sha256(work / name) != sha256(folder / name)]
    if others:
        raise ExportError(
            f"{folder} contains {', '.join(others)} and no {FILE}, so another program wrote them; "
            "export to another folder with -o, or replace them with --overwrite"
        )


def remove_export(folder: Path) -> None:
    """Remove the files of an export that are as it wrote them, and what describes them.

    An empty folder is removed, too.
    """
    try:
        earlier = read_manifest(folder)
    except ManifestError as error:
        logger.warning(f"{error}; it is replaced, and files next to it stay")
        earlier = None
    for path in _unchanged_files(folder, earlier) if earlier else []:
        path.unlink()
    shutil.rmtree(folder / ENGINES, ignore_errors=True)
    for name in (FILE, MEASURED):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def publish(work: Path, folder: Path, earlier: Manifest | None, manifest: Manifest) -> list[str]:
    """Write the manifest and move all files from `work` to `folder`; returns their names.

    Of an earlier export of another model, the other files are removed.
    """
    stale = []
    if earlier and not earlier.same_model(manifest):
        stale, earlier = _unchanged_files(folder, earlier), None
    files = {path.name: sha256(path) for path in sorted(work.iterdir())}
    kept = _kept_files(folder, earlier, files)
    old = earlier or manifest
    kept_differences = {n: old.differences[n] for n in kept if n in old.differences}
    files_of_all = {**{n: old.files[n] for n in kept}, **files}
    quantization = manifest.quantization or old.quantization
    manifest = replace(
        manifest,
        files=files_of_all,
        quantization=quantization if quantization.get("program") in files_of_all else {},
        differences={**kept_differences, **manifest.differences},
    )
    (work / FILE).write_text(manifest.text(), encoding="utf-8")
    # model.yaml comes last: if this is interrupted, the old one reports that its files changed.
    names = [*files, FILE]
    for name in names:
        os.replace(work / name, folder / name)
    for path in stale:
        if path.name not in names:
            path.unlink()
    if stale:
        shutil.rmtree(folder / ENGINES, ignore_errors=True)  # of the other model
    return names


def _kept_files(folder: Path, earlier: Manifest | None, files: Mapping[str, str]) -> list[str]:
    """The files of an earlier export of the same model, which become part of this export."""
    if earlier is None:
        return []
    kept = [path.name for path in _unchanged_files(folder, earlier) if path.name not in files]
    dropped = [name for name in earlier.files if name not in (*files, *kept)]
    if dropped:
        logger.warning(
            f"{folder}: files of an earlier export that have changed since, or are missing, "
            f"are not part of this one: {', '.join(dropped)}"
        )
    return kept


def _unchanged_files(folder: Path, manifest: Manifest) -> list[Path]:
    """The files of an export, without model.yaml, that are as it wrote them."""
    digests = {folder / name: digest for name, digest in manifest.files.items()}
    return [path for path, digest in digests.items() if path.is_file() and sha256(path) == digest]
