"""NeXtVLAD of PaddleCV 1.8 (PaddlePaddle/models, release/1.8)."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate

# PaddleCV numbers its batch norms in the order in which its program creates them.
_NORMS = (
    "backbone.video.assignment_norm",
    "backbone.video.norm",
    "backbone.audio.assignment_norm",
    "backbone.audio.norm",
    "head.hidden_norm",
    "head.gate_norm",
)
_NORM = {"w_0": "weight", "b_0": "bias", "w_1": "_mean", "w_2": "_variance"}
RULES = [
    Rule("(video|audio)_fc_expansion_w", r"backbone.\1.expansion.weight"),
    Rule("(video|audio)_fc_expansion_b", r"backbone.\1.expansion.bias"),
    Rule("(video|audio)_fc_group_attention_w", r"backbone.\1.attention.weight"),
    Rule("(video|audio)_fc_group_attention_b", r"backbone.\1.attention.bias"),
    Rule("(video|audio)_cluster_weights", r"backbone.\1.assignment.weight"),
    Rule("(video|audio)_cluster_weights2", r"backbone.\1.centers"),
    Rule("hidden1_fc_weights", "head.hidden.weight"),
    Rule("gating_fc1_weights", "head.gate_in.weight"),
    Rule("gating_fc2_weights", "head.gate_out.weight"),
    Rule("logits_clf_weights", "head.classifier.weight"),
    Rule("logits_clf_bias", "head.classifier.bias"),
    Rule("eigen_param", "backbone.eigen_param"),
    *(
        Rule(rf"batch_norm_{number}\.{tensor}", f"{norm}.{name}")
        for number, norm in enumerate(_NORMS)
        for tensor, name in _NORM.items()
    ),
]


@register("converter")
def paddlecv_nextvlad(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """`NEXTVLAD.pdparams` -> weights of a `VideoTagger` of NeXtVLAD, convention `paddlecv`.

    All layouts are the same.

    Raises:
        WeightsError: a tensor does not belong to this model.
    """
    return translate(arrays, RULES, "paddlecv_nextvlad")
