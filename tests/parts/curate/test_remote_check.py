"""Checking data at URLs: the faults and lists of the same files on the local disk."""

import csv
import io
from pathlib import Path

import pytest

from paddlevideo.commands.check_data import main
from paddlevideo.curate.probe import ProbeOptions, probe_video
from paddlevideo.curate.probe_audio import probe_audio
from paddlevideo.data.datasets import VideoDataset
from paddlevideo.remote import access, list_url, read_bytes
from paddlevideo.sample import Record
from tests.audio_clips import chirps, write_audio
from tests.clips import random_frames, write_clip

pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes of four videos, one of which is cut short and one no video; and another file."""
    folder = tmp_path_factory.mktemp("videos")
    for label in ("run", "swim"):
        for number in range(4):
            frames = random_frames(4, 32, 48, seed=len(label) * 10 + number)
            write_clip(folder / label / f"v{number}.mp4", frames=frames)
    whole = (folder / "run/v3.mp4").read_bytes()
    (folder / "run/v3.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "swim/v3.mp4").write_text("no video")
    (folder / "swim/notes.txt").write_text("text")
    return folder


def store(files, folder: Path, place: str) -> str:
    for path in folder.rglob("*.*"):
        files.put(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"{files.url}/{place}"


@pytest.fixture
def stored(videos, memory) -> str:
    return store(memory, videos, "v")


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def run(*flags) -> int:
    return main([*map(str, flags), "--workers", "0"])


SPLITS = ("train.csv", "val.csv")
RESULTS = ("train.csv", "val.csv", "labels.txt", "bad_files.csv", "check.json", "data_report.html")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_at_a_url(videos, stored, memory, tmp_path, is_there):
    """With results next to the videos, and in a folder on this disk."""
    out = [] if is_there else ["--out", tmp_path / "down"]
    assert run(videos, "--out", tmp_path / "local") == 1 == run(stored, *out)
    for name in ("train.csv", "val.csv"):
        path = f"{stored}/{name}" if is_there else tmp_path / "down" / name
        found, expected = rows(read_bytes(path)), rows((tmp_path / "local" / name).read_bytes())
        for one, other in zip(found, expected, strict=True):
            assert one.pop("path") == f"{stored}/{Path(other.pop('path')).relative_to(videos)}"
            assert one == other
    path = f"{stored}/bad_files.csv" if is_there else tmp_path / "down/bad_files.csv"
    assert read_bytes(path) == (tmp_path / "local/bad_files.csv").read_bytes()
    if is_there:
        assert {f"{stored}/{name}" for name in RESULTS} <= set(list_url(stored))
        assert len(VideoDataset(f"{stored}/val.csv").load().records) == len(expected)


def test_a_second_check_keeps_the_splits(stored, memory, capsys):
    assert run(stored, "--seed", 1) == 1
    before = read_bytes(f"{stored}/val.csv")
    assert run(stored, "--seed", 2) == 1 and read_bytes(f"{stored}/val.csv") == before
    memory.put("v/train.csv", b"edited")
    access.forget(stored)
    capsys.readouterr()
    assert run(stored) == 2
    assert "train.csv was edited since this tool wrote it" in capsys.readouterr().err


def test_lists_of_urls(videos, stored, memory, tmp_path):
    lines = [f"{label}/v{n}.mp4 {label}" for label in ("run", "swim") for n in range(4)]
    lines.append("swim/none.mp4 swim")
    memory.put("v/all.list", "\n".join(lines))
    (tmp_path / "urls.list").write_text("".join(f"{stored}/{line}\n" for line in lines))
    assert run(f"{stored}/all.list", "--out", f"{memory.url}/out") == 1
    assert run(tmp_path / "urls.list") == 1
    kinds = [row["kind"] for row in rows(read_bytes(f"{memory.url}/out/bad_files.csv"))]
    assert sorted(kinds) == ["missing", "not_video", "truncated"]
    found = {row["path"] for name in SPLITS for row in rows(read_bytes(f"{memory.url}/out/{name}"))}
    assert found == {r["path"] for name in SPLITS for r in rows((tmp_path / name).read_bytes())}
    assert found == {f"{stored}/{label}/v{n}.mp4" for label in ("run", "swim") for n in range(3)}


def test_folders_of_splits(videos, memory, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    for split, names in (("train", "v0"), ("val", "v1")):
        for path in videos.glob(f"*/{names}.mp4"):
            name = f"{split}/{path.parent.name}/{split}{path.name}"
            memory.put(f"s/{name}", path.read_bytes())
    memory.put("s/loose.mp4", b"x")
    run(f"{memory.url}/s", "--out", tmp_path / "a")
    faults = [row["kind"] for row in rows((tmp_path / "a/bad_files.csv").read_bytes())]
    assert "no_class" in faults
    found = rows((tmp_path / "a/train.csv").read_bytes())
    assert {row["class"] for row in found} == {"run", "swim"}
    assert all("/s/train/" in row["path"] for row in found)
    memory.put("s/run/v9.mp4", b"x")
    access.forget(f"{memory.url}/s")
    assert run(f"{memory.url}/s", "--out", tmp_path / "b") == 2
    assert "/s/train has folders of the classes next to it (such as run)" in capsys.readouterr().err


def test_equal_files_are_found(videos, memory, tmp_path):
    for label in ("run", "swim"):
        for number in range(3):
            content = (videos / label / f"v{number}.mp4").read_bytes()
            memory.put(f"e/{label}/v{number}.mp4", content)
    memory.put("e/run/copy.mp4", (videos / "run/v0.mp4").read_bytes())
    assert run(f"{memory.url}/e", "--out", tmp_path) == 1
    assert [row["kind"] for row in rows((tmp_path / "bad_files.csv").read_bytes())] == ["duplicate"]


def test_classes_of_a_web_server_have_the_names_of_the_folders(server, videos, tmp_path):
    """In addresses, a space and a percent sign are written in another way."""
    run_clip, swim = ((videos / f"{name}/v1.mp4").read_bytes() for name in ("run", "swim"))
    pages = {"": ("a%20b/", "c%25/"), "a%20b": ("1.mp4",), "c%25": ("2.mp4",)}
    for folder, links in pages.items():
        page = "".join(f'<a href="{link}">{link}</a>' for link in links)
        server.files[f"/d/{folder}"] = page.encode()
    server.files |= {"/d/a%20b/1.mp4": run_clip, "/d/c%25/2.mp4": swim}
    run(f"{server.url}/d/", "--out", tmp_path)
    assert (tmp_path / "labels.txt").read_text() == "0 a b\n1 c%\n"
    paths = {row["path"] for row in rows((tmp_path / "train.csv").read_bytes())}
    assert paths == {f"{server.url}/d/a%20b/1.mp4", f"{server.url}/d/c%25/2.mp4"}


def test_mistakes_are_one_line(stored, server, memory, capsys):
    for flags, text in (
        ([f"{stored}/none"], "/none: no such file or folder; give a folder with one sub-folder"),
        (["nowhere://b/v"], "fsspec has no package for nowhere://"),
        ([stored, "--out", f"{server.url}/o?sig=1"], "/o: files of web servers can only be read"),
        ([f"{memory.url}/v/swim/notes.txt"], "notes.txt"),
    ):
        assert run(*flags) == 2
        error = capsys.readouterr().err
        assert text in error and "sig=" not in error and "Traceback" not in error


def test_a_folder_on_s3(videos, s3, tmp_path):
    url = store(s3, videos, "check")
    assert run(url) == 1
    assert {f"{url}/{name}" for name in RESULTS} <= set(list_url(url))
    assert len(VideoDataset(f"{url}/train.csv").load().records) > 2


@pytest.mark.parametrize(
    ("name", "is_damaged", "kind"),
    [
        ("a.ts", False, None),
        ("a.ts", True, "damaged"),
        ("a.m2ts", False, None),
        ("a.mp3", False, None),
        ("a.mp3", True, "truncated"),
    ],
)
def test_formats_whose_packets_are_read_again(memory, tmp_path, name, is_damaged, kind):
    """The faults are those of the same file on this disk."""
    path, probe = tmp_path / name, probe_video
    if name.endswith("mp3"):
        probe = probe_audio
        write_audio(path, chirps(1, 44100), 44100, "libmp3lame")
    else:
        options = {"mpegts_m2ts_mode": "1"} if name.endswith("m2ts") else None
        frames = random_frames(20, 96, 128)
        write_clip(path, 20, frames=frames, container_options=options, container_format="mpegts")
    content = path.read_bytes()
    if is_damaged and name == "a.ts":
        middle = len(content) // 188 // 2 * 188
        content = content[:middle] + bytes(188) + content[middle + 188 :]
    elif is_damaged:
        content = content[: len(content) // 2]
    path.write_bytes(content)
    memory.put(f"again/{name}", content)
    for place in (str(path), f"{memory.url}/again/{name}"):
        faults = probe(Record(place, id="a"), ProbeOptions()).faults
        assert [fault.kind for fault in faults] == ([kind] if kind else []), place
