"""Whose sound is nearest: the shares that the table of tools/analysis/sync_accuracy.py shows."""

import numpy as np
import pytest

from paddlevideo.engine.sync_accuracy import COLUMNS, closer

ALL, OTHER, SAME = COLUMNS


def test_shares_of_pairs():
    """Two classes whose sounds are those of their class: told from another class, and a tie within the own one."""
    sound = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    shares = closer(3 * sound, sound, np.array([0, 0, 1, 1]))
    assert shares == {ALL: pytest.approx(10 / 12), OTHER: 1.0, SAME: 0.5}
    assert closer(sound[::-1], sound, np.array([0, 0, 1, 1]))[OTHER] == 0.0


def test_each_clip_against_every_other_one():
    """By hand: clip 0 is nearer to sound 1, the others to their own."""
    visual, sound = np.array([[0.0, 1], [0, 1], [-1, 0]]), np.array([[1.0, 0.5], [0, 1], [-1, 0]])
    shares = closer(visual, sound, np.array([0, 1, 2]))
    assert shares[ALL] == shares[OTHER] == pytest.approx(5 / 6) and np.isnan(shares[SAME])


def test_chance():
    rng = np.random.default_rng(0)
    shares = closer(
        rng.standard_normal((300, 8)), rng.standard_normal((300, 8)), np.arange(300) % 2
    )
    assert all(abs(share - 0.5) < 0.06 for share in shares.values())
