"""Small sounds and videos with sound, made on the fly."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.clips import pictures


def tone(seconds: float, rate: int = 16000, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A sine, float32 [n]."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def chirps(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Noise whose level and colour change all the time, so that no two parts are alike: float32 [n] below 0.9."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    sound = np.sin(2 * np.pi * (300 * time + 150 * time**2)) + 0.3 * rng.standard_normal(len(time))
    return (0.25 * sound * (1 + 0.6 * np.sin(7 * time))).clip(-0.9, 0.9).astype(np.float32)


def write_sound(
    path: Path,
    sound: np.ndarray,
    rate: int = 16000,
    codec: str = "pcm_s16le",
    layout: str | None = None,
    start: float = 0.0,
    hole: tuple[float, float] | None = None,
    video: dict | None = None,
    others: tuple[np.ndarray, ...] = (),
    **container_options,
) -> Path:
    """Write an audio file, or a video with sound, and return its path.

    Args:
        sound: float [n] or [channels, n].
        start: time of the first sample (s).
        hole: (at, length), s: what comes after `at` is that much later.
        video: a picture besides: num_frames, fps, and `start` (s) of the first frame, codec, `pts` of each frame (1 / fps s).
        others: more audio streams, of the same form.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(
        str(path), "w", options={k: str(v) for k, v in container_options.items()}
    ) as container:
        picture = _picture(container, **video) if video else None
        streams = []
        for wave in (sound, *others):
            wave = np.atleast_2d(np.asarray(wave, np.float32))
            named = layout or {1: "mono", 2: "stereo", 6: "5.1"}[len(wave)]
            streams.append((container.add_stream(codec, rate=rate, layout=named), wave, named))
        if picture:
            picture()
        for stream, wave, named in streams:
            cut = wave.shape[1] if hole is None else round(hole[0] * rate)
            for first, part in ((0, wave[:, :cut]), (cut, wave[:, cut:])):
                late = hole[1] if hole and first else 0.0
                size = stream.codec_context.frame_size or 1024
                for at in range(0, part.shape[1], size):
                    frame = av.AudioFrame.from_ndarray(
                        np.ascontiguousarray(part[:, at : at + size]), "fltp", named
                    )
                    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                    frame.pts = first + at + round((start + late) * rate)
                    container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def _picture(
    container,
    num_frames: int = 25,
    fps: int = 25,
    start: float = 0.0,
    codec: str = "mpeg4",
    pts=None,
):
    stream = container.add_stream(codec, rate=fps)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.codec_context.time_base = Fraction(1, fps)

    def write() -> None:
        for number, image in enumerate(pictures(num_frames)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base, frame.pts = (
                Fraction(1, fps),
                (pts[number] if pts else number) + round(start * fps),
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return write
