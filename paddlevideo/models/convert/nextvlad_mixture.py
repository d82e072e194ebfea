"""A NeXtVLAD mixture of this project -> its first member as a single model.

The limit of 80 M parameters of the YouTube-8M challenge applies to such a member.
"""

from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate

RULES = [
    Rule(r"members\.0\.(.+)", r"\1"),
    Rule(r"members\.\d+\..+", None, "belongs to another member"),
    Rule(r"(?:gate|gate_norm)\..+", None, "belongs to the gate"),
    Rule(r"(class_names|train_clips)@@", r"\1@@"),
]


@register("converter")
def nextvlad_mixture(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """Weights of a `TaggerMixture` -> weights of its first member, a `VideoTagger`.

    Raises:
        WeightsError: the weights are not those of a mixture.
    """
    return translate(arrays, RULES, "nextvlad_mixture")
