"""Files of class names, and the number of classes."""

import pytest

from paddlevideo.data.class_names import (
    both_orders,
    check_order,
    class_names_under,
    matches,
    normalized_name,
    read_class_names,
    resolve_num_classes,
)
from paddlevideo.data.lists import DatasetError


def write(folder, text):
    path = folder / "labels.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_derives_the_number_of_classes():
    assert resolve_num_classes(None, 9, None) == 10
    assert resolve_num_classes(None, 9, 400) == 400
    assert resolve_num_classes(["a", "b"], 1, None) == 2
    assert resolve_num_classes(["a", "b"], 1, 2) == 2
    assert resolve_num_classes(None, -1, 5) == 5


def test_rejects_data_that_contradicts_the_number_of_classes():
    cases = [
        (
            (["archery", "b", "c"], 2, 400),
            r"num_classes is 400 in the config, but the data has 3 classes \(archery, b, c\); "
            "set num_classes: 3",
        ),
        (
            (None, 9, 5),
            "num_classes is 5 in the config, but the data has label 9, so at least 10 classes",
        ),
        ((["a"], 4, None), "the data has label 4, but there are 1 class names"),
        ((["a", "b"], 2, None), "labels count from 0: if the list counts from 1, subtract 1"),
        ((None, 5, 5), "the real number; labels count from 0: if the list counts from 1, subtract"),
        ((None, -1, None), "no labels to derive num_classes from"),
    ]
    for arguments, message in cases:
        with pytest.raises(DatasetError, match=message):
            resolve_num_classes(*arguments)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffrun fast\r\nwälk\r\n\r\n2 step\r\n",
        "1 wälk\n0 run fast\n2 2 step\n",
        '["run fast", "wälk", "2 step"]',
        '{"0": "run fast", "2": "2 step", "1": "wälk"}',
        '{"run fast": 0, "2 step": 2, "wälk": 1}',
    ],
)
def test_reads_class_names(tmp_path, text):
    assert read_class_names(write(tmp_path, text)) == ["run fast", "wälk", "2 step"]


def test_rejects_invalid_class_name_files(tmp_path):
    cases = [
        ("a\nb\na\n", "duplicate class names: a"),
        ("\n", "ids must be 0 .. 0"),
        ('{"1": "a", "2": "b"}', "ids must be 0 .. 1"),
        ("{", "not JSON"),
        (b"\xff", "not UTF-8"),
    ]
    for text, message in cases:
        with pytest.raises(DatasetError, match=message):
            read_class_names(write(tmp_path, text))
    with pytest.raises(DatasetError, match="no such file of class names"):
        read_class_names("nothing.txt")


def test_finds_the_class_names_of_a_data_set_folder(tmp_path):
    assert class_names_under(tmp_path) is None
    (tmp_path / "labels.json").write_text('["a"]')
    assert class_names_under(tmp_path) == str(tmp_path / "labels.json")
    assert class_names_under(str(tmp_path)) == str(tmp_path / "labels.json")
    write(tmp_path, "a\n")
    assert class_names_under(tmp_path) == str(tmp_path / "labels.txt")


def test_finds_the_class_names_of_paddlex(tmp_path):
    file = tmp_path / "label.txt"
    for text in (
        "",
        "archery\nbowling\n",
        "0 archery\n2 bowling\n",
        "0\n1\n",
        "a.mp4 0\nb.mp4 1\n",
    ):
        file.write_text(text, encoding="utf-8")
        assert class_names_under(tmp_path) is None, text
    file.write_bytes(b"\xff\xfe")
    assert class_names_under(tmp_path) is None
    file.write_text("1 air drumming\n\n0 红色\n", encoding="utf-8")
    assert class_names_under(tmp_path) == str(file)
    assert read_class_names(file) == ["红色", "air drumming"]
    (tmp_path / "labels.txt").write_text("a\n", encoding="utf-8")
    assert class_names_under(tmp_path) == str(tmp_path / "labels.txt")


def test_normalizes_the_spelling_of_class_names():
    assert normalized_name("Air_Drumming ") == normalized_name("air-drumming") == "air drumming"
    assert normalized_name("caf\u00e9") == normalized_name("cafe\u0301")


def test_matches_names_whatever_their_order_and_spelling():
    assert matches(["a", "b"], ["a", "b"]) == [0, 1]
    assert matches(["b_c", "A"], ["a", "B c"]) == [1, 0]
    assert matches(["a", "A"], ["A", "a"]) == [1, 0]
    for others in (["a"], ["a", "c"], ["a", "b", "c"], ["a", "a"]):
        assert matches(["a", "b"], others) is None


def test_describes_two_orders_from_the_first_difference_on():
    names = [f"c{number}" for number in range(30)]
    others = [*names[:20], "x", *names[21:]]
    text = both_orders("a.txt", names, "b.txt", others)
    assert text.startswith("a.txt has 30 names, from class 19 on: c19, c20, c21")
    assert "; b.txt has 30, from class 19 on: c19, x, c21" in text
    assert both_orders("a", ["x"], "b", ["x", "y"]) == "a has 1 names, x; b has 2, x, y"


def test_refuses_the_same_names_in_another_order():
    for others in (None, ["a", "b"], ["a", "c"], ["b"]):
        check_order("x", ["a", "b"], "y", others)
    with pytest.raises(DatasetError, match="the same class names in two orders: x has 2 names, a"):
        check_order("x", ["a", "b"], "y", ["B", "a"])
