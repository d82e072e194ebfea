"""Audio streams: the video's clock, gaps, the chosen stream, and damaged files."""

from fractions import Fraction

import av
import numpy as np
import pytest

from paddlevideo.data.audio_pipeline import video_length
from paddlevideo.media.audio_reader import NoAudioError
from paddlevideo.media.containers import list_video_streams
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError
from tests.audio_clips import chirps, tone, write_audio


def onset(wave: np.ndarray) -> float:
    """Return when a waveform of 16 kHz becomes loud (s)."""
    return float(np.argmax(np.abs(wave) > 0.1)) / 16000


def test_second_0_is_the_first_frame(tmp_path):
    beep = np.concatenate([np.zeros(16000, np.float32), tone(1)])
    # name: arguments of the video, start of the audio (s), expected onset (s)
    cases = {
        "together": ({}, 0.0, 1.0),
        "video later": ({"start": 0.4}, 0.0, 0.6),
        "audio later": ({}, 0.5, 1.5),
    }
    for name, (video, start, expected) in cases.items():
        for suffix in (".mp4", ".mkv"):
            path = tmp_path / f"{name}{suffix}"
            video = {"num_frames": 50, **video}
            write_audio(path, beep, codec="aac", start=start, video=video)
            wave, part = read_waveform(str(path)), read_waveform(str(path), start_sec=0.5)
            assert abs(onset(wave) - expected) < 0.005, path
            assert abs(onset(part) - (expected - 0.5)) < 0.005, path
            if name == "audio later":
                assert not wave[:7500].any() and len(wave) >= 2.5 * 16000


def test_a_cover_image_is_no_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        audio = container.add_stream("aac", rate=16000, layout="mono")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(image) + cover.encode(None))
        frame = av.AudioFrame.from_ndarray(tone(2)[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(audio.encode(frame) + audio.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1 and list_video_streams(container) == []
    assert abs(len(read_waveform(str(path))) - 32000) < 1024
    assert video_length(str(path)) == (30.0, 0)


def test_fills_a_gap_with_silence(tmp_path):
    path = write_audio(tmp_path / "gap.mkv", tone(4), gap=(2.0, 1.5), video={"num_frames": 140})
    wave = read_waveform(str(path))
    assert abs(len(wave) - 5.5 * 16000) < 100
    assert not wave[16000 * 2 + 200 : round(3.5 * 16000) - 1200].any()
    assert np.abs(wave[60000:]).max() > 0.4
    assert np.array_equal(read_waveform(str(path), start_sec=3.6, end_sec=4.0), wave[57600:64000])


def test_rejects_a_gap_that_is_a_broken_time_stamp(tmp_path):
    path = write_audio(tmp_path / "gap.mkv", tone(4), gap=(2.0, 600), video={"num_frames": 10})
    with pytest.raises(DecodeError, match=r"time stamps jump from 2.0\d* s to 602"):
        read_waveform(str(path))


def test_reads_the_chosen_stream(tmp_path):
    more_streams, video = (tone(1, level=0.6),), {"num_frames": 25}
    path = tmp_path / "two.mkv"
    write_audio(path, tone(1, level=0.2), more_streams=more_streams, video=video)
    assert abs(read_waveform(str(path)).max() - 0.2) < 1e-3
    assert abs(read_waveform(str(path), stream=1).max() - 0.6) < 1e-3
    with pytest.raises(NoAudioError, match="no audio stream 2; the file has 2, counted from 0"):
        read_waveform(str(path), stream=2)


def test_reports_a_file_that_is_cut_short(tmp_path):
    path, video = tmp_path / "a.mp4", {"num_frames": 150}
    write_audio(path, chirps(6), codec="aac", video=video, movflags="faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DecodeError, match="cut short"):
        read_waveform(str(path))
    # The part before the cut is readable.
    assert len(read_waveform(str(path), end_sec=1)) == 16000
    path.write_bytes(data[: len(data) // 3 * 2])
    with pytest.raises(DecodeError):
        read_waveform(str(path), start_sec=5.5)


def test_reports_damage_only_within_the_span(tmp_path):
    path = write_audio(tmp_path / "a.mp4", chirps(6), codec="aac", video={"num_frames": 10})
    with av.open(str(path)) as container:
        packets = [
            (float(packet.pts * packet.time_base), packet.pos, packet.size)
            for packet in container.demux(audio=0)
            if packet.size
        ]
    data = bytearray(path.read_bytes())
    for time, position, size in packets:
        if 4.0 <= time <= 4.3:
            data[position : position + size] = bytes([0xFF]) * size
    path.write_bytes(bytes(data))
    with pytest.raises(DecodeError, match=r"its audio is damaged at 4\.0\d\d s"):
        read_waveform(str(path), start_sec=4.1, end_sec=4.3)
    assert len(read_waveform(str(path))) >= 6 * 16000, "silence replaces less than half"
    assert len(read_waveform(str(path), start_sec=1, end_sec=3)) == 32000
    assert len(read_waveform(str(path), start_sec=5, end_sec=6)) == 16000
