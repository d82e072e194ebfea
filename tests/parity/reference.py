"""Models with the weights of the reference, and comparison with its outputs."""

import json
from pathlib import Path

import numpy as np
import paddle

from paddlevideo.losses import DistillationCELoss, DistillationDMLLoss
from paddlevideo.models.distillation import Losses, RecognizerDistillation, Student, Teacher
from paddlevideo.models.pp_tsm import ResNetTweaksTSM, ppTSMHead
from paddlevideo.models.pp_tsm_v2 import MoViNetHead, PPTSM_v2
from paddlevideo.models.pp_tsn import ResNetTweaksTSN, ppTSNHead
from paddlevideo.models.recognizer import Recognizer2D, Recognizer3D
from paddlevideo.models.slowfast import ResNetSlowFast, SlowFastHead
from paddlevideo.models.tsm import ResNetTSM, TSMHead
from paddlevideo.models.tsn import ResNet, TSNHead
from tests.initial_values import zeros_as_initial_values
from tests.parity.fill import paddle_tensor

# framework, (backbone, its arguments), (head, its arguments)
FAMILIES = {
    "pptsn": (Recognizer2D, (ResNetTweaksTSN, {}), (ppTSNHead, {})),
    "tsn_k400": (Recognizer2D, (ResNet, {}), (TSNHead, {})),
    "pptsm": (Recognizer2D, (ResNetTweaksTSM, {}), (ppTSMHead, {})),
    "pptsm_r18": (Recognizer2D, (ResNetTweaksTSM, {"depth": 18}), (ppTSMHead, {})),
    "pptsm_r34": (Recognizer2D, (ResNetTweaksTSM, {"depth": 34}), (ppTSMHead, {})),
    "pptsm_r101": (Recognizer2D, (ResNetTweaksTSM, {"depth": 101}), (ppTSMHead, {})),
    "tsm": (Recognizer2D, (ResNetTSM, {}), (TSMHead, {})),
    "tsm_r101": (Recognizer2D, (ResNetTSM, {"depth": 101}), (TSMHead, {})),
    "pptsmv2": (Recognizer2D, (PPTSM_v2, {}), (MoViNetHead, {})),
    "pptsmv2_16f_att": (
        Recognizer2D,
        (PPTSM_v2, {"num_seg": 16, "use_temporal_att": True}),
        (MoViNetHead, {}),
    ),
    "slowfast": (
        Recognizer3D,
        (ResNetSlowFast, {"alpha": 8, "beta": 8, "width_per_group": 64, "fusion_kernel_sz": 5}),
        (
            SlowFastHead,
            {"alpha": 8, "beta": 8, "width_per_group": 64, "num_frames": 32, "crop_size": 224},
        ),
    ),
    "slowfast_multigrid": (
        Recognizer3D,
        (
            ResNetSlowFast,
            {
                "alpha": 4,
                "beta": 8,
                "width_per_group": 64,
                "fusion_kernel_sz": 7,
                "bn_norm_type": "batchnorm",
            },
        ),
        (
            SlowFastHead,
            {
                "alpha": 4,
                "beta": 8,
                "width_per_group": 64,
                "num_frames": 32,
                "multigrid_short": True,
            },
        ),
    ),
}


def build(
    family: str, num_classes: int = 400, backbone: dict | None = None, **head
) -> Recognizer2D | Recognizer3D:
    framework, (make_backbone, arguments), (make_head, defaults) = FAMILIES[family]
    if make_backbone is PPTSM_v2:  # the classifier is in the backbone
        arguments = {**arguments, "class_num": num_classes}
    with zeros_as_initial_values():
        return framework(
            make_backbone(**{**arguments, **(backbone or {})}),
            make_head(num_classes, **{**defaults, **head}),
        )


def mutual_learning(num_classes: int = 400, **dropout: float) -> RecognizerDistillation:
    """PP-TSM and PP-TSMv2 that learn from labels and from each other, as PaddleVideo trains them.

    Args:
        dropout: arguments of the student's backbone and of the teacher's head: `dropout_prob`,
            `drop_ratio`.
    """
    student, teacher = ({k: v for k, v in dropout.items() if k == key} for key in DROPOUT)
    with zeros_as_initial_values():
        roles = [
            Teacher(backbone=ResNetTweaksTSM(), head=ppTSMHead(num_classes, **teacher)),
            Student(backbone=PPTSM_v2(num_classes, **student), head=MoViNetHead(num_classes)),
        ]
    train = [
        DistillationCELoss(["Student", "GroundTruth"]),
        DistillationCELoss(["Teacher", "GroundTruth"]),
        DistillationDMLLoss(["Student", "Teacher"]),
    ]
    return RecognizerDistillation(roles, Losses(train))


DROPOUT = ("dropout_prob", "drop_ratio")
PARTS = {"backbone": "0", "head": "1"}


def released_name(name: str) -> str:
    """The name of a tensor in PaddleVideo's files; the parts of a distillation have numbers."""
    model, _, rest = name.partition(".")
    if model not in ("Teacher", "Student"):
        return name
    part, _, rest = rest.partition(".")
    return f"{model}.{PARTS[part]}.{rest}"


def inputs_of(model, array: np.ndarray) -> dict[str, paddle.Tensor]:
    """The inputs of a model.

    Args:
        array: frames [N, S, 3, H, W], or a clip [N, 3, T, H, W]; the slow pathway gets some of
            its frames.
    """
    if "frames" in model.inputs:
        return {"frames": paddle.to_tensor(array)}
    num_frames = array.shape[2]
    slow = np.linspace(0, num_frames - 1, num_frames // model.backbone.alpha).astype(np.int64)
    return {"slow": paddle.to_tensor(array[:, :, slow]), "fast": paddle.to_tensor(array)}


def fill(model, tame: bool) -> None:
    """Set every tensor to the value that the fill rule computes from its name and shape."""
    arrays = {
        name: paddle_tensor(released_name(name), tensor.shape, tame)
        for name, tensor in model.state_dict().items()
    }
    assert model.set_state_dict(arrays) == ([], [])


def check_names(goldens: Path, family: str, manifest_of: str = "") -> None:
    """Assert that names, shapes and their order are those of a released file.

    Args:
        manifest_of: the family whose names are the same; by default the family itself.
    """
    file = goldens / "paddlevideo" / f"manifest_{manifest_of or family}.json"
    manifest = json.loads(file.read_text())
    with paddle.LazyGuard():  # names and shapes, without values
        model = build(family)
    trained = check_tensors(model, manifest)
    assert trained == {name for name, _, _, kind in manifest if kind == "trainable"}


def check_tensors(model, manifest: list) -> set[str]:
    """Assert that names, shapes, types and order are those of a manifest.

    Returns:
        released names of the tensors that a training changes.
    """
    ours = [
        [released_name(name), list(tensor.shape), str(tensor.dtype).removeprefix("paddle.")]
        for name, tensor in model.state_dict().items()
    ]
    assert ours == [entry[:3] for entry in manifest]
    return {released_name(name) for name, p in model.named_parameters() if not p.stop_gradient}


def check_logits(goldens: Path, family: str, tame: bool) -> None:
    """Assert that evaluation logits agree to 1e-4 of their standard deviation."""
    golden = np.load(goldens / "paddlevideo" / f"golden_{family}.npz")
    model = build(family)
    fill(model, tame)
    model.eval()
    frames = (
        np.random.default_rng(0)
        .standard_normal(tuple(golden["public/input_shape"]))
        .astype("float32")
    )
    with paddle.no_grad():
        logits = model(inputs_of(model, frames)).numpy()
    expected = golden["public/out_tame" if tame else "public/logits"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * expected.std())
