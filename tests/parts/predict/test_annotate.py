"""Copies of videos with a text on their frames."""

import av
import numpy as np
import pytest
from PIL import ImageFont

from paddlevideo.media.containers import one_thread
from paddlevideo.predict import annotate
from paddlevideo.predict.annotate import find_font, has_letters, label_image, write_annotated
from paddlevideo.sample import DecodeError
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip


def frames_of(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_the_text_is_on_every_frame_and_nowhere_else(tmp_path):
    gray = np.full((7, 120, 160, 3), 120, np.uint8)
    source = write_clip(tmp_path / "a.mp4", frames=gray, num_frames=7, height=120, width=160)
    out = write_annotated(source, tmp_path / "out" / "b.mp4", "archery 0.98")
    frames = frames_of(out).astype(int)
    assert frames.shape == gray.shape
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
    for frame in frames:
        box = frame[4:16, 4:60]
        assert box.max() > 190 and box.min() < 70, "light letters on a dark box"
        assert np.abs(frame[40:] - 120).max() < 12
        assert np.abs(frame[:, 130:] - 120).max() < 12


def test_frames_of_the_decoder_are_not_drawn_on(tmp_path):
    """The next frames are decoded from those before, so a label in them would smear."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (16, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    moving = np.stack([np.roll(texture, 4 * n, 1) for n in range(12)])
    source = write_clip(tmp_path / "a.mp4", frames=moving, num_frames=12, height=128, width=160)
    with one_thread():  # several threads decode frames before the label is in those before
        out = frames_of(write_annotated(source, tmp_path / "b.mp4", "xxxxx")).astype(int)
    width = label_image("xxxxx", "", 160, 128).shape[1]
    difference = np.abs(out - frames_of(source))
    for columns in (slice(0, 3), slice(width + 6, width + 12)):  # next to the label
        assert difference[:, 5:16, columns].mean((1, 2, 3)).max() < 30
    assert difference[:, 40:].mean() < 8


def test_times_and_audio_are_kept(tmp_path):
    source = tmp_path / "a.mp4"
    write_audio(source, chirps(1.0), codec="aac", video={"num_frames": 25})
    with av.open(str(write_annotated(source, tmp_path / "b.mkv", "x"))) as out:
        assert [s.type for s in out.streams] == ["video", "audio"]
        packets = [p.pts * p.time_base for p in out.demux(video=0) if p.pts is not None]
    assert np.allclose(np.diff(sorted(map(float, packets))), 1 / 25, atol=2e-3)


def test_audio_that_mp4_cannot_hold_is_left_out(tmp_path, caplog):
    source = tmp_path / "a.avi"
    write_audio(source, chirps(0.5), codec="pcm_s16le", video={"num_frames": 12})
    out = write_annotated(source, tmp_path / "b.mp4", "x")
    with av.open(str(out)) as container:
        kinds = [stream.type for stream in container.streams]
    assert kinds[0] == "video" and len(frames_of(out)) == 12


def test_rotated_odd_and_small_frames(tmp_path):
    for name, options in {
        "rotated": {"height": 64, "width": 96, "rotation": 90},
        "small": {"height": 16, "width": 20},
        "odd": {"height": 33, "width": 47, "pixel_format": "yuv444p"},
    }.items():
        source = write_clip(tmp_path / f"{name}.mp4", num_frames=3, **options)
        frames = frames_of(write_annotated(source, tmp_path / f"{name}_res.mp4", "archery 0.5"))
        expected = (96, 64) if name == "rotated" else (options["height"], options["width"])
        assert all(abs(a - b) <= 1 for a, b in zip(frames.shape[1:3], expected, strict=True))
        assert len(frames) == 3


@pytest.mark.parametrize("width", [40, 100, 320, 1920])
def test_a_long_text_fits_the_frame(width):
    long = label_image("playing the trumpet in a very long street of a town 0.98", "", width, 500)
    short = label_image("a", "", width, 500)
    assert long.shape[1] <= width - 4 and short.shape[1] < long.shape[1]
    assert all(side % 2 == 0 for side in (*long.shape[:2], *short.shape[:2]))


def test_letters_of_other_languages_need_a_font(monkeypatch):
    assert find_font("archery 0.98") == ""
    assert has_letters("", "abc") and not has_letters("", "kürbis") and not has_letters("", "红")
    monkeypatch.setattr(annotate, "FONT_FOLDERS", ("/nowhere",))
    assert find_font("红色") is None


def test_a_font_of_the_system_is_found(tmp_path, monkeypatch):
    own = ImageFont.load_default(10)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "Arial.ttf").write_bytes(own.font_bytes)
    (tmp_path / "DejaVuSans.ttf").write_text("no font")
    monkeypatch.setattr(annotate, "FONT_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(annotate, "has_letters", lambda path, text: path.endswith("Arial.ttf"))
    assert find_font("kürbis") == str(tmp_path / "deep" / "Arial.ttf")
    monkeypatch.undo()
    assert not has_letters(str(tmp_path / "DejaVuSans.ttf"), "a")
    assert find_font("a", tmp_path / "deep" / "Arial.ttf").endswith("Arial.ttf")


def test_without_a_font_the_other_text_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(annotate, "FONT_FOLDERS", ())
    drawn = []
    monkeypatch.setattr(annotate, "label_image", lambda *a: drawn.append(a[0]) or label_image(*a))
    source = write_clip(tmp_path / "a.mp4", num_frames=2)
    write_annotated(source, tmp_path / "b.mp4", "红色 0.98", "class 2 0.98")
    assert drawn == ["class 2 0.98"]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("b.avi", {}, "ends with .mp4 or .mkv"),
        ("a.mp4", {}, "would replace the video itself"),
        ("b.mp4", {"font": "font.ttf"}, "font.ttf: not a font file"),
    ],
)
def test_mistakes_are_reported(tmp_path, monkeypatch, target, options, message):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", num_frames=2)
    (tmp_path / "font.ttf").write_text("no font")
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(ValueError, match=message):
        write_annotated("a.mp4", target, "x", **options)
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_file_that_is_no_video_writes_nothing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError):
        write_annotated(tmp_path / "a.mp4", tmp_path / "b.mp4", "x")
    assert not (tmp_path / "b.mp4").exists()
