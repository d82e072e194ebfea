"""Files with one line per result: killed, continued, locked."""

import fcntl
import json
from collections import Counter

import pytest

from paddlevideo.predict.inputs import Inputs
from paddlevideo.predict.lines import ResultLines, key_of
from paddlevideo.predict.results import Result
from paddlevideo.sample import Record

MADE_BY = "weights 1 topk 5"


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path, results, made_by=MADE_BY, resume=True):
    lines = ResultLines(path, made_by, resume)
    for result in results:
        lines.write(result.json)
    lines.close()
    return lines.done


def result(name, **more):
    return Result(name, [1, 0], [0.75, 0.25], ["größe", "line\nend"], **more)


def test_each_line_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = ResultLines(path, MADE_BY, False)
    for number in range(3):
        lines.write(result(f"{number}.mp4").json)
        assert len(rows_of(path)) == number + 1
    lines.close()
    expected = {**result("0.mp4").json, "made_by": MADE_BY}
    assert rows_of(path)[0] == expected


def test_a_file_torn_at_any_byte_is_continued(tmp_path):
    """As after kill -9 at any moment of writing the last two lines."""
    path = tmp_path / "r.jsonl"
    results = [result(f"ü{number}.mp4") for number in range(4)]
    write(path, results)
    complete = path.read_bytes()
    lines = complete.splitlines(keepends=True)
    for size in range(len(b"".join(lines[:2])), len(complete) + 1):
        path.write_bytes(complete[:size])
        num_whole = complete[:size].count(b"\n")
        done = Counter({(f"ü{n}.mp4", None, None): 1 for n in range(num_whole)})
        assert write(path, results[num_whole:]) == done
        assert path.read_bytes() == complete, f"torn at byte {size}"


@pytest.mark.parametrize("tail", [b"\0" * 700, b'{"input_path"', b"\xff\xfe", b"{}", b" "])
def test_what_has_no_end_of_line_is_removed(tmp_path, tail):
    path = tmp_path / "r.jsonl"
    write(path, [result("a")])
    complete = path.read_bytes()
    path.write_bytes(complete + tail)
    assert write(path, []) == {("a", None, None): 1}
    assert path.read_bytes() == complete


def test_failures_are_removed_and_tried_again(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, [Result("a", error="no such file"), result("b"), Result("c", error="empty")])
    with path.open("ab") as file:
        file.write(b'{"input_path": "d", "sco')
    assert write(path, [result("c")]) == {("b", None, None): 1}
    assert [row["input_path"] for row in rows_of(path)] == ["b", "c"]
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_equal_paths_are_told_apart_by_their_parts_and_counted(tmp_path):
    path = tmp_path / "r.jsonl"
    parts = [Record("a", start_sec=s, end_sec=e) for s, e in ((0.1, 0.3), (0.3, None), (0.1, 0.3))]
    results = [Result.of(record, [0], [1.0], ["x"]) for record in parts]
    write(path, [results[0], result("b"), results[1]])
    inputs = Inputs([([*parts, Record("b"), Record("b")], None)])
    done = write(path, [])
    left = inputs.without(done)
    assert [(r.path, r.start_sec) for r, _ in left] == [("a", 0.1), ("b", None)]
    assert len(left) == 2 and left.num_done == 3
    assert key_of(rows_of(path)[2]) == ("a", 0.3, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1]\n", r"r\.jsonl:2: '\[1\]' is not a result; remove the line, or begin again"),
        (b"\n", "r.jsonl:2: '' is not a result"),
        (b"not json\n", "r.jsonl:2: 'not json' is not a result"),
        (b'{"id": "a"}\n', "r.jsonl:2: .* is not a result"),
        (b"[" * 100_000 + b"\n", "r.jsonl:2: .* is not a result"),
        (b'{"input_path": "b"}\n', "r.jsonl:2: was made by an unknown model, and this is weights"),
        (b'{"input_path": "b", "made_by": "x"}\n', "r.jsonl:2: was made by x, and this is weights"),
    ],
)
def test_rejects_lines_of_others_and_keeps_the_file(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    write(path, [result("a")])
    content = path.read_bytes() + line + b"torn"
    path.write_bytes(content)
    for _ in range(2):  # the file is unlocked after the error
        with pytest.raises(ValueError, match=message):
            ResultLines(path, MADE_BY, True)
    assert path.read_bytes() == content
    write(path, [result("z")], resume=False)
    assert [row["input_path"] for row in rows_of(path)] == ["z"]


def test_two_processes_do_not_write_to_one_file(tmp_path):
    path = tmp_path / "r.jsonl"
    first = ResultLines(path, MADE_BY, True)
    for resume in (True, False):
        with pytest.raises(OSError, match="another process writes to this file"):
            ResultLines(path, MADE_BY, resume)
    first.write(Result("a", error="x").json)
    first.close()
    second = ResultLines(path, MADE_BY, True)  # it replaces the file, to remove the failure
    with pytest.raises(OSError, match="another process writes to this file"):
        ResultLines(path, MADE_BY, True)
    second.close()
    assert write(path, []) == {}


def test_a_file_that_was_replaced_meanwhile_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    write(path, [result("a")])

    def replaced(descriptor):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (tmp_path / "new").write_bytes(b"")
        (tmp_path / "new").replace(path)
        return True

    monkeypatch.setattr("paddlevideo.predict.lines.try_lock", replaced)
    with pytest.raises(OSError, match="another process"):
        ResultLines(path, MADE_BY, False)


def test_a_full_disk_names_the_file(tmp_path):
    lines = ResultLines(tmp_path / "r.jsonl", MADE_BY, False)

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    file, lines._file = lines._file, Full()
    with pytest.raises(OSError, match=r"cannot write .*r\.jsonl: No space left.*--resume"):
        lines.write({"input_path": "a"})
    lines._file = file
    lines.close()


# --- shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_each_input_is_in_exactly_one_shard(count):
    parts = [([Record(str(n)) for n in range(4)], None), ([], None), ([Record("x")] * 3, "data")]
    every = list(Inputs(parts))
    shards = [Inputs(parts).shard(number, count) for number in range(1, count + 1)]
    assert [len(list(shard)) for shard in shards] == [len(shard) for shard in shards]
    assert Counter(str(pair) for shard in shards for pair in shard) == Counter(map(str, every))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    again = [list(Inputs(parts).shard(number, count)) for number in range(1, count + 1)]
    assert again == [list(shard) for shard in shards]


def test_a_shard_is_continued():
    records = [Record(str(number)) for number in range(10)]
    shard = Inputs([(records, None)]).shard(2, 3)
    assert [record.path for record, _ in shard] == ["1", "4", "7"]
    left = shard.without({("4", None, None): 1, ("5", None, None): 1})
    assert [record.path for record, _ in left] == ["1", "7"] and left.num_done == 1
    with pytest.raises(ValueError, match="shard 4/3: expected a number from 1 to 3"):
        shard.shard(4, 3)
