"""A reader of shards by tf.data, for `tools/benchmark.py records --tf_python PYTHON`.

    PYTHON paddlevideo/benchmarks/tfdata.py SHARD MAPS

It runs under a Python with TensorFlow. A line on standard input starts a pass; the answer is
`seconds cpu_seconds digest`.
"""

import sys
import time
import zlib

import tensorflow as tf


def parse(record):
    """The values that YouTube-8M's starter code reads from a record."""
    context, frames = tf.io.parse_single_sequence_example(
        record,
        context_features={
            "id": tf.io.FixedLenFeature([], tf.string),
            "labels": tf.io.VarLenFeature(tf.int64),
        },
        sequence_features={
            name: tf.io.FixedLenSequenceFeature([], tf.string) for name in ("rgb", "audio")
        },
    )
    features = [tf.io.decode_raw(frames[name], tf.uint8) for name in ("rgb", "audio")]
    return context["id"], context["labels"].values, *features


def main() -> None:
    """Read one pass for each line on standard input."""
    shard, maps = sys.argv[1], int(sys.argv[2])
    dataset = tf.data.TFRecordDataset(shard).map(
        parse, num_parallel_calls=maps if maps > 1 else None
    )
    digest = 0
    for _, _, rgb, audio in dataset.as_numpy_iterator():
        digest = zlib.crc32(audio.tobytes(), zlib.crc32(rgb.tobytes(), digest))
    print("ready", flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        for _ in dataset.as_numpy_iterator():
            pass
        print(time.perf_counter() - start, time.process_time() - cpu, digest, flush=True)


if __name__ == "__main__":
    main()
