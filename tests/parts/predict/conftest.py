"""The exported models of families.py, each made once."""

from functools import partial

import pytest

from paddlevideo.engine.load import trained_model
from paddlevideo.models.base import Recognizer
from paddlevideo.predict.predictor import Predictor
from tests.parts.conftest import skip_without
from tests.parts.predict.families import FAMILIES, Family, make_family, read_family
from tests.shared_folders import made_once


@pytest.fixture(autouse=True)
def shallow_families(shallow):
    """`both` has a network of 50 layers."""


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
def trained():
    """`trained(family)`: its model in this process, built once; tests do not change it."""
    built: dict[str, Recognizer] = {}

    def model(family: Family) -> Recognizer:
        if family.name not in built:
            built[family.name] = trained_model(family.cfg, family.weights)[0]
        return built[family.name]

    return model


@pytest.fixture(scope="session")
def predictor():
    """`predictor(family, kind)`: on the runtime `kind`, opened at the first call."""
    opened: dict[tuple[str, str], Predictor] = {}

    def open_once(family: Family, kind: str) -> Predictor:
        skip_without(kind)
        if (family.name, kind) not in opened:
            source = {"model": family.folder}
            if kind == "eager":
                source = {"config": family.config, "weights": family.weights}
            opened[family.name, kind] = Predictor(**source, backend=kind, device="cpu", threads=1)
        return opened[family.name, kind]

    return open_once


@pytest.fixture(scope="session")
def predictors(families):
    """`predictors(name)`: the exported model on the runtime of `auto`, opened once."""
    made = {}

    def predictor(name: str) -> Predictor:
        if name not in made:
            made[name] = Predictor(families(name).folder, device="cpu", threads=1)
        return made[name]

    return predictor
