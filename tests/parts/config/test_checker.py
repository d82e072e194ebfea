"""The checker: values against types, components against signatures."""

from typing import Annotated, Literal

import pytest

from paddlevideo.config import check, registry, yamltree
from paddlevideo.config.checker import Checker
from paddlevideo.config.registry import Kind, register
from paddlevideo.config.schema import Component, ConfigError
from tests.config_files import PLAIN, problems

# --- configs --------------------------------------------------------------------------------------


def test_a_list_accepts_three_spellings_of_a_component(write):
    steps = "      - Scale: {short_size: 72}\n      - RandomFlip:\n      - Image2Array\n"
    head, tail = PLAIN.split(steps)
    for item in ("CenterCrop: {target_size: 64}", "{name: CenterCrop, target_size: 64}"):
        cfg = check.read_config(write(f"{head}      - {item}\n{tail}"))
        assert cfg.PIPELINE.train.transform[0].make().target_size == 64
        assert cfg.PIPELINE.train.transform[0].path.startswith("PIPELINE.train.transform.0")
    assert check.read_config(write(PLAIN)).PIPELINE.train.transform[2].name == "Image2Array"


def test_checks_components_inside_components(write):
    text = PLAIN.replace("layers: 18", "layer: 18").replace("T_max: 5", "T_max: 5, gamma: 1")
    text = text.replace("num_classes: 4", "num_classes: 4, drop_ratio: much")
    found = problems(write(text.replace("name: L2", "name: L3")))
    assert found[2].startswith(
        "a.yaml:18: OPTIMIZER.learning_rate (CosineAnnealingDecay) has no argument 'gamma'; "
    )
    del found[2]
    assert found == [
        "a.yaml:3: MODEL.backbone (ResNetTweaksTSN) has no argument 'layer'; "
        "did you mean 'layers'?",
        "a.yaml:4: MODEL.head.drop_ratio is 'much', expected float",
        "a.yaml:19: OPTIMIZER.weight_decay.name: there is no regularizer named 'L3'; "
        "did you mean 'L2'?",
    ]


DEPTHS = "10 or 18 or 34 or 50 or 101 or 152"
NAMED = "expected a map with a 'name' that names the"
BACKBONE = "{name: ResNetTweaksTSN, layers: 18}"
WEIGHT_DECAY = "{name: L2, value: 1e-4}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 2", "batch_size: 0", ":6: DATASET.batch_size is 0, expected at least 1"),
        ("batch_size: 2", "num_workers: -1", ":6: DATASET.num_workers is -1, expected at least 0"),
        (
            "batch_size: 2",
            "valid_batch_size: 0",
            ":6: DATASET.valid_batch_size is 0, expected at least 1",
        ),
        ("batch_size: 2", "batch_size: yes", ":6: DATASET.batch_size is True, expected int"),
        ("batch_size: 2", "batch_size: 2.0", ":6: DATASET.batch_size is 2.0, expected int"),
        ("epochs: 5", "sync_bn: 1", ":20: sync_bn is 1, expected bool"),
        ("epochs: 5", "model_name: 5", ":20: model_name is 5, expected str"),
        ("epochs: 5", "amp_level: O3", ":20: amp_level is 'O3', expected 'O1' or 'O2'"),
        ("epochs: 5", "amp: 1", ":20: amp is 1, expected bool"),
        ("epochs: 5", "PRECISE: 1", ":20: PRECISE is not known; "),
        ("epochs: 5", "origin: 1", ":20: origin is not known; "),
        ("epochs: 5", "INFERENCE: 3", ":20: INFERENCE is 3, expected a map with name, num_seg"),
        ("layers: 18", "layers: 50.0", f":3: MODEL.backbone.layers is 50.0, expected {DEPTHS}"),
        ("layers: 18", "layers: 19", f":3: MODEL.backbone.layers is 19, expected {DEPTHS}"),
        (
            "layers: 18",
            "lr_mult_list: [1, a]",
            ":3: MODEL.backbone.lr_mult_list.1 is 'a', expected float",
        ),
        (BACKBONE, "ResNet", f":3: MODEL.backbone is 'ResNet', {NAMED} backbone: "),
        (
            "value: 1e-4",
            "value: '1e-4'",
            ":19: OPTIMIZER.weight_decay.value is '1e-4', expected float",
        ),
        ("value: 1e-4", "value: ", ":19: OPTIMIZER.weight_decay.value is None, expected float"),
        ("value: 1e-4", "value: " + "9" * 400, "expected float"),
        (WEIGHT_DECAY, "L2", f":19: OPTIMIZER.weight_decay is 'L2', {NAMED} regularizer: L1, L2"),
        (WEIGHT_DECAY, "{name: 5}", f":19: OPTIMIZER.weight_decay is name: 5, {NAMED} regularizer"),
        (WEIGHT_DECAY, "yes", ":19: OPTIMIZER.weight_decay is True, expected"),
        (
            "{short_size: 72}",
            "72",
            ":13: PIPELINE.train.transform.0.Scale is 72, expected a map of arguments",
        ),
        (
            "- Image2Array",
            "- 5",
            ":15: PIPELINE.train.transform.2 is 5, expected a map with a 'name'",
        ),
        (
            "Scale: {short_size: 72}",
            "Scale:\n        short_size: 72",
            ":13: PIPELINE.train.transform.0 has Scale, short_size side by side; "
            "indent the arguments under the name",
        ),
    ],
)
def test_rejects_values_of_a_wrong_type(write, old, new, message):
    assert old in PLAIN
    (problem,) = problems(write(PLAIN.replace(old, new)))
    assert message in problem


# --- components -----------------------------------------------------------------------------------


@pytest.fixture
def thing():
    """The type of a component "Thing" that is registered for the test."""

    @register("thing", "Thing", ignores={"old": "it is always on"})
    def make(
        size: int,
        parts: list[Annotated[object, Kind("thing")]] | None = None,
        mode: Literal["a", 1] = "a",
        pair: tuple[float, ...] = (),
        limit: int | float = 1,
        free=None,
    ):
        if size == 13:
            raise ValueError("size 13 is not supported")
        return {"size": size, "parts": parts, "pair": pair, "limit": limit}

    yield Annotated[Component, Kind("thing")]
    del registry._ENTRIES["thing"]


def checked(hint, data):
    """(value, problems) of data at the key A."""
    checker = Checker(yamltree.Tree({}, {(): "here:1"}))
    return checker.value(hint, data, ("A",)), checker.problems


def test_builds_nested_components_first(thing):
    parts = [{"Thing": {"size": 2, "limit": 0.5}}, {"name": "Thing", "size": 3}]
    component, found = checked(thing, {"name": "Thing", "size": 1, "parts": parts})
    assert not found
    made = component.make(pair=(1.0, 2.0))
    assert [part["size"] for part in made["parts"]] == [2, 3] and made["parts"][0]["limit"] == 0.5
    assert component.make(size=5)["size"] == 5
    assert component.with_args(size=6).make()["size"] == 6


def test_names_the_innermost_component_that_rejects_its_arguments(thing):
    component, _ = checked(thing, {"name": "Thing", "size": 1, "parts": [{"Thing": {"size": 13}}]})
    with pytest.raises(ConfigError, match=r"^here:1: A.parts.0.Thing: size 13 is not supported$"):
        component.make()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "A (Thing) lacks 'size' (int)"),
        ({"size": 1, "mode": True}, "A.mode is True, expected 'a' or 1"),
        ({"size": 1, "mode": 1.0}, "A.mode is 1.0, expected 'a' or 1"),
        ({"size": 1, "pair": 3}, "A.pair is 3, expected a list of float"),
        ({"size": 1, "pair": [1, "x"]}, "A.pair.1 is 'x', expected float"),
        ({"size": 1, "limit": "1"}, "A.limit is '1', expected int or float"),
        (
            {"size": 1, "parts": [{"Thin": None}]},
            "A.parts.0.Thin: there is no thing named 'Thin'; did you mean 'Thing'?",
        ),
        (
            {"size": 1, "colour": 1},
            "A (Thing) has no argument 'colour'; known: size, parts, mode, pair, limit, free",
        ),
    ],
)
def test_checks_arguments_against_the_signature(thing, args, message):
    _, found = checked(thing, {"name": "Thing", **args})
    assert found == [f"here:1: {message}"]


def test_converts_numbers_and_keeps_arguments_without_a_hint(thing):
    data = {"size": 1, "free": {"any": [1]}, "pair": [1, 2], "mode": 1, "old": 3}
    component, found = checked(thing, {"name": "Thing", **data})
    assert not found
    assert component.args["free"] == {"any": [1]} and component.args["pair"] == [1.0, 2.0]
    assert all(isinstance(x, float) for x in component.args["pair"])
