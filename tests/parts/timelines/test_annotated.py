"""Annotated videos: bars and strip on the frames, times, size and audio of the source."""

import itertools
import weakref

import av
import numpy as np
import pytest

from paddlevideo.media.upright import upright_rgb
from paddlevideo.sample import DecodeError
from paddlevideo.timelines.annotated import NoFrameError, annotate_file, annotated_video, fitted
from paddlevideo.timelines.frames import Audio, Frame, Gap
from paddlevideo.timelines.overlay import FAILED, LIVE_SECONDS, TRACK, Overlay, color_of
from paddlevideo.timelines.segments import Segment
from tests.audio_clips import chirps, write_audio
from tests.clips import write_clip


def result(start: float, end: float, class_id: int = 0, score: float = 1.0) -> Segment:
    return Segment(start, end, [class_id], [score], [f"class {class_id}"])


def decoded(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def frame(seconds: float, height: int = 64, width: int = 96) -> Frame:
    return Frame(seconds, np.full((height, width, 3), 120, np.uint8))


def near(pixels, color) -> bool:
    return bool(np.abs(np.asarray(pixels, int) - np.array(color)).max() < 40)


# --- files ----------------------------------------------------------------------------------------


def test_bars_and_strip_are_on_the_frames(tmp_path):
    gray = np.full((20, 120, 160, 3), 120, np.uint8)
    source = write_clip(tmp_path / "a.mp4", 20, 120, 160, fps=10, frames=gray)
    out = annotate_file(source, tmp_path / "b.mp4", [result(0, 1, 0), result(1, 2, 2, 0.5)])
    frames = decoded(out)
    assert len(frames) == 20 and frames[0].shape == (120, 160, 3)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        times = [p.pts * p.time_base for p in container.demux(stream) if p.size]
    assert np.allclose(sorted(map(float, times)), np.arange(20) / 10, atol=1e-3)
    first, last = frames[2], frames[17]
    assert near(first[-2, 40], color_of(0)) and not near(first[-2, 120], color_of(0))
    assert np.abs(first[40:110].astype(int) - 120).max() < 15, "nothing is drawn between them"
    assert np.abs(first[8:12, 40:60].astype(int) - last[8:12, 40:60]).max() > 20
    bright = [f[-3:].astype(int).min((0, 2)).argmax() for f in (first, last)]
    assert abs(bright[0] - 16) < 4 and abs(bright[1] - 135) < 4, "the cursor moves"


def test_the_index_is_at_the_start_for_browsers(tmp_path):
    source = write_clip(tmp_path / "a.mp4", 10)
    data = annotate_file(source, tmp_path / "b.mp4", [result(0, 1)]).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("suffix", "codec", "expected"),
    [(".mp4", "aac", "aac"), (".mkv", "mp3", "mp3"), (".avi", "pcm_s16le", "aac"),
     (".mkv", "flac", "flac"), (".mkv", "pcm_s16le", "aac")],
)  # fmt: skip
def test_audio_is_kept(tmp_path, suffix, codec, expected):
    source = tmp_path / f"a{suffix}"
    write_audio(source, chirps(1.0), codec=codec, video={"num_frames": 25})
    out = annotate_file(source, tmp_path / "b.mp4", [result(0, 1)])
    with av.open(str(out)) as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.name.removesuffix("float") == expected
        frames = list(container.decode(stream))
    seconds = sum(frame.samples / frame.sample_rate for frame in frames)
    assert seconds == pytest.approx(1.0, abs=0.15)
    assert max(np.abs(f.to_ndarray().astype(float)).max() for f in frames) > 0


def test_copied_audio_keeps_its_packets(tmp_path):
    source = tmp_path / "a.mp4"
    write_audio(source, chirps(1.0), codec="aac", video={"num_frames": 25})
    out = annotate_file(source, tmp_path / "b.mp4", [result(0, 1)])

    def packets(path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(audio=0) if p.size]

    written = packets(out)
    assert len(written) >= 14 and written == packets(source)[-len(written) :]


def test_variable_frame_rates_keep_their_times(tmp_path):
    pts = [0, 1000, 1500, 9000, 20000]
    source = write_clip(tmp_path / "a.mp4", 5, pts=pts)
    out = annotate_file(source, tmp_path / "b.mp4", [])
    with av.open(str(out)) as container:
        times = sorted(float(f.time) for f in container.decode(video=0))
    assert np.allclose(times, np.array(pts) / 25_000, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"height": 33, "width": 47, "pixel_format": "yuv444p"}, (32, 46)),
        ({"height": 16, "width": 20}, (16, 20)),
        ({"height": 64, "width": 96, "rotation": 90}, (96, 64)),
    ],
)
def test_odd_small_and_rotated_frames(tmp_path, options, shape):
    source = write_clip(tmp_path / "a.mp4", 3, **options)
    out = annotate_file(source, tmp_path / "b.mp4", [result(0, 1)])
    assert {f.shape[:2] for f in decoded(out)} == {shape}


def test_a_file_that_is_cut_short_is_annotated_up_to_its_end(tmp_path):
    whole = write_clip(tmp_path / "w.ts", 30, container_format="mpegts", codec="mpeg2video")
    source = tmp_path / "a.ts"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    lost = Segment(0.5, 1.2, error="damaged: packets are lost")
    frames = decoded(annotate_file(source, tmp_path / "b.mp4", [result(0, 0.5), lost]))
    assert 5 < len(frames) < 30


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("b.avi", {}, "expected a file name that ends with .mp4"),
        ("b", {}, "expected a file name that ends with .mp4"),
        ("a.mp4", {}, "would replace the video itself"),
        ("b.mp4", {"font": "font.ttf"}, "font.ttf: not a font file"),
    ],
)
def test_mistakes_are_reported(tmp_path, monkeypatch, target, options, message):
    monkeypatch.chdir(tmp_path)
    source = write_clip(tmp_path / "a.mp4", 2)
    (tmp_path / "font.ttf").write_text("no font")
    before = source.read_bytes()
    with pytest.raises(ValueError, match=message):
        annotate_file("a.mp4", target, [], **options)
    assert source.read_bytes() == before


def test_an_earlier_file_stays_after_an_error(tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"earlier")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError):
        annotate_file(tmp_path / "a.mp4", tmp_path / "b.mp4", [])
    with pytest.raises(RuntimeError), annotated_video(tmp_path / "b.mp4", Overlay([])) as video:
        video.add(frame(0.0))
        raise RuntimeError
    assert (tmp_path / "b.mp4").read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


# --- streams --------------------------------------------------------------------------------------


def test_frames_are_written_one_by_one(tmp_path, monkeypatch):
    """Of a file with audio, no more than two frames are in memory, whatever its length, and what is
    encoded goes to the disk."""
    source, num_frames = tmp_path / "a.mp4", 240
    wave = chirps(num_frames / 25)
    write_audio(source, wave, codec="aac", video={"num_frames": num_frames})
    alive: list[weakref.ref] = []
    most, sizes = 0, []
    convert, draw = upright_rgb, Overlay.draw

    def converted(frame, converter) -> np.ndarray:
        image = np.array(convert(frame, converter))  # views keep it alive, too
        alive.append(weakref.ref(image))
        return image

    def drawn(overlay, image, time) -> None:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        image[:] = np.random.default_rng(round(time * 25)).integers(0, 256, image.shape)
        sizes.append(sum(path.stat().st_size for path in tmp_path.glob(".b.mp4.*.tmp")))
        draw(overlay, image, time)

    monkeypatch.setattr("paddlevideo.timelines.files.upright_rgb", converted)
    monkeypatch.setattr(Overlay, "draw", drawn)
    out = annotate_file(source, tmp_path / "b.mp4", [result(0, num_frames / 25)])
    assert len(alive) == len(sizes) == num_frames and most <= 2
    # The encoder holds some tens of frames, and FFmpeg writes 256 KiB at a time.
    assert sizes[-1] > out.stat().st_size / 2 > 0


def test_the_chosen_streams_are_copied(tmp_path):
    quiet, loud = 0.01 * chirps(1.0), 0.5 * chirps(1.0)
    source = tmp_path / "a.mkv"
    write_audio(source, quiet, more_streams=(loud,), video={"num_frames": 25})
    levels = []
    for number in (None, 0, 1):
        out = tmp_path / f"{number}.mp4"
        annotate_file(source, out, [], streams=(None, number))
        with av.open(str(out)) as container:
            wave = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        levels.append(np.abs(wave).max())
    assert levels[0] == levels[1] < 0.1 < 0.2 < levels[2]
    two = write_clip(tmp_path / "b.mkv", 5, num_streams=2)
    out = annotate_file(two, tmp_path / "b.mp4", [], streams=(1, None))
    assert decoded(out)[0].shape == (48, 128, 3)


def test_a_stopped_file_is_not_written(tmp_path):
    source = write_clip(tmp_path / "a.mp4", 10)
    (tmp_path / "b.mp4").write_bytes(b"earlier")
    asked = iter([False] * 5 + [True] * 5)
    with pytest.raises(KeyboardInterrupt):
        annotate_file(source, tmp_path / "b.mp4", [], should_stop=lambda: next(asked))
    assert (tmp_path / "b.mp4").read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_audio_of_a_stream_is_encoded_with_silence_in_gaps(tmp_path):
    tone = np.sin(np.arange(8000) / 8000 * 2 * np.pi * 440).astype(np.float32) * 0.5
    with annotated_video(tmp_path / "a.mp4", Overlay([]), sound=True) as video:
        video.add(frame(0.0))
        video.add(Audio(0.0, tone, 8000))
        video.add(Gap(1.0, 2.0, "lost"))
        video.add(frame(2.0))
        video.add(Audio(2.0, tone, 8000))
        video.add(Audio(2.5, tone, 8000))  # overlaps by half
    with av.open(str(tmp_path / "a.mp4")) as container:
        parts = [f.to_ndarray()[0] for f in container.decode(audio=0)]
    wave = np.concatenate(parts)
    level = [np.abs(wave[round(a * 48000) : round(b * 48000)]).max()
             for a, b in ((0.2, 0.8), (1.3, 1.8), (2.2, 2.8))]  # fmt: skip
    assert level[0] > 0.3 and level[1] < 0.05 and level[2] > 0.3
    assert len(wave) / 48000 == pytest.approx(3.5, abs=0.1)


def test_a_stream_without_audio_has_no_track(tmp_path):
    with annotated_video(tmp_path / "a.mp4", Overlay([]), sound=True) as video:
        video.add(frame(0.0))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [s.type for s in container.streams] == ["video"]


def test_no_frame_is_no_video(tmp_path):
    with (
        pytest.raises(NoFrameError, match="not written, because no frame came"),
        annotated_video(tmp_path / "a.mp4", Overlay([])),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_fitted():
    tall = np.full((200, 50, 3), 200, np.uint8)
    image = fitted(tall, 100, 100)
    assert image.shape == (100, 100, 3)
    assert image[:, 40:60].min() == 200 and image[:, :30].max() == 0
    same = np.full((101, 100, 3), 7, np.uint8)
    assert fitted(same, 100, 100).shape == (100, 100, 3) and fitted(same, 100, 100).min() == 7


# --- the overlay ----------------------------------------------------------------------------------


def test_overlapping_results_meet_in_the_middle():
    overlay = Overlay([], 4.0)
    for start in range(3):
        overlay.add(result(start, start + 2, start))
    shown = [overlay.at(t) for t in (0.0, 1.4, 1.6, 2.4, 2.6, 4.0, 4.5)]
    assert [r.class_ids[0] if r else None for r in shown] == [0, 0, 1, 1, 2, 2, None]


def test_a_live_overlay_shows_the_newest_result_and_forgets_old_ones():
    overlay = Overlay([])
    assert overlay.at(0.0) is None
    for start in range(200):
        overlay.add(result(start, start + 2, start))
    newest = overlay.at(205.0)
    assert newest and newest.class_ids == [199]
    assert len(overlay._results) <= LIVE_SECONDS + 3


def test_failures_and_unknown_times_have_their_color():
    overlay = Overlay([], 4.0)
    overlay.add(Segment(0.0, 1.0, error="lost"))
    overlay.add(result(2.0, 3.0, 5))
    image = frame(0.0, 100, 400).image
    overlay.draw(image, 3.9)
    row = image[-1]
    assert near(row[50], FAILED) and near(row[150], TRACK) and near(row[250], color_of(5))


def test_colors_of_neighbors_differ_and_letters_are_readable():
    colors = [np.array(color_of(i), int) for i in range(40)]
    assert min(np.abs(a - b).sum() for a, b in itertools.pairwise(colors)) > 60
    assert max(c.max() for c in colors) < 190


@pytest.mark.parametrize("size", [(2, 2), (8, 8), (16, 900), (900, 16), (48, 64)])
def test_frames_of_any_size_can_be_drawn_on(size):
    overlay = Overlay(["a long name of a class\nand more"], 2.0)
    names = ["a long name of a class\nand more"] * 5
    overlay.add(Segment(0.0, 2.0, list(range(5)), [1.5, 0.5, 0.1, 0.0, -1.0], names))
    image = np.full((*size, 3), 120, np.uint8)
    for time in (0.0, 1.0, 2.0, 99.0):
        overlay.draw(image, time)


def test_without_a_font_class_ids_are_drawn(monkeypatch):
    monkeypatch.setattr("paddlevideo.predict.annotate.FONT_FOLDERS", ())
    overlay = Overlay(["红色"], 1.0)
    assert overlay._name(3, "红色") == "class 3"
    assert Overlay(["red"], 1.0)._name(3, "red") == "red"
