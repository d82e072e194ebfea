"""Shared fixtures: the folder of reference goldens, where a checkout has one beside it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material (golden outputs, real clips); tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip(f"no reference material: {folder.name}/parity does not stand beside the checkout")
    return folder
