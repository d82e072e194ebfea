"""Damage inside a file: what FFmpeg decodes is used, the rest is replaced and noted."""

import logging
import re
import shutil
import struct
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from paddlevideo.media.audio_reader import open_audio, to_float
from paddlevideo.media.damage import note_damage
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError, Record
from tests.audio_clips import chirps, write_audio
from tests.clips import random_frames, write_clip

B_FRAMES = {"bf": "2", "g": "12"}
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg command")


@pytest.fixture(autouse=True)
def nothing_noted():
    """A file of the same name in another test is another file."""
    note_damage.cache_clear()


def decode_in_order(path: Path) -> np.ndarray:
    """Give every packet to the decoder, from the first on: uint8 [N, H, W, 3]."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.error.InvalidDataError:
                continue
    return np.stack(frames)


def samples_in_order(path: Path) -> np.ndarray:
    """Give every packet to the decoder, from the first on: the mean of the channels, float [n]."""
    samples = []
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            try:
                samples += [to_float(frame).mean(axis=0) for frame in packet.decode()]
            except av.error.FFmpegError:
                continue
    return np.concatenate(samples)


def clip_of(path: Path):
    return VideoDecoder().open(Record(str(path)))


def write_ts(path: Path, num_frames: int, seed: int, **settings) -> Path:
    frames = random_frames(num_frames, 96, 128, seed=seed)
    return write_clip(path, num_frames, 96, 128, frames=frames, **settings)


def damaged_stream(folder: Path, kind: str) -> Path:
    """Write a transport stream with damaged bytes, lost packets or zeros, or one that is cut."""
    path = write_ts(folder / f"{kind}.ts", 60, 0, options=B_FRAMES)
    data = bytearray(path.read_bytes())
    middle = len(data) // 188 // 2 * 188
    if kind == "bytes":
        for number in range(middle, middle + 400):
            data[number] = (data[number] * 7 + 91) & 255
    elif kind == "lost":
        del data[middle : middle + 3 * 188]
    elif kind == "zeros":
        data[middle : middle + 2 * 188] = bytes(2 * 188)
    elif kind == "cut":
        del data[middle + 100 :]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["bytes", "lost", "zeros", "cut"])
def test_frames_of_a_damaged_stream_equal_a_full_decode(tmp_path, kind):
    path = damaged_stream(tmp_path, kind)
    expected = decode_in_order(path)
    assert 20 < len(expected) <= 60
    with clip_of(path) as clip:
        assert clip.num_frames == len(expected)
        assert np.array_equal(clip.read(np.arange(len(expected))), expected)
        assert (np.diff(clip.times()) > 0).all()
    with clip_of(path) as clip:
        for number in np.random.default_rng(0).permutation(len(expected))[:8]:
            assert np.array_equal(clip.read([number])[0], expected[number]), number


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["bytes", "lost", "zeros", "cut"])
def test_ffmpeg_gives_as_many_frames(tmp_path, kind):
    path = damaged_stream(tmp_path, kind)
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-vsync", "passthrough"]
    output = ["-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    done = subprocess.run([*command, *output], capture_output=True)
    with clip_of(path) as clip:
        assert len(done.stdout) == clip.num_frames * 96 * 128 * 3


def test_repeats_a_frame_that_cannot_be_decoded(tmp_path, caplog):
    path = write_clip(tmp_path / "a.mkv", 20, codec="mjpeg", pixel_format="yuvj420p")
    expected = decode_in_order(path)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for number in (7, 8):
        data = data.replace(packets[number], bytes(len(packets[number])))
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "paddlevideo"), clip_of(path) as clip:
        assert np.array_equal(clip.read([6, 9]), expected[[6, 9]]) and not clip.lost
        found = clip.read([9, 8, 7, 6, 5, 19])
        assert np.array_equal(found, expected[[9, 6, 6, 6, 5, 19]]) and clip.lost == {7, 8}
    text = "2 frames cannot be decoded and repeat the frame before (7, 8)"
    assert [record.message for record in caplog.records] == [f"{path}: damaged: {text}"]
    with clip_of(path) as clip, pytest.raises(DecodeError, match="frame 7 of 20 cannot be decoded"):
        clip.read([6, 7, 8])


def test_a_lost_first_frame_is_an_error(tmp_path):
    path = write_clip(tmp_path / "a.mkv", 10, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path)) as container:
        first = bytes(next(container.demux(video=0)))
    path.write_bytes(path.read_bytes().replace(first, bytes(len(first))))
    with clip_of(path) as clip, pytest.raises(DecodeError, match="frame 0 of 10 cannot be decoded"):
        clip.read(np.arange(10))


# --- wav files ------------------------------------------------------------------------------------

# name: the size field for a number of bytes
SIZES = {
    "unknown": lambda real: 0xFFFFFFFF,
    "zero": lambda real: 0,
    "odd": lambda real: real - 1,
    "too large": lambda real: real + 1001,
    "too small": lambda real: real // 2,
}


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_u8", "pcm_f32le"])
@pytest.mark.parametrize("size", SIZES)
def test_reads_a_wav_to_its_end_whatever_size_it_states(tmp_path, codec, size):
    path = write_audio(tmp_path / "a.wav", chirps(2, 44100), 44100, codec)
    expected = read_waveform(str(path), 44100)
    data = bytearray(path.read_bytes())
    field = data.index(b"data") + 4
    real = len(data) - field - 4
    stated = SIZES[size](real)
    data[field : field + 4] = struct.pack("<I", stated)
    if size in ("unknown", "zero"):
        data[4:8] = data[field : field + 4]
    path.write_bytes(data)
    num_bytes = stated if 0 < stated < real else real
    num_samples = num_bytes // (real // len(expected))
    assert len(expected) == 88200
    assert np.array_equal(read_waveform(str(path), 44100), expected[:num_samples])


def test_reads_a_cut_wav_to_its_end(tmp_path):
    path = write_audio(tmp_path / "a.wav", chirps(2, 44100), 44100)
    expected = read_waveform(str(path), 44100)
    header = path.read_bytes().index(b"data") + 8
    path.write_bytes(path.read_bytes()[: header + 2 * 58793 + 1])
    assert np.array_equal(read_waveform(str(path), 44100), expected[:58793])


# --- damaged audio --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp3", "libmp3lame"), (".aac", "aac"), (".ac3", "ac3"), (".mp2", "mp2")],
)
@pytest.mark.parametrize("kind", ["joined", "tagged", "damaged"])
def test_reads_all_audio_of_a_bare_stream(tmp_path, suffix, codec, kind):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    path = write_audio(tmp_path / f"a{suffix}", chirps(3, 44100), 44100, codec)
    data = path.read_bytes()
    if kind == "joined":
        path.write_bytes(data + data)
    elif kind == "tagged":
        tag = b"ID3\x03\x00\x00\x00\x00\x27\x10" + bytes(5008)
        path.write_bytes(data + tag + data)
    else:
        middle = len(data) // 2
        noise = np.random.default_rng(0).bytes(1500)
        path.write_bytes(data[:middle] + noise + data[middle + 1500 :])
    expected = samples_in_order(path)
    assert len(expected) > (2.5 if kind == "damaged" else 5.9) * 44100
    assert np.array_equal(read_waveform(str(path), 44100), expected)


def damage_audio(path: Path, start: float, end: float) -> None:
    """Overwrite the audio packets between two times (s)."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        found = [bytes(p) for p in packets if start <= float(p.pts * p.time_base) < end]
    data = path.read_bytes()
    for packet in found:
        assert data.count(packet) == 1
        data = data.replace(packet, b"\x55" * len(packet))
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".flv"])
@pytest.mark.parametrize(("start", "end"), [(2.0, 2.07), (2.0, 2.3), (1.0, 2.5)])
def test_audio_that_cannot_be_decoded_is_silence_of_its_length(
    tmp_path, caplog, suffix, start, end
):
    path = tmp_path / f"a{suffix}"
    rate, codec = (44100, "flv1") if suffix == ".flv" else (16000, "mpeg4")
    times = np.arange(4 * rate) / rate
    # Without noise, which the AAC decoder would draw at random.
    sweep = 0.4 * np.sin(2 * np.pi * (300 * times + 150 * times**2))
    write_audio(path, sweep, rate, "aac", video={"num_frames": 100, "codec": codec})
    expected = read_waveform(str(path), rate)
    damage_audio(path, start, end)
    with caplog.at_level(logging.WARNING, "paddlevideo"):
        found = read_waveform(str(path), rate)
    (message,) = [record.message for record in caplog.records]
    text = r": its audio is damaged at (.*) s and cannot be decoded: silence replaces it"
    (match,) = re.findall(text, message)
    assert message.startswith(str(path)) and abs(float(match) - start) < 0.07
    assert found.shape == expected.shape
    # AAC windows overlap with the packets before and after.
    margin = round(0.15 * rate)
    first, last = round(start * rate), round(end * rate)
    assert np.array_equal(found[: first - margin], expected[: first - margin])
    # A shift by one sample would give an error of 0.06.
    assert np.abs(found[last + margin :] - expected[last + margin :]).max() < 0.03
    assert (found[first - margin : last + margin] == 0).sum() > 0.7 * (last - first)
    # A part is read alike.
    part = read_waveform(str(path), rate, 3.0, 3.5)
    assert np.abs(part - found[3 * rate : round(3.5 * rate)]).max() < 1e-6


def test_more_than_half_of_damaged_audio_is_an_error(tmp_path):
    path = write_audio(tmp_path / "a.mp4", chirps(6), codec="aac", video={"num_frames": 10})
    damage_audio(path, 2.0, 4.0)
    assert len(read_waveform(str(path))) > 6 * 16000 - 1
    for span in ((2.5, 3.5), (1.9, 2.9)):
        with pytest.raises(DecodeError, match=r"^its audio is damaged at 2\.\d\d\d s$"):
            read_waveform(str(path), 16000, *span)
    assert len(read_waveform(str(path), 16000, 0.5, 1.5)) == 16000
    path = write_audio(tmp_path / "b.mp4", chirps(6), codec="aac", video={"num_frames": 10})
    damage_audio(path, -1.0, 7.0)
    with pytest.raises(DecodeError, match="its audio is damaged: no part of it can be decoded"):
        read_waveform(str(path))


def test_damaged_audio_at_the_end_keeps_its_length(tmp_path):
    path = write_audio(tmp_path / "a.mp4", chirps(4), codec="aac", video={"num_frames": 100})
    expected = read_waveform(str(path))
    damage_audio(path, 3.5, 9.0)
    found = read_waveform(str(path))
    assert abs(len(found) - len(expected)) <= 1024
    assert not found[round(3.7 * 16000) :].any()
    with open_audio(str(path)) as audio:
        assert audio.damage == ""
        list(audio.chunks())
        assert audio.damage.startswith("its audio is damaged at 3.5")
