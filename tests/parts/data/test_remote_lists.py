"""Lists, folders and class names that are URLs, and local lists with URLs in them."""

from pathlib import Path

import numpy as np
import pytest

from paddlevideo.curate.tagged_videos import find_tagged
from paddlevideo.data.audio_datasets import AudioFeatureDataset
from paddlevideo.data.class_names import class_names_under, read_class_names
from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.paths import split_under
from paddlevideo.data.pipeline import Pipeline, Stage
from paddlevideo.media.damage import note_damage
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.remote import AccessError, CacheSettings, RemoteError, url_file
from paddlevideo.remote.block_cache import SMALLEST
from tests.clips import write_clip

pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("home")


def paths(data) -> list[str]:
    return [record.path for record in data.load().records]


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.list", "a b.mp4 0\nc/d.mp4 1\n"),
        ("l.csv", "path,label\na b.mp4,x\nc/d.mp4,y\n"),
        ("l.jsonl", '{"path": "a b.mp4", "label": "x"}\n{"path": "c/d.mp4", "label": "y"}\n'),
    ],
)
def test_paths_of_a_remote_list_start_next_to_it(memory, name, text):
    url = memory.put(f"d/{name}", text)
    memory.put("d/c/d.mp4", b"")
    assert paths(VideoDataset(url)) == [f"{memory.url}/d/{each}" for each in ("a b.mp4", "c/d.mp4")]


def test_a_remote_prefix(memory, tmp_path):
    memory.put("v/a.mp4", b"")
    (tmp_path / "l.list").write_text("a.mp4 0\n/data/b.mp4 1\ns3://other/c.mp4 1\n")
    assert paths(VideoDataset(str(tmp_path / "l.list"), f"{memory.url}/v")) == [
        f"{memory.url}/v/a.mp4",
        "/data/b.mp4",
        "s3://other/c.mp4",
    ]


def test_a_local_list_of_urls(memory, tmp_path):
    url = memory.put("a.mp4", b"")
    (tmp_path / "l.list").write_text(f"{url} 0\n")
    (record,) = VideoDataset(str(tmp_path / "l.list")).load().records
    assert (record.path, record.id) == (url, url)


def test_a_list_on_a_web_server(server):
    server.files |= {"/d/l.csv?sig=1": b"path,label\na b.mp4,x\n", "/d/a%20b.mp4": b"x"}
    data = VideoDataset(f"{server.url}/d/l.csv?sig=1")
    assert paths(data) == [f"{server.url}/d/a%20b.mp4"]


def test_mistakes_are_reported_with_the_url_and_the_line(memory, server):
    url = memory.put("l.list", "a.mp4\nb.mp4 0\n")
    with pytest.raises(DatasetError, match=f"^{url}:1: 'a.mp4' has no label"):
        VideoDataset(url).load()
    with pytest.raises(DatasetError, match=f"^{memory.url}/none.list: no such file or folder; set"):
        VideoDataset(f"{memory.url}/none.list").load()
    url = memory.put("m.list", "a.mp4 0\n")
    text = f"^{url}: none of its files exists .*relative to data_prefix '{memory.url}'"
    with pytest.raises(DatasetError, match=text):
        VideoDataset(url).load()
    server.files["/l.list?sig=secret"] = b"\xff\xfe0"
    with pytest.raises(DatasetError, match=r"/l\.list: not UTF-8 text \(byte 0\)") as caught:
        VideoDataset(f"{server.url}/l.list?sig=secret").load()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("URL 0\n", "/a.mp4'\\), relative to"),
        ("URL\n", "/a.mp4' has no label behind the path"),
        ("URL run\nURL2 jmp\n", "/b.mp4: unknown class 'jmp'"),
    ],
)
def test_mistakes_in_lists_of_signed_addresses_show_no_signature(server, tmp_path, text, message):
    text = text.replace("URL2", f"{server.url}/b.mp4?sig=secret")
    (tmp_path / "l.list").write_text(text.replace("URL", f"{server.url}/a.mp4?sig=secret"))
    with pytest.raises(DatasetError, match=message) as caught:
        VideoDataset(str(tmp_path / "l.list")).load(["run", "jump"])
    assert "secret" not in str(caught.value)


def test_a_warning_about_signed_addresses_shows_no_signature(server, tmp_path, caplog):
    server.files["/a.mp4?sig=secret"] = b"x"
    (tmp_path / "l.list").write_text(f"{server.url}/a.mp4?sig=secret 0\n" * 2)
    VideoDataset(str(tmp_path / "l.list")).load()
    note_damage(f"{server.url}/a.mp4?sig=secret", "frame 3 is damaged")
    assert f"first '{server.url}/a.mp4'" in caplog.text
    assert f"{server.url}/a.mp4: frame 3 is damaged" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(DatasetError, match="/n.txt: no such file of class names") as caught:
        read_class_names(f"{server.url}/n.txt?sig=secret")
    assert "secret" not in str(caught.value)


def test_a_server_that_cannot_be_asked_is_an_error_at_once(tmp_path):
    (tmp_path / "l.list").write_text("http://127.0.0.1:9/a.mp4 0\n")
    with pytest.raises(RemoteError, match="no answer, or the connection broke"):
        VideoDataset(str(tmp_path / "l.list")).load()
    (tmp_path / "m.list").write_text("bos://b/a.mp4 0\n")
    with pytest.raises(AccessError, match="fsspec has no package for bos://"):
        VideoDataset(str(tmp_path / "m.list")).load()


# --- folders --------------------------------------------------------------------------------------

TREE = ("b/z.mp4", "b/x/1.avi", "b/a.MP4", "a b/2.mkv", "a b/y/3.mp4", "top.mp4", "c/n.txt")


def test_a_folder_per_class_has_the_order_of_the_local_one(memory, tmp_path):
    for name in (*TREE, ".h/1.mp4", "b/.h.mp4"):
        memory.put(f"d/{name}", b"")
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).touch()
    remote, local = VideoDataset(f"{memory.url}/d").load(), VideoDataset(str(tmp_path / "d")).load()
    assert [(r.id, r.label) for r in remote.records] == [(r.id, r.label) for r in local.records]
    assert remote.class_names == local.class_names == ["a b", "b"]
    assert remote.records[0].path == f"{memory.url}/d/a b/2.mkv"


def test_a_folder_of_a_web_server_has_the_names_of_the_files(server):
    """In addresses, a space and a number sign are written in another way."""
    server.files |= {
        "/d/": b'<a href="../">up</a> <a href="a%20b/">a b</a> <a href="c%25/">c%</a>',
        "/d/a%20b": b'<a href="1%23.mp4">1#.mp4</a>',
        "/d/c%25": b'<a href="2.mp4">2.mp4</a>',
        "/d/a%20b/1%23.mp4": b"x",
        "/d/c%25/2.mp4": b"x",
    }
    url = f"{server.url}/d/"
    data = VideoDataset(url).load()
    assert data.class_names == ["a b", "c%"]
    assert [record.id for record in data.records] == ["a b/1#.mp4", "c%/2.mp4"]
    addresses = [f"{url}a%20b/1%23.mp4", f"{url}c%25/2.mp4"]
    assert [record.path for record in data.records] == addresses
    found, names = find_tagged([url])
    assert names == ["a b", "c%"] and [video.record.path for video in found] == addresses


def test_folders_of_frames_and_of_audio(memory, tmp_path):
    names = ("x/v2/img_00001.jpg", "x/v1/img_00001.jpg", "x/v1/img_00002.jpg", "y/w/0.png")
    for name in (*names, "y/s.wav", "y/t.npy"):
        memory.put(f"d/{name}", b"")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for kind in (FrameDataset, AudioFeatureDataset):
        remote, local = kind(f"{memory.url}/d/").load().records, kind(str(tmp_path)).load().records
        assert [(r.id, r.label) for r in remote] == [(r.id, r.label) for r in local]
        assert len(remote) == (3 if kind is FrameDataset else 2)


def test_a_folder_without_videos(memory):
    memory.put("d/a/n.txt", b"")
    with pytest.raises(DatasetError, match=r"no records in this folder: expected d/<class>/\*.mp4"):
        VideoDataset(f"{memory.url}/d").load()


def test_a_root(memory):
    memory.put("d/train.csv", "path,label\na.mp4,0\n")
    memory.put("d/val/x/a.mp4", b"")
    memory.put("d/labels.txt", "x\ny\n")
    url = f"{memory.url}/d"
    assert split_under(url, "train") == {"file_path": f"{url}/train.csv", "data_prefix": url}
    assert split_under(url, "valid") == {"file_path": f"{url}/val"}
    assert class_names_under(url) == f"{url}/labels.txt"
    assert read_class_names(f"{url}/labels.txt") == ["x", "y"]
    with pytest.raises(DatasetError, match="no such folder"):
        split_under(f"{memory.url}/none", "train")
    with pytest.raises(DatasetError, match="/none.txt: no such file of class names"):
        read_class_names(f"{memory.url}/none.txt")


def test_videos_to_extract_features_from(memory, tmp_path):
    for name in ("d/x/a.mp4", "d/y/b c.mp4"):
        memory.put(name, b"")
    url = f"{memory.url}/d"
    expected = [(f"{url}/x/a.mp4", (0,)), (f"{url}/y/b c.mp4", (1,))]
    lists = memory.put("d/l.txt", "x/a.mp4 0\ny/b c.mp4 1\n")
    (tmp_path / "l.csv").write_text(f"path,label\n{url}/x/a.mp4,0\n{url}/y/b c.mp4,1\n")
    for text in (url, lists, str(tmp_path / "l.csv")):
        found, _ = find_tagged([text])
        assert [(video.record.path, video.labels) for video in found] == expected
    ((video,), _) = find_tagged([f"{url}/x/a.mp4"])
    assert (video.record.path, video.record.id) == (f"{url}/x/a.mp4", "a.mp4")
    memory.put("e/n.md", b"")
    with pytest.raises(DatasetError, match=f"{memory.url}/e: no video in this folder"):
        find_tagged([f"{memory.url}/e"])


# --- workers --------------------------------------------------------------------------------------


class Frames(Pipeline):
    """The first frames of a video."""

    def __call__(self, record, rng, source=None):
        with Stage("decode"), VideoDecoder().open(record) as clip:
            return {"frames": clip.read(np.arange(4)), "label": np.int64(record.label)}


def batches(records, workers: int, cache=None) -> tuple[list, list]:
    """(the frames of each batch, the failures)."""
    dataset = ClipDataset(records, Frames(), cache=cache)
    loader = Loader(dataset, EvalOrder(len(records), 2, 0, 1), workers)
    try:
        loaded = list(loader.epoch(0))
    finally:
        loader.close()
    failures = [str(failure) for each in loaded for failure in each.failures]
    return [each.batch["frames"].copy() for each in loaded if each.batch], failures


@pytest.fixture
def six(server, tmp_path):
    """Records of six videos on a server, the last of which is missing there."""
    text = ""
    for number in range(6):
        path = write_clip(tmp_path / f"{number}.mp4", num_frames=6 + number)
        server.files |= {f"/{number}.mp4": path.read_bytes()} if number < 5 else {}
        text += f"{number}.mp4 {number % 2}\n"
    (tmp_path / "l.list").write_text(text)
    return VideoDataset(str(tmp_path / "l.list"), server.url).load().records


def test_workers_read_as_the_main_process_does(six, server, tmp_path):
    local = VideoDataset(str(tmp_path / "l.list")).load().records[:5]
    expected, _ = batches(local, 0)
    for workers in (0, 2):  # the main process has open connections when it forks
        found, failures = batches(six, workers)
        assert all(map(np.array_equal, found, expected)) and len(found) == 3
        (failure,) = failures
        assert failure.startswith(f"{server.url}/5.mp4: decode: no such file")


def test_what_concerns_all_files_ends_a_run(six):
    records = [record.__class__("zz://b/a.mp4", 0) for record in six]
    for workers in (0, 1):
        with pytest.raises(AccessError, match="fsspec has no package for zz://"):
            batches(records, workers)


def test_later_epochs_read_from_the_disk(six, server, tmp_path, monkeypatch):
    cache = CacheSettings(str(tmp_path / "cache"), SMALLEST / 1e9)
    expected, _ = batches(six, 2, cache)
    asked = len(server.parts)
    monkeypatch.setattr(url_file, "_memory", url_file._Memory())
    found, _ = batches(six, 2, cache)
    assert all(map(np.array_equal, found, expected))
    new = [path for path, _ in server.asked[asked:]]
    assert set(new) <= {"/5.mp4"}
    assert list(Path(tmp_path / "cache").rglob("*-0"))
