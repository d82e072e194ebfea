"""--on and what a worker gets."""

import argparse

import pytest

from paddlevideo.scale.flags import Place, add_flags, place


def parsed(*words: str, with_gpus: bool = True) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, with_gpus)
    return parser.parse_args(words)


def test_work_is_local_by_default():
    where = place(parsed())
    assert where.is_local and where == Place()
    assert place(parsed(with_gpus=False)).is_local


@pytest.mark.parametrize(
    "on", ["ray", "ray://10.0.0.1:10001", "head:6379", "ray://head.cluster.local:10001"]
)
def test_places(on):
    where = place(parsed("--on", on, "--num_cpus", "0.5", "--num_gpus", "0.25", "--actors", "2:8"))
    assert where == Place(on, 0.5, 0.25, 2, 8) and not where.is_local


@pytest.mark.parametrize(
    ("text", "expected"), [("1:8", (1, 8)), ("4", (4, 4)), ("2:", (2, None)), ("3:3", (3, 3))]
)
def test_numbers_of_workers(text, expected):
    where = place(parsed("--on", "ray", "--actors", text))
    assert (where.least, where.most) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--on", "spark"), "is no place to work; expected local, ray"),
        (("--on", "ray:/host:1"), "is no place to work"),
        (("--on", "host"), "is no place to work"),
        (("--on", "ray", "--actors", "8:1"), "expected 1 <= LEAST <= MOST"),
        (("--on", "ray", "--actors", "0:1"), "expected 1 <= LEAST <= MOST"),
        (("--on", "ray", "--actors", "many"), "expected LEAST:MOST workers"),
        (("--on", "ray", "--actors", ":3"), "expected LEAST:MOST workers"),
    ],
)
def test_rejects_what_is_no_place(words, message):
    with pytest.raises(argparse.ArgumentError, match=message):
        parsed(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num_cpus", "2"), "--num_cpus is for work on a cluster; give --on ray"),
        (("--num_gpus", "1"), "--num_gpus is for work on a cluster"),
        (("--actors", "1:2"), "--actors is for work on a cluster"),
        (("--on", "ray", "--num_cpus", "0"), "--num_cpus 0: expected more than 0"),
        (("--on", "ray", "--num_gpus", "-1"), "--num_gpus -1: expected 0 to 64"),
        (("--on", "ray", "--num_cpus", "5000"), "--num_cpus 5000: .* up to 4096"),
        (("--on", "ray", "--num_gpus", "65"), "--num_gpus 65: expected 0 to 64"),
        (("--on", "ray", "--num_cpus", "nan"), "--num_cpus nan: expected more than 0"),
        (("--on", "ray", "--num_cpus", "1.5"), "above 1 Ray takes integers only; give 1 or 2"),
    ],
)
def test_rejects_numbers(words, message):
    with pytest.raises(ValueError, match=message):
        place(parsed(*words))
