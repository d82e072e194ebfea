"""Lists of paths that are not kept in memory give what `read_path_list` gives."""

import tracemalloc

import pytest

from paddlevideo.data.lists import DatasetError, read_path_list
from paddlevideo.predict.inputs import find_inputs
from paddlevideo.predict.path_list import EXPECTED, PathList


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4\nb c.mp4 3\nd.mp4 20 1\n",
        "a.mp4\r\n\r\n  b.mp4  \r\n",
        "a.mp4\rb.mp4\rc.mp4",
        "\ufeffa.mp4\n\n\nб.mp4\n",
        "name\x0bwith\x1ctabs\u2028and lines.mp4\n",
        "no line end.mp4",
        "\n \n",
        "",
    ],
)
def test_lines_are_those_of_a_list_in_memory(tmp_path, text):
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode())
    lines = PathList(file)
    expected = read_path_list(file, EXPECTED)
    assert list(lines) == expected and len(lines) == len(expected)
    assert list(lines) == expected  # again
    assert [lines[index] for index in range(len(lines))] == expected
    assert lines[1:] == expected[1:]
    with pytest.raises(IndexError):
        lines[len(expected)]


@pytest.mark.parametrize("content", [None, b"a.mp4\n\xff\xfe\n"])
def test_errors_are_those_of_a_list_in_memory(tmp_path, content):
    file = tmp_path / "a.txt"
    if content:
        file.write_bytes(content)
    messages = []
    for read in (PathList, lambda path: read_path_list(path, EXPECTED)):
        with pytest.raises(DatasetError) as error:
            read(file)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_long_list_needs_little_memory(tmp_path):
    file = tmp_path / "a.txt"
    with file.open("w") as lines:
        lines.writelines(f"/videos/{number:08}.mp4\n" for number in range(5_000))
    tracemalloc.start()
    try:
        inputs = find_inputs(str(file))
        assert len(inputs) == 5_000 and sum(1 for _ in inputs.shard(1, 4)) == 1_250
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # the records would be 2.5 MB
    finally:
        tracemalloc.stop()
