"""How many videos a second come out of a shard of frame features: this reader, others on the same file, and the loader."""

import argparse
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.measure import Group, Variant, measure, timed
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.youtube8m import sequence_example, tfrecord
from paddlevideo.data.youtube8m.pipeline import FeatureDecoder, FeaturePipeline
from paddlevideo.data.youtube8m.shards import index_shards
from paddlevideo.sample import DecodeError

NAMES = ("rgb", "audio")
Videos = Iterator[tuple[bytes, np.ndarray, np.ndarray, np.ndarray]]


def make_shard(path: Path, num_videos: int) -> Path:
    """Noise as YouTube-8M has it: 3 labels, 1024 + 128 bytes a frame, 122 to 300 frames, 211 on average."""
    rng = np.random.default_rng(0)

    def payloads():
        for number in range(num_videos):
            count = int(rng.integers(122, 301))
            frames = {
                name: rng.integers(0, 256, (count, width), np.uint8)
                for name, width in (("rgb", 1024), ("audio", 128))
            }
            yield sequence_example.encode_example(
                f"{number:04}", rng.choice(3862, 3, replace=False).tolist(), frames
            )

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
    """Readers of one shard by the CPU time they take, then the loader's batches by the clock.

    Args:
        shard: a TFRecord file; None makes one in `folder`.
        tf_python: a Python that has TensorFlow, to run tf.data beside.

    Raises:
        ValueError: two readers do not give the same bytes.
    """
    shard = shard or make_shard(folder / "made_up.tfrecord", num_videos)
    count = len(tfrecord.record_offsets(shard)[0])
    with ExitStack() as stack:
        readers = {
            "protobuf": protobuf_reader(),
            "generic parser": generic,
            "this reader": ours,
            "this reader, no CRC": unchecked,
        }
        variants = [
            cpu_variant(name, lambda read=read: drain(read(shard)), count)
            for name, read in readers.items()
            if read
        ]
        digests = {name: digest(read(shard)) for name, read in readers.items() if read}
        for maps in (1, 2) if tf_python else ():
            other = stack.enter_context(Other(str(tf_python), shard, maps))
            digests[f"tf.data {maps}"] = other.passes()[2]
            note = f"tf.data, {maps} map{'s' if maps > 1 else ''}"
            variants.insert(
                maps - 1,
                Variant(note, lambda other=other: other.passes()[1], wall_note(other.walls, count)),
            )
        if len(set(digests.values())) > 1:
            raise ValueError(f"{shard}: the readers do not give the same bytes: {digests}")
        yield measure(f"readers of {count} videos, by CPU time", "video", count, variants, rounds)
    yield loading(shard, workers, rounds)


def loading(shard: Path, workers: list[int], rounds: int) -> Group:
    """Batches of 80 padded samples, as training takes them, over numbers of workers."""
    records = index_shards([str(shard)])
    dataset = ClipDataset(records, FeaturePipeline(FeatureDecoder(num_classes=3862)))  # type: ignore[arg-type]
    with ExitStack() as stack:
        variants = []
        for number in workers:
            loader = Loader(dataset, EvalOrder(len(records), 80), number)
            stack.callback(loader.close)
            variants.append(
                Variant(f"{number} workers", timed(lambda loader=loader: read_all(loader)))
            )
        return measure(
            f"loader, batches of 80 of {len(records)} videos, by the clock",
            "video",
            len(records),
            variants,
            rounds,
        )


def read_all(loader: Loader) -> None:
    """
    Raises:
        DecodeError: a record is damaged.
    """
    for loaded in loader.epoch(0):
        if loaded.failures:
            raise DecodeError(str(loaded.failures[0]))


# --- readers: file -> (id, labels, rgb, audio), each array in one piece --------------------------------------------------


def ours(shard: Path, check: bool = True) -> Videos:
    for _, payload in tfrecord.read_payloads(shard, check):
        video = sequence_example.parse_example(payload, NAMES)
        rgb, audio = (np.ascontiguousarray(video.features[name]) for name in NAMES)
        yield video.id, video.labels, rgb, audio


def unchecked(shard: Path) -> Videos:
    return ours(shard, check=False)


def generic(shard: Path) -> Videos:
    """With the parser that reads one frame after the other, which odd files get."""
    for _, payload in tfrecord.read_payloads(shard):
        video = sequence_example.parse_example(payload, ())
        lists = sequence_example._sequence_example(payload)[1]
        rgb, audio = (
            sequence_example._frames_one_by_one(payload, *lists[name.encode()], name) for name in NAMES
        )
        yield video.id, video.labels, rgb, audio


def protobuf_reader() -> Callable[[Path], Videos] | None:
    """With Google's parser in C, told the messages' form; None where it is not installed."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        return None
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="b", syntax="proto3")
    floats, integers, texts, messages, values = (
        2,
        3,
        9,
        11,
        12,
    )  # types of fields, by Google's numbers
    forms = {
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
    for name, fields in forms.items():
        made = file.message_type.add(name=name)
        for key, place, kind, of, many in fields:
            made.field.add(
                name=key,
                number=place,
                type=kind,
                label=3 if many else 1,
                type_name=f".b.{of}" if of else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    form = message_factory.GetMessageClass(pool.FindMessageTypeByName("b.SequenceExample"))

    def read(shard: Path) -> Videos:
        for _, payload in tfrecord.read_payloads(shard):
            video = form.FromString(payload)
            context = {entry.key: entry.value for entry in video.context.feature}
            lists = {entry.key: entry.value for entry in video.feature_lists.feature_list}
            rgb, audio = (
                table([frame.b.value[0] for frame in lists[name].feature]) for name in NAMES
            )
            yield (
                context["id"].b.value[0],
                np.array(context["labels"].i.value, np.int64),
                rgb,
                audio,
            )

    return read


def table(rows: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1 if rows else 0)


class Other:
    """tf.data in a process of its own, which makes a pass over the shard when told."""

    def __init__(self, python: str, shard: Path, maps: int):
        script = Path(__file__).with_name("tfdata.py")
        self.walls: list[float] = []
        self.process = subprocess.Popen(
            [python, str(script), str(shard), str(maps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Other":
        self._answer()
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(30)

    def passes(self) -> tuple[float, float, int]:
        """(seconds, CPU seconds, checksum) of a pass."""
        self.process.stdin.write("go\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        seconds, cpu, digest = self._answer().split()
        self.walls.append(float(seconds))
        return float(seconds), float(cpu), int(digest)

    def _answer(self) -> str:
        """
        Raises:
            ValueError: the process has ended.
        """
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise ValueError(
                f"{self.process.args[0]} ended without an answer; does it have TensorFlow?"
            )  # type: ignore[index]
        return line


def digest(videos: Videos) -> int:
    """A number that changes with any byte of any frame."""
    value = 0
    for _, _, rgb, audio in videos:
        value = zlib.crc32(audio.tobytes(), zlib.crc32(rgb.tobytes(), value))
    return value


def drain(videos: Videos) -> None:
    for _ in videos:
        pass


def cpu_variant(name: str, job: Callable[[], None], count: int) -> Variant:
    """A variant measured in CPU seconds, with the speed by the clock beside it."""
    walls: list[float] = []

    def seconds() -> float:
        wall, start = time.perf_counter(), time.process_time()
        job()
        spent = time.process_time() - start
        walls.append(time.perf_counter() - wall)
        return spent

    return Variant(name, seconds, wall_note(walls, count))


def wall_note(walls: list[float], count: int) -> Callable[[float], str]:
    return lambda median: f"{count / float(np.median(walls)):.0f} a second by the clock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shard", type=Path, help="a TFRecord file; default: made-up videos, as many as --videos"
    )
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes"
    )
    parser.add_argument("--tf_python", help="a Python that has TensorFlow, to run tf.data beside")


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    return run(args.shard, folder, args.videos, args.workers, args.tf_python, args.rounds)
