"""The command behind tools/check_data.py: check a data set, print a report, write the lists."""

from dataclasses import replace
from pathlib import Path

from paddlevideo import log
from paddlevideo.curate.check import CheckOptions, check
from paddlevideo.curate.report import html_report, text_report
from paddlevideo.curate.results import (
    REPORT,
    check_fold_folder,
    check_writable,
    list_file,
    read_earlier,
    training_command,
    write,
)
from paddlevideo.data.paths import SPLITS


def run_command(
    options: CheckOptions,
    out_dir: Path | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> int:
    """Check a data set, print the report, and write the lists of the good clips.

    Args:
        out_dir: where to write; None for the folder of the data, or the folder of the list.
        dry_run: write nothing.
        overwrite: replace files that no check wrote, or that were edited since.

    Returns:
        the exit code: 0 without faults, 1 with faults.

    Raises:
        DatasetError: an input does not exist or has no clips, or no training clip is left.
        OSError: the files cannot be written, or may not be replaced.
    """
    data = options.inputs.data
    out_dir = out_dir or (data if data.is_dir() else data.parent)
    if not dry_run:
        check_writable(out_dir, overwrite)
        if options.fold is not None and not overwrite:
            check_fold_folder(out_dir, options.seed, options.fold)
    # A list that an earlier check wrote, and that is checked again, has splits of its own.
    is_own_list = data.is_file() and data.resolve().parent == out_dir.resolve()
    if not (is_own_list and data.name in {list_file(split) for split in SPLITS}):
        options = replace(options, earlier=read_earlier(out_dir))
    result = check(options)
    print(text_report(result))
    if not dry_run:
        report = html_report(result, f"Data: {data}")
        counts = write(result, out_dir, {REPORT: report}, overwrite)
        names = [f"{name} ({count})" for name, count in counts.items()]
        log.show(f"written to {out_dir}: {', '.join([*names, REPORT])}")
        command = training_command(out_dir, counts, result.media, options.fold)
        log.show(f"train on it: {command}")
    return 1 if result.faults else 0
