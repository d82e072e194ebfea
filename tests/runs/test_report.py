"""A training leaves a report: read back from the page, and shown by a browser in light and dark."""

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
from paddlevideo.engine import train as train_module
from paddlevideo.engine.train import train
from paddlevideo.report.run_report import write_report
from tests.conftest import CLASSES
from tests.parts.report.test_run_report import classified, make_run, read_page

pytest.importorskip("matplotlib")


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["main.py", *map(str, arguments)])
    return main.main()


def test_a_training_ends_with_its_report(small, monkeypatch, capsys):
    cfg = small()
    assert run(monkeypatch, "--validate", "-c", cfg.origin.path) == 0
    folder = Path(cfg.folder)
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    page = read_page(folder / "report.html")
    found = json.loads((folder / "valid_best.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = next(
        row for row in rows if row["split"] == "valid" and row["epoch"] + 1 == found["epoch"]
    )
    assert found["numbers"]["top1"] == pytest.approx(best["top1"], rel=1e-5)
    assert found["numbers"]["loss"] == pytest.approx(best["loss"], rel=1e-5)
    assert found["samples"] == [2, 2, 2] and found["train_samples"] == [4, 4, 4]
    right = sum(count for true, said, count in found["confusion"] if true == said)
    assert (
        right / 6 == pytest.approx(best["top1"])
        and sum(count for *_, count in found["confusion"]) == 6
    )
    assert np.mean([row["loss"] for row in found["worst"]]) == pytest.approx(best["loss"], rel=1e-4)
    for piece in (*CLASSES, f"{best['top1']:.4f}", "Worst clips", "ppTSN"):
        assert piece in page.text
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 6, (
        "a picture of each validation clip"
    )


def test_a_report_at_every_end_and_at_no_stop(small, monkeypatch):
    cfg = small("epochs=1")
    assert run(monkeypatch, "-c", cfg.origin.path, "-o", "epochs=1", "-o", "max_iters=1") == 0
    page = Path(cfg.folder) / "report.html"
    text = read_page(page).text
    assert "Curves" in text and "Worst clips" not in text, "nothing was validated"
    page.unlink()
    real = train_module.supervised

    def ask_to_stop(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(train_module, "supervised", ask_to_stop)
    assert run(monkeypatch, "--validate", "-c", cfg.origin.path) == 0
    assert not page.exists()


def test_findings_belong_to_the_run(small):
    """A new run in the same folder forgets those of the last one, a resumed one keeps them."""
    cfg = small("epochs=1")
    train(cfg)
    findings = Path(cfg.folder) / "valid_best.json"
    first = findings.read_bytes()
    train(small("epochs=1"), resume="auto")
    assert findings.read_bytes() == first
    train(small("epochs=1"), validate=False)
    assert not findings.exists()


# --- in a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(
            f"no browser here (looked for {', '.join(names)}); Debian has one: apt-get install chromium"
        )
    return found


def look_at(browser: str, page: Path, picture: Path, *flags: str) -> tuple[np.ndarray, list[str]]:
    """The page as pixels [H, W, 3], and what the browser's console says."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
               "--window-size=1200,1600",
               f"--user-data-dir={picture.parent / 'profile'}", f"--screenshot={picture}", *flags]  # fmt: skip
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return cv2.imread(str(picture)), [
        line for line in done.stderr.splitlines() if ":CONSOLE" in line
    ]


@pytest.mark.slow
def test_a_browser_shows_it_in_light_and_dark(browser, tmp_path):
    folder = make_run(tmp_path / "run")
    classified(folder, ["a <b>", "$c$", "红色"], [0, 1, 2, 2], np.eye(3)[[0, 1, 2, 1]] * 3)
    page = write_report(folder)
    seen = {}
    for mode, flags in (
        ("light", []),
        ("dark", ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]),
    ):
        seen[mode], said = look_at(browser, page, tmp_path / f"{mode}.png", *flags)
        assert said == [], "the console has nothing to say"
    assert seen["light"][0, 0].min() > 240 and seen["dark"][0, 0].max() < 50, "paper"
    for mode, picture in seen.items():
        gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(int)
        assert np.abs(gray - gray[0, 0]).max() > 180, f"{mode}: text stands out from its ground"
        drawn = np.ptp(picture.astype(int), axis=2)[300:] > 60  # coloured: curves, bars
        assert drawn.mean() > 0.002, f"{mode}: charts are drawn"


@pytest.mark.slow
def test_the_browser_would_tell(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>nothing_of_this_name()</script>")
    assert len(look_at(browser, page, tmp_path / "bad.png")[1]) == 1
