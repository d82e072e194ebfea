"""The exported models of families.py, each made once."""

from functools import partial

import pytest

from paddlevideo.predict.predictor import Predictor
from tests.parts.predict.families import FAMILIES, Family, make_family, read_family
from tests.shared_folders import made_once


@pytest.fixture(scope="session")
def families(tmp_path_factory):
    """`families(name)`: exported at the first call."""
    made: dict[str, Family] = {}

    def family(name: str) -> Family:
        if name not in made:
            folder = made_once(tmp_path_factory, name, partial(make_family, name))
            made[name] = read_family(name, folder)
        return made[name]

    return family


@pytest.fixture(params=FAMILIES)
def family(request, families) -> Family:
    return families(request.param)


@pytest.fixture(scope="session")
def predictors(families):
    """`predictors(name)`: the exported model on Paddle Inference, opened once."""
    made = {}

    def predictor(name: str) -> Predictor:
        if name not in made:
            made[name] = Predictor(families(name).folder, device="cpu", threads=1)
        return made[name]

    return predictor
