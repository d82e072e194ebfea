"""TSM, PP-TSM and PP-TSMv2 as programs: every format and runtime, and channels first or last."""

import numpy as np
import pytest
import yaml

from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import TrainState
from paddlevideo.exporting.export import export, missing_for_onnx
from paddlevideo.runtimes.choose import available_backends, open_backend
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.weights import write_arrays
from tests.conftest import small_config

SMALL = {"depth": 10, "base_channels": 8, "num_seg": 4}
MODELS = {
    "pp_tsm": ({"name": "ResNetTweaksTSM", **SMALL}, "ppTSMHead"),
    "tsm_nhwc": ({"name": "ResNetTSM", "data_format": "NHWC", **SMALL}, "TSMHead"),
    "pp_tsm_v2": (
        {
            "name": "PPTSM_v2",
            "scale": 0.125,
            "class_expand": 16,
            "num_seg": 4,
            "use_temporal_att": True,
        },
        "MoViNetHead",
    ),
}


SLOW = ("pp_tsm", "pp_tsm_v2")


@pytest.fixture(params=["tsm_nhwc", *(pytest.param(m, marks=pytest.mark.slow) for m in SLOW)])
def config(request, clips, tmp_path):
    backbone, head = MODELS[request.param]
    section = {"framework": "Recognizer2D", "backbone": backbone, "head": {"name": head}}
    path = small_config(clips, tmp_path, MODEL=section)
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for split in ("train", "valid", "test"):
        data["PIPELINE"][split]["sample"]["num_seg"] = 4
        if request.param.endswith("nhwc"):
            array, normalization = data["PIPELINE"][split]["transform"][-2:]
            array["Image2Array"] = {"transpose": False}
            normalization["Normalization"]["tensor_shape"] = [1, 1, 3]
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_config(path)


def test_every_runtime_gives_the_logits_of_the_model(config, tmp_path):
    weights = tmp_path / "w.pdparams"
    model = build_model(config, 3)
    state = TrainState(model, None, None, class_names=["a", "b", "c"])
    write_arrays(weights, state.model_arrays())
    export(config, weights, tmp_path / "program", ["all"], verify_programs=False)
    last = config.MODEL.args["backbone"].args.get("data_format") == "NHWC"
    manifest = read_manifest(tmp_path / "program")
    sizes = [4, 32, 32, 3] if last else [4, 3, 32, 32]
    assert list(manifest.inputs["frames"].shape) == [None, *sizes]
    golden = np.load(tmp_path / "program" / "golden.npz")
    lacking = available_backends()
    read = [("paddle", ".pdmodel"), ("paddle", ".json")]
    if not missing_for_onnx():
        read += [(kind, ".onnx") for kind in ("onnxruntime", "openvino") if not lacking[kind]]
    for kind, suffix in read:
        backend = open_backend(tmp_path / "program" / f"{config.model_name}{suffix}", kind)
        logits, expected = backend.run({"frames": golden["frames"]}), golden["logits"]
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    check_size(model, tmp_path / "program" / f"{config.model_name}.pdiparams")


def check_size(model, file):
    """Assert that a program has merged branches: their weights are not in its file."""
    tensors = {name: tensor.size for name, tensor in model.state_dict().items()}
    branches = sum(size for name, size in tensors.items() if "dw_conv_list" in name)
    others = 4 * (sum(tensors.values()) - branches)  # bytes
    notes = 150 * len(tensors)  # at most, on shapes and types, and constants of the program
    assert others * 0.99 < file.stat().st_size < others + notes
    assert not branches or 4 * branches > notes, "else the size shows nothing"
