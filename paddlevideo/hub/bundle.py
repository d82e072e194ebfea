"""What is uploaded of a model: an export, or a weight file of a run, and what is known of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paddlevideo.engine.checkpoint import read_checkpoint
from paddlevideo.engine.classes import configured_classes
from paddlevideo.engine.component_tree import parts_text
from paddlevideo.engine.load import RUN_FILE, config_of_run
from paddlevideo.report.run_facts import RunFacts, read_run
from paddlevideo.runtimes.manifest import (
    FILE,
    Manifest,
    ManifestError,
    check_files,
    exported_folder,
    read_manifest,
    sha256,
)
from paddlevideo.sample import InputSpec

SUFFIXES = (".pdparams", ".safetensors")  # of weight files
CARD = "README.md"
# A name of a file that is one on every system, and in no other folder.
PLAIN = re.compile(r"(?!\.)[^/\\:\0]{1,200}")


class HubError(ValueError):
    """A model that cannot be uploaded or downloaded."""


@dataclass(frozen=True)
class Bundle:
    """The files of a model, and what its card says.

    Args:
        name: model_name of its config.
        architecture: its parts as text.
        files: {name: path}; for a weight file, the file and its run.yaml.
        num_classes: K, None where it is unknown.
        labels: class names, None where they are unknown.
        multi_label: a video may have several classes.
        weights: name of the weight file; "" for an export.
        inputs: of an exported program.
        run: the run that trained it, None where it is not next to the model.
    """

    name: str
    architecture: str
    files: Mapping[str, Path]
    num_classes: int | None
    labels: list[str] | None
    multi_label: bool
    weights: str = ""
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    run: RunFacts | None = None

    def digests(self) -> dict[str, str]:
        """{name: SHA-256} of the files."""
        return {name: sha256(path) for name, path in self.files.items()}


def bundle(source: str | Path) -> Bundle:
    """Collect and check the files of a model.

    Args:
        source: an exported folder, the folder of a run with an export in it, or a weight file with
            its run.yaml next to it.

    Raises:
        HubError, ManifestError, WeightsError, ConfigError: there is no model, or a file of it is
            missing, damaged, or from another export.
    """
    path = Path(source)
    if path.is_dir():
        folder = exported_folder(path)
        if manifest := read_manifest(folder):
            return _export(folder, manifest)
        raise HubError(
            f"{source}: no {FILE} in it, so it is not an exported model; export the model first, "
            "or give its weight file"
        )
    if path.suffix not in SUFFIXES:
        expected = f"an exported folder, or a weight file ({', '.join(SUFFIXES)})"
        raise HubError(f"{source}: expected {expected}")
    return _checkpoint(path)


def _export(folder: Path, manifest: Manifest) -> Bundle:
    check_names(manifest, folder)
    check_files(manifest, [folder / name for name in manifest.files])
    cfg = manifest.test_config(folder / FILE)
    return Bundle(
        manifest.name,
        parts_text(cfg.MODEL),
        {name: folder / name for name in [*manifest.files, FILE]},
        manifest.num_classes,
        manifest.labels,
        manifest.multi_label,
        inputs=manifest.inputs,
        run=_run_of(folder) or _run_of(folder.parent),
    )


def check_names(manifest: Manifest, folder: Path) -> None:
    """Check that a manifest names files of its own folder.

    Raises:
        ManifestError: it does not.
    """
    wrong = [name for name in manifest.files if not PLAIN.fullmatch(str(name))]
    if wrong:
        raise ManifestError(
            f"{folder / FILE}: files: {wrong[0]!r} is not the name of a file in this folder"
        )


def _checkpoint(path: Path) -> Bundle:
    _, names, _, _ = read_checkpoint(path)
    cfg = config_of_run(path)
    return Bundle(
        cfg.model_name,
        parts_text(cfg.MODEL),
        {path.name: path, RUN_FILE: path.with_name(RUN_FILE)},
        len(names) if names else configured_classes(cfg),
        names,
        cfg.DATASET.multi_label,
        weights=path.name,
        run=_run_of(path.parent),
    )


def _run_of(folder: Path) -> RunFacts | None:
    """The run in a folder, None where there is none."""
    return read_run(folder) if (folder / "metrics.jsonl").is_file() else None
