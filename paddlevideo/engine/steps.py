"""Training steps: (network, model, batch) -> {"loss": scalar to minimise, further numbers for the log}."""

import paddle

from paddlevideo.losses import cross_entropy, mixed_cross_entropy, top_k_accuracy


def supervised(network: paddle.nn.Layer, model: paddle.nn.Layer, batch: dict) -> dict[str, paddle.Tensor]:
    """Cross entropy with the model's label smoothing, and top-1 / top-5 of the batch (top-K where there are K < 5 classes).

    A mixed batch has `labels_a`, `labels_b` and `lam`; loss and accuracies are mixed alike.

    Args:
        network: what is called: `model`, or its data-parallel form.
        batch: the model's inputs, and `label` int64 [N].
    """
    logits = network({name: batch[name] for name in model.inputs})
    mixed = "lam" in batch
    a, b = (batch["labels_a"], batch["labels_b"]) if mixed else (batch["label"], batch["label"])
    lam = batch["lam"][0] if mixed else 1.0
    if mixed:
        loss = mixed_cross_entropy(logits, a, b, lam, model.label_smoothing)
    else:
        loss = cross_entropy(logits, a, model.label_smoothing)
    values = {"loss": loss}
    for k in sorted({1, min(5, model.num_classes)}):
        accuracy = top_k_accuracy(logits, a, k)
        values[f"top{k}"] = lam * accuracy + (1 - lam) * top_k_accuracy(logits, b, k) if mixed else accuracy
    return values
