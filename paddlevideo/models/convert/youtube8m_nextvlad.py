"""The original NeXtVLAD (linrongc/youtube-8m, TensorFlow): variables of a checkpoint, single model or mixture -> ours."""

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


# All towers share what stands in `tower/`; a member of a mixture has a `branch_<n>/` in it.
_SCOPE = r"(?:tower/)?"
_MEMBER = _SCOPE + r"(?:branch_(?P<member>\d+)/)?"
_STREAM = _MEMBER + r"(?P<stream>video|audio)_(?:VLAD|vlad)/"
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "_mean", "moving_variance": "_variance"}
_LINEAR = {"weights": "weight", "biases": "bias"}
_STREAM_LINEAR = {"fully_connected": "expansion", "fully_connected_1": "attention"}
_STREAM_NORM = {"cluster_bn": "assignment_norm", "vlad_bn": "norm"}


def _rules() -> list[Rule]:
    ours = r"members.\g<member>.backbone.\g<stream>."
    rules = [
        Rule(r".*/Adam(?:_1)?", None, "a moment of Adam"),
        Rule(r".*(?:beta[12]_power|global_step)", None, "a count of the optimizer"),
        Rule(_STREAM + "cluster_weights", ours + "assignment.weight"),
        Rule(
            _STREAM + "cluster_weights2",
            ours + "centers",
            "transposed, without its first axis",
            _centers,
        ),
        Rule(_MEMBER + "hidden1_weights", r"members.\g<member>.head.hidden.weight"),
        Rule(_MEMBER + "gating_weights_1", r"members.\g<member>.head.gate_in.weight"),
        Rule(_MEMBER + "gating_weights_2", r"members.\g<member>.head.gate_out.weight"),
    ]
    for theirs, name in _LINEAR.items():
        rules += [
            Rule(f"{_STREAM}{layer}/{theirs}", f"{ours}{part}.{name}")
            for layer, part in _STREAM_LINEAR.items()
        ]
        rules.append(
            Rule(
                f"{_MEMBER}fully_connected/{theirs}", rf"members.\g<member>.head.classifier.{name}"
            )
        )
        rules.append(Rule(f"{_SCOPE}mix_weights/{theirs}", f"gate.{name}"))
    for theirs, name in _NORM.items():
        rules += [
            Rule(f"{_STREAM}{layer}/{theirs}", f"{ours}{part}.{name}")
            for layer, part in _STREAM_NORM.items()
        ]
        rules.append(
            Rule(f"{_MEMBER}hidden1_bn/{theirs}", rf"members.\g<member>.head.hidden_norm.{name}")
        )
        rules.append(
            Rule(f"{_MEMBER}gating_bn/{theirs}", rf"members.\g<member>.head.gate_norm.{name}")
        )
        rules.append(Rule(f"{_SCOPE}mix_weights_bn/{theirs}", f"gate_norm.{name}"))
    return rules


RULES = _rules()


@register("converter")
def youtube8m_nextvlad(arrays: Mapping[str, np.ndarray]) -> Conversion:
    """Variables of a checkpoint -> a VideoTagger, convention `tensorflow`; of a mixture -> a TaggerMixture.

    The constant that undoes the whitening stands in the original's graph, not in its checkpoints, and is added.

    Raises:
        WeightsError: a variable has no place in it.
    """
    done = translate(
        {name.removesuffix(":0"): array for name, array in arrays.items()},
        RULES,
        "youtube8m_nextvlad",
    )
    # A single model has no member number: "members.." becomes nothing.
    named = {name.replace("members..", ""): array for name, array in done.arrays.items()}
    lines = [line.replace("members..", "") for line in done.lines]
    members = {m[0] for name in named if (m := re.match(r"(?:members\.\d+\.)?backbone\.", name))}
    for start in sorted(members):
        named[start + "eigen_param"] = EIGEN_PARAM.copy()
        lines.append(
            f"{start}eigen_param {list(EIGEN_PARAM.shape)} is the constant of the official features"
        )
    return Conversion(named, tuple(lines))
