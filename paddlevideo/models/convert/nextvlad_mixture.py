"""A mixture of ours -> one of its members, which stands alone: the model that the challenge's 80 M are about."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate

RULES = [
    Rule(r"members\.0\.(.+)", r"\1"),
    Rule(r"members\.\d+\..+", None, "of another member"),
    Rule(r"(?:gate|gate_norm)\..+", None, "weighs the members"),
    Rule(r"class_names@@", r"class_names@@"),
]


@register("converter")
def nextvlad_mixture(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """A TaggerMixture's weights -> the first member's, as a VideoTagger's.

    Raises:
        WeightsError: they are not a mixture's.
    """
    return translate(arrays, RULES, "nextvlad_mixture")
