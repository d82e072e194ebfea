"""Audio data sets: their lists and folders. Nothing is decoded."""

import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.data.audio_datasets import AudioDataset, AudioFeatureDataset
from paddlevideo.data.lists import DatasetError


@pytest.fixture
def folder(tmp_path):
    for name in ("a b/clip 1.wav", "a b/clip 1.npy", "clip2.mkv", "mute.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write_list(folder, *lines):
    path = folder / "all.list"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def rows(loaded):
    return [(record.id, record.num_frames, record.label) for record in loaded.records]


def test_reads_lines_with_num_frames(folder):
    path = write_list(folder, "a b/clip 1 100 3", "a b/clip 1.wav 100 1", "clip2.mkv 100 0")
    assert rows(AudioFeatureDataset(path).load()) == [
        ("a b/clip 1.npy", 100, 3),
        ("a b/clip 1.wav", 100, 1),
        ("clip2.mkv", 100, 0),
    ]
    assert AudioDataset(path).load().records[0].id == "a b/clip 1.wav"
    records = AudioFeatureDataset(path, str(folder)).load().records
    assert records[1].path == str(folder / "a b" / "clip 1.wav")


def test_reads_lines_without_num_frames_where_the_path_has_its_suffix(folder):
    path = write_list(folder, "clip2.mkv 0", "a b/clip 1.wav\t2", "clip2.mkv 100 1")
    assert rows(AudioFeatureDataset(path).load()) == [
        ("clip2.mkv", None, 0),
        ("a b/clip 1.wav", None, 2),
        ("clip2.mkv", 100, 1),
    ]
    with pytest.raises(DatasetError, match=r"all.list:1: 'clip2 0' is not 'path num_frames label'"):
        AudioFeatureDataset(write_list(folder, "clip2 0")).load()


def test_reads_a_table_without_num_frames(folder):
    (folder / "t.csv").write_text("path,label\nclip2.mkv,0\n", encoding="utf-8")
    assert AudioFeatureDataset(str(folder / "t.csv")).load().records[0].num_frames is None


def test_reads_a_folder_per_class(folder):
    loaded = AudioFeatureDataset(str(folder)).load()
    assert loaded.class_names == ["a b"]
    assert [record.id for record in loaded.records] == ["a b/clip 1.npy", "a b/clip 1.wav"]


def test_rejects_a_folder_without_classes(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="expected none/<class>"):
        AudioFeatureDataset(str(tmp_path / "none")).load()


def test_registers_the_names_of_paddlevideo():
    assert lookup("dataset", "AudioFeatureDataset").make is AudioFeatureDataset
    assert lookup("dataset", "AudioDataset").make("x").suffix == ".wav"
