"""Write shards from lists: contents, plans, interruption, failures."""

import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.commands.make_shards import main
from paddlevideo.curate import make_shards as module
from paddlevideo.curate.make_shards import ShardSettings, load_data, make_shards, parse_size
from paddlevideo.curate.shard_samples import sample_jobs, sample_key
from paddlevideo.curate.tar_writer import Member, SampleFiles, ShardPlan, write_shard
from paddlevideo.data.audio_datasets import AudioFeatureDataset
from paddlevideo.data.datasets import FrameDataset, RecordList, VideoDataset
from paddlevideo.data.webdataset.dataset import WebDataset
from paddlevideo.media.containers import open_container
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import Record
from tests.clips import write_clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos, three of each class, and lists of them."""
    folder = tmp_path_factory.mktemp("videos")
    names = [f"{label}/v{number}.a.mp4" for label in ("run", "walk") for number in range(3)]
    for number, name in enumerate(names):
        write_clip(folder / name, 8 + number, tone=440 if number % 2 else None)
    (folder / "train.list").write_text("".join(f"{name} {name[0] == 'w':d}\n" for name in names))
    return folder


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.tar"))}


def run(*arguments) -> int:
    return main([*map(str, arguments), "--num_workers", "1"])


def test_shards_of_a_list_are_the_list(videos, tmp_path):
    assert run(videos / "train.list", tmp_path, "--shard_size", "20KB") == 0
    files = VideoDataset(str(videos / "train.list")).load()
    shards = WebDataset(str(tmp_path / "train-*.tar")).load()
    assert len(contents(tmp_path)) > 1
    assert len(shards.records) == len(files.records) == 6
    for shard, file in zip(shards.records, files.records, strict=True):
        assert (shard.label, shard.id) == (file.label, file.id)
        with VideoDecoder().open(shard) as one, VideoDecoder().open(file) as other:
            assert np.array_equal(one.read([0, 5]), other.read([0, 5]))
    manifest = json.loads((tmp_path / "train.manifest.json").read_text())
    assert manifest["complete"] and sum(manifest["shards"].values()) == 6
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        names = tar.getnames()[:3]
        assert names == ["run/v0_a.mp4", "run/v0_a.cls", "run/v0_a.json"]
        assert {(m.mtime, m.uid, m.uname, m.mode) for m in tar} == {(0, 0, "", 0o644)}


def test_class_names_of_folders(videos, tmp_path):
    assert run(videos, tmp_path / "s", "--shuffle", "--prefix", "all") == 0
    files = VideoDataset(str(videos)).load()
    shards = WebDataset(str(tmp_path / "s")).load()
    assert shards.class_names == files.class_names == ["run", "walk"]
    labels = {record.id: record.label for record in files.records}
    assert {record.id: record.label for record in shards.records} == labels
    assert list(labels) != [record.id for record in shards.records]


SHUFFLED, RESIZED = ("--shuffle", "--seed", "3"), ("--resize", "32")


@pytest.mark.parametrize(
    "flags", [(*SHUFFLED, *RESIZED), pytest.param(SHUFFLED, marks=pytest.mark.slow)]
)
def test_the_bytes_do_not_depend_on_the_workers(videos, tmp_path, flags):
    arguments = [str(videos / "train.list"), "--shard_size", "12KB", *flags]
    for workers in ("1", "2"):
        assert main([*arguments, str(tmp_path / workers), "--num_workers", workers]) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_resized_videos(videos, tmp_path):
    assert run(videos / "train.list", tmp_path, "--resize", 32) == 0
    for record in WebDataset(str(tmp_path)).load().records:
        with open_container(record.path) as container:
            stream = container.streams.video[0]
            assert (stream.height, stream.width) == (32, 42)
    assert not list(tmp_path.glob(".*"))
    before = contents(tmp_path)
    assert run(videos / "train.list", tmp_path, "--resize", 32) == 0
    assert contents(tmp_path) == before


def test_frames_and_features(tmp_path):
    for name in ("a", "b"):
        for number in range(1, 4):
            image = tmp_path / "f" / name / f"img_{number:05}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(f"{name}{number}".encode())
        np.save(tmp_path / f"{name}.npy", np.full((4, 80), ord(name), np.float32))
    (tmp_path / "f.list").write_text("f/a 3 1\nf/b 2 0\n")
    (tmp_path / "n.list").write_text("a.npy 120 1\nb.npy 60 0\n")
    assert run(tmp_path / "f.list", tmp_path / "s", "--media", "frames") == 0
    assert run(tmp_path / "n.list", tmp_path / "s", "--media", "audio") == 0
    frames = WebDataset(str(tmp_path / "s/f-*.tar")).load().records
    stored = FrameDataset(str(tmp_path / "f.list")).load().records
    audio = WebDataset(str(tmp_path / "s/n-*.tar")).load().records
    features = AudioFeatureDataset(str(tmp_path / "n.list")).load().records
    for records, others in ((frames, stored), (audio, features)):
        assert [(r.id, r.label, r.num_frames) for r in records] == [
            (r.id, r.label, r.num_frames) for r in others
        ]
    with tarfile.open(tmp_path / "s/f-000000.tar") as tar:
        assert [name for name in tar.getnames() if "b." in name][:2] == [
            "f/b.img_00001.jpg",
            "f/b.img_00002.jpg",
        ]


def test_tables_with_parts_and_several_labels(videos, tmp_path):
    table = tmp_path / "t.csv"
    rows = ["run/v0.a.mp4,0.1,0.2,1;3,src,train", "walk/v1.a.mp4,,,2,,train", "no.mp4,,,0,,val"]
    table.write_text("\n".join(["path,start_sec,end_sec,labels,source,split", *rows]))
    flags = ("--multi_label", "--list_root", videos, "--split", "train")
    assert run(table, tmp_path / "s", *flags) == 0
    first, second = WebDataset(str(tmp_path / "s"), multi_label=True).load().records
    assert (first.labels, first.start_sec, first.end_sec, first.source) == ((1, 3), 0.1, 0.2, "src")
    assert (second.labels, second.start_sec) == ((2,), None)


def test_class_names_of_a_file(videos, tmp_path):
    (tmp_path / "names.txt").write_text("walk\nrun\n")
    assert run(videos, tmp_path / "s", "--class_names", tmp_path / "names.txt") == 0
    with tarfile.open(next((tmp_path / "s").glob("*.tar"))) as tar:
        text = {name: tar.extractfile(name) for name in ("run/v0_a.cls", "run/v0_a.json")}
        cls, values = (file.read() for file in text.values() if file)
    assert cls == b"1" and json.loads(values)["label"] == "run"


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a/v.mp4", "a/v"),
        ("a.b/v.1.x.mp4", "a.b/v_1_x"),
        ("/data/videos/run/v.mp4", "run/v"),
        ("../other/v.mp4", "other/v"),
        ("C:\\videos\\v.mp4", "videos/v"),
        (".hidden.mp4", "_hidden"),
        ("__a__.mp4", "sample__a__"),
        ("走る/長 い.mp4", "走る/長 い"),
        ("x" * 300 + ".mp4", "x" * 200),
        ("./a/v.mp4", "a/v"),
    ],
)
def test_keys(name, key):
    assert sample_key(name) == key


def test_keys_differ():
    names = ["a.b.mp4", "a_b.mp4", "a_b.avi", "a_b_2.mp4"]
    data = RecordList([Record(name, 0, name) for name in names])
    keys = [job.key for job in sample_jobs(data, False, None)]
    assert keys[:3] == ["a_b", "a_b_2", "a_b_3"] and len(set(keys)) == 4


def test_sizes():
    assert [parse_size(text) for text in ("256MB", "1.5 gb", "2MiB", "77", "3b")] == [
        256 * 10**6,
        1_500_000_000,
        2 << 20,
        77,
        3,
    ]
    for text in ("", "MB", "-1MB", "0", "3 parsecs", "1e9"):
        with pytest.raises(ValueError, match="expected a number with B, KB, MB or GB"):
            parse_size(text)


# --- interruption, failures, mistakes -------------------------------------------------------------


def test_an_interrupted_run_goes_on(videos, tmp_path, monkeypatch):
    data, settings = load_data(str(videos / "train.list"), "video"), ShardSettings("t", 12_000)
    make_shards(*data, tmp_path / "whole", settings, 1)
    whole = contents(tmp_path / "whole")
    assert len(whole) > 2
    out = tmp_path / "cut"

    def killed(function, items, *rest):
        if function is write_shard:
            write_shard(items[0])
            raise KeyboardInterrupt
        return run_all(function, items, *rest)

    run_all = module.run_all
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_all", killed)
        with pytest.raises(KeyboardInterrupt):
            make_shards(*data, out, settings, 1)
    # Without its index a shard is not known to be complete.
    first = sorted(out.glob("*.tar"))[0]
    kept = first.stat().st_mtime_ns
    done = make_shards(*data, out, settings, 1)
    assert (done.num_made, done.num_kept) == (len(whole) - 1, 1)
    assert contents(out) == whole and first.stat().st_mtime_ns == kept
    assert not [path for path in out.iterdir() if path.suffix == ".tmp"]
    os.unlink(first)
    assert make_shards(*data, out, settings, 1).num_made == 1
    assert contents(out) == whole


def test_other_settings_need_overwrite(videos, tmp_path):
    source = videos / "train.list"
    assert run(source, tmp_path, "--shard_size", "9KB") == 0
    many = len(contents(tmp_path))
    assert run(source, tmp_path, "--shard_size", "1MB") == 2
    assert len(contents(tmp_path)) == many
    assert run(source, tmp_path, "--shard_size", "1MB", "--overwrite") == 0
    assert list(contents(tmp_path)) == ["train-000000.tar"]
    assert len(list(tmp_path.glob("*.index.json"))) == 1
    assert "replaced" not in json.loads((tmp_path / "train.manifest.json").read_text())


@pytest.mark.parametrize("flags", [(), ("--resize", 32), ("--shuffle",)])
def test_other_labels_need_overwrite(videos, tmp_path, capsys, flags):
    text = (videos / "train.list").read_text()
    source = tmp_path / "train.list"

    def shards(text, *more):
        lines = [f"{videos}/{line}\n" for line in text.splitlines()]
        source.write_text("".join(lines))
        return run(source, tmp_path / "s", *flags, *more)

    def labels():
        return sorted(record.label for record in WebDataset(str(tmp_path / "s")).load().records)

    assert shards(text) == 0 and labels() == [0, 0, 0, 1, 1, 1]
    assert shards(text.replace("v0.a.mp4 0", "v0.a.mp4 2")) == 2 and labels() == [0, 0, 0, 1, 1, 1]
    assert "made of other files or with other labels or settings" in capsys.readouterr().err
    assert shards(text.replace("v0.a.mp4 0", "v0.a.mp4 2"), "--overwrite") == 0
    assert labels() == [0, 0, 1, 1, 1, 2]


def test_failures_are_rows(videos, tmp_path, capsys):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "folder.mp4").mkdir()
    good = videos / "run/v0.a.mp4"
    names = ["missing.mp4", "empty.mp4", "folder.mp4", "bad.mp4", good]
    (tmp_path / "t.list").write_text("".join(f"{name} 0\n" for name in names))
    assert run(tmp_path / "t.list", tmp_path / "s") == 1
    rows = (tmp_path / "s" / "failures.t.tsv").read_text().splitlines()
    assert [row.split("\t")[1] for row in rows] == [
        "no such file",
        "empty.mp4 is empty (0 bytes)",
        "a folder, not a file",
    ]
    assert len(WebDataset(str(tmp_path / "s")).load().records) == 2  # decoding will find bad.mp4
    assert run(tmp_path / "t.list", tmp_path / "r", "--resize", 32) == 1
    assert "bad.mp4\tno known video format" in (tmp_path / "r/failures.t.tsv").read_text()
    assert run(tmp_path / "t.list", tmp_path / "s") == 1  # nothing new, still said
    assert "0 made, 1 kept, 3 failed" in capsys.readouterr().out
    rows = (tmp_path / "r/failures.t.tsv").read_text()
    for _ in range(2):  # the video that could not be resized, too
        assert run(tmp_path / "t.list", tmp_path / "r", "--resize", 32) == 1
        assert "0 made, 1 kept, 4 failed" in capsys.readouterr().out
        assert (tmp_path / "r/failures.t.tsv").read_text() == rows


def test_a_file_that_changes_fails_its_shard(tmp_path):
    file = tmp_path / "v.mp4"
    file.write_bytes(b"x" * 100)
    sample = SampleFiles("v", (Member("mp4", str(file), 100, 0),), {"cls": "1"})
    plan = ShardPlan(str(tmp_path / "t-0.tar"), [sample])
    assert "cannot be read back: ../v: ../v.mp4 has a name with '..'" in write_shard(
        replace(plan, samples=[replace(sample, key="../v")])
    )
    for change in (b"x" * 99, b"x" * 101):
        file.write_bytes(change)
        assert "has changed since the shards were planned" in write_shard(plan)
    file.unlink()
    assert "No such file" in write_shard(plan)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shard_size", "many"), "expected a number with B, KB"),
        (("--prefix", "a/b"), "expected the beginning of a file name"),
        (("--prefix", ""), "expected the beginning of a file name"),
        (("--resize", "33"), "even number of pixels"),
        (("--resize", "32", "--media", "frames"), "--resize is for videos"),
        (("--multi_label", "--media", "audio"), "leave out --multi_label"),
        (("--num_workers", "0"), "expected at least 1"),
        (("--class_names", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_mistakes(videos, tmp_path, flags, message, capsys):
    assert main([str(videos / "train.list"), str(tmp_path / "s"), *flags]) == 2
    assert message in capsys.readouterr().err


def test_no_file_can_be_used(tmp_path, capsys):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "t.list").write_text("a.mp4 0\nb.mp4 1\n")
    assert run(tmp_path / "t.list", tmp_path / "s") == 2
    assert "no file can be used; the reasons are in" in capsys.readouterr().err
    (tmp_path / "s" / "t.manifest.json").write_text("[]")
    assert run(tmp_path / "t.list", tmp_path / "s") == 2
    assert "not a manifest of shards" in capsys.readouterr().err
