"""Draw frames and synthesize audio of the demo clips, and encode them as video files."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

WIDTH, HEIGHT, FPS = 160, 120, 25  # px, px, frames per second
NUM_FRAMES = 40
SAMPLE_RATE = 16000  # Hz
# With B-frames, the macroblock-tree look-ahead of x264 gives other bytes in each run, even on one
# thread.
H264 = {
    "preset": "veryfast",
    "crf": "25",
    "g": "12",
    "bf": "2",
    "x264-params": "no-mbtree=1:rc-lookahead=0",
}
MOTIONS = ("falling", "resting", "rising", "swaying")
SOUNDS = ("beeps", "high_tone", "low_tone", "noise")


# --- frames --------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What an appearance class shows.

    Args:
        color: RGB.
        corners: of a polygon; 0 is a disc, 1 a ring.
    """

    color: tuple[int, int, int]
    corners: int


# (start points [n, 2], frame numbers [T]) -> points [T, n, 2], all as (x, y) in px.
Motion = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw(
    rng: np.random.Generator,
    num_frames: int,
    shape: Shape,
    background: tuple[int, int, int],
    motion: Motion,
) -> np.ndarray:
    """Draw shapes that move over a plain background and wrap around at its edges.

    Returns:
        uint8 [num_frames, HEIGHT, WIDTH, 3] RGB.
    """
    count = int(rng.integers(6, 10))
    points = motion(rng.uniform((0, 0), (WIDTH, HEIGHT), (count, 2)), np.arange(num_frames))
    sizes, angles = rng.uniform(9, 17, count), rng.uniform(0, 2 * np.pi, count)
    colors = np.clip(np.array(shape.color) + rng.integers(-25, 26, (count, 3)), 0, 255)
    # A random brightness gradient over the background.
    horizontal = np.linspace(-1, 1, WIDTH) * rng.uniform(-25, 25)
    vertical = np.linspace(-1, 1, HEIGHT)[:, None] * rng.uniform(-25, 25)
    gradient = (horizontal + vertical)[..., None]
    empty = np.clip(np.array(background) + rng.integers(-20, 21) + gradient, 0, 255)
    frames = np.repeat(empty.astype(np.uint8)[None], num_frames, 0)
    wraps = [(x, y) for x in (-WIDTH, 0, WIDTH) for y in (-HEIGHT, 0, HEIGHT)]
    for frame, centers in zip(frames, points % (WIDTH, HEIGHT), strict=True):
        shapes = zip(centers, sizes, angles, colors.tolist(), strict=True)
        for center, size, angle, color in shapes:
            for wrap in wraps:
                draw_shape(frame, center + wrap, size, angle, color, shape.corners)
    return frames


def draw_shape(
    frame: np.ndarray, center: np.ndarray, size: float, angle: float, color: list[int], corners: int
) -> None:
    """Draw one shape in place.

    Args:
        frame: uint8 [H, W, 3].
        center: (x, y) in px.
        size: radius (px).
        angle: rotation (radians).
        corners: as in `Shape`.
    """
    x, y = center
    if not (-size < x < WIDTH + size and -size < y < HEIGHT + size):
        return
    # OpenCV takes coordinates in units of 1/16 px here (shift 4), which makes slow motion smooth.
    if corners > 1:
        angles = angle + np.arange(corners) * 2 * np.pi / corners
        outline = center + size * 1.2 * np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(frame, [np.round(outline * 16).astype(np.int32)], color, cv2.LINE_AA, 4)
    else:
        scaled = (round(x * 16), round(y * 16))
        cv2.circle(frame, scaled, round(size * 16), color, 5 if corners else -1, cv2.LINE_AA, 4)


def random_drift(rng: np.random.Generator) -> Motion:
    """Return a slow motion in a random direction, the same for all shapes."""
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2.0)
    step = speed * np.array([np.cos(angle), np.sin(angle)])
    return lambda starts, times: starts + times[:, None, None] * step


def named_motion(name: str, rng: np.random.Generator) -> Motion:
    """Return the motion of a class in MOTIONS.

    Start points are uniform and the background wraps around, so single frames of all motions look
    alike.
    """
    speed = rng.uniform(1.5, 3.0)  # px per frame
    if name == "swaying":
        amplitude, period = rng.uniform(12, 20), rng.uniform(16, 24)  # px, frames
        phase = rng.uniform(0, 2 * np.pi)
        sideways = np.array([amplitude, 0.0])
        return lambda starts, times: (
            starts + np.sin(2 * np.pi * times / period + phase)[:, None, None] * sideways
        )
    velocity = {"falling": speed, "rising": -speed, "resting": 0.0}[name]
    return lambda starts, times: starts + times[:, None, None] * np.array([0.0, velocity])


# --- audio ---------------------------------------------------------------------------------------


def synthesize_audio(
    name: str, rng: np.random.Generator, seconds: float = NUM_FRAMES / FPS
) -> np.ndarray:
    """Generate the audio of a class in SOUNDS, or `hum`.

    Returns:
        float32 [seconds * SAMPLE_RATE] in -1 .. 1.
    """
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    volume = rng.uniform(0.15, 0.5)
    noise = np.clip(rng.standard_normal(len(time)) / 3, -1, 1)
    if name == "noise":
        return (volume * noise).astype(np.float32)
    lowest, highest = {
        "low_tone": (180, 320),
        "high_tone": (1400, 2600),
        "beeps": (500, 900),
        "hum": (60, 100),
    }[name]  # Hz
    frequency, phase = rng.uniform(lowest, highest), rng.uniform(0, 2 * np.pi)
    tone = np.sin(2 * np.pi * frequency * time + phase) + 0.3 * np.sin(4 * np.pi * frequency * time)
    if name == "beeps":
        tone *= (time * rng.uniform(4, 7) + rng.uniform()) % 1 < 0.5
    return (volume * (tone / 1.3 * 0.9 + 0.02 * noise)).astype(np.float32)


# --- video files ----------------------------------------------------------------------------------


def encode(
    path: Path,
    frames: np.ndarray,
    waveform: np.ndarray,
    video_codec: str,
    audio_codec: str,
    options: dict[str, str],
) -> None:
    """Encode a video with audio; the same input gives the same bytes.

    Args:
        frames: uint8 [T, H, W, 3] RGB, at FPS.
        waveform: float32 [n] in -1 .. 1, at SAMPLE_RATE.
        options: of the video codec; `qscale` sets a constant quality.
    """
    # One thread, because encoders on several threads may split a frame differently; no version
    # strings in the file.
    exact = {"threads": "1", "flags": "+bitexact"}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        video: Any = container.add_stream(video_codec, rate=FPS, options=options | exact)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        if "qscale" in options:
            video.codec_context.qscale = True
            # FFmpeg's unit of quality is 1 / 118 (FF_QP2LAMBDA).
            video.codec_context.global_quality = 118 * int(options["qscale"])
        audio: Any = container.add_stream(
            audio_codec, rate=SAMPLE_RATE, layout="mono", options=exact
        )
        if audio_codec == "aac":
            audio.bit_rate = 48000
        packets = []
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            packets += video.encode(frame)
        packets += video.encode(None)
        layout = "s16" if audio_codec.startswith("pcm_s16") else "fltp"
        samples = (waveform * 32767).astype(np.int16) if layout == "s16" else waveform
        chunk = av.AudioFrame.from_ndarray(samples[None], format=layout, layout="mono")
        chunk.sample_rate, chunk.pts, chunk.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        packets += audio.encode(chunk)
        packets += audio.encode(None)
        # Interleave by time, so that a player reads the file sequentially.
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
