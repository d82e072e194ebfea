"""Videos with a flash and a beep at the same moment, and edits of the bytes of media files."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from paddlevideo.media.decode import VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import Record

FPS = 25
RATE = 48000


def write_flash(
    path: Path,
    at: float = 2.0,
    seconds: float = 3.0,
    codec: str = "libx264",
    audio: str = "aac",
    options: dict[str, str] | None = None,
    video_start: float = 0.0,
    audio_start: float = 0.0,
    noise: int = 0,
    **container_options: str,
) -> Path:
    """Write a dark video that becomes bright `at` this time (s), when a tone begins.

    Args:
        options: of the video codec.
        video_start, audio_start: times of the first frame and the first sample (s). The flash and
            the beep stay at their time.
        noise: added to the frames, up to this level; it makes their packets large.
        container_options: of the muxer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options) as container:
        settings = {"threads": "1", "g": "25"} | (options or {})
        if codec == "libx264":
            settings["sc_threshold"] = "0"  # no key frame at the flash
        video: Any = container.add_stream(codec, rate=FPS, options=settings)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        sound: Any = container.add_stream(audio, rate=RATE, layout="mono")
        rng = np.random.default_rng(0)
        for number in range(round(video_start * FPS), round(seconds * FPS)):
            # The brightness also counts frames, so that no two are alike.
            level = (200 if number >= round(at * FPS) else 20) + number % 25
            image = level + rng.integers(0, noise + 1, (48, 64, 3))
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        first = round(audio_start * RATE)
        times = np.arange(first, round(seconds * RATE)) / RATE
        wave = (0.5 * np.sin(2 * np.pi * 1000 * times) * (times >= at)).astype(np.float32)
        size = sound.codec_context.frame_size or 1024
        for start in range(0, len(wave), size):
            samples = np.ascontiguousarray(wave[None, start : start + size])
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = first + start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def flash_and_beep(path: Path) -> tuple[float, float]:
    """Return when the flash and the beep begin (s after the first frame)."""
    with VideoDecoder().open(Record(str(path))) as clip:
        frames = clip.read(np.arange(clip.num_frames))
        bright = frames.reshape(len(frames), -1).mean(axis=1) > 120
        flash = float(clip.times()[np.argmax(bright)])
    assert bright.any()
    wave = np.abs(read_waveform(str(path), RATE)) > 0.1
    assert wave.any()
    return flash, float(np.argmax(wave)) / RATE


def copy_packets(
    source: Path, target: Path, keep: Callable[[Any], bool], **container_options: str
) -> Path:
    """Copy the packets for which `keep(packet)` holds into another file; nothing is encoded."""
    with (
        av.open(str(source)) as reader,
        av.open(str(target), "w", options=container_options) as writer,
    ):
        streams = {stream: writer.add_stream_from_template(stream) for stream in reader.streams}
        for packet in reader.demux():
            if packet.dts is not None and keep(packet):
                packet.stream = streams[packet.stream]
                writer.mux(packet)
    return target


def cut_transport_stream(source: Path, target: Path, share: float) -> Path:
    """Leave out the first part of a transport stream, except its tables at the beginning."""
    data = source.read_bytes()
    first = int(len(data) * share) // 188 * 188
    target.write_bytes(data[: 188 * 3] + data[first:])
    return target


def flv_tags(data: bytes) -> list[bytearray]:
    """Split a flv file after its header of 13 bytes into tags, each with its size behind it."""
    tags, offset = [], 13
    while offset + 11 <= len(data):
        end = offset + 11 + int.from_bytes(data[offset + 1 : offset + 4], "big") + 4
        tags.append(bytearray(data[offset:end]))
        offset = end
    return tags


def join_flv(first: Path, second: Path, target: Path, shift_ms: int) -> Path:
    """Append a flv file to another one, as a recorder does that was connected again.

    Args:
        shift_ms: added to the time stamps of the second file.
    """
    head = first.read_bytes()
    tags = flv_tags(second.read_bytes())
    for tag in tags:
        is_header = tag[0] == 18 or tag[12] == 0
        if not is_header:
            tag[4:7] = (int.from_bytes(tag[4:7], "big") + shift_ms).to_bytes(3, "big")
    target.write_bytes(head + b"".join(tags))
    return target
