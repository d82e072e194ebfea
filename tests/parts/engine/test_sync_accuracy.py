"""The shares in the table of tools/analysis/sync_accuracy.py."""

import numpy as np
import pytest

from paddlevideo.engine.sync_accuracy import COLUMNS, closer

ALL, OTHER, SAME = COLUMNS


def test_shares_of_pairs():
    """Both clips of a class have the same audio: right for other classes, a tie within a class."""
    audio = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    shares = closer(3 * audio, audio, np.array([0, 0, 1, 1]))
    assert shares == {ALL: pytest.approx(10 / 12), OTHER: 1.0, SAME: 0.5}
    assert closer(audio[::-1], audio, np.array([0, 0, 1, 1]))[OTHER] == 0.0


def test_shares_computed_by_hand():
    """Clip 0 is closer to audio 1, the others to their own."""
    visual, audio = np.array([[0.0, 1], [0, 1], [-1, 0]]), np.array([[1.0, 0.5], [0, 1], [-1, 0]])
    shares = closer(visual, audio, np.array([0, 1, 2]))
    assert shares[ALL] == shares[OTHER] == pytest.approx(5 / 6) and np.isnan(shares[SAME])


def test_random_embeddings_give_a_half():
    rng = np.random.default_rng(0)
    visual, audio = rng.standard_normal((2, 300, 8))
    shares = closer(visual, audio, np.arange(300) % 2)
    assert all(abs(share - 0.5) < 0.06 for share in shares.values())
