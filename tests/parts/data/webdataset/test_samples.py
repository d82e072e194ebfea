"""The samples of a shard: WebDataset's rules, and shards that are wrong, damaged or hostile."""

import gzip
import tarfile
import tracemalloc

import pytest

from paddlevideo.data.webdataset.samples import read_samples
from paddlevideo.sample import DecodeError
from tests.tar_shards import header, write_tar


def samples_of(path, entries, **options):
    return read_samples(str(write_tar(path / "s.tar", entries, **options)))[0]


def only(path, entries, **options):
    (sample,) = samples_of(path, entries, **options)
    return sample


# --- the rules ------------------------------------------------------------------------------------


def test_consecutive_files_with_one_key_are_a_sample(tmp_path):
    entries = [("b/v.1.mp4", b"12345"), ("b/v.cls", b"3\n"), ("b/w.MP4", b"x"), ("b/w.cls", b"4")]
    first, second = samples_of(tmp_path, entries)
    assert (first.key, second.key) == ("b/v", "b/w")
    assert first.media == {"1.mp4": (512, 5)}  # behind its header
    assert list(second.media) == ["mp4"]
    assert (first.label, second.label) == ({"label": "3"}, {"label": "4"})
    assert not first.problem and not second.problem


def test_folders_hidden_files_and_other_files_are_no_samples(tmp_path):
    entries = [
        header("videos.d", tarfile.DIRTYPE),
        ("._v.mp4", b"x"),
        ("Makefile", b"x"),
        ("__meta.json__", b"{}"),
        ("README.txt", b"x"),
        ("v.mp4", b"x"),
    ]
    assert [sample.key for sample in samples_of(tmp_path, entries)] == ["v"]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    ("json", "cls", "expected"),
    [
        ('{"label": "a", "start_sec": 1}', "7", {"label": "a", "start_sec": 1}),
        ('{"labels": [1, 2]}', "7", {"labels": [1, 2]}),
        ('{"caption": "x", "path": "p.mp4"}', "7", {"label": "7", "path": "p.mp4"}),
        ("5", "7", {"label": 5}),
        ('["x", "y"]', "7", {"labels": ["x", "y"]}),
        ('"walk"', "7", {"label": "walk"}),
    ],
)
def test_json_goes_before_cls(tmp_path, order, json, cls, expected):
    labels = [("v.json", json.encode()), ("v.cls", cls.encode())]
    entries = [("v.mp4", b"x"), *(labels[::-1] if order else labels)]
    assert only(tmp_path, entries).label == expected


def test_images_are_the_frames_of_a_clip(tmp_path):
    entries = [
        ("v.img_00001.jpg", b"1" * 700),
        ("v.img_00002.jpg", b"2"),
        ("v.cls", b"0"),
    ]
    assert only(tmp_path, entries).frames == (0, 512 + 1024 + 512 + 512, 2)


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(tmp_path, tar_format):
    key = "фильмы/" + "长" * 80 + "x" * 200
    sample = only(tmp_path, [(f"{key}.mp4", b"abc"), (f"{key}.cls", b"1")], tar_format=tar_format)
    assert sample.key == key
    offset, size = sample.media["mp4"]
    assert (tmp_path / "s.tar").read_bytes()[offset : offset + size] == b"abc"


def test_ustar_without_extensions(tmp_path):
    assert only(tmp_path, [("v.mp4", b"x")], tar_format=tarfile.USTAR_FORMAT).key == "v"


# --- samples that cannot be used ------------------------------------------------------------------

VIDEO = ("v.mp4", b"x")
WRONG = {
    "absolute": ([("/etc/v.mp4", b"x")], "has an absolute name"),
    "drive": ([("C:/v.mp4", b"x")], "has an absolute name"),
    "parent": ([("../v.mp4", b"x")], "has a name with '..'"),
    "parent inside": ([("a/../../v.mp4", b"x")], "has a name with '..'"),
    "symbolic link": ([header("v.mp4", tarfile.SYMTYPE, "/etc/passwd")], "link to /etc/passwd"),
    "hard link": ([header("v.mp4", tarfile.LNKTYPE, "other.mp4")], "is a link to other.mp4"),
    "device": ([header("v.mp4", tarfile.CHRTYPE)], "is a device, a FIFO"),
    "fifo": ([VIDEO, header("v.json", tarfile.FIFOTYPE)], "v.json is a device, a FIFO"),
    "two of a kind": ([VIDEO, ("v.MP4", b"y")], "it has two files mp4"),
    "pickle": ([("v.pyd", b"x"), ("v.cls", b"1")], "v.pyd is a pickle, which could run any code"),
    "weights": ([("v.pth", b"x")], "v.pth is a pickle, which could run any code"),
    "no media": ([("v.cls", b"1"), ("v.txt", b"x")], "no video, images, audio or .npy in it, only"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_sample_keeps_its_place_and_the_reason(tmp_path, case):
    entries, message = WRONG[case]
    before, sample, after = samples_of(tmp_path, [("a.mp4", b"x"), *entries, ("z.mp4", b"x")])
    assert message in sample.problem
    assert not before.problem and not after.problem


def test_a_pickle_next_to_a_video_is_left_alone(tmp_path):
    assert not only(tmp_path, [VIDEO, ("v.pyd", b"\x80\x04.")]).problem


def test_a_key_that_occurs_again(tmp_path):
    _, _, again = samples_of(tmp_path, [VIDEO, ("w.mp4", b"x"), VIDEO])
    assert again.problem == "the shard has another sample v before it"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.json", b"{'label': 1}", "its .json cannot be read"),
        ("v.json", b"true", "its .json is 'True', expected an object"),
        ("v.json", b"[" * 100_000, "its .json cannot be read"),
        ("v.cls", b"\xff\xfe\x01", "its .cls cannot be read"),
        ("v.cls", b"1" * (2 << 20), "its .cls has 2097152 bytes, at most"),
    ],
)
def test_a_wrong_label_leaves_the_video_usable(tmp_path, name, content, message):
    sample = only(tmp_path, [VIDEO, (name, content)])
    assert message in sample.label_problem
    assert not sample.problem


# --- damaged and hostile shards -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no tar at all" * 100, "not a tar file"),
        (gzip.compress(b"x" * 2000, mtime=0), "compressed with gzip"),
        (b"BZh91AY", "compressed with bzip2"),
        (b"PK\x03\x04" + b"x" * 600, "not a tar file"),
    ],
)
def test_files_that_are_no_shards(tmp_path, content, message):
    path = tmp_path / "s.tar"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=message):
        read_samples(str(path))


def test_no_such_shard(tmp_path):
    with pytest.raises(DecodeError, match="no such shard"):
        read_samples(str(tmp_path / "s.tar"))
    (tmp_path / "f.tar").mkdir()
    with pytest.raises(DecodeError, match="the shard cannot be opened: Is a directory"):
        read_samples(str(tmp_path / "f.tar"))


def three(tmp_path):
    """A shard of three videos of 1000 bytes: headers at 0, 1536 and 3072."""
    entries = [(f"{name}.mp4", name.encode() * 1000) for name in "abc"]
    return write_tar(tmp_path / "s.tar", entries)


@pytest.mark.parametrize(
    ("end", "keys", "message"),
    [
        (700, ["damaged"], "cut short: a.mp4 should end at byte 1512"),
        (1800, ["a", "damaged"], "cut short"),
        (3600, ["a", "b", "damaged"], "cut short: c.mp4 should end at byte 4584"),
    ],
)
def test_a_cut_shard_has_a_sample_that_fails(tmp_path, end, keys, message):
    path = three(tmp_path)
    path.write_bytes(path.read_bytes()[:end])
    samples, problem = read_samples(str(path))
    assert [sample.key for sample in samples] == keys
    assert [bool(sample.problem) for sample in samples] == [False] * (len(keys) - 1) + [True]
    assert message in problem and message in samples[-1].problem


def test_a_shard_without_its_end(tmp_path):
    path = three(tmp_path)
    path.write_bytes(path.read_bytes()[: 2 * 1536])
    samples, problem = read_samples(str(path))
    assert [sample.key for sample in samples] == ["a", "b"]
    assert problem == "its end is missing: it may be cut short behind a file"


def test_a_damaged_header(tmp_path):
    path = three(tmp_path)
    data = bytearray(path.read_bytes())
    data[1536 + 100] ^= 0xFF
    path.write_bytes(data)
    samples, problem = read_samples(str(path))
    assert [sample.key for sample in samples] == ["a", "damaged"]
    assert "the header at byte 1536 is damaged" in problem


def with_size(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header that announces any size, also below 0."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    start = b"\xff" if size < 0 else b"\x80"
    block[124:136] = start + size.to_bytes(11, "big", signed=True)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HOSTILE = {
    "huge file": with_size("v.mp4", 1 << 60),
    "negative file": with_size("v.mp4", -512),
    "negative folder": with_size("v.mp4", -1536, tarfile.DIRTYPE),
    "huge long name": with_size("x", 1 << 40, tarfile.GNUTYPE_LONGNAME),
    "long name of the whole file": with_size("x", 30 << 20, tarfile.GNUTYPE_LONGNAME),
    "negative long name": with_size("x", -512, tarfile.GNUTYPE_LONGNAME),
    "huge extended header": with_size("x", 1 << 40, tarfile.XHDTYPE),
    "negative extended header": with_size("x", -1024, tarfile.XHDTYPE),
    "chain of long names": b"".join(
        with_size("x", 1, tarfile.GNUTYPE_LONGNAME) + b"n".ljust(512, b"\0") for _ in range(3000)
    ),
    "wrong extended header": with_size("x", 20, tarfile.XHDTYPE)
    + b"99999999 path=x\n\xff\xff\xff".ljust(512, b"\0"),
    "endless extended header": with_size("x", 20, tarfile.XHDTYPE)
    + b"0 path=xxxxxxxxxxxxx".ljust(512, b"\0"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_end_the_shard_there(tmp_path, case):
    good = three(tmp_path).read_bytes()[: 3 * 1536]
    path = tmp_path / "s.tar"
    path.write_bytes(good + HOSTILE[case] + b"\0" * (32 << 20))
    tracemalloc.start()
    samples, problem = read_samples(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [sample.key for sample in samples] == ["a", "b", "c", "damaged"]
    assert problem in samples[-1].problem and problem
    assert peak < 8 << 20  # the file has 32 MB


def test_a_sample_whose_label_is_cut_off_is_left_out(tmp_path):
    entries = [("a.mp4", b"x"), ("a.cls", b"1"), ("b.mp4", b"x"), ("b.cls", b"1")]
    path = write_tar(tmp_path / "s.tar", entries)
    path.write_bytes(path.read_bytes()[: 3 * 1024 + 200])  # within the header of b.cls
    assert [sample.key for sample in read_samples(str(path))[0]] == ["a", "damaged"]
