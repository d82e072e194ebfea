"""`measured.yaml`: what a machine measured for the programs of an export."""

import os
from dataclasses import replace

import pytest
import yaml

from paddlevideo.log import logger
from paddlevideo.runtimes import measured
from paddlevideo.runtimes.manifest import Manifest
from paddlevideo.runtimes.measured import Row, read_rows, write_rows
from tests.hostile_files import yamls

HOSTILE = yamls()
HOSTILE.pop("many values")  # takes a second; test_yaml_text.py reads it
MANIFEST = Manifest("tiny", {}, 3, None, 1, 2, "w1", {}, files={"tiny.onnx": "a", "tiny.json": "b"})
ROW = Row("openvino", "tiny.onnx", "a", "cpu", "fp32", 2, None, 1, 0.02, 1e-7)
OTHER = replace(ROW, kind="paddle", program="tiny.json", sha256="b", onednn=False, seconds=0.01)


def test_reads_what_it_wrote_fastest_first(tmp_path):
    write_rows(tmp_path, MANIFEST, [ROW, OTHER])
    assert read_rows(tmp_path, MANIFEST) == [OTHER, ROW]
    write_rows(tmp_path, MANIFEST, [ROW])  # replaces those of this machine
    assert read_rows(tmp_path, MANIFEST) == [ROW]
    assert [path.name for path in tmp_path.iterdir()] == ["measured.yaml"]


def test_rows_of_another_precision_or_device_stay(tmp_path):
    """int8 alone is measured after quantizing, and auto still knows the fastest in fp32."""
    write_rows(tmp_path, MANIFEST, [ROW, OTHER])
    int8 = replace(ROW, program="tiny_int8.xml", sha256="c", precision="int8", seconds=0.001)
    quantized = replace(MANIFEST, files={**MANIFEST.files, "tiny_int8.xml": "c"})
    write_rows(tmp_path, quantized, [int8])
    assert read_rows(tmp_path, quantized) == [int8, OTHER, ROW]
    gpu = replace(ROW, device="gpu", seconds=0.002)
    write_rows(tmp_path, quantized, [gpu])
    assert read_rows(tmp_path, quantized) == [int8, gpu, OTHER, ROW]
    slower = replace(OTHER, seconds=1.0)
    write_rows(tmp_path, quantized, [slower])  # fp32 on the CPU: both rows are replaced
    assert read_rows(tmp_path, quantized) == [int8, gpu, slower]
    again = replace(quantized, files={**MANIFEST.files, "tiny_int8.xml": "d"})
    write_rows(tmp_path, again, [ROW])  # the int8 program is another one now
    assert read_rows(tmp_path, quantized) == [gpu, ROW]


@pytest.mark.parametrize("what", ["processor", "cores", "gpu", "versions"])
def test_rows_hold_for_one_machine_and_stay_for_it(tmp_path, monkeypatch, what):
    here = measured.this_machine()
    write_rows(tmp_path, MANIFEST, [ROW])
    monkeypatch.setattr(measured, "this_machine", lambda: here | {what: "another"})
    assert read_rows(tmp_path, MANIFEST) == []
    write_rows(tmp_path, MANIFEST, [OTHER])
    assert read_rows(tmp_path, MANIFEST) == [OTHER]
    monkeypatch.setattr(measured, "this_machine", lambda: here)
    assert read_rows(tmp_path, MANIFEST) == [ROW]


def test_rows_of_other_weights_or_programs_do_not_count(tmp_path):
    write_rows(tmp_path, MANIFEST, [ROW, OTHER])
    assert read_rows(tmp_path, replace(MANIFEST, files={"tiny.onnx": "new", "tiny.json": "b"})) == [
        OTHER
    ]
    other = replace(MANIFEST, weights="w2")
    assert read_rows(tmp_path, other) == []
    write_rows(tmp_path, other, [ROW])
    assert read_rows(tmp_path, MANIFEST) == []  # what was exported over is forgotten


@pytest.mark.parametrize(
    "change",
    [
        {"threads": "2"},
        {"threads": 0},
        {"clips": True},
        {"clips": 1.5},
        {"seconds": "fast"},
        {"seconds": float("nan")},
        {"difference": None},
        {"kind": 3},
        {"program": ["x"]},
        {"onednn": "yes"},
        {"unknown": 1},
        {"machine": None},
    ],
)
def test_a_file_with_wrong_values_is_ignored(tmp_path, monkeypatch, caplog, change):
    monkeypatch.setattr(logger, "propagate", True)
    write_rows(tmp_path, MANIFEST, [ROW])
    content = yaml.safe_load((tmp_path / "measured.yaml").read_text())
    if "machine" in change:
        del content[0]["machine"]
    else:
        content[0]["rows"][0] |= change
    (tmp_path / "measured.yaml").write_text(yaml.safe_dump(content))
    assert read_rows(tmp_path, MANIFEST) == []
    assert "measured.yaml is ignored: " in caplog.text


@pytest.mark.parametrize("text", ["", "3", "hello", "[1]", "[{rows: 3}]", "{a: b}", "\x00"])
def test_a_damaged_file_is_ignored(tmp_path, text):
    (tmp_path / "measured.yaml").write_text(text)
    assert read_rows(tmp_path, MANIFEST) == []
    write_rows(tmp_path, MANIFEST, [ROW])  # and replaced
    assert read_rows(tmp_path, MANIFEST) == [ROW]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_ignored(tmp_path, name):
    (tmp_path / "measured.yaml").write_text(HOSTILE[name][0], encoding="utf-8")
    assert read_rows(tmp_path, MANIFEST) == []


def test_a_fifo_is_ignored(tmp_path):
    os.mkfifo(tmp_path / "measured.yaml")
    assert read_rows(tmp_path, MANIFEST) == []
