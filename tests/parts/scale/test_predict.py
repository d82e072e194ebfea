"""predict --on: the same bytes as in one process, and what a stopped run leaves."""

import itertools
import json
import shutil

import pytest

from paddlevideo.commands.predict import main
from paddlevideo.predict.results import Result
from paddlevideo.sample import Record
from paddlevideo.scale import parts, predict
from paddlevideo.scale.predict import decoder_crashed, network_crashed, unit_size
from tests.clips import write_clip
from tests.remote_files import memory_files


@pytest.fixture(scope="module")
def videos(exported, tmp_path_factory):
    """A list of seven videos: one is broken, one is missing, one is there twice."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_clip(folder / f"clip {number}.mp4", 6 + number)
    (folder / "broken.mp4").write_bytes(b"no video")
    names = ["clip 2.mp4", "broken.mp4", "clip 0.mp4", "clip 2.mp4", "clip 3.mp4", "none.mp4"]
    file = folder / "all.txt"
    file.write_text("".join(f"{name}\n" for name in [*names, "clip 1.mp4"]), encoding="utf-8")
    return file


@pytest.fixture
def run(exported, videos, tmp_path, double, monkeypatch):
    """`run(name, flags...)`: (exit code, bytes of the file of that name)."""
    monkeypatch.setattr(parts, "MIN_PART", 3)

    def run(name, *flags, inputs=videos):
        out = tmp_path / name
        words = ["--model", str(exported.folder), "-i", str(inputs), "--out", str(out), "-b", "1"]
        code = main([*words, "--cpu_threads", "1", "--quiet", *flags])
        return code, out.read_bytes() if out.is_file() else b""

    return run


@pytest.mark.parametrize(
    ("name", "flags"),
    [("a.jsonl", ()), ("a.json", ()), ("a.jsonl", ("--topk", "1")), ("a.json", ("--shard", "1/1"))],
)
def test_the_bytes_are_those_of_one_process(run, double, tmp_path, name, flags):
    ending = ".1-of-1" if "--shard" in flags else ""
    here = run(name, *flags)
    file = tmp_path / name.replace(".", f"{ending}.", 1)
    expected = file.read_bytes()
    file.unlink()
    assert run(name, "--on", "ray", *flags)[0] == here[0] == 1
    assert file.read_bytes() == expected and expected.count(b'"input_path"') == 7
    assert double.connections == 1
    assert [path.name for path in tmp_path.glob("a*")] == [file.name]  # no parts are left


def test_printed_results_are_those_of_one_process(exported, videos, double, capsys):
    words = ["--model", str(exported.folder), "-i", str(videos), "-b", "1", "--cpu_threads", "1"]
    printed = []
    for flags in ((), ("--on", "ray")):
        assert main([*words, *flags]) == 1
        lines = capsys.readouterr().out.splitlines()
        printed.append([line for line in lines if not line.startswith("[")])
    assert printed[0] == printed[1] and len(printed[0]) == 7


def test_config_and_weights_reach_the_workers(exported, videos, double, tmp_path, monkeypatch):
    words = ["-c", str(exported.config), "-w", str(exported.weights), "-i", str(videos), "-b", "1"]
    words += ["--cpu_threads", "1", "--quiet", "--out"]
    assert main([*words, str(tmp_path / "a.jsonl")]) == 1
    assert main([*words, str(tmp_path / "b.jsonl"), "--on", "ray"]) == 1
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.parametrize("has_manifest", [False, True])
def test_a_program_and_its_weights_in_two_folders(exported, videos, double, tmp_path, has_manifest):
    (tmp_path / "m").mkdir()
    (tmp_path / "p").mkdir()
    model = shutil.copy(exported.folder / "tiny.pdmodel", tmp_path / "m" / "net.pdmodel")
    params = shutil.copy(exported.folder / "tiny.pdiparams", tmp_path / "p" / "other.pdiparams")
    if has_manifest:  # it does not list the weights in the other folder
        folder = shutil.copytree(exported.folder, tmp_path / "export")
        model = folder / "tiny.pdmodel"
    words = ["--model_file", str(model), "--params_file", str(params), "-c", str(exported.config)]
    words += ["-i", str(videos), "-b", "1", "--cpu_threads", "1", "--quiet", "--out"]
    assert main([*words, str(tmp_path / "a.jsonl")]) == 1
    assert main([*words, str(tmp_path / "b.jsonl"), "--on", "ray"]) == 1
    rows = [
        [{**json.loads(line), "made_by": ""} for line in path.read_text().splitlines()]
        for path in (tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 7


def stop_after(monkeypatch, count: int) -> None:
    """The driver ends with an error after so many results."""
    make = predict.work_on

    def work_on(*args):
        yield from itertools.islice(make(*args), count)
        raise OSError("the power failed")

    monkeypatch.setattr(predict, "work_on", work_on)


def test_the_same_command_goes_on(run, tmp_path, monkeypatch):
    expected = run("a.jsonl")[1]
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert run("b.jsonl", "--on", "ray") == (1, b"")
    assert (tmp_path / "b.jsonl.parts" / "manifest.json").exists()
    left = len(list((tmp_path / "b.jsonl.parts").glob("part-*")))
    assert left
    assert run("b.jsonl", "--on", "ray") == (1, expected)
    assert not (tmp_path / "b.jsonl.parts").exists()


def test_overwrite_begins_again_once(run, tmp_path, monkeypatch):
    expected = run("a.jsonl")[1]
    (tmp_path / "b.jsonl").write_text("old")
    assert run("b.jsonl", "--on", "ray")[0] == 1  # it exists
    assert (tmp_path / "b.jsonl").read_text() == "old"
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        run("b.jsonl", "--on", "ray", "--overwrite")
    assert not (tmp_path / "b.jsonl").exists()
    assert run("b.jsonl", "--on", "ray", "--overwrite")[1] == expected


@pytest.mark.parametrize("is_damaged", [False, True], ids=["other settings", "damaged manifest"])
def test_overwrite_replaces_the_parts_of_another_prediction(
    run, tmp_path, monkeypatch, capsys, is_damaged
):
    """The result itself is not there yet, and the message names the flag."""
    expected = run("a.jsonl", "--topk", "1")[1]
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        run("b.jsonl", "--on", "ray")
    if is_damaged:
        (tmp_path / "b.jsonl.parts" / "manifest.json").write_text("{")
    capsys.readouterr()
    assert run("b.jsonl", "--on", "ray", "--topk", "1") == (1, b"")
    assert "begin again with --overwrite" in capsys.readouterr().err
    assert run("b.jsonl", "--on", "ray", "--topk", "1", "--overwrite") == (1, expected)
    assert not (tmp_path / "b.jsonl.parts").exists()


@pytest.mark.parametrize("out", ["b.jsonl", "folder"])
def test_without_a_cluster_nothing_is_lost(run, tmp_path, monkeypatch, out):
    """Also not with --overwrite, and no parts are left."""
    run(out, "--on", "ray")
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def fail(on):
        raise OSError(f"--on {on}: no cluster there")

    monkeypatch.setattr("paddlevideo.scale.predict.connected", fail)
    assert run(out, "--on", "head:6379", "--overwrite")[0] == 1
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files
    assert run("new.jsonl", "--on", "head:6379")[0] == 1
    assert not list(tmp_path.glob("new*"))


def test_resume_tries_failures_again(run, videos, tmp_path):
    folder = shutil.copytree(videos.parent, tmp_path / "copy")
    assert run("a.jsonl", "--on", "ray", inputs=folder / "all.txt")[0] == 1
    shutil.copy(folder / "clip 0.mp4", folder / "broken.mp4")
    shutil.copy(folder / "clip 0.mp4", folder / "none.mp4")
    assert run("a.jsonl", "--on", "ray", "--resume", inputs=folder / "all.txt")[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(rows) == 7 and not any("error" in row for row in rows)


def test_a_folder_keeps_the_parts(run, tmp_path):
    rows = [json.loads(line) for line in run("a.jsonl")[1].decode().splitlines()]
    expected = [{k: v for k, v in row.items() if k != "made_by"} for row in rows]
    assert run("results", "--on", "ray")[0] == 1
    files = sorted((tmp_path / "results").glob("part-*.jsonl"))
    assert [file.name for file in files] == [f"part-{n:05}.jsonl" for n in (1, 2, 3)]
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert found == expected
    assert run("results", "--on", "ray")[0] == 1  # again: nothing is left


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--use_gpu", "t"), "--use_gpu with --on needs GPUs for the workers"),
        (("--num_cpus", "16"), "a worker for the network asks for 16 CPUs, and no node has that"),
        (("--actors", "9:9"), "9 for the network with 1 CPU each"),
        (("--num_gpus", "1"), "asks for 1 CPU and 1 GPU, and no node has that"),
    ],
)
def test_a_job_that_can_never_run(run, tmp_path, capsys, flags, message):
    assert run("a.jsonl", "--on", "ray", *flags)[0] == 1
    assert message in capsys.readouterr().err


def test_a_folder_of_parts_needs_all_inputs(run, capsys):
    assert run("results", "--on", "ray", "--shard", "1/2")[0] == 1
    assert "--shard is for a single file of --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "megabytes", "batch", "expected"),
    [
        (1_000_000, 0.5, 1, 32),
        (1_000_000, 1.2, 1, 26),  # eight frames of 224 x 224
        (1_000_000, 20, 1, 1),
        (1_000_000, 100, 4, 4),  # a batch stays together
        (1_000_000, 0.5, 5, 30),  # whole batches
        (800, 0.5, 1, 8),
        (50, 0.5, 1, 1),  # many workers share a short list
        (50, 0.5, 4, 4),
        (1_000_000, 0, 1, 32),
    ],
)
def test_videos_of_a_unit(count, megabytes, batch, expected):
    assert unit_size(count, int(megabytes * 2**20), batch) == expected


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """Files at URLs; the working directory shows what is written to a path that is none."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "home"))
    with memory_files() as files:
        yield files
    assert not list((tmp_path / "work").iterdir())


def test_a_file_at_a_url(run, memory, caplog):
    url = f"{memory.url}/out.jsonl"
    expected = run("a.jsonl")[1]
    assert run("none", "--on", "ray", "--out", url)[0] == 1
    assert memory.files.cat(url) == expected
    assert "a job that stops begins again" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "program", "program and weights", "weights"])
def test_a_model_at_a_url_reaches_the_workers(memory, exported, videos, double, tmp_path, kind):
    for path in exported.folder.iterdir():
        memory.put(f"model/{path.name}", path.read_bytes())
    program = f"{memory.url}/model/tiny.pdmodel"
    words = {
        "folder": ["--model", f"{memory.url}/model"],
        "program": ["--model", program],
        "program and weights": [
            *("--model_file", program, "-c", str(exported.config)),
            *("--params_file", memory.put("p/net.pdiparams", exported_params(exported))),
        ],
        "weights": [
            *("-c", str(exported.config)),
            *("-w", memory.put("w.pdparams", exported.weights.read_bytes())),
        ],
    }[kind]
    words += ["-i", str(videos), "-b", "1", "--cpu_threads", "1", "--quiet", "--out"]
    assert main([*words, str(tmp_path / "a.jsonl")]) == 1
    assert main([*words, str(tmp_path / "b.jsonl"), "--on", "ray"]) == 1
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def exported_params(exported) -> bytes:
    return (exported.folder / "tiny.pdiparams").read_bytes()


@pytest.mark.parametrize("url", ["memory://scale/out", "s3://bucket/results/"])
def test_a_folder_at_a_url(run, memory, capsys, double, url):
    assert run("none", "--on", "ray", "--out", url)[0] == 1
    assert "parts are written to a folder of this machine" in capsys.readouterr().err
    assert double.connections == 0


@pytest.mark.parametrize("on", ["ray", "head:6379", "ray://head:10001"])
@pytest.mark.parametrize(
    ("source", "flags", "what"),
    [
        ("a.mp4", ("--window", "2"), "timelines run"),
        ("a.mp4", ("--window", "2", "--stride", "1"), "timelines run"),
        ("a.mp4", ("--window", "2", "--follow"), "live sources are read"),
        ("rtsp://camera/1", ("--window", "2"), "live sources are read"),
        ("-", ("--window", "2"), "live sources are read"),
    ],
)
def test_timelines_run_on_this_machine(double, capsys, on, source, flags, what):
    assert main(["--model", "m", "-i", source, "--on", on, *flags]) == 1
    message = f"--on {on}: {what} on this machine; leave --on out"
    assert message in capsys.readouterr().err and double.connections == 0


def test_inputs_that_end_a_process_are_failures():
    record = Record("a.mp4", start_sec=1.0, end_sec=2.0)
    assert decoder_crashed(record) == (record, "the decoder crashes on this file")
    for item in (record, (record, {"frames": 0})):
        line, failed = network_crashed(item)
        row = json.loads(line)
        assert failed and row["input_path"] == "a.mp4" and row["start_sec"] == 1.0
        assert row["error"].startswith("the process of the network ended each time")


def test_a_result_survives_json():
    alone = {"audio": Result("a", [1], [0.25], ["x"])}
    result = Result(
        "a", [2, 1], [0.75, 0.1 + 0.2], ["y", "红"], None, "id", "note", alone, 0.5, 2.0
    )
    row = json.loads(json.dumps(result.json))
    assert Result.of_json({**row, "made_by": "m"}) == result
    failed = Result.of(Record("b", end_sec=3.0), error="damaged")
    assert Result.of_json(json.loads(json.dumps(failed.json))) == failed
