"""MMAction2: audio recognizers (both generations), one-channel ResNet and ResNetAudio."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate, transposed

_CONVS = {"conv1": "conv0", "conv2": "conv1", "conv3": "conv2", "downsample": "short"}
_NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
_PARTS = {"conv_1": "time", "conv_2": "frequency"}


def _rules() -> list[Rule]:
    # Convolutions with batch norm: (name in MMAction2, name in this project).
    layers = [(r"backbone\.conv1", "backbone.conv")]
    layers += [
        (rf"backbone\.(layer\d\.\d+)\.{conv}", rf"backbone.\1.{target}")
        for conv, target in _CONVS.items()
    ]
    rules = [Rule(r".*\.num_batches_tracked", None, "a batch counter")]
    for layer, target in layers:
        rules.append(Rule(rf"{layer}\.conv\.weight", f"{target}._conv.weight"))
        rules += _norm_rules(rf"{layer}\.bn", f"{target}._batch_norm")
        # Factorized convolutions: the stem of ResNetAudio, and the middle of its blocks.
        for part, part_target in _PARTS.items():
            inner, inner_target = rf"{layer}\.conv\.{part}", f"{target}.{part_target}"
            rules.append(Rule(rf"{inner}\.conv\.weight", f"{inner_target}.weight"))
            rules += _norm_rules(rf"{inner}\.bn", f"{inner_target}_norm")
    rules.append(Rule(r"cls_head\.fc_cls\.weight", "head.fc.weight", "transposed", transposed))
    rules.append(Rule(r"cls_head\.fc_cls\.bias", "head.fc.bias"))
    return rules


def _norm_rules(layer: str, target: str) -> list[Rule]:
    return [Rule(rf"{layer}\.{tensor}", f"{target}.{name}") for tensor, name in _NORM.items()]


RULES = _rules()


@register("converter")
def mmaction2(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """`backbone.*` and `cls_head.fc_cls.*` of MMAction2 -> weights of an `AudioRecognizer`.

    Raises:
        WeightsError: a tensor does not belong to an audio recognizer.
    """
    return translate(arrays, RULES, "mmaction2")
