"""Training steps: (network, model, batch) -> {"loss": scalar to minimise, further numbers for the log}."""

import paddle

from paddlevideo.losses import (
    batch_cross_entropy,
    mixture_cross_entropy,
    sigmoid_cross_entropy,
    synchronisation_loss,
    top_k_accuracy,
)

Values = dict[str, paddle.Tensor]


def supervised(network: paddle.nn.Layer, model: paddle.nn.Layer, batch: dict) -> Values:
    """The loss of a labelled batch, as its model learns: one class of many, several labels, or also sound with pictures.

    Args:
        network: what is called: `model`, or its data-parallel form.
        batch: the model's inputs, and `label` int64 [N], or [N, K] of 0 and 1 where a video has several.
    """
    names = getattr(model, "train_inputs", model.inputs)
    output = network({name: batch[name] for name in names if name in batch})
    if getattr(model, "multi_label", False):
        return _tagged(model, output, batch)
    if not isinstance(output, tuple):
        return _classified(model, output, batch)
    logits, embeddings = output
    values = _classified(model, logits, batch)
    each = {
        f"sync_{stage}": synchronisation_loss(*parts, margin=model.sync_margin)
        for stage, parts in embeddings.items()
    }
    loss = model.label_weight * values["loss"] + model.sync_weight * sum(each.values())
    return {**values, "loss": loss, "label_loss": values["loss"], **each}


def distill(network: paddle.nn.Layer, model: paddle.nn.Layer, batch: dict) -> Values:
    """The losses of a distillation, each as the log names it, their weighted sum, the student's accuracies and the teacher's.

    Args:
        network, batch: as of `supervised`.
        model: a `RecognizerDistillation`.
    """
    logits = network({name: batch[name] for name in model.train_inputs if name in batch})
    smoothing = {name: model.part(name).label_smoothing for name in logits}
    each = {name: (loss, loss(logits, batch, smoothing)) for name, loss in model.losses.items()}
    values = {
        **_classified(model.student, logits["Student"], batch),
        **{name: value for name, (_, value) in each.items()},
    }
    values["loss"] = sum(loss.loss_weight * value for loss, value in each.values())
    return {
        **values,
        "teacher_top1": _classified(model.part("Teacher"), logits["Teacher"], batch)["top1"],
    }


def _tagged(model: paddle.nn.Layer, logits: paddle.Tensor, batch: dict) -> Values:
    """Sigmoid cross entropy, summed over classes, and the share of videos whose best class is one of theirs.

    The loss is linear in the labels, so those of a mixed batch are mixed themselves.
    """
    labels = batch["label"].astype("float32")
    if "lam" in batch:
        lam = batch["lam"].flatten()[0]
        labels = lam * batch["labels_a"].astype("float32") + (1 - lam) * batch["labels_b"].astype(
            "float32"
        )
    if len(logits.shape) == 3:  # a mixture, in front of its members
        loss, own = mixture_cross_entropy(logits, labels, model.temperature, model.distillation)
        values, best = {"loss": loss, "mixture_loss": own}, logits[:, 0].argmax(-1, keepdim=True)
    else:
        loss = sigmoid_cross_entropy(logits, labels, batch.get("class_weights"))
        values, best = {"loss": loss}, logits.argmax(-1, keepdim=True)
    return {**values, "hit_at_one": paddle.take_along_axis(labels, best, 1).mean()}


def _classified(model: paddle.nn.Layer, logits: paddle.Tensor, batch: dict) -> Values:
    """Cross entropy with the model's label smoothing, and top-1 / top-5 of the batch (top-K where there are K < 5 classes).

    A mixed batch has `labels_a`, `labels_b` and `lam`; loss and accuracies are mixed alike.
    """
    mixed = "lam" in batch
    a, b = (batch["labels_a"], batch["labels_b"]) if mixed else (batch["label"], batch["label"])
    lam = batch["lam"][0] if mixed else 1.0
    values = {"loss": batch_cross_entropy(logits, batch, model.label_smoothing)}
    for k in sorted({1, min(5, model.num_classes)}):
        accuracy = top_k_accuracy(logits, a, k)
        values[f"top{k}"] = (
            lam * accuracy + (1 - lam) * top_k_accuracy(logits, b, k) if mixed else accuracy
        )
    return values
