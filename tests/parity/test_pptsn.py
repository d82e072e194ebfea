"""PP-TSN against the released names and the reference's logits."""

import pytest

from tests.parity.reference import check_logits, check_names


def test_names_and_shapes(goldens):
    check_names(goldens, "pptsn")


@pytest.mark.parametrize("tame", [False, True])
def test_logits(goldens, tame):
    check_logits(goldens, "pptsn", tame)
