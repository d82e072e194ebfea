"""Weights as PaddleCV and TensorFlow store them."""

import struct
from pathlib import Path

import google_crc32c
import numpy as np
import paddle

from paddlevideo.models.convert.tf_checkpoint import MAGIC
from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import VideoTagger
from paddlevideo.models.youtube8m import EIGEN_PARAM

# PaddleCV 1.8's variables in the order of its program -> the original's names, in `tower/`.
NAMES = {
    "video_fc_expansion_w": "video_VLAD/fully_connected/weights",
    "video_fc_expansion_b": "video_VLAD/fully_connected/biases",
    "video_fc_group_attention_w": "video_VLAD/fully_connected_1/weights",
    "video_fc_group_attention_b": "video_VLAD/fully_connected_1/biases",
    "video_cluster_weights": "video_VLAD/cluster_weights",
    "batch_norm_0": "video_VLAD/cluster_bn",
    "video_cluster_weights2": "video_VLAD/cluster_weights2",
    "batch_norm_1": "video_VLAD/vlad_bn",
    "audio_fc_expansion_w": "audio_VLAD/fully_connected/weights",
    "audio_fc_expansion_b": "audio_VLAD/fully_connected/biases",
    "audio_fc_group_attention_w": "audio_VLAD/fully_connected_1/weights",
    "audio_fc_group_attention_b": "audio_VLAD/fully_connected_1/biases",
    "audio_cluster_weights": "audio_VLAD/cluster_weights",
    "batch_norm_2": "audio_VLAD/cluster_bn",
    "audio_cluster_weights2": "audio_VLAD/cluster_weights2",
    "batch_norm_3": "audio_VLAD/vlad_bn",
    "hidden1_fc_weights": "hidden1_weights",
    "batch_norm_4": "hidden1_bn",
    "gating_fc1_weights": "gating_weights_1",
    "batch_norm_5": "gating_bn",
    "gating_fc2_weights": "gating_weights_2",
    "logits_clf_weights": "fully_connected/weights",
    "logits_clf_bias": "fully_connected/biases",
}
NORM = {"w_0": "gamma", "b_0": "beta", "w_1": "moving_mean", "w_2": "moving_variance"}
# Small except for the visual feature, whose size the constant determines. Audio has half of
# the clusters and groups, as in the original.
SIZES = {"G": 4, "K": 4, "H": 8, "r": 2, "C": 3, "Da": 6, "lam": 2}


def tagger(seed=0, **changes) -> VideoTagger:
    paddle.seed(seed)
    backbone = NeXtVLAD(SIZES["K"], SIZES["G"], SIZES["lam"], 2, 2, 1024, SIZES["Da"], **changes)
    return VideoTagger(backbone, NeXtVLADHead(SIZES["C"], SIZES["H"], SIZES["r"]))


def paddlecv(rng) -> dict[str, np.ndarray]:
    """Synthetic weights with PaddleCV's names and the shapes of `tagger`."""
    wide, visual, audio = 2048, 512, 6
    shapes = {
        "video_fc_expansion_w": (1024, wide),
        "video_fc_expansion_b": (wide,),
        "video_fc_group_attention_w": (wide, 4),
        "video_fc_group_attention_b": (4,),
        "video_cluster_weights": (wide, 16),
        "batch_norm_0": (16,),
        "video_cluster_weights2": (4, visual),
        "batch_norm_1": (4 * visual,),
        "audio_fc_expansion_w": (6, 12),
        "audio_fc_expansion_b": (12,),
        "audio_fc_group_attention_w": (12, 2),
        "audio_fc_group_attention_b": (2,),
        "audio_cluster_weights": (12, 4),
        "batch_norm_2": (4,),
        "audio_cluster_weights2": (2, audio),
        "batch_norm_3": (2 * audio,),
        "hidden1_fc_weights": (4 * visual + 2 * audio, 8),
        "batch_norm_4": (8,),
        "gating_fc1_weights": (8, 4),
        "batch_norm_5": (4,),
        "gating_fc2_weights": (4, 8),
        "logits_clf_weights": (8, 3),
        "logits_clf_bias": (3,),
    }
    arrays = {}
    for name, shape in shapes.items():
        for suffix in [f".{part}" for part in NORM] if name.startswith("batch_norm") else [""]:
            arrays[name + suffix] = np.abs(rng.standard_normal(shape)).astype(np.float32)
    return {**arrays, "eigen_param": EIGEN_PARAM.copy()}


def tensorflow(arrays: dict[str, np.ndarray], scope="tower/", vlad="VLAD") -> dict[str, np.ndarray]:
    """The same weights with the names and layouts of the original."""
    variables = {}
    for name, array in arrays.items():
        if name == "eigen_param":
            continue
        first, _, part = name.partition(".")
        variable = scope + NAMES[first].replace("VLAD", vlad) + (f"/{NORM[part]}" if part else "")
        variables[variable] = array.T[None] if name.endswith("cluster_weights2") else array
    return variables


def varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries: list[tuple[bytes, bytes]], interval: int = 3) -> bytes:
    """A LevelDB block with its type and checksum; names share prefixes except every third."""
    out, restarts, last = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % interval:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        out += (
            varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        )
        last = key
    out += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + b"\0"
    return out + struct.pack("<I", masked(out))


def write_checkpoint(prefix: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write a checkpoint as TensorFlow does: blocks of sorted entries, and the tensors."""
    kinds, data, entries = (
        {"<f4": 1, "<i8": 9, "<i4": 3, "<f8": 2},
        b"",
        [(b"", b"\x08\x01\x1a\x02\x08\x01")],
    )
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        raw = array.tobytes()
        dims = b"".join(
            b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(n) for n in array.shape)
        )
        entry = b"\x08" + varint(kinds[array.dtype.str]) + b"\x12" + varint(len(dims)) + dims
        entry += (
            (b"\x20" + varint(len(data)) if data else b"") + b"\x28" + varint(len(raw)) + b"\x35"
        )
        entries.append((name.encode(), entry + struct.pack("<I", masked(raw))))
        data += raw
    table, handles = b"", []
    for start in range(0, len(entries), 5):
        part = block(entries[start : start + 5])
        handles.append(
            (
                entries[min(start + 4, len(entries) - 1)][0],
                varint(len(table)) + varint(len(part) - 5),
            )
        )
        table += part
    meta, index = block([]), block(handles, 1)
    footer = (
        varint(len(table))
        + varint(len(meta) - 5)
        + varint(len(table) + len(meta))
        + varint(len(index) - 5)
    )
    table += meta + index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    prefix.with_name(prefix.name + ".index").write_bytes(table)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)
    return prefix
