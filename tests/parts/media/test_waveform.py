"""Waveforms: full scale, mean of the channels, the video's clock, parts equal to the whole, and what is wrong is said."""

import builtins
import shutil
import subprocess
import sys
import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from paddlevideo.data.audio_pipeline import video_length
from paddlevideo.media import waveform
from paddlevideo.media.waveform import NoAudioError, open_audio, read_waveform, resample
from paddlevideo.sample import DecodeError
from tests.audio_clips import chirps, tone, write_audio
from tests.clips import write_clip

PICTURE = {"num_frames": 150}
# name: codec, rate, picture; those that lose nothing first
LOSSLESS = {
    "s16.wav": ("pcm_s16le", 16000, None, 2**-15),
    "u8.wav": ("pcm_u8", 16000, None, 2**-7),
    "s24.wav": ("pcm_s24le", 16000, None, 2**-23),
    "s32.wav": ("pcm_s32le", 16000, None, 2**-23),
    "f32.wav": ("pcm_f32le", 16000, None, 2**-23),
    "f64.wav": ("pcm_f64le", 16000, None, 2**-23),
    "a.flac": ("flac", 16000, None, 2**-15),
    "pcm.avi": ("pcm_s16le", 16000, PICTURE, 2**-15),
    "pcm.mov": ("pcm_s16le", 48000, PICTURE, 2**-15),
    "pcm.mkv": ("pcm_s16le", 44100, PICTURE, 2**-15),
}
LOSSY = {
    "a.mp3": ("libmp3lame", 44100, None),
    "a.m4a": ("aac", 16000, None),
    "a.opus": ("libopus", 48000, None),
    "aac.mp4": ("aac", 16000, PICTURE),
    "aac.mkv": ("aac", 16000, PICTURE),
    "aac.ts": ("aac", 16000, {**PICTURE, "codec": "mpeg2video"}),
    "mp3.avi": ("libmp3lame", 44100, PICTURE),
    "opus.webm": ("libopus", 48000, {**PICTURE, "codec": "libvpx"}),
}
EVERY = {name: case[:3] for name, case in LOSSLESS.items()} | LOSSY


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for name, (codec, rate, picture) in EVERY.items():
        if codec in av.codecs_available:
            write_audio(folder / name, chirps(6, rate), rate, codec, video=picture)
    return folder


def found(files, name) -> str:
    if not (files / name).exists():
        pytest.skip(f"this PyAV cannot write {EVERY[name][0]}")
    return str(files / name)


@pytest.mark.parametrize("name", LOSSLESS)
def test_stored_formats_are_scaled_to_one(files, name):
    _, rate, _, step = LOSSLESS[name]
    sound = read_waveform(found(files, name), rate)
    assert sound.dtype == np.float32 and sound.shape == (6 * rate,)
    assert np.abs(sound - chirps(6, rate)).max() <= step


@pytest.mark.parametrize("name", LOSSY)
def test_codecs_keep_level_and_time(files, name):
    rate = LOSSY[name][1]
    sound, wanted = read_waveform(found(files, name), rate)[: 6 * rate], chirps(6, rate)
    assert 0.9 < np.sqrt(np.square(sound).mean() / np.square(wanted).mean()) < 1.02
    spectrum = np.fft.rfft(sound, 12 * rate) * np.conj(np.fft.rfft(wanted, 12 * rate))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    # An avi cannot say that the mp3 coder begins 1105 samples late.
    assert lag == (1105 if name == "mp3.avi" else 0)


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("name", EVERY)
def test_a_part_equals_that_of_the_whole(files, name, rate):
    path = found(files, name)
    whole = read_waveform(path, rate)
    rng = np.random.default_rng(0)
    spans = [
        (0.0, 1.0),
        (0.4, None),
        *zip(*np.sort(rng.uniform(0, 5.9, (2, 6)), axis=0), strict=True),
    ]
    for start, end in spans:
        part = read_waveform(path, rate, start, end)
        first = round(start * rate)
        wanted = whole[first : None if end is None else max(first + 1, round(end * rate))]
        assert part.shape == wanted.shape, (start, end)
        # Windows of a resampled part lie where those of the whole do.
        assert np.abs(part - wanted).max() < 1e-6, (start, end)


def test_only_the_part_is_decoded(tmp_path, monkeypatch):
    path = write_audio(
        tmp_path / "long.mp4", chirps(60), codec="aac", video={"num_frames": 60, "fps": 1}
    )
    counted, to_float = [], waveform.to_float
    monkeypatch.setattr(waveform, "to_float", lambda frame: counted.append(1) or to_float(frame))
    assert len(read_waveform(str(path), start_sec=50, end_sec=51)) == 16000
    assert len(counted) < 40  # of 938
    counted.clear()
    read_waveform(str(path), end_sec=1)
    assert len(counted) < 20


# --- channels, rates -------------------------------------------------------------------------------------------------


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([tone(1, level=0.8), np.zeros(16000, np.float32)])
    sound = read_waveform(str(write_audio(tmp_path / "stereo.wav", stereo)))
    assert np.abs(sound - stereo[0] / 2).max() < 2**-15  # 0.707 of it where libswresample mixes
    six = np.stack([tone(1, hertz=100 * (n + 1), level=0.1 * (n + 1)) for n in range(6)])
    for name, codec in (("six.wav", "pcm_s16le"), ("six.flac", "flac")):
        sound = read_waveform(str(write_audio(tmp_path / name, six, codec=codec)))
        assert np.abs(sound - six.mean(axis=0)).max() < 2**-15, name
    sound = read_waveform(
        str(write_audio(tmp_path / "six.mp4", np.tile(tone(2), (6, 1)), codec="aac"))
    )
    assert (
        abs(sound[8000:16000].max() - 0.5 * 5 / 6) < 0.01
    )  # AAC's sixth channel carries only what is below 120 Hz


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling(rate):
    for hertz in (100, 1000, 3300, 7200):
        if hertz < 0.45 * rate:
            wanted = tone(2, 16000, hertz)
            got = resample(tone(2, rate, hertz), rate, 16000)
            assert abs(len(got) - len(wanted)) <= 1
            assert np.abs(got[2000:30000] - wanted[2000:30000]).max() < 1e-5, hertz
    for hertz in (8400, 12000):  # would come back as lower tones
        if hertz < rate / 2:
            assert np.abs(resample(tone(2, rate, hertz), rate, 16000)[2000:30000]).max() < 1e-5, (
                hertz
            )


def test_sound_of_telephone_and_studio(tmp_path):
    for rate in (8000, 48000):
        sound = read_waveform(str(write_audio(tmp_path / f"{rate}.wav", tone(2, rate), rate)))
        assert len(sound) == 32000 and np.abs(sound - tone(2))[2000:30000].max() < 1e-4


def test_long_sounds_are_resampled_in_pieces(monkeypatch):
    sound = chirps(3, 44100)
    whole = resample(sound, 44100, 16000)
    monkeypatch.setattr(waveform, "PUSH", 10_000)
    assert np.array_equal(resample(sound, 44100, 16000), whole)


# --- the video's clock -----------------------------------------------------------------------------------------------


def onset(sound: np.ndarray) -> float:
    return float(np.argmax(np.abs(sound) > 0.1)) / 16000


def test_second_0_is_the_first_frame(tmp_path):
    beep = np.concatenate([np.zeros(16000, np.float32), tone(1)])
    cases = {
        "together": ({}, 0.0, 1.0),
        "picture later": ({"start": 0.4}, 0.0, 0.6),
        "sound later": ({}, 0.5, 1.5),
    }
    for name, (video, start, wanted) in cases.items():
        for suffix in (".mp4", ".mkv"):
            path = write_audio(
                tmp_path / f"{name}{suffix}",
                beep,
                codec="aac",
                start=start,
                video={"num_frames": 50, **video},
            )
            sound = read_waveform(str(path))
            assert abs(onset(sound) - wanted) < 0.005, path
            assert abs(onset(read_waveform(str(path), start_sec=0.5)) - (wanted - 0.5)) < 0.005, (
                path
            )
            if name == "sound later":
                assert not sound[:7500].any() and len(sound) >= 2.5 * 16000


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        cover, sound = (
            container.add_stream("mjpeg", rate=1),
            container.add_stream("aac", rate=16000, layout="mono"),
        )
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture) + cover.encode(None))
        frame = av.AudioFrame.from_ndarray(tone(2)[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(sound.encode(frame) + sound.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1 and waveform.moving_streams(container) == []
    assert abs(len(read_waveform(str(path))) - 32000) < 1024 and video_length(str(path)) == (
        30.0,
        0,
    )


def test_a_hole_is_silence(tmp_path):
    path = write_audio(tmp_path / "hole.mkv", tone(4), gap=(2.0, 1.5), video={"num_frames": 140})
    sound = read_waveform(str(path))
    assert abs(len(sound) - 5.5 * 16000) < 100
    assert (
        np.abs(sound[16000 * 2 + 200 : round(3.5 * 16000) - 1200]).max() == 0
        and np.abs(sound[60000:]).max() > 0.4
    )
    assert np.array_equal(read_waveform(str(path), start_sec=3.6, end_sec=4.0), sound[57600:64000])
    with pytest.raises(DecodeError, match=r"time stamps jump from 2.0\d* s to 602"):
        read_waveform(
            str(
                write_audio(
                    tmp_path / "broken.mkv", tone(4), gap=(2.0, 600), video={"num_frames": 10}
                )
            )
        )


def test_a_chosen_stream(tmp_path):
    path = write_audio(
        tmp_path / "two.mkv",
        tone(1, level=0.2),
        more_streams=(tone(1, level=0.6),),
        video={"num_frames": 25},
    )
    assert (
        abs(read_waveform(str(path)).max() - 0.2) < 1e-3
        and abs(read_waveform(str(path), stream=1).max() - 0.6) < 1e-3
    )
    with pytest.raises(NoAudioError, match="no audio stream 2; the file has 2, counted from 0"):
        read_waveform(str(path), stream=2)


# --- little, nothing, damage -------------------------------------------------------------------------------------------


def test_silence_is_a_sound(tmp_path):
    sound = read_waveform(
        str(write_audio(tmp_path / "silent.mp4", np.zeros(16000), codec="aac", video={}))
    )
    assert len(sound) >= 16000 and not sound.any()


def test_one_sample(tmp_path):
    assert read_waveform(str(write_audio(tmp_path / "one.wav", np.array([0.5])))).tolist() == [0.5]
    assert len(read_waveform(str(write_audio(tmp_path / "one44.wav", np.array([0.5]), 44100)))) == 1


def test_nothing_to_hear(tmp_path):
    with pytest.raises(NoAudioError, match="^no audio stream in it$"):
        read_waveform(str(write_clip(tmp_path / "mute.mp4")))
    path = write_audio(
        tmp_path / "short.mp4", tone(1), codec="aac", start=1.0, video={"num_frames": 100}
    )
    with pytest.raises(
        NoAudioError, match=r"no sound between 3 s and 3.5 s; the nearest is at .* 2.0\d\d s"
    ):
        read_waveform(str(path), start_sec=3, end_sec=3.5)
    with pytest.raises(
        NoAudioError, match=r"no sound between 0 s and 0.5 s; the nearest is at 0.936"
    ):
        read_waveform(str(path), start_sec=0, end_sec=0.5)
    with pytest.raises(NoAudioError, match="no sound between 9 s and the end"):
        read_waveform(str(path), start_sec=9)
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(NoAudioError, match="holds no sound"):
        read_waveform(str(tmp_path / "empty.wav"))


def test_what_is_no_sound_file(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("not a sound\n" * 100)
    wrong = {
        "empty.wav": "empty",
        "text.mp3": "no known|text file|damaged",
        "none.wav": "no such file",
        "": "a folder",
    }
    for name, why in wrong.items():
        with pytest.raises(DecodeError, match=why) as error:
            read_waveform(str(tmp_path / name))
        assert not isinstance(error.value, NoAudioError)


def test_a_file_that_is_cut_short(tmp_path):
    path = write_audio(
        tmp_path / "a.mp4", chirps(6), codec="aac", video={"num_frames": 150}, movflags="faststart"
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DecodeError, match="cut short"):
        read_waveform(str(path))
    assert len(read_waveform(str(path), end_sec=1)) == 16000  # what is there is there
    path.write_bytes(data[: len(data) // 3 * 2])
    with pytest.raises(DecodeError):
        read_waveform(str(path), start_sec=5.5)


def test_damage_is_told_where_it_is_heard(tmp_path):
    path = write_audio(tmp_path / "a.mp4", chirps(6), codec="aac", video={"num_frames": 10})
    with av.open(str(path)) as container:
        places = [
            (float(p.pts * p.time_base), p.pos, p.size) for p in container.demux(audio=0) if p.size
        ]
    data = bytearray(path.read_bytes())
    for time, position, size in places:
        if 4.0 <= time <= 4.3:
            data[position : position + size] = bytes([0xFF]) * size
    path.write_bytes(bytes(data))
    with pytest.raises(DecodeError, match=r"its sound is damaged at 4\.0\d\d s"):
        read_waveform(str(path))
    assert len(read_waveform(str(path), start_sec=1, end_sec=3)) == 32000
    assert len(read_waveform(str(path), start_sec=5, end_sec=6)) == 16000


@pytest.mark.parametrize(
    "wrong",
    [{"sample_rate": 0}, {"start_sec": -1.0}, {"start_sec": 2.0, "end_sec": 2.0}, {"end_sec": 0.0}],
)
def test_wrong_questions(wrong):
    with pytest.raises(ValueError, match="expected a rate and 0 <= start < end"):
        read_waveform("any.wav", **wrong)


# --- libsndfile, soxr ----------------------------------------------------------------------------------------------------


def test_soundfile_gives_the_same(files):
    pytest.importorskip("soundfile", reason="the extra 'audio' is not installed")
    pytest.importorskip("soxr", reason="the extra 'audio' is not installed")
    for name in ("s16.wav", "u8.wav", "f32.wav", "a.flac"):
        path = str(files / name)
        assert np.array_equal(read_waveform(path), read_waveform(path, backend="soundfile")), name
        part = read_waveform(path, start_sec=1.1, end_sec=2.3, backend="soundfile")
        assert np.array_equal(part, read_waveform(path, start_sec=1.1, end_sec=2.3))
    for path in (found(files, "a.mp3"), str(files / "pcm.mov")):
        a, b = read_waveform(path), read_waveform(path, backend="soundfile")
        a, b = (x[200:90000].astype(np.float64) for x in (a, b))
        assert np.square(a - b).mean() < 1e-4 * np.square(a).mean(), (
            path
        )  # they differ where both fade out, above 7.4 kHz
    with pytest.raises(NoAudioError, match="nearest is at 0.000 .. 6.000 s"):
        read_waveform(str(files / "s16.wav"), start_sec=7, backend="soundfile")
    with pytest.raises(DecodeError, match="no such file"):
        read_waveform(str(files / "none.wav"), backend="soundfile")


def test_soundfile_is_asked_for_where_it_is_not_installed(files, monkeypatch):
    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name in ("soundfile", "soxr"):
            raise ImportError(f"No module named '{name}'")
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in ("s16.wav", "pcm.mov"):
        with pytest.raises(
            ValueError,
            match="backend soundfile needs soundfile and soxr .*: pip install soundfile soxr",
        ):
            read_waveform(str(files / name), backend="soundfile")


# --- real files ------------------------------------------------------------------------------------------------------------


def test_real_clips(shared):
    lengths = {
        "archery.avi": 5.198,
        "test_with_audio.avi": 6.557,
        "nasa_audio.mp4": 13.056,
        "sine_mono_s16.wav": 4.0,
    }
    for name, seconds in lengths.items():
        path = str(shared / "videos" / name)
        whole = read_waveform(path)
        assert (
            len(whole) / 16000 == pytest.approx(seconds, abs=1e-3)
            and 0.05 < np.sqrt(np.square(whole).mean()) < 0.3
        )
        part = read_waveform(path, start_sec=3.1, end_sec=3.9)
        assert np.abs(part - whole[49600:62400]).max() < 1e-6, name
    with open_audio(str(shared / "videos" / "nasa_audio.mp4"), 1) as sound:
        assert (sound.sample_rate, sound.num_channels) == (16000, 2)
    for name in ("street.mp4", "arm_wrestling.mp4", "h265.mp4", "rotated_90.mov"):
        with pytest.raises(NoAudioError, match="no audio stream"):
            read_waveform(str(shared / "videos" / name))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg command here")
def test_ffmpeg_hears_the_same(files, tmp_path):
    target = tmp_path / "out.wav"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(files / "aac.mp4"), "-c:a", "pcm_f32le", str(target)],
        check=True,
    )
    assert np.array_equal(read_waveform(str(files / "aac.mp4")), read_waveform(str(target))), (
        sys.platform
    )
