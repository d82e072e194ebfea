"""Results: as text, JSON, CSV and JSON lines."""

import json

import pytest

from paddlevideo.predict.results import Result, result_file, write_results


def test_results_print_in_the_format_of_paddlevideo(capsys):
    Result("v.avi", [5, 2], [0.99, 0.01], ["archery", "2"]).print()
    assert capsys.readouterr().out == (
        "Current video file: v.avi\n\ttop-1 class: 5\n\ttop-1 score: 0.99\n\ttop-1 label: archery\n"
        "\ttop-2 class: 2\n\ttop-2 score: 0.01\n"
    )
    Result("v.avi", error="decode: no such file").print()
    assert capsys.readouterr().out == "Current video file: v.avi\n\tfailed: decode: no such file\n"


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
