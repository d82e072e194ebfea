"""Mutual learning from start to end: training with Mixup, a test of the student, its export."""

import numpy as np
import pytest

from paddlevideo.api import test as run_test
from paddlevideo.api import train
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import read_model
from paddlevideo.exporting.export import export
from paddlevideo.weights import checksum
from tests.conftest import CLASSES, small_config

PP_TSM = {
    "backbone": {"name": "ResNetTweaksTSM", "depth": 10, "base_channels": 8, "num_seg": 4},
    "head": {"name": "ppTSMHead", "num_seg": 4, "drop_ratio": 0.5, "std": 0.01},
}
STUDENTS = {
    "pp_tsm_v2": {
        "backbone": {
            "name": "PPTSM_v2",
            "scale": 0.125,
            "class_expand": 32,
            "num_seg": 4,
            "use_temporal_att": True,
        },
        "head": {"name": "MoViNetHead"},
    },
    "pp_tsn": {
        "backbone": {"name": "ResNetTweaksTSN", "layers": 10, "base_channels": 8},
        "head": {"name": "ppTSNHead", "drop_ratio": 0.4, "std": 0.01},
    },
}
PAIRS = {
    "DistillationCELoss": (["Student", "GroundTruth"], ["Teacher", "GroundTruth"]),
    "DistillationDMLLoss": (["Student", "Teacher"],),
}


def config_of(clips, folder, section, *overrides):
    """A config for clips of 4 frames, 32 x 32 pixels, one view in the test."""
    folder.mkdir(exist_ok=True)
    path = small_config(clips, folder, MODEL=section)
    frames = [f"PIPELINE.{split}.sample.num_seg=4" for split in ("train", "valid", "test")]
    crop = "PIPELINE.test.transform.1={CenterCrop: {target_size: 32}}"
    return load_config(path, [*frames, crop, *overrides])


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_both_learn_and_the_student_is_used_alone(name, clips, tmp_path):
    student = STUDENTS[name]
    losses = [
        {"name": loss, "model_name_pairs": pair} for loss, pairs in PAIRS.items() for pair in pairs
    ]
    section = {
        "framework": "RecognizerDistillation",
        "freeze_params_list": [False, False],
        "models": [{"Teacher": PP_TSM}, {"Student": student}],
        "loss": {"Train": losses, "Val": [dict(losses[0])]},
    }
    cfg = config_of(clips, tmp_path / "both", section, "epochs=1", "DATASET.batch_size=5")
    before = build_model(cfg)
    train(cfg, validate=True)

    best = f"{cfg.folder}/ppTSN_best"
    both, names = read_model(f"{best}.pdparams")
    assert names == list(CLASSES)
    for model in ("Teacher", "Student"):
        classifier = f"{model}.{before.part(model).linear_layer}.weight"
        assert np.isfinite(both[classifier]).all()
        assert any(name.startswith(f"{model}.") and name.endswith("_mean") for name in both)

    plain = config_of(clips, tmp_path / "plain", {"framework": "Recognizer2D", **student})
    alone = run_test(plain, f"{best}_student.pdparams")
    assert alone.numbers == run_test(cfg, f"{best}.pdparams").numbers

    folder = export(cfg, f"{best}.pdparams", tmp_path / "program")
    golden = np.load(folder / "golden.npz")
    assert golden["logits"].shape[1] == len(CLASSES)
    size = (folder / "ppTSN.pdiparams").stat().st_size
    weights, _ = read_model(f"{best}_student.pdparams")
    assert size < sum(array.nbytes for array in weights.values()) + 200 * len(weights)
    assert checksum(weights) != checksum(both)
