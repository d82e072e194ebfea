"""The cards of the hardest clips: wrong ones first, frames, spectrograms and audio players."""

import base64
import io
import wave

import cv2
import numpy as np
import pytest

from paddlevideo.report import charts, clip_cards, run_report
from paddlevideo.report.clip_cards import hardest_clips
from paddlevideo.report.run_facts import read_run
from paddlevideo.report.run_report import write_report
from paddlevideo.report.thumbnails import MAX_SECONDS
from paddlevideo.sample import Record
from tests.clips import write_clip
from tests.parts.report.run_folders import make_run, read_page, write_best

pytest.importorskip("matplotlib")
RATE = 8000
AUDIO_MODEL = {"PIPELINE": {"valid": {"decode": {"name": "LoadAudioFeature"}}}}
AUDIO_VISUAL_MODEL = {"PIPELINE": {"valid": {"decode": {"name": "V"}, "audio": {"name": "A"}}}}


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    """Skip drawing, which takes most of the time."""
    fake = lambda figure, name, about: f'<svg aria-label="{about}"></svg>'  # noqa: E731
    monkeypatch.setattr(charts, "svg", fake)


def write_tone(path, seconds=1.0, hertz=440.0):
    time = np.arange(round(seconds * RATE)) / RATE
    samples = (20000 * np.sin(2 * np.pi * hertz * time)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return str(path)


def report_on(folder, paths, config=None, labels=None, **fields):
    """Write a run whose clips have these paths, and its report; by default all are wrong."""
    make_run(folder, **(config or {}))
    labels = labels or [0] * len(paths)
    records = [
        Record(str(path), label, **fields) for path, label in zip(paths, labels, strict=True)
    ]
    write_best(folder, ["a", "b"], labels, np.array([[0.0, 3.0]] * len(paths)), records)
    return read_page(write_report(folder))


def read_image(url):
    jpeg = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR)


def read_audio(url):
    """(sample rate, samples int16 [n]) of a player."""
    with wave.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as file:
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


# --- audio --------------------------------------------------------------------------------------


def test_an_audio_file_has_a_spectrogram_and_a_player(tmp_path):
    page = report_on(tmp_path / "run", [write_tone(tmp_path / "a<b.wav")])
    (image,), (player,) = page.images, page.sources("audio")
    pixels = read_image(image).astype(int).sum(axis=(1, 2))
    assert pixels.argmax() > 0.6 * len(pixels), "440 Hz is near the lower edge"
    rate, samples = read_audio(player)
    spectrum = np.abs(np.fft.rfft(samples[1000:-1000]))
    assert spectrum.argmax() * rate / (len(samples) - 2000) == pytest.approx(440, abs=3)
    assert len(samples) == rate and abs(samples).max() == pytest.approx(20000, rel=0.02)
    assert "audio of 0 to 1.0 s" in page.text and "a<b.wav" in page.text
    assert "Without frames" not in page.text


def test_the_player_has_a_part_of_a_long_clip(tmp_path):
    path = write_tone(tmp_path / "long.wav", 9)
    page = report_on(tmp_path / "run", [path], start_sec=2.5, end_sec=8.0)
    rate, samples = read_audio(page.sources("audio")[0])
    assert len(samples) == MAX_SECONDS * rate and "audio of 2.5 to 6.5 s" in page.text
    page = report_on(tmp_path / "short", [path], start_sec=1.0, end_sec=1.5)
    assert len(read_audio(page.sources("audio")[0])[1]) == rate / 2


def test_a_silent_file_has_a_player(tmp_path):
    page = report_on(tmp_path / "run", [write_tone(tmp_path / "a.wav", hertz=0.0)])
    assert len(page.images) == 1 and not read_audio(page.sources("audio")[0])[1].any()


@pytest.mark.parametrize(
    ("config", "images", "players"), [({}, 1, 0), (AUDIO_MODEL, 2, 1), (AUDIO_VISUAL_MODEL, 2, 1)]
)
def test_a_video_has_a_player_if_the_model_uses_audio(tmp_path, config, images, players):
    path = tmp_path / "a.mp4"
    write_clip(path, 8, tone=440.0)
    page = report_on(tmp_path / "run", [path], config)
    assert (len(page.images), len(page.sources("audio"))) == (images, players)


def test_a_video_without_audio_has_its_frames(tmp_path):
    write_clip(tmp_path / "a.mp4", 8)
    page = report_on(tmp_path / "run", [tmp_path / "a.mp4"], AUDIO_VISUAL_MODEL)
    assert len(page.images) == 1 and page.sources("audio") == []


def test_a_feature_file_has_an_image(tmp_path):
    feature = np.zeros((50, 80), np.float32)
    feature[:, :8] = 1  # low frequencies
    np.save(tmp_path / "a.npy", feature)
    page = report_on(tmp_path / "run", [tmp_path / "a.npy"], AUDIO_MODEL)
    image = read_image(page.images[0]).astype(int).sum(axis=2)
    assert image[-3].mean() > image[3].mean() + 100 and page.sources("audio") == []


@pytest.mark.parametrize("name", ["gone.wav", "text.wav", "cut.npy", "flat.npy", "nan.npy"])
def test_a_clip_that_cannot_be_read_has_only_text(tmp_path, name):
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "flat.npy", np.zeros(5))
    np.save(tmp_path / "nan.npy", np.full((5, 80), np.nan))
    page = report_on(tmp_path / "run", [tmp_path / name], AUDIO_MODEL)
    assert page.images == page.sources("audio") == []
    assert name in page.text and "Without frames: " in page.text


def test_players_do_not_crowd_out_cards(tmp_path, monkeypatch):
    path, folder = write_tone(tmp_path / "a.wav", 4), tmp_path / "run"
    page = report_on(folder, [path] * 12)
    assert (len(page.images), len(page.sources("audio"))) == (12, 12)
    size = len(write_report(folder, clips=0).read_bytes())
    monkeypatch.setattr(run_report, "MAX_BYTES", size + 400_000)
    page = read_page(write_report(folder))
    share = clip_cards.AUDIO_SHARE * 400_000 / 85_000  # of players of 4 s
    assert len(page.sources("audio")) == int(share) and len(page.images) == 12


# --- order --------------------------------------------------------------------------------------


def folded(facts, number=48):
    """(clips shown, clips folded, text) of the section."""
    html = "".join(hardest_clips(facts, number, 1_000_000))
    shown, _, rest = html.partition("<details>")
    return shown.count('class="clip"'), rest.count('class="clip"'), html


@pytest.mark.parametrize(
    ("num_wrong", "num_right", "number", "expected"),
    [(6, 42, 48, (6, 42)), (3, 0, 48, (3, 0)), (0, 4, 48, (0, 4)), (6, 42, 5, (5, 0))],
)
def test_right_clips_are_folded(tmp_path, num_wrong, num_right, number, expected):
    folder, labels = make_run(tmp_path / "run"), [0] * num_wrong + [1] * num_right
    records = [Record(f"{i}.mp4", label) for i, label in enumerate(labels)]
    write_best(folder, ["a", "b"], labels, np.array([[0.0, 3.0]] * len(labels)), records)
    *counts, html = folded(read_run(folder), number)
    assert tuple(counts) == expected
    assert (f"<summary>{num_right} that are classified correctly</summary>" in html) is bool(
        expected[1]
    )
    verb = "is" if expected[0] == 1 else "are"
    assert f"{expected[0]} of them {verb} classified wrongly" in html
    read_page(write_report(folder, clips=number))


def test_a_card_that_is_wrong_is_never_folded(tmp_path):
    """A right clip may have a larger loss than a wrong one."""
    folder, logits = make_run(tmp_path / "run"), np.array([[0.1, 0.1, 0.1], [0.5, 0.6, -9.0]])
    write_best(folder, ["a", "b", "c"], [0, 0], logits, [Record("right", 0), Record("wrong", 0)])
    assert [row["path"] for row in read_run(folder).best["worst"]] == ["right", "wrong"]
    shown, _, rest = "".join(hardest_clips(read_run(folder), 9, 1_000_000)).partition("<details>")
    assert "wrong, loss" in shown and "right, loss" in rest and "right, loss" not in shown


def test_clips_at_urls_have_only_text(tmp_path):
    paths = ["s3://bucket/a.mp4", "https://me:word@host/b.mp4?signature=x"]
    page = report_on(tmp_path / "run", paths, AUDIO_VISUAL_MODEL)
    assert page.images == page.sources("audio") == []
    assert "Without frames: the files are at URLs, which a report does not read." in page.text
    assert "s3://bucket/a.mp4, loss" in page.text and "https://host/b.mp4, loss" in page.text
    assert "signature" not in page.text and "word" not in page.text
