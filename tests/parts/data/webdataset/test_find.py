"""Which shards a path means."""

import pytest

from paddlevideo.data.lists import DatasetError
from paddlevideo.data.webdataset.find import expand_braces, find_tars, names_shards


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s/a-08.tar", "s/a-09.tar", "s/a-10.tar", "s/b/b-0.tar", "s/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{08..10}.tar", ["a-08.tar", "a-09.tar", "a-10.tar"]),
        ("a-{8..10}.tar", ["a-8.tar", "a-9.tar", "a-10.tar"]),
        ("{x,y}-{0..1}.tar", ["x-0.tar", "x-1.tar", "y-0.tar", "y-1.tar"]),
        ("{train,}-0.tar", ["train-0.tar", "-0.tar"]),
        ("a-{000998..001001}.tar", [f"a-{n:06}.tar" for n in range(998, 1002)]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces(pattern, names):
    assert list(expand_braces(pattern)) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a-{5..3}.tar", r"\{5..3\} counts down"),
        ("a-{0..99999999999}.tar", "means 100000000000 shards"),
        ("{0..9999}{0..9999}.tar", "more than 1000000 shards"),
    ],
)
def test_braces_that_mean_nothing(pattern, message):
    with pytest.raises(DatasetError, match=message):
        expand_braces(pattern)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("s/a-{08..10}.tar", ["s/a-08.tar", "s/a-09.tar", "s/a-10.tar"]),
        ("s/*.tar", ["s/a-08.tar", "s/a-09.tar", "s/a-10.tar"]),
        ("s/**/*.tar", ["s/a-08.tar", "s/a-09.tar", "s/a-10.tar", "s/b/b-0.tar"]),
        ("s", ["s/a-08.tar", "s/a-09.tar", "s/a-10.tar", "s/b/b-0.tar"]),
        ("s/a-09.tar", ["s/a-09.tar"]),
    ],
)
def test_ways_to_name_shards(shards, path, names):
    assert find_tars(path) == names


def test_a_list_of_shards(shards):
    (shards / "s" / "train.list").write_text("a-10.tar\n\nb/b-0.tar\n")
    assert find_tars("s/train.list") == ["s/a-10.tar", "s/b/b-0.tar"]
    (shards / "train.txt").write_text("a-10.tar\n")
    assert find_tars("train.txt", "s") == ["s/a-10.tar"]


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("no.tar", None, "no such file or folder; set file_path to shards"),
        ("s/c-*.tar", None, "no file matches this pattern"),
        ("s/a-{09..12}.tar", None, r"2 of 4 shards do not exist: s/a-11.tar, s/a-12.tar"),
        ("s/a-08.tar.gz", None, "a compressed tar, of which single samples cannot be read"),
        ("empty", None, r"no \*.tar in this folder"),
        ("l.list", "", "no shards in this list"),
        ("l.list", "s/a-08.tar\ns/a-08.tar\n", r"l.list:2: .* is already on line 1"),
        ("l.list", "s/a-08.tar\ns/x.tar\n", "l.list:2: no file s/x.tar in the working directory"),
        ("l.list", "s/a-08.tar\nvideo.mp4\n", r"l.list:2: video.mp4 is not a shard \(.tar\)"),
    ],
)
def test_paths_without_shards(shards, path, content, message):
    (shards / "empty").mkdir()
    if content is not None:
        (shards / path).write_text(content)
    with pytest.raises(DatasetError, match=message):
        find_tars(path)


def test_names_of_shards():
    assert all(map(names_shards, ("a.tar", "A.TAR", "a-{0..9}.tar", "x/*.tar", "a.tar.gz")))
    assert not any(map(names_shards, ("a.mp4", "tar", "a.tar/v.mp4", "s/")))
