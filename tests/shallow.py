"""Networks with one block per stage, for tests in which depth is not the subject."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from paddlevideo.models.layers import RESNET_DEPTHS


@contextmanager
def one_block_per_stage() -> Iterator[None]:
    """Build networks of 50 layers and more with one block per stage, until the end of the block.

    The writers of their programs (tests/program_writer.py) do so, too; other processes do not.
    """
    with pytest.MonkeyPatch.context() as patch:
        for depth in (50, 101, 152):
            patch.setitem(RESNET_DEPTHS, depth, (True, (1, 1, 1, 1)))
        yield
