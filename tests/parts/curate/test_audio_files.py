"""Sounds and features of many files: same paths, nothing half-written, runs that go on, and failures that are told."""

import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.curate import audio_files
from paddlevideo.curate.audio_files import WriteFeature, WriteWav
from paddlevideo.curate.batch_jobs import part_of, plan, tell, work
from paddlevideo.media.log_mel import DecibelMel
from paddlevideo.media.waveform import read_waveform
from paddlevideo.sample import DecodeError
from tests.audio_clips import chirps, tone, write_audio
from tests.clips import write_clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Four videos in class folders with spaces in names; one has no sound, one is no video."""
    root = tmp_path_factory.mktemp("many") / "my videos"
    write_audio(root / "a b" / "one two.mp4", tone(1, 44100), 44100, codec="aac", video={})
    write_audio(root / "c" / "one two.mkv", np.stack([tone(1), 0 * tone(1)]), video={})
    write_audio(root / "c" / "deep" / "x.avi", tone(1, 8000), 8000, video={})
    write_clip(root / "c" / "mute.mp4", num_frames=3)
    (root / "c" / "broken.mp4").write_bytes(b"not a video" * 100)
    (root / "notes.txt").write_text("nothing to hear")
    return root


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def read_wav(path) -> tuple[int, int, np.ndarray]:
    with wave.open(str(path)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(
            -1, file.getnchannels()
        )
        return file.getframerate(), file.getnchannels(), data


@pytest.mark.parametrize("workers", [1, 2])
def test_wavs_of_a_folder(videos, tmp_path, workers, capsys):
    out = tmp_path / "the sounds"
    done = work(WriteWav(), plan(videos, out, ".wav"), out, workers)
    assert (done.made, done.kept) == (3, 0)
    assert names(out) == [
        "a b/one two.wav",
        "c/deep/x.wav",
        "c/one two.wav",
        "failures.tsv",
        "made_with.json",
    ]
    assert tell(done, out) == 1 and "3 made, 0 already there, 2 failed" in capsys.readouterr().out
    failed = dict(line.split("\t") for line in (out / "failures.tsv").read_text().splitlines())
    assert failed[str(videos / "c" / "mute.mp4")] == "no audio stream in it"
    assert len(failed) == 2 and str(videos / "c" / "broken.mp4") in failed
    rate, channels, data = read_wav(out / "c" / "one two.wav")
    assert (
        (rate, channels) == (16000, 2)
        and np.abs(data[:, 0] / 32768 - tone(1)).max() < 2**-15
        and not data[:, 1].any()
    )
    assert (
        read_wav(out / "a b" / "one two.wav")[:2] == (44100, 1)
        and read_wav(out / "c" / "deep" / "x.wav")[0] == 8000
    )
    # What was decoded from the wav is what was decoded from the video; where that ends AAC overshoots full scale.
    for name in ("a b/one two", "c/one two"):
        video, wav = next(videos.glob(f"{name}.*")), out / f"{name}.wav"
        assert np.abs(read_waveform(str(video)) - read_waveform(str(wav)))[:15000].max() < 2**-14


def test_mono_at_a_rate(videos, tmp_path):
    done = work(WriteWav(16000), plan(videos, tmp_path, ".wav", "mkv"), tmp_path, 1)
    rate, channels, data = read_wav(tmp_path / "c" / "one two.wav")
    assert (
        done.failed == []
        and (rate, channels) == (16000, 1)
        and np.abs(data[:, 0] / 32768 - tone(1) / 2).max() < 2**-14
    )


def test_features_equal_those_made_on_the_fly(videos, tmp_path):
    feature = DecibelMel(n_fft=1024)
    done = work(WriteFeature(feature), plan(videos, tmp_path, ".npy", "avi"), tmp_path, 1)
    rows = np.load(tmp_path / "c" / "deep" / "x.npy")
    assert done.made == 1 and rows.dtype == np.float32
    assert np.array_equal(rows, feature(read_waveform(str(videos / "c" / "deep" / "x.avi"))))


def test_a_run_goes_on_where_it_stopped(videos, tmp_path, monkeypatch):
    jobs = plan(videos, tmp_path, ".wav")
    work(WriteWav(), jobs[:1], tmp_path, 1)
    before = os.stat(jobs[0].target).st_mtime_ns
    again = work(WriteWav(), jobs, tmp_path, 1)
    assert (again.made, again.kept, len(again.failed)) == (2, 1, 2) and os.stat(
        jobs[0].target
    ).st_mtime_ns == before
    assert (
        work(WriteWav(), jobs[:1], tmp_path, 1).failed == []
        and not (tmp_path / "failures.tsv").exists()
    )
    assert work(WriteWav(), jobs[:1], tmp_path, 1, overwrite=True).made == 1


def test_nothing_is_left_of_a_file_that_fails_half_way(tmp_path):
    path = write_audio(
        tmp_path / "a.mp4", chirps(6), codec="aac", video={"num_frames": 150}, movflags="faststart"
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out = tmp_path / "out"
    for write, suffix in ((WriteWav(), ".wav"), (WriteFeature(DecibelMel()), ".npy")):
        done = work(write, plan(tmp_path, out, suffix), out, 1, overwrite=True)
        assert "cut short" in done.failed[0][1] and names(out) == ["failures.tsv", "made_with.json"]


def test_other_settings_are_not_mixed_in(videos, tmp_path):
    jobs = plan(videos, tmp_path, ".npy", "avi")
    work(WriteFeature(DecibelMel()), jobs, tmp_path, 1)
    with pytest.raises(
        ValueError,
        match=r"made with .*'n_fft': 512.*now it is .*'n_fft': 1024.*another folder or --overwrite",
    ):
        work(WriteFeature(DecibelMel(n_fft=1024)), jobs, tmp_path, 1)
    assert work(WriteFeature(DecibelMel(n_fft=1024)), jobs, tmp_path, 1, overwrite=True).made == 1
    assert json.loads((tmp_path / "made_with.json").read_text())["feature"]["n_fft"] == 1024
    with pytest.raises(ValueError, match="--num-workers 0"):
        work(WriteFeature(DecibelMel(n_fft=1024)), jobs, tmp_path, 0)


def test_an_odd_error_is_told_with_its_type(tmp_path, monkeypatch):
    write_audio(tmp_path / "in" / "a.wav", tone(0.1))
    write_audio(tmp_path / "in" / "b.wav", tone(0.1))
    real = audio_files.read_waveform

    def odd(path, *args, **kwargs):
        if path.endswith("a.wav"):
            raise KeyError("odd")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(audio_files, "read_waveform", odd)
    done = work(
        WriteFeature(DecibelMel()),
        plan(tmp_path / "in", tmp_path / "out", ".npy"),
        tmp_path / "out",
        1,
    )
    assert done.made == 1 and done.failed == [(str(tmp_path / "in" / "a.wav"), "KeyError: 'odd'")]


# --- what is to be done ---------------------------------------------------------------------------------------------------


def test_folders_levels_suffixes(videos, tmp_path):
    def found(**how):
        return [
            Path(job.source).relative_to(videos).as_posix()
            for job in plan(videos, tmp_path / "o", ".wav", **how)
        ]

    assert found() == [
        "a b/one two.mp4",
        "c/broken.mp4",
        "c/mute.mp4",
        "c/one two.mkv",
        "c/deep/x.avi",
    ]
    assert found(level=2) == ["a b/one two.mp4", "c/broken.mp4", "c/mute.mp4", "c/one two.mkv"]
    assert found(level=3) == ["c/deep/x.avi"] == found(ext="avi") == found(ext=".AVI")
    with pytest.raises(ValueError, match="no file ending in .m4a here; see --ext and --level"):
        found(ext="m4a")
    with pytest.raises(ValueError, match=r"no video or sound here, 1 folder\(s\) deep"):
        found(level=1)
    with pytest.raises(ValueError, match="no such folder or list"):
        plan(tmp_path / "none", tmp_path, ".wav")


def test_what_was_made_is_not_taken_for_more(tmp_path):
    write_audio(tmp_path / "a.mkv", tone(0.2), video={"num_frames": 5})
    for out in (tmp_path / "wavs", tmp_path):
        jobs = plan(tmp_path, out, ".wav")
        assert [job.target for job in jobs] == [str(out / "a.wav")]
        work(WriteWav(), jobs, out, 1)
    assert len(plan(tmp_path, tmp_path / "wavs", ".wav")) == 1
    with pytest.raises(
        ValueError, match=r"a.mkv and a.wav would both become .*a.npy; choose one kind with --ext"
    ):
        plan(tmp_path, tmp_path / "f", ".npy")
    assert len(plan(tmp_path, tmp_path / "f", ".npy", "wav")) == 2  # wavs/a.wav, too


def test_lists(videos, tmp_path):
    lines = ["a b/one two.mp4 25 3", "", "c/one two.mkv 7", "c/deep/x.avi", "c/deep/x.avi 3"]
    (videos / "some.list").write_text("\n".join(lines), encoding="utf-8")
    jobs = plan(videos / "some.list", tmp_path, ".wav")
    wanted = ["a b/one two", "c/one two", "c/deep/x"]
    assert [job.target for job in jobs] == [str(tmp_path / f"{name}.wav") for name in wanted]
    assert all(os.path.exists(job.source) for job in jobs)
    (tmp_path / "abs.list").write_text(f"{videos / 'c' / 'one two.mkv'} 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is not below .*; set --list-root"):
        plan(tmp_path / "abs.list", tmp_path, ".wav", root=tmp_path / "elsewhere")
    (job,) = plan(tmp_path / "abs.list", tmp_path, ".wav", root=videos)
    assert job.target == str(tmp_path / "c" / "one two.wav") and os.path.exists(job.source)
    (tmp_path / "binary.list").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="not UTF-8 text .* expected a folder, or a list"):
        plan(tmp_path / "binary.list", tmp_path, ".wav")


def test_parts_share_the_work(videos, tmp_path):
    jobs = plan(videos, tmp_path, ".wav")
    parts = [part_of(jobs, f"{number}/3") for number in (1, 2, 3)]
    assert sorted(job.source for part in parts for job in part) == sorted(
        job.source for job in jobs
    )
    for number in (1, 2, 3):
        work(WriteWav(), jobs, tmp_path, 1, part=f"{number}/3")
    assert [name for name in names(tmp_path) if "fail" in name] == [
        "failures.2of3.tsv",
        "failures.3of3.tsv",
    ]
    assert work(WriteWav(), jobs, tmp_path, 1).kept == 3
    for wrong in ("0/3", "4/3", "3", "a/b"):
        with pytest.raises(ValueError, match="expected I/N"):
            part_of(jobs, wrong)


def test_damage_in_the_channels_is_told(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "a.wav", tone(0.2))

    def pieces(self):
        yield np.zeros((2, 100), np.float32)

    monkeypatch.setattr("paddlevideo.media.audio_reader.AudioReader.chunks", pieces)
    with pytest.raises(DecodeError, match="number of channels changes from 1 to 2"):
        WriteWav()(str(path), str(tmp_path / "b.wav"))
    assert not (tmp_path / "b.wav").exists()


# --- the commands -----------------------------------------------------------------------------------------------------------


def run(root: Path, script: str, *args) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", f"tools/data/{script}", *map(str, args)]
    return subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_commands_of_the_reference(root, videos, tmp_path):
    first = run(
        root,
        "extract_audio.py",
        videos,
        tmp_path / "wav",
        "--level",
        2,
        "--ext",
        "mkv",
        "--num-workers",
        2,
    )
    assert first.returncode == 0 and "1 made, 0 already there, 0 failed" in first.stdout, (
        first.stderr
    )
    wav, out = tmp_path / "wav", tmp_path / "npy"
    second = run(
        root,
        "build_audio_features.py",
        wav,
        out,
        "--level",
        2,
        "--ext",
        "wav",
        "--num-workers",
        1,
        "--part",
        "1/1",
    )
    assert second.returncode == 0 and (out / "c" / "one two.npy").exists(), second.stderr
    third = run(root, "extract_audio.py", videos, wav, "--num-worker", 1)
    assert third.returncode == 1 and "2 made, 1 already there, 2 failed" in third.stdout
    assert "mute.mp4: no audio stream in it" in third.stdout and "failures.tsv" in third.stdout
