"""Checking audio files: properties, faults of single files, and sets of audio files."""

import csv
import shutil

import numpy as np
import pytest

from paddlevideo.curate.faults import KINDS
from paddlevideo.curate.inventory import Inputs
from paddlevideo.curate.notes import collect_notes
from paddlevideo.curate.probe import ProbeOptions
from paddlevideo.curate.probe_audio import AudioInfo, has_index, is_clipped, probe_audio
from paddlevideo.curate.report import headline, histograms, html_report, text_report
from paddlevideo.curate.results import training_command, write
from paddlevideo.data.audio_datasets import AudioDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.engine.build import load_config
from paddlevideo.report.run_facts import read_durations
from paddlevideo.sample import Record
from tests.audio_clips import chirps, tone, write_audio
from tests.video_sets import check_set, class_folders, fault_list, good_clip, truncate

FORMATS = [
    ("a.wav", "pcm_s16le"),
    ("a.wav", "pcm_s24le"),
    ("a.wav", "pcm_f32le"),
    ("a.flac", "flac"),
    ("a.mp3", "libmp3lame"),
    ("a.m4a", "aac"),
    ("a.ogg", "libopus"),
    ("a.opus", "libopus"),
    ("a.aiff", "pcm_s16be"),
    ("a.mka", "pcm_s16le"),
]


def probe_file(path, **times) -> AudioInfo:
    return probe_audio(Record(str(path), id="a", **times), ProbeOptions())


def kinds(info: AudioInfo) -> list[str]:
    return [fault.kind for fault in info.faults]


def sound_folders(root, labels=("dog", "rain"), count=5, rate=16000):
    """Write `count` audio files of 0.3 to 0.7 s into each class folder."""
    for class_number, label in enumerate(labels):
        for number in range(count):
            wave = chirps(0.3 + 0.1 * number, rate, seed=100 * class_number + number)
            write_audio(root / label / f"{number}.wav", wave, rate)
    return root


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), FORMATS)
def test_reads_every_format_without_a_fault(tmp_path, name, codec):
    rate = 48000 if codec == "libopus" else 44100
    wave = np.stack([chirps(1, rate), chirps(1, rate, seed=1)])
    info = probe_file(write_audio(tmp_path / name, wave, rate, codec))
    assert info.faults == []
    assert (info.sample_rate, info.num_channels) == (rate, 2)
    assert info.seconds == pytest.approx(1, abs=0.08) and 0.2 < info.peak <= 1


def test_reads_the_audio_of_a_video(tmp_path):
    path = write_audio(tmp_path / "a.mp4", chirps(1), codec="aac", video={"num_frames": 25})
    info = probe_file(path)
    assert info.faults == [] and info.sample_rate == 16000


def test_reads_a_part_of_a_file(tmp_path):
    path = write_audio(tmp_path / "a.wav", chirps(3))
    info = probe_file(path, start_sec=1.0, end_sec=1.5)
    assert info.faults == [] and info.seconds == 0.5
    assert info.content_hash != probe_file(path).content_hash
    assert probe_file(path, start_sec=2.5, end_sec=4.0).seconds == 0.5
    assert kinds(probe_file(path, start_sec=7.0, end_sec=8.0)) == ["bad_times"]


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("a.wav", "pcm_s16le", "truncated"),
        ("a.aiff", "pcm_s16be", "truncated"),
        ("a.mp3", "libmp3lame", "truncated"),
        ("a.m4a", "aac", "truncated"),
        ("a.flac", "flac", "damaged"),
    ],
)
def test_finds_truncated_sounds(tmp_path, name, codec, kind):
    path = write_audio(tmp_path / name, chirps(2, 44100), 44100, codec)
    (tmp_path / "half").mkdir()
    truncate(path, tmp_path / "half" / name, 0.6)
    info = probe_file(tmp_path / "half" / name)
    assert kinds(info) == [kind] and KINDS[kind].left_out


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_accepts_a_wav_of_unknown_length(tmp_path, size):
    path = write_audio(tmp_path / "a.wav", chirps(1))
    content = path.read_bytes()
    path.write_bytes(content[:4] + size.to_bytes(4, "little") + content[8:])
    assert probe_file(path).faults == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"a text\n" * 200, "not_audio"),
        (b"<!DOCTYPE html><html>404 Not Found</html>", "not_audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not_audio"),
        (b"PK\x03\x04" + bytes(100), "not_audio"),
        (b"fLaC" + bytes(300), "not_audio"),
    ],
)
def test_finds_files_that_are_no_sounds(tmp_path, content, kind):
    (tmp_path / "a.wav").write_bytes(content)
    info = probe_file(tmp_path / "a.wav")
    assert kinds(info) == [kind] and KINDS[kind].left_out
    assert "video" not in info.faults[0].text


def test_finds_missing_files_folders_and_videos_without_audio(tmp_path):
    (tmp_path / "b.wav").mkdir()
    assert kinds(probe_file(tmp_path / "a.wav")) == ["missing"]
    assert kinds(probe_file(tmp_path / "b.wav")) == ["folder"]
    info = probe_file(good_clip(tmp_path / "c.mp4", 1))
    assert [str(fault) for fault in info.faults] == ["a: no audio stream in it (only video)"]


@pytest.mark.parametrize(
    ("level", "silent"), [(0.0, True), (0.0005, True), (0.01, False), (0.5, False)]
)
def test_finds_silence(tmp_path, level, silent):
    info = probe_file(write_audio(tmp_path / "a.wav", tone(0.5, level=level)))
    assert kinds(info) == ["silent"] * silent and bool(info.content_hash) is not silent
    assert not KINDS["silent"].left_out


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8", "pcm_f32le", "flac"])
@pytest.mark.parametrize(("level", "clipped"), [(0.98, False), (1.5, True)])
def test_finds_clipped_sounds(tmp_path, codec, level, clipped):
    wave = level * np.sin(2 * np.pi * 30 * np.arange(16000) / 16000)
    wave = wave if codec == "pcm_f32le" else wave.clip(-1, 1)
    path = write_audio(tmp_path / ("a.flac" if codec == "flac" else "a.wav"), wave, codec=codec)
    assert kinds(probe_file(path)) == ["clipped"] * clipped


def test_a_loud_low_tone_is_not_clipped():
    wave = np.sin(2 * np.pi * 50 * np.arange(44100) / 44100).astype(np.float32)
    assert is_clipped(np.rint(wave[None] * 32767) / 32768).mean() < 0.01
    assert not is_clipped(np.zeros((2, 2), np.float32)).any()


def test_finds_too_short_sounds(tmp_path):
    path = write_audio(tmp_path / "a.wav", chirps(0.3))
    assert probe_file(path).faults == []
    assert kinds(probe_file(write_audio(tmp_path / "b.wav", chirps(0.02)))) == ["too_short"]
    info = probe_audio(Record(str(path), id="a"), ProbeOptions(min_seconds=0.5))
    assert str(info.faults[0]) == "a: 0.300 s, expected at least 0.5 s"


def test_finds_a_suffix_of_another_format(tmp_path):
    for name, codec, new in (("a.mp3", "libmp3lame", "b.wav"), ("a.wav", "pcm_s16le", "b.ogg")):
        write_audio(tmp_path / name, chirps(1, 44100), 44100, codec).rename(tmp_path / new)
        assert kinds(probe_file(tmp_path / new)) == ["wrong_suffix"], name


def test_finds_samples_that_are_not_numbers(tmp_path):
    path = write_audio(tmp_path / "a.wav", chirps(0.5), codec="pcm_f32le")
    content = bytearray(path.read_bytes())
    content[-400:-396] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    assert kinds(probe_file(path)) == ["damaged"]


def test_finds_the_index_of_an_mp3_behind_a_tag(tmp_path):
    path = write_audio(tmp_path / "a.mp3", chirps(1, 44100), 44100, "libmp3lame")
    assert has_index(str(path))
    content = path.read_bytes()
    path.write_bytes(content[content.index(b"Info") + 300 :])
    assert not has_index(str(path))


# --- sets -----------------------------------------------------------------------------------------


def test_finds_the_same_sound_in_another_container(tmp_path):
    sound_folders(tmp_path)
    wave = np.round(chirps(1, 44100) * 32768) / 32768
    write_audio(tmp_path / "dog" / "a.wav", wave, 44100)
    write_audio(tmp_path / "dog" / "a too.flac", wave, 44100, "flac")
    write_audio(tmp_path / "dog" / "a in stereo.mka", np.stack([wave] * 2), 44100)
    shutil.copy(tmp_path / "dog" / "0.wav", tmp_path / "rain" / "0 too.wav")
    silence = np.zeros(8000, np.float32)
    for name in ("s.wav", "t.wav"):
        write_audio(tmp_path / "rain" / name, silence)
    result = check_set(tmp_path)
    assert fault_list(result) == [
        ("conflict", "dog/0.wav"),
        ("conflict", "rain/0 too.wav"),
        ("duplicate", "dog/a in stereo.mka"),
        ("duplicate", "dog/a too.flac"),
        ("duplicate", "rain/t.wav"),
        ("silent", "rain/s.wav"),
        ("silent", "rain/t.wav"),
    ]
    assert "dog/a too.flac: the same audio file as dog/a.wav" in "\n".join(map(str, result.faults))


def test_writes_lists_of_sounds_that_training_reads(tmp_path):
    result = check_set(sound_folders(tmp_path))
    assert result.media == "audio" and fault_list(result) == []
    counts = write(result, tmp_path)
    assert counts == {"train.csv": 8, "val.csv": 2, "labels.txt": 2, "bad_files.csv": 0}
    with (tmp_path / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "path", "label", "class", "source", "seconds", "sample_rate", "channels",
    ]  # fmt: skip
    assert {row["sample_rate"] for row in rows} == {"16000"}
    durations = read_durations(tmp_path / "train.csv")
    assert len(durations) == 8 and 0.3 <= min(durations) < max(durations) <= 0.7
    records = AudioDataset(str(tmp_path / "train.csv")).load(["dog", "rain"]).records
    assert len(records) == 8 and all(record.num_frames is None for record in records)
    command = training_command(tmp_path, counts, "audio")
    assert command.startswith("python main.py --validate -c configs/finetune/audio.yaml -o ")
    cfg = load_config("configs/finetune/audio.yaml", [f"DATASET.root={tmp_path}"])
    assert cfg.DATASET.root == str(tmp_path)


def test_reports_sounds(tmp_path):
    result = check_set(sound_folders(tmp_path))
    titles = [title for title, rows in histograms(result) if rows]
    assert titles == ["duration (s)", "sample rate (Hz)", "channels"]
    assert headline(result).endswith("(split drawn here); 2 classes; 5 s of audio")
    assert "sample rate (Hz)\n  16000      10  " in text_report(result)
    assert "sample rate (Hz)" in html_report(result, "x")


def test_reads_lists_and_splits_of_sounds(tmp_path):
    sound_folders(tmp_path / "train")
    write_audio(tmp_path / "test" / "dog" / "x.wav", chirps(0.4, seed=900))
    write_audio(tmp_path / "test" / "rain" / "x.wav", chirps(0.4, seed=901))
    assert check_set(tmp_path).counts()["dog"] == {"train": 4, "valid": 1, "test": 1}
    lines = [f"train/dog/{n}.wav dog\ntrain/rain/{n}.wav rain\n" for n in range(3)]
    (tmp_path / "audio files.txt").write_text("".join(lines))
    (tmp_path / "frames.txt").write_text("".join(lines).replace("wav ", "wav 30 "))
    for name in ("audio files.txt", "frames.txt"):
        result = check_set(tmp_path / name)
        assert result.media == "audio" and len(result.clips) == 6 and fault_list(result) == []


def test_says_what_a_mixed_folder_has(tmp_path):
    class_folders(tmp_path, count=2)
    write_audio(tmp_path / "run" / "a.mp4", chirps(1), codec="aac", video={"num_frames": 25})
    sound_folders(tmp_path, ("run", "swim"), 2)
    result = check_set(tmp_path)
    assert result.media == "video" and len(result.clips) == 5
    start = f"{tmp_path} has 5 videos and 4 audio files; only videos are checked. To train on"
    assert result.notes[0].startswith(f"{start} audio, add --media audio")
    result = check_set(tmp_path, media="audio")
    assert [clip.name for clip in result.clips if clip.label == "run"] == [
        "run/0.wav", "run/1.wav", "run/a.mp4",
    ]  # fmt: skip
    assert {kind for kind, _ in fault_list(result)} == {"no_audio"}
    with pytest.raises(DatasetError, match="<class>/\\*.mp4 .*, or <class>/\\*.wav"):
        check_set(tmp_path / "run", media="video")


def test_says_what_a_mixed_list_has(tmp_path):
    good_clip(tmp_path / "a.mp4", 1)
    write_audio(tmp_path / "b.wav", chirps(1))
    (tmp_path / "list.csv").write_text("path,label\na.mp4,run\nb.wav,run\n")
    result = check_set(tmp_path / "list.csv")
    assert fault_list(result)[-1] == ("not_video", "b.wav")
    assert "list.csv has 1 video and 1 audio file; only videos are checked" in result.notes[0]


def test_reports_misplaced_sounds(tmp_path):
    sound_folders(tmp_path, count=2)
    write_audio(tmp_path / "loose.wav", chirps(1))
    write_audio(tmp_path / "x.wav", chirps(1, seed=5)).rename(tmp_path / "dog" / "x.wav.part")
    (tmp_path / "cat").mkdir()
    result = check_set(tmp_path)
    assert fault_list(result) == [
        ("empty_class", "cat"),
        ("no_class", "loose.wav"),
        ("unknown_suffix", "dog/x.wav.part"),
    ]
    text = "\n".join(map(str, result.faults))
    assert "the format is audio (WAV), but '.part' is not the suffix of an audio file" in text
    assert "cat: no audio file in this class folder" in text


def test_notes_sample_rates_that_separate_classes(tmp_path):
    sound_folders(tmp_path, ("dog",), 3, 8000)
    sound_folders(tmp_path, ("rain",), 3, 44100)
    note = check_set(tmp_path).notes[0]
    assert note.startswith("the sample rate separates classes: dog has at most 8000 Hz, rain at")
    write_audio(tmp_path / "dog" / "high.wav", chirps(1, 44100, seed=7), 44100)
    assert check_set(tmp_path).notes == []
    assert collect_notes([], {}, "audio") == []


def test_rejects_a_folder_without_sounds(tmp_path):
    (tmp_path / "dog").mkdir()
    with pytest.raises(DatasetError, match="no records in this folder.*<class>/\\*.wav"):
        check_set(tmp_path, media="audio")
    assert Inputs(tmp_path).media is None
