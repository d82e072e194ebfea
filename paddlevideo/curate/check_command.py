"""The command behind tools/check_data.py: check a data set, print a report, write the lists."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from paddlevideo import log
from paddlevideo.curate.check import CheckOptions, CheckResult, check, earlier_splits
from paddlevideo.curate.earlier import EarlierSplits
from paddlevideo.curate.report import html_report, text_report
from paddlevideo.curate.results import (
    FRAMES_CONFIG,
    MANIFEST,
    OWN_FILES,
    REPORT,
    check_fold_folder,
    check_writable,
    list_file,
    read_earlier,
    training_command,
    write,
)
from paddlevideo.data.paths import SPLITS
from paddlevideo.remote import (
    check_storable,
    exists,
    is_folder,
    is_url,
    join_path,
    local_copy,
    parent_path,
    path_name,
    put_folder,
    remove,
    shown,
)


def run_command(
    options: CheckOptions,
    out_dir: str | Path | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> int:
    """Check a data set, print the report, and write the lists of the good clips.

    Args:
        out_dir: where to write, a folder or its URL; None for the folder of the data, or the folder
            of the list.
        dry_run: write nothing.
        overwrite: replace files that no check wrote, or that were edited since.

    Returns:
        the exit code: 0 without faults, 1 with faults.

    Raises:
        DatasetError: an input does not exist or has no clips, or no training clip is left.
        OSError: the files cannot be written, or may not be replaced.
    """
    data = options.inputs.data
    out_dir = out_dir or (data if is_folder(data) else parent_path(data))
    with _results_folder(out_dir, dry_run) as folder:
        if not dry_run:
            check_writable(folder, overwrite)
            if options.fold is not None and not overwrite:
                check_fold_folder(folder, options.seed, options.fold)
        # A list that an earlier check wrote, and that is checked again, has splits of its own.
        is_own_list = not is_folder(data) and _is_in(data, out_dir)
        if not (is_own_list and path_name(data) in {list_file(split) for split in SPLITS}):
            options = replace(options, earlier=read_earlier(folder))
        result = check(options)
        print(text_report(result))
        if not (dry_run or overwrite or str(data) == str(out_dir)):
            check_same_set(result, options.earlier, folder)
        if not dry_run:
            report = html_report(result, f"Data: {shown(data)}")
            counts = write(result, folder, {REPORT: report}, overwrite)
    if not dry_run:
        names = [f"{name} ({count})" for name, count in counts.items()]
        log.show(f"written to {shown(out_dir)}: {', '.join([*names, REPORT])}")
        log.show(f"train on it: {training_command(out_dir, counts, result.media, options.fold)}")
        if result.media == "video":
            log.show(f"where single frames show the class: the same with -c {FRAMES_CONFIG}")
    return 1 if result.faults else 0


def check_same_set(result: CheckResult, earlier: EarlierSplits | None, folder: Path) -> None:
    """Check that lists in another folder than that of the data are of the same data set.

    Raises:
        FileExistsError: they have none of its clips.
    """
    if earlier and result.clips and not any(earlier_splits(result.clips, result.infos, earlier)):
        raise FileExistsError(
            f"{folder} has the lists of another data set; choose another folder with --out, or "
            "replace them with --overwrite"
        )


def _is_in(file: str | Path, folder: str | Path) -> bool:
    if is_url(file) or is_url(folder):
        return parent_path(file) == str(folder).rstrip("/")
    return Path(file).resolve().parent == Path(folder).resolve()


@contextlib.contextmanager
def _results_folder(out_dir: str | Path, dry_run: bool) -> Iterator[Path]:
    """The folder of the results. In place of a URL a temporary one, with what earlier checks wrote;
    its files are stored when the block ends without an error."""
    if not is_url(out_dir):
        yield Path(out_dir)
        return
    url = str(out_dir).rstrip("/")
    if not dry_run:
        check_storable(url)
    with tempfile.TemporaryDirectory(prefix="paddlevideo-") as name:
        folder = Path(name)
        for file in OWN_FILES:
            if exists(join_path(url, file)):
                shutil.copyfile(local_copy(join_path(url, file)), folder / file)
        before = {path.name for path in folder.iterdir()}
        try:
            yield folder
        except FileExistsError as error:  # Name the place that the person gave.
            raise FileExistsError(str(error).replace(name, shown(url))) from error
        if not dry_run:
            put_folder(folder, url, last=(MANIFEST,))
            for file in before - {path.name for path in folder.iterdir()}:
                remove(join_path(url, file))
