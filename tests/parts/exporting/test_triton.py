"""Model repositories for Triton, parsed as protobuf text and compared with the ONNX program."""

import numpy as np
import pytest

from paddlevideo.exporting.export import export
from paddlevideo.exporting.program import ExportError
from paddlevideo.exporting.triton import check_repository, config_text, write_repository
from tests.parts.conftest import NAMES

onnx = pytest.importorskip("onnx")
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
from google.protobuf import descriptor_pool, message_factory, text_format  # noqa: E402

# The fields of Triton's model_config.proto that are written here: {message: {field: (type, number,
# repeated)}}. https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
SCHEMA = {
    "ModelTensorReshape": {"shape": ("int64", 1, True)},
    "ModelInput": {
        "name": ("string", 1, False),
        "data_type": ("DataType", 2, False),
        "dims": ("int64", 4, True),
        "reshape": ("ModelTensorReshape", 5, False),
    },
    "ModelOutput": {
        "name": ("string", 1, False),
        "data_type": ("DataType", 2, False),
        "dims": ("int64", 3, True),
        "label_filename": ("string", 4, False),
        "reshape": ("ModelTensorReshape", 5, False),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": ("int32", 1, True),
        "max_queue_delay_microseconds": ("uint64", 2, False),
    },
    "ModelConfig": {
        "name": ("string", 1, False),
        "max_batch_size": ("int32", 4, False),
        "input": ("ModelInput", 5, True),
        "output": ("ModelOutput", 6, True),
        "dynamic_batching": ("ModelDynamicBatching", 11, False),
        "backend": ("string", 17, False),
    },
}
DATA_TYPES = {
    "TYPE_INVALID": 0,
    "TYPE_UINT8": 2,
    "TYPE_INT32": 8,
    "TYPE_INT64": 9,
    "TYPE_FP16": 10,
    "TYPE_FP32": 11,
}
ONNX_TYPES = {
    "TYPE_UINT8": 2,
    "TYPE_INT32": 6,
    "TYPE_INT64": 7,
    "TYPE_FP16": 10,
    "TYPE_FP32": 1,
}


def config_class():
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    enum = file.enum_type.add(name="DataType")
    for name, number in DATA_TYPES.items():
        enum.value.add(name=name, number=number)
    for message, fields in SCHEMA.items():
        proto = file.message_type.add(name=message)
        for name, (kind, number, repeated) in fields.items():
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            added = proto.field.add(name=name, number=number, label=label)
            if kind in SCHEMA:
                added.type, added.type_name = field.TYPE_MESSAGE, f".t.{kind}"
            elif kind == "DataType":
                added.type, added.type_name = field.TYPE_ENUM, ".t.DataType"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


CONFIG_CLASS = config_class()
TYPE_NAMES = {number: name for name, number in DATA_TYPES.items()}


def parse(text):
    return text_format.Parse(text, CONFIG_CLASS())


def assert_server_takes(config):
    """What the server refuses when it loads a model: src/model_config_utils.cc of Triton's core."""
    assert config.name and config.backend
    for port in (*config.input, *config.output):
        assert port.name and port.data_type != DATA_TYPES["TYPE_INVALID"] and port.dims
        assert all(size > 0 or size == -1 for size in (*port.dims, *port.reshape.shape))
        if port.HasField("reshape"):
            assert config.max_batch_size > 0, "without a batch there are no scalars"
            assert np.prod(port.dims) == np.prod(port.reshape.shape, dtype=int)
    assert config.max_batch_size > 0 or not config.HasField("dynamic_batching")


def assert_fits(config, program):
    """The config has the inputs and outputs of the program, with the batch axis left out."""
    assert_server_takes(config)
    graph = onnx.load(str(program)).graph
    for ports, described in ((graph.input, config.input), (graph.output, config.output)):
        assert [port.name for port in ports] == [each.name for each in described]
        for port, each in zip(ports, described, strict=True):
            tensor = port.type.tensor_type
            sizes = [dim.dim_value or -1 for dim in tensor.shape.dim]
            assert ONNX_TYPES[TYPE_NAMES[each.data_type]] == tensor.elem_type
            reshaped = each.HasField("reshape")
            dims = list(each.reshape.shape if reshaped else each.dims)
            assert dims == (sizes[1:] if config.max_batch_size else sizes)
            assert sizes[0] == -1 or not config.max_batch_size, "the backend wants a free batch"


def test_the_repository_of_an_export_describes_its_program(video_export):
    folder = video_export / "triton" / "tiny"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    program = video_export / "out" / "tiny.onnx"
    assert (folder / "1" / "model.onnx").read_bytes() == program.read_bytes()
    config = parse((folder / "config.pbtxt").read_text(encoding="utf-8"))
    # The server refuses a name that differs from the folder's.
    assert (config.name, config.backend) == (folder.name, "onnxruntime")
    assert_fits(config, program)
    (frames,), (scores,) = config.input, config.output
    assert list(frames.dims) == [10, 2, 64, 64, 3] and list(scores.dims) == [3]
    assert TYPE_NAMES[frames.data_type] == "TYPE_UINT8"
    assert config.HasField("dynamic_batching") and 1 <= config.max_batch_size <= 64
    assert scores.label_filename == "labels.txt"
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == NAMES


def test_a_plain_program(exported):
    program = exported.folder / "tiny.onnx"
    if not program.exists():
        pytest.skip("no onnx program here")
    with np.load(exported.folder / "golden.npz") as golden:
        config = parse(config_text("tiny", program, {"frames": golden["frames"]}, False))
    assert_fits(config, program)
    assert not config.output[0].label_filename


TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}


def write_program(path, inputs, outputs):
    """An ONNX file with these inputs and outputs, {name: (dtype, shape)}, and no nodes."""
    ports = [
        [onnx.helper.make_tensor_value_info(name, TYPES[d], s) for name, (d, s) in ports.items()]
        for ports in (inputs, outputs)
    ]
    graph = onnx.helper.make_graph([], "g", *ports)
    onnx.save(onnx.helper.make_model(graph), str(path))
    return path


@pytest.mark.parametrize(
    ("inputs", "batched"),
    [
        ({"slow": ("float32", ["n", 3, 4, 64, 64]), "fast": ("float32", ["n", 3, 16, 64, 64])}, 1),
        (
            {
                "rgb": ("uint8", ["n", 300, 1024]),
                "audio": ("uint8", ["n", 300, 128]),
                "num_frames": ("int64", ["n"]),
            },
            1,
        ),
        ({"frames": ("float16", ["n", 8, 3, "h", "w"])}, 1),
        ({"counts": ("int32", ["n"])}, 1),
        ({'a "quoted" name': ("float32", ["n", 3])}, 1),
        ({"frames": ("uint8", [4, 1, 8, 224, 224, 3])}, 0),
    ],
)
def test_types_names_and_sizes_are_those_of_the_program(tmp_path, inputs, batched):
    batch = "n" if batched else 4
    program = write_program(
        tmp_path / "p.onnx", inputs, {"linear_9.tmp_1": ("float32", [batch, 9])}
    )
    sample = {
        name: np.zeros([2, *(s if isinstance(s, int) else 32 for s in shape[1:])], dtype)
        for name, (dtype, shape) in inputs.items()
    }
    config = parse(config_text("m", program, sample, True))
    assert_fits(config, program)
    assert bool(config.max_batch_size) == config.HasField("dynamic_batching") == bool(batched)


@pytest.mark.parametrize(("size", "most"), [(64, 64), (3000, 9), (30000, 1)])
def test_large_inputs_are_batched_less(tmp_path, size, most):
    program = write_program(
        tmp_path / "p.onnx", {"x": ("float32", ["n", size])}, {"y": ("float32", ["n", 2])}
    )
    sample = {"x": np.zeros((1, size * 3000), np.float32)}
    assert parse(config_text("m", program, sample, False)).max_batch_size == most


def test_a_model_in_the_repository_is_replaced_only_on_request(exported, tmp_path):
    program = write_program(
        tmp_path / "m.onnx", {"x": ("float32", ["n", 2])}, {"y": ("float32", ["n", 2])}
    )
    sample = {"x": np.zeros((2, 2), np.float32)}
    write_repository(tmp_path / "repo", program, sample, ["a", "line\nend"])
    labels = (tmp_path / "repo" / "m" / "labels.txt").read_text(encoding="utf-8")
    assert labels.splitlines() == ["a", "line\\nend"]
    write_repository(tmp_path / "repo", program, sample, None)
    assert not (tmp_path / "repo" / "m" / "labels.txt").exists(), "they were another model's"
    check_repository(tmp_path / "repo", "other", overwrite=False)
    check_repository(tmp_path / "repo", "m", overwrite=True)
    with pytest.raises(ExportError, match="exists; give another folder with --triton"):
        check_repository(tmp_path / "repo", "m", overwrite=False)
    for url in ("s3://bucket/models", "https://user:secret@host/models"):
        with pytest.raises(ExportError, match="is written to a local folder") as caught:
            export(exported.cfg, exported.weights, tmp_path / "out", triton=url)
        assert "secret" not in str(caught.value)
    (tmp_path / "repo" / "tiny").mkdir()
    with pytest.raises(ExportError, match="exists; give another folder with --triton"):
        export(exported.cfg, exported.weights, "s3://bucket/out", triton=tmp_path / "repo")
    with pytest.raises(ExportError, match="exists; give another folder with --triton"):
        export(exported.cfg, exported.weights, tmp_path / "out", triton=tmp_path / "repo")
    assert not (tmp_path / "out").exists()
