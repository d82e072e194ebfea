"""Keep what a command wrote for other inputs: a page, a plot or scores are replaced on request.

Each output contains `made_of` its inputs, so that the same command may run again.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def made_of(inputs: Iterable[str | Path]) -> str:
    """A short text that names the inputs of an output: files or folders, in any order."""
    paths = "\n".join(sorted({os.path.abspath(path) for path in inputs}))
    return f"made of {hashlib.sha256(os.fsencode(paths)).hexdigest()[:24]}"


def check_replaced(out: str | Path, made_of: str, overwrite: bool, flag: str = "--out") -> None:
    """Check that an output replaces only what was made of the same inputs.

    Args:
        made_of: as `made_of` returns it.
        flag: that names the output, for the message.

    Raises:
        FileExistsError: the file was made of other inputs, or by another program.
    """
    path = Path(out)
    if overwrite or not path.is_file() or made_of.encode() in path.read_bytes():
        return
    raise FileExistsError(
        f"{flag} {out}: this file exists, and was not made from these inputs; give another path, "
        "or replace it with --overwrite"
    )
