"""Records of tar shards: labels, the file that is used, orders, decoding, failures."""

import io
import json
from collections import Counter

import cv2
import numpy as np
import pytest

from paddlevideo.config.registry import lookup
from paddlevideo.data.audio_pipeline import LoadAudioFeature
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset
from paddlevideo.data.orders import TrainOrder
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.webdataset.dataset import WebDataset, tar_records
from paddlevideo.data.youtube8m.shards import ShardOrder
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.sample import BatchShape, DecodeError, Draw, Record
from tests.clips import random_frames, write_clip
from tests.tar_shards import write_tar


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video with audio."""
    return write_clip(tmp_path_factory.mktemp("clip") / "v.mp4", 12, tone=440)


def jpeg(seed: int) -> bytes:
    return cv2.imencode(".jpg", random_frames(1, seed=seed)[0])[1].tobytes()


def load(path, entries, names=None, **options):
    write_tar(path / "t-0.tar", entries)
    return WebDataset(str(path / "t-0.tar"), **options).load(names)


def frames_of(record: Record, decoder=None) -> np.ndarray:
    with (decoder or VideoDecoder()).open(record) as clip:
        return clip.read(np.arange(clip.num_frames))


# --- labels ---------------------------------------------------------------------------------------


def labeled(*texts):
    for number, text in enumerate(texts):
        yield from [(f"v{number}.mp4", b"x"), (f"v{number}.{text[0]}", text[1].encode())]


def test_class_ids_and_names(tmp_path):
    data = load(tmp_path, labeled(("cls", "3"), ("json", '{"label": 0}'), ("cls", " 12\n")))
    assert [record.label for record in data.records] == [3, 0, 12]
    assert (data.class_names, data.max_label) == (None, 12)
    data = load(tmp_path, labeled(("json", '{"label": "b"}'), ("cls", "a c")))
    assert [record.label for record in data.records] == [1, 0]
    assert data.class_names == ["a c", "b"]
    data = load(tmp_path, labeled(("cls", "b")), ["x", "b"])
    assert [record.label for record in data.records] == [1]


def test_several_labels(tmp_path):
    texts = (("json", '{"labels": [3, 1]}'), ("cls", "2,0"), ("json", '{"labels": []}'))
    data = load(tmp_path, labeled(*texts), multi_label=True)
    assert [record.labels for record in data.records] == [(1, 3), (0, 2), ()]
    assert [record.label for record in data.records] == [None] * 3


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("v.mp4", b"x")], "t-0.tar@v: no label; the sample needs a .cls or a .json with label"),
        ([("v.mp4", b"x"), ("v.pyd", b"1")], "t-0.tar@v: no label"),
        (labeled(("json", "{")), "t-0.tar@v0: its .json cannot be read"),
        (labeled(("json", '{"label": [1]}')), "t-0.tar@v0: label .* is neither a class id"),
        (labeled(("json", '{"labels": [1]}')), "multi_label: true"),
        (labeled(("cls", "1"), ("cls", "walk")), "label 'walk' is a class name"),
        (labeled(("cls", "-1")), "class ids count from 0"),
        (labeled(("json", '{"label": 1, "start_sec": 2, "end_sec": 1}')), "not after start_sec"),
        (labeled(("cls", "3,4")), "multi_label: true"),
        ([], "no samples in 1 shard.*need names such as KEY.mp4 and KEY.cls"),
        ([("v", b"x"), ("a/w", b"x")], "no samples in 1 shard.*need names such as KEY.mp4"),
    ],
)
def test_wrong_labels(tmp_path, entries, message):
    with pytest.raises(DatasetError, match=message):
        load(tmp_path, entries)


def test_unknown_class(tmp_path):
    with pytest.raises(DatasetError, match="t-0.tar@v0: unknown class 'wakl'.*'walk'"):
        load(tmp_path, labeled(("cls", "wakl")), ["walk", "run"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"shuffle_buffer": 0}, "shuffle_buffer is 0"), ({"max_failures": -1}, "max_failures is -1")],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        WebDataset("x.tar", **options)


def test_a_config_can_name_it():
    assert lookup("dataset", "WebDataset").parameters()["shuffle_buffer"].default == 1024


# --- files ----------------------------------------------------------------------------------------


def test_a_video_in_a_shard_gives_the_frames_of_its_file(tmp_path, clip):
    entries = [("a/v.1.mp4", clip.read_bytes()), ("a/v.cls", b"1")]
    (record,) = load(tmp_path, entries).records
    assert record.location == f"{tmp_path}/t-0.tar@a/v"
    assert record.id == "a/v"
    expected = frames_of(Record(str(clip)))
    assert np.array_equal(frames_of(record), expected)
    with VideoDecoder().open(record) as opened, VideoDecoder().open(Record(str(clip))) as other:
        assert np.array_equal(opened.times(), other.times())
        assert np.array_equal(opened.read([7, 2]), expected[[7, 2]])


def test_part_of_a_video_and_its_path(tmp_path, clip):
    text = json.dumps({"label": 1, "start_sec": 0.2, "end_sec": 0.4, "path": "x/y.mp4"})
    (record,) = load(tmp_path, [("v.mp4", clip.read_bytes()), ("v.json", text.encode())]).records
    assert record.id == "x/y.mp4"
    assert np.array_equal(frames_of(record), frames_of(Record(str(clip)))[5:10])


@pytest.mark.parametrize(
    "names", [("img_00001.jpg", "img_00002.jpg"), ("0.JPG", "1.JPG"), ("f-1.jpg", "f-2.jpg")]
)
def test_frames(tmp_path, names):
    images = [jpeg(number) for number in range(2)]
    entries = [("c/v.cls", b"2"), *((f"c/v.{n}", i) for n, i in zip(names, images, strict=True))]
    (record,) = load(tmp_path, entries).records
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(image)
    stored = Record(str(folder), frame_pattern="img_{:05}.jpg")
    frames = frames_of(record, FrameDecoder())
    assert np.array_equal(frames, frames_of(stored, FrameDecoder()))
    assert (record.num_frames, record.location) == (2, f"{tmp_path}/t-0.tar@c/v")


def test_a_single_image_is_a_frame(tmp_path):
    (record,) = load(tmp_path, [("v.jpg", jpeg(0)), ("v.cls", b"0")]).records
    assert frames_of(record, FrameDecoder()).shape == (1, 48, 64, 3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("1.jpg", "3.jpg"), "frames are missing"),
        (("a1.jpg", "b1.jpg"), "several series of images"),
        (("1.jpg", "2.jpg"), "2.jpg: not an image, or damaged"),
    ],
)
def test_wrong_frames(tmp_path, names, message):
    contents = (jpeg(0), b"no image")
    entries = [(f"v.{name}", c) for name, c in zip(names, contents, strict=True)]
    (record,) = load(tmp_path, [*entries, ("v.cls", b"0")]).records
    with pytest.raises(DecodeError, match=message):
        frames_of(record, FrameDecoder())


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_audio_of_each_kind(tmp_path, clip):
    feature = np.random.default_rng(0).random((50, 80), np.float32)
    entries = [("v.mp4", clip.read_bytes()), ("v.npy", npy(feature)), ("v.cls", b"0")]
    decode = LoadAudioFeature()
    (record,) = load(tmp_path, entries, media="npy").records
    with decode.open(record) as opened:
        assert np.array_equal(opened.feature, feature)
    (record,) = load(tmp_path, entries).records
    with decode.open(record) as opened, decode.open(Record(str(clip))) as other:
        assert np.array_equal(opened.feature, other.feature)
        assert opened.num_frames == other.num_frames


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04xxxx", "archive of arrays"),
        (npy(np.zeros((3, 80), np.float32))[:300], "not a NumPy feature, or truncated"),
        (npy(np.array([{}], object)), "Python objects"),
        (npy(np.zeros((3, 7), np.float32)), r"the feature is float32 \[3, 7\]"),
        (npy(np.full((3, 80), np.nan, np.float32)), "not finite"),
    ],
)
def test_wrong_features(tmp_path, content, message):
    (record,) = load(tmp_path, [("v.npy", content), ("v.cls", b"0")]).records
    with pytest.raises(DecodeError, match=message), LoadAudioFeature().open(record):
        pass


@pytest.mark.parametrize(
    ("media", "used"),
    [(None, "left.mp4"), ("right.mp4", "right.mp4"), ("MP4", "left.mp4"), (".wav", "wav")],
)
def test_choice_of_the_file(tmp_path, media, used):
    names = ("v.jpg", "v.wav", "v.left.mp4", "v.right.mp4")
    entries = [*((name, name.encode()) for name in names), ("v.cls", b"0")]
    (record,) = load(tmp_path, entries, media=media).records
    assert record.path.endswith(f"/v.{used}")


def test_a_sample_without_the_chosen_file_fails(tmp_path):
    (record,) = load(tmp_path, [("v.mp4", b"x"), ("v.cls", b"0")], media="npy").records
    with pytest.raises(DecodeError, match="no npy in it, only mp4"), VideoDecoder().open(record):
        pass


def test_the_wrong_decoder(tmp_path, clip):
    (video,) = load(tmp_path, [("v.mp4", clip.read_bytes()), ("v.cls", b"0")]).records
    with pytest.raises(DecodeError, match="no frames; decode it with VideoDecoder"):
        frames_of(video, FrameDecoder())
    with pytest.raises(DecodeError, match="backend cv2 cannot read from a shard"):
        frames_of(video, VideoDecoder("cv2"))
    (frames,) = load(tmp_path, [("v.jpg", jpeg(0)), ("v.cls", b"0")]).records
    with pytest.raises(DecodeError, match="holds frames; decode them with FrameDecoder"):
        frames_of(frames)


# --- failures -------------------------------------------------------------------------------------


class Decoding:
    """A pipeline that only decodes."""

    def __call__(self, record, rng):
        try:
            return {"frames": frames_of(record)[:1]}
        except DecodeError as error:
            raise StageError("decode", str(error)) from error


def test_failures_are_named_and_replaced(tmp_path, clip):
    good = clip.read_bytes()
    entries = [("a.mp4", good), ("a.cls", b"0"), ("b.pkl", b"x"), ("c.mp4", b"no video" * 99)]
    data = load(tmp_path, [*entries, ("c.cls", b"1"), ("d.mp4", good[:-900]), ("d.cls", b"1")])
    dataset = ClipDataset(data.records, Decoding(), replace=True)  # type: ignore[arg-type]
    failed = {}
    for index in range(4):
        sample, failures = dataset.sample(0, Draw(index))
        assert sample is not None
        failed |= {failure.path.rpartition("@")[2]: str(failure) for failure in failures}
    assert sorted(failed) == ["b", "c", "d"]
    assert "t-0.tar@b: decode: b.pkl is a pickle" in failed["b"]
    assert "t-0.tar@c: decode: no known video format" in failed["c"]
    assert "t-0.tar@d: decode: " in failed["d"]


def test_a_shard_that_changes_under_a_run(tmp_path, clip):
    entries = [("a.mp4", clip.read_bytes()), ("a.cls", b"0"), ("b.jpg", jpeg(0)), ("b.cls", b"0")]
    video, frames = load(tmp_path, entries).records
    path = write_tar(tmp_path / "t-0.tar", [("x.mp4", b"y" * 5000), *entries])
    for record, decoder in ((video, VideoDecoder()), (frames, FrameDecoder())):
        with pytest.raises(DecodeError, match=r"has changed since|is damaged|not a tar"):
            frames_of(record, decoder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DecodeError, match="has changed since"):
        frames_of(video)
    path.unlink()
    with pytest.raises(DecodeError, match="no such shard"):
        frames_of(video)


# --- order ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Seven shards of 1 to 29 samples, 73 in total."""
    folder = tmp_path_factory.mktemp("many")
    for shard, count in enumerate((1, 29, 7, 3, 19, 2, 12)):
        entries = []
        for number in range(count):
            key = f"{shard}-{number}"
            entries += [(f"{key}.mp4", b"x"), (f"{key}.cls", b"%d" % (number % 2))]
        write_tar(folder / f"m-{shard}.tar", entries)
    return folder


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("buffer", [1, 5, 1000])
def test_ranks_share_the_samples(many, world_size, buffer):
    data = WebDataset(str(many / "m-{0..6}.tar"), shuffle_buffer=buffer).load()
    cycle = (BatchShape(3),)
    alone = data.order(cycle, 7, 0, 1, None)
    for epoch in range(2):
        parts = [
            list(data.order(cycle, 7, rank, world_size, None).batches(epoch))
            for rank in range(world_size)
        ]
        drawn = [draw.index for part in parts for batch in part for draw in batch]
        whole = 73 // (3 * world_size) * 3 * world_size
        assert len(drawn) == whole and max(Counter(drawn).values()) == 1
        assert len({len(part) for part in parts}) == 1
        assert sorted(drawn) == sorted(alone.shuffled(epoch)[:whole].tolist())
    assert not np.array_equal(alone.shuffled(0), alone.shuffled(1))


def test_the_buffer_keeps_samples_near_each_other(many):
    data = WebDataset(str(many), shuffle_buffer=4).load()
    order = data.order((BatchShape(1),), 3, 0, 1, None)
    assert isinstance(order, ShardOrder)
    shards = [data.records[index].path.split("@")[0] for index in order.shuffled(0)]
    seen = {shard: [i for i, s in enumerate(shards) if s == shard] for shard in set(shards)}
    assert all(max(at) - min(at) < len(at) + 2 * 4 for at in seen.values())
    assert sorted(order.shuffled(0).tolist()) == list(range(73))


def test_a_large_buffer_is_the_order_of_a_list(many):
    data = WebDataset(str(many)).load()
    expected = TrainOrder(73, (BatchShape(4),), 9)
    assert np.array_equal(
        data.order((BatchShape(4),), 9, 0, 1, None).shuffled(2), expected.shuffled(2)
    )


def test_records_to_predict_need_no_labels(tmp_path, clip):
    write_tar(tmp_path / "p.tar", [("v.mp4", clip.read_bytes()), ("w.pyd", b"x")])
    video, other = tar_records(str(tmp_path / "*.tar"))
    assert (video.label, video.problem) == (None, "")
    assert "is a pickle" in other.problem
    write_tar(tmp_path / "none.tar", [("README.txt", b"x")])
    with pytest.raises(DatasetError, match="no samples in 1 shard"):
        tar_records(str(tmp_path / "none.tar"))
