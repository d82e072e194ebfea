"""Batch jobs that write wav files and audio features: paths, continued runs, failures, settings."""

import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.commands import extract_audio
from paddlevideo.curate import audio_files
from paddlevideo.curate.audio_files import WriteFeature, WriteWav
from paddlevideo.curate.batch_jobs import plan_jobs, print_outcome, run_jobs, select_part
from paddlevideo.media.log_mel import DecibelMel
from paddlevideo.media.waveform import read_waveform
from paddlevideo.processes import Crash
from paddlevideo.sample import DecodeError
from tests.audio_clips import chirps, tone, write_audio
from tests.clips import write_clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Five files in class folders: three videos with audio, one without audio, one not a video."""
    root = tmp_path_factory.mktemp("many") / "my videos"
    write_audio(root / "a b" / "one two.mp4", tone(1, 44100), 44100, codec="aac", video={})
    write_audio(root / "c" / "one two.mkv", np.stack([tone(1), 0 * tone(1)]), video={})
    write_audio(root / "c" / "deep" / "x.avi", tone(1, 8000), 8000, video={})
    write_clip(root / "c" / "mute.mp4", num_frames=3)
    (root / "c" / "broken.mp4").write_bytes(b"not a video" * 100)
    (root / "notes.txt").write_text("not a media file")
    return root


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def read_wav(path) -> tuple[int, int, np.ndarray]:
    """Return (sample rate, channels, int16 [n, channels])."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        channels = file.getnchannels()
        return file.getframerate(), channels, samples.reshape(-1, channels)


# --- wav files and features ----------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2])
def test_writes_wav_files_of_a_folder(videos, tmp_path, num_workers, capsys):
    out = tmp_path / "the audio"
    done = run_jobs(WriteWav(), plan_jobs(videos, out, ".wav"), out, num_workers)
    assert (done.num_made, done.num_kept) == (3, 0)
    wavs = ["a b/one two.wav", "c/deep/x.wav", "c/one two.wav"]
    assert names(out) == [*wavs, "failures.tsv", "made_with.json"]
    assert print_outcome(done, out) == 1
    assert "3 made, 0 kept, 2 failed" in capsys.readouterr().out
    failed = dict(line.split("\t") for line in (out / "failures.tsv").read_text().splitlines())
    assert failed[str(videos / "c" / "mute.mp4")] == "no audio stream in it"
    assert len(failed) == 2 and str(videos / "c" / "broken.mp4") in failed


def test_wav_files_keep_the_rate_and_the_channels(videos, tmp_path):
    run_jobs(WriteWav(), plan_jobs(videos, tmp_path, ".wav"), tmp_path, 1)
    rate, channels, samples = read_wav(tmp_path / "c" / "one two.wav")
    assert (rate, channels) == (16000, 2)
    assert np.abs(samples[:, 0] / 32768 - tone(1)).max() < 2**-15 and not samples[:, 1].any()
    assert read_wav(tmp_path / "a b" / "one two.wav")[:2] == (44100, 1)
    assert read_wav(tmp_path / "c" / "deep" / "x.wav")[0] == 8000
    # A wav file decodes as its video does, but for the end, where AAC exceeds full scale.
    for name in ("a b/one two", "c/one two"):
        video, wav = next(videos.glob(f"{name}.*")), tmp_path / f"{name}.wav"
        difference = read_waveform(str(video)) - read_waveform(str(wav))
        assert np.abs(difference)[:15000].max() < 2**-14


def test_writes_mono_at_a_given_rate(videos, tmp_path):
    done = run_jobs(WriteWav(16000), plan_jobs(videos, tmp_path, ".wav", "mkv"), tmp_path, 1)
    rate, channels, samples = read_wav(tmp_path / "c" / "one two.wav")
    assert done.failed == [] and (rate, channels) == (16000, 1)
    assert np.abs(samples[:, 0] / 32768 - tone(1) / 2).max() < 2**-14


def test_features_equal_those_computed_on_the_fly(videos, tmp_path):
    feature = DecibelMel(n_fft=1024)
    done = run_jobs(WriteFeature(feature), plan_jobs(videos, tmp_path, ".npy", "avi"), tmp_path, 1)
    log_mel = np.load(tmp_path / "c" / "deep" / "x.npy")
    assert done.num_made == 1 and log_mel.dtype == np.float32
    assert np.array_equal(log_mel, feature(read_waveform(str(videos / "c" / "deep" / "x.avi"))))


def test_rejects_a_changing_number_of_channels(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "a.wav", tone(0.2))

    def chunks(self):
        yield np.zeros((2, 100), np.float32)

    monkeypatch.setattr("paddlevideo.media.audio_reader.AudioReader.chunks", chunks)
    message = "number of channels changes from 1 to 2; set a sample rate"
    with pytest.raises(DecodeError, match=message):
        WriteWav()(str(path), str(tmp_path / "b.wav"))
    assert not (tmp_path / "b.wav").exists()


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_continues_where_it_stopped(videos, tmp_path):
    jobs = plan_jobs(videos, tmp_path, ".wav")
    run_jobs(WriteWav(), jobs[:1], tmp_path, 1)
    before = os.stat(jobs[0].target).st_mtime_ns
    again = run_jobs(WriteWav(), jobs, tmp_path, 1)
    assert (again.num_made, again.num_kept, len(again.failed)) == (2, 1, 2)
    assert os.stat(jobs[0].target).st_mtime_ns == before
    assert run_jobs(WriteWav(), jobs[:1], tmp_path, 1).failed == []
    assert not (tmp_path / "failures.tsv").exists()
    assert run_jobs(WriteWav(), jobs[:1], tmp_path, 1, overwrite=True).num_made == 1


def test_leaves_no_partial_files(tmp_path):
    video = {"num_frames": 150}
    path = tmp_path / "a.mp4"
    write_audio(path, chirps(6), codec="aac", video=video, movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out = tmp_path / "out"
    for write, suffix in ((WriteWav(), ".wav"), (WriteFeature(DecibelMel()), ".npy")):
        done = run_jobs(write, plan_jobs(tmp_path, out, suffix), out, 1, overwrite=True)
        assert "cut short" in done.failed[0][1]
        assert names(out) == ["failures.tsv", "made_with.json"]


def test_rejects_files_with_other_settings(videos, tmp_path):
    jobs = plan_jobs(videos, tmp_path, ".npy", "avi")
    run_jobs(WriteFeature(DecibelMel()), jobs, tmp_path, 1)
    write = WriteFeature(DecibelMel(n_fft=1024))
    message = r"made with .*'n_fft': 512.*, not with .*'n_fft': 1024.*another folder or --overwrite"
    with pytest.raises(ValueError, match=message):
        run_jobs(write, jobs, tmp_path, 1)
    assert run_jobs(write, jobs, tmp_path, 1, overwrite=True).num_made == 1
    assert json.loads((tmp_path / "made_with.json").read_text())["feature"]["n_fft"] == 1024


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '"suffix"', "null"])
def test_rejects_damaged_settings(videos, tmp_path, content):
    jobs = plan_jobs(videos, tmp_path, ".wav", "avi")
    (tmp_path / "made_with.json").write_text(content)
    message = "made_with.json: not the settings of a conversion; use another folder, or --overwrite"
    with pytest.raises(ValueError, match=message):
        run_jobs(WriteWav(), jobs, tmp_path, 1)
    assert names(tmp_path) == ["made_with.json"]
    assert run_jobs(WriteWav(), jobs, tmp_path, 1, overwrite=True).num_made == 1
    assert run_jobs(WriteWav(), jobs, tmp_path, 1).num_kept == 1


def test_rejects_less_than_one_worker(videos, tmp_path):
    with pytest.raises(ValueError, match="--num-workers 0: expected at least 1"):
        run_jobs(WriteWav(), plan_jobs(videos, tmp_path, ".wav"), tmp_path, 0)


def test_reports_unexpected_errors_with_their_type(tmp_path, monkeypatch):
    write_audio(tmp_path / "in" / "a.wav", tone(0.1))
    write_audio(tmp_path / "in" / "b.wav", tone(0.1))
    real = audio_files.read_waveform

    def fail_for_a(path, *args, **kwargs):
        if path.endswith("a.wav"):
            raise KeyError("odd")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(audio_files, "read_waveform", fail_for_a)
    out = tmp_path / "out"
    jobs = plan_jobs(tmp_path / "in", out, ".npy")
    done = run_jobs(WriteFeature(DecibelMel()), jobs, out, 1)
    assert done.num_made == 1
    assert done.failed == [(str(tmp_path / "in" / "a.wav"), "KeyError: 'odd'")]


def test_reports_files_that_crash_the_decoder(videos, tmp_path):
    jobs = plan_jobs(videos, tmp_path, ".wav")[:2]
    done = run_jobs(WriteWav(), jobs, tmp_path, 2, run=lambda *_: [(0, Crash()), (1, "")])
    assert done.num_made == 1
    assert done.failed == [(jobs[0].source, "the decoder crashes on this file")]


def test_parts_share_the_jobs(videos, tmp_path):
    jobs = plan_jobs(videos, tmp_path, ".wav")
    parts = [select_part(jobs, f"{number}/3") for number in (1, 2, 3)]
    sources = sorted(job.source for part in parts for job in part)
    assert sources == sorted(job.source for job in jobs)
    for number in (1, 2, 3):
        run_jobs(WriteWav(), jobs, tmp_path, 1, part=f"{number}/3")
    reports = [name for name in names(tmp_path) if "fail" in name]
    assert reports == ["failures.2of3.tsv", "failures.3of3.tsv"]
    assert run_jobs(WriteWav(), jobs, tmp_path, 1).num_kept == 3


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "1/2/3"])
def test_rejects_other_parts(part):
    with pytest.raises(ValueError, match=f"--part {part}: expected I/N with I from 1 to N"):
        select_part([], part)


# --- jobs ----------------------------------------------------------------------------------------


def test_finds_files_by_level_and_suffix(videos, tmp_path):
    def found(**options):
        jobs = plan_jobs(videos, tmp_path / "o", ".wav", **options)
        return [Path(job.source).relative_to(videos).as_posix() for job in jobs]

    level_2 = ["a b/one two.mp4", "c/broken.mp4", "c/mute.mp4", "c/one two.mkv"]
    assert found() == [*level_2, "c/deep/x.avi"]
    assert found(level=2) == level_2
    assert found(level=3) == ["c/deep/x.avi"] == found(ext="avi") == found(ext=".AVI")
    with pytest.raises(ValueError, match="no file with suffix .m4a; see --ext and --level"):
        found(ext="m4a")
    with pytest.raises(ValueError, match="no video or audio file at level 1; see --ext and"):
        found(level=1)
    with pytest.raises(ValueError, match="no such folder or list"):
        plan_jobs(tmp_path / "none", tmp_path, ".wav")


def test_results_are_not_sources(tmp_path):
    write_audio(tmp_path / "a.mkv", tone(0.2), video={"num_frames": 5})
    for out in (tmp_path / "wavs", tmp_path):
        jobs = plan_jobs(tmp_path, out, ".wav")
        assert [job.target for job in jobs] == [str(out / "a.wav")]
        run_jobs(WriteWav(), jobs, out, 1)
    assert len(plan_jobs(tmp_path, tmp_path / "wavs", ".wav")) == 1
    message = r"a.mkv and a.wav would both become .*a.npy; choose one kind of file with --ext"
    with pytest.raises(ValueError, match=message):
        plan_jobs(tmp_path, tmp_path / "f", ".npy")
    assert len(plan_jobs(tmp_path, tmp_path / "f", ".npy", "wav")) == 2, "a.wav and wavs/a.wav"


def test_lists(videos, tmp_path):
    lines = ["a b/one two.mp4 25 3", "", "c/one two.mkv 7", "c/deep/x.avi", "c/deep/x.avi 3"]
    (videos / "some.list").write_text("\n".join(lines), encoding="utf-8")
    jobs = plan_jobs(videos / "some.list", tmp_path, ".wav")
    wanted = ["a b/one two", "c/one two", "c/deep/x"]
    assert [job.target for job in jobs] == [str(tmp_path / f"{name}.wav") for name in wanted]
    assert all(os.path.exists(job.source) for job in jobs)
    (tmp_path / "abs.list").write_text(f"{videos / 'c' / 'one two.mkv'} 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is not below .*; set --list-root"):
        plan_jobs(tmp_path / "abs.list", tmp_path, ".wav", root=tmp_path / "elsewhere")
    (job,) = plan_jobs(tmp_path / "abs.list", tmp_path, ".wav", root=videos)
    assert job.target == str(tmp_path / "c" / "one two.wav") and os.path.exists(job.source)
    (tmp_path / "binary.list").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="not UTF-8 text .* expected a folder, or a list"):
        plan_jobs(tmp_path / "binary.list", tmp_path, ".wav")


# --- commands ------------------------------------------------------------------------------------


def run_tool(root: Path, script: str, *args) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", f"tools/data/{script}", *map(str, args)]
    return subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_commands_of_paddlevideo(root, videos, tmp_path, capsys):
    wav, npy = tmp_path / "wav", tmp_path / "npy"
    options = ("--level", 2, "--ext", "mkv", "--num-workers", 1)
    done = run_tool(root, "extract_audio.py", videos, wav, *options)
    assert done.returncode == 0, done.stderr
    assert "1 made, 0 kept, 0 failed" in done.stdout
    options = ("--level", 2, "--ext", "wav", "--num-workers", 1, "--part", "1/1")
    done = run_tool(root, "build_audio_features.py", wav, npy, *options)
    assert done.returncode == 0, done.stderr
    assert (npy / "c" / "one two.npy").exists()
    assert extract_audio.main([str(videos), str(wav), "--num-worker", "1"]) == 1
    printed = capsys.readouterr().out
    assert "2 made, 1 kept, 2 failed" in printed
    assert "mute.mp4: no audio stream in it" in printed and "failures.tsv" in printed
    assert extract_audio.main([str(tmp_path / "none"), str(wav)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
