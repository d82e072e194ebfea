"""The files that come with the package: configs by name, and lists of class names.

They lie in `paddlevideo/shipped/` where the package is installed, and in `configs/` and `data/` of
a checkout. The name of a config is its path under `configs/` without `.yaml`, or the last parts
of it: `recognition/pptsn/pptsn_k400_videos` or `pptsn_k400_videos`. The configs of generated
clips are always named with their folder, as in `demo/pptsn`.
"""

import difflib
import functools
from collections import Counter
from importlib import resources
from pathlib import Path

from paddlevideo.config.schema import ConfigError

DEMO = "demo"  # the folder whose configs are named with it


def shipped_file(name: str) -> Path:
    """Where the file or folder `name`, as "configs" or "data/k400/labels.txt", is expected."""
    package = Path(str(resources.files("paddlevideo")))
    installed = package / "shipped"
    return (installed if installed.is_dir() else package.parent) / name


def typed(script: str, verb: str) -> str:
    """How messages write a command: "python <script>" in a checkout, else "paddlevideo <verb>"."""
    return f"python {script}" if shipped_file(script).is_file() else f"paddlevideo {verb}"


def find_file(path: str | Path) -> Path:
    """`path` itself where it exists or is not shipped, else the shipped file of that name.

    Args:
        path: as written in a config, such as "data/k400/labels.txt".
    """
    path = Path(path)
    if path.exists() or path.is_absolute() or ".." in path.parts or path.parts[:1] != ("data",):
        return path
    shipped = shipped_file(path.as_posix())
    return shipped if shipped.is_file() else path


@functools.cache
def configs() -> dict[str, Path]:
    """{full name: file} of the shipped configs, sorted."""
    folder = shipped_file("configs")
    files = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def _names(full: str) -> list[str]:
    """The names that can mean a config, shortest first."""
    parts = full.split("/")
    if parts[0] == DEMO:
        return [full]
    return ["/".join(parts[start:]) for start in reversed(range(len(parts)))]


@functools.cache
def short_names() -> dict[str, str]:
    """{shortest name that means one config only: full name}, sorted by the full name."""
    count = Counter(name for full in configs() for name in _names(full))
    return {next(n for n in _names(full) if count[n] == 1 or n == full): full for full in configs()}


def find_config(name: str | Path) -> Path:
    """The config file that `name` means: a path that exists, else a shipped config.

    Args:
        name: a path, which also may be that in a checkout, "configs/demo/pptsn.yaml"; or a name.

    Returns:
        the file; `name` itself where it is a path of no shipped config.

    Raises:
        ConfigError: a bare name that several shipped configs have, or none.
    """
    path, text = Path(name), str(name)
    if path.is_file() or path.is_absolute() or not text:
        return path
    wanted = text.removeprefix("configs/")
    if wanted != text:  # the path in a checkout
        wanted = wanted.removesuffix(".yaml")
    if wanted in configs():
        return configs()[wanted]
    found = [full for full in configs() if wanted in _names(full)]
    if len(found) == 1:
        return configs()[found[0]]
    if text.endswith((".yaml", ".yml")) or path.exists() or text.startswith((".", "~")):
        return path
    if found:
        short = [name for name, full in short_names().items() if full in found]
        raise ConfigError([f"{text}: several shipped configs have this name: {', '.join(short)}"])
    problem = f"{text}: neither a file nor the name of a shipped config{_nearest(wanted)}"
    raise ConfigError([f"{problem} `paddlevideo configs` lists them"])


def find_base(name: str) -> Path | None:
    """The shipped config that a `_base_` means which is no file, as "configs/demo/pptsn.yaml"."""
    is_path = name.startswith("configs/") and name.endswith(".yaml")
    return configs().get(name[len("configs/") : -len(".yaml")]) if is_path else None


def _nearest(wanted: str) -> str:
    """The end of a message that names the nearest config, if one is near; ends with "?" or ";"."""
    known = {name: name for name in short_names()}
    known |= {full.split("/")[-1]: name for name, full in short_names().items()}
    near = difflib.get_close_matches(wanted, known, n=1)
    return f"; did you mean {known[near[0]]!r}?" if near else ";"


def about(file: Path) -> str:
    """The first comment line of a config."""
    with file.open(encoding="utf-8") as lines:
        return next(lines, "").lstrip("#").strip()


def copied_text(full: str) -> str:
    """The text of a shipped config, whose `_base_` names a shipped config instead of a file."""
    file, folder = configs()[full], shipped_file("configs")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith("_base_:"):
            base = line.removeprefix("_base_:").split("#")[0].strip()
            path = (file.parent / base).resolve().relative_to(folder.resolve())
            lines[number] = line.replace(base, f"configs/{path.as_posix()}")
    return "".join(lines)
