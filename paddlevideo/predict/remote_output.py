"""Results that are stored at a URL: written to a temporary folder first."""

import shutil
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from paddlevideo.log import logger
from paddlevideo.remote import (
    exists,
    is_url,
    join_path,
    local_copy,
    parent_path,
    path_name,
    put_file,
    put_folder,
    shown,
)


@contextmanager
def local_outputs(
    args: Namespace, output_path: Callable[[Namespace], Path | None]
) -> Iterator[tuple[Namespace, str]]:
    """Yield the flags with local paths in place of URLs, and the place of --out for messages.

    The files are stored when the block ends. A `.jsonl` file is stored after an error, too, so that
    --resume continues it.

    Args:
        output_path: flags -> the file of --out.

    Raises:
        ValueError: the file of --out exists, and neither --resume nor --overwrite is given.
        RemoteError, AccessError: a URL cannot be read or written.
    """
    out, save_path = args.out, args.save_path
    if not is_url(out or "") and not is_url(save_path or ""):
        yield args, str(output_path(args) or "")
        return
    with tempfile.TemporaryDirectory(prefix="paddlevideo-") as folder:
        args = Namespace(**vars(args))
        if is_url(save_path or ""):
            args.save_path = str(Path(folder, "videos"))
        if not is_url(out or ""):
            yield args, str(output_path(args) or "")
        else:
            Path(folder, "out").mkdir()
            args.out = str(Path(folder, "out", path_name(out)))
            local = output_path(args)
            assert local is not None
            url = join_path(parent_path(out), local.name)
            _fetch_earlier(url, local, args)
            try:
                yield args, shown(url)
            except BaseException:
                if local.suffix == ".jsonl" and local.exists():
                    put_file(local, url)
                    logger.info(f"the results so far are in {shown(url)}")
                raise
            put_file(local, url)
        if is_url(save_path or ""):
            put_folder(Path(args.save_path), save_path)


def _fetch_earlier(url: str, local: Path, args: Namespace) -> None:
    """Fetch the file that --resume continues."""
    if not exists(url) or args.overwrite:
        return
    if not args.resume:
        fix = "continue it with --resume, " if local.suffix == ".jsonl" else ""
        raise ValueError(
            f"--out {shown(url)}: this file exists; {fix}replace it with --overwrite, or give "
            "another URL"
        )
    shutil.copyfile(local_copy(url), local)
