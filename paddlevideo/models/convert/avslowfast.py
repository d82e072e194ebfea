"""AVSlowFast: weights of the authors' code, which builds on PySlowFast."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate, transposed

_NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
# Layers: name in the authors' code -> name in this project.
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
    Rule(r".*\.num_batches_tracked", None, "a batch counter"),
    *(Rule(rf"{layer}\.weight", f"{target}.weight") for layer, target in _CONVS.items()),
    *(
        Rule(rf"{layer}\.{tensor}", f"{target}.{name}")
        for layer, target in _NORMS.items()
        for tensor, name in _NORM.items()
    ),
    *(
        Rule(rf"{layer}\.weight", f"{target}.weight", "transposed", transposed)
        for layer, target in _LINEAR.items()
    ),
    *(Rule(rf"{layer}\.bias", f"{target}.bias") for layer, target in _LINEAR.items()),
]


@register("converter")
def avslowfast(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """Weights of the authors' AVSlowFast -> weights of an `AudioVisualRecognizer`.

    Raises:
        WeightsError: a tensor does not belong to an AVSlowFast.
    """
    return translate(arrays, RULES, "avslowfast")
