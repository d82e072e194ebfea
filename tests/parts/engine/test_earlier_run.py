"""What an earlier run left in an output folder: what is refused, and what is removed."""

from pathlib import Path

import pytest

from paddlevideo.engine.earlier_run import FolderHoldsRun, check_folder, check_going_on, remove_run
from paddlevideo.weights import WeightsError

STEP = '{"time": 1.0, "split": "train", "epoch": 0, "step": 0, "loss": 1.0}\n'
EPOCH = '{"time": 2.0, "split": "epoch", "epoch": 0, "loss": 1.0}\n'


def fill(folder: Path, *names: str, **texts: str) -> Path:
    """Write files; `texts` are those with a content, as `run="model_name: a"` for run.yaml."""
    suffixes = {"run": "run.yaml", "metrics": "metrics.jsonl"}
    for name, text in {**dict.fromkeys(names, ""), **texts}.items():
        path = folder / suffixes.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def names_in(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files}


@pytest.mark.parametrize(
    "name",
    [
        "TSN_best.pdparams",
        "TSN_best.pdopt",
        "TSN_epoch_00001.pdparams",
        "TSN_epoch_123456.pdopt",
        "TSN_latest.pdstate",
        "TSN_best_student.pdparams",
        "valid_best.json",
        "inference/model.yaml",
    ],
)
def test_a_folder_with_results_of_a_run_is_refused(tmp_path, name):
    fill(tmp_path, name, "run.yaml", "log.txt", "labels.txt")
    before = names_in(tmp_path)
    with pytest.raises(FolderHoldsRun) as raised:
        check_folder(tmp_path, "TSN")
    text = str(raised.value)
    assert text.startswith(f"{tmp_path} holds another run ({name})")
    assert all(way in text for way in ("--name", "-o output_dir=...", "--overwrite"))
    assert ("(--resume)" in text) == name.endswith(".pdstate"), "only where there is a state"
    assert names_in(tmp_path) == before
    check_folder(tmp_path, "TSN", overwrite=True)


def test_metrics_count_from_the_first_finished_epoch(tmp_path):
    fill(tmp_path, metrics=STEP * 3)
    check_folder(tmp_path, "TSN")
    for text in (STEP + EPOCH, STEP + EPOCH.replace("epoch", "valid", 1), EPOCH + '{"broken'):
        fill(tmp_path, metrics=text)
        with pytest.raises(FolderHoldsRun, match=r"\(metrics\.jsonl\)"):
            check_folder(tmp_path, "TSN")


@pytest.mark.parametrize(
    "names",
    [
        [],
        [
            "run.yaml",
            "labels.txt",
            "log.txt",
            "log.rank1.txt",
            "board/vdlrecords.1.log",
            "stacks.rank1.txt",
        ],
        ["not_finite_epoch1_step0_rank0.pdparams", "run.yaml"],
        ["TSN_k400.pdparams", "other_best.pdparams", "notes.md", "videos/a.mp4"],
    ],
)
def test_a_folder_without_results_is_free(tmp_path, names):
    check_folder(fill(tmp_path / "out", *names), "TSN")


def test_the_results_of_a_model_of_another_name_are_refused(tmp_path):
    fill(tmp_path, "other_best.pdparams", run="model_name: other\nepochs: 3\n")
    for resume in (None, "auto"):
        with pytest.raises(FolderHoldsRun, match="other"):
            check_folder(tmp_path, "TSN", resume)
    fill(tmp_path, "TSN_latest.pdstate")
    check_folder(tmp_path, "TSN", "auto")


def test_resume_goes_on_in_its_own_folder_only(tmp_path):
    here = fill(tmp_path / "here", "TSN_latest.pdstate", "TSN_best.pdparams")
    other = fill(tmp_path / "other", "TSN_latest.pdstate", "run.yaml")
    copy = fill(tmp_path / "copies", "monday.pdstate") / "monday.pdstate"
    check_folder(here, "TSN", str(copy))  # perhaps a state of this run
    check_folder(here, "TSN", str(copy), overwrite=True)
    for resume in ("auto", here, here / "TSN_latest.pdstate", tmp_path / "other/../here"):
        check_folder(here, "TSN", str(resume))
        with pytest.raises(ValueError, match="--resume goes on .* --overwrite removes it"):
            check_folder(here, "TSN", str(resume), overwrite=True)
    for resume in (other, other / "TSN_latest.pdstate"):
        with pytest.raises(FolderHoldsRun, match="holds another run"):
            check_folder(here, "TSN", str(resume))
        check_folder(here, "TSN", str(resume), overwrite=True)
        check_folder(tmp_path / "new", "TSN", str(resume))
    with pytest.raises(WeightsError, match=r"expected a \.pdstate file"):
        check_folder(here, "TSN", "nowhere")


def test_resume_restarts_a_run_that_was_killed_before_its_first_state(tmp_path):
    check_folder(tmp_path / "none", "TSN", "auto")
    check_folder(fill(tmp_path, "TSN_best.pdparams", metrics=STEP + EPOCH), "TSN", "auto")


def test_resume_without_a_state_is_refused_where_much_would_be_lost(tmp_path):
    fill(tmp_path, "TSN_best.pdparams", metrics=STEP + EPOCH)
    check_going_on(tmp_path, "TSN")  # killed before the first state
    fill(tmp_path, metrics=(STEP + EPOCH) * 3)
    with pytest.raises(FolderHoldsRun) as raised:
        check_going_on(tmp_path, "TSN")
    text = str(raised.value)
    assert f"{tmp_path} holds a run of 3 epochs and no TSN_latest.pdstate, so --resume" in text
    assert all(way in text for way in ("it; write to", "--name", "-o output_dir", "--overwrite"))
    fill(tmp_path, *(f"TSN_epoch_0000{n}.{end}" for n in (1, 3) for end in ("pdparams", "pdopt")))
    with pytest.raises(FolderHoldsRun, match=r"go on after a saved epoch \(-o resume_epoch=3 in"):
        check_going_on(tmp_path, "TSN")
    with pytest.raises(FolderHoldsRun, match="no TSN_latest"):
        check_going_on(fill(tmp_path / "exported", "inference/model.yaml"), "TSN")
    check_going_on(fill(tmp_path, "TSN_latest.pdstate"), "TSN")


def test_class_names_that_no_run_wrote_are_kept(tmp_path):
    fill(tmp_path, "labels.txt", "train.csv")
    for overwrite in (False, True):
        with pytest.raises(FolderHoldsRun, match=r"labels\.txt is not the file of a run"):
            check_folder(tmp_path, "TSN", overwrite=overwrite)
    check_folder(fill(tmp_path, "run.yaml"), "TSN")


def test_removes_the_files_of_a_run_and_no_others(tmp_path):
    own = ["old_best.pdparams", "old_epoch_00010.pdopt", "TSN_latest.pdstate", "report.html"]
    own += ["run.png", "metrics.jsonl", "valid_best.json", "labels.txt"]
    own += ["not_finite_epoch2_step13_rank1.safetensors", "board/vdlrecords.1.log"]
    foreign = ["old_k400.pdparams", "mine_best.pdparams", "notes.md", "board/notes.md"]
    foreign += ["videos/old_best.pdparams", "run.yaml.bak", "result.json", "inference/model.yaml"]
    fill(tmp_path, *own, *foreign, run="model_name: old\n")
    remove_run(tmp_path, "TSN")
    assert names_in(tmp_path) == set(foreign)


def test_keeps_the_weights_that_a_run_starts_from(tmp_path):
    fill(tmp_path, "TSN_best.pdparams", "TSN_best.pdopt")
    remove_run(tmp_path, "TSN", keep=f"{tmp_path}/../{tmp_path.name}/TSN_best.pdparams")
    assert names_in(tmp_path) == {"TSN_best.pdparams"}


@pytest.mark.parametrize("text", ["model_name: [a]", "- a", "{", "model_name: 3", "\0"])
def test_a_damaged_run_yaml_names_no_model(tmp_path, text):
    fill(tmp_path, "a_best.pdparams", run=text)
    check_folder(tmp_path, "TSN")
