"""Videos per second from a shard of frame features: this reader, other readers, the loader."""

import argparse
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from paddlevideo.benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.youtube8m import sequence_example, tfrecord
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder, FeaturePipeline
from paddlevideo.data.youtube8m.shards import index_shards
from paddlevideo.sample import DecodeError

NAMES = ("rgb", "audio")
Videos = Iterator[tuple[bytes, np.ndarray, np.ndarray, np.ndarray]]  # id, labels, rgb, audio


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The groups of tools/benchmark.py records."""
    return run(args.shard, folder, args.videos, args.workers, args.tf_python, args.rounds)


def make_shard(path: Path, num_videos: int) -> Path:
    """Write noise with the sizes of YouTube-8M.

    A video has 3 labels and 122 to 300 frames, 211 on average; a frame has 1024 + 128 bytes.
    """
    rng = np.random.default_rng(0)

    def payloads():
        for number in range(num_videos):
            count = int(rng.integers(122, 301))
            frames = {
                name: rng.integers(0, 256, (count, width), np.uint8)
                for name, width in (("rgb", 1024), ("audio", 128))
            }
            labels = rng.choice(3862, 3, replace=False).tolist()
            yield sequence_example.encode_example(f"{number:04}", labels, frames)

    tfrecord.write_payloads(path, payloads())
    return path


def run(
    shard: Path | None,
    folder: Path,
    num_videos: int,
    workers: list[int],
    tf_python: str | None,
    rounds: int,
) -> Iterator[Group]:
    """Readers of one shard in CPU time, then batches of the loader in time on the clock.

    Args:
        shard: a TFRecord file; None to make one in `folder`.
        tf_python: a Python with TensorFlow, to compare with tf.data.

    Raises:
        ValueError: two readers give different bytes.
    """
    shard = shard or make_shard(folder / "synthetic.tfrecord", num_videos)
    count = len(tfrecord.record_offsets(shard)[0])
    readers = {
        "protobuf": protobuf_reader(),
        "generic parser": read_generic,
        "this reader": read_own,
        "this reader, no CRC": read_unchecked,
    }
    readers = {name: read for name, read in readers.items() if read}
    with ExitStack() as stack:
        variants = [
            cpu_variant(name, lambda read=read: drain(read(shard)), count)
            for name, read in readers.items()
        ]
        digests = {name: digest(read(shard)) for name, read in readers.items()}
        for maps in (1, 2) if tf_python else ():
            reader = stack.enter_context(TFDataReader(str(tf_python), shard, maps))
            digests[f"tf.data {maps}"] = reader.read_pass()[2]
            name = f"tf.data, {maps} map{'s' if maps > 1 else ''}"
            note = wall_note(reader.wall_seconds, count)
            variant = Variant(name, lambda reader=reader: reader.read_pass()[1], note)
            variants.insert(maps - 1, variant)
        if len(set(digests.values())) > 1:
            raise ValueError(f"{shard}: the readers give different bytes: {digests}")
        yield measure(f"readers of {count} videos, by CPU time", "video", count, variants, rounds)
    yield loading(shard, workers, rounds)


def loading(shard: Path, workers: list[int], rounds: int) -> Group:
    """Batches of 80 padded samples, as in training, over numbers of workers."""
    records = index_shards([str(shard)])
    count = len(records)
    dataset = ClipDataset(records, FeaturePipeline(FeatureDecoder(num_classes=3862)))
    with ExitStack() as stack:
        variants = []
        for number in workers:
            loader = Loader(dataset, EvalOrder(count, 80), number)
            stack.callback(loader.close)
            job = timed(lambda loader=loader: read_all(loader))
            variants.append(Variant(f"{number} workers", job))
        title = f"loader, batches of 80 of {count} videos, by the clock"
        return measure(title, "video", count, variants, rounds)


def read_all(loader: Loader) -> None:
    """Read one pass of a loader.

    Raises:
        DecodeError: a record is damaged.
    """
    for loaded in loader.epoch(0):
        if loaded.failures:
            raise DecodeError(str(loaded.failures[0]))


# --- readers: file -> videos, each array contiguous -----------------------------------------------


def read_own(shard: Path, check: bool = True) -> Videos:
    """With the reader of this package."""
    for _, payload in tfrecord.read_payloads(shard, check):
        video = sequence_example.parse_example(payload, NAMES)
        rgb, audio = (np.ascontiguousarray(video.features[name]) for name in NAMES)
        yield video.id, video.labels, rgb, audio


def read_unchecked(shard: Path) -> Videos:
    """With the reader of this package, without checksums."""
    return read_own(shard, check=False)


def read_generic(shard: Path) -> Videos:
    """With the slower parser for irregular files, which reads one frame after the other."""
    for _, payload in tfrecord.read_payloads(shard):
        video = sequence_example.parse_example(payload, ())
        lists = sequence_example._sequence_example(payload)[1]
        rgb, audio = (
            sequence_example._frames_one_by_one(payload, *lists[name.encode()], name)
            for name in NAMES
        )
        yield video.id, video.labels, rgb, audio


def protobuf_reader() -> Callable[[Path], Videos] | None:
    """With Google's parser in C; None where protobuf is not installed."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        return None
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="b", syntax="proto3")
    floats, integers, texts, messages, values = 2, 3, 9, 11, 12  # protobuf's numbers of types
    # {message: [(field, number, type, message type, repeated)]}
    schema = {
        "BytesList": [("value", 1, values, "", True)],
        "FloatList": [("value", 1, floats, "", True)],
        "Int64List": [("value", 1, integers, "", True)],
        "Feature": [
            (name[0].lower(), i, messages, name, False)
            for i, name in enumerate(("BytesList", "FloatList", "Int64List"), 1)
        ],
        "FeatureEntry": [("key", 1, texts, "", False), ("value", 2, messages, "Feature", False)],
        "Features": [("feature", 1, messages, "FeatureEntry", True)],
        "FeatureList": [("feature", 1, messages, "Feature", True)],
        "ListEntry": [("key", 1, texts, "", False), ("value", 2, messages, "FeatureList", False)],
        "FeatureLists": [("feature_list", 1, messages, "ListEntry", True)],
        "SequenceExample": [
            ("context", 1, messages, "Features", False),
            ("feature_lists", 2, messages, "FeatureLists", False),
        ],
    }
    for name, fields in schema.items():
        message = file.message_type.add(name=name)
        for field, number, kind, message_type, repeated in fields:
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=3 if repeated else 1,
                type_name=f".b.{message_type}" if message_type else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    parser = message_factory.GetMessageClass(pool.FindMessageTypeByName("b.SequenceExample"))

    def read(shard: Path) -> Videos:
        for _, payload in tfrecord.read_payloads(shard):
            video = parser.FromString(payload)
            context = {entry.key: entry.value for entry in video.context.feature}
            lists = {entry.key: entry.value for entry in video.feature_lists.feature_list}
            rgb, audio = (
                table([frame.b.value[0] for frame in lists[name].feature]) for name in NAMES
            )
            labels = np.array(context["labels"].i.value, np.int64)
            yield context["id"].b.value[0], labels, rgb, audio

    return read


def table(rows: list[bytes]) -> np.ndarray:
    """uint8 [rows, bytes of a row]."""
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1 if rows else 0)


class TFDataReader:
    """tf.data in its own process, which reads the shard on request.

    Args:
        python: a Python with TensorFlow.
        maps: records that it parses in parallel.
    """

    def __init__(self, python: str, shard: Path, maps: int):
        script = str(Path(__file__).with_name("tfdata.py"))
        self.wall_seconds: list[float] = []
        self._python = python
        self._process = subprocess.Popen(
            [python, script, str(shard), str(maps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> "TFDataReader":
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._input.close()
        self._process.wait(30)

    def read_pass(self) -> tuple[float, float, int]:
        """(seconds, CPU seconds, checksum) of one pass over the shard."""
        self._input.write("go\n")
        self._input.flush()
        seconds, cpu_seconds, checksum = self._answer().split()
        self.wall_seconds.append(float(seconds))
        return float(seconds), float(cpu_seconds), int(checksum)

    def _answer(self) -> str:
        """The next line that the process prints.

        Raises:
            ValueError: the process has ended.
        """
        line = self._output.readline()
        if not line:
            raise ValueError(f"{self._python} ended without an answer; does it have TensorFlow?")
        return line


def digest(videos: Videos) -> int:
    """A checksum of the bytes of all frames."""
    value = 0
    for _, _, rgb, audio in videos:
        value = zlib.crc32(audio.tobytes(), zlib.crc32(rgb.tobytes(), value))
    return value


def drain(videos: Videos) -> None:
    """Read all videos."""
    for _ in videos:
        pass


def cpu_variant(name: str, job: Callable[[], None], count: int) -> Variant:
    """A variant measured in CPU seconds; its note has the speed by the clock."""
    walls: list[float] = []

    def seconds() -> float:
        wall, start = time.perf_counter(), time.process_time()
        job()
        spent = time.process_time() - start
        walls.append(time.perf_counter() - wall)
        return spent

    return Variant(name, seconds, wall_note(walls, count))


def wall_note(walls: list[float], count: int) -> Callable[[float], str]:
    """The note of a variant: videos per second by the clock, from the seconds of all calls."""
    return lambda median: f"{count / float(np.median(walls)):.0f} a second by the clock"
