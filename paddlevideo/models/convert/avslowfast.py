"""The AVSlowFast code of the paper's authors, built on PySlowFast."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate, transposed

_NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
# Batch norms by their name and ours, without the tensors.
_NORMS = {
    r"s1\.(pathway\d_stem)\.bn": r"backbone.s1.\1._bn",
    r"(s\d\.pathway\d_res\d+\.branch1_bn)": r"backbone.\1",
    r"(s\d\.pathway\d_res\d+\.branch2\.\w+_bn)": r"backbone.\1",
    r"(s\d_fuse)\.bn_f2s": r"backbone.\1.f2s._bn",
    r"(s\d_fuse)\.bn_a2fs_([01])": r"backbone.\1.a2fs.bn\2",
}
_CONVS = {
    r"s1\.(pathway[01]_stem)\.conv": r"backbone.s1.\1._conv",
    r"(s1\.pathway2_stem\.conv_[tf])": r"backbone.\1",
    r"(s\d\.pathway\d_res\d+\.branch1)": r"backbone.\1",
    r"(s\d\.pathway\d_res\d+\.branch2\.(?:[abctf]|out))": r"backbone.\1",
    r"(s\d_fuse)\.conv_f2s": r"backbone.\1.f2s._conv_f2s",
    r"(s\d_fuse)\.conv_a2fs_([01])": r"backbone.\1.a2fs.conv\2",
}
_LINEAR = {
    r"(s\d_fuse\.avs\.(?:ref|query)_fc)": r"backbone.\1",
    r"(head\.projection)": r"\1",
}

RULES = [
    Rule(r".*\.num_batches_tracked", None, "a count of batches"),
    *(Rule(rf"{theirs}\.weight", f"{ours}.weight") for theirs, ours in _CONVS.items()),
    *(
        Rule(rf"{theirs}\.{a}", f"{ours}.{b}")
        for theirs, ours in _NORMS.items()
        for a, b in _NORM.items()
    ),
    *(
        Rule(rf"{theirs}\.weight", f"{ours}.weight", "transposed", transposed)
        for theirs, ours in _LINEAR.items()
    ),
    *(Rule(rf"{theirs}\.bias", f"{ours}.bias") for theirs, ours in _LINEAR.items()),
]


@register("converter")
def avslowfast(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """Weights of an AVSlowFast: names of the authors' model -> those of `AudioVisualRecognizer`.

    Raises:
        WeightsError: a tensor has no place in an AVSlowFast.
    """
    return translate(arrays, RULES, "avslowfast")
