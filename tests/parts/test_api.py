"""The API of notebooks and commands: sessions, and what a training leaves in its folder."""

import inspect
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import pytest

import main
import paddlevideo
from paddlevideo import api, dist, log
from paddlevideo.commands import train as command
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.engine.build import load_config
from paddlevideo.engine.checkpoint import TrainState, read_model
from paddlevideo.models import onednn
from paddlevideo.report.run_report import report_finished
from paddlevideo.weights import checksum
from tests.conftest import small_config

SHORT = ("epochs=1", "max_iters=1", "use_gpu=false")


@pytest.fixture
def logged(caplog, monkeypatch):
    """The log of the test as text; handlers of other tests are out of the way."""
    monkeypatch.setattr(log.logger, "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


def uses_onednn() -> bool:
    """Whether a convolution runs on oneDNN here."""
    return onednn.supports_conv(
        paddle.zeros([1, 2, 4, 4]), paddle.zeros([3, 2, 3, 3]), [1, 1], [1, 1]
    )


# --- sessions -------------------------------------------------------------------------------------


def test_session_logs_the_device(small, logged):
    with paddlevideo.session(small("use_gpu=false", "seed=7")) as device:
        assert device == "cpu" and paddle.get_device() == "cpu"
    line = r"cpu, \d+ compute thread\(s\), rank 0 of 1, seed 7"
    assert len(re.findall(line, logged())) == 1


def test_one_thread_at_a_time_has_a_session(small, logged):
    cfg = small("use_gpu=false")

    def other_thread():
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(lambda: paddlevideo.check(cfg)).result()

    with paddlevideo.session(cfg), paddlevideo.session(cfg):  # a thread may nest its own
        with pytest.raises(RuntimeError, match="another thread of this process trains or tests"):
            other_thread()
        with pytest.raises(RuntimeError, match="another thread"):  # still
            other_thread()
    assert "epochs" in other_thread()


def test_session_warns_of_a_missing_gpu(small, logged, monkeypatch):
    monkeypatch.delenv("FLAGS_selected_gpus", raising=False)
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: False)
    with paddlevideo.session(small("use_gpu=true")) as device:
        assert device == "cpu"
    message = "a GPU was asked for, but this build of Paddle has no GPU support: running on the CPU"
    assert message in logged()


def test_session_writes_a_log_and_restores_the_handlers(small, tmp_path):
    own = logging.NullHandler()
    log.logger.addHandler(own)
    try:
        before, level = list(log.logger.handlers), log.logger.level
        with paddlevideo.session(small(), tmp_path / "run"):
            assert own in log.logger.handlers and len(log.logger.handlers) > len(before)
            log.logger.info("inside")
        assert log.logger.handlers == before and log.logger.level == level
        log.logger.warning("outside")
    finally:
        log.logger.removeHandler(own)
    text = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert "compute thread(s)" in text and "inside" in text and "outside" not in text


def test_session_without_a_folder_writes_no_file(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = small()
    before = sorted(path.name for path in tmp_path.iterdir())
    with paddlevideo.session(cfg):
        log.logger.info("to the console")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_session_restores_the_handlers_after_an_error(small, tmp_path):
    before = list(log.logger.handlers)
    with pytest.raises(KeyError), paddlevideo.session(small("onednn=true"), tmp_path / "run"):
        raise KeyError
    assert log.logger.handlers == before and not uses_onednn()


def test_sessions_can_be_nested(small, tmp_path):
    """The inner session writes its own file; the outer one continues after it."""
    with paddlevideo.session(small("seed=1"), tmp_path / "outer"):
        outside = list(log.logger.handlers)
        log.logger.info("before")
        with paddlevideo.session(small("seed=2", "onednn=false"), tmp_path / "inner"):
            log.logger.info("within")
            assert not uses_onednn()
        assert log.logger.handlers == outside
        log.logger.info("after")
    outer, inner = (
        (tmp_path / name / "log.txt").read_text(encoding="utf-8") for name in ("outer", "inner")
    )
    lines = [line.split("] ")[1] for line in outer.splitlines()]
    assert lines[1:] == ["before", "after"] and lines[0].endswith("seed 1")
    assert "seed 2" in inner and "within" in inner


@pytest.mark.parametrize("wanted", [True, False])
def test_session_is_deterministic_only_where_the_config_says_so(small, monkeypatch, wanted):
    calls = []
    monkeypatch.setattr(dist, "make_deterministic", lambda: calls.append(1))
    with paddlevideo.session(small(f"deterministic={wanted}")):
        assert calls == [1] * wanted


@pytest.mark.skipif(bool(onednn.missing()), reason=f"oneDNN is missing: {onednn.missing()}")
def test_session_uses_onednn_inside_only(small):
    paddle.set_device("cpu")
    assert not uses_onednn()
    with paddlevideo.session(small("use_gpu=false")):
        assert uses_onednn()
    assert not uses_onednn()
    with paddlevideo.session(small("use_gpu=false", "onednn=false")):
        assert not uses_onednn()


def test_check_returns_the_plan_and_writes_nothing(small):
    cfg = small()
    assert "no mistakes found" in paddlevideo.check(cfg)
    assert not Path(cfg.folder).exists()


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A training from a notebook: its config, its state, and the folder of its exported model."""

    cfg: Config
    state: TrainState
    exported: Path


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory) -> Trained:
    """One step with `export: true`, and the report."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = load_config(small_config(clips, folder, export=True), list(SHORT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "report_finished", report_finished)
        state = paddlevideo.train(cfg)
    return Trained(cfg, state, folder / "out" / "inference")


def test_train_exports_and_logs(trained):
    assert trained.state.finished and trained.state.progress.epoch == 1
    files = {path.name for path in trained.exported.iterdir()}
    assert {"model.yaml", "ppTSN.pdiparams", "golden.npz"} <= files
    text = (Path(trained.cfg.folder) / "log.txt").read_text(encoding="utf-8")
    for part in (
        "compute thread(s)",
        "training ppTSN finished",
        f"exported ppTSN to {trained.exported}: ",
    ):
        assert part in text


def test_train_writes_a_report(trained):
    pytest.importorskip("matplotlib")
    page = Path(trained.cfg.folder) / "report.html"
    assert page.exists()
    assert f"report: {page}" in (page.parent / "log.txt").read_text(encoding="utf-8")


def test_test_logs_and_returns_the_numbers(trained, tmp_path, logged):
    out = tmp_path / "scores.npz"
    weights = f"{trained.cfg.folder}/ppTSN_best.pdparams"
    done = paddlevideo.test(trained.cfg, weights, str(out))
    assert done.numbers["num_samples"] == 7 and "[TEST] finished, avg_acc1= " in logged()
    assert np.load(out)["scores"].shape == (7, 3)


@pytest.mark.parametrize(
    ("export", "rank", "expected"),
    [(True, 0, ["report", "export"]), (False, 0, ["report"]), (True, 1, [])],
)
def test_the_first_rank_reports_and_exports(small, monkeypatch, export, rank, expected):
    calls = []
    monkeypatch.setattr(api, "report_finished", lambda folder: calls.append("report"))
    monkeypatch.setattr(api, "export_finished", lambda cfg, progress: calls.append("export"))
    monkeypatch.setattr(dist, "is_main", lambda: rank == 0)
    paddlevideo.train(small(*SHORT, f"export={export}"), validate=False)
    assert calls == expected


def test_train_names_the_pipeline_that_an_export_needs(small):
    with pytest.raises(ConfigError, match=r"PIPELINE.test is missing"):
        paddlevideo.train(small(*SHORT, "export=true", "PIPELINE.test=null"))


# --- command and notebook -------------------------------------------------------------------------


def test_command_and_notebook_have_the_same_defaults():
    """Except for validation, which the command does with the flag --validate, as PaddleVideo's."""
    args = command.make_parser().parse_args(["-c", "config.yaml"])
    assert command.overrides_of(args) == [], "without flags the command changes no config key"
    parameters = inspect.signature(paddlevideo.train).parameters
    for name in ("weights", "resume", "multigrid", "overwrite"):
        assert getattr(args, name) == parameters[name].default, name
    assert parameters["validate"].default is True and args.validate is False
    assert inspect.signature(paddlevideo.check).parameters["multigrid"].default == args.multigrid
    parameters = inspect.signature(paddlevideo.test).parameters
    assert (parameters["out"].default, parameters["names"].default) == (args.out, args.eval)
    assert parameters["overwrite"].default == args.overwrite


def test_command_and_notebook_train_the_same_model(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "export_finished", lambda cfg, progress: None)  # it is exported once
    overrides = [word for text in SHORT for word in ("-o", text)]
    arguments = ["-c", trained.cfg.origin.path, *overrides, "-o", f"output_dir={tmp_path}/command"]
    monkeypatch.setattr("sys.argv", ["main.py", "--validate", *arguments])
    assert main.main() == 0, capsys.readouterr().err
    folders = [Path(trained.cfg.folder), tmp_path / "command"]
    arrays = [read_model(folder / "ppTSN_best.pdparams")[0] for folder in folders]
    assert checksum(arrays[0]) == checksum(arrays[1])
    files = [{path.name for path in folder.iterdir()} for folder in folders]
    assert files[0] - {"report.html", "inference"} == files[1] and "log.txt" in files[1]
