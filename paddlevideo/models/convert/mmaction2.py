"""MMAction2's audio recognizers (both of its generations): ResNet of one channel and ResNetAudio, under TSNAudioHead."""

from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate, transposed

_CONVS = {"conv1": "conv0", "conv2": "conv1", "conv3": "conv2", "downsample": "short"}
_NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
_PARTS = {"conv_1": "time", "conv_2": "frequency"}


def _rules() -> list[Rule]:
    # A convolution with batch norm by their name and ours, without the tensors.
    layers = [(r"backbone\.conv1", "backbone.conv")]
    layers += [
        (rf"backbone\.(layer\d\.\d+)\.{theirs}", rf"backbone.\1.{ours}")
        for theirs, ours in _CONVS.items()
    ]
    rules = [Rule(r".*\.num_batches_tracked", None, "a count of batches")]
    for theirs, ours in layers:
        rules.append(Rule(rf"{theirs}\.conv\.weight", f"{ours}._conv.weight"))
        rules += [
            Rule(rf"{theirs}\.bn\.{tensor}", f"{ours}._batch_norm.{name}")
            for tensor, name in _NORM.items()
        ]
        for (
            part,
            of_ours,
        ) in _PARTS.items():  # factorised: the stem of ResNetAudio, and the middle of its blocks
            inner, ours_inner = rf"{theirs}\.conv\.{part}", f"{ours}.{of_ours}"
            rules.append(Rule(rf"{inner}\.conv\.weight", f"{ours_inner}.weight"))
            rules += [
                Rule(rf"{inner}\.bn\.{tensor}", f"{ours_inner}_norm.{name}")
                for tensor, name in _NORM.items()
            ]
    rules.append(Rule(r"cls_head\.fc_cls\.weight", "head.fc.weight", "transposed", transposed))
    rules.append(Rule(r"cls_head\.fc_cls\.bias", "head.fc.bias"))
    return rules


RULES = _rules()


@register("converter")
def mmaction2(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """Weights of an AudioRecognizer: `backbone.*` and `cls_head.fc_cls.*` -> ours.

    Raises:
        WeightsError: a tensor has no place in an audio recognizer.
    """
    return translate(arrays, RULES, "mmaction2")
