"""Results in parts: what is there stays, what is missing is made, whatever stopped the run."""

import json

import pytest

from paddlevideo.scale import parts as module
from paddlevideo.scale.parts import PartFiles, delete

KEYS = [f"video {number}.mp4" for number in range(10)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "MIN_PART", 4)


def opened(folder, keys=KEYS, made_by="model 1", retry=False) -> PartFiles:
    return PartFiles(folder, made_by, iter(keys), len(keys), retry)


def line(index: int, failed: bool = False, keys=KEYS) -> str:
    row = {"input_path": keys[index]} | ({"error": "damaged"} if failed else {"score": index})
    return json.dumps(row)


def fill(parts: PartFiles, indices=None, failed=()) -> list[int]:
    """Add results; returns the indices that were missing."""
    missing = [index for index, _ in parts.left(KEYS)]
    for index in reversed(missing) if indices is None else indices:
        parts.add(index, line(index, index in failed))
    return missing


def names(parts: PartFiles) -> list[list[str]]:
    return [[row["input_path"] for row in parts.rows(n)] for n in range(len(parts))]


def test_parts_have_the_order_of_the_inputs(tmp_path):
    with opened(tmp_path / "out") as parts:
        assert len(parts) == 3 and parts.num_left == 10
        assert fill(parts) == list(range(10))
        assert names(parts) == [KEYS[:4], KEYS[4:8], KEYS[8:]]
        assert all(parts.is_complete(number) for number in range(3))
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files[:3] == [".lock", "manifest.json", "part-00001.jsonl"] and len(files) == 5


def test_a_part_appears_with_its_last_result(tmp_path):
    with opened(tmp_path) as parts:
        fill(parts, [0, 1, 2])
        assert not parts.path(0).exists() and not parts.is_complete(0)
        parts.add(3, line(3))
        assert parts.path(0).exists() and parts.is_complete(0)


def test_a_run_goes_on_with_what_is_missing(tmp_path):
    with opened(tmp_path) as parts:
        fill(parts, [8, 9, 0, 1])  # killed with a part that is not complete
    with opened(tmp_path) as parts:
        assert parts.num_kept == 2
        assert fill(parts) == list(range(8))
        assert names(parts) == [KEYS[:4], KEYS[4:8], KEYS[8:]]
    with opened(tmp_path) as parts:
        assert parts.num_left == 0 and fill(parts) == []


def test_failures_are_tried_again_on_request(tmp_path):
    with opened(tmp_path) as parts:
        fill(parts, failed=(1, 9))
        assert parts.num_failed() == 2
    with opened(tmp_path) as parts:
        assert parts.num_left == 0
    before = (tmp_path / "part-00002.jsonl").read_bytes()
    with opened(tmp_path, retry=True) as parts:
        assert parts.num_left == 2
        assert fill(parts) == [1, 9]
        assert parts.num_failed() == 0
        assert names(parts) == [KEYS[:4], KEYS[4:8], KEYS[8:]]
    assert (tmp_path / "part-00002.jsonl").read_bytes() == before


def test_a_longer_list_keeps_the_complete_parts(tmp_path):
    with opened(tmp_path) as parts:
        fill(parts)
    longer = [*KEYS, "new.mp4"]
    with opened(tmp_path, longer) as parts:
        assert [index for index, _ in parts.left(longer)] == [8, 9, 10]


@pytest.mark.parametrize(
    "keys",
    [
        [*KEYS[:5], "other.mp4", *KEYS[6:]],  # one input is another one
        [*KEYS[:4], KEYS[5], KEYS[4], *KEYS[6:]],  # another order
    ],
)
def test_a_part_with_other_inputs_is_made_again(tmp_path, keys):
    with opened(tmp_path) as parts:
        fill(parts)
    with opened(tmp_path, keys) as parts:
        assert [index for index, _ in parts.left(keys)] == [4, 5, 6, 7]


def test_a_shorter_list_drops_parts(tmp_path):
    with opened(tmp_path) as parts:
        fill(parts)
    with opened(tmp_path, KEYS[:4]) as parts:
        assert parts.num_left == 0 and names(parts) == [KEYS[:4]]
    assert sorted(path.name for path in tmp_path.glob("part*")) == ["part-00001.jsonl"]


def test_no_inputs(tmp_path):
    with opened(tmp_path, []) as parts:
        assert len(parts) == 0 and parts.num_left == 0


def test_the_number_of_files_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    with opened(tmp_path) as parts:
        assert len(parts) == 2 and parts.size == 5
    monkeypatch.setattr(module, "MOST_PARTS", 5)
    with opened(tmp_path) as parts:
        assert parts.size == 5  # that of the manifest


def test_rejects_results_of_another_model(tmp_path):
    with opened(tmp_path) as parts:
        fill(parts)
    with pytest.raises(ValueError, match="made by model 1 .*and this is model 2.*--overwrite"):
        opened(tmp_path, made_by="model 2")
    delete(tmp_path)
    with opened(tmp_path, made_by="model 2") as parts:
        assert parts.num_left == 10


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1}', '{"part_size": "x"}'])
def test_rejects_a_damaged_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json: no manifest of parts"):
        opened(tmp_path)


@pytest.mark.parametrize("size", [0, -4])
def test_rejects_an_impossible_size_of_parts(tmp_path, size):
    with opened(tmp_path) as parts:
        fill(parts)
    file = tmp_path / "manifest.json"
    file.write_text(file.read_text().replace('"part_size": 4', f'"part_size": {size}'))
    with pytest.raises(ValueError, match=f"no manifest of parts .*part_size is {size}"):
        opened(tmp_path)
    assert len(list(tmp_path.glob("part-*"))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"part-00002.jsonl: 1 results of 4 inputs; delete this part"),
        ("{}\n{}\n", r"part-00002.jsonl: 2 results of 4 inputs"),
        ("{}\n{}\n{\n{}\n", r"part-00002.jsonl:3: no result as JSON .*delete this part"),
        ("{}\n" * 5, r"part-00002.jsonl: 5 results of 4 inputs"),
    ],
)
def test_a_damaged_part_is_named(tmp_path, text, message):
    with opened(tmp_path) as parts:
        fill(parts)
        parts.path(1).write_text(text)
        with pytest.raises(ValueError, match=message):
            parts.num_failed()
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, retry=True)
    (tmp_path / "part-00002.jsonl").unlink()
    with opened(tmp_path) as parts:
        assert fill(parts) == [4, 5, 6, 7] and parts.num_failed() == 0


def test_parts_that_a_run_writes_are_not_deleted(tmp_path):
    with opened(tmp_path) as parts:
        fill(parts)
        with pytest.raises(OSError, match="another process writes to this folder"):
            delete(tmp_path)
        assert parts.num_failed() == 0
    delete(tmp_path)
    assert not tmp_path.exists()


def test_rejects_parts_without_a_manifest(tmp_path):
    (tmp_path / "part-00001.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="has part-00001.jsonl and no manifest.json"):
        opened(tmp_path)


def test_two_runs_do_not_share_a_folder(tmp_path):
    with opened(tmp_path), pytest.raises(OSError, match="another process writes to this folder"):
        opened(tmp_path)
    opened(tmp_path).__exit__()  # unlocked again


def test_what_a_killed_writer_left_is_removed(tmp_path):
    left = tmp_path / ".part-00001.jsonl.99999999.tmp"
    left.write_text("half of a line")
    with opened(tmp_path):
        assert not left.exists()


def test_delete_leaves_other_files(tmp_path):
    folder = tmp_path / "out"
    with opened(folder) as parts:
        fill(parts)
    (folder / "notes.txt").write_text("mine")
    delete(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    delete(folder)
    assert not folder.exists()
    delete(folder)
