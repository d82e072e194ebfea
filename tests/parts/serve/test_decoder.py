"""What a decoding process does with a file: limits by its header, playlists, frames."""

import os
import re
import struct
import wave

import cv2
import numpy as np
import pytest

from paddlevideo.data.pipeline import StageError
from paddlevideo.engine.build import load_config
from paddlevideo.predict.predictor import pipeline_for_any_input
from paddlevideo.sample import DecodeError, Record
from paddlevideo.serve.decoder import (
    FRAME_SIDE,
    MAX_FRAMES,
    Decoder,
    Job,
    LimitError,
    check_file,
    refusal,
)
from paddlevideo.serve.hostile import KINDS, hostile_request
from paddlevideo.serve.settings import Limits
from tests.clips import random_frames, write_clip

AUDIO = """
MODEL: {framework: AudioRecognizer, backbone: {name: ResNetAudio}, head: {name: TSNAudioHead}}
PIPELINE:
  test:
    decode: {name: LoadAudioFeature}
    sample: {name: SampleFrames, clip_len: 12, num_clips: 2, test_mode: True}
    transform:
      - AudioFeatureSelector: {fixed_length: 24}
      - FormatAudioShape: {input_format: NCTF}
model_name: audio
"""


@pytest.fixture(scope="module")
def pipeline(exported):
    return pipeline_for_any_input(exported.cfg)


def decode(pipeline, path, keep_frames=False, **limits):
    [decoded] = Decoder({"m": pipeline}, Limits(**limits))(Job("m", str(path), keep_frames))
    return decoded


def test_the_sample_is_that_of_the_pipeline(pipeline, exported):
    for path in exported.files:
        decoded = decode(pipeline, path)
        expected = pipeline(Record(path), np.random.default_rng(0))
        assert np.array_equal(np.asarray(decoded.sample["frames"]), np.asarray(expected["frames"]))
        assert decoded.duration and decoded.decode > 0 and decoded.frames == []


def test_frames_are_small_and_at_their_times(pipeline, tmp_path):
    images = random_frames(12, 180, 640)
    path = write_clip(tmp_path / "a.mp4", frames=images, height=180, width=640, fps=10)
    decoded = decode(pipeline, path, keep_frames=True)
    assert [time for time, _ in decoded.frames] == pytest.approx([0.3, 0.9])
    for (_, data), number in zip(decoded.frames, (3, 9), strict=True):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert max(image.shape) == FRAME_SIDE and image.shape[0] == 90
        expected = cv2.resize(images[number], (320, 90), interpolation=cv2.INTER_AREA)
        assert np.abs(image.astype(int) - expected).mean() < 8  # as JPEG and H.264 leave it


def test_at_most_32_frames(exported, tmp_path):
    cfg = load_config(
        exported.config, ["PIPELINE.test.sample.num_seg=50", "PIPELINE.test.sample.seg_len=1"]
    )
    path = write_clip(tmp_path / "a.mp4", 60)
    times = [t for t, _ in decode(pipeline_for_any_input(cfg), path, keep_frames=True).frames]
    assert len(times) == MAX_FRAMES and times == sorted(set(times))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"seconds": 0.3}, r"it is 0\.\d+ s long; this service takes up to 0\.3 s"),
        ({"pixels": 3071}, r"64x48 pixels; this service takes up to 0\.0 million"),
        ({"frames": 9}, "it has 10 frames or more"),
    ],
)
def test_limits(pipeline, tmp_path, limits, reason):
    path = write_clip(tmp_path / "a.mp4", 10)
    with pytest.raises((LimitError, StageError)) as error:
        decode(pipeline, path, **limits)
    text = refusal(error.value)
    assert text and re.search(reason, text) and not text.startswith("decode")
    assert decode(pipeline, path, seconds=0.5, pixels=3072, frames=10)


def test_a_header_that_lies_about_its_length(pipeline, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 50)
    data = bytearray(path.read_bytes())
    at = data.index(b"mvhd") + 4 + 12  # ticks in a second, and the duration in ticks
    ticks, duration = struct.unpack(">II", data[at : at + 8])
    assert 1.9 < duration / ticks < 2.1
    data[at + 4 : at + 8] = struct.pack(">I", ticks // 100)
    path.write_bytes(data)
    with pytest.raises((LimitError, StageError)) as error:
        decode(pipeline, path, seconds=1)
    assert "s long" in refusal(error.value)


def test_pixels_are_checked_before_anything_is_decoded(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 100, 3), np.uint8))
    avi = write_clip(tmp_path / "a.avi", 3, codec="mpeg4")
    for path in (tmp_path / "a.png", avi):
        with pytest.raises(LimitError, match="pixels"):
            check_file(str(path), Limits(pixels=1000))


@pytest.mark.parametrize("suffix", ["", ".mp4", ".ts", ".mkv", ".npy"])
def test_playlists_read_no_other_file(pipeline, tmp_path, suffix):
    """FFmpeg would read other files of the server for the client."""
    secret = write_clip(tmp_path / "secret.ts", 10, container_format="mpegts")
    texts = [
        f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile:{secret}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.ts\n",
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f'<?xml version="1.0"?><MPD><BaseURL>file:{secret}</BaseURL></MPD>',
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nm=video 1 RTP/AVP 96\na=control:{secret}\n",
    ]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}-upload{suffix}"
        path.write_text(text)
        with pytest.raises((DecodeError, StageError)) as error:
            decode(pipeline, path, keep_frames=True)
        assert refusal(error.value)


def test_audio(tmp_path):
    (tmp_path / "audio.yaml").write_text(AUDIO)
    pipeline = pipeline_for_any_input(load_config(tmp_path / "audio.yaml"))
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
        noise = np.random.default_rng(0).integers(-9000, 9000, 32000, np.int16)
        file.writeframes(noise.tobytes())
    decoded = decode(pipeline, tmp_path / "a.wav", keep_frames=True)
    assert decoded.sample["audio"].shape[1] == 1 and decoded.frames == []
    assert decoded.duration == pytest.approx(2.0) and decoded.decode > 0
    os.rename(tmp_path / "a.wav", tmp_path / "without")  # as base64 gives no name
    assert decode(pipeline, tmp_path / "without").sample["audio"].shape == (
        decoded.sample["audio"].shape
    )
    np.save(tmp_path / "b.npy", np.ones((60, 80), np.float32))
    assert decode(pipeline, tmp_path / "b.npy").duration is None
    with pytest.raises(LimitError, match="2.0 s long"):
        decode(pipeline, tmp_path / "without", seconds=1)


def test_damage_anywhere_is_a_refusal_or_a_result(pipeline, tmp_path):
    good = write_clip(tmp_path / "good.mp4", 30, title="a title").read_bytes()
    rng = np.random.default_rng(0)
    codes = [hostile_request(good, number, rng) for number in range(2 * len(KINDS))]
    assert len({body for body, _ in codes}) > len(KINDS)
    files = [kind(good, rng) for kind in KINDS for _ in range(6)]
    for number, data in enumerate(each for each in files if isinstance(each, bytes)):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        try:
            decode(pipeline, path)
        except Exception as error:
            assert refusal(error), f"{number}: {error!r}"


def test_metadata_in_any_encoding(pipeline, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 10, title="a title")
    path.write_bytes(path.read_bytes().replace(b"a title", b"a t\xff\xfele"))
    assert decode(pipeline, path).duration


def test_only_the_fault_of_a_file_is_a_refusal():
    assert refusal(ZeroDivisionError("x")) is None
    assert refusal(OSError("x")) is None
    assert refusal(DecodeError("x")) == "decode: x"
    assert refusal(StageError("Scale", "x")) == "Scale: x"
    assert "memory" in refusal(MemoryError())
