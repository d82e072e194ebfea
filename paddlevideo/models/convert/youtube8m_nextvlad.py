"""The original NeXtVLAD (linrongc/youtube-8m, TensorFlow), as a single model or a mixture."""

import re
from collections.abc import Mapping

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.models.convert.rules import Conversion, Rule, translate
from paddlevideo.models.youtube8m import EIGEN_PARAM


def _centers(array: np.ndarray) -> np.ndarray:
    if array.ndim != 3 or array.shape[0] != 1:
        raise ValueError("expected [1, D1, K]")
    return np.ascontiguousarray(array[0].T)


# Variables shared by all towers are in `tower/`, those of a mixture's member in `branch_<n>/`.
_SCOPE = r"(?:tower/)?"
_MEMBER = _SCOPE + r"(?:branch_(?P<member>\d+)/)?"
_STREAM = _MEMBER + r"(?P<stream>video|audio)_(?:VLAD|vlad)/"
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "_mean", "moving_variance": "_variance"}
_LINEAR = {"weights": "weight", "biases": "bias"}
# Layers: name in the original -> name in this project.
_STREAM_LINEAR = {"fully_connected": "expansion", "fully_connected_1": "attention"}
_STREAM_NORM = {"cluster_bn": "assignment_norm", "vlad_bn": "norm"}
_HEAD_NORM = {"hidden1_bn": "hidden_norm", "gating_bn": "gate_norm"}
_HEAD_WEIGHTS = {
    "hidden1_weights": "hidden",
    "gating_weights_1": "gate_in",
    "gating_weights_2": "gate_out",
}


def _rules() -> list[Rule]:
    stream = r"members.\g<member>.backbone.\g<stream>"
    head = r"members.\g<member>.head"
    centers = "transposed, without its first axis"
    rules = [
        Rule(r".*/Adam(?:_1)?", None, "a moment of Adam"),
        Rule(r".*(?:beta[12]_power|global_step)", None, "a counter of the optimizer"),
        Rule(_STREAM + "cluster_weights", f"{stream}.assignment.weight"),
        Rule(_STREAM + "cluster_weights2", f"{stream}.centers", centers, _centers),
    ]
    for layer, target in _HEAD_WEIGHTS.items():
        rules.append(Rule(f"{_MEMBER}{layer}", f"{head}.{target}.weight"))
    for layer, target in _STREAM_LINEAR.items():
        rules += _layer_rules(f"{_STREAM}{layer}", f"{stream}.{target}", _LINEAR)
    rules += _layer_rules(f"{_MEMBER}fully_connected", f"{head}.classifier", _LINEAR)
    rules += _layer_rules(f"{_SCOPE}mix_weights", "gate", _LINEAR)
    for layer, target in _STREAM_NORM.items():
        rules += _layer_rules(f"{_STREAM}{layer}", f"{stream}.{target}", _NORM)
    for layer, target in _HEAD_NORM.items():
        rules += _layer_rules(f"{_MEMBER}{layer}", f"{head}.{target}", _NORM)
    rules += _layer_rules(f"{_SCOPE}mix_weights_bn", "gate_norm", _NORM)
    return rules


def _layer_rules(layer: str, target: str, tensors: Mapping[str, str]) -> list[Rule]:
    return [Rule(f"{layer}/{tensor}", f"{target}.{name}") for tensor, name in tensors.items()]


RULES = _rules()


@register("converter")
def youtube8m_nextvlad(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """Variables of a checkpoint -> weights of a `VideoTagger` or, of a mixture, a `TaggerMixture`.

    The convention is `tensorflow`. The constant that reverses the whitening is part of the
    original's graph and not of its checkpoints, so it is added here.

    Raises:
        WeightsError: a variable does not belong to this model.
    """
    named = {name.removesuffix(":0"): array for name, array in arrays.items()}
    conversion = translate(named, RULES, "youtube8m_nextvlad")
    # A single model has no member number, which leaves "members.." in its names.
    single = "members.."
    converted = {name.replace(single, ""): array for name, array in conversion.arrays.items()}
    lines = [line.replace(single, "") for line in conversion.lines]
    prefix = re.compile(r"((?:members\.\d+\.)?backbone\.)")
    backbones = {match[1] for name in converted if (match := prefix.match(name))}
    for backbone in sorted(backbones):
        converted[backbone + "eigen_param"] = EIGEN_PARAM.copy()
        shape = list(EIGEN_PARAM.shape)
        lines.append(f"{backbone}eigen_param {shape} is the constant of the official features")
    return Conversion(converted, tuple(lines))
