"""The clips that a checkpoint was trained on, whatever list names them."""

import os
from typing import Any

import numpy as np
import pytest

from paddlevideo.engine.trained_clips import TRAIN_CLIPS, TrainedClips, clips_note, digests_of
from paddlevideo.sample import Record


def clips(*paths, **fields) -> list[Record]:
    return [Record(str(path), 0, **fields) for path in paths]


def trained_on(records) -> TrainedClips:
    found = TrainedClips.of(records)
    assert found is not None
    return found


def test_a_clip_is_a_place_and_a_part(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    trained = trained_on(clips("data/a.mp4", "data/b.mp4"))
    same = clips(tmp_path / "data/a.mp4", "data/../data/a.mp4", "link/b.mp4", "./data/b.mp4")
    assert trained.count(same) == 4
    renamed = [Record("data/a.mp4", 7, id="other"), Record("data/a.mp4", labels=(1, 2))]
    assert trained.count(renamed) == 2, "label and id do not matter"
    assert trained.count(clips("data/c.mp4", "a.mp4", "other/a.mp4", "data/a.avi")) == 0
    for part in ({"start_sec": 1.0}, {"end_sec": 2.0}, {"offset": 3}):
        assert trained.count(clips("data/a.mp4", **part)) == 0
        assert trained_on(clips("data/a.mp4", **part)).count(clips("data/a.mp4", **part)) == 1


def test_the_order_of_the_list_does_not_matter(tmp_path):
    records = clips(*(tmp_path / f"{number}.mp4" for number in range(20)))
    first, second = trained_on(records), trained_on(records[::-1] + records[:3])
    assert first == second and first.array().tobytes() == second.array().tobytes()
    assert first.array().shape == (20, 8) and first.array().dtype == np.uint8


def test_names_that_are_not_utf8():
    (digest,) = digests_of(clips(os.fsdecode(b"/data/\xff.mp4")))
    assert len(digest) == 8


def test_reads_what_it_wrote_and_nothing_else():
    trained = trained_on(clips("/data/a.mp4", "/data/b.mp4"))
    for key in (TRAIN_CLIPS, f"model/{TRAIN_CLIPS}"):
        assert TrainedClips.read({"w": np.ones(2), key: trained.array()}) == trained
    for wrong in (np.ones(8, np.uint8), np.ones((2, 8)), np.ones((2, 7), np.uint8), np.uint8(1)):
        assert TrainedClips.read({TRAIN_CLIPS: np.asarray(wrong)}) is None
    assert TrainedClips.read({"w": np.ones(2)}) is None


def test_lists_without_places_are_unknown():
    assert TrainedClips.of([]) is None
    trained = trained_on(clips("/data/a.mp4"))
    shards: Any = range(3)  # any sequence that reads its records from files
    assert TrainedClips.of(shards) is None and trained.count(shards) is None
    assert clips_note("w", trained, shards) is None


@pytest.mark.parametrize(
    ("names", "note"),
    [("xy", None), ("ax", "1 of 2 test clips are training"), ("abx", "2 of 3 test clips are")],
)
def test_the_note_counts_the_clips(names, note):
    trained = trained_on(clips("/a", "/b")).with_earlier(TrainedClips.of(clips("/c")))
    found = clips_note("w.pdparams", trained, clips(*(f"/{name}" for name in names)))
    assert found is None if note is None else (found or "").startswith(note)
    assert clips_note("w.pdparams", None, clips("/a")) is None
    assert (clips_note("w", trained, clips("/c")) or "").startswith("1 of 1 test clips")
