"""Small synthetic videos, written when a test needs them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

AUDIO_RATE = 16000  # Hz

# Containers, codecs and structures of videos: {name: arguments of `write_clip`}.
VARIABLE_RATE = np.cumsum(np.random.default_rng(1).integers(20, 4000, 60)).tolist()
OPEN_GOP = {"bf": "3", "x264-params": "keyint=12:open-gop=1:b-adapt=0:scenecut=0"}
SHORT_GOP = {"bf": "2", "g": "10"}
CASES = {
    "b_pyramid.mp4": {
        "options": {"bf": "3", "g": "12", "x264-params": "b-pyramid=normal:b-adapt=0"}
    },
    "long_group.mp4": {"num_frames": 90, "options": {"bf": "3", "g": "250"}},
    "open_group.mp4": {"num_frames": 60, "options": OPEN_GOP},
    "open_group.mkv": {"num_frames": 60, "options": OPEN_GOP},
    "open_group.ts": {"num_frames": 60, "options": OPEN_GOP},
    "open_group_hevc.mp4": {
        "codec": "libx265",
        "num_frames": 50,
        "options": {
            "x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=4:log-level=none:pools=1"
        },
    },
    "intra_refresh.mp4": {
        "num_frames": 60,
        "options": {"x264-params": "intra-refresh=1:keyint=20"},
    },
    "variable_rate.mp4": {"num_frames": 60, "pts": VARIABLE_RATE, "options": SHORT_GOP},
    "variable_rate.mkv": {"num_frames": 60, "pts": VARIABLE_RATE, "options": SHORT_GOP},
    "late_start.mp4": {"pts": [100_000 + 1000 * i for i in range(30)], "options": SHORT_GOP},
    # An edit list cuts off the frames before time 0, in the middle of a group of pictures.
    "edit_list.mp4": {
        "pts": [1000 * i - 7000 for i in range(30)],
        "container_options": {"avoid_negative_ts": "disabled"},
    },
    "fragments.mp4": {
        "options": SHORT_GOP,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "mpeg2.mpg": {"codec": "mpeg2video", "options": SHORT_GOP},
    "reordered.avi": {"codec": "mpeg4", "options": SHORT_GOP},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "10"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "no_time_stamps.h264": {"options": SHORT_GOP},
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
    },
    "hidden_frames_vp8.webm": {
        "codec": "libvpx",
        "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"},
    },
    "rotated.mp4": {"rotation": 90},
    "ten_bits.mkv": {"pixel_format": "yuv420p10le"},
    "odd_size.mkv": {"pixel_format": "yuv444p", "height": 47, "width": 63},
    "one_frame.mp4": {"num_frames": 1},
    "with_audio.mov": {"options": SHORT_GOP, "tone": 440.0},
}


def random_frames(num_frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A drifting random texture: uint8 [num_frames, height, width, 3]; no two frames are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 4, width // 8 + 4, 3), np.uint8)
    texture = cv2.resize(coarse, (width * 2, height * 2))
    frames = [
        np.roll(texture, (number * 2, number * 3), (0, 1))[:height, :width]
        for number in range(num_frames)
    ]
    for number, frame in enumerate(frames):
        frame[:8, :8] = number * 37 % 256
    return np.stack(frames)


def write_clip(
    path: Path,
    num_frames: int = 30,
    height: int = 48,
    width: int = 64,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    frames: np.ndarray | None = None,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    num_streams: int = 1,
    tone: float | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    title: str = "",
) -> Path:
    """Write a video file and return its path.

    Args:
        options: options of the video codec.
        pts: timestamp of each frame in units of 1 / (fps * 1000) s; None spaces them evenly from 0.
        frames: uint8 [T, H, W, 3] RGB to write instead of `random_frames`.
        rotation: display rotation (degrees, counter-clockwise).
        num_streams: number of video streams; the second has different frames of twice the width.
        tone: frequency (Hz) of a sine to add as an AAC stream.
        title: metadata of the file; FFmpeg writes none if it is empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(
        str(path), "w", format=container_format, options=container_options or {}
    ) as container:
        container.metadata["title"] = title
        streams = []
        for number in range(num_streams):
            stream = container.add_stream(
                codec, rate=fps, options={"threads": "1"} | (options or {})
            )
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width, stream.pix_fmt = height, width * (number + 1), pixel_format
            # The old codecs count timestamps in whole frames.
            unit = 1 if codec in ("mpeg4", "mpeg2video", "mjpeg") else 1000
            stream.codec_context.time_base = Fraction(1, fps * unit)
            if rotation:
                stream.set_display_rotation(rotation)
            if frames is None or number:
                images = random_frames(num_frames, height, stream.width, seed=number)
            else:
                images = frames
            streams.append((stream, images, unit))
        audio = container.add_stream("aac", rate=AUDIO_RATE, layout="mono") if tone else None
        for stream, images, unit in streams:
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.time_base = Fraction(1, fps * unit)
                frame.pts = number * unit if pts is None else pts[number]
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if tone:
            _write_tone(container, audio, tone, AUDIO_RATE * num_frames // fps)
    return path


def add_junk(stream: Path, path: Path, size: int = 300_000) -> Path:
    """Copy a transport stream with bytes that are no packets in its middle; return the copy.

    They are between two packets: FFmpeg ends a packet where they begin.
    """
    with av.open(str(stream)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.pos]
    data, middle = stream.read_bytes(), starts[len(starts) // 2]
    path.write_bytes(data[:middle] + bytes(size) + data[middle:])
    return path


def write_plain_clips(folder: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """Write 12 train, 6 val and 7 test clips of 3 classes: red, green and blue of any brightness.

    A frame has one color, so a linear model separates the classes with a wide margin.

    Args:
        names: the classes, in that order.

    Returns:
        the files of each split, in `<split>/<class>/`.
    """
    files: dict[str, list[Path]] = {}
    for split, count in (("train", 12), ("val", 6), ("test", 7)):
        rng = np.random.default_rng(count)
        for number in range(count):
            frames = np.zeros((8, 40, 56, 3), np.uint8)
            frames += rng.integers(20, 60, (8, 1, 1, 3), np.uint8)
            frames[..., number % 3] += 160
            path = folder / split / names[number % 3] / f"{number}.mp4"
            files.setdefault(split, []).append(write_clip(path, frames=frames, height=40, width=56))
    return files


def _write_tone(container, stream, hertz: float, num_samples: int) -> None:
    time = np.arange(num_samples) / AUDIO_RATE
    waveform = (np.sin(2 * np.pi * hertz * time) * 0.5).astype(np.float32)[None]
    chunk = av.AudioFrame.from_ndarray(waveform, format="fltp", layout="mono")
    chunk.sample_rate, chunk.pts = AUDIO_RATE, 0
    container.mux(stream.encode(chunk))
    container.mux(stream.encode(None))
