"""A training leaves a report: its content, and its look in a browser in light and dark."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

import main
from paddlevideo.api import train
from paddlevideo.engine import train as train_module
from paddlevideo.report.run_report import write_report
from tests.conftest import CLASSES
from tests.parts.report.run_folders import make_run, read_page, write_best

pytest.importorskip("matplotlib")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["main.py", *map(str, arguments)])
    return main.main()


@pytest.mark.usefixtures("with_report")
def test_training_ends_with_a_report(small, monkeypatch, capsys):
    cfg = small()
    assert run_main(monkeypatch, "--validate", "-c", cfg.origin.path) == 0
    folder = Path(cfg.folder)
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    page = read_page(folder / "report.html")
    best = json.loads((folder / "valid_best.json").read_text())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "valid"]
    row = next(row for row in rows if row["epoch"] + 1 == best["epoch"])
    assert best["numbers"]["top1"] == pytest.approx(row["top1"], rel=1e-5)
    assert best["numbers"]["loss"] == pytest.approx(row["loss"], rel=1e-5)
    assert best["samples"] == [2, 2, 2] and best["train_samples"] == [4, 4, 4]
    num_correct = sum(count for true, predicted, count in best["confusion"] if true == predicted)
    assert sum(count for *_, count in best["confusion"]) == 6
    assert num_correct / 6 == pytest.approx(row["top1"])
    losses = [clip["loss"] for clip in best["worst"]]
    assert np.mean(losses) == pytest.approx(row["loss"], rel=1e-4)
    for part in (*CLASSES, f"{row['top1']:.4f}", "Hardest clips", "ppTSN"):
        assert part in page.text
    assert len(page.images) == 6, "one image per validation clip"


@pytest.mark.usefixtures("with_report")
def test_training_without_validation_ends_with_a_report(small, monkeypatch):
    cfg = small("epochs=1")
    overrides = ("-o", "epochs=1", "-o", "max_iters=1")
    assert run_main(monkeypatch, "-c", cfg.origin.path, *overrides) == 0
    text = read_page(Path(cfg.folder) / "report.html").text
    assert "Curves" in text and "Hardest clips" not in text


@pytest.mark.usefixtures("with_report")
def test_stopped_training_writes_no_report(small, monkeypatch):
    cfg = small("epochs=1")
    real_step = train_module.train_step

    def stop(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return real_step(*args)

    monkeypatch.setattr(train_module, "train_step", stop)
    assert run_main(monkeypatch, "--validate", "-c", cfg.origin.path) == 0
    assert not (Path(cfg.folder) / "report.html").exists()


def test_best_validation_belongs_to_its_run(small):
    """A run that replaces another deletes valid_best.json; a resumed run keeps it."""
    cfg = small("epochs=1")
    train(cfg)
    file = Path(cfg.folder) / "valid_best.json"
    first = file.read_bytes()
    train(small("epochs=1"), resume="auto")
    assert file.read_bytes() == first
    train(small("epochs=1"), validate=False, overwrite=True)
    assert not file.exists()


# --- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        names = ", ".join(BROWSERS)
        pytest.skip(f"no browser found ({names}); on Debian: apt-get install chromium")
    return path


def screenshot(browser: str, page: Path, image: Path, *flags: str) -> tuple[np.ndarray, list[str]]:
    """Return the page as BGR pixels [H, W, 3], and the messages of the browser's console."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", "--v=0", "--window-size=1200,1600"]
    command += [f"--user-data-dir={image.parent / 'profile'}", f"--screenshot={image}"]
    command += [*flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    messages = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return cv2.imread(str(image)), messages


@pytest.mark.slow
def test_page_supports_light_and_dark(browser, tmp_path):
    folder = make_run(tmp_path / "run")
    write_best(folder, ["a <b>", "$c$", "红色"], [0, 1, 2, 2], np.eye(3)[[0, 1, 2, 1]] * 3)
    page = write_report(folder)
    images = {}
    for mode, flags in (("light", ()), ("dark", DARK)):
        images[mode], messages = screenshot(browser, page, tmp_path / f"{mode}.png", *flags)
        assert messages == []
    assert images["light"][0, 0].min() > 240 and images["dark"][0, 0].max() < 50, "background"
    for mode, image in images.items():
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(int)
        assert np.abs(gray - gray[0, 0]).max() > 180, f"{mode}: text contrasts with the background"
        colored = np.ptp(image.astype(int), axis=2)[300:] > 60
        assert colored.mean() > 0.002, f"{mode}: curves and bars are drawn"


@pytest.mark.slow
def test_screenshot_catches_console_messages(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>nothing_of_this_name()</script>")
    assert len(screenshot(browser, page, tmp_path / "bad.png")[1]) == 1
