"""Units of items in a worker: results in order, and the item that ends its process is found."""

import pickle

import pytest

from paddlevideo.processes import Crash
from paddlevideo.scale.stages import (
    MAX_DEATHS,
    CountTries,
    EachItem,
    Ended,
    Raised,
    Stage,
    crash,
    run_unit,
    settled,
)


class Died(BaseException):
    """Takes the place of the end of the process: no code of the worker runs after it."""


def square(item: int) -> int:
    return item * item


def one_kills(item: int) -> int:
    if item == 3:
        raise Died
    return item + 100


def run_until_done(stage: Stage, pairs, tries) -> tuple[list, int]:
    """(results, how often the worker died); Ray tries again in the same way."""
    for deaths in range(20):
        try:
            return run_unit(stage, stage.build(), 7, pairs, tries), deaths
        except Died:
            continue
    raise AssertionError("tried again without end")


def test_results_keep_the_order_of_the_items():
    stage = Stage("work", EachItem(square), crash)
    tries = CountTries()
    results = run_unit(stage, stage.build(), 0, [(5, 2), (9, 3), (6, 4)], tries)
    assert results == [(5, 4), (9, 9), (6, 16)]
    assert tries.num_repeated() == 0 and not tries._open


def test_the_item_that_ends_its_process_is_found():
    stage, tries = Stage("work", EachItem(one_kills), crash), CountTries()
    results, deaths = run_until_done(stage, [(i, i) for i in range(6)], tries)
    assert deaths == 1 + MAX_DEATHS  # once with the others, then alone
    values = dict(settled(results))
    assert isinstance(values.pop(3), Crash)
    assert values == {i: i + 100 for i in (0, 1, 2, 4, 5)}
    assert not tries._open and tries.num_repeated() > 0


def test_a_lost_node_is_no_crash_of_an_item():
    """A worker that dies twice for another reason changes no result."""
    stage, tries = Stage("work", EachItem(square), crash), CountTries()
    pairs = [(0, 1), (1, 2)]
    tries.begin(("work", 7))
    tries.begin(("work", 7))
    tries.begin(("work", 7, 1))
    assert run_unit(stage, stage.build(), 7, pairs, tries) == [(0, 1), (1, 4)]
    assert not tries._open


def test_what_a_stage_ended_is_passed_on():
    stage = Stage("work", EachItem(square), crash)
    ended = Ended(Crash())
    results = run_unit(stage, stage.build(), 0, [(0, ended), (1, 3)], CountTries())
    assert results == [(0, ended), (1, 9)]
    only = run_unit(stage, stage.build(), 1, [(0, ended)], CountTries())
    assert only == [(0, ended)]


def test_an_exception_is_raised_by_the_driver():
    stage = Stage("work", EachItem(int), crash)
    results = run_unit(stage, stage.build(), 0, [(0, "1"), (1, "x")], CountTries())
    results = pickle.loads(pickle.dumps(results))  # as they are sent
    with pytest.raises(ValueError, match="invalid literal for int"):
        settled(results)


class Unsendable(Exception):
    def __init__(self, first, second):
        super().__init__("both")


def unsendable(item):
    raise Unsendable(1, 2)


def test_an_exception_that_cannot_be_sent_keeps_its_text():
    stage = Stage("work", EachItem(unsendable), crash)
    ((_, ended),) = run_unit(stage, stage.build(), 0, [(0, 0)], CountTries())
    assert isinstance(ended.result, Raised)
    assert str(pickle.loads(pickle.dumps(ended)).result.error) == "Unsendable: both"


def test_a_wrong_number_of_results_is_a_mistake():
    stage = Stage("work", lambda: lambda items: items[1:], crash)
    results = run_unit(stage, stage.build(), 0, [(0, 0), (1, 1)], CountTries())
    with pytest.raises(AssertionError, match="1 results of 2 items"):
        settled(results)
