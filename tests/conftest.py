"""Common fixtures: synthetic clips and a small config."""

import gc
import os
import signal
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

import hypothesis
import numpy as np
import pytest
import yaml

from paddlevideo import api, dist, paddle_internals
from paddlevideo.cores import cores, num_cores
from paddlevideo.engine.build import load_config
from paddlevideo.report.run_report import report_finished
from tests.clips import random_frames, write_clip
from tests.process_state import ProcessState, seed_all
from tests.program_writer import forked_writers
from tests.shallow import one_block_per_stage


def use_share_of_cores() -> None:
    """Restrict a pytest-xdist worker to its share of the CPU cores."""
    if "PYTEST_XDIST_WORKER" not in os.environ or not hasattr(os, "sched_setaffinity"):
        return
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    num_workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    usable = cores()[: num_cores()]
    os.sched_setaffinity(0, usable[number::num_workers] or usable)


use_share_of_cores()
gc.disable()  # until all tests are collected, because little of what that makes is garbage
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a run under nohup ignores it
dist.use_threads()  # as main.py does
ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("blue sky", "green", "红色")  # a space and another script, because users have both
os.chdir(ROOT)  # wherever pytest was started
os.environ["PADDLEVIDEO_OFFLINE"] = "1"  # tests download from servers of their own only
# Settings of the user that tests do not expect: of this package, Python, colors and proxies.
for variable in (
    *("PADDLEVIDEO_HOME", "PADDLEVIDEO_CACHE", "PADDLEVIDEO_MIRROR", "PADDLEVIDEO_TOKEN"),
    *("PYTHONSAFEPATH", "PYTHONWARNINGS", "FORCE_COLOR", "PYTHON_COLORS"),
    *("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
):
    os.environ.pop(variable, None)
if resource is not None:  # processes that crash on purpose leave no core file in the checkout
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
LINES_SHOWN = 30  # of what a failed test printed

# The same examples on every machine, however slow it is.
hypothesis.settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("fixed")


def pytest_configure(config) -> None:
    """pytest-randomly shuffles the tests; the seeds of each are fixed, see `seed_all`."""
    config.option.randomly_reset_seed = False


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers(config) -> int | None:
    """One process per core that this one may use; xdist counts those of the whole machine."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist reads it
    return num_cores()


@pytest.fixture(scope="session", autouse=True)
def files_are_not_synced():
    """Leave written files in the memory of the system; tests survive no power failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def help_texts_have_80_columns():
    """Set the width for the tests only; pytest's own lines have that of the terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        yield


@pytest.fixture(scope="session", autouse=True)
def programs_are_written_by_forked_processes():
    """Import Paddle once for all programs of the tests."""
    with forked_writers():
        yield


@pytest.fixture(scope="session", autouse=True)
def trainings_write_no_report():
    """Skip the report at the end of a training, which takes a second; see `with_report`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "report_finished", lambda folder: None)
        yield


@pytest.fixture
def with_report(monkeypatch):
    """Let trainings write their report."""
    monkeypatch.setattr(api, "report_finished", report_finished)


@pytest.fixture
def shallow():
    """Networks of 50 layers and more have one block per stage."""
    with one_block_per_stage():
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup():
    """Start each fixture from the same seeds, whichever test asks for it first."""
    seed_all()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """Start each test from the same seeds, whatever ran before it."""
    seed_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Show the last lines of what a failed test printed, not a whole log; -vv shows all."""
    report = yield
    if item.config.get_verbosity() < 2:
        report.sections = [(title, _last_lines(text)) for title, text in report.sections]
    return report


def _last_lines(text: str) -> str:
    lines = text.splitlines(keepends=True)
    hidden = len(lines) - LINES_SHOWN
    if hidden <= 0:
        return text
    return "".join([f"... {hidden} lines before; -vv shows them\n", *lines[hidden:]])


@pytest.fixture(scope="session", autouse=True)
def state_at_the_start() -> ProcessState:
    """The state of the process after all tests are imported."""
    gc.freeze()  # what was imported stays: collections skip it until a loader unfreezes it
    gc.enable()
    return ProcessState()


@pytest.fixture(scope="session", autouse=True)
def home_is_not_needed(tmp_path_factory):
    """Tests that make static programs themselves write nothing to the home folder."""
    with paddle_internals.translated_code_in(tmp_path_factory.mktemp("translated")):
        yield


@pytest.fixture(autouse=True)
def leaves_the_process_as_it_was(request, state_at_the_start):
    """Restore the state of the process after each test, and fail a test that changed it.

    The state is compared with that at the start of the session, so a fixture of a session or of a
    module that changes it is found, too, at the first test that uses it.
    """
    yield
    differences = state_at_the_start.restore()
    if differences:
        pytest.fail(f"{request.node.nodeid} left behind:\n  " + "\n  ".join(differences), False)


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """`<split>/<class>/*.mp4`: 12 train, 6 val and 7 test clips of 3 classes of different color."""
    root = tmp_path_factory.mktemp("clips")
    for split, count in (("train", 12), ("val", 6), ("test", 7)):
        for number in range(count):
            channel = number % 3
            frames = random_frames(8, 40, 56, seed=number + 100 * len(split))
            frames[..., channel] = np.maximum(frames[..., channel], 190)
            path = root / split / CLASSES[2 - channel] / f"clip {number}.mp4"
            write_clip(path, frames=frames, num_frames=8, height=40, width=56)
    return root


def small_config(clips: Path, folder: Path, base_channels: int = 8, **changes) -> Path:
    """Write a config for PP-TSN-10 on 32 x 32 pixels; an epoch takes less than a second.

    Args:
        clips: folder of the fixture `clips`.
        folder: where to write `config.yaml`; the run writes to `out` in it.
        base_channels: width of the network; its features are 8 times as wide.
        changes: top-level keys to replace.
    """
    data = {
        "MODEL": {
            "framework": "Recognizer2D",
            "backbone": {"name": "ResNetTweaksTSN", "layers": 10, "base_channels": base_channels},
            "head": {"name": "ppTSNHead", "drop_ratio": 0.3, "ls_eps": 0.1},
        },
        "DATASET": {
            "batch_size": 3,
            "test_batch_size": 2,
            "train": _split(clips / "train"),
            "valid": _split(clips / "val"),
            "test": _split(clips / "test"),
        },
        "PIPELINE": {
            "train": _pipeline(
                {"MultiScaleCrop": {"target_size": 32, "backend": "cv2"}},
                "RandomFlip",
                valid_mode=False,
            ),
            "valid": _pipeline({"CenterCrop": {"target_size": 32}}, valid_mode=True),
            "test": _pipeline({"TenCrop": {"target_size": 32}}, valid_mode=True),
        },
        "OPTIMIZER": {
            "name": "Momentum",
            "use_nesterov": True,
            "weight_decay": {"name": "L2", "value": 1e-4},
            "learning_rate": {
                "name": "CustomWarmupCosineDecay",
                "iter_step": True,
                "max_epoch": 3,
                "warmup_epochs": 1,
                "warmup_start_lr": 0.002,
                "cosine_base_lr": 0.01,
            },
        },
        "MIX": {"name": "Mixup", "alpha": 0.2},
        "model_name": "ppTSN",
        "output_dir": str(folder / "out"),
        "epochs": 2,
        "log_interval": 1,
    }
    data.update(changes)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


def _split(folder: Path) -> dict:
    return {"format": "VideoDataset", "file_path": str(folder)}


def _pipeline(*crops, valid_mode: bool) -> dict:
    return {
        "decode": {"name": "VideoDecoder"},
        "sample": {
            "name": "Sampler",
            "num_seg": 2,
            "seg_len": 1,
            "select_left": True,
            "valid_mode": valid_mode,
        },
        "transform": [
            {"Scale": {"short_size": 36, "fixed_ratio": False, "backend": "cv2"}},
            *crops,
            {"Image2Array": None},
            {"Normalization": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
        ],
    }


@pytest.fixture
def small(clips, tmp_path):
    """`small(*overrides, **changes)`: a loaded `small_config` that writes to the test's folder."""

    def make(*overrides, **changes):
        return load_config(small_config(clips, tmp_path, **changes), list(overrides))

    return make
