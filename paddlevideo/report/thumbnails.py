"""What a page shows of a clip: three frames or a spectrogram as a JPEG, and a short audio file.

All of it is inside the HTML, as data URLs.
"""

import base64
import io
import wave as wave_files
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from paddlevideo.array_files import ArrayFileError, open_npy
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.media.log_mel import DecibelMel
from paddlevideo.media.waveform import read_waveform, resample
from paddlevideo.sample import DecodeError, Record

NUM_FRAMES = 3
HEIGHT = 84  # pixels
MAX_WIDTH = 160  # pixels of one frame
JPEG_QUALITY = 72
SAMPLE_RATE = 16000  # Hz, of a spectrogram
PLAYER_RATE = 8000  # Hz, of the audio inside a page: 16 kB per second
MAX_SECONDS = 4.0  # of the audio of a clip
NUM_STEPS = 250  # time steps of a spectrogram; shorter clips have smaller steps
RECORD_KEYS = ("num_frames", "start_sec", "end_sec", "frame_pattern")


def thumbnail(row: Mapping[str, Any], path: str) -> bytes:
    """Return a JPEG of NUM_FRAMES frames, evenly spaced over the clip.

    Args:
        row: a clip of valid_best.json, which holds the fields of its record.
        path: where its file is.

    Raises:
        DecodeError: it has no frames, or they cannot be decoded.
    """
    if row.get("offset") is not None:
        raise DecodeError("features have no frames")
    known = {key: row[key] for key in RECORD_KEYS if row.get(key) is not None}
    record = Record(path, **known)
    decoder = FrameDecoder() if record.frame_pattern else VideoDecoder()
    with decoder.open(record) as clip:
        indices = ((np.arange(NUM_FRAMES) + 0.5) * clip.num_frames / NUM_FRAMES).astype(np.int64)
        frames = clip.read(indices, each=shrink)
    return to_jpeg(cv2.cvtColor(np.hstack(list(frames)), cv2.COLOR_RGB2BGR))


def to_jpeg(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] BGR as a JPEG file."""
    success, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not success:
        raise DecodeError("its frames cannot be encoded as JPEG")
    return jpeg.tobytes()


def shrink(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> [HEIGHT, w, 3] with the same aspect ratio, at most MAX_WIDTH wide."""
    height, width = frame.shape[:2]
    width = min(MAX_WIDTH, max(8, round(width * HEIGHT / height)))
    return cv2.resize(frame, (width, HEIGHT), interpolation=cv2.INTER_AREA)


def data_url(jpeg: bytes) -> str:
    """Return the `src` of an <img> that contains the image itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


# --- audio --------------------------------------------------------------------------------------


def audio_excerpt(row: Mapping[str, Any], path: str) -> tuple[np.ndarray, float]:
    """Return the first MAX_SECONDS of the audio of a clip.

    Args:
        row: a clip of valid_best.json.
        path: where its file is, an audio file or a video.

    Returns:
        (waveform float32 [n] at SAMPLE_RATE, second of the file at which it begins).

    Raises:
        DecodeError: it has no audio, or a damaged one.
    """
    start = float(row.get("start_sec") or 0)
    end = min(float(row.get("end_sec") or np.inf), start + MAX_SECONDS)
    return read_waveform(path, SAMPLE_RATE, start, end), start


def spectrogram(wave: np.ndarray) -> bytes:
    """A log-mel spectrogram of a waveform [n] at SAMPLE_RATE as a JPEG; low frequencies below."""
    hop = next((hop for hop in (64, 128) if len(wave) < NUM_STEPS * hop), 256)
    return mel_image(DecibelMel(SAMPLE_RATE, hop_length=hop)(wave))


def feature_image(path: str) -> bytes:
    """A JPEG of the log-mel feature in a `.npy` file.

    Raises:
        DecodeError: the file is no array of [time steps, mel bins].
    """
    try:
        feature = np.array(open_npy(path), np.float64)
    except (ArrayFileError, TypeError, ValueError) as error:
        raise DecodeError(f"not a NumPy feature, or truncated ({error})") from error
    if feature.ndim != 2 or not feature.size or not np.isfinite(feature).all():
        raise DecodeError(f"the feature is {list(feature.shape)}, expected [time steps, mel bins]")
    low, high = feature.min(), feature.max()
    return mel_image((feature - low) / max(high - low, 1e-6))


def mel_image(feature: np.ndarray) -> bytes:
    """[time steps, mel bins] in 0 .. 1 as a JPEG of the size of a thumbnail."""
    gray = np.ascontiguousarray((255 * feature.T[::-1]).astype(np.uint8))
    gray = cv2.resize(gray, (NUM_FRAMES * MAX_WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    return to_jpeg(cv2.applyColorMap(gray, cv2.COLORMAP_VIRIDIS))


def player_url(wave: np.ndarray) -> tuple[str, float]:
    """Return the `src` of an <audio>, a WAV file of 16 bits, and its length in seconds."""
    wave = resample(wave, SAMPLE_RATE, PLAYER_RATE)
    samples = (32767 * np.clip(wave, -1, 1)).astype("<i2")
    with io.BytesIO() as buffer:
        with wave_files.open(buffer, "wb") as file:
            file.setparams((1, 2, PLAYER_RATE, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:audio/wav;base64,{encoded}", len(samples) / PLAYER_RATE
