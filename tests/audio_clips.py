"""Small synthetic waveforms, audio files and videos with audio, written when a test needs them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.clips import random_frames, write_clip


def tone(seconds: float, rate: int = 16000, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A sine: float32 [n]."""
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def chirps(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """A noisy rising tone of changing level, no two parts alike: float32 [n], at most 0.9."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * (300 * time + 150 * time**2)) + 0.3 * rng.standard_normal(len(time))
    return (0.25 * wave * (1 + 0.6 * np.sin(7 * time))).clip(-0.9, 0.9).astype(np.float32)


def write_audio(
    path: Path,
    waveform: np.ndarray,
    rate: int = 16000,
    codec: str = "pcm_s16le",
    layout: str | None = None,
    start: float = 0.0,
    gap: tuple[float, float] | None = None,
    video: dict | None = None,
    more_streams: tuple[np.ndarray, ...] = (),
    **container_options,
) -> Path:
    """Write an audio file, or a video with audio, and return its path.

    Args:
        waveform: float [n] or [channels, n].
        rate: sample rate (Hz).
        start: time of the first sample (s).
        gap: (time, length) in seconds: delay the samples after `time` by `length`.
        video: arguments of `_add_video`, for a video stream next to the audio.
        more_streams: waveforms of further audio streams.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {key: str(value) for key, value in container_options.items()}
    with av.open(str(path), "w", options=options) as container:
        write_video = _add_video(container, **video) if video else None
        streams = []
        for wave in (waveform, *more_streams):
            wave = np.atleast_2d(np.asarray(wave, np.float32))
            wave_layout = layout or {1: "mono", 2: "stereo", 6: "5.1"}[len(wave)]
            stream = container.add_stream(codec, rate=rate, layout=wave_layout)
            streams.append((stream, wave, wave_layout))
        if write_video:
            write_video()
        for stream, wave, wave_layout in streams:
            cut = wave.shape[1] if gap is None else round(gap[0] * rate)
            for first, part in ((0, wave[:, :cut]), (cut, wave[:, cut:])):
                delay = gap[1] if gap and first else 0.0
                size = stream.codec_context.frame_size or 1024
                for at in range(0, part.shape[1], size):
                    samples = np.ascontiguousarray(part[:, at : at + size])
                    frame = av.AudioFrame.from_ndarray(samples, "fltp", wave_layout)
                    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                    frame.pts = first + at + round((start + delay) * rate)
                    container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def write_six_streams(path: Path) -> Path:
    """Write an MP4 file with a video, audio and subtitle stream, twice, and return its path.

    Both videos have 75 frames at 25 per second and B-frames; they are 64 and 128 pixels wide. The
    audio streams are `chirps(3, 8000)` and, in stereo, `chirps(3, 16000, seed=1)`, as AAC.
    """
    videos = path.with_suffix(".videos.mp4")
    write_clip(videos, 75, options={"bf": "3", "g": "25"}, num_streams=2)
    audio = [path.with_suffix(f".{number}.m4a") for number in range(2)]
    write_audio(audio[0], chirps(3, 8000), 8000, "aac")
    write_audio(audio[1], np.stack([chirps(3, 16000, seed=1)] * 2), 16000, "aac")
    with (
        av.open(str(path), "w") as target,
        av.open(str(videos)) as video_source,
        av.open(str(audio[0])) as first_audio,
        av.open(str(audio[1])) as second_audio,
    ):
        copies, subtitles = [], []
        for number, audio_source in enumerate((first_audio, second_audio)):
            for source in (video_source.streams.video[number], audio_source.streams.audio[0]):
                copies.append((source, target.add_stream_from_template(source)))
            subtitles.append(target.add_stream("mov_text"))
            # The encoder of subtitles does not open without a header.
            subtitles[-1].codec_context.subtitle_header = b"[V4+ Styles]\nFormat: Name\n"
        for source, stream in copies:
            for packet in source.container.demux(source):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
            source.container.seek(0)
        for stream in subtitles:
            text = b"a line"
            packet = av.Packet(len(text).to_bytes(2, "big") + text)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 500
            packet.duration = 1000
            target.mux(packet)
    for part in (videos, *audio):
        part.unlink()
    return path


def _add_video(
    container,
    num_frames: int = 25,
    fps: int = 25,
    start: float = 0.0,
    codec: str = "mpeg4",
    pts=None,
    seed: int = 0,
):
    """Add a video stream and return the function that writes its frames.

    Args:
        start: time of the first frame (s).
        pts: timestamp of each frame (1 / fps s); None spaces them evenly.
        seed: of the frames.
    """
    stream = container.add_stream(codec, rate=fps)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.codec_context.time_base = Fraction(1, fps)

    def write() -> None:
        for number, image in enumerate(random_frames(num_frames, seed=seed)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = Fraction(1, fps)
            frame.pts = (pts[number] if pts else number) + round(start * fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return write
