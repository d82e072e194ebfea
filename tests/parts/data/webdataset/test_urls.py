"""Shards at URLs: the same records and frames, and where their index is kept."""

import io
import json

import cv2
import numpy as np
import pytest

from paddlevideo.commands import make_shards as make_shards_command
from paddlevideo.curate.make_shards import ShardSettings, load_data, make_shards
from paddlevideo.data.audio_pipeline import read_feature
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.webdataset import index
from paddlevideo.data.webdataset.dataset import WebDataset
from paddlevideo.data.webdataset.find import expand_braces
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.media.waveform import read_waveform
from paddlevideo.predict.inputs import find_inputs
from paddlevideo.remote import access, list_url, path_name, read_bytes, remove, url_file
from paddlevideo.sample import DecodeError
from tests.clips import write_clip
from tests.tar_shards import write_tar

pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Three shards of one video each, with their indexes."""
    folder = tmp_path_factory.mktemp("local")
    for number in range(3):
        write_clip(folder / f"v{number}.mp4", 6 + number, tone=440)
    (folder / "t.list").write_text("".join(f"v{n}.mp4 {n % 2}\n" for n in range(3)))
    make_shards(*load_data(str(folder / "t.list"), "video"), folder, ShardSettings("t", 1000), 1)
    return folder


def uploaded(local, memory, with_index=True):
    for path in sorted(local.glob("t-*")):
        if with_index or path.suffix == ".tar":
            memory.put(f"s/{path.name}", path.read_bytes())
    return f"{memory.url}/s"


def frames_of(record):
    with (FrameDecoder() if record.frame_pattern else VideoDecoder()).open(record) as clip:
        return clip.read(np.arange(clip.num_frames))


WAYS = ("t-{000000..000002}.tar", "t-*.tar", "", "t.list")


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_name_remote_shards(local, memory, way):
    url = uploaded(local, memory)
    memory.put("s/t.list", "".join(f"t-00000{n}.tar\n" for n in range(3)))
    remote = WebDataset(f"{url}/{way}").load().records
    stored = WebDataset(f"{local}/t-*.tar").load().records
    assert [r.location for r in remote] == [f"{url}/t-00000{n}.tar@v{n}" for n in range(3)]
    for one, other in zip(remote, stored, strict=True):
        assert (one.label, one.id) == (other.label, other.id)
        assert np.array_equal(frames_of(one), frames_of(other))


def test_a_local_list_of_urls(local, memory, tmp_path):
    url = uploaded(local, memory)
    (tmp_path / "all.list").write_text(f"{url}/t-000001.tar\n{local}/t-000000.tar\n")
    ids = [record.id for record in WebDataset(str(tmp_path / "all.list")).load().records]
    assert ids == ["v1.mp4", "v0.mp4"]


def test_the_index_next_to_the_shard_is_used(local, memory, monkeypatch, tmp_path):
    url = uploaded(local, memory)

    def never(path):
        raise AssertionError(f"{path} is scanned")

    monkeypatch.setattr(index, "read_samples", never)
    assert len(WebDataset(f"{url}/*.tar").load().records) == 3
    assert not (tmp_path / "home" / "shards").exists()


def test_without_an_index_a_scan_is_kept(local, memory, monkeypatch, tmp_path):
    url = uploaded(local, memory, with_index=False)
    first = WebDataset(f"{url}/*.tar").load().records
    assert len(list((tmp_path / "home" / "shards").glob("*.index.json"))) == 3
    scans = []
    read = index.read_samples
    monkeypatch.setattr(index, "read_samples", lambda path: scans.append(path) or read(path))
    assert WebDataset(f"{url}/*.tar").load().records == first
    assert not scans
    # Another shard of another size, whose earlier index does not fit.
    write_tar(tmp_path / "t.tar", [("new.mp4", b"x" * 20_000), ("new.cls", b"1")])
    memory.put("s/t-000001.tar", (tmp_path / "t.tar").read_bytes())
    access._state.infos.clear()
    assert [r.id for r in WebDataset(f"{url}/*.tar").load().records] == ["v0.mp4", "new", "v2.mp4"]
    assert len(scans) == 1


def test_frames_at_a_url(memory, tmp_path):
    images = [cv2.imencode(".png", np.full((8, 8, 3), n, np.uint8))[1].tobytes() for n in (1, 2)]
    entries = [(f"v.{number}.png", image) for number, image in enumerate(images)]
    write_tar(tmp_path / "f.tar", [*entries, ("v.cls", b"0")])
    url = memory.put("f.tar", (tmp_path / "f.tar").read_bytes())
    (record,) = WebDataset(url).load().records
    assert frames_of(record)[:, 0, 0, 0].tolist() == [1, 2]


def test_missing_shards_are_named(local, memory):
    url = uploaded(local, memory)
    with pytest.raises(DatasetError, match=r"t-000003.tar: no such shard\n.*t-000004.tar: no such"):
        WebDataset(url + "/t-{000002..000004}.tar").load()
    with pytest.raises(DatasetError, match="no file matches this pattern"):
        WebDataset(url + "/x-*.tar").load()
    with pytest.raises(DatasetError, match="no shards: .*no such folder"):
        WebDataset(memory.url + "/nowhere").load()


def test_a_shard_that_is_lost_is_a_failure(local, memory):
    url = uploaded(local, memory)
    (record, *_) = WebDataset(url + "/*.tar").load().records
    memory.files.rm(f"{url}/t-000000.tar")
    access._state.infos.clear()
    with pytest.raises(DecodeError, match="no such shard"):
        frames_of(record)


def test_a_server_that_fails_is_a_failure_of_the_sample(local, server, monkeypatch):
    records = WebDataset(served(local, server, "", with_index=True)).load().records
    monkeypatch.setattr(url_file, "_memory", url_file._Memory())
    server.plan = [500] * 9
    with pytest.raises(DecodeError, match="the shard cannot be read: .*the server answered 500"):
        frames_of(records[0])


def test_shards_of_remote_videos(local, memory, tmp_path):
    lines = [memory.put(f"v/{n}.mp4", (local / f"v{n}.mp4").read_bytes()) for n in range(2)]
    lines.append(f"{memory.url}/v/missing.mp4")
    (tmp_path / "r.list").write_text("".join(f"{line} 0\n" for line in lines))
    data = load_data(str(tmp_path / "r.list"), "video")
    done = make_shards(*data, tmp_path / "out", ShardSettings("r"), 1)
    assert [source for source, _ in done.failed] == lines[2:]
    records = WebDataset(str(tmp_path / "out")).load().records
    assert [record.id for record in records] == lines[:2]
    assert json.loads((tmp_path / "out/r.manifest.json").read_text())["num_samples"] == 2


# --- signed addresses -----------------------------------------------------------------------------


def served(local, server, query="?sig=a/b@c+d", with_index=False):
    """A pattern of the shards on a web server, each with a query."""
    for path in sorted(local.glob("t-*")):
        if with_index or path.suffix == ".tar":
            server.files[f"/s/{path.name}{query}"] = path.read_bytes()
    return f"{server.url}/s/t-{{000000..000002}}.tar{query}"


@pytest.mark.parametrize("with_index", [True, False])
def test_shards_at_signed_addresses(local, server, caplog, with_index):
    pattern = served(local, server, with_index=with_index)
    records = WebDataset(pattern).load().records
    assert [r.location for r in records] == [
        f"{server.url}/s/t-00000{n}.tar@v{n}" for n in range(3)
    ]
    for one, other in zip(records, WebDataset(f"{local}/t-*.tar").load().records, strict=True):
        assert np.array_equal(frames_of(one), frames_of(other))
        assert np.array_equal(read_waveform(one.path, 16000), read_waveform(other.path, 16000))
    assert [record.path for record, _ in find_inputs(pattern)] == [r.path for r in records]
    assert "sig=" not in caplog.text


def test_the_index_of_another_signature_is_used(local, server, monkeypatch):
    first = WebDataset(served(local, server)).load().records
    server.files.clear()

    def never(path):
        raise AssertionError(f"{path} is scanned")

    monkeypatch.setattr(index, "read_samples", never)
    second = WebDataset(served(local, server, "?sig=2")).load().records
    assert [r.location for r in second] == [r.location for r in first]
    assert [r.path for r in second] != [r.path for r in first]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_index_that_is_not_signed(local, server, status):
    """Of a signed shard, the index next to it may be refused."""
    pattern = served(local, server)
    server.plan = [status]  # the answer to the first GET
    server.files["/s/t-000000.index.json?sig=a/b@c+d"] = b"{}"
    url = pattern.replace("{000000..000002}", "000000")
    assert [r.id for r in WebDataset(url).load().records] == ["v0.mp4"]


def test_a_signed_list_and_mistakes_show_no_signature(local, server, tmp_path):
    pattern = served(local, server)
    urls = list(expand_braces(pattern))
    (tmp_path / "s.list").write_text("".join(f"{url}\n" for url in urls))
    assert len(WebDataset(str(tmp_path / "s.list")).load().records) == 3
    (tmp_path / "s.list").write_text(f"{urls[0]}\n{urls[0]}\n{server.url}/v.mp4?sig=a\n")
    missing = pattern.replace("/s/", "/none/")
    packed = f"{server.url}/a.tar.gz?sig=a"
    for path in (str(tmp_path / "s.list"), missing, packed, pattern.replace("2}", "0}..{3..1}")):
        with pytest.raises(DatasetError) as caught:
            WebDataset(path).load()
        assert "sig=" not in str(caught.value) and ".tar" in str(caught.value)


def test_frames_and_features_at_signed_addresses(server, tmp_path):
    images = [cv2.imencode(".png", np.full((8, 8, 3), n, np.uint8))[1].tobytes() for n in (1, 2)]
    entries = [(f"v.{number}.png", image) for number, image in enumerate(images)]
    content = write_tar(tmp_path / "f.tar", [*entries, ("v.cls", b"0")]).read_bytes()
    server.files["/f.TAR?sig=1"] = server.files["/f.tar?sig=1"] = content
    (record,) = WebDataset(f"{server.url}/f.tar?sig=1").load().records
    assert frames_of(record)[:, 0, 0, 0].tolist() == [1, 2]
    array = io.BytesIO()
    np.save(array, np.ones((5, 80), np.float32))
    content = write_tar(tmp_path / "a.tar", [("v.npy", array.getvalue()), ("v.cls", b"0")])
    server.files["/a.tar?sig=1"] = content.read_bytes()
    (record,) = WebDataset(f"{server.url}/a.tar?sig=1").load().records
    assert read_feature(record.path, 80).shape == (5, 80)


def test_names_in_shards_have_no_signature(local, server, tmp_path):
    server.files["/v/v0.mp4?sig=1"] = (local / "v0.mp4").read_bytes()
    (tmp_path / "s.list").write_text(f"{server.url}/v/v0.mp4?sig=1 0\n")
    data = load_data(str(tmp_path / "s.list"), "video")
    make_shards(*data, tmp_path / "out", ShardSettings("s"), 1)
    content = (tmp_path / "out/s-000000.tar").read_bytes()
    assert b"sig=" not in content and f"{server.url}/v/v0.mp4".encode() in content


# --- shards that are written to URLs --------------------------------------------------------------


def made(local, out, *flags) -> int:
    return make_shards_command.main([str(local / "t.list"), str(out), "--num_workers", "1", *flags])


SMALL = ("--shard_size", "1000")


def remote_files(url) -> dict[str, bytes]:
    return {path_name(path): read_bytes(path) for path in list_url(url)}


def test_shards_at_a_url_are_those_of_the_disk(local, memory, monkeypatch, tmp_path, capsys):
    out = f"{memory.url}/out"
    assert made(local, out, *SMALL) == made(local, tmp_path / "out", *SMALL) == 0
    stored = remote_files(out)
    for path in (tmp_path / "out").iterdir():
        if path.suffix == ".tar" or "manifest" in path.name:
            assert stored.pop(path.name) == path.read_bytes()
    assert sorted(stored) == [f"t-00000{n}.index.json" for n in range(3)]
    monkeypatch.setattr(index, "read_samples", None)  # the indexes are there
    ids = [record.id for record in WebDataset(f"{out}/*.tar").load().records]
    assert ids == [f"v{n}.mp4" for n in range(3)]
    capsys.readouterr()
    assert made(local, out, *SMALL) == 0
    assert "0 made, 3 kept, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["t-000001.tar", "t-000001.index.json", "t.manifest.json"])
def test_shards_at_a_url_are_continued(local, memory, capsys, lost):
    out = f"{memory.url}/out"
    assert made(local, out, *SMALL) == 0
    whole = remote_files(out)
    remove(f"{out}/{lost}")
    capsys.readouterr()
    flags = ["--overwrite"] if "manifest" in lost else []
    assert made(local, out, *SMALL, *flags) == 0
    kept = 3 if "manifest" in lost else 2
    assert f"{3 - kept} made, {kept} kept, 0 failed" in capsys.readouterr().out
    found = remote_files(out)
    assert found.keys() == whole.keys()
    assert all(found[name] == whole[name] for name in whole if name.endswith(".tar"))


def test_other_shards_at_a_url_are_replaced_on_request_only(local, memory, capsys):
    out = f"{memory.url}/out"
    assert made(local, out, *SMALL) == 0
    assert made(local, out) == 2
    text = f"{out}/t-000000.tar: 3 shard(s) of this name were made of other files or with other"
    assert text in capsys.readouterr().err
    assert made(local, out, "--overwrite") == 0
    assert sorted(remote_files(out)) == ["t-000000.index.json", "t-000000.tar", "t.manifest.json"]


def test_resized_videos_and_failures_at_a_url(local, memory, home, tmp_path):
    source = f"{memory.url}/in"
    for number in range(3):
        memory.put(f"in/v{number}.mp4", (local / f"v{number}.mp4").read_bytes())
    memory.put("in/broken.mp4", b"no video")
    memory.put("in/a.list", "v0.mp4 0\nbroken.mp4 1\nv2.mp4 1\n")
    flags = ["--resize", "16", "--num_workers", "1"]
    assert make_shards_command.main([f"{source}/a.list", f"{memory.url}/out", *flags]) == 1
    stored = remote_files(f"{memory.url}/out")
    assert stored["failures.a.tsv"].startswith(f"{source}/broken.mp4\tno known video".encode())
    records = WebDataset(f"{memory.url}/out").load().records
    assert [r.id for r in records] == ["v0.mp4", "v2.mp4"] and frames_of(records[0]).shape[1] == 16
    assert not list((home / "resized").glob("*"))


def test_a_web_server_takes_no_shards(local, server, capsys):
    assert made(local, f"{server.url}/out?sig=1") == 2
    error = capsys.readouterr().err
    assert "/out: files of web servers can only be read" in error and "sig=" not in error


def test_shards_on_s3(local, s3, tmp_path):
    out = f"{s3.url}/shards"
    assert made(local, out, *SMALL) == made(local, tmp_path / "out", *SMALL) == 0
    for number in range(3):
        name = f"t-00000{number}.tar"
        assert s3.get(f"shards/{name}") == (tmp_path / "out" / name).read_bytes()
    assert made(local, out, "--overwrite") == 0
    assert sorted(remote_files(out)) == ["t-000000.index.json", "t-000000.tar", "t.manifest.json"]
    assert len(WebDataset(out).load().records) == 3
