"""Config sections, batches and steps of small distillations."""

import numpy as np
import paddle

CE = {"name": "DistillationCELoss", "model_name_pairs": ["Student", "GroundTruth"]}
TEACHER_CE = {**CE, "model_name_pairs": ["Teacher", "GroundTruth"]}
DML = {"name": "DistillationDMLLoss", "model_name_pairs": ["Student", "Teacher"]}
KL = {"name": "DistillationKLLoss", "model_name_pairs": ["Student", "Teacher"], "temperature": 2.0}
RECOGNIZER = {
    "backbone": {"name": "ResNet", "depth": 10, "base_channels": 8},
    "head": {"name": "TSNHead", "num_classes": 3},
}


def step(model, batch):
    """The losses of a batch."""
    return model.losses(
        model({name: batch[name] for name in model.train_inputs if name in batch}), batch
    )


def model_section(
    train=(CE, TEACHER_CE, DML), freeze=None, teacher=None, student=None, **loss
) -> dict:
    return {
        "framework": "RecognizerDistillation",
        "freeze_params_list": freeze,
        "models": [
            {"Teacher": {**RECOGNIZER, **(teacher or {})}},
            {"Student": {**RECOGNIZER, **(student or {})}},
        ],
        "loss": {"Train": [dict(each) for each in train], **loss},
    }


def batch_of(size=4, frames=4, mixed=False):
    rng = np.random.default_rng(0)
    labels = paddle.to_tensor(rng.integers(0, 3, size))
    batch = {
        "frames": paddle.to_tensor(
            rng.standard_normal((size, frames, 3, 32, 32)).astype("float32")
        ),
        "label": labels,
    }
    if mixed:
        batch |= {"labels_a": labels, "labels_b": labels[::-1], "lam": paddle.full([size], 0.3)}
    return batch
