"""The command in run.yaml that repeats a run."""

import shlex
from pathlib import Path

import pytest

from paddlevideo.engine.classes import Classes
from paddlevideo.engine.run import Options, run_flags
from paddlevideo.engine.runfile import write_run_file


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (Options(), "--validate -c"),
        (Options(validate=False), "-c"),
        (Options(multigrid=True), "--validate --multigrid -c"),
        (Options(validate=False, weights="my weights.pdparams"), "-w 'my weights.pdparams' -c"),
    ],
)
def test_the_command_has_the_flags_of_the_run(small, options, flags):
    cfg = small()
    folder = Path(cfg.folder)
    write_run_file(cfg, folder, Classes(3), run_flags(options))
    first = (folder / "run.yaml").read_text(encoding="utf-8").splitlines()[0]
    path, option = shlex.quote(f"{folder}/run.yaml"), shlex.quote(f"output_dir={folder}_again")
    assert f" main.py {flags} {path} -o {option}" in first
