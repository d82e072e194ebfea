"""Frames and audio have one clock: a flash and a beep at the same moment stay together."""

from pathlib import Path

import av
import numpy as np
import pytest

from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError, Record
from tests.clips import write_clip
from tests.flash_clips import (
    copy_packets,
    cut_transport_stream,
    flash_and_beep,
    flv_tags,
    write_flash,
)

B_FRAMES = {"bf": "2", "g": "25"}
# AVI stores no time stamps, and thus neither B-frames nor the delay of an audio codec.
FORMATS = {
    "a.mp4": {"options": B_FRAMES},
    "a.mov": {"options": B_FRAMES, "audio": "pcm_s16le"},
    "a.mkv": {"options": B_FRAMES},
    "a.ts": {"options": B_FRAMES},
    "a.flv": {"options": B_FRAMES},
    "a.avi": {"codec": "mpeg4", "audio": "pcm_s16le"},
    "a.vob": {"codec": "mpeg2video", "audio": "mp2", "options": B_FRAMES},
    "vp8.webm": {"codec": "libvpx", "audio": "libopus"},
    "vp9.webm": {"codec": "libvpx-vp9", "audio": "libopus", "options": {"cpu-used": "8"}},
    "vp8.ogv": {"codec": "libvpx", "audio": "libopus"},
    "a.asf": {"codec": "wmv2", "audio": "libmp3lame"},
    "ac3.ts": {"codec": "mpeg2video", "audio": "ac3", "options": B_FRAMES},
    "mp3.mkv": {"audio": "libmp3lame"},
    "fragments.mp4": {"options": B_FRAMES, "movflags": "frag_keyframe+empty_moov"},
    "dash.mp4": {"options": B_FRAMES, "movflags": "frag_keyframe+empty_moov+delay_moov"},
}


def written(folder: Path, name: str, **settings) -> Path:
    settings = FORMATS.get(name, {}) | settings
    for codec in (settings.get("codec", "libx264"), settings.get("audio", "aac")):
        if codec not in av.codecs_available:
            pytest.skip(f"this PyAV cannot write {codec}")
    return write_flash(folder / name, **settings)


def assert_together(path: Path, flash: float | None = None) -> None:
    found, beep = flash_and_beep(path)
    assert abs(found - beep) < 0.01, (found, beep)
    assert flash is None or abs(found - flash) < 0.01


@pytest.mark.parametrize("name", FORMATS)
def test_a_flash_and_a_beep_are_together(tmp_path, name):
    assert_together(written(tmp_path, name), flash=2.0)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv", "a.vob", "vp8.webm"])
@pytest.mark.parametrize(("video_start", "audio_start"), [(0.8, 0.0), (0.0, 0.8)])
def test_streams_that_begin_late(tmp_path, name, video_start, audio_start):
    starts = {"video_start": video_start, "audio_start": audio_start}
    path = written(tmp_path, name, **starts)
    # The time stamps of MP4 files are shifted so that the first one is 0.
    assert_together(path, flash=2.0 - video_start)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_a_transport_stream_cut_between_key_frames(tmp_path, share):
    path = written(tmp_path, "a.ts", at=4.0, seconds=5.0, options={"bf": "2", "g": "50"})
    cut = cut_transport_stream(path, tmp_path / "cut.ts", share)
    assert_together(cut)
    with VideoDecoder().open(Record(str(cut))) as clip:
        # The first group of pictures cannot be decoded.
        assert clip.num_frames in (25, 50, 75, 100) and clip.times()[0] == 0


def test_a_program_stream_cut_between_key_frames(tmp_path):
    # Small frames would share a time stamp with others.
    path = written(tmp_path, "a.vob", at=4.0, seconds=5.0, noise=30)
    data = path.read_bytes()
    cut = tmp_path / "cut.vob"
    cut.write_bytes(data[len(data) // 2048 // 4 * 2048 :])
    assert_together(cut)


def test_a_flv_cut_between_key_frames(tmp_path):
    path = written(tmp_path, "a.flv", at=3.0, seconds=4.0)
    data = path.read_bytes()
    kept = [
        tag
        for tag in flv_tags(data)
        if tag[0] == 18 or tag[12] == 0 or int.from_bytes(tag[4:7], "big") >= 500
    ]
    cut = tmp_path / "cut.flv"
    cut.write_bytes(data[:13] + b"".join(kept))
    assert_together(cut, flash=2.0)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("begin", [0.6, 1.0, 1.5])
def test_packets_copied_from_the_middle(tmp_path, suffix, begin):
    path = written(tmp_path, "a.mp4", at=3.0, seconds=4.0)
    cut = copy_packets(path, tmp_path / f"cut{suffix}", lambda p: p.dts * p.time_base >= begin)
    assert_together(cut)


def test_an_edit_list_that_begins_between_key_frames(tmp_path):
    """As `ffmpeg -ss 1.3 -i IN -c copy OUT` writes it: frames before time 0 are decoded only."""
    path = written(tmp_path, "a.mp4", at=3.0, seconds=4.0)
    cut = tmp_path / "cut.mp4"
    with (
        av.open(str(path)) as reader,
        av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as writer,
    ):
        streams = {stream: writer.add_stream_from_template(stream) for stream in reader.streams}
        for packet in reader.demux():
            if packet.dts is not None and packet.dts * packet.time_base >= 0.9:
                shift = round(1.28 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream]
                writer.mux(packet)
    assert_together(cut, flash=3.0 - 1.28)


def test_a_gap_of_a_few_packets_does_not_shift_the_audio(tmp_path):
    path = written(tmp_path, "a.mp4")
    # 3 packets of 21 ms; less than that may be jitter.
    cut = copy_packets(
        path,
        tmp_path / "gap.mkv",
        lambda p: p.stream.type == "video" or not 1.0 <= p.pts * p.time_base < 1.064,
    )
    assert_together(cut, flash=2.0)


def test_audio_alone_begins_at_0(tmp_path):
    path = written(tmp_path, "a.mp4", audio_start=0.5)
    alone = tmp_path / "alone.mp4"
    with av.open(str(path)) as reader, av.open(str(alone), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.audio[0])
        for packet in reader.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    beep = np.argmax(np.abs(read_waveform(str(alone), 48000)) > 0.1) / 48000
    assert abs(beep - 1.5) < 0.03


# --- still images and fragments -------------------------------------------------------------------


def write_still_first(path: Path, codec: str, attached: bool = False) -> Path:
    """Write a file with a stream of one image before the video."""
    film = write_flash(path.with_name("film.mp4"), options=B_FRAMES)
    pixels = {"png": "rgb24", "libx264": "yuv420p"}.get(codec, "yuvj420p")
    with av.open(str(film)) as reader, av.open(str(path), "w") as writer:
        still = writer.add_stream(codec, rate=25)
        still.width, still.height, still.pix_fmt = 32, 32, pixels
        if attached:
            still.disposition = av.stream.Disposition.attached_pic
        streams = {stream: writer.add_stream_from_template(stream) for stream in reader.streams}
        image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")
        image.pts = 0
        writer.mux(still.encode(image) + still.encode(None))
        for packet in reader.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                writer.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "attached"),
    [
        ("a.mkv", "mjpeg", False),
        ("b.mkv", "libx264", False),
        ("a.mp4", "mjpeg", False),
        ("b.mp4", "libx264", False),
        ("a.mov", "png", False),
        ("c.mp4", "mjpeg", True),
    ],
)
def test_a_still_image_before_the_film_is_not_the_film(tmp_path, name, codec, attached):
    path = write_still_first(tmp_path / name, codec, attached)
    with VideoDecoder().open(Record(str(path))) as clip:
        assert clip.num_frames == 75 and clip.read([5]).shape == (1, 48, 64, 3)
    assert_together(path, flash=2.0)
    # A number still counts every stream but cover images.
    with VideoDecoder(stream=0).open(Record(str(path))) as clip:
        assert clip.num_frames == (75 if attached else 1)


def test_a_file_of_still_images_alone_is_read(tmp_path):
    path = write_clip(tmp_path / "a.mkv", 1, num_streams=2)
    with VideoDecoder().open(Record(str(path))) as clip:
        assert clip.num_frames == 1 and clip.read([0]).shape[2] == 64


@pytest.mark.parametrize("name", ["fragments.mp4", "dash.mp4"])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_reads_what_is_there_of_a_cut_fragmented_mp4(tmp_path, name, share):
    path = written(tmp_path, name, at=1.0)
    with VideoDecoder().open(Record(str(path))) as clip:
        complete = clip.read(np.arange(75))
    wave = read_waveform(str(path), 48000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with VideoDecoder().open(Record(str(path))) as clip:
        assert 20 < clip.num_frames <= 75
        # The last frame may be there in part.
        numbers = np.arange(clip.num_frames - 1)
        assert np.array_equal(clip.read(numbers), complete[numbers])
    found = read_waveform(str(path), 48000)
    assert 24000 < len(found) <= len(wave)
    assert np.abs(found[:24000] - wave[:24000]).max() < 1e-4


def test_a_cut_mp4_with_one_index_is_still_refused(tmp_path):
    path = write_flash(tmp_path / "a.mp4", movflags="faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with (
        pytest.raises(DecodeError, match="cut short: it lists 75 frames"),
        VideoDecoder().open(Record(str(path))),
    ):
        pass
