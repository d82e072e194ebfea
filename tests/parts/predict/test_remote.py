"""Predictions whose inputs, model, weights and results are URLs equal those on local files."""

import json
import sys
from pathlib import Path

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import load_config
from paddlevideo.engine.checkpoint import read_checkpoint
from paddlevideo.engine.load import config_of_run
from paddlevideo.exporting.export import export
from paddlevideo.exporting.program import ExportError
from paddlevideo.predict.inputs import InputRules, find_inputs
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.program_test import run_program_test
from paddlevideo.remote import AccessError, list_url, read_bytes
from paddlevideo.runtimes.base import BackendError
from paddlevideo.weights import WeightsError, checksum

pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def stored(memory, exported):
    """The files in memory: `model/`, `weights/` and `videos/`."""
    for path in exported.folder.iterdir():
        memory.put(f"model/{path.name}", path.read_bytes())
    memory.put(f"weights/{exported.weights.name}", exported.weights.read_bytes())
    for path in map(Path, exported.files):
        name = path.relative_to(exported.videos).as_posix()
        memory.put(f"videos/{name}", path.read_bytes())
    return memory


@pytest.fixture
def tool(exported, monkeypatch, root):
    """`tool(flags...)`: run the command in this process; returns its exit code."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    import predict

    def run(*flags, model=exported.folder):
        options = ["--model", str(model), "--cpu_threads", "1", "--use_gpu", "f"]
        monkeypatch.setattr(sys, "argv", ["predict.py", *options, *map(str, flags)])
        return predict.main()

    return run


def scores(rows) -> list[tuple]:
    return [(Path(row["input_path"]).name, row["class_ids"], row["scores"]) for row in rows]


def paths(text, **rules) -> list[str]:
    return [record.path for record, _ in find_inputs(text, InputRules(**rules))]


# --- inputs ---------------------------------------------------------------------------------------


def test_inputs_by_url(stored):
    url, names = f"{stored.url}/videos", list_url(f"{stored.url}/videos", {".mp4", ".avi"})
    assert len(names) == 3 and paths(url) == paths(f"{url}/") == names
    assert paths(f"{url}/*") == [names[0], names[2]] and paths(names[1]) == names[1:2]
    assert paths(f"{stored.url}/**/*.mp4") == [name for name in names if name.endswith(".mp4")]
    with pytest.raises(ValueError, match="no file matches this pattern"):
        find_inputs(f"{url}/*.webm")
    stored.put("empty/a.txt.gz", "")
    with pytest.raises(ValueError, match="/empty: no video in this folder; known suffixes"):
        find_inputs(f"{stored.url}/empty")
    assert paths(f"{url}/none.mp4") == [f"{url}/none.mp4"]  # a failure, later


def test_a_name_with_brackets_is_a_file(stored):
    url = stored.put("v/a [1].mp4", b"")
    assert paths(url) == [url]


def test_lists_by_url(stored):
    text = "a.mp4\nb c.mp4 3\ns3://other/d.mp4 1\n/data/e.mp4\n"
    url, start = stored.put("l/l.txt", text), f"{stored.url}/l"
    expected = [f"{start}/a.mp4", f"{start}/b c.mp4", "s3://other/d.mp4", "/data/e.mp4"]
    assert paths(url) == expected
    url = stored.put("l/t.csv", "path,label,start_sec,end_sec\na.mp4,0,1.5,3\n")
    ((record, _),) = find_inputs(url)
    assert (record.path, record.start_sec, record.end_sec) == (f"{start}/a.mp4", 1.5, 3.0)
    with pytest.raises(ValueError, match=r"/l/e.txt: no path in this list"):
        find_inputs(stored.put("l/e.txt", "\n"))
    url = stored.put("l/a.list", "a\nb 0\n")
    assert paths(url, suffixes=(".npy",), suffix=".npy") == [f"{start}/a.npy", f"{start}/b.npy"]


def test_a_local_list_of_urls(stored, tmp_path):
    (tmp_path / "l.txt").write_text(f"{stored.url}/videos/none.mp4\n{stored.url}/a b.mp4 1\n")
    found = paths(str(tmp_path / "l.txt"))
    assert found == [f"{stored.url}/videos/none.mp4", f"{stored.url}/a b.mp4"]


def test_folders_of_frames_by_url(memory):
    for name in ("x/img_00001.jpg", "x/img_00002.jpg", "y/z/img_00001.jpg"):
        memory.put(f"f/{name}", b"")
    found = [(r.path, r.frame_pattern) for r, _ in find_inputs(f"{memory.url}/f")]
    assert found == [(f"{memory.url}/f/{name}", "img_{:05}.jpg") for name in ("x", "y/z")]
    ((record, _),) = find_inputs(f"{memory.url}/f/x")
    assert record.path == f"{memory.url}/f/x" and record.frame_pattern
    url = memory.put("l.txt", "f/x 2 0\n")
    ((record, _),) = find_inputs(url)
    assert (record.path, record.num_frames) == (f"{memory.url}/f/x", 2)


# --- a complete prediction ------------------------------------------------------------------------


def test_everything_by_url(stored, exported, tool, tmp_path, capsys):
    assert tool("-i", exported.videos, "--out", tmp_path / "r.json") == 0
    expected = json.loads((tmp_path / "r.json").read_text())
    out = f"{stored.url}/out/r.json"
    stored.put("videos/z.mp4", b"no video")  # after the others
    flags = ["-i", f"{stored.url}/videos", f"{stored.url}/videos/none.mp4", "--out", out]
    assert tool(*flags, "--quiet", model=f"{stored.url}/model") == 1
    found = json.loads(read_bytes(out))
    assert scores(found[:3]) == scores(expected)
    assert [row["error"] for row in found[3:]] == [
        "decode: no known video format, or damaged",
        "decode: no such file",
    ]
    printed = capsys.readouterr()
    assert f"5 results are in {out}" in printed.err + printed.out
    assert tool(*flags, model=f"{stored.url}/model") == 1  # the file exists
    assert "this file exists; replace it with --overwrite, or give another" in (
        capsys.readouterr().err
    )


def test_lines_at_a_url_are_continued(stored, tool, capsys, monkeypatch):
    out, videos = f"{stored.url}/out/r.jsonl", f"{stored.url}/videos"
    flags = ["-i", videos, "--quiet", "--batch_size", "1"]
    assert tool(*flags, "--out", out) == 0
    complete = read_bytes(out)
    stored.put("out/r.jsonl", complete[: complete.index(b"\n") + 9])
    assert tool(*flags, "--out", out, "--resume") == 0
    assert read_bytes(out) == complete
    assert tool(*flags, "--out", out, "--shard", "1/2") == 0
    assert read_bytes(f"{stored.url}/out/r.1-of-2.jsonl").count(b"\n") == 2

    def stops(*args, **kwargs):
        raise ValueError("stopped here")

    monkeypatch.setattr("paddlevideo.predict.command._log_end", stops)
    other = f"{stored.url}/out/other.jsonl"
    assert tool(*flags, "--out", other) == 1
    assert read_bytes(other) == complete
    assert "stopped here" in capsys.readouterr().err


def test_a_folder_of_results_at_a_url(stored, tool):
    assert tool("-i", f"{stored.url}/videos", "--save_path", f"{stored.url}/shown") == 0
    names = [url.rpartition("/")[2] for url in list_url(f"{stored.url}/shown")]
    assert sum(name.endswith("_res.json") for name in names) == 3


def test_missing_credentials_end_a_prediction(tool, capsys, monkeypatch):
    assert tool("-i", "bos://b/a.mp4") == 1
    assert "bos://b/a.mp4: fsspec has no package for bos://" in capsys.readouterr().err


# --- models and weights ---------------------------------------------------------------------------


def test_models_by_url(stored, exported, tmp_path):
    for path in exported.folder.iterdir():
        stored.put(f"run/inference/{path.name}", path.read_bytes())
    labels = Predictor(exported.folder, device="cpu", threads=1).labels
    (program,) = exported.folder.glob("*.pdmodel")
    for url in (f"{stored.url}/run", f"{stored.url}/model/", f"{stored.url}/model/{program.name}"):
        assert Predictor(url, device="cpu", threads=1).labels == labels
    for url in (f"{stored.url}/none", f"{stored.url}/none/a.pdmodel"):
        text = "no such folder, or no file in it; give the URL of an exported folder"
        with pytest.raises(BackendError, match=text):
            Predictor(url)


def test_a_model_on_a_web_server(exported, server):
    for path in exported.folder.iterdir():
        server.files[f"/m/{path.name}"] = path.read_bytes()
    remote = Predictor(f"{server.url}/m", device="cpu", threads=1)
    local = Predictor(exported.folder, device="cpu", threads=1)
    assert remote.identity == local.identity and remote.labels == local.labels


def test_a_program_by_url_is_tested(stored, exported):
    local = run_program_test(exported.cfg, str(exported.folder), threads=1)
    remote = run_program_test(exported.cfg, f"{stored.url}/model", threads=1)
    assert remote.numbers == local.numbers


def test_weights_by_url(stored, exported, tmp_path):
    url = f"{stored.url}/weights/{exported.weights.name}"
    found, expected = read_checkpoint(url), read_checkpoint(exported.weights)
    assert checksum(found[0]) == checksum(expected[0]) and found[1:] == expected[1:]
    with pytest.raises(WeightsError, match=f"{stored.url}/none.pdparams: no such file"):
        read_checkpoint(f"{stored.url}/none.pdparams")
    with pytest.raises(AccessError, match="fsspec has no package for bos://"):
        read_checkpoint("bos://b/a.pdparams")
    with pytest.raises(ConfigError, match=r"no run.yaml next to it"):
        config_of_run(url)
    stored.put("weights/run.yaml", exported.config.read_text())
    assert config_of_run(url).model_name == load_config(exported.config).model_name


@pytest.mark.slow
def test_an_export_to_a_url(memory, exported, tmp_path):
    cfg, url = load_config(exported.config), f"{memory.url}/models/tiny"
    export(cfg, exported.weights, url, overwrite=True, verify_programs=False)
    assert Predictor(url, device="cpu", threads=1).labels
    with pytest.raises(ExportError, match=f"{url} contains a model; give another URL, or --over"):
        export(cfg, exported.weights, url, verify_programs=False)


def test_a_training_writes_to_a_local_folder(exported):
    text = "output_dir is s3://b/out; a training writes to a local folder, and goes on from it"
    with pytest.raises(ConfigError, match=text):
        load_config(exported.config, ["output_dir=s3://b/out"])
