"""`run.yaml`: the resolved config of a run, and the facts that are needed to repeat it."""

import platform
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from paddlevideo import dist
from paddlevideo.config import yamltree
from paddlevideo.config.schema import Config
from paddlevideo.config.shipped import typed
from paddlevideo.engine.classes import Classes
from paddlevideo.files import atomic_write
from paddlevideo.plain_text import file_line, readable

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "opencv-python-headless", "av", "decord")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_run_file(cfg: Config, folder: Path, classes: Classes, flags: str = "") -> None:
    """Write `<folder>/run.yaml`, which repeats the run, and class names to `labels.txt`.

    Args:
        flags: of main.py, besides `-c`.
    """
    if not dist.is_main():
        return
    other = shlex.quote(f"output_dir={folder}_again")
    train, own = typed("main.py", "train"), shlex.quote(str(folder / "run.yaml"))
    again = f"{train} {flags}-c {own} -o {other}"
    about = [
        f"# The resolved config of a run. To repeat it: {again}",
        f"# command: {shlex.join(sys.argv)}",
        f"# from: {', '.join(cfg.origin.sources)}",
        f"# overrides: {' '.join(cfg.origin.overrides) or 'none'}",
        f"# ranks: {dist.world_size()}; git: {_git_hash()}; "
        + ", ".join(f"{k} {v}" for k, v in versions().items()),
    ]
    data = {k: v for k, v in cfg.origin.data.items() if k != "_base_"}
    text = yamltree.dump(data)
    with atomic_write(folder / "run.yaml") as temporary:
        # Without `readable`, a line end inside a name would end the comment.
        header = "".join(f"{readable(line)}\n" for line in about)
        temporary.write_text(header + text, encoding="utf-8")
    (folder / "labels.txt").unlink(missing_ok=True)
    if classes.names:
        with atomic_write(folder / "labels.txt") as temporary:
            lines = "".join(f"{file_line(name)}\n" for name in classes.names)
            temporary.write_text(lines, encoding="utf-8")


def _git_hash() -> str:
    git, here = shutil.which("git"), Path(__file__).resolve().parent
    if not git:
        return "unknown"
    done = subprocess.run(
        [git, "describe", "--always", "--dirty"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
