"""The network of motion: what it sees, its shapes, and that it learns to tell directions apart."""

import numpy as np
import paddle
import pytest

import paddlevideo.models  # noqa: F401  # registers
from paddlevideo.config.registry import lookup
from paddlevideo.models.motion import MotionHead, MotionNet
from paddlevideo.models.recognizer import Recognizer3D


def build(num_classes=3, widths=(4, 8, 8), **head):
    paddle.seed(0)
    return Recognizer3D(MotionNet(list(widths)), MotionHead(num_classes, **head))


def clips(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return paddle.to_tensor(values.astype("float32"))


def test_default_size():
    model = Recognizer3D(lookup("backbone", "MotionNet").make(), MotionHead(6))
    count = sum(p.size for p in model.parameters() if not p.stop_gradient)
    convolutions = 27 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 128)
    assert count == convolutions + 2 * (16 + 32 + 64 + 128) + 128 * 6 + 6
    assert model.backbone.out_channels == {"motion": 128}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 24, 3, 64, 64), [2, 128, 5, 8, 8]), ((1, 9, 3, 33, 48), [1, 128, 2, 4, 6])],
)
def test_map_of_the_backbone(shape, expected):
    backbone = MotionNet()
    backbone.eval()
    assert backbone({"frames": clips(*shape)})["motion"].shape == expected


def test_sees_neither_still_pictures_nor_colors():
    model = build()
    model.eval()
    moving = clips(2, 8, 3, 32, 32)
    still = paddle.ones_like(moving) * clips(2, 1, 3, 32, 32, seed=1)
    logits = model({"frames": moving})
    np.testing.assert_allclose(
        model({"frames": moving + still}).numpy(), logits.numpy(), rtol=1e-3, atol=1e-4
    )
    swapped = moving[:, :, [2, 0, 1]]
    np.testing.assert_allclose(
        model({"frames": swapped}).numpy(), logits.numpy(), rtol=1e-3, atol=1e-4
    )
    reverse = model({"frames": moving[:, ::-1]})
    assert (reverse - logits).abs().max().item() > 1e-3


def test_learns_the_direction_of_a_movement():
    """One clip per class: the same pictures in opposite order."""
    frames = np.zeros((2, 9, 3, 16, 16), "float32")
    for time in range(9):
        frames[0, time, :, 6:10, time : time + 4] = 4
        frames[1, time, :, 6:10, 8 - time : 12 - time] = 4
    model = build(2, (4, 8), drop_ratio=0.0)
    inputs = {"frames": paddle.to_tensor(frames)}
    labels = paddle.to_tensor([[0], [1]])
    optimizer = paddle.optimizer.AdamW(0.01, parameters=model.parameters())
    for _ in range(60):
        loss = paddle.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    assert loss.item() < 0.1  # ten seeds, 1 and 2 threads, AVX2 and AVX-512: at most 0.021


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MotionNet([]), r"widths are \[\], expected at least 1 each"),
        (lambda: MotionNet([8, 0]), r"widths are \[8, 0\]"),
        (lambda: MotionHead(3, drop_ratio=1.0), r"drop_ratio is 1.0; it must be in \[0, 1\)"),
        (lambda: MotionHead(3, ls_eps=-0.1), "ls_eps is -0.1"),
    ],
)
def test_names_the_wrong_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
