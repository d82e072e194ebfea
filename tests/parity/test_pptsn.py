"""PP-TSN against the released names and the reference's logits."""

import pytest

from tests.parity.reference import check_logits, check_names


def test_names_and_shapes(shared):
    check_names(shared, "pptsn")


@pytest.mark.parametrize("tame", [False, True])
def test_logits(shared, tame):
    check_logits(shared, "pptsn", tame)
