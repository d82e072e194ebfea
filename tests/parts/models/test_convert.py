"""Weights of other projects: translation tables, the account of every name, files of theirs, the tool."""

import importlib.util
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import paddle
import pytest

import paddlevideo
from paddlevideo.models.convert import Rule, convert, sources, translate
from paddlevideo.models.convert.files import read_weights
from paddlevideo.models.convert.tf_checkpoint import MAGIC
from paddlevideo.models.nextvlad import NeXtVLAD, NeXtVLADHead
from paddlevideo.models.tagger import TaggerMixture, VideoTagger
from paddlevideo.models.youtube8m import EIGEN_PARAM
from paddlevideo.weights import WeightsError, load_into, read_arrays, state_arrays, write_arrays

# PaddleCV 1.8's variables, in the order of its program, and what the original calls them (inside `tower/`).
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
# Small but for the visual feature, whose constant the original leaves to us; audio as the original has it, halved.
SIZES = {"G": 4, "K": 4, "H": 8, "r": 2, "C": 3, "Da": 6, "lam": 2}


def tagger(seed=0, **changes) -> VideoTagger:
    paddle.seed(seed)
    backbone = NeXtVLAD(SIZES["K"], SIZES["G"], SIZES["lam"], 2, 2, 1024, SIZES["Da"], **changes)
    return VideoTagger(backbone, NeXtVLADHead(SIZES["C"], SIZES["H"], SIZES["r"]))


def paddlecv(rng) -> dict[str, np.ndarray]:
    """Made-up weights by PaddleCV's names, in the shapes of `tagger`."""
    wide, own, heard = 2048, 512, 6
    shapes = {
        "video_fc_expansion_w": (1024, wide), "video_fc_expansion_b": (wide,), "video_fc_group_attention_w": (wide, 4),
        "video_fc_group_attention_b": (4,), "video_cluster_weights": (wide, 16), "batch_norm_0": (16,),
        "video_cluster_weights2": (4, own), "batch_norm_1": (4 * own,),
        "audio_fc_expansion_w": (6, 12), "audio_fc_expansion_b": (12,), "audio_fc_group_attention_w": (12, 2),
        "audio_fc_group_attention_b": (2,), "audio_cluster_weights": (12, 4), "batch_norm_2": (4,),
        "audio_cluster_weights2": (2, heard), "batch_norm_3": (2 * heard,),
        "hidden1_fc_weights": (4 * own + 2 * heard, 8), "batch_norm_4": (8,), "gating_fc1_weights": (8, 4),
        "batch_norm_5": (4,),
        "gating_fc2_weights": (4, 8), "logits_clf_weights": (8, 3), "logits_clf_bias": (3,),
    }  # fmt: skip
    arrays = {}
    for name, shape in shapes.items():
        for suffix in [f".{part}" for part in NORM] if name.startswith("batch_norm") else [""]:
            arrays[name + suffix] = np.abs(rng.standard_normal(shape)).astype(np.float32)
    return {**arrays, "eigen_param": EIGEN_PARAM.copy()}


def tensorflow(arrays: dict[str, np.ndarray], scope="tower/", vlad="VLAD") -> dict[str, np.ndarray]:
    """The same weights by the original's names and in its layout."""
    theirs = {}
    for name, array in arrays.items():
        if name == "eigen_param":
            continue
        first, _, part = name.partition(".")
        told = scope + NAMES[first].replace("VLAD", vlad) + (f"/{NORM[part]}" if part else "")
        theirs[told] = array.T[None] if name.endswith("cluster_weights2") else array
    return theirs


def test_sources():
    assert {"paddlecv_nextvlad", "youtube8m_nextvlad", "nextvlad_mixture"} <= set(sources())
    with pytest.raises(
        KeyError, match="no converter named 'paddlecv'.*did you mean 'paddlecv_nextvlad'"
    ):
        paddlevideo.convert_state_dict({}, source="paddlecv")


def test_both_releases_name_the_same_tensors():
    arrays = paddlecv(np.random.default_rng(0))
    ours = paddlevideo.convert_state_dict(arrays, source="paddlecv_nextvlad")
    others = paddlevideo.convert_state_dict(tensorflow(arrays), source="youtube8m_nextvlad")
    assert ours.keys() == others.keys() and len(ours) == len(arrays)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    model = tagger()
    load_into(model, ours, "made up")
    np.testing.assert_array_equal(
        model.backbone.video.centers.numpy(), arrays["video_cluster_weights2"]
    )
    np.testing.assert_array_equal(
        model.head.gate_norm._variance.numpy(), arrays["batch_norm_5.w_2"]
    )


def test_a_checkpoint_of_the_original_holds_more():
    arrays = paddlecv(np.random.default_rng(0))
    theirs = {f"{name}:0": array for name, array in tensorflow(arrays, scope="").items()}
    extra = {
        "global_step": np.int64(7),
        "beta1_power": np.float32(0.5),
        "hidden1_weights/Adam_1": np.zeros((3, 3)),
    }
    done = convert({**theirs, **extra}, "youtube8m_nextvlad")
    assert done.arrays.keys() == convert(arrays, "paddlecv_nextvlad").arrays.keys()
    told = "\n".join(done.lines)
    assert "global_step [] is dropped: a counter of the optimizer" in told
    assert "hidden1_weights/Adam_1 [3, 3] is dropped: a moment of Adam" in told
    assert (
        "video_VLAD/cluster_weights2 [1, 512, 4] -> backbone.video.centers [4, 512] (transposed"
        in told
    )
    assert "backbone.eigen_param [1024] is the constant of the official features" in told
    assert len(done.lines) == len(theirs) + len(extra) + 1


def test_mixture_of_the_original_and_its_first_member():
    members = [paddlecv(np.random.default_rng(seed)) for seed in range(2)]
    theirs = {}
    for number, arrays in enumerate(members):
        theirs |= tensorflow(arrays, f"tower/branch_{number}/", "vlad")
    rng = np.random.default_rng(9)
    gate = {
        "mix_weights/weights": (1030, 2),
        "mix_weights/biases": (2,),
        **{f"mix_weights_bn/{p}": (1030,) for p in NORM.values()},
    }
    theirs |= {
        f"tower/{name}": rng.random(shape).astype(np.float32) for name, shape in gate.items()
    }
    ours = paddlevideo.convert_state_dict(theirs, source="youtube8m_nextvlad")
    first = tagger(convention="tensorflow")
    mixture = TaggerMixture(first.backbone, first.head, num_members=2)
    account = load_into(mixture, ours, "made up")
    assert not account.missing and not account.unused
    np.testing.assert_array_equal(mixture.gate.bias.numpy(), theirs["tower/mix_weights/biases"])
    alone = paddlevideo.convert_state_dict(state_arrays(mixture), source="nextvlad_mixture")
    expected = paddlevideo.convert_state_dict(members[0], source="paddlecv_nextvlad")
    assert alone.keys() == expected.keys()
    assert all((alone[name] == expected[name]).all() for name in alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.update(conv1=np.zeros((2, 3))),
            r"not weights of youtube8m_nextvlad: conv1 \[2, 3\] matches no rule",
        ),
        (lambda a: a.update(hidden1_weights=np.zeros(1)), "both become .*head.hidden.weight"),
        (
            lambda a: a.update({"tower/video_VLAD/cluster_weights2": np.zeros((3, 4))}),
            r"\[3, 4\] cannot be transposed, without its first axis: expected \[1, D1, K\]",
        ),
        (lambda a: a.clear(), "no tensor matches a rule"),
    ],
)
def test_what_does_not_fit(change, message):
    arrays = tensorflow(paddlecv(np.random.default_rng(0)))
    change(arrays)
    with pytest.raises(WeightsError, match=message):
        paddlevideo.convert_state_dict(arrays, source="youtube8m_nextvlad")


def test_many_mistakes_are_counted():
    with pytest.raises(WeightsError, match=r"n5 \[\] matches no rule; and 3 more"):
        translate({f"n{i}": np.zeros(()) for i in range(9)}, [Rule("x", "y")], "nothing")


# --- files -----------------------------------------------------------------------------------------------------------------


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
    """A block of LevelDB with its type and checksum: names share beginnings, but for every third."""
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
    """What TensorFlow writes: entries sorted by name in blocks of a few, tensors one after the other."""
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


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {f"tower/layer_{i}/weights": (3, i % 4) for i in range(12)} | {
        "tower/one": (),
        "tower/long": (300, 7),
    }
    arrays = {name: rng.standard_normal(shape).astype("<f4") for name, shape in shapes.items()}
    arrays |= {"global_step": np.array(12500, "<i8"), "double": rng.random(3)}
    return write_checkpoint(tmp_path / "model.ckpt-12500", arrays), arrays


@pytest.mark.parametrize("ending", ["", ".index"])
def test_tensorflow_checkpoint(checkpoint, ending):
    prefix, arrays = checkpoint
    found = read_weights(f"{prefix}{ending}")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_damaged_checkpoint(checkpoint):
    prefix, _ = checkpoint
    data, index = (
        prefix.with_name(prefix.name + ".data-00000-of-00001"),
        prefix.with_name(prefix.name + ".index"),
    )
    good = data.read_bytes()
    data.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    with pytest.raises(
        WeightsError,
        match=r"model.ckpt-12500.index: .* does not match its checksum: the file is damaged",
    ):
        read_weights(index)
    data.write_bytes(good[:-9])
    with pytest.raises(WeightsError, match="ends before tower/.*: the file is truncated"):
        read_weights(index)
    data.unlink()
    with pytest.raises(WeightsError, match="data-00000-of-00001: cannot be read: No such file"):
        read_weights(index)
    index.write_bytes(b"no index at all, but long enough for one: " + bytes(60))
    with pytest.raises(
        WeightsError, match="not the index of a TensorFlow checkpoint; expected a .index file"
    ):
        read_weights(index)


def test_mutated_index_is_an_error_or_the_same(checkpoint):
    """Any bit of the index is checked: by a checksum, or because it says where the blocks are."""
    prefix, arrays = checkpoint
    index = prefix.with_name(prefix.name + ".index")
    good, rng, refused = index.read_bytes(), np.random.default_rng(0), 0
    for _ in range(400):
        bad = bytearray(good[: rng.integers(len(good))] if rng.random() < 0.2 else good)
        for _ in range(rng.integers(1, 4) if bad else 0):
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        index.write_bytes(bytes(bad))
        try:
            found = read_weights(index)
        except WeightsError:
            refused += 1
        else:
            assert all((found[name] == array).all() for name, array in arrays.items())
    assert refused > 300


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), **{"b/c": np.ones(2)})
    assert {name: a.tolist() for name, a in read_weights(tmp_path / "a.npz").items()} == {
        "x": [0, 1, 2],
        "b/c": [1, 1],
    }
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="objects.npz: not a .npz file of arrays"):
        read_weights(tmp_path / "objects.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(WeightsError, match="text.npz: not a .npz file of arrays"):
        read_weights(tmp_path / "text.npz")
    with pytest.raises(WeightsError, match="there is no such file"):
        read_weights(tmp_path / "none.npz")


# --- the tool --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tool(root, capsys):
    """`tool(*arguments)` -> (exit code, what it printed)."""
    spec = importlib.util.spec_from_file_location("convert_tool", root / "tools/convert_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments):
        code = module.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_tool_writes_what_a_model_takes(tool, tmp_path, suffix):
    arrays = paddlecv(np.random.default_rng(0))
    write_arrays(tmp_path / "NEXTVLAD.pdparams", arrays)
    out = tmp_path / f"new/ours{suffix}"
    code, printed = tool(
        "--source", "paddlecv_nextvlad", "-w", tmp_path / "NEXTVLAD.pdparams", "-o", out
    )
    assert code == 0, printed
    assert all(f"{name} [" in printed for name in arrays)
    values = sum(array.size for array in arrays.values())
    assert (
        f"{len(arrays)} tensors read; {out}: {len(arrays)} tensors, {values:,} values written"
        in printed
    )
    load_into(tagger(), read_arrays(out), "made up")


def test_tool_reads_a_checkpoint(tool, tmp_path):
    prefix = write_checkpoint(
        tmp_path / "model.ckpt-1", tensorflow(paddlecv(np.random.default_rng(0)))
    )
    code, printed = tool(
        "--source", "youtube8m_nextvlad", "-w", prefix, "-o", tmp_path / "ours.pdparams", "-q"
    )
    assert code == 0 and len(printed.splitlines()) == 1, printed
    load_into(tagger(convention="tensorflow"), read_arrays(tmp_path / "ours.pdparams"), "made up")


def test_tool_leaves_nothing_behind_where_it_fails(tool, tmp_path):
    write_arrays(tmp_path / "other.pdparams", {"conv.weight": np.zeros((2, 2), np.float32)})
    out = tmp_path / "ours.pdparams"
    for weights, target, message in (
        ("other.pdparams", out, "not weights of paddlecv_nextvlad: conv.weight"),
        ("missing.pdparams", out, "there is no such file"),
        ("other.pdparams", tmp_path / "ours.npz", "expected a .pdparams or .safetensors file"),
    ):
        code, printed = tool(
            "--source", "paddlecv_nextvlad", "-w", tmp_path / weights, "-o", target
        )
        assert code == 1 and printed.startswith("error: ") and message in printed, printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pdparams"]
