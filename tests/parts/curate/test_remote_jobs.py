"""Data preparation whose videos and results are at URLs: the same files as on the local disk."""

import json
from pathlib import Path

import pytest

from paddlevideo.commands import build_audio_features, extract_audio, extract_frames, resize_videos
from paddlevideo.curate.batch_jobs import Job, plan_jobs
from paddlevideo.curate.known_sets import path_in_list
from paddlevideo.data.audio_datasets import AudioFeatureDataset
from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.remote import access, list_url, read_bytes, remove
from tests.clips import write_clip

pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes, three videos with audio, and a list of them."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a b/1.mp4", "a b/x/2.mkv", "c/3.mp4")):
        write_clip(folder / name, 4 + number, height=32, width=48, tone=440)
    (folder / "all.list").write_text("a b/1.mp4 0\na b/x/2.mkv 0\nc/3.mp4 1\n")
    return folder


@pytest.fixture
def stored(videos, memory):
    """The URL of the same files."""
    for path in videos.rglob("*.*"):
        memory.put(f"in/{path.relative_to(videos).as_posix()}", path.read_bytes())
    return f"{memory.url}/in"


def run(command, *flags) -> int:
    return command.main([str(flag) for flag in flags])


def local_files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def remote_files(url: str) -> dict[str, bytes]:
    return {path[len(url) + 1 :]: read_bytes(path) for path in list_url(url)}


COMMANDS = {
    "resize": (resize_videos, "--short_side", 16),
    "frames": (extract_frames, "--short_side", 16),
    "features": (build_audio_features,),
    "audio": (extract_audio,),
}


@pytest.mark.parametrize("source", ["", "all.list"])
@pytest.mark.parametrize("kind", COMMANDS)
def test_results_at_a_url_are_those_of_the_disk(kind, source, videos, stored, memory, tmp_path):
    command, *flags = COMMANDS[kind]
    flags = [*flags, "--num_workers", 1]
    place, out = f"{stored}/{source}".rstrip("/"), f"{memory.url}/out"
    assert run(command, videos / source, tmp_path / "out", *flags) == 0
    expected = local_files(tmp_path / "out")
    assert run(command, place, out, *flags) == 0
    assert remote_files(out) == expected
    # From a URL to the disk, and from the disk to a URL.
    assert run(command, place, tmp_path / "down", *flags) == 0
    assert local_files(tmp_path / "down") == expected
    assert run(command, videos / source, f"{memory.url}/up/", *flags) == 0
    assert remote_files(f"{memory.url}/up") == expected


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_run_is_continued(kind, stored, memory, capsys):
    command, *flags = COMMANDS[kind]
    flags, out = [*flags, "--num_workers", 1], f"{memory.url}/out"
    memory.put("in/c/3.mp4", b"no video")
    assert run(command, stored, out, *flags) == 1
    assert "2 made, 0 kept, 1 failed" in capsys.readouterr().out
    assert read_bytes(f"{out}/failures.tsv").decode().startswith(f"{stored}/c/3.mp4\t")
    memory.put("in/c/3.mp4", read_bytes(f"{stored}/a b/1.mp4"))
    access.forget(f"{stored}/c/3.mp4")
    assert run(command, stored, out, *flags) == 0
    assert "1 made, 2 kept, 0 failed" in capsys.readouterr().out
    assert not any(path.endswith("failures.tsv") for path in list_url(out))
    assert run(command, stored, out, *flags, "--overwrite") == 0
    assert "3 made, 0 kept, 0 failed" in capsys.readouterr().out


def test_other_settings_are_refused(stored, memory, capsys):
    out = f"{memory.url}/out"
    assert run(resize_videos, stored, out, "--short_side", 16, "--num_workers", 1) == 0
    assert run(resize_videos, stored, out, "--short_side", 8, "--num_workers", 1) == 2
    assert f"{out}/made_with.json: the existing files were made with" in capsys.readouterr().err
    assert json.loads(read_bytes(f"{out}/made_with.json"))["short_side"] == 16


def test_a_folder_of_frames_that_was_cut_is_written_again(stored, memory, capsys):
    """The first frame is stored last, so that a folder with it is complete."""
    out = f"{memory.url}/out"
    flags = [stored, out, "--num_workers", 1]
    assert run(extract_frames, *flags) == 0
    whole = remote_files(out)
    remove(f"{out}/c/3/img_00001.jpg")
    memory.put("out/c/3/img_00099.jpg", b"of a longer video")
    capsys.readouterr()
    assert run(extract_frames, *flags) == 0
    assert "1 made, 2 kept" in capsys.readouterr().out and remote_files(out) == whole


def test_lists_are_read_by_a_training(stored, memory, tmp_path):
    copies, frames = f"{memory.url}/copies", f"{memory.url}/frames"
    features = f"{memory.url}/features"
    source = f"{stored}/all.list"
    assert run(resize_videos, source, copies, "--num_workers", 1, "--short_side", 16) == 0
    assert run(extract_frames, source, frames, "--num_workers", 1) == 0
    assert run(build_audio_features, source, features, "--num_workers", 1) == 0
    data = VideoDataset(f"{copies}/all.list").load()
    assert [r.path for r in data.records] == [f"{copies}/{n}" for n in NAMES]
    data = FrameDataset(f"{frames}/frames.list").load()
    assert [(r.num_frames, r.label) for r in data.records] == [(4, 0), (5, 0), (6, 1)]
    # A list on this disk of frames at a URL.
    local = tmp_path / "x" / "frames.list"
    assert run(extract_frames, source, frames, "--num_workers", 1, "--list", local) == 0
    assert next(iter(FrameDataset(str(local)).load().records)).path == f"{frames}/a b/1"
    (tmp_path / "f.list").write_text("a b/1 4 0\n")
    data = AudioFeatureDataset(str(tmp_path / "f.list"), data_prefix=features).load()
    assert data.records[0].path == f"{features}/a b/1.npy"


NAMES = ("a b/1.mp4", "a b/x/2.mp4", "c/3.mp4")


def test_videos_of_a_list_below_a_url(stored, memory, tmp_path):
    file = tmp_path / "urls.list"
    file.write_text(f"{stored}/a b/1.mp4 0\nc/3.mp4 1\n")
    with pytest.raises(ValueError, match=r"path 1, .*1\.mp4, is not below the working directory"):
        plan_jobs(file, tmp_path, ".wav")
    jobs = plan_jobs(file, f"{memory.url}/o", ".wav", root=stored)
    assert jobs == [
        Job(f"{stored}/{name}.mp4", f"{memory.url}/o/{name}.wav") for name in ("a b/1", "c/3")
    ]
    file.write_text("../3.mp4 0\n")
    with pytest.raises(ValueError, match=r"\.\./3\.mp4, is not below memory://.*; set --list-root"):
        plan_jobs(file, tmp_path, ".wav", root=stored)


def test_signed_addresses_of_a_list(server, videos, tmp_path, capsys):
    server.files["/v/a%20b.mp4?sig=1"] = (videos / "c/3.mp4").read_bytes()
    (tmp_path / "s.list").write_text(
        f"{server.url}/v/a%20b.mp4?sig=1\n{server.url}/v/none.mp4?sig=2\n"
    )
    flags = ["--num_workers", 1, "--list_root", f"{server.url}/v"]
    assert run(extract_audio, tmp_path / "s.list", tmp_path / "out", *flags) == 1
    assert sorted(local_files(tmp_path / "out")) == ["a b.wav", "failures.tsv", "made_with.json"]
    report = (tmp_path / "out/failures.tsv").read_text()
    assert "none.mp4\tno such file" in report and "sig=" not in report
    assert "sig=" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("kind", COMMANDS)
def test_mistakes_are_one_line(kind, stored, videos, server, capsys):
    command = COMMANDS[kind][0]
    assert run(command, videos, f"{server.url}/out", "--num_workers", 1) in (1, 2)
    error = capsys.readouterr().err
    assert ": files of web servers can only be read; give a local path, or the URL of an" in error
    assert run(command, f"{stored}/none", f"{stored}-out") in (1, 2)
    assert f"{stored}/none: no such folder or list" in capsys.readouterr().err
    assert run(command, "nowhere://b/v", f"{stored}-out") in (1, 2)
    assert "fsspec has no package for nowhere://" in capsys.readouterr().err


def test_paths_in_lists_at_urls(tmp_path):
    assert path_in_list("s3://b/o/a b/1.mp4", "s3://b/o/") == "a b/1.mp4"
    assert path_in_list("s3://b/o/1.mp4", "s3://b/other") == "s3://b/o/1.mp4"
    assert path_in_list("s3://b/o/1.mp4", tmp_path) == "s3://b/o/1.mp4"
    assert path_in_list(tmp_path / "1.mp4", "s3://b/o") == f"{tmp_path}/1.mp4"


def test_copies_on_s3(s3, videos, tmp_path, capsys):
    for path in videos.rglob("*.*"):
        s3.put(f"prepare/{path.relative_to(videos).as_posix()}", path.read_bytes())
    source, out = f"{s3.url}/prepare/all.list", f"{s3.url}/prepared"
    flags = ["--num_workers", 1, "--short_side", 16]
    assert run(resize_videos, videos / "all.list", tmp_path / "local", *flags) == 0
    assert run(resize_videos, source, out, *flags) == 0
    assert remote_files(out) == local_files(tmp_path / "local")
    s3.client.delete_object(Bucket=s3.bucket, Key="prepared/c/3.mp4")
    capsys.readouterr()
    assert run(resize_videos, source, out, *flags) == 0
    assert "1 made, 2 kept, 0 failed" in capsys.readouterr().out
    assert run(extract_frames, source, f"{s3.url}/frames", "--num_workers", 1) == 0
    assert len(list_url(f"{s3.url}/frames")) == 4 + 5 + 6 + 2
    remove(f"{s3.url}/frames/c")
    assert len(list_url(f"{s3.url}/frames")) == 4 + 5 + 2
