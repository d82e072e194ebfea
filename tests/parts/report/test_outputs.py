"""Pages, plots and scores replace no outputs of other inputs; the same command may run again."""

import shutil

import pytest

from paddlevideo.commands import compare_runs, plot_run, report, report_accuracy
from paddlevideo.report import charts
from paddlevideo.report.outputs import check_replaced, made_of
from paddlevideo.report.plot import new_figure, save
from paddlevideo.report.run_report import write_report
from tests.parts.metrics.test_score_files import write_test
from tests.parts.report.run_folders import make_metrics, make_run

pytest.importorskip("matplotlib")
REFUSED = "this file exists, and was not made from these inputs; give another path, or replace it"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [str(make_run(folder / name, make_metrics(2, 2))) for name in ("a", "b", "c")]


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    monkeypatch.setattr(charts, "svg", lambda figure, name, about: "<svg></svg>")


def test_names_inputs_in_any_order_and_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert made_of(["a", tmp_path / "b"]) == made_of([tmp_path / "b/", "./a", "a"])
    names = [made_of(paths) for paths in (["a"], ["b"], ["a", "b"], ["a\nb"], ["视频"], ["\udcff"])]
    assert len(set(names[:3] + names[4:])) == 5 and all(name.isascii() for name in names)


def test_a_new_file_is_free(tmp_path):
    check_replaced(tmp_path / "new", "made of x", False)
    (tmp_path / "own").write_text("... made of x ...")
    check_replaced(tmp_path / "own", "made of x", False)
    with pytest.raises(FileExistsError, match=f"--plot .*own: {REFUSED} with --overwrite"):
        check_replaced(tmp_path / "own", "made of y", False, "--plot")
    check_replaced(tmp_path / "own", "made of y", True)


def refused(command, flags, out, capsys) -> None:
    """The command leaves `out` as it is, and with --overwrite it does not."""
    before = out.read_bytes()
    assert command.main(flags) == 1
    error = capsys.readouterr().err
    assert REFUSED in error and str(out) in error
    assert out.read_bytes() == before and sorted(out.parent.iterdir()) == [out]
    assert command.main([*flags, "--overwrite"]) == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize("name", ["page.html", "no_suffix"])
def test_a_report_or_plot_replaces_only_one_of_the_same_run(tmp_path, runs, capsys, name):
    command = report if name.endswith("html") else plot_run
    out = tmp_path / "out" / name
    written = out.with_suffix(".png") if name == "no_suffix" else out
    for _ in range(2):
        assert command.main([runs[0], "--out", str(out)]) == 0
        assert f": {written}\n" in capsys.readouterr().out and written.is_file()
    refused(command, [runs[1], "--out", str(written)], written, capsys)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".svg", ".pdf"])
def test_each_format_names_its_inputs(tmp_path, suffix):
    out = save(new_figure(1, 1), tmp_path / f"x{suffix}", made_of(["a"]))
    check_replaced(out, made_of(["a"]), False)
    with pytest.raises(FileExistsError):
        check_replaced(out, made_of(["b"]), False)


@pytest.mark.parametrize("command", [report, plot_run])
def test_a_file_of_another_program_stays(tmp_path, runs, capsys, command):
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "notes.png"
    out.write_bytes(b"my own notes")
    refused(command, [runs[0], "--out", str(out)], out, capsys)


def test_the_default_page_of_a_run_is_its_own(tmp_path, runs, capsys):
    folder = shutil.copytree(runs[0], tmp_path / "moved")
    write_report(folder)
    moved = shutil.move(folder, tmp_path / "again")
    assert report.main([str(moved)]) == 0 and plot_run.main([str(moved)]) == 0
    capsys.readouterr()


def test_a_comparison_replaces_only_that_of_the_same_runs(tmp_path, runs, capsys):
    out = tmp_path / "out" / "runs.png"
    assert compare_runs.main([*runs[:2], "--out", str(out)]) == 0
    again = [*runs[1::-1], "--names", "one", "two", "--out", str(out)]  # another order, names
    assert compare_runs.main(again) == 0
    capsys.readouterr()
    refused(compare_runs, [*runs, "--out", str(out)], out, capsys)


@pytest.mark.parametrize(
    ("flag", "name"), [("--out", "f.json"), ("--out", "f.npz"), ("--plot", "f.png")]
)
def test_a_fusion_replaces_only_that_of_the_same_files(tmp_path, capsys, flag, name):
    files = [write_test(tmp_path / f"{i}.json", i) for i in range(3)]
    out = tmp_path / "out" / name
    for weights in (["1", "1"], ["1", "2"]):
        flags = ["--scores", *files[:2], "--coefficients", *weights, flag, str(out)]
        assert report_accuracy.main(flags) == 0
    capsys.readouterr()
    refused(report_accuracy, ["--scores", *files[1:], flag, str(out)], out, capsys)


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_a_fusion_does_not_replace_its_inputs(tmp_path, capsys, flags):
    files = [write_test(tmp_path / f"{i}.json", i) for i in range(2)]
    before = (tmp_path / "0.json").read_bytes()
    assert report_accuracy.main(["--scores", *files, "--out", files[0], *flags]) == 1
    assert (
        "one of the score files" in capsys.readouterr().err
        and (tmp_path / "0.json").read_bytes() == before
    )


def test_an_unknown_image_format_leaves_the_file(tmp_path, runs, capsys):
    assert plot_run.main([runs[0], "--out", str(tmp_path / "x.bmpx")]) == 1
    assert "not supported" in capsys.readouterr().err and not list(tmp_path.iterdir())
