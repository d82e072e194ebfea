"""The folder in which a feature set at a URL is made, and what is stored of it."""

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.features import remote_set
from paddlevideo.features.extract import FeatureExtractor
from paddlevideo.features.remote_set import local_features, local_set
from paddlevideo.remote import AccessError, MissingError, RemoteError, list_url, read_bytes

pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("home")


def contents(url: str) -> dict[str, bytes]:
    return {path[len(url) + 1 :]: read_bytes(path) for path in list_url(url)}


def make(url: str, **texts: str) -> None:
    with local_set(url) as folder:
        for name, text in texts.items():
            (folder / name.replace("_", ".")).write_text(text)


def test_a_local_folder_stays(tmp_path):
    with local_set(tmp_path / "f") as folder:
        assert folder == tmp_path / "f"


def test_a_set_is_stored_at_its_end(memory, home):
    url = f"{memory.url}/f"
    with local_set(f"{url}/") as folder:
        assert folder.name == "f"  # the shards are named after it
        (folder / "f00000.tfrecord").write_bytes(b"1")
        (folder / "extractor.json").write_text("{}")
        (folder / ".vectors").mkdir()
        (folder / ".vectors" / "0.npz").write_bytes(b"2")
        assert not memory.files.exists(url)
    assert contents(url) == {"f00000.tfrecord": b"1", "extractor.json": b"{}"}
    assert not list((home / "features").iterdir())


def test_only_what_changes_is_stored(memory, monkeypatch):
    url = f"{memory.url}/f"
    make(url, a_tfrecord="1", extractor_json="{}", failures_tsv="x")
    puts = []
    put = remote_set.put_file
    monkeypatch.setattr(remote_set, "put_file", lambda *names: puts.append(names[1]) or put(*names))
    with local_set(url) as folder:
        (folder / "b.tfrecord").write_text("2")
        (folder / "failures.tsv").unlink()
    assert [path.rpartition("/")[2] for path in puts] == ["b.tfrecord"]
    assert sorted(contents(url)) == ["a.tfrecord", "b.tfrecord", "extractor.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_an_interrupted_run_has_made_is_stored(memory, home, error):
    url = f"{memory.url}/f"
    with pytest.raises(error), local_set(url) as folder:
        (folder / "a.tfrecord").write_text("1")
        raise error
    assert contents(url) == {"a.tfrecord": b"1"}
    # On another machine, whose cache is empty, the run is continued.
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with local_set(url) as folder:
        assert (folder / "a.tfrecord").read_text() == "1"


def test_a_killed_run_is_continued_on_its_machine(memory, monkeypatch):
    url = f"{memory.url}/f"
    make(url, failures_tsv="of an earlier run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), local_set(url) as folder:
        patch.setattr(remote_set, "_store", lambda *_: None)  # as after a kill
        (folder / "a.tfrecord").write_text("1")
        (folder / "failures.tsv").write_text("of this run")
        raise KeyboardInterrupt
    assert contents(url) == {"failures.tsv": b"of an earlier run"}
    with local_set(url) as folder:
        assert (folder / "a.tfrecord").read_text() == "1"
        (folder / "b.tfrecord").write_text("2")
    found = {"a.tfrecord": b"1", "b.tfrecord": b"2", "failures.tsv": b"of this run"}
    assert contents(url) == found


def test_the_description_of_a_set(memory, tmp_path):
    url = f"{memory.url}/f"
    make(url, a_tfrecord="1", extractor_json="{}", labels_txt="0 a\n")
    folder = local_features(url)
    names = sorted(path.name for path in folder.iterdir() if path.name[:1] != ".")
    assert names == ["extractor.json", "labels.txt"]
    assert local_features(tmp_path) == tmp_path
    with pytest.raises(ConfigError, match="not a recipe of features, or damaged"):
        FeatureExtractor.from_folder(url)
    with pytest.raises(MissingError, match="/none: no such folder"):
        local_features(f"{memory.url}/none")


def test_mistakes(server):
    with pytest.raises(RemoteError, match="/f: files of web servers can only be read"):
        make(f"{server.url}/f?sig=1")
    with pytest.raises(AccessError, match="fsspec has no package for nowhere://"):
        make("nowhere://b/f")


def test_a_set_on_s3(s3):
    make(f"{s3.url}/features", a_tfrecord="1", extractor_json="{}", failures_tsv="x")
    with local_set(f"{s3.url}/features") as folder:
        (folder / "failures.tsv").unlink()
        (folder / "a.tfrecord").write_text("2")
    assert contents(f"{s3.url}/features") == {"a.tfrecord": b"2", "extractor.json": b"{}"}
