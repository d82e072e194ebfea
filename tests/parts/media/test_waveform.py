"""read_waveform: scale, codecs, parts of a file, backends and errors."""

import builtins
import io
import shutil
import struct
import subprocess
import wave as wav

import av
import numpy as np
import pytest

from paddlevideo.media import audio_reader
from paddlevideo.media.waveform import NoAudioError, open_audio, read_waveform
from paddlevideo.remote import access
from paddlevideo.sample import DecodeError
from tests.audio_clips import chirps, tone, write_audio, write_six_streams
from tests.clips import write_clip

VIDEO = {"num_frames": 150}
# name: codec, sample rate, video stream, largest error
LOSSLESS = {
    "s16.wav": ("pcm_s16le", 16000, None, 2**-15),
    "u8.wav": ("pcm_u8", 16000, None, 2**-7),
    "s24.wav": ("pcm_s24le", 16000, None, 2**-23),
    "s32.wav": ("pcm_s32le", 16000, None, 2**-23),
    "f32.wav": ("pcm_f32le", 16000, None, 2**-23),
    "f64.wav": ("pcm_f64le", 16000, None, 2**-23),
    "a.flac": ("flac", 16000, None, 2**-15),
    "pcm.avi": ("pcm_s16le", 16000, VIDEO, 2**-15),
    "pcm.mov": ("pcm_s16le", 48000, VIDEO, 2**-15),
    "pcm.mkv": ("pcm_s16le", 44100, VIDEO, 2**-15),
}
# name: codec, sample rate, video stream
LOSSY = {
    "a.mp3": ("libmp3lame", 44100, None),
    "a.m4a": ("aac", 16000, None),
    "a.opus": ("libopus", 48000, None),
    "aac.mp4": ("aac", 16000, VIDEO),
    "aac.mkv": ("aac", 16000, VIDEO),
    "aac.ts": ("aac", 16000, {**VIDEO, "codec": "mpeg2video"}),
    "mp3.avi": ("libmp3lame", 44100, VIDEO),
    "opus.webm": ("libopus", 48000, {**VIDEO, "codec": "libvpx"}),
}
ALL_FILES = {name: case[:3] for name, case in LOSSLESS.items()} | LOSSY


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    for name, (codec, rate, video) in ALL_FILES.items():
        if codec in av.codecs_available:
            write_audio(folder / name, chirps(6, rate), rate, codec, video=video)
    return folder


def path_of(files, name) -> str:
    """Return the path of a test file; skip the test where PyAV cannot write it."""
    if not (files / name).exists():
        pytest.skip(f"this PyAV cannot write {ALL_FILES[name][0]}")
    return str(files / name)


@pytest.mark.parametrize("name", LOSSLESS)
def test_scales_stored_formats_to_one(files, name):
    _, rate, _, tolerance = LOSSLESS[name]
    wave = read_waveform(path_of(files, name), rate)
    assert wave.dtype == np.float32 and wave.shape == (6 * rate,)
    assert np.abs(wave - chirps(6, rate)).max() <= tolerance


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_codecs_keep_level_and_time(files, name):
    rate = LOSSY[name][1]
    expected = chirps(6, rate)
    wave = read_waveform(path_of(files, name), rate)[: 6 * rate]
    assert 0.9 < np.sqrt(np.square(wave).mean() / np.square(expected).mean()) < 1.02
    spectrum = np.fft.rfft(wave, 12 * rate) * np.conj(np.fft.rfft(expected, 12 * rate))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    # An avi cannot store the mp3 encoder's delay of 1105 samples.
    assert lag == (1105 if name == "mp3.avi" else 0)


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("name", ALL_FILES)
def test_a_part_equals_that_of_the_complete_file(files, name, rate):
    path = path_of(files, name)
    complete = read_waveform(path, rate)
    random_spans = np.sort(np.random.default_rng(0).uniform(0, 5.9, (2, 6)), axis=0)
    for start, end in [(0.0, 1.0), (0.4, None), *random_spans.T.tolist()]:
        part = read_waveform(path, rate, start, end)
        first = round(start * rate)
        last = None if end is None else max(first + 1, round(end * rate))
        expected = complete[first:last]
        assert part.shape == expected.shape, (start, end)
        # The resampling windows of a part begin where those of the complete file do.
        assert np.abs(part - expected).max() < 1e-6, (start, end)


def test_decodes_only_the_part(tmp_path, monkeypatch):
    path = write_audio(
        tmp_path / "long.mp4", chirps(60), codec="aac", video={"num_frames": 60, "fps": 1}
    )
    counted, to_float = [], audio_reader.to_float

    def count(frame):
        counted.append(1)
        return to_float(frame)

    monkeypatch.setattr(audio_reader, "to_float", count)
    assert len(read_waveform(str(path), start_sec=50, end_sec=51)) == 16000
    assert len(counted) < 40  # of 938 frames
    counted.clear()
    read_waveform(str(path), end_sec=1)
    assert len(counted) < 20


def test_reads_silence_as_zeros(tmp_path):
    path = write_audio(tmp_path / "silent.mp4", np.zeros(16000), codec="aac", video={})
    wave = read_waveform(str(path))
    assert len(wave) >= 16000 and not wave.any()


def test_reads_one_sample(tmp_path):
    path = write_audio(tmp_path / "one.wav", np.array([0.5]))
    assert read_waveform(str(path)).tolist() == [0.5]
    path = write_audio(tmp_path / "one44.wav", np.array([0.5]), 44100)
    assert len(read_waveform(str(path))) == 1


def test_reports_missing_audio(tmp_path):
    with pytest.raises(NoAudioError, match="^no audio stream in it$"):
        read_waveform(str(write_clip(tmp_path / "mute.mp4")))
    path = str(
        write_audio(
            tmp_path / "short.mp4", tone(1), codec="aac", start=1.0, video={"num_frames": 100}
        )
    )
    for span, reason in (
        ((3, 3.5), r"no audio between 3 s and 3.5 s; the nearest is at .* 2.0\d\d s"),
        ((0, 0.5), r"no audio between 0 s and 0.5 s; the nearest is at 0.936"),
        ((9, None), "no audio between 9 s and the end"),
    ):
        with pytest.raises(NoAudioError, match=reason):
            read_waveform(path, 16000, *span)
    with wav.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(NoAudioError, match="^its audio stream is empty$"):
        read_waveform(str(tmp_path / "empty.wav"))


def test_names_the_problem_of_a_broken_file(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("not audio at all\n" * 100)
    broken = {
        "empty.wav": "empty",
        "text.mp3": "no known|text file|damaged",
        "none.wav": "no such file",
        "": "a folder",
    }
    for name, reason in broken.items():
        with pytest.raises(DecodeError, match=reason) as error:
            read_waveform(str(tmp_path / name))
        assert not isinstance(error.value, NoAudioError)


@pytest.mark.parametrize(
    "arguments",
    [{"sample_rate": 0}, {"start_sec": -1.0}, {"start_sec": 2.0, "end_sec": 2.0}, {"end_sec": 0.0}],
)
def test_rejects_an_invalid_rate_or_span(arguments):
    with pytest.raises(ValueError, match="expected a rate of at least 1 and 0 <= start < end"):
        read_waveform("any.wav", **arguments)


# --- libsndfile and soxr --------------------------------------------------------------------------


def test_soundfile_reads_the_same_waveform(files, tmp_path):
    pytest.importorskip("soundfile", reason="the extra 'audio' is not installed")
    pytest.importorskip("soxr", reason="the extra 'audio' is not installed")
    for name in ("s16.wav", "u8.wav", "f32.wav", "a.flac"):
        path = str(files / name)
        assert np.array_equal(read_waveform(path), read_waveform(path, backend="soundfile")), name
        part = read_waveform(path, start_sec=1.1, end_sec=2.3, backend="soundfile")
        assert np.array_equal(part, read_waveform(path, start_sec=1.1, end_sec=2.3))
    for path in (path_of(files, "a.mp3"), str(files / "pcm.mov")):
        a, b = read_waveform(path), read_waveform(path, backend="soundfile")
        a, b = (wave[200:90000].astype(np.float64) for wave in (a, b))
        # The two resampling filters differ where both fade out, above 7.4 kHz.
        assert np.square(a - b).mean() < 1e-4 * np.square(a).mean(), path
    with pytest.raises(NoAudioError, match="nearest is at 0.000 .. 6.000 s"):
        read_waveform(str(files / "s16.wav"), start_sec=7, backend="soundfile")
    with pytest.raises(DecodeError, match="no such file"):
        read_waveform(str(files / "none.wav"), backend="soundfile")
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(DecodeError, match="a folder, not an audio file"):
        read_waveform(str(tmp_path / "folder.wav"), backend="soundfile")


@pytest.mark.parametrize("num_answers", [0, 1, 2])
def test_a_connection_that_breaks_does_not_shorten_the_audio(server, num_answers, capfd):
    pytest.importorskip("soundfile", reason="the extra 'audio' is not installed")
    content = io.BytesIO()
    with wav.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.random.default_rng(0).bytes(4_000_000))
    server.files["/a.wav"] = content.getvalue()
    assert len(read_waveform(f"{server.url}/a.wav", backend="soundfile")) == 2_000_000
    server.etag, server.plan = '"2"', [""] * num_answers + [500] * 9
    access.forget(f"{server.url}/a.wav")
    with pytest.raises(DecodeError, match="^the server answered 500$"):
        read_waveform(f"{server.url}/a.wav", backend="soundfile")
    assert "Traceback" not in capfd.readouterr().err


def test_soundfile_backend_names_the_packages_to_install(files, monkeypatch):
    real_import = builtins.__import__

    def import_without(name, *args, **kwargs):
        if name in ("soundfile", "soxr"):
            raise ImportError(f"No module named '{name}'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_without)
    reason = "backend soundfile needs soundfile and soxr .*: pip install soundfile soxr"
    for name in ("s16.wav", "pcm.mov"):
        with pytest.raises(ValueError, match=reason):
            read_waveform(str(files / name), backend="soundfile")


# --- files with several streams -------------------------------------------------------------------


def test_reads_audio_next_to_other_streams(tmp_path):
    path = str(write_six_streams(tmp_path / "six.mp4"))
    for stream, expected in enumerate((chirps(3, 8000), chirps(3, 16000, seed=1))):
        complete = read_waveform(path, stream=stream)
        assert 3 <= len(complete) / 16000 < 3.1  # AAC pads the last packet
        level = np.sqrt(np.square(complete).mean())
        assert level == pytest.approx(np.sqrt(np.square(expected).mean()), rel=0.1)
        part = read_waveform(path, start_sec=1.1, end_sec=1.9, stream=stream)
        assert np.abs(part - complete[17600:30400]).max() < 1e-6
    with open_audio(path, 1) as audio:
        assert (audio.sample_rate, audio.num_channels) == (16000, 2)


@pytest.mark.parametrize(
    ("name", "options"), [("b_frames.mp4", {"options": {"bf": "3"}}), ("a.mov", {"rotation": -90})]
)
def test_reports_videos_without_audio(tmp_path, name, options):
    with pytest.raises(NoAudioError, match="no audio stream"):
        read_waveform(str(write_clip(tmp_path / name, **options)))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="the ffmpeg command is not installed")
def test_ffmpeg_decodes_the_same_waveform(files, tmp_path):
    """The command may be another build, which rounds the sums of a lossy codec in its own way."""
    # For AAC one step of 16 bits; FFmpeg 5.1 and PyAV 18.1 differ by 2.4e-7.
    for name, tolerance in (("a.flac", 0.0), ("pcm.mov", 0.0), ("aac.mp4", 2**-15)):
        rate, target = ALL_FILES[name][1], tmp_path / f"{name}.wav"
        command = ["ffmpeg", "-v", "error", "-i", path_of(files, name), "-c:a", "pcm_f32le"]
        subprocess.run([*command, str(target)], check=True)
        found = read_waveform(path_of(files, name), rate)
        expected = read_waveform(str(target), rate)
        if name == "aac.mp4":
            # Newer FFmpeg leaves out the padding of the last packet, as the file says.
            assert 6 * rate <= len(found) <= len(expected) < 6 * rate + 1024
            expected = expected[: len(found)]
        assert found.shape == expected.shape, name
        assert np.abs(found - expected).max() <= tolerance, name


def write_float_wav(path, samples):
    size = samples.itemsize
    header = struct.pack("<IHHIIHH", 16, 3, 1, 16000, 16000 * size, size, 8 * size)
    body = b"WAVEfmt " + header + b"data" + struct.pack("<I", samples.nbytes) + samples.tobytes()
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return str(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e29])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("backend", ["pyav", "soundfile"])
def test_rejects_samples_that_no_recording_has(tmp_path, value, dtype, backend):
    if backend == "soundfile":
        pytest.importorskip("soundfile")
        pytest.importorskip("soxr")
    samples = np.zeros(16000, dtype)
    samples[12000] = value
    path = write_float_wav(tmp_path / "a.wav", samples)
    for rate in (16000, 8000):
        with pytest.raises(DecodeError, match="the audio sample at 0.750 s is .*, expected a num"):
            read_waveform(path, rate, backend=backend)
    assert not read_waveform(path, 16000, 0, 0.5, backend=backend).any()


def test_keeps_float_samples_of_other_scales(tmp_path):
    """Some tools write the numbers of 16 bits as floats."""
    samples = (np.sin(np.arange(1600)) * 32768).astype("<f4")
    path = write_float_wav(tmp_path / "a.wav", samples)
    np.testing.assert_array_equal(read_waveform(path, 16000), samples)
