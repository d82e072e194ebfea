"""Results: as text, JSON, CSV and JSON lines."""

import json

import pytest

from paddlevideo.plain_text import display_width
from paddlevideo.predict.results import Result, name_width, result_file, write_results


def test_results_print_in_the_format_of_paddlevideo(capsys):
    Result("v.avi", [5, 2], [0.99, 0.01], ["archery", "2"]).print()
    assert capsys.readouterr().out == (
        "Current video file: v.avi\n\ttop-1 class: 5\n\ttop-1 score: 0.99\n\ttop-1 label: archery\n"
        "\ttop-2 class: 2\n\ttop-2 score: 0.01\n"
    )
    Result("v.avi", error="decode: no such file").print()
    assert capsys.readouterr().out == "Current video file: v.avi\n\tfailed: decode: no such file\n"


def test_a_result_in_one_line(capsys):
    result = Result("clip.avi", [5, 2], [0.98765432, 0.01234568], ["archery", "arm wrestling"])
    result.print(verbose=False)
    assert capsys.readouterr().out == "archery 0.9877  arm wrestling 0.0123  clip.avi\n"
    assert "\ttop-1 score: 0.98765432\n" in f"{result}\n", "other forms have all digits"
    assert result.json["scores"] == [0.98765432, 0.01234568]
    assert Result("a.mp4", [3], [1.0], ["3"]).line() == "3 1.0000  a.mp4"
    assert Result("s@9", [3], [2e-7], ["x"], id="vid").line() == "x 0.0000  s@9  id: vid"
    noted = Result("a.mp4", [3], [0.5], ["x"], note="no audio: classified by the frames alone")
    assert noted.line() == "x 0.5000  a.mp4  (no audio: classified by the frames alone)"


def test_lines_of_results_are_columns():
    labels = ["archery", "红色", "arm wrestling", "x" * 30]
    width = name_width(labels)
    assert width == 24 and name_width(labels[:3]) == 13 and name_width(None) == 0
    lines = [
        Result("FILE", [0, 2], [0.9, 0.1], ["archery", "arm wrestling"]).line(13, 2),
        Result("FILE", [1, 0], [0.5, 0.5], ["红色", "archery"]).line(13, 2),
        Result("FILE", error="decode: empty").line(13, 2),
    ]
    assert {display_width(line[: line.index("FILE")]) for line in lines} == {2 * 20 + 2 + 2}
    assert lines[2].startswith("failed ") and lines[2].endswith("FILE  (decode: empty)")
    assert Result("FILE", error="why").line() == "failed  FILE  (why)"


def test_names_cannot_make_up_lines_of_results():
    line = Result("a\nb.mp4", [0], [0.5], ["x\nfake 1.0000  b.mp4\x1b[2J"], id="i\nd").line()
    assert line == r"x\nfake 1.0000  b.mp4\x1b[2J 0.5000  a\nb.mp4  id: i\nd"
    assert "\n" not in Result("a\n", error="b\nc").line()


def test_modalities_follow_the_line_of_a_result():
    parts = {"visual": Result("a", [0], [0.7], ["x"]), "audio": Result("a", [1], [0.6], ["y"])}
    lines = Result("a", [0], [0.8], ["x"], modalities=parts).line().splitlines()
    assert lines == ["x 0.8000  a", "  visual alone: x 0.7000", "  audio alone: y 0.6000"]


def test_results_as_json(tmp_path):
    result = Result("some/kürbis.mp4", [1], [0.5], ["kürbis"])
    content = {
        "input_path": "some/kürbis.mp4",
        "class_ids": [1],
        "scores": [0.5],
        "label_names": ["kürbis"],
    }
    assert result.json == content
    for target in (tmp_path / "r.json", tmp_path / "folder"):
        assert json.loads(result.save_to_json(target).read_text(encoding="utf-8")) == content
    assert (tmp_path / "folder" / "kürbis.json").exists()
    write_results(tmp_path / "all.json", [result, Result("x", error="why")])
    assert json.loads((tmp_path / "all.json").read_text(encoding="utf-8")) == [
        content,
        {"input_path": "x", "error": "why"},
    ]


def test_files_of_results(tmp_path):
    results = [
        Result("a", [4, 0], [0.75, 0.1234567], ["x", "y"], id="id1"),
        Result("b, c", [1], [1e-7], ["z"]),
        Result("d", error="no"),
    ]
    write_results(tmp_path / "r.csv", results)
    rows = ["VideoId,LabelConfidencePairs", "id1,4 0.75 0 0.123457", '"b, c",1 1e-07', ""]
    assert (tmp_path / "r.csv").read_text() == "\n".join(rows)
    write_results(tmp_path / "r.jsonl", results)
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [r.json for r in results]
    for rows in (results, []):
        write_results(tmp_path / "r.json", rows)
        assert json.loads((tmp_path / "r.json").read_text()) == [r.json for r in rows]
    with pytest.raises(ValueError, match=r"r\.txt: .*ends in \.json, \.jsonl, \.csv"):
        write_results(tmp_path / "r.txt", results)


def test_a_failure_leaves_no_incomplete_file_of_results(tmp_path):
    with pytest.raises(ZeroDivisionError), result_file(tmp_path / "r.jsonl") as write:
        write(Result("a"))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
